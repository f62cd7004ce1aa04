#include "router/loss.h"

#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "router/lease.h"
#include "router/replay.h"
#include "router/worker.h"
#include "wire/message.h"
#include "wire/sql.h"

/* What a client waits with while INQUIRING. */
struct loss {
    struct inquest inquest;
    struct buffer_keep request; /* to be sent once more; empty: it is not */
    struct buffer *held;        /* the begin of its answer */
    struct buffer *word;        /* of the server */
    enum ending_verdict verdict;
    enum ending_debt debt;
    bool leaves_block;
};

/* ---- what the client is told --------------------------------------------------------
 */

static void tell(struct client *client, struct buffer *buffer)
{
    client->n_bytes[1] += buffer_unread(buffer);
    client->pool->counts.bytes_sent += buffer_unread(buffer);
    (void)stream_send(&client->stream, buffer);
}

/* It was held back, and is an answer all the same. */
static void tell_held(struct client *client, struct buffer *held)
{
    struct buffer *next;

    for (; held != NULL; held = next) {
        next = held->next;
        held->next = NULL;
        tell(client, held);
    }
}

static void give_chain(struct buffer *first)
{
    struct buffer *next;

    for (; first != NULL; first = next) {
        next = first->next;
        buffer_give(first);
    }
}

/* What a transaction that conflicts with another is told: it is to be run again. */
static const struct message_report lost_transaction = {
    .severity = "ERROR",
    .sqlstate = "40001",
    .text = "the transaction was lost with its server",
    .detail = "It was lost in a switchover, or the server crashed. Nothing of it was "
              "committed.",
    .hint = "Run the transaction again."};
static const struct message_report lost_statement = {
    .severity = "ERROR",
    .sqlstate = "40001",
    .text = "the statement was lost with its server",
    .detail = "It was lost in a switchover, or the server crashed. Nothing of it was "
              "committed.",
    .hint = "Run it again."};

/* An error, if there is one, and what else is due. False when memory is out: then the
 * client is gone. */
static bool answer(struct client *client, const struct message_report *report,
                   enum ending_debt debt)
{
    struct buffer *buffer = buffer_take(client->worker->loop->pond);
    uint8_t bytes[512];

    if (buffer == NULL) {
        client_close(client, CLOSE_NO_MEMORY);
        return false;
    }
    if (report != NULL) {
        REQUIRE(
            buffer_add(buffer, bytes,
                       (uint32_t)message_write_report('E', report, bytes, sizeof bytes)));
        pool_errors_count(&client->pool->errors, ERROR_OF_ROUTER, report->sqlstate);
    }
    if (debt == ENDING_OWES_READY)
        REQUIRE(buffer_add(buffer, bytes,
                           (uint32_t)message_write_ready(client->is_in_lost ? 'E' : 'I',
                                                         bytes, sizeof bytes)));
    client->skips_to_sync = debt == ENDING_OWES_SYNC;
    if (buffer_unread(buffer) > 0)
        tell(client, buffer);
    else
        buffer_give(buffer);
    return client->state != CLIENT_CLOSING;
}

/* It goes on, without what it has lost. */
static bool go_on_without(struct client *client, enum ending_verdict verdict,
                          enum ending_debt debt, bool leaves_block)
{
    client_enter(client, CLIENT_IDLE);
    pool_note_loss(client->pool, POOL_LOST);
    client->is_in_lost = verdict == ENDING_LOST && !leaves_block;
    if (verdict == ENDING_LOST && debt == ENDING_OWES_NOTHING) {
        client->owes_loss = true;
        return true;
    }
    return answer(client, verdict == ENDING_LOST ? &lost_transaction : &lost_statement,
                  debt);
}

/* ---- once more ----------------------------------------------------------------------
 */

