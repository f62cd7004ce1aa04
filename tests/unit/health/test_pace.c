#include "health/pace.h"

#include <criterion/criterion.h>

#include "core/check.h"

TestSuite(pace, .timeout = 10);

static const struct pace_settings settings = {.interval_ms = 1000, .fast_ms = 100};
static const struct pace_view well = {.lacks_primary = false};
static const struct pace_view lacking = {.lacks_primary = true};

/* Runs rounds as they become due until `until_ms`; returns how many. */
static unsigned run_rounds(struct pace *pace, const struct pace_view *view,
                           uint64_t *now_ms, uint64_t until_ms)
{
    unsigned n = 0;

    while (*now_ms + pace_rest_ms(pace, *now_ms) <= until_ms) {
        *now_ms += pace_rest_ms(pace, *now_ms);
        pace_begin_round(pace, &settings, view, *now_ms);
        n++;
    }
    *now_ms = until_ms;
    return n;
}

Test(pace, while_all_is_well_rounds_are_an_interval_apart)
{
    struct pace pace = {0};
    uint64_t now_ms = 1;

    pace_begin_round(&pace, &settings, &well, now_ms);
    cr_expect_eq(pace_rest_ms(&pace, now_ms), 1000);
    cr_expect_eq(pace_rest_ms(&pace, now_ms + 400), 600);
    cr_expect_eq(pace_rest_ms(&pace, now_ms + 4000), 0);
    cr_expect_eq(run_rounds(&pace, &well, &now_ms, 60001), 60);
}

Test(pace, a_suspicion_makes_rounds_fast_for_five_seconds_and_then_slower_by_and_by)
{
    struct pace pace = {0};
    uint64_t now_ms = 1000;
    static const uint64_t waits[] = {200, 400, 800, 1000, 1000};

    pace_begin_round(&pace, &settings, &well, now_ms);
    pace_suspect(&pace, &settings, now_ms);
    cr_expect_eq(pace_rest_ms(&pace, now_ms), 100);
    cr_expect_eq(run_rounds(&pace, &well, &now_ms, 5999), 49);
    cr_expect_eq(pace_rest_ms(&pace, now_ms), 1);
    now_ms = 6000;
    for (size_t i = 0; i < COUNT_OF(waits); i++) {
        bool is_fast = pace_begin_round(&pace, &settings, &well, now_ms);

        cr_expect_eq(pace_rest_ms(&pace, now_ms), waits[i], "round %zu", i);
        cr_expect_eq(is_fast, waits[i] < 1000, "round %zu", i);
        now_ms += waits[i];
    }
}

Test(pace, a_suspicion_in_a_long_wait_shortens_it)
{
    struct pace pace = {0};

    pace_begin_round(&pace, &settings, &well, 1000);
    pace_suspect(&pace, &settings, 1050);
    cr_expect_eq(pace_rest_ms(&pace, 1050), 50);
    pace_suspect(&pace, &settings, 1700);
    cr_expect_eq(pace_rest_ms(&pace, 1700), 0);
}

Test(pace, the_first_minute_without_a_primary_is_fast)
{
    struct pace pace = {0};
    uint64_t now_ms = 1000;

    pace_begin_round(&pace, &settings, &lacking, now_ms);
    cr_expect_eq(run_rounds(&pace, &lacking, &now_ms, 60999), 599);
    now_ms = 70000;
    pace_begin_round(&pace, &settings, &lacking, now_ms);
    pace_begin_round(&pace, &settings, &lacking, now_ms);
    pace_begin_round(&pace, &settings, &lacking, now_ms);
    pace_begin_round(&pace, &settings, &lacking, now_ms);
    cr_expect_eq(pace_rest_ms(&pace, now_ms), 1000, "then it slows down");
}

Test(pace, a_primary_lost_anew_is_a_minute_anew)
{
    struct pace pace = {0};

    pace_begin_round(&pace, &settings, &lacking, 1000);
    pace_begin_round(&pace, &settings, &well, 2000);
    pace_begin_round(&pace, &settings, &lacking, 100000);
    cr_expect_eq(pace_rest_ms(&pace, 100000), 100);
    pace_begin_round(&pace, &settings, &lacking, 159000);
    cr_expect_eq(pace_rest_ms(&pace, 159000), 100);
}

Test(pace, it_stays_fast_while_clients_wait_for_a_primary)
{
    struct pace pace = {0};
    const struct pace_view waited_for = {.lacks_primary = true, .n_waiting = 1};
    const struct pace_view waited = {.lacks_primary = false, .n_waiting = 1};
    uint64_t now_ms = 1000;

    pace_begin_round(&pace, &settings, &lacking, now_ms);
    now_ms = 600000;
    pace_begin_round(&pace, &settings, &waited_for, now_ms);
    cr_expect_eq(pace_rest_ms(&pace, now_ms), 100);
    for (unsigned i = 0; i < 5; i++)
        pace_begin_round(&pace, &settings, &waited, now_ms);
    cr_expect_eq(pace_rest_ms(&pace, now_ms), 1000,
                 "who waits for a replica waits slowly");
}

