#include "router/lease.h"

#include <stdio.h>
#include <string.h>

#include "core/edit.h"
#include "core/memory.h"
#include "router/cancel.h"
#include "router/loss.h"
#include "router/slow.h"
#include "router/worker.h"
#include "wire/auth.h"
#include "wire/message.h"

static const struct lease_events lease_events;
static void end_lease(struct client *client);
static void pass(struct client *client);

/* ---- from the client to the server --------------------------------------------------
 */

/* Goes to the server; the last of what is made of a piece. */
static void send_last(struct client *client, struct buffer *buffer)
{
    struct pooled *server = client->lease;

    if (pooled_send(server, buffer) && server->watch.keeps == POOLED_KEEPS_UNSENT)
        pooled_keep_none(server);
}

/* What was used of the inbox goes to the server; the rest stays. */
static void pass_prefix(struct client *client, size_t n_used)
{
    struct buffer *buffer = client->inbox;
    uint32_t n_rest = buffer_unread(buffer) - (uint32_t)n_used;
    struct buffer *rest = NULL;

    if (n_used == 0)
        return;
    if (n_rest > 0) {
        rest = buffer_take(client->worker->loop->pond);
        if (rest == NULL ||
            !buffer_add(rest, buffer->bytes + buffer->end - n_rest, n_rest)) {
            buffer_give(rest);
            client_close(client, CLOSE_NO_MEMORY);
            return;
        }
        buffer->end -= n_rest;
        rest->next = buffer->next;
    } else {
        rest = buffer->next;
    }
    buffer->next = NULL;
    client->inbox = rest;
    client->n_bytes[0] += buffer_unread(buffer);
    client->pool->counts.bytes_received += buffer_unread(buffer);
    if (client->lease->watch.is_whole)
        pooled_keep(client->lease, buffer, buffer->begin, buffer->end);
    send_last(client, buffer);
}

/* So much may be made of messages that are rewritten before it is sent. */
#define REWRITTEN_MAX (4 * BUFFER_BYTES)

/* Something of the client's is about to go to its server. */
static void note_request(struct client *client)
{
    struct pooled *server = client->lease;

    server->asked_at_ns = client->asked_at_ns = client->worker->loop->now_ns;
    if (server->query_began_ns == 0)
        server->query_began_ns = server->asked_at_ns;
    if (server->transaction_began_ns == 0)
        server->transaction_began_ns = server->asked_at_ns;
}

/* Statements that have a name, which is at the begin of a Parse and behind the portal's
 * in a Bind. */
static void count_statement(struct client *client, const struct message_view *message)
{
    struct pool_counts *counts = &client->pool->counts;
    struct message_bind bind;

    if (message->type == 'P' && message->n > 0 && message->body[0] != '\0') {
        counts->client_parses++;
        if (!translation_is_active(&client->lease->translation))
            counts->server_parses++; /* it goes there as it is */
    } else if (message->type == 'B' &&
               message_read_bind(message->body, message->n, &bind)) {
        counts->binds += bind.statement[0] != '\0';
    }
}

/* A message that is needed in whole and longer than a buffer, on its way into memory. */
struct collected {
    uint32_t n;
    uint32_t size;
    uint8_t bytes[];
};

/* Its text begins `at` bytes behind the begin of the body. */
static unsigned look_at(const struct message_view *message, size_t at)
{
    const char *text = (const char *)message->body + at;
    unsigned sql = sql_look(text, strnlen(text, message->n - at));

    if (message->n < message->length)
        sql &= ~(unsigned)SQL_SINGLE;
    return ending_asked(sql);
}

/* Whether it may commit before it is done: what its server's end will prove depends on
 * that. */
static void note_asked(struct pooled *server, const struct message_view *message)
{
    const uint8_t *zero;
    struct message_bind bind;
    unsigned asked = 0;

    switch (message->type) {
    case 'Q':
        asked = look_at(message, 0);
        break;
    case 'P':
        zero = memchr(message->body, '\0', message->n);
        asked = ASKED_PARSED |
                look_at(message,
                        zero == NULL ? message->n : (size_t)(zero + 1 - message->body));
        break;
    case 'B':
        if (server->translation.binds_plain)
            break;
        if (!message_read_bind(message->body, message->n, &bind) ||
            bind.statement[0] != '\0' || !(server->watch.asked & ASKED_PARSED))
            asked = ASKED_ODD;
        break;
    case 'F':
        asked = ending_asked(0);
        break;
    default:
        break;
    }
    server->watch.asked |= (uint8_t)asked;
}

enum passage {
    PASS_ALL,   /* but for the begin of a message */
    PASS_SOME,  /* it is to be sent before more is made */
    PASS_MORE,  /* the message must be here in whole */
    PASS_WAITS, /* for answers */
    PASS_LEAVES,
    PASS_SIMPLE,
    PASS_ILLEGAL,
    PASS_OVERLONG, /* the message is longer than any may be */
    PASS_TOO_LONG, /* the same of a statement with a name */
    PASS_NO_MEMORY
};

/* Feeds a message, or its begin, to the flow. */
static enum passage forward(struct pooled *server, const struct message_view *message)
{
    if (message->type == 'H' && !pooled_flush(server))
        return PASS_NO_MEMORY;
    switch (pooled_forward(server, message->type)) {
    case FLOW_FULL:
        return PASS_WAITS;
    case FLOW_GOES_ON:
    case FLOW_READY:
        return PASS_ALL;
    case FLOW_ILLEGAL:
    case FLOW_CONFUSED:
        break;
    }
    return PASS_ILLEGAL;
}

