/* tests/lib/fault.h - a constructor, with each of its allocations failing in turn. */
#ifndef TESTS_LIB_FAULT_H
#define TESTS_LIB_FAULT_H

#include "core/memory.h"

/* Calls `attempt` with the 1st, 2nd, ... allocation failing, until a call made fewer.
 * `attempt` looks at what it gets and frees it. Returns how many allocations an
 * undisturbed call makes, so that a test can tell that any failed. */
static inline unsigned fault_each_allocation(void (*attempt)(void *arg), void *arg)
{
    unsigned nth = 0;

    do {
        memory_fail_at = ++nth;
        attempt(arg);
    } while (memory_fail_at == 0);
    memory_fail_at = 0;
    return nth - 1;
}

#endif
