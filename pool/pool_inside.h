/* pool/pool_inside.h - what the files of pool/pool.h know of each other.
 *
 *   pool.c           clients that need a server, servers that are lent, idle, closed
 *   pool_nodes.c     which node a server may be on
 *   pool_opening.c   a server's way from the grant of a slot to its first lease
 *   pool_prewarm.c   ... in advance, at nodes that may become the primary
 *   pool_halts.c     PAUSE, RECONNECT and what is like them
 *   pool_handover.c  ... to a client of another worker
 *   pool_notices.c   what the ledger has other workers told
 *   pool_holds.c     what is told of changes of the primary
 *   pool_inquest.c   whether a node that ends servers goes away
 *   pool_upkeep.c    what a change of topology, and time, do to a pool
 *   pools.c          a worker's pools: made, found, freed
 *   pool_views.c     what views show
 */
#ifndef POOL_POOL_INSIDE_H
#define POOL_POOL_INSIDE_H

#include "pool/pool.h"

/* What a pool has on one node. */
struct pool_branch {
    struct link in_pool;
    struct table_entry in_table; /* of the pools, by ledger_branch */
    struct pool *pool;
    struct ledger_branch *ledger_branch; /* held */
    uint32_t node_id;
    uint64_t retry_at_ms; /* after a login that failed; 0 = at once */
};

/* What keep_up() has seen of a server that is lent. */
struct watch {
    uint32_t n_forwarded, n_answered; /* of its flow */
    uint32_t n_rests;
    uint64_t moved_at_ms; /* when one of the former was another */
    uint64_t began_at_ms; /* the same of n_rests: its transaction */
};

/* A server, and what the pool knows of it. Not in a slab: it may change its worker. */
struct member {
    struct pooled pooled;
    struct watch watch;
    struct pool *pool;
    struct pool_branch *branch;
    struct deferred end;
    struct ledger_waiter *heir; /* to whom it goes, in another worker */
    struct pools *to;           /* that worker's */
    struct message message;     /* its way there */
    bool is_open;               /* it has logged in, and the connect query is answered */
    bool is_idle;               /* in the pool's list of these */
    bool is_doomed; /* its node has lost the role, or is about to: not to be lent again */
    bool has_lost_role; /* it has: sessions end, too */
    uint64_t lost_role_at_ms;
    bool is_expected; /* the ledger was told that it will be idle soon */
    bool is_spoiled;  /* a cancel request may hit it at any time: likewise */
};

static inline struct member *member_of(const struct pooled *server)
{
    return CONTAINER_OF(server, struct member, pooled);
}

static inline struct member *member_in(struct link *link)
{
    return CONTAINER_OF(link, struct member, pooled.in_owner);
}

static inline struct need *need_of(struct ledger_waiter *waiter)
{
    return CONTAINER_OF(waiter, struct need, waiter);
}

/* ---- pool_nodes.c -------------------------------------------------------------------
 */

/* NULL when memory is out. */
struct pool_branch *pool_get_branch(struct pool *pool, uint32_t node_id) MUST_CHECK;
/* The node on which a server is to be opened next, by turns; NULL when there is none. */
struct pool_branch *pool_choose_branch(struct pool *pool);
/* As the present topology has it; NULL: it does not. */
const struct topology_cluster *pool_cluster(const struct pool *pool);
/* Whether servers of the node may be lent: it has the pool's role, and is not about to
 * lose it. */
bool pool_may_have(const struct pool *pool, uint32_t node_id);
/* Whether sessions may stay there: it has the role. */
bool pool_may_keep(const struct pool *pool, uint32_t node_id);
/* NULL when it has not. */
const struct topology_node *pool_usable_node(struct pool *pool, uint32_t node_id);

/* ---- pool_halts.c -------------------------------------------------------------------
 */

/* Nobody gets a server of it. */
bool pool_is_paused(const struct pool *pool);
/* As soon as it is at rest. */
bool member_is_to_be_closed(const struct member *member);

/* ---- pool_upkeep.c ------------------------------------------------------------------
 */

/* What it has, and who waits, as the present topology and halts have it. */
void pool_follow_topology(struct pool *pool);

/* ---- pool.c -------------------------------------------------------------------------
 */

void need_stand_in_line(struct need *need);
void need_leave_line(struct need *need);
/* The client has what it needs, or leaves. */
void need_end(struct need *need);
/* Its memory is ours again when no notice is under way to it. */
void need_end_if_unexpected(struct need *need);

/* Out of the idle ones, into our hand. */
void member_pick(struct member *member);
/* Somebody may want it: it is in hand, and in the list of those that are busy. */
void member_offer(struct member *member);
void member_lend(struct member *member, struct ledger_waiter *waiter);
/* An IDLE one that is in nobody's hands. */
void member_put_away(struct member *member);
/* It is too old to be lent again, or was opened in another way than servers are now. */
bool member_is_old(const struct member *member);
/* It is in the list of those that are busy. */
void member_close(struct member *member);
void member_close_idle(struct member *member);
/* Its memory is freed behind the iteration. */
void member_end(struct loop *loop, struct member *member);

/* ---- pool_opening.c -----------------------------------------------------------------
 */

/* False: it is to be closed. */
bool member_open(struct member *member, const struct topology_node *node) MUST_CHECK;
/* A slot for a client that waits: a server is opened for it. */
void pools_on_grant(struct pools *pools, struct ledger_notice *notice);

/* One that nobody waits for. False when there is no slot, or no memory. */
bool pool_open_one(struct pool *pool, struct pool_branch *branch);

/* ---- pool_prewarm.c -----------------------------------------------------------------
 */

/* A hold is on, perhaps: opens this worker's share; once, and with each that is open. */
void pool_prewarm(struct pool *pool);
/* Now and then: what other workers have not opened; closes what others wait for. */
void pool_keep_prewarmed(struct pool *pool);
/* One that wants to be lent later: the topology has changed. */
void member_follow_hold(struct member *member);
/* One that was expected in the pool is offered, or gone. */
void member_is_here(struct pool *pool);

/* ---- pool_inquest.c -----------------------------------------------------------------
 */

/* A server was lost that had been open. */
void pools_on_end(struct pools *pools, uint32_t node_id);
/* A login has succeeded, or failed: `sqlstate` as the node said it, "" when it said none.
 */
void pools_on_login(struct pools *pools, const struct member *member, bool has_failed,
                    const char *sqlstate);
/* Behind a change of the topology, and now and then. */
void pools_pursue(struct pools *pools);

/* ---- pool_handover.c ----------------------------------------------------------------
 */

void member_hand_over(struct member *member, struct ledger_waiter *heir);
void member_on_packed(struct pooled *server);
/* Its heir's worker is told in any case, also of one that is closed. */
void member_send_to_heir(struct member *member);

/* ---- pool_holds.c -------------------------------------------------------------------
 */

/* The topology has changed. */
void pools_follow_holds(struct pools *pools);
/* A client that has waited gets its server; only while pools->hold_watches has any. */
void pools_note_held(struct pools *pools, const struct need *need);
void pools_begin_holds(struct pools *pools);
void pools_end_holds(struct pools *pools);

/* ---- pool_upkeep.c, pools.c ---------------------------------------------------------
 */

void pools_begin_upkeep(struct pools *pools);
/* Opens what is missing to min_pool_size, as far as the limits allow. */
void pool_fill(struct pool *pool);
void pool_free(struct pool *pool);

#endif
