/* What is counted, and who holds it: limits, pools, branches. */
#include "core/memory.h"
#include "pool/ledger_line.h"

/* ---- accounts -----------------------------------------------------------------------
 */

struct ledger *ledger_new(unsigned n_workers)
{
    struct ledger *ledger =
        memory_zeroed(sizeof *ledger + n_workers * sizeof ledger->followed[0]);
    pthread_mutexattr_t attributes;

    if (ledger == NULL)
        return NULL;
    ledger->n_workers = n_workers;
    list_init(&ledger->musters);
    /* Held so shortly that to spin costs less than to sleep. */
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ADAPTIVE_NP);
    pthread_mutex_init(&ledger->mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return ledger;
}

void ledger_free(struct ledger *ledger)
{
    if (ledger == NULL)
        return;
    pthread_mutex_destroy(&ledger->mutex);
    memory_free(ledger);
}

struct ledger_limit *ledger_limit_new(const char *name, unsigned max)
{
    struct ledger_limit *limit = memory_zeroed(sizeof *limit);

    if (limit == NULL)
        return NULL;
    limit->name = name;
    limit->max = max;
    limit->references = 1;
    list_init(&limit->branches);
    list_init(&limit->lines);
    return limit;
}

static struct ledger_limit *hold_limit(struct ledger_limit *limit)
{
    limit->references++;
    return limit;
}

static void release_limit(struct ledger_limit *limit)
{
    if (--limit->references > 0)
        return;
    REQUIRE(limit->n_used == 0 && limit->branches.n == 0);
    REQUIRE(limit->gate.n_logins == 0 && !link_is_in_list(&limit->gate.in_musters));
    memory_free(limit);
}

struct ledger_limit *ledger_limit_hold(struct ledger *ledger, struct ledger_limit *limit)
{
    ledger_lock(ledger);
    hold_limit(limit);
    ledger_unlock(ledger);
    return limit;
}

void ledger_limit_release(struct ledger *ledger, struct ledger_limit *limit)
{
    ledger_lock(ledger);
    release_limit(limit);
    ledger_unlock(ledger);
}

struct ledger_pool *ledger_pool_new(struct ledger *ledger,
                                    struct ledger_limit *const limits[LEDGER_NODE],
                                    unsigned reserve)
{
    struct ledger_pool *pool =
        memory_zeroed(sizeof *pool + ledger->n_workers * sizeof pool->desks[0]);

    if (pool == NULL)
        return NULL;
    pool->reserve = reserve;
    pool->references = 1;
    list_init(&pool->branches);
    for (unsigned i = 0; i < ledger->n_workers; i++)
        list_init(&pool->desks[i].waiters);
    ledger_lock(ledger);
    for (int scope = 0; scope < LEDGER_NODE; scope++)
        pool->limits[scope] = hold_limit(limits[scope]);
    ledger_unlock(ledger);
    return pool;
}

struct ledger_pool *ledger_pool_hold(struct ledger *ledger, struct ledger_pool *pool)
{
    ledger_lock(ledger);
    pool->references++;
    ledger_unlock(ledger);
    return pool;
}

static void free_if_unused(struct ledger_pool *pool)
{
    if (pool->references > 0 || pool->branches.n > 0)
        return;
    REQUIRE(pool->n_used == 0);
    for (int scope = 0; scope < LEDGER_NODE; scope++)
        release_limit(pool->limits[scope]);
    memory_free(pool);
}

bool ledger_pool_release(struct ledger *ledger, struct ledger_pool *pool)
{
    bool was_last;

    ledger_lock(ledger);
    was_last = --pool->references == 0;
    free_if_unused(pool);
    ledger_unlock(ledger);
    return was_last;
}

static struct ledger_branch *find_branch(const struct ledger_pool *pool,
                                         const struct ledger_limit *node)
{
    LIST_EACH(item, &pool->branches)
    {
        struct ledger_branch *branch = ledger_line_in_pool(item);

        if (branch->limits[LEDGER_NODE] == node)
            return branch;
    }
    return NULL;
}

