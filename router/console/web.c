#include "router/console/web.h"

#include <errno.h>
#include <microhttpd.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "core/memory.h"
#include "core/socket.h"
#include "router/console/web_tls.h"

/* More connections than this wait in the kernel's line; a silent one is closed. */
#define CONNECTIONS_MAX 256u
#define SILENCE_S 15u
#define CONNECTION_BYTES 16384u
#define LINE_BYTES_MAX 1024u
/* Of a body that is too long so much is read, so that who sends it hears the answer;
 * whoever sends more is closed. */
#define BODY_READ_MAX (1u << 20)
/* Of a stream so much is copied at a time, and waits at most for a client to take it. */
#define STREAM_BYTES 16384u
#define STREAM_BYTES_MAX (16u << 20)
/* Who asks for more than there is time for is heard so often. */
#define REST_MS 50u

struct web_page {
    struct MHD_Response *response;
    unsigned n_holders;
};

struct web_request {
    struct MHD_Connection *connection;
    char *target;
    const char *method;
    bool is_asked;  /* handed up */
    bool is_asking; /* being handed up: an answer needs no resumption */
    bool asks_for_password;
    struct text body;
    size_t n_body; /* bytes that have come */
    const char *header, *value;
    struct MHD_Response *response;
    struct web_page *page; /* in its place; held */
    unsigned status;
    struct web_daemon *daemon;
};

struct web_stream {
    struct link in_daemon;
    struct web_daemon *daemon;
    struct MHD_Connection *connection;
    void (*on_end)(void *arg, struct web_stream *stream);
    void *arg;
    struct text pending;
    size_t n_sent; /* of `pending` */
    bool is_suspended, is_ending;
};

/* One listening socket: libmicrohttpd's daemon, without a thread of its own. */
struct web_daemon {
    struct link in_web;
    struct web *web;
    struct MHD_Daemon *daemon;
    struct web_tls *tls; /* NULL: libmicrohttpd itself listens */
    ev_io acceptable;    /* with TLS */
    struct endpoint endpoint;
    struct list streams;
    ev_io readable;
    ev_timer timer;
    unsigned
        n_waiting; /* requests: libmicrohttpd must not be stopped before their answer */
    bool is_resting;
    bool is_ending; /* no longer configured: stops with the last answer */
    struct deferred end;
};

struct web {
    struct loop *loop;
    void (*on_request)(void *arg, struct web_request *request);
    void *arg;
    struct tls_context *context;
    struct list daemons;
};

/* ---- libmicrohttpd inside the loop ---------------------------------------------------
 */

static unsigned count_connections(struct web_daemon *daemon)
{
    return MHD_get_daemon_info(daemon->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)
        ->num_connections;
}

/* How long until libmicrohttpd is to be run again, whatever the descriptors say; it may
 * have work that none shows. When connections have ended it may have stopped to listen
 * because of them, and looks at that only in its next run. False: for ever. */
static bool next_run(struct web_daemon *daemon, unsigned n_before, uint64_t *after_ms)
{
    MHD_UNSIGNED_LONG_LONG timeout_ms;

    *after_ms = 0;
    if (count_connections(daemon) < n_before)
        return true;
    if (MHD_get_timeout(daemon->daemon, &timeout_ms) != MHD_YES)
        return false;
    *after_ms = timeout_ms;
    return true;
}

static void arm(struct web_daemon *daemon, uint64_t after_ms)
{
    ev_timer_stop(daemon->web->loop->ev, &daemon->timer);
    ev_timer_set(&daemon->timer, (double)after_ms / 1e3, 0.);
    ev_timer_start(daemon->web->loop->ev, &daemon->timer);
}

static void run_now(struct web_daemon *daemon)
{
    struct loop *loop = daemon->web->loop;
    unsigned n_before = count_connections(daemon);
    uint64_t after_ms;

    ration_begin(&loop->onlookers);
    MHD_run(daemon->daemon);
    ration_end(&loop->onlookers);
    ev_timer_stop(loop->ev, &daemon->timer);
    if (next_run(daemon, n_before, &after_ms))
        arm(daemon, after_ms);
}

/* Pages wait for their turn; here only the crowd at the door is kept from taking all. */
static void run(struct web_daemon *daemon)
{
    struct loop *loop = daemon->web->loop;

    if (!daemon->is_resting && ration_wait_ms(&loop->onlookers, loop->now_ns) > 0) {
        daemon->is_resting = true;
        ev_io_stop(loop->ev, &daemon->readable);
        arm(daemon, REST_MS);
        return;
    }
    daemon->is_resting = false;
    ev_io_start(loop->ev, &daemon->readable);
    run_now(daemon);
}

