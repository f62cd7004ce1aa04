/* SWITCHOVER over a Patroni of a few lines, and a monitor that sees what the test says.
 */
#include "router/console/switching.h"

#include <criterion/criterion.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "tests/lib/fake_http.h"
#include "tests/lib/loop_until.h"
#include "tests/lib/map.h"
#include "tests/lib/peers.h"

static struct loop *loop;
static struct config *config;
static struct topology *topology;
static struct fake_http patroni;
static struct switching *switching;
static char members[1024];

/* The seen. */
static struct {
    struct switchover record; /* number 0 = there was none */
    bool is_on, refuses, forgets;
    unsigned n_holds, n_releases;
    char primary[NODE_NAME_MAX];
    char leaving[NODE_NAME_MAX], next[NODE_NAME_MAX], sign[SWITCHOVER_SIGN_MAX];
} seen;

/* The answer. */
static struct {
    struct switching_answer answer;
    bool has_come;
    unsigned n;
} got;

struct topology *monitor_topology(const struct monitor *monitor)
{
    (void)monitor;
    return topology;
}

uint64_t monitor_hold(struct monitor *monitor, const char *cluster, const char *node,
                      const char *next, enum hold_cause cause, const char *sign,
                      char why[MONITOR_WHY_MAX])
{
    (void)monitor;
    cr_assert_str_eq(cluster, "main");
    cr_assert_eq(cause, HOLD_BY_COMMAND);
    if (seen.refuses) {
        snprintf(why, MONITOR_WHY_MAX, "not today");
        return 0;
    }
    seen.n_holds++;
    seen.is_on = true;
    seen.record =
        (struct switchover){.number = 7, .cause = cause, .held_ms = loop_now_ms(loop)};
    snprintf(seen.record.from, NODE_NAME_MAX, "%s", node);
    snprintf(seen.record.sign, SWITCHOVER_SIGN_MAX, "%s", sign);
    snprintf(seen.sign, sizeof seen.sign, "%s", sign);
    snprintf(seen.leaving, sizeof seen.leaving, "%s", node);
    snprintf(seen.next, sizeof seen.next, "%s", next);
    return 7;
}

bool monitor_release(struct monitor *monitor, const char *cluster, enum hold_cause cause)
{
    (void)monitor;
    cr_assert_str_eq(cluster, "main");
    cr_assert_eq(cause, HOLD_BY_COMMAND);
    seen.n_releases++;
    return true;
}

void monitor_report_clusters(const struct monitor *monitor,
                             void (*each)(void *arg, const struct cluster_report *report),
                             void *arg)
{
    struct cluster_report report = {.name = "other", .primary = "", .why_no_primary = ""};

    (void)monitor;
    each(arg, &report);
    report.name = "main";
    report.primary = seen.primary;
    report.present = seen.is_on ? &seen.record : NULL;
    each(arg, &report);
}

struct tls_context *monitor_restapi_tls(const struct monitor *monitor,
                                        const char *cluster)
{
    (void)monitor;
    (void)cluster;
    return NULL;
}

void monitor_report_switchovers(const struct monitor *monitor, const char *cluster,
                                void (*each)(void *arg,
                                             const struct switchover *switchover),
                                void *arg)
{
    (void)monitor;
    if (strcmp(cluster, "main") == 0 && seen.record.number != 0 && !seen.forgets)
        each(arg, &seen.record);
}

void monitor_report(const struct monitor *monitor,
                    void (*each)(void *arg, const struct node_report *report), void *arg)
{
    (void)monitor;
    for (size_t i = 0; i < topology->clusters[0].n_nodes; i++) {
        struct node_report report = {.cluster = "main",
                                     .node = topology->clusters[0].nodes[i],
                                     .check_port = address_port(&patroni.address)};

        each(arg, &report);
    }
}

static void on_end(void *arg, const struct switching_answer *answer)
{
    cr_assert_eq(arg, &got);
    got.answer = *answer;
    got.has_come = true;
    got.n++;
}

