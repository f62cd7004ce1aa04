#include "router/console/web_tls.h"

#include <sys/socket.h>
#include <unistd.h>

#include "core/memory.h"
#include "core/relay.h"

/* For the handshake; afterwards libmicrohttpd looks after silence. */
#define HANDSHAKE_S 15.

struct web_tls {
    struct loop *loop;
    void (*on_plain)(void *arg, int fd, const struct address *peer);
    void (*on_room)(void *arg);
    void *arg;
    struct list connections;
};

struct connection {
    struct link in_web;
    struct web_tls *web; /* NULL: closed, to be freed */
    struct address peer;
    struct stream outside, inside;
    struct relay relay;
    uint64_t n_bytes[2];
    ev_timer patience;
    struct deferred end;
};

static void free_connection(struct deferred *end)
{
    memory_free(CONTAINER_OF(end, struct connection, end));
}

static void close_connection(struct connection *connection)
{
    struct web_tls *web = connection->web;

    connection->web = NULL;
    list_remove(&web->connections, &connection->in_web);
    ev_timer_stop(web->loop->ev, &connection->patience);
    stream_close(&connection->outside);
    stream_close(&connection->inside);
    connection->end.run = free_connection;
    loop_defer(web->loop, &connection->end);
    web->on_room(web->arg);
}

static void on_patience_ended(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev;
    (void)events;
    close_connection(CONTAINER_OF(timer, struct connection, patience));
}

/* ---- relaying -----------------------------------------------------------------------
 */

static void on_half_end(struct relay *relay, unsigned end)
{
    (void)relay;
    (void)end;
}

static void on_relay_end(struct relay *relay)
{
    close_connection(CONTAINER_OF(relay, struct connection, relay));
}

static void on_relay_failed(struct relay *relay, unsigned end, enum stream_failure why)
{
    (void)end;
    (void)why;
    close_connection(CONTAINER_OF(relay, struct connection, relay));
}

static const struct relay_events relay_events = {
    .on_half_end = on_half_end,
    .on_end = on_relay_end,
    .on_failed = on_relay_failed,
};

/* ---- the handshake ------------------------------------------------------------------
 */

static void on_open(struct stream *stream)
{
    struct connection *connection = stream->owner;
    struct web_tls *web = connection->web;
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) {
        close_connection(connection);
        return;
    }
    ev_timer_stop(web->loop->ev, &connection->patience);
    stream_adopt(&connection->inside, web->loop, ends[0], NULL, stream->events,
                 connection);
    relay_start(&connection->relay, &connection->outside, &connection->inside,
                &relay_events, &connection->n_bytes[0], &connection->n_bytes[1]);
    web->on_plain(web->arg, ends[1], &connection->peer);
}

/* None is wanted before the relay begins. */
static void on_bytes(struct stream *stream, struct buffer *bytes)
{
    (void)stream;
    (void)bytes;
    UNREACHABLE();
}

static void on_sent(struct stream *stream)
{
    (void)stream;
}

static void on_end(struct stream *stream)
{
    close_connection(stream->owner);
}

static void on_failed(struct stream *stream, enum stream_failure why)
{
    (void)why;
    close_connection(stream->owner);
}

static const struct stream_events handshake_events = {
    .on_open = on_open,
    .on_bytes = on_bytes,
    .on_sent = on_sent,
    .on_end = on_end,
    .on_failed = on_failed,
};

void web_tls_take(struct web_tls *web, int fd, const struct address *peer,
                  struct tls_context *context)
{
    const struct tls_start how = {.context = context};
    const struct tcp_settings settings = {.keepalive = true};
    struct connection *connection = memory_zeroed(sizeof *connection);

    if (connection == NULL) {
        close(fd);
        return;
    }
    connection->web = web;
    connection->peer = *peer;
    list_append(&web->connections, &connection->in_web);
    ev_timer_init(&connection->patience, on_patience_ended, HANDSHAKE_S, 0.);
    ev_timer_start(web->loop->ev, &connection->patience);
    stream_adopt(&connection->outside, web->loop, fd, &settings, &handshake_events,
                 connection);
    if (!stream_tls_start(&connection->outside, &how))
        close_connection(connection);
}

/* ---- begin and end ------------------------------------------------------------------
 */

struct web_tls *web_tls_new(struct loop *loop,
                            void (*on_plain)(void *arg, int fd,
                                             const struct address *peer),
                            void (*on_room)(void *arg), void *arg)
{
    struct web_tls *web = memory_zeroed(sizeof *web);

    if (web == NULL)
        return NULL;
    web->loop = loop;
    web->on_plain = on_plain;
    web->on_room = on_room;
    web->arg = arg;
    list_init(&web->connections);
    return web;
}

void web_tls_free(struct web_tls *web)
{
    if (web == NULL)
        return;
    LIST_EACH_SAFE(item, &web->connections)
    {
        close_connection(CONTAINER_OF(item, struct connection, in_web));
    }
    memory_free(web);
}

unsigned web_tls_count(const struct web_tls *web)
{
    return (unsigned)web->connections.n;
}
