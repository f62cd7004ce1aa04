#include "pool/pooled.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/memory.h"
#include "core/stream_tls.h"
#include "wire/error.h"

/* When the node could be reached, but not as it has to be:
 * invalid_authorization_specification. */
#define CODE_OF_OURS "28000"

#define BIT(name) (1u << POOLED_##name)

static const struct {
    const char *name;
    unsigned next; /* set of the states that this one may become */
} states[POOLED_STATE_COUNT] = {
#define X(state, becomes) [POOLED_##state] = {.name = #state, .next = becomes},
    POOLED_STATES(X, BIT)
#undef X
};

static const struct stream_events stream_events;
static void drop_luggage(struct pooled *server);
static const struct server_events connecting_events;
static const struct login_events login_events;

const char *pooled_state_name(enum pooled_state state)
{
    return states[state].name;
}

static void enter(struct pooled *server, enum pooled_state next)
{
    REQUIRE(states[server->state].next & (1u << next));
    server->state = next;
}

static struct loop *loop_of(const struct pooled *server)
{
    return server->connection->stream.loop;
}

/* ---- what is under way --------------------------------------------------------------
 */

void pooled_keep(struct pooled *server, struct buffer *bytes, uint32_t begin,
                 uint32_t end)
{
    struct pooled_watch *watch = &server->watch;

    if (!watch->is_whole || watch->request.n + (end - begin) > watch->keep_max)
        pooled_keep_none(server);
    else
        buffer_keep_add(&watch->request, bytes, begin, end);
}

/* One message is asked that has an answer, Query or Sync at its end, and it is here in
 * whole: the server will say more than the begin of an answer. */
static bool is_asked_in_whole(const struct flow *flow)
{
    return ending_debt(flow) == ENDING_OWES_READY && (flow->flags & FLOW_CUT) == 0;
}

bool pooled_hold(struct pooled *server, struct buffer *bytes)
{
    struct pooled_watch *watch = &server->watch;

    if (watch->keeps != POOLED_KEEPS_UNANSWERED || watch->request.first == NULL ||
        (watch->heard & ~HEARD_WARNING) != 0 || !is_asked_in_whole(&server->flow) ||
        watch->n_held + buffer_unread(bytes) > watch->keep_max)
        return false;
    bytes->next = NULL;
    if (watch->held == NULL)
        watch->held = bytes;
    else
        watch->last_held->next = bytes;
    watch->last_held = bytes;
    watch->n_held += buffer_unread(bytes);
    return true;
}

struct buffer *pooled_take_held(struct pooled *server)
{
    struct buffer *held = server->watch.held;

    server->watch.held = server->watch.last_held = NULL;
    server->watch.n_held = 0;
    return held;
}

static void give_chain(struct buffer *first)
{
    struct buffer *next;

    for (; first != NULL; first = next) {
        next = first->next;
        buffer_give(first);
    }
}

static void end_watch(struct pooled *server)
{
    bool is_unsent = server->watch.is_unsent;

    pooled_keep_none(server);
    give_chain(pooled_take_held(server));
    buffer_give(server->watch.word);
    server->watch = (struct pooled_watch){.is_unsent = is_unsent};
}

static void lose(struct pooled *server, const char *sqlstate, const char *why)
{
    if (server->state == POOLED_ACTIVE) {
        stream_close(&server->connection->stream); /* it holds the request's buffers */
        translation_undo(&server->translation);
    }
    translation_end(&server->translation);
    if (server->state == POOLED_TUNING)
        server->lease->on_unfit(server);
    else if (server->lease != NULL)
        server->lease->on_lost(server, why);
    server->events->on_lost(server, sqlstate, why);
}

/* ---- opening ------------------------------------------------------------------------
 */

static void on_open_timeout(struct deadline *deadline)
{
    lose(CONTAINER_OF(deadline, struct pooled, deadline), "",
         "the login at the node took too long");
}

bool pooled_open(struct pooled *server, const struct pooled_home *home,
                 struct topology *topology, const struct topology_node *node,
                 const struct login_identity *identity,
                 const struct tcp_settings *settings, uint64_t timeout_ms,
                 const struct pooled_events *events, void *owner)
{
    server->events = events;
    server->owner = owner;
    server->identity = identity;
    server->home = home;
    server->node_id = node->id;
    server->opened_at_ms = loop_now_ms(home->loop);
    server->opened_at_ns = home->loop->now_ns;
    server->connection = server_open(home->connections, home->loop, topology, node,
                                     timeout_ms, settings, &connecting_events, server);
    if (server->connection == NULL)
        return false;
    if (home->security != NULL) {
        server->generation = home->security->generation;
        server_secure(server->connection, home->security,
                      security_memory(home->memories, node->id));
    }
    return true;
}

/* The login is bound to the certificate that the node has shown, if it has. */
static bool bind_login(const struct pooled *server)
{
    const struct stream *stream = &server->connection->stream;
    X509 *certificate =
        stream_is_tls(stream) ? stream_tls_peer_certificate(stream) : NULL;
    struct channel_binding binding;

    if (certificate == NULL)
        return true;
    if (!certificate_binding(certificate, &binding))
        return false;
    login_run_bind(server->login, &binding);
    return true;
}

