#include "router/cancel.h"

#include <string.h>
#include <unistd.h>

#include "core/memory.h"
#include "router/lease.h"
#include "router/peers.h"
#include "router/worker.h"

/* More nodes than this one request does not go to. */
#define TARGETS_MAX 16u

/* A cancel request under way: first a message that asks every worker in turn, then, at
 * home again, a connection to each node that it is meant for, one after the other. */
struct cancel_run {
    struct message message;
    struct link in_home;
    struct worker *home;
    struct client
        *client; /* NULL once it has gone: the request is carried on all the same */
    struct listener *listener; /* held */
    struct address peer;
    struct cancel_key key;
    struct pooled *aim;      /* of a pool's client: the server that it had */
    struct worker *aimed_by; /* whose server that is */
    bool is_known;           /* a session with this key was found */
    bool is_refused;         /* too many of this address */
    bool is_doubtful;        /* a node has it, and may act on it later */
    unsigned n_asked;
    unsigned n_targets;
    uint32_t targets[TARGETS_MAX]; /* node ids */
    struct server *server;         /* to the target that is being told now */
    struct peer_question question; /* where the peer is that has made the key */
    struct stream peer_stream;     /* to it */
    struct deadline patience;      /* with it */
    struct deferred end;
    bool is_passed_on; /* to the peer, or on the way */
};

static void tell_next_target(struct cancel_run *run);
static void on_target_done(struct cancel_run *run);

static void on_aimed(struct message *message, void *receiver)
{
    struct cancel_run *run = CONTAINER_OF(message, struct cancel_run, message);

    (void)receiver;
    pool_aimed(run->aim, !run->is_doubtful);
    listener_release(run->listener);
    memory_free(run);
}

static enum close_reason reason_of(const struct cancel_run *run)
{
    if (run->is_refused)
        return CLOSE_CANCEL_LIMIT;
    return run->n_targets == 0 && !run->is_passed_on ? CLOSE_CANCEL_UNKNOWN
                                                     : CLOSE_CANCEL_DONE;
}

static void free_run(struct deferred *end)
{
    memory_free(CONTAINER_OF(end, struct cancel_run, end));
}

static void finish(struct cancel_run *run)
{
    if (run->client != NULL)
        client_close(run->client, reason_of(run));
    list_remove(&run->home->cancel_runs, &run->in_home);
    deadline_cancel(&run->patience);
    stream_close(&run->peer_stream);
    if (run->aim != NULL) {
        mailbox_post(run->aimed_by->mailbox, &run->message, on_aimed);
        return;
    }
    listener_release(run->listener);
    run->end.run = free_run; /* this may be a callback of its stream */
    loop_defer(run->home->loop, &run->end);
}

void cancel_stop(struct worker *worker)
{
    LIST_EACH_SAFE(item, &worker->cancel_runs)
    {
        struct cancel_run *run = CONTAINER_OF(item, struct cancel_run, in_home);

        if (run->server != NULL)
            on_target_done(run);
        else if (stream_is_open(&run->peer_stream))
            finish(run);
        /* else it is under way between the workers */
    }
}

void cancel_forget_client(struct cancel_run *run)
{
    run->client = NULL;
}

/* ---- telling the nodes --------------------------------------------------------------
 */

/* The node has acted when it closes the connection; whatever else it says, or if it
 * cannot be reached, there is nothing more that we can do for the request. */
static void on_target_done(struct cancel_run *run)
{
    server_close(run->server, false);
    run->server = NULL;
    tell_next_target(run);
}

/* It has the request, and has not said that it is done with it. */
static void on_target_lost(struct cancel_run *run)
{
    run->is_doubtful = true;
    on_target_done(run);
}

static void on_unreachable(struct server *server, enum stream_failure why)
{
    (void)why;
    on_target_done(server->owner);
}

static void on_server_bytes(struct stream *stream, struct buffer *bytes)
{
    (void)stream; /* a node does not answer a cancel request */
    buffer_give(bytes);
}

static void on_server_end(struct stream *stream)
{
    on_target_done(stream->owner);
}

static void on_server_failed(struct stream *stream, enum stream_failure why)
{
    (void)why;
    on_target_lost(stream->owner);
}

static void on_server_nothing(struct stream *stream)
{
    (void)stream;
}

static const struct stream_events target_stream_events = {
    .on_open = on_server_nothing,
    .on_bytes = on_server_bytes,
    .on_sent = on_server_nothing,
    .on_end = on_server_end,
    .on_failed = on_server_failed,
};

static void on_patience_ended(struct deadline *deadline)
{
    struct server *server = CONTAINER_OF(deadline, struct server, deadline);

    on_target_lost(server->owner);
}

