#include "pool/ledger.h"

#include "tests/lib/fault.h"
#include "tests/lib/ledger_office.h"

TestSuite(ledger, .init = make_accounts, .timeout = 20);

/* ---- limits -------------------------------------------------------------------------
 */

Test(ledger, every_limit_holds)
{
    struct ledger_limit *limits[] = {sizes[0], database, user, nodes[0]};

    for (unsigned i = 0; i < COUNT_OF(limits); i++) {
        set_max(limits[i], 2);
        take(0, 0, 0);
        take(1, 0, 0);
        cr_expect_not(can_take(0, 0), "%s", limits[i]->name);
        give(0);
        cr_expect(can_take(0, 0), "%s", limits[i]->name);
        give(1);
        set_max(limits[i], 0);
    }
}

Test(ledger, what_has_no_limit_is_counted_all_the_same)
{
    take(0, 0, 0);
    take(1, 1, 1);
    cr_expect_eq(ledger_limit_used(ledger, database), 2);
    cr_expect_eq(ledger_limit_used(ledger, nodes[1]), 1);
    set_max(database, 2);
    cr_expect_not(can_take(0, 0));
}

Test(ledger, takes_all_limits_or_none)
{
    set_max(nodes[0], 1);
    take(0, 0, 0);
    cr_expect_not(can_take(1, 0));
    cr_expect_eq(ledger_limit_used(ledger, sizes[1]), 0);
    cr_expect_eq(ledger_limit_used(ledger, database), 1);
    cr_expect_eq(ledger_limit_used(ledger, user), 1);
    cr_expect_eq(ledger_limit_used(ledger, nodes[0]), 1);
}

Test(ledger, a_waiter_gets_a_slot_that_is_free_at_once)
{
    set_max(sizes[0], 1);
    join(0, 0, 1);
    expect_notice("grant 0");
    expect_no_notice();
    cr_expect_eq(ledger_limit_used(ledger, sizes[0]), 1, "from the moment of the grant");
    cr_assert(accept(0, 0));
    cr_expect_eq(slots[0].branch, branches[0][0]);
    cr_expect_eq(ledger_opened(ledger, &slots[0], &todo), &waiters[0]);
    cr_expect_eq(waiters[0].state, LEDGER_OUT);
    cr_expect_eq(n_waiting(0), 0);
}

Test(ledger, a_freed_slot_goes_to_the_first_of_all_workers)
{
    set_max(sizes[0], 1);
    take(0, 0, 0);
    join(3, 0, 0);
    join(1, 0, 2);
    join(2, 0, 1);
    expect_no_notice();
    give(0);
    expect_notice("grant 1");
    expect_no_notice();
    cr_assert(accept(1, 1));
    give(1);
    expect_notice("grant 1"); /* it could not be opened, and was first before */
    expect_no_notice();
}

Test(ledger, a_freed_slot_goes_to_the_first_of_all_pools)
{
    set_max(database, 1);
    take(0, 0, 0);
    join(3, 0, 0);
    join(2, 1, 1);
    join(1, 2, 2);
    give(0);
    expect_notice("grant 1");
    expect_no_notice();
}

Test(ledger, a_slot_is_kept_until_it_is_given_back)
{
    set_max(sizes[0], 1);
    make_idle(0, 0, 0);
    ledger_hide(branches[0][0], 0); /* to be closed */
    join(1, 0, 1);
    expect_no_notice();
    cr_expect_str_eq(blocking(1), "pool_size");
    give(0);
    expect_notice("grant 1");
}

Test(ledger, a_line_that_is_held_up_does_not_hold_up_others)
{
    set_max(sizes[0], 2);
    set_max(nodes[0], 1);
    take(0, 0, 0);
    take(1, 0, 1);
    join_since(1, branches[0][0], 0, 1);
    join_since(2, branches[0][1], 0, 2);
    expect_no_notice();
    give(1);
    expect_notice("grant 2");
    expect_no_notice();
    give(0);
    expect_notice("grant 1");
}

Test(ledger, one_freed_slot_may_serve_two_lines)
{
    set_max(nodes[0], 1);
    set_max(sizes[0], 1);
    take(0, 0, 0);
    join_since(1, branches[1][0], 0, 1); /* held up by the node */
    join_since(2, branches[0][1], 0, 2); /* held up by the pool */
    give(0);
    expect_notice("grant 1");
    expect_notice("grant 2");
    expect_no_notice();
}

Test(ledger, a_raised_limit_gives_the_new_room_at_once)
{
    set_max(sizes[0], 1);
    take(0, 0, 0);
    for (unsigned i = 1; i < 6; i++)
        join(i, 0, i % WORKERS);
    expect_no_notice();
    set_max(sizes[0], 3);
    expect_notice("grant 1");
    expect_notice("grant 2");
    expect_no_notice();
    set_max(sizes[0], 0);
    expect_notice("grant 3");
    expect_notice("grant 4");
    expect_notice("grant 5");
    expect_no_notice();
}

