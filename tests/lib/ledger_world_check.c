/* tests/lib/ledger_world_check.c - what must hold in every state of the ledger's world.
 */
#include <string.h>

#include "tests/lib/ledger_world_parts.h"

static bool uses(const struct ledger_branch *branch, const struct ledger_limit *limit)
{
    for (int scope = 0; scope < LEDGER_SCOPES; scope++)
        if (branch->limits[scope] == limit)
            return true;
    return false;
}

/* `most` = in use before a limit was lowered. */
static void check_limit(const struct ledger_limit *limit, unsigned reserve,
                        unsigned *most)
{
    unsigned n_used = 0, max = limit->max + reserve;

    for (unsigned i = 0; i < SERVERS; i++)
        n_used += world.servers[i].slot.branch != NULL &&
                  uses(world.servers[i].slot.branch, limit);
    for (unsigned i = 0; i < WORLD_CLIENTS; i++)
        n_used += world.clients[i].waiter.state == LEDGER_GRANTED &&
                  uses(world.clients[i].waiter.branch, limit);
    MUST(n_used == limit->n_used);
    MUST(limit->max == 0 || n_used <= max || n_used <= *most);
    *most = n_used;
}

static bool logs_in_at(const struct server *server, const struct ledger_limit *node)
{
    return server->slot.branch != NULL && server->slot.is_login &&
           server->slot.branch->limits[LEDGER_NODE] == node;
}

/* `most` = what was under way when more were allowed. */
static void check_logins(const struct ledger_limit *node, unsigned *most)
{
    unsigned n_logins = 0, max = accounts.ledger->login_concurrency;

    for (unsigned i = 0; i < SERVERS; i++)
        n_logins += logs_in_at(&world.servers[i], node);
    for (unsigned i = 0; i < WORLD_CLIENTS; i++)
        n_logins += world.clients[i].waiter.state == LEDGER_GRANTED &&
                    world.clients[i].waiter.branch->limits[LEDGER_NODE] == node;
    MUST(n_logins == node->gate.n_logins);
    MUST(max == 0 || n_logins <= max + node->gate.n_more || n_logins <= *most);
    MUST(n_logins > 0 || node->gate.n_more == 0);
    *most = n_logins;
}

static bool may_log_in(const struct ledger_branch *branch)
{
    const struct ledger_gate *gate = &branch->limits[LEDGER_NODE]->gate;
    unsigned max = accounts.ledger->login_concurrency;

    return max == 0 || gate->n_logins < max + gate->n_more;
}

static void check_limits(void)
{
    for (unsigned i = 0; i < WORLD_POOLS; i++)
        if (accounts.pools[i] != NULL)
            check_limit(accounts.sizes[i], accounts.pools[i]->reserve,
                        &world.most[LEDGER_POOL][i]);
    check_limit(accounts.database, 0, &world.most[LEDGER_DATABASE][0]);
    check_limit(accounts.user, 0, &world.most[LEDGER_USER][0]);
    for (unsigned i = 0; i < WORLD_NODES; i++)
        check_limit(accounts.nodes[i], 0, &world.most[LEDGER_NODE][i]);
    for (unsigned i = 0; i < WORLD_NODES; i++)
        check_logins(accounts.nodes[i], &world.most_logins[i]);
}

static bool is_at_desk(const struct ledger_waiter *waiter)
{
    return waiter->state == LEDGER_IN_LINE || waiter->state == LEDGER_GRANTED ||
           waiter->state == LEDGER_OPENING;
}

static void check_pool(const struct ledger_pool *pool)
{
    unsigned n_waiting = 0, n_uncovered = 0, n_promised = 0, n_expected = 0;

    for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
        const struct ledger_waiter *waiter = &world.clients[i].waiter;

        if (waiter->branch->pool != pool)
            continue;
        n_waiting += is_at_desk(waiter);
        n_uncovered += waiter->state == LEDGER_IN_LINE;
        n_promised += waiter->state == LEDGER_IN_LINE && waiter->slot != NULL;
    }
    LIST_EACH(item, &pool->branches)
    {
        const struct ledger_branch *branch = ledger_line_in_pool(item);

        for (unsigned w = 0; w < WORLD_WORKERS; w++) {
            unsigned n_idle = 0;

            n_expected += branch->seats[w].n_expected;
            MUST(branch->seats[w].n_expected == 0 || branch->seats[w].ask.is_under_way);
            for (unsigned i = 0; i < SERVERS; i++)
                n_idle += world.servers[i].state == IDLE &&
                          world.servers[i].worker == w &&
                          world.servers[i].slot.branch == branch;
            MUST(n_idle == atomic_load(&branch->seats[w].n_idle));
        }
    }
    MUST(n_waiting == atomic_load(&pool->n_waiting));
    MUST(n_uncovered == pool->n_uncovered);
    MUST(n_promised == pool->n_promised);
    MUST(n_expected == pool->n_expected);
}

