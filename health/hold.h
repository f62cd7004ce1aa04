/* health/hold.h - when clients that need the primary wait for one, and when they go on.
 * Pure: clock and rounds are given.
 *
 *   a cause stands --> ON --> another node is proven, or --> over
 *                              no cause stands any more and the same node is proven
 *
 * Proof is an answer with a full claim (verdict.h) to a question that was asked after the
 * hold had begun; of the node that was about to go, after the last cause was over.
 *
 *   cause    stands until
 *   COMMAND  it says so, when its switchover has failed
 *   REQUEST  Patroni's request is gone and somebody holds the leader lock
 *   HOOK     the node was seen to have gone; or not within HOLD_HOOK_DOUBT_MS; or it says
 *            so; at most HOLD_HOOK_MS
 *   LOSS     (it never stands: any proof ends it)
 *
 * After hold_timeout it is over in any case, and everything goes by the election again.
 *
 * Thread: control only.
 */
#ifndef HEALTH_HOLD_H
#define HEALTH_HOLD_H

#include "health/switchover.h"

#define HOLD_HOOK_MS 60000
/* Patroni stops PostgreSQL as soon as its hook has returned. */
#define HOLD_HOOK_DOUBT_MS 5000

struct hold {
    struct switchover records[SWITCHOVERS_KEPT]; /* by number; the present one is last */
    uint64_t number;                             /* of the last one; 0 = there was none */
    bool is_on;
    bool has_left;               /* the node that leaves was seen not to be the primary */
    unsigned causes;             /* set of those that stand, by 1 << enum hold_cause */
    char primary[NODE_NAME_MAX]; /* as last seen; "" = none */
    uint64_t proof_round;        /* an answer of this round or a later one is proof */
    uint64_t stays_round;        /* the same of the node that was to leave */
    uint64_t hook_ms;            /* when the hook called */
};

/* What the cluster looks like after an answer was weighed. */
struct hold_sight {
    const char *primary; /* by the election; "" = none */
    bool is_proof;       /* its last answer is a full claim */
    uint64_t round;      /* in which that was asked for */
};

/* When: by the loop's clock, by the wall's, and by the rounds of checks. */
struct hold_time {
    uint64_t now_ms;
    int64_t now_s;
    uint64_t round; /* the last that has begun */
};

/* Begins one, or joins the one that is on. `leaving`: the node that is about to go, "" =
 * the present primary. Returns its number. */
uint64_t hold_begin(struct hold *hold, enum hold_cause cause, const char *leaving,
                    const char *sign, const struct hold_time *time);
/* The cause stands no more; whether it did. */
bool hold_end_cause(struct hold *hold, enum hold_cause cause,
                    const struct hold_time *time);
/* After each answer; begins a hold when the primary was lost. True: the hold has begun or
 * ended. */
bool hold_see(struct hold *hold, const struct hold_sight *sight, const char *why_none,
              const struct hold_time *time);
/* Now and then while it is on. True: it has ended, by `timeout_ms`, or a new round should
 * begin, since a cause is over. */
bool hold_look(struct hold *hold, uint64_t timeout_ms, const struct hold_time *time);

/* The last one, on or over; there must have been one. */
const struct switchover *hold_last(const struct hold *hold);
/* The present one; NULL = none. */
const struct switchover *hold_present(const struct hold *hold);
/* The last one has ended by its timeout. */
bool hold_has_failed(const struct hold *hold);
/* NULL when there was none, or it is forgotten. */
struct switchover *hold_record(struct hold *hold, uint64_t number);
/* Whether the node is the one that is about to go. */
bool hold_leads_away(const struct hold *hold, const char *node);

#endif
