#include <math.h>
#include <string.h>

#include "router/console/page_inside.h"
#include "router/console/sums.h"

/* ---- pools --------------------------------------------------------------------------
 */

static const char *const modes[] = {
    [POOL_MODE_SESSION] = "session",
    [POOL_MODE_TRANSACTION] = "transaction",
    [POOL_MODE_STATEMENT] = "statement",
    [POOL_MODE_DEFAULT] = "",
};

/* Servers in use, and open beside them, of those that may be. */
static void add_bar(const struct pool_sum *pool, unsigned most, struct text *out)
{
    unsigned open = pool_sum_servers(pool), used = pool->servers.n_active;
    double whole = open > most ? open : most;

    if (whole == 0)
        whole = 1;
    text_addf(out,
              "<td><svg class=bar viewBox=\"0 0 100 8\" preserveAspectRatio=none "
              "aria-hidden=true><rect class=free width=100 height=8></rect>"
              "<rect class=idle width=%.1f height=8></rect>"
              "<rect class=used width=%.1f height=8></rect></svg>",
              100 * open / whole, 100 * used / whole);
    text_addf(out, "<span class=of>%u in use, %u open, of %u</span></td>", used, open,
              most);
}

static unsigned pool_size_of(const struct config *config, const struct pool_sum *pool)
{
    const struct database_config *database = config_database(config, pool->database);

    /* Of a database that is none any more the last clients leave. */
    return database == NULL ? 0
                            : (unsigned)config_pool_size(config, database,
                                                         config_user(config, pool->user));
}

static void add_pool(const struct overview *overview, const struct pool_sum *pool,
                     struct text *out)
{
    bool waits = pool->n_waiting > 0;

    text_add(out, "<tr><th scope=row>");
    html_escape(out, pool->database);
    text_add(out, " <span class=soft>");
    html_escape(out, pool->user);
    text_add(out, "</span></th>");
    html_cell(out, modes[pool->mode]);
    html_number(out, pool->n_clients - pool->n_waiting);
    text_addf(out, "<td class=\"n%s\">%u</td>", waits ? " warn" : "", pool->n_waiting);
    add_bar(pool, pool_size_of(overview->config, pool), out);
    text_addf(out, "<td class=\"n%s\">", waits ? " warn" : "");
    html_add_microseconds(out, (double)pool->servers.longest_wait_ns / 1e3);
    text_add(out, "</td>");
    html_number(out, pool->counts.transactions);
    html_number(out, pool->counts.queries);
    html_cell(out, pool->why);
    text_add(out, "</tr>\n");
}

void page_add_pools(const struct overview *overview, struct text *out)
{
    text_add(out, "<h2>Pools</h2>\n");
    if (overview->gather->sums->pools.n <= 1) {
        text_add(out, "<p>No client has come to one yet.</p>\n");
        return;
    }
    text_add(out, "<div class=wide tabindex=0 role=region aria-label=Pools><table><tr>"
                  "<th scope=col>Database and user<th scope=col>Mode"
                  "<th class=n scope=col>Clients<th class=n scope=col>Waiting"
                  "<th scope=col>Servers<th class=n scope=col>Longest wait"
                  "<th class=n scope=col>Transactions<th class=n scope=col>Queries"
                  "<th scope=col>Why they wait</tr>\n");
    LIST_EACH(item, &overview->gather->sums->pools)
    {
        const struct pool_sum *pool = CONTAINER_OF(item, struct pool_sum, in_list);

        if (strcmp(pool->database, CONFIG_POOL_LISTENER) != 0)
            add_pool(overview, pool, out);
    }
    text_add(out, "</table></div>\n");
}

/* ---- traffic ------------------------------------------------------------------------
 */

#define CHART_WIDTH 180.
#define CHART_HEIGHT 32.

static void add_value(struct text *out, float value, const char *unit)
{
    if (isnan(value))
        text_add(out, "-");
    else if (strcmp(unit, "us") == 0)
        html_add_microseconds(out, (double)value);
    else if (strcmp(unit, "B/s") == 0) {
        html_add_bytes(out, (double)value);
        text_add(out, "/s");
    } else {
        text_addf(out, value < 10 ? "%.1f%s" : "%.0f%s", (double)value, unit);
    }
}

/* A line from the oldest point on the left to the newest on the right; where nothing is
 * known there is none. */
static void add_chart(const struct history_ring *ring, enum history_series series,
                      struct text *out)
{
    double most = (double)history_most(ring, series);
    bool draws = false;

    text_addf(out,
              "<svg class=chart viewBox=\"0 -1 %.0f %.0f\" preserveAspectRatio=none "
              "aria-hidden=true><path d=\"",
              CHART_WIDTH, CHART_HEIGHT + 2);
    for (unsigned i = ring->size; i-- > 0;) {
        float value = history_back(ring, series, i);

        if (isnan(value)) {
            draws = false;
            continue;
        }
        text_addf(out, "%c%.1f %.1f", draws ? 'L' : 'M',
                  CHART_WIDTH * (1. - (double)i / (double)(ring->size - 1)),
                  CHART_HEIGHT * (1. - (most > 0 ? (double)value / most : 0.)));
        draws = true;
    }
    text_add(out, "\"></path></svg>");
}

static void add_period(const struct history_ring *ring, enum history_series series,
                       struct text *out)
{
    text_add(out, "<td>");
    add_chart(ring, series, out);
    text_add(out, "<span class=of>most ");
    add_value(out, history_most(ring, series), history_series_facts[series].unit);
    text_add(out, "</span></td>");
}

void page_add_traffic(const struct overview *overview, struct text *out)
{
    text_add(out, "<h2>Traffic</h2>\n<div class=wide tabindex=0 role=region "
                  "aria-label=Traffic><table><tr><th scope=col>What"
                  "<th class=n scope=col>Now<th scope=col>Last 15 minutes"
                  "<th scope=col>Last 24 hours</tr>\n");
    for (unsigned i = 0; i < SERIES_COUNT; i++) {
        text_addf(out, "<tr><th scope=row>%s</th><td class=n>",
                  history_series_facts[i].title);
        add_value(out, history_back(&overview->history->recent, i, 0),
                  history_series_facts[i].unit);
        text_add(out, "</td>");
        add_period(&overview->history->recent, i, out);
        add_period(&overview->history->day, i, out);
        text_add(out, "</tr>\n");
    }
    text_add(out, "</table></div>\n");
}
