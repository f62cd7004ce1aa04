#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "router/console/views.h"

static const char style[] =
    ":root{color-scheme:light "
    "dark;--ink:#1b1f24;--soft:#57606a;--page:#fff;--line:#d0d7de;"
    "--up:#1a7f37;--down:#cf222e;--drain:#9a6700}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--page:#0d1117;"
    "--line:#3d444d;--up:#3fb950;--down:#f85149;--drain:#d29922}}"
    "body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--page);"
    "margin:1.5rem auto;max-width:76rem;padding:0 1rem}"
    "h1{font-size:1.4rem}h2{font-size:1.1rem;margin:1.6rem 0 .4rem}"
    "p{color:var(--soft);margin:.2rem 0}"
    "div{overflow-x:auto}table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);"
    "white-space:nowrap}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}"
    ".UP{color:var(--up)}.DOWN{color:var(--down)}.DRAIN{color:var(--drain)}";

/* Names and answers come from files and peers: nothing of them is markup. */
static void add_escaped(struct text *out, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '&':
            text_add(out, "&amp;");
            break;
        case '<':
            text_add(out, "&lt;");
            break;
        case '>':
            text_add(out, "&gt;");
            break;
        case '"':
            text_add(out, "&quot;");
            break;
        default:
            text_add_n(out, text, 1);
        }
    }
}

static void add_cell(struct text *out, const char *text)
{
    text_add(out, "<td>");
    add_escaped(out, text);
    text_add(out, "</td>");
}

static void add_number(struct text *out, uint64_t number)
{
    text_addf(out, "<td class=n>%llu</td>", (unsigned long long)number);
}

static void add_bytes(struct text *out, uint64_t bytes)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    double value = (double)bytes;
    unsigned unit = 0;

    while (value >= 1024 && unit + 1 < COUNT_OF(units)) {
        value /= 1024;
        unit++;
    }
    text_addf(out, unit == 0 ? "<td class=n>%.0f %s</td>" : "<td class=n>%.1f %s</td>",
              value, units[unit]);
}

static void add_head(struct text *out, const char *const *names, unsigned n,
                     unsigned first_number)
{
    text_add(out, "<tr>");
    for (unsigned i = 0; i < n; i++)
        text_addf(out,
                  i >= first_number ? "<th class=n scope=col>%s" : "<th scope=col>%s",
                  names[i]);
    text_add(out, "</tr>");
}

static void add_server(const struct overview *overview,
                       const struct overview_server *server, struct text *out)
{
    const struct node_report *report = &server->report;
    const char *status = view_status(server);
    char text[ADDRESS_TEXT_MAX + 32];

    text_add(out, "<tr>");
    add_cell(out, report->node.name);
    add_cell(out, report->node.n_addresses > 0
                      ? address_print(&report->node.addresses[0], text)
                      : "not resolved");
    add_cell(out, node_role_name(report->node.role));
    text_addf(out, "<td class=%s>%s</td>", status, status);
    add_cell(out, report->said);
    if (report->checked_at_ms == 0)
        add_cell(out, "never");
    else
        text_addf(out, "<td>%.1f s ago, %u ms</td>",
                  (double)(overview->now_ms - report->checked_at_ms) / 1e3,
                  report->duration_ms);
    add_number(out, report->node.timeline);
    if (report->node.lag_bytes >= 0)
        add_bytes(out, (uint64_t)report->node.lag_bytes);
    else
        text_add(out, "<td class=n>-</td>");
    add_number(out, server->tally.sessions_now);
    add_number(out, server->tally.sessions_max);
    add_number(out, server->tally.sessions_total);
    add_bytes(out, server->tally.bytes_in);
    add_bytes(out, server->tally.bytes_out);
    add_number(out, server->tally.connect_errors);
    text_add(out, "</tr>\n");
}

static const char *const roles[] = {
    [ROLE_PRIMARY] = "primary",
    [ROLE_REPLICA] = "replica",
    [ROLE_READ_ONLY] = "read-only",
    [ROLE_ANY] = "any",
    [ROLE_DEFAULT] = "what each line says",
};

static void add_where(const struct listener_config *settings, struct text *out)
{
    for (size_t i = 0; i < settings->bind.n; i++) {
        const struct endpoint *endpoint = &settings->bind.items[i];

        text_add(out, i > 0 ? ", " : "");
        add_escaped(out, endpoint->path != NULL ? endpoint->path : endpoint->host);
        if (endpoint->path == NULL)
            text_addf(out, ":%u", endpoint->port);
    }
}

static void add_listener(const struct overview *overview,
                         const struct overview_listener *listener, struct text *out)
{
    static const char *const heads[] = {
        "Node",       "Address",
        "Role",       "State",
        "Last check", "Checked",
        "Timeline",   "Lag",
        "Now",        "Most",
        "Total",      "From clients",
        "To clients", "Failed connects",
    };
    const struct listener_config *settings = listener->settings;

    text_add(out, "<h2>");
    add_escaped(out, settings->name);
    text_add(out, "</h2>\n<p>");
    add_where(settings, out);
    text_add(out, " leads to ");
    add_escaped(out, settings->check_uri[0] != '\0' ? settings->check_uri
                                                    : roles[settings->role]);
    text_add(out, " of ");
    add_escaped(out, settings->to == NULL ? "[databases]" : settings->to->name);
    text_addf(
        out,
        ". %u clients, %u at most, %llu since start; %llu waiting, %llu refused.</p>\n",
        listener->door->gate.n_present, listener->door->gate.n_present_max,
        (unsigned long long)listener->door->gate.n_total,
        (unsigned long long)listener->door->gate.n_waiting,
        (unsigned long long)listener->front.refused);
    text_add(out, "<div><table>");
    add_head(out, heads, COUNT_OF(heads), 6);
    for (size_t i = 0; i < listener->n_servers; i++)
        add_server(overview, &listener->servers[i], out);
    text_add(out, "</table></div>\n");
}

