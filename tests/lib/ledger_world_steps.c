/* tests/lib/ledger_world_steps.c - what may happen in the ledger's world, and what it
 * does.
 */
#include <string.h>

#include "tests/lib/ledger_world_parts.h"

/* Inside a call: whose, and what it has read. */
static bool is_in_call;
static unsigned caller;
static uint64_t values_read;

/* ---- calls --------------------------------------------------------------------------
 */

static struct ledger_todo todo;

static void enter_call(unsigned worker)
{
    is_in_call = true;
    caller = worker;
    todo = (struct ledger_todo){0};
}

static bool *is_posted(struct ledger_notice *notice)
{
    if (notice->kind == LEDGER_GRANT)
        return &CONTAINER_OF(ledger_notice_waiter(notice), struct client, waiter)
                    ->is_told;
    for (unsigned i = 0; i < WORLD_POOLS; i++)
        for (unsigned j = 0; j < WORLD_NODES; j++)
            if (accounts.branches[i][j] == ledger_notice_branch(notice))
                return &world.is_asked[i][j][notice->worker];
    UNREACHABLE();
}

/* No notice is posted again before it was delivered. */
static void leave_call(void)
{
    struct ledger_notice *notice;

    while ((notice = ledger_todo_next(&todo)) != NULL) {
        bool *posted = is_posted(notice);

        MUST(!*posted);
        *posted = true;
    }
    is_in_call = false;
}

static unsigned worker_of(const struct client *client)
{
    return client->waiter.worker;
}

static void lend(struct server *server, struct client *client)
{
    server->state = LENT;
    server->client = (unsigned)(client - world.clients);
    server->is_fresh = false;
    client->state = SERVED;
    client->waiter.since_ns = 0;
}

static struct client *client_of(struct ledger_waiter *waiter)
{
    return CONTAINER_OF(waiter, struct client, waiter);
}

static struct server *idle_server(unsigned worker, const struct ledger_pool *pool,
                                  const struct ledger_branch *branch)
{
    for (unsigned i = 0; i < SERVERS; i++) {
        struct server *server = &world.servers[i];

        if (server->state == IDLE && server->worker == worker &&
            server->slot.branch->pool == pool &&
            (branch == NULL || server->slot.branch == branch))
            return server;
    }
    return NULL;
}

static struct server *new_server(unsigned worker)
{
    for (unsigned i = 0; i < SERVERS; i++) {
        if (world.servers[i].state == NONE) {
            world.servers[i].worker = worker;
            world.servers[i].is_fresh = false;
            return &world.servers[i];
        }
    }
    UNREACHABLE();
}

static void release(struct server *server)
{
    struct worker *worker = &world.workers[server->worker];

    server->state = IN_HAND;
    worker->task = LOOK;
    worker->server = (unsigned)(server - world.servers);
    worker->scope = 0;
}

static void join(unsigned w, struct client *client)
{
    uint64_t last_ns = 0;

    for (unsigned i = 0; i < WORLD_CLIENTS; i++)
        if (world.clients[i].waiter.since_ns > last_ns)
            last_ns = world.clients[i].waiter.since_ns;
    client->waiter.since_ns = last_ns + 1;
    client->state = WAITING;
    enter_call(w);
    ledger_join(accounts.ledger, &client->waiter, &todo);
    leave_call();
}

static void serve(unsigned w)
{
    struct worker *worker = &world.workers[w];
    struct server *server = &world.servers[worker->server];
    struct ledger_offer offer = {&server->slot, w, accounts.window_ns, !server->is_fresh};
    struct ledger_waiter *waiter = NULL;
    enum ledger_use use;

    enter_call(w);
    use = ledger_serve(accounts.ledger, &offer, &waiter, &todo);
    leave_call();
    worker->task = worker->answered != NULL ? ANSWER : FREE;
    switch (use) {
    case LEDGER_KEEP:
        server->state = IDLE;
        if (worker->answered != NULL)
            worker->scope = 1; /* enough */
        break;
    case LEDGER_LEND:
        MUST(worker_of(client_of(waiter)) == w);
        lend(server, client_of(waiter));
        break;
    case LEDGER_HAND:
        MUST(worker_of(client_of(waiter)) != w && !server->is_fresh);
        server->state = TRAVELLING;
        server->client = (unsigned)(client_of(waiter) - world.clients);
        break;
    case LEDGER_CLOSE:
        server->state = CLOSING;
        break;
    }
}

