/* core/http.c - libcurl's multi interface on libev.
 *
 * libcurl says which descriptors it waits for and until when; we tell it what happened.
 * The URL keeps the host's name, and CURLOPT_CONNECT_TO leads to the address, so libcurl
 * has nothing to look up. Nor does it read files: trust and certificate come from a
 * context of ours that has read them already.
 *
 * Within a callback of libcurl's nothing may be added or cancelled. So a stream's bytes
 * are put aside there, and handed out when libcurl has returned.
 */
#include "core/http.h"

#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include <netinet/tcp.h>
#include <sys/socket.h>

#include "core/list.h"
#include "core/memory.h"
#include "core/socket.h"
#include "core/text.h"
#include "core/tls.h"

/* A peer of a stream that has vanished is found out after some ten seconds, whether we
 * wait for it or it for us. */
#define STREAM_USER_TIMEOUT_MS 10000
static const struct tcp_settings stream_tcp = {
    .keepalive = true, .keepidle_s = 4, .keepintvl_s = 2, .keepcnt = 3};

struct http {
    struct loop *loop;
    CURLM *multi;
    ev_timer timeout;   /* libcurl's next one */
    struct list pieced; /* streams with a piece to be handed out */
    size_t n_requests;
};

/* One of libcurl's sockets. */
struct http_socket {
    struct http *http;
    ev_io watcher;
};

struct http_request {
    struct http *http;
    CURL *easy;
    struct curl_slist *connect_to;
    struct curl_slist *headers;
    struct tls_context *tls; /* held; NULL: without TLS */
    struct text body;        /* of a stream: the next piece */
    size_t max_bytes;
    struct link in_pieced;
    size_t head_bytes;
    int our_error; /* errno of a socket that could not be made */
    struct address address;
    uint32_t timeout_ms;
    void (*on_piece)(void *arg, const char *bytes, size_t length);
    void (*on_answer)(void *arg, const struct http_answer *answer);
    void *arg;
    char error[CURL_ERROR_SIZE];
};

static int status_of(const struct http_request *request)
{
    long status = 0;

    curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &status);
    return (int)status;
}

/* Are the bytes of its body handed out as they come? */
static bool is_streaming(const struct http_request *request)
{
    return request->on_piece != NULL && status_of(request) == 200;
}

/* ---- answers ---- */

static bool is_unreachable(long error)
{
    return error == ECONNREFUSED || error == ECONNRESET || error == EHOSTUNREACH ||
           error == ENETUNREACH || error == EADDRNOTAVAIL;
}

/* libcurl has a bound of its own for a line of the head, beyond which it says that memory
 * is out. It really is only where no connection has come about. */
static bool is_our_fault(const struct http_request *request, CURLcode code)
{
    curl_off_t connected_after_us = 0;

    curl_easy_getinfo(request->easy, CURLINFO_CONNECT_TIME_T, &connected_after_us);
    return request->our_error != 0 ||
           (code == CURLE_OUT_OF_MEMORY && connected_after_us == 0);
}

static bool is_too_long(const struct http_request *request, CURLcode code)
{
    return request->body.overflowed || request->head_bytes > HTTP_ANSWER_MAX_BYTES ||
           code == CURLE_OUT_OF_MEMORY;
}

static void describe_failure(struct http_request *request, CURLcode code,
                             struct http_answer *answer)
{
    size_t size = sizeof request->error;
    long os_error = 0;

    curl_easy_getinfo(request->easy, CURLINFO_OS_ERRNO, &os_error);
    answer->outcome = HTTP_FAILED;
    answer->error = request->error;
    if (is_our_fault(request, code)) {
        answer->outcome = HTTP_NOT_SENT;
        snprintf(request->error, size, "%s",
                 strerror(request->our_error != 0 ? request->our_error : ENOMEM));
    } else if (code == CURLE_OPERATION_TIMEDOUT || os_error == ETIMEDOUT) {
        answer->outcome = HTTP_TIMEOUT;
        snprintf(request->error, size, "no answer within %u ms", request->timeout_ms);
    } else if (code == CURLE_COULDNT_CONNECT || is_unreachable(os_error)) {
        answer->outcome = HTTP_REFUSED;
        snprintf(request->error, size, "%s",
                 os_error != 0 ? strerror((int)os_error) : "connecting failed");
    } else if (is_too_long(request, code)) {
        snprintf(request->error, size, "the answer is too long");
    } else if (request->error[0] == '\0') {
        snprintf(request->error, size, "%s", curl_easy_strerror(code));
    }
}

