#include "router/console/page.h"

#include <unistd.h>

#include "router/console/page_inside.h"

struct section {
    const char *id;
    void (*add)(const struct overview *overview, struct text *out);
};

static const struct section sections[PAGE_SECTIONS] = {
    {"summary", page_add_summary},
    {"clusters", page_add_clusters},
    {"pools", page_add_pools},
    {"traffic", page_add_traffic},
    {"switchovers", page_add_switchovers},
    {"events", page_add_events},
    {"proxies", page_add_proxies},
    {"threads", page_add_threads},
};

void page_add_summary(const struct overview *overview, struct text *out)
{
    text_addf(out, "<p>Process %d, up ", (int)getpid());
    html_add_seconds(out, overview->uptime_ms / 1000);
    text_addf(out, ". %u of %lld clients, %u waiting for a place.</p>\n",
              overview->n_admitted, (long long)overview->config->main.max_client_conn,
              overview->n_in_line);
}

void page_add_threads(const struct overview *overview, struct text *out)
{
    text_add(out, "<h2>Threads</h2>\n<div class=wide tabindex=0 role=region "
                  "aria-label=Threads><table><tr><th scope=col>Thread"
                  "<th class=n scope=col>Clients<th class=n scope=col>Clients since start"
                  "<th class=n scope=col>Longest iteration, ms</tr>\n");
    text_addf(out,
              "<tr><th scope=row>control</th><td class=n>-</td><td class=n>-</td>"
              "<td class=n>%.1f</td></tr>\n",
              overview->longest_iteration_ms);
    for (unsigned i = 0; i < overview->gather->n_workers; i++) {
        text_addf(out, "<tr><th scope=row>worker-%u</th>", i);
        html_number(out, overview->gather->workers[i].n_clients);
        html_number(out, overview->gather->workers[i].n_clients_total);
        text_addf(out, "<td class=n>%.1f</td></tr>\n",
                  overview->gather->workers[i].longest_iteration_ms);
    }
    text_add(out, "</table></div>\n");
}

const char *page_section_id(unsigned i)
{
    return sections[i].id;
}

void page_add_section(const struct overview *overview, unsigned i, struct text *out)
{
    sections[i].add(overview, out);
}

static void add_head(const struct overview *overview, struct text *out)
{
    text_add(out, "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
                  "<meta name=viewport content=\"width=device-width,initial-scale=1\">"
                  "<title>pgrouter</title><link rel=icon href=/favicon.svg>"
                  "<link rel=stylesheet href=/dashboard.css>");
    if (overview->refresh_s > 0)
        text_addf(out,
                  "<noscript><meta http-equiv=refresh content=%u></noscript>"
                  "<script src=/dashboard.js defer></script>",
                  overview->refresh_s);
    text_add(out, "</head><body>\n<a class=skip href=#clusters>To the clusters</a>"
                  "<header><h1>pgrouter");
    if (!overview->hides_version)
        text_add(out, " <small>" PGROUTER_VERSION "</small>");
    text_add(out, "</h1><p id=live role=status></p>");
    if (overview->has_admin && overview->token == NULL)
        text_add(out, "<p><a href=/admin>Log in to act</a></p>");
    text_add(out, "</header>\n<main>\n");
}

void page_add(const struct overview *overview, struct text *out)
{
    add_head(overview, out);
    for (unsigned i = 0; i < PAGE_SECTIONS; i++) {
        text_addf(out, "<section id=%s>", sections[i].id);
        sections[i].add(overview, out);
        text_add(out, "</section>\n");
        if (overview->token != NULL && sections[i].add == page_add_pools) {
            text_add(out, "<section id=act>");
            page_add_forms(overview, out);
            text_add(out, "</section>\n");
        }
    }
    text_add(out, "</main></body></html>\n");
}