static void on_readable(struct ev_loop *ev, ev_io *watcher, int events)
{
    (void)ev;
    (void)events;
    run(CONTAINER_OF(watcher, struct web_daemon, readable));
}

static void on_timer(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev;
    (void)events;
    run(CONTAINER_OF(timer, struct web_daemon, timer));
}

static void *on_request_line(void *arg, const char *target,
                             struct MHD_Connection *connection)
{
    struct web_request *request = memory_zeroed(sizeof *request);

    if (request == NULL)
        return NULL;
    request->daemon = arg;
    request->connection = connection;
    text_init(&request->body, WEB_BODY_MAX);
    request->target = memory_text(target);
    if (request->target == NULL) {
        memory_free(request);
        return NULL;
    }
    return request;
}

static enum MHD_Result queue_answer(struct web_request *request,
                                    struct MHD_Connection *connection)
{
    struct MHD_Response *response =
        request->page != NULL ? request->page->response : request->response;
    enum MHD_Result result = MHD_queue_response(connection, request->status, response);

    if (request->page == NULL)
        MHD_destroy_response(response);
    web_page_release(request->page);
    request->page = NULL;
    request->response = NULL;
    return result;
}

/* Called when the headers are there, for each piece of a body, when all is there, and
 * when a suspended connection was resumed. */
static enum MHD_Result on_access(void *arg, struct MHD_Connection *connection,
                                 const char *url, const char *method, const char *version,
                                 const char *body, size_t *body_bytes, void **context)
{
    struct web_daemon *daemon = arg;
    struct web_request *request = *context;

    (void)url;
    (void)version;
    if (request == NULL)
        return MHD_NO; /* memory was out at its first line */
    if (request->method == NULL) {
        request->method = method;
        return MHD_YES;
    }
    if (*body_bytes > 0) {
        if (!request->body.overflowed)
            text_add_n(&request->body, body, *body_bytes);
        request->n_body += *body_bytes;
        *body_bytes = 0;
        return request->n_body <= BODY_READ_MAX ? MHD_YES : MHD_NO;
    }
    if (!request->is_asked) {
        if (daemon->is_ending)
            return MHD_NO;
        request->is_asked = request->is_asking = true;
        daemon->n_waiting++;
        daemon->web->on_request(daemon->web->arg, request);
        request->is_asking = false;
        if (request->status == 0) {
            MHD_suspend_connection(connection);
            return MHD_YES;
        }
    }
    if (request->response == NULL && request->page == NULL)
        return MHD_NO;
    return queue_answer(request, connection);
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode code)
{
    struct web_request *request = *context;

    (void)arg;
    (void)connection;
    (void)code;
    if (request == NULL)
        return;
    if (request->response != NULL)
        MHD_destroy_response(request->response);
    web_page_release(request->page);
    text_clear(&request->body);
    memory_free(request->target);
    memory_free(request);
}

static void stop_accepting(struct web_daemon *daemon)
{
    if (daemon->acceptable.fd < 0)
        return;
    ev_io_stop(daemon->web->loop->ev, &daemon->acceptable);
    close(daemon->acceptable.fd);
    daemon->acceptable.fd = -1;
}

static void end_streams(struct web_daemon *daemon)
{
    LIST_EACH(item, &daemon->streams)
    {
        web_stream_end(CONTAINER_OF(item, struct web_stream, in_daemon));
    }
}

static void stop_daemon(struct web_daemon *daemon)
{
    daemon->is_ending = true; /* who has not been heard yet is not */
    end_streams(daemon);
    MHD_run(daemon->daemon); /* takes up what was suspended; sends the last answers */
    ev_io_stop(daemon->web->loop->ev, &daemon->readable);
    ev_timer_stop(daemon->web->loop->ev, &daemon->timer);
    ev_clear_pending(daemon->web->loop->ev, &daemon->timer);
    if (daemon->tls != NULL)
        stop_accepting(daemon);
    web_tls_free(daemon->tls);
    MHD_stop_daemon(daemon->daemon);
    endpoint_clear(&daemon->endpoint);
    memory_free(daemon);
}