/* The same for one that names a prepared statement, perhaps. */
static enum passage translate(struct pooled *server, const struct message_view *message,
                              uint8_t next, struct edit *edit)
{
    size_t at = (size_t)(message->body - edit->bytes) - MESSAGE_HEADER_BYTES;

    switch (
        translation_ask(&server->translation, &server->flow, message, next, edit, at)) {
    case TRANSLATED:
        return edit->n_out > REWRITTEN_MAX ? PASS_SOME : PASS_ALL;
    case TRANSLATED_AS_IS:
        return forward(server, message);
    case TRANSLATED_LATER:
        return PASS_WAITS;
    case TRANSLATED_MORE:
        return PASS_MORE;
    case TRANSLATED_ILLEGAL:
        return PASS_ILLEGAL;
    case TRANSLATED_TOO_LONG:
        return PASS_TOO_LONG;
    case TRANSLATED_NO_MEMORY:
        return PASS_NO_MEMORY;
    }
    UNREACHABLE();
}

/* Of the message behind the walk; 0: it is not here. */
static uint8_t type_behind(const struct client *client, const struct message_walk *walk)
{
    const struct buffer *next =
        client->collected != NULL ? client->inbox : client->inbox->next;

    if (message_walk_rest(walk) > 0)
        return *walk->at;
    return next != NULL && buffer_unread(next) > 0 ? next->bytes[next->begin] : 0;
}

static enum passage pass_message(struct client *client,
                                 const struct message_view *message,
                                 const struct message_walk *walk, struct edit *edit)
{
    struct pooled *server = client->lease;

    if (message->type == 'X')
        return PASS_LEAVES;
    return translation_concerns(&server->translation, message->type)
               ? translate(server, message,
                           message->n == message->length ? type_behind(client, walk) : 0,
                           edit)
               : forward(server, message);
}

/* Feeds the messages of the edit's piece to the flow; `*n_used` is how far. */
static enum passage follow(struct client *client, size_t n, size_t *n_used,
                           struct edit *edit)
{
    struct pooled *server = client->lease;
    struct message_walk walk;
    struct message_view message = {0};

    message_walk_begin(&walk, &client->worker->client_rules, edit->bytes, n,
                       &client->n_left);
    if (client->n_left == 0)
        flow_set_cut(&server->flow, false);
    for (;;) {
        enum message_step step = message_walk_next(&walk, &message);
        enum passage passage;

        *n_used = n - message_walk_rest(&walk);
        switch (step) {
        case MESSAGE_WHOLE:
        case MESSAGE_BEGUN:
            passage = message.type == 'Q' && client->refuses_queries
                          ? PASS_SIMPLE
                          : pass_message(client, &message, &walk, edit);
            if (passage != PASS_ALL && passage != PASS_SOME) {
                if (step == MESSAGE_WHOLE)
                    *n_used -= message.length + MESSAGE_HEADER_BYTES;
                return passage;
            }
            if (message.type == 'P' || message.type == 'B')
                count_statement(client, &message);
            if (client->pool->terms.log_bytes > 0)
                slow_note(client, &message);
            if (server->watch.is_on)
                note_asked(server, &message);
            if (step == MESSAGE_BEGUN) {
                client->n_left = message_walk_stream(&walk, &message);
                flow_set_cut(&server->flow, true);
                *n_used = n;
            }
            if (passage == PASS_SOME)
                return passage;
            break;
        case MESSAGE_CUT:
        case MESSAGE_NONE:
            return PASS_ALL;
        case MESSAGE_UNKNOWN:
        case MESSAGE_TOO_SHORT:
            return PASS_ILLEGAL;
        case MESSAGE_TOO_LONG:
            return PASS_OVERLONG;
        }
    }
}

/* ---- messages that must be there in whole -------------------------------------------
 */

static void skip_inbox(struct client *client, uint32_t n)
{
    struct buffer *buffer = client->inbox;

    buffer_skip(buffer, n);
    if (buffer_unread(buffer) == 0) {
        client->inbox = buffer->next;
        buffer_give(buffer);
    }
}

/* Moves what is there of the inbox's first message to the front, and more of it behind
 * that; false when there is no more. */
static bool gather(struct client *client)
{
    struct buffer *buffer = client->inbox, *next;
    uint32_t n;

    if (buffer == NULL)
        return false;
    if (buffer->begin > 0) {
        memmove(buffer->bytes, buffer->bytes + buffer->begin, buffer_unread(buffer));
        buffer->end -= buffer->begin;
        buffer->begin = 0;
    }
    next = buffer->next;
    if (next == NULL || buffer_room(buffer) == 0)
        return false;
    n = buffer_room(buffer) < buffer_unread(next) ? buffer_room(buffer)
                                                  : buffer_unread(next);
    REQUIRE(buffer_add(buffer, next->bytes + next->begin, n));
    buffer_skip(next, n);
    if (buffer_unread(next) == 0) {
        buffer->next = next->next;
        buffer_give(next);
    }
    return true;
}

