#include "pool/pool_inside.h"

#include "core/log.h"

/* How often idle servers are looked at for their age. */
#define UPKEEP_S 0.25
/* A node that stops in good order ends its servers within that time, and says so: a
 * frozen one, or one that is out of reach, never does. */
#define CUT_AFTER_MS 1000
/* The same once another node is proven to be the primary. */
#define CUT_AFTER_PROOF_MS 100
#define CUTS_S 0.05

/* The nodes may be asked again at once. */
static void forget_refusals(struct pool *pool)
{
    LIST_EACH(item, &pool->branches)
    {
        CONTAINER_OF(item, struct pool_branch, in_pool)->retry_at_ms = 0;
    }
}

/* The primary has not come in time: whoever waits for it is told so. */
static void refuse_after_hold(struct pool *pool)
{
    const struct topology_cluster *cluster = pool_cluster(pool);

    if (cluster == NULL || cluster->failed_hold == 0)
        return;
    LIST_EACH_SAFE(item, &pool->needs)
    {
        struct need *need = CONTAINER_OF(item, struct need, in_pool);
        void *client = need->client;

        if (need->branch != NULL || need->failed_hold == cluster->failed_hold)
            continue;
        need_end(need);
        pool->pools->events->on_hold_failed(client, cluster->why_no_primary);
    }
}

static void refuse_read_only(struct pool *pool)
{
    LIST_EACH_SAFE(item, &pool->needs)
    {
        struct need *need = CONTAINER_OF(item, struct need, in_pool);
        void *client = need->client;

        if (need->branch != NULL)
            continue;
        need_end(need);
        pool->pools->events->on_no_replica(client);
    }
}

static void note_role(struct member *member, bool has_it)
{
    struct pools *pools = member->pool->pools;

    if (!has_it && !member->has_lost_role)
        member->lost_role_at_ms = loop_now_ms(pools->loop);
    member->has_lost_role = !has_it;
    if (has_it || ev_is_active(&pools->cuts))
        return;
    ev_timer_set(&pools->cuts, CUTS_S, CUTS_S);
    ev_timer_start(pools->loop->ev, &pools->cuts);
}

static bool has_other_primary(const struct pool *pool, uint32_t node_id)
{
    const struct topology_cluster *cluster = pool_cluster(pool);

    return cluster != NULL && cluster->hold == 0 && cluster->primary >= 0 &&
           cluster->nodes[cluster->primary].id != node_id;
}

static bool is_to_be_cut(const struct member *member, uint64_t now_ms)
{
    enum pooled_state state = member->pooled.state;
    uint64_t after_ms = has_other_primary(member->pool, member->branch->node_id)
                            ? CUT_AFTER_PROOF_MS
                            : CUT_AFTER_MS;

    return now_ms - member->lost_role_at_ms >= after_ms &&
           (state == POOLED_ACTIVE || state == POOLED_TUNING || state == POOLED_CLEANING);
}

/* Whether any are left. */
static bool cut_servers(struct pool *pool, uint64_t now_ms)
{
    bool are_left = false;

    LIST_EACH_SAFE(item, &pool->busy)
    {
        struct member *member = member_in(item);

        if (!member->has_lost_role)
            continue;
        are_left = true;
        if (is_to_be_cut(member, now_ms))
            pooled_cut(&member->pooled, "its node has lost the role");
    }
    return are_left;
}

static void on_cuts(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct pools *pools = CONTAINER_OF(timer, struct pools, cuts);
    bool are_left = false;

    (void)events;
    LIST_EACH(item, &pools->pools)
    {
        are_left |= cut_servers(CONTAINER_OF(item, struct pool, in_pools),
                                loop_now_ms(pools->loop));
    }
    if (!are_left)
        ev_timer_stop(ev, timer);
}

/* Servers whose node has lost the role are never lent again; who waits, waits elsewhere.
 */
void pool_follow_topology(struct pool *pool)
{
    forget_refusals(pool);
    LIST_EACH_SAFE(item, &pool->idle)
    {
        if (!pool_may_have(pool, member_in(item)->branch->node_id))
            member_close_idle(member_in(item));
    }
    LIST_EACH_SAFE(item, &pool->busy)
    {
        struct member *member = member_in(item);

        if (member->pooled.wants == POOLED_WANTS_LATER) {
            member_follow_hold(member);
            continue;
        }
        member->is_doomed = !pool_may_have(pool, member->branch->node_id);
        note_role(member, pool_may_keep(pool, member->branch->node_id));
        if (member->is_doomed && (member->pooled.state == POOLED_CONNECTING ||
                                  member->pooled.state == POOLED_LOGIN ||
                                  member->pooled.state == POOLED_PROVING))
            member_close(member);
        else if (member->pooled.state == POOLED_ACTIVE &&
                 (member->has_lost_role || (member->is_doomed && pool_is_private(pool))))
            pool->pools->events->on_doomed(member->pooled.client);
    }
    LIST_EACH_SAFE(item, &pool->needs)
    {
        struct need *need = CONTAINER_OF(item, struct need, in_pool);

        if (need->branch != NULL && pool_may_have(pool, need->branch->node_id))
            continue;
        need_leave_line(need);
        need_stand_in_line(need);
    }
    pool_prewarm(pool);
    refuse_after_hold(pool);
    if (pool_refuses(pool))
        refuse_read_only(pool);
}

