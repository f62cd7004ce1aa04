/* Who gets a server that is idle, released or closed. */
#include "pool/ledger.h"
#include "tests/lib/ledger_office.h"

TestSuite(ledger_servers, .init = make_accounts, .timeout = 20);

/* ---- idle servers -------------------------------------------------------------------
 */

Test(ledger_servers, an_idle_server_is_lent_while_nobody_waits)
{
    set_max(sizes[0], 1);
    make_idle(0, 0, 0);
    cr_expect_eq(n_idle(0, 0), 1);
    cr_assert(ledger_lend(branches[0][0], 0));
    cr_expect_eq(n_idle(0, 0), 0);
    cr_assert(ledger_rest(branches[0][0], 0));
    join(1, 0, 1);
    cr_expect_not(ledger_lend(branches[0][0], 0), "others wait");
    cr_expect_eq(n_idle(0, 0), 1);
}

Test(ledger_servers, a_released_server_does_not_rest_while_somebody_waits)
{
    set_max(sizes[0], 1);
    take(0, 0, 0);
    join(1, 0, 1);
    cr_expect_not(ledger_rest(branches[0][0], 0));
    cr_expect_eq(n_idle(0, 0), 0);
}

Test(ledger_servers, a_waiter_asks_for_an_idle_server_before_it_takes_a_slot)
{
    make_idle(0, 0, 2);
    join(1, 0, 0);
    expect_notice("ask pool 0 node 0 worker 2");
    expect_no_notice();
    cr_expect_eq(answer(0, 2), LEDGER_HAND);
    cr_expect_eq(served, &waiters[1]);
    expect_no_notice();
    cr_expect_eq(ledger_limit_used(ledger, sizes[0]), 1);
}

Test(ledger_servers, the_waiters_own_worker_is_asked_first)
{
    make_idle(0, 0, 1);
    make_idle(1, 0, 1);
    make_idle(2, 0, 0);
    join(1, 0, 0);
    expect_notice("ask pool 0 node 0 worker 0");
    expect_no_notice();
    cr_expect_eq(answer(2, 0), LEDGER_LEND);
    cr_expect_eq(waiters[1].state, LEDGER_OUT);
}

Test(ledger_servers, then_the_worker_with_the_most_idle_servers)
{
    make_idle(0, 0, 1);
    make_idle(1, 0, 2);
    make_idle(2, 0, 2);
    join(1, 0, 0);
    expect_notice("ask pool 0 node 0 worker 2");
    expect_no_notice();
}

Test(ledger_servers, idle_servers_on_any_node_will_do)
{
    take(0, 0, 1);
    cr_assert(ledger_rest(branches[0][1], 1));
    join(1, 0, 0);
    expect_notice("ask pool 0 node 1 worker 1");
}

Test(ledger_servers, a_worker_is_asked_once_at_a_time)
{
    set_max(sizes[0], 2);
    make_idle(0, 0, 2);
    make_idle(1, 0, 2);
    join(1, 0, 0);
    expect_notice("ask pool 0 node 0 worker 2");
    join(2, 0, 1);
    expect_no_notice();
    ledger_hide(branches[0][0], 2);
    cr_expect_eq(offer(0, 2), LEDGER_HAND);
    cr_expect_eq(answer(1, 2), LEDGER_HAND);
    cr_expect_eq(served, &waiters[2]);
    expect_no_notice();
}

Test(ledger_servers, nobody_takes_a_slot_while_idle_servers_will_do_for_all)
{
    make_idle(0, 0, 2);
    make_idle(1, 0, 2);
    join(1, 0, 0);
    expect_notice("ask pool 0 node 0 worker 2");
    join(2, 0, 0);
    expect_no_notice();
    join(3, 0, 0);
    expect_notice("grant 1");
    expect_no_notice();
    ledger_hide(branches[0][0], 2);
    cr_expect_eq(offer(0, 2), LEDGER_HAND);
    join(4, 0, 0); /* one is idle still, for three */
    expect_notice("grant 2");
    expect_notice("grant 3");
    expect_no_notice();
}