/* The message at the begin of the inbox has no room there. */
static bool is_too_long_for_inbox(const struct client *client)
{
    const struct buffer *buffer = client->inbox;
    const uint8_t *bytes = buffer->bytes + buffer->begin;

    return bytes[0] == 'P' && buffer_unread(buffer) > MESSAGE_HEADER_BYTES &&
           wire_read_u32(bytes + 1) + 1 > buffer->size &&
           wire_read_u32(bytes + 1) - 4 <= STATEMENT_BYTES_MAX;
}

/* Makes room for it elsewhere. */
static bool begin_collecting(struct client *client)
{
    const uint8_t *bytes = client->inbox->bytes + client->inbox->begin;
    uint32_t size = wire_read_u32(bytes + 1) + 1;

    client->collected = memory_zeroed(sizeof *client->collected + size);
    if (client->collected == NULL)
        return false;
    client->collected->size = size;
    return true;
}

/* False when more is to come. */
static bool collect(struct client *client)
{
    struct collected *collected = client->collected;

    while (collected->n < collected->size && client->inbox != NULL) {
        const struct buffer *buffer = client->inbox;
        uint32_t n_missing = collected->size - collected->n;
        uint32_t n =
            n_missing < buffer_unread(buffer) ? n_missing : buffer_unread(buffer);

        memcpy(collected->bytes + collected->n, buffer->bytes + buffer->begin, n);
        collected->n += n;
        skip_inbox(client, n);
    }
    return collected->n == collected->size;
}

static void drop_collected(struct client *client)
{
    memory_free(client->collected);
    client->collected = NULL;
}

uint32_t lease_skip_collected(struct client *client)
{
    uint32_t n_missing = client->collected->size - client->collected->n;

    drop_collected(client);
    return n_missing;
}

/* ---- passing ------------------------------------------------------------------------
 */

/* The inbox's first buffer, of which other bytes were made, if all of it was used: what
 * is left in it may yet move. */
static void keep_used(struct client *client, uint32_t n_used)
{
    struct pooled *server = client->lease;
    struct buffer *buffer = client->inbox;

    if (!server->watch.is_whole || n_used == 0)
        return;
    if (client->collected != NULL || buffer_unread(buffer) != n_used)
        pooled_keep_none(server);
    else
        pooled_keep(server, buffer, buffer->begin, buffer->end);
}

/* What was made of the first `n_used` bytes goes to the server. */
static void send_edited(struct client *client, size_t n_used, const struct edit *edit)
{
    struct buffer *next;

    client->n_bytes[0] += n_used;
    client->pool->counts.bytes_received += n_used;
    keep_used(client, (uint32_t)n_used);
    if (client->collected == NULL)
        skip_inbox(client, (uint32_t)n_used);
    else if (n_used > 0)
        drop_collected(client);
    for (struct buffer *buffer = edit->first; buffer != NULL; buffer = next) {
        next = buffer->next;
        buffer->next = NULL;
        if (next != NULL)
            (void)pooled_send(client->lease, buffer);
        else
            send_last(client, buffer);
    }
}

/* Passes on what can be passed on of what has come. */
static enum passage pass_piece(struct client *client)
{
    const struct collected *collected = client->collected;
    const struct buffer *buffer = client->inbox;
    struct pond *pond = client->worker->loop->pond;
    size_t n = collected != NULL ? collected->n : buffer_unread(buffer), n_used = 0;
    struct edit edit = edit_begin(
        pond, collected != NULL ? collected->bytes : buffer->bytes + buffer->begin);
    struct translation *translation = &client->lease->translation;
    uint32_t n_parses = translation->n_parses;
    enum passage passage;

    if (collected != NULL)
        edit_cut(&edit, 0, 0); /* into buffers in any case */
    note_request(client);
    if (client->lease->watch.keeps != POOLED_KEEPS_NOTHING &&
        pooled_is_at_rest(client->lease)) {
        pooled_keep_none(client->lease);
        client->lease->watch.is_whole = true;
    }
    passage = follow(client, n, &n_used, &edit);
    client->pool->counts.server_parses += translation->n_parses - n_parses;
    if (passage >= PASS_ILLEGAL) {
        edit_drop(&edit);
        return passage;
    }
    if (!edit_end(&edit, n_used))
        return PASS_NO_MEMORY;
    if (edit.is_changed)
        send_edited(client, n_used, &edit);
    else
        pass_prefix(client, n_used);
    return n_used == 0 && passage == PASS_ALL ? PASS_MORE : passage;
}

/* A message is wanted in whole; false when more of it is to come. */
static bool get_more(struct client *client, enum passage *passage)
{
    if (client->collected != NULL || client->inbox == NULL)
        return false;
    if (gather(client))
        return true;
    if (!is_too_long_for_inbox(client))
        return false;
    if (begin_collecting(client))
        return true;
    *passage = PASS_NO_MEMORY;
    return false;
}

/* As long as messages can be passed on; what has stopped it. */
static enum passage pass_all(struct client *client)
{
    enum passage passage = PASS_ALL;

    while (client->state == CLIENT_LEASED && client->lease->state == POOLED_ACTIVE &&
           !stream_is_sending(&client->lease->connection->stream)) {
        if (client->collected != NULL ? !collect(client) : client->inbox == NULL)
            return client->collected != NULL ? PASS_MORE : PASS_ALL;
        passage = pass_piece(client);
        if (passage == PASS_MORE && !get_more(client, &passage))
            return passage;
        if (passage >= PASS_WAITS)
            return passage;
    }
    return passage;
}

