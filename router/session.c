#include "router/session.h"

#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "core/memory.h"
#include "router/login.h"
#include "router/route.h"
#include "router/startup.h"
#include "router/worker.h"
#include "wire/login.h"

/* What is needed from the connection to the node until ReadyForQuery, and no longer. */
struct login {
    struct login_watch watch;
    struct buffer *held; /* the begin of the node's first word, until that is whole */
    bool is_answered;    /* it has spoken: the first packet is no longer ours */
};

static void free_login(struct client *client)
{
    if (client->login != NULL)
        buffer_give(client->login->held);
    memory_free(client->login);
    client->login = NULL;
}

static const struct server_events server_events;
static const struct stream_events server_stream_events;
static const struct relay_events relay_events;

/* ---- choosing a node, and waiting for one -------------------------------------------
 */

static const struct topology_cluster *cluster_of(const struct client *client)
{
    const struct topology *topology = client->worker->topology;

    return topology == NULL || client->listener->settings->to == NULL
               ? NULL /* memory was out when the first one was to be sent */
               : topology_cluster(topology, client->listener->settings->to->name);
}

/* The index of the node to try next, -1 when there is none. */
static int choose_node(struct client *client, const struct topology_cluster *cluster)
{
    struct route_request request = {
        .listener = client->listener->settings,
        .client = &client->peer,
        .turn =
            atomic_fetch_add_explicit(&client->listener->turn, 1, memory_order_relaxed),
        .random = client->worker->random =
            client->worker->random * 1664525u + 1013904223u,
    };

    if (cluster == NULL)
        return -1;
    if (client->tried_in == client->worker->topology->generation)
        request.tried = client->tried;
    return route_choose(cluster, &request);
}

static void give_up_waiting(struct client *client)
{
    const struct topology_cluster *cluster = cluster_of(client);
    char why[ROUTE_WHY_MAX];

    if (client->waits_for_place) {
        snprintf(why, sizeof why, "%s (%s)", close_facts[CLOSE_TOO_MANY_CLIENTS].text,
                 client->ticket->full);
        client_refuse(client, CLOSE_TOO_MANY_CLIENTS, why);
    } else if (cluster == NULL) {
        client_refuse(client, CLOSE_NO_NODE, "the cluster is not configured any more");
    } else {
        route_why_none(cluster, client->listener->settings, why);
        client_refuse(client, CLOSE_NO_NODE, why);
    }
}

static void connect_to(struct client *client, const struct topology_cluster *cluster,
                       int index)
{
    struct worker *worker = client->worker;

    worker_stop_waiting(worker, client);
    client_enter(client, CLIENT_CONNECTING);
    client->tried =
        1ull << index |
        (client->tried_in == worker->topology->generation ? client->tried : 0);
    client->tried_in = worker->topology->generation;
    client->connecting_at_ns = worker->loop->now_ns;
    client->server = server_open(worker->server_slab, worker->loop, worker->topology,
                                 &cluster->nodes[index],
                                 (uint64_t)client->listener->settings->connect_timeout,
                                 &client->listener->tcp, &server_events, client);
    if (client->server == NULL)
        client_refuse(client, CLOSE_NO_MEMORY, NULL);
}

void session_try_again(struct client *client)
{
    const struct topology_cluster *cluster = cluster_of(client);
    int index = -1;

    client->waits_for_place = !client->ticket->knows_admission;
    if (!client->waits_for_place && client_is_pooled(client)) {
        worker_stop_waiting(client->worker, client);
        login_begin(client);
        return;
    }
    if (!client->waits_for_place)
        index = choose_node(client, cluster);
    if (index >= 0)
        connect_to(client, cluster, index);
    else if (loop_now_ms(client->worker->loop) >= client->wait_until_ms ||
             (!client->waits_for_place && cluster != NULL &&
              route_refuses(cluster, client->listener->settings)))
        give_up_waiting(client);
}

static void wait_for_node(struct client *client)
{
    client_enter(client, CLIENT_WAITING);
    worker_wait(client->worker, client);
    session_try_again(client);
}

void session_begin(struct client *client)
{
    client->wait_until_ms = loop_now_ms(client->worker->loop) +
                            (uint64_t)client->listener->settings->queue_timeout;
    wait_for_node(client);
}

/* ---- connecting ---------------------------------------------------------------------
 */

static struct tally *tally_of(struct client *client, uint32_t node_id)
{
    return tally_get(&client->worker->tallies, client->listener->settings->name, node_id);
}