static void check_clients(void)
{
    for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
        const struct client *client = &world.clients[i];
        unsigned n_servers = 0;

        for (unsigned j = 0; j < SERVERS; j++)
            n_servers += world.servers[j].state == LENT && world.servers[j].client == i;
        MUST(n_servers == (client->state == SERVED));
        MUST((client->state == WAITING) == (client->waiter.state != LEDGER_OUT));
        /* One that is handed a server must have one coming. */
        MUST(client->waiter.state != LEDGER_HANDED || client->waiter.n_handed > 0);
    }
}

/* Every notice that is said to be under way is on its way, or being answered. */
static void check_notices(void)
{
    for (unsigned i = 0; i < WORLD_CLIENTS; i++)
        MUST(world.clients[i].is_told == world.clients[i].waiter.grant.is_under_way);
    for (unsigned i = 0; i < WORLD_POOLS; i++)
        for (unsigned j = 0; j < WORLD_NODES; j++)
            for (unsigned w = 0; w < WORLD_WORKERS && accounts.branches[i][j] != NULL;
                 w++)
                MUST(accounts.branches[i][j]->seats[w].ask.is_under_way ==
                     (world.is_asked[i][j][w] ||
                      world.workers[w].answered == accounts.branches[i][j]));
}

bool world_is_at_rest(void)
{
    static const bool nobody_is_asked[WORLD_POOLS][WORLD_NODES][WORLD_WORKERS];

    for (unsigned i = 0; i < WORLD_WORKERS; i++)
        if (!world_worker_is_free(i))
            return false;
    for (unsigned i = 0; i < WORLD_CLIENTS; i++)
        if (world.clients[i].is_told)
            return false;
    for (unsigned i = 0; i < SERVERS; i++)
        if (world.servers[i].state == TRAVELLING)
            return false;
    return memcmp(world.is_asked, nobody_is_asked, sizeof nobody_is_asked) == 0;
}

static bool is_full(const struct ledger_branch *branch, int scope)
{
    const struct ledger_limit *limit = branch->limits[scope];
    unsigned reserve = 0;

    /* The first has waited as long as any other of its line. */
    for (unsigned i = 0; i < WORLD_CLIENTS; i++)
        if (scope == LEDGER_POOL && world.clients[i].waiter.branch == branch &&
            world.clients[i].waiter.state == LEDGER_IN_LINE &&
            world.clients[i].waiter.is_overdue)
            reserve = branch->pool->reserve;
    return limit->max > 0 && limit->n_used >= limit->max + reserve;
}

/* Would the end of this idle server free all that the waiter is in want of? */
static bool would_free(const struct server *server, const struct ledger_branch *branch)
{
    for (int scope = 0; scope < LEDGER_SCOPES; scope++)
        if (is_full(branch, scope) &&
            server->slot.branch->limits[scope] != branch->limits[scope])
            return false;
    return true;
}

static void check_nobody_waits_in_vain(const struct ledger_waiter *waiter)
{
    const struct ledger_branch *branch = waiter->branch;
    const struct ledger_pool *pool = branch->pool;
    bool is_blocked = false, has_promise = waiter->slot != NULL;
    /* In the pool's own limit, with what is promised already. */
    bool has_room = branch->limits[LEDGER_POOL]->max == 0 ||
                    pool->n_used + pool->n_promised < branch->limits[LEDGER_POOL]->max;

    MUST(waiter->state == LEDGER_IN_LINE || waiter->state == LEDGER_OPENING);
    for (int scope = 0; scope < LEDGER_SCOPES; scope++)
        is_blocked = is_blocked || is_full(branch, scope);
    MUST(waiter->state == LEDGER_OPENING || is_blocked || !may_log_in(branch));
    for (unsigned i = 0; i < SERVERS; i++) {
        const struct server *server = &world.servers[i];

        if (server->state != IDLE)
            continue;
        MUST(server->slot.branch->pool != pool);
        MUST(waiter->state == LEDGER_OPENING || !is_blocked || has_promise || !has_room ||
             !would_free(server, branch));
    }
}

void world_check(void)
{
    check_limits();
    for (unsigned i = 0; i < WORLD_POOLS; i++)
        if (accounts.pools[i] != NULL)
            check_pool(accounts.pools[i]);
    check_clients();
    check_notices();
    if (!world_is_at_rest())
        return;
    for (unsigned i = 0; i < WORLD_CLIENTS; i++)
        if (world.clients[i].waiter.state != LEDGER_OUT)
            check_nobody_waits_in_vain(&world.clients[i].waiter);
}