static void answer(unsigned w)
{
    struct worker *worker = &world.workers[w];
    struct ledger_notice *notice = &worker->answered->seats[w].ask;

    worker->answered = NULL;
    worker->scope = 0;
    worker->task = FREE;
    enter_call(w);
    ledger_answered(accounts.ledger, notice, &todo);
    leave_call();
}

static void give(struct server *server)
{
    enter_call(server->worker);
    ledger_give(accounts.ledger, &server->slot, &todo);
    leave_call();
    *server = (struct server){0};
}

static void receive(struct server *server, bool is_lost)
{
    struct client *client = &world.clients[server->client];
    bool takes;

    server->worker = worker_of(client);
    server->client = 0;
    server->is_fresh = true;
    enter_call(server->worker);
    takes = ledger_receive(accounts.ledger, &client->waiter,
                           is_lost ? NULL : server->slot.branch->pool, &todo);
    leave_call();
    if (is_lost)
        server->state = CLOSING;
    else if (takes)
        lend(server, client);
    else
        release(server);
}

static void accept_grant(struct client *client)
{
    struct server *server = new_server(worker_of(client));

    client->is_told = false;
    enter_call(worker_of(client));
    if (ledger_accept(accounts.ledger, &client->waiter.grant, &server->slot))
        server->state = OPENING;
    else
        server->worker = 0;
    leave_call();
}

static void opened(struct server *server)
{
    struct ledger_waiter *waiter;

    enter_call(server->worker);
    waiter = ledger_opened(accounts.ledger, &server->slot, &todo);
    leave_call();
    if (waiter != NULL)
        lend(server, client_of(waiter));
    else
        release(server);
}

/* ---- steps --------------------------------------------------------------------------
 */

/* Those of a worker that take no mutex. */
static void list_fast(struct explorer_steps *steps, unsigned w)
{
    const struct worker *worker = &world.workers[w];

    switch (worker->task) {
    case FREE:
        for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
            const struct client *client = &world.clients[i];

            if (worker_of(client) == w && client->state == AT_HOME &&
                client->n_left > 0 &&
                idle_server(w, client->waiter.branch->pool, NULL) != NULL)
                explorer_add_step(steps, COME_LEND, i);
        }
        for (unsigned i = 0; i < SERVERS; i++) {
            if (world.servers[i].worker != w)
                continue;
            if (world.servers[i].state == LENT)
                explorer_add_step(steps, END_LEASE, i);
            if (world.servers[i].state == IDLE && world.chances.n_closings > 0)
                explorer_add_step(steps, CLOSE_IDLE, i);
        }
        break;
    case LEND:
    case LOOK:
    case SHOW:
    case LOOK_2:
    case HIDE:
        explorer_add_step(steps, GO_ON, w);
        break;
    case ANSWER:
        if (worker->scope == 0 &&
            idle_server(w, worker->answered->pool, worker->answered) != NULL)
            explorer_add_step(steps, TAKE_IDLE, w);
        break;
    case JOIN:
    case SERVE:
        break;
    }
}

static void list_of_client(struct explorer_steps *steps, unsigned c)
{
    const struct client *client = &world.clients[c];
    const struct ledger_waiter *waiter = &client->waiter;

    if (!world_worker_is_free(waiter->worker))
        return;
    if (client->state == AT_HOME && client->n_left > 0 &&
        idle_server(waiter->worker, waiter->branch->pool, NULL) == NULL)
        explorer_add_step(steps, COME_JOIN, c);
    if (client->state == WAITING && world.chances.n_withdrawals > 0)
        explorer_add_step(steps, WITHDRAW, c);
    if (client->state == WAITING && world.chances.n_moves > 0)
        explorer_add_step(steps, MOVE, c);
    if (client->state == WAITING && world.chances.n_overdue > 0 && !waiter->is_overdue)
        explorer_add_step(steps, OVERDUE, c);
    if (client->is_told)
        explorer_add_step(steps, GRANT, c);
}

