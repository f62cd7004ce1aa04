/* Rows of SHOW CLUSTERS, NODES and SWITCHOVERS, of a monitor that reports what the test
 * says. */
#include "router/console/cluster_tables.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "router/console/row.h"

static struct cluster_report shown;
static struct node_report node;
static struct switchover switchovers[2];
static struct node_load load;
static struct cluster_tables tables;
static struct text out;

void monitor_report_clusters(const struct monitor *monitor,
                             void (*each)(void *arg, const struct cluster_report *report),
                             void *arg)
{
    (void)monitor;
    each(arg, &shown);
}

void monitor_report_switchovers(const struct monitor *monitor, const char *cluster,
                                void (*each)(void *arg,
                                             const struct switchover *switchover),
                                void *arg)
{
    (void)monitor;
    cr_assert_str_eq(cluster, "main");
    each(arg, &switchovers[0]);
    each(arg, &switchovers[1]);
}

void monitor_report(const struct monitor *monitor,
                    void (*each)(void *arg, const struct node_report *report), void *arg)
{
    (void)monitor;
    each(arg, &node);
}

static unsigned count_waiting(void *arg, const char *name)
{
    cr_assert_eq(arg, &tables);
    cr_assert_str_eq(name, "main");
    return 17;
}

static void open_all(void)
{
    text_init(&out, 65536);
    shown = (struct cluster_report){
        .name = "main", .primary = "", .why_no_primary = "", .system_id = ""};
    node = (struct node_report){.cluster = "main", .source = ""};
    strcpy(node.node.name, "n1");
    node.node.load = &load;
    node.node.lag_bytes = -1;
}

static void close_all(void)
{
    text_clear(&out);
    cluster_tables_clear(&tables);
}

TestSuite(cluster_tables, .init = open_all, .fini = close_all, .timeout = 10);

static bool take(enum view_name view)
{
    cluster_tables_clear(&tables);
    return cluster_tables_take(&tables, view, NULL, 100000, count_waiting, &tables);
}

/* The n-th row's cell of that column, as text; "(null)" = NULL. */
static const char *cell(enum view_name name, size_t n, const char *column)
{
    static char text[256];
    struct view view = view_of(name);
    const uint8_t *at;

    text_clear(&out);
    cr_assert(cluster_tables_add_row(&tables, name, n, 0, &out));
    at = (const uint8_t *)text_get(&out) + 7;
    for (unsigned i = 0; i < view.n; i++) {
        uint32_t length =
            (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];

        at += 4;
        if (strcmp(view.columns[i].name, column) == 0) {
            if (length == UINT32_MAX)
                return "(null)";
            cr_assert_lt(length, sizeof text);
            memcpy(text, at, length);
            text[length] = '\0';
            return text;
        }
        at += length == UINT32_MAX ? 0 : length;
    }
    cr_assert_fail("no column %s", column);
    return "";
}

#define EXPECT(view, n, column, value) \
    cr_expect_str_eq(cell(view, n, column), value, "%s: %s", column, \
                     cell(view, n, column))

Test(cluster_tables, of_a_cluster_without_anything)
{
    static const char *const unknown[] = {
        "primary",   "timeline",   "system_id",      "hold",          "hold_cause",
        "hold_sign", "hold_since", "why_no_primary", "primary_since", "alarm"};

    cr_assert(take(VIEW_CLUSTERS));
    cr_expect_eq(cluster_tables_count(&tables, VIEW_CLUSTERS), 1);
    EXPECT(VIEW_CLUSTERS, 0, "name", "main");
    for (size_t i = 0; i < COUNT_OF(unknown); i++)
        EXPECT(VIEW_CLUSTERS, 0, unknown[i], "(null)");
    EXPECT(VIEW_CLUSTERS, 0, "paused", "0");
    EXPECT(VIEW_CLUSTERS, 0, "rivals", "0");
}

