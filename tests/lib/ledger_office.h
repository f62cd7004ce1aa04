/* tests/lib/ledger_office.h - three pools on two nodes for three workers, and short words
 * for what happens to them. For one test file each. */
#ifndef TESTS_LIB_LEDGER_OFFICE_H
#define TESTS_LIB_LEDGER_OFFICE_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "pool/ledger.h"

#define WORKERS 3
#define POOLS 3
#define NODES 2
#define WAITERS 16
#define SLOTS 16
#define WINDOW 100

static struct ledger *ledger;
static struct ledger_limit *sizes[POOLS], *database, *user, *nodes[NODES];
static struct ledger_pool *pools[POOLS];
static struct ledger_branch *branches[POOLS][NODES];
static struct ledger_waiter waiters[WAITERS];
static struct ledger_slot slots[SLOTS];
static struct ledger_todo todo;

/* Three pools on two nodes, without limits. */
static inline void make_accounts(void)
{
    ledger = ledger_new(WORKERS);
    database = ledger_limit_new("max_db_connections", 0);
    user = ledger_limit_new("max_user_connections", 0);
    for (unsigned i = 0; i < NODES; i++)
        nodes[i] = ledger_limit_new("max_node_connections", 0);
    for (unsigned i = 0; i < POOLS; i++) {
        struct ledger_limit *limits[LEDGER_NODE];

        sizes[i] = ledger_limit_new("pool_size", 0);
        limits[LEDGER_POOL] = sizes[i];
        limits[LEDGER_DATABASE] = database;
        limits[LEDGER_USER] = user;
        pools[i] = ledger_pool_new(ledger, limits, 0);
        for (unsigned j = 0; j < NODES; j++)
            branches[i][j] = ledger_branch_hold(ledger, pools[i], nodes[j]);
    }
}

static inline void set_max(struct ledger_limit *limit, unsigned max)
{
    ledger_limit_set(ledger, limit, max, &todo);
}

/* The next notice, as text: "grant 3", "ask pool 1 node 0 worker 2"; "" = none. */
static inline const char *next_notice(void)
{
    static char text[64];
    struct ledger_notice *notice = ledger_todo_next(&todo);

    if (notice == NULL)
        return "";
    cr_assert(notice->is_under_way);
    if (notice->kind == LEDGER_GRANT) {
        struct ledger_waiter *waiter = ledger_notice_waiter(notice);

        cr_assert_eq(notice->worker, waiter->worker);
        snprintf(text, sizeof text, "grant %td", waiter - waiters);
        return text;
    }
    for (unsigned i = 0; i < POOLS * NODES; i++)
        if (ledger_notice_branch(notice) == branches[i / NODES][i % NODES])
            snprintf(text, sizeof text, "ask pool %u node %u worker %u", i / NODES,
                     i % NODES, notice->worker);
    return text;
}

static inline void expect_notice(const char *expected)
{
    const char *text = next_notice();

    cr_assert_str_eq(text, expected, "\"%s\" instead of \"%s\"", text, expected);
}

static inline void expect_no_notice(void)
{
    expect_notice("");
}

/* Waiter `i` of a worker joins, since its number unless said otherwise. */
static inline void join_since(unsigned i, struct ledger_branch *branch, unsigned worker,
                              uint64_t since_ns)
{
    waiters[i].branch = branch;
    waiters[i].worker = (uint16_t)worker;
    waiters[i].since_ns = since_ns;
    ledger_join(ledger, &waiters[i], &todo);
}

static inline void join(unsigned i, unsigned pool, unsigned worker)
{
    join_since(i, branches[pool][0], worker, i);
}

static inline void withdraw(unsigned i)
{
    ledger_withdraw(ledger, &waiters[i], &todo);
}

/* Takes a slot that is free. */
static inline struct ledger_slot *take(unsigned slot, unsigned pool, unsigned node)
{
    cr_assert(ledger_try(ledger, branches[pool][node], &slots[slot]));
    return &slots[slot];
}

static inline bool can_take(unsigned pool, unsigned node)
{
    struct ledger_slot slot = {0};
    bool is_free = ledger_try(ledger, branches[pool][node], &slot);

    if (is_free)
        ledger_give(ledger, &slot, &todo);
    return is_free;
}

static inline void give(unsigned slot)
{
    ledger_give(ledger, &slots[slot], &todo);
}

static inline bool accept(unsigned waiter, unsigned slot)
{
    return ledger_accept(ledger, &waiters[waiter].grant, &slots[slot]);
}

/* An idle server of a pool at a worker. */
static inline void make_idle(unsigned slot, unsigned pool, unsigned worker)
{
    take(slot, pool, 0);
    cr_assert(ledger_rest(branches[pool][0], worker));
}

static struct ledger_waiter *served; /* by the last offer */

static inline enum ledger_use offer(unsigned slot, unsigned worker)
{
    const struct ledger_offer made = {&slots[slot], worker, WINDOW, true};

    served = NULL;
    return ledger_serve(ledger, &made, &served, &todo);
}

/* The worker is asked and offers its only idle server. */
static inline enum ledger_use answer(unsigned slot, unsigned worker)
{
    struct ledger_branch *branch = slots[slot].branch;
    enum ledger_use use;

    ledger_hide(branch, worker);
    use = offer(slot, worker);
    ledger_answered(ledger, &branch->seats[worker].ask, &todo);
    return use;
}

static inline unsigned n_idle(unsigned pool, unsigned worker)
{
    return atomic_load(&branches[pool][0]->seats[worker].n_idle);
}

static inline const char *blocking(unsigned waiter)
{
    const char *name = ledger_blocking(ledger, &waiters[waiter]);

    return name == NULL ? "" : name;
}

static inline unsigned n_waiting(unsigned pool)
{
    return ledger_pool_view(ledger, pools[pool], 0).n_waiting;
}

#endif
