/* pool/ledger_line.h - the ledger's inside: its limits and its lines.
 *
 * A waiter stands at a desk, for servers, and while it is IN_LINE in a seat's line, for
 * slots. Both are kept per worker: each worker appends its own, in order of time.
 *
 * Thread: all but the lock under the mutex.
 */
#ifndef POOL_LEDGER_LINE_H
#define POOL_LEDGER_LINE_H

#include <pthread.h>

#include "pool/ledger.h"

struct ledger {
    pthread_mutex_t mutex;
    unsigned n_workers;
    unsigned login_concurrency; /* 0 = no limit */
    atomic_uint n_musters;
    struct list musters; /* limits of nodes */
    uint64_t followed[]; /* generation of the topology, by worker */
};

static inline void ledger_lock(struct ledger *ledger)
{
    REQUIRE(pthread_mutex_lock(&ledger->mutex) == 0);
}

static inline void ledger_unlock(struct ledger *ledger)
{
    REQUIRE(pthread_mutex_unlock(&ledger->mutex) == 0);
}

/* Drops one reference, and what is held by nobody any more. */
void ledger_line_release(struct ledger_branch *branch);

/* Does this limit keep the branch from one more slot? */
bool ledger_line_is_full(const struct ledger_branch *branch, enum ledger_scope scope);
/* The first limit that does; NULL = a slot can be had. */
struct ledger_limit *ledger_line_blocking(const struct ledger_branch *branch);
/* For a server that is to log in. */
void ledger_line_take(struct ledger_branch *branch);

/* ---- ledger_gate.c: logins at a node ------------------------------------------------
 */

/* Whether one more may be begun at the branch's node now. */
bool ledger_gate_is_open(const struct ledger *ledger, const struct ledger_branch *branch);
enum ledger_login {
    LEDGER_LOGIN_NONE, /* it was over before */
    LEDGER_LOGIN_NOT_BEGUN,
    LEDGER_LOGIN_DONE,
    LEDGER_LOGIN_FAILED
};
/* One is over: the node's lines are to be looked at, and then ledger_gate_rest(). */
void ledger_gate_leave(const struct ledger *ledger, struct ledger_limit *node,
                       enum ledger_login how);
void ledger_gate_rest(struct ledger_limit *node);
/* Ends a muster that waits for no worker any more, or was called LEDGER_MUSTER_NS before
 * `now_ns`. Its node, whose lines are to be looked at; NULL when there is none. */
struct ledger_limit *ledger_gate_end_muster(struct ledger *ledger, uint64_t now_ns);

/* For the branch's own and any other's use in a LIST_EACH of a limit's lists. */
static inline struct ledger_branch *ledger_line_member(const struct link *item)
{
    return CONTAINER_OF(item, struct ledger_membership, link)->branch;
}

static inline struct ledger_branch *ledger_line_in_pool(const struct link *item)
{
    return CONTAINER_OF(item, struct ledger_branch, in_pool);
}

/* The one of two that waits longer; each may be NULL. */
struct ledger_waiter *ledger_line_older(struct ledger_waiter *a, struct ledger_waiter *b);

/* n_waiting is written before anybody looks for idle servers. */
void ledger_line_enter_desk(struct ledger_waiter *waiter);
void ledger_line_leave_desk(struct ledger_waiter *waiter);
struct ledger_waiter *ledger_line_first_at_desk(const struct ledger_pool *pool,
                                                unsigned worker);
unsigned ledger_line_n_waiting(const struct ledger_pool *pool);

/* Makes it IN_LINE. */
void ledger_line_enter(struct ledger_waiter *waiter);
/* What was promised to it is promised to the next of the line. */
void ledger_line_leave(const struct ledger *ledger, struct ledger_waiter *waiter);
/* The first of a branch's line, over all workers; NULL when it is empty. */
struct ledger_waiter *ledger_line_first(const struct ledger *ledger,
                                        const struct ledger_branch *branch);
/* The same, of those to whom nothing is promised. */
struct ledger_waiter *ledger_line_first_unpromised(const struct ledger *ledger,
                                                   const struct ledger_branch *branch);
/* Counts the line among those that the limit holds up; NULL = none does. */
void ledger_line_set_blocked_at(struct ledger_branch *branch, struct ledger_limit *limit);

/* A slot and the waiter for whom its server is opened. */
void ledger_line_tie(struct ledger_slot *slot, struct ledger_waiter *waiter);
void ledger_line_untie(struct ledger_waiter *waiter);
/* A slot and the waiter IN_LINE for whom its server is closed. */
void ledger_line_promise(struct ledger_slot *slot, struct ledger_waiter *waiter);
void ledger_line_unpromise(struct ledger_waiter *waiter);

#endif
