#include "pool/pool.h"

#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "core/memory.h"

/* How often idle servers are looked at for their age. */
#define UPKEEP_S 0.25
#define CLEANING_MS 5000
/* A hand-over costs as much as a few leases of short queries: a waiter elsewhere is worth
 * it when it has waited longer by so many leases, and by this. */
#define HANDOVER_LEASES 20u
#define HANDOVER_MIN_NS 200000u
/* A lease counts for so much of the mean. */
#define MEAN_OF_LEASES 8

/* What a pool has on one node. */
struct pool_branch {
    struct link in_pool;
    struct ledger_branch *ledger_branch; /* held */
    uint32_t node_id;
    uint64_t retry_at_ms; /* after a login that failed; 0 = at once */
};

/* What keep_up() has seen of a server that is lent. */
struct watch {
    uint32_t n_forwarded, n_answered; /* of its flow */
    uint32_t n_rests;
    uint64_t moved_at_ms; /* when one of the former was another */
    uint64_t began_at_ms; /* the same of n_rests: its transaction */
};

/* A server, and what the pool knows of it. Not in a slab: it may change its worker. */
struct member {
    struct pooled pooled;
    struct watch watch;
    struct pool *pool;
    struct pool_branch *branch;
    struct deferred end;
    struct ledger_waiter *heir; /* to whom it goes, in another worker */
    struct pools *to;           /* that worker's */
    struct message message;     /* its way there */
    bool is_open;               /* it has logged in, and the connect query is answered */
    bool is_idle;               /* in the pool's list of these */
    bool is_doomed;             /* its node has lost the role: not to be lent again */
    bool is_spoiled;            /* a cancel request may hit it at any time: likewise */
};

static const struct pooled_events pooled_events;

static struct member *member_of(const struct pooled *server)
{
    return CONTAINER_OF(server, struct member, pooled);
}

static struct member *member_in(struct link *link)
{
    return CONTAINER_OF(link, struct member, pooled.in_owner);
}

/* ---- notices ------------------------------------------------------------------------
 */

static void on_notice(struct message *message, void *receiver);

void pools_post(struct pools *pools, struct ledger_todo *todo)
{
    struct ledger_notice *notice;

    while ((notice = ledger_todo_next(todo)) != NULL)
        mailbox_post(pools->all[notice->worker]->mailbox, &notice->message, on_notice);
}

/* ---- which node ---------------------------------------------------------------------
 */

static bool takes_role(const struct topology_cluster *cluster, size_t index,
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
        return node->serves_any_role || (node->role == NODE_REPLICA &&
                                         node->is_replica_for_all && !node->is_lagging);
    case ROLE_READ_ONLY:
        return is_primary || node->serves_any_role ||
               (node->role == NODE_REPLICA && node->is_replica_for_all &&
                !node->is_lagging);
    case ROLE_ANY:
        return true;
    }
    UNREACHABLE();
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

static struct pool_branch *get_branch(struct pool *pool, uint32_t node_id)
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
    list_append(&pool->branches, &branch->in_pool);
    return branch;
}

static const struct topology_cluster *cluster_of(const struct pool *pool)
{
    return pool->pools->topology == NULL
               ? NULL
               : topology_cluster(pool->pools->topology, pool->cluster);
}

/* The n-th of the nodes that could be asked for a server now; NULL when there are not so
 * many. `*n_usable` is how many there are. */
static struct pool_branch *usable_branch(struct pool *pool, unsigned n,
                                         unsigned *n_usable)
{
    const struct topology_cluster *cluster = cluster_of(pool);
    uint64_t now_ms = loop_now_ms(pool->pools->loop);
    struct pool_branch *found = NULL;

    *n_usable = 0;
    for (size_t i = 0; cluster != NULL && i < cluster->n_nodes; i++) {
        struct pool_branch *branch;

        if (!takes_role(cluster, i, pool->terms.role))
            continue;
        branch = get_branch(pool, cluster->nodes[i].id);
        if (branch == NULL || branch->retry_at_ms > now_ms)
            continue;
        if (*n_usable == n)
            found = branch;
        (*n_usable)++;
    }
    return found;
}

