#include "core/ration.h"

#include <criterion/criterion.h>

#define MS 1000000u
#define SECOND (1000 * MS)

/* It has been looked at once, and has saved nothing. */
static struct ration spent(uint64_t now_ns)
{
    struct ration ration = {0};

    ration_wait_ms(&ration, now_ns);
    ration_spend(&ration, RATION_SAVED_NS);
    return ration;
}

Test(ration, who_looks_now_and_then_does_not_wait)
{
    struct ration ration = {0};

    for (uint64_t now_ns = SECOND; now_ns < 60 * SECOND; now_ns += SECOND) {
        cr_expect_eq(ration_wait_ms(&ration, now_ns), 0);
        ration_spend(&ration, SECOND / RATION_SHARE);
    }
}

Test(ration, what_was_saved_is_spent_at_once)
{
    struct ration ration = {0};

    for (unsigned i = 0; i < 10; i++) {
        cr_expect_eq(ration_wait_ms(&ration, SECOND), 0);
        ration_spend(&ration, RATION_SAVED_NS / 10);
    }
    cr_expect_eq(ration_wait_ms(&ration, SECOND), 0, "there is no debt yet");
    ration_spend(&ration, 2 * MS);
    cr_expect_eq(ration_wait_ms(&ration, SECOND), 2 * RATION_SHARE);
}

Test(ration, a_debt_is_paid_by_waiting)
{
    struct ration ration = spent(SECOND);
    uint64_t now_ns = SECOND;

    ration_spend(&ration, 3 * MS);
    cr_expect_eq(ration_wait_ms(&ration, now_ns), 3 * RATION_SHARE);
    now_ns += 10 * MS;
    cr_expect_eq(ration_wait_ms(&ration, now_ns), 3 * RATION_SHARE - 10);
    now_ns += (3 * RATION_SHARE - 10) * MS;
    cr_expect_eq(ration_wait_ms(&ration, now_ns), 0);
}

Test(ration, greed_has_its_share_and_no_more)
{
    struct ration ration = spent(SECOND);
    uint64_t used_ns = 0;

    for (uint64_t now_ns = SECOND; now_ns < 101 * SECOND; now_ns += MS / 2) {
        if (ration_wait_ms(&ration, now_ns) > 0)
            continue;
        ration_spend(&ration, MS);
        used_ns += MS;
    }
    cr_expect_geq(used_ns, 99 * SECOND / RATION_SHARE);
    cr_expect_leq(used_ns, 101 * SECOND / RATION_SHARE);
}

Test(ration, one_long_piece_shuts_nobody_out_for_long)
{
    struct ration ration = {0};

    cr_expect_eq(ration_wait_ms(&ration, SECOND), 0);
    ration_spend(&ration, 3600ull * SECOND);
    ration_spend(&ration, UINT64_MAX);
    cr_expect_eq(ration_wait_ms(&ration, SECOND),
                 (uint64_t)RATION_DEBT_NS * RATION_SHARE / MS);
}

Test(ration, nobody_saves_for_ever)
{
    struct ration ration = {0};

    cr_expect_eq(ration_wait_ms(&ration, SECOND), 0);
    cr_expect_eq(ration_wait_ms(&ration, 86400ull * SECOND), 0);
    ration_spend(&ration, RATION_SAVED_NS + MS);
    cr_expect_eq(ration_wait_ms(&ration, 86400ull * SECOND), RATION_SHARE);
}

Test(ration, time_on_the_processor_is_what_counts)
{
    struct ration ration = spent(SECOND);
    volatile unsigned n = 0;
    uint64_t began_ns;

    ration_begin(&ration);
    began_ns = ration_clock_ns();
    while (ration_clock_ns() - began_ns < 5 * MS)
        n++;
    ration_end(&ration);
    cr_expect_geq(ration_wait_ms(&ration, SECOND), 5 * RATION_SHARE);
}
