/* tests/threads/ledger.c - workers lend, hand over, open and close servers of two pools
 * as fast as they can, while control changes limits.
 *
 * Never are more servers alive than their limits allow. No client is forgotten: each
 * request ends with a server, or because the client would not wait, and the program ends
 * only when all have. What is named by a message is freed when the message has come, and
 * not before, which the sanitizers watch.
 */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "pool/ledger.h"

#define WORKERS 4
#define CLIENTS 8 /* of each worker */
#define POOLS 2
#define NODES 2
#define REQUESTS 10000 /* of each worker */
#define WINDOW_NS 200

enum server_state { OPENING, IDLE, LENT, CLOSING };

struct server {
    struct message message;
    struct ledger_slot slot;
    struct ledger_waiter *to; /* that it travels to */
    struct link in_worker;
    struct client *client;
    unsigned pool;
    enum server_state state;
    unsigned n_ticks; /* to be OPENING, LENT or CLOSING for */
    bool has_served;  /* since it was handed */
};

/* One for each time that a client waits: it may outlive it. */
struct wait {
    struct ledger_waiter waiter;
    struct client *client; /* NULL = wants nothing any more */
};

struct client {
    struct wait *wait;
    bool is_served;
    bool is_patient; /* does not leave */
    unsigned pool;
};

struct worker {
    pthread_t thread;
    pthread_mutex_t mutex; /* of the inbox */
    struct message *first, *last;
    struct client clients[CLIENTS];
    struct list servers;
    unsigned index, n_requests, seed;
    uint64_t n_lent, n_handed, n_withdrawn, n_closed;
};

static struct ledger *ledger;
static struct ledger_limit *sizes[POOLS], *database, *user, *nodes[NODES];
static struct ledger_pool *pools[POOLS];
static struct ledger_branch *branches[POOLS][NODES];
static struct worker workers[WORKERS];
static atomic_uint n_under_way, n_done;
static atomic_ullong now;

/* What the servers themselves say, against the largest that each limit ever was. */
#define POOL_MAX 4u /* with a reserve of one */
#define DATABASE_MAX 6u
#define NODE_MAX 4u
static atomic_uint n_in_pool[POOLS], n_in_database, n_on_node[NODES];

static unsigned any(struct worker *worker, unsigned below)
{
    worker->seed = worker->seed * 1103515245u + 12345u;
    return (worker->seed >> 8) % below;
}

static unsigned node_of(const struct server *server)
{
    return server->slot.branch == branches[server->pool][0] ? 0 : 1;
}

static void count(const struct server *server)
{
    REQUIRE(atomic_fetch_add(&n_in_pool[server->pool], 1) < POOL_MAX);
    REQUIRE(atomic_fetch_add(&n_in_database, 1) < DATABASE_MAX);
    REQUIRE(atomic_fetch_add(&n_on_node[node_of(server)], 1) < NODE_MAX);
}

static void uncount(const struct server *server)
{
    atomic_fetch_sub(&n_in_pool[server->pool], 1);
    atomic_fetch_sub(&n_in_database, 1);
    atomic_fetch_sub(&n_on_node[node_of(server)], 1);
}

/* ---- messages -----------------------------------------------------------------------
 */

static void post(unsigned index, struct message *message,
                 void (*deliver)(struct message *, void *))
{
    struct worker *worker = &workers[index];

    atomic_fetch_add(&n_under_way, 1);
    message->next = NULL;
    message->deliver = deliver;
    pthread_mutex_lock(&worker->mutex);
    if (worker->last != NULL)
        worker->last->next = message;
    else
        worker->first = message;
    worker->last = message;
    pthread_mutex_unlock(&worker->mutex);
}

static struct message *next_message(struct worker *worker)
{
    struct message *message;

    pthread_mutex_lock(&worker->mutex);
    message = worker->first;
    if (message != NULL)
        worker->first = message->next;
    if (worker->first == NULL)
        worker->last = NULL;
    pthread_mutex_unlock(&worker->mutex);
    return message;
}

static void on_notice(struct message *message, void *receiver);

