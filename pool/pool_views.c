#include "pool/pool_inside.h"

struct guest *pool_enter(struct pool *pool, const char *user)
{
    struct guest *guest = guests_enter(&pool->guests, user);

    pool->n_clients += guest != NULL;
    return guest;
}

void pool_leave(struct pool *pool, struct guest *guest)
{
    guests_leave(&pool->guests, guest);
    pool->n_clients--;
}

static void survey_busy(const struct pooled *server, struct pool_survey *survey)
{
    survey->n_cancels += server->n_cancels;
    switch (server->state) {
    case POOLED_CONNECTING:
    case POOLED_LOGIN:
        survey->n_opening++;
        break;
    case POOLED_IDLE:
    case POOLED_MOVING:
        survey->n_aimed_at += server->n_cancels > 0;
        survey->n_idle += server->n_cancels == 0;
        break;
    case POOLED_TUNING:
    case POOLED_ACTIVE:
        survey->n_active++;
        break;
    case POOLED_PROVING:
    case POOLED_CLEANING:
        survey->n_testing++;
        break;
    case POOLED_WARM:
        survey->n_warm++;
        break;
    case POOLED_CLOSING:
    case POOLED_STATE_COUNT:
        break;
    }
}

static void survey_idle(const struct pooled *server, struct pool_survey *survey)
{
    if (pool_check_query(server) != NULL)
        survey->n_to_check++;
    else
        survey->n_idle++;
}

static void survey_need(const struct need *need, struct pool_survey *survey)
{
    survey->longest_wait_ns = need->pool->pools->loop->now_ns - need->waiter.since_ns;
    pool_why_waiting(need, survey->why);
}

void pool_survey(const struct pool *pool, struct pool_survey *survey)
{
    struct link *first = list_first(&pool->needs);

    *survey = (struct pool_survey){0};
    account_get_why(pool->account, survey->why);
    LIST_EACH(item, &pool->idle)
    {
        survey_idle(&member_in(item)->pooled, survey);
    }
    LIST_EACH(item, &pool->busy)
    {
        survey_busy(&member_in(item)->pooled, survey);
    }
    if (first != NULL)
        survey_need(CONTAINER_OF(first, struct need, in_pool), survey);
}

static void keep_next(const struct list *servers, uint64_t after_id, struct member **next)
{
    LIST_EACH(item, servers)
    {
        struct member *member = member_in(item);

        if (member->pooled.id > after_id &&
            (*next == NULL || member->pooled.id < (*next)->pooled.id))
            *next = member;
    }
}

const struct pooled *pool_next_server(const struct pool *pool, uint64_t after_id,
                                      bool *is_doomed)
{
    struct member *next = NULL;

    keep_next(&pool->idle, after_id, &next);
    keep_next(&pool->busy, after_id, &next);
    if (next == NULL)
        return NULL;
    *is_doomed = member_is_to_be_closed(next);
    return &next->pooled;
}

struct pool *pools_at(const struct pools *pools, uint32_t number)
{
    LIST_EACH(item, &pools->pools)
    {
        struct pool *pool = CONTAINER_OF(item, struct pool, in_pools);

        if (pool->number >= number)
            return pool;
    }
    return NULL;
}
