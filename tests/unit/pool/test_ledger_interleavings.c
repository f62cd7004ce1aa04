/* Every order in which three workers can do what they do with the ledger: what a scene
 * is, and what must hold in it, is in lib/ledger_world.h. Besides: no chain of answers
 * goes on for ever. Without clients that come or go, every way comes to an end.
 */
#include <criterion/criterion.h>

#include "tests/lib/ledger_world.h"

/* Who is first of its worker is served, however long others have waited. */
#define EVER UINT64_MAX

#define SCENE(...) cr_expect_gt(world_play(&(struct world_scene){__VA_ARGS__}), 0)

TestSuite(ledger_interleavings, .timeout = 600);

Test(ledger_interleavings, three_workers_share_two_servers)
{
    SCENE(.pool_max = 2, .workers = {0, 1, 2}, .n_requests = {2, 1, 1},
          .window_ns = EVER);
}

Test(ledger_interleavings, in_order_of_time_over_all_workers)
{
    SCENE(.pool_max = 1, .workers = {0, 1, 2}, .n_requests = {2, 2, 2}, .window_ns = 0);
}

Test(ledger_interleavings, clients_leave_and_come_again)
{
    SCENE(.pool_max = 1, .workers = {0, 1, 1}, .n_requests = {2, 2, 1}, .window_ns = 0,
          .chances = {.n_withdrawals = 2});
}

Test(ledger_interleavings, idle_servers_are_closed)
{
    SCENE(.pool_max = 2, .workers = {0, 1, 2}, .n_requests = {2, 1, 1}, .window_ns = EVER,
          .chances = {.n_closings = 2});
}

Test(ledger_interleavings, servers_cannot_be_opened)
{
    SCENE(.pool_max = 2, .workers = {0, 1, 0}, .n_requests = {1, 2, 1}, .window_ns = EVER,
          .chances = {.n_failures = 1, .n_withdrawals = 1});
}

Test(ledger_interleavings, servers_die_on_their_way)
{
    SCENE(.pool_max = 2, .workers = {0, 1, 1}, .n_requests = {1, 2, 1}, .window_ns = 0,
          .chances = {.n_losses = 1, .n_withdrawals = 1});
}

Test(ledger_interleavings, servers_are_opened_that_nobody_waits_for)
{
    SCENE(.pool_max = 2, .workers = {0, 1, 2}, .n_requests = {1, 1, 1}, .window_ns = EVER,
          .chances = {.n_tries = 1, .n_closings = 1});
}

Test(ledger_interleavings, a_limit_is_raised)
{
    SCENE(.changes = {2, 0}, .pool_max = 1, .workers = {0, 1, 2}, .n_requests = {1, 1, 1},
          .window_ns = EVER, .chances = {.n_changes = 2});
}

Test(ledger_interleavings, a_limit_is_lowered_and_raised)
{
    SCENE(.changes = {2, 1}, .pool_max = 2, .workers = {0, 1, 2}, .n_requests = {1, 1, 1},
          .window_ns = EVER, .chances = {.n_changes = 2, .n_closings = 1});
}

Test(ledger_interleavings, servers_of_other_pools_are_closed)
{
    SCENE(.pool_max = 2, .pool_max_2 = 2, .database_max = 2, .workers = {0, 1, 2},
          .pools = {0, 1, 0}, .n_requests = {1, 2, 1}, .window_ns = EVER);
}

Test(ledger_interleavings, two_idle_servers_of_another_pool_are_closed)
{
    SCENE(.pool_max = 2, .pool_max_2 = 2, .database_max = 2, .workers = {0, 1, 2},
          .pools = {1, 0, 1}, .n_requests = {1, 0, 1}, .window_ns = EVER,
          .chances = {.n_tries = 2});
}

Test(ledger_interleavings, two_pools_close_each_others_only_server)
{
    SCENE(.pool_max = 1, .pool_max_2 = 1, .database_max = 1, .workers = {0, 1, 2},
          .pools = {0, 1, 1}, .n_requests = {2, 2, 1}, .window_ns = 0,
          .chances = {.n_withdrawals = 1});
}