static void pass(struct client *client)
{
    enum passage passage = pass_all(client);

    switch (passage) {
    case PASS_ALL:
    case PASS_SOME:
    case PASS_WAITS:
    case PASS_MORE:
        break;
    case PASS_LEAVES:
        client_close(client, CLOSE_CLIENT_CLOSED);
        return;
    case PASS_SIMPLE:
        client_refuse(client, CLOSE_SIMPLE_PROTOCOL, NULL);
        return;
    case PASS_ILLEGAL:
        client_refuse(client, CLOSE_CLIENT_CONFUSED, NULL);
        return;
    case PASS_OVERLONG:
        client_refuse(client, CLOSE_CLIENT_CONFUSED,
                      "a message is longer than it may be (max_packet_size)");
        return;
    case PASS_TOO_LONG:
        client_refuse(client, CLOSE_STATEMENT_TOO_LONG, NULL);
        return;
    case PASS_NO_MEMORY:
        client_refuse(client, CLOSE_NO_MEMORY, NULL);
        return;
    }
    if (client->state == CLIENT_LEASED && !client->is_session_pooled &&
        passage != PASS_MORE && client->lease->state == POOLED_ACTIVE &&
        pooled_is_at_rest(client->lease))
        end_lease(client); /* what it sent is answered by nothing */
}

/* ---- a server for the client --------------------------------------------------------
 */

static void set_held(struct parameter_set **set, struct parameter_set *to)
{
    parameters_hold(to);
    parameters_release(*set);
    *set = to;
}

static void take_server(struct client *client, struct pooled *server)
{
    client->lease = server;
    if (server->said != NULL)
        server->said[0] = '\0';
    client->pool->counts.server_assignments++;
    server->query_began_ns = server->transaction_began_ns = 0;
}

/* What is to be known should the server end; a session ends with it, in its words. */
static void begin_watch(struct client *client, struct pooled *server)
{
    struct pooled_watch *watch = &server->watch;
    int64_t keep_max = client->worker->config->main.replay_buffer;

    server->fails_first = client->is_in_lost;
    watch->is_on = true;
    watch->keep_max = client->keeps_aborted ? (uint32_t)keep_max : UINT32_MAX;
    if (client->keeps_aborted)
        watch->keeps = POOLED_KEEPS_UNANSWERED;
    else if (client->keeps_unsent)
        watch->keeps = POOLED_KEEPS_UNSENT;
}

static void begin_lease(struct client *client, struct pooled *server)
{
    unsigned max = (unsigned)client->worker->config->main.max_prepared_statements;

    take_server(client, server);
    client_enter(client, CLIENT_LEASED);
    if (!client->is_session_pooled && max > 0)
        translation_begin(&server->translation, client->worker->pools.home.statements,
                          &client->names, &server->parameters, max);
    begin_watch(client, server);
    if (pooled_lend(server, &lease_events, client, client->parameters,
                    pool_check_query(server)))
        pass(client);
}

/* What the client has sent meanwhile begins another lease. */
static void begin_anew(struct client *client)
{
    if (client->worker->is_ending)
        client_refuse(client, CLOSE_SHUTDOWN, NULL);
    else
        lease_advance(client);
}

static void end_lease(struct client *client)
{
    struct pooled *server = client->lease;

    client->lease = NULL;
    client_enter(client, CLIENT_IDLE);
    pool_give(server, false);
    begin_anew(client);
}

/* Whether to wait for the rest of a message that has begun, in place of holding a server
 * meanwhile. */
static bool may_wait(const struct message_view *message)
{
    return message->length <= BUFFER_BYTES - MESSAGE_HEADER_BYTES;
}

/* Skips what needs no server; false when nothing is left, or too little to tell. */
static bool wants_server(struct client *client)
{
    struct message_walk walk;
    struct message_view message = {0};

    if (client->collected != NULL)
        return true;
    while (client->inbox != NULL) {
        struct buffer *buffer = client->inbox;
        enum message_step step;

        message_walk_begin(&walk, &client->worker->client_rules,
                           buffer->bytes + buffer->begin, buffer_unread(buffer),
                           &client->n_left);
        step = message_walk_next(&walk, &message);
        if (step == MESSAGE_CUT || (step == MESSAGE_BEGUN && may_wait(&message))) {
            if (gather(client))
                continue;
            return false;
        }
        if (step == MESSAGE_WHOLE && message.type == 'X') {
            client_close(client, CLOSE_CLIENT_CLOSED);
            return false;
        }
        if (step != MESSAGE_NONE &&
            !(step == MESSAGE_WHOLE && flow_is_ignored_at_rest(message.type)))
            return true;
        skip_inbox(client, buffer_unread(buffer) - (uint32_t)message_walk_rest(&walk));
    }
    return false;
}

static bool greet(struct client *client);

/* The client has only wanted to know what servers say at their login. */
static void greet_with(struct client *client, struct pooled *server)
{
    bool is_tuned = pooled_lend(server, &lease_events, client, server->parameters, NULL);
    bool is_greeted = greet(client);

    REQUIRE(is_tuned);
    pool_give(server, false);
    if (is_greeted)
        lease_advance(client);
    else
        client_refuse(client, CLOSE_NO_MEMORY, NULL);
}