static void on_daemon_end(struct deferred *end)
{
    struct web_daemon *daemon = CONTAINER_OF(end, struct web_daemon, end);

    run_now(daemon); /* sends the last answers */
    stop_daemon(daemon);
}

static void end_if_idle(struct web_daemon *daemon)
{
    if (daemon->is_ending && daemon->n_waiting == 0)
        loop_defer(daemon->web->loop, &daemon->end);
}

/* Accepts no more, and stops once nobody waits. */
static void end_daemon(struct web_daemon *daemon)
{
    int listening = daemon->tls == NULL ? MHD_quiesce_daemon(daemon->daemon) : -1;

    if (listening >= 0)
        close(listening);
    if (daemon->tls != NULL)
        stop_accepting(daemon);
    if (daemon->endpoint.path != NULL)
        unlink(daemon->endpoint.path);
    daemon->is_ending = true;
    daemon->end.run = on_daemon_end;
    end_streams(daemon);
    end_if_idle(daemon);
}

/* ---- asked and answered -------------------------------------------------------------
 */

const char *web_target(const struct web_request *request)
{
    return request->target;
}

const char *web_method(const struct web_request *request)
{
    return request->method;
}

const char *web_body(const struct web_request *request, bool *is_too_long)
{
    *is_too_long = request->body.overflowed;
    return text_get(&request->body);
}

static const char *header_of(const struct web_request *request, const char *name)
{
    const char *value =
        MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);

    return value == NULL ? "" : value;
}

const char *web_authorization(const struct web_request *request)
{
    return header_of(request, MHD_HTTP_HEADER_AUTHORIZATION);
}

const char *web_accept(const struct web_request *request)
{
    return header_of(request, MHD_HTTP_HEADER_ACCEPT);
}

bool web_is_from_browser(const struct web_request *request)
{
    return *header_of(request, MHD_HTTP_HEADER_ORIGIN) != '\0' ||
           *header_of(request, MHD_HTTP_HEADER_REFERER) != '\0' ||
           *header_of(request, "Sec-Fetch-Site") != '\0';
}

bool web_is_local(const struct web_request *request)
{
    return request->daemon->endpoint.path != NULL;
}

bool web_peer(const struct web_request *request, struct address *peer)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);

    *peer = (struct address){.sa.sa_family = AF_UNSPEC};
    if (info == NULL || info->client_addr == NULL)
        return false;
    if (info->client_addr->sa_family == AF_INET)
        memcpy(&peer->in, info->client_addr, sizeof peer->in);
    else if (info->client_addr->sa_family == AF_INET6)
        memcpy(&peer->in6, info->client_addr, sizeof peer->in6);
    return peer->sa.sa_family != AF_UNSPEC;
}

void web_add_header(struct web_request *request, const char *header, const char *value)
{
    request->header = header;
    request->value = value;
}

enum basic_auth_answer web_check_auth(const struct web_request *request,
                                      struct basic_auth *auth)
{
    char *password = NULL;
    char *name = MHD_basic_auth_get_username_password(request->connection, &password);
    enum basic_auth_answer answer =
        basic_auth_check(auth, name, password, loop_now_ms(request->daemon->web->loop));

    MHD_free(name);
    MHD_free(password);
    return answer;
}

void web_ask_for_password(struct web_request *request)
{
    struct text body;

    request->asks_for_password = true;
    text_init(&body, 256);
    text_add(&body, "who are you?\n");
    web_answer(request, MHD_HTTP_UNAUTHORIZED, "text/plain; charset=utf-8", &body);
    text_clear(&body);
}

/* Nothing but our own files is loaded or run, and nobody frames the page. */
static const char policy[] =
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

static void add_headers(struct MHD_Response *response, const char *content_type)
{
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
    (void)MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-cache");
    (void)MHD_add_response_header(response, "Content-Security-Policy", policy);
    (void)MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    (void)MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
}

static void add_own_headers(const struct web_request *request,
                            struct MHD_Response *response)
{
    if (request->asks_for_password)
        (void)MHD_add_response_header(response, MHD_HTTP_HEADER_WWW_AUTHENTICATE,
                                      "Basic realm=\"pgrouter\", charset=\"UTF-8\"");
    if (request->header != NULL)
        (void)MHD_add_response_header(response, request->header, request->value);
}

/* `response` is NULL when memory was out. */
static void send_off(struct web_request *request, unsigned status,
                     struct MHD_Response *response)
{
    struct web_daemon *daemon = request->daemon;