Test(ledger, a_lowered_limit_throws_nobody_out)
{
    set_max(sizes[0], 3);
    for (unsigned i = 0; i < 3; i++)
        take(i, 0, 0);
    join(3, 0, 0);
    set_max(sizes[0], 1);
    cr_expect_eq(ledger_excess(ledger, branches[0][0]), 2);
    give(0);
    give(1);
    expect_no_notice();
    cr_expect_eq(ledger_excess(ledger, branches[0][0]), 0);
    give(2);
    expect_notice("grant 3");
}

Test(ledger, the_excess_is_that_of_the_limit_that_is_exceeded_most)
{
    for (unsigned i = 0; i < 4; i++)
        take(i, 0, 0);
    cr_expect_eq(ledger_excess(ledger, branches[0][0]), 0);
    set_max(database, 3);
    cr_expect_eq(ledger_excess(ledger, branches[0][0]), 1);
    set_max(nodes[0], 1);
    cr_expect_eq(ledger_excess(ledger, branches[0][0]), 3);
    cr_expect_eq(ledger_excess(ledger, branches[0][1]), 1);
    set_max(sizes[0], 1);
    ledger_pool_set_reserve(ledger, pools[0], 2, &todo);
    cr_expect_eq(ledger_excess(ledger, branches[0][0]), 3, "the reserve is no excess");
}

Test(ledger, names_the_limit_that_blocks)
{
    struct ledger_limit *limits[] = {sizes[0], database, user, nodes[0]};
    static const char *const names[] = {"pool_size", "max_db_connections",
                                        "max_user_connections", "max_node_connections"};

    for (unsigned i = 0; i < COUNT_OF(limits); i++) {
        set_max(limits[i], 1);
        take(0, 0, 0);
        join(1, 0, 0);
        cr_expect_str_eq(blocking(1), names[i]);
        withdraw(1);
        cr_expect_str_eq(blocking(1), "");
        give(0);
        set_max(limits[i], 0);
    }
}

Test(ledger, nothing_blocks_who_has_a_slot)
{
    set_max(sizes[0], 1);
    join(0, 0, 0);
    cr_expect_str_eq(blocking(0), "");
    cr_assert(accept(0, 0));
    cr_expect_str_eq(blocking(0), "");
}

Test(ledger, who_waits_comes_before_servers_that_nobody_waits_for)
{
    make_idle(0, 0, 1);
    join(1, 0, 0);
    expect_notice("ask pool 0 node 0 worker 1");
    cr_expect_not(can_take(0, 0));
    cr_expect(can_take(1, 0), "another pool may");
}

/* ---- slots that are not needed any more ---------------------------------------------
 */

Test(ledger, a_granted_slot_is_passed_on_when_its_owner_leaves)
{
    set_max(sizes[0], 1);
    join(0, 0, 0);
    join(1, 0, 1);
    expect_notice("grant 0");
    withdraw(0);
    expect_notice("grant 1");
    expect_no_notice();
    cr_expect(ledger_waiter_is_expected(&waiters[0]), "its notice is still under way");
    cr_expect_not(accept(0, 0));
    cr_expect_not(ledger_waiter_is_expected(&waiters[0]));
    cr_expect(accept(1, 0));
    cr_expect_eq(ledger_limit_used(ledger, sizes[0]), 1);
}

Test(ledger, a_granted_slot_is_free_when_nobody_else_waits)
{
    set_max(sizes[0], 1);
    join(0, 0, 0);
    withdraw(0);
    cr_expect(can_take(0, 0));
    cr_expect_not(accept(0, 0));
    cr_expect_null(slots[0].branch);
}

Test(ledger, one_notice_will_do_for_two_grants)
{
    set_max(sizes[0], 1);
    join(0, 0, 0);
    expect_notice("grant 0");
    withdraw(0);
    join_since(0, branches[1][0], 0, 5);
    expect_no_notice();
    cr_assert(accept(0, 0));
    cr_expect_eq(slots[0].branch, branches[1][0], "what it wants now");
    cr_expect_eq(ledger_limit_used(ledger, sizes[0]), 0);
}

Test(ledger, a_late_notice_says_nothing_to_who_waits_again)
{
    set_max(sizes[0], 1);
    join(0, 0, 0);
    expect_notice("grant 0");
    withdraw(0);
    take(1, 0, 0);
    join(0, 0, 0);
    cr_expect_not(accept(0, 0));
    cr_expect_eq(waiters[0].state, LEDGER_IN_LINE);
    give(1);
    expect_notice("grant 0");
}

