/* tests/lib/explorer.h - takes every way through a game, until there are no new states.
 *
 * A state is all bytes of some blocks of memory; from each one that is new every step is
 * taken that may be taken then. A step may have several ways: it asks explorer_choose()
 * in its midst, and is taken again from the same state for every answer.
 *
 * One game per process.
 */
#ifndef TESTS_LIB_EXPLORER_H
#define TESTS_LIB_EXPLORER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct explorer_step {
    unsigned kind;
    unsigned who;
};

struct explorer_steps {
    struct explorer_step steps[64];
    unsigned n;
};

struct explorer_game {
    const char *const *names; /* of the kinds of steps */
    /* Adds what may happen in this state. */
    void (*list)(struct explorer_steps *steps);
    void (*take)(const struct explorer_step *step);
    /* After each step; explorer_fail() when something is wrong. */
    void (*check)(void);
    /* Is it of those that must come to an end by themselves? */
    bool (*is_internal)(unsigned kind);
};

void explorer_add_step(struct explorer_steps *steps, unsigned kind, unsigned who);

/* Before the game: memory that makes a state, of 8 bytes or a multiple. */
void explorer_add_block(void *bytes, size_t n);
/* In the midst of a step: below `n`, every one in its turn. */
unsigned explorer_choose(unsigned n);
/* In the midst of a step: ends it here if another way of the same step has been in the
 * same state with the same `locals`, which stand for what the step knows beside it. Does
 * not return then: the step leaves nothing behind but in the state. */
void explorer_pass(uint64_t locals);
/* Ends the test, and prints the steps that led here. */
_Noreturn void explorer_fail(const char *what);
#define EXPLORER_MUST(condition) ((condition) ? (void)0 : explorer_fail(#condition))

/* Plays from the present state. At the end no circle of internal steps may have been
 * found, in which things go round for ever. Prints how much it was. */
void explorer_play(const struct explorer_game *played);

#endif