/* The node that takes clients again who had to wait for a primary; NULL: none does. */
static const struct topology_node *resumed_on(const struct topology_cluster *before,
                                              const struct topology_cluster *now)
{
    if (now == NULL || now->hold != 0 || now->primary < 0)
        return NULL;
    if (before != NULL && before->hold == 0 && before->primary >= 0 &&
        before->nodes[before->primary].id == now->nodes[now->primary].id)
        return NULL;
    return &now->nodes[now->primary];
}

/* Who has waited for a primary stands in line, on all workers, before the first login. */
static void muster(struct pool *pool, const struct topology *before)
{
    const struct topology_node *node =
        pool->terms.role != ROLE_PRIMARY || pool->needs.n == 0
            ? NULL
            : resumed_on(before == NULL ? NULL : topology_cluster(before, pool->cluster),
                         pool_cluster(pool));
    struct pool_branch *branch = node == NULL ? NULL : pool_get_branch(pool, node->id);

    if (branch != NULL)
        ledger_muster(pool->pools->ledger, branch->ledger_branch->limits[LEDGER_NODE],
                      pool->pools->topology->generation, pool->pools->loop->now_ns);
}

void pools_set_topology(struct pools *pools, struct topology *topology)
{
    struct topology *before = pools->topology;
    struct ledger_todo todo = {0};

    topology_hold(topology);
    pools->topology = topology;
    LIST_EACH(item, &pools->pools)
    {
        muster(CONTAINER_OF(item, struct pool, in_pools), before);
    }
    topology_release(before);
    LIST_EACH(item, &pools->pools)
    {
        pool_follow_topology(CONTAINER_OF(item, struct pool, in_pools));
    }
    ledger_followed(pools->ledger, pools->worker, topology->generation, &todo);
    pools_post(pools, &todo);
    pools_follow_holds(pools);
    pools_pursue(pools);
}

void pools_set_security(struct pools *pools, struct security *security)
{
    const struct security *before = pools->home.security;
    bool is_another = before != NULL && before->generation != security->generation;

    LIST_EACH(item, &pools->pools)
    {
        if (is_another)
            forget_refusals(CONTAINER_OF(item, struct pool, in_pools));
    }
    security_release(pools->home.security);
    pools->home.security = security_hold(security);
}

static unsigned n_servers(const struct pool *pool)
{
    return ledger_pool_view(pool->pools->ledger, pool->ledger_pool,
                            pool->pools->loop->now_ns)
        .n_used;
}

static bool open_in_advance(struct pool *pool)
{
    struct pool_branch *branch = pool_choose_branch(pool);

    return branch != NULL && pool_open_one(pool, branch);
}

/* Workers take turns, so that two do not open the same one. */
static bool has_turn(const struct pools *pools, uint64_t now_ms)
{
    return now_ms / (uint64_t)(UPKEEP_S * 1e3) % pools->n_workers == pools->worker;
}

/* Not all may log in at a time. */
void pool_fill(struct pool *pool)
{
    unsigned n = n_servers(pool);

    while (n < pool->terms.min_pool_size && open_in_advance(pool))
        n++;
    pool->is_filling = n < pool->terms.min_pool_size;
}

static void keep_filled(struct pool *pool, uint64_t now_ms)
{
    if (pool->terms.min_pool_size > 0 && has_turn(pool->pools, now_ms))
        pool_fill(pool);
}

static void close_aged(struct pool *pool, uint64_t now_ms)
{
    LIST_EACH_SAFE(item, &pool->idle)
    {
        struct member *member = member_in(item);
        bool is_unused = pool->terms.idle_ms > 0 &&
                         now_ms >= member->pooled.used_at_ms + pool->terms.idle_ms;

        if (member_is_old(member) ||
            (is_unused && n_servers(pool) > pool->terms.min_pool_size))
            member_close_idle(member);
    }
}