/* The node on which a server is to be opened next, by turns; NULL when there is none. */
static struct pool_branch *choose_branch(struct pool *pool)
{
    unsigned n_usable, n_again;
    struct pool_branch *first = usable_branch(pool, 0, &n_usable);

    if (n_usable <= 1 || pool->terms.takes_first_node)
        return first;
    return usable_branch(pool, pool->pools->turn++ % n_usable, &n_again);
}

static bool may_stay(const struct pool *pool, uint32_t node_id)
{
    const struct topology_cluster *cluster = cluster_of(pool);

    for (size_t i = 0; cluster != NULL && i < cluster->n_nodes; i++)
        if (cluster->nodes[i].id == node_id)
            return takes_role(cluster, i, pool->terms.role);
    return false;
}

/* ---- needs --------------------------------------------------------------------------
 */

static void free_need(struct deferred *end)
{
    struct need *need = CONTAINER_OF(end, struct need, end);

    need->pool->n_awaited--;
    slab_give(need->pool->pools->needs, need);
}

/* Its memory is ours again when no notice is under way to it. */
static void end_need_if_unexpected(struct need *need)
{
    if (need->client != NULL || ledger_waiter_is_expected(&need->waiter))
        return;
    need->end.run = free_need;
    loop_defer(need->pool->pools->loop, &need->end);
}

static void stand_in_line(struct need *need)
{
    struct pools *pools = need->pool->pools;
    struct ledger_todo todo = {0};

    need->branch = choose_branch(need->pool);
    if (need->branch == NULL)
        return; /* until the topology changes, or the retry's time comes */
    need->waiter.branch = need->branch->ledger_branch;
    ledger_join(pools->ledger, &need->waiter, &todo);
    pools_post(pools, &todo);
}

static void leave_line(struct need *need)
{
    struct ledger_todo todo = {0};

    if (need->branch != NULL)
        ledger_withdraw(need->pool->pools->ledger, &need->waiter, &todo);
    need->branch = NULL;
    pools_post(need->pool->pools, &todo);
}

/* The client has what it needs, or leaves. */
static void end_need(struct need *need)
{
    list_remove(&need->pool->needs, &need->in_pool);
    need->client = NULL;
    end_need_if_unexpected(need);
}

void pool_forget(struct need *need)
{
    leave_line(need);
    end_need(need);
}

void pool_why_waiting(const struct need *need, char why[ACCOUNT_WHY_MAX])
{
    const char *limit = need->branch == NULL
                            ? NULL
                            : ledger_blocking(need->pool->pools->ledger, &need->waiter);

    if (limit != NULL)
        snprintf(why, ACCOUNT_WHY_MAX, "%s", limit);
    else
        account_get_why(need->pool->account, why);
    if (*why == '\0')
        snprintf(why, ACCOUNT_WHY_MAX, "%s",
                 need->branch == NULL ? "no server of the wanted role"
                                      : "a server is being opened");
}

static struct need *need_of(struct ledger_waiter *waiter)
{
    return CONTAINER_OF(waiter, struct need, waiter);
}

/* ---- servers: lent, idle, closed ----------------------------------------------------
 */

static void free_member(struct deferred *end)
{
    memory_free(CONTAINER_OF(end, struct member, end));
}

static void end_member(struct member *member)
{
    member->end.run = free_member;
    loop_defer(member->pool->pools->loop, &member->end);
}

static void send_to_heir(struct member *member);

/* It is in the list of those that are busy. */
static void close_member(struct member *member)
{
    struct pool *pool = member->pool;
    struct ledger_todo todo = {0};

    list_remove(&pool->busy, &member->pooled.in_owner);
    pooled_close(&member->pooled);
    ledger_give(pool->pools->ledger, &member->pooled.slot, &todo);
    if (member->heir != NULL)
        send_to_heir(member);
    else if (member->pooled.n_cancels == 0)
        end_member(member);
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

static void hand_over(struct member *member, struct ledger_waiter *heir);

static void lend_to(struct member *member, struct ledger_waiter *waiter)
{
    struct need *need = need_of(waiter);
    void *client = need->client;

    member->pool->counts.wait_time +=
        member->pool->pools->loop->now_ns - need->waiter.since_ns;
    need->branch = NULL;
    end_need(need);
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
static void offer(struct member *member)
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
        lend_to(member, waiter);
        break;
    case LEDGER_HAND:
        hand_over(member, waiter);
        break;
    case LEDGER_CLOSE:
        close_member(member);
        break;
    }
}

