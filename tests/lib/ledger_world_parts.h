/* tests/lib/ledger_world_parts.h - what a state of the ledger's world is made of; for the
 * files that make up the world. */
#ifndef TESTS_LIB_LEDGER_WORLD_PARTS_H
#define TESTS_LIB_LEDGER_WORLD_PARTS_H

#include "pool/ledger_line.h"
#include "tests/lib/explorer.h"
#include "tests/lib/ledger_world.h"

#define MUST EXPLORER_MUST

#define SERVERS 4

enum server_state {
    NONE,
    OPENING,
    IDLE,
    IN_HAND,
    LENT,
    TRAVELLING, /* to a client's worker */
    CLOSING
};

struct server {
    struct ledger_slot slot;
    enum server_state state;
    unsigned worker;
    unsigned client; /* LENT, TRAVELLING */
    bool is_fresh;   /* handed, and has not served since */
};

enum client_state { AT_HOME, WAITING, SERVED };

struct client {
    struct ledger_waiter waiter;
    enum client_state state;
    bool is_told;    /* of a grant: the notice is posted */
    unsigned n_left; /* requests to come */
};

/* What a worker is in the middle of. */
enum task {
    FREE,
    LEND,   /* has seen that nobody waits */
    JOIN,   /* has seen that somebody does */
    LOOK,   /* a server is released: before it is shown */
    SHOW,   /* nobody wants it */
    LOOK_2, /* after it was shown */
    HIDE,   /* somebody wants it after all */
    SERVE,
    ANSWER /* is asked for its idle servers */
};

struct worker {
    enum task task;
    unsigned client;
    unsigned server;
    unsigned scope;                 /* LOOK, LOOK_2: the counter that is read next */
    struct ledger_branch *answered; /* ANSWER; SERVE and HIDE on behalf of it */
};

/* All that belongs to a state, besides the accounts. */
struct world {
    struct client clients[WORLD_CLIENTS];
    struct server servers[SERVERS];
    struct worker workers[WORLD_WORKERS];
    bool is_asked[WORLD_POOLS][WORLD_NODES][WORLD_WORKERS]; /* the notice is posted */
    struct world_chances chances;                           /* left */
    unsigned most[LEDGER_SCOPES][WORLD_POOLS]; /* a limit that was lowered is shrunk to */
    unsigned most_logins[WORLD_NODES];
};
extern struct world world;

/* The accounts; their places and numbers are the same in all states. */
struct world_accounts {
    struct ledger *ledger;
    struct ledger_limit *sizes[WORLD_POOLS], *database, *user, *nodes[WORLD_NODES];
    struct ledger_pool *pools[WORLD_POOLS];
    struct ledger_branch *branches[WORLD_POOLS][WORLD_NODES];
    struct ledger_limit *changed; /* by n_changes steps */
    unsigned changes[2];
    uint64_t window_ns;
};
extern struct world_accounts accounts;

/* Kinds of steps: what they are, and whether they come to an end by themselves, without
 * anything from outside. */
/* clang-format off */
#define WORLD_STEPS(X) \
    /* without the mutex */ \
    X(COME_LEND,  "comes to an idle server", false) \
    X(GO_ON,      "goes on",                 true) \
    X(END_LEASE,  "ends its lease",          false) \
    X(CLOSE_IDLE, "closes an idle server",   false) \
    X(TAKE_IDLE,  "takes an idle server",    true) \
    /* under it */ \
    X(COME_JOIN,  "joins",                   false) \
    X(CALL,       "calls",                   true) \
    X(WITHDRAW,   "withdraws",               false) \
    X(GRANT,      "gets a grant",            true) \
    X(ASK,        "is asked",                true) \
    X(RECEIVE,    "arrives",                 true) \
    X(LOSE,       "is lost",                 false) \
    X(OPENED,     "is open",                 true) \
    X(FAIL,       "fails",                   false) \
    X(CLOSED,     "is closed",               true) \
    X(TRY,        "tries",                   false) \
    X(MOVE,       "moves",                   false) \
    X(OVERDUE,    "is overdue",              false) \
    X(CHANGE,     "changes a limit",         false)
/* clang-format on */
enum kind {
#define X(name, text, is_internal) name,
    WORLD_STEPS(X)
#undef X
};

void world_list_steps(struct explorer_steps *steps);
void world_take_step(const struct explorer_step *step);

void world_check(void);
bool world_is_at_rest(void);

static inline bool world_worker_is_free(unsigned worker)
{
    return world.workers[worker].task == FREE;
}

#endif