static void post_all(struct ledger_todo *todo)
{
    struct ledger_notice *notice;

    while ((notice = ledger_todo_next(todo)) != NULL)
        post(notice->worker, &notice->message, on_notice);
}

/* ---- servers ------------------------------------------------------------------------
 */

static struct wait *wait_of(struct ledger_waiter *waiter)
{
    return CONTAINER_OF(waiter, struct wait, waiter);
}

static void free_if_over(struct wait *wait)
{
    if (wait->client == NULL && !ledger_waiter_is_expected(&wait->waiter))
        free(wait);
}

static void lend(struct worker *worker, struct server *server, struct client *client)
{
    REQUIRE(!client->is_served);
    client->is_served = true;
    server->state = LENT;
    server->has_served = true;
    server->client = client;
    server->n_ticks = any(worker, 8);
    worker->n_lent++;
}

/* The waiter is out: its client has a server. */
static void end_wait(struct worker *worker, struct ledger_waiter *waiter,
                     struct server *server)
{
    struct wait *wait = wait_of(waiter);
    struct client *client = wait->client;

    REQUIRE(waiter->state == LEDGER_OUT && waiter->worker == worker->index);
    wait->client = NULL;
    client->wait = NULL;
    free_if_over(wait);
    lend(worker, server, client);
}

static void on_server(struct message *message, void *receiver);

/* True when it stays here, idle; a server that was handed over is not ours any more. */
static bool serve(struct worker *worker, struct server *server)
{
    struct ledger_offer offer = {&server->slot, worker->index, WINDOW_NS,
                                 server->has_served};
    struct ledger_todo todo = {0};
    struct ledger_waiter *waiter;
    enum ledger_use use = ledger_serve(ledger, &offer, &waiter, &todo);

    switch (use) {
    case LEDGER_KEEP:
        server->state = IDLE;
        break;
    case LEDGER_LEND:
        end_wait(worker, waiter, server);
        break;
    case LEDGER_HAND:
        list_remove(&worker->servers, &server->in_worker);
        server->to = waiter;
        worker->n_handed++;
        post(waiter->worker, &server->message, on_server);
        break;
    case LEDGER_CLOSE:
        server->state = CLOSING;
        server->n_ticks = any(worker, 5);
        worker->n_closed++;
        break;
    }
    post_all(&todo);
    return use == LEDGER_KEEP;
}

/* The end of a lease, and of opening for nobody. */
static void release(struct worker *worker, struct server *server)
{
    server->client = NULL;
    if (ledger_rest(server->slot.branch, worker->index))
        server->state = IDLE;
    else
        (void)serve(worker, server);
}

static void on_server(struct message *message, void *receiver)
{
    struct server *server = CONTAINER_OF(message, struct server, message);
    struct worker *worker = receiver;
    struct ledger_todo todo = {0};
    struct ledger_waiter *waiter = server->to;
    bool is_dead = any(worker, 50) == 0;

    list_append(&worker->servers, &server->in_worker);
    server->has_served = false;
    if (ledger_receive(ledger, waiter, is_dead ? NULL : pools[server->pool], &todo)) {
        end_wait(worker, waiter, server);
    } else {
        free_if_over(wait_of(waiter));
        if (!is_dead) {
            release(worker, server);
        } else {
            server->state = CLOSING;
            server->n_ticks = 1;
        }
    }
    post_all(&todo);
}

static struct server *new_server(struct worker *worker, unsigned pool)
{
    struct server *server = calloc(1, sizeof *server);

    REQUIRE(server != NULL);
    server->pool = pool;
    server->state = OPENING;
    server->has_served = true;
    server->n_ticks = any(worker, 20);
    return server;
}

static void start(struct worker *worker, struct server *server)
{
    count(server);
    list_append(&worker->servers, &server->in_worker);
}

static void on_grant(struct worker *worker, struct ledger_notice *notice)
{
    struct wait *wait = wait_of(ledger_notice_waiter(notice));
    unsigned pool = wait->waiter.branch->pool == pools[0] ? 0 : 1;
    struct server *server = new_server(worker, pool);

    if (ledger_accept(ledger, notice, &server->slot)) {
        start(worker, server);
    } else {
        free(server);
        free_if_over(wait);
    }
}

