#include "router/console/people.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/stream_tls.h"
#include "router/console/console.h"
#include "router/console/row.h"
#include "router/worker.h"

/* What CLIENTS and SERVERS have in common: a row of either, but for its ends. */
struct person {
    const char *type;
    const char *user;
    const char *database;
    enum startup_replication replication;
    const char *state;
    const struct address *told;  /* by a proxy, of a client; NULL: nobody has */
    const struct stream *stream; /* NULL, or not open: its ends are not known */
    uint64_t connected_ms;       /* of the loop */
    uint64_t asked_ms;
    uint64_t waits_ns;
    bool is_doomed;
    uint64_t id;
    uint64_t link; /* of whom it has; 0 = nobody */
    int pid;
    const char *application;
    size_t n_statements; /* prepared, with a name */
};

static void ptr_text(uint64_t id, bool is_server, char text[24])
{
    if (id == 0)
        text[0] = '\0';
    else
        snprintf(text, 24, "0x%llx", (unsigned long long)(id << 1 | is_server));
}

/* A moment of the loop's clock. */
static void row_moment(struct row *row, const struct worker *worker, uint64_t ms)
{
    uint64_t ago_ms = loop_now_ms(worker->loop) - ms;

    row_time(row, time(NULL) - (time_t)(ago_ms / 1000));
}

static void row_address(struct row *row, const struct address *address)
{
    char text[ADDRESS_TEXT_MAX];

    if (address->sa.sa_family == AF_UNSPEC) {
        row_text(row, "");
        row_number(row, 0);
        return;
    }
    row_text(row, address_print_host(address, text));
    row_number(row, address->sa.sa_family == AF_UNIX ? 0 : address_port(address));
}

/* Of a server that is being opened the handshake may be under way. */
static void row_tls(struct row *row, const struct stream *stream, const char *state)
{
    char text[96] = "";

    if (stream != NULL && stream_is_open(stream) && stream_is_tls(stream) &&
        strcmp(state, "new") != 0)
        snprintf(text, sizeof text, "%s/%s", stream_tls_version(stream),
                 stream_tls_cipher(stream));
    row_text(row, text);
}

static const char *replication_text(enum startup_replication replication)
{
    return replication == REPLICATION_PHYSICAL  ? "physical"
           : replication == REPLICATION_LOGICAL ? "logical"
                                                : "none";
}

static void row_person(struct row *row, const struct worker *worker,
                       const struct person *person)
{
    bool is_server = person->type[0] == 'S';
    struct socket_ends ends = {0};
    char text[32];

    if (person->stream != NULL && stream_is_open(person->stream))
        stream_ends(person->stream, &ends);
    row_text(row, person->type);
    row_text(row, person->user);
    row_text(row, person->database);
    row_text(row, replication_text(person->replication));
    row_text(row, person->state);
    row_address(row, person->told != NULL ? person->told : &ends.peer);
    row_address(row, &ends.local);
    row_moment(row, worker, person->connected_ms);
    row_moment(row, worker, person->asked_ms);
    row_number(row, (int64_t)(person->waits_ns / 1000000000u));
    row_number(row, (int64_t)(person->waits_ns / 1000u % 1000000u));
    row_number(row, person->is_doomed);
    ptr_text(person->id, is_server, text);
    row_text(row, text);
    ptr_text(person->link, !is_server, text);
    row_text(row, text);
    row_number(row, person->pid != 0 ? person->pid : ends.pid);
    row_tls(row, person->stream, person->state);
    row_text(row, person->application);
    row_number(row, (int64_t)person->n_statements);
    row_number(row, (int64_t)person->id);
}

static const char *application_of(const struct parameter_set *parameters)
{
    const char *name =
        parameters == NULL ? NULL : parameters_find(parameters, "application_name");

    return name == NULL ? "" : name;
}

/* ---- clients ------------------------------------------------------------------------
 */

/* Its state in PgBouncer's words; NULL: it is not among the clients of a pool. */
static const char *state_of(const struct client *client)
{
    switch (client->state) {
    case CLIENT_IDLE:
        return "idle";
    case CLIENT_QUEUED:
    case CLIENT_INQUIRING:
        return "waiting";
    case CLIENT_LEASED:
        return "active";
    case CLIENT_CONSOLE:
        return console_is_busy(client) ? "active" : "idle";
    case CLIENT_CANCELLING:
        return "active_cancel_req";
    case CLIENT_STARTUP:
    case CLIENT_PROXIED:
    case CLIENT_SECURING:
    case CLIENT_WAITING:
    case CLIENT_CONNECTING:
    case CLIENT_NEGOTIATING:
    case CLIENT_LOGIN:
    case CLIENT_ACTIVE:
    case CLIENT_ENDING:
    case CLIENT_AUTH:
    case CLIENT_REFUSING:
    case CLIENT_CLOSING:
    case CLIENT_STATE_COUNT:
        break;
    }
    return NULL;
}

