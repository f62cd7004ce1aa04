/* How many servers log in to a node at a time, and who comes first. */
#include "tests/lib/ledger_office.h"

static void limit_logins(void)
{
    make_accounts();
    ledger_set_login_concurrency(ledger, 2);
}

TestSuite(ledger_logins, .init = limit_logins, .timeout = 20);

static void open_for(unsigned waiter, unsigned slot)
{
    cr_assert(accept(waiter, slot));
    cr_assert_eq(ledger_opened(ledger, &slots[slot], &todo), &waiters[waiter]);
}

static void expect_grants(unsigned first, unsigned last)
{
    char text[64];

    for (unsigned i = first; i <= last; i++) {
        snprintf(text, sizeof text, "grant %u", i);
        expect_notice(text);
    }
    expect_no_notice();
}

Test(ledger_logins, wait_until_others_are_done)
{
    for (unsigned i = 0; i < 4; i++)
        join(i, i % POOLS, i % WORKERS);
    expect_grants(0, 1);
    cr_expect_str_eq(blocking(2), "login_concurrency");
    cr_expect_not(can_take(2, 0));
    cr_expect(can_take(2, 1), "on the other node");
    cr_assert(accept(0, 0));
    expect_no_notice();
    cr_assert_eq(ledger_opened(ledger, &slots[0], &todo), &waiters[0]);
    expect_grants(2, 3); /* one of them for the success */
}

Test(ledger_logins, double_while_they_succeed)
{
    for (unsigned i = 0; i < 14; i++)
        join(i, 0, 0);
    expect_grants(0, 1);
    open_for(0, 0);
    open_for(1, 1);
    expect_grants(2, 5);
    for (unsigned i = 2; i < 6; i++)
        open_for(i, i);
    expect_grants(6, 13);
    cr_expect_eq(nodes[0]->gate.n_logins, 8);
}

Test(ledger_logins, begin_anew_after_a_failure)
{
    for (unsigned i = 0; i < 14; i++)
        join(i, 0, 0);
    expect_grants(0, 1);
    open_for(0, 0);
    open_for(1, 1);
    expect_grants(2, 5);
    cr_assert(accept(2, 2));
    give(2); /* it could not be opened, and waits at its old place */
    expect_no_notice();
    open_for(3, 3);
    expect_no_notice();
    open_for(4, 4);
    expect_notice("grant 2");
    expect_notice("grant 6");
    expect_no_notice();
    cr_expect_eq(nodes[0]->gate.n_logins, 3);
}

Test(ledger_logins, begin_anew_after_a_rest)
{
    for (unsigned i = 0; i < 4; i++)
        join(i, 0, 0);
    expect_grants(0, 1);
    open_for(0, 0);
    open_for(1, 1);
    expect_grants(2, 3);
    open_for(2, 2);
    open_for(3, 3);
    cr_expect_eq(nodes[0]->gate.n_more, 0);
    for (unsigned i = 4; i < 8; i++)
        join(i, 0, 0);
    expect_grants(4, 5);
}

Test(ledger_logins, those_that_are_few_are_not_counted_as_more)
{
    for (unsigned i = 0; i < 5; i++) {
        join(i, 0, 0);
        expect_grants(i, i);
        if (i > 0)
            open_for(i, i); /* while one goes on for long */
        else
            cr_assert(accept(0, 0));
    }
    cr_expect_leq(nodes[0]->gate.n_more, 4);
    cr_expect_eq(nodes[0]->gate.n_logins, 1);
}

Test(ledger_logins, go_to_who_waits_longest_of_all_pools_and_workers)
{
    take(14, 0, 0);
    take(15, 0, 0);
    for (unsigned i = 6; i > 0; i--)
        join_since(i, branches[i % POOLS][0], i % WORKERS, i);
    expect_no_notice();
    cr_expect_null(ledger_opened(ledger, &slots[14], &todo));
    expect_grants(1, 2);
    open_for(1, 1);
    expect_grants(3, 4);
}

Test(ledger_logins, are_not_held_up_by_who_needs_none)
{
    join(0, 0, 0);
    join(1, 0, 1);
    join(2, 0, 2);
    expect_grants(0, 1);
    withdraw(0); /* it was not begun */
    expect_grants(2, 2);
    cr_assert_not(accept(0, 0));
    expect_no_notice();
    cr_expect_eq(nodes[0]->gate.n_logins, 2);
}

Test(ledger_logins, a_victims_slot_waits_for_its_login)
{
    set_max(database, 3);
    make_idle(0, 1, 0);
    cr_expect_null(ledger_opened(ledger, &slots[0], &todo));
    take(1, 2, 0);
    take(2, 2, 0); /* two log in, and all three slots are taken */
    join(3, 0, 0);
    expect_notice("ask pool 1 node 0 worker 0");
    cr_expect_eq(answer(0, 0), LEDGER_CLOSE);
    give(0);
    expect_no_notice();
    cr_expect_str_eq(blocking(3), "login_concurrency");
    cr_expect_null(ledger_opened(ledger, &slots[1], &todo));
    expect_grants(3, 3);
}

