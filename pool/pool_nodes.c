#include "pool/pool_inside.h"

#include "core/memory.h"

static bool is_usable_replica(const struct topology_node *node)
{
    return node->role == NODE_REPLICA && node->is_replica_for_all && !node->is_lagging;
}

static bool has_role(const struct topology_cluster *cluster, size_t index,
                     enum listener_role role)
{
    const struct topology_node *node = &cluster->nodes[index];
    bool is_primary = cluster->primary == (int)index;

    if (!node->is_up || node->n_addresses == 0 || node->is_draining)
        return false;
    switch (role) {
    case ROLE_PRIMARY:
        return is_primary || node->serves_any_role;
    case ROLE_REPLICA:
        return node->serves_any_role || is_usable_replica(node) ||
               (is_primary && cluster->is_primary_for_all);
    case ROLE_READ_ONLY:
        return is_primary || node->serves_any_role || is_usable_replica(node);
    case ROLE_ANY:
        return true;
    case ROLE_DEFAULT: /* settled when the configuration was loaded */
        break;
    }
    UNREACHABLE();
}

/* Not while it may be about to lose the role. */
static bool takes_role(const struct topology_cluster *cluster, size_t index,
                       enum listener_role role)
{
    if (cluster->hold != 0 && (role == ROLE_PRIMARY || cluster->nodes[index].is_leaving))
        return false;
    return has_role(cluster, index, role);
}

static struct pool_branch *find_branch(struct pool *pool, uint32_t node_id)
{
    LIST_EACH(item, &pool->branches)
    {
        struct pool_branch *branch = CONTAINER_OF(item, struct pool_branch, in_pool);

        if (branch->node_id == node_id)
            return branch;
    }
    return NULL;
}

struct pool_branch *pool_get_branch(struct pool *pool, uint32_t node_id)
{
    struct pools *pools = pool->pools;
    struct pool_branch *branch = find_branch(pool, node_id);
    struct ledger_todo todo = {0};
    struct ledger_limit *limit;

    if (branch != NULL)
        return branch;
    branch = memory_zeroed(sizeof *branch);
    limit = accounts_node_limit(pools->accounts, node_id,
                                pool->terms.max_node_connections, &todo);
    pools_post(pools, &todo);
    if (branch != NULL && limit != NULL)
        branch->ledger_branch =
            ledger_branch_hold(pools->ledger, pool->ledger_pool, limit);
    if (branch == NULL || branch->ledger_branch == NULL) {
        memory_free(branch);
        return NULL;
    }
    branch->node_id = node_id;
    branch->pool = pool;
    list_append(&pool->branches, &branch->in_pool);
    table_add(&pools->by_branch, &branch->in_table,
              table_hash(&pools->by_branch, &branch->ledger_branch,
                         sizeof branch->ledger_branch));
    return branch;
}

const struct topology_cluster *pool_cluster(const struct pool *pool)
{
    return pool->pools->topology == NULL
               ? NULL
               : topology_cluster(pool->pools->topology, pool->cluster);
}

/* The node with the n-th share of those that could be asked for a server now; NULL when
 * there are not so many. `*n_usable` is how many nodes there are. */
static struct pool_branch *usable_branch(struct pool *pool, unsigned n,
                                         unsigned *n_usable, unsigned *n_shares)
{
    const struct topology_cluster *cluster = pool_cluster(pool);
    uint64_t now_ms = loop_now_ms(pool->pools->loop);
    struct pool_branch *found = NULL;

    *n_usable = *n_shares = 0;
    if (pool_is_paused(pool))
        return NULL;
    for (size_t i = 0; cluster != NULL && i < cluster->n_nodes; i++) {
        struct pool_branch *branch;

        if (!takes_role(cluster, i, pool->terms.role))
            continue;
        branch = pool_get_branch(pool, cluster->nodes[i].id);
        if (branch == NULL || branch->retry_at_ms > now_ms)
            continue;
        (*n_usable)++;
        *n_shares += node_share(&cluster->nodes[i]);
        if (found == NULL && n < *n_shares)
            found = branch;
    }
    return found;
}

/* The node on which a server is to be opened next, by turns; NULL when there is none. */
struct pool_branch *pool_choose_branch(struct pool *pool)
{
    unsigned n_usable, n_shares, n;
    struct pool_branch *first = usable_branch(pool, 0, &n_usable, &n_shares);

    if (n_usable <= 1 || pool->terms.takes_first_node)
        return first;
    n = node_turn(pool->pools->turn++, n_usable, n_shares);
    return usable_branch(pool, n, &n_usable, &n_shares);
}

static bool asks_of_node(const struct pool *pool, uint32_t node_id,
                         bool (*has)(const struct topology_cluster *cluster, size_t index,
                                     enum listener_role role))
{
    const struct topology_cluster *cluster = pool_cluster(pool);

    for (size_t i = 0; cluster != NULL && i < cluster->n_nodes; i++)
        if (cluster->nodes[i].id == node_id)
            return has(cluster, i, pool->terms.role);
    return false;
}

bool pool_may_have(const struct pool *pool, uint32_t node_id)
{
    if (pool_is_paused(pool) && !pool_is_private(pool))
        return false;
    return asks_of_node(pool, node_id, takes_role);
}

/* A lagging replica, or one that is drained, finishes what it has. */
static bool keeps_role(const struct topology_cluster *cluster, size_t index,
                       enum listener_role role)
{
    const struct topology_node *node = &cluster->nodes[index];
    bool is_primary = cluster->primary == (int)index || node->serves_any_role;
    bool is_replica =
        node->role == NODE_REPLICA || (cluster->has_ro_fallback && is_primary);

    if (!node->is_up)
        return false;
    switch (role) {
    case ROLE_PRIMARY:
        return is_primary;
    case ROLE_REPLICA:
        return is_replica || node->serves_any_role;
    case ROLE_READ_ONLY:
        return is_primary || is_replica;
    case ROLE_ANY:
        return true;
    case ROLE_DEFAULT: /* settled when the configuration was loaded */
        break;
    }
    UNREACHABLE();
}

bool pool_may_keep(const struct pool *pool, uint32_t node_id)
{
    return asks_of_node(pool, node_id, keeps_role);
}

const struct topology_node *pool_usable_node(struct pool *pool, uint32_t node_id)
{
    return pool_may_have(pool, node_id) ? topology_node(pool->pools->topology, node_id)
                                        : NULL;
}

bool pool_is_held(const struct pool *pool)
{
    const struct topology_cluster *cluster = pool_cluster(pool);

    return cluster != NULL && cluster->hold != 0 && pool->terms.role == ROLE_PRIMARY;
}

bool pool_refuses(const struct pool *pool)
{
    const struct topology_cluster *cluster = pool_cluster(pool);

    return cluster != NULL && cluster->refuses_read_only &&
           pool->terms.role == ROLE_REPLICA;
}
