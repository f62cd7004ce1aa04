/* pool/ledger.h - who may have how many servers, and who gets the next: exact over all
 * workers.
 *
 * Limits. A server takes from four limits at once: of its pool, its database, its user
 * and its node. A *slot* is the right to have one server: all four are taken in one step
 * or none. It is given back when the descriptor is closed, never before.
 *
 * Places. A *pool* is the same database, user and target for all workers. Its *branch* on
 * a node is where its slots, its waiting clients and its idle servers are counted. Any
 * server of a pool serves any waiter of it; the branch that a waiter names says only on
 * which node a new server would be opened for it. Pools whose nodes are not to be mixed
 * are two pools that share their limits.
 *
 * The life of a request, on worker W:
 *
 *   W has an idle server --- ledger_lend() ---> it is lent, no mutex
 *        | none, or others wait
 *   ledger_join() -- an idle server elsewhere: its worker is asked, offers it, hands it
 *        |           over                      ---> ledger_receive()
 *        |-- room in all limits, now or later: a grant
 *        |           ---> ledger_accept(), W opens a server ---> ledger_opened()
 *        |-- a server of W is released, or one elsewhere and this waiter is the first
 *        |           ---> ledger_serve() names the waiter
 *        '-- ledger_withdraw()
 *   the lease ends: ledger_rest(), and if that says no, ledger_serve()
 *
 *   OUT --> IN_LINE <--> GRANTED --> OPENING      a waiter; each may become OUT, and
 *             ^  '---------------------v          HANDED if a server comes first;
 *             '--------- HANDED <------'          OPENING is IN_LINE again if it fails
 *
 * A waiter goes on waiting for any server of its pool while one is opened for it.
 *
 * Nothing is called back. What has to be told to other workers comes out as notices, that
 * the caller posts when the call is over; they may arrive late and in any order. A notice
 * says only "look here": what it was about may be gone when it arrives, and the call that
 * answers it tells.
 *
 * Thread: any, for every function here; one mutex is held for some nanoseconds. The
 * members of the structs are the ledger's, where nothing else is said.
 */
#ifndef POOL_LEDGER_H
#define POOL_LEDGER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/list.h"
#include "core/mailbox.h"

struct ledger;
struct ledger_pool;
struct ledger_branch;
struct ledger_slot;

/* ---- notices ------------------------------------------------------------------------
 */

enum ledger_notice_kind {
    LEDGER_GRANT, /* a waiter was given a slot: ledger_accept() */
    LEDGER_ASK    /* idle servers of a branch are wanted: ledger_serve() with each, until
                     none is left or one is to be kept, then ledger_answered() */
};

struct ledger_notice {
    struct message message; /* the caller's, to post it with */
    struct ledger_notice *next;
    enum ledger_notice_kind kind;
    uint16_t worker; /* whom to tell */
    bool is_under_way;
};

/* What a call wants to be told to workers. Zeroed by the caller before the call; every
 * notice of it is posted after the call, to oneself too. */
struct ledger_todo {
    struct ledger_notice *first;
    struct ledger_notice *last;
};
/* The next notice, which is the worker's as soon as it is posted; NULL after the last. */
struct ledger_notice *ledger_todo_next(struct ledger_todo *todo);

/* ---- accounts -----------------------------------------------------------------------
 */

enum ledger_scope {
    LEDGER_POOL,
    LEDGER_DATABASE,
    LEDGER_USER,
    LEDGER_NODE,
    LEDGER_SCOPES
};

/* Logins at a node, as ledger_gate.c counts them. */
struct ledger_gate {
    unsigned n_logins; /* under way, or granted */
    unsigned n_more;   /* allowed beyond login_concurrency, since so many succeeded */
    struct link in_musters;
    uint64_t generation; /* of its muster, while it is in the list of these */
    uint64_t since_ns;   /* likewise: when it was called */
};