static struct config *load(const char *ini)
{
    struct text errors;
    struct config *loaded;

    text_init(&errors, 1000);
    loaded = config_load_text("test", ini, &errors);
    cr_assert_not_null(loaded, "%s", text_get(&errors));
    text_clear(&errors);
    return loaded;
}

static void open_all(void)
{
    static const char ini[] =
        "[cluster main]\nnodes = n1=127.0.0.1:5001:1, n2=127.0.0.1:5002:1\n"
        "switchover_drain_timeout = 100ms\nrestapi_user = admin\nrestapi_password = s\n"
        "[listener rw]\nbind = 127.0.0.1:1\ncluster = main\nrole = primary\n";

    loop = loop_new(false);
    config = load(ini);
    topology = map_new("main", 2);
    fake_http_open(&patroni, loop, "127.0.0.1", 0);
    for (size_t i = 0; i < 2; i++)
        strcpy(topology->clusters[0].nodes[i].host, "127.0.0.1");
    snprintf(
        members, sizeof members,
        "{\"members\": [{\"name\": \"pg-1\", \"role\": \"leader\", \"host\": "
        "\"127.0.0.1\", \"port\": 5001}, {\"name\": \"pg-2\", \"role\": \"replica\", "
        "\"host\": \"127.0.0.1\", \"port\": 5002}]}");
    patroni.body = members;
    strcpy(seen.primary, "n1");
    switching = switching_new(loop, NULL);
    cr_assert_not_null(switching);
}

static void close_all(void)
{
    switching_free(switching);
    fake_http_close(&patroni);
    topology_release(topology);
    config_release(config);
    loop_finish(loop);
    loop_free(loop);
}

TestSuite(switching, .init = open_all, .fini = close_all, .timeout = 30);

static void begin(const char *text)
{
    struct switchover_order order;
    const char *why;

    cr_assert(order_read(text, strlen(text), &order, &why));
    got.has_come = false;
    switching_begin(switching, config, &order, "alice", on_end, &got);
}

static void wait_for_answer(void)
{
    cr_assert(loop_until(loop, &got.has_come, 10000));
}

static void expect_error(const char *sqlstate, const char *why)
{
    cr_assert_not_null(got.answer.sqlstate, "it was done");
    cr_expect_str_eq(got.answer.sqlstate, sqlstate);
    cr_expect_not_null(strstr(got.answer.why, why), "%s", got.answer.why);
}

static void expect_refusal(const char *text, const char *sqlstate, const char *why)
{
    begin(text);
    cr_expect(got.has_come, "%s: at once", text);
    expect_error(sqlstate, why);
    cr_expect_eq(seen.n_holds, 0, "%s: nobody was held", text);
}

/* Until Patroni was asked for `path`. */
static void wait_for_request(const char *what)
{
    for (unsigned i = 0; i < 5000 && strncmp(patroni.request, what, strlen(what)) != 0;
         i++)
        loop_until(loop, NULL, 2);
    cr_assert_eq(strncmp(patroni.request, what, strlen(what)), 0, "%s", patroni.request);
}

static void wait_for_hold(void)
{
    for (unsigned i = 0; i < 5000 && seen.n_holds == 0; i++)
        loop_until(loop, NULL, 2);
    cr_assert_eq(seen.n_holds, 1);
}

static void end_hold(enum switchover_outcome outcome, const char *to)
{
    uint64_t now_ms = loop_now_ms(loop) + 1;

    seen.record.outcome = outcome;
    seen.record.gone_ms = seen.record.proven_ms = now_ms;
    seen.record.ended_ms = now_ms;
    snprintf(seen.record.to, NODE_NAME_MAX, "%s", to);
    snprintf(seen.primary, sizeof seen.primary, "%s", to);
    seen.is_on = false;
}

/* ---- it works ---- */

