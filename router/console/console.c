#include "router/console/console.h"

#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "core/turns.h"
#include "router/cancel.h"
#include "router/console/people.h"
#include "router/console/prepared.h"
#include "router/console/row.h"
#include "router/console/say.h"
#include "router/login.h"
#include "router/target.h"
#include "router/worker.h"
#include "wire/auth.h"
#include "wire/message.h"

struct console {
    struct say say;
    char *user;
    bool is_admin;
    bool is_asking;     /* an answer is awaited */
    bool is_away;       /* the question is not here */
    bool owns_question; /* at the end: it goes with us */
    bool is_skipping;   /* an extended message has failed: up to the next Sync */
    bool is_simple;     /* what is under way came by Query */
    bool is_told;       /* of what is under way the columns were sent */
    bool has_more;      /* of its rows, once the client has read what there is */
    struct question *question;
    struct command command; /* under way; points into `query` */
    char *query;            /* what is under way; NULL = nothing */
    const char *at;         /* in `query`: the next statement */
    struct list prepared;
    struct deferred asking;
    struct turn turn; /* to be shown something */
    struct deferred end;
};

static void proceed(struct console *console);

/* ---- what is under way --------------------------------------------------------------
 */

static void end_query(struct console *console)
{
    memory_free(console->query);
    console->query = NULL;
}

/* Begins with the statements of `text`; false when memory is out. */
static bool begin_query(struct console *console, const char *text, bool is_simple)
{
    console->query = memory_text(text);
    console->at = console->query;
    console->is_simple = is_simple;
    if (console->query == NULL)
        client_close(console->say.client, CLOSE_NO_MEMORY);
    return console->query != NULL;
}

static void fail(struct console *console, const char *sqlstate, const char *why)
{
    console->is_skipping = !console->is_simple;
    if (say_error(&console->say, sqlstate, why) && console->is_simple)
        (void)say_ready(&console->say);
    end_query(console);
}

static void fail_unknown(struct console *console)
{
    char why[512];

    if (console->command.why != NULL) {
        fail(console, "42601", console->command.why);
        return;
    }
    snprintf(why, sizeof why, "invalid command '%.*s', use SHOW HELP;",
             console->command.n_text > 400 ? 400 : (int)console->command.n_text,
             console->command.text);
    fail(console, "42601", why);
}

static bool begin_rows(struct console *console, const char *name_of_first)
{
    enum view_name view = command_facts[console->command.name].view;

    if (!console->is_simple || console->is_told || view == VIEW_NONE)
        return true;
    console->is_told = true;
    return say_columns(&console->say, view, console->question->binary, name_of_first);
}

/* The statement is done, and nothing of it is to come. */
static bool finish(struct console *console)
{
    console->say.client->worker->console_counts.queries++;
    console->say.client->worker->console_counts.transactions++;
    return say_tag(&console->say, command_facts[console->command.name].tag);
}

/* ---- answered here ------------------------------------------------------------------
 */

static bool say_help(struct console *console)
{
    static const char notice[] =
        "SNOTICE\0VNOTICE\0C00000\0MConsole usage\0D\n"
        "\tSHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION\n"
        "\tSHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS|LISTS|PEERS\n"
        "\tSHOW CLUSTERS|NODES|SWITCHOVERS|EVENTS|HISTORY\n"
        "\tSWITCHOVER [cluster] [TO node] [TIMEOUT seconds]\n"
        "\tRESET CLUSTER [cluster]\n"
        "\tPAUSE [db]|RESUME [db]|RECONNECT [db]|WAIT_CLOSE [db]\n"
        "\tKILL [db]|KILL_CLIENT id|DISABLE db|ENABLE db\n"
        "\tDRAIN node|MAINTENANCE node|READY node\n"
        "\tRELOAD\n"
        "\tSHUTDOWN\n"
        "\tSHUTDOWN WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS\0";
    uint8_t header[MESSAGE_HEADER_BYTES] = {'N'};

    wire_write_u32(header + 1, sizeof notice + 4);
    return say_bytes(&console->say, header, sizeof header) &&
           say_bytes(&console->say, notice, sizeof notice);
}

