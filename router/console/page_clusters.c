#include <string.h>
#include <time.h>

#include "router/console/page_inside.h"

#define EVENTS_SHOWN 20u

/* ---- one node -----------------------------------------------------------------------
 */

/* What stands out in the picture: a word and its class. */
static void add_state(const struct topology_node *node, struct text *out)
{
    if (!node->is_up)
        text_add(out, "<b class=bad>down</b>");
    else if (node->is_leaving)
        text_add(out, "<b class=warn>leaving</b>");
    else if (node->is_draining)
        text_add(out, "<b class=warn>draining</b>");
    else if (node->is_lagging)
        text_add(out, "<b class=warn>lagging</b>");
    else
        text_add(out, "<b class=good>up</b>");
}

static void add_fact(struct text *out, const char *name)
{
    text_addf(out, "<dt>%s</dt><dd>", name);
}

static void add_check(const struct overview *overview, const struct node_report *report,
                      struct text *out)
{
    add_fact(out, "Last check");
    if (report->checked_at_ms == 0) {
        text_add(out, "never</dd>");
        return;
    }
    html_escape(out, report->said);
    text_addf(out, " (%u ms", report->duration_ms);
    if (overview->now_ms - report->checked_at_ms >= 5000)
        text_addf(out, ", %llu s ago",
                  (unsigned long long)(overview->now_ms - report->checked_at_ms) / 1000);
    text_add(out, ")</dd>");
}

static void add_node(const struct overview *overview, const struct node_report *report,
                     struct text *out)
{
    const struct topology_node *node = &report->node;
    char address[ADDRESS_TEXT_MAX];

    text_addf(out, "<li class=\"node %s %s\"><h4>", node_role_name(node->role),
              node->is_up ? "is-up" : "is-down");
    html_escape(out, node->name);
    text_add(out, "</h4><p>");
    html_escape(out, node_role_name(node->role));
    text_add(out, ", ");
    add_state(node, out);
    text_add(out, "</p><dl>");
    add_fact(out, "Address");
    html_escape(out, node->n_addresses > 0 ? address_print(&node->addresses[0], address)
                                           : "not resolved");
    text_add(out, "</dd>");
    add_fact(out, "Timeline");
    text_addf(out, node->timeline > 0 ? "%u</dd>" : "not known</dd>", node->timeline);
    if (node->lag_bytes >= 0) {
        add_fact(out, "Lag");
        html_add_bytes(out, (double)node->lag_bytes);
        text_add(out, "</dd>");
    }
    add_fact(out, "Sessions");
    text_addf(out, "%u</dd>", atomic_load(&node->load->n_sessions));
    add_check(overview, report, out);
    text_add(out, "</dl></li>\n");
}

/* ---- one cluster --------------------------------------------------------------------
 */

static const char *badge_of(const struct overview_cluster *cluster)
{
    if (cluster->report.has_rivals)
        return "<span class=\"badge bad\">two primaries</span>";
    if (*cluster->report.alarm != '\0')
        return "<span class=\"badge bad\">alarm</span>";
    if (cluster->report.present != NULL)
        return "<span class=\"badge warn\">clients are held</span>";
    if (*cluster->report.primary == '\0')
        return "<span class=\"badge bad\">no primary</span>";
    return "<span class=\"badge good\">in order</span>";
}

static void add_story(const struct overview *overview,
                      const struct overview_cluster *cluster, struct text *out)
{
    const struct cluster_report *report = &cluster->report;

    if (*report->alarm != '\0') {
        text_add(out, "<p class=bad role=alert>");
        html_escape(out, report->alarm);
        text_add(out, ".</p>");
    }
    text_add(out, "<p>");
    if (*report->primary != '\0') {
        text_add(out, "The primary is <b>");
        html_escape(out, report->primary);
        text_add(out, "</b>");
        if (report->primary_since_ms > 0) {
            text_add(out, " since ");
            html_add_seconds(out, (overview->now_ms - report->primary_since_ms) / 1000);
        }
        if (report->timeline > 0)
            text_addf(out, ", timeline %u", report->timeline);
    } else {
        html_escape(out, report->why_no_primary);
    }
    text_add(out, report->is_paused
                      ? ". Patroni is paused: nothing fails over by itself.</p>"
                      : ".</p>");
    if (report->present == NULL)
        return;
    text_addf(out, "<p class=warn>Clients are held since %.1f s (%s): ",
              (double)(overview->now_ms - report->present->held_ms) / 1e3,
              hold_cause_name(report->present->cause));
    html_escape(out, report->present->sign);
    text_add(out, ".</p>");
}

/* The primary stands first. */
static void add_nodes(const struct overview *overview,
                      const struct overview_cluster *cluster, struct text *out)
{
    text_add(out, "<ul class=nodes>\n");
    for (unsigned of_others = 0; of_others < 2; of_others++)
        for (size_t i = 0; i < cluster->n_nodes; i++)
            if ((cluster->nodes[i].node.role != NODE_PRIMARY) == of_others)
                add_node(overview, &cluster->nodes[i], out);
    text_add(out, "</ul>\n");
}