/* What it has said is what it says next. */
static bool ask_again(struct client *client, struct buffer_keep *request)
{
    uint32_t n = request->n;
    struct buffer *first = buffer_keep_take(request), *last = first;

    while (last->next != NULL)
        last = last->next;
    last->next = client->inbox;
    client->inbox = first;
    client->n_left = 0; /* it begins at the begin of a message */
    client->n_bytes[0] -= n;
    client->pool->counts.bytes_received -= n;
    pool_note_loss(client->pool, POOL_REPLAYED);
    client_enter(client, CLIENT_IDLE);
    return true;
}

static bool ask_aborted_again(struct client *client, struct buffer_keep *request)
{
    replay_forget(client, request);
    client->was_replayed = true;
    return ask_again(client, request);
}

/* All of it, and nothing was taken out of the line behind it. */
static bool is_kept(const struct client *client, const struct pooled_watch *watch)
{
    return watch->is_whole && watch->request.first != NULL && client->collected == NULL;
}

static bool may_ask_again(const struct client *client, const struct ending *ending,
                          const struct pooled_watch *watch)
{
    return client->keeps_aborted && !client->was_replayed && is_kept(client, watch) &&
           ending->heard == 0 && ending_debt(ending->flow) == ENDING_OWES_READY &&
           replay_is_allowed(client, &watch->request);
}

/* ---- a server is lost ---------------------------------------------------------------
 */

static bool keeps_clients(const struct client *client)
{
    return client->worker->config->main.failover_keep_clients;
}

/* In the server's words, where it had any. */
static void let_go(struct client *client, struct buffer *word, const char *why)
{
    if (word != NULL)
        client_refuse_with(client, CLOSE_SERVER_ENDED, word);
    else
        client_refuse(client, CLOSE_SERVER_LOST, why);
}

static struct buffer *take_word(struct pooled *server)
{
    struct buffer *word = server->watch.word;

    server->watch.word = NULL;
    return word;
}

static void refuse_unknown(struct client *client, const char *why)
{
    char text[256];

    pool_note_loss(client->pool, POOL_UNKNOWN);
    snprintf(text, sizeof text, "%s (%s)", close_facts[CLOSE_OUTCOME_UNKNOWN].text, why);
    client_refuse(client, CLOSE_OUTCOME_UNKNOWN, text);
}

/* Nothing is left of it; whether it is worth waiting for is still to be found out, if it
 * was ended by a word. */
static bool begin_inquest(struct client *client, struct pooled *server,
                          const struct ending *ending, enum ending_verdict verdict)
{
    struct pooled_watch *watch = &server->watch;
    bool is_again = verdict == ENDING_ABORTED && may_ask_again(client, ending, watch);
    struct loss *loss;

    if (!is_again && !keeps_clients(client)) {
        tell_held(client, pooled_take_held(server));
        let_go(client, take_word(server), server->why);
        return false;
    }
    loss = memory_zeroed(sizeof *loss);
    if (loss == NULL) {
        let_go(client, take_word(server), server->why);
        return false;
    }
    loss->verdict = verdict;
    loss->debt = ending_debt(ending->flow);
    loss->leaves_block = ending_leaves_block(ending);
    loss->word = take_word(server);
    loss->held = pooled_take_held(server);
    if (is_again) {
        loss->request = watch->request;
        watch->request = (struct buffer_keep){0};
    }
    client->loss = loss;
    client_enter(client, CLIENT_INQUIRING);
    return pool_inquire(&loss->inquest, client->pool, server->node_id, client) &&
           loss_end(client, true);
}

/* It had no last word, or one that was meant for all. */
static bool go_on(struct client *client, struct pooled *server,
                  const struct ending *ending, enum ending_verdict verdict,
                  const char *why)
{
    enum ending_debt debt = ending_debt(ending->flow);

    tell_held(client, pooled_take_held(server));
    if (!keeps_clients(client)) {
        let_go(client, take_word(server), why);
        return false;
    }
    if (verdict == ENDING_ABORTED || verdict == ENDING_LOST)
        return go_on_without(client, verdict, debt, ending_leaves_block(ending));
    client->is_in_lost = verdict == ENDING_FAILED && ending_is_in_block(ending);
    client_enter(client, CLIENT_IDLE);
    return answer(client, NULL, debt);
}