static bool say_ignored(struct console *console)
{
    const struct message_report report = {
        .severity = "NOTICE", .sqlstate = "00000", .text = "SET ignored"};
    uint8_t bytes[128];

    return say_bytes(&console->say, bytes,
                     message_write_report('N', &report, bytes, sizeof bytes));
}

static bool say_value(struct console *console, const struct console_parameter *parameter)
{
    uint64_t binary = console->question->binary;
    struct text text;
    struct row row;
    bool ok;

    if (!begin_rows(console, parameter == NULL ? NULL : parameter->name))
        return false;
    text_init(&text, REPLY_MAX);
    row_begin(&row, parameter == NULL ? VIEW_ONE : VIEW_PARAMETER, binary, &text);
    if (parameter == NULL)
        row_number(&row, 1);
    else
        row_text(&row, parameter->value);
    ok = row_end(&row) && say_bytes(&console->say, text_get(&text), text.length);
    text_clear(&text);
    return ok;
}

static void answer_here(struct console *console)
{
    bool ok;

    if (console->command.name == COMMAND_SHOW_HELP)
        ok = say_help(console);
    else if (console->command.name == COMMAND_SET_PARAMETER)
        ok = say_ignored(console);
    else
        ok = say_value(console, console->command.parameter);
    if (ok)
        (void)finish(console);
}

/* ---- asked of others ----------------------------------------------------------------
 */

static void on_answer(struct message *message, void *receiver);

static void ask_now(struct console *console)
{
    struct question *question = console->question;
    const struct control_door *control = &console->say.client->worker->control;

    console->is_away = true;
    question->used_ns = 0;
    question->on_answer = on_answer;
    question->rows.length = 0;
    if (command_facts[question->command].where == WHERE_PEOPLE)
        people_ask(question, on_answer);
    else
        mailbox_post(control->mailbox, &question->message, control->on_question);
}

static void on_turn(struct turn *turn)
{
    ask_now(CONTAINER_OF(turn, struct console, turn));
}

static void on_asking(struct deferred *deferred)
{
    struct console *console = CONTAINER_OF(deferred, struct console, asking);
    enum command_name command = console->question->command;

    console->turn.run = on_turn;
    if (command_facts[command].view == VIEW_NONE || command == COMMAND_SWITCHOVER)
        ask_now(console);
    else
        turn_take(console->say.client->worker->loop, &console->turn, console->has_more);
}

/* In the next iteration: a worker that asks itself would do all in this one otherwise. */
static void ask(struct console *console)
{
    console->is_asking = true;
    console->asking.run = on_asking;
    loop_continue(console->say.client->worker->loop, &console->asking);
}

static void begin_asking(struct console *console)
{
    struct question *question = console->question;

    question->command = console->command.name;
    question->order = console->command.order;
    memcpy(question->operand, console->command.operand, sizeof question->operand);
    snprintf(question->user, sizeof question->user, "%s", console->user);
    question->is_last = false;
    question->sqlstate = NULL;
    memset(&question->at, 0, sizeof question->at);
    ask(console);
}

static void free_question(struct question *question)
{
    text_clear(&question->rows);
    memory_free(question);
}

/* Nobody wants the rest of it: control has to free what it keeps for that. */
static void give_up(struct question *question)
{
    const struct control_door *control = &question->home->control;

    question->client_is_gone = true;
    mailbox_post(control->mailbox, &question->message, control->on_question);
}

static void take_answer(struct console *console)
{
    struct question *question = console->question;

    console->has_more = question->sqlstate == NULL && !question->is_last;
    if (question->sqlstate != NULL) {
        fail(console, question->sqlstate, question->why);
    } else if (begin_rows(console, NULL) &&
               say_all(&console->say, text_get(&question->rows), question->rows.length)) {
        if (question->is_last)
            (void)finish(console);
        else
            say_flush(&console->say);
    }
    if (!console->has_more)
        text_clear(&question->rows);
}