struct ledger_limit {
    const char *name; /* the setting */
    unsigned max;     /* 0 = no limit */
    unsigned n_used;
    atomic_uint n_blocked; /* lines of waiters that are held up by it */
    unsigned references;
    struct list branches;    /* all that take from it, struct ledger_membership */
    struct list lines;       /* those of them where waiters want a slot */
    struct ledger_gate gate; /* of a node's */
};

struct ledger_desk {
    struct list waiters; /* of one pool and worker, the first is the oldest */
};

struct ledger_pool {
    atomic_uint n_waiting; /* in all desks */
    unsigned reserve;
    unsigned n_used;
    unsigned n_uncovered; /* waiters for whom no slot was found yet */
    unsigned n_promised;  /* of those: a server of another pool is being closed for it */
    unsigned n_expected;  /* idle servers that workers were asked for */
    unsigned n_coming;    /* servers that will be idle soon: ledger_expect() */
    unsigned references;
    struct list branches;
    struct ledger_limit *limits[LEDGER_NODE];
    struct ledger_desk desks[]; /* one per worker */
};

struct ledger_membership {
    struct link link;
    struct ledger_branch *branch;
};

struct ledger_seat {
    struct ledger_notice ask;
    atomic_uint n_idle;  /* servers; its worker alone writes it */
    unsigned n_expected; /* of these, when they were asked for, less those that came */
    struct list
        line; /* waiters of one branch and worker that want a slot, oldest first */
};

struct ledger_branch {
    struct ledger_pool *pool;
    struct ledger_limit *limits[LEDGER_SCOPES];
    struct ledger_limit *blocked_at; /* counts this line in its n_blocked; NULL = none */
    unsigned n_used;                 /* slots */
    unsigned n_lined;                /* waiters in all seats' lines */
    unsigned n_promised;
    unsigned n_overdue; /* of those: may use the reserve, and so may the first */
    bool is_dry;        /* no victim was idle; one that becomes idle will be offered */
    unsigned references;
    struct link in_pool;
    struct ledger_membership in_limits[LEDGER_SCOPES];
    struct ledger_membership in_lines[LEDGER_SCOPES];
    struct ledger_seat seats[]; /* one per worker */
};

/* NULL when memory is out. */
struct ledger *ledger_new(unsigned n_workers) MUST_CHECK;
/* Nothing of it may be held any more. NULL is fine. */
void ledger_free(struct ledger *ledger);

/* How many logins a node is asked for at a time, 0 = no limit; doubled while they
 * succeed, for as long as there are any. Applies from the next login that ends. */
void ledger_set_login_concurrency(struct ledger *ledger, unsigned max);
/* Clients of many pools and workers are about to stand in line for servers of this node:
 * none is opened before all stand there, so that who waits longest comes first. Over when
 * each worker has followed the topology of that generation; else after
 * LEDGER_MUSTER_NS. */
#define LEDGER_MUSTER_NS 200000000u
void ledger_muster(struct ledger *ledger, struct ledger_limit *node, uint64_t generation,
                   uint64_t now_ns);
/* All of the worker's waiters stand where that topology wants them. UINT64_MAX: it will
 * follow none any more. */
void ledger_followed(struct ledger *ledger, unsigned worker, uint64_t generation,
                     struct ledger_todo *todo);
/* Now and then, by any worker: a muster does not wait for a worker that hangs. */
void ledger_end_late_musters(struct ledger *ledger, uint64_t now_ns,
                             struct ledger_todo *todo);

/* A limit of that many servers, 0 = none, held once. `name` is the setting, for messages,
 * and must live as long. NULL when memory is out. */
struct ledger_limit *ledger_limit_new(const char *name, unsigned max) MUST_CHECK;
struct ledger_limit *ledger_limit_hold(struct ledger *ledger, struct ledger_limit *limit);
void ledger_limit_release(struct ledger *ledger, struct ledger_limit *limit);
/* More room is given to waiters at once; with less the use shrinks as servers end. */
void ledger_limit_set(struct ledger *ledger, struct ledger_limit *limit, unsigned max,
                      struct ledger_todo *todo);