/* One more of what all workers count together; a worker keeps the most that it has seen.
 */
static void count_up(atomic_uint *now, uint64_t *most)
{
    unsigned n = atomic_fetch_add_explicit(now, 1, memory_order_relaxed) + 1;

    if (n > *most)
        *most = n;
}

static void count_session(struct client *client)
{
    struct worker *worker = client->worker;
    struct tally *tally = tally_of(client, client->server->node_id);
    struct tally *front = tally_of(client, 0);
    uint64_t took_us = (worker->loop->now_ns - client->connecting_at_ns) / 1000;

    if (tally == NULL || front == NULL)
        return;
    client->tally = tally;
    count_up(&client->server->load->shares[client->listener->share],
             &tally->sessions_max);
    count_up(&client->ticket->gate->n_sessions, &front->sessions_max);
    tally->sessions_now++;
    tally->sessions_total++;
    tally->connect_us_total += took_us;
    if (took_us > tally->connect_us_max)
        tally->connect_us_max = took_us;
    tally->last_session_s = worker->loop->now_ns / 1000000000u;
}

static void count_session_end(struct client *client)
{
    if (client->tally == NULL)
        return;
    client_count_bytes(client);
    atomic_fetch_sub_explicit(&client->server->load->shares[client->listener->share], 1,
                              memory_order_relaxed);
    atomic_fetch_sub_explicit(&client->ticket->gate->n_sessions, 1, memory_order_relaxed);
    client->tally->sessions_now--;
    client->tally = NULL;
}

void session_drop_server(struct client *client, bool reset)
{
    count_session_end(client);
    if (client->key != NULL) {
        cancel_keys_remove(client->worker->cancel_keys, client->key);
        client->key = NULL;
    }
    free_login(client);
    if (client->server != NULL) {
        server_close(client->server, reset);
        client->server = NULL;
    }
}

/* Nothing of the node has reached the client: as if nothing had been. */
static void look_elsewhere(struct client *client)
{
    struct tally *tally = tally_of(client, client->server->node_id);

    if (tally != NULL)
        tally->retries++;
    session_drop_server(client, false);
    wait_for_node(client);
    client_settle(client);
}

static void on_node_failed(struct client *client, enum evidence evidence)
{
    uint32_t node_id = client->server->node_id;
    struct tally *tally = tally_of(client, node_id);

    worker_evidence(client->worker, node_id, evidence);
    if (tally != NULL)
        tally->connect_errors++;
    look_elsewhere(client);
}

static void on_unreachable(struct server *server, enum stream_failure why)
{
    struct client *client = server->owner;

    if (why == STREAM_NO_MEMORY) /* our fault, not the node's */
        client_refuse(client, CLOSE_NO_MEMORY, stream_failure_text(why));
    else
        on_node_failed(client,
                       why == STREAM_UNREACHABLE ? EVIDENCE_SILENT : EVIDENCE_REFUSED);
}

static void on_open(struct server *server)
{
    struct client *client = server->owner;

    count_session(client);
    server->stream.events = &server_stream_events;
    server->stream.owner = client;
    session_send_first_packet(client);
    client_settle(client);
}

static const struct server_events server_events = {
    .on_open = on_open,
    .on_unreachable = on_unreachable,
};

/* ---- the first packet, and what the node answers -------------------------------------
 */

static void log_session_begin(const struct client *client)
{
    const struct topology_node *node =
        topology_node(client->worker->topology, client->server->node_id);
    char address[ADDRESS_TEXT_MAX], proxy[ADDRESS_TEXT_MAX];

    LOG(INFO, "session began", TEXT("client", address_print(&client->peer, address)),
        TEXT("proxy", client_proxy(client, proxy)),
        TEXT("listener", client->listener->settings->name),
        TEXT("node", node == NULL ? NULL : node->name),
        DECIMAL("waited_seconds",
                (double)(client->began_at_ms - client->accepted_at_ms) / 1e3),
        NUMBER("worker", client->worker->number));
}

/* Everything that the inbox holds goes to the server. */
static void send_inbox(struct client *client)
{
    struct buffer *buffer;

    while ((buffer = client->inbox) != NULL) {
        client->inbox = buffer->next;
        if (buffer_unread(buffer) == 0) {
            buffer_give(buffer);
        } else {
            client->n_bytes[0] += buffer_unread(buffer);
            (void)stream_send(&client->server->stream, buffer);
        }
    }
}

