#include "pool/pool_inside.h"

#include <string.h>

#include "core/memory.h"

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
    list_init(&pools->inquests);
    halts_init(&pools->halts);
    list_init(&pools->memories);
    pools->home.memories = &pools->memories;
    pools_begin_upkeep(pools);
    pools_begin_holds(pools);
    pools->mailbox = mailbox_new(loop, pools);
    return table_init(&pools->by_account) && table_init(&pools->by_branch) &&
           pools->mailbox != NULL && pools->needs != NULL &&
           pools->home.parameters != NULL && pools->home.statements != NULL;
}

static void forget_texts(struct pool *pool);

void pool_free(struct pool *pool)
{
    LIST_EACH_SAFE(item, &pool->branches)
    {
        struct pool_branch *branch = CONTAINER_OF(item, struct pool_branch, in_pool);

        table_remove(&pool->pools->by_branch, &branch->in_table);
        ledger_branch_release(pool->pools->ledger, branch->ledger_branch);
        memory_free(branch);
    }
    scram_keys_clear(&pool->keys);
    forget_texts(pool);
    pool_times_clear(&pool->times);
    memory_free(pool->startup);
    memory_free(pool->welcome);
    if (!pool_is_private(pool)) {
        table_remove(&pool->pools->by_account, &pool->in_table);
        account_release(pool->account);
    } else if (pool->ledger_pool != NULL) {
        (void)ledger_pool_release(pool->pools->ledger, pool->ledger_pool);
    }
    memory_free(pool);
}

void pools_close(struct pools *pools)
{
    struct ledger_todo todo = {0};

    ev_timer_stop(pools->loop->ev, &pools->upkeep);
    ev_timer_stop(pools->loop->ev, &pools->cuts);
    pools_end_holds(pools);
    pools->is_closed = true;
    LIST_EACH(item, &pools->pools)
    {
        struct pool *pool = CONTAINER_OF(item, struct pool, in_pools);

        LIST_EACH_SAFE(one, &pool->idle)
        {
            member_close_idle(member_in(one));
        }
        LIST_EACH_SAFE(one, &pool->busy)
        {
            member_close(member_in(one));
        }
    }
    ledger_followed(pools->ledger, pools->worker, UINT64_MAX, &todo);
    pools_post(pools, &todo);
}

void pools_clear(struct pools *pools)
{
    if (pools->loop == NULL)
        return;
    LIST_EACH_SAFE(item, &pools->pools)
    {
        pool_free(CONTAINER_OF(item, struct pool, in_pools));
    }
    halts_clear(&pools->halts);
    table_clear(&pools->by_account);
    table_clear(&pools->by_branch);
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
    char *copy;

    if (*to != NULL && strcmp(*to, text) == 0)
        return true;
    copy = memory_text(text);
    old = memory_zeroed(sizeof *old);
    if (copy == NULL || old == NULL) {
        memory_free(copy);
        memory_free(old);
        return false;
    }
    old->text = *to; /* may be NULL */
    list_append(&pool->old_texts, &old->in_pool);
    *to = copy;
    return true;
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

static uint32_t hash_of(const struct pools *pools, const struct account *account)
{
    return table_hash(&pools->by_account, &account, sizeof account);
}

static struct pool *find_pool(const struct pools *pools, const struct account *account)
{
    TABLE_EACH_LIKE(item, &pools->by_account, hash_of(pools, account))
    {
        struct pool *pool = CONTAINER_OF(item, struct pool, in_table);

        if (pool->account == account)
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
    bool is_new = pool == NULL;

    if (!is_new) {
        account_release(account); /* it has one already */
    } else {
        pool = make_pool(pools, account);
        if (pool == NULL) {
            account_release(account);
            return NULL;
        }
        table_add(&pools->by_account, &pool->in_table, hash_of(pools, account));
    }
    pool->terms = *terms;
    pool->used_at_ms = loop_now_ms(pools->loop);
    if (set_texts(pool, texts))
        return pool;
    if (is_new) { /* nobody could tell where its servers are */
        list_remove(&pools->pools, &pool->in_pools);
        pool_free(pool);
    }
    return NULL;
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
