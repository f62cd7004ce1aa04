#include "router/admission.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#define GATES 3
#define TICKETS 400

static struct admission admission;
static struct gate gates[GATES];
static struct ticket tickets[TICKETS];

static void make_all(void)
{
    admission_init(&admission);
    admission.max = 1000000;
}

TestSuite(admission, .init = make_all, .timeout = 60);

static struct ticket *enter(unsigned ticket, unsigned gate)
{
    tickets[ticket] = (struct ticket){.gate = &gates[gate]};
    admission_enter(&admission, &tickets[ticket]);
    return &tickets[ticket];
}

Test(admission, lets_in_while_there_is_a_place)
{
    admission.max = 2;
    cr_expect(enter(0, 0)->is_admitted);
    cr_expect(enter(1, 1)->is_admitted);
    cr_expect_not(enter(2, 0)->is_admitted);
    cr_expect(tickets[0].knows_admission, "it is told with its arrival");
    cr_expect_not(tickets[2].knows_admission);
    cr_expect_eq(admission.n_admitted, 2);
    cr_expect_eq(admission.line.n, 1);
    cr_expect_null(admission_next(&admission));
}

Test(admission, gives_a_place_that_is_free_to_the_first_in_line)
{
    admission.max = 1;
    for (unsigned i = 0; i < 4; i++)
        enter(i, i % GATES);
    for (unsigned i = 0; i < 3; i++) {
        cr_expect_null(admission_next(&admission));
        admission_leave(&admission, &tickets[i]);
        cr_expect_eq(admission_next(&admission), &tickets[i + 1]);
        cr_expect(tickets[i + 1].is_admitted);
        cr_expect_not(tickets[i + 1].knows_admission, "its worker is to be told");
    }
    cr_expect_eq(admission.line.n, 0);
}

Test(admission, counts_nobody_who_left_the_line)
{
    admission.max = 1;
    enter(0, 0);
    enter(1, 0);
    enter(2, 0);
    admission_leave(&admission, &tickets[1]);
    cr_expect_eq(gates[0].n_present, 2);
    cr_expect_eq(admission.n_admitted, 1);
    admission_leave(&admission, &tickets[0]);
    cr_expect_eq(admission_next(&admission), &tickets[2]);
}

Test(admission, a_full_listener_does_not_hold_up_others)
{
    gates[0].max = 1;
    admission.max = 3;
    cr_expect(enter(0, 0)->is_admitted);
    cr_expect_not(enter(1, 0)->is_admitted);
    cr_expect(enter(2, 1)->is_admitted);
    cr_expect(enter(3, 1)->is_admitted);
    cr_expect_not(enter(4, 0)->is_admitted);
    cr_expect_not(enter(5, 1)->is_admitted, "all places are taken now");

    admission_leave(&admission, &tickets[2]);
    cr_expect_eq(admission_next(&admission), &tickets[5], "over those of the full one");
    admission_leave(&admission, &tickets[0]);
    cr_expect_eq(admission_next(&admission), &tickets[1]);
    cr_expect_null(admission_next(&admission));
}

Test(admission, raised_limits_let_in_those_who_wait)
{
    gates[0].max = 1;
    for (unsigned i = 0; i < 5; i++)
        enter(i, 0);
    cr_expect_null(admission_next(&admission));
    gates[0].max = 3;
    cr_expect_eq(admission_next(&admission), &tickets[1]);
    cr_expect_eq(admission_next(&admission), &tickets[2]);
    cr_expect_null(admission_next(&admission));
    gates[0].max = 0;
    cr_expect_eq(admission_next(&admission), &tickets[3]);
    cr_expect_eq(admission_next(&admission), &tickets[4]);
}

