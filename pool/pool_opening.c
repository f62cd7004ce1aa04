#include "pool/pool_inside.h"

#include <string.h>

#include "core/log.h"
#include "core/memory.h"

static const struct pooled_events pooled_events;

bool member_open(struct member *member, const struct topology_node *node)
{
    struct pool *pool = member->pool;

    pool->identity.secret = account_get_secret(pool->account, &pool->keys);
    member->pooled.id =
        ++pool->pools->n_servers_made * POOLS_WORKERS_MAX + pool->pools->worker;
    list_append(&pool->busy, &member->pooled.in_owner);
    if (member->pooled.wants == POOLED_WANTS_ANY && pool->terms.role == ROLE_PRIMARY &&
        !node->serves_any_role)
        member->pooled.wants = POOLED_WANTS_PRIMARY;
    return pooled_open(&member->pooled, &pool->pools->home, pool->pools->topology, node,
                       &pool->identity, &pool->pools->tcp, pool->terms.connect_timeout_ms,
                       &pooled_events, member);
}

bool pool_open_one(struct pool *pool, struct pool_branch *branch)
{
    const struct topology_node *node = pool_usable_node(pool, branch->node_id);
    struct member *member = node == NULL ? NULL : memory_zeroed(sizeof *member);

    if (member == NULL ||
        !ledger_try(pool->pools->ledger, branch->ledger_branch, &member->pooled.slot)) {
        memory_free(member);
        return false;
    }
    member->pool = pool;
    member->branch = branch;
    if (!member_open(member, node))
        member_close(member);
    return true;
}

/* A slot for a client that waits: a server is opened for it. */
void pools_on_grant(struct pools *pools, struct ledger_notice *notice)
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
        need_end_if_unexpected(need);
        return;
    }
    node = pool_usable_node(pool, need->branch->node_id);
    if (member == NULL || node == NULL) {
        ledger_give(pools->ledger, slot, &todo);
        pools_post(pools, &todo);
        memory_free(member);
        need_leave_line(need);
        need_stand_in_line(need);
        return;
    }
    member->pool = pool;
    member->branch = need->branch;
    if (!member_open(member, node))
        member_close(member);
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

/* Who was the primary when the node was chosen may be none by now, or not yet be one. */
static bool is_of_another_role(const struct member *member,
                               const struct login_welcome *welcome)
{
    return welcome->is_standby && member->pooled.wants == POOLED_WANTS_PRIMARY;
}

static void on_lost(struct pooled *server, const char *sqlstate, const char *why);

/* What it says of itself is a standby's, and not what clients are to be told. */
static void finish_warming(struct member *member)
{
    struct pools *pools = member->pool->pools;
    struct ledger_todo todo = {0};

    member->is_open = true;
    REQUIRE(ledger_opened(pools->ledger, &member->pooled.slot, &todo) == NULL);
    pools_post(pools, &todo);
    pool_prewarm(member->pool);
}

static void on_open(struct pooled *server, const struct login_welcome *welcome)
{
    struct member *member = member_of(server);

    if (server->state == POOLED_WARM) {
        account_set_keys(member->pool->account, &member->pool->keys);
        pools_on_login(member->pool->pools, member, false, "");
        finish_warming(member);
        return;
    }
    if (is_of_another_role(member, welcome)) {
        on_lost(server, "", "the node is in recovery, and was taken for the primary");
        return;
    }
    set_welcome(member->pool, &welcome->parameters);
    account_set_keys(member->pool->account, &member->pool->keys);
    pools_on_login(member->pool->pools, member, false, "");
    if (server->state == POOLED_IDLE)
        finish_opening(member);
}

static void finish_opening(struct member *member)
{
    struct pool *pool = member->pool;
    struct pools *pools = pool->pools;
    struct ledger_waiter *waiter;
    struct ledger_todo todo = {0};

    pool_time_count(&member->pool->times, POOL_TIME_connect,
                    pools->loop->now_ns - member->pooled.opened_at_ns);
    member->is_open = true;
    member->branch->retry_at_ms = 0;
    account_set_why(pool->account, "");
    waiter = ledger_opened(pools->ledger, &member->pooled.slot, &todo);
    pools_post(pools, &todo);
    if (waiter != NULL)
        member_lend(member, waiter);
    else
        member_put_away(member);
    if (pool->is_filling)
        pool_fill(pool);
}

static void on_clean(struct pooled *server)
{
    struct member *member = member_of(server);
    struct pool *pool = member->pool;
    bool was_expected = member->is_expected;

    member->is_expected = false;
    if (member->is_open)
        member_put_away(member);
    else
        finish_opening(member);
    if (was_expected)
        member_is_here(pool);
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
        need_leave_line(need);
        if (is_final) {
            void *client = need->client;

            need_end(need);
            pool->pools->events->on_refused(client, sqlstate, why);
        } else {
            need_stand_in_line(need);
        }
    }
}

static void on_lost(struct pooled *server, const char *sqlstate, const char *why)
{
    struct member *member = member_of(server);
    struct pool *pool = member->pool;
    struct pool_branch *branch = member->branch;
    bool was_opening = !member->is_open, was_expected = member->is_expected;
    enum pooled_wants wants = server->wants;

    LOG(INFO, "server lost", TEXT("database", pool->account->name),
        TEXT("user", pool->account->user),
        TEXT("state", pooled_state_name(server->state)),
        TEXT("sqlstate", *sqlstate == '\0' ? NULL : sqlstate), TEXT("text", why),
        NUMBER("worker", pool->pools->worker));
    if (was_opening)
        pools_on_login(pool->pools, member, true, sqlstate);
    if (member->is_idle)
        member_close_idle(member);
    else
        member_close(member);
    pool->pools->events->on_evidence(pool->pools->arg, branch->node_id);
    if (was_opening)
        step_back(pool, branch, sqlstate, why);
    else if (!was_expected && wants != POOLED_WANTS_LATER)
        pools_on_end(pool->pools, branch->node_id);
}

static const struct pooled_events pooled_events = {
    .on_open = on_open,
    .on_clean = on_clean,
    .on_packed = member_on_packed,
    .on_lost = on_lost,
};