static void on_open(struct server *server)
{
    struct cancel_run *run = server->owner;
    struct buffer *request = buffer_take(run->home->loop->pond);
    uint8_t bytes[CANCEL_BYTES_MAX];
    size_t n = startup_write_cancel(&run->key, bytes);

    if (request == NULL) {
        on_target_done(run);
        return;
    }
    REQUIRE(buffer_add(request, bytes, (uint32_t)n));
    server->stream.events = &target_stream_events;
    server->stream.owner = run;
    (void)stream_send(&server->stream, request);
    stream_want(&server->stream, true);
    deadline_arm(run->home->loop, &server->deadline,
                 (uint64_t)run->listener->settings->connect_timeout, on_patience_ended);
}

static const struct server_events target_events = {
    .on_open = on_open,
    .on_unreachable = on_unreachable,
};

static void tell_next_target(struct cancel_run *run)
{
    struct worker *worker = run->home;

    while (run->n_asked < run->n_targets && !worker->is_stopping) {
        uint32_t id = run->targets[run->n_asked++];
        const struct topology_node *node = topology_node(worker->topology, id);
        struct tally *tally;

        if (node == NULL || node->n_addresses == 0)
            continue;
        run->server =
            server_open(worker->server_slab, worker->loop, worker->topology, node,
                        (uint64_t)run->listener->settings->connect_timeout,
                        &run->listener->tcp, &target_events, run);
        if (run->server == NULL)
            continue;
        if (run->aim != NULL) /* as the pools' own servers */
            server_secure(run->server, worker->pools.home.security,
                          security_memory(&worker->pools.memories, id));
        tally = tally_get(&worker->tallies, run->listener->settings->name, id);
        if (tally != NULL)
            tally->cancels++;
        return;
    }
    finish(run);
}

/* ---- telling a peer -----------------------------------------------------------------
 */

static void on_peer_bytes(struct stream *stream, struct buffer *bytes)
{
    (void)stream; /* nor does a peer */
    buffer_give(bytes);
}

static void on_peer_end(struct stream *stream)
{
    finish(stream->owner);
}

static void on_peer_failed(struct stream *stream, enum stream_failure why)
{
    (void)why;
    finish(stream->owner);
}

static void on_peer_impatience(struct deadline *deadline)
{
    finish(CONTAINER_OF(deadline, struct cancel_run, patience));
}

static void tell_peer(struct stream *stream)
{
    struct cancel_run *run = stream->owner;
    struct buffer *request = buffer_take(run->home->loop->pond);
    uint8_t bytes[CANCEL_BYTES_MAX];

    if (request == NULL) {
        finish(run);
        return;
    }
    REQUIRE(buffer_add(request, bytes, (uint32_t)startup_write_cancel(&run->key, bytes)));
    (void)stream_send(stream, request);
    stream_want(stream, true); /* it has acted when it closes */
}

static const struct stream_events peer_events = {
    .on_open = tell_peer,
    .on_bytes = on_peer_bytes,
    .on_sent = on_server_nothing,
    .on_end = on_peer_end,
    .on_failed = on_peer_failed,
};

static void connect_to_peer(struct cancel_run *run)
{
    const struct peer_place *place = &run->question.place;
    struct loop *loop = run->home->loop;
    int fd;

    run->is_passed_on = true;
    deadline_arm(loop, &run->patience, (uint64_t)run->listener->settings->connect_timeout,
                 on_peer_impatience);
    if (*place->path == '\0') {
        stream_connect(&run->peer_stream, loop, &place->address, &run->listener->tcp,
                       &peer_events, run);
        return;
    }
    fd = socket_connect_path(place->path);
    if (fd < 0) {
        finish(run);
        return;
    }
    stream_adopt(&run->peer_stream, loop, fd, &run->listener->tcp, &peer_events, run);
    tell_peer(&run->peer_stream);
}

static void on_peer_place(struct message *message, void *receiver)
{
    struct peer_question *question = CONTAINER_OF(message, struct peer_question, message);
    struct cancel_run *run = CONTAINER_OF(question, struct cancel_run, question);
    const struct worker *worker = receiver;

    if (question->is_found && !worker->is_stopping && cancel_key_spend(&run->key))
        connect_to_peer(run);
    else
        finish(run);
}

/* Nobody here knows the key of a request to a pool, and another process may have made it.
 */
static bool is_for_peer(const struct cancel_run *run)
{
    unsigned own = (unsigned)run->listener->config->main.peer_id;

    return own != 0 && run->listener->settings->mode == MODE_POOL && !run->is_known &&
           !run->is_refused && cancel_key_peer(&run->key) != own;
}

static void look_for_peer(struct cancel_run *run)
{
    run->question.id = cancel_key_peer(&run->key);
    run->question.home = run->home->mailbox;
    run->question.on_answer = on_peer_place;
    mailbox_post(run->home->control.mailbox, &run->question.message,
                 run->home->control.on_peer_wanted);
}

/* ---- asking the workers -------------------------------------------------------------
 */