Test(ledger_logins, have_no_limit_at_0)
{
    ledger_set_login_concurrency(ledger, 0);
    for (unsigned i = 0; i < WAITERS; i++)
        join(i, 0, 0);
    expect_grants(0, WAITERS - 1);
}

Test(ledger_logins, a_higher_limit_applies_when_the_next_is_over)
{
    for (unsigned i = 0; i < 8; i++)
        join(i, 0, 0);
    expect_grants(0, 1);
    ledger_set_login_concurrency(ledger, 6);
    open_for(0, 0);
    expect_grants(2, 6);
}

/* ---- musters ------------------------------------------------------------------------
 */

static void follow(unsigned worker, uint64_t generation)
{
    ledger_followed(ledger, worker, generation, &todo);
}

Test(ledger_logins, begin_when_all_workers_waiters_stand_in_line)
{
    ledger_muster(ledger, nodes[0], 7, 1000);
    join(5, 0, 0);
    join(4, 1, 0);
    follow(0, 7);
    expect_no_notice();
    cr_expect_str_eq(blocking(5), "login_concurrency");
    cr_expect(can_take(0, 1), "on the other node");
    ledger_muster(ledger, nodes[0], 7, 1000);
    join(3, 0, 1);
    follow(1, 8);
    join(1, 2, 2);
    expect_no_notice();
    follow(2, 6); /* the one of before */
    expect_no_notice();
    follow(2, 7);
    expect_notice("grant 1");
    expect_notice("grant 3");
    expect_no_notice();
}

Test(ledger_logins, are_not_mustered_for_when_all_have_followed)
{
    for (unsigned i = 0; i < WORKERS; i++)
        follow(i, 7);
    ledger_muster(ledger, nodes[0], 7, 1000);
    join(0, 0, 0);
    expect_grants(0, 0);
}

Test(ledger_logins, do_not_wait_for_a_worker_that_hangs)
{
    ledger_muster(ledger, nodes[0], 7, 1000);
    join(0, 0, 0);
    ledger_end_late_musters(ledger, 1000 + LEDGER_MUSTER_NS - 1, &todo);
    expect_no_notice();
    ledger_end_late_musters(ledger, 1000 + LEDGER_MUSTER_NS, &todo);
    expect_grants(0, 0);
    ledger_end_late_musters(ledger, 1000 + LEDGER_MUSTER_NS, &todo);
    expect_no_notice();
}

Test(ledger_logins, do_not_wait_for_a_worker_that_has_ended)
{
    ledger_muster(ledger, nodes[0], 7, 1000);
    join(0, 0, 0);
    follow(0, 7);
    follow(1, UINT64_MAX);
    follow(2, UINT64_MAX);
    expect_grants(0, 0);
}

/* ---- servers that will be idle soon -------------------------------------------------
 */

Test(ledger_logins, are_not_needed_for_who_will_have_an_idle_server)
{
    take(0, 0, 0);
    cr_expect_null(ledger_opened(ledger, &slots[0], &todo));
    ledger_expect(ledger, pools[0]);
    join(1, 0, 1);
    expect_no_notice();
    join(2, 0, 0);
    expect_grants(1, 1); /* one is for one of them */
    withdraw(1);
    expect_no_notice();
    cr_expect_eq(offer(0, 0), LEDGER_LEND);
    cr_expect_eq(served, &waiters[2]);
    ledger_expect_no_more(ledger, pools[0], &todo);
    expect_no_notice();
}

Test(ledger_logins, are_needed_when_that_is_gone)
{
    take(0, 0, 0);
    cr_expect_null(ledger_opened(ledger, &slots[0], &todo));
    ledger_expect(ledger, pools[0]);
    join(1, 0, 1);
    join(2, 1, 1); /* of another pool, which does not wait for it */
    expect_grants(2, 2);
    give(0);
    expect_no_notice();
    ledger_expect_no_more(ledger, pools[0], &todo);
    expect_grants(1, 1);
}

Test(ledger_logins, in_advance_are_counted_by_node)
{
    ledger_set_login_concurrency(ledger, 0);
    for (unsigned i = 0; i < 3; i++)
        cr_expect(ledger_try_up_to(ledger, branches[0][0], 3, &slots[i]));
    cr_expect_not(ledger_try_up_to(ledger, branches[0][0], 3, &slots[3]));
    cr_expect(ledger_try_up_to(ledger, branches[0][1], 3, &slots[3]));
    cr_expect(ledger_try_up_to(ledger, branches[1][0], 3, &slots[4]));
    give(1);
    cr_expect(ledger_try_up_to(ledger, branches[0][0], 3, &slots[1]));
}
