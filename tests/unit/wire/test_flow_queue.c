/* How much may be under way before a flow asks to wait; its rules are in test_flow.c. */
#include <criterion/criterion.h>
#include <string.h>

#include "wire/flow.h"

TestSuite(flow_queue, .timeout = 30);

static void forward_all(struct flow *flow, const char *types, unsigned n_times)
{
    for (unsigned i = 0; i < n_times; i++)
        for (const char *type = types; *type != '\0'; type++)
            cr_assert_eq(flow_forward(flow, (uint8_t)*type), FLOW_GOES_ON, "%s %u", types,
                         i);
}

static void see_all(struct flow *flow, const char *types, unsigned n_times)
{
    for (unsigned i = 0; i < n_times; i++) {
        cr_assert_not(flow_is_at_rest(flow), "%s %u", types, i);
        for (const char *type = types; *type != '\0'; type++) {
            enum flow_step step =
                *type == 'Z' ? flow_see_ready(flow, 'I') : flow_see(flow, (uint8_t)*type);

            cr_assert_eq(step, *type == 'Z' ? FLOW_READY : FLOW_GOES_ON, "%s %u", types,
                         i);
        }
    }
    cr_assert(flow_is_at_rest(flow));
    cr_assert_eq(flow->n_answered, flow->n_forwarded);
}

Test(flow_queue, a_hundred_thousand_equal_statements_may_be_under_way)
{
    static const char *const cases[][2] = {
        {"Q", "CZ"},      {"S", "Z"},       {"F", "VZ"},
        {"PBES", "12CZ"}, {"BES", "2DDCZ"}, {"PBDEBDES", "12TDC2TDCZ"},
        {"BEcS", "2CZ"},
    };

    for (size_t i = 0; i < COUNT_OF(cases) - 1; i++) {
        struct flow flow = {.first = (uint8_t)i, .n_forwarded = 7u - 100000u};

        flow.n_answered = flow.n_forwarded;
        forward_all(&flow, cases[i][0], 100000);
        see_all(&flow, cases[i][1], 100000);
    }
}

Test(flow_queue, a_pipeline_with_one_sync_may_be_of_any_length)
{
    struct flow flow = {0};

    forward_all(&flow, "PBDE", 100000);
    forward_all(&flow, "S", 1);
    for (unsigned i = 0; i < 99999; i++) {
        cr_assert_eq(flow_see(&flow, '1'), FLOW_GOES_ON);
        cr_assert_eq(flow_see(&flow, '2'), FLOW_GOES_ON);
        cr_assert_eq(flow_see(&flow, 'T'), FLOW_GOES_ON);
        cr_assert_eq(flow_see(&flow, 'C'), FLOW_GOES_ON);
    }
    cr_assert_eq(flow_see_ready(&(struct flow[]){flow}[0], 'I'), FLOW_CONFUSED);
    see_all(&flow, "12TCZ", 1);
}

/* S, PS, PPS and so on are all different. */
static void forward_different(struct flow *flow, unsigned i)
{
    for (unsigned k = 0; k < i; k++)
        forward_all(flow, "P", 1);
    forward_all(flow, "S", 1);
}

Test(flow_queue, one_different_statement_too_many_waits_for_an_answer)
{
    struct flow flow = {0}, before;

    for (unsigned i = 0; i < FLOW_GROUPS; i++)
        forward_different(&flow, i);
    forward_all(&flow, "P", FLOW_GROUPS);
    for (const char *type = "SQFc"; *type != '\0'; type++) {
        before = flow;
        cr_assert_eq(flow_forward(&flow, (uint8_t)*type), FLOW_FULL, "%c", *type);
        cr_assert_eq(memcmp(&flow, &before, sizeof flow), 0);
    }
    cr_assert_eq(flow_see_ready(&flow, 'I'), FLOW_READY);
    for (unsigned i = FLOW_GROUPS; i < 1000; i++) { /* it goes round */
        forward_all(&flow, "S", 1);
        forward_all(&flow, "P", i + 1);
        cr_assert_eq(flow_forward(&flow, 'S'), FLOW_FULL);
        for (unsigned k = 0; k < i + 1 - FLOW_GROUPS; k++)
            cr_assert_eq(flow_see(&flow, '1'), FLOW_GOES_ON);
        cr_assert_eq(flow_see_ready(&flow, 'I'), FLOW_READY);
    }
}

Test(flow_queue, what_would_never_be_answered_is_not_waited_for)
{
    struct flow flow = {0};

    forward_all(&flow, "PcPPc", FLOW_GROUPS / 2);
    forward_all(&flow, "P", 1);
    cr_expect_eq(flow_forward(&flow, 'c'), FLOW_ILLEGAL);
    cr_expect_eq(flow_forward(&flow, 'S'), FLOW_ILLEGAL);
    cr_expect_eq(flow_forward(&flow, 'Q'), FLOW_ILLEGAL);
}

Test(flow_queue, a_copy_that_fails_takes_no_room)
{
    struct flow flow = {0};

    forward_all(&flow, "Q", 2);
    for (unsigned i = 1; i < FLOW_GROUPS; i++)
        forward_different(&flow, i);
    cr_assert_eq(flow_see(&flow, 'G'), FLOW_GOES_ON);
    cr_assert_eq(flow_see(&flow, 'E'), FLOW_GOES_ON);
    cr_expect_eq(flow.n_groups, FLOW_GROUPS);
    for (unsigned i = 0; i < 2; i++)
        cr_expect_eq(flow_see_ready(&flow, 'I'), FLOW_READY);
    for (unsigned i = 1; i < FLOW_GROUPS; i++) {
        for (unsigned k = 0; k < i; k++)
            cr_assert_eq(flow_see(&flow, '1'), FLOW_GOES_ON);
        cr_assert_eq(flow_see_ready(&flow, 'I'), FLOW_READY);
    }
    cr_expect(flow_is_at_rest(&flow));
}
