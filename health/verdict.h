/* health/verdict.h - what to think of one node, from one sample after the other. Pure.
 *
 * Two things are kept apart: whether the node is *up* (checks that succeed or fail, with
 * rise and fall) and what it *is* (its role, and whether it claims to be the primary).
 * What an answering Patroni says about the role holds at once, and so does that the
 * server is stopping or stopped: it has no role then.
 *
 * A node alone never is the primary: it has a claim, and election.h decides.
 *
 *   claim    from                                                worth
 *   FULL     Patroni: 200, running, writable                     may become the primary
 *            (check = postgres: a writable node)
 *            Patroni does not answer, but its keys: holds the
 *            lock, running, writable; and the server is there
 *   STAYS    had a claim, and now:                               may stay the primary,
 *            - does not answer, until `fall` such checks         while nobody else
 *            - does not answer, but PostgreSQL is writable       claims in full
 *            - answers 200, but could not ask the server
 *            - answers 503 and is writable, while Patroni is
 *              paused or in failsafe mode and nobody holds the
 *              lock: then a missing lock says nothing
 *            - the same in pause, with a lock that Patroni
 *              had no chance to look after yet
 *   NONE     everything else
 */
#ifndef HEALTH_VERDICT_H
#define HEALTH_VERDICT_H

#include "config/config.h"
#include "health/sample.h"

/* Checks with the same result in a row, and the state that follows from them. */
struct streak {
    bool is_known; /* there was a check */
    bool is_up;
    bool last_ok;
    unsigned in_a_row; /* checks that ended as the last one did */
};

enum claim { CLAIM_NONE, CLAIM_STAYS, CLAIM_FULL };

struct verdict {
    struct streak checks;
    enum node_role role; /* NODE_UNKNOWN unless up */
    enum claim claim;
    bool is_unnamed;       /* writable, though Patroni does not give it the lock */
    unsigned without_lock; /* visits of Patroni's to its store since it lost the lock */
    uint64_t store_seen_s; /* as in struct sample, of the last answer */
    uint32_t timeline;
    bool is_noloadbalance;
    char system_id[SYSTEM_ID_MAX];
    int64_t lag_bytes; /* of a replica; -1 = not known */
    bool is_lagging;
    struct sample last;
};

struct verdict_settings {
    enum check_kind check;
    unsigned rise, fall;
    uint64_t max_lag_bytes; /* 0 = no limit */
};

/* The first check counts at once; later ones turn the state after `rise` or `fall`. */
void streak_add(struct streak *streak, bool is_ok, unsigned rise, unsigned fall);

/* A zeroed verdict is that of a node that was never asked. */
void verdict_add(struct verdict *verdict, const struct sample *sample,
                 const struct verdict_settings *settings);

/* How far the replica is behind `leader_location` (0 = not known), as Patroni's /replica
 * counts it: from what it has replayed. To be called with each new sample. */
void verdict_set_lag(struct verdict *verdict, uint64_t leader_location,
                     const struct verdict_settings *settings);

/* The sample is worth a second look soon: it differs from the one before in what it says
 * of the node, or it has begun to turn the state. Lag and locations do not count. */
bool verdict_is_suspect(const struct verdict *before, const struct verdict *after);

#endif