Test(ledger_interleavings, waiters_move_to_another_node)
{
    SCENE(.pool_max = 2, .node_max = 1, .has_two_nodes = true, .workers = {0, 1, 2},
          .n_requests = {1, 1, 1}, .window_ns = EVER, .chances = {.n_moves = 1});
}

Test(ledger_interleavings, servers_of_other_pools_on_the_node_are_closed)
{
    SCENE(.pool_max = 2, .pool_max_2 = 2, .node_max = 1, .has_two_nodes = true,
          .workers = {0, 1, 1}, .pools = {0, 1, 0}, .n_requests = {1, 2, 1},
          .window_ns = EVER, .chances = {.n_moves = 1});
}

Test(ledger_interleavings, one_of_two_limits_that_block_is_raised)
{
    SCENE(.changes = {2}, .pool_max = 2, .pool_max_2 = 2, .database_max = 2,
          .node_max = 1, .changed = LEDGER_NODE, .has_two_nodes = true,
          .workers = {0, 1, 1}, .pools = {0, 1, 0}, .nodes = {0, 1, 0},
          .n_requests = {1, 1, 1}, .window_ns = EVER, .chances = {.n_changes = 1});
}

Test(ledger_interleavings, pools_share_their_own_limit)
{
    SCENE(.pool_max = 1, .pool_max_2 = 1, .shares_pool_limit = true, .workers = {0, 1, 2},
          .pools = {0, 1, 0}, .n_requests = {1, 2, 1}, .window_ns = EVER);
}

Test(ledger_interleavings, the_reserve_is_asked_for)
{
    SCENE(.pool_max = 1, .reserve = 1, .workers = {0, 1, 2}, .n_requests = {1, 1, 1},
          .window_ns = EVER, .chances = {.n_overdue = 2, .n_withdrawals = 1});
}

Test(ledger_interleavings, logins_are_limited)
{
    SCENE(.pool_max = 3, .pool_max_2 = 2, .login_concurrency = 1, .workers = {0, 1, 2},
          .pools = {0, 1, 0}, .n_requests = {1, 1, 1}, .window_ns = EVER,
          .chances = {.n_failures = 1, .n_withdrawals = 1});
}

Test(ledger_interleavings, logins_are_limited_on_each_node)
{
    SCENE(.pool_max = 2, .login_concurrency = 1, .has_two_nodes = true,
          .workers = {0, 1, 2}, .nodes = {0, 0, 1}, .n_requests = {1, 1, 1},
          .window_ns = EVER, .chances = {.n_moves = 1});
}

/* ---- that the world does what the real functions do ---------------------------------
 */

#define MOST 12

/* Expects these accesses, and no others. */
static void expect_accesses(const atomic_uint *const expected[MOST], unsigned n)
{
    struct world_accesses accesses = world_take_accesses();

    cr_assert_eq(accesses.n, n);
    for (unsigned i = 0; i < n; i++)
        cr_expect_eq(accesses.counters[i], expected[i], "access %u", i);
}

Test(ledger_interleavings, the_real_functions_take_the_same_steps)
{
    struct ledger_branch *branch = world_make(&(struct world_scene){.pool_max = 1});
    atomic_uint *n_idle = &branch->seats[0].n_idle;
    atomic_uint *n_waiting = &branch->pool->n_waiting;
    const atomic_uint *expected[MOST];

    expected[0] = expected[6] = n_waiting; /* look, show, look again */
    expected[5] = n_idle;
    for (unsigned i = 0; i < LEDGER_SCOPES; i++)
        expected[i + 1] = expected[i + 7] = &branch->limits[i]->n_blocked;

    cr_expect(ledger_rest(branch, 0));
    expect_accesses(expected, 11);
    atomic_store(&branch->limits[LEDGER_NODE]->n_blocked, 1);
    cr_expect_not(ledger_rest(branch, 0));
    expect_accesses(expected, 5);
    atomic_store(n_waiting, 1);
    cr_expect_not(ledger_rest(branch, 0));
    expect_accesses(expected, 1);

    cr_expect_not(ledger_lend(branch, 0));
    expect_accesses(expected, 1);
    atomic_store(n_waiting, 0);
    cr_expect(ledger_lend(branch, 0));
    expected[1] = n_idle;
    expect_accesses(expected, 2);
}