static bool add_client(struct question *question, const struct worker *worker,
                       const struct client *client, const char *state)
{
    bool is_pooled = client_is_pooled(client);
    struct person person = {
        .type = "C",
        .user = "(nouser)",
        .database = "(nodb)",
        .state = state,
        .told = client->is_told_of ? &client->peer : NULL,
        .stream = &client->stream,
        .connected_ms = client->accepted_at_ms,
        .asked_ms = is_pooled && client->asked_at_ns != 0 ? client->asked_at_ns / 1000000u
                                                          : client->accepted_at_ms,
        .waits_ns = client->need == NULL
                        ? 0
                        : worker->loop->now_ns - client->need->waiter.since_ns,
        .id = client->id,
        .link = client->lease == NULL ? 0 : client->lease->id,
        .application = application_of(is_pooled ? client->parameters : NULL),
        .n_statements = is_pooled ? statement_names_count(&client->names) : 0,
    };
    struct row row;

    if (is_pooled && client->guest != NULL) {
        person.user = client->guest->name;
        person.database = client->pool->account->name;
        person.replication = client->pool->replication;
    } else if (client->console != NULL) {
        person.user = console_user(client);
        person.database = CONFIG_POOL_LISTENER;
    }
    row_begin(&row, VIEW_CLIENTS, question->binary, &question->rows);
    row_person(&row, worker, &person);
    row_number(&row, worker->number);
    return row_end(&row);
}

/* False when there is no room for more. */
static bool add_clients(struct question *question, const struct worker *worker)
{
    const struct list *clients = &worker->clients;
    struct link *item = worker_next_client(clients, question->at.id);

    while (item != NULL) {
        const struct client *client = CONTAINER_OF(item, struct client, in_worker);
        const char *state = state_of(client);

        if (client->id <= question->at.id)
            break; /* once round */
        if (state != NULL && !add_client(question, worker, client, state))
            return false;
        question->at.id = client->id;
        item = item->next != &clients->head ? item->next : clients->head.next;
    }
    return true;
}

/* ---- servers ------------------------------------------------------------------------
 */

static const char *server_state_of(const struct pooled *server)
{
    switch (server->state) {
    case POOLED_CONNECTING:
    case POOLED_LOGIN:
        return "new";
    case POOLED_WARM:
        return "warm";
    case POOLED_IDLE:
    case POOLED_MOVING:
        return server->n_cancels > 0 ? "being_canceled" : "idle";
    case POOLED_TUNING:
    case POOLED_ACTIVE:
        return "active";
    case POOLED_PROVING:
    case POOLED_CLEANING:
    case POOLED_CLOSING:
    case POOLED_STATE_COUNT:
        break;
    }
    return "tested";
}

static bool add_server(struct question *question, const struct worker *worker,
                       const struct pool *pool, const struct pooled *server,
                       bool is_doomed)
{
    const struct topology_node *node = topology_node(worker->topology, server->node_id);
    struct person person = {
        .type = "S",
        .user = pool->account->user,
        .database = pool->account->name,
        .replication = pool->replication,
        .state = server_state_of(server),
        .stream = server->connection == NULL ? NULL : &server->connection->stream,
        .connected_ms = server->opened_at_ms,
        .asked_ms = server->asked_at_ns == 0 ? server->opened_at_ms
                                             : server->asked_at_ns / 1000000u,
        .is_doomed = is_doomed,
        .id = server->id,
        .link = server->client == NULL ? 0 : ((const struct client *)server->client)->id,
        .pid = (int)server->key.process_id,
        .application = application_of(server->parameters),
        .n_statements = server->translation.set.by_use.n,
    };
    struct row row;

    row_begin(&row, VIEW_SERVERS, question->binary, &question->rows);
    row_person(&row, worker, &person);
    row_text(&row, node == NULL ? NULL : node->name);
    row_number(&row, worker->number);
    return row_end(&row);
}

static bool add_servers_of(struct question *question, const struct worker *worker,
                           const struct pool *pool)
{
    const struct pooled *server;
    bool is_doomed;

    while ((server = pool_next_server(pool, question->at.id, &is_doomed)) != NULL) {
        if (!add_server(question, worker, pool, server, is_doomed))
            return false;
        question->at.id = server->id;
    }
    return true;
}

static bool add_servers(struct question *question, const struct worker *worker)
{
    const struct pool *pool;

    while ((pool = pools_at(&worker->pools, question->at.pool)) != NULL) {
        if (pool->number != question->at.pool)
            question->at.id = 0;
        question->at.pool = pool->number;
        if (!add_servers_of(question, worker, pool))
            return false;
        question->at.pool++;
        question->at.id = 0;
    }
    return true;
}

/* ---- from worker to worker ----------------------------------------------------------
 */

static void on_turn(struct message *message, void *receiver);

static void send_home(struct question *question)
{
    mailbox_post(question->home->mailbox, &question->message, question->on_answer);
}

void people_ask(struct question *question, void (*on_answer)(struct message *, void *))
{
    struct worker *first = question->home->workers[question->at.worker];

    question->on_answer = on_answer;
    mailbox_post(first->mailbox, &question->message, on_turn);
}

static void on_turn(struct message *message, void *receiver)
{
    struct question *question = CONTAINER_OF(message, struct question, message);
    struct worker *worker = receiver;
    uint64_t began_ns = ration_clock_ns();
    bool is_done = question->command == COMMAND_SHOW_CLIENTS
                       ? add_clients(question, worker)
                       : add_servers(question, worker);

    question->used_ns += ration_clock_ns() - began_ns;
    if (!is_done && question->rows.length == 0) {
        question->sqlstate = "53200";
        snprintf(question->why, sizeof question->why, "out of memory");
        send_home(question);
    } else if (!is_done) {
        send_home(question);
    } else if (++question->at.worker == worker->n_workers) {
        question->is_last = true;
        send_home(question);
    } else {
        question->at.pool = 0;
        question->at.id = 0;
        mailbox_post(worker->workers[question->at.worker]->mailbox, message, on_turn);
    }
}