static struct server *find_idle(struct worker *worker, unsigned pool,
                                const struct ledger_branch *branch)
{
    LIST_EACH(item, &worker->servers)
    {
        struct server *server = CONTAINER_OF(item, struct server, in_worker);

        if (server->state == IDLE && server->pool == pool &&
            (branch == NULL || server->slot.branch == branch))
            return server;
    }
    return NULL;
}

static void on_ask(struct worker *worker, struct ledger_notice *notice)
{
    struct ledger_branch *branch = ledger_notice_branch(notice);
    unsigned pool = branch->pool == pools[0] ? 0 : 1;
    struct ledger_todo todo = {0};
    struct server *server;

    while ((server = find_idle(worker, pool, branch)) != NULL) {
        ledger_hide(branch, worker->index);
        if (serve(worker, server))
            break;
    }
    ledger_answered(ledger, notice, &todo);
    post_all(&todo);
}

static void on_notice(struct message *message, void *receiver)
{
    struct ledger_notice *notice = CONTAINER_OF(message, struct ledger_notice, message);
    struct worker *worker = receiver;

    REQUIRE(notice->worker == worker->index);
    if (notice->kind == LEDGER_GRANT)
        on_grant(worker, notice);
    else
        on_ask(worker, notice);
}

static void give(struct worker *worker, struct server *server)
{
    struct ledger_todo todo = {0};

    uncount(server);
    ledger_give(ledger, &server->slot, &todo);
    post_all(&todo);
    list_remove(&worker->servers, &server->in_worker);
    free(server);
}

static void on_opened(struct worker *worker, struct server *server)
{
    struct ledger_todo todo = {0};
    struct ledger_waiter *waiter = ledger_opened(ledger, &server->slot, &todo);

    if (waiter != NULL)
        end_wait(worker, waiter, server);
    else
        release(worker, server);
    post_all(&todo);
}

static void tick(struct worker *worker, struct server *server)
{
    if (server->state == IDLE) {
        if (any(worker, 400) != 0)
            return;
        ledger_hide(server->slot.branch, worker->index);
        server->state = CLOSING;
        server->n_ticks = any(worker, 5);
        return;
    }
    if (server->n_ticks > 0) {
        server->n_ticks--;
        return;
    }
    if (server->state == LENT) {
        server->client->is_served = false;
        release(worker, server);
    } else if (server->state == CLOSING || any(worker, 10) == 0) {
        give(worker, server);
    } else {
        on_opened(worker, server);
    }
}

static void tick_all(struct worker *worker)
{
    LIST_EACH_SAFE(item, &worker->servers)
    {
        tick(worker, CONTAINER_OF(item, struct server, in_worker));
    }
}

/* ---- clients ------------------------------------------------------------------------
 */

static void ask_for_server(struct worker *worker, struct client *client)
{
    struct ledger_todo todo = {0};
    struct server *server;
    struct wait *wait;

    client->pool = any(worker, POOLS);
    client->is_patient = any(worker, 4) > 0;
    server = find_idle(worker, client->pool, NULL);
    if (server != NULL && ledger_lend(server->slot.branch, worker->index)) {
        lend(worker, server, client);
        return;
    }
    wait = calloc(1, sizeof *wait);
    REQUIRE(wait != NULL);
    wait->client = client;
    wait->waiter.branch = branches[client->pool][any(worker, NODES)];
    wait->waiter.worker = (uint16_t)worker->index;
    wait->waiter.since_ns = atomic_fetch_add(&now, 1);
    client->wait = wait;
    ledger_join(ledger, &wait->waiter, &todo);
    post_all(&todo);
}

static void grow_impatient(struct worker *worker, struct client *client)
{
    struct ledger_todo todo = {0};
    struct wait *wait = client->wait;

    switch (any(worker, 20)) {
    case 0:
        if (client->is_patient)
            break;
        ledger_withdraw(ledger, &wait->waiter, &todo);
        wait->client = NULL;
        client->wait = NULL;
        free_if_over(wait);
        worker->n_withdrawn++;
        break;
    case 1:
        ledger_ask_reserve(ledger, &wait->waiter, &todo);
        break;
    case 2:
        ledger_move(ledger, &wait->waiter, branches[client->pool][any(worker, NODES)],
                    &todo);
        break;
    case 3:
        (void)ledger_blocking(ledger, &wait->waiter);
        break;
    default:
        break;
    }
    post_all(&todo);
}

