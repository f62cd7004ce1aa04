/* What the stats port answers, over real sockets; the nodes' reports and the workers'
 * counts are made here. */
#include "router/console/pages.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "core/log.h"
#include "core/memory.h"
#include "router/console/web.h"
#include "tests/lib/browser.h"
#include "tests/lib/map.h"
#include "tests/lib/turns.h"

#define BROWSERS 4

static struct loop *loop;
static struct doors doors;
static struct pages *pages;
static struct config *config;
static struct topology *topology;
static struct address address;
static struct browser browsers[BROWSERS];

/* The owner of the pages. */
static struct {
    unsigned n_gathers;
    struct gather *gather; /* under way */
    bool refuses, is_ready;
    unsigned fail_at; /* allocations, from when a gather is home */
} owner;

static bool begin_gathering(void *arg, struct gather *gather)
{
    cr_assert_eq(arg, &owner);
    owner.n_gathers++;
    if (owner.refuses)
        return false;
    owner.gather = gather;
    return true;
}

static void describe(void *arg, struct overview *overview)
{
    cr_assert_eq(arg, &owner);
    overview->config = config;
    overview->topology = topology;
    overview->n_admitted = 123;
}

static bool is_ready(void *arg)
{
    cr_assert_eq(arg, &owner);
    return owner.is_ready;
}

static struct config *config_now(void *arg)
{
    (void)arg;
    return config;
}

static void count_names(void *arg, unsigned *n, unsigned *n_asked)
{
    (void)arg;
    *n = 5;
    *n_asked = 3;
}

static const struct pages_source source = {
    .begin_gathering = begin_gathering,
    .describe = describe,
    .is_ready = is_ready,
    .config = config_now,
    .count_names = count_names,
};

/* In the place of the monitor's: the two nodes of the configuration, and one of a cluster
 * that no listener leads to. */
void monitor_report(const struct monitor *monitor,
                    void (*each)(void *arg, const struct node_report *report), void *arg)
{
    struct node_report report = {
        .cluster = "main", .source = "tcp", .outcome = REPORT_OK};

    (void)monitor;
    for (size_t i = 0; i < 2; i++) {
        report.node = topology->clusters[0].nodes[i];
        each(arg, &report);
    }
    report.cluster = "other";
    each(arg, &report);
}

/* And the rest of it, as little as there may be. */
void monitor_report_clusters(const struct monitor *monitor,
                             void (*each)(void *arg, const struct cluster_report *report),
                             void *arg)
{
    struct cluster_report report = {
        .name = "main", .primary = "", .why_no_primary = "no leader", .alarm = ""};

    (void)monitor;
    each(arg, &report);
}

void monitor_report_switchovers(const struct monitor *monitor, const char *cluster,
                                void (*each)(void *arg,
                                             const struct switchover *switchover),
                                void *arg)
{
    struct switchover over = {.number = 1, .outcome = SWITCHOVER_CHANGED, .to = "n2"};

    (void)monitor;
    cr_assert_str_eq(cluster, "main");
    each(arg, &over);
    over = (struct switchover){.number = 2, .to = "nobody"};
    each(arg, &over);
}

static unsigned n_holds;

uint64_t monitor_hold(struct monitor *monitor, const char *cluster, const char *node,
                      const char *next, enum hold_cause cause, const char *sign,
                      char why[MONITOR_WHY_MAX])
{
    (void)monitor;
    (void)cause;
    cr_assert_str_empty(next);
    cr_assert_str_eq(cluster, "main");
    cr_assert_str_eq(node, "n2");
    cr_assert_str_eq(sign, "POST /hold from 127.0.0.1");
    why[0] = '\0';
    return ++n_holds;
}

bool monitor_release(struct monitor *monitor, const char *cluster, enum hold_cause cause)
{
    (void)monitor;
    (void)cause;
    cr_assert_str_eq(cluster, "main");
    return true;
}

bool monitor_set_word(struct monitor *monitor, const char *cluster, const char *node,
                      enum node_word word, const char *who)
{
    (void)monitor;
    (void)word;
    (void)who;
    return strcmp(cluster, "main") == 0 && strcmp(node, "n2") == 0;
}

struct topology *monitor_topology(const struct monitor *monitor)
{
    (void)monitor;
    return topology;
}