static void on_connected(struct server *connection)
{
    struct pooled *server = connection->owner;

    enter(server, POOLED_LOGIN);
    connection->stream.events = &stream_events;
    connection->stream.owner = server;
    if (connection->connect_timeout_ms > 0)
        deadline_arm(loop_of(server), &server->deadline, connection->connect_timeout_ms,
                     on_open_timeout);
    server->login =
        login_run_new(loop_of(server), server->identity, &login_events, server);
    if (server->login == NULL || !bind_login(server))
        lose(server, "", "out of memory");
    else
        stream_want(&connection->stream, true);
}

static void on_unreachable(struct server *connection, enum stream_failure why)
{
    struct pooled *server = connection->owner;

    if (why != STREAM_TLS_FAILED) {
        lose(server, "", stream_failure_text(why));
        return;
    }
    /* Not before somebody changes the settings, here or there. */
    snprintf(server->why, sizeof server->why, "TLS with the node: %s",
             connection->tls_why);
    lose(server, CODE_OF_OURS, server->why);
}

static const struct server_events connecting_events = {
    .on_open = on_connected,
    .on_unreachable = on_unreachable,
};

/* ---- what we say by ourselves -------------------------------------------------------
 */

/* False when memory is out. */
static bool send_bytes(struct pooled *server, const uint8_t *bytes, size_t n)
{
    struct buffer *buffer = buffer_take(loop_of(server)->pond);

    if (buffer == NULL || !buffer_add(buffer, bytes, (uint32_t)n)) {
        buffer_give(buffer);
        return false;
    }
    (void)pooled_send(server, buffer);
    return true;
}

static bool say(struct pooled *server, const uint8_t *bytes, size_t n)
{
    return n > 0 && pooled_forward(server, bytes[0]) == FLOW_GOES_ON &&
           send_bytes(server, bytes, n);
}

static void on_login_send(void *arg, const uint8_t *bytes, size_t n)
{
    (void)send_bytes(arg, bytes, n); /* else the login runs into its deadline */
}

static void on_login_failed(void *arg)
{
    struct pooled *server = arg;
    char sqlstate[sizeof "28000"], why[sizeof server->why];

    /* Copies: the run goes with the server. */
    snprintf(sqlstate, sizeof sqlstate, "%s", login_run_sqlstate(server->login));
    snprintf(why, sizeof why, "%s", login_run_why(server->login));
    lose(server, sqlstate, why);
}

static const struct login_events login_events = {
    .on_send = on_login_send,
    .on_failed = on_login_failed,
};

/* ---- lending, taking back -----------------------------------------------------------
 */

/* True: nothing is to be said first. */
static bool tune(struct pooled *server, struct parameter_set *wanted)
{
    uint8_t header[MESSAGE_HEADER_BYTES] = {'Q'};
    struct buffer *buffer;
    struct text query;
    bool ok;

    text_init(&query, BUFFER_BYTES - MESSAGE_HEADER_BYTES - 1);
    parameters_add_change(server->parameters, wanted, &query);
    if (query.length == 0 && !query.overflowed)
        return true;
    buffer = buffer_take(loop_of(server)->pond);
    wire_write_u32(header + 1, (uint32_t)query.length + 5);
    ok = !query.overflowed && buffer != NULL &&
         buffer_add(buffer, header, sizeof header) &&
         buffer_add(buffer, text_get(&query), (uint32_t)query.length + 1) &&
         pooled_forward(server, 'Q') == FLOW_GOES_ON;
    text_clear(&query);
    if (ok)
        (void)pooled_send(server, buffer);
    else
        buffer_give(buffer);
    server->has_erred = !ok;
    snprintf(server->why, sizeof server->why, "the session's parameters are too many");
    server->untuned = server->parameters;
    server->parameters = parameters_hold(wanted);
    return false;
}

/* What was said to tune it was answered: all of it holds, or nothing. */
static void settle_tuning(struct pooled *server)
{
    struct parameter_set *given_up =
        server->has_erred ? server->parameters : server->untuned;

    if (server->has_erred)
        server->parameters = server->untuned;
    server->untuned = NULL;
    parameters_release(given_up);
}

/* What a transaction is after an error. The savepoint is there for whoever reads the
 * node's log. */
static const char failing_query[] =
    "BEGIN; ROLLBACK TO SAVEPOINT \"transaction lost in switchover\"";

/* It is as its client wants it, but for the failed transaction. */
static void fail_or_begin(struct pooled *server)
{
    uint8_t bytes[MESSAGE_HEADER_BYTES + sizeof failing_query];

    server->is_failing = server->fails_first;
    server->fails_first = false;
    if (!server->is_failing) {
        enter(server, POOLED_ACTIVE);
        server->lease->on_tuned(server);
    } else if (!say(server, bytes,
                    message_write_string('Q', failing_query, bytes, sizeof bytes))) {
        lose(server, "", "out of memory");
    }
}

/* The error that it has said is the one that was wanted. */
static void end_failing(struct pooled *server)
{
    server->is_failing = false;
    server->has_erred = false;
    if (server->flow.status != 'E') {
        lose(server, "", "it has not failed as it was told to");
        return;
    }
    enter(server, POOLED_ACTIVE);
    server->lease->on_tuned(server);
}