Test(switching, holds_asks_and_tells_each_step)
{
    static const char *const names[] = {"held",   "drained", "asked", "gone",
                                        "proven", "ended",   "lent"};

    begin("to n2");
    wait_for_hold();
    cr_expect_str_eq(seen.leaving, "n1");
    cr_expect_str_eq(seen.next, "n2");
    cr_expect_str_eq(seen.sign, "SWITCHOVER by alice");
    patroni.status = 200;
    patroni.body = "Successfully switched over to \"pg-2\"";
    seen.record.drained_ms = seen.record.held_ms + 1;
    wait_for_request("POST /switchover ");
    cr_expect_not_null(
        strstr(patroni.request, "\r\nAuthorization: Basic YWRtaW46cw==\r\n"));
    cr_expect_not_null(
        strstr(patroni.request, "{\"leader\": \"pg-1\", \"candidate\": \"pg-2\"}"));
    cr_expect_not(got.has_come);
    end_hold(SWITCHOVER_CHANGED, "n2");
    seen.record.lent_ms = seen.record.ended_ms + 3;
    wait_for_answer();
    cr_assert_null(got.answer.sqlstate, "%s", got.answer.why);
    cr_assert_eq(got.answer.n_steps, COUNT_OF(names));
    for (size_t i = 0; i < COUNT_OF(names); i++)
        cr_expect_str_eq(got.answer.steps[i].name, names[i]);
    cr_expect_eq(got.answer.steps[0].ms, 0);
    cr_expect_eq(got.answer.steps[1].ms, 1);
    cr_expect_str_eq(got.answer.steps[3].detail, "n1");
    cr_expect_str_eq(got.answer.steps[4].detail, "n2");
    cr_expect_eq(got.answer.steps[6].ms, got.answer.steps[5].ms + 3);
    cr_expect_eq(seen.n_releases, 0, "another node's proof ends it");
    cr_expect_eq(got.n, 1);
}

Test(switching, asks_for_any_node_when_none_is_named)
{
    begin("");
    wait_for_hold();
    patroni.body = "";
    seen.record.drained_ms = 1;
    wait_for_request("POST /switchover ");
    cr_expect_not_null(strstr(patroni.request, "\r\n\r\n{\"leader\": \"pg-1\"}"));
    end_hold(SWITCHOVER_CHANGED, "n2");
    wait_for_answer();
    cr_expect_null(got.answer.sqlstate, "though nobody has borrowed a server");
    cr_expect_eq(got.answer.n_steps, 6);
}

Test(switching, leaves_transactions_no_more_time_than_it_is_told)
{
    begin("timeout 150ms");
    wait_for_hold();
    patroni.body = "";
    loop_until(loop, NULL, 60);
    cr_expect_eq(strncmp(patroni.request, "GET /cluster ", 13), 0, "they go on");
    wait_for_request("POST /switchover ");
    cr_expect_geq(loop_now_ms(loop) - seen.record.held_ms, 140);
    end_hold(SWITCHOVER_CHANGED, "n2");
    wait_for_answer();
    cr_assert_null(got.answer.sqlstate);
    cr_expect_str_eq(got.answer.steps[1].name, "asked", "they were not drained");
}

Test(switching, is_woken_by_a_change)
{
    begin("");
    wait_for_hold();
    switching_wake(switching);
    loop_until(loop, NULL, 2);
    switching_wake(switching);
    switching_free(switching);
    switching = NULL;
    cr_assert(got.has_come);
    expect_error("57P01", "shutting down");
    cr_expect_eq(seen.n_releases, 1);
    switching_wake(switching = switching_new(loop, NULL));
}

/* ---- what cannot be ---- */