static bool is_old(const struct member *member)
{
    const struct security *security = member->pool->pools->home.security;
    uint64_t lifetime_ms = member->pool->terms.lifetime_ms;

    if (security != NULL && member->pooled.generation != security->generation)
        return true;      /* servers are spoken to in another way now */
    if (lifetime_ms == 0) /* each is used once */
        return member->pooled.lent_at_ns != 0;
    return loop_now_ms(member->pool->pools->loop) >=
           member->pooled.opened_at_ms + lifetime_ms;
}

/* An IDLE one that is in nobody's hands. */
static void put_away(struct member *member)
{
    struct pool *pool = member->pool;

    if (member->pooled.n_cancels > 0) {
        return; /* pool_aimed() goes on */
    } else if (member->is_doomed || member->is_spoiled || is_old(member)) {
        close_member(member);
    } else if (ledger_rest(member->branch->ledger_branch, pool->pools->worker)) {
        keep_idle(member);
    } else {
        offer(member);
    }
}

/* Out of the idle ones, into our hand. */
static void pick(struct member *member)
{
    list_remove(&member->pool->idle, &member->pooled.in_owner);
    list_append(&member->pool->busy, &member->pooled.in_owner);
    member->is_idle = false;
}

static void close_idle(struct member *member)
{
    ledger_hide(member->branch->ledger_branch, member->pool->pools->worker);
    pick(member);
    close_member(member);
}

const char *pool_check_query(const struct pooled *server)
{
    const struct pool *pool = member_of(server)->pool;
    uint64_t rested_ms = loop_now_ms(pool->pools->loop) - server->used_at_ms;

    if (rested_ms < pool->terms.check_delay_ms || *pool->check_query == '\0')
        return NULL;
    return strcmp(pool->check_query, "<empty>") == 0 ? "" : pool->check_query;
}

enum pool_answer pool_take(struct pool *pool, void *client, struct pooled **server,
                           struct need **need)
{
    struct link *first = list_first(&pool->idle);
    struct need *made;

    if (first != NULL &&
        ledger_lend(member_in(first)->branch->ledger_branch, pool->pools->worker)) {
        pick(member_in(first));
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
    pool->n_awaited++;
    list_append(&pool->needs, &made->in_pool);
    stand_in_line(made);
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
    close_member(member);
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
        put_away(member);
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
        end_member(member_of(server));
    } else if (server->state == POOLED_IDLE) {
        put_away(member_of(server));
    }
}

bool pool_is_doomed(struct pooled *server)
{
    return member_of(server)->is_doomed;
}

/* ---- to a client of another worker --------------------------------------------------
 */

static void on_handed(struct message *message, void *receiver);

/* Its heir's worker is told in any case, also of one that is closed. */
static void send_to_heir(struct member *member)
{
    mailbox_post(member->to->mailbox, &member->message, on_handed);
}

static void hand_over(struct member *member, struct ledger_waiter *heir)
{
    member->heir = heir;
    member->to = member->pool->pools->all[heir->worker];
    pooled_move(&member->pooled);
}

static void on_packed(struct pooled *server)
{
    struct member *member = member_of(server);

    list_remove(&member->pool->busy, &server->in_owner);
    member->pool = NULL;
    member->branch = NULL;
    send_to_heir(member);
}

/* It becomes one of this worker's. False when it cannot. */
static bool take_in(struct pool *pool, struct member *member)
{
    struct pools *pools = pool->pools;
    struct pooled *server = &member->pooled;

    member->branch = pools->is_closed ? NULL : get_branch(pool, server->node_id);
    return member->branch != NULL && may_stay(pool, server->node_id) &&
           pooled_settle(server, &pools->home, &pool->identity);
}

