/* tests/lib/ledger_world.h - three workers, a few clients and servers, and a ledger.
 *
 * A game for lib/explorer.h. One step is one call of the ledger under its mutex, one
 * access to a counter outside of it, or the delivery of a message; messages arrive in any
 * order. While one worker is in a call the others may take their steps that need no mutex
 * before any access of the call to a counter, which ledger_step() marks.
 *
 * After each step: no limit is exceeded, every slot, every login and every idle server is
 * counted once. Whenever no message is under way and every worker is at rest: nobody
 * waits beside a slot that it could have, unless as many log in as may, an idle server of
 * its pool, or one of another pool whose end would free what it waits for.
 */
#ifndef TESTS_LIB_LEDGER_WORLD_H
#define TESTS_LIB_LEDGER_WORLD_H

#include "pool/ledger.h"

#define WORLD_WORKERS 3
#define WORLD_CLIENTS 3
#define WORLD_POOLS 2
#define WORLD_NODES 2

/* How often something may happen, besides requests. */
struct world_chances {
    unsigned n_withdrawals;
    unsigned n_closings; /* of idle servers */
    unsigned n_failures; /* of servers that are opened */
    unsigned n_losses;   /* of servers that travel */
    unsigned n_tries;    /* for servers that nobody waits for */
    unsigned n_moves;    /* to the other node */
    unsigned n_overdue;  /* waiters that ask for the reserve */
    unsigned n_changes;  /* of a limit */
};

struct world_scene {
    unsigned pool_max, pool_max_2; /* of the second pool; 0 = there is none */
    unsigned database_max, node_max, reserve;
    unsigned login_concurrency;
    bool has_two_nodes;
    bool shares_pool_limit;    /* pools do */
    enum ledger_scope changed; /* LEDGER_POOL or LEDGER_NODE */
    unsigned changes[2];       /* to what, the last first */
    /* Of each client. */
    unsigned workers[WORLD_CLIENTS];
    unsigned pools[WORLD_CLIENTS];
    unsigned nodes[WORLD_CLIENTS];
    unsigned n_requests[WORLD_CLIENTS];
    uint64_t window_ns; /* a client waits since 1, 2 or 3 */
    struct world_chances chances;
};

/* Plays all of it. Once per process. Returns how often all was at rest. */
uint64_t world_play(const struct world_scene *scene);

/* Makes the accounts only. Returns the branch of the first pool on the first node. */
struct ledger_branch *world_make(const struct world_scene *scene);
/* What was accessed outside of calls since the last time this was asked. */
struct world_accesses {
    const atomic_uint *counters[32];
    unsigned n;
};
struct world_accesses world_take_accesses(void);

#endif