static void end_tuning(struct pooled *server)
{
    settle_tuning(server);
    if (server->has_erred) {
        enter(server, POOLED_ACTIVE);
        server->lease->on_untunable(server, server->why);
    } else {
        fail_or_begin(server);
    }
}

/* Its answer is followed by tuning. */
static bool check(struct pooled *server, const char *query, struct parameter_set *wanted)
{
    uint8_t bytes[1024];

    server->wanted = parameters_hold(wanted);
    enter(server, POOLED_TUNING);
    if (!say(server, bytes, message_write_string('Q', query, bytes, sizeof bytes)))
        lose(server, "", "server_check_query is too long");
    return false;
}

/* It has answered: is it fit? */
static void end_check(struct pooled *server)
{
    struct parameter_set *wanted = server->wanted;

    server->wanted = NULL;
    if (server->has_erred) {
        lose(server, "", server->why);
    } else if (wanted == server->parameters || tune(server, wanted)) {
        fail_or_begin(server);
    } else if (server->has_erred) {
        end_tuning(server);
    }
    parameters_release(wanted);
}

bool pooled_lend(struct pooled *server, const struct lease_events *lease, void *client,
                 struct parameter_set *wanted, const char *check_query)
{
    server->lease = lease;
    server->client = client;
    server->lent_at_ns = loop_of(server)->now_ns;
    server->was_handed = false;
    server->has_reset = false;
    server->has_erred = false;
    server->is_cut = false;
    if (check_query != NULL)
        return check(server, check_query, wanted);
    if (wanted == server->parameters || tune(server, wanted)) {
        if (!server->fails_first) {
            enter(server, POOLED_ACTIVE);
            return true;
        }
        enter(server, POOLED_TUNING);
        fail_or_begin(server);
        return false;
    }
    enter(server, POOLED_TUNING);
    if (server->has_erred)
        end_tuning(server);
    return false;
}

/* After a reset query the server has the parameters that it reports, and no others. False
 * when that has failed, or memory is out. */
static bool forget_parameters(struct pooled *server)
{
    struct parameter_set *left;

    if (server->untuned != NULL)
        settle_tuning(server);
    parameters_release(server->wanted); /* it was being checked */
    server->wanted = NULL;
    if (!server->was_reset)
        return true;
    if (server->has_erred)
        return false; /* nobody knows what is left in it */
    left = parameters_like(server->parameters, server->defaults);
    if (left == NULL)
        return false;
    parameters_release(server->parameters);
    server->parameters = left;
    return true;
}

/* One step towards rest: false when none is left that helps. */
static bool clean(struct pooled *server)
{
    uint8_t bytes[1024];

    switch (flow_need(&server->flow)) {
    case FLOW_NEEDS_ANSWERS:
        return true;
    case FLOW_NEEDS_COPY_FAIL:
        return say(server, bytes,
                   message_write_string('f', "the client has left", bytes,
                                        sizeof bytes)) &&
               clean(server);
    case FLOW_NEEDS_SYNC:
        return say(server, bytes, message_write_empty('S', bytes, sizeof bytes));
    case FLOW_NEEDS_ROLLBACK:
        return say(server, bytes,
                   message_write_string('Q', "ROLLBACK", bytes, sizeof bytes));
    case FLOW_NEEDS_CLOSE:
        return false;
    case FLOW_NEEDS_NOTHING:
        break;
    }
    if (server->reset_query != NULL) {
        const char *query = server->reset_query;

        if (server->untuned != NULL)
            settle_tuning(server);
        server->reset_query = NULL;
        server->has_erred = false;
        return say(server, bytes, message_write_string('Q', query, bytes, sizeof bytes));
    }
    if (!forget_parameters(server))
        return false;
    deadline_cancel(&server->deadline);
    enter(server, POOLED_IDLE);
    return true;
}

static void on_cleaning_timeout(struct deadline *deadline)
{
    lose(CONTAINER_OF(deadline, struct pooled, deadline), "",
         "it could not be brought to rest in time");
}

/* False when it is lost by this. */
static bool begin_cleaning(struct pooled *server, const char *query, bool is_reset)
{
    enter(server, POOLED_CLEANING);
    server->reset_query = query;
    server->was_reset = is_reset;
    if (clean(server))
        return true;
    lose(server, "", "it could not be brought to rest");
    return false;
}

bool pooled_take_back(struct pooled *server, const char *reset_query, uint64_t timeout_ms)
{
    translation_end(&server->translation);
    end_watch(server);
    server->fails_first = server->is_failing = false;
    server->lease = NULL;
    server->client = NULL;
    server->used_at_ms = loop_now_ms(loop_of(server));
    pooled_want(server, true);
    if (reset_query == NULL && pooled_is_at_rest(server)) {
        enter(server, POOLED_IDLE);
        return true;
    }
    if (timeout_ms > 0)
        deadline_arm(loop_of(server), &server->deadline, timeout_ms, on_cleaning_timeout);
    (void)begin_cleaning(server, reset_query, reset_query != NULL);
    return false;
}

/* ---- is it a primary? ---------------------------------------------------------------
 */

/* What it said at its login may be a promotion ago, and before version 14 it says
 * nothing. */
static const char proof_query[] = "SELECT pg_catalog.pg_is_in_recovery()";