static void on_answer(struct message *message, void *receiver)
{
    struct question *question = CONTAINER_OF(message, struct question, message);
    struct client *client = question->client;
    struct ration *ration;

    (void)receiver;
    if (client == NULL) {
        if (question->snapshot != NULL)
            give_up(question);
        else
            free_question(question);
        return;
    }
    ration = &client->worker->loop->onlookers;
    ration_spend(ration, question->used_ns);
    ration_begin(ration);
    client->console->is_asking = client->console->is_away = false;
    take_answer(client->console);
    if (client->state == CLIENT_CONSOLE)
        proceed(client->console);
    client_settle(client);
    ration_end(ration);
}

/* ---- statements ---------------------------------------------------------------------
 */

static void run(struct console *console)
{
    const struct command_fact *fact = &command_facts[console->command.name];

    console->is_told = false;
    if (console->command.name == COMMAND_UNKNOWN)
        fail_unknown(console);
    else if (fact->who == WHO_ADMIN && !console->is_admin)
        fail(console, "42501", "admin access needed");
    else if (fact->where == WHERE_HERE)
        answer_here(console);
    else
        begin_asking(console);
}

/* What is under way came to its end. */
static void end_statements(struct console *console)
{
    end_query(console);
    if (console->is_simple)
        (void)say_ready(&console->say);
}

/* The statement under way goes on, or the next one begins. */
static void proceed_query(struct console *console)
{
    if (console->has_more)
        ask(console); /* it has read all of the last piece */
    else if (command_next(&console->at, &console->command))
        run(console);
    else
        end_statements(console);
}

/* ---- messages -----------------------------------------------------------------------
 */

/* One of the same name is no more. False: an error was said, or the client is gone. */
static bool keep(struct console *console, char kind, const char *name, const char *text,
                 uint64_t binary)
{
    switch (prepared_keep(&console->prepared, kind, name, text, binary)) {
    case PREPARED_KEPT:
        return true;
    case PREPARED_TOO_MANY:
        fail(console, "53200", "too many prepared statements");
        return false;
    case PREPARED_NO_MEMORY:
        client_close(console->say.client, CLOSE_NO_MEMORY);
        return false;
    }
    UNREACHABLE();
}

static void on_query(struct console *console, const struct message_view *message)
{
    const char *text = (const char *)message->body;

    if (message->length == 0 || memchr(text, '\0', message->length) !=
                                    (const void *)(text + message->length - 1)) {
        client_refuse(console->say.client, CLOSE_CLIENT_CONFUSED, NULL);
        return;
    }
    if (!begin_query(console, text, true))
        return;
    if (command_next(&console->at, &console->command)) {
        run(console);
    } else if (say_empty(&console->say, 'I')) {
        end_statements(console);
    }
}

static void on_parse(struct console *console, const struct message_view *message)
{
    struct message_parse parse;
    struct command command;
    const char *at;

    if (!message_read_parse(message->body, message->length, &parse)) {
        client_refuse(console->say.client, CLOSE_CLIENT_CONFUSED, NULL);
        return;
    }
    at = parse.text;
    if (command_next(&at, &console->command) &&
        console->command.name == COMMAND_UNKNOWN) {
        fail_unknown(console);
    } else if (command_next(&at, &command)) {
        fail(console, "42601",
             "cannot insert multiple commands into a prepared statement");
    } else if (parse.n_types > 0) {
        fail(console, "42P02", "commands of the console have no parameters");
    } else if (keep(console, 'S', parse.name, parse.text, 0)) {
        (void)say_empty(&console->say, '1');
    }
}

static unsigned read_u16(const uint8_t *bytes)
{
    return (unsigned)bytes[0] << 8 | bytes[1];
}

/* What stands behind the names of a Bind: no parameters, and how the columns are wanted.
 * False when it is not so. */
