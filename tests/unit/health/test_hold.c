#include "health/hold.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_MS 60000

/* A cluster of which "a" is the primary, in round 1. */
static struct hold hold;
static struct hold_time now;

static bool see(const char *primary, bool is_proof, uint64_t round)
{
    const struct hold_sight sight = {
        .primary = primary, .is_proof = is_proof, .round = round};

    return hold_see(&hold, &sight, "nobody holds the lock", &now);
}

static void begin_with_a(void)
{
    memset(&hold, 0, sizeof hold);
    now = (struct hold_time){.now_ms = 1000, .now_s = 5, .round = 1};
    cr_assert_not(see("a", true, 1));
}

TestSuite(hold, .init = begin_with_a, .timeout = 60);

static void pass_ms(uint64_t ms)
{
    now.now_ms += ms;
    now.round++;
}

static void expect_end(enum switchover_outcome outcome, const char *from, const char *to)
{
    const struct switchover *record = hold_record(&hold, hold.number);

    cr_expect_not(hold.is_on);
    cr_expect_null(hold_present(&hold));
    cr_expect_eq(record->outcome, outcome);
    cr_expect_str_eq(record->from, from);
    cr_expect_str_eq(record->to, to);
    cr_expect_eq(record->ended_ms, now.now_ms);
}

Test(hold, begins_when_the_primary_is_lost_and_ends_with_another)
{
    pass_ms(10);
    cr_expect(see("", false, 0));
    cr_expect(hold.is_on);
    cr_expect_str_eq(hold_present(&hold)->sign, "nobody holds the lock");
    pass_ms(10);
    cr_expect(see("b", true, now.round));
    expect_end(SWITCHOVER_CHANGED, "a", "b");
    cr_expect_eq(hold_record(&hold, 1)->gone_ms, 1010);
    cr_expect_eq(hold_record(&hold, 1)->proven_ms, 1020);
}

Test(hold, of_a_loss_ends_with_the_same_node_when_it_is_proven_anew)
{
    pass_ms(10);
    cr_expect(see("", false, 0));
    cr_expect_not(see("a", true, 1), "that was asked before it was lost");
    cr_expect_not(see("a", false, 9), "that is no proof");
    pass_ms(10);
    cr_expect(see("a", true, now.round));
    expect_end(SWITCHOVER_STAYED, "a", "a");
}

Test(hold, is_noted_when_another_is_primary_before_the_first_was_missed)
{
    pass_ms(10);
    cr_expect(see("b", true, now.round));
    cr_expect_eq(hold.number, 1);
    expect_end(SWITCHOVER_CHANGED, "a", "b");
}

Test(hold, by_request_outlasts_proofs_of_the_node_that_leaves)
{
    cr_expect_eq(hold_begin(&hold, HOLD_BY_REQUEST, "", "failover key", &now), 1);
    cr_expect(hold_leads_away(&hold, "a"));
    cr_expect_not(hold_leads_away(&hold, "b"));
    for (int i = 0; i < 20; i++) {
        pass_ms(100);
        cr_expect_not(see("a", true, now.round));
    }
    cr_expect(hold_end_cause(&hold, HOLD_BY_REQUEST, &now));
    cr_expect_not(see("a", true, now.round), "that was asked before it was over");
    pass_ms(10);
    cr_expect(see("a", true, now.round));
    expect_end(SWITCHOVER_STAYED, "a", "a");
}

Test(hold, by_request_ends_with_another_though_the_request_stands)
{
    hold_begin(&hold, HOLD_BY_REQUEST, "a", "failover key", &now);
    cr_expect_not(see("b", true, 1), "that was asked before");
    pass_ms(10);
    cr_expect(see("b", true, now.round));
    expect_end(SWITCHOVER_CHANGED, "a", "b");
    cr_expect_not(hold_end_cause(&hold, HOLD_BY_REQUEST, &now));
}

Test(hold, by_two_causes_waits_for_both)
{
    hold_begin(&hold, HOLD_BY_COMMAND, "", "SWITCHOVER", &now);
    cr_expect_eq(hold_begin(&hold, HOLD_BY_REQUEST, "a", "failover key", &now), 1);
    cr_expect_eq(hold_present(&hold)->cause, HOLD_BY_COMMAND);
    cr_expect(hold_end_cause(&hold, HOLD_BY_COMMAND, &now));
    cr_expect_not(hold_end_cause(&hold, HOLD_BY_COMMAND, &now));
    pass_ms(10);
    cr_expect_not(see("a", true, now.round));
    cr_expect(hold_end_cause(&hold, HOLD_BY_REQUEST, &now));
    pass_ms(10);
    cr_expect(see("a", true, now.round));
}

Test(hold, by_hook_ends_when_the_node_is_back)
{
    hold_begin(&hold, HOLD_BY_HOOK, "a", "POST /hold", &now);
    pass_ms(10);
    cr_expect_not(see("a", true, now.round), "it has not gone yet");
    cr_expect_not(see("", false, now.round));
    pass_ms(10);
    cr_expect_not(see("a", true, now.round - 1), "this was asked before it was back");
    pass_ms(10);
    cr_expect(see("a", true, now.round));
    expect_end(SWITCHOVER_STAYED, "a", "a");
}

Test(hold, by_hook_ends_when_the_node_does_not_go)
{
    hold_begin(&hold, HOLD_BY_HOOK, "a", "POST /hold", &now);
    pass_ms(HOLD_HOOK_DOUBT_MS - 1);
    cr_expect_not(hold_look(&hold, TIMEOUT_MS, &now));
    pass_ms(1);
    cr_expect(hold_look(&hold, TIMEOUT_MS, &now));
    cr_expect(hold.is_on);
    pass_ms(10);
    cr_expect(see("a", true, now.round));
    expect_end(SWITCHOVER_STAYED, "a", "a");
}