/* A pool that takes from the three limits, indexed by scope, which it holds; held once.
 * `reserve` is what ledger_ask_reserve() may take above the pool's own limit. NULL when
 * memory is out. Finding a pool by its key is the caller's affair, who holds it as long
 * as he has waiters (expected ones too) or slots of it. */
struct ledger_pool *ledger_pool_new(struct ledger *ledger,
                                    struct ledger_limit *const limits[LEDGER_NODE],
                                    unsigned reserve) MUST_CHECK;
struct ledger_pool *ledger_pool_hold(struct ledger *ledger, struct ledger_pool *pool);
/* True when nobody holds it any more: then it leaves the caller's table of pools, under
 * whose lock both are done. */
bool ledger_pool_release(struct ledger *ledger, struct ledger_pool *pool);
void ledger_pool_set_reserve(struct ledger *ledger, struct ledger_pool *pool,
                             unsigned reserve, struct ledger_todo *todo);

/* The pool's branch on a node, made when there is none; it holds both, and is held for
 * the caller, as long as he has waiters or slots of it. NULL when memory is out. */
struct ledger_branch *ledger_branch_hold(struct ledger *ledger, struct ledger_pool *pool,
                                         struct ledger_limit *node) MUST_CHECK;
void ledger_branch_release(struct ledger *ledger, struct ledger_branch *branch);

/* ---- slots --------------------------------------------------------------------------
 */

/* In each server, from before it is opened until its descriptor is closed; it travels
 * with the server and must not change its address. */
struct ledger_slot {
    struct ledger_branch *branch; /* to be read by who has the server; NULL = no slot */
    struct ledger_waiter *waiter; /* for whom it is opened, or closed */
    bool is_login;                /* its server logs in, or is about to */
};

/* Takes a slot if there is room without the reserve, for a server that nobody waits for.
 * Who waits and could take it has it already. */
bool ledger_try(struct ledger *ledger, struct ledger_branch *branch,
                struct ledger_slot *slot) MUST_CHECK;
/* The same, if the branch has fewer than `max` slots. */
bool ledger_try_up_to(struct ledger *ledger, struct ledger_branch *branch, unsigned max,
                      struct ledger_slot *slot) MUST_CHECK;
/* A server of the pool that has a slot, and is not idle, soon will be: no other is opened
 * meanwhile for who waits. */
void ledger_expect(struct ledger *ledger, struct ledger_pool *pool);
/* It was given to ledger_serve() or ledger_rest(), or it is gone. */
void ledger_expect_no_more(struct ledger *ledger, struct ledger_pool *pool,
                           struct ledger_todo *todo);
/* The server is open: the waiter for whom that was done, which is now out of the line and
 * has the server; NULL when it needs it no longer: then go on as at the end of a lease.
 */
struct ledger_waiter *ledger_opened(struct ledger *ledger, struct ledger_slot *slot,
                                    struct ledger_todo *todo) MUST_CHECK;
/* The descriptor is closed, or was never opened. The slot goes to the waiter for whom it
 * was closed, else to the first that it can serve. A waiter for whom it was to be opened
 * is in line again, at its old place. */
void ledger_give(struct ledger *ledger, struct ledger_slot *slot,
                 struct ledger_todo *todo);

/* ---- waiters ------------------------------------------------------------------------
 */

enum ledger_state {
    LEDGER_OUT,
    LEDGER_IN_LINE,
    LEDGER_GRANTED, /* it has a slot, its worker is being told */
    LEDGER_OPENING, /* its worker opens a server for it */
    LEDGER_HANDED   /* a server is on its way to it */
};

