#include "router/console/sums.h"

#include <criterion/criterion.h>

#include "core/memory.h"
#include "router/worker.h"

/* Workers with pools, and nothing else of a worker. */
static struct pool pools[4];
static struct account account[4];
static struct worker workers[2];
static struct accounts *accounts;

static void open_pool(unsigned i, unsigned worker, char *database, char *user)
{
    account[i].home = accounts;
    account[i].name = database;
    account[i].user = user;
    pools[i].account = &account[i];
    pools[i].pools = &workers[worker].pools;
    pools[i].counts.queries = 10u + i;
    pools[i].terms.mode = POOL_MODE_TRANSACTION;
    list_init(&pools[i].idle);
    list_init(&pools[i].busy);
    list_init(&pools[i].needs);
    list_init(&pools[i].guests);
    list_append(&workers[worker].pools.pools, &pools[i].in_pools);
}

static void enter(unsigned i, const char *user)
{
    cr_assert_not_null(pool_enter(&pools[i], user));
}

static void open_workers(void)
{
    accounts = accounts_new(NULL);
    cr_assert_not_null(accounts);
    for (unsigned i = 0; i < 2; i++) {
        list_init(&workers[i].clients);
        list_init(&workers[i].pools.pools);
        workers[i].client_slab = slab_new(64);
        workers[i].server_slab = slab_new(64);
        workers[i].n_consoles = i;
    }
    open_pool(0, 0, "two", "app");
    open_pool(1, 0, "one", "app");
    open_pool(2, 1, "two", "app");
    open_pool(3, 1, "two", "admin");
    enter(0, "ann");
    enter(0, "ann");
    enter(2, "bob");
}

static void close_workers(void)
{
    for (unsigned i = 0; i < COUNT_OF(pools); i++)
        while (list_first(&pools[i].guests) != NULL)
            pool_leave(&pools[i],
                       CONTAINER_OF(list_first(&pools[i].guests), struct guest, in_list));
    accounts_free(accounts);
    for (unsigned i = 0; i < 2; i++) {
        slab_free(workers[i].client_slab);
        slab_free(workers[i].server_slab);
    }
}

TestSuite(sums, .init = open_workers, .fini = close_workers, .timeout = 10);

static const struct pool_sum *nth(const struct sums *sums, unsigned n)
{
    const struct link *item = sums->pools.head.next;

    while (n-- > 0)
        item = item->next;
    return CONTAINER_OF(item, struct pool_sum, in_list);
}

Test(sums, pools_of_the_same_database_and_user_are_one)
{
    struct sums *sums = sums_new();

    cr_assert_not_null(sums);
    cr_assert(sums_add_worker(sums, &workers[0]));
    cr_assert(sums_add_worker(sums, &workers[1]));
    sums_sort(sums);
    cr_assert_eq(sums->pools.n, 4);
    cr_expect_str_eq(nth(sums, 0)->database, "one");
    cr_expect_str_eq(nth(sums, 1)->database, "pgbouncer");
    cr_expect_eq(nth(sums, 1)->n_clients, 1);
    cr_expect_str_eq(nth(sums, 2)->user, "admin");
    cr_expect_str_eq(nth(sums, 3)->user, "app");
    cr_expect_eq(nth(sums, 3)->counts.queries, 10 + 12);
    cr_expect_eq(nth(sums, 3)->n_clients, 3);
    cr_expect_eq(nth(sums, 3)->mode, POOL_MODE_TRANSACTION);
    cr_expect_eq(sums_user(sums, "ann")->n_clients, 2);
    cr_expect_eq(sums_user(sums, "bob")->n_clients, 1);
    cr_expect_eq(sums_user(sums, "app")->n_clients, 0);
    cr_expect_null(sums_user(sums, "carl"));
    sums_free(sums);
}

Test(sums, without_memory_say_so)
{
    for (unsigned n = 1; n < 100; n++) {
        struct sums *sums;
        bool ok;

        memory_fail_at = n;
        sums = sums_new();
        ok = sums != NULL && sums_add_worker(sums, &workers[0]) &&
             sums_add_worker(sums, &workers[1]);
        memory_fail_at = 0;
        sums_free(sums);
        if (ok) {
            cr_expect_gt(n, 10);
            return;
        }
    }
    cr_assert_fail("it never succeeds");
}