Test(switching, what_is_asked_for_wrongly_is_said_to_be_so)
{
    expect_refusal("other", "42704", "there is no cluster \"other\"");
    expect_refusal("to n3", "42704", "cluster \"main\" has no node \"n3\"");
    expect_refusal("to n1", "55000", "node \"n1\" is the primary already");
    topology->clusters[0].primary = -1;
    strcpy(topology->clusters[0].why_no_primary, "nobody answers");
    expect_refusal("main", "55000", "has no primary: nobody answers");
    topology->clusters[0].primary = 0;
    seen.is_on = true;
    seen.record = (struct switchover){
        .number = 1, .cause = HOLD_BY_REQUEST, .sign = "etcd says so"};
    expect_refusal("main", "55006", "changing already: etcd says so");
    cr_expect_eq(patroni.n_requests, 0);
}

Test(switching, which_cluster_must_be_clear)
{
    config_release(config);
    config = load("[cluster main]\nnodes = 127.0.0.1:5001:1\n"
                  "[cluster two]\nnodes = 127.0.0.2:5001\ncheck = postgres\n"
                  "check_user = x\n"
                  "[listener rw]\nbind = 127.0.0.1:1\ncluster = main\nrole = primary\n");
    expect_refusal("", "42704", "several clusters");
    expect_refusal("two", "55000", "not checked by Patroni");
    config_release(config);
    config =
        load("[databases]\nx = host=127.0.0.1 port=5001\n"
             "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = 1\nauth_type = any\n");
    expect_refusal("", "42704", "there is no [cluster]");
}

Test(switching, one_at_a_time)
{
    begin("");
    expect_refusal("to n2", "55006", "under way already");
    got.has_come = false;
    wait_for_hold();
    begin("");
    cr_expect(got.has_come);
    expect_error("55006", "under way already");
    cr_expect_eq(seen.n_holds, 1);
}

static void expect_failure_before_hold(const char *text, const char *why)
{
    begin(text);
    wait_for_answer();
    expect_error("55000", why);
    cr_expect_eq(seen.n_holds, 0, "%s", why);
}

Test(switching, patroni_is_asked_who_is_who_before_anybody_is_held)
{
    patroni.body = "{\"members\": []}";
    expect_failure_before_hold("", "no member that is node \"n1\"");
    patroni.body = "{\"members\": [{\"name\": \"n1\", \"role\": \"replica\"}, "
                   "{\"name\": \"x\", \"role\": \"leader\"}]}";
    expect_failure_before_hold("", "not name node \"n1\" the leader, but \"x\"");
    patroni.body = "{\"members\": [{\"name\": \"n1\", \"role\": \"leader\"}]}";
    expect_failure_before_hold("to n2", "no member that is node \"n2\"");
    patroni.body =
        "{\"members\": [{\"name\": \"n1\", \"role\": \"leader\"}], \"pause\": true}";
    expect_failure_before_hold("", "Patroni is paused: name the node");
    patroni.body = "<html>";
    expect_failure_before_hold("", "does not tell its members (HTTP status 200)");
    patroni.body = "{\"members\": []}";
    patroni.status = 502;
    expect_failure_before_hold("", "does not tell its members (HTTP status 502)");
    patroni.behaviour = FAKE_RESETS;
    expect_failure_before_hold("", "Patroni of node \"n1\" does not answer: ");
    patroni.behaviour = FAKE_ANSWERS;
    patroni.status = 200;
    patroni.body = members;
    seen.refuses = true;
    expect_failure_before_hold("", "not today");
}

Test(switching, another_address_is_tried_where_one_refuses)
{
    struct topology_node *node = &topology->clusters[0].nodes[0];

    node->addresses[1] = node->addresses[0];
    cr_assert(address_parse("127.0.0.77", 5001, &node->addresses[0]));
    node->n_addresses = 2;
    begin("");
    wait_for_hold();
    patroni.body = "";
    wait_for_request("POST /switchover ");
}

/* ---- what Patroni refuses, and does not do ---- */

static void begin_asked(int status, const char *answer)
{
    begin("to n2");
    wait_for_hold();
    patroni.status = status;
    patroni.body = answer;
    seen.record.drained_ms = 1;
}

