/* core/loop.h's waits with an end. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/loop.h"
#include "tests/lib/fault.h"
#include "tests/lib/loop_until.h"
#include "tests/lib/turns.h"

static struct loop *loop;

/* A deadline that writes its letter when it is due. Times are the loop's: a machine that
 * is busy makes everything late, and nothing early. */
struct alarm {
    struct deadline deadline;
    char name;
    uint64_t armed_at_ms, due_at_ms;
    unsigned n_due;
    unsigned n_more;              /* arms itself so often again */
    uint64_t after_ms;            /* with this */
    struct alarm *cancels, *arms; /* when it is due, */
    uint64_t arms_after_ms;       /* the latter with this */
};

static char order[64];
static unsigned n_due, n_wanted;
static bool is_enough;
static struct alarm a, b, c;

static void make_loop(void)
{
    loop = loop_new(false);
    a.name = 'a';
    b.name = 'b';
    c.name = 'c';
    turn(loop, 1);
}

static void free_loop(void)
{
    deadline_cancel(&a.deadline);
    deadline_cancel(&b.deadline);
    deadline_cancel(&c.deadline);
    loop_free(loop);
}

TestSuite(deadline, .init = make_loop, .fini = free_loop, .timeout = 20);

static void arm(struct alarm *alarm, uint64_t after_ms);

static void on_due(struct deadline *deadline)
{
    struct alarm *alarm = CONTAINER_OF(deadline, struct alarm, deadline);

    cr_expect_not(deadline_is_armed(deadline));
    alarm->n_due++;
    alarm->due_at_ms = loop_now_ms(loop);
    cr_expect_geq(alarm->due_at_ms, alarm->armed_at_ms + alarm->after_ms);
    if (alarm->name != '\0')
        order[strlen(order)] = alarm->name;
    is_enough = ++n_due == n_wanted;
    if (alarm->cancels != NULL)
        deadline_cancel(&alarm->cancels->deadline);
    if (alarm->arms != NULL)
        arm(alarm->arms, alarm->arms_after_ms);
    if (alarm->n_more > 0) {
        alarm->n_more--;
        arm(alarm, alarm->after_ms);
    }
}

static void arm(struct alarm *alarm, uint64_t after_ms)
{
    alarm->after_ms = after_ms;
    alarm->armed_at_ms = loop_now_ms(loop);
    cr_assert(deadline_arm(loop, &alarm->deadline, after_ms, on_due));
    cr_expect(deadline_is_armed(&alarm->deadline));
}

/* Until so many were due in all. */
static void wait_for(unsigned n)
{
    is_enough = false;
    n_wanted = n;
    cr_assert(loop_until(loop, &is_enough, 10000), "only %u of %u: %s", n_due, n, order);
}

Test(deadline, is_due_once_and_not_before_its_time)
{
    arm(&a, 30);
    wait_for(1);
    cr_expect_leq(a.due_at_ms, a.armed_at_ms + 1000);
    arm(&b, 60);
    wait_for(2);
    cr_expect_str_eq(order, "ab");
}

Test(deadline, equal_durations_end_in_the_order_of_arming)
{
    arm(&b, 10);
    arm(&a, 10);
    arm(&c, 10);
    wait_for(3);
    cr_expect_str_eq(order, "bac");
}

Test(deadline, different_durations_end_in_the_order_of_their_ends)
{
    arm(&a, 45);
    arm(&b, 5);
    arm(&c, 25);
    wait_for(3);
    cr_expect_str_eq(order, "bca");
}

Test(deadline, equal_durations_that_began_apart_end_apart)
{
    arm(&a, 40);
    c.arms = &b;
    c.arms_after_ms = 40;
    arm(&c, 20);
    wait_for(3);
    cr_expect_str_eq(order, "cab");
    cr_expect_geq(b.due_at_ms, a.armed_at_ms + 60);
}

Test(deadline, is_not_due_when_cancelled)
{
    arm(&a, 10);
    arm(&b, 10);
    deadline_cancel(&a.deadline);
    deadline_cancel(&a.deadline);
    cr_expect_not(deadline_is_armed(&a.deadline));
    arm(&c, 30);
    wait_for(2);
    cr_expect_str_eq(order, "bc");
}

