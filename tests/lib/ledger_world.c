#include "tests/lib/ledger_world.h"

#include <string.h>

#include "tests/lib/ledger_world_parts.h"

struct world world;
struct world_accounts accounts;

static void make_branch(unsigned i, unsigned j)
{
    struct ledger_branch *branch =
        ledger_branch_hold(accounts.ledger, accounts.pools[i], accounts.nodes[j]);

    REQUIRE(branch != NULL);
    explorer_add_block(branch, sizeof *branch + WORLD_WORKERS * sizeof branch->seats[0]);
    for (unsigned w = 0; w < WORLD_WORKERS; w++) { /* as if it had been asked before */
        branch->seats[w].ask.kind = LEDGER_ASK;
        branch->seats[w].ask.worker = (uint16_t)w;
    }
    accounts.branches[i][j] = branch;
}

static struct ledger_limit *make_limit(const char *name, unsigned max)
{
    struct ledger_limit *limit = ledger_limit_new(name, max);

    REQUIRE(limit != NULL);
    explorer_add_block(limit, sizeof *limit);
    return limit;
}

static void make_pool(unsigned i, unsigned max, const struct world_scene *scene)
{
    bool shares = i > 0 && scene->shares_pool_limit;
    struct ledger_limit *size =
        shares ? ledger_limit_hold(accounts.ledger, accounts.sizes[0])
               : make_limit("pool_size", max);
    struct ledger_limit *limits[LEDGER_NODE] = {size, accounts.database, accounts.user};
    struct ledger_pool *pool = ledger_pool_new(accounts.ledger, limits, scene->reserve);

    REQUIRE(pool != NULL);
    explorer_add_block(pool, sizeof *pool + WORLD_WORKERS * sizeof pool->desks[0]);
    accounts.sizes[i] = size;
    accounts.pools[i] = pool;
    for (unsigned j = 0; j < (scene->has_two_nodes ? WORLD_NODES : 1); j++)
        make_branch(i, j);
}

struct ledger_branch *world_make(const struct world_scene *scene)
{
    accounts.ledger = ledger_new(WORLD_WORKERS);
    REQUIRE(accounts.ledger != NULL);
    ledger_set_login_concurrency(accounts.ledger, scene->login_concurrency);
    explorer_add_block(&world, sizeof world);
    explorer_add_block(accounts.ledger, sizeof *accounts.ledger);
    accounts.database = make_limit("max_db_connections", scene->database_max);
    accounts.user = make_limit("max_user_connections", 0);
    for (unsigned i = 0; i < WORLD_NODES; i++)
        accounts.nodes[i] = make_limit("max_node_connections", scene->node_max);
    make_pool(0, scene->pool_max, scene);
    if (scene->pool_max_2 > 0)
        make_pool(1, scene->pool_max_2, scene);
    for (unsigned i = 0; i < WORLD_CLIENTS; i++) {
        struct client *client = &world.clients[i];

        client->waiter.worker = (uint16_t)scene->workers[i];
        client->waiter.grant.worker = (uint16_t)scene->workers[i];
        client->waiter.branch = accounts.branches[scene->pools[i]][scene->nodes[i]];
        client->n_left = scene->n_requests[i];
    }
    world.chances = scene->chances;
    accounts.window_ns = scene->window_ns;
    accounts.changed =
        scene->changed == LEDGER_NODE ? accounts.nodes[0] : accounts.sizes[0];
    memcpy(accounts.changes, scene->changes, sizeof accounts.changes);
    return accounts.branches[0][0];
}

/* ---- the game -----------------------------------------------------------------------
 */

static const char *const names[] = {
#define X(name, text, is_internal) text,
    WORLD_STEPS(X)
#undef X
};

static bool is_internal(unsigned kind)
{
    static const bool are_internal[] = {
#define X(name, text, is_internal) is_internal,
        WORLD_STEPS(X)
#undef X
    };

    return are_internal[kind];
}

static uint64_t n_rests;

static void check(void)
{
    world_check();
    n_rests += world_is_at_rest();
}

uint64_t world_play(const struct world_scene *scene)
{
    static const struct explorer_game game = {names, world_list_steps, world_take_step,
                                              check, is_internal};

    world_make(scene);
    explorer_play(&game);
    return n_rests;
}
