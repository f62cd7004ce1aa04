/* tests/lib/loop_until.h - runs a loop in a test until something holds, with a limit. */
#ifndef TESTS_LIB_LOOP_UNTIL_H
#define TESTS_LIB_LOOP_UNTIL_H

#include "core/loop.h"

/* What is deferred runs right before the loop sleeps, when nobody can look at `*done` any
 * more: so it never sleeps for long. */
static inline void loop_until_wake_up(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev;
    (void)timer;
    (void)events;
}

/* Runs iterations until `*done` or until `limit_ms` are over; returns `*done`. With
 * `done` NULL it runs for that time. */
static inline bool loop_until(struct loop *loop, const bool *done, unsigned limit_ms)
{
    uint64_t began_ms;
    ev_timer alarm;

    ev_now_update(loop->ev);
    ev_timer_init(&alarm, loop_until_wake_up, 0.001, 0.002);
    ev_timer_start(loop->ev, &alarm);
    ev_run(loop->ev, EVRUN_NOWAIT);
    began_ms = loop_now_ms(loop);
    while (loop_now_ms(loop) - began_ms < limit_ms && (done == NULL || !*done))
        ev_run(loop->ev, EVRUN_ONCE);
    ev_timer_stop(loop->ev, &alarm);
    return done != NULL && *done;
}

#endif