static void start_relay(struct client *client)
{
    free_login(client);
    send_inbox(client);
    relay_start(&client->relay, &client->stream, &client->server->stream, &relay_events,
                &client->n_bytes[0], &client->n_bytes[1]);
}

static void begin_relay(struct client *client)
{
    client_enter(client, CLIENT_ACTIVE);
    client->began_at_ms = loop_now_ms(client->worker->loop);
    start_relay(client);
    if (client->worker->config->main.log_connections)
        log_session_begin(client);
}

/* The packet stays in the inbox until the node has answered: if it does not, another node
 * gets it. So what is sent is a copy. */
static bool send_copy_of_first_packet(struct client *client)
{
    struct startup_packet packet = startup_read(
        client->inbox->bytes + client->inbox->begin, buffer_unread(client->inbox));
    struct buffer *copy = buffer_take(client->worker->loop->pond);

    if (copy == NULL)
        return false;
    REQUIRE(buffer_add(copy, client->inbox->bytes + client->inbox->begin, packet.length));
    (void)stream_send(&client->server->stream, copy);
    return true;
}

void session_send_first_packet(struct client *client)
{
    if (client->first == STARTUP_DIRECT_TLS) {
        begin_relay(client);
        return;
    }
    if (client->login == NULL)
        client->login = memory_zeroed(sizeof *client->login);
    else
        *client->login = (struct login){0};
    if (client->login == NULL || !send_copy_of_first_packet(client)) {
        client_refuse(client, CLOSE_NO_MEMORY, NULL);
        return;
    }
    client_enter(client,
                 client->first == STARTUP_LOGIN ? CLIENT_LOGIN : CLIENT_NEGOTIATING);
    stream_want(&client->server->stream, true);
}

/* The node has the packet: it leaves the inbox, what is behind it stays. */
static void drop_first_packet(struct client *client)
{
    struct startup_packet packet = startup_read(
        client->inbox->bytes + client->inbox->begin, buffer_unread(client->inbox));
    struct buffer *buffer = client->inbox;

    client->n_bytes[0] += packet.length;
    buffer_skip(buffer, packet.length);
    if (buffer_unread(buffer) == 0) {
        client->inbox = buffer->next;
        buffer_give(buffer);
    }
}

static void send_to_client(struct client *client, struct buffer *bytes)
{
    client->n_bytes[1] += buffer_unread(bytes);
    if (!stream_send(&client->stream, bytes) && client->server != NULL)
        stream_want(&client->server->stream, false);
}

/* False when there is no room: then the node's word is too long to be a refusal. */
static bool hold(struct login *login, struct buffer *bytes)
{
    if (login->held == NULL) {
        login->held = bytes;
        return true;
    }
    if (!buffer_add(login->held, bytes->bytes + bytes->begin, buffer_unread(bytes)))
        return false;
    buffer_give(bytes);
    return true;
}

/* The node has answered: the first packet has done its work. */
static void take_answer(struct client *client)
{
    struct buffer *held = client->login->held;

    client->login->is_answered = true;
    client->login->held = NULL;
    drop_first_packet(client);
    if (held != NULL)
        send_to_client(client, held);
}

/* One byte answers a request to encrypt: 'S' or 'G' = both go on in secret, 'N' = no, and
 * a first packet follows again; an old server may send an ErrorResponse. */
static void on_encryption_answer(struct client *client, struct buffer *bytes)
{
    uint8_t answer = bytes->bytes[bytes->begin];

    take_answer(client);
    switch (answer) {
    case 'S':
    case 'G':
    case 'E':
        send_to_client(client, bytes);
        begin_relay(client);
        break;
    case 'N':
        if (buffer_unread(bytes) > 1) { /* nobody has asked it anything more */
            buffer_give(bytes);
            client_close(client, CLOSE_SERVER_CONFUSED);
            break;
        }
        send_to_client(client, bytes);
        client->first = STARTUP_INCOMPLETE;
        client_enter(client, CLIENT_STARTUP);
        startup_advance(client);
        break;
    default:
        buffer_give(bytes);
        client_close(client, CLOSE_SERVER_CONFUSED);
    }
}

static bool is_shutting_down(const struct error_fields *error)
{
    return strcmp(error->severity, "FATAL") == 0 &&
           (strcmp(error->sqlstate, "57P01") == 0 ||
            strcmp(error->sqlstate, "57P02") == 0 ||
            strcmp(error->sqlstate, "57P03") == 0);
}

enum login_step { STEP_ON, STEP_OPEN, STEP_ELSEWHERE, STEP_CONFUSED };