Test(pace, a_client_that_begins_to_wait_shortens_a_long_wait)
{
    struct pace pace = {0};
    const struct pace_view waited_for = {.lacks_primary = true, .n_waiting = 1};

    pace_begin_round(&pace, &settings, &lacking, 1000);
    for (unsigned i = 0; i < 5; i++)
        pace_begin_round(&pace, &settings, &lacking, 200000);
    cr_assert_eq(pace_rest_ms(&pace, 200000), 1000);
    pace_look(&pace, &settings, &lacking, 200300);
    cr_expect_eq(pace_rest_ms(&pace, 200300), 700);
    pace_look(&pace, &settings, &waited_for, 200300);
    cr_expect_eq(pace_rest_ms(&pace, 200300), 0);
}

Test(pace, a_promotion_that_is_near_keeps_it_fast)
{
    struct pace pace = {0};
    const struct pace_view near = {.is_promotion_near = true};

    pace_begin_round(&pace, &settings, &near, 900000);
    cr_expect_eq(pace_rest_ms(&pace, 900000), 100);
}

Test(pace, a_promotion_under_way_is_looked_at_more_closely)
{
    struct pace pace = {0};
    const struct pace_view promoting = {
        .lacks_primary = true, .is_promotion_near = true, .is_promoting = true};

    pace_begin_round(&pace, &settings, &lacking, 1000);
    pace_look(&pace, &settings, &promoting, 1010);
    cr_expect_eq(pace_rest_ms(&pace, 1010), 15, "the round that is next comes earlier");
    pace_begin_round(&pace, &settings, &promoting, 1025);
    cr_expect_eq(pace_rest_ms(&pace, 1025), 25);
    pace_begin_round(&pace, &settings, &promoting, 1010 + PACE_PROMOTION_MS);
    cr_expect_eq(pace_rest_ms(&pace, 1010 + PACE_PROMOTION_MS), 100, "not for ever");
    pace_begin_round(&pace, &settings, &lacking, 5000);
    pace_begin_round(&pace, &settings, &promoting, 6000);
    cr_expect_eq(pace_rest_ms(&pace, 6000), 25, "the next one is another");
}

Test(pace, nobody_is_asked_more_often_than_is_of_use)
{
    const struct pace_view promoting = {.is_promotion_near = true, .is_promoting = true};
    static const uint64_t cases[][2] = {{100, 25}, {50, 20}, {20, 20}, {10, 10}};

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct pace pace = {0};
        const struct pace_settings odd = {.interval_ms = 1000, .fast_ms = cases[i][0]};

        pace_begin_round(&pace, &odd, &promoting, 1000);
        cr_expect_eq(pace_rest_ms(&pace, 1000), cases[i][1]);
    }
}

Test(pace, fast_is_never_slower_than_the_interval)
{
    struct pace pace = {0};
    const struct pace_settings odd = {.interval_ms = 100, .fast_ms = 500};

    pace_suspect(&pace, &odd, 1000);
    pace_begin_round(&pace, &odd, &well, 1000);
    cr_expect_eq(pace_rest_ms(&pace, 1000), 100);
}

Test(pace, evidence_that_users_can_cause_starts_a_round_a_second)
{
    struct pace pace = {0};

    cr_expect(pace_allows(&pace, EVIDENCE_SHUTTING_DOWN, 1000));
    cr_expect_not(pace_allows(&pace, EVIDENCE_SHUTTING_DOWN, 1999));
    cr_expect_not(pace_allows(&pace, EVIDENCE_WANTED, 1999));
    cr_expect(pace_allows(&pace, EVIDENCE_WANTED, 2000));
    cr_expect_not(pace_allows(&pace, EVIDENCE_SHUTTING_DOWN, 2500));
}

Test(pace, evidence_of_the_network_starts_ten_rounds_a_second)
{
    struct pace pace = {0};
    unsigned n = 0;

    pace_allows(&pace, EVIDENCE_SHUTTING_DOWN, 1000);
    for (uint64_t now_ms = 1000; now_ms < 2000; now_ms++)
        n += pace_allows(&pace, now_ms % 2 ? EVIDENCE_REFUSED : EVIDENCE_SILENT, now_ms);
    cr_expect_eq(n, 10);
}

Test(pace, checks_are_spread_over_a_tenth_of_the_interval)
{
    cr_expect_eq(pace_spread_ms(&settings), 100);
}