/* In each client. A zeroed one is OUT. */
struct ledger_waiter {
    /* The caller's, set while it is OUT. */
    struct ledger_branch *branch;
    uint64_t since_ns; /* who waits longest comes first */
    uint16_t worker;
    /* The ledger's. */
    enum ledger_state state;
    bool is_overdue;
    unsigned n_handed; /* servers on their way to it, wanted or not */
    struct ledger_notice grant;
    struct link in_desk;
    struct link in_line;
    struct ledger_slot *slot; /* OPENING: its server's; IN_LINE: a victim's that closes */
};

/* Enters the line at its place by `since_ns`. Idle servers of its pool are asked for, or
 * it gets a slot, or waits; a server of another pool may be closed for it. */
void ledger_join(struct ledger *ledger, struct ledger_waiter *waiter,
                 struct ledger_todo *todo);
/* Leaves, whatever its state. What is on its way to it goes to others: at once if it is a
 * slot, when it arrives if it is a server. */
void ledger_withdraw(struct ledger *ledger, struct ledger_waiter *waiter,
                     struct ledger_todo *todo);
/* A waiter that is OUT may join again at any time; but its memory is its owner's only
 * when nothing is on its way to it. Ask after each call that has put it OUT, and after
 * each ledger_accept() and ledger_receive(). The waiter's worker only. */
static inline bool ledger_waiter_is_expected(const struct ledger_waiter *waiter)
{
    return waiter->grant.is_under_way || waiter->n_handed > 0;
}
/* Another node is meant now, of the same pool: the topology has changed. The waiter keeps
 * its place; a slot on the old node goes to others, a server that is being opened there
 * is the caller's to close. */
void ledger_move(struct ledger *ledger, struct ledger_waiter *waiter,
                 struct ledger_branch *branch, struct ledger_todo *todo);
/* It has waited for reserve_pool_timeout: the first of its line, which has waited as
 * long, may take from the pool's reserve from now on, and so may this one. */
void ledger_ask_reserve(struct ledger *ledger, struct ledger_waiter *waiter,
                        struct ledger_todo *todo);

/* On a LEDGER_GRANT. True: `slot` is taken, for a server to be opened on the waiter's
 * branch. False: the waiter needs it no longer, and it has gone to others. */
bool ledger_accept(struct ledger *ledger, struct ledger_notice *notice,
                   struct ledger_slot *slot) MUST_CHECK;
struct ledger_waiter *ledger_notice_waiter(struct ledger_notice *notice);

/* A server that LEDGER_HAND has sent has arrived, of that pool; NULL: it has died on the
 * way or cannot be used. True: the waiter has it, and is out of the line. False: the
 * server is to be offered as at the end of a lease; a waiter that got nothing is in line
 * again, at its old place. */
bool ledger_receive(struct ledger *ledger, struct ledger_waiter *waiter,
                    const struct ledger_pool *pool, struct ledger_todo *todo) MUST_CHECK;

/* The setting that keeps a waiter from a server of its own; NULL when none does. */
const char *ledger_blocking(struct ledger *ledger, const struct ledger_waiter *waiter);

/* ---- idle servers -------------------------------------------------------------------
 *
 * Without the mutex. n_waiting and n_blocked are written before idle servers are looked
 * for, on all workers; a server is counted in n_idle before n_waiting and n_blocked are
 * read. All are sequentially consistent, so there is one order of these four steps, and
 * in every order at least one side sees the other: a waiter finds the server and asks for
 * it, or the releaser finds the waiter and serves it; never does each miss the other.
 *
 * Both may see: the worker then is asked for a server that it has just served with, has
 * none to offer, and says so. A worker that has read n_waiting == 0 and lends while a
 * waiter joins lends as if it had come first; that server is seen to at its release. A
 * count of idle servers that is too high for a moment costs a notice; one that is too low
 * belongs to a worker that is between ledger_hide() and ledger_serve() or ledger_rest(),
 * and these look for waiters afterwards.
 */

#ifdef LEDGER_STEPS
/* For tests: what other workers may do before the counter is read or written. */
void ledger_step(const atomic_uint *counter);
#else
static inline void ledger_step(const atomic_uint *counter)
{
    (void)counter;
}
#endif