/* False when it is lost by this. */
static bool begin_proving(struct pooled *server)
{
    uint8_t bytes[MESSAGE_HEADER_BYTES + sizeof proof_query];

    enter(server, POOLED_PROVING);
    server->proof = 0;
    server->has_erred = false;
    if (say(server, bytes, message_write_string('Q', proof_query, bytes, sizeof bytes)))
        return true;
    lose(server, "", "out of memory");
    return false;
}

void pooled_prove(struct pooled *server, uint64_t timeout_ms)
{
    server->wants = POOLED_WANTS_PRIMARY;
    if (timeout_ms > 0)
        deadline_arm(loop_of(server), &server->deadline, timeout_ms, on_open_timeout);
    (void)begin_proving(server);
}

/* A row of one column, a boolean. */
static void read_proof(struct pooled *server, const struct message_view *message)
{
    static const uint8_t row[] = {0, 1, 0, 0, 0, 1};

    if (message->length == sizeof row + 1 && message->n == message->length &&
        memcmp(message->body, row, sizeof row) == 0)
        server->proof = (char)message->body[sizeof row];
}

/* It is at rest, and what it was opened for begins. */
static void end_proving(struct pooled *server)
{
    const char *query = server->identity->connect_query;

    if (server->proof != 'f') {
        lose(server, "",
             server->proof == 't'
                 ? "the node is in recovery, and was taken for the primary"
                 : "it does not say whether the node is in recovery");
    } else if (*query != '\0') {
        (void)begin_cleaning(server, query, true);
    } else {
        deadline_cancel(&server->deadline);
        enter(server, POOLED_IDLE);
        server->events->on_clean(server);
    }
}

void pooled_cut(struct pooled *server, const char *why)
{
    lose(server, "", why);
}

void pooled_close(struct pooled *server)
{
    uint8_t bytes[MESSAGE_HEADER_BYTES];

    if (server->state == POOLED_CLOSING)
        return;
    if ((server->state == POOLED_IDLE || server->state == POOLED_WARM) &&
        stream_is_open(&server->connection->stream))
        (void)send_bytes(server, bytes, message_write_empty('X', bytes, sizeof bytes));
    enter(server, POOLED_CLOSING);
    deadline_cancel(&server->deadline);
    login_run_free(server->login);
    server->login = NULL;
    buffer_give(server->kept);
    server->kept = NULL;
    memory_free(server->said);
    server->said = NULL;
    end_watch(server);
    translation_clear(&server->translation);
    parameters_release(server->parameters);
    parameters_release(server->untuned);
    parameters_release(server->wanted);
    parameters_release(server->defaults);
    server->parameters = server->untuned = server->defaults = server->wanted = NULL;
    if (server->connection != NULL)
        server_close(server->connection, false);
    server->connection = NULL;
    drop_luggage(server);
}

/* ---- what the server says -----------------------------------------------------------
 */

static bool on_parameter(struct pooled *server, const struct message_view *message)
{
    const char *name, *value;
    struct parameter_set *next;

    if (!message_read_parameter(message->body, message->length, &name, &value))
        return false;
    if (!parameters_follows(name))
        return true;
    next = parameters_with(server->parameters, name, value);
    if (next == NULL)
        return false;
    parameters_release(server->parameters);
    server->parameters = next;
    return server->state != POOLED_ACTIVE ||
           server->lease->on_parameter(server, name, value);
}

/* ---- RESET, and DISCARD ALL ---------------------------------------------------------
 *
 * They lead back to what a session began with, which is not what a server began with, and
 * of parameters that the server does not report nobody is told.
 */

/* The value of one of which nobody knows what it is: before the next client it is set. */
#define IN_DOUBT "\001"

struct replacing {
    struct pooled *server;
    struct parameter_set *set; /* held; NULL: memory is out */
    struct edit *edit;
    size_t at;
};

static void replace(struct replacing *replacing, const char *name, const char *value)
{
    struct parameter_set *next = parameters_with(replacing->set, name, value);

    parameters_release(replacing->set);
    replacing->set = next;
}

static void doubt_one(void *arg, const char *name, const char *value)
{
    struct replacing *replacing = arg;

    (void)value;
    if (replacing->set != NULL && parameters_find(replacing->set, name) == NULL)
        replace(replacing, name, IN_DOUBT);
}

/* Of what the server does not report all was reset, or something. False when memory is
 * out. */
static bool doubt(struct pooled *server, bool is_all)
{
    struct replacing known = {
        .server = server, .set = parameters_like(server->parameters, server->defaults)};

    if (!is_all)
        parameters_each(server->parameters, doubt_one, &known);
    if (known.set == NULL)
        return false;
    parameters_release(server->parameters);
    server->parameters = known.set;
    return true;
}

/* CommandComplete. What we say ourselves to tune a server is no client's. */
static bool see_tag(struct pooled *server, const struct message_view *message)
{
    static const char reset[] = "RESET", discard[] = "DISCARD ALL";
    const uint8_t *tag = message->body;
    bool is_all = message->n == sizeof discard && memcmp(tag, discard, message->n) == 0;

    translation_see_tag(&server->translation, tag, message->n);
    if ((!is_all &&
         (message->n != sizeof reset || memcmp(tag, reset, message->n) != 0)) ||
        server->state == POOLED_TUNING || server->untuned != NULL)
        return true;
    server->has_reset = server->state == POOLED_ACTIVE;
    return doubt(server, is_all);
}

