/* core/histogram.h - how often how long: durations by the microsecond, in buckets.
 *
 *      0 1 2 ... 7   8 9 .. 15   16-17 18-19 .. 30-31   32-35 ..       up to 2 h 23 min
 *      one each      one each    eight of two           eight of four  ...
 *
 * Eight buckets for each power of two: the middle of a bucket is off by less than 6.3 %
 * of what was counted there. To count is an addition to one cell, without a lock, a clock
 * or memory, but once in four thousand million times.
 *
 * Thread: one counts; whoever reads does so on the same thread.
 */
#ifndef CORE_HISTOGRAM_H
#define CORE_HISTOGRAM_H

#include <stdint.h>

#include "core/check.h"

/* Of each power of two, and all: durations of 2^33 us and more are in the last. */
#define HISTOGRAM_PARTS_LOG2 3u
#define HISTOGRAM_RANGE_LOG2 33u
#define HISTOGRAM_BUCKETS \
    ((HISTOGRAM_RANGE_LOG2 - HISTOGRAM_PARTS_LOG2 + 1u) << HISTOGRAM_PARTS_LOG2)

/* Zeroed is empty. */
struct histogram {
    uint64_t sum_ns;
    uint32_t *high; /* how often each bucket's count has begun anew; NULL: never */
    uint32_t low[HISTOGRAM_BUCKETS];
};

/* What several have together; zeroed is empty. */
struct histogram_sum {
    uint64_t sum_ns;
    uint64_t n;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

/* The bucket of a duration, and where a bucket begins; it ends where the next begins. */
static inline unsigned histogram_bucket(uint64_t us)
{
    unsigned top;

    if (us < 1u << HISTOGRAM_PARTS_LOG2)
        return (unsigned)us;
    if (us >> HISTOGRAM_RANGE_LOG2 != 0)
        return HISTOGRAM_BUCKETS - 1;
    top = 63u - (unsigned)__builtin_clzll(us) - HISTOGRAM_PARTS_LOG2;
    return (top << HISTOGRAM_PARTS_LOG2) + (unsigned)(us >> top);
}
uint64_t histogram_begin_us(unsigned bucket);

/* A bucket's count has come to its end, once in 2^32 times: goes on in `high`. Where
 * memory is out the count stays at its most. */
void histogram_carry(struct histogram *histogram, unsigned bucket);

static inline void histogram_count(struct histogram *histogram, uint64_t ns)
{
    unsigned bucket = histogram_bucket(ns / 1000u);

    histogram->sum_ns += ns;
    if (++histogram->low[bucket] == 0)
        histogram_carry(histogram, bucket);
}

void histogram_clear(struct histogram *histogram);

void histogram_add(struct histogram_sum *sum, const struct histogram *one);
void histogram_add_sum(struct histogram_sum *sum, const struct histogram_sum *one);
/* The duration, in microseconds, that `part` of all were not longer than (0.5: the
 * median), as the middle of its bucket; 0 when there is none. */
uint64_t histogram_quantile_us(const struct histogram_sum *sum, double part);
/* How many were shorter than this, rounded down to where a bucket begins. */
uint64_t histogram_below(const struct histogram_sum *sum, uint64_t us);

#endif