/* It has come in vain. */
static void discard_handed(struct pools *pools, struct member *member)
{
    struct ledger_todo todo = {0};

    if (member->pooled.state != POOLED_CLOSING) {
        pooled_close(&member->pooled);
        ledger_give(pools->ledger, &member->pooled.slot, &todo);
        pools_post(pools, &todo);
    }
    member->end.run = free_member;
    loop_defer(pools->loop, &member->end);
}

static void on_handed(struct message *message, void *receiver)
{
    struct member *member = CONTAINER_OF(message, struct member, message);
    struct pools *pools = receiver;
    struct ledger_waiter *heir = member->heir;
    struct need *need = need_of(heir);
    struct pool *pool = need->pool;
    bool is_fine = member->pooled.state == POOLED_MOVING && take_in(pool, member);
    struct ledger_todo todo = {0};
    bool is_wanted =
        ledger_receive(pools->ledger, heir, is_fine ? pool->ledger_pool : NULL, &todo);

    pools_post(pools, &todo);
    member->heir = NULL;
    if (!is_fine) {
        discard_handed(pools, member);
        end_need_if_unexpected(need);
        return;
    }
    member->pool = pool;
    member->is_doomed = false;
    list_append(&pool->busy, &member->pooled.in_owner);
    if (is_wanted) {
        lend_to(member, heir);
    } else {
        end_need_if_unexpected(need);
        put_away(member);
    }
}

/* ---- opening ------------------------------------------------------------------------
 */

static const struct topology_node *usable_node(struct pool *pool, uint32_t node_id)
{
    return may_stay(pool, node_id) ? topology_node(pool->pools->topology, node_id) : NULL;
}

static bool open_member(struct member *member, const struct topology_node *node)
{
    struct pool *pool = member->pool;

    pool->identity.secret = account_get_secret(pool->account, &pool->keys);
    member->pooled.id =
        ++pool->pools->n_servers_made * POOLS_WORKERS_MAX + pool->pools->worker;
    list_append(&pool->busy, &member->pooled.in_owner);
    return pooled_open(&member->pooled, &pool->pools->home, pool->pools->topology, node,
                       &pool->identity, &pool->pools->tcp, pool->terms.connect_timeout_ms,
                       &pooled_events, member);
}

/* A slot for a client that waits: a server is opened for it. */
static void on_grant(struct pools *pools, struct ledger_notice *notice)
{
    struct need *need = need_of(ledger_notice_waiter(notice));
    struct pool *pool = need->pool;
    struct member *member = memory_zeroed(sizeof *member);
    struct ledger_slot spare = {0};
    struct ledger_slot *slot = member != NULL ? &member->pooled.slot : &spare;
    const struct topology_node *node;
    struct ledger_todo todo = {0};

    if (!ledger_accept(pools->ledger, notice, slot)) {
        memory_free(member);
        end_need_if_unexpected(need);
        return;
    }
    node = usable_node(pool, need->branch->node_id);
    if (member == NULL || node == NULL) {
        ledger_give(pools->ledger, slot, &todo);
        pools_post(pools, &todo);
        memory_free(member);
        leave_line(need);
        stand_in_line(need);
        return;
    }
    member->pool = pool;
    member->branch = need->branch;
    if (!open_member(member, node))
        close_member(member);
}

static void finish_opening(struct member *member);

/* What a private one's server says is coloured by the client's own parameters. */
static void set_welcome(struct pool *pool, const struct text *messages)
{
    if (!pool_is_private(pool)) {
        account_set_welcome(pool->account, messages);
        return;
    }
    memory_free(pool->welcome);
    pool->welcome = memory_text_n(text_get(messages), messages->length);
    pool->n_welcome = pool->welcome == NULL ? 0 : messages->length;
}

bool pool_read_welcome(struct pool *pool,
                       void (*use)(void *arg, const char *messages, size_t n), void *arg)
{
    if (!pool_is_private(pool))
        return account_read_welcome(pool->account, use, arg);
    if (pool->welcome == NULL)
        return false;
    use(arg, pool->welcome, pool->n_welcome);
    return true;
}

static void on_open(struct pooled *server, const struct login_welcome *welcome)
{
    struct member *member = member_of(server);

    set_welcome(member->pool, &welcome->parameters);
    account_set_keys(member->pool->account, &member->pool->keys);
    if (server->state == POOLED_IDLE)
        finish_opening(member);
}

