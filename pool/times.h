/* pool/times.h - pool/times.def as code: how long what took, in one worker's pool, and in
 * those of all workers. */
#ifndef POOL_TIMES_H
#define POOL_TIMES_H

#include "core/histogram.h"

enum pool_time {
#define TIME(name, what) POOL_TIME_##name,
#include "pool/times.def"
    POOL_TIME_COUNT
};

struct pool_times {
    struct histogram of[POOL_TIME_COUNT];
};
_Static_assert(sizeof(struct pool_times) <= 4096, "there may be thousands of pools");

struct pool_times_sum {
    struct histogram_sum of[POOL_TIME_COUNT];
};

static inline void pool_time_count(struct pool_times *times, enum pool_time time,
                                   uint64_t ns)
{
    histogram_count(&times->of[time], ns);
}

static inline void pool_times_clear(struct pool_times *times)
{
    for (unsigned i = 0; i < POOL_TIME_COUNT; i++)
        histogram_clear(&times->of[i]);
}

static inline void pool_times_add(struct pool_times_sum *sum,
                                  const struct pool_times *times)
{
    for (unsigned i = 0; i < POOL_TIME_COUNT; i++)
        histogram_add(&sum->of[i], &times->of[i]);
}

#endif
