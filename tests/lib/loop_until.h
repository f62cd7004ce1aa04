/* tests/lib/loop_until.h - runs a loop in a test until something holds, with a limit. */
#ifndef TESTS_LIB_LOOP_UNTIL_H
#define TESTS_LIB_LOOP_UNTIL_H

#include "core/loop.h"

static inline void loop_until_on_limit(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev;
    (void)events;
    *(bool *)timer->data = true;
}

/* Runs iterations until `*done` or until `limit_ms` are over; returns `*done`. With
 * `done` NULL it runs for that time. */
static inline bool loop_until(struct loop *loop, const bool *done, unsigned limit_ms)
{
    bool is_over = false;
    ev_timer limit;

    ev_now_update(loop->ev);
    ev_timer_init(&limit, loop_until_on_limit, limit_ms / 1e3, 0.);
    limit.data = &is_over;
    ev_timer_start(loop->ev, &limit);
    while (!is_over && (done == NULL || !*done))
        ev_run(loop->ev, EVRUN_ONCE);
    ev_timer_stop(loop->ev, &limit);
    return done != NULL && *done;
}

#endif