Test(ledger_servers, each_waiter_has_a_worker_asked)
{
    set_max(sizes[0], 2);
    make_idle(0, 0, 1);
    make_idle(1, 0, 2);
    join(1, 0, 0);
    expect_notice("ask pool 0 node 0 worker 1");
    join(2, 0, 0);
    expect_notice("ask pool 0 node 0 worker 2");
}

Test(ledger_servers, a_waiter_gets_a_slot_when_the_idle_server_was_lent)
{
    make_idle(0, 0, 2);
    join(1, 0, 0);
    expect_notice("ask pool 0 node 0 worker 2");
    ledger_hide(branches[0][0], 2); /* lent, just before */
    ledger_answered(ledger, &branches[0][0]->seats[2].ask, &todo);
    expect_notice("grant 1");
    expect_no_notice();
}

Test(ledger_servers, a_waiter_asks_elsewhere_when_the_idle_server_was_lent)
{
    make_idle(0, 0, 2);
    join(1, 0, 0);
    expect_notice("ask pool 0 node 0 worker 2");
    ledger_hide(branches[0][0], 2);
    take(1, 1, 0);
    take(2, 0, 1);
    slots[2] = (struct ledger_slot){branches[0][1], NULL};
    ledger_show(branches[0][1], 1);
    ledger_answered(ledger, &branches[0][0]->seats[2].ask, &todo);
    expect_notice("ask pool 0 node 1 worker 1");
    expect_no_notice();
}

Test(ledger_servers, a_kept_server_is_idle)
{
    take(0, 0, 0);
    cr_expect_eq(offer(0, 1), LEDGER_KEEP);
    cr_expect_eq(n_idle(0, 1), 1);
}

/* ---- who gets a released server -----------------------------------------------------
 */

static void two_wait(uint64_t own_since_ns, uint64_t other_since_ns)
{
    set_max(sizes[0], 1);
    take(0, 0, 0);
    join_since(1, branches[0][0], 0, own_since_ns);
    join_since(2, branches[0][0], 1, other_since_ns);
}

Test(ledger_servers, a_server_goes_to_the_first_of_its_own_worker)
{
    two_wait(50, 40);
    join_since(3, branches[0][0], 0, 30);
    cr_expect_eq(offer(0, 0), LEDGER_LEND);
    cr_expect_eq(served, &waiters[3]);
    cr_expect_eq(waiters[3].state, LEDGER_OUT);
}

Test(ledger_servers, within_the_window_the_own_worker_comes_first)
{
    two_wait(WINDOW + 5, 5);
    cr_expect_eq(offer(0, 0), LEDGER_LEND);
    cr_expect_eq(served, &waiters[1]);
}

Test(ledger_servers, beyond_the_window_who_waits_longest_comes_first)
{
    two_wait(WINDOW + 6, 5);
    cr_expect_eq(offer(0, 0), LEDGER_HAND);
    cr_expect_eq(served, &waiters[2]);
    cr_expect_eq(waiters[2].state, LEDGER_HANDED);
    cr_expect_eq(n_waiting(0), 1);
}

Test(ledger_servers, of_the_others_the_oldest_comes_first)
{
    two_wait(1000, 20);
    join_since(3, branches[0][0], 2, 10);
    cr_expect_eq(offer(0, 0), LEDGER_HAND);
    cr_expect_eq(served, &waiters[3]);
}

Test(ledger_servers, a_server_leaves_at_once_when_its_worker_has_no_waiter)
{
    two_wait(1, 2);
    withdraw(1);
    cr_expect_eq(offer(0, 0), LEDGER_HAND);
    cr_expect_eq(served, &waiters[2]);
}

Test(ledger_servers, who_is_served_passes_its_grant_on)
{
    set_max(sizes[0], 2);
    take(0, 0, 0);
    join(1, 0, 0);
    expect_notice("grant 1");
    join(2, 0, 1);
    cr_expect_eq(offer(0, 0), LEDGER_LEND);
    cr_expect_eq(served, &waiters[1]);
    expect_notice("grant 2");
    cr_expect_not(accept(1, 1));
}