Test(ledger, a_server_is_nobodys_when_its_waiter_has_left)
{
    join(0, 0, 0);
    cr_assert(accept(0, 0));
    withdraw(0);
    cr_expect_not(ledger_waiter_is_expected(&waiters[0]));
    cr_expect_null(ledger_opened(ledger, &slots[0], &todo));
    cr_expect(ledger_rest(branches[0][0], 0));
}

Test(ledger, a_server_that_cannot_be_opened_puts_its_waiter_back_to_its_place)
{
    set_max(sizes[0], 2);
    join(1, 0, 0);
    join(2, 0, 0);
    expect_notice("grant 1");
    expect_notice("grant 2");
    join(3, 0, 1);
    cr_assert(accept(1, 1));
    cr_assert(accept(2, 2));
    set_max(sizes[0], 1);
    give(1); /* one too many was used */
    expect_no_notice();
    cr_expect_eq(waiters[1].state, LEDGER_IN_LINE);
    cr_expect_eq(n_waiting(0), 3);
    give(2);
    expect_notice("grant 1");
    expect_no_notice();
}

Test(ledger, a_slot_that_failed_without_limits_is_granted_again)
{
    join(1, 0, 0);
    expect_notice("grant 1");
    cr_assert(accept(1, 1));
    give(1);
    expect_notice("grant 1");
    expect_no_notice();
}

Test(ledger, who_is_out_may_leave_again)
{
    withdraw(0);
    waiters[0].branch = branches[0][0];
    withdraw(0);
    join(0, 0, 0);
    withdraw(0);
    withdraw(0);
    cr_expect_eq(n_waiting(0), 0);
}

Test(ledger, never_joins_twice, .signal = SIGABRT)
{
    join(0, 0, 0);
    join(0, 0, 0);
}

Test(ledger, never_gives_a_slot_twice, .signal = SIGABRT)
{
    take(0, 0, 0);
    give(0);
    give(0);
}

Test(ledger, never_takes_with_a_slot_in_hand, .signal = SIGABRT)
{
    take(0, 0, 0);
    take(0, 0, 0);
}

/* ---- the reserve --------------------------------------------------------------------
 */

static void fill_pool_with_reserve(unsigned max, unsigned reserve)
{
    set_max(sizes[0], max);
    ledger_pool_set_reserve(ledger, pools[0], reserve, &todo);
    for (unsigned i = 0; i < max; i++)
        take(i, 0, 0);
}

Test(ledger, the_reserve_is_for_who_asks_for_it)
{
    fill_pool_with_reserve(1, 1);
    cr_expect_not(can_take(0, 0));
    join(1, 0, 0);
    expect_no_notice();
    ledger_ask_reserve(ledger, &waiters[1], &todo);
    expect_notice("grant 1");
    join(2, 0, 0);
    expect_no_notice();
    ledger_ask_reserve(ledger, &waiters[2], &todo);
    expect_no_notice();
    cr_expect_str_eq(blocking(2), "pool_size");
    cr_expect_eq(ledger_limit_used(ledger, sizes[0]), 2);
}

Test(ledger, the_reserve_goes_to_the_first_of_the_line)
{
    fill_pool_with_reserve(1, 1);
    join(1, 0, 0);
    join(2, 0, 1);
    ledger_ask_reserve(ledger, &waiters[2], &todo);
    expect_notice("grant 1");
    expect_no_notice();
}

Test(ledger, who_asked_for_the_reserve_gets_it_when_it_has_room)
{
    fill_pool_with_reserve(1, 1);
    join(1, 0, 0);
    ledger_ask_reserve(ledger, &waiters[1], &todo);
    expect_notice("grant 1");
    cr_assert(accept(1, 1));
    join(2, 0, 0);
    ledger_ask_reserve(ledger, &waiters[2], &todo);
    expect_no_notice();
    join(3, 0, 0);
    give(0);
    expect_notice("grant 2");
    expect_no_notice();
    cr_assert(accept(2, 2));
    give(2);
    expect_notice("grant 2"); /* could not be opened */
    withdraw(2);
    expect_no_notice();
}

Test(ledger, who_asked_for_the_reserve_before_has_to_ask_again)
{
    fill_pool_with_reserve(1, 1);
    join(1, 0, 0);
    ledger_ask_reserve(ledger, &waiters[1], &todo);
    withdraw(1);
    expect_notice("grant 1");
    cr_expect_not(accept(1, 1));
    join(1, 0, 0);
    expect_no_notice();
}

