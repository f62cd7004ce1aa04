/* health/pace.h - when a cluster's next round of checks begins. Pure: the clock is given.
 *
 * Normally rounds begin check_interval apart. While something is suspect they begin
 * check_fast_interval apart: for five seconds, then the time between them doubles until
 * it is check_interval again. It stays fast while the primary is missing and somebody
 * waits for it, for the first minute without a primary in any case, and while a promotion
 * is near. A promotion may come long after the old primary's end, and is to be seen at
 * once: when a node has the lock and is not writable yet, which takes PostgreSQL a part
 * of a second, rounds begin a quarter of check_fast_interval apart for three seconds.
 */
#ifndef HEALTH_PACE_H
#define HEALTH_PACE_H

#include "health/monitor.h"

#define PACE_FAST_MS 5000
#define PACE_NO_PRIMARY_MS 60000
#define PACE_PROMOTION_MS 3000
#define PACE_LEAST_MS 20 /* between two rounds, where nobody has configured less */

struct pace_settings {
    uint64_t interval_ms, fast_ms;
};

/* What the cluster is like as a round begins. */
struct pace_view {
    bool lacks_primary;     /* though it should have one */
    bool is_promotion_near; /* nobody holds the lock, or its holder is not yet writable */
    bool is_promoting;      /* the latter */
    unsigned n_waiting;     /* clients */
};

struct pace {
    uint64_t round_at_ms; /* the last round's begin; 0 = there was none */
    uint64_t wait_ms;     /* from then to the next */
    uint64_t fast_until_ms;
    uint64_t lacking_since_ms;   /* 0 = the primary is there */
    uint64_t promoting_since_ms; /* 0 = nobody is being promoted */
    uint64_t user_round_at_ms;   /* last round for evidence that any user can cause */
    uint64_t link_round_at_ms;   /* and for evidence that the network gave */
};

/* A round begins now. True when it is one in a fast row: then all nodes are asked at
 * once, otherwise spread a little. */
bool pace_begin_round(struct pace *pace, const struct pace_settings *settings,
                      const struct pace_view *view, uint64_t now_ms);
/* A check has found something new, or begun to turn a verdict. */
void pace_suspect(struct pace *pace, const struct pace_settings *settings,
                  uint64_t now_ms);
/* The view has changed between two rounds. */
void pace_look(struct pace *pace, const struct pace_settings *settings,
               const struct pace_view *view, uint64_t now_ms);
/* Time until the next round, 0 = it is due. */
uint64_t pace_rest_ms(const struct pace *pace, uint64_t now_ms);
/* May this evidence start a round now? If so, it counts as started. */
bool pace_allows(struct pace *pace, enum evidence evidence, uint64_t now_ms);
/* A tenth of the interval: how far a round's checks are spread. */
uint64_t pace_spread_ms(const struct pace_settings *settings);

#endif