static void list_of_server(struct explorer_steps *steps, unsigned s)
{
    const struct server *server = &world.servers[s];

    switch (server->state) {
    case OPENING:
        if (world_worker_is_free(server->worker)) {
            explorer_add_step(steps, OPENED, s);
            if (world.chances.n_failures > 0)
                explorer_add_step(steps, FAIL, s);
        }
        break;
    case TRAVELLING:
        if (world_worker_is_free(worker_of(&world.clients[server->client]))) {
            explorer_add_step(steps, RECEIVE, s);
            if (world.chances.n_losses > 0)
                explorer_add_step(steps, LOSE, s);
        }
        break;
    case CLOSING:
        if (world_worker_is_free(server->worker))
            explorer_add_step(steps, CLOSED, s);
        break;
    case NONE:
    case IDLE:
    case IN_HAND:
    case LENT:
        break;
    }
}

static void list_of_worker(struct explorer_steps *steps, unsigned w)
{
    const struct worker *worker = &world.workers[w];

    switch (worker->task) {
    case FREE:
        for (unsigned i = 0; i < WORLD_POOLS * WORLD_NODES; i++)
            if (world.is_asked[i / WORLD_NODES][i % WORLD_NODES][w])
                explorer_add_step(steps, ASK, i * WORLD_WORKERS + w);
        if (world.chances.n_tries > 0)
            explorer_add_step(steps, TRY, w);
        break;
    case JOIN:
    case SERVE:
        explorer_add_step(steps, CALL, w);
        break;
    case ANSWER:
        if (worker->scope == 1 ||
            idle_server(w, worker->answered->pool, worker->answered) == NULL)
            explorer_add_step(steps, CALL, w);
        break;
    case LEND:
    case LOOK:
    case SHOW:
    case LOOK_2:
    case HIDE:
        break;
    }
}

void world_list_steps(struct explorer_steps *steps)
{
    for (unsigned i = 0; i < WORLD_WORKERS; i++) {
        list_fast(steps, i);
        list_of_worker(steps, i);
    }
    for (unsigned i = 0; i < WORLD_CLIENTS; i++)
        list_of_client(steps, i);
    for (unsigned i = 0; i < SERVERS; i++)
        list_of_server(steps, i);
    if (world.chances.n_changes > 0)
        explorer_add_step(steps, CHANGE, 0);
}

/* ---- without the mutex: ledger_lend() and ledger_rest(), access by access ------------
 */

/* Reads the next of the counters that ledger_is_wanted() reads; true = wanted. Those that
 * never count anything are not worth a step. */
static bool look(struct worker *worker, bool *is_last)
{
    const struct ledger_branch *branch = world.servers[worker->server].slot.branch;
    unsigned counter = worker->scope++;

    while (worker->scope <= LEDGER_SCOPES && branch->limits[worker->scope - 1]->max == 0)
        worker->scope++;
    *is_last = worker->scope > LEDGER_SCOPES;
    if (counter == 0)
        return ledger_read(&branch->pool->n_waiting) > 0;
    return ledger_read(&branch->limits[counter - 1]->n_blocked) > 0;
}