    request->status = status;
    request->response = response;
    daemon->n_waiting--;
    if (request->is_asking)
        return;
    MHD_resume_connection(request->connection);
    ev_feed_event(daemon->web->loop->ev, &daemon->timer, EV_TIMER);
    end_if_idle(daemon);
}

static void answer(struct web_request *request, unsigned status, const char *content_type,
                   struct MHD_Response *response)
{
    if (response != NULL) {
        add_own_headers(request, response);
        add_headers(response, content_type);
    }
    send_off(request, status, response);
}

struct web_page *web_page_new(const char *content_type, const struct text *body)
{
    struct web_page *page = body->overflowed ? NULL : memory_zeroed(sizeof *page);

    if (page == NULL)
        return NULL;
    page->n_holders = 1;
    page->response = MHD_create_response_from_buffer(body->length, (void *)text_get(body),
                                                     MHD_RESPMEM_MUST_COPY);
    if (page->response == NULL) {
        memory_free(page);
        return NULL;
    }
    add_headers(page->response, content_type);
    return page;
}

void web_page_release(struct web_page *page)
{
    if (page == NULL || --page->n_holders > 0)
        return;
    MHD_destroy_response(page->response); /* once the last that is sent is gone */
    memory_free(page);
}

void web_answer_page(struct web_request *request, struct web_page *page)
{
    if (page == NULL) {
        web_answer_line(request, MHD_HTTP_INTERNAL_SERVER_ERROR, "out of memory");
        return;
    }
    REQUIRE(request->header == NULL && !request->asks_for_password);
    page->n_holders++;
    request->page = page;
    send_off(request, MHD_HTTP_OK, NULL);
}

void web_answer(struct web_request *request, unsigned status, const char *content_type,
                const struct text *body)
{
    answer(request, status, content_type,
           MHD_create_response_from_buffer(body->length, (void *)text_get(body),
                                           MHD_RESPMEM_MUST_COPY));
}

void web_answer_line(struct web_request *request, unsigned status, const char *line)
{
    struct text body;

    text_init(&body, LINE_BYTES_MAX);
    text_addf(&body, "%s\n", line);
    web_answer(request, status, "text/plain; charset=utf-8", &body);
    text_clear(&body);
}

void web_answer_constant(struct web_request *request, const char *content_type,
                         const void *bytes, size_t n)
{
    answer(request, MHD_HTTP_OK, content_type,
           MHD_create_response_from_buffer(n, (void *)(uintptr_t)bytes,
                                           MHD_RESPMEM_PERSISTENT));
}

/* ---- streams ------------------------------------------------------------------------
 */

/* libmicrohttpd asks for more; while there is none its connection rests. */
static ssize_t give_more(void *arg, uint64_t position, char *buffer, size_t max)
{
    struct web_stream *stream = arg;
    size_t n = stream->pending.length - stream->n_sent;

    (void)position;
    if (n > 0) {
        n = n < max ? n : max;
        memcpy(buffer, text_get(&stream->pending) + stream->n_sent, n);
        stream->n_sent += n;
        return (ssize_t)n;
    }
    if (stream->is_ending)
        return MHD_CONTENT_READER_END_OF_STREAM;
    text_clear(&stream->pending);
    stream->n_sent = 0;
    stream->is_suspended = true;
    MHD_suspend_connection(stream->connection);
    return 0;
}

static void free_stream(void *arg)
{
    struct web_stream *stream = arg;

    stream->on_end(stream->arg, stream);
    list_remove(&stream->daemon->streams, &stream->in_daemon);
    text_clear(&stream->pending);
    memory_free(stream);
}

static void wake(struct web_stream *stream)
{
    if (!stream->is_suspended)
        return;
    stream->is_suspended = false;
    MHD_resume_connection(stream->connection);
    ev_feed_event(stream->daemon->web->loop->ev, &stream->daemon->timer, EV_TIMER);
}

struct web_stream *web_answer_stream(struct web_request *request,
                                     const char *content_type,
                                     void (*on_end)(void *arg, struct web_stream *stream),
                                     void *arg)
{
    struct web_stream *stream = memory_zeroed(sizeof *stream);
    struct MHD_Response *response =
        stream == NULL
            ? NULL
            : MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BYTES, give_more,
                                                stream, free_stream);
    struct text none = {0};

    if (response == NULL) {
        memory_free(stream);
        web_answer(request, MHD_HTTP_SERVICE_UNAVAILABLE, "text/plain", &none);
        return NULL;
    }
    stream->daemon = request->daemon;
    stream->connection = request->connection;
    stream->on_end = on_end;
    stream->arg = arg;
    text_init(&stream->pending, STREAM_BYTES_MAX);
    list_append(&request->daemon->streams, &stream->in_daemon);
    answer(request, MHD_HTTP_OK, content_type, response);
    return stream;
}

