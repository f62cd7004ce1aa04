/* pool/pool_holds.c - what a worker's clients live through while the primary changes, for
 * the time line of struct switchover.
 *
 *   the topology shows a hold --> how many transactions are still open on the old primary
 *   it does not any more      --> the first lease --> after a while, all that was counted
 */
#include "pool/pool_inside.h"

#include <stdio.h>
#include <string.h>

#include "core/memory.h"

#define LOOK_S 0.005
/* After a hold, until the last one who has waited in it has a server, as a rule. */
#define COUNTED_AFTER_NS 2000000000u

struct hold_watch {
    struct link in_pools;
    struct hold_news news; /* as last told */
    bool is_told;          /* how many are open */
    bool has_lent;
    uint64_t over_ns; /* when the topology showed it no more; 0 = it is on */
};

static void tell(struct pools *pools, struct hold_watch *watch, enum hold_news_kind kind)
{
    watch->news.kind = kind;
    pools->events->on_hold(pools->arg, &watch->news);
}

static bool is_leaving(const struct topology_cluster *cluster, uint32_t node_id)
{
    for (size_t i = 0; i < cluster->n_nodes; i++)
        if (cluster->nodes[i].id == node_id)
            return cluster->nodes[i].is_leaving;
    return false;
}

/* Sessions stay with their server whatever they do: nobody waits for them. */
static unsigned count_open(const struct pool *pool,
                           const struct topology_cluster *cluster)
{
    unsigned n = 0;

    if (pool->terms.mode == POOL_MODE_SESSION || pool_is_private(pool))
        return 0;
    LIST_EACH(item, &pool->busy)
    {
        const struct pooled *server = &member_in(item)->pooled;

        n += (server->state == POOLED_ACTIVE || server->state == POOLED_TUNING) &&
             is_leaving(cluster, server->node_id);
    }
    return n;
}

static void look_at_open(struct pools *pools, struct hold_watch *watch,
                         const struct topology_cluster *cluster)
{
    unsigned n = 0;

    LIST_EACH(item, &pools->pools)
    {
        const struct pool *pool = CONTAINER_OF(item, struct pool, in_pools);

        if (strcmp(pool->cluster, cluster->name) == 0)
            n += count_open(pool, cluster);
    }
    if (watch->is_told && n == watch->news.n_open)
        return;
    watch->is_told = true;
    watch->news.n_open = n;
    tell(pools, watch, HOLD_NEWS_OPEN);
}

static void end_watch(struct pools *pools, struct hold_watch *watch)
{
    list_remove(&pools->hold_watches, &watch->in_pools);
    memory_free(watch);
}

static void look(struct pools *pools, struct hold_watch *watch)
{
    const struct topology_cluster *cluster =
        topology_cluster(pools->topology, watch->news.cluster);

    if (watch->over_ns == 0 && cluster != NULL && cluster->hold == watch->news.hold) {
        look_at_open(pools, watch, cluster);
    } else if (watch->over_ns == 0) {
        watch->over_ns = pools->loop->now_ns;
    } else if (pools->loop->now_ns - watch->over_ns > COUNTED_AFTER_NS) {
        tell(pools, watch, HOLD_NEWS_COUNTS);
        end_watch(pools, watch);
    }
}

static void on_looks(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct pools *pools = CONTAINER_OF(timer, struct pools, hold_looks);

    (void)events;
    LIST_EACH_SAFE(item, &pools->hold_watches)
    {
        look(pools, CONTAINER_OF(item, struct hold_watch, in_pools));
    }
    if (pools->hold_watches.n == 0)
        ev_timer_stop(ev, timer);
}

static struct hold_watch *find_watch(const struct pools *pools, const char *cluster,
                                     uint64_t hold)
{
    LIST_EACH(item, &pools->hold_watches)
    {
        struct hold_watch *watch = CONTAINER_OF(item, struct hold_watch, in_pools);

        if (strcmp(watch->news.cluster, cluster) == 0 &&
            (hold == 0 || watch->news.hold == hold))
            return watch;
    }
    return NULL;
}

/* Without memory this one is left out of the time line. */
static void begin_watch(struct pools *pools, const struct topology_cluster *cluster)
{
    struct hold_watch *watch = memory_zeroed(sizeof *watch);

    if (watch == NULL)
        return;
    snprintf(watch->news.cluster, sizeof watch->news.cluster, "%s", cluster->name);
    watch->news.hold = cluster->hold;
    list_append(&pools->hold_watches, &watch->in_pools);
    if (ev_is_active(&pools->hold_looks))
        return;
    ev_timer_set(&pools->hold_looks, LOOK_S, LOOK_S);
    ev_timer_start(pools->loop->ev, &pools->hold_looks);
}

void pools_follow_holds(struct pools *pools)
{
    if (pools->is_closed) /* at the end news may still be under way */
        return;
    for (size_t i = 0; i < pools->topology->n_clusters; i++) {
        const struct topology_cluster *cluster = &pools->topology->clusters[i];

        if (cluster->hold != 0 && find_watch(pools, cluster->name, cluster->hold) == NULL)
            begin_watch(pools, cluster);
    }
    LIST_EACH_SAFE(item, &pools->hold_watches)
    {
        look(pools, CONTAINER_OF(item, struct hold_watch, in_pools));
    }
}

/* Of two holds in a row the earlier one has made it wait. */
void pools_note_held(struct pools *pools, const struct need *need)
{
    struct hold_watch *watch = find_watch(pools, need->pool->cluster, 0);
    uint64_t now_ns = pools->loop->now_ns;
    uint64_t waited_ms = (now_ns - need->waiter.since_ns) / 1000000u;

    if (watch == NULL || need->pool->terms.role != ROLE_PRIMARY ||
        (watch->over_ns != 0 && need->waiter.since_ns > watch->over_ns))
        return;
    watch->news.counts.n_held++;
    if (waited_ms > watch->news.counts.longest_wait_ms)
        watch->news.counts.longest_wait_ms = waited_ms;
    if (watch->has_lent)
        return;
    watch->has_lent = true;
    watch->news.at_ms = now_ns / 1000000u;
    tell(pools, watch, HOLD_NEWS_LENT);
}

void pool_note_loss(struct pool *pool, enum pool_loss loss)
{
    struct hold_watch *watch = find_watch(pool->pools, pool->cluster, 0);
    bool is_of_hold = watch != NULL && pool->terms.role == ROLE_PRIMARY;

    switch (loss) {
    case POOL_REPLAYED:
        pool->counts.replayed++;
        if (is_of_hold)
            watch->news.counts.n_replayed++;
        break;
    case POOL_LOST:
        pool->counts.lost++;
        if (is_of_hold)
            watch->news.counts.n_lost++;
        break;
    case POOL_UNKNOWN:
        pool->counts.unknown++;
        if (is_of_hold)
            watch->news.counts.n_unknown++;
        break;
    }
}

void pools_begin_holds(struct pools *pools)
{
    list_init(&pools->hold_watches);
    ev_timer_init(&pools->hold_looks, on_looks, LOOK_S, LOOK_S);
}

void pools_end_holds(struct pools *pools)
{
    ev_timer_stop(pools->loop->ev, &pools->hold_looks);
    LIST_EACH_SAFE(item, &pools->hold_watches)
    {
        end_watch(pools, CONTAINER_OF(item, struct hold_watch, in_pools));
    }
}