static void finish_opening(struct member *member)
{
    struct pools *pools = member->pool->pools;
    struct ledger_waiter *waiter;
    struct ledger_todo todo = {0};

    member->is_open = true;
    member->branch->retry_at_ms = 0;
    account_set_why(member->pool->account, "");
    waiter = ledger_opened(pools->ledger, &member->pooled.slot, &todo);
    pools_post(pools, &todo);
    if (waiter != NULL)
        lend_to(member, waiter);
    else
        put_away(member);
}

static void on_clean(struct pooled *server)
{
    struct member *member = member_of(server);

    if (member->is_open)
        put_away(member);
    else
        finish_opening(member);
}

/* Whether asking again is of no use. Who replicates is told whatever the node says,
 * unless it is about to start or stop: there may be no place for one more, or no right to
 * it. */
static bool is_final_refusal(const struct pool *pool, const char *sqlstate)
{
    if (pool_is_private(pool))
        return *sqlstate != '\0' && strncmp(sqlstate, "57", 2) != 0;
    return strncmp(sqlstate, "28", 2) == 0 || strncmp(sqlstate, "3D", 2) == 0;
}

/* The node was asked for a login in vain: nobody waits for it until it is asked again. */
static void step_back(struct pool *pool, struct pool_branch *branch, const char *sqlstate,
                      const char *why)
{
    bool is_final = is_final_refusal(pool, sqlstate);

    branch->retry_at_ms = loop_now_ms(pool->pools->loop) + pool->terms.retry_ms;
    if (!pool_is_private(pool)) /* what it was refused others may have */
        account_set_why(pool->account, why);
    LIST_EACH_SAFE(item, &pool->needs)
    {
        struct need *need = CONTAINER_OF(item, struct need, in_pool);

        if (need->branch != branch)
            continue;
        leave_line(need);
        if (is_final) {
            void *client = need->client;

            end_need(need);
            pool->pools->events->on_refused(client, sqlstate, why);
        } else {
            stand_in_line(need);
        }
    }
}

static void on_lost(struct pooled *server, const char *sqlstate, const char *why)
{
    struct member *member = member_of(server);
    struct pool *pool = member->pool;
    struct pool_branch *branch = member->branch;
    bool was_opening = !member->is_open;

    LOG(INFO, "server lost", TEXT("database", pool->account->name),
        TEXT("user", pool->account->user),
        TEXT("state", pooled_state_name(server->state)),
        TEXT("sqlstate", *sqlstate == '\0' ? NULL : sqlstate), TEXT("text", why),
        NUMBER("worker", pool->pools->worker));
    if (member->is_idle)
        close_idle(member);
    else
        close_member(member);
    pool->pools->events->on_evidence(pool->pools->arg, branch->node_id);
    if (was_opening)
        step_back(pool, branch, sqlstate, why);
}

static const struct pooled_events pooled_events = {
    .on_open = on_open,
    .on_clean = on_clean,
    .on_packed = on_packed,
    .on_lost = on_lost,
};

/* ---- what other workers ask for -----------------------------------------------------
 */

static struct pool *pool_of_branch(struct pools *pools,
                                   const struct ledger_branch *ledger_branch,
                                   struct pool_branch **branch)
{
    LIST_EACH(item, &pools->pools)
    {
        struct pool *pool = CONTAINER_OF(item, struct pool, in_pools);

        LIST_EACH(one, &pool->branches)
        {
            *branch = CONTAINER_OF(one, struct pool_branch, in_pool);
            if ((*branch)->ledger_branch == ledger_branch)
                return pool;
        }
    }
    return NULL;
}

/* The idle ones are offered, until one of them is kept. */
static void offer_idle(struct pool *pool, const struct pool_branch *branch)
{
    LIST_EACH_SAFE(item, &pool->idle)
    {
        struct member *member = member_in(item);

        if (member->branch != branch)
            continue;
        ledger_hide(branch->ledger_branch, pool->pools->worker);
        pick(member);
        offer(member);
        if (member->pooled.state == POOLED_IDLE)
            return;
    }
}