Test(admission, lowered_limits_throw_nobody_out)
{
    admission.max = 4;
    for (unsigned i = 0; i < 6; i++)
        enter(i, 0);
    admission.max = 2;
    for (unsigned i = 0; i < 3; i++) {
        admission_leave(&admission, &tickets[i]);
        if (i < 2)
            cr_expect_null(admission_next(&admission));
    }
    cr_expect_eq(admission_next(&admission), &tickets[4]);
    cr_expect_null(admission_next(&admission));
}

Test(admission, counts_what_the_page_shows)
{
    admission.max = 2;
    for (unsigned i = 0; i < 5; i++)
        enter(i, 0);
    cr_expect_eq(gates[0].n_total, 5);
    cr_expect_eq(gates[0].n_present, 5);
    cr_expect_eq(gates[0].n_present_max, 5);
    cr_expect_eq(gates[0].n_admitted, 2);
    for (unsigned i = 0; i < 5; i++)
        admission_leave(&admission, &tickets[i]);
    cr_expect_eq(gates[0].n_present, 0);
    cr_expect_eq(gates[0].n_admitted, 0);
    cr_expect_eq(gates[0].n_present_max, 5);
    cr_expect_eq(admission.n_admitted, 0);
    enter(5, 0);
    cr_expect_eq(gates[0].n_total, 6);
}

/* ---- in any order -------------------------------------------------------------------
 */

static unsigned seed;

static unsigned any(unsigned below)
{
    seed = seed * 1103515245u + 12345u;
    return (seed >> 8) % below;
}

/* How many of a gate, and of all, are admitted by their tickets' own word. */
static void expect_limits(const bool is_here[TICKETS])
{
    unsigned n[GATES] = {0}, all = 0;

    for (unsigned i = 0; i < TICKETS; i++) {
        if (!is_here[i] || !tickets[i].is_admitted)
            continue;
        n[tickets[i].gate - gates]++;
        all++;
    }
    cr_assert_eq(all, admission.n_admitted);
    cr_assert_leq(all, admission.max);
    for (unsigned i = 0; i < GATES; i++) {
        cr_assert_eq(n[i], gates[i].n_admitted);
        cr_assert(gates[i].max == 0 || n[i] <= gates[i].max);
    }
}

/* Nobody in line could be let in: whose listener has a place, and there is one at all. */
static void expect_nobody_waits_beside_a_place(const bool is_here[TICKETS])
{
    if (admission.n_admitted == admission.max)
        return;
    for (unsigned i = 0; i < TICKETS; i++)
        if (is_here[i] && !tickets[i].is_admitted)
            cr_assert(tickets[i].gate->max > 0 &&
                      tickets[i].gate->n_admitted == tickets[i].gate->max);
}

static void admit_all(unsigned came_at[TICKETS], const bool is_here[TICKETS])
{
    struct ticket *ticket;

    while ((ticket = admission_next(&admission)) != NULL)
        for (unsigned i = 0; i < TICKETS; i++)
            if (is_here[i] && !tickets[i].is_admitted && tickets[i].gate == ticket->gate)
                cr_assert_gt(came_at[i], came_at[ticket - tickets],
                             "of one listener the first comes first");
}

Test(admission, holds_its_limits_and_its_order_whatever_happens)
{
    for (seed = 1; seed < 30; seed++) {
        bool is_here[TICKETS] = {false};
        unsigned came_at[TICKETS] = {0}, now = 0, kept_seed = seed;

        admission_init(&admission);
        memset(gates, 0, sizeof gates);
        admission.max = 1 + any(20);
        gates[0].max = any(8);
        gates[1].max = any(8);
        for (unsigned step = 0; step < 3000; step++) {
            unsigned i = any(TICKETS);

            if (is_here[i]) {
                is_here[i] = false;
                admission_leave(&admission, &tickets[i]);
                admit_all(came_at, is_here);
            } else if (any(3) == 0) {
                came_at[i] = ++now;
                is_here[i] = true;
                enter(i, any(GATES));
            }
            expect_limits(is_here);
            expect_nobody_waits_beside_a_place(is_here);
        }
        seed = kept_seed;
    }
}