static void go_on(unsigned w)
{
    struct worker *worker = &world.workers[w];
    struct server *server = &world.servers[worker->server];
    bool is_last, is_wanted;

    switch (worker->task) {
    case LEND:
        ledger_hide(server->slot.branch, w);
        lend(server, &world.clients[worker->client]);
        worker->task = FREE;
        break;
    case LOOK:
    case LOOK_2:
        is_wanted = look(worker, &is_last);
        if (is_wanted)
            worker->task = worker->task == LOOK ? SERVE : HIDE;
        else if (is_last && worker->task == LOOK)
            worker->task = SHOW;
        else if (is_last)
            worker->task = FREE;
        if (is_wanted || is_last)
            worker->scope = 0;
        break;
    case SHOW:
        ledger_show(server->slot.branch, w);
        server->state = IDLE;
        worker->task = LOOK_2;
        break;
    case HIDE:
        ledger_hide(server->slot.branch, w);
        server->state = IN_HAND;
        worker->task = SERVE;
        break;
    case FREE:
    case JOIN:
    case SERVE:
    case ANSWER:
        UNREACHABLE();
    }
}

static void come_to_idle(unsigned c)
{
    struct client *client = &world.clients[c];
    unsigned w = worker_of(client);
    struct worker *worker = &world.workers[w];
    const struct ledger_pool *pool = client->waiter.branch->pool;

    client->n_left--;
    worker->client = c;
    worker->task = ledger_read(&pool->n_waiting) > 0 ? JOIN : LEND;
    if (worker->task == LEND)
        worker->server = (unsigned)(idle_server(w, pool, NULL) - world.servers);
}

static void take_fast(const struct explorer_step *step)
{
    struct server *server = &world.servers[step->who % SERVERS];

    switch (step->kind) {
    case COME_LEND:
        come_to_idle(step->who);
        break;
    case GO_ON:
        go_on(step->who);
        break;
    case END_LEASE:
        world.clients[server->client].state = AT_HOME;
        server->client = 0;
        release(server);
        break;
    case CLOSE_IDLE:
        world.chances.n_closings--;
        ledger_hide(server->slot.branch, server->worker);
        server->state = CLOSING;
        break;
    case TAKE_IDLE:
        server = idle_server(step->who, world.workers[step->who].answered->pool,
                             world.workers[step->who].answered);
        ledger_hide(server->slot.branch, step->who);
        server->state = IN_HAND;
        world.workers[step->who].server = (unsigned)(server - world.servers);
        world.workers[step->who].task = SERVE;
        break;
    default:
        UNREACHABLE();
    }
}

/* What is accessed outside of calls is written down, for the last test. */
static struct world_accesses accesses;

struct world_accesses world_take_accesses(void)
{
    struct world_accesses taken = accesses;

    accesses.n = 0;
    return taken;
}

/* What the other workers do before the call that is being made accesses a counter. A call
 * that has come to the same place, from the same values read, in the same world, was
 * followed already. */
void ledger_step(const atomic_uint *counter)
{
    if (!is_in_call) {
        accesses.counters[accesses.n++ % COUNT_OF(accesses.counters)] = counter;
        return;
    }
    for (;;) {
        struct explorer_steps steps = {.n = 0};
        unsigned choice;

        for (unsigned i = 0; i < WORLD_WORKERS; i++)
            if (i != caller)
                list_fast(&steps, i);
        if (steps.n == 0)
            break;
        explorer_pass(values_read);
        choice = explorer_choose(steps.n + 1);
        if (choice == 0)
            break;
        is_in_call = false;
        take_fast(&steps.steps[choice - 1]);
        is_in_call = true;
    }
    values_read = (values_read ^ atomic_load(counter)) * 0xff51afd7ed558ccdu + 1;
}

/* ---- under the mutex ----------------------------------------------------------------
 */

static void call(unsigned w)
{
    struct worker *worker = &world.workers[w];
    struct client *client = &world.clients[worker->client];

    switch (worker->task) {
    case JOIN:
        worker->task = FREE;
        worker->client = 0;
        join(w, client);
        break;
    case SERVE:
        serve(w);
        break;
    case ANSWER:
        answer(w);
        break;
    case FREE:
    case LEND:
    case LOOK:
    case SHOW:
    case LOOK_2:
    case HIDE:
        UNREACHABLE();
    }
}

static void ask(unsigned w, unsigned pool, unsigned node)
{
    world.is_asked[pool][node][w] = false;
    world.workers[w].task = ANSWER;
    world.workers[w].answered = accounts.branches[pool][node];
}