/* A parameter that has the server's value now has the session's: nobody can tell RESET
 * ALL from RESET of another. The client was told the server's. */
static void put_back_one(void *arg, const char *name, const char *value)
{
    struct replacing *replacing = arg;
    const struct pooled *server = replacing->server;
    const char *usual = parameters_find(server->defaults, name);
    const char *present = parameters_find(server->parameters, name);
    uint8_t bytes[1024];

    if (replacing->set == NULL ||
        (usual != NULL && (present == NULL || strcmp(present, usual) != 0)))
        return;
    if (usual != NULL && strcmp(usual, value) != 0)
        edit_insert(replacing->edit, replacing->at, bytes,
                    message_write_parameter(name, value, bytes, sizeof bytes));
    replace(replacing, name, value);
}

/* Before a ReadyForQuery at `at`. False when memory is out. */
static bool put_back(struct pooled *server, struct edit *edit, size_t at)
{
    const struct parameter_set *initial = server->lease->initial(server);
    struct replacing session = {.server = server, .edit = edit, .at = at};

    server->has_reset = false;
    if (initial == NULL)
        return true;
    session.set = parameters_like(server->parameters, server->defaults);
    parameters_each(initial, put_back_one, &session);
    if (session.set == NULL)
        return false;
    server->lease->on_reset(server, session.set);
    parameters_release(session.set);
    return true;
}

static void note_error(struct pooled *server, const struct message_view *message)
{
    struct error_fields error;

    if (server->has_erred && server->state != POOLED_ACTIVE)
        return;
    error_read(message->body, message->n, &error);
    if (server->state == POOLED_ACTIVE) {
        server->lease->on_error(server, error.sqlstate);
        return;
    }
    server->has_erred = true;
    snprintf(server->why, sizeof server->why, "%s", error.text);
}

/* Feeds one message to the flow; false when it makes no sense. */
static bool see(struct pooled *server, const struct message_view *message)
{
    char status;

    if (message->type == 'S' && !on_parameter(server, message))
        return false;
    if (message->type == 'E')
        note_error(server, message);
    if (message->type == 'D' && server->state == POOLED_PROVING)
        read_proof(server, message);
    if (message->type != 'Z')
        return flow_see(&server->flow, message->type) != FLOW_CONFUSED;
    if (!message_read_ready(message->body, message->length, &status) ||
        flow_see_ready(&server->flow, status) == FLOW_CONFUSED)
        return false;
    server->watch.heard = 0;
    pooled_keep_none(server); /* a part of it is done */
    if ((server->flow.n_groups | server->flow.n_tail) == 0)
        server->watch.asked = 0;
    if (server->state == POOLED_ACTIVE)
        server->lease->on_ready(server, status == 'I');
    return true;
}

/* It will say nothing more. False when memory is out. */
static bool keep_word(struct pooled *server, const struct message_view *message)
{
    server->watch.word = buffer_take(loop_of(server)->pond);
    return server->watch.word != NULL &&
           buffer_add(server->watch.word, message->body - MESSAGE_HEADER_BYTES,
                      message->n + MESSAGE_HEADER_BYTES);
}

/* An ErrorResponse, or NoticeResponse, by which a server takes its leave of a client.
 * False when memory is out. */
static bool see_leave(struct pooled *server, const struct message_view *message)
{
    struct error_fields error;
    enum ending_how how;

    if (message->n < message->length)
        return true; /* it is longer than any of those */
    error_read(message->body, message->n, &error);
    if (message->type == 'N') {
        if (ending_is_warning(&error))
            server->watch.heard |= HEARD_WARNING;
        return true;
    }
    if (!ending_is_last(&error, &how))
        return true;
    server->watch.how = (uint8_t)how;
    snprintf(server->why, sizeof server->why, "%s", error.text);
    return keep_word(server, message);
}

/* What was heard by this, as far as the client hears it. */
static void note_heard(struct pooled *server, const struct message_view *message)
{
    server->watch.heard |= ending_heard[message->type];
    if (message->type == 'C')
        server->watch.heard |= (uint8_t)ending_read_tag(message->body, message->n);
}

/* The same, and what it means for prepared statements. */
static bool see_all(struct pooled *server, const struct message_view *message,
                    struct edit *edit)
{
    uint32_t n_answered = server->flow.n_answered;
    size_t at = (size_t)(message->body - edit->bytes), end = at + message->n;