/* A server that nobody waits for. */
static void prewarm(struct worker *worker)
{
    unsigned pool = any(worker, POOLS);
    struct server *server = new_server(worker, pool);

    if (ledger_try(ledger, branches[pool][any(worker, NODES)], &server->slot))
        start(worker, server);
    else
        free(server);
}

static void act(struct worker *worker)
{
    struct client *client = &worker->clients[any(worker, CLIENTS)];

    if (any(worker, 200) == 0)
        prewarm(worker);
    if (client->wait != NULL) {
        grow_impatient(worker, client);
    } else if (!client->is_served && worker->n_requests < REQUESTS) {
        worker->n_requests++;
        ask_for_server(worker, client);
    }
}

static bool is_done(const struct worker *worker)
{
    if (worker->n_requests < REQUESTS)
        return false;
    for (unsigned i = 0; i < CLIENTS; i++)
        if (worker->clients[i].wait != NULL || worker->clients[i].is_served)
            return false;
    LIST_EACH(item, &worker->servers)
    {
        if (CONTAINER_OF(item, struct server, in_worker)->state != IDLE)
            return false;
    }
    return true;
}

static void deliver_all(struct worker *worker)
{
    struct message *message;

    while ((message = next_message(worker)) != NULL) {
        message->deliver(message, worker);
        atomic_fetch_sub(&n_under_way, 1);
    }
}

/* All messages of this worker and its own servers' ends; nobody comes any more. */
static void settle(struct worker *worker)
{
    deliver_all(worker);
    LIST_EACH_SAFE(item, &worker->servers)
    {
        struct server *server = CONTAINER_OF(item, struct server, in_worker);

        if (server->state != IDLE)
            tick(worker, server);
    }
}

static void *work(void *arg)
{
    struct worker *worker = arg;

    while (!is_done(worker)) {
        deliver_all(worker);
        act(worker);
        tick_all(worker);
        if (any(worker, 16) == 0)
            sched_yield();
    }
    /* What others still send makes servers that end by themselves. */
    atomic_fetch_add(&n_done, 1);
    while (atomic_load(&n_done) < WORKERS || atomic_load(&n_under_way) > 0) {
        settle(worker);
        sched_yield();
    }
    while (!is_done(worker))
        settle(worker);
    return NULL;
}

/* ---- control ------------------------------------------------------------------------
 */

/* Nobody logs in to a node for a while: until all have followed, or too late. */
static void muster(struct worker *control)
{
    static uint64_t generation;
    struct ledger_todo todo = {0};

    ledger_muster(ledger, nodes[any(control, NODES)], ++generation, 1);
    for (unsigned i = any(control, 20); i > 0; i--)
        sched_yield();
    if (any(control, 4) == 0)
        ledger_end_late_musters(ledger, UINT64_MAX, &todo);
    else
        for (unsigned i = 0; i < WORKERS; i++)
            ledger_followed(ledger, i, generation, &todo);
    post_all(&todo);
}

static void change_limits(void)
{
    struct worker control = {.seed = 7};

    while (atomic_load(&n_done) < WORKERS) {
        struct ledger_todo todo = {0};
        struct ledger_view view;

        switch (any(&control, 6)) {
        case 0:
            ledger_limit_set(ledger, database, 1 + any(&control, DATABASE_MAX), &todo);
            break;
        case 1:
            ledger_limit_set(ledger, sizes[any(&control, POOLS)],
                             1 + any(&control, POOL_MAX - 1), &todo);
            break;
        case 2:
            ledger_limit_set(ledger, nodes[any(&control, NODES)],
                             1 + any(&control, NODE_MAX), &todo);
            break;
        case 3:
            ledger_set_login_concurrency(ledger, 1 + any(&control, NODE_MAX));
            break;
        case 4:
            muster(&control);
            break;
        default:
            view =
                ledger_pool_view(ledger, pools[any(&control, POOLS)], atomic_load(&now));
            REQUIRE(view.n_used <= POOL_MAX && view.n_waiting <= WORKERS * CLIENTS);
            REQUIRE(ledger_limit_used(ledger, database) <= DATABASE_MAX);
            REQUIRE(ledger_excess(ledger, branches[0][0]) <= DATABASE_MAX);
        }
        post_all(&todo);
        for (unsigned i = any(&control, 100); i > 0; i--)
            sched_yield();
    }
}