static void request_free(struct http_request *request)
{
    if (request->easy != NULL) {
        curl_multi_remove_handle(request->http->multi, request->easy);
        curl_easy_cleanup(request->easy);
    }
    curl_slist_free_all(request->connect_to);
    curl_slist_free_all(request->headers);
    if (link_is_in_list(&request->in_pieced))
        list_remove(&request->http->pieced, &request->in_pieced);
    tls_context_release(request->tls);
    text_clear(&request->body);
    request->http->n_requests--;
    memory_free(request);
}

static void finish(struct http_request *request, CURLcode code)
{
    struct http_answer answer = {.body = "", .error = ""};
    curl_off_t duration_us = 0, connected_after_us = 0;

    curl_easy_getinfo(request->easy, CURLINFO_TOTAL_TIME_T, &duration_us);
    answer.duration_ms = (uint32_t)(duration_us / 1000);
    curl_easy_getinfo(request->easy, CURLINFO_CONNECT_TIME_T, &connected_after_us);
    answer.is_sent = connected_after_us > 0;
    if (code == CURLE_OK) {
        answer.status = status_of(request);
        answer.body = text_get(&request->body);
        answer.length = request->body.length;
    } else {
        describe_failure(request, code, &answer);
    }
    request->on_answer(request->arg, &answer);
    request_free(request);
}

/* The owner may cancel the request meanwhile: the piece is taken out of it. */
static void hand_out_piece(struct http *http, struct http_request *request)
{
    struct text piece = request->body;

    list_remove(&http->pieced, &request->in_pieced);
    text_init(&request->body, request->max_bytes);
    request->on_piece(request->arg, text_get(&piece), piece.length);
    text_clear(&piece);
}

static void hand_out_pieces(struct http *http)
{
    struct link *first;

    while ((first = list_first(&http->pieced)) != NULL)
        hand_out_piece(http, CONTAINER_OF(first, struct http_request, in_pieced));
}

/* After each call of libcurl's: hands out what has ended. */
static void finish_ended(struct http *http)
{
    CURLMsg *message;
    int n_left;

    while ((message = curl_multi_info_read(http->multi, &n_left)) != NULL) {
        struct http_request *request;
        CURLcode code = message->data.result;

        if (message->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &request);
        finish(request, code);
    }
}

/* ---- libcurl in the loop ---- */

static void act(struct http *http, curl_socket_t fd, int what)
{
    int n_running;

    curl_multi_socket_action(http->multi, fd, what, &n_running);
    hand_out_pieces(http);
    finish_ended(http);
}

static void on_timeout(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev;
    (void)events;
    act(CONTAINER_OF(timer, struct http, timeout), CURL_SOCKET_TIMEOUT, 0);
}