static void ask_for_server(struct client *client)
{
    struct pooled *server;

    switch (pool_take(client->pool, client, &server, &client->need)) {
    case POOL_LENT:
        if (client->began_at_ms == 0)
            greet_with(client, server);
        else
            begin_lease(client, server);
        break;
    case POOL_WAITS:
        client_enter(client, CLIENT_QUEUED);
        if (pool_refuses(client->pool))
            client_refuse(client, CLOSE_NO_REPLICA, NULL);
        break;
    case POOL_NO_MEMORY:
        client_refuse(client, CLOSE_NO_MEMORY, NULL);
        break;
    }
}

void lease_advance(struct client *client)
{
    if (client->state == CLIENT_LEASED)
        pass(client);
    else if (client->state == CLIENT_IDLE &&
             (!loss_is_open(client) || loss_settle(client)) && wants_server(client))
        ask_for_server(client);
}

void lease_drop(struct client *client)
{
    if (!client_is_pooled(client))
        return;
    loss_drop(client);
    if (client->need != NULL)
        pool_forget(client->need);
    if (client->lease != NULL && client->lease->state == POOLED_ACTIVE &&
        flow_is_answering(&client->lease->flow) && !client->worker->is_stopping)
        cancel_abandoned(client);
    if (client->lease != NULL)
        pool_give(client->lease, client->is_session_pooled);
    for (unsigned i = 0; i < COUNT_OF(client->counted); i++) {
        accounts_count_out(client->worker->shared->accounts, client->counted[i]);
        client->counted[i] = NULL;
    }
    if (client->guest != NULL)
        pool_leave(client->pool, client->guest);
    parameters_release(client->parameters);
    parameters_release(client->initial);
    statement_names_clear(client->worker->pools.home.statements, &client->names);
    drop_collected(client);
    client->parameters = client->initial = NULL;
    client->need = NULL;
    client->lease = NULL;
    client->guest = NULL;
    client->pool = NULL;
}

/* How many bytes of the inbox ask for one ReadyForQuery; 0 when it is not all there. */
static size_t find_statement(const struct client *client)
{
    const struct buffer *buffer = client->inbox;
    struct message_walk walk;
    struct message_view message = {0};
    uint32_t n_left = 0;

    if (client->collected != NULL || buffer == NULL)
        return 0;
    message_walk_begin(&walk, &client->worker->client_rules,
                       buffer->bytes + buffer->begin, buffer_unread(buffer), &n_left);
    while (message_walk_next(&walk, &message) == MESSAGE_WHOLE)
        if (message.type == 'Q' || message.type == 'F' || message.type == 'S')
            return buffer_unread(buffer) - message_walk_rest(&walk);
    return 0;
}

static void say_that_it_waits(struct client *client)
{
    const struct message_report report = {
        .severity = "NOTICE",
        .sqlstate = "00000",
        .text = "no server is free, the query waits for one (query_wait_notify)"};
    struct buffer *buffer = buffer_take(client->worker->loop->pond);
    uint8_t bytes[256];

    if (buffer == NULL)
        return;
    REQUIRE(
        buffer_add(buffer, bytes,
                   (uint32_t)message_write_report('N', &report, bytes, sizeof bytes)));
    client->n_bytes[1] += buffer_unread(buffer);
    (void)stream_send(&client->stream, buffer);
}

static bool say_cancelled(struct client *client)
{
    const struct message_report report = {.severity = "ERROR",
                                          .sqlstate =
                                              close_facts[CLOSE_CANCELLED].sqlstate,
                                          .text = close_facts[CLOSE_CANCELLED].text};
    struct buffer *buffer = buffer_take(client->worker->loop->pond);
    uint8_t bytes[256];

    if (buffer == NULL)
        return false;
    REQUIRE(
        buffer_add(buffer, bytes,
                   (uint32_t)message_write_report('E', &report, bytes, sizeof bytes)));
    REQUIRE(buffer_add(buffer, bytes,
                       (uint32_t)message_write_ready(client->is_in_lost ? 'E' : 'I',
                                                     bytes, sizeof bytes)));
    client->n_bytes[1] += buffer_unread(buffer);
    (void)stream_send(&client->stream, buffer);
    return true;
}

/* The client needs neither the server that is made ready for it nor its place in the
 * line.
 */
static void renounce(struct client *client)
{
    if (client->need != NULL)
        pool_forget(client->need);
    else
        pool_give(client->lease, client->is_session_pooled);
    client->need = NULL;
    client->lease = NULL;
    client->was_replayed = false;
    client_enter(client, CLIENT_IDLE);
}

void lease_cancel(struct client *client)
{
    size_t n = find_statement(client);

    if (n == 0 && client->state == CLIENT_LEASED)
        return; /* PostgreSQL, too, cancels nothing while it reads */
    if (n == 0 || client->began_at_ms == 0 || !say_cancelled(client)) {
        client_refuse(client, CLOSE_CANCELLED, NULL);
        return;
    }
    renounce(client);
    buffer_skip(client->inbox, (uint32_t)n);
    if (buffer_unread(client->inbox) == 0) {
        struct buffer *next = client->inbox->next;

        buffer_give(client->inbox);
        client->inbox = next;
    }
    lease_advance(client);
}

void lease_give_up(struct client *client)
{
    char limit[ACCOUNT_WHY_MAX], why[256];

    if (pool_is_held(client->pool)) { /* hold_timeout ends it */
        client_wait_on(client);
        return;
    }
    pool_why_waiting(client->need, limit);
    snprintf(why, sizeof why, "%s (%s)", close_facts[CLOSE_QUERY_WAIT].text, limit);
    client_refuse(client, CLOSE_QUERY_WAIT, why);
}