/* The gather has been round all workers. */
static void bring_home(void)
{
    struct gather *gather = owner.gather;
    struct tally *tally;

    owner.gather = NULL;
    tally = tally_get(&gather->tallies, "rw", 1);
    tally->bytes_in = 4711;
    tally = tally_get(&gather->tallies, "rw", 2);
    tally->bytes_in = 1000;
    tally = tally_get(&gather->tallies, "rw", 0);
    tally->waiting_max = 7;
    gather->n_workers = 1;
    memory_fail_at = owner.fail_at;
    gather->on_home(&gather->message, &owner);
}

static void on_client(void *arg, struct door *door, int fd, const struct address *peer)
{
    (void)arg;
    (void)door;
    (void)peer;
    close(fd);
}

static void on_accept_failed(void *arg, int error)
{
    (void)arg;
    (void)error;
}

static void load(void)
{
    struct address free_one = peers_nobody();
    struct text ini, errors;

    address = peers_nobody();
    text_init(&ini, 1000);
    text_init(&errors, 1000);
    text_addf(&ini,
              "[cluster main]\nnodes = n1:5001, n2:5002\ncheck = tcp\n"
              "[listener rw]\nrole = any\nbind = 127.0.0.1:%u\n"
              "[stats]\nbind = 127.0.0.1:%u\nuri = /my/page\ncontrol_token = sesame\n",
              address_port(&free_one), address_port(&address));
    config = config_load_text("test", text_get(&ini), &errors);
    cr_assert_not_null(config, "%s", text_get(&errors));
    cr_assert(doors_configure(&doors, config, NULL, &errors), "%s", text_get(&errors));
    cr_assert(pages_configure(pages, &config->stats, 5, NULL, &errors), "%s",
              text_get(&errors));
    text_clear(&ini);
    text_clear(&errors);
}

static void make_pages(void)
{
    owner.is_ready = true;
    loop = loop_new(false);
    topology = map_new("main", 2);
    doors_init(&doors, loop, on_client, on_accept_failed, NULL);
    pages = pages_new(loop, &doors, NULL, &source, &owner);
    load();
}

static void free_pages(void)
{
    if (owner.gather != NULL)
        bring_home();
    loop_until(loop, NULL, 5);
    pages_free(pages);
    doors_clear(&doors);
    turn(loop, 2);
    loop_free(loop);
    config_release(config);
    topology_release(topology);
}

TestSuite(pages, .init = make_pages, .fini = free_pages, .timeout = 30);

/* Asks, brings a gather home if one is begun, and reads; the answer's status. */
static int ask(const char *what)
{
    struct browser *browser = &browsers[0];

    browser_open(browser, &address);
    browser_say(browser, what);
    browser_say(browser, " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    for (unsigned i = 0; i < 5000 && !browser->has_ended; i++) {
        if (owner.gather != NULL)
            bring_home();
        (void)browser_wait(browser, loop, 2);
    }
    browser_close(browser);
    cr_assert(browser->has_ended);
    return atoi(browser->answer + 9);
}

static bool is_csv(void)
{
    return strncmp(browser_body(&browsers[0]), "# pxname,svname,", 16) == 0;
}

static bool is_html(void)
{
    return strncmp(browser_body(&browsers[0]), "<!doctype html>", 15) == 0;
}

Test(pages, are_served_at_every_path_that_people_and_programs_know)
{
    static const char *const paths[] = {
        "/",           "/stats",           "/haproxy?stats",
        "/my/page",    "/stats?refresh=5", "/stats;norefresh",
        "/my/page;x?y"};

    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        char line[64];

        snprintf(line, sizeof line, "GET %s", paths[i]);
        cr_expect_eq(ask(line), 200, "%s", paths[i]);
        cr_expect(is_html(), "%s: %s", paths[i], browser_body(&browsers[0]));
        cr_expect_not_null(strstr(browsers[0].answer, "Content-Type: text/html"));
    }
}

Test(pages, give_haproxys_table_where_it_is_asked_for)
{
    static const char *const paths[] = {
        "/stats;csv",           "/haproxy?stats;csv",   "/;csv",
        "/my/page;csv",         "/stats;norefresh;csv", "/stats;csv;norefresh",
        "/stats;csv?scope=all",
    };

    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        char line[64];

        snprintf(line, sizeof line, "GET %s", paths[i]);
        cr_expect_eq(ask(line), 200, "%s", paths[i]);
        cr_expect(is_csv(), "%s: %s", paths[i], browser_body(&browsers[0]));
        cr_expect_not_null(strstr(browsers[0].answer, "Content-Type: text/plain"));
    }
    cr_expect_eq(ask("GET /stats;csvx"), 200);
    cr_expect(is_html());
}