static void add_hold(const struct overview *overview, const struct switchover *hold,
                     struct text *out)
{
    text_addf(out, "<p class=DRAIN>Clients are held since %.1f s: ",
              (double)(overview->now_ms - hold->held_ms) / 1e3);
    add_escaped(out, hold->sign);
    text_add(out, ".</p>\n");
}

static void add_last_switchover(const struct switchover *last, struct text *out)
{
    char began[32] = "";
    time_t began_at = (time_t)last->began_at_s;
    struct tm tm;

    if (gmtime_r(&began_at, &tm) != NULL)
        strftime(began, sizeof began, "%Y-%m-%d %H:%M:%S UTC", &tm);
    text_addf(out, "<p>Last switchover, %s: %s, from <b>", began,
              switchover_outcome_name(last->outcome));
    add_escaped(out, last->from);
    text_add(out, "</b> to <b>");
    add_escaped(out, last->to);
    text_addf(
        out, "</b>, %.3f s; %llu clients held, %.3f s at most; %llu transactions lost (",
        last->ended_ms < last->held_ms ? 0.
                                       : (double)(last->ended_ms - last->held_ms) / 1e3,
        (unsigned long long)last->n_held, (double)last->longest_wait_ms / 1e3,
        (unsigned long long)last->n_lost);
    add_escaped(out, last->sign);
    text_add(out, ").</p>\n");
}

/* What the cluster's clients have lived through, and do. */
static void add_switchovers(const struct overview *overview, const char *cluster,
                            struct text *out)
{
    for (size_t i = 0; i < overview->n_clusters; i++) {
        const struct overview_cluster *report = &overview->clusters[i];

        if (strcmp(report->name, cluster) != 0)
            continue;
        if (report->is_held)
            add_hold(overview, &report->present, out);
        if (report->has_last)
            add_last_switchover(&report->last, out);
    }
}

static void add_clusters(const struct overview *overview, struct text *out)
{
    for (size_t i = 0; i < overview->topology->n_clusters; i++) {
        const struct topology_cluster *cluster = &overview->topology->clusters[i];

        text_add(out, "<p>Cluster <b>");
        add_escaped(out, cluster->name);
        text_add(out, "</b>: ");
        if (cluster->primary >= 0) {
            text_add(out, "the primary is <b>");
            add_escaped(out, cluster->nodes[cluster->primary].name);
            text_add(out, "</b>.</p>\n");
        } else {
            add_escaped(out, cluster->why_no_primary);
            text_add(out, ".</p>\n");
        }
        add_switchovers(overview, cluster->name, out);
    }
}

static void add_threads(const struct overview *overview, struct text *out)
{
    static const char *const heads[] = {"Thread", "Clients", "Clients since start",
                                        "Longest iteration, ms"};

    text_add(out, "<h2>Threads</h2>\n<div><table>");
    add_head(out, heads, COUNT_OF(heads), 1);
    text_addf(out,
              "<tr><td>control</td><td class=n>-</td><td class=n>-</td>"
              "<td class=n>%.1f</td></tr>\n",
              overview->longest_iteration_ms);
    for (unsigned i = 0; i < overview->gather->n_workers; i++) {
        text_addf(out, "<tr><td>worker-%u</td>", i);
        add_number(out, overview->gather->workers[i].n_clients);
        add_number(out, overview->gather->workers[i].n_clients_total);
        text_addf(out, "<td class=n>%.1f</td></tr>\n",
                  overview->gather->workers[i].longest_iteration_ms);
    }
    text_add(out, "</table></div>\n");
}

void view_page(const struct overview *overview, struct text *out)
{
    uint64_t up_s = overview->uptime_ms / 1000;

    text_addf(out,
              "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
              "<meta name=viewport content=\"width=device-width,initial-scale=1\">"
              "<meta http-equiv=refresh content=10><title>pgrouter</title>"
              "<style>%s</style></head><body>\n<h1>pgrouter " PGROUTER_VERSION "</h1>\n"
              "<p>Process %d, up %llu d %llu h %llu min %llu s. %u of %lld clients, "
              "%u waiting for a place.</p>\n",
              style, (int)getpid(), (unsigned long long)(up_s / 86400),
              (unsigned long long)(up_s / 3600 % 24),
              (unsigned long long)(up_s / 60 % 60), (unsigned long long)(up_s % 60),
              overview->n_admitted, (long long)overview->config->main.max_client_conn,
              overview->n_in_line);
    add_clusters(overview, out);
    for (size_t i = 0; i < overview->n_listeners; i++)
        add_listener(overview, &overview->listeners[i], out);
    add_threads(overview, out);
    text_add(out, "</body></html>\n");
}
