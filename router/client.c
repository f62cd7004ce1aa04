#include "router/client.h"

#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "core/stream_tls.h"
#include "router/cancel.h"
#include "router/console/console.h"
#include "router/lease.h"
#include "router/login.h"
#include "router/session.h"
#include "router/startup.h"
#include "router/worker.h"
#include "wire/error.h"

/* How long a peer that has nothing to add may keep its connection open. */
#define LINGER_MS 10000
/* Idle sessions are looked at so many times within their timeout. */
#define IDLE_LOOKS 4
/* What is left of a login's time counts in parts of so much, so that waits of few
 * different lengths are in use. */
#define LOGIN_PARTS 4

#define BIT(name) (1u << CLIENT_##name)

static const struct {
    const char *name;
    enum client_wait wait;
    enum client_inbox inbox;
    enum close_reason when_it_leaves;
    unsigned next; /* set of the states that this one may become */
} states[CLIENT_STATE_COUNT] = {
#define X(state, wait, inbox, leaving, becomes) \
    [CLIENT_##state] = {#state, WAIT_##wait, INBOX_##inbox, CLOSE_##leaving, becomes},
    CLIENT_STATES(X, BIT)
#undef X
};

const char *client_state_name(enum client_state state)
{
    return states[state].name;
}

static uint64_t smaller_but_not_0(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

/* How often a session is looked at: whether it is idle for too long, or an end has
 * vanished. */
static uint64_t time_to_look_ms(const struct client *client)
{
    const struct listener_config *settings = client->listener->settings;
    uint64_t idle_ms = smaller_but_not_0((uint64_t)settings->client_timeout,
                                         (uint64_t)settings->server_timeout);

    return smaller_but_not_0(
        (idle_ms + IDLE_LOOKS - 1) / IDLE_LOOKS,
        (uint64_t)(client->worker->config->main.tcp_user_timeout + 1) / 2);
}

/* What the client has left of client_login_timeout: waiting for a node is not its fault.
 */
static uint64_t login_time_left_ms(const struct client *client)
{
    uint64_t whole = (uint64_t)client->worker->config->main.client_login_timeout;
    uint64_t left = client->login_spent_ms < whole ? whole - client->login_spent_ms : 0;
    uint64_t n_parts;

    if (whole == 0 || left == whole)
        return whole;
    n_parts = (left * LOGIN_PARTS + whole - 1) / whole;
    if (n_parts == 0)
        n_parts = 1;
    return (n_parts * whole + LOGIN_PARTS - 1) / LOGIN_PARTS;
}

/* How long the client may stay in a state, 0 = for ever. */
static uint64_t deadline_of(const struct client *client, enum client_wait wait)
{
    const struct listener_config *settings = client->listener->settings;

    switch (wait) {
    case WAIT_LOGIN:
        return login_time_left_ms(client);
    case WAIT_QUEUE:
        return (uint64_t)settings->queue_timeout;
    case WAIT_IDLE:
        return time_to_look_ms(client);
    case WAIT_QUERY:
        return (uint64_t)client->worker->config->main.query_wait_timeout;
    case WAIT_REST:
        return client->idle_timeout_ms;
    case WAIT_CANCEL:
        return (uint64_t)client->worker->config->main.cancel_wait_timeout;
    case WAIT_LINGER:
        return LINGER_MS;
    case WAIT_NOT:
    case WAIT_NONE:
        return 0;
    }
    UNREACHABLE();
}

static void on_deadline(struct deadline *deadline)
{
    struct client *client = CONTAINER_OF(deadline, struct client, deadline);

    switch (states[client->state].wait) {
    case WAIT_LOGIN:
        client_refuse(client, CLOSE_LOGIN_TIMEOUT, NULL);
        break;
    case WAIT_QUEUE:
        session_try_again(client);
        break;
    case WAIT_IDLE:
        session_look(client);
        break;
    case WAIT_QUERY:
        lease_give_up(client);
        break;
    case WAIT_REST:
        client_refuse(client, CLOSE_CLIENT_IDLE, NULL);
        break;
    case WAIT_CANCEL:
        client_close(client, CLOSE_CANCEL_DONE);
        break;
    case WAIT_LINGER: /* has its reason already, unless it is a cancel request's */
        if (client->state == CLIENT_ENDING)
            session_look(
                client); /* it may be reading slowly what the server has said last */
        else
            client_close(client, CLOSE_CANCEL_DONE);
        break;
    case WAIT_NOT: /* the wait for a node has ended while one is being connected to */
    case WAIT_NONE:
        break;
    }
}

void client_enter(struct client *client, enum client_state next)
{
    enum client_wait before = states[client->state].wait, wait = states[next].wait;

    REQUIRE(states[client->state].next & (1u << next));
    if (client->state == CLIENT_STARTUP && wait != WAIT_LOGIN)
        client->login_spent_ms =
            (uint32_t)(loop_now_ms(client->worker->loop) - client->accepted_at_ms);
    client->state = next;
    if (wait != WAIT_NOT && !(wait == WAIT_LOGIN && before == WAIT_LOGIN))
        client_wait_on(client);
}

void client_wait_on(struct client *client)
{
    uint64_t after_ms = deadline_of(client, states[client->state].wait);

    deadline_cancel(&client->deadline);
    if (after_ms > 0)
        deadline_arm(client->worker->loop, &client->deadline, after_ms, on_deadline);
}

static bool is_from_proxy(const struct client *client)
{
    const struct network_list *proxies = &client->listener->settings->proxy_protocol_from;

    for (size_t i = 0; i < proxies->n; i++)
        if (network_has(&proxies->items[i], &client->peer))
            return true;
    return false;
}

bool client_new(struct worker *worker, struct ticket *ticket)
{
    struct client *client = slab_take(worker->client_slab);

    if (client == NULL)
        return false;
    client->worker = worker;
    client->ticket = ticket;
    ticket->client = client;
    client->listener = ticket->listener;
    client->peer = ticket->peer;
    client->accepted_at_ms = loop_now_ms(worker->loop);
    list_append(&worker->clients, &client->in_worker);
    client->id = ++worker->n_clients_total * GATHER_WORKERS_MAX + worker->number;
    stream_adopt(&client->stream, worker->loop, ticket->fd, &client->listener->tcp,
                 &client_stream_events, client);
    client->state =
        client->listener->settings->proxy_protocol ? CLIENT_PROXIED : CLIENT_STARTUP;
    client_wait_on(client);
    if (client->state == CLIENT_PROXIED && !is_from_proxy(client))
        client_close(client, CLOSE_PROXY_STRANGER);
    client_settle(client);
    return true;
}

void client_count_bytes(struct client *client)
{
    if (client->tally == NULL)
        return;
    client->tally->bytes_in += client->n_bytes[0] - client->n_counted[0];
    client->tally->bytes_out += client->n_bytes[1] - client->n_counted[1];
    memcpy(client->n_counted, client->n_bytes, sizeof client->n_counted);
}

/* Of the node that it has a server on, NULL without one. */
static const char *node_name(const struct client *client)
{
    const struct topology_node *node =
        client->server == NULL
            ? NULL
            : topology_node(client->worker->topology, client->server->node_id);

    return node == NULL ? NULL : node->name;
}

const char *client_proxy(const struct client *client, char text[ADDRESS_TEXT_MAX])
{
    return client->is_told_of ? address_print(&client->ticket->peer, text) : NULL;
}

static void log_session_end(const struct client *client, const char *address)
{
    const struct close_fact *fact = &close_facts[client->reason];
    uint64_t now_ms = loop_now_ms(client->worker->loop);
    char proxy[ADDRESS_TEXT_MAX];

    LOG(INFO, "session ended", TEXT("client", address),
        TEXT("proxy", client_proxy(client, proxy)),
        TEXT("listener", client->listener->settings->name),
        TEXT("node", node_name(client)),
        DECIMAL("waited_seconds",
                (double)(client->began_at_ms - client->accepted_at_ms) / 1e3),
        DECIMAL("seconds", (double)(now_ms - client->began_at_ms) / 1e3),
        NUMBER("bytes_in", client->n_bytes[0]), NUMBER("bytes_out", client->n_bytes[1]),
        TEXT("reason", fact->name), TEXT("text", fact->text),
        NUMBER("worker", client->worker->number));
}

static void log_refusal(struct client *client, const char *address, const char *detail)
{
    const struct close_fact *fact = &close_facts[client->reason];
    char proxy[ADDRESS_TEXT_MAX];
    uint32_t missed;

    if (client_is_pooled(client) && *fact->sqlstate != '\0' &&
        !client->worker->config->main.log_pooler_errors)
        return;
    if (!log_limit_allows(client->worker->control.refusals_logged,
                          loop_now_ms(client->worker->loop), &missed))
        return;
    LOG(WARNING, "client refused", TEXT("client", address),
        TEXT("proxy", client_proxy(client, proxy)),
        TEXT("listener", client->listener->settings->name),
        TEXT("node", node_name(client)), TEXT("reason", fact->name),
        TEXT("text", detail != NULL ? detail : fact->text),
        NUMBER("left_out_before", missed), NUMBER("worker", client->worker->number));
}

/* Once for each client, when it is known how it ends. */
static void log_end(struct client *client, const char *detail)
{
    const struct close_fact *fact = &close_facts[client->reason];
    char address[ADDRESS_TEXT_MAX];

    if (client->is_logged)
        return;
    client->is_logged = true;
    address_print(&client->peer, address);
    if (client->began_at_ms != 0) {
        if (client->worker->config->main.log_disconnections)
            log_session_end(client, address);
    } else if (fact->kind == CLOSE_KIND_QUIET) {
        LOG(DEBUG, "connection closed", TEXT("client", address),
            TEXT("listener", client->listener->settings->name),
            TEXT("reason", fact->name), NUMBER("worker", client->worker->number));
    } else {
        log_refusal(client, address, detail);
    }
}

static void count_end(struct client *client)
{
    enum close_fault fault = close_facts[client->reason].fault;

    if (client->tally == NULL)
        return;
    client->tally->client_aborts += fault == CLOSE_FAULT_CLIENT;
    client->tally->server_aborts += fault == CLOSE_FAULT_SERVER;
}

static void drop_inbox(struct client *client)
{
    struct buffer *buffer;

    while ((buffer = client->inbox) != NULL) {
        client->inbox = buffer->next;
        buffer_give(buffer);
    }
}

static void free_client(struct deferred *end)
{
    struct client *client = CONTAINER_OF(end, struct client, end);

    slab_give(client->worker->client_slab, client);
}

void client_close(struct client *client, enum close_reason reason)
{
    struct worker *worker = client->worker;

    if (client->state == CLIENT_CLOSING)
        return;
    if (client->reason == CLOSE_NONE)
        client->reason = reason;
    if (client->state == CLIENT_WAITING)
        worker_stop_waiting(worker, client);
    if (client->state == CLIENT_CANCELLING)
        cancel_forget_client(client->cancel);
    client_enter(client, CLIENT_CLOSING);
    worker->n_closed[client->reason]++;
    count_end(client);
    log_end(client, NULL);

    stream_close(&client->stream);
    drop_inbox(client);
    session_drop_server(client, false);
    lease_drop(client);
    login_drop(client);
    console_drop(client);
    list_remove(&worker->clients, &client->in_worker);
    listener_release(client->listener);
    client->ticket->client = NULL;
    mailbox_post(worker->control.mailbox, &client->ticket->end,
                 worker->control.on_client_gone);
    client->end.run = free_client;
    loop_defer(worker->loop, &client->end);
}

/* What to do about it; NULL: nothing that we know of. */
static const char *hint_of(enum close_reason reason)
{
    if (reason == CLOSE_ROLE_CHANGED || reason == CLOSE_SERVER_LOST ||
        reason == CLOSE_SESSION_LOST)
        return CLIENT_CONNECT_AGAIN;
    if (reason == CLOSE_OUTCOME_UNKNOWN)
        return "See whether it has taken effect before it is done again.";
    return NULL;
}

/* What a refusal looks like on the wire; 0 bytes when there are no words for it. */
static size_t compose_refusal(const struct client *client, const char *detail,
                              uint8_t bytes[ERROR_BYTES_MAX])
{
    const struct close_fact *fact = &close_facts[client->reason];

    if (fact->sqlstate[0] == '\0')
        return 0;
    switch (client->first) {
    case STARTUP_DIRECT_TLS:
        memcpy(bytes, tls_alert_internal_error, TLS_ALERT_BYTES);
        return TLS_ALERT_BYTES;
    case STARTUP_LOGIN:
    case STARTUP_UNSUPPORTED:
    case STARTUP_SSL:
    case STARTUP_GSSENC: /* never 'N': a client that prefers TLS would go on in clear text
                          */
        return error_write(fact->sqlstate, detail != NULL ? detail : fact->text,
                           hint_of(client->reason), bytes);
    case STARTUP_INCOMPLETE:
    case STARTUP_CANCEL:
    case STARTUP_GARBAGE:
        return 0;
    }
    UNREACHABLE();
}

static void count_refusal(struct client *client)
{
    struct tally *front =
        tally_get(&client->worker->tallies, client->listener->settings->name, 0);

    if (front != NULL && close_facts[client->reason].kind == CLOSE_KIND_REFUSAL)
        front->refused++;
}

/* It waits for the rest of a message, and would take a word of ours for that. */
static bool is_in_message(const struct client *client)
{
    return client->lease != NULL && client->lease->is_cut;
}

/* The client's last words go to it; NULL: there are none. */
static void end_with(struct client *client, struct buffer *buffer, const char *detail)
{
    if (buffer == NULL || !(states[client->state].next & BIT(REFUSING))) {
        buffer_give(buffer);
        client_close(client, client->reason);
        return;
    }
    log_end(client, detail);
    if (client->state == CLIENT_WAITING)
        worker_stop_waiting(client->worker, client);
    session_drop_server(client, false);
    lease_drop(client);
    login_drop(client);
    console_drop(client);
    drop_inbox(client);
    client_enter(client, CLIENT_REFUSING);
    (void)stream_send(&client->stream, buffer);
    stream_end(&client->stream);
    stream_want(&client->stream, true); /* until it closes too: then nothing is lost */
}

void client_refuse(struct client *client, enum close_reason reason, const char *detail)
{
    struct buffer *buffer;
    uint8_t bytes[ERROR_BYTES_MAX];
    size_t n;

    if (client->state == CLIENT_CLOSING || client->state == CLIENT_REFUSING)
        return;
    if (is_in_message(client)) {
        client_close(client, reason);
        return;
    }
    client->reason = reason;
    count_refusal(client);
    n = compose_refusal(client, detail, bytes);
    if (n > 0 && client->pool != NULL)
        pool_errors_count(&client->pool->errors, ERROR_OF_ROUTER,
                          close_facts[reason].sqlstate);
    buffer = n > 0 ? buffer_take(client->worker->loop->pond) : NULL;
    if (buffer != NULL && !buffer_add(buffer, bytes, (uint32_t)n)) {
        buffer_give(buffer);
        buffer = NULL;
    }
    end_with(client, buffer, detail);
}

/* An ErrorResponse of a server's. */
static void count_words(const struct client *client, const struct buffer *words)
{
    struct error_fields error;

    if (buffer_unread(words) < MESSAGE_HEADER_BYTES)
        return;
    error_read(words->bytes + words->begin + MESSAGE_HEADER_BYTES,
               buffer_unread(words) - MESSAGE_HEADER_BYTES, &error);
    pool_errors_count(&client->pool->errors, ERROR_OF_SERVER, error.sqlstate);
}

void client_refuse_with(struct client *client, enum close_reason reason,
                        struct buffer *words)
{
    if (client->state == CLIENT_CLOSING || client->state == CLIENT_REFUSING) {
        buffer_give(words);
        return;
    }
    client->reason = reason;
    if (client->pool != NULL)
        count_words(client, words);
    end_with(client, words, NULL);
}

void client_keep(struct client *client, struct buffer *bytes)
{
    uint32_t n;

    if (client->inbox == NULL) {
        client->inbox = bytes;
        return;
    }
    n = buffer_room(client->inbox);
    if (n > buffer_unread(bytes))
        n = buffer_unread(bytes);
    REQUIRE(client->inbox->next == NULL);
    REQUIRE(buffer_add(client->inbox, bytes->bytes + bytes->begin, n));
    buffer_skip(bytes, n);
    if (buffer_unread(bytes) > 0)
        client->inbox->next = bytes;
    else
        buffer_give(bytes);
}

void client_settle(struct client *client)
{
    if (states[client->state].inbox == INBOX_FILLS)
        stream_want(&client->stream,
                    client->inbox == NULL ||
                        (client->inbox->next == NULL && buffer_room(client->inbox) > 0));
}

static void on_bytes(struct stream *stream, struct buffer *bytes)
{
    struct client *client = stream->owner;

    if (states[client->state].inbox == INBOX_SPILLS) {
        buffer_give(bytes);
        return;
    }
    client_keep(client, bytes);
    if (client->state == CLIENT_PROXIED)
        startup_read_proxy(client);
    else if (client->state == CLIENT_STARTUP)
        startup_advance(client);
    else if (client->state == CLIENT_NEGOTIATING || client->state == CLIENT_LOGIN)
        session_pass_on(client);
    else if (client->state == CLIENT_AUTH)
        login_advance(client);
    else if (client->state == CLIENT_CONSOLE)
        console_advance(client);
    else if (client->pool != NULL)
        lease_advance(client);
    client_settle(client);
}

static void on_sent(struct stream *stream)
{
    struct client *client = stream->owner;

    if (client->state == CLIENT_NEGOTIATING || client->state == CLIENT_LOGIN)
        session_read_on(client);
    else if (client->state == CLIENT_CONSOLE)
        console_sent(client);
    else
        lease_read_on(client);
}

/* The client has left before the relay had it. */
static void on_end(struct stream *stream)
{
    struct client *client = stream->owner;

    if ((client->state == CLIENT_STARTUP || client->state == CLIENT_PROXIED) &&
        client->inbox == NULL && client->server == NULL)
        client_close(client, CLOSE_SAID_NOTHING);
    else
        client_close(client, states[client->state].when_it_leaves);
}

static void on_failed(struct stream *stream, enum stream_failure why)
{
    struct client *client = stream->owner;

    if (client->state == CLIENT_SECURING && why == STREAM_TLS_FAILED) {
        client->reason = CLOSE_TLS_FAILED;
        count_refusal(client);
        log_end(client, stream_tls_why(stream));
    }
    on_end(stream);
}

/* It was accepted, not connected: this is the end of its TLS handshake. */
static void on_open(struct stream *stream)
{
    startup_go_on(stream->owner);
}

const struct stream_events client_stream_events = {
    .on_open = on_open,
    .on_bytes = on_bytes,
    .on_sent = on_sent,
    .on_end = on_end,
    .on_failed = on_failed,
};
