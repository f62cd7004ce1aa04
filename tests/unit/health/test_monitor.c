#include "health/monitor.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "health/cluster.h"
#include "tests/lib/fake_http.h"
#include "tests/lib/fake_postgres.h"
#include "tests/lib/loop_until.h"

#define N_NODES 3

static struct loop *loop;
static struct resolver *resolver;
static struct monitor *monitor;
static struct fake_http patroni[N_NODES]; /* of the nodes n1, n2, n3 */
static char bodies[N_NODES][512];

static unsigned n_topologies;
static struct topology *topology; /* the last one, held */

static void on_topology(void *arg, struct topology *is)
{
    (void)arg;
    cr_assert(topology == NULL || is->generation > topology->generation);
    topology_release(topology);
    topology = topology_hold(is);
    n_topologies++;
}

/* ---- what the nodes say ---- */

static void say(size_t node, int status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(bodies[node], sizeof bodies[node], format, args);
    va_end(args);
    patroni[node].behaviour = FAKE_ANSWERS;
    patroni[node].status = status;
    patroni[node].body = bodies[node];
}

static void say_primary(size_t node, unsigned timeline)
{
    say(node, 200,
        "{\"state\": \"running\", \"role\": \"master\", \"timeline\": %u, \"xlog\": "
        "{\"location\": 1000}, \"database_system_identifier\": \"77\"}",
        timeline);
}

static void say_replica(size_t node, unsigned timeline, unsigned replayed)
{
    say(node, 503,
        "{\"state\": \"running\", \"role\": \"replica\", \"timeline\": %u, \"xlog\": "
        "{\"replayed_location\": %u}, \"database_system_identifier\": \"77\"}",
        timeline, replayed);
}

static void fall_silent(size_t node)
{
    patroni[node].behaviour = FAKE_HANGS;
    patroni[node].body = "";
}

/* ---- the monitor under test ---- */

static struct config *load(const char *ini)
{
    struct text errors;
    struct config *config;

    text_init(&errors, 10000);
    config = config_load_text("test.ini", ini, &errors);
    cr_assert_not_null(config, "%s", text_get(&errors));
    text_clear(&errors);
    return config;
}

/* A cluster "main" of the first `n` nodes with more settings, one listener. */
static struct config *config_with(size_t n, const char *settings, const char *listeners)
{
    struct text ini;
    struct config *config;

    text_init(&ini, 10000);
    text_add(&ini, "[pgrouter]\ndns_min_ttl = 100ms\n[cluster main]\nnodes = ");
    for (size_t i = 0; i < n; i++)
        text_addf(&ini, "%sn%zu=127.0.0.1:%u:%u", i == 0 ? "" : ", ", i + 1,
                  (unsigned)(5431 + i), address_port(&patroni[i].address));
    text_addf(&ini,
              "\n%s[listener rw]\nbind = 127.0.0.1:15999\ncluster = main\nrole = "
              "primary\n%s",
              settings, listeners);
    config = load(text_get(&ini));
    text_clear(&ini);
    return config;
}

static void configure(size_t n, const char *settings, const char *listeners)
{
    struct config *config = config_with(n, settings, listeners);

    cr_assert(monitor_configure(monitor, config));
    config_release(config);
}

static const char quick[] = "check_interval = 200ms\ncheck_fast_interval = "
                            "20ms\ncheck_timeout = 100ms\n";

static void open_all(void)
{
    loop = loop_new(false);
    resolver = resolver_new(loop);
    cr_assert(loop != NULL && resolver != NULL);
    monitor = monitor_new(loop, resolver, on_topology, NULL);
    cr_assert_not_null(monitor);
    for (size_t i = 0; i < N_NODES; i++)
        fake_http_open(&patroni[i], loop, "127.0.0.1", 0);
    say_primary(0, 5);
    say_replica(1, 5, 1000);
    say_replica(2, 5, 1000);
}

static void close_all(void)
{
    monitor_free(monitor);
    for (size_t i = 0; i < N_NODES; i++)
        fake_http_close(&patroni[i]);
    resolver_free(resolver);
    topology_release(topology);
    loop_free(loop);
}

TestSuite(monitor, .init = open_all, .fini = close_all, .timeout = 30);

static const struct topology_cluster *cluster(void)
{
    return &topology->clusters[0];
}

static const struct topology_node *node(size_t i)
{
    return &cluster()->nodes[i];
}

