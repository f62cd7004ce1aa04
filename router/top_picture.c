#include "router/top_picture.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"

#define BAR 20
#define SWITCHOVERS_SHOWN 6

const char *const top_commands[TOP_TABLES] = {
    [TOP_VERSION] = "SHOW VERSION",
    [TOP_CLUSTERS] = "SHOW CLUSTERS",
    [TOP_NODES] = "SHOW NODES",
    [TOP_DATABASES] = "SHOW DATABASES",
    [TOP_POOLS] = "SHOW POOLS",
    [TOP_STATS] = "SHOW STATS",
    [TOP_SWITCHOVERS] = "SHOW SWITCHOVERS",
};

const char *const top_order_names[TOP_ORDERS] = {"name", "waiting clients",
                                                 "active clients"};

/* ---- cells and lines ----------------------------------------------------------------
 */

/* "" where there is no such column, or nothing in it. */
static const char *cell(const PGresult *table, int row, const char *column)
{
    int i = PQfnumber(table, column);

    return i < 0 ? "" : PQgetvalue(table, row, i);
}

static double number(const PGresult *table, int row, const char *column)
{
    return strtod(cell(table, row, column), NULL);
}

PRINTF_LIKE(3, 4)
static void add(struct top_picture *picture, enum top_look look, const char *format, ...)
{
    struct top_line *line;
    va_list args;

    if (picture->n == TOP_LINES_MAX)
        return;
    line = &picture->lines[picture->n++];
    line->look = look;
    va_start(args, format);
    vsnprintf(line->text, sizeof line->text, format, args);
    va_end(args);
    for (char *c = line->text; *c != '\0'; c++)
        if ((unsigned char)*c < ' ' || *c == 0x7f)
            *c = '?';
}

/* 1234567 is "1.2M". */
static const char *brief(double value, char text[16])
{
    static const char units[] = {' ', 'k', 'M', 'G', 'T', 'P'};
    size_t unit = 0;

    while (value >= 1000 && unit + 1 < sizeof units) {
        value /= 1000;
        unit++;
    }
    if (unit == 0)
        snprintf(text, 16, "%.0f", value);
    else
        snprintf(text, 16, "%.1f%c", value, units[unit]);
    return text;
}

/* ---- clusters and nodes -------------------------------------------------------------
 */

static enum top_look look_of_node(const PGresult *nodes, int row)
{
    if (number(nodes, row, "maintenance") > 0 || number(nodes, row, "draining") > 0 ||
        number(nodes, row, "lagging") > 0)
        return LOOK_WARN;
    return number(nodes, row, "up") > 0 ? LOOK_GOOD : LOOK_BAD;
}

static const char *state_of_node(const PGresult *nodes, int row)
{
    return number(nodes, row, "maintenance") > 0 ? "MAINT"
           : number(nodes, row, "up") == 0       ? "DOWN"
           : number(nodes, row, "draining") > 0  ? "DRAIN"
           : number(nodes, row, "leaving") > 0   ? "LEAVES"
                                                 : "UP";
}

static void add_nodes(struct top_picture *picture, const PGresult *nodes,
                      const char *cluster)
{
    char lag[16];

    add(picture, LOOK_PLAIN, "  %-16s %-14s %-6s %5s %9s %8s  %s", "NODE", "ROLE",
        "STATE", "TL", "LAG", "SESSIONS", "LAST CHECK");
    for (int i = 0; i < PQntuples(nodes); i++)
        if (strcmp(cell(nodes, i, "cluster"), cluster) == 0)
            add(picture, look_of_node(nodes, i), "  %-16s %-14s %-6s %5s %9s %8s  %s",
                cell(nodes, i, "name"), cell(nodes, i, "role"), state_of_node(nodes, i),
                cell(nodes, i, "timeline"),
                *cell(nodes, i, "lag") == '\0' ? "" : brief(number(nodes, i, "lag"), lag),
                cell(nodes, i, "sessions"), cell(nodes, i, "state"));
}

