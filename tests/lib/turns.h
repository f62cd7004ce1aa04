/* tests/lib/turns.h - a loop's iterations, one by one, without waiting. */
#ifndef TESTS_LIB_TURNS_H
#define TESTS_LIB_TURNS_H

#include "core/loop.h"

static inline void turn(struct loop *loop, unsigned n)
{
    while (n-- > 0)
        ev_run(loop->ev, EVRUN_NOWAIT);
}

#endif
