/* Over real sockets on loopback: the stats port's HTTP. */
#include "router/console/web.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <sys/un.h>

#include "core/memory.h"
#include "core/socket.h"
#include "tests/lib/browser.h"
#include "tests/lib/turns.h"

#define BROWSERS 5

static struct loop *loop;
static struct web *web;
static struct browser browsers[BROWSERS];
static struct address addresses[3]; /* that are free */
static struct endpoint endpoints[3];

/* The requests that were handed up. */
static struct web_request *waiting[BROWSERS];
static unsigned n_waiting, n_requests;
static char target[256], method[16];
static bool answers_at_once, has_come;
static char body[WEB_BODY_MAX + 1], authorization[64];
static bool body_is_too_long;
static struct address peer;

static void answer(struct web_request *request, unsigned status, const char *words)
{
    struct text text;

    text_init(&text, 1000);
    text_add(&text, words);
    web_answer(request, status, "text/plain", &text);
    text_clear(&text);
}

static void on_request(void *arg, struct web_request *request)
{
    cr_assert_eq(arg, &waiting);
    n_requests++;
    has_come = true;
    snprintf(target, sizeof target, "%s", web_target(request));
    snprintf(method, sizeof method, "%s", web_method(request));
    snprintf(body, sizeof body, "%s", web_body(request, &body_is_too_long));
    snprintf(authorization, sizeof authorization, "%s", web_authorization(request));
    (void)web_peer(request, &peer);
    if (answers_at_once)
        answer(request, 200, "at once");
    else
        waiting[n_waiting++] = request;
}

static void answer_all(const char *words)
{
    while (n_waiting > 0)
        answer(waiting[--n_waiting], 200, words);
}

static struct text errors;

static bool configure(size_t from, size_t n)
{
    struct endpoint_list list = {.items = endpoints + from, .n = n};

    text_clear(&errors);
    return web_configure(web, &(struct web_places){&list, 0700, 5}, &errors);
}

static void make_web(void)
{
    loop = loop_new(false);
    web = web_new(loop, on_request, &waiting);
    text_init(&errors, 1000);
    for (unsigned i = 0; i < 3; i++) {
        addresses[i] = peers_nobody();
        endpoints[i].host = (char *)(uintptr_t) "127.0.0.1";
        endpoints[i].port = address_port(&addresses[i]);
    }
    answers_at_once = true;
}

static void free_web(void)
{
    answer_all("the end");
    turn(loop, 5);
    web_free(web);
    turn(loop, 2);
    loop_free(loop);
    text_clear(&errors);
}

TestSuite(web, .init = make_web, .fini = free_web, .timeout = 30);

static int ask(const char *what)
{
    return browser_ask(&browsers[0], loop, &addresses[0], what);
}

Test(web, hands_requests_up_as_they_were_asked)
{
    cr_assert(configure(0, 1));
    cr_expect_eq(ask("GET /stats;csv;norefresh?a=b&c"), 200);
    cr_expect_str_eq(target, "/stats;csv;norefresh?a=b&c");
    cr_expect_str_eq(method, "GET");
    cr_expect_str_eq(browser_body(&browsers[0]), "at once");
    cr_expect_eq(ask("GET /haproxy?stats;csv"), 200);
    cr_expect_str_eq(target, "/haproxy?stats;csv");
    cr_expect_eq(ask("DELETE /"), 200);
    cr_expect_str_eq(method, "DELETE");
}

Test(web, sends_headers_that_keep_browsers_from_mischief)
{
    cr_assert(configure(0, 1));
    ask("GET /");
    cr_expect_not_null(strstr(browsers[0].answer, "Content-Type: text/plain\r\n"));
    cr_expect_not_null(strstr(browsers[0].answer, "Cache-Control: no-cache\r\n"));
    cr_expect_not_null(strstr(browsers[0].answer, "X-Content-Type-Options: nosniff\r\n"));
    cr_expect_not_null(
        strstr(browsers[0].answer, "Content-Security-Policy: default-src 'none'"));
}

Test(web, answers_a_head_without_a_body)
{
    cr_assert(configure(0, 1));
    cr_expect_eq(ask("HEAD /"), 200);
    cr_expect_str_eq(browser_body(&browsers[0]), "");
    cr_expect_not_null(strstr(browsers[0].answer, "Content-Length: 7\r\n"));
}

