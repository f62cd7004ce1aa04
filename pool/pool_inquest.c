#include <string.h>

#include "pool/pool_inside.h"

/* So many ends within so long are no administrator's business with one client. */
#define ENDS_OF_SHUTDOWN 3u
#define ENDS_WITHIN_MS 1000u
/* A node of which nothing can be learned serves on, for all that is known. */
#define PATIENCE_MS 5000u
/* How long a node that goes away is asked for nothing, unless its role changes. */
#define QUIET_MS 250u

static struct inquest *inquest_in(struct link *link)
{
    return CONTAINER_OF(link, struct inquest, in_pools);
}

/* What the topology says: it has lost the role, or is about to. */
static bool is_leaving(const struct pool *pool, uint32_t node_id)
{
    const struct topology_cluster *cluster = pool_cluster(pool);
    const struct topology_node *node =
        cluster == NULL ? NULL : topology_node(pool->pools->topology, node_id);

    return node == NULL || node->is_leaving ||
           (cluster->hold != 0 && pool->terms.role == ROLE_PRIMARY) ||
           !pool_may_have(pool, node_id);
}

/* ---- the node goes away -------------------------------------------------------------
 */

static void ask_nothing(struct pool *pool, struct pool_branch *branch)
{
    uint64_t until_ms = loop_now_ms(pool->pools->loop) + QUIET_MS;

    if (branch->retry_at_ms < until_ms)
        branch->retry_at_ms = until_ms;
    LIST_EACH_SAFE(item, &pool->needs)
    {
        struct need *need = CONTAINER_OF(item, struct need, in_pool);

        if (need->branch != branch)
            continue;
        need_leave_line(need);
        need_stand_in_line(need);
    }
}

/* Servers that are there still will end any moment: nobody gets one. */
static void lend_nothing(struct pool *pool, uint32_t node_id)
{
    LIST_EACH_SAFE(item, &pool->idle)
    {
        if (member_in(item)->branch->node_id == node_id)
            member_close_idle(member_in(item));
    }
    LIST_EACH(item, &pool->busy)
    {
        if (member_in(item)->branch->node_id == node_id)
            member_in(item)->is_spoiled = member_in(item)->is_open;
    }
    LIST_EACH(item, &pool->branches)
    {
        struct pool_branch *branch = CONTAINER_OF(item, struct pool_branch, in_pool);

        if (branch->node_id == node_id)
            ask_nothing(pool, branch);
    }
}

static void leave_alone(struct pools *pools, uint32_t node_id)
{
    LIST_EACH(item, &pools->pools)
    {
        lend_nothing(CONTAINER_OF(item, struct pool, in_pools), node_id);
    }
}

/* ---- judging ------------------------------------------------------------------------
 */

/* The eldest about the node that was begun before the server with this id was opened. */
static struct inquest *find(struct pools *pools, uint32_t node_id, uint64_t id)
{
    LIST_EACH(item, &pools->inquests)
    {
        if (inquest_in(item)->node_id == node_id && inquest_in(item)->after < id)
            return inquest_in(item);
    }
    return NULL;
}

static void end(struct pools *pools, struct inquest *inquest, bool goes_away)
{
    list_remove(&pools->inquests, &inquest->in_pools);
    inquest->pool = NULL;
    pools->events->on_judged(inquest->client, goes_away);
}

static void judge(struct pools *pools, uint32_t node_id, uint64_t id, bool goes_away)
{
    struct inquest *inquest;

    if (find(pools, node_id, id) == NULL)
        return;
    if (goes_away)
        leave_alone(pools, node_id);
    while ((inquest = find(pools, node_id, id)) != NULL)
        end(pools, inquest, goes_away);
}

bool pool_inquire(struct inquest *inquest, struct pool *pool, uint32_t node_id,
                  void *client)
{
    struct pools *pools = pool->pools;

    if (is_leaving(pool, node_id)) {
        leave_alone(pools, node_id);
        return true;
    }
    *inquest = (struct inquest){.pool = pool,
                                .client = client,
                                .node_id = node_id,
                                .after = pools->n_servers_made * POOLS_WORKERS_MAX +
                                         (POOLS_WORKERS_MAX - 1),
                                .asked_at_ms = loop_now_ms(pools->loop)};
    list_append(&pools->inquests, &inquest->in_pools);
    return false;
}

void pool_drop_inquest(struct inquest *inquest)
{
    if (inquest->pool != NULL)
        list_remove(&inquest->pool->pools->inquests, &inquest->in_pools);
    inquest->pool = NULL;
}

/* ---- evidence -----------------------------------------------------------------------
 */

void pools_on_end(struct pools *pools, uint32_t node_id)
{
    uint64_t now_ms = loop_now_ms(pools->loop);
    unsigned n = 0;

    pools->ends[pools->n_ends++ % POOL_ENDS_KEPT] = (struct pool_end){node_id, now_ms};
    for (unsigned i = 0; i < POOL_ENDS_KEPT && i < pools->n_ends; i++)
        n += pools->ends[i].node_id == node_id &&
             now_ms - pools->ends[i].at_ms < ENDS_WITHIN_MS;
    if (n >= ENDS_OF_SHUTDOWN)
        judge(pools, node_id, UINT64_MAX, true);
    pools_pursue(pools);
}

/* Whoever is told that there are too many clients, or no such database, is told so by a
 * node that serves on. */
static bool says_that_it_ends(const char *sqlstate)
{
    return *sqlstate == '\0' || strncmp(sqlstate, "57P", 3) == 0;
}

void pools_on_login(struct pools *pools, const struct member *member, bool has_failed,
                    const char *sqlstate)
{
    bool goes_away = has_failed && says_that_it_ends(sqlstate);

    judge(pools, member->branch->node_id, goes_away ? UINT64_MAX : member->pooled.id,
          goes_away);
}

/* A login is under way that will tell. */
static bool is_asked(const struct inquest *inquest)
{
    LIST_EACH(item, &inquest->pool->busy)
    {
        const struct member *member = member_in(item);

        if (member->branch->node_id == inquest->node_id && !member->is_open &&
            member->pooled.id > inquest->after)
            return true;
    }
    return false;
}

/* An idle server proves nothing: it may not have been ended yet. */
static void ask(struct inquest *inquest)
{
    struct pool_branch *branch = pool_get_branch(inquest->pool, inquest->node_id);

    if (branch != NULL && !is_asked(inquest))
        (void)pool_open_one(inquest->pool, branch); /* else it is tried again */
}

/* The next step of one. True: it is over. */
static bool pursue(struct pools *pools, struct inquest *inquest)
{
    REQUIRE(inquest->pool != NULL);
    if (is_leaving(inquest->pool, inquest->node_id)) {
        judge(pools, inquest->node_id, UINT64_MAX, true);
        return true;
    }
    if (loop_now_ms(pools->loop) - inquest->asked_at_ms >= PATIENCE_MS) {
        end(pools, inquest, false);
        return true;
    }
    ask(inquest);
    return false;
}

void pools_pursue(struct pools *pools)
{
    struct link *item = list_first(&pools->inquests);

    while (item != NULL) {
        struct link *next = item->next == &pools->inquests.head ? NULL : item->next;

        /* What is over may have taken others along. */
        item = pursue(pools, inquest_in(item)) ? list_first(&pools->inquests) : next;
    }
}
