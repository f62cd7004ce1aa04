/* pool/pool_prewarm.c - servers at nodes that may become the primary, logged in to before
 * that.
 *
 *   a hold has begun, since a switchover was asked for --> LOGIN --> WARM, at each
 *       candidate of the topology, min_pool_size of all workers together
 *   it is over, and the node is the primary --> PROVING --> IDLE, or lent
 *   ..., and another node is                --> closed
 *
 * They have slots as all servers have, and take none from others: who waits for one has
 * theirs.
 */
#include "pool/pool_inside.h"

#include "core/memory.h"

static bool is_to_be_prewarmed(const struct pool *pool)
{
    return pool->terms.role == ROLE_PRIMARY && pool->terms.min_pool_size > 0 &&
           pool_is_held(pool);
}

static unsigned count_warm(const struct pool *pool, uint32_t node_id)
{
    unsigned n = 0;

    LIST_EACH(item, &pool->busy)
    {
        const struct pooled *server = &member_in(item)->pooled;

        n += server->wants == POOLED_WANTS_LATER && server->node_id == node_id;
    }
    return n;
}

/* False when there is no room for one more, or no memory. */
static bool open_warm(struct pool *pool, struct pool_branch *branch,
                      const struct topology_node *node)
{
    struct member *member = memory_zeroed(sizeof *member);

    if (member == NULL ||
        !ledger_try_up_to(pool->pools->ledger, branch->ledger_branch,
                          pool->terms.min_pool_size, &member->pooled.slot)) {
        memory_free(member);
        return false;
    }
    member->pool = pool;
    member->branch = branch;
    member->pooled.wants = POOLED_WANTS_LATER;
    if (!member_open(member, node))
        member_close(member);
    return true;
}

/* As many as this worker may have: `max`. */
static void prewarm_node(struct pool *pool, const struct topology_node *node,
                         unsigned max)
{
    struct pool_branch *branch = pool_get_branch(pool, node->id);
    unsigned n = count_warm(pool, node->id);

    if (branch == NULL || branch->retry_at_ms > loop_now_ms(pool->pools->loop))
        return;
    while (n < max && open_warm(pool, branch, node))
        n++;
}

static void prewarm(struct pool *pool, unsigned max)
{
    const struct topology_cluster *cluster = pool_cluster(pool);

    for (size_t i = 0; i < cluster->n_nodes; i++)
        if (cluster->nodes[i].is_candidate)
            prewarm_node(pool, &cluster->nodes[i], max);
}

void pool_prewarm(struct pool *pool)
{
    unsigned n_workers = pool->pools->n_workers;

    if (is_to_be_prewarmed(pool)) /* each its share, so that none need move */
        prewarm(pool, (pool->terms.min_pool_size + n_workers - 1) / n_workers);
}

/* Whether somebody waits for what it has. */
static bool is_in_the_way(const struct member *member)
{
    const struct ledger_branch *branch = member->branch->ledger_branch;

    for (int scope = 0; scope < LEDGER_SCOPES; scope++)
        if (ledger_read(&branch->limits[scope]->n_blocked) > 0)
            return true;
    return false;
}

void pool_keep_prewarmed(struct pool *pool)
{
    bool is_scarce = false;

    if (!is_to_be_prewarmed(pool))
        return;
    LIST_EACH_SAFE(item, &pool->busy)
    {
        struct member *member = member_in(item);

        if (member->pooled.wants != POOLED_WANTS_LATER || !is_in_the_way(member))
            continue;
        member_close(member);
        is_scarce = true;
    }
    if (!is_scarce) /* the pool may not be known to all workers */
        prewarm(pool, pool->terms.min_pool_size);
}

void member_follow_hold(struct member *member)
{
    struct pool *pool = member->pool;

    if (pool_is_held(pool))
        return;
    if (!pool_may_have(pool, member->branch->node_id)) {
        member_close(member);
    } else if (member->pooled.state == POOLED_WARM) {
        member->is_expected = true;
        ledger_expect(pool->pools->ledger, pool->ledger_pool);
        pooled_prove(&member->pooled, pool->terms.connect_timeout_ms);
    } else { /* it goes on as one that was opened now */
        member->pooled.wants = POOLED_WANTS_PRIMARY;
    }
}

void member_is_here(struct pool *pool)
{
    struct ledger_todo todo = {0};

    ledger_expect_no_more(pool->pools->ledger, pool->ledger_pool, &todo);
    pools_post(pool->pools, &todo);
}