Test(switching, a_refusal_ends_the_hold_at_once_in_patronis_words)
{
    begin_asked(412, "candidate name does not match\r\n");
    wait_for_answer();
    expect_error("55000", "Patroni has not switched over: candidate name does not match "
                          "(HTTP status 412)");
    cr_expect_eq(seen.n_releases, 1);
}

Test(switching, a_refusal_for_want_of_a_password_says_which)
{
    begin_asked(401, "not authenticated");
    wait_for_answer();
    expect_error("55000", "not authenticated (HTTP status 401); see restapi_user");
}

Test(switching, a_failure_after_all_ends_the_hold)
{
    begin_asked(503, "Switchover failed");
    wait_for_answer();
    expect_error("55000", "Switchover failed (HTTP status 503)");
    cr_expect_eq(seen.n_releases, 1);
}

Test(switching, an_answer_that_leaves_it_open_is_waited_for_a_while)
{
    begin_asked(503, "Switchover status unknown");
    wait_for_request("POST ");
    loop_until(loop, NULL, 500);
    cr_expect_not(got.has_come);
    wait_for_answer();
    expect_error("55000",
                 "still the primary, and Patroni's answer was: Switchover status");
    cr_expect_eq(seen.n_releases, 1);
}

Test(switching, a_lost_answer_does_not_stop_what_has_begun)
{
    begin_asked(0, NULL);
    patroni.behaviour = FAKE_RESETS;
    wait_for_request("POST ");
    loop_until(loop, NULL, 20);
    seen.record.gone_ms = loop_now_ms(loop);
    seen.primary[0] = '\0';
    loop_until(loop, NULL, 2500);
    cr_expect_not(got.has_come, "the monitor knows how long");
    end_hold(SWITCHOVER_CHANGED, "n2");
    wait_for_answer();
    cr_expect_null(got.answer.sqlstate, "%s", got.answer.why);
}

Test(switching, the_old_primary_may_be_the_new_one)
{
    begin_asked(200, "well");
    wait_for_request("POST ");
    end_hold(SWITCHOVER_STAYED, "n1");
    wait_for_answer();
    expect_error("55000", "node \"n1\" is the primary as before");
}

Test(switching, a_third_node_is_not_what_was_asked_for)
{
    begin_asked(200, "");
    wait_for_request("POST ");
    end_hold(SWITCHOVER_CHANGED, "n3");
    wait_for_answer();
    expect_error("55000", "node \"n3\" has become the primary, not \"n2\"");
}

Test(switching, a_hold_that_times_out_is_told)
{
    begin_asked(200, "Successfully");
    wait_for_request("POST ");
    loop_until(loop, NULL, 50);
    end_hold(SWITCHOVER_TIMED_OUT, "");
    wait_for_answer();
    expect_error("55000", "no primary was proven in time; Patroni says: Successfully");
    cr_expect_eq(seen.n_releases, 0);
}

Test(switching, bears_a_reload_that_drops_the_cluster)
{
    begin("");
    wait_for_hold();
    seen.forgets = true;
    seen.is_on = false;
    wait_for_answer();
    expect_error("55000", "cluster \"main\" is configured no more");
}

Test(switching, survives_each_allocation_failure)
{
    bool has_failed = true;
    unsigned nth = 0;

    while (has_failed) {
        memory_fail_at = ++nth;
        begin("other");
        has_failed = memory_fail_at == 0;
        memory_fail_at = 0;
        cr_assert(got.has_come);
        cr_assert_not_null(got.answer.sqlstate);
    }
    for (has_failed = true, nth = 0; has_failed;) {
        memset(patroni.request, 0, sizeof patroni.request);
        patroni.body = "{\"members\": []}";
        memory_fail_at = ++nth;
        begin("");
        loop_until(loop, &got.has_come, 5000);
        has_failed = memory_fail_at == 0;
        memory_fail_at = 0;
        cr_assert(got.has_come, "%u", nth);
        cr_assert_not_null(got.answer.sqlstate);
    }
    cr_expect_gt(nth, 2);
}