static bool read_formats(const uint8_t *at, size_t n, uint64_t *binary)
{
    unsigned n_formats, n_parameters;

    if (n < 2)
        return false;
    n_formats = read_u16(at);
    if (n < 2 + 2 * (size_t)n_formats + 4)
        return false;
    at += 2 + 2 * (size_t)n_formats;
    n -= 2 + 2 * (size_t)n_formats;
    n_parameters = read_u16(at);
    n_formats = read_u16(at + 2);
    if (n_parameters > 0 || n != 4 + 2 * (size_t)n_formats)
        return false;
    *binary = 0;
    for (unsigned i = 0; i < n_formats && i < 64; i++)
        *binary |= (uint64_t)(read_u16(at + 4 + 2 * (size_t)i) == 1) << i;
    if (n_formats == 1)
        *binary = *binary != 0 ? UINT64_MAX : 0;
    return true;
}

static void on_bind(struct console *console, const struct message_view *message)
{
    const struct prepared *statement;
    struct message_bind bind;
    uint64_t binary;

    if (!message_read_bind(message->body, message->length, &bind)) {
        client_refuse(console->say.client, CLOSE_CLIENT_CONFUSED, NULL);
        return;
    }
    statement = prepared_find(&console->prepared, 'S', bind.statement);
    if (statement == NULL)
        fail(console, "26000", "there is no such prepared statement");
    else if (!read_formats(message->body + bind.n_head, message->length - bind.n_head,
                           &binary))
        fail(console, "08P01", "commands of the console have no parameters");
    else if (keep(console, 'P', bind.portal, statement->text, binary))
        (void)say_empty(&console->say, '2');
}

static void on_describe(struct console *console, const struct message_view *message)
{
    static const uint8_t no_parameters[] = {'t', 0, 0, 0, 6, 0, 0};
    struct message_target target;
    const struct prepared *prepared;
    struct command command = {.name = COMMAND_UNKNOWN};
    const char *at;

    if (!message_read_target(message->body, message->length, &target)) {
        client_refuse(console->say.client, CLOSE_CLIENT_CONFUSED, NULL);
        return;
    }
    prepared = prepared_find(&console->prepared, target.kind, target.name);
    if (prepared == NULL) {
        fail(console, target.kind == 'S' ? "26000" : "34000",
             "there is nothing of that name");
        return;
    }
    at = prepared->text;
    if (target.kind == 'S' &&
        !say_bytes(&console->say, no_parameters, sizeof no_parameters))
        return;
    if (command_next(&at, &command))
        (void)say_columns(
            &console->say, command_facts[command.name].view, prepared->binary,
            command.name != COMMAND_SHOW_PARAMETER ? NULL : command.parameter->name);
    else
        (void)say_empty(&console->say, 'n');
}

static void on_execute(struct console *console, const struct message_view *message)
{
    struct message_execute execute;
    const struct prepared *portal;

    if (!message_read_execute(message->body, message->length, &execute)) {
        client_refuse(console->say.client, CLOSE_CLIENT_CONFUSED, NULL);
        return;
    }
    portal = prepared_find(&console->prepared, 'P', execute.portal);
    if (portal == NULL) {
        fail(console, "34000", "there is no such portal");
        return;
    }
    if (!begin_query(console, portal->text, false))
        return;
    console->question->binary = portal->binary;
    if (command_next(&console->at, &console->command)) {
        run(console);
    } else {
        end_query(console);
        (void)say_empty(&console->say, 'I');
    }
}

static void on_close(struct console *console, const struct message_view *message)
{
    struct message_target target;

    if (!message_read_target(message->body, message->length, &target)) {
        client_refuse(console->say.client, CLOSE_CLIENT_CONFUSED, NULL);
        return;
    }
    prepared_forget(&console->prepared,
                    prepared_find(&console->prepared, target.kind, target.name));
    (void)say_empty(&console->say, '3');
}