static void on_socket(struct ev_loop *ev, ev_io *watcher, int events)
{
    (void)ev;
    act(CONTAINER_OF(watcher, struct http_socket, watcher)->http, watcher->fd,
        (events & EV_READ ? CURL_CSELECT_IN : 0) |
            (events & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static int on_timeout_wanted(CURLM *multi, long wait_ms, void *arg)
{
    struct http *http = arg;

    (void)multi;
    ev_timer_stop(http->loop->ev, &http->timeout);
    if (wait_ms >= 0) {
        ev_timer_set(&http->timeout, (double)wait_ms / 1e3, 0.);
        ev_timer_start(http->loop->ev, &http->timeout);
    }
    return 0;
}

/* Without memory the socket stays unwatched and its request times out. */
static int on_socket_state(CURL *easy, curl_socket_t fd, int what, void *arg,
                           void *socket_arg)
{
    struct http *http = arg;
    struct http_socket *socket = socket_arg;

    (void)easy;
    if (socket != NULL)
        ev_io_stop(http->loop->ev, &socket->watcher);
    if (what == CURL_POLL_REMOVE) {
        memory_free(socket);
        return 0;
    }
    if (socket == NULL) {
        socket = memory_zeroed(sizeof *socket);
        if (socket == NULL)
            return 0;
        socket->http = http;
        curl_multi_assign(http->multi, fd, socket);
    }
    ev_io_init(&socket->watcher, on_socket, fd,
               (what & CURL_POLL_IN ? EV_READ : 0) |
                   (what & CURL_POLL_OUT ? EV_WRITE : 0));
    ev_io_start(http->loop->ev, &socket->watcher);
    return 0;
}

/* ---- requests ---- */

static size_t on_body(char *bytes, size_t one, size_t n, void *arg)
{
    struct http_request *request = arg;

    (void)one; /* always 1 */
    text_add_n(&request->body, bytes, n);
    if (request->body.overflowed)
        return 0;
    if (n > 0 && is_streaming(request) && !link_is_in_list(&request->in_pieced))
        list_append(&request->http->pieced, &request->in_pieced);
    return n;
}

/* The type is libcurl's. NOLINTNEXTLINE(readability-non-const-parameter) */
static size_t on_head(char *bytes, size_t one, size_t n, void *arg)
{
    struct http_request *request = arg;

    (void)bytes;
    (void)one;
    request->head_bytes += n;
    return request->head_bytes > HTTP_ANSWER_MAX_BYTES ? 0 : n;
}

/* The address as it is, with the scope of a link-local one, which no URL carries. */
static curl_socket_t on_open(void *arg, curlsocktype purpose,
                             struct curl_sockaddr *target)
{
    struct http_request *request = arg;
    socklen_t length = address_length(&request->address);
    int fd = socket(request->address.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)purpose;
    if (fd < 0) {
        request->our_error = errno;
        return CURL_SOCKET_BAD;
    }
    memcpy(&target->addr, &request->address, length);
    target->addrlen = length;
    if (request->on_piece != NULL) {
        unsigned user_timeout_ms = STREAM_USER_TIMEOUT_MS;

        socket_tune(fd, &stream_tcp);
        (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms,
                         sizeof user_timeout_ms);
    }
    return fd;
}

/* libcurl has its own rules for whom the certificate must name: the URL's host. */
static CURLcode on_tls(CURL *easy, void *ssl, void *arg)
{
    struct http_request *request = arg;

    (void)easy;
    return tls_context_lend(request->tls, ssl) ? CURLE_OK : CURLE_OUT_OF_MEMORY;
}

/* From 7.87 on libcurl keeps the first store of trusted certificates that it sees for all
 * requests whose settings look the same to it, though ours may trust others. */
static bool forbid_shared_trust(CURL *easy)
{
#if LIBCURL_VERSION_NUM >= 0x075700
    return curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L) == CURLE_OK;
#else
    (void)easy;
    return true;
#endif
}

/* libcurl sets this in its context and its connection: ours would not count. */
static bool set_verify(CURL *easy, enum tls_verify verify)
{
    long peer = verify != TLS_VERIFY_NONE ? 1L : 0L;
    long host = verify == TLS_VERIFY_FULL ? 2L : 0L;

    return curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, peer) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, host) == CURLE_OK;
}

static bool set_tls(struct http_request *request, struct tls_context *tls)
{
    CURL *easy = request->easy;

    if (tls == NULL)
        return true;
    request->tls = tls_context_hold(tls);
    return forbid_shared_trust(easy) &&
           set_verify(easy, tls_context_settings(tls)->verify) &&
           curl_easy_setopt(easy, CURLOPT_CAINFO, NULL) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_CAPATH, NULL) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SSL_CTX_DATA, request) == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_SSL_CTX_FUNCTION, on_tls) == CURLE_OK;
}

static bool add_header(struct http_request *request, const char *line)
{
    struct curl_slist *longer = curl_slist_append(request->headers, line);

    if (longer != NULL)
        request->headers = longer;
    return longer != NULL;
}

static bool add_authorization(struct http_request *request, const char *value)
{
    struct text line;
    bool done;

    text_init(&line, HTTP_ANSWER_MAX_BYTES);
    text_addf(&line, "Authorization: %s", value);
    done = !line.overflowed && add_header(request, text_get(&line));
    text_clear(&line);
    return done;
}

static bool set_user(struct http_request *request, const struct http_call *call)
{
    CURL *easy = request->easy;

    return call->user == NULL || *call->user == '\0' ||
           (curl_easy_setopt(easy, CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC) == CURLE_OK &&
            curl_easy_setopt(easy, CURLOPT_USERNAME, call->user) == CURLE_OK &&
            curl_easy_setopt(easy, CURLOPT_PASSWORD,
                             call->password == NULL ? "" : call->password) == CURLE_OK);
}

/* libcurl copies all of it. Without "Expect:" it would wait for leave to send a longer
 * body. */
