#include "core/resolver.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/memory.h"
#include "tests/lib/loop_until.h"

/* ---- a name server of one name in the test's own loop ---- */

#define TYPE_A 1
#define TYPE_AAAA 28

static struct loop *loop;
static struct resolver *resolver;
static char servers_file[64];

static struct name_server {
    int fd;
    ev_io watcher;
    uint16_t port;
    bool is_silent;
    unsigned char rcode;       /* 0 = fine, 2 = failure, 3 = no such name */
    const char *addresses[12]; /* of A records, up to NULL */
    const char *six;           /* of an AAAA record, or NULL */
    uint32_t ttl_s;
    unsigned n_questions; /* for A records */
} server, second;

static void put16(unsigned char **at, unsigned value)
{
    *(*at)++ = (unsigned char)(value >> 8);
    *(*at)++ = (unsigned char)value;
}

static void put_record(unsigned char **at, unsigned type, int family, const char *address,
                       uint32_t ttl_s)
{
    size_t length = family == AF_INET ? 4 : 16;

    put16(at, 0xc00c); /* the name of the question */
    put16(at, type);
    put16(at, 1);
    put16(at, ttl_s >> 16);
    put16(at, ttl_s & 0xffff);
    put16(at, (unsigned)length);
    cr_assert_eq(inet_pton(family, address, *at), 1);
    *at += length;
}

static void on_question(struct ev_loop *ev, ev_io *watcher, int events)
{
    struct name_server *self = CONTAINER_OF(watcher, struct name_server, watcher);
    unsigned char message[1024], *at;
    struct sockaddr_in from;
    socklen_t from_length = sizeof from;
    size_t question_end = 12;
    unsigned type, n = 0;
    ssize_t length =
        recvfrom(self->fd, message, 512, 0, (struct sockaddr *)&from, &from_length);

    (void)ev;
    (void)events;
    cr_assert_gt(length, 16);
    while (message[question_end] != 0)
        question_end += message[question_end] + 1u;
    question_end += 5;
    type = message[question_end - 3];
    self->n_questions += type == TYPE_A;
    if (self->is_silent)
        return;
    at = message + question_end;
    for (; type == TYPE_A && self->rcode == 0 && self->addresses[n] != NULL; n++)
        put_record(&at, TYPE_A, AF_INET, self->addresses[n], self->ttl_s);
    if (type == TYPE_AAAA && self->rcode == 0 && self->six != NULL) {
        put_record(&at, TYPE_AAAA, AF_INET6, self->six, self->ttl_s);
        n = 1;
    }
    message[2] = 0x81;
    message[3] = (unsigned char)(0x80 | self->rcode);
    memset(message + 6, 0, 6);
    message[7] = (unsigned char)n;
    (void)!sendto(self->fd, message, (size_t)(at - message), 0, (struct sockaddr *)&from,
                  from_length);
}

static void open_server(struct name_server *self, const char *host, uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t length = sizeof address;

    *self = (struct name_server){.ttl_s = 60};
    inet_pton(AF_INET, host, &address.sin_addr);
    self->fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(self->fd, (struct sockaddr *)&address, length), 0);
    cr_assert_eq(getsockname(self->fd, (struct sockaddr *)&address, &length), 0);
    self->port = ntohs(address.sin_port);
    ev_io_init(&self->watcher, on_question, self->fd, EV_READ);
    ev_io_start(loop->ev, &self->watcher);
}

static void close_server(struct name_server *self)
{
    ev_io_stop(loop->ev, &self->watcher);
    close(self->fd);
}

static void write_servers(const char *host)
{
    FILE *file = fopen(servers_file, "w");

    cr_assert_not_null(file);
    fprintf(file, "nameserver %s\noptions ndots:1\n", host);
    fclose(file);
}

/* ---- watchers ---- */

struct watcher {
    struct resolver_watch *watch;
    bool has_news;
    unsigned n_news;
    struct address addresses[RESOLVER_ADDRESSES_MAX];
    size_t n;
    char error[64];
    bool leaves; /* after the first news */
};

static void on_change(void *arg, const struct address *addresses, size_t n,
                      const char *error)
{
    struct watcher *watcher = arg;

    watcher->has_news = true;
    watcher->n_news++;
    memcpy(watcher->addresses, addresses, n * sizeof *addresses);
    watcher->n = n;
    snprintf(watcher->error, sizeof watcher->error, "%s", error == NULL ? "" : error);
    cr_assert_eq(n == 0, error != NULL);
    if (watcher->leaves) {
        resolver_unwatch(watcher->watch);
        watcher->watch = NULL;
    }
}

static void watch(struct watcher *watcher, const char *host)
{
    watcher->watch = resolver_watch(resolver, host, on_change, watcher);
    cr_assert_not_null(watcher->watch);
    cr_assert_not(watcher->has_news, "never from within the call");
}