    if (message->type == 'Z' && server->has_reset && server->state == POOLED_ACTIVE &&
        !put_back(server, edit, at - MESSAGE_HEADER_BYTES))
        return false;
    if (server->watch.is_on && (message->type == 'E' || message->type == 'N')) {
        if (!see_leave(server, message))
            return false;
        if (server->watch.word != NULL)
            return true;
    }
    if (!see(server, message))
        return false;
    if (message->type == 'C' && !see_tag(server, message))
        return false;
    if (message->type == 'E')
        translation_see_error(&server->translation, message->body, message->n);
    switch (
        translation_see(&server->translation, &server->flow, n_answered, message->type)) {
    case SIGHT_PASSES:
        note_heard(server, message);
        break;
    case SIGHT_IS_OURS:
        edit_cut(edit, at - MESSAGE_HEADER_BYTES, end);
        break;
    case SIGHT_IS_DEALLOCATE:
        edit_cut(edit, at - MESSAGE_HEADER_BYTES, end);
        edit_insert(edit, end, translation_deallocated, TRANSLATION_DEALLOCATED_BYTES);
        server->watch.heard |= HEARD_COMPLETE;
        break;
    case SIGHT_CONFUSED:
        return false;
    }
    return true;
}

/* A longer error, or notice, is no server's last word. */
#define LEAVE_MAX 4096u

/* The same of a row with a boolean. */
#define PROOF_MAX 16u

/* Of which it must be known what it says before any of it passes. */
static bool must_be_whole(const struct pooled *server, const struct message_view *message)
{
    return message->type == 'Z' || message->type == 'S' ||
           (message->type == 'D' && server->state == POOLED_PROVING &&
            message->length < PROOF_MAX) ||
           (message->type == 'C' && message->length < TRANSLATION_TAG_MAX) ||
           (message->type == 'E' && message->length < LEAVE_MAX) ||
           (message->type == 'N' && message->length < LEAVE_MAX && server->watch.is_on);
}

/* Follows the messages in a piece of what the server says. `*n_used` is how far; what is
 * behind that is the begin of a message that is not here in whole. False when that is not
 * PostgreSQL's protocol, or answers nothing. */
static bool follow(struct pooled *server, const uint8_t *bytes, size_t n, size_t *n_used,
                   struct edit *edit)
{
    struct message_walk walk;
    struct message_view message = {0};

    message_walk_begin(&walk, &server->home->rules, bytes, n, &server->n_left);
    for (;;) {
        *n_used = n - message_walk_rest(&walk);
        if (server->translation.n_notes > 0 && server->n_left == 0)
            translation_catch_up(&server->translation, &server->flow, edit, *n_used);
        switch (message_walk_next(&walk, &message)) {
        case MESSAGE_WHOLE:
            if (!see_all(server, &message, edit))
                return false;
            if (server->watch.word != NULL)
                return true;
            break;
        case MESSAGE_BEGUN:
            if (must_be_whole(server, &message))
                return true;
            if (!see_all(server, &message, edit))
                return false;
            server->n_left = message_walk_stream(&walk, &message);
            break;
        case MESSAGE_CUT:
        case MESSAGE_NONE:
            return true;
        case MESSAGE_UNKNOWN:
        case MESSAGE_TOO_SHORT:
        case MESSAGE_TOO_LONG:
            return false;
        }
    }
}

/* What was kept of the last piece goes before this one. */
static bool join_tail(struct pooled *server, struct buffer *bytes)
{
    uint8_t n = server->n_tail;

    server->n_tail = 0;
    return n == 0 || buffer_prepend(bytes, server->tail, n);
}

/* False when memory is out, or no message that is read in whole is so long. */
static bool keep_tail(struct pooled *server, struct buffer *bytes, size_t n_used)
{
    uint32_t n = buffer_unread(bytes) - (uint32_t)n_used;

    bytes->end -= n;
    if (n <= sizeof server->tail) {
        server->n_tail = (uint8_t)n;
        memcpy(server->tail, bytes->bytes + bytes->end, n);
        return true;
    }
    server->kept = buffer_take(loop_of(server)->pond);
    return server->kept != NULL &&
           buffer_add(server->kept, bytes->bytes + bytes->end, n) &&
           buffer_room(server->kept) > 0;
}

/* To the client, which may end its lease on the way. */
static void pass_chain(struct pooled *server, struct buffer *first)
{
    struct buffer *next;

    for (; first != NULL; first = next) {
        next = first->next;
        first->next = NULL;
        if (server->lease != NULL)
            server->lease->on_bytes(server, first);
        else
            buffer_give(first);
    }
}

bool pooled_flush(struct pooled *server)
{
    struct edit edit = edit_begin(loop_of(server)->pond, (const uint8_t *)"");

    if (server->n_left > 0 || !translation_is_due(&server->translation, &server->flow))
        return true; /* what the server says next brings it */
    translation_catch_up(&server->translation, &server->flow, &edit, 0);
    if (!edit_end(&edit, 0))
        return false;
    pass_chain(server, edit.first);
    return true;
}

/* A piece of what the server has said, as the edit has it. */
static void pass_bytes(struct pooled *server, struct buffer *bytes,
                       const struct edit *edit)
{
    if (!edit->is_changed && buffer_unread(bytes) > 0) {
        server->lease->on_bytes(server, bytes);
    } else {
        buffer_give(bytes);
        pass_chain(server, edit->first);
    }
    server->is_cut = server->n_left > 0 && !server->drops_rest;
}

static void pass_on(struct pooled *server, struct buffer *bytes, const struct edit *edit)
{
    pass_bytes(server, bytes, edit);
    if (server->state != POOLED_ACTIVE)
        return;
    if (pooled_is_at_rest(server)) {
        server->n_rests++;
        server->lease->on_rest(server);
    } else {
        server->lease->on_answered(server);
    }
}