static void enter_accounts(struct ledger_branch *branch, struct ledger_pool *pool,
                           struct ledger_limit *node)
{
    branch->pool = pool;
    list_append(&pool->branches, &branch->in_pool);
    for (int scope = 0; scope < LEDGER_SCOPES; scope++) {
        branch->limits[scope] =
            hold_limit(scope == LEDGER_NODE ? node : pool->limits[scope]);
        branch->in_limits[scope].branch = branch->in_lines[scope].branch = branch;
        list_append(&branch->limits[scope]->branches, &branch->in_limits[scope].link);
    }
}

struct ledger_branch *ledger_branch_hold(struct ledger *ledger, struct ledger_pool *pool,
                                         struct ledger_limit *node)
{
    struct ledger_branch *branch, *fresh = NULL;

    ledger_lock(ledger);
    branch = find_branch(pool, node);
    if (branch == NULL) {
        ledger_unlock(ledger);
        fresh = memory_zeroed(sizeof *fresh + ledger->n_workers * sizeof fresh->seats[0]);
        if (fresh == NULL)
            return NULL;
        for (unsigned i = 0; i < ledger->n_workers; i++)
            list_init(&fresh->seats[i].line);
        ledger_lock(ledger);
        branch = find_branch(pool, node); /* another worker may have been as quick */
        if (branch == NULL) {
            branch = fresh;
            fresh = NULL;
            enter_accounts(branch, pool, node);
        }
    }
    branch->references++;
    ledger_unlock(ledger);
    memory_free(fresh);
    return branch;
}

void ledger_line_release(struct ledger_branch *branch)
{
    if (--branch->references > 0)
        return;
    REQUIRE(branch->n_lined == 0);
    for (int scope = 0; scope < LEDGER_SCOPES; scope++) {
        list_remove(&branch->limits[scope]->branches, &branch->in_limits[scope].link);
        release_limit(branch->limits[scope]);
    }
    list_remove(&branch->pool->branches, &branch->in_pool);
    free_if_unused(branch->pool);
    memory_free(branch);
}

void ledger_branch_release(struct ledger *ledger, struct ledger_branch *branch)
{
    ledger_lock(ledger);
    ledger_line_release(branch);
    ledger_unlock(ledger);
}

/* ---- views --------------------------------------------------------------------------
 */

struct ledger_view ledger_pool_view(struct ledger *ledger, const struct ledger_pool *pool,
                                    uint64_t now_ns)
{
    struct ledger_view view;
    struct ledger_waiter *first = NULL;

    ledger_lock(ledger);
    for (unsigned i = 0; i < ledger->n_workers; i++)
        first = ledger_line_older(first, ledger_line_first_at_desk(pool, i));
    view = (struct ledger_view){.n_used = pool->n_used,
                                .n_waiting = ledger_line_n_waiting(pool)};
    if (first != NULL && first->since_ns < now_ns)
        view.longest_wait_ns = now_ns - first->since_ns;
    ledger_unlock(ledger);
    return view;
}

unsigned ledger_limit_used(struct ledger *ledger, const struct ledger_limit *limit)
{
    unsigned n_used;

    ledger_lock(ledger);
    n_used = limit->n_used;
    ledger_unlock(ledger);
    return n_used;
}

unsigned ledger_excess(struct ledger *ledger, const struct ledger_branch *branch)
{
    unsigned excess = 0;

    ledger_lock(ledger);
    for (int scope = 0; scope < LEDGER_SCOPES; scope++) {
        const struct ledger_limit *limit = branch->limits[scope];
        unsigned max = limit->max + (scope == LEDGER_POOL ? branch->pool->reserve : 0);

        if (limit->max > 0 && limit->n_used > max && limit->n_used - max > excess)
            excess = limit->n_used - max;
    }
    ledger_unlock(ledger);
    return excess;
}