Test(hold, by_hook_stands_for_a_minute_at_most)
{
    hold_begin(&hold, HOLD_BY_HOOK, "a", "POST /hold", &now);
    cr_expect_not(see("", false, 0));
    pass_ms(HOLD_HOOK_MS - 1);
    cr_expect_not(hold_look(&hold, 2 * HOLD_HOOK_MS, &now));
    pass_ms(1);
    cr_expect(hold_look(&hold, 2 * HOLD_HOOK_MS, &now));
    cr_expect_not(hold_look(&hold, 2 * HOLD_HOOK_MS, &now));
}

Test(hold, ends_by_its_timeout)
{
    hold_begin(&hold, HOLD_BY_REQUEST, "a", "failover key", &now);
    pass_ms(TIMEOUT_MS - 1);
    cr_expect_not(hold_look(&hold, TIMEOUT_MS, &now));
    cr_expect_not(hold_has_failed(&hold));
    pass_ms(1);
    cr_expect(hold_look(&hold, TIMEOUT_MS, &now));
    expect_end(SWITCHOVER_TIMED_OUT, "a", "");
    cr_expect(hold_has_failed(&hold));
    pass_ms(1);
    hold_begin(&hold, HOLD_BY_COMMAND, "", "SWITCHOVER", &now);
    cr_expect_not(hold_has_failed(&hold));
}

Test(hold, does_not_begin_again_while_nobody_is_primary)
{
    cr_expect(see("", false, 0));
    pass_ms(TIMEOUT_MS);
    cr_expect(hold_look(&hold, TIMEOUT_MS, &now));
    pass_ms(10);
    cr_expect_not(see("", false, now.round));
    cr_expect_not(hold.is_on);
    cr_expect_not(see("b", true, now.round));
    cr_expect_eq(hold.number, 1);
}

Test(hold, keeps_the_last_records)
{
    for (uint64_t i = 1; i <= SWITCHOVERS_KEPT + 3; i++) {
        pass_ms(10);
        cr_expect_eq(hold_begin(&hold, HOLD_BY_COMMAND, "", "SWITCHOVER", &now), i);
        pass_ms(10);
        cr_expect(see(i % 2 ? "b" : "a", true, now.round));
    }
    cr_expect_null(hold_record(&hold, 0));
    cr_expect_null(hold_record(&hold, 3));
    cr_expect_eq(hold_record(&hold, 4)->number, 4);
    cr_expect_null(hold_record(&hold, SWITCHOVERS_KEPT + 4));
}

/* Whatever comes in whatever order: a hold ends by a proof that was asked for after its
 * begin, or in time; the node that leaves comes back only when nothing leads away from
 * it.
 */
Test(hold, keeps_its_promises_in_any_order)
{
    static const char *const names[] = {"", "a", "b", "c"};
    unsigned state = 815, n_ended = 0, n_timed_out = 0, n_stayed = 0;

    for (int run = 0; run < 20000; run++) {
        uint64_t began_round = 0, over_round = UINT64_MAX, began_ms = 0;
        unsigned causes = 0;

        begin_with_a();
        for (int step = 0; step < 40; step++) {
            bool was_on = hold.is_on;
            unsigned what = (unsigned)rand_r(&state) % 8;
            const char *name = names[(unsigned)rand_r(&state) % 4];
            enum hold_cause cause = HOLD_BY_COMMAND + (unsigned)rand_r(&state) % 3;
            uint64_t round = now.round - (uint64_t)rand_r(&state) % 2;
            bool is_proof = rand_r(&state) % 2 != 0;

            if (what < 2)
                pass_ms((uint64_t)rand_r(&state) % (what == 0 ? 100 : 30000));
            else if (what == 2 && rand_r(&state) % 4 == 0)
                hold_begin(&hold, cause, name, "", &now);
            else if (what == 3)
                (void)hold_end_cause(&hold, cause, &now);
            else if (what == 4)
                (void)hold_look(&hold, TIMEOUT_MS, &now);
            else
                (void)see(name, is_proof && *name != '\0', round);

            if (hold.is_on && !was_on) {
                began_round = now.round;
                began_ms = now.now_ms;
                over_round = hold.causes == 0 ? now.round : UINT64_MAX;
            } else if (hold.is_on && causes != 0 && hold.causes == 0) {
                over_round = now.round;
            } else if (hold.is_on && hold.causes != 0) {
                over_round = UINT64_MAX;
            } else if (was_on && !hold.is_on) {
                const struct switchover *record = hold_record(&hold, hold.number);

                n_ended++;
                n_timed_out += record->outcome == SWITCHOVER_TIMED_OUT;
                n_stayed += record->outcome == SWITCHOVER_STAYED;
                if (record->outcome == SWITCHOVER_TIMED_OUT) {
                    cr_expect_geq(now.now_ms - began_ms, TIMEOUT_MS);
                } else {
                    cr_expect(is_proof);
                    cr_expect_str_eq(record->to, name);
                    cr_expect_gt(round, began_round);
                    if (record->outcome == SWITCHOVER_STAYED)
                        cr_expect(over_round != UINT64_MAX && round > over_round);
                }
            }
            causes = hold.causes;
        }
        pass_ms(TIMEOUT_MS);
        (void)hold_look(&hold, TIMEOUT_MS, &now);
        cr_assert_not(hold.is_on);
    }
    cr_expect_gt(n_ended, 1000u);
    cr_expect_gt(n_timed_out, 100u);
    cr_expect_gt(n_stayed, 100u);
}