/* Follows the login through the bytes that have come from the node. */
static enum login_step follow_login(struct client *client, const uint8_t *bytes, size_t n)
{
    struct login_watch *watch = &client->login->watch;

    while (n > 0) {
        size_t n_seen;

        switch (login_watch_feed(watch, bytes, n, &n_seen)) {
        case LOGIN_GOES_ON:
            break;
        case LOGIN_KEY:
            if (client->key == NULL)
                client->key = cancel_keys_add(client->worker->cancel_keys, &watch->key,
                                              client->server->node_id);
            break;
        case LOGIN_REFUSED:
            if (is_shutting_down(&watch->error)) {
                if (!client->login->is_answered && watch->first == 'E')
                    return STEP_ELSEWHERE;
                worker_evidence(client->worker, client->server->node_id,
                                EVIDENCE_SHUTTING_DOWN);
            }
            client->reason = CLOSE_REFUSED_BY_NODE;
            if (client->tally != NULL)
                client->tally->logins_refused++;
            break;
        case LOGIN_DONE:
            return STEP_OPEN;
        case LOGIN_CONFUSED:
            return STEP_CONFUSED;
        }
        bytes += n_seen;
        n -= n_seen;
    }
    return STEP_ON;
}

static void on_login_bytes(struct client *client, struct buffer *bytes)
{
    enum login_step step =
        follow_login(client, bytes->bytes + bytes->begin, buffer_unread(bytes));

    if (step == STEP_ELSEWHERE) {
        buffer_give(bytes);
        on_node_failed(client, EVIDENCE_SHUTTING_DOWN);
        return;
    }
    if (step == STEP_CONFUSED) {
        buffer_give(bytes);
        client_refuse(client, CLOSE_SERVER_CONFUSED, NULL);
        return;
    }
    if (!client->login->is_answered) {
        if (login_watch_is_undecided(&client->login->watch) && hold(client->login, bytes))
            return;
        take_answer(client);
    }
    send_to_client(client, bytes);
    if (step == STEP_OPEN)
        begin_relay(client);
    else
        session_pass_on(client);
}

void session_pass_on(struct client *client)
{
    if (client->state == CLIENT_LOGIN && client->login->is_answered &&
        !stream_is_sending(&client->server->stream))
        send_inbox(client);
}

void session_read_on(struct client *client)
{
    stream_want(&client->server->stream, true);
}

/* ---- callbacks of the server's stream until the relay takes over ---------------------
 */

static void on_server_bytes(struct stream *stream, struct buffer *bytes)
{
    struct client *client = stream->owner;

    if (client->state == CLIENT_NEGOTIATING) {
        on_encryption_answer(client, bytes);
    } else if (client->state == CLIENT_LOGIN) {
        on_login_bytes(client, bytes);
    } else { /* the answer to nothing */
        buffer_give(bytes);
        client_close(client, CLOSE_SERVER_CONFUSED);
    }
    client_settle(client);
}

static bool is_unanswered(const struct client *client)
{
    return client->state == CLIENT_CONNECTING ||
           (client->login != NULL && !client->login->is_answered);
}

static void on_server_gone(struct client *client, enum close_reason reason)
{
    if (is_unanswered(client))
        on_node_failed(client, EVIDENCE_REFUSED);
    else
        client_close(client, reason);
}

static void on_server_end(struct stream *stream)
{
    struct client *client = stream->owner;

    if (client->state != CLIENT_LOGIN || is_unanswered(client)) {
        on_server_gone(client, CLOSE_SERVER_CLOSED);
        return;
    }
    /* Most often a refused login: the client has all the time it needs to read why. */
    if (client->reason == CLOSE_NONE)
        client->reason = CLOSE_SERVER_CLOSED;
    client_enter(client, CLIENT_ENDING);
    start_relay(client);
}

static void on_server_failed(struct stream *stream, enum stream_failure why)
{
    on_server_gone(stream->owner,
                   why == STREAM_VANISHED ? CLOSE_SERVER_VANISHED : CLOSE_SERVER_RESET);
}

static void on_server_sent(struct stream *stream)
{
    struct client *client = stream->owner;

    session_pass_on(client);
    client_settle(client);
}

static void on_server_open(struct stream *stream)
{
    (void)stream;
    UNREACHABLE();
}

static const struct stream_events server_stream_events = {
    .on_open = on_server_open,
    .on_bytes = on_server_bytes,
    .on_sent = on_server_sent,
    .on_end = on_server_end,
    .on_failed = on_server_failed,
};

