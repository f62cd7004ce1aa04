/* pool/pool_halts.c - what an operator says of databases, in a worker's pools. */
#include <string.h>

#include "pool/pool_inside.h"

static bool is_of(const struct pool *pool, const char *database)
{
    return *database == '\0' || strcmp(pool->account->name, database) == 0;
}

bool pools_halt(struct pools *pools, const char *database, enum halt_kind kind, bool on)
{
    if (!halts_set(&pools->halts, database, kind, on))
        return false;
    LIST_EACH(item, &pools->pools)
    {
        struct pool *pool = CONTAINER_OF(item, struct pool, in_pools);

        if (kind == HALT_PAUSED && is_of(pool, database))
            pool_follow_topology(pool);
    }
    return true;
}

bool pools_has_halt(const struct pools *pools, const char *database, enum halt_kind kind)
{
    return halts_has(&pools->halts, database, kind);
}

bool pool_is_paused(const struct pool *pool)
{
    return halts_has(&pool->pools->halts, pool->account->name, HALT_PAUSED);
}

static void renew(struct pool *pool)
{
    pool->renewed_at_ms = loop_now_ms(pool->pools->loop);
    LIST_EACH_SAFE(item, &pool->idle)
    {
        member_close_idle(member_in(item));
    }
}

void pools_renew(struct pools *pools, const char *database)
{
    LIST_EACH(item, &pools->pools)
    {
        struct pool *pool = CONTAINER_OF(item, struct pool, in_pools);

        if (is_of(pool, database))
            renew(pool);
    }
}

bool member_is_to_be_closed(const struct member *member)
{
    return member->is_doomed ||
           (member->pool->renewed_at_ms != 0 &&
            member->pooled.opened_at_ms <= member->pool->renewed_at_ms);
}

void pools_count_servers(const struct pools *pools, const char *database,
                         unsigned *n_servers, unsigned *n_to_close)
{
    LIST_EACH(item, &pools->pools)
    {
        const struct pool *pool = CONTAINER_OF(item, struct pool, in_pools);

        if (!is_of(pool, database))
            continue;
        *n_servers += (unsigned)(pool->idle.n + pool->busy.n);
        LIST_EACH(one, &pool->busy)
        {
            *n_to_close += member_is_to_be_closed(member_in(one));
        }
    }
}
