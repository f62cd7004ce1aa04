#include "core/http.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "core/memory.h"
#include "tests/lib/fake_http.h"
#include "tests/lib/loop_until.h"

static struct loop *loop;
static struct http *http;
static struct fake_http server;

/* The last answer, copied. */
static struct {
    bool has_come;
    unsigned n;
    enum http_outcome outcome;
    int status;
    char body[HTTP_ANSWER_MAX_BYTES + 1];
    size_t length;
    char error[256];
    uint32_t duration_ms;
    bool is_sent;
} got;

static void open_both(void)
{
    /* libcurl must not obey these. */
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    setenv("ALL_PROXY", "http://127.0.0.1:1", 1);
    loop = loop_new(false);
    cr_assert_not_null(loop);
    http = http_new(loop);
    cr_assert_not_null(http);
    fake_http_open(&server, loop, "127.0.0.1", 0);
}

static void close_both(void)
{
    fake_http_close(&server);
    http_free(http);
    loop_free(loop);
}

TestSuite(http, .init = open_both, .fini = close_both, .timeout = 20);

static void on_answer(void *arg, const struct http_answer *answer)
{
    (void)arg;
    got.has_come = true;
    got.n++;
    got.outcome = answer->outcome;
    got.status = answer->status;
    got.length = answer->length;
    cr_assert_leq(answer->length, HTTP_ANSWER_MAX_BYTES);
    memcpy(got.body, answer->body, answer->length + 1);
    snprintf(got.error, sizeof got.error, "%s", answer->error);
    got.duration_ms = answer->duration_ms;
    got.is_sent = answer->is_sent;
}

static struct http_request *
get_from_with(const struct address *address, const char *host, const char *path,
              uint32_t timeout_ms,
              void (*on_end)(void *arg, const struct http_answer *answer))
{
    const struct http_call call = {.host = host,
                                   .address = address,
                                   .path = path,
                                   .timeout_ms = timeout_ms,
                                   .on_answer = on_end};

    return http_send(http, &call);
}

static struct http_request *get_from(const struct address *address, const char *host,
                                     uint32_t timeout_ms)
{
    got.has_come = false;
    return get_from_with(address, host, "/primary?x=y", timeout_ms, on_answer);
}

static void get(uint32_t timeout_ms)
{
    cr_assert_not_null(get_from(&server.address, "pg1", timeout_ms));
    cr_assert_not(got.has_come, "never from within the call");
    cr_assert(loop_until(loop, &got.has_come, 15000));
}

static unsigned count_descriptors(void)
{
    DIR *open_files = opendir("/proc/self/fd");
    unsigned n = 0;

    cr_assert_not_null(open_files);
    while (readdir(open_files) != NULL)
        n++;
    closedir(open_files);
    return n;
}

Test(http, brings_status_and_body)
{
    char line[64];

    server.status = 503;
    server.body = "{\"state\": \"running\"}";
    get(2000);
    cr_expect_eq(got.outcome, HTTP_ANSWERED);
    cr_expect_eq(got.status, 503);
    cr_expect_str_eq(got.body, server.body);
    cr_expect_eq(got.length, strlen(server.body));
    cr_expect_str_eq(got.error, "");
    cr_expect_eq(strncmp(server.request, "GET /primary?x=y HTTP/1.1\r\n", 27), 0);
    snprintf(line, sizeof line, "\r\nHost: pg1:%u\r\n", address_port(&server.address));
    cr_expect_not_null(strstr(server.request, line));
    cr_expect_not_null(strstr(server.request, "\r\nUser-Agent: pgrouter\r\n"));
}

static void post(struct http_call *what)
{
    got.has_come = false;
    what->host = "pg1";
    what->address = &server.address;
    what->path = "/switchover";
    what->timeout_ms = 2000;
    what->on_answer = on_answer;
    cr_assert_not_null(http_send(http, what));
    cr_assert(loop_until(loop, &got.has_come, 5000));
}