/* Waits until the condition holds, at most five seconds. */
#define AWAIT(condition) \
    do { \
        uint64_t await_began_ms = loop_now_ms(loop); \
        while (!(condition)) { \
            cr_assert_lt(loop_now_ms(loop) - await_began_ms, 5000, \
                         "never: " #condition); \
            loop_until(loop, NULL, 2); \
        } \
    } while (0)

static unsigned n_requests(void)
{
    return patroni[0].n_requests + patroni[1].n_requests + patroni[2].n_requests;
}

/* ---- reports ---- */

static struct node_report reports[8];
static size_t n_reports;

static void on_report(void *arg, const struct node_report *report)
{
    (void)arg;
    cr_assert_lt(n_reports, COUNT_OF(reports));
    reports[n_reports++] = *report;
}

static const struct node_report *report(size_t i)
{
    n_reports = 0;
    monitor_report(monitor, on_report, NULL);
    cr_assert_gt(n_reports, i);
    return &reports[i];
}

/* ---- tests ---- */

Test(monitor, there_is_a_topology_at_once_and_the_roles_come)
{
    cr_expect_null(monitor_topology(monitor));
    configure(3, quick, "");
    cr_expect_eq(monitor_topology(monitor), topology);
    cr_expect_eq(topology->n_clusters, 1);
    cr_expect_str_eq(cluster()->name, "main");
    cr_expect_eq(cluster()->primary, -1);
    cr_expect_eq(node(0)->role, NODE_UNKNOWN);
    cr_expect_not(node(0)->is_up);
    cr_expect_not(monitor_is_ready(monitor));
    AWAIT(monitor_is_ready(monitor));
    AWAIT(node(2)->is_up);
    cr_expect_eq(cluster()->primary, 0);
    cr_expect_str_eq(cluster()->why_no_primary, "");
    cr_expect_eq(node(0)->role, NODE_PRIMARY);
    cr_expect(node(0)->is_up);
    cr_expect_not(node(0)->is_replica_for_all);
    cr_expect_eq(node(0)->timeline, 5);
    cr_expect_eq(address_port(&node(0)->addresses[0]), 5431);
    cr_expect_eq(node(1)->role, NODE_REPLICA);
    cr_expect(node(1)->is_replica_for_all);
    cr_expect_not(node(1)->serves_any_role);
    cr_expect_not(node(1)->is_draining);
    cr_expect_str_eq(node(1)->name, "n2");
}

Test(monitor, one_request_per_node_and_round)
{
    configure(3, quick,
              "[listener ro]\nbind = 127.0.0.1:15998\nrole = replica\n"
              "[listener any]\nbind = 127.0.0.1:15997\nrole = any\n");
    AWAIT(node(2)->is_up);
    cr_expect_leq(patroni[0].n_requests, 2);
    cr_expect_eq(strncmp(patroni[0].request, "GET /primary HTTP/1.1\r\n", 23), 0);
}

Test(monitor, rounds_become_slow_when_all_is_well)
{
    unsigned before;

    configure(3, "check_interval = 300ms\ncheck_fast_interval = 20ms\n", "");
    AWAIT(monitor_is_ready(monitor));
    before = n_requests();
    loop_until(loop, NULL, 1000);
    cr_expect_geq(n_requests() - before, 3 * 30, "fast at first: %u",
                  n_requests() - before);
    loop_until(loop, NULL, 5500); /* five seconds, and some to slow down */
    before = n_requests();
    loop_until(loop, NULL, 1500);
    cr_expect_leq(n_requests() - before, 3 * 7, "%u", n_requests() - before);
    cr_expect_geq(n_requests() - before, 3 * 3, "%u", n_requests() - before);
}

Test(monitor, a_switchover_is_known_within_a_fast_round)
{
    uint64_t began_ms;

    configure(3, "check_interval = 1s\ncheck_fast_interval = 50ms\n", "");
    AWAIT(cluster()->primary == 0);
    say(0, 503, "{\"state\": \"stopping\", \"role\": \"demoted\"}");
    AWAIT(cluster()->primary == -1);
    cr_expect_str_eq(cluster()->why_no_primary, "no node holds Patroni's leader lock");
    say_primary(1, 6);
    began_ms = loop_now_ms(loop);
    AWAIT(cluster()->primary == 1);
    cr_expect_lt(loop_now_ms(loop) - began_ms, 50 + 40);
    cr_expect_eq(node(1)->timeline, 6);
    cr_expect_not(node(0)->is_up);
    say_replica(0, 6, 1000);
    AWAIT(node(0)->is_up);
    cr_expect_eq(node(0)->role, NODE_REPLICA);
}

Test(monitor, the_news_of_a_new_primary_does_not_wait_for_a_dead_node)
{
    uint64_t began_ms;

    configure(3, "check_interval = 1s\ncheck_fast_interval = 50ms\ncheck_timeout = 2s\n",
              "");
    AWAIT(cluster()->primary == 0);
    fall_silent(0);
    loop_until(loop, NULL, 200); /* its check hangs now */
    say_primary(1, 6);
    began_ms = loop_now_ms(loop);
    AWAIT(cluster()->primary == 1);
    cr_expect_lt(loop_now_ms(loop) - began_ms, 50 + 40);
}

Test(monitor, a_check_under_way_is_not_begun_twice)
{
    configure(3, "check_interval = 1s\ncheck_fast_interval = 20ms\ncheck_timeout = 1s\n",
              "");
    AWAIT(cluster()->primary == 0);
    fall_silent(0);
    AWAIT(patroni[0].clients.n == 1);
    loop_until(loop, NULL, 500);
    cr_expect_eq(patroni[0].clients.n, 1);
    cr_expect_eq(cluster()->primary, 0, "a primary that is late stays");
}

Test(monitor, a_dead_primary_is_down_after_fall_checks)
{
    uint16_t port = address_port(&patroni[0].address);

    configure(3, "check_interval = 1s\ncheck_fast_interval = 20ms\nfall = 3\n", "");
    AWAIT(cluster()->primary == 0);
    fake_http_close(&patroni[0]);
    AWAIT(!node(0)->is_up);
    cr_expect_eq(cluster()->primary, -1);
    cr_expect_geq(report(0)->n_failed, 3, "and more: a hold has begun");
    cr_expect_eq(report(0)->n_downs, 1);
    cr_expect_eq(report(0)->outcome, REPORT_REFUSED);
    cr_expect_str_eq(report(0)->said, "Connection refused");
    cr_expect_eq(report(0)->in_a_row, 3);
    loop_until(loop, NULL, 50);
    cr_expect_geq(report(0)->down_ms, 40);
    fake_http_open(&patroni[0], loop, "127.0.0.1", port);
    say_primary(0, 5);
    AWAIT(cluster()->primary == 0);
    cr_expect_eq(report(0)->outcome, REPORT_OK);
    cr_expect_eq(report(0)->n_downs, 1);
}

Test(monitor, without_a_primary_rounds_stay_fast_while_clients_wait)
{
    unsigned before;

    say_replica(0, 5, 1000);
    configure(3, "check_interval = 400ms\ncheck_fast_interval = 20ms\n", "");
    AWAIT(monitor_is_ready(monitor));
    loop_until(loop, NULL, 6000); /* no longer suspect, but within the first minute */
    before = n_requests();
    loop_until(loop, NULL, 1000);
    cr_expect_geq(n_requests() - before, 3 * 30);
    monitor_waiting(monitor, "main", 3);
    monitor_waiting(monitor, "main", 3);
    monitor_waiting(monitor, "main", 0);
    monitor_waiting(monitor, "nowhere", 1);
}

Test(monitor, evidence_starts_a_round_now)
{
    unsigned before;
    uint32_t id;

    configure(3, "check_interval = 30s\ncheck_fast_interval = 30s\n", "");
    AWAIT(monitor_is_ready(monitor));
    loop_until(loop, NULL, 50);
    id = node(0)->id;
    before = n_requests();
    loop_until(loop, NULL, 100);
    cr_assert_eq(n_requests(), before, "nothing goes on by itself");

    monitor_evidence(monitor, id, EVIDENCE_SHUTTING_DOWN);
    AWAIT(n_requests() == before + 3);
    for (int i = 0; i < 50; i++)
        monitor_evidence(monitor, id, EVIDENCE_SHUTTING_DOWN);
    monitor_evidence(monitor, id, EVIDENCE_WANTED);
    monitor_evidence(monitor, 4711, EVIDENCE_REFUSED);
    loop_until(loop, NULL, 50);
    cr_expect_eq(n_requests(), before + 3, "one per second");

    monitor_evidence(monitor, id, EVIDENCE_REFUSED);
    monitor_evidence(monitor, id, EVIDENCE_SILENT);
    AWAIT(n_requests() == before + 6);
    loop_until(loop, NULL, 110);
    monitor_evidence(monitor, id, EVIDENCE_SILENT);
    AWAIT(n_requests() == before + 9);
}

Test(monitor, evidence_while_a_check_is_under_way_asks_again)
{
    configure(1,
              "check_interval = 30s\ncheck_fast_interval = 30s\ncheck_timeout = 200ms\n",
              "");
    AWAIT(monitor_is_ready(monitor));
    loop_until(loop, NULL, 120);
    fall_silent(0);
    monitor_evidence(monitor, node(0)->id, EVIDENCE_REFUSED);
    AWAIT(patroni[0].clients.n == 1);
    loop_until(loop, NULL, 110);
    say(0, 503, "{\"state\": \"stopped\", \"role\": \"demoted\"}");
    monitor_evidence(monitor, node(0)->id, EVIDENCE_REFUSED);
    AWAIT(report(0)->http_status == 503);
}

Test(monitor, nothing_is_published_while_nothing_changes)
{
    unsigned before;

    configure(3, quick, "");
    AWAIT(node(1)->is_up && node(2)->is_up && node(0)->is_up);
    before = n_topologies;
    say_replica(1, 5, 900); /* 100 bytes behind, and there is no limit */
    AWAIT(report(1)->node.lag_bytes == 100);
    loop_until(loop, NULL, 100);
    cr_expect_eq(n_topologies, before);
    cr_expect_neq(node(1)->lag_bytes, 100, "the published one is as old as it is");
}

Test(monitor, a_lagging_replica_is_marked)
{
    configure(3, "max_lag = 50\ncheck_fast_interval = 20ms\n", "");
    AWAIT(node(1)->is_up && node(2)->is_up && cluster()->primary == 0);
    cr_expect_not(node(1)->is_lagging);
    say_replica(1, 5, 949);
    AWAIT(node(1)->is_lagging);
    cr_expect(node(1)->is_up);
    cr_expect_not(node(2)->is_lagging);
    say_replica(1, 5, 950);
    AWAIT(!node(1)->is_lagging);
}

Test(monitor, a_replica_tagged_noloadbalance_is_not_for_all)
{
    configure(2, quick, "");
    AWAIT(node(1)->is_replica_for_all);
    say(1, 503,
        "{\"state\": \"running\", \"role\": \"replica\", \"tags\": {\"noloadbalance\": "
        "true}}");
    AWAIT(!node(1)->is_replica_for_all);
    cr_expect(node(1)->is_up);
    cr_expect_eq(node(1)->role, NODE_REPLICA);
}

Test(monitor, a_writable_node_that_is_not_named_is_no_target)
{
    configure(2, quick, "");
    AWAIT(cluster()->primary == 0 && node(1)->is_up);
    say(1, 503, "{\"state\": \"running\", \"role\": \"master\", \"timeline\": 9}");
    AWAIT(!node(1)->is_up);
    cr_expect_eq(node(1)->role, NODE_UNKNOWN);
    cr_expect_eq(cluster()->primary, 0);
}

static void take_alarm(void *arg, const struct cluster_report *report)
{
    snprintf(arg, ALARM_MAX, "%s", report->alarm);
}

static bool alarm_is(const char *expected)
{
    char alarm[ALARM_MAX] = "";

    monitor_report_clusters(monitor, take_alarm, alarm);
    return strcmp(alarm, expected) == 0;
}

Test(monitor, a_writable_node_that_is_not_named_is_an_alarm_until_it_is_gone)
{
    say_primary(0, 5);
    say(1, 503, "{\"state\": \"running\", \"role\": \"master\", \"timeline\": 5}");
    configure(2, quick, "");
    AWAIT(alarm_is("n2 is writable on timeline 5 and is not the primary"));
    cr_expect_eq(cluster()->primary, 0);
    say_replica(1, 5, 0);
    AWAIT(alarm_is(""));
}

Test(monitor, two_primaries_are_an_alarm_until_one_is_gone)
{
    say_primary(0, 5);
    say_primary(1, 5);
    configure(2, quick, "");
    AWAIT(alarm_is(
        "n1 and n2 both claim to be the primary on timeline 5: nobody gets writers"));
    cr_expect_eq(cluster()->primary, -1);
    say_replica(0, 5, 0);
    AWAIT(alarm_is(""));
    cr_expect_eq(cluster()->primary, 1);
}

Test(monitor, two_primaries_stop_writes)
{
    configure(2, quick, "");
    AWAIT(cluster()->primary == 0);
    say_primary(1, 5);
    AWAIT(cluster()->primary == -1);
    cr_expect_str_eq(cluster()->why_no_primary,
                     "n1 and n2 both claim to be the primary on timeline 5");
    cr_expect_not(node(0)->is_up || node(1)->is_up);
    say_replica(1, 5, 1000);
    AWAIT(cluster()->primary == 0);
}

Test(monitor, a_standby_cluster_has_a_leader_and_no_primary)
{
    say(0, 503,
        "{\"state\": \"running\", \"role\": \"standby_leader\", \"timeline\": 5, "
        "\"xlog\": {\"received_location\": 2000, \"replayed_location\": 1990}}");
    configure(2, "max_lag = 100\ncheck_fast_interval = 20ms\n", "");
    AWAIT(node(0)->role == NODE_STANDBY_LEADER);
    AWAIT(node(1)->is_lagging);
    cr_expect_eq(report(1)->node.lag_bytes, 1000);
    cr_expect_str_eq(cluster()->why_no_primary,
                     "a standby cluster has no primary, only a standby leader");
}

Test(monitor, check_uris_are_asked_for_themselves)
{
    configure(2, quick,
              "[listener sync]\nbind = 127.0.0.1:15998\ncheck_uri = /sync\n"
              "[listener again]\nbind = 127.0.0.1:15997\ncheck_uri = /sync\n"
              "[listener tag]\nbind = 127.0.0.1:15996\ncheck_uri = /replica?tag_x=y\n");
    cr_assert_eq(cluster()->n_check_uris, 2);
    cr_expect_str_eq(cluster()->check_uris[0], "/sync");
    cr_expect_str_eq(cluster()->check_uris[1], "/replica?tag_x=y");
    /* The fake answers every path alike: 200 on the primary, 503 on the replica. */
    AWAIT(node(0)->uris_ok == 3);
    cr_expect_eq(node(1)->uris_ok, 0);
    say_replica(0, 5, 1000);
    AWAIT(node(0)->uris_ok == 0);
}

Test(monitor, a_uri_that_nobody_answers_is_ok_until_fall)
{
    configure(1,
              "check_interval = 1s\ncheck_fast_interval = 20ms\ncheck_timeout = "
              "100ms\nfall = 2\n",
              "[listener sync]\nbind = 127.0.0.1:15998\ncheck_uri = /sync\n");
    AWAIT(node(0)->uris_ok == 1);
    fall_silent(0);
    loop_until(loop, NULL, 150);
    cr_expect_eq(node(0)->uris_ok, 1);
    AWAIT(node(0)->uris_ok == 0);
}

Test(monitor, drained_nodes_are_marked_and_still_checked)
{
    configure(2, "drain = n2\ncheck_fast_interval = 20ms\n", "");
    AWAIT(node(1)->is_up);
    cr_expect(node(1)->is_draining);
    cr_expect_not(node(0)->is_draining);
}

Test(monitor, postgresql_stands_in_for_a_silent_patroni)
{
    static const char *const row[] = {"f",  "00000005", "1000", NULL,
                                      NULL, NULL,       "f",    "77"};
    struct fake_postgres server;
    char ini[400];
    struct config *config;

    fake_postgres_open(&server, loop, "127.0.0.1", 0);
    fake_postgres_set(&server, 8, row);
    snprintf(ini, sizeof ini,
             "[cluster main]\nnodes = n1=127.0.0.1:%u:%u\ncheck_user = checker\n"
             "check_fast_interval = 20ms\ncheck_timeout = 100ms\n"
             "[listener rw]\nbind = 127.0.0.1:15999\n",
             address_port(&server.address), address_port(&patroni[0].address));
    config = load(ini);
    cr_assert(monitor_configure(monitor, config));
    config_release(config);

    AWAIT(cluster()->primary == 0);
    cr_expect_eq(server.n_accepted, 0, "not asked while Patroni answers");
    cr_expect_str_eq(report(0)->source, "patroni");
    fall_silent(0);
    AWAIT(server.n_queries > 5);
    cr_expect_eq(cluster()->primary, 0);
    cr_expect(node(0)->is_up);
    cr_expect_str_eq(report(0)->source, "postgres");
    cr_expect_str_eq(report(0)->said,
                     "Patroni: no answer within 100 ms; PostgreSQL: writable timeline 5");
    cr_expect_eq(server.n_accepted, 1);
    say_primary(0, 5);
    AWAIT(strcmp(report(0)->source, "patroni") == 0);
    AWAIT(server.clients.n == 0);
    fake_postgres_close(&server);
}

Test(monitor, check_postgres_needs_no_patroni)
{
    static const char *const primary[] = {"f",  "00000005", "1000", NULL,
                                          NULL, NULL,       "f",    "77"};
    static const char *const standby[] = {"t", NULL, NULL, "1000", "990", "5", "t", "77"};
    struct fake_postgres servers[2];
    char ini[400];
    struct config *config;

    for (size_t i = 0; i < 2; i++) {
        fake_postgres_open(&servers[i], loop, "127.0.0.1", 0);
        fake_postgres_set(&servers[i], 8, i == 0 ? primary : standby);
    }
    snprintf(ini, sizeof ini,
             "[cluster main]\nnodes = a=127.0.0.1:%u, b=127.0.0.1:%u\ncheck = postgres\n"
             "check_user = checker\ncheck_fast_interval = 20ms\n"
             "[listener rw]\nbind = 127.0.0.1:15999\n",
             address_port(&servers[0].address), address_port(&servers[1].address));
    config = load(ini);
    cr_assert(monitor_configure(monitor, config));
    config_release(config);
    AWAIT(cluster()->primary == 0 && node(1)->is_up);
    cr_expect_eq(node(1)->role, NODE_REPLICA);
    cr_expect(node(1)->is_replica_for_all);
    AWAIT(report(1)->node.lag_bytes == 10);
    fake_postgres_set(
        &servers[1], 8,
        (const char *const[]){"f", "00000006", "1100", NULL, NULL, NULL, "f", "77"});
    AWAIT(cluster()->primary == 1);
    cr_expect_not(node(0)->is_up, "behind the fence");
    for (size_t i = 0; i < 2; i++)
        fake_postgres_close(&servers[i]);
}

Test(monitor, check_tcp_serves_every_role)
{
    char ini[400];
    struct config *config;

    snprintf(ini, sizeof ini,
             "[cluster main]\nnodes = a=127.0.0.1:%u\ncheck = tcp\n"
             "check_fast_interval = 20ms\n[listener rw]\nbind = 127.0.0.1:15999\n",
             address_port(&patroni[0].address));
    config = load(ini);
    cr_assert(monitor_configure(monitor, config));
    config_release(config);
    AWAIT(node(0)->is_up);
    cr_expect(node(0)->serves_any_role);
    cr_expect_eq(node(0)->role, NODE_UNKNOWN);
    cr_expect_str_eq(cluster()->why_no_primary, "");
    cr_expect_str_eq(report(0)->source, "tcp");
    fake_http_close(&patroni[0]);
    AWAIT(!node(0)->is_up);
    cr_expect_str_eq(cluster()->why_no_primary, "no node of this cluster is up");
}

Test(monitor, a_name_that_nobody_knows_is_a_node_that_is_down)
{
    struct config *config =
        load("[cluster main]\nnodes = a=no-such-host.invalid:5432:8008\n"
             "[listener rw]\nbind = 127.0.0.1:15999\n");

    resolver_set_servers(resolver, "/dev/null", 1); /* nobody listens there */
    cr_assert(monitor_configure(monitor, config));
    config_release(config);
    cr_expect_eq(node(0)->n_addresses, 0);
    while (!monitor_is_ready(monitor))
        loop_until(loop, NULL, 10);
    cr_expect_not(node(0)->is_up);
    cr_expect_eq(strncmp(report(0)->said, "the name is not resolved: ", 26), 0);
}

Test(monitor, a_node_is_drained_and_made_ready_by_word)
{
    configure(2, "drain = n2\ncheck_fast_interval = 20ms\n", "");
    AWAIT(node(0)->is_up && node(1)->is_up);
    cr_expect_not(monitor_set_word(monitor, "main", "n9", WORD_DRAIN, "me"));
    cr_expect_not(monitor_set_word(monitor, "other", "n1", WORD_DRAIN, "me"));
    cr_expect(monitor_set_word(monitor, "main", "n1", WORD_DRAIN, "me"));
    cr_expect(monitor_set_word(monitor, "main", "n2", WORD_READY, "me"));
    cr_expect(node(0)->is_draining && node(0)->is_up);
    cr_expect_not(node(1)->is_draining);
    configure(2, "drain = n2\ncheck_fast_interval = 20ms\n", "");
    cr_expect(node(0)->is_draining, "also after a reload");
    cr_expect_not(node(1)->is_draining);
    cr_expect(monitor_set_word(monitor, "main", "n1", WORD_READY, "me"));
    cr_expect_not(node(0)->is_draining);
    configure(2, "drain = n1, n2\ncheck_fast_interval = 20ms\n", "");
    cr_expect(node(0)->is_draining, "ready is the end of a word, not one against a file");
    cr_expect_not(node(1)->is_draining);
}

Test(monitor, a_weight_stays_and_none_drains)
{
    configure(2, quick, "");
    AWAIT(node(0)->is_up && node(1)->is_up);
    cr_expect_eq(node(0)->weight, 1);
    cr_expect_not(monitor_set_weight(monitor, "main", "n9", 7, "me"));
    cr_expect(monitor_set_weight(monitor, "main", "n1", 7, "me"));
    cr_expect(monitor_set_weight(monitor, "main", "n2", 0, "me"));
    cr_expect(node(1)->is_draining && !node(0)->is_draining);
    configure(2, quick, "");
    cr_expect_eq(node(0)->weight, 7);
    cr_expect_eq(node(1)->weight, 0);
}

Test(monitor, nobody_asks_a_node_in_maintenance)
{
    unsigned n;

    configure(2, quick, "");
    AWAIT(monitor_is_ready(monitor) && node(1)->is_up);
    cr_expect(monitor_set_word(monitor, "main", "n2", WORD_MAINT, "me"));
    cr_expect(node(1)->is_in_maintenance && node(1)->is_draining && node(1)->is_up);
    n = patroni[1].n_requests;
    fall_silent(1);
    configure(2, quick, "");
    cr_expect(node(1)->is_in_maintenance, "also after a reload");
    AWAIT(patroni[0].n_requests > 20);
    cr_expect_eq(patroni[1].n_requests, n);
    cr_expect(node(1)->is_up, "what was known of it stays");
    cr_expect(monitor_is_ready(monitor));

    say_replica(1, 5, 1000);
    patroni[1].status = 500;
    cr_expect(monitor_set_word(monitor, "main", "n2", WORD_READY, "me"));
    cr_expect_not(node(1)->is_in_maintenance);
    cr_expect(node(1)->is_draining, "it is not lent before it has answered");
    say_replica(1, 5, 1000);
    AWAIT(!node(1)->is_draining);
    cr_expect_gt(patroni[1].n_requests, n);
    cr_expect(node(1)->is_up);
}

Test(monitor, a_primary_in_maintenance_gives_way_to_another)
{
    configure(2, quick, "");
    AWAIT(cluster()->primary == 0);
    cr_expect(monitor_set_word(monitor, "main", "n1", WORD_MAINT, "me"));
    cr_expect_eq(cluster()->primary, 0, "it is one still");
    cr_expect(node(0)->is_draining);
    say_primary(1, 6);
    AWAIT(cluster()->primary == 1);
    cr_expect_not(node(1)->is_draining);
}

Test(monitor, a_reload_keeps_what_is_known_of_the_nodes_that_stay)
{
    struct node_load *load;
    uint32_t ids[3];
    unsigned before;

    configure(3, quick, "");
    AWAIT(cluster()->primary == 0 && node(1)->is_up && node(2)->is_up);
    load = node_load_hold(node(1)->load);
    load->n_sessions = 5;
    for (size_t i = 0; i < 3; i++)
        ids[i] = node(i)->id;

    before = n_topologies;
    configure(3, quick, "");
    cr_expect_eq(n_topologies, before, "the same is no change");
    cr_expect(monitor_is_ready(monitor));

    configure(2, "drain = n1\n", ""); /* n3 leaves */
    cr_expect_eq(cluster()->n_nodes, 2);
    cr_expect_eq(cluster()->primary, 0);
    cr_expect(node(0)->is_draining);
    cr_expect(node(1)->is_up);
    cr_expect_eq(node(0)->id, ids[0]);
    cr_expect_eq(node(1)->id, ids[1]);
    cr_expect_eq(node(1)->load, load);
    cr_expect_eq(node(1)->load->n_sessions, 5);
    cr_expect_null(topology_node(topology, ids[2]));

    configure(3, quick, ""); /* and comes back as another */
    cr_expect_gt(node(2)->id, ids[2]);
    AWAIT(node(2)->is_up);
    cr_expect_eq(cluster()->primary, 0);
    node_load_release(load);
}

Test(monitor, a_reload_keeps_the_fence)
{
    configure(2, quick, "");
    AWAIT(cluster()->primary == 0);
    say_primary(1, 6);
    AWAIT(cluster()->primary == 1);
    configure(2, "check_fast_interval = 30ms\n", "");
    cr_expect_eq(cluster()->primary, 1);
    say(1, 503, "{\"state\": \"stopped\", \"role\": \"demoted\"}");
    AWAIT(cluster()->primary == -1);
    loop_until(loop, NULL, 100);
    cr_expect_eq(cluster()->primary, -1, "n1 still claims, on timeline 5");
    configure(2, quick, "");
    loop_until(loop, NULL, 100);
    cr_expect_eq(cluster()->primary, -1);
    say_replica(1, 5, 1000); /* who has raised the fence has left it */
    AWAIT(cluster()->primary == 0);
}

static bool resets(const char *cluster, const char *expected)
{
    char why[MONITOR_WHY_MAX] = "";
    bool ok = monitor_reset(monitor, cluster, "alice", why);

    cr_expect_str_eq(why, expected);
    return ok;
}

Test(monitor, a_reset_lets_an_older_timeline_lead)
{
    say_primary(0, 7);
    say_replica(1, 7, 0);
    configure(2, quick, "");
    AWAIT(cluster()->primary == 0);
    say_primary(1, 4);
    fall_silent(0);
    AWAIT(alarm_is("n2 is writable on timeline 4 and is not the primary"));
    AWAIT(cluster()->primary == -1);
    cr_expect_not(resets("other", "there is no cluster \"other\": see SHOW CLUSTERS"));
    cr_expect(resets("", ""));
    AWAIT(cluster()->primary == 1);
    AWAIT(alarm_is(""));
    cr_expect(resets("main", ""));
    cr_expect_eq(cluster()->primary, 1, "what is claimed now counts");
}

Test(monitor, several_clusters_are_kept_apart)
{
    char ini[600];
    struct config *config;

    snprintf(ini, sizeof ini,
             "[cluster one]\nnodes = a=127.0.0.1:1:%u\ncheck_fast_interval = 20ms\n"
             "[cluster two]\nnodes = a=127.0.0.1:2:%u\ncheck_fast_interval = 20ms\n"
             "[listener x]\nbind = 127.0.0.1:15999\ncluster = one\n"
             "[listener y]\nbind = 127.0.0.1:15998\ncluster = two\n",
             address_port(&patroni[0].address), address_port(&patroni[1].address));
    config = load(ini);
    cr_assert(monitor_configure(monitor, config));
    config_release(config);
    AWAIT(monitor_is_ready(monitor));
    AWAIT(topology_cluster(topology, "one")->primary == 0);
    cr_expect_eq(topology_cluster(topology, "two")->primary, -1);
    cr_expect_str_eq(report(1)->cluster, "two");
}

Test(monitor, no_iteration_takes_long)
{
    configure(3, quick, "");
    AWAIT(cluster()->primary == 0);
    for (unsigned i = 0; i < 20; i++) {
        say_primary(i % 3, 6 + i);
        say_replica((i + 1) % 3, 6 + i, 1000);
        say_replica((i + 2) % 3, 6 + i, 1000);
        loop_until(loop, NULL, 30);
    }
    cr_expect_lt(loop_longest_iteration_ms(loop), 20.);
}

Test(monitor, survives_each_allocation_failure_in_configuration)
{
    unsigned n_failed = 0;

    configure(2, quick, "");
    AWAIT(cluster()->primary == 0);
    for (unsigned nth = 1;; nth++) {
        struct config *config = config_with(
            3, quick, "[listener s]\nbind = 127.0.0.1:15998\ncheck_uri = /sync\n");
        bool is_done;

        memory_fail_at = nth;
        is_done = monitor_configure(monitor, config);
        config_release(config);
        if (memory_fail_at != 0) {
            cr_expect(is_done);
            break;
        }
        memory_fail_at = 0;
        n_failed++;
        if (!is_done) {
            cr_expect_eq(cluster()->n_nodes, 2, "the old one goes on");
            cr_expect_eq(cluster()->primary, 0);
        }
    }
    memory_fail_at = 0;
    cr_expect_geq(n_failed, 15);
    AWAIT(node(2)->is_up);
    memory_fail_at = 1;
    cr_expect_null(monitor_new(loop, resolver, on_topology, NULL));
    memory_fail_at = 2;
    cr_expect_null(monitor_new(loop, resolver, on_topology, NULL));
    memory_fail_at = 0;
}

Test(monitor, survives_allocation_failures_in_rounds)
{
    configure(3, quick, "");
    AWAIT(cluster()->primary == 0);
    for (unsigned nth = 1; nth < 60; nth++) {
        memory_fail_at = nth;
        loop_until(loop, NULL, 25);
    }
    memory_fail_at = 0;
    say_primary(1, 6);
    AWAIT(cluster()->primary == 1);
}