static void await_news(struct watcher *watcher)
{
    cr_assert(loop_until(loop, &watcher->has_news, 10000));
    watcher->has_news = false;
}

static void expect_address(const struct watcher *watcher, size_t i, const char *host)
{
    char text[ADDRESS_TEXT_MAX];

    cr_expect_str_eq(address_print_host(&watcher->addresses[i], text), host);
    cr_expect_eq(address_port(&watcher->addresses[i]), 0);
}

static void open_all(void)
{
    int fd;

    loop = loop_new(false);
    cr_assert_not_null(loop);
    open_server(&server, "127.0.0.53", 0);
    snprintf(servers_file, sizeof servers_file, "/tmp/test_resolver.XXXXXX");
    fd = mkstemp(servers_file);
    cr_assert_geq(fd, 0);
    close(fd);
    write_servers("127.0.0.53");
    resolver = resolver_new(loop);
    cr_assert_not_null(resolver);
    resolver_set_servers(resolver, servers_file, server.port);
    resolver_set_ttl(resolver, 100, 60000);
}

static void close_all(void)
{
    resolver_free(resolver);
    close_server(&server);
    unlink(servers_file);
    loop_free(loop);
}

TestSuite(resolver, .init = open_all, .fini = close_all, .timeout = 30);

Test(resolver, finds_the_addresses_of_a_name)
{
    struct watcher watcher = {0};

    server.addresses[0] = "192.0.2.1";
    server.addresses[1] = "192.0.2.2";
    server.six = "2001:db8::1";
    watch(&watcher, "pg1.test");
    await_news(&watcher);
    cr_expect_eq(watcher.n, 3);
    cr_expect_str_eq(watcher.error, "");
    resolver_unwatch(watcher.watch);
}

Test(resolver, answers_a_number_later_and_without_a_question)
{
    struct watcher four = {0}, six = {0};

    watch(&four, "127.0.0.9");
    watch(&six, "::1");
    await_news(&four);
    cr_expect_eq(four.n, 1);
    expect_address(&four, 0, "127.0.0.9");
    expect_address(&six, 0, "::1");
    resolver_refresh(four.watch);
    loop_until(loop, NULL, 50);
    cr_expect_eq(server.n_questions, 0);
    cr_expect_eq(four.n_news, 1);
    resolver_unwatch(four.watch);
    resolver_unwatch(six.watch);
}

Test(resolver, knows_the_hosts_file)
{
    struct watcher watcher = {0};

    watch(&watcher, "localhost");
    await_news(&watcher);
    cr_assert_geq(watcher.n, 1);
    cr_expect_eq(server.n_questions, 0);
    for (size_t i = 0; i < watcher.n; i++)
        if (watcher.addresses[i].sa.sa_family == AF_INET)
            expect_address(&watcher, i, "127.0.0.1");
    resolver_unwatch(watcher.watch);
}

Test(resolver, says_why_a_first_look_up_failed_and_goes_on_trying)
{
    struct watcher watcher = {0};

    server.rcode = 3;
    watch(&watcher, "pg1.test");
    await_news(&watcher);
    cr_expect_eq(watcher.n, 0);
    cr_expect_str_eq(watcher.error, "Domain name not found");
    server.rcode = 0;
    server.addresses[0] = "192.0.2.1";
    await_news(&watcher);
    cr_expect_eq(watcher.n, 1);
    cr_expect_eq(watcher.n_news, 2);
    resolver_unwatch(watcher.watch);
}

Test(resolver, a_name_without_addresses_is_a_failure)
{
    struct watcher watcher = {0};

    watch(&watcher, "pg1.test");
    await_news(&watcher);
    cr_expect_eq(watcher.n, 0);
    cr_expect_neq(watcher.error[0], '\0');
    resolver_unwatch(watcher.watch);
}

Test(resolver, a_silent_server_is_given_up_and_blocks_nothing)
{
    struct watcher watcher = {0};
    uint64_t began_ms = loop_now_ms(loop);

    server.is_silent = true;
    watch(&watcher, "pg1.test");
    await_news(&watcher);
    cr_expect_eq(watcher.n, 0);
    cr_expect_neq(watcher.error[0], '\0');
    cr_expect_lt(loop_now_ms(loop) - began_ms, 8000);
    cr_expect_lt(loop_longest_iteration_ms(loop), 20.);
    resolver_unwatch(watcher.watch);
}

