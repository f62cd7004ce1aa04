/* health/election.h - which node of a cluster may be written to. Pure.
 *
 * It elects nobody by itself: Patroni (or, with check = postgres, PostgreSQL) names the
 * primary, and this only refuses what cannot be true.
 *
 * - The timeline is a fence: no node below the highest timeline that a full claim has
 *   shown under the cluster's system identifier.
 * - A full claim under another system identifier starts the fence anew, when no running
 *   node shows the present one any more.
 * - The fence comes down only when the node that has raised it says of itself that it is
 * a replica on a lower timeline now, nobody runs on the higher one, and somebody claims
 * in full: then the higher history is gone by its own keeper's word. (Patroni 3.0 with
 * etcd's v3 API does that: a primary's Patroni that was stopped for longer than the ttl
 * takes the lock back from its successor, which rewinds.)
 * - Of full claims on different timelines the highest wins. Two on one timeline: the
 *   present primary stays for this round; when they are still there in the next round,
 *   nobody may be written to until only one is left.
 * - The present primary stays while its claim is CLAIM_STAYS and nobody claims in full.
 * - A node that Patroni's keys overrule is no primary: it was frozen, perhaps, and has
 * not heard of its successor. Its claim makes rivals all the same.
 */
#ifndef HEALTH_ELECTION_H
#define HEALTH_ELECTION_H

#include "health/verdict.h"

#define WHY_NO_PRIMARY_MAX 160

struct candidate {
    const char *name;
    const struct verdict *verdict;
    bool is_overruled; /* in: Patroni's keys name another node, which has shown as high a
                          timeline */
    bool is_fenced;    /* out: claims in full, and is refused by the fence */
    bool is_rival;     /* out: claims in full beside another on the same timeline */
};

struct election {
    int primary;    /* index of the candidate; -1 = none may be written to */
    uint32_t fence; /* highest timeline of a full claim; 0 = there was none */
    char system_id[SYSTEM_ID_MAX]; /* under which the fence holds; "" = not known */
    int fence_keeper;    /* index of the candidate that has raised it; -1 = not known */
    bool is_lower_fence; /* it has come down with this call */
    bool is_new_fence;   /* the system identifier has changed with this call */
    bool has_rivals; /* two claims on one timeline, in two rounds: writes have stopped */
    uint64_t rivals_since_round; /* 0 = there is at most one full claim on the fence */
    bool is_standby_cluster;
    char why_no_primary[WHY_NO_PRIMARY_MAX]; /* a sentence; "" when there is a primary */
};

/* Of a cluster that was never asked. */
void election_init(struct election *election);
/* Forgets the fence: timelines and the system identifier that were seen. */
void election_reset(struct election *election);
/* To be called after each change of a verdict, with all nodes in a fixed order.
 * `check` gives the words for why there is no primary. */
void election_run(struct election *election, struct candidate *candidates, size_t n,
                  enum check_kind check);

#endif