static void on_ask(struct pools *pools, struct ledger_notice *notice)
{
    struct ledger_todo todo = {0};
    struct pool_branch *branch;
    struct pool *pool = pool_of_branch(pools, ledger_notice_branch(notice), &branch);

    if (pool != NULL)
        offer_idle(pool, branch);
    ledger_answered(pools->ledger, notice, &todo);
    pools_post(pools, &todo);
}

static void on_notice(struct message *message, void *receiver)
{
    struct ledger_notice *notice = CONTAINER_OF(message, struct ledger_notice, message);
    struct pools *pools = receiver;

    switch (notice->kind) {
    case LEDGER_GRANT:
        on_grant(pools, notice);
        break;
    case LEDGER_ASK:
        on_ask(pools, notice);
        break;
    }
}

/* ---- the topology, and time ---------------------------------------------------------
 */

/* The nodes may be asked again at once. */
static void forget_refusals(struct pool *pool)
{
    LIST_EACH(item, &pool->branches)
    {
        CONTAINER_OF(item, struct pool_branch, in_pool)->retry_at_ms = 0;
    }
}

/* Servers whose node has lost the role are never lent again; who waits, waits elsewhere.
 */
static void follow_topology(struct pool *pool)
{
    forget_refusals(pool);
    LIST_EACH_SAFE(item, &pool->idle)
    {
        if (!may_stay(pool, member_in(item)->branch->node_id))
            close_idle(member_in(item));
    }
    LIST_EACH_SAFE(item, &pool->busy)
    {
        struct member *member = member_in(item);

        member->is_doomed = !may_stay(pool, member->branch->node_id);
        if (member->is_doomed && (member->pooled.state == POOLED_CONNECTING ||
                                  member->pooled.state == POOLED_LOGIN))
            close_member(member);
        else if (member->is_doomed && member->pooled.state == POOLED_ACTIVE)
            pool->pools->events->on_doomed(member->pooled.client);
    }
    LIST_EACH_SAFE(item, &pool->needs)
    {
        struct need *need = CONTAINER_OF(item, struct need, in_pool);

        if (need->branch != NULL && may_stay(pool, need->branch->node_id))
            continue;
        leave_line(need);
        stand_in_line(need);
    }
}

