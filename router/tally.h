/* router/tally.h - a worker's counters: router/tally.def as code.
 *
 * A worker has one tally for each listener, and one for each node that the listener has
 * led to; they are made at first use and stay, so that reloads lose no count. Nobody but
 * the worker touches them; pages are made of sums gathered by message.
 */
#ifndef ROUTER_TALLY_H
#define ROUTER_TALLY_H

#include <stdint.h>

#include "core/list.h"
#include "health/topology.h"

#define LISTENER_NAME_MAX 64

struct tally {
    struct link in_list;
    char listener[LISTENER_NAME_MAX];
    uint32_t node_id; /* 0 = the listener as a whole */
#define TALLY(name, how, text) uint64_t name;
#include "router/tally.def"
};

/* The tally for this listener and node, made when it is not there; NULL when memory is
 * out. */
struct tally *tally_get(struct list *tallies, const char *listener,
                        uint32_t node_id) MUST_CHECK;
/* NULL when there is none. */
struct tally *tally_find(const struct list *tallies, const char *listener,
                         uint32_t node_id);
/* Adds the counts of `one` to those of `to`, each in its own way. */
void tally_add(struct tally *to, const struct tally *one);
/* Adds each of `from` to its like in `to`; false when memory is out. */
bool tally_merge(struct list *to, const struct list *from) MUST_CHECK;
/* Begins to count anew: what is the most of something, or, with `all`, everything but
 * what is there now. */
void tally_reset(struct list *tallies, bool all);
void tally_clear(struct list *tallies);

#endif