Test(ledger_servers, who_waits_for_its_own_server_takes_one_that_is_released)
{
    set_max(sizes[0], 2);
    take(0, 0, 0);
    join(1, 0, 1);
    cr_assert(accept(1, 1));
    cr_expect_eq(offer(0, 0), LEDGER_HAND);
    cr_expect_eq(served, &waiters[1]);
    cr_expect_null(ledger_opened(ledger, &slots[1], &todo));
}

Test(ledger_servers, a_handed_server_arrives)
{
    two_wait(500, 5);
    cr_assert_eq(offer(0, 0), LEDGER_HAND);
    cr_expect(ledger_waiter_is_expected(&waiters[2]));
    cr_expect(ledger_receive(ledger, &waiters[2], pools[0], &todo));
    cr_expect_eq(waiters[2].state, LEDGER_OUT);
    cr_expect_not(ledger_waiter_is_expected(&waiters[2]));
}

Test(ledger_servers, who_was_handed_a_server_that_died_is_back_at_its_place)
{
    two_wait(500, 5);
    join_since(3, branches[0][0], 2, 10);
    cr_assert_eq(offer(0, 0), LEDGER_HAND);
    cr_expect_not(ledger_receive(ledger, &waiters[2], NULL, &todo));
    cr_expect_eq(waiters[2].state, LEDGER_IN_LINE);
    give(0);
    expect_notice("grant 2");
    expect_no_notice();
}

Test(ledger_servers, who_is_back_at_its_place_gets_a_slot_that_is_free)
{
    two_wait(500, 5);
    cr_assert_eq(offer(0, 0), LEDGER_HAND);
    withdraw(1);
    set_max(sizes[0], 2);
    expect_no_notice();
    cr_expect_not(ledger_receive(ledger, &waiters[2], NULL, &todo));
    expect_notice("grant 2");
}

Test(ledger_servers, a_handed_server_is_not_for_who_has_left)
{
    two_wait(500, 5);
    cr_assert_eq(offer(0, 0), LEDGER_HAND);
    withdraw(2);
    cr_expect(ledger_waiter_is_expected(&waiters[2]), "its memory is named by a message");
    cr_expect_not(ledger_receive(ledger, &waiters[2], pools[0], &todo));
    cr_expect_not(ledger_waiter_is_expected(&waiters[2]));
    cr_expect_not(ledger_rest(branches[0][0], 1), "the other one waits still");
    cr_expect_eq(offer(0, 1), LEDGER_HAND);
    cr_expect_eq(served, &waiters[1]);
}

Test(ledger_servers, who_waits_again_takes_what_was_handed_to_it_before)
{
    two_wait(500, 5);
    cr_assert_eq(offer(0, 0), LEDGER_HAND);
    withdraw(2);
    join_since(2, branches[0][0], 1, 600);
    cr_expect(ledger_receive(ledger, &waiters[2], pools[0], &todo));
    cr_expect_eq(n_waiting(0), 1);
}

Test(ledger_servers, who_waits_for_another_pool_takes_it_not)
{
    two_wait(500, 5);
    cr_assert_eq(offer(0, 0), LEDGER_HAND);
    withdraw(2);
    join_since(2, branches[1][0], 1, 600);
    expect_notice("grant 2");
    cr_expect_not(ledger_receive(ledger, &waiters[2], pools[0], &todo));
    cr_expect_eq(waiters[2].state, LEDGER_GRANTED);
    cr_expect(accept(2, 2));
}

Test(ledger_servers, of_two_servers_that_were_handed_the_first_is_taken)
{
    set_max(sizes[0], 2);
    take(0, 0, 0);
    take(1, 0, 0);
    join(2, 0, 1);
    cr_assert_eq(offer(0, 0), LEDGER_HAND);
    withdraw(2);
    join(2, 0, 1);
    cr_assert_eq(offer(1, 0), LEDGER_HAND);
    cr_expect_not(ledger_receive(ledger, &waiters[2], NULL, &todo), "one has died");
    cr_expect_eq(waiters[2].state, LEDGER_HANDED, "the other comes");
    cr_expect(ledger_receive(ledger, &waiters[2], pools[0], &todo));
    cr_expect_not(ledger_waiter_is_expected(&waiters[2]));
}