bool web_stream_send(struct web_stream *stream, const struct text *text)
{
    if (stream->pending.length > stream->n_sent || stream->is_ending)
        return false;
    text_clear(&stream->pending);
    stream->n_sent = 0;
    text_add_n(&stream->pending, text_get(text), text->length);
    if (stream->pending.overflowed) {
        text_clear(&stream->pending);
        return false;
    }
    wake(stream);
    return true;
}

void web_stream_end(struct web_stream *stream)
{
    stream->is_ending = true;
    wake(stream);
}

/* ---- opening and closing ------------------------------------------------------------
 */

struct web *web_new(struct loop *loop,
                    void (*on_request)(void *arg, struct web_request *request), void *arg)
{
    struct web *web = memory_zeroed(sizeof *web);

    if (web == NULL)
        return NULL;
    web->loop = loop;
    web->on_request = on_request;
    web->arg = arg;
    list_init(&web->daemons);
    return web;
}

static void stop_all(struct list *daemons)
{
    LIST_EACH_SAFE(item, daemons)
    {
        list_remove(daemons, item);
        stop_daemon(CONTAINER_OF(item, struct web_daemon, in_web));
    }
}

void web_free(struct web *web)
{
    if (web == NULL)
        return;
    stop_all(&web->daemons);
    tls_context_release(web->context);
    memory_free(web);
}

void web_secure(struct web *web, struct tls_context *context)
{
    struct tls_context *before = web->context;

    web->context = context == NULL ? NULL : tls_context_hold(context);
    tls_context_release(before);
}

/* ---- with TLS -----------------------------------------------------------------------
 */

static void on_acceptable(struct ev_loop *ev, ev_io *watcher, int events)
{
    struct web_daemon *daemon = CONTAINER_OF(watcher, struct web_daemon, acceptable);

    (void)events;
    while (web_tls_count(daemon->tls) < CONNECTIONS_MAX) {
        struct address peer;
        int fd = socket_accept(watcher->fd, &peer);

        if (fd < 0)
            return;
        web_tls_take(daemon->tls, fd, &peer, daemon->web->context);
    }
    ev_io_stop(ev, watcher); /* the rest waits in the kernel's line */
}

static void on_room(void *arg)
{
    struct web_daemon *daemon = arg;

    if (daemon->acceptable.fd >= 0)
        ev_io_start(daemon->web->loop->ev, &daemon->acceptable);
}

static void on_plain(void *arg, int fd, const struct address *peer)
{
    struct web_daemon *daemon = arg;

    if (MHD_add_connection(daemon->daemon, fd, &peer->sa, address_length(peer)) !=
        MHD_YES)
        return; /* it has closed it */
    ev_feed_event(daemon->web->loop->ev, &daemon->timer, EV_TIMER);
}

static bool begin_tls(struct web_daemon *daemon, int fd)
{
    daemon->tls = web_tls_new(daemon->web->loop, on_plain, on_room, daemon);
    if (daemon->tls == NULL)
        return false;
    ev_io_init(&daemon->acceptable, on_acceptable, fd, EV_READ);
    ev_io_start(daemon->web->loop->ev, &daemon->acceptable);
    return true;
}