Test(http, posts_a_body_with_a_name_and_a_password)
{
    struct http_call what = {
        .body = "{\"leader\": \"n1\"}", .user = "admin", .password = "a:b"};

    server.status = 412;
    server.body = "no";
    post(&what);
    cr_expect_eq(got.outcome, HTTP_ANSWERED);
    cr_expect_eq(got.status, 412);
    cr_expect_str_eq(got.body, "no");
    cr_expect_eq(strncmp(server.request, "POST /switchover HTTP/1.1\r\n", 27), 0, "%s",
                 server.request);
    cr_expect_not_null(strstr(server.request, "\r\nContent-Type: application/json\r\n"));
    cr_expect_not_null(strstr(server.request, "\r\nContent-Length: 16\r\n"));
    cr_expect_not_null(
        strstr(server.request, "\r\nAuthorization: Basic YWRtaW46YTpi\r\n"), "%s",
        server.request);
    cr_expect_null(strstr(server.request, "Expect:"));
    cr_expect_not_null(strstr(server.request, "\r\n\r\n{\"leader\": \"n1\"}"), "%s",
                       server.request);
}

Test(http, tells_whether_a_request_may_have_been_read)
{
    struct address nobody = server.address;

    server.behaviour = FAKE_RESETS;
    get(2000);
    cr_expect_eq(got.outcome, HTTP_REFUSED);
    cr_expect(got.is_sent);
    address_set_port(&nobody, 1);
    cr_assert_not_null(get_from(&nobody, "pg1", 2000));
    cr_assert(loop_until(loop, &got.has_come, 5000));
    cr_expect_eq(got.outcome, HTTP_REFUSED);
    cr_expect_not(got.is_sent);
}

Test(http, posts_without_a_name)
{
    struct http_call what = {.body = "{}", .user = "", .password = "x"};

    post(&what);
    cr_expect_eq(got.status, 200);
    cr_expect_null(strstr(server.request, "Authorization"));
    what.user = NULL;
    post(&what);
    cr_expect_null(strstr(server.request, "Authorization"));
}

Test(http, goes_to_the_address_whatever_the_name)
{
    server.body = "here";
    cr_assert_not_null(get_from(&server.address, "no-such-name.invalid", 2000));
    cr_assert(loop_until(loop, &got.has_come, 5000));
    cr_expect_str_eq(got.body, "here");
    cr_assert_not_null(get_from(&server.address, "localhost", 2000));
    cr_assert(loop_until(loop, &got.has_come, 5000));
    cr_expect_str_eq(got.body, "here");
    cr_assert_not_null(get_from(&server.address, "192.0.2.1", 2000));
    cr_assert(loop_until(loop, &got.has_come, 5000));
    cr_expect_str_eq(got.body, "here");
}

Test(http, takes_ipv6_with_and_without_a_scope)
{
    struct fake_http six;
    char line[64];

    fake_http_open(&six, loop, "::1", 0);
    six.body = "six";
    cr_assert_not_null(get_from(&six.address, "::1%lo", 2000));
    cr_assert(loop_until(loop, &got.has_come, 5000));
    cr_expect_str_eq(got.body, "six");
    snprintf(line, sizeof line, "\r\nHost: [::1]:%u\r\n", address_port(&six.address));
    cr_expect_not_null(strstr(six.request, line), "%s", six.request);
    fake_http_close(&six);
}

Test(http, an_empty_body_is_an_answer)
{
    server.body = "";
    get(2000);
    cr_expect_eq(got.outcome, HTTP_ANSWERED);
    cr_expect_eq(got.status, 200);
    cr_expect_eq(got.length, 0);
    cr_expect_str_eq(got.body, "");
}

Test(http, a_refused_connection_is_told_from_others)
{
    uint16_t port = address_port(&server.address);

    fake_http_close(&server);
    address_set_port(&server.address, port);
    get(2000);
    cr_expect_eq(got.outcome, HTTP_REFUSED);
    cr_expect_str_eq(got.error, "Connection refused");
    cr_expect_eq(got.status, 0);
    cr_expect_str_eq(got.body, "");
}