void pools_set_topology(struct pools *pools, struct topology *topology)
{
    topology_hold(topology);
    topology_release(pools->topology);
    pools->topology = topology;
    LIST_EACH(item, &pools->pools)
    {
        follow_topology(CONTAINER_OF(item, struct pool, in_pools));
    }
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

/* One that nobody waits for. */
static void open_in_advance(struct pool *pool)
{
    struct pool_branch *branch = choose_branch(pool);
    const struct topology_node *node =
        branch == NULL ? NULL : usable_node(pool, branch->node_id);
    struct member *member = node == NULL ? NULL : memory_zeroed(sizeof *member);

    if (member == NULL ||
        !ledger_try(pool->pools->ledger, branch->ledger_branch, &member->pooled.slot)) {
        memory_free(member);
        return;
    }
    member->pool = pool;
    member->branch = branch;
    if (!open_member(member, node))
        close_member(member);
}

/* Workers take turns, so that two do not open the same one. */
static bool has_turn(const struct pools *pools, uint64_t now_ms)
{
    return now_ms / (uint64_t)(UPKEEP_S * 1e3) % pools->n_workers == pools->worker;
}

static void keep_warm(struct pool *pool, uint64_t now_ms)
{
    unsigned n = pool->terms.min_pool_size;

    if (n > 0 && has_turn(pool->pools, now_ms))
        n = n_servers(pool);
    for (; n < pool->terms.min_pool_size; n++)
        open_in_advance(pool);
}

static void close_aged(struct pool *pool, uint64_t now_ms)
{
    LIST_EACH_SAFE(item, &pool->idle)
    {
        struct member *member = member_in(item);
        bool is_unused = pool->terms.idle_ms > 0 &&
                         now_ms >= member->pooled.used_at_ms + pool->terms.idle_ms;

        if (is_old(member) || (is_unused && n_servers(pool) > pool->terms.min_pool_size))
            close_idle(member);
    }
}

static void look_at_need(struct need *need, uint64_t now_ms)
{
    struct pools *pools = need->pool->pools;
    uint64_t waited_ms = now_ms - need->waiter.since_ns / 1000000u;
    uint64_t reserve_after_ms = need->pool->terms.reserve_after_ms;

    if (need->branch == NULL)
        stand_in_line(need);
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
    keep_warm(pool, now_ms);
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

static void free_pool(struct pool *pool);

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
    free_pool(pool);
}

static void on_upkeep(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct pools *pools = CONTAINER_OF(timer, struct pools, upkeep);
    uint64_t now_ms = loop_now_ms(pools->loop);

    (void)ev;
    (void)events;
    LIST_EACH_SAFE(item, &pools->pools)
    {
        struct pool *pool = CONTAINER_OF(item, struct pool, in_pools);

        keep_up(pool, now_ms);
        if (is_forgotten(pool, now_ms))
            forget_pool(pools, pool);
    }
}

/* ---- begin and end ------------------------------------------------------------------
 */

bool pools_init(struct pools *pools, struct loop *loop, unsigned worker,
                unsigned n_workers, struct pools **all, struct accounts *accounts,
                struct ledger *ledger, struct statement_texts *texts,
                struct slab *connections, const struct pools_events *events, void *arg)
{
    pools->n_workers = n_workers;
    pools->loop = loop;
    pools->worker = pools->turn = worker;
    pools->all = all;
    pools->accounts = accounts;
    pools->ledger = ledger;
    pools->events = events;
    pools->arg = arg;
    pools->home = (struct pooled_home){.loop = loop, .connections = connections};
    pools->home.parameters = parameter_store_new();
    pools->home.statements = statement_store_new(texts);
    pools->needs = slab_new(sizeof(struct need));
    list_init(&pools->pools);
    list_init(&pools->memories);
    pools->home.memories = &pools->memories;
    ev_timer_init(&pools->upkeep, on_upkeep, UPKEEP_S, UPKEEP_S);
    ev_timer_start(loop->ev, &pools->upkeep);
    pools->mailbox = mailbox_new(loop, pools);
    return pools->mailbox != NULL && pools->needs != NULL &&
           pools->home.parameters != NULL && pools->home.statements != NULL;
}

static void forget_texts(struct pool *pool);

static void free_pool(struct pool *pool)
{
    LIST_EACH_SAFE(item, &pool->branches)
    {
        struct pool_branch *branch = CONTAINER_OF(item, struct pool_branch, in_pool);

        ledger_branch_release(pool->pools->ledger, branch->ledger_branch);
        memory_free(branch);
    }
    scram_keys_clear(&pool->keys);
    forget_texts(pool);
    memory_free(pool->startup);
    memory_free(pool->welcome);
    if (!pool_is_private(pool))
        account_release(pool->account);
    else if (pool->ledger_pool != NULL)
        (void)ledger_pool_release(pool->pools->ledger, pool->ledger_pool);
    memory_free(pool);
}

void pools_close(struct pools *pools)
{
    ev_timer_stop(pools->loop->ev, &pools->upkeep);
    pools->is_closed = true;
    LIST_EACH(item, &pools->pools)
    {
        struct pool *pool = CONTAINER_OF(item, struct pool, in_pools);

        LIST_EACH_SAFE(one, &pool->idle)
        {
            close_idle(member_in(one));
        }
        LIST_EACH_SAFE(one, &pool->busy)
        {
            close_member(member_in(one));
        }
    }
}

void pools_clear(struct pools *pools)
{
    if (pools->loop == NULL)
        return;
    LIST_EACH_SAFE(item, &pools->pools)
    {
        free_pool(CONTAINER_OF(item, struct pool, in_pools));
    }
    topology_release(pools->topology);
    mailbox_free(pools->mailbox);
    security_release(pools->home.security);
    security_forget(&pools->memories);
    parameter_store_free(pools->home.parameters);
    statement_store_free(pools->home.statements);
    slab_free(pools->needs);
}

/* A text of before the last reload, which a server may still be about to say. */
struct old_text {
    struct link in_pool;
    char *text;
};

static bool set_text(struct pool *pool, char **to, const char *text)
{
    struct old_text *old;

    if (*to == NULL) {
        *to = memory_text(text);
        return *to != NULL;
    }
    if (strcmp(*to, text) == 0)
        return true;
    old = memory_zeroed(sizeof *old);
    if (old == NULL)
        return false;
    old->text = *to;
    list_append(&pool->old_texts, &old->in_pool);
    *to = memory_text(text);
    return *to != NULL;
}

static void forget_texts(struct pool *pool)
{
    LIST_EACH_SAFE(item, &pool->old_texts)
    {
        struct old_text *old = CONTAINER_OF(item, struct old_text, in_pool);

        memory_free(old->text);
        memory_free(old);
    }
    memory_free(pool->cluster);
    memory_free(pool->reset_query);
    memory_free(pool->check_query);
    memory_free(pool->connect_query);
}

static struct pool *find_pool(struct pools *pools, const struct account *account)
{
    LIST_EACH(item, &pools->pools)
    {
        struct pool *pool = CONTAINER_OF(item, struct pool, in_pools);

        if (pool->account == account && !pool_is_private(pool))
            return pool;
    }
    return NULL;
}

static struct pool *make_pool(struct pools *pools, struct account *account)
{
    struct pool *pool = memory_zeroed(sizeof *pool);

    if (pool == NULL)
        return NULL;
    pool->pools = pools;
    pool->account = account;
    pool->ledger_pool = account->ledger_pool;
    pool->identity = (struct login_identity){
        .database = account->database, .user = account->user, .keys = &pool->keys};
    list_init(&pool->branches);
    list_init(&pool->idle);
    list_init(&pool->busy);
    list_init(&pool->needs);
    list_init(&pool->old_texts);
    list_init(&pool->guests);
    pool->number = ++pools->n_made;
    list_append(&pools->pools, &pool->in_pools);
    return pool;
}

static bool set_texts(struct pool *pool, const struct pool_texts *texts)
{
    bool ok = set_text(pool, &pool->cluster, texts->cluster) &&
              set_text(pool, &pool->reset_query, texts->reset_query) &&
              set_text(pool, &pool->check_query, texts->check_query) &&
              set_text(pool, &pool->connect_query, texts->connect_query);

    pool->identity.connect_query = pool->connect_query;
    return ok;
}

struct pool *pools_find(struct pools *pools, struct account *account,
                        const struct pool_terms *terms, const struct pool_texts *texts)
{
    struct pool *pool = find_pool(pools, account);

    if (pool != NULL)
        account_release(account); /* it has one already */
    else
        pool = make_pool(pools, account);
    if (pool == NULL) {
        account_release(account);
        return NULL;
    }
    pool->terms = *terms;
    pool->used_at_ms = loop_now_ms(pools->loop);
    return set_texts(pool, texts) ? pool : NULL;
}

static const struct pool_texts no_texts = {
    .cluster = "", .reset_query = "", .check_query = "", .connect_query = ""};

struct pool *pools_make_private(struct pool *base, enum startup_replication replication,
                                const struct text *startup)
{
    struct pools *pools = base->pools;
    struct pool *pool = make_pool(pools, base->account);
    struct pool_texts texts = no_texts;

    if (pool == NULL)
        return NULL;
    base->n_private++;
    pool->base = base;
    pool->ledger_pool = ledger_pool_new(pools->ledger, base->account->limits, 0);
    pool->replication = replication;
    pool->startup = memory_text_n(text_get(startup), startup->length);
    pool->identity.more = pool->startup;
    pool->identity.n_more = startup->length;
    pool->terms = base->terms;
    pool->terms.min_pool_size = 0;
    pool->terms.forget_after_ms = 0;
    texts.cluster = base->cluster;
    return pool->ledger_pool != NULL && pool->startup != NULL && !startup->overflowed &&
                   set_texts(pool, &texts)
               ? pool
               : NULL; /* then it is forgotten, as one whose client has left */
}

/* ---- views --------------------------------------------------------------------------
 */

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
    case POOLED_CLEANING:
        survey->n_testing++;
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
    *is_doomed = next->is_doomed;
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