static void look_at_need(struct need *need, uint64_t now_ms)
{
    struct pools *pools = need->pool->pools;
    uint64_t waited_ms = now_ms - need->waiter.since_ns / 1000000u;
    uint64_t reserve_after_ms = need->pool->terms.reserve_after_ms;

    if (need->branch == NULL)
        need_stand_in_line(need);
    if (need->branch != NULL && !need->has_asked_reserve && reserve_after_ms > 0 &&
        waited_ms >= reserve_after_ms) {
        struct ledger_todo todo = {0};

        need->has_asked_reserve = true;
        ledger_ask_reserve(pools->ledger, &need->waiter, &todo);
        pools_post(pools, &todo);
    }
    if (!need->is_told)
        need->is_told = pools->events->on_long_wait(need->client, waited_ms);
}

/* Time is told by sampling: the hot path looks at no clock for it. */
static void look_at_lease(struct member *member, uint64_t now_ms)
{
    const struct pooled *server = &member->pooled;
    const struct flow *flow = &server->flow;
    struct watch *watch = &member->watch;
    bool is_answering = flow_is_answering(flow);
    uint64_t lent_at_ms = server->lent_at_ns / 1000000u, quiet_ms;

    if (watch->n_forwarded != flow->n_forwarded || watch->n_answered != flow->n_answered)
        watch->moved_at_ms = now_ms;
    if (watch->n_rests != server->n_rests || flow_is_at_rest(flow))
        watch->began_at_ms = now_ms;
    watch->n_forwarded = flow->n_forwarded;
    watch->n_answered = flow->n_answered;
    watch->n_rests = server->n_rests;
    quiet_ms = now_ms - watch->moved_at_ms;
    member->pool->pools->events->on_look(
        server->client,
        &(struct pool_look){
            .query_ms = is_answering ? quiet_ms : 0,
            .idle_ms = !is_answering && flow_is_in_transaction(flow) ? quiet_ms : 0,
            .transaction_ms =
                now_ms -
                (watch->began_at_ms > lent_at_ms ? watch->began_at_ms : lent_at_ms),
        });
}

static void keep_up(struct pool *pool, uint64_t now_ms)
{
    close_aged(pool, now_ms);
    LIST_EACH_SAFE(item, &pool->busy)
    {
        struct member *member = member_in(item);

        if (member->pooled.state == POOLED_ACTIVE)
            look_at_lease(member, now_ms);
    }
    LIST_EACH_SAFE(item, &pool->needs)
    {
        look_at_need(CONTAINER_OF(item, struct need, in_pool), now_ms);
    }
    keep_filled(pool, now_ms);
    pool_keep_prewarmed(pool);
}

/* Of a database that has no line of its own, without clients and servers for long; or a
 * private one. */
static bool is_forgotten(struct pool *pool, uint64_t now_ms)
{
    if (pool->n_clients > 0 || pool->n_awaited > 0 || pool->n_private > 0 ||
        pool->idle.n > 0 || pool->busy.n > 0)
        pool->used_at_ms = now_ms;
    else if (pool_is_private(pool))
        return true;
    return pool->terms.forget_after_ms > 0 &&
           now_ms - pool->used_at_ms >= pool->terms.forget_after_ms;
}

/* What a private pool has counted belongs to its base. */
static void leave_base(struct pool *pool)
{
    pool->base->n_private--;
    pool_counts_add(&pool->base->counts, &pool->counts);
}

static void forget_pool(struct pools *pools, struct pool *pool)
{
    if (pool_is_private(pool))
        leave_base(pool);
    else
        LOG(DEBUG, "database forgotten", TEXT("database", pool->account->name),
            TEXT("user", pool->account->user), NUMBER("worker", pools->worker));
    list_remove(&pools->pools, &pool->in_pools);
    pool_free(pool);
}

static void on_upkeep(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct pools *pools = CONTAINER_OF(timer, struct pools, upkeep);
    uint64_t now_ms = loop_now_ms(pools->loop);
    struct ledger_todo todo = {0};

    (void)ev;
    (void)events;
    ledger_end_late_musters(pools->ledger, pools->loop->now_ns, &todo);
    pools_post(pools, &todo);
    LIST_EACH_SAFE(item, &pools->pools)
    {
        struct pool *pool = CONTAINER_OF(item, struct pool, in_pools);

        keep_up(pool, now_ms);
        if (is_forgotten(pool, now_ms))
            forget_pool(pools, pool);
    }
    pools_pursue(pools);
}

void pools_begin_upkeep(struct pools *pools)
{
    ev_timer_init(&pools->cuts, on_cuts, CUTS_S, CUTS_S);
    ev_timer_init(&pools->upkeep, on_upkeep, UPKEEP_S, UPKEEP_S);
    ev_timer_start(pools->loop->ev, &pools->upkeep);
}