Test(cluster_tables, of_a_cluster_each_column_moves)
{
    switchovers[0] = (struct switchover){
        .number = 4, .cause = HOLD_BY_HOOK, .held_ms = 99000, .sign = "a hook"};
    shown = (struct cluster_report){.name = "main",
                                    .primary = "n1",
                                    .why_no_primary = "two of them",
                                    .timeline = 7,
                                    .system_id = "123",
                                    .has_rivals = true,
                                    .alarm = "look at this",
                                    .is_paused = true,
                                    .primary_since_ms = 50000,
                                    .present = &switchovers[0]};
    cr_assert(take(VIEW_CLUSTERS));
    memset(&switchovers, 0, sizeof switchovers);
    shown.primary = shown.name = shown.system_id = shown.alarm = "dead";
    EXPECT(VIEW_CLUSTERS, 0, "primary", "n1");
    EXPECT(VIEW_CLUSTERS, 0, "timeline", "7");
    EXPECT(VIEW_CLUSTERS, 0, "system_id", "123");
    EXPECT(VIEW_CLUSTERS, 0, "hold", "4");
    EXPECT(VIEW_CLUSTERS, 0, "hold_cause", "hook");
    EXPECT(VIEW_CLUSTERS, 0, "hold_sign", "a hook");
    cr_expect_not_null(strstr(cell(VIEW_CLUSTERS, 0, "hold_since"), " UTC"));
    EXPECT(VIEW_CLUSTERS, 0, "waiting", "17");
    EXPECT(VIEW_CLUSTERS, 0, "paused", "1");
    EXPECT(VIEW_CLUSTERS, 0, "rivals", "1");
    EXPECT(VIEW_CLUSTERS, 0, "why_no_primary", "two of them");
    EXPECT(VIEW_CLUSTERS, 0, "alarm", "look at this");
    cr_expect_not_null(strstr(cell(VIEW_CLUSTERS, 0, "primary_since"), " UTC"));
}

Test(cluster_tables, of_a_node_that_was_never_asked)
{
    static const char *const unknown[] = {"check_port",        "address",      "state",
                                          "said_by",           "timeline",     "lag",
                                          "last_check_ago_ms", "last_check_ms"};

    cr_assert(take(VIEW_NODES));
    cr_expect_eq(cluster_tables_count(&tables, VIEW_NODES), 1);
    for (size_t i = 0; i < COUNT_OF(unknown); i++)
        EXPECT(VIEW_NODES, 0, unknown[i], "(null)");
    EXPECT(VIEW_NODES, 0, "role", "unknown");
    EXPECT(VIEW_NODES, 0, "up", "0");
}

Test(cluster_tables, of_a_node_each_column_moves)
{
    strcpy(node.node.host, "db1");
    strcpy(node.said, "200 running replica");
    node.source = "patroni";
    node.port = 5432;
    node.check_port = 8008;
    node.node.n_addresses = 1;
    cr_assert(address_parse("10.0.0.1", 5432, &node.node.addresses[0]));
    node.node.role = NODE_REPLICA;
    node.node.is_up = node.node.is_lagging = node.node.is_draining =
        node.node.is_leaving = true;
    node.node.timeline = 3;
    node.node.lag_bytes = 0;
    atomic_store(&load.n_sessions, 5);
    node.n_failed = 6;
    node.n_downs = 7;
    node.down_ms = 8;
    node.checked_at_ms = 99000;
    node.duration_ms = 9;
    node.node.is_in_maintenance = true;
    node.node.weight = 10;
    cr_assert(take(VIEW_NODES));
    EXPECT(VIEW_NODES, 0, "cluster", "main");
    EXPECT(VIEW_NODES, 0, "name", "n1");
    EXPECT(VIEW_NODES, 0, "host", "db1");
    EXPECT(VIEW_NODES, 0, "port", "5432");
    EXPECT(VIEW_NODES, 0, "check_port", "8008");
    EXPECT(VIEW_NODES, 0, "address", "10.0.0.1");
    EXPECT(VIEW_NODES, 0, "role", "replica");
    EXPECT(VIEW_NODES, 0, "up", "1");
    EXPECT(VIEW_NODES, 0, "state", "200 running replica");
    EXPECT(VIEW_NODES, 0, "said_by", "patroni");
    EXPECT(VIEW_NODES, 0, "timeline", "3");
    EXPECT(VIEW_NODES, 0, "lag", "0");
    EXPECT(VIEW_NODES, 0, "lagging", "1");
    EXPECT(VIEW_NODES, 0, "sessions", "5");
    EXPECT(VIEW_NODES, 0, "draining", "1");
    EXPECT(VIEW_NODES, 0, "leaving", "1");
    EXPECT(VIEW_NODES, 0, "checks_failed", "6");
    EXPECT(VIEW_NODES, 0, "downs", "7");
    EXPECT(VIEW_NODES, 0, "down_ms", "8");
    EXPECT(VIEW_NODES, 0, "last_check_ago_ms", "1000");
    EXPECT(VIEW_NODES, 0, "last_check_ms", "9");
    EXPECT(VIEW_NODES, 0, "maintenance", "1");
    EXPECT(VIEW_NODES, 0, "weight", "10");
}