/* Those of the welcome that are followed; NULL when memory is out. */
static struct parameter_set *read_parameters(struct pooled *server,
                                             const struct login_welcome *welcome)
{
    struct parameter_set *set = parameters_none(server->home->parameters);
    struct message_walk walk;
    struct message_view message = {0};
    uint32_t n_left = 0;

    message_walk_begin(&walk, &server->home->rules,
                       (const uint8_t *)text_get(&welcome->parameters),
                       welcome->parameters.length, &n_left);
    while (set != NULL && message_walk_next(&walk, &message) == MESSAGE_WHOLE) {
        const char *name, *value;
        struct parameter_set *next;

        if (!message_read_parameter(message.body, message.length, &name, &value) ||
            !parameters_follows(name))
            continue;
        next = parameters_with(set, name, value);
        parameters_release(set);
        set = next;
    }
    return set;
}

/* Before version 14 a server does not say by itself whether it is in recovery. */
static bool must_be_asked(const struct pooled *server,
                          const struct login_welcome *welcome)
{
    return server->wants == POOLED_WANTS_PRIMARY && !welcome->says_standby &&
           welcome->version > 0 && welcome->version < 14;
}

/* What comes after the login. False when it is lost by this. */
static bool go_on_after_login(struct pooled *server, const struct login_welcome *welcome)
{
    if (must_be_asked(server, welcome))
        return begin_proving(server);
    if (server->wants != POOLED_WANTS_LATER && *server->identity->connect_query != '\0')
        return begin_cleaning(server, server->identity->connect_query, true);
    deadline_cancel(&server->deadline);
    enter(server, server->wants == POOLED_WANTS_LATER ? POOLED_WARM : POOLED_IDLE);
    return true;
}

static void on_login_bytes(struct pooled *server, struct buffer *bytes)
{
    struct login_run *login = server->login;

    switch (login_run_read(login, bytes)) {
    case LOGIN_RUN_GOES_ON:
        return;
    case LOGIN_RUN_FAILED:
        on_login_failed(server);
        return;
    case LOGIN_RUN_DONE:
        break;
    }
    server->login = NULL;
    server->key = login_run_welcome(login)->key;
    server->parameters = read_parameters(server, login_run_welcome(login));
    if (server->parameters == NULL) {
        lose(server, "", "out of memory");
        login_run_free(login);
        return;
    }
    server->defaults = parameters_hold(server->parameters);
    server->used_at_ms = loop_now_ms(loop_of(server));
    if (go_on_after_login(server, login_run_welcome(login)))
        server->events->on_open(server, login_run_welcome(login));
    login_run_free(login);
}

/* What stands before a message that makes no sense, or is the last one, is an answer all
 * the same: a node that ends a server says so behind its last one. */
static void take_last(struct pooled *server, struct buffer *bytes, size_t n_used,
                      struct edit *edit)
{
    bool has_left = server->watch.word != NULL;

    bytes->end -= buffer_unread(bytes) - (uint32_t)n_used;
    if (server->state == POOLED_ACTIVE) {
        pass_bytes(server, bytes, edit);
    } else {
        buffer_give(bytes);
        edit_drop(edit);
    }
    if (server->state == POOLED_CLOSING)
        return;
    server->watch.is_confused = !has_left;
    lose(server, "", has_left ? server->why : "the node says what answers nothing");
}

/* What the server has begun to say when it had no client is not for one who comes in the
 * midst of it. */
static void drop_rest(struct pooled *server, uint32_t n, struct edit *edit)
{
    if (!server->drops_rest)
        return;
    edit_cut(edit, 0, server->n_left < n ? server->n_left : n);
    server->drops_rest = server->n_left > n;
}

/* A piece of what the server says, at any time after the login. */
static void take(struct pooled *server, struct buffer *bytes)
{
    struct edit edit;
    size_t n_used;
    bool makes_sense, has_left;

    if (!join_tail(server, bytes)) {
        buffer_give(bytes);
        server->watch.is_confused = true;
        lose(server, "", "the node says what answers nothing");
        return;
    }
    edit = edit_begin(loop_of(server)->pond, bytes->bytes + bytes->begin);
    drop_rest(server, buffer_unread(bytes), &edit);
    makes_sense = follow(server, edit.bytes, buffer_unread(bytes), &n_used, &edit);
    if (server->state != POOLED_ACTIVE)
        server->drops_rest = server->n_left > 0;
    has_left = server->watch.word != NULL;
    if (!edit_end(&edit, n_used) ||
        (makes_sense && !has_left && !keep_tail(server, bytes, n_used))) {
        buffer_give(bytes);
        edit_drop(&edit);
        server->watch.is_confused = !edit.has_failed;
        lose(server, "",
             edit.has_failed ? "out of memory" : "the node says what answers nothing");
        return;
    }
    if (!makes_sense || has_left) {
        take_last(server, bytes, n_used, &edit);
        return;
    }
    if (server->state == POOLED_ACTIVE) {
        pass_on(server, bytes, &edit);
        return;
    }
    buffer_give(bytes);
    edit_drop(&edit);
    if (server->state == POOLED_TUNING && server->is_failing) {
        if ((server->flow.flags | server->flow.n_groups) == 0)
            end_failing(server);
    } else if (server->state == POOLED_TUNING && flow_is_at_rest(&server->flow)) {
        if (server->wanted != NULL)
            end_check(server);
        else
            end_tuning(server);
    } else if (server->state == POOLED_PROVING) {
        if (flow_is_at_rest(&server->flow))
            end_proving(server);
    } else if (server->state == POOLED_CLEANING) {
        if (!clean(server))
            lose(server, "", "it could not be brought to rest");
        else if (server->state == POOLED_IDLE)
            server->events->on_clean(server);
    }
}