Test(ledger_servers, a_server_that_may_not_leave_is_closed_for_who_waits_elsewhere)
{
    struct ledger_offer made = {&slots[0], 0, WINDOW, false};

    two_wait(500, 5);
    cr_expect_eq(ledger_serve(ledger, &made, &served, &todo), LEDGER_LEND);
    cr_expect_eq(served, &waiters[1], "its own are served however long others wait");
    cr_expect_eq(ledger_serve(ledger, &made, &served, &todo), LEDGER_CLOSE);
    give(0);
    expect_notice("grant 2");
    take(0, 1, 0);
    cr_expect_eq(ledger_serve(ledger, &made, &served, &todo), LEDGER_KEEP);
}

Test(ledger_servers, never_offers_a_server_that_is_being_opened, .signal = SIGABRT)
{
    join(1, 0, 0);
    cr_assert(accept(1, 0));
    (void)offer(0, 0);
}

/* ---- the order of the line ----------------------------------------------------------
 */

Test(ledger_servers, the_line_is_in_order_of_time_however_it_came_about)
{
    static const unsigned times[] = {7, 3, 9, 1, 8, 2, 6, 4, 5};

    set_max(sizes[0], 1);
    take(0, 0, 0);
    for (unsigned i = 0; i < COUNT_OF(times); i++)
        join(times[i], 0, 0);
    for (unsigned i = 1; i <= COUNT_OF(times); i++) {
        cr_assert_eq(offer(0, 0), LEDGER_LEND);
        cr_expect_eq(served, &waiters[i]);
    }
}

Test(ledger_servers, of_two_that_came_at_once_the_one_that_joined_first_is_first)
{
    set_max(sizes[0], 1);
    take(0, 0, 0);
    for (unsigned i = 0; i < 3; i++)
        join_since(i, branches[0][0], 0, 5);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(offer(0, 0), LEDGER_LEND);
        cr_expect_eq(served, &waiters[i]);
    }
}

Test(ledger_servers, who_moves_to_another_node_keeps_its_place)
{
    set_max(sizes[0], 1);
    take(0, 0, 0);
    join(1, 0, 0);
    join(2, 0, 1);
    ledger_move(ledger, &waiters[1], branches[0][1], &todo);
    expect_no_notice();
    give(0);
    expect_notice("grant 1");
    expect_no_notice();
    cr_assert(accept(1, 1));
    cr_expect_eq(slots[1].branch, branches[0][1]);
}

Test(ledger_servers, who_moves_to_a_node_with_room_gets_a_slot_there)
{
    set_max(nodes[0], 1);
    take(0, 0, 0);
    join(1, 0, 0);
    expect_no_notice();
    ledger_move(ledger, &waiters[1], branches[0][1], &todo);
    expect_notice("grant 1");
    cr_expect_eq(ledger_limit_used(ledger, nodes[1]), 1);
}

Test(ledger_servers, who_moves_with_a_grant_passes_the_old_slot_on)
{
    set_max(nodes[0], 1);
    join(1, 0, 0);
    join(2, 0, 1);
    expect_notice("grant 1");
    ledger_move(ledger, &waiters[1], branches[0][1], &todo);
    expect_notice("grant 2");
    expect_no_notice();
    cr_assert(accept(1, 1));
    cr_expect_eq(slots[1].branch, branches[0][1]);
}

Test(ledger_servers, who_moves_while_its_server_is_opened_needs_another)
{
    join(1, 0, 0);
    expect_notice("grant 1");
    cr_assert(accept(1, 1));
    ledger_move(ledger, &waiters[1], branches[0][1], &todo);
    expect_notice("grant 1");
    cr_expect_null(ledger_opened(ledger, &slots[1], &todo));
}

/* ---- servers of other pools ---------------------------------------------------------
 */

Test(ledger_servers, an_idle_server_of_another_pool_is_closed_for_who_is_blocked)
{
    set_max(database, 1);
    make_idle(0, 1, 2);
    join(1, 0, 0);
    expect_notice("ask pool 1 node 0 worker 2");
    expect_no_notice();
    cr_expect_eq(answer(0, 2), LEDGER_CLOSE);
    cr_expect_eq(slots[0].waiter, &waiters[1]);
    expect_no_notice();
    give(0);
    expect_notice("grant 1");
}