static void make_accounts(void)
{
    ledger = ledger_new(WORKERS);
    database = ledger_limit_new("max_db_connections", DATABASE_MAX);
    user = ledger_limit_new("max_user_connections", 0);
    REQUIRE(ledger != NULL && database != NULL && user != NULL);
    for (unsigned i = 0; i < NODES; i++) {
        nodes[i] = ledger_limit_new("max_node_connections", NODE_MAX);
        REQUIRE(nodes[i] != NULL);
    }
    for (unsigned i = 0; i < POOLS; i++) {
        sizes[i] = ledger_limit_new("pool_size", POOL_MAX - 1);
        REQUIRE(sizes[i] != NULL);
        pools[i] = ledger_pool_new(
            ledger, (struct ledger_limit *[LEDGER_NODE]){sizes[i], database, user}, 1);
        REQUIRE(pools[i] != NULL);
        for (unsigned j = 0; j < NODES; j++) {
            branches[i][j] = ledger_branch_hold(ledger, pools[i], nodes[j]);
            REQUIRE(branches[i][j] != NULL);
        }
    }
}

static void clear_accounts(void)
{
    for (unsigned i = 0; i < POOLS; i++) {
        REQUIRE(ledger_pool_view(ledger, pools[i], 0).n_used == 0);
        REQUIRE(ledger_pool_view(ledger, pools[i], 0).n_waiting == 0);
        for (unsigned j = 0; j < NODES; j++)
            ledger_branch_release(ledger, branches[i][j]);
        REQUIRE(ledger_pool_release(ledger, pools[i]));
        ledger_limit_release(ledger, sizes[i]);
    }
    ledger_limit_release(ledger, database);
    ledger_limit_release(ledger, user);
    for (unsigned i = 0; i < NODES; i++)
        ledger_limit_release(ledger, nodes[i]);
    ledger_free(ledger);
}

/* The threads are gone: every idle server is counted where it is. */
static void close_servers(struct worker *worker)
{
    while (worker->servers.n > 0) {
        struct server *server =
            CONTAINER_OF(list_first(&worker->servers), struct server, in_worker);

        REQUIRE(server->state == IDLE);
        REQUIRE(atomic_load(&server->slot.branch->seats[worker->index].n_idle) > 0);
        ledger_hide(server->slot.branch, worker->index);
        give(worker, server);
    }
    for (unsigned i = 0; i < POOLS * NODES; i++)
        REQUIRE(atomic_load(
                    &branches[i / NODES][i % NODES]->seats[worker->index].n_idle) == 0);
}

int main(void)
{
    uint64_t n_handed = 0, n_closed = 0, n_lent = 0, n_withdrawn = 0;

    make_accounts();
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i].index = i;
        workers[i].seed = i + 1;
        list_init(&workers[i].servers);
        REQUIRE(pthread_mutex_init(&workers[i].mutex, NULL) == 0);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        REQUIRE(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    change_limits();
    for (unsigned i = 0; i < WORKERS; i++)
        REQUIRE(pthread_join(workers[i].thread, NULL) == 0);
    for (unsigned i = 0; i < WORKERS; i++) {
        close_servers(&workers[i]);
        pthread_mutex_destroy(&workers[i].mutex);
        n_handed += workers[i].n_handed;
        n_closed += workers[i].n_closed;
        n_lent += workers[i].n_lent;
        n_withdrawn += workers[i].n_withdrawn;
    }
    REQUIRE(n_lent + n_withdrawn == (uint64_t)WORKERS * REQUESTS);
    /* Else this has tried less than it says. */
    REQUIRE(n_handed > 0 && n_closed > 0 && n_withdrawn > 0);
    clear_accounts();
    return 0;
}
