/* health/switchover.h - one change of a cluster's primary, or the wait for one: what made
 * us hold, and its time line.
 *
 * Thread: kept by control; a plain value.
 */
#ifndef HEALTH_SWITCHOVER_H
#define HEALTH_SWITCHOVER_H

#include <stdbool.h>
#include <stdint.h>

#include "health/topology.h"

#define SWITCHOVERS_KEPT 32 /* of one cluster */
#define SWITCHOVER_SIGN_MAX 128

/* What made us hold; also what a hold ends by. */
enum hold_cause {
    HOLD_NONE,
    HOLD_BY_COMMAND, /* SWITCHOVER here: ends with the command */
    HOLD_BY_REQUEST, /* Patroni was asked for one: the failover key in etcd */
    HOLD_BY_HOOK,    /* POST /hold, as Patroni's before_stop does */
    HOLD_BY_LOSS     /* the primary has gone, or says that it goes */
};

enum switchover_outcome {
    SWITCHOVER_UNDER_WAY,
    SWITCHOVER_CHANGED,  /* another node is the primary */
    SWITCHOVER_STAYED,   /* the same node is, again or still */
    SWITCHOVER_TIMED_OUT /* hold_timeout was over first */
};

/* Times are the loop's, in ms; 0 = that has not happened. */
struct switchover {
    uint64_t number; /* of this cluster, from 1 on; the topology shows it as its hold */
    enum hold_cause cause;
    enum switchover_outcome outcome;
    char from[NODE_NAME_MAX];       /* the primary of before; "" = there was none */
    char to[NODE_NAME_MAX];         /* the one that was proven; "" = none yet */
    char sign[SWITCHOVER_SIGN_MAX]; /* the first one, in words, and where it came from */
    int64_t began_at_s;             /* wall clock */
    uint64_t held_ms;               /* the hold's begin: the first sign was seen */
    uint64_t drained_ms; /* the last transaction on the old primary has ended */
    uint64_t gone_ms;    /* the old primary is none any more */
    uint64_t proven_ms;  /* the new one is proven, and clients go on */
    uint64_t lent_ms;    /* the first client has a server there */
    uint64_t ended_ms;   /* of the hold */
    uint64_t n_held;     /* clients of pools that have waited */
    uint64_t n_replayed; /* statements that were sent again */
    uint64_t n_lost;     /* transactions that clients were told to run again */
    uint64_t n_unknown;  /* requests whose outcome nobody knows: their clients were cut */
    uint64_t longest_wait_ms;
};

const char *hold_cause_name(enum hold_cause cause);           /* "command", ... */
const char *switchover_outcome_name(enum switchover_outcome); /* "changed", ... */

#endif
