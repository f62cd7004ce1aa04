#include "pool/server.h"

#include <unistd.h>

#include "core/stream_tls.h"
#include "wire/startup.h"

#define BIT(name) (1u << SERVER_##name)

static const struct {
    const char *name;
    unsigned next; /* set of the states that this one may become */
} states[SERVER_STATE_COUNT] = {
#define X(state, becomes) [SERVER_##state] = {.name = #state, .next = becomes},
    SERVER_STATES(X, BIT)
#undef X
};

static const struct stream_events connecting_events;
static const struct stream_events asking_events;

static void enter(struct server *server, enum server_state next)
{
    REQUIRE(states[server->state].next & (1u << next));
    server->state = next;
}

static void on_connect_timeout(struct deadline *deadline);

static void try_next_address(struct server *server)
{
    const struct address *address = &server->node->addresses[server->next_address++];

    if (server->state != SERVER_CONNECTING)
        enter(server, SERVER_CONNECTING);
    stream_connect(&server->stream, server->stream.loop, address, server->settings,
                   &connecting_events, server);
    if (server->connect_timeout_ms > 0)
        deadline_arm(server->stream.loop, &server->deadline, server->connect_timeout_ms,
                     on_connect_timeout);
}

static void on_address_failed(struct server *server, enum stream_failure why)
{
    deadline_cancel(&server->deadline);
    if (server->next_address < server->node->n_addresses)
        try_next_address(server);
    else
        server->events->on_unreachable(server, why);
}

static void on_connect_timeout(struct deadline *deadline)
{
    struct server *server = CONTAINER_OF(deadline, struct server, deadline);

    stream_close(&server->stream);
    on_address_failed(server, STREAM_UNREACHABLE);
}

/* What is needed on the way, and no longer. */
static void forget_way(struct server *server)
{
    topology_release(server->topology);
    security_release(server->security);
    server->topology = NULL;
    server->security = NULL;
    server->node = NULL;
}

static void finish(struct server *server)
{
    deadline_cancel(&server->deadline);
    forget_way(server);
    enter(server, SERVER_OPEN);
    server->events->on_open(server);
}

/* ---- TLS ----------------------------------------------------------------------------
 */

/* The node has spoken, and will say the same at its other addresses. */
static void give_up(struct server *server, enum stream_failure failure, const char *why)
{
    deadline_cancel(&server->deadline);
    server->tls_why = why;
    server->events->on_unreachable(server, failure);
}

static void begin_tls(struct server *server)
{
    const struct tls_start how = {.context = server->security->server_context,
                                  .host = server->node->host,
                                  .memory = server->memory,
                                  .needs_alpn = server->node->begins_with_tls};

    enter(server, SERVER_SECURING);
    server->stream.events = &connecting_events;
    if (!stream_tls_start(&server->stream, &how))
        give_up(server, STREAM_NO_MEMORY, NULL);
}

/* One byte; what stands behind it would pass for something encrypted (CVE-2021-23222). */
static void on_answer(struct stream *stream, struct buffer *bytes)
{
    struct server *server = stream->owner;
    bool is_alone = buffer_unread(bytes) == 1;
    uint8_t answer = bytes->bytes[bytes->begin];

    buffer_give(bytes);
    stream_want(stream, false);
    if (answer == 'E') /* it cannot serve anybody, or is very old */
        give_up(server, STREAM_REFUSED, NULL);
    else if ((answer != 'S' && answer != 'N') || !is_alone)
        give_up(server, STREAM_TLS_FAILED,
                "the node answers a request for TLS with more than that");
    else if (answer == 'S')
        begin_tls(server);
    else if (server->security->to_servers >= SSLMODE_REQUIRE)
        give_up(server, STREAM_TLS_FAILED,
                "the node has none, and server_tls_sslmode asks for it");
    else
        finish(server);
}

static bool wants_tls(const struct server *server)
{
    const struct address *address = &server->node->addresses[server->next_address - 1];

    return server->security != NULL && server->security->server_context != NULL &&
           address->sa.sa_family != AF_UNIX;
}

static void ask_for_tls(struct server *server)
{
    struct buffer *request = buffer_take(server->stream.loop->pond);
    uint8_t bytes[8];

    wire_write_u32(bytes, sizeof bytes);
    wire_write_u32(bytes + 4, STARTUP_CODE_SSL);
    if (request == NULL || !buffer_add(request, bytes, sizeof bytes)) {
        buffer_give(request);
        give_up(server, STREAM_NO_MEMORY, NULL);
        return;
    }
    enter(server, SERVER_ASKING);
    server->stream.events = &asking_events;
    (void)stream_send(&server->stream, request);
    stream_want(&server->stream, true);
}