/* ---- the first thing that a client is told ------------------------------------------
 */

struct greeting {
    struct client *client;
    struct buffer *buffer;
    bool fits;
};

static void add(struct greeting *greeting, const void *bytes, size_t n)
{
    greeting->fits =
        greeting->fits && n > 0 && buffer_add(greeting->buffer, bytes, (uint32_t)n);
}

static void add_parameter(void *arg, const char *name, const char *value)
{
    uint8_t bytes[STARTUP_BYTES_MAX + MESSAGE_HEADER_BYTES];

    add(arg, bytes, message_write_parameter(name, value, bytes, sizeof bytes));
}

/* What the client has not named it has as the server does. */
static bool add_default(struct client *client, const char *name, const char *value)
{
    struct parameter_set *set = parameters_with(client->parameters, name, value);

    if (set == NULL)
        return false;
    set_held(&client->parameters, set);
    parameters_release(set);
    return true;
}

/* What the server has said of itself, with the client's own values. */
static void add_parameters(void *arg, const char *messages, size_t n)
{
    struct greeting *greeting = arg;
    struct message_walk walk;
    struct message_view message = {0};
    const char *name, *value, *own;
    uint32_t n_left = 0;

    message_walk_begin(&walk, &greeting->client->worker->pools.home.rules,
                       (const uint8_t *)messages, n, &n_left);
    while (message_walk_next(&walk, &message) == MESSAGE_WHOLE) {
        if (!message_read_parameter(message.body, message.length, &name, &value))
            continue;
        own = parameters_find(greeting->client->parameters, name);
        add_parameter(greeting, name, own != NULL ? own : value);
        if (own == NULL && parameters_follows(name))
            greeting->fits = add_default(greeting->client, name, value) && greeting->fits;
    }
}

/* False when no server has logged in yet, or memory is out. */
static bool greet(struct client *client)
{
    struct greeting greeting = {.client = client,
                                .buffer = buffer_take(client->worker->loop->pond),
                                .fits = true};
    struct cancel_key key;
    uint8_t bytes[AUTH_BYTES_MAX];

    if (greeting.buffer == NULL)
        return false;
    add(&greeting, bytes, auth_write_request(AUTH_OK, bytes));
    if (!pool_read_welcome(client->pool, add_parameters, &greeting) || !greeting.fits ||
        !cancel_make_key(client, &key)) {
        buffer_give(greeting.buffer);
        return false;
    }
    add(&greeting, bytes, message_write_key(&key, bytes, sizeof bytes));
    add(&greeting, bytes, message_write_ready('I', bytes, sizeof bytes));
    client_enter(client, CLIENT_IDLE);
    client->initial = parameters_hold(client->parameters);
    client->began_at_ms = loop_now_ms(client->worker->loop);
    client->n_bytes[1] += buffer_unread(greeting.buffer);
    (void)stream_send(&client->stream, greeting.buffer);
    return true;
}

void lease_welcome(struct client *client)
{
    if (greet(client))
        lease_advance(client);
    else
        ask_for_server(client);
}

/* ---- what the pools tell ------------------------------------------------------------
 */

/* A client that replicates is told what its own server says, and has it from now on. */
static void begin_private_lease(struct client *client, struct pooled *server)
{
    bool is_tuned;

    take_server(client, server);
    set_held(&client->parameters, server->parameters); /* logged in to with its own */
    is_tuned = pooled_lend(server, &lease_events, client, server->parameters, NULL);
    REQUIRE(is_tuned);
    if (!greet(client)) {
        client_refuse(client, CLOSE_NO_MEMORY, NULL);
        return;
    }
    client_enter(client, CLIENT_LEASED);
    pass(client);
}

static void on_lent(void *arg, struct pooled *server)
{
    struct client *client = arg;

    client->need = NULL;
    if (pool_is_private(client->pool)) {
        begin_private_lease(client, server);
    } else if (client->began_at_ms == 0) {
        greet_with(client, server);
    } else {
        begin_lease(client, server);
    }
    client_settle(client);
}

static void on_refused(void *arg, const char *sqlstate, const char *why)
{
    struct client *client = arg;
    char text[256];

    client->need = NULL;
    snprintf(text, sizeof text, "%s: %s%s%s", close_facts[CLOSE_LOGIN_FAILED].text, why,
             *sqlstate == '\0' ? "" : ", SQLSTATE ", sqlstate);
    client_refuse(client, CLOSE_LOGIN_FAILED, text);
}

static void on_hold_failed(void *arg, const char *why_no_primary)
{
    struct client *client = arg;
    char why[256];

    client->need = NULL;
    snprintf(why, sizeof why, "%s%s%s", close_facts[CLOSE_HOLD_TIMEOUT].text,
             *why_no_primary == '\0' ? "" : ": ", why_no_primary);
    client_refuse(client, CLOSE_HOLD_TIMEOUT, why);
}

static void on_no_replica(void *arg)
{
    struct client *client = arg;

    client->need = NULL;
    client_refuse(client, CLOSE_NO_REPLICA, NULL);
}

/* Whoever replicates from a node that has lost the role is told, where the stream allows
 * for a message, and holds up its shutdown no longer. */
static void end_stream(struct client *client)
{
    if (client->lease->n_left > 0)
        client_close(client, CLOSE_ROLE_CHANGED);
    else
        client_refuse(client, CLOSE_ROLE_CHANGED, NULL);
}

