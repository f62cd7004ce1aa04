/* core/turns.h: who waits for the ration of a loop. */
#include "core/turns.h"

#include <criterion/criterion.h>
#include <string.h>

#include "core/memory.h"
#include "tests/lib/loop_until.h"

static struct loop *loop;
static char order[16];
static bool is_enough;
static size_t n_wanted;

struct visitor {
    struct turn turn;
    char name;
};

static void on_turn(struct turn *turn)
{
    struct visitor *visitor = CONTAINER_OF(turn, struct visitor, turn);

    strncat(order, &visitor->name, 1);
    is_enough = strlen(order) >= n_wanted;
}

static struct visitor a = {{.run = on_turn}, 'a'}, b = {{.run = on_turn}, 'b'},
                      c = {{.run = on_turn}, 'c'};

static void open_all(void)
{
    loop = loop_new(false);
    loop->now_ns = 1000000000u;
}

static void close_all(void)
{
    turn_leave(loop, &a.turn);
    turn_leave(loop, &b.turn);
    turn_leave(loop, &c.turn);
    loop_free(loop);
}

TestSuite(turns, .init = open_all, .fini = close_all, .timeout = 20);

static void take(struct visitor *visitor)
{
    turn_take(loop, &visitor->turn, false);
}

/* From now on there is no time for anybody: for some 0.2 s. */
static void get_into_debt(void)
{
    cr_assert_eq(ration_wait_ms(&loop->onlookers, loop->now_ns), 0);
    ration_spend(&loop->onlookers, RATION_SAVED_NS + 3000000);
}

static void wait_for(size_t n)
{
    n_wanted = n;
    is_enough = strlen(order) >= n;
    cr_assert(loop_until(loop, &is_enough, 15000), "so far: %s", order);
}

Test(turns, while_there_is_time_nobody_waits)
{
    take(&a);
    take(&b);
    take(&a);
    cr_expect_str_eq(order, "aba");
}

Test(turns, then_they_come_one_behind_another)
{
    ev_now_update(loop->ev);
    loop_until(loop, NULL, 1);
    get_into_debt();
    take(&b);
    take(&a);
    take(&c);
    take(&b); /* it waits already */
    cr_expect_str_empty(order);
    wait_for(3);
    cr_expect_str_eq(order, "bac");
    cr_expect_eq(loop->turns.n, 0);
    cr_expect_not(deadline_is_armed(&loop->next_turn));
}

Test(turns, who_goes_on_comes_first)
{
    loop_until(loop, NULL, 1);
    get_into_debt();
    take(&a);
    take(&b);
    turn_take(loop, &c.turn, true);
    wait_for(3);
    cr_expect_str_eq(order, "cab");
}

Test(turns, who_leaves_is_not_called)
{
    loop_until(loop, NULL, 1);
    get_into_debt();
    take(&a);
    take(&b);
    turn_leave(loop, &a.turn);
    turn_leave(loop, &a.turn);
    wait_for(1);
    cr_expect_str_eq(order, "b");
    take(&c);
    turn_leave(loop, &c.turn);
    cr_expect_not(deadline_is_armed(&loop->next_turn));
}

Test(turns, each_is_a_debt_of_its_own)
{
    loop_until(loop, NULL, 1);
    cr_assert_eq(ration_wait_ms(&loop->onlookers, loop->now_ns), 0);
    for (unsigned i = 0; i < RATION_SAVED_NS / TURN_NS + 1; i++) {
        order[0] = '\0';
        take(&a);
        cr_expect_str_eq(order, "a");
    }
    order[0] = '\0';
    take(&a);
    cr_expect_str_empty(order, "what nobody has measured was spent, too");
}

Test(turns, without_memory_nobody_waits)
{
    loop_until(loop, NULL, 1);
    get_into_debt();
    memory_fail_at = 1;
    take(&a);
    memory_fail_at = 0;
    cr_expect_str_eq(order, "a");
}