Test(cluster_tables, of_a_switchover_each_column_moves)
{
    static const char *const steps[] = {"drained_ms", "gone_ms", "proven_ms", "lent_ms",
                                        "ended_ms"};

    switchovers[0] = (struct switchover){.number = 1, .held_ms = 1000, .began_at_s = 60};
    switchovers[1] = (struct switchover){.number = 2,
                                         .cause = HOLD_BY_REQUEST,
                                         .outcome = SWITCHOVER_CHANGED,
                                         .from = "n1",
                                         .to = "n2",
                                         .sign = "etcd",
                                         .held_ms = 1000,
                                         .drained_ms = 1001,
                                         .gone_ms = 1002,
                                         .proven_ms = 1003,
                                         .lent_ms = 1004,
                                         .ended_ms = 1005,
                                         .n_held = 11,
                                         .n_replayed = 12,
                                         .n_lost = 13,
                                         .n_unknown = 14,
                                         .longest_wait_ms = 15};
    cr_assert(take(VIEW_SWITCHOVERS));
    cr_expect_eq(cluster_tables_count(&tables, VIEW_SWITCHOVERS), 2);
    EXPECT(VIEW_SWITCHOVERS, 0, "cluster", "main");
    EXPECT(VIEW_SWITCHOVERS, 0, "outcome", "under way");
    EXPECT(VIEW_SWITCHOVERS, 0, "began", "1970-01-01 00:01:00 UTC");
    EXPECT(VIEW_SWITCHOVERS, 0, "from", "(null)");
    EXPECT(VIEW_SWITCHOVERS, 0, "to", "(null)");
    EXPECT(VIEW_SWITCHOVERS, 0, "sign", "(null)");
    EXPECT(VIEW_SWITCHOVERS, 1, "number", "2");
    EXPECT(VIEW_SWITCHOVERS, 1, "cause", "request");
    EXPECT(VIEW_SWITCHOVERS, 1, "outcome", "changed");
    EXPECT(VIEW_SWITCHOVERS, 1, "from", "n1");
    EXPECT(VIEW_SWITCHOVERS, 1, "to", "n2");
    EXPECT(VIEW_SWITCHOVERS, 1, "sign", "etcd");
    for (size_t i = 0; i < COUNT_OF(steps); i++) {
        char ms[2] = {(char)('1' + i), '\0'};

        EXPECT(VIEW_SWITCHOVERS, 0, steps[i], "(null)");
        EXPECT(VIEW_SWITCHOVERS, 1, steps[i], ms);
    }
    EXPECT(VIEW_SWITCHOVERS, 1, "clients_held", "11");
    EXPECT(VIEW_SWITCHOVERS, 1, "statements_sent_again", "12");
    EXPECT(VIEW_SWITCHOVERS, 1, "transactions_lost", "13");
    EXPECT(VIEW_SWITCHOVERS, 1, "outcomes_unknown", "14");
    EXPECT(VIEW_SWITCHOVERS, 1, "longest_wait_ms", "15");
}

Test(cluster_tables, other_views_have_none)
{
    cr_assert(take(VIEW_POOLS));
    cr_expect_eq(tables.n_clusters + tables.n_nodes + tables.n_switchovers, 0);
}

Test(cluster_tables, survive_each_allocation_failure)
{
    static const enum view_name views[] = {VIEW_CLUSTERS, VIEW_NODES, VIEW_SWITCHOVERS};

    for (size_t i = 0; i < COUNT_OF(views); i++)
        for (unsigned nth = 1;; nth++) {
            bool ok;

            memory_fail_at = nth;
            ok = take(views[i]);
            if (memory_fail_at != 0) {
                cr_expect(ok);
                memory_fail_at = 0;
                break;
            }
            cr_expect_not(ok, "%zu: %u", i, nth);
        }
    memory_fail_at = 0;
}