static void add_clusters(struct top_picture *picture, const PGresult *clusters,
                         const PGresult *nodes)
{
    for (int i = 0; i < PQntuples(clusters); i++) {
        const char *primary = cell(clusters, i, "primary");
        bool is_held = *cell(clusters, i, "hold") != '\0';

        add(picture, LOOK_PLAIN, "%s", "");
        if (*primary != '\0')
            add(picture, LOOK_TITLE, "cluster %s  primary %s since %s  timeline %s%s%s",
                cell(clusters, i, "name"), primary, cell(clusters, i, "primary_since"),
                cell(clusters, i, "timeline"),
                number(clusters, i, "paused") > 0 ? "  Patroni is paused" : "",
                number(clusters, i, "rivals") > 0 ? "  TWO PRIMARIES" : "");
        else
            add(picture, LOOK_BAD, "cluster %s  no primary: %s",
                cell(clusters, i, "name"), cell(clusters, i, "why_no_primary"));
        if (is_held)
            add(picture, LOOK_WARN, "  held since %s (%s): %s; %s clients wait",
                cell(clusters, i, "hold_since"), cell(clusters, i, "hold_cause"),
                cell(clusters, i, "hold_sign"), cell(clusters, i, "waiting"));
        add_nodes(picture, nodes, cell(clusters, i, "name"));
    }
}

/* ---- pools --------------------------------------------------------------------------
 */

/* Its own row, which everybody who looks has a part in. */
static bool is_console(const PGresult *table, int row)
{
    return strcmp(cell(table, row, "database"), "pgbouncer") == 0;
}

static int find_row(const PGresult *table, const char *column, const char *value)
{
    for (int i = 0; i < PQntuples(table); i++)
        if (strcmp(cell(table, i, column), value) == 0)
            return i;
    return -1;
}

/* '#' is a server that works, '-' an idle one, '.' one that there could be. */
static void draw_bar(double n_active, double n_idle, double n_max, char bar[BAR + 1])
{
    double most = n_max > n_active + n_idle ? n_max : n_active + n_idle;
    int active = most > 0 ? (int)(n_active * BAR / most + 0.5) : 0;
    int used = most > 0 ? (int)((n_active + n_idle) * BAR / most + 0.5) : 0;

    for (int i = 0; i < BAR; i++)
        bar[i] = i < active ? '#' : i < used ? '-' : '.';
    bar[BAR] = '\0';
}

static void add_pool(struct top_picture *picture, PGresult *const *tables, int row)
{
    const PGresult *pools = tables[TOP_POOLS];
    const char *database = cell(pools, row, "database");
    int in_databases = find_row(tables[TOP_DATABASES], "name", database);
    double limit =
        in_databases < 0 ? 0 : number(tables[TOP_DATABASES], in_databases, "pool_size");
    double wait_s =
        number(pools, row, "maxwait") + number(pools, row, "maxwait_us") / 1e6;
    bool is_paused =
        in_databases >= 0 && number(tables[TOP_DATABASES], in_databases, "paused") > 0;
    char name[80], bar[BAR + 1];

    snprintf(name, sizeof name, "%s/%s", database, cell(pools, row, "user"));
    draw_bar(number(pools, row, "sv_active"), number(pools, row, "sv_idle"), limit, bar);
    add(picture,
        number(pools, row, "cl_waiting") == 0 ? LOOK_PLAIN
        : wait_s >= 1                         ? LOOK_BAD
                                              : LOOK_WARN,
        "  %-24s %-11s [%s] %4s %4s %4.0f %7s %7s %7.1fs  %s%s", name,
        cell(pools, row, "pool_mode"), bar, cell(pools, row, "sv_active"),
        cell(pools, row, "sv_idle"), limit, cell(pools, row, "cl_active"),
        cell(pools, row, "cl_waiting"), wait_s, is_paused ? "PAUSED " : "",
        cell(pools, row, "why"));
}

/* Whether row `a` comes before row `b`; they come sorted by name. */
static bool comes_first(const PGresult *pools, int a, int b, enum top_order order)
{
    const char *column = order == ORDER_BY_WAITING ? "cl_waiting" : "cl_active";

    return order != ORDER_BY_NAME && number(pools, a, column) > number(pools, b, column);
}

static void add_pools(struct top_picture *picture, PGresult *const *tables,
                      enum top_order order)
{
    const PGresult *pools = tables[TOP_POOLS];
    int rows[TOP_LINES_MAX], n = 0;

