#include "core/turns.h"

/* How often those who wait are looked at. */
#define LOOK_MS 10u

static void run(struct loop *loop, struct turn *turn)
{
    ration_spend(&loop->onlookers, TURN_NS);
    turn->run(turn);
}

/* The first, when there is time; what it costs may not be known before the next look. */
static void on_look(struct deadline *look)
{
    struct loop *loop = CONTAINER_OF(look, struct loop, next_turn);
    struct link *first = list_first(&loop->turns);
    bool has_time = ration_wait_ms(&loop->onlookers, loop->now_ns) == 0;
    bool is_armed;

    if (has_time)
        list_remove(&loop->turns, first);
    is_armed = loop->turns.n == 0 || deadline_arm(loop, look, LOOK_MS, on_look);
    REQUIRE(is_armed); /* it was before, and waits of that length are known */
    if (has_time)
        run(loop, CONTAINER_OF(first, struct turn, in_line));
}

static bool must_wait(struct loop *loop)
{
    if (loop->turns.n == 0 && ration_wait_ms(&loop->onlookers, loop->now_ns) == 0)
        return false;
    return deadline_is_armed(&loop->next_turn) ||
           deadline_arm(loop, &loop->next_turn, LOOK_MS, on_look);
}

void turn_take(struct loop *loop, struct turn *turn, bool goes_on)
{
    if (link_is_in_list(&turn->in_line))
        return;
    if (!must_wait(loop)) /* or memory is out */
        run(loop, turn);
    else if (goes_on)
        list_prepend(&loop->turns, &turn->in_line);
    else
        list_append(&loop->turns, &turn->in_line);
}

void turn_leave(struct loop *loop, struct turn *turn)
{
    if (!link_is_in_list(&turn->in_line))
        return;
    list_remove(&loop->turns, &turn->in_line);
    if (loop->turns.n == 0)
        deadline_cancel(&loop->next_turn);
}