static void on_message(struct console *console, const struct message_view *message)
{
    console->is_simple = message->type == 'Q';
    if (message->type == 'X') {
        client_close(console->say.client, CLOSE_CLIENT_CLOSED);
        return;
    }
    if (message->type == 'S') {
        console->is_skipping = false;
        (void)say_ready(&console->say);
        return;
    }
    if (console->is_skipping)
        return;
    console->question->binary = 0;
    switch (message->type) {
    case 'Q':
        on_query(console, message);
        break;
    case 'P':
        on_parse(console, message);
        break;
    case 'B':
        on_bind(console, message);
        break;
    case 'D':
        on_describe(console, message);
        break;
    case 'E':
        on_execute(console, message);
        break;
    case 'C':
        on_close(console, message);
        break;
    case 'H': /* what is said is sent anyhow */
        break;
    default:
        client_refuse(console->say.client, CLOSE_CLIENT_CONFUSED, NULL);
    }
}

/* ---- the inbox ----------------------------------------------------------------------
 */

/* Brings what is unread to the begin of one buffer, as far as it has room. */
static void close_ranks(struct client *client)
{
    struct buffer *first = client->inbox, *next = first->next;
    uint32_t n;

    memmove(first->bytes, first->bytes + first->begin, buffer_unread(first));
    first->end -= first->begin;
    first->begin = 0;
    if (next == NULL)
        return;
    n = buffer_room(first) < buffer_unread(next) ? buffer_room(first)
                                                 : buffer_unread(next);
    REQUIRE(buffer_add(first, next->bytes + next->begin, n));
    buffer_skip(next, n);
    if (buffer_unread(next) == 0) {
        first->next = NULL;
        buffer_give(next);
    }
}

static void skip(struct client *client, uint32_t n)
{
    struct buffer *buffer = client->inbox;

    buffer_skip(buffer, n);
    if (buffer_unread(buffer) == 0) {
        client->inbox = buffer->next;
        buffer_give(buffer);
    }
}

static enum message_step look(struct client *client, struct message_view *message)
{
    struct message_walk walk;
    uint32_t n_left = 0;

    message_walk_begin(&walk, &client->worker->client_rules,
                       client->inbox->bytes + client->inbox->begin,
                       buffer_unread(client->inbox), &n_left);
    return message_walk_next(&walk, message);
}

/* Takes one message out of the inbox; false when none is whole. */
static bool take_message(struct console *console)
{
    struct client *client = console->say.client;
    struct message_view message = {0};
    enum message_step step;
    uint8_t *body;
    uint32_t n;

    if (client->inbox == NULL)
        return false;
    step = look(client, &message);
    if ((step == MESSAGE_BEGUN || step == MESSAGE_CUT) &&
        (client->inbox->next != NULL || client->inbox->begin > 0)) {
        close_ranks(client);
        step = look(client, &message);
    }
    if (step == MESSAGE_CUT ||
        (step == MESSAGE_BEGUN &&
         message.length + MESSAGE_HEADER_BYTES <= client->inbox->size))
        return false;
    if (step != MESSAGE_WHOLE) { /* as a message that is too long for us */
        client_refuse(client, CLOSE_CLIENT_CONFUSED, NULL);
        return false;
    }
    n = message.length + MESSAGE_HEADER_BYTES;
    body = memory_zeroed(message.length + 1u); /* the inbox may go with the client */
    if (body == NULL) {
        client_close(client, CLOSE_NO_MEMORY);
        return false;
    }
    if (message.length > 0)
        memcpy(body, message.body, message.length);
    message.body = body;
    client->n_bytes[0] += n;
    client->worker->console_counts.bytes_received += n;
    client->asked_at_ns = client->worker->loop->now_ns;
    skip(client, n);
    on_message(console, &message);
    memory_free(body);
    return client->state == CLIENT_CONSOLE;
}

/* Goes on as far as it can without waiting for an answer, or for the client to read. */
static void proceed(struct console *console)
{
    struct client *client = console->say.client;

    while (client->state == CLIENT_CONSOLE && !console->is_asking &&
           !stream_is_sending(&client->stream)) {
        if (console->say.out != NULL && buffer_room(console->say.out) < REPLY_MAX)
            say_flush(&console->say);
        else if (console->query != NULL)
            proceed_query(console);
        else if (!take_message(console))
            break;
    }
    if (client->state == CLIENT_CONSOLE)
        say_flush(&console->say);
}