Test(pages, say_so_when_there_is_none)
{
    static const char *const paths[] = {"/statsx",   "/my/page/x", "/favicon.ico",
                                        "/haproxy",  "/my",        "//",
                                        "/healthzz", "/STATS"};

    for (size_t i = 0; i < COUNT_OF(paths); i++) {
        char line[64];

        snprintf(line, sizeof line, "GET %s", paths[i]);
        cr_expect_eq(ask(line), 404, "%s", paths[i]);
    }
    cr_expect_eq(owner.n_gathers, 0);
}

Test(pages, are_only_read)
{
    cr_expect_eq(ask("POST /stats"), 403, "nobody may act");
    cr_expect_eq(ask("DELETE /healthz"), 405);
    cr_expect_eq(ask("HEAD /stats"), 200);
    cr_expect_str_eq(browser_body(&browsers[0]), "");
}

/* Its status; `more` are headers and a body. */
static int post(const char *target, const char *more)
{
    struct browser *browser = &browsers[0];
    char line[256];

    snprintf(line, sizeof line, "POST %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n",
             target);
    browser_open(browser, &address);
    browser_say(browser, line);
    browser_say(browser, more);
    cr_assert(browser_wait(browser, loop, 5000));
    browser_close(browser);
    return atoi(browser->answer + 9);
}

Test(pages, take_orders_from_who_has_the_token)
{
    cr_expect_eq(post("/hold?node=n2", "Authorization: Bearer sesame\r\n"
                                       "Content-Length: 0\r\n\r\n"),
                 200);
    cr_expect_not_null(strstr(browsers[0].answer, "Content-Type: application/json\r\n"));
    cr_expect_str_eq(browser_body(&browsers[0]),
                     "{\"cluster\": \"main\", \"node\": \"n2\", \"hold\": 1}\n");
    cr_expect_eq(post("/hold", "Authorization: Bearer sesame\r\n"
                               "Content-Length: 7\r\n\r\nnode=n2"),
                 200);
    cr_expect_eq(n_holds, 2);
    cr_expect_eq(post("/release", "Authorization: Bearer sesame\r\n\r\n"), 200);
    cr_expect_eq(post("/hold", "\r\n"), 401);
    cr_expect_not_null(strstr(browsers[0].answer, "WWW-Authenticate: Bearer "));
    cr_expect_eq(ask("GET /hold"), 405);
    cr_expect_not_null(strstr(browsers[0].answer, "Allow: POST\r\n"));
    cr_expect_eq(n_holds, 2);
}

Test(pages, take_no_long_orders)
{
    static char long_one[WEB_BODY_MAX + 200];
    int n = snprintf(long_one, sizeof long_one,
                     "Authorization: Bearer sesame\r\nContent-Length: %u\r\n\r\n",
                     WEB_BODY_MAX + 1);

    memset(long_one + n, '&', WEB_BODY_MAX + 1);
    cr_expect_eq(post("/hold?node=n2", long_one), 413);
    snprintf(long_one, sizeof long_one,
             "Authorization: Bearer sesame\r\nContent-Length: %u\r\n\r\n", WEB_BODY_MAX);
    memset(long_one + n, '&', WEB_BODY_MAX);
    long_one[(unsigned)n + WEB_BODY_MAX] = '\0';
    cr_expect_eq(post("/hold?node=n2", long_one), 200);
}

Test(pages, tell_of_the_last_switchover)
{
    cr_expect_eq(ask("GET /"), 200);
    cr_expect_not_null(strstr(browser_body(&browsers[0]), "Last switchovers"));
    cr_expect_not_null(strstr(browser_body(&browsers[0]), " &rarr; n2</td>"));
    cr_expect_null(strstr(browser_body(&browsers[0]), "nobody"), "it is under way");
}

Test(pages, tell_whether_the_process_lives_and_is_ready)
{
    cr_expect_eq(ask("GET /healthz"), 200);
    cr_expect_str_eq(browser_body(&browsers[0]), "alive\n");
    cr_expect_eq(ask("GET /readyz"), 200);
    owner.is_ready = false;
    cr_expect_eq(ask("GET /readyz"), 503);
    cr_expect_eq(ask("GET /healthz"), 200);
    cr_expect_eq(owner.n_gathers, 0, "the workers are not asked");
}