Test(web, has_requests_wait_for_their_answers)
{
    answers_at_once = false;
    cr_assert(configure(0, 1));
    for (unsigned i = 0; i < BROWSERS; i++) {
        browser_open(&browsers[i], &addresses[0]);
        browser_say(&browsers[i],
                    "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        has_come = false;
        cr_assert(loop_until(loop, &has_come, 5000));
    }
    loop_until(loop, NULL, 20);
    for (unsigned i = 0; i < BROWSERS; i++) {
        browser_read(&browsers[i]);
        cr_expect_eq(browsers[i].n, 0);
    }
    answer_all("later");
    for (unsigned i = 0; i < BROWSERS; i++) {
        cr_expect(browser_wait(&browsers[i], loop, 5000));
        cr_expect_str_eq(browser_body(&browsers[i]), "later");
        browser_close(&browsers[i]);
    }
}

static unsigned n_iterations;

static void count_iteration(struct ev_loop *ev, ev_check *check, int events)
{
    (void)ev;
    (void)check;
    (void)events;
    n_iterations++;
}

static void on_time_up(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)timer;
    (void)events;
    ev_break(ev, EVBREAK_ALL);
}

/* A request with nothing to say must not keep the loop busy. */
Test(web, costs_nothing_while_requests_wait)
{
    ev_check check;
    ev_timer time_up;

    answers_at_once = false;
    cr_assert(configure(0, 1));
    browser_open(&browsers[0], &addresses[0]);
    browser_say(&browsers[0], "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    cr_assert(loop_until(loop, &has_come, 5000));
    turn(loop, 3);
    ev_check_init(&check, count_iteration);
    ev_check_start(loop->ev, &check);
    ev_timer_init(&time_up, on_time_up, 0.2, 0.);
    ev_timer_start(loop->ev, &time_up);
    ev_run(loop->ev, 0);
    ev_check_stop(loop->ev, &check);
    cr_expect_leq(n_iterations, 5, "%u", n_iterations);
    answer_all("later");
    cr_expect(browser_wait(&browsers[0], loop, 5000));
    browser_close(&browsers[0]);
}

Test(web, bears_a_client_that_leaves_while_it_waits)
{
    answers_at_once = false;
    cr_assert(configure(0, 1));
    browser_open(&browsers[0], &addresses[0]);
    browser_say(&browsers[0], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    cr_assert(loop_until(loop, &has_come, 5000));
    browser_close(&browsers[0]);
    loop_until(loop, NULL, 10);
    answer_all("to nobody");
    loop_until(loop, NULL, 10);
    answers_at_once = true;
    cr_expect_eq(ask("GET /"), 200);
}

Test(web, serves_several_requests_of_a_connection)
{
    cr_assert(configure(0, 1));
    browser_open(&browsers[0], &addresses[0]);
    browser_say(&browsers[0], "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n"
                              "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"
                              "GET /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    cr_expect(browser_wait(&browsers[0], loop, 5000));
    cr_expect_eq(n_requests, 3);
    cr_expect_str_eq(target, "/3");
    browser_close(&browsers[0]);
}

Test(web, reads_requests_byte_by_byte_and_spills_bodies)
{
    static const char request[] = "POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
                                  "Content-Length: 10\r\n\r\n0123456789";

    cr_assert(configure(0, 1));
    browser_open(&browsers[0], &addresses[0]);
    for (size_t i = 0; i < sizeof request - 1; i++) {
        cr_assert_eq(peers_write(browsers[0].fd, request + i, 1), 1);
        turn(loop, 2);
    }
    cr_expect(browser_wait(&browsers[0], loop, 5000));
    cr_expect_eq(n_requests, 1);
    cr_expect_str_eq(body, "0123456789");
    cr_expect_not(body_is_too_long);
    cr_expect_str_eq(authorization, "");
    cr_expect_eq(peer.sa.sa_family, AF_INET);
    cr_expect_eq(peer.in.sin_addr.s_addr, addresses[0].in.sin_addr.s_addr);
    cr_expect_str_eq(browser_body(&browsers[0]), "at once");
    browser_close(&browsers[0]);
}

Test(web, closes_on_who_sends_without_end)
{
    static char piece[8192];

    cr_assert(configure(0, 1));
    browser_open(&browsers[0], &addresses[0]);
    browser_say(&browsers[0], "POST / HTTP/1.1\r\nHost: a\r\nAuthorization: x\r\n"
                              "Transfer-Encoding: chunked\r\n\r\n");
    memset(piece, 'x', sizeof piece);
    for (unsigned i = 0; i < 1000 && !browsers[0].has_ended; i++) {
        (void)!send(browsers[0].fd, "2000\r\n", 6, MSG_NOSIGNAL);
        (void)!send(browsers[0].fd, piece, sizeof piece, MSG_NOSIGNAL);
        (void)!send(browsers[0].fd, "\r\n", 2, MSG_NOSIGNAL);
        loop_until(loop, NULL, 2);
        browser_read(&browsers[0]);
    }
    cr_expect(browsers[0].has_ended);
    cr_expect_eq(n_requests, 0);
    browser_close(&browsers[0]);
}

Test(web, bears_garbage)
{
    static const char *const words[] = {
        "\r\n\r\n\r\n",
        "GET\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
    };

    cr_assert(configure(0, 1));
    for (size_t i = 0; i < COUNT_OF(words); i++) {
        browser_open(&browsers[0], &addresses[0]);
        browser_say(&browsers[0], words[i]);
        loop_until(loop, NULL, 5);
        browser_close(&browsers[0]);
    }
    cr_expect_eq(ask("GET /"), 200);
}

Test(web, refuses_a_request_that_is_too_long)
{
    static char line[40000];

    cr_assert(configure(0, 1));
    snprintf(line, sizeof line, "GET /%0*d", 30000, 0);
    cr_expect_geq(ask(line), 400);
    cr_expect_eq(n_requests, 0);
}

/* ---- opening and closing ------------------------------------------------------------
 */

static bool is_served(unsigned i)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool connected = connect(fd, &addresses[i].sa, address_length(&addresses[i])) == 0;

    close(fd);
    turn(loop, 2);
    return connected;
}

Test(web, listens_where_it_is_told_and_no_longer_elsewhere)
{
    cr_assert(configure(0, 2));
    cr_expect(is_served(0) && is_served(1) && !is_served(2));
    cr_assert(configure(1, 2));
    cr_expect(!is_served(0) && is_served(1) && is_served(2));
    cr_assert(configure(0, 0));
    cr_expect(!is_served(0) && !is_served(1) && !is_served(2));
}

Test(web, changes_whole_or_not_at_all)
{
    int fd = peers_listen("127.0.0.1", 5, &addresses[2]);

    endpoints[2].port = address_port(&addresses[2]);
    cr_assert(configure(0, 1));
    cr_expect_not(configure(1, 2));
    cr_expect_not_null(strstr(text_get(&errors), "[stats]: cannot listen on 127.0.0.1:"));
    cr_expect_not_null(strstr(text_get(&errors), "Address already in use"));
    cr_expect(is_served(0));
    cr_expect_not(is_served(1));
    close(fd);
    cr_expect(configure(1, 2), "%s", text_get(&errors));
}

Test(web, moves_to_an_address_that_overlaps_its_own)
{
    struct endpoint wide = {.host = (char *)(uintptr_t) "*", .port = endpoints[0].port};
    struct endpoint_list list = {.items = &wide, .n = 1};
    int others[SOCKETS_PER_ENDPOINT];

    cr_assert(configure(0, 1));
    cr_expect(web_configure(web, &(struct web_places){&list, 0700, 5}, &errors), "%s",
              text_get(&errors));
    cr_expect(is_served(0));
    cr_expect(configure(0, 1), "and back: %s", text_get(&errors));
    cr_expect(is_served(0));
    cr_expect_eq(socket_listen(&endpoints[0], 5, 0777, false, others), 0,
                 "a second program is told so");
}

Test(web, answers_those_who_wait_at_an_address_that_goes)
{
    answers_at_once = false;
    cr_assert(configure(0, 1));
    browser_open(&browsers[0], &addresses[0]);
    browser_say(&browsers[0], "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    cr_assert(loop_until(loop, &has_come, 5000));
    cr_assert(configure(1, 1));
    turn(loop, 5);
    answer_all("still");
    cr_expect(browser_wait(&browsers[0], loop, 5000));
    cr_expect_str_eq(browser_body(&browsers[0]), "still");
    browser_close(&browsers[0]);
}

Test(web, serves_a_unix_socket)
{
    char path[] = "/tmp/unit-web-XXXXXX";
    struct sockaddr_un name = {.sun_family = AF_UNIX};

    cr_assert_not_null(mkdtemp(path));
    snprintf(name.sun_path, sizeof name.sun_path, "%s/s", path);
    endpoints[0] = (struct endpoint){.path = name.sun_path};
    cr_assert(configure(0, 1), "%s", text_get(&errors));
    browsers[0].fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(browsers[0].fd, (struct sockaddr *)&name, sizeof name), 0);
    browser_say(&browsers[0], "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    cr_expect(browser_wait(&browsers[0], loop, 5000));
    cr_expect_str_eq(browser_body(&browsers[0]), "at once");
    browser_close(&browsers[0]);
    cr_assert(configure(1, 1));
    turn(loop, 3);
    cr_expect_neq(access(name.sun_path, F_OK), 0, "the file goes with it");
    rmdir(path);
}

Test(web, none_is_fine_to_free)
{
    web_free(NULL);
}

Test(web, survives_each_allocation_failure)
{
    bool has_failed = true;
    unsigned nth = 0;

    while (has_failed) {
        memory_fail_at = ++nth;
        cr_expect_eq(configure(0, 1), is_served(0), "%u", nth);
        has_failed = memory_fail_at == 0;
        memory_fail_at = 0;
        cr_assert(configure(0, 0));
        turn(loop, 2);
    }
    cr_expect_gt(nth, 2);
}