static bool set_body(struct http_request *request, const struct http_call *call)
{
    CURL *easy = request->easy;

    if (call->header != NULL && !add_header(request, call->header))
        return false;
    if (call->authorization != NULL && !add_authorization(request, call->authorization))
        return false;
    if (call->body != NULL &&
        (!add_header(request, "Content-Type: application/json") ||
         !add_header(request, "Expect:") ||
         curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE, (long)strlen(call->body)) !=
             CURLE_OK ||
         curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, call->body) != CURLE_OK))
        return false;
    return request->headers == NULL ||
           curl_easy_setopt(easy, CURLOPT_HTTPHEADER, request->headers) == CURLE_OK;
}

static bool set_address(struct http_request *request)
{
    char number[ADDRESS_TEXT_MAX], line[ADDRESS_TEXT_MAX + 4];

    snprintf(line, sizeof line, "::%s", address_print(&request->address, number));
    request->connect_to = curl_slist_append(NULL, line);
    return request->connect_to != NULL &&
           curl_easy_setopt(request->easy, CURLOPT_CONNECT_TO, request->connect_to) ==
               CURLE_OK;
}

static bool set_url(struct http_request *request, const struct http_call *call)
{
    const char *host = call->host;
    struct text url;
    bool is_v6 = strchr(host, ':') != NULL;
    bool done;

    text_init(&url, 4096);
    /* A scope ("fe80::1%eth0") has no place in a Host header. */
    text_addf(&url, is_v6 ? "%s://[%.*s]:%u%s" : "%s://%.*s:%u%s",
              call->tls != NULL ? "https" : "http", (int)strcspn(host, "%"), host,
              address_port(&request->address), call->path);
    done = !url.overflowed &&
           curl_easy_setopt(request->easy, CURLOPT_URL, text_get(&url)) == CURLE_OK;
    text_clear(&url);
    return done;
}

static bool set_options(struct http_request *request)
{
    CURL *easy = request->easy;

    curl_easy_setopt(easy, CURLOPT_PRIVATE, request);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, request->error);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, request);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_head);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, request);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, on_open);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, request);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    if (request->on_piece == NULL)
        curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)request->timeout_ms);
    return curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") == CURLE_OK &&
           curl_easy_setopt(easy, CURLOPT_USERAGENT, "pgrouter") == CURLE_OK;
}

struct http_request *http_send(struct http *http, const struct http_call *call)
{
    struct http_request *request = memory_zeroed(sizeof *request);

    if (request == NULL)
        return NULL;
    http->n_requests++;
    request->http = http;
    request->address = *call->address;
    /* libcurl's 0 is "never" */
    request->timeout_ms = call->timeout_ms == 0 ? 1 : call->timeout_ms;
    request->on_piece = call->on_piece;
    request->on_answer = call->on_answer;
    request->arg = call->arg;
    request->max_bytes = call->max_bytes == 0 ? HTTP_ANSWER_MAX_BYTES : call->max_bytes;
    text_init(&request->body, request->max_bytes);
    request->easy = curl_easy_init();
    if (request->easy == NULL || !set_options(request) || !set_address(request) ||
        !set_tls(request, call->tls) || !set_user(request, call) ||
        !set_body(request, call) || !set_url(request, call) ||
        curl_multi_add_handle(http->multi, request->easy) != CURLM_OK) {
        request_free(request);
        return NULL;
    }
    return request;
}

void http_cancel(struct http_request *request)
{
    request_free(request);
}

/* ---- the client ---- */

struct http *http_new(struct loop *loop)
{
    struct http *http;

    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return NULL;
    http = memory_zeroed(sizeof *http);
    if (http == NULL) {
        curl_global_cleanup();
        return NULL;
    }
    http->loop = loop;
    list_init(&http->pieced);
    ev_timer_init(&http->timeout, on_timeout, 0., 0.);
    http->multi = curl_multi_init();
    if (http->multi == NULL) {
        http_free(http);
        return NULL;
    }
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETFUNCTION, on_socket_state);
    curl_multi_setopt(http->multi, CURLMOPT_SOCKETDATA, http);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERFUNCTION, on_timeout_wanted);
    curl_multi_setopt(http->multi, CURLMOPT_TIMERDATA, http);
    return http;
}

void http_free(struct http *http)
{
    if (http == NULL)
        return;
    REQUIRE(http->n_requests == 0);
    curl_multi_cleanup(http->multi);
    ev_timer_stop(http->loop->ev, &http->timeout);
    memory_free(http);
    curl_global_cleanup();
}