static bool begin(struct client *client, struct pooled *server,
                  const struct ending *ending, const char *why)
{
    struct pooled_watch *watch = &server->watch;
    enum ending_verdict verdict = ending_judge(ending);

    switch (verdict) {
    case ENDING_AT_REST:
        client_enter(client, CLIENT_IDLE);
        return true;
    case ENDING_FORWARDED:
        tell_held(client, pooled_take_held(server));
        let_go(client, take_word(server), why);
        return false;
    case ENDING_UNKNOWN:
        tell_held(client, pooled_take_held(server));
        if (keeps_clients(client))
            refuse_unknown(client, why);
        else
            let_go(client, take_word(server), why);
        return false;
    case ENDING_NEVER_BEGUN:
        if (client->keeps_unsent && is_kept(client, watch))
            return ask_again(client, &watch->request);
        return go_on(client, server, ending, ENDING_ABORTED, why);
    case ENDING_ABORTED:
    case ENDING_LOST:
        if (ending->how == ENDING_SHUTDOWN)
            return begin_inquest(client, server, ending, verdict);
        break;
    case ENDING_FAILED:
    case ENDING_COMMITTED:
        break;
    }
    return go_on(client, server, ending, verdict, why);
}

bool loss_begin(struct client *client, struct pooled *server, const char *why)
{
    const struct pooled_watch *watch = &server->watch;
    struct ending ending = {
        .flow = &server->flow,
        .asked = watch->asked,
        .heard = watch->heard,
        .is_unsent = watch->is_unsent,
        .how = watch->word != NULL ? (enum ending_how)watch->how : ENDING_BARE,
    };

    return begin(client, server, &ending, why);
}

/* ---- the inquest --------------------------------------------------------------------
 */

bool loss_end(struct client *client, bool goes_away)
{
    struct loss *loss = client->loss;
    bool goes_on = false;

    client->loss = NULL;
    if (goes_away && loss->request.first != NULL) {
        give_chain(loss->held);
        goes_on = ask_aborted_again(client, &loss->request);
    } else {
        tell_held(client, loss->held);
        if (goes_away && keeps_clients(client)) {
            goes_on =
                go_on_without(client, loss->verdict, loss->debt, loss->leaves_block);
        } else {
            client_refuse_with(client, CLOSE_SERVER_ENDED, loss->word);
            loss->word = NULL;
        }
    }
    buffer_give(loss->word);
    buffer_keep_drop(&loss->request);
    memory_free(loss);
    return goes_on;
}

void loss_drop(struct client *client)
{
    struct loss *loss = client->loss;

    if (loss == NULL)
        return;
    client->loss = NULL;
    pool_drop_inquest(&loss->inquest);
    give_chain(loss->held);
    buffer_give(loss->word);
    buffer_keep_drop(&loss->request);
    memory_free(loss);
}

/* ---- what the client says next ------------------------------------------------------
 */

/* Of the first message; its rest may still be to come. */
static void skip(struct client *client, const struct message_view *message)
{
    struct buffer *buffer = client->inbox;

    client->n_left = message->length - message->n;
    buffer_skip(buffer, MESSAGE_HEADER_BYTES + message->n);
    if (buffer_unread(buffer) > 0)
        return;
    client->inbox = buffer->next;
    buffer_give(buffer);
}