/* ---- while bytes pass ---------------------------------------------------------------
 */

static enum close_reason reason_of(unsigned end, enum stream_failure why)
{
    static const enum close_reason reasons[2][2] = {
        {CLOSE_CLIENT_RESET, CLOSE_CLIENT_VANISHED},
        {CLOSE_SERVER_RESET, CLOSE_SERVER_VANISHED},
    };

    return reasons[end][why == STREAM_VANISHED];
}

static void on_half_end(struct relay *relay, unsigned end)
{
    struct client *client = CONTAINER_OF(relay, struct client, relay);
    bool has_failed = !stream_is_open(relay->ends[end]);

    if (client->reason == CLOSE_NONE && has_failed)
        client->reason = reason_of(end, relay->failure);
    else if (client->reason == CLOSE_NONE)
        client->reason = end == 0 ? CLOSE_CLIENT_CLOSED : CLOSE_SERVER_CLOSED;
    if (end == 0 && has_failed) { /* a server without a client has nothing to wait for */
        stream_reset(&client->server->stream);
        client_close(client, client->reason);
    } else if (end == 1) {
        client_enter(client, CLIENT_ENDING);
    }
}

static void on_both_ended(struct relay *relay)
{
    client_close(CONTAINER_OF(relay, struct client, relay), CLOSE_CLIENT_CLOSED);
}

static void on_relay_failed(struct relay *relay, unsigned end, enum stream_failure why)
{
    client_close(CONTAINER_OF(relay, struct client, relay), reason_of(end, why));
}

static const struct relay_events relay_events = {
    .on_half_end = on_half_end,
    .on_end = on_both_ended,
    .on_failed = on_relay_failed,
};

/* Asks the kernel only where there was traffic since the last look, or somebody owed an
 * answer then: who is idle is asked by keepalive. */
static enum close_reason who_has_vanished(struct client *client)
{
    static const enum close_reason reasons[] = {CLOSE_CLIENT_VANISHED,
                                                CLOSE_SERVER_VANISHED};
    struct stream *const ends[] = {&client->stream, &client->server->stream};
    int for_ms = (int)client->worker->config->main.tcp_user_timeout;

    if (for_ms == 0 ||
        (client->relay.active_at_ns <= client->looked_at_ns && !client->is_owed))
        return CLOSE_NONE;
    client->is_owed = false;
    for (unsigned i = 0; i < COUNT_OF(ends); i++) {
        enum socket_peer peer =
            stream_is_open(ends[i]) ? stream_look(ends[i], for_ms) : PEER_HAS_ALL;

        if (peer == PEER_VANISHED)
            return reasons[i];
        if (peer == PEER_OWES)
            client->is_owed = true;
    }
    return CLOSE_NONE;
}

void session_look(struct client *client)
{
    const struct listener_config *settings = client->listener->settings;
    uint64_t now_ns = client->worker->loop->now_ns;
    uint64_t idle_ms = (now_ns - client->relay.active_at_ns) / 1000000u;
    enum close_reason vanished = who_has_vanished(client);

    if (vanished != CLOSE_NONE)
        client_close(client, vanished);
    else if (settings->client_timeout > 0 &&
             idle_ms >= (uint64_t)settings->client_timeout)
        client_close(client, CLOSE_CLIENT_TIMEOUT);
    else if (settings->server_timeout > 0 &&
             idle_ms >= (uint64_t)settings->server_timeout)
        client_close(client, CLOSE_SERVER_TIMEOUT);
    else if (client->state == CLIENT_ENDING && !client->is_owed &&
             !stream_is_sending(&client->stream))
        client_close(client,
                     CLOSE_SERVER_CLOSED); /* it has all, and keeps the line open */
    else
        client_wait_on(client);
    client->looked_at_ns = now_ns;
}

void session_reconsider(struct client *client)
{
    const struct listener_config *settings = client->listener->settings;
    const struct topology_cluster *cluster = cluster_of(client);
    const struct topology_node *node;

    if (client->server == NULL || client->state == CLIENT_CANCELLING ||
        settings->on_role_change == ON_ROLE_CHANGE_KEEP)
        return;
    node = topology_node(client->worker->topology, client->server->node_id);
    if (node == NULL || cluster == NULL) /* no longer configured: it may finish */
        return;
    if (route_may_stay(cluster, node, settings))
        return;
    if (is_unanswered(client))
        look_elsewhere(client);
    else
        client_close(client, node->is_up ? CLOSE_ROLE_CHANGED : CLOSE_NODE_DOWN);
}