/* A session that stays with its server does not stay with a node that lost the role. */
static void on_doomed(void *arg)
{
    struct client *client = arg;

    if (pool_is_private(client->pool)) /* a stream has no end that could be waited for */
        end_stream(client);
    else if (client->is_session_pooled && flow_is_at_rest(&client->lease->flow))
        client_refuse(client, CLOSE_ROLE_CHANGED, NULL);
}

static bool is_over(uint64_t spent_ms, int64_t own, int64_t general)
{
    int64_t limit_ms = config_own(own, general);

    return limit_ms > 0 && spent_ms >= (uint64_t)limit_ms;
}

static void on_look(void *arg, const struct pool_look *look)
{
    struct client *client = arg;
    const struct config *config = client->worker->config;
    const struct main_config *main = &config->main;
    const struct user_config *user = config_user(config, client->pool->account->user);
    const struct user_config none = {.query_timeout = CONFIG_DEFAULT,
                                     .idle_transaction_timeout = CONFIG_DEFAULT,
                                     .transaction_timeout = CONFIG_DEFAULT};

    if (pool_is_private(client->pool)) /* streams are neither queries nor transactions */
        return;
    if (user == NULL)
        user = &none;
    if (is_over(look->query_ms, user->query_timeout, main->query_timeout))
        client_refuse(client, CLOSE_QUERY_TIMEOUT, NULL);
    else if (is_over(look->idle_ms, user->idle_transaction_timeout,
                     main->idle_transaction_timeout))
        client_refuse(client, CLOSE_IDLE_TRANSACTION, NULL);
    else if (is_over(look->transaction_ms, user->transaction_timeout,
                     main->transaction_timeout))
        client_refuse(client, CLOSE_TRANSACTION_TIMEOUT, NULL);
}

static bool on_long_wait(void *arg, uint64_t waited_ms)
{
    struct client *client = arg;
    const struct main_config *main = &client->worker->config->main;

    if (main->query_wait_notify == 0 || client->began_at_ms == 0)
        return true;
    if (waited_ms < (uint64_t)main->query_wait_notify)
        return false;
    say_that_it_waits(client);
    return true;
}

static void on_judged(void *arg, bool goes_away)
{
    struct client *client = arg;

    if (loss_end(client, goes_away))
        begin_anew(client);
    client_settle(client);
}

static void on_evidence(void *arg, uint32_t node_id)
{
    worker_evidence(arg, node_id, EVIDENCE_REFUSED);
}

static void on_hold(void *arg, const struct hold_news *news)
{
    worker_tell_of_hold(arg, news);
}

const struct pools_events lease_pools_events = {
    .on_lent = on_lent,
    .on_refused = on_refused,
    .on_hold_failed = on_hold_failed,
    .on_no_replica = on_no_replica,
    .on_doomed = on_doomed,
    .on_look = on_look,
    .on_long_wait = on_long_wait,
    .on_judged = on_judged,
    .on_evidence = on_evidence,
    .on_hold = on_hold,
};

/* ---- from the server to the client --------------------------------------------------
 */

/* The answer goes on, and can be taken back no more. */
static void send_held(struct pooled *server)
{
    struct client *client = server->client;
    struct buffer *next;

    for (struct buffer *held = pooled_take_held(server); held != NULL; held = next) {
        next = held->next;
        held->next = NULL;
        client->n_bytes[1] += buffer_unread(held);
        client->pool->counts.bytes_sent += buffer_unread(held);
        (void)stream_send(&client->stream, held);
    }
    pooled_keep_none(server);
}

static void on_bytes(struct pooled *server, struct buffer *bytes)
{
    struct client *client = server->client;

    if (server->watch.keeps == POOLED_KEEPS_UNANSWERED) {
        if (pooled_hold(server, bytes))
            return;
        send_held(server);
    }

    if (client->is_statement_pooled && flow_is_in_transaction(&server->flow)) {
        buffer_give(bytes);
        client_refuse(client, CLOSE_TRANSACTION, NULL);
        return;
    }
    client->n_bytes[1] += buffer_unread(bytes);
    client->pool->counts.bytes_sent += buffer_unread(bytes);
    if (!stream_send(&client->stream, bytes))
        pooled_want(server, false);
}

void lease_read_on(struct client *client)
{
    if (client->lease != NULL)
        pooled_want(client->lease, true);
}

static void on_sent(struct pooled *server)
{
    struct client *client = server->client;

    pass(client);
    client_settle(client);
}

/* A query of the client's is over, and so is what was kept of it. */
static void look_whether_slow(struct client *client, uint64_t took_ns)
{
    if (took_ns >= client->pool->terms.log_min_ns)
        slow_log(client, took_ns);
    if (client->lease->said != NULL)
        client->lease->said[0] = '\0';
}