/* Takes the socket, also when it fails. */
static struct web_daemon *start_daemon(struct web *web, int fd,
                                       const struct endpoint *endpoint)
{
    struct web_daemon *daemon = memory_zeroed(sizeof *daemon);
    bool has_tls = web->context != NULL && endpoint->path == NULL;
    const union MHD_DaemonInfo *info;

    if (daemon == NULL) {
        close(fd);
        return NULL;
    }
    daemon->web = web;
    list_init(&daemon->streams);
    daemon->endpoint.port = endpoint->port;
    daemon->endpoint.host = endpoint->host == NULL ? NULL : memory_text(endpoint->host);
    daemon->endpoint.path = endpoint->path == NULL ? NULL : memory_text(endpoint->path);
    daemon->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME |
            (has_tls ? MHD_USE_NO_LISTEN_SOCKET : 0),
        0, NULL, NULL, on_access, daemon, MHD_OPTION_URI_LOG_CALLBACK, on_request_line,
        daemon, MHD_OPTION_NOTIFY_COMPLETED, on_completed, NULL,
        MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        SILENCE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES,
        has_tls ? MHD_OPTION_END : MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_END);
    if (daemon->daemon != NULL && has_tls && !begin_tls(daemon, fd)) {
        MHD_stop_daemon(daemon->daemon);
        daemon->daemon = NULL;
    }
    if (daemon->daemon == NULL) {
        close(fd);
        endpoint_clear(&daemon->endpoint);
        memory_free(daemon);
        return NULL;
    }
    info = MHD_get_daemon_info(daemon->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    ev_io_init(&daemon->readable, on_readable, info->epoll_fd, EV_READ);
    ev_timer_init(&daemon->timer, on_timer, 0., 0.);
    ev_io_start(web->loop->ev, &daemon->readable);
    return daemon;
}

static void share_addresses(void *arg, bool share)
{
    struct web *web = arg;

    LIST_EACH(item, &web->daemons)
    {
        struct web_daemon *daemon = CONTAINER_OF(item, struct web_daemon, in_web);

        socket_share(daemon->tls != NULL
                         ? daemon->acceptable.fd
                         : MHD_get_daemon_info(daemon->daemon, MHD_DAEMON_INFO_LISTEN_FD)
                               ->listen_fd,
                     share);
    }
}

static bool start_at(struct web *web, const struct endpoint *endpoint,
                     const struct web_places *places, struct list *daemons,
                     struct text *errors)
{
    int sockets[SOCKETS_PER_ENDPOINT];
    unsigned n =
        socket_listen_beside(endpoint, places->backlog, places->unix_mode,
                             web->daemons.n > 0 ? share_addresses : NULL, web, sockets);
    bool ok = n > 0;

    for (unsigned i = 0; i < n; i++) {
        struct web_daemon *daemon = start_daemon(web, sockets[i], endpoint);

        if (daemon != NULL)
            list_append(daemons, &daemon->in_web);
        else
            ok = false;
    }
    if (!ok)
        text_addf(errors, "[stats]: cannot listen on %s:%u: %s\n",
                  endpoint->path != NULL ? endpoint->path : endpoint->host,
                  endpoint->port, n == 0 ? strerror(errno) : "out of memory");
    return ok;
}

static bool is_among(const struct endpoint *endpoint, const struct endpoint_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        if (endpoint_equal(endpoint, &list->items[i]))
            return true;
    return false;
}

static bool is_served(const struct web *web, const struct endpoint *endpoint)
{
    LIST_EACH(item, &web->daemons)
    {
        if (endpoint_equal(&CONTAINER_OF(item, struct web_daemon, in_web)->endpoint,
                           endpoint))
            return true;
    }
    return false;
}

/* Those that are served since before. */
static void set_mode(const struct web *web, mode_t mode)
{
    LIST_EACH(item, &web->daemons)
    {
        const struct web_daemon *daemon = CONTAINER_OF(item, struct web_daemon, in_web);
        const char *path = daemon->endpoint.path;

        if (path != NULL && chmod(path, mode) != 0)
            LOG(ERROR, "mode of a unix socket not set", TEXT("path", path),
                TEXT("why", strerror(errno)));
    }
}

bool web_configure(struct web *web, const struct web_places *places, struct text *errors)
{
    const struct endpoint_list *endpoints = places->endpoints;
    struct list started;
    bool ok = true;

    list_init(&started);
    for (size_t i = 0; i < endpoints->n; i++)
        if (!is_served(web, &endpoints->items[i]))
            ok = start_at(web, &endpoints->items[i], places, &started, errors) && ok;
    if (!ok) {
        stop_all(&started);
        return false;
    }
    LIST_EACH_SAFE(item, &web->daemons)
    {
        struct web_daemon *daemon = CONTAINER_OF(item, struct web_daemon, in_web);

        if (is_among(&daemon->endpoint, endpoints))
            continue;
        list_remove(&web->daemons, item);
        end_daemon(daemon);
    }
    set_mode(web, places->unix_mode);
    LIST_EACH_SAFE(item, &started)
    {
        list_remove(&started, item);
        list_append(&web->daemons, item);
    }
    return true;
}