static void add_target(struct cancel_run *run, uint32_t node_id)
{
    for (unsigned i = 0; i < run->n_targets; i++)
        if (run->targets[i] == node_id)
            return;
    if (run->n_targets < TARGETS_MAX)
        run->targets[run->n_targets++] = node_id;
}

/* The session that is meant may have hidden its key from us: where has this address one?
 */
static void add_nodes_of_address(struct cancel_run *run, const struct worker *worker)
{
    LIST_EACH(item, &worker->clients)
    {
        const struct client *client = CONTAINER_OF(item, struct client, in_worker);

        if (client->state == CLIENT_ACTIVE && client->key == NULL &&
            address_same_host(&client->peer, &run->peer) &&
            strcmp(client->listener->settings->name, run->listener->settings->name) == 0)
            add_target(run, client->server->node_id);
    }
}

static void aim(struct cancel_run *run, struct worker *worker, struct pooled *server)
{
    run->aim = server;
    run->aimed_by = worker;
    run->key = server->key;
    run->targets[run->n_targets++] = server->node_id;
    pool_aim(server);
}

/* A client of a pool: what it has asked of a server, or still waits to. While its server
 * is TUNING that has not heard of it, and what is said there is ours. */
static void aim_at(struct cancel_run *run, struct worker *worker, struct client *client)
{
    if (client->state == CLIENT_LEASED && client->lease->state == POOLED_ACTIVE) {
        aim(run, worker, client->lease);
    } else if (client->state == CLIENT_QUEUED || client->state == CLIENT_LEASED) {
        lease_cancel(client);
        client_settle(client);
    }
}

static void on_home(struct message *message, void *receiver)
{
    struct cancel_run *run = CONTAINER_OF(message, struct cancel_run, message);

    (void)receiver;
    run->n_asked = 0;
    if (is_for_peer(run))
        look_for_peer(run);
    else
        tell_next_target(run);
}

static void ask(struct message *message, void *receiver)
{
    struct cancel_run *run = CONTAINER_OF(message, struct cancel_run, message);
    struct worker *worker = receiver;
    uint32_t node_id;
    void *client;

    if (worker->cancel_rates != NULL &&
        !cancel_rates_allow(worker->cancel_rates, &run->peer,
                            loop_now_ms(worker->loop))) {
        run->is_refused = true;
        run->n_targets = 0;
    } else if (cancel_keys_find(worker->cancel_keys, &run->key, &node_id, &client)) {
        run->is_known = true;
        run->n_targets = 0;
        if (client != NULL) {
            aim_at(run, worker, client);
        } else {
            run->targets[0] = node_id;
            run->n_targets = 1;
        }
    } else {
        add_nodes_of_address(run, worker);
    }

    run->n_asked++;
    if (run->is_known || run->is_refused || run->n_asked == worker->n_workers)
        mailbox_post(run->home->mailbox, message, on_home);
    else
        mailbox_post(worker->workers[run->n_asked]->mailbox, message, ask);
}

void cancel_abandoned(struct client *client)
{
    struct cancel_run *run = memory_zeroed(sizeof *run);

    if (run == NULL)
        return; /* the server ends its query by itself, or is closed after a while */
    run->home = client->worker;
    run->listener = listener_hold(client->listener);
    run->peer = client->peer;
    list_append(&run->home->cancel_runs, &run->in_home);
    aim(run, client->worker, client->lease);
    tell_next_target(run);
}

bool cancel_make_key(struct client *client, struct cancel_key *key)
{
    unsigned peer_id = (unsigned)client->listener->config->main.peer_id;

    if (!cancel_key_make(key, peer_id, client->has_long_key))
        return false;
    client->key = cancel_keys_add_own(client->worker->cancel_keys, key, client);
    return client->key != NULL;
}

/* A key of ours that peers have passed on is found as it was made. */
static void recognize(struct cancel_run *run)
{
    unsigned own = (unsigned)run->listener->config->main.peer_id;

    if (own != 0 && run->listener->settings->mode == MODE_POOL &&
        cancel_key_peer(&run->key) == own)
        cancel_key_renew(&run->key);
}

void cancel_begin(struct client *client, const struct startup_packet *packet)
{
    struct cancel_run *run = memory_zeroed(sizeof *run);

    if (run == NULL) {
        client_close(client, CLOSE_NO_MEMORY);
        return;
    }
    run->home = client->worker;
    run->client = client;
    run->listener = listener_hold(client->listener);
    run->peer = client->peer;
    startup_cancel_key(client->inbox->bytes + client->inbox->begin, packet, &run->key);
    recognize(run);
    client->cancel = run;
    list_append(&run->home->cancel_runs, &run->in_home);
    client_enter(client, CLIENT_CANCELLING);
    mailbox_post(client->worker->workers[0]->mailbox, &run->message, ask);
}