Test(resolver, looks_again_when_the_ttl_is_over_and_tells_of_changes_only)
{
    struct watcher watcher = {0};

    server.addresses[0] = "192.0.2.1";
    server.ttl_s = 0; /* the floor holds */
    watch(&watcher, "pg1.test");
    await_news(&watcher);
    while (server.n_questions < 3)
        loop_until(loop, NULL, 10);
    cr_expect_eq(watcher.n_news, 1);
    server.addresses[0] = "192.0.2.9";
    await_news(&watcher);
    expect_address(&watcher, 0, "192.0.2.9");
    resolver_unwatch(watcher.watch);
}

Test(resolver, the_floor_and_the_ceiling_bound_the_ttl)
{
    struct watcher watcher = {0};

    server.addresses[0] = "192.0.2.1";
    server.ttl_s = 0;
    resolver_set_ttl(resolver, 60000, 60000);
    watch(&watcher, "pg1.test");
    await_news(&watcher);
    loop_until(loop, NULL, 300);
    cr_expect_eq(server.n_questions, 1, "the floor");
    server.ttl_s = 86400;
    resolver_set_ttl(resolver, 50, 50);
    while (server.n_questions < 4)
        loop_until(loop, NULL, 10);
    cr_expect_eq(watcher.n_news, 1);
    resolver_unwatch(watcher.watch);
}

Test(resolver, another_order_is_no_change)
{
    struct watcher watcher = {0};

    server.addresses[0] = "192.0.2.1";
    server.addresses[1] = "192.0.2.2";
    server.ttl_s = 0;
    watch(&watcher, "pg1.test");
    await_news(&watcher);
    server.addresses[0] = "192.0.2.2";
    server.addresses[1] = "192.0.2.1";
    while (server.n_questions < 4)
        loop_until(loop, NULL, 10);
    cr_expect_eq(watcher.n_news, 1);
    resolver_unwatch(watcher.watch);
}

Test(resolver, keeps_the_last_good_answer)
{
    struct watcher watcher = {0}, late = {0};

    server.addresses[0] = "192.0.2.1";
    server.ttl_s = 0;
    watch(&watcher, "pg1.test");
    await_news(&watcher);
    server.rcode = 2;
    while (server.n_questions < 4)
        loop_until(loop, NULL, 10);
    cr_expect_eq(watcher.n_news, 1);
    watch(&late, "pg1.test");
    await_news(&late);
    expect_address(&late, 0, "192.0.2.1");
    resolver_unwatch(watcher.watch);
    resolver_unwatch(late.watch);
}

Test(resolver, more_addresses_than_we_keep_are_cut)
{
    static const char *const many[] = {"192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4",
                                       "192.0.2.5", "192.0.2.6", "192.0.2.7", "192.0.2.8",
                                       "192.0.2.9", "192.0.2.1", "192.0.2.2"};
    struct watcher watcher = {0};

    memcpy(server.addresses, many, sizeof many);
    watch(&watcher, "pg1.test");
    await_news(&watcher);
    cr_expect_eq(watcher.n, RESOLVER_ADDRESSES_MAX);
    resolver_unwatch(watcher.watch);
}

Test(resolver, watches_of_one_name_share_its_look_ups)
{
    struct watcher watchers[3] = {{0}};

    server.addresses[0] = "192.0.2.1";
    for (size_t i = 0; i < 3; i++)
        watch(&watchers[i], "pg1.test");
    await_news(&watchers[2]);
    cr_expect_eq(server.n_questions, 1);
    for (size_t i = 0; i < 3; i++) {
        cr_expect_eq(watchers[i].n_news, 1);
        resolver_unwatch(watchers[i].watch);
    }
}

Test(resolver, a_refresh_asks_now_but_not_below_the_floor)
{
    struct watcher watcher = {0};

    resolver_set_ttl(resolver, 200, 60000);
    server.addresses[0] = "192.0.2.1";
    watch(&watcher, "pg1.test");
    await_news(&watcher);
    server.addresses[0] = "192.0.2.2";
    for (int i = 0; i < 10; i++) {
        resolver_refresh(watcher.watch);
        loop_until(loop, NULL, 10);
    }
    cr_expect_eq(server.n_questions, 1, "too early");
    await_news(&watcher);
    cr_expect_eq(server.n_questions, 2, "not forgotten either");
    expect_address(&watcher, 0, "192.0.2.2");
    loop_until(loop, NULL, 250);
    cr_expect_eq(server.n_questions, 2);
    resolver_refresh(watcher.watch);
    while (server.n_questions < 3)
        loop_until(loop, NULL, 10);
    resolver_unwatch(watcher.watch);
}

Test(resolver, refreshes_while_one_runs_are_one)
{
    struct watcher watcher = {0};

    server.is_silent = true;
    watch(&watcher, "pg1.test");
    while (server.n_questions < 1)
        loop_until(loop, NULL, 5);
    for (int i = 0; i < 100; i++)
        resolver_refresh(watcher.watch);
    loop_until(loop, NULL, 50);
    cr_expect_eq(server.n_questions, 1);
    resolver_unwatch(watcher.watch);
}