static inline unsigned ledger_read(const atomic_uint *counter)
{
    ledger_step(counter);
    return atomic_load(counter);
}

static inline void ledger_add(atomic_uint *counter, unsigned n)
{
    ledger_step(counter);
    atomic_fetch_add(counter, n);
}

static inline void ledger_subtract(atomic_uint *counter, unsigned n)
{
    ledger_step(counter);
    atomic_fetch_sub(counter, n);
}

/* Counts one more idle server. Below ledger_rest() only. */
static inline void ledger_show(struct ledger_branch *branch, unsigned worker)
{
    ledger_add(&branch->seats[worker].n_idle, 1);
}

/* An idle server is taken in hand: to be offered to ledger_serve(), or closed. */
static inline void ledger_hide(struct ledger_branch *branch, unsigned worker)
{
    ledger_subtract(&branch->seats[worker].n_idle, 1);
}

/* Does anybody wait for a server of this branch, or for its end? */
static inline bool ledger_is_wanted(const struct ledger_branch *branch)
{
    if (ledger_read(&branch->pool->n_waiting) > 0)
        return true;
    for (int scope = 0; scope < LEDGER_SCOPES; scope++)
        if (ledger_read(&branch->limits[scope]->n_blocked) > 0)
            return true;
    return false;
}

/* For a client of the worker, which has an idle server of the branch. True: the server is
 * lent. False: others wait, join them. */
static inline bool ledger_lend(struct ledger_branch *branch, unsigned worker)
{
    if (ledger_read(&branch->pool->n_waiting) > 0)
        return false;
    ledger_hide(branch, worker);
    return true;
}

/* A lease is over. True: the server is idle. False: somebody wants it, and it is to be
 * offered to ledger_serve(). */
static inline bool ledger_rest(struct ledger_branch *branch, unsigned worker)
{
    if (ledger_is_wanted(branch))
        return false;
    ledger_show(branch, worker);
    if (!ledger_is_wanted(branch))
        return true;
    ledger_hide(branch, worker);
    return false;
}

enum ledger_use {
    LEDGER_KEEP, /* nobody wants it: it is counted among the idle */
    LEDGER_LEND, /* to the waiter, of this worker, now out of the line */
    LEDGER_HAND, /* to the waiter, by message to its worker; ledger_receive() in any case
                  */
    LEDGER_CLOSE /* its slot is wanted, or it may not leave and is wanted elsewhere */
};

struct ledger_offer {
    struct ledger_slot *slot; /* of the server */
    unsigned worker;
    /* The first of the server's own worker gets it, unless another has waited longer by
     * more than this. */
    uint64_t window_ns;
    bool may_leave; /* false: it was handed, and has not served since */
};

/* What is to be done with a server that is in hand: released, or idle and hidden. */
enum ledger_use ledger_serve(struct ledger *ledger, const struct ledger_offer *offer,
                             struct ledger_waiter **waiter,
                             struct ledger_todo *todo) MUST_CHECK;
/* Ends what a LEDGER_ASK has begun. What it could not serve looks on elsewhere. */
void ledger_answered(struct ledger *ledger, struct ledger_notice *notice,
                     struct ledger_todo *todo);
struct ledger_branch *ledger_notice_branch(struct ledger_notice *notice);

/* ---- views --------------------------------------------------------------------------
 */

struct ledger_view {
    unsigned n_used;
    unsigned n_waiting;
    uint64_t longest_wait_ns; /* 0 when nobody waits */
};
struct ledger_view ledger_pool_view(struct ledger *ledger, const struct ledger_pool *pool,
                                    uint64_t now_ns);
unsigned ledger_limit_used(struct ledger *ledger, const struct ledger_limit *limit);
/* How many servers of the branch are too many, after a limit was lowered. */
unsigned ledger_excess(struct ledger *ledger, const struct ledger_branch *branch);

#endif
