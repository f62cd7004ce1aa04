/* router/console/insight.h - SHOW LATENCIES and SHOW ERRORS: rows of what pools have
 * counted of durations and errors.
 *
 * Of each pool there is a fixed number of places for rows, some of which are empty.
 *
 * Thread: whoever has the sums.
 */
#ifndef ROUTER_CONSOLE_INSIGHT_H
#define ROUTER_CONSOLE_INSIGHT_H

#include "router/console/row.h"
#include "router/console/sums.h"

/* How many places a pool has in the view; 0: it is none of these views. */
unsigned insight_places(enum view_name view);
/* Writes the row at a place, if there is one. False: there was no room. The sums were
 * made with_insight. */
bool insight_add_row(const struct pool_sum *pool, enum view_name view, unsigned place,
                     uint64_t binary, struct text *out) MUST_CHECK;

#endif