static void withdraw(struct client *client)
{
    world.chances.n_withdrawals--;
    client->state = AT_HOME;
    enter_call(worker_of(client));
    ledger_withdraw(accounts.ledger, &client->waiter, &todo);
    leave_call();
    client->waiter.since_ns = 0;
}

static void move(struct client *client)
{
    struct ledger_pool *pool = client->waiter.branch->pool;
    struct ledger_branch **of = accounts.branches[pool == accounts.pools[0] ? 0 : 1];

    world.chances.n_moves--;
    enter_call(worker_of(client));
    ledger_move(accounts.ledger, &client->waiter,
                client->waiter.branch == of[0] ? of[1] : of[0], &todo);
    leave_call();
}

static void try(unsigned w)
{
    struct server *server = new_server(w);

    world.chances.n_tries--;
    enter_call(w);
    if (ledger_try(accounts.ledger, accounts.branches[0][0], &server->slot))
        server->state = OPENING;
    else
        server->worker = 0;
    leave_call();
}

static void change(void)
{
    enter_call(WORLD_WORKERS); /* control */
    ledger_limit_set(accounts.ledger, accounts.changed,
                     accounts.changes[--world.chances.n_changes], &todo);
    leave_call();
}

/* What does not matter any more is not to make two states of one: of times only their
 * order does. */
static void forget_what_is_over(void)
{
    uint64_t ranks[WORLD_CLIENTS] = {0};

    for (unsigned i = 0; i < WORLD_CLIENTS; i++)
        for (unsigned j = 0; j < WORLD_CLIENTS; j++)
            ranks[i] +=
                world.clients[i].waiter.since_ns > 0 &&
                world.clients[j].waiter.since_ns > 0 &&
                world.clients[j].waiter.since_ns <= world.clients[i].waiter.since_ns;
    for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
        world.clients[i].waiter.since_ns = ranks[i];
        if (world.clients[i].waiter.state == LEDGER_OUT)
            world.clients[i].waiter.is_overdue = false;
    }
    for (unsigned i = 0; i < WORLD_WORKERS; i++)
        if (world_worker_is_free(i))
            world.workers[i] = (struct worker){0};
    for (unsigned i = 0; i < SERVERS; i++)
        if (world.servers[i].state == LENT || world.servers[i].state == CLOSING)
            world.servers[i].is_fresh = false;
}

void world_take_step(const struct explorer_step *step)
{
    struct client *client = &world.clients[step->who % WORLD_CLIENTS];
    struct server *server = &world.servers[step->who % SERVERS];

    is_in_call = false; /* a way that has led nowhere may have ended in one */
    values_read = 0;
    switch ((enum kind)step->kind) {
    case COME_LEND:
    case GO_ON:
    case END_LEASE:
    case CLOSE_IDLE:
    case TAKE_IDLE:
        take_fast(step);
        break;
    case COME_JOIN:
        client->n_left--;
        join(worker_of(client), client);
        break;
    case CALL:
        call(step->who);
        break;
    case WITHDRAW:
        withdraw(client);
        break;
    case GRANT:
        accept_grant(client);
        break;
    case ASK:
        ask(step->who % WORLD_WORKERS, step->who / WORLD_WORKERS / WORLD_NODES,
            step->who / WORLD_WORKERS % WORLD_NODES);
        break;
    case RECEIVE:
        receive(server, false);
        break;
    case LOSE:
        world.chances.n_losses--;
        receive(server, true);
        break;
    case OPENED:
        opened(server);
        break;
    case FAIL:
        world.chances.n_failures--;
        give(server);
        break;
    case CLOSED:
        give(server);
        break;
    case TRY:
        try(step->who);
        break;
    case MOVE:
        move(client);
        break;
    case OVERDUE:
        world.chances.n_overdue--;
        enter_call(worker_of(client));
        ledger_ask_reserve(accounts.ledger, &client->waiter, &todo);
        leave_call();
        break;
    case CHANGE:
        change();
        break;
    }
    forget_what_is_over();
}
