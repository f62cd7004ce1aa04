#include "pool/pool_inside.h"

#include <stdio.h>
#include <string.h>

#include "core/memory.h"

#define CLEANING_MS 5000
/* A hand-over costs as much as a few leases of short queries: a waiter elsewhere is worth
 * it when it has waited longer by so many leases, and by this. */
#define HANDOVER_LEASES 20u
#define HANDOVER_MIN_NS 200000u
/* A lease counts for so much of the mean. */
#define MEAN_OF_LEASES 8

/* ---- needs --------------------------------------------------------------------------
 */

static void free_need(struct deferred *end)
{
    struct need *need = CONTAINER_OF(end, struct need, end);

    need->pool->n_awaited--;
    slab_give(need->pool->pools->needs, need);
}

/* Its memory is ours again when no notice is under way to it. */
void need_end_if_unexpected(struct need *need)
{
    if (need->client != NULL || ledger_waiter_is_expected(&need->waiter))
        return;
    need->end.run = free_need;
    loop_defer(need->pool->pools->loop, &need->end);
}

void need_stand_in_line(struct need *need)
{
    struct pools *pools = need->pool->pools;
    struct ledger_todo todo = {0};

    need->branch = pool_choose_branch(need->pool);
    if (need->branch == NULL)
        return; /* until the topology changes, or the retry's time comes */
    need->waiter.branch = need->branch->ledger_branch;
    ledger_join(pools->ledger, &need->waiter, &todo);
    pools_post(pools, &todo);
}

void need_leave_line(struct need *need)
{
    struct ledger_todo todo = {0};

    if (need->branch != NULL)
        ledger_withdraw(need->pool->pools->ledger, &need->waiter, &todo);
    need->branch = NULL;
    pools_post(need->pool->pools, &todo);
}

/* The client has what it needs, or leaves. */
void need_end(struct need *need)
{
    list_remove(&need->pool->needs, &need->in_pool);
    need->client = NULL;
    need_end_if_unexpected(need);
}

void pool_forget(struct need *need)
{
    need_leave_line(need);
    need_end(need);
}

void pool_why_waiting(const struct need *need, char why[ACCOUNT_WHY_MAX])
{
    const char *limit = need->branch == NULL
                            ? NULL
                            : ledger_blocking(need->pool->pools->ledger, &need->waiter);

    if (pool_is_paused(need->pool))
        snprintf(why, ACCOUNT_WHY_MAX, "the database is paused (PAUSE, KILL)");
    else if (pool_is_held(need->pool))
        snprintf(why, ACCOUNT_WHY_MAX, "%s",
                 pool_cluster(need->pool)->primary < 0
                     ? pool_cluster(need->pool)->why_no_primary
                     : "the primary is about to change");
    else if (limit != NULL)
        snprintf(why, ACCOUNT_WHY_MAX, "%s", limit);
    else
        account_get_why(need->pool->account, why);
    if (*why == '\0')
        snprintf(why, ACCOUNT_WHY_MAX, "%s",
                 need->branch == NULL ? "no server of the wanted role"
                                      : "a server is being opened");
}

/* ---- servers: lent, idle, closed ----------------------------------------------------
 */

static void free_member(struct deferred *end)
{
    memory_free(CONTAINER_OF(end, struct member, end));
}

void member_end(struct loop *loop, struct member *member)
{
    member->end.run = free_member;
    loop_defer(loop, &member->end);
}

/* It is in the list of those that are busy. */
void member_close(struct member *member)
{
    struct pool *pool = member->pool;
    struct ledger_todo todo = {0};

    list_remove(&pool->busy, &member->pooled.in_owner);
    pooled_close(&member->pooled);
    ledger_give(pool->pools->ledger, &member->pooled.slot, &todo);
    if (member->is_expected)
        member_is_here(pool);
    member->is_expected = false;
    if (member->heir != NULL)
        member_send_to_heir(member);
    else if (member->pooled.n_cancels == 0)
        member_end(pool->pools->loop, member);
    else
        pool->n_awaited++;
    pools_post(pool->pools, &todo);
}

/* Nobody wants it now. */
static void keep_idle(struct member *member)
{
    struct pool *pool = member->pool;

    list_remove(&pool->busy, &member->pooled.in_owner);
    if (pool->terms.takes_turns)
        list_append(&pool->idle, &member->pooled.in_owner);
    else
        list_prepend(&pool->idle, &member->pooled.in_owner);
    member->is_idle = true;
}

static void note_wait(struct pool *pool, uint64_t waited_ns)
{
    pool->counts.wait_time += waited_ns;
    pool_time_count(&pool->times, POOL_TIME_wait, waited_ns);
}

void member_lend(struct member *member, struct ledger_waiter *waiter)
{
    struct need *need = need_of(waiter);
    void *client = need->client;

    note_wait(member->pool, member->pool->pools->loop->now_ns - need->waiter.since_ns);
    if (member->pool->pools->hold_watches.n > 0)
        pools_note_held(member->pool->pools, need);
    need->branch = NULL;
    need_end(need);
    member->pool->pools->events->on_lent(client, &member->pooled);
}

/* How much longer another worker's client must have waited than ours. */
static uint64_t window_of(const struct pool *pool)
{
    uint64_t window_ns = pool->mean_lease_ns * HANDOVER_LEASES;

    if (window_ns < HANDOVER_MIN_NS)
        window_ns = HANDOVER_MIN_NS;
    return window_ns < pool->terms.handover_after_ns ? window_ns
                                                     : pool->terms.handover_after_ns;
}