static void on_bytes(struct stream *stream, struct buffer *bytes)
{
    struct pooled *server = stream->owner;
    struct buffer *kept = server->kept;
    uint32_t n;

    if (server->state == POOLED_LOGIN) {
        on_login_bytes(server, bytes);
        return;
    }
    if (kept == NULL) {
        take(server, bytes);
        return;
    }
    n = buffer_room(kept) < buffer_unread(bytes) ? buffer_room(kept)
                                                 : buffer_unread(bytes);
    REQUIRE(buffer_add(kept, bytes->bytes + bytes->begin, n));
    buffer_skip(bytes, n);
    server->kept = NULL;
    take(server, kept);
    if (buffer_unread(bytes) > 0 && server->state != POOLED_CLOSING)
        on_bytes(stream, bytes);
    else
        buffer_give(bytes);
}

static void on_sent(struct stream *stream)
{
    struct pooled *server = stream->owner;

    server->watch.is_unsent = false;
    if (server->watch.keeps == POOLED_KEEPS_UNSENT)
        pooled_keep_none(server);
    if (server->state == POOLED_ACTIVE)
        server->lease->on_sent(server);
}

static void on_end(struct stream *stream)
{
    lose(stream->owner, "", "the node closed the connection");
}

static void on_failed(struct stream *stream, enum stream_failure why)
{
    lose(stream->owner, "", stream_failure_text(why));
}

static void on_too_late(struct stream *stream)
{
    (void)stream;
    UNREACHABLE();
}

static const struct stream_events stream_events = {
    .on_open = on_too_late,
    .on_bytes = on_bytes,
    .on_sent = on_sent,
    .on_end = on_end,
    .on_failed = on_failed,
    .comes_first = true,
};

/* ---- from one worker to another -----------------------------------------------------
 */

bool pooled_may_move(const struct pooled *server)
{
    const struct stream *stream = &server->connection->stream;

    return !server->was_handed && server->n_tail == 0 && server->n_left == 0 &&
           server->kept == NULL && !stream_is_sending(stream) && !stream->has_ended &&
           (!stream_is_tls(stream) || stream_tls_can_detach(stream));
}

/* False when memory is out. */
static bool pack(struct pooled *server)
{
    struct pooled_luggage *luggage = &server->luggage;

    luggage->parameters = parameters_pack(server->parameters);
    luggage->defaults = parameters_pack(server->defaults);
    parameters_release(server->parameters);
    parameters_release(server->defaults);
    server->parameters = server->defaults = NULL;
    luggage->load = node_load_hold(server->connection->load);
    server_close(server->connection, false); /* without its stream, which has gone */
    server->connection = NULL;
    return luggage->parameters != NULL && luggage->defaults != NULL &&
           server->kept == NULL;
}

static void on_detached(struct stream *stream, int fd)
{
    struct pooled *server = stream->owner;

    server->luggage.fd = fd;
    server->luggage.ssl = server->luggage.has_tls ? stream_tls_take(stream) : NULL;
    if (pack(server))
        server->events->on_packed(server);
    else
        lose(server, "", "out of memory");
}

void pooled_move(struct pooled *server)
{
    enter(server, POOLED_MOVING);
    server->luggage.has_tls = stream_is_tls(&server->connection->stream);
    stream_detach(&server->connection->stream, on_detached);
}

/* What another worker has packed and nobody settles. */
static void drop_luggage(struct pooled *server)
{
    struct pooled_luggage *luggage = &server->luggage;

    if (luggage->load == NULL)
        return;
    if (luggage->fd >= 0) {
        stream_tls_discard(luggage->ssl);
        close(luggage->fd);
    }
    node_load_release(luggage->load);
    parameter_parcel_free(luggage->parameters);
    parameter_parcel_free(luggage->defaults);
    *luggage = (struct pooled_luggage){.fd = -1};
}

bool pooled_settle(struct pooled *server, const struct pooled_home *home,
                   const struct login_identity *identity)
{
    struct pooled_luggage *luggage = &server->luggage;

    server->connection =
        server_adopt(home->connections, home->loop, luggage->fd, luggage->ssl,
                     server->node_id, luggage->load, &stream_events, server);
    luggage->fd = -1;
    server->home = home;
    server->identity = identity;
    server->parameters = parameters_unpack(home->parameters, luggage->parameters);
    server->defaults = parameters_unpack(home->parameters, luggage->defaults);
    luggage->parameters = luggage->defaults = NULL;
    drop_luggage(server);
    if (server->connection == NULL || server->parameters == NULL ||
        server->defaults == NULL)
        return false;
    server->was_handed = true;
    enter(server, POOLED_IDLE);
    stream_want(&server->connection->stream, true);
    return true;
}
