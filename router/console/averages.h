/* router/console/averages.h - what the counts of each database were some time ago: the
 * averages of SHOW STATS are over the time since then.
 *
 * As with PgBouncer, counts are noted every stats_period, and compared with what was
 * noted last but one: an average is over one period at least, and two at most; before the
 * first has passed, over the time since the start.
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_AVERAGES_H
#define ROUTER_CONSOLE_AVERAGES_H

#include "core/list.h"
#include "pool/counts.h"
#include "router/console/sums.h"

struct averages {
    struct list databases;
    uint64_t newer_at_ns, older_at_ns;
};

void averages_init(struct averages *averages, uint64_t now_ns);
void averages_clear(struct averages *averages); /* a zeroed one is fine */
/* A period is over. What memory is out for starts anew. The sums are sorted. */
void averages_note(struct averages *averages, const struct sums *sums, uint64_t now_ns);
/* The averages of a database with these counts now: per second, or nanoseconds. */
void averages_of(const struct averages *averages, const char *database,
                 const struct pool_counts *counts, uint64_t now_ns,
                 struct pool_counts *average);
/* The same of all databases together. */
void averages_of_all(const struct averages *averages, const struct pool_counts *counts,
                     uint64_t now_ns, struct pool_counts *average);

#endif