Test(ledger, the_reserve_is_above_the_pools_own_limit_only)
{
    fill_pool_with_reserve(1, 5);
    set_max(database, 1);
    join(1, 0, 0);
    ledger_ask_reserve(ledger, &waiters[1], &todo);
    expect_no_notice();
    cr_expect_str_eq(blocking(1), "max_db_connections");
}

Test(ledger, a_raised_reserve_is_given_at_once)
{
    fill_pool_with_reserve(1, 0);
    join(1, 0, 0);
    ledger_ask_reserve(ledger, &waiters[1], &todo);
    expect_no_notice();
    ledger_pool_set_reserve(ledger, pools[0], 1, &todo);
    expect_notice("grant 1");
}

/* ---- views --------------------------------------------------------------------------
 */

Test(ledger, shows_what_is_used_and_who_waits)
{
    struct ledger_view view;

    set_max(sizes[0], 2);
    take(0, 0, 0);
    take(1, 0, 1);
    view = ledger_pool_view(ledger, pools[0], 1000);
    cr_expect_eq(view.n_used, 2);
    cr_expect_eq(view.n_waiting, 0);
    cr_expect_eq(view.longest_wait_ns, 0);
    join_since(1, branches[0][0], 0, 700);
    join_since(2, branches[0][1], 1, 600);
    view = ledger_pool_view(ledger, pools[0], 1000);
    cr_expect_eq(view.n_waiting, 2);
    cr_expect_eq(view.longest_wait_ns, 400);
    view = ledger_pool_view(ledger, pools[0], 500);
    cr_expect_eq(view.longest_wait_ns, 0, "another worker's clock is ahead");
    give(0);
    view = ledger_pool_view(ledger, pools[0], 1000);
    cr_expect_eq(view.n_used, 2, "granted again");
    cr_expect_eq(view.n_waiting, 2, "until the server is there");
}

/* ---- births and deaths --------------------------------------------------------------
 */

Test(ledger, a_branch_is_the_same_for_all_who_hold_it)
{
    struct ledger_branch *branch = ledger_branch_hold(ledger, pools[0], nodes[0]);

    cr_expect_eq(branch, branches[0][0]);
    ledger_branch_release(ledger, branch);
    take(0, 0, 0);
    cr_expect_eq(slots[0].branch->pool, pools[0]);
}

static void release_accounts(void)
{
    for (unsigned i = 0; i < POOLS; i++) {
        for (unsigned j = 0; j < NODES; j++)
            ledger_branch_release(ledger, branches[i][j]);
        cr_expect(ledger_pool_release(ledger, pools[i]));
        ledger_limit_release(ledger, sizes[i]);
    }
    ledger_limit_release(ledger, database);
    ledger_limit_release(ledger, user);
    for (unsigned i = 0; i < NODES; i++)
        ledger_limit_release(ledger, nodes[i]);
}

Test(ledger, the_last_to_let_go_is_told)
{
    ledger_pool_hold(ledger, pools[0]);
    ledger_limit_hold(ledger, database);
    ledger_limit_release(ledger, database);
    cr_expect_not(ledger_pool_release(ledger, pools[0]));
    release_accounts();
    ledger_free(ledger);
}

Test(ledger, a_question_that_is_under_way_holds_what_it_is_about)
{
    struct ledger_notice *notice;

    make_idle(0, 0, 1);
    join(1, 0, 0);
    notice = ledger_todo_next(&todo);
    withdraw(1);
    ledger_hide(branches[0][0], 1);
    give(0);
    release_accounts();
    cr_expect_eq(ledger_notice_branch(notice)->pool, pools[0]);
    ledger_answered(ledger, notice, &todo);
    ledger_free(ledger);
}

static void make_and_free(void *arg)
{
    struct ledger *made = ledger_new(2);
    struct ledger_limit *limit = ledger_limit_new("pool_size", 1), *limits[LEDGER_NODE];
    struct ledger_pool *pool = NULL;
    struct ledger_branch *branch = NULL;

    for (int scope = 0; scope < LEDGER_NODE; scope++)
        limits[scope] = limit;
    if (made != NULL && limit != NULL)
        pool = ledger_pool_new(made, limits, 0);
    if (pool != NULL)
        branch = ledger_branch_hold(made, pool, limit);
    *(bool *)arg = branch != NULL;
    if (branch != NULL)
        ledger_branch_release(made, branch);
    if (pool != NULL)
        cr_expect(ledger_pool_release(made, pool));
    if (limit != NULL && made != NULL)
        ledger_limit_release(made, limit);
    else
        memory_free(limit);
    ledger_free(made);
}

Test(ledger, survives_each_allocation_failure)
{
    bool has_branch = false;

    cr_expect_eq(fault_each_allocation(make_and_free, &has_branch), 4);
    cr_expect(has_branch);
}