    add(picture, LOOK_PLAIN, "%s", "");
    add(picture, LOOK_TITLE, "  %-24s %-11s %-22s %4s %4s %4s %7s %7s %8s  %s", "POOL",
        "MODE", "SERVERS", "work", "idle", "max", "CLIENTS", "waiting", "longest", "WHY");
    for (int i = 0; i < PQntuples(pools) && n < TOP_LINES_MAX; i++) {
        int at = n;

        if (is_console(pools, i))
            continue;
        n++;
        for (; at > 0 && comes_first(pools, i, rows[at - 1], order); at--)
            rows[at] = rows[at - 1];
        rows[at] = i;
    }
    for (int i = 0; i < n; i++)
        add_pool(picture, tables, rows[i]);
}

/* ---- traffic ------------------------------------------------------------------------
 */

/* Per second: of the last two pictures, else as the console has it. */
static double rate(PGresult *const *tables, PGresult *const *before, double seconds,
                   int row, const char *total, const char *average)
{
    const PGresult *stats = tables[TOP_STATS];
    int then = before == NULL || seconds <= 0 ? -1
                                              : find_row(before[TOP_STATS], "database",
                                                         cell(stats, row, "database"));
    double more;

    if (then < 0)
        return number(stats, row, average);
    more = number(stats, row, total) - number(before[TOP_STATS], then, total);
    return more > 0 ? more / seconds : 0;
}

static void add_traffic(struct top_picture *picture, PGresult *const *tables,
                        PGresult *const *before, double seconds)
{
    static const char *const columns[][2] = {{"total_xact_count", "avg_xact_count"},
                                             {"total_query_count", "avg_query_count"},
                                             {"total_received", "avg_recv"},
                                             {"total_sent", "avg_sent"}};
    const PGresult *stats = tables[TOP_STATS];

    add(picture, LOOK_PLAIN, "%s", "");
    add(picture, LOOK_TITLE, "  %-24s %9s %9s %9s %9s %10s %10s", "DATABASE", "xact/s",
        "query/s", "in B/s", "out B/s", "query ms", "wait ms");
    for (int i = 0; i < PQntuples(stats); i++) {
        char texts[COUNT_OF(columns)][16];

        if (is_console(stats, i))
            continue;
        for (size_t k = 0; k < COUNT_OF(columns); k++)
            brief(rate(tables, before, seconds, i, columns[k][0], columns[k][1]),
                  texts[k]);
        add(picture, LOOK_PLAIN, "  %-24s %9s %9s %9s %9s %10.2f %10.2f",
            cell(stats, i, "database"), texts[0], texts[1], texts[2], texts[3],
            number(stats, i, "avg_query_time") / 1e3,
            number(stats, i, "avg_wait_time") / 1e3);
    }
}

/* ---- switchovers --------------------------------------------------------------------
 */

/* The last ones, the youngest first. */
static void add_switchovers(struct top_picture *picture, const PGresult *table)
{
    int n = PQntuples(table);

    if (n == 0)
        return;
    add(picture, LOOK_PLAIN, "%s", "");
    add(picture, LOOK_TITLE, "  %-23s %-12s %-9s %-11s %-25s %8s %5s %5s", "CHANGE",
        "CLUSTER", "CAUSE", "OUTCOME", "FROM -> TO", "ms", "held", "lost");
    for (int i = n - 1; i >= 0 && i >= n - SWITCHOVERS_SHOWN; i--) {
        char nodes[80];

        snprintf(nodes, sizeof nodes, "%s -> %s", cell(table, i, "from"),
                 cell(table, i, "to"));
        add(picture, number(table, i, "transactions_lost") > 0 ? LOOK_WARN : LOOK_PLAIN,
            "  %-23s %-12s %-9s %-11s %-25s %8s %5s %5s", cell(table, i, "began"),
            cell(table, i, "cluster"), cell(table, i, "cause"), cell(table, i, "outcome"),
            nodes, cell(table, i, "ended_ms"), cell(table, i, "clients_held"),
            cell(table, i, "transactions_lost"));
    }
}

void top_picture_make(struct top_picture *picture, PGresult *const *tables,
                      PGresult *const *before, double seconds, enum top_order order)
{
    picture->n = 0;
    add(picture, LOOK_TITLE, "%s", cell(tables[TOP_VERSION], 0, "version"));
    add_clusters(picture, tables[TOP_CLUSTERS], tables[TOP_NODES]);
    add_pools(picture, tables, order);
    add_traffic(picture, tables, before, seconds);
    add_switchovers(picture, tables[TOP_SWITCHOVERS]);
}