void console_advance(struct client *client)
{
    proceed(client->console);
}

void console_sent(struct client *client)
{
    proceed(client->console);
    client_settle(client);
}

/* ---- begin and end ------------------------------------------------------------------
 */

bool console_is_meant(const char *database)
{
    return strcmp(database, CONFIG_POOL_LISTENER) == 0 ||
           strcmp(database, "pgrouter") == 0;
}

static bool has_name(const struct name_list *names, const char *name)
{
    for (size_t i = 0; i < names->n; i++)
        if (strcmp(names->items[i], name) == 0)
            return true;
    return false;
}

static void greet(struct console *console)
{
    uint8_t bytes[AUTH_BYTES_MAX];
    struct cancel_key key;
    bool ok = say_bytes(&console->say, bytes, auth_write_request(AUTH_OK, bytes));

    for (size_t i = 0; ok && i < n_console_parameters; i++)
        if (console_parameters[i].greets)
            ok = say_bytes(&console->say, bytes,
                           message_write_parameter(console_parameters[i].name,
                                                   console_parameters[i].value, bytes,
                                                   sizeof bytes));
    if (ok && !cancel_make_key(console->say.client, &key)) {
        client_close(console->say.client, CLOSE_NO_MEMORY);
        return;
    }
    if (ok &&
        say_bytes(&console->say, bytes, message_write_key(&key, bytes, sizeof bytes)) &&
        say_ready(&console->say))
        proceed(console);
}

/* False when memory is out. */
static bool make(struct client *client, const char *user, bool is_admin)
{
    struct console *console = memory_zeroed(sizeof *console);

    if (console == NULL)
        return false;
    console->say.client = client;
    console->is_admin = is_admin;
    list_init(&console->prepared);
    console->user = memory_text(user);
    console->question = memory_zeroed(sizeof *console->question);
    if (console->user == NULL || console->question == NULL) {
        memory_free(console->user);
        memory_free(console->question);
        memory_free(console);
        return false;
    }
    console->question->home = client->worker;
    console->question->client = client;
    text_init(&console->question->rows, QUESTION_ROWS_MAX);
    client->console = console;
    client->worker->n_consoles++;
    return true;
}

void console_begin(struct client *client, const struct target *target)
{
    const struct main_config *main = &target->config->main;
    const struct control_door *control = &client->worker->control;
    bool is_admin =
        target->auth == AUTH_TYPE_ANY || has_name(&main->admin_users, target->user);

    if (!is_admin && !has_name(&main->stats_users, target->user)) {
        client_refuse(client, CLOSE_NOT_ALLOWED, NULL);
        return;
    }
    if (!make(client, target->user, is_admin)) {
        client_refuse(client, CLOSE_NO_MEMORY, NULL);
        return;
    }
    login_drop(client);
    client_enter(client, CLIENT_CONSOLE);
    client->began_at_ms = loop_now_ms(client->worker->loop);
    client->ticket->is_console = true;
    mailbox_post(control->mailbox, &client->ticket->console, control->on_console);
    greet(client->console);
}

static void free_console(struct deferred *end)
{
    struct console *console = CONTAINER_OF(end, struct console, end);

    prepared_clear(&console->prepared);
    end_query(console);
    if (console->owns_question)
        free_question(console->question);
    memory_free(console->user);
    memory_free(console);
}

void console_drop(struct client *client)
{
    struct console *console = client->console;

    if (console == NULL)
        return;
    client->console = NULL;
    client->worker->n_consoles--;
    loop_discontinue(client->worker->loop, &console->asking);
    turn_leave(client->worker->loop, &console->turn);
    console->question->client = NULL;
    if (!console->is_away && console->question->snapshot != NULL)
        give_up(console->question);
    else
        console->owns_question = !console->is_away;
    buffer_give(console->say.out);
    console->say.out = NULL;
    console->end.run = free_console;
    loop_defer(client->worker->loop, &console->end);
}

const char *console_user(const struct client *client)
{
    return client->console->user;
}

bool console_is_busy(const struct client *client)
{
    return client->console->is_asking;
}
