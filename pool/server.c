#include "pool/server.h"

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

static void enter(struct server *server, enum server_state next)
{
    REQUIRE(states[server->state].next & (1u << next));
    server->state = next;
}

static void on_connect_timeout(struct deadline *deadline);

static void try_next_address(struct server *server)
{
    const struct address *address = &server->node->addresses[server->next_address++];

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

static void on_failed(struct stream *stream, enum stream_failure why)
{
    on_address_failed(stream->owner, why);
}

static void forget_topology(struct server *server)
{
    topology_release(server->topology);
    server->topology = NULL;
    server->node = NULL;
}

static void on_open(struct stream *stream)
{
    struct server *server = stream->owner;

    deadline_cancel(&server->deadline);
    forget_topology(server);
    enter(server, SERVER_OPEN);
    server->events->on_open(server);
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
    forget_topology(server);
    atomic_fetch_sub_explicit(&server->load->n_sessions, 1, memory_order_relaxed);
    node_load_release(server->load);
    server->end.run = free_server;
    loop_defer(server->stream.loop, &server->end);
}

const char *server_state_name(enum server_state state)
{
    return states[state].name;
}