static void on_end(struct stream *stream)
{
    give_up(stream->owner, STREAM_RESET, NULL);
}

static void on_sent(struct stream *stream)
{
    (void)stream;
}

/* ---- callbacks ----------------------------------------------------------------------
 */

/* Connected, or the handshake is done. */
static void on_open(struct stream *stream)
{
    struct server *server = stream->owner;

    if (server->state == SERVER_CONNECTING && wants_tls(server) &&
        server->node->begins_with_tls)
        begin_tls(server);
    else if (server->state == SERVER_CONNECTING && wants_tls(server))
        ask_for_tls(server);
    else
        finish(server);
}

static void on_failed(struct stream *stream, enum stream_failure why)
{
    const char *tls_why = why == STREAM_TLS_FAILED ? stream_tls_why(stream) : NULL;

    if (tls_why == stream_tls_peer_has_left) /* as nodes do that shut down */
        on_address_failed(stream->owner, STREAM_RESET);
    else if (tls_why != NULL)
        give_up(stream->owner, why, tls_why);
    else
        on_address_failed(stream->owner, why);
}

/* Until a server is open nobody reads from it. */
static void on_too_early(struct stream *stream)
{
    (void)stream;
    UNREACHABLE();
}

static void on_bytes_too_early(struct stream *stream, struct buffer *bytes)
{
    (void)bytes;
    on_too_early(stream);
}

static const struct stream_events connecting_events = {
    .on_open = on_open,
    .on_bytes = on_bytes_too_early,
    .on_sent = on_too_early,
    .on_end = on_too_early,
    .on_failed = on_failed,
    .comes_first = true,
};

static const struct stream_events asking_events = {
    .on_open = on_too_early,
    .on_bytes = on_answer,
    .on_sent = on_sent,
    .on_end = on_end,
    .on_failed = on_failed,
};

struct server *server_open(struct slab *home, struct loop *loop,
                           struct topology *topology, const struct topology_node *node,
                           uint64_t connect_timeout_ms,
                           const struct tcp_settings *settings,
                           const struct server_events *events, void *owner)
{
    struct server *server = slab_take(home);

    REQUIRE(node->n_addresses > 0);
    if (server == NULL)
        return NULL;
    server->home = home;
    server->events = events;
    server->owner = owner;
    server->settings = settings;
    server->connect_timeout_ms = connect_timeout_ms;
    server->topology = topology_hold(topology);
    server->node = node;
    server->node_id = node->id;
    server->load = node_load_hold(node->load);
    atomic_fetch_add_explicit(&server->load->n_sessions, 1, memory_order_relaxed);
    server->state = SERVER_CONNECTING;
    server->stream.loop = loop;
    try_next_address(server);
    return server;
}

static bool adopt(struct server *server, struct loop *loop, int fd, SSL *ssl,
                  const struct stream_events *events, void *owner)
{
    if (ssl != NULL)
        return stream_tls_adopt(&server->stream, loop, fd, ssl, NULL, events, owner);
    stream_adopt(&server->stream, loop, fd, NULL, events, owner);
    return true;
}

struct server *server_adopt(struct slab *home, struct loop *loop, int fd, SSL *ssl,
                            uint32_t node_id, struct node_load *load,
                            const struct stream_events *events, void *owner)
{
    struct server *server = slab_take(home);

    if (server == NULL || !adopt(server, loop, fd, ssl, events, owner)) {
        if (server != NULL)
            slab_give(home, server);
        stream_tls_discard(ssl);
        close(fd);
        return NULL;
    }
    server->home = home;
    server->owner = owner;
    server->node_id = node_id;
    server->load = node_load_hold(load);
    atomic_fetch_add_explicit(&load->n_sessions, 1, memory_order_relaxed);
    server->state = SERVER_OPEN;
    return server;
}

void server_secure(struct server *server, struct security *security,
                   struct tls_memory *memory)
{
    REQUIRE(server->state == SERVER_CONNECTING && server->security == NULL);
    server->security = security_hold(security);
    server->memory = memory;
}

static void free_server(struct deferred *end)
{
    struct server *server = CONTAINER_OF(end, struct server, end);

    slab_give(server->home, server);
}

void server_close(struct server *server, bool reset)
{
    if (server->state == SERVER_CLOSING)
        return;
    enter(server, SERVER_CLOSING);
    deadline_cancel(&server->deadline);
    if (reset)
        stream_reset(&server->stream);
    else
        stream_close(&server->stream);
    forget_way(server);
    atomic_fetch_sub_explicit(&server->load->n_sessions, 1, memory_order_relaxed);
    node_load_release(server->load);
    server->end.run = free_server;
    loop_defer(server->stream.loop, &server->end);
}

const char *server_state_name(enum server_state state)
{
    return states[state].name;
}