Test(deadline, the_next_waits_its_time_when_the_first_was_cancelled)
{
    arm(&a, 20);
    c.cancels = &a;
    c.arms = &b;
    c.arms_after_ms = 20;
    arm(&c, 15);
    wait_for(2);
    cr_expect_str_eq(order, "cb");
}

Test(deadline, starts_anew_when_it_is_armed_again)
{
    arm(&a, 30);
    c.arms = &a;
    c.arms_after_ms = 30;
    arm(&c, 20);
    wait_for(2);
    cr_expect_str_eq(order, "ca");
    cr_expect_geq(a.due_at_ms, c.due_at_ms + 30);
}

Test(deadline, can_be_armed_with_another_duration)
{
    arm(&a, 60000);
    arm(&a, 10);
    arm(&b, 30);
    wait_for(2);
    cr_expect_str_eq(order, "ab");
}

Test(deadline, can_be_armed_again_when_it_is_due)
{
    a.n_more = 3;
    arm(&a, 10);
    arm(&b, 10);
    wait_for(5);
    cr_expect_str_eq(order, "abaaa");
    cr_expect_geq(a.due_at_ms, b.due_at_ms + 30);
}

Test(deadline, can_cancel_its_neighbour)
{
    a.cancels = &b;
    arm(&a, 10);
    arm(&b, 10);
    arm(&c, 10);
    wait_for(2);
    cr_expect_str_eq(order, "ac");
}

struct owner {
    struct deadline deadline;
    char filler[100];
};

static void free_owner(struct deadline *deadline)
{
    free(CONTAINER_OF(deadline, struct owner, deadline));
}

Test(deadline, its_owner_may_be_freed_when_it_is_due)
{
    struct owner *owner = calloc(1, sizeof *owner);

    arm(&b, 10);
    cr_assert(deadline_arm(loop, &owner->deadline, 10, free_owner));
    arm(&a, 10);
    wait_for(2);
    cr_expect_str_eq(order, "ba");
}

Test(deadline, of_no_time_is_due_in_the_loop_and_not_in_the_call)
{
    arm(&a, 0);
    cr_expect_str_eq(order, "");
    wait_for(1);
    cr_expect_str_eq(order, "a");
}

Test(deadline, thousands_end_on_time)
{
    static struct alarm many[5000];

    for (size_t i = 0; i < COUNT_OF(many); i++)
        arm(&many[i], 20 + i % 7);
    for (size_t i = 0; i < COUNT_OF(many); i += 2)
        deadline_cancel(&many[i].deadline);
    wait_for(2500);
    for (size_t i = 0; i < COUNT_OF(many); i++)
        cr_assert_eq(many[i].n_due, i % 2);
}

static void arm_one(void *unused)
{
    struct loop *one = loop_new(false);
    struct deadline deadline = {0};

    (void)unused;
    if (one == NULL)
        return;
    if (deadline_arm(one, &deadline, 1000, on_due)) {
        cr_expect(deadline_is_armed(&deadline));
        memory_fail_at += memory_fail_at > 0; /* the second of its length needs none */
        cr_expect(deadline_arm(one, &deadline, 1000, on_due));
        deadline_cancel(&deadline);
    } else {
        cr_expect_not(deadline_is_armed(&deadline));
    }
    loop_free(one);
}

Test(deadline, is_not_armed_when_memory_is_out)
{
    cr_expect_eq(fault_each_allocation(arm_one, NULL), 3);
}

static void arm_or_not(struct alarm *alarm, uint64_t after_ms)
{
    memory_fail_at = 1;
    cr_expect_not(deadline_arm(loop, &alarm->deadline, after_ms, on_due));
    memory_fail_at = 0;
}

Test(deadline, that_was_armed_is_no_longer_when_arming_it_anew_fails)
{
    arm(&a, 10);
    arm_or_not(&a, 11);
    cr_expect_not(deadline_is_armed(&a.deadline));
    arm(&b, 30);
    wait_for(1);
    cr_expect_str_eq(order, "b");
}