Test(ledger_servers, a_victims_slot_goes_to_nobody_else)
{
    set_max(database, 1);
    make_idle(0, 1, 2);
    join(5, 0, 0);
    expect_notice("ask pool 1 node 0 worker 2");
    cr_assert_eq(answer(0, 2), LEDGER_CLOSE);
    join(1, 2, 0); /* has waited longer, but came for it later */
    give(0);
    expect_notice("grant 5");
    expect_no_notice();
}

Test(ledger_servers, a_server_is_not_closed_for_who_waits_for_its_own_pool)
{
    set_max(sizes[0], 1);
    set_max(database, 2);
    take(0, 0, 0);
    make_idle(1, 1, 2);
    join(1, 0, 0);
    expect_no_notice();
    cr_expect_str_eq(blocking(1), "pool_size");
}

Test(ledger_servers, a_server_that_frees_only_a_part_is_not_closed)
{
    set_max(database, 2);
    set_max(nodes[0], 1);
    take(0, 0, 0);
    take(1, 1, 1);
    cr_assert(ledger_rest(branches[1][1], 2)); /* of the database, on the other node */
    join(1, 2, 0);
    expect_no_notice();
    set_max(nodes[0], 0);
    expect_notice("ask pool 1 node 1 worker 2");
}

Test(ledger_servers, no_more_servers_are_closed_than_the_pool_has_room_for)
{
    set_max(sizes[0], 1);
    set_max(database, 2);
    make_idle(0, 1, 1);
    make_idle(1, 1, 1);
    join(1, 0, 0);
    join(2, 0, 0);
    expect_notice("ask pool 1 node 0 worker 1");
    ledger_hide(branches[1][0], 1);
    cr_expect_eq(offer(0, 1), LEDGER_CLOSE);
    cr_expect_eq(answer(1, 1), LEDGER_KEEP);
    expect_no_notice();
}

Test(ledger_servers, no_more_servers_are_closed_than_there_are_waiters)
{
    set_max(database, 2);
    make_idle(0, 1, 1);
    make_idle(1, 1, 1);
    join(1, 0, 0);
    ledger_hide(branches[1][0], 1);
    cr_expect_eq(offer(0, 1), LEDGER_CLOSE);
    cr_expect_eq(answer(1, 1), LEDGER_KEEP);
    cr_expect_eq(n_idle(1, 1), 1);
    join(2, 0, 0);
    expect_notice("ask pool 1 node 0 worker 1");
    expect_notice("ask pool 1 node 0 worker 1");
}

Test(ledger_servers, as_many_workers_are_asked_as_servers_are_to_be_closed)
{
    set_max(database, 3);
    make_idle(0, 1, 0);
    make_idle(1, 1, 1);
    make_idle(2, 1, 2);
    join(1, 0, 0);
    expect_notice("ask pool 1 node 0 worker 0");
    expect_no_notice();
    join(2, 0, 0);
    expect_notice("ask pool 1 node 0 worker 1");
    expect_no_notice();
}

Test(ledger_servers, a_victim_that_was_lent_meanwhile_is_sought_elsewhere)
{
    set_max(database, 2);
    make_idle(0, 1, 1);
    make_idle(1, 2, 2);
    join(1, 0, 0);
    expect_notice("ask pool 1 node 0 worker 1");
    cr_assert(ledger_lend(branches[1][0], 1));
    ledger_answered(ledger, &branches[1][0]->seats[1].ask, &todo);
    expect_notice("ask pool 2 node 0 worker 2");
    cr_assert(ledger_lend(branches[2][0], 2));
    ledger_answered(ledger, &branches[2][0]->seats[2].ask, &todo);
    expect_no_notice();
    cr_expect_eq(waiters[1].state, LEDGER_IN_LINE);
}