Test(resolver, follows_a_new_list_of_name_servers)
{
    struct watcher watcher = {0}, waiting = {0};

    server.addresses[0] = "192.0.2.1";
    server.ttl_s = 0;
    watch(&watcher, "pg1.test");
    await_news(&watcher);

    server.is_silent = true; /* the old one goes away, with a question under way */
    watch(&waiting, "pg2.test");
    while (server.n_questions < 2)
        loop_until(loop, NULL, 5);
    open_server(&second, "127.0.0.54", server.port);
    second.addresses[0] = "192.0.2.77";
    write_servers("127.0.0.54");
    await_news(&waiting);
    await_news(&watcher);
    expect_address(&watcher, 0, "192.0.2.77");
    expect_address(&waiting, 0, "192.0.2.77");
    resolver_unwatch(watcher.watch);
    resolver_unwatch(waiting.watch);
    close_server(&second);
}

Test(resolver, lives_without_a_list_of_name_servers)
{
    struct watcher watcher = {0};

    unlink(servers_file);
    watch(&watcher, "pg1.test");
    await_news(&watcher);
    cr_expect_eq(watcher.n, 0);
    write_servers("127.0.0.53");
    server.addresses[0] = "192.0.2.1";
    await_news(&watcher);
    cr_expect_eq(watcher.n, 1);
    resolver_unwatch(watcher.watch);
}

Test(resolver, strange_names_are_failures_and_nothing_worse)
{
    static const char *const names[] = {"",           ".",    "..",       "a..b",
                                        "-",          "a b",  "\xff\xfe", "1.2.3.4.5",
                                        "pg1.test\n", "[::1]"};
    struct watcher watchers[COUNT_OF(names) + 1] = {{0}};
    char long_name[400];

    server.rcode = 3;
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    for (size_t i = 0; i < COUNT_OF(watchers); i++)
        watch(&watchers[i], i < COUNT_OF(names) ? names[i] : long_name);
    for (size_t i = 0; i < COUNT_OF(watchers); i++) {
        cr_assert(loop_until(loop, &watchers[i].has_news, 10000), "%zu", i);
        cr_expect_eq(watchers[i].n, 0, "%zu", i);
        resolver_unwatch(watchers[i].watch);
    }
}

Test(resolver, a_watcher_may_leave_in_its_callback)
{
    struct watcher watchers[3] = {{.leaves = true}, {0}, {.leaves = true}};

    server.addresses[0] = "192.0.2.1";
    for (size_t i = 0; i < 3; i++)
        watch(&watchers[i], "pg1.test");
    await_news(&watchers[1]);
    loop_until(loop, NULL, 20);
    for (size_t i = 0; i < 3; i++)
        cr_expect_eq(watchers[i].n_news, 1);
    resolver_unwatch(watchers[1].watch);
}

Test(resolver, the_last_watcher_may_leave_in_its_callback)
{
    struct watcher watcher = {.leaves = true}, number = {.leaves = true};

    server.addresses[0] = "192.0.2.1";
    watch(&watcher, "pg1.test");
    watch(&number, "192.0.2.3");
    await_news(&watcher);
    cr_expect_eq(watcher.n_news, 1);
    cr_expect_eq(number.n_news, 1);
}

Test(resolver, a_watch_may_end_with_its_question_under_way)
{
    struct watcher watcher = {0}, again = {0};

    server.is_silent = true;
    watch(&watcher, "pg1.test");
    while (server.n_questions < 1)
        loop_until(loop, NULL, 5);
    resolver_unwatch(watcher.watch);
    watch(&again, "pg1.test"); /* takes over the open question */
    server.is_silent = false;
    server.addresses[0] = "192.0.2.1";
    await_news(&again);
    cr_expect_eq(again.n, 1);
    cr_expect_not(watcher.has_news);
    server.is_silent = true;
    resolver_refresh(again.watch);
    loop_until(loop, NULL, 150);
    resolver_unwatch(again.watch); /* and the resolver goes with a question open */
}

Test(resolver, survives_each_allocation_failure)
{
    unsigned n_failed = 0;

    server.addresses[0] = "192.0.2.1";
    for (unsigned nth = 1;; nth++) {
        struct watcher watcher = {0};

        memory_fail_at = nth;
        watcher.watch = resolver_watch(resolver, "pg1.test", on_change, &watcher);
        if (watcher.watch != NULL)
            cr_assert(loop_until(loop, &watcher.has_news, 8000));
        resolver_unwatch(watcher.watch);
        if (memory_fail_at != 0)
            break;
        n_failed++;
    }
    memory_fail_at = 1;
    cr_expect_null(resolver_new(loop));
    memory_fail_at = 0;
    cr_expect_geq(n_failed, 3);
}