/* Somebody may want it: it is in hand, and in the list of those that are busy. */
void member_offer(struct member *member)
{
    struct pool *pool = member->pool;
    struct ledger_offer terms = {.slot = &member->pooled.slot,
                                 .worker = pool->pools->worker,
                                 .window_ns = window_of(pool),
                                 .may_leave = pooled_may_move(&member->pooled)};
    struct ledger_waiter *waiter = NULL;
    struct ledger_todo todo = {0};
    enum ledger_use use = ledger_serve(pool->pools->ledger, &terms, &waiter, &todo);

    pools_post(pool->pools, &todo);
    switch (use) {
    case LEDGER_KEEP:
        keep_idle(member);
        break;
    case LEDGER_LEND:
        member_lend(member, waiter);
        break;
    case LEDGER_HAND:
        member_hand_over(member, waiter);
        break;
    case LEDGER_CLOSE:
        member_close(member);
        break;
    }
}

bool member_is_old(const struct member *member)
{
    const struct security *security = member->pool->pools->home.security;
    uint64_t lifetime_ms = member->pool->terms.lifetime_ms;

    if (member_is_to_be_closed(member))
        return true;
    if (security != NULL && member->pooled.generation != security->generation)
        return true;      /* servers are spoken to in another way now */
    if (lifetime_ms == 0) /* each is used once */
        return member->pooled.lent_at_ns != 0;
    return loop_now_ms(member->pool->pools->loop) >=
           member->pooled.opened_at_ms + lifetime_ms;
}

/* An IDLE one that is in nobody's hands. */
void member_put_away(struct member *member)
{
    struct pool *pool = member->pool;

    if (member->pooled.n_cancels > 0) {
        return; /* pool_aimed() goes on */
    } else if (member->is_doomed || member->is_spoiled || member_is_old(member) ||
               pool_is_private(pool)) {
        member_close(member);
    } else if (ledger_rest(member->branch->ledger_branch, pool->pools->worker)) {
        keep_idle(member);
    } else {
        member_offer(member);
    }
}

/* Out of the idle ones, into our hand. */
void member_pick(struct member *member)
{
    list_remove(&member->pool->idle, &member->pooled.in_owner);
    list_append(&member->pool->busy, &member->pooled.in_owner);
    member->is_idle = false;
}

void member_close_idle(struct member *member)
{
    ledger_hide(member->branch->ledger_branch, member->pool->pools->worker);
    member_pick(member);
    member_close(member);
}

const char *pool_check_query(const struct pooled *server)
{
    const struct pool *pool = member_of(server)->pool;
    uint64_t rested_ms = loop_now_ms(pool->pools->loop) - server->used_at_ms;

    if (rested_ms < pool->terms.check_delay_ms || *pool->check_query == '\0')
        return NULL;
    return strcmp(pool->check_query, "<empty>") == 0 ? "" : pool->check_query;
}

static uint64_t failed_hold(const struct pool *pool)
{
    const struct topology_cluster *cluster = pool_cluster(pool);

    return cluster == NULL ? 0 : cluster->failed_hold;
}

enum pool_answer pool_take(struct pool *pool, void *client, struct pooled **server,
                           struct need **need)
{
    struct link *first = list_first(&pool->idle);
    struct need *made;

    if (first != NULL &&
        ledger_lend(member_in(first)->branch->ledger_branch, pool->pools->worker)) {
        member_pick(member_in(first));
        note_wait(pool, 0);
        *server = &member_in(first)->pooled;
        return POOL_LENT;
    }
    made = slab_take(pool->pools->needs);
    if (made == NULL)
        return POOL_NO_MEMORY;
    made->pool = pool;
    made->client = client;
    made->waiter.since_ns = pool->pools->loop->now_ns;
    made->waiter.worker = (uint16_t)pool->pools->worker;
    made->failed_hold = failed_hold(pool);
    pool->n_awaited++;
    list_append(&pool->needs, &made->in_pool);
    need_stand_in_line(made);
    *need = made;
    return POOL_WAITS;
}

static void note_lease(struct pool *pool, uint64_t lent_at_ns)
{
    int64_t lease_ns = (int64_t)(pool->pools->loop->now_ns - lent_at_ns);

    pool->mean_lease_ns =
        (uint64_t)((int64_t)pool->mean_lease_ns +
                   (lease_ns - (int64_t)pool->mean_lease_ns) / MEAN_OF_LEASES);
}

/* A private one's, which nobody else may have. */
static void end_private(struct member *member)
{
    bool is_at_rest = pooled_is_at_rest(&member->pooled);

    /* For an orderly goodbye. */
    REQUIRE(!is_at_rest || pooled_take_back(&member->pooled, NULL, 0));
    member->pooled.lease = NULL;
    member->pooled.client = NULL;
    member_close(member);
}

void pool_give(struct pooled *server, bool is_reset)
{
    struct member *member = member_of(server);
    const char *query = member->pool->reset_query;

    if (pool_is_private(member->pool)) {
        end_private(member);
        return;
    }
    note_lease(member->pool, server->lent_at_ns);
    is_reset = is_reset || member->pool->terms.resets_always;
    if (pooled_take_back(server, is_reset && *query != '\0' ? query : NULL, CLEANING_MS))
        member_put_away(member);
}

void pool_aim(struct pooled *server)
{
    server->n_cancels++;
}

void pool_aimed(struct pooled *server, bool is_over)
{
    if (!is_over)
        member_of(server)->is_spoiled = true;
    if (--server->n_cancels > 0)
        return;
    if (server->state == POOLED_CLOSING) {
        member_of(server)->pool->n_awaited--;
        member_end(member_of(server)->pool->pools->loop, member_of(server));
    } else if (server->state == POOLED_IDLE) {
        member_put_away(member_of(server));
    }
}

bool pool_is_doomed(struct pooled *server)
{
    return member_of(server)->has_lost_role;
}
