/* tests/lib/made_time.h - a clock that the test moves, and what happens at its times.
 *
 * Stands in the place of libev's timers, of core/loop.c and of the system's clock and
 * random numbers: code that lives by timers alone runs through hours in a moment, the
 * same way each time for the same seed. Nothing else of a loop is there.
 */
#ifndef TESTS_LIB_MADE_TIME_H
#define TESTS_LIB_MADE_TIME_H

#include "core/loop.h"

/* Everything that was to happen is forgotten. The loop is good for timers alone. */
struct loop *made_time_begin(uint64_t seed);
/* The loop's clock; never 0. */
uint64_t made_time_ms(void);

/* From the seed: below `limit`, or 0; both included; that often in a hundred. */
uint64_t made_time_below(uint64_t limit);
uint64_t made_time_between(uint64_t least, uint64_t most);
bool made_time_chance(unsigned percent);

/* Calls run(arg) after so long; what is due at one time runs in the order of the calls.
 */
void made_time_call(uint64_t after_ms, void (*run)(void *arg), void *arg);
/* Nothing of what was to be called with `arg` will be. */
void made_time_forget(const void *arg);

/* Runs what comes next, if that is before `until_ms`; else the clock is set to that. */
bool made_time_step(uint64_t until_ms);

#endif