static void on_ready(struct pooled *server, bool is_idle)
{
    struct client *client = server->client;
    struct pool_counts *counts = &client->pool->counts;
    struct pool_times *times = &client->pool->times;
    uint64_t now_ns = client->worker->loop->now_ns;
    bool has_more = !flow_is_at_rest(&server->flow); /* of a pipeline, or transaction */

    client->was_replayed = false;
    counts->queries++;
    if (server->query_began_ns != 0) {
        counts->query_time += now_ns - server->query_began_ns;
        pool_time_count(times, POOL_TIME_query, now_ns - server->query_began_ns);
        if (client->pool->terms.log_min_ns > 0)
            look_whether_slow(client, now_ns - server->query_began_ns);
    }
    server->query_began_ns = flow_is_answering(&server->flow) ? now_ns : 0;
    if (!is_idle)
        return;
    counts->transactions++;
    if (server->transaction_began_ns != 0) {
        counts->transaction_time += now_ns - server->transaction_began_ns;
        pool_time_count(times, POOL_TIME_transaction,
                        now_ns - server->transaction_began_ns);
    }
    server->transaction_began_ns = has_more ? now_ns : 0;
}

static void on_error(struct pooled *server, const char *sqlstate)
{
    const struct client *client = server->client;

    pool_errors_count(&client->pool->errors, ERROR_OF_SERVER, sqlstate);
}

static void on_rest(struct pooled *server)
{
    struct client *client = server->client;

    if (!client->is_session_pooled)
        end_lease(client);
    else if (pool_is_doomed(server))
        client_refuse(client, CLOSE_ROLE_CHANGED, NULL);
    client_settle(client);
}

static void on_tuned(struct pooled *server)
{
    struct client *client = server->client;

    client->is_in_lost = false; /* the server says so from now on */
    /* As PostgreSQL spells what the client has named; it has changed nothing yet. */
    if (client->initial == client->parameters)
        set_held(&client->initial, server->parameters);
    set_held(&client->parameters, server->parameters);
    pass(client);
    client_settle(client);
}

static void on_untunable(struct pooled *server, const char *why)
{
    client_refuse(server->client, CLOSE_BAD_PARAMETER, why);
}

/* A message may have waited for that. */
static void on_answered(struct pooled *server)
{
    struct client *client = server->client;

    if (client->inbox == NULL && client->collected == NULL)
        return;
    pass(client);
    client_settle(client);
}

static bool on_parameter(struct pooled *server, const char *name, const char *value)
{
    struct client *client = server->client;
    struct parameter_set *next = parameters_with(client->parameters, name, value);

    if (next == NULL)
        return false;
    set_held(&client->parameters, next);
    parameters_release(next);
    return true;
}

static void on_reset(struct pooled *server, struct parameter_set *parameters)
{
    struct client *client = server->client;

    set_held(&client->parameters, parameters);
}

/* A session's own server has all that its client has set, and no other gets it. */
static const struct parameter_set *initial(const struct pooled *server)
{
    const struct client *client = server->client;

    return client->is_session_pooled || pool_is_private(client->pool) ? NULL
                                                                      : client->initial;
}

/* Before it has heard a word of the client's: another server is as good. */
static void on_unfit(struct pooled *server)
{
    struct client *client = server->client;

    client->lease = NULL;
    client_enter(client, CLIENT_IDLE);
    ask_for_server(client);
    client_settle(client);
}

/* Of a server that ends, or was ended; other ends are not the node's. */
static void add_hint(struct buffer *word)
{
    uint8_t *bytes = word->bytes + word->begin;
    struct error_fields error;

    error_read(bytes + MESSAGE_HEADER_BYTES, buffer_unread(word) - MESSAGE_HEADER_BYTES,
               &error);
    if (strncmp(error.sqlstate, "57P", 3) == 0)
        word->end = word->begin + (uint32_t)error_add_hint(bytes, buffer_unread(word),
                                                           word->size - word->begin,
                                                           CLIENT_CONNECT_AGAIN);
}

/* In the server's words, where it has found some. Else as in a shutdown, but only to whom
 * nothing was owed: 57P01 means that a statement was aborted, which nobody knows. */
static void end_session(struct client *client, struct pooled *server, const char *why)
{
    struct buffer *word = server->watch.word;

    server->watch.word = NULL;
    if (word != NULL) {
        add_hint(word);
        client_refuse_with(client, CLOSE_SERVER_ENDED, word);
    } else if (!server->watch.is_confused && pooled_was_idle(server)) {
        client_refuse(client, CLOSE_SESSION_LOST, why);
    } else {
        client_refuse(client, CLOSE_SERVER_LOST, why);
    }
}

/* Who was answered in full has lost nothing, where servers are shared. */
static void on_lost(struct pooled *server, const char *why)
{
    struct client *client = server->client;

    client->lease = NULL;
    if (server->is_cut) {
        client_close(client, CLOSE_SERVER_LOST); /* it would take a word for data */
    } else if (!client->is_session_pooled && pooled_was_at_rest(server)) {
        client_enter(client, CLIENT_IDLE);
        begin_anew(client);
        client_settle(client);
    } else if (client->is_session_pooled) {
        end_session(client, server, why);
    } else if (server->watch.is_confused) {
        client_refuse(client, CLOSE_SERVER_LOST, why);
    } else {
        if (loss_begin(client, server, why))
            begin_anew(client);
        client_settle(client);
    }
}

static const struct lease_events lease_events = {
    .on_tuned = on_tuned,
    .on_untunable = on_untunable,
    .on_bytes = on_bytes,
    .on_sent = on_sent,
    .on_answered = on_answered,
    .on_parameter = on_parameter,
    .on_reset = on_reset,
    .initial = initial,
    .on_ready = on_ready,
    .on_error = on_error,
    .on_rest = on_rest,
    .on_unfit = on_unfit,
    .on_lost = on_lost,
};