Test(http, an_address_without_a_route_is_refused)
{
    struct address address;

    cr_assert(address_parse("255.255.255.255", 8008, &address));
    cr_assert_not_null(get_from(&address, "pg1", 2000));
    cr_assert(loop_until(loop, &got.has_come, 5000));
    cr_expect_eq(got.outcome, HTTP_REFUSED, "%s", got.error);
}

Test(http, a_silent_server_times_out_in_time)
{
    server.behaviour = FAKE_HANGS;
    get(200);
    cr_expect_eq(got.outcome, HTTP_TIMEOUT);
    cr_expect_str_eq(got.error, "no answer within 200 ms");
    cr_expect_geq(got.duration_ms, 195);
    cr_expect_lt(got.duration_ms, 1000);
}

Test(http, half_an_answer_times_out)
{
    static const char *const halves[] = {"HTTP/1.0 200 OK\r\nServer: F",
                                         "HTTP/1.0 200 OK\r\n\r\n{\"sta", "HTT",
                                         "HTTP/1.0 100 Continue\r\n\r\n"};

    server.behaviour = FAKE_HANGS;
    for (size_t i = 0; i < COUNT_OF(halves); i++) {
        server.body = halves[i];
        get(100);
        cr_expect_eq(got.outcome, HTTP_TIMEOUT, "%s", halves[i]);
    }
}