Test(pages, show_what_the_workers_have_counted)
{
    cr_expect_eq(ask("GET /stats;csv"), 200);
    cr_expect_not_null(strstr(browser_body(&browsers[0]), "\nrw,FRONTEND,"));
    cr_expect_not_null(strstr(browser_body(&browsers[0]), "\nrw,n1,"));
    cr_expect_not_null(strstr(browser_body(&browsers[0]), ",4711,"));
    cr_expect_not_null(strstr(browser_body(&browsers[0]), "\nrw,BACKEND,0,7,"));
    cr_expect_not_null(strstr(browser_body(&browsers[0]), ",5711,"), "their sum");
    cr_expect_eq(ask("GET /stats"), 200);
    cr_expect_not_null(strstr(browser_body(&browsers[0]), "123 of 1000 clients"));
}

Test(pages, asked_for_at_the_same_time_share_one_picture)
{
    for (unsigned i = 0; i < BROWSERS; i++) {
        browser_open(&browsers[i], &address);
        browser_say(&browsers[i], i % 2 ? "GET /stats;csv" : "GET /");
        browser_say(&browsers[i], " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    }
    loop_until(loop, NULL, 50);
    cr_expect_eq(owner.n_gathers, 1);
    for (unsigned i = 0; i < BROWSERS; i++) {
        browser_read(&browsers[i]);
        cr_expect_eq(browsers[i].n, 0, "not before the counts are here");
    }
    bring_home();
    for (unsigned i = 0; i < BROWSERS; i++) {
        cr_expect(browser_wait(&browsers[i], loop, 5000));
        cr_expect_eq(strncmp(browser_body(&browsers[i]), i % 2 ? "# " : "<!", 2), 0);
        browser_close(&browsers[i]);
    }
    cr_expect_eq(ask("GET /"), 200);
    cr_expect_eq(owner.n_gathers, 2, "the next one gets a new one");
}

Test(pages, that_cannot_be_made_now_say_so)
{
    owner.refuses = true;
    cr_expect_eq(ask("GET /stats"), 503);
    owner.refuses = false;
    cr_expect_eq(ask("GET /stats"), 200);
}

Test(pages, without_all_counts_are_not_shown)
{
    browser_open(&browsers[0], &address);
    browser_say(&browsers[0], "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    loop_until(loop, NULL, 30);
    cr_assert_not_null(owner.gather);
    owner.gather->is_incomplete = true;
    bring_home();
    cr_expect(browser_wait(&browsers[0], loop, 5000));
    cr_expect_eq(atoi(browsers[0].answer + 9), 503);
    browser_close(&browsers[0]);
}

Test(pages, keep_their_address_and_path_when_new_ones_cannot_be_had)
{
    struct endpoint taken = {.host = (char *)(uintptr_t) "192.0.2.1", .port = 1};
    struct stats_config stats = {.uri = (char *)(uintptr_t) "/other",
                                 .auth = (char *)(uintptr_t) "",
                                 .control_token = (char *)(uintptr_t) "",
                                 .admin = (char *)(uintptr_t) "",
                                 .bind = {.items = &taken, .n = 1}};
    struct text errors;

    text_init(&errors, 1000);
    cr_expect_not(pages_configure(pages, &stats, 5, NULL, &errors));
    cr_expect_not_null(strstr(text_get(&errors), "192.0.2.1"));
    text_clear(&errors);
    cr_expect_eq(ask("GET /my/page"), 200);
    cr_expect_eq(ask("GET /other"), 404);
}

/* Looks on until the browser has read `wanted`; false: that does not come. */
static bool is_shown(struct browser *browser, const char *wanted)
{
    for (unsigned i = 0; i < 2500; i++) {
        if (strstr(browser->answer, wanted) != NULL)
            return true;
        if (owner.gather != NULL)
            bring_home();
        (void)browser_wait(browser, loop, 2);
    }
    return false;
}

Test(pages, send_those_who_look_on_what_changes)
{
    struct browser *browser = &browsers[0];

    browser_open(browser, &address);
    browser_say(browser, "GET /live HTTP/1.1\r\nHost: a\r\n\r\n");
    cr_assert(is_shown(browser, "event: section\ndata: threads\n"));
    cr_expect_not_null(strstr(browser->answer, "Content-Type: text/event-stream\r\n"));
    cr_expect_not_null(strstr(browser->answer, "event: section\ndata: summary\n"));
    browser->n = 0;
    browser->answer[0] = '\0';
    LOG(INFO, "something has happened", NUMBER("n", 42));
    cr_assert(is_shown(browser, "something has happened n=42"));
    cr_expect_null(strstr(browser->answer, "data: clusters\n"), "nothing new there");
    cr_expect_not(browser->has_ended);
    browser_close(browser);
}

Test(pages, end_with_somebody_looking_on)
{
    struct browser *browser = &browsers[0];

    browser_open(browser, &address);
    browser_say(browser, "GET /live HTTP/1.1\r\nHost: a\r\n\r\n");
    cr_assert(is_shown(browser, "data: threads\n"));
}

Test(pages, survive_each_allocation_failure)
{
    bool has_failed = true;
    unsigned nth = 0;

    while (has_failed) {
        struct browser *browser = &browsers[0];
        int status;

        browser_open(browser, &address);
        browser_say(browser, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        memory_fail_at = ++nth;
        for (unsigned i = 0; i < 2500 && !browser->has_ended; i++) {
            struct gather *gather = owner.gather;

            owner.gather = NULL;
            if (gather != NULL)
                gather->on_home(&gather->message, &owner);
            (void)browser_wait(browser, loop, 2);
        }
        has_failed = memory_fail_at == 0;
        memory_fail_at = 0;
        cr_assert(browser->has_ended);
        status = browser->n > 0 ? atoi(browser->answer + 9) : 0; /* 0: it ended at once */
        cr_expect(status == 200 ||
                      (has_failed && (status == 0 || status == 500 || status == 503)),
                  "%d when allocation %u failed", status, nth);
        browser_close(browser);
    }
    cr_expect_gt(nth, 4);
}

/* ---- metrics, and what balances ask -------------------------------------------------
 */

static bool says(const char *line)
{
    return strstr(browser_body(&browsers[0]), line) != NULL;
}

Test(pages, metrics_are_of_the_kind_that_was_asked_for)
{
    cr_expect_eq(ask("GET /metrics"), 200);
    cr_expect_not_null(
        strstr(browsers[0].answer, "Content-Type: text/plain; version=0.0.4"));
    cr_expect(says("\n# TYPE haproxy_server_bytes_in_total counter\n"));
    cr_expect(says("\nhaproxy_server_bytes_in_total{proxy=\"rw\",server=\"n1\"} 4711\n"));
    cr_expect(says("\npgbouncer_cached_dns_names 5\n"));
    cr_expect_not(says("# EOF"));
    cr_expect_eq(ask("GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n"
                     "X-Rest:"),
                 200);
    cr_expect_not_null(strstr(browsers[0].answer,
                              "Content-Type: application/openmetrics-text; version=1"));
    cr_expect(says("\n# TYPE haproxy_server_bytes_in counter\n"));
    cr_expect(says("\nhaproxy_server_bytes_in_total{proxy=\"rw\",server=\"n1\"} 4711\n"));
    cr_expect(says("\n# EOF\n"));
}

Test(pages, metrics_without_memory_are_refused)
{
    unsigned n_refused = 0;

    for (unsigned n = 1; n < 60; n++) {
        struct browser *browser = &browsers[1];
        bool was_answered = false;

        browser_open(browser, &address);
        browser_say(browser,
                    "GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        for (unsigned i = 0; i < 1000 && owner.gather == NULL; i++)
            (void)browser_wait(browser, loop, 2);
        cr_assert_not_null(owner.gather);
        owner.fail_at = n;
        bring_home();
        for (unsigned i = 0; i < 2000 && !was_answered; i++)
            was_answered = browser_wait(browser, loop, 2);
        owner.fail_at = memory_fail_at = 0;
        browser_close(browser);
        cr_assert(was_answered);
        n_refused += atoi(browser->answer + 9) != 200;
    }
    cr_expect_gt(n_refused, 10);
}

Test(pages, who_balances_is_told_whether_there_is_a_node)
{
    cr_expect_eq(ask("GET /primary"), 200);
    cr_expect_eq(ask("GET /replica?cluster=main"), 200);
    cr_expect_eq(ask("GET /replica?cluster=mai"), 404);
    owner.is_ready = false;
    cr_expect_eq(ask("GET /primary"), 503);
    owner.is_ready = true;
    topology->clusters[0].nodes[0].is_up = topology->clusters[0].nodes[1].is_up = false;
    cr_expect_eq(ask("GET /primary"), 503);
    cr_expect_eq(ask("GET /replica"), 503);
    cr_expect_eq(owner.n_gathers, 0);
}
