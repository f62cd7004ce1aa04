/* core/turns.h - who waits for the ration of a loop (core/ration.h), one behind another.
 *
 *   turn_take(loop, &turn, false) --> there is time, and nobody waits: turn.run() at once
 *                                 --> there is none: it waits; turn.run() when it is due
 *
 * What is then done is spent by whoever does it; TURN_NS are for what nobody measures.
 * Thread: the loop's.
 */
#ifndef CORE_TURNS_H
#define CORE_TURNS_H

#include "core/loop.h"

#define TURN_NS 100000

/* Embed it, zeroed but for `run`. */
struct turn {
    struct link in_line;
    void (*run)(struct turn *turn);
};

/* Nothing happens when it waits already. `goes_on`: it is the rest of something that was
 * begun, and comes first. */
void turn_take(struct loop *loop, struct turn *turn, bool goes_on);
/* It does not want it any more; nothing happens when it does not wait. */
void turn_leave(struct loop *loop, struct turn *turn);

#endif