Test(http, a_full_backlog_times_out)
{
    struct address address;
    socklen_t length;
    int fd = socket(AF_INET, SOCK_STREAM, 0), others[8];

    cr_assert(address_parse("127.0.0.1", 0, &address));
    length = address_length(&address);
    cr_assert_eq(bind(fd, &address.sa, length), 0);
    cr_assert_eq(listen(fd, 0), 0);
    cr_assert_eq(getsockname(fd, &address.sa, &length), 0);
    for (size_t i = 0; i < COUNT_OF(others); i++) {
        others[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(others[i], &address.sa, length);
    }
    cr_assert_not_null(get_from(&address, "pg1", 200));
    cr_assert(loop_until(loop, &got.has_come, 5000));
    cr_expect_eq(got.outcome, HTTP_TIMEOUT, "%s", got.error);
    for (size_t i = 0; i < COUNT_OF(others); i++)
        close(others[i]);
    close(fd);
}

Test(http, what_is_not_http_fails)
{
    static const char *const garbage[] = {
        "",
        "\n",
        "hello\n",
        "SSH-2.0-OpenSSH_9\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nshort",
        "HTTP/1.0 200 OK\r\nContent-Length: -1\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx\r\n",
        "HTTP/9.9 200 OK\r\n\r\n",
        "E\0\0\0"};

    server.behaviour = FAKE_RAW;
    for (size_t i = 0; i < COUNT_OF(garbage); i++) {
        server.body = garbage[i];
        get(2000);
        cr_expect_eq(got.outcome, HTTP_FAILED, "%zu: %d", i, (int)got.outcome);
        cr_expect_neq(got.error[0], '\0', "%zu", i);
    }
}

Test(http, a_reset_fails)
{
    server.behaviour = FAKE_RESETS;
    get(2000);
    cr_expect_neq(got.outcome, HTTP_ANSWERED);
    cr_expect_neq(got.outcome, HTTP_TIMEOUT);
}

Test(http, no_redirect_is_followed)
{
    char answer[160];

    snprintf(answer, sizeof answer,
             "HTTP/1.0 302 Found\r\nLocation: http://127.0.0.1:%u/other\r\n\r\n",
             address_port(&server.address));
    server.behaviour = FAKE_RAW;
    server.body = answer;
    get(2000);
    cr_expect_eq(got.outcome, HTTP_ANSWERED);
    cr_expect_eq(got.status, 302);
    cr_expect_eq(server.n_requests, 1);
}

static void answer_with_body_of(size_t length)
{
    char *body = malloc(length + 1);

    cr_assert_not_null(body);
    memset(body, 'x', length);
    body[length] = '\0';
    server.body = body;
    get(5000);
    server.body = "";
    free(body);
}

Test(http, the_longest_body_is_taken_and_one_byte_more_is_not)
{
    answer_with_body_of(HTTP_ANSWER_MAX_BYTES);
    cr_expect_eq(got.outcome, HTTP_ANSWERED);
    cr_expect_eq(got.length, HTTP_ANSWER_MAX_BYTES);
    answer_with_body_of(HTTP_ANSWER_MAX_BYTES + 1);
    cr_expect_eq(got.outcome, HTTP_FAILED);
    cr_expect_str_eq(got.error, "the answer is too long");
}

Test(http, endless_answers_are_cut_off)
{
    static const char *const floods[] = {
        "HTTP/1.0 200 OK\r\n\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "X-Head: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n",
        "HTTP/1.1 100 Continue\r\nX-Head: xxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n\r\n"};

    server.behaviour = FAKE_FLOODS;
    for (size_t i = 0; i < COUNT_OF(floods); i++) {
        server.body = floods[i];
        get(10000);
        cr_expect_eq(got.outcome, HTTP_FAILED, "%zu: %s", i, got.error);
        cr_expect_lt(got.duration_ms, 5000);
    }
}

/* Longer than libcurl's own bound, which it takes for want of memory. */
Test(http, one_long_line_in_the_head_is_the_servers_fault)
{
    static const char *const heads[] = {"HTTP/1.0 200 OK\r\nX-Long: ", "HTTP/1.0 200 "};
    size_t size = 200000;
    char *answer = malloc(size + 1);

    cr_assert_not_null(answer);
    server.behaviour = FAKE_RAW;
    for (size_t i = 0; i < COUNT_OF(heads); i++) {
        memset(answer, 'y', size);
        answer[size] = '\0';
        memcpy(answer, heads[i], strlen(heads[i]));
        server.body = answer;
        get(5000);
        cr_expect_eq(got.outcome, HTTP_FAILED, "%zu: %s", i, got.error);
        cr_expect_str_eq(got.error, "the answer is too long");
    }
    server.body = "";
    free(answer);
}

Test(http, each_request_is_a_connection_of_its_own)
{
    server.behaviour = FAKE_RAW;
    server.body = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    get(2000);
    get(2000);
    get(2000);
    cr_expect_eq(server.n_accepted, 3);
}

Test(http, a_cancelled_request_never_answers_and_closes_its_connection)
{
    struct http_request *request = get_from(&server.address, "pg1", 300);
    bool never = false;

    cr_assert_not_null(request);
    http_cancel(request); /* before it began */
    server.behaviour = FAKE_HANGS;
    request = get_from(&server.address, "pg1", 300);
    while (server.n_requests == 0)
        loop_until(loop, &never, 10);
    http_cancel(request);
    while (server.clients.n > 0)
        loop_until(loop, &never, 10);
    loop_until(loop, &never, 400);
    cr_expect_not(got.has_come);
}

/* Cancels the other and starts a third in its answer. */
static struct http_request *other;
static void on_first(void *arg, const struct http_answer *answer)
{
    on_answer(arg, answer);
    http_cancel(other);
    server.body = "third";
    got.has_come = false;
    cr_assert_not_null(get_from_with(&server.address, "pg1", "/third", 2000, on_answer));
}

static void on_never(void *arg, const struct http_answer *answer)
{
    (void)arg;
    (void)answer;
    cr_assert_fail("a cancelled request was answered");
}

Test(http, an_answer_may_cancel_and_start_requests)
{
    struct fake_http slow;

    fake_http_open(&slow, loop, "127.0.0.1", 0);
    slow.behaviour = FAKE_HANGS;
    server.body = "first";
    other = get_from_with(&slow.address, "pg2", "/", 5000, on_never);
    cr_assert_not_null(other);
    cr_assert_not_null(get_from_with(&server.address, "pg1", "/", 2000, on_first));
    while (got.n < 2)
        loop_until(loop, &got.has_come, 100);
    cr_expect_str_eq(got.body, "third");
    fake_http_close(&slow);
}

Test(http, many_at_once_leave_no_descriptor_behind)
{
    unsigned before, n = 200;

    server.body = "{}";
    get(2000); /* what libcurl keeps is open now */
    before = count_descriptors();
    for (unsigned i = 0; i < n; i++)
        cr_assert_not_null(get_from(&server.address, "pg1", 5000));
    got.n = 0;
    while (got.n < n) {
        got.has_come = false;
        cr_assert(loop_until(loop, &got.has_come, 5000));
        cr_assert_eq(got.outcome, HTTP_ANSWERED);
    }
    while (server.clients.n > 0)
        loop_until(loop, NULL, 10);
    cr_expect_eq(count_descriptors(), before);
}

Test(http, without_descriptors_it_is_our_fault)
{
    struct rlimit limit, none = {0, 0};

    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none.rlim_max = limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    get(2000);
    setrlimit(RLIMIT_NOFILE, &limit);
    cr_expect_eq(got.outcome, HTTP_NOT_SENT);
    cr_expect_str_eq(got.error, "Too many open files");
}

Test(http, survives_each_allocation_failure)
{
    unsigned n_failed = 0;

    for (unsigned nth = 1;; nth++) {
        struct http_request *request;

        memory_fail_at = nth;
        request = get_from(&server.address, "pg1", 300);
        if (request != NULL)
            loop_until(loop, &got.has_come, 2000);
        if (memory_fail_at != 0)
            break;
        n_failed++;
    }
    memory_fail_at = 0;
    cr_expect_geq(n_failed, 3);
    cr_expect_eq(got.outcome, HTTP_ANSWERED);

    memory_fail_at = 1;
    cr_expect_null(http_new(loop));
}

/* ---- posts and streams ---- */

static struct {
    unsigned n_pieces;
    char bytes[4096];
    size_t length;
    struct http_request *request; /* to be cancelled by the first piece */
} stream;

static void on_piece(void *arg, const char *bytes, size_t length)
{
    (void)arg;
    stream.n_pieces++;
    cr_assert_lt(stream.length + length, sizeof stream.bytes);
    memcpy(stream.bytes + stream.length, bytes, length);
    stream.length += length;
    if (stream.request != NULL)
        http_cancel(stream.request);
    stream.request = NULL;
}

static struct http_request *open_stream(uint32_t timeout_ms)
{
    const struct http_call call = {.host = "etcd1",
                                   .address = &server.address,
                                   .path = "/v3/watch",
                                   .body = "{}",
                                   .timeout_ms = timeout_ms,
                                   .on_piece = on_piece,
                                   .on_answer = on_answer};

    got.has_come = false;
    return http_send(http, &call);
}

Test(http, posts_with_headers)
{
    const struct http_call call = {.host = "etcd1",
                                   .address = &server.address,
                                   .path = "/v3/kv/range",
                                   .body = "{\"key\": 1}",
                                   .authorization = "a token",
                                   .header = "X-Any: thing",
                                   .timeout_ms = 2000,
                                   .on_answer = on_answer};

    server.body = "done";
    cr_assert_not_null(http_send(http, &call));
    cr_assert(loop_until(loop, &got.has_come, 5000));
    cr_expect_eq(got.outcome, HTTP_ANSWERED);
    cr_expect_str_eq(got.body, "done");
    cr_expect_eq(strncmp(server.request, "POST /v3/kv/range HTTP/1.1\r\n", 28), 0);
    cr_expect_not_null(strstr(server.request, "\r\nAuthorization: a token\r\n"));
    cr_expect_not_null(strstr(server.request, "\r\nX-Any: thing\r\n"));
    cr_expect_not_null(strstr(server.request, "\r\nContent-Type: application/json\r\n"));
    cr_expect_not_null(strstr(server.request, "\r\nContent-Length: 10\r\n"));
}

Test(http, takes_longer_bodies_where_they_are_wanted)
{
    const size_t length = HTTP_ANSWER_MAX_BYTES + 1;
    struct http_call call = {.host = "etcd1",
                             .address = &server.address,
                             .path = "/",
                             .max_bytes = length - 2,
                             .timeout_ms = 5000,
                             .on_answer = on_answer};
    char *body = malloc(length);

    cr_assert_not_null(body);
    memset(body, 'x', length);
    body[length - 1] = '\0';
    server.body = body;
    cr_assert_not_null(http_send(http, &call));
    cr_assert(loop_until(loop, &got.has_come, 5000));
    cr_expect_eq(got.outcome, HTTP_FAILED);
    call.max_bytes = length - 1;
    got.has_come = false;
    cr_assert_not_null(http_send(http, &call));
    cr_assert(loop_until(loop, &got.has_come, 5000));
    cr_expect_eq(got.outcome, HTTP_ANSWERED);
    cr_expect_eq(got.length, length - 1);
    server.body = "";
    free(body);
}

Test(http, a_stream_has_no_end_of_time)
{
    struct http_request *request;

    server.behaviour = FAKE_HANGS;
    server.body =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{}\n\r\n2\r\n{\"";
    request = open_stream(100);
    cr_assert_not_null(request);
    cr_expect_not(loop_until(loop, &got.has_come, 500), "%s", got.error);
    cr_expect_eq(stream.length, 5);
    cr_expect_eq(memcmp(stream.bytes, "{}\n{\"", 5), 0);
    http_cancel(request);
}

Test(http, a_stream_ends_with_its_connection)
{
    server.behaviour = FAKE_RAW;
    server.body =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    cr_assert_not_null(open_stream(1000));
    cr_assert(loop_until(loop, &got.has_come, 5000));
    cr_expect_eq(got.outcome, HTTP_ANSWERED);
    cr_expect_eq(got.status, 200);
    cr_expect_eq(got.length, 0, "it was handed out");
    cr_expect_eq(stream.length, 2);

    server.body = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{";
    cr_assert_not_null(open_stream(1000));
    cr_assert(loop_until(loop, &got.has_come, 5000));
    cr_expect_eq(got.outcome, HTTP_FAILED);
    cr_expect_eq(stream.length, 3);
}

Test(http, a_refused_stream_is_an_answer_as_a_whole)
{
    server.status = 401;
    server.body = "{\"error\": \"invalid auth token\"}";
    cr_assert_not_null(open_stream(1000));
    cr_assert(loop_until(loop, &got.has_come, 5000));
    cr_expect_eq(got.status, 401);
    cr_expect_str_eq(got.body, server.body);
    cr_expect_eq(stream.n_pieces, 0);
}

Test(http, a_piece_may_cancel_its_stream)
{
    server.behaviour = FAKE_RAW;
    server.body =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    stream.request = open_stream(1000);
    cr_assert_not_null(stream.request);
    cr_expect_not(loop_until(loop, &got.has_come, 300), "it was cancelled");
    cr_expect_eq(stream.n_pieces, 1);
}

Test(http, streams_notice_that_their_peer_has_vanished)
{
    struct http_request *request;
    int yes = 0, idle_s = 0, fd = -1;
    unsigned user_timeout_ms = 0;
    socklen_t length = sizeof yes;

    server.behaviour = FAKE_HANGS;
    server.body = "HTTP/1.1 200 OK\r\n\r\n{";
    request = open_stream(1000);
    cr_assert_not_null(request);
    loop_until(loop, &got.has_come, 200);
    cr_assert_eq(stream.length, 1);
    /* Ours is the one whose peer is the server. */
    for (int i = 3; i < 256; i++) {
        struct address peer;
        socklen_t size = sizeof peer;

        if (getpeername(i, &peer.sa, &size) == 0 &&
            address_port(&peer) == address_port(&server.address))
            fd = i;
    }
    cr_assert_geq(fd, 0);
    cr_assert_eq(getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &yes, &length), 0);
    cr_assert_eq(getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, &length), 0);
    cr_assert_eq(getsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, &length),
                 0);
    cr_expect(yes);
    cr_expect_leq(idle_s, 10);
    cr_expect_eq(user_timeout_ms, 10000);
    http_cancel(request);
}

Test(http, a_post_survives_each_allocation_failure)
{
    for (unsigned nth = 1; memory_fail_at == 0; nth++) {
        struct http_request *request;

        memory_fail_at = nth;
        request = open_stream(1000);
        if (request != NULL)
            http_cancel(request);
    }
    memory_fail_at = 0;
}