/* What its text is, if it is here; 0: nobody knows. */
static unsigned look_at(const struct client *client, const struct message_view *message)
{
    struct message_parse parse;
    struct message_bind bind;
    const struct client_name *name;
    const char *text = "";
    size_t n = 0;

    if (message->n < message->length)
        return 0;
    if (message->type == 'Q' &&
        message_read_string(message->body, message->length, &text))
        n = message->length - 1;
    if (message->type == 'P' &&
        message_read_parse(message->body, message->length, &parse)) {
        text = parse.text;
        n = parse.n_text;
    }
    if (message->type == 'B' &&
        message_read_bind(message->body, message->length, &bind)) {
        name = statement_names_find(client->worker->pools.home.statements, &client->names,
                                    bind.statement);
        if (name != NULL && name->statement != NULL) {
            text = (const char *)statement_rest(name->statement, &n);
            n = strnlen(text, n);
        }
    }
    return sql_look(text, n);
}

/* It was told, and says Sync in the end. False: it is gone. */
static bool skip_one(struct client *client, const struct message_view *message)
{
    bool is_sync = message->type == 'S';

    skip(client, message);
    return !is_sync || answer(client, NULL, ENDING_OWES_READY);
}

/* The first message behind the loss. False: it is gone. */
static bool tell_loss(struct client *client, const struct message_view *message)
{
    bool is_simple = message->type == 'Q' || message->type == 'F' || message->type == 'S';

    unsigned sql = look_at(client, message);

    client->owes_loss = false;
    if (sql & SQL_ROLLBACK)
        return true; /* it needs not be told that the transaction is gone */
    if (sql & SQL_ENDS)
        client->is_in_lost = false;
    skip(client, message);
    return answer(client, &lost_transaction,
                  is_simple ? ENDING_OWES_READY : ENDING_OWES_SYNC);
}

/* What is left of a message whose begin was skipped. */
static void skip_rest(struct client *client)
{
    while (client->n_left > 0 && client->inbox != NULL) {
        struct buffer *buffer = client->inbox;
        uint32_t n = client->n_left < buffer_unread(buffer) ? client->n_left
                                                            : buffer_unread(buffer);

        client->n_left -= n;
        buffer_skip(buffer, n);
        if (buffer_unread(buffer) > 0)
            return;
        client->inbox = buffer->next;
        buffer_give(buffer);
    }
}

/* Moves the header of the inbox's first message into one buffer. False: it is not all
 * there. */
static bool join_header(struct client *client)
{
    struct buffer *buffer = client->inbox, *next = buffer->next;
    uint8_t bytes[MESSAGE_HEADER_BYTES];
    uint32_t n = buffer_unread(buffer);

    if (n >= MESSAGE_HEADER_BYTES)
        return true;
    if (next == NULL)
        return false;
    memcpy(bytes, buffer->bytes + buffer->begin, n);
    if (!buffer_prepend(next, bytes, n))
        return false;
    client->inbox = next;
    buffer_give(buffer);
    return buffer_unread(next) >= MESSAGE_HEADER_BYTES;
}

/* The same of a message that was being collected. False: it is gone. */
static bool skip_collected(struct client *client)
{
    client->n_left = lease_skip_collected(client);
    if (!client->owes_loss)
        return true;
    client->owes_loss = false;
    return answer(client, &lost_transaction, ENDING_OWES_SYNC);
}

bool loss_settle(struct client *client)
{
    struct message_walk walk;
    struct message_view message = {0};
    uint32_t n_left = 0;

    if (client->collected != NULL && !skip_collected(client))
        return false;
    while (loss_is_open(client)) {
        enum message_step step;

        skip_rest(client);
        if (client->inbox == NULL || !join_header(client))
            return false;
        message_walk_begin(&walk, &client->worker->client_rules,
                           client->inbox->bytes + client->inbox->begin,
                           buffer_unread(client->inbox), &n_left);
        step = message_walk_next(&walk, &message);
        if (step != MESSAGE_WHOLE && step != MESSAGE_BEGUN)
            return true; /* whoever is next says what is wrong with it */
        if (message.type == 'X' || flow_is_ignored_at_rest(message.type)) {
            if (message.type == 'X')
                return true;
            skip(client, &message);
        } else if (!(client->skips_to_sync ? skip_one(client, &message)
                                           : tell_loss(client, &message))) {
            return false;
        }
    }
    return true;
}