void page_add_clusters(const struct overview *overview, struct text *out)
{
    text_add(out, "<h2>Clusters</h2>\n");
    for (size_t i = 0; i < overview->n_clusters; i++) {
        const struct overview_cluster *cluster = &overview->clusters[i];

        text_add(out, "<article><h3>");
        html_escape(out, cluster->report.name);
        text_addf(out, " %s</h3>", badge_of(cluster));
        add_story(overview, cluster, out);
        add_nodes(overview, cluster, out);
        text_add(out, "</article>\n");
    }
}

/* ---- switchovers --------------------------------------------------------------------
 */

static void add_time(struct text *out, time_t at)
{
    char text[32] = "";
    struct tm tm;

    if (gmtime_r(&at, &tm) != NULL)
        strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &tm);
    text_addf(out, "<td><time>%s</time></td>", text);
}

/* Since the first sign, in a cell. */
static void add_step(struct text *out, const struct switchover *switchover,
                     uint64_t at_ms)
{
    if (at_ms == 0)
        text_add(out, "<td class=n>-</td>");
    else
        text_addf(out, "<td class=n>%lld ms</td>",
                  (long long)at_ms - (long long)switchover->held_ms);
}

/* From the first sign to the end: until the node was gone, and until clients went on. */
static void add_time_line(struct text *out, const struct switchover *switchover)
{
    double end = (double)switchover->ended_ms - (double)switchover->held_ms;
    double gone = (double)switchover->gone_ms - (double)switchover->held_ms;

    if (end <= 0)
        end = 1;
    if (switchover->gone_ms == 0 || gone < 0 || gone > end)
        gone = end;
    text_addf(out,
              "<td><svg class=line viewBox=\"0 0 100 8\" preserveAspectRatio=none "
              "aria-hidden=true><rect class=before width=%.1f height=8></rect>"
              "<rect class=after x=%.1f width=%.1f height=8></rect></svg></td>",
              100 * gone / end, 100 * gone / end, 100 - 100 * gone / end);
}

static void add_switchover(const struct overview_cluster *cluster,
                           const struct switchover *switchover, struct text *out)
{
    text_add(out, "<tr>");
    add_time(out, (time_t)switchover->began_at_s);
    html_cell(out, cluster->report.name);
    text_add(out, "<td>");
    html_escape(out, switchover->from);
    text_add(out, " &rarr; ");
    html_escape(out, switchover->to);
    text_add(out, "</td>");
    html_cell(out, switchover_outcome_name(switchover->outcome));
    add_time_line(out, switchover);
    add_step(out, switchover, switchover->drained_ms);
    add_step(out, switchover, switchover->gone_ms);
    add_step(out, switchover, switchover->proven_ms);
    add_step(out, switchover, switchover->lent_ms);
    html_number(out, switchover->n_held);
    text_add(out, "<td class=n>");
    html_add_microseconds(out, (double)switchover->longest_wait_ms * 1e3);
    text_add(out, "</td>");
    html_number(out, switchover->n_replayed);
    html_number(out, switchover->n_lost);
    html_number(out, switchover->n_unknown);
    html_cell(out, switchover->sign);
    text_add(out, "</tr>\n");
}

void page_add_switchovers(const struct overview *overview, struct text *out)
{
    static const char *const heads[] = {
        "Drained", "Old gone", "New proven", "First lease",     "Held",
        "Longest", "Replayed", "Lost",       "Outcome unknown",
    };
    unsigned n = 0;

    text_add(out, "<h2>Last switchovers</h2>\n");
    for (size_t i = 0; i < overview->n_clusters; i++)
        n += overview->clusters[i].n_last;
    if (n == 0) {
        text_add(out, "<p>None since the start.</p>\n");
        return;
    }
    text_add(out,
             "<div class=wide tabindex=0 role=region aria-label=Switchovers><table><tr>"
             "<th scope=col>When, UTC<th scope=col>Cluster<th scope=col>From, to"
             "<th scope=col>Outcome<th scope=col>Time line");
    for (size_t i = 0; i < COUNT_OF(heads); i++)
        text_addf(out, "<th class=n scope=col>%s", heads[i]);
    text_add(out, "<th scope=col>First sign</tr>\n");
    for (size_t i = 0; i < overview->n_clusters; i++)
        for (unsigned j = 0; j < overview->clusters[i].n_last; j++)
            add_switchover(&overview->clusters[i], &overview->clusters[i].last[j], out);
    text_add(out, "</table></div>\n");
}

void page_add_events(const struct overview *overview, struct text *out)
{
    static const char *const classes[] = {[LOG_LEVEL_ERROR] = "bad",
                                          [LOG_LEVEL_WARNING] = "warn",
                                          [LOG_LEVEL_INFO] = "info",
                                          [LOG_LEVEL_DEBUG] = "info"};
    const struct event *event;

    text_add(out, "<h2>Last events</h2>\n<div class=wide tabindex=0 role=region "
                  "aria-label=Events><table><tr><th scope=col>When, UTC"
                  "<th scope=col>What</tr>\n");
    for (size_t i = 0; i < EVENTS_SHOWN; i++) {
        event = events_back(overview->events, i);
        if (event == NULL)
            break;
        if (overview->hides_version && strstr(event->text, PGROUTER_VERSION) != NULL)
            continue;
        text_add(out, "<tr>");
        add_time(out, event->at_s);
        text_addf(out, "<td class=%s>", classes[event->level]);
        html_escape(out, event->text);
        text_add(out, "</td></tr>\n");
    }
    text_add(out, "</table></div>\n");
}