Test(ledger_servers, a_server_that_is_released_is_closed_for_who_is_blocked)
{
    struct ledger_limit *limits[] = {database, user, nodes[0]};

    for (unsigned i = 0; i < COUNT_OF(limits); i++) {
        set_max(limits[i], 1);
        take(0, 1, 0);
        join(1, 0, 0);
        expect_no_notice();
        cr_expect_not(ledger_rest(branches[1][0], 2), "%s", limits[i]->name);
        cr_expect_eq(offer(0, 2), LEDGER_CLOSE);
        cr_expect_eq(slots[0].waiter, &waiters[1]);
        withdraw(1);
        give(0);
        set_max(limits[i], 0);
    }
}

Test(ledger_servers, a_server_rests_again_when_nobody_is_blocked_any_more)
{
    set_max(database, 1);
    take(0, 1, 0);
    join(1, 0, 0);
    withdraw(1);
    cr_expect(ledger_rest(branches[1][0], 2));
}

Test(ledger_servers, a_server_that_was_kept_is_closed_for_the_next)
{
    set_max(database, 2);
    take(0, 1, 0);
    take(1, 1, 0);
    join(1, 0, 0);
    expect_no_notice();
    cr_expect_eq(offer(0, 2), LEDGER_CLOSE);
    cr_expect_eq(offer(1, 2), LEDGER_KEEP);
    join(2, 0, 0);
    expect_notice("ask pool 1 node 0 worker 2");
    cr_expect_eq(answer(1, 2), LEDGER_CLOSE);
}

Test(ledger_servers, but_its_own_pool_comes_first)
{
    set_max(database, 1);
    take(0, 1, 0);
    join(1, 0, 0);
    join(2, 1, 0);
    cr_expect_eq(offer(0, 0), LEDGER_LEND);
    cr_expect_eq(served, &waiters[2]);
}

Test(ledger_servers, a_promise_is_passed_on_to_the_next_of_the_line)
{
    set_max(database, 1);
    make_idle(0, 1, 2);
    join(1, 0, 0);
    join(2, 0, 1);
    cr_assert_eq(answer(0, 2), LEDGER_CLOSE);
    withdraw(1);
    cr_expect_eq(slots[0].waiter, &waiters[2]);
    withdraw(2);
    cr_expect_null(slots[0].waiter);
    give(0);
    cr_expect(can_take(0, 0));
}

Test(ledger_servers, who_gets_another_slot_passes_its_promise_on)
{
    set_max(database, 2);
    take(0, 2, 0);
    make_idle(1, 1, 2);
    join(1, 0, 0);
    join(2, 0, 1);
    cr_assert_eq(answer(1, 2), LEDGER_CLOSE);
    give(0);
    cr_expect_eq(waiters[1].state, LEDGER_GRANTED);
    cr_expect_eq(slots[1].waiter, &waiters[2]);
    give(1);
    cr_expect_eq(waiters[2].state, LEDGER_GRANTED);
}

Test(ledger_servers, a_promise_ends_when_the_limit_was_lowered)
{
    set_max(database, 2);
    take(0, 2, 0);
    make_idle(1, 1, 2);
    join(1, 0, 0);
    cr_assert_eq(answer(1, 2), LEDGER_CLOSE);
    set_max(database, 1);
    give(1);
    cr_expect_eq(waiters[1].state, LEDGER_IN_LINE);
    cr_expect_eq(ledger_limit_used(ledger, database), 1);
    give(0);
    cr_expect_eq(waiters[1].state, LEDGER_GRANTED);
}

Test(ledger_servers, pools_that_share_their_own_limit_close_each_others_servers)
{
    struct ledger_limit *limits[LEDGER_NODE] = {sizes[0], database, user};
    struct ledger_pool *twin = ledger_pool_new(ledger, limits, 0);
    struct ledger_branch *branch = ledger_branch_hold(ledger, twin, nodes[1]);

    set_max(sizes[0], 1);
    make_idle(0, 0, 2);
    join_since(1, branch, 0, 1);
    expect_notice("ask pool 0 node 0 worker 2");
    cr_expect_eq(answer(0, 2), LEDGER_CLOSE);
    give(0);
    expect_notice("grant 1");
}
