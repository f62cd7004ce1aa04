/* pool/pooled.h - a server that clients share, one after the other.
 *
 *                   WARM --> PROVING
 *                    ^  .-----'|
 *                    |  v      |.--> TUNING --.
 *   CONNECTING --> LOGIN ---> IDLE ----------> ACTIVE --> CLEANING --> IDLE
 *        |           |         ^---------------'  |           |
 *        '-----------'----------------------------'-----------'------> CLOSING
 *
 *   CONNECTING  to its node                              pool/server.c
 *   LOGIN       as its pool's user                       pool/login.c
 *   WARM        at rest, at a node that may become the primary: not to be lent before
 *   PROVING     asked whether it is a standby; CLEANING after that if it has a connect
 *               query
 *   IDLE        at rest, to be lent
 *   TUNING      lent: it is given the client's session parameters, and a failed
 *               transaction if that is what its client has
 *   ACTIVE      lent: a client drives what is said on it
 *   CLEANING    brought to rest after a client that left, or reset for the next one, or
 *               told its connect query
 *   MOVING      to another worker
 *   CLOSING     nothing leaves it
 *
 * It has a slot of the ledger from before it is opened until its descriptor is closed.
 *
 * Thread: the worker that has it.
 */
#ifndef POOL_POOLED_H
#define POOL_POOLED_H

#include "pool/ledger.h"
#include "pool/login.h"
#include "pool/parameters.h"
#include "pool/security.h"
#include "pool/server.h"
#include "pool/translation.h"
#include "wire/ending.h"
#include "wire/flow.h"
#include "wire/message.h"

#define POOLED_STATES(X, TO) \
    /* state      may become                       */ \
    X(CONNECTING, TO(LOGIN) | TO(CLOSING)) \
    X(LOGIN, TO(IDLE) | TO(CLEANING) | TO(WARM) | TO(PROVING) | TO(CLOSING)) \
    X(WARM, TO(PROVING) | TO(CLOSING)) \
    X(PROVING, TO(IDLE) | TO(CLEANING) | TO(CLOSING)) \
    X(IDLE, TO(TUNING) | TO(ACTIVE) | TO(MOVING) | TO(CLOSING)) \
    X(TUNING, TO(ACTIVE) | TO(CLEANING) | TO(CLOSING)) \
    X(ACTIVE, TO(IDLE) | TO(CLEANING) | TO(CLOSING)) \
    X(CLEANING, TO(IDLE) | TO(CLOSING)) \
    X(MOVING, TO(IDLE) | TO(CLOSING)) \
    X(CLOSING, 0)

enum pooled_state {
#define X(name, next) POOLED_##name,
    POOLED_STATES(X, )
#undef X
        POOLED_STATE_COUNT
};

struct pooled;

/* What its owner is told. */
struct pooled_events {
    /* It has logged in, and is IDLE; or WARM, or PROVING, or CLEANING, if it has a
     * connect query. */
    void (*on_open)(struct pooled *server, const struct login_welcome *welcome);
    /* It was CLEANING or PROVING, and is IDLE. */
    void (*on_clean)(struct pooled *server);
    /* It was MOVING, and belongs to nobody now: see pooled_move(). */
    void (*on_packed)(struct pooled *server);
    /* It has ended, or cannot go on: close it. `sqlstate` is the node's, "" when it said
     * none. While CONNECTING `evidence` tells of the node. */
    void (*on_lost)(struct pooled *server, const char *sqlstate, const char *why);
};

/* What the client that has it is told. */
struct lease_events {
    /* The server is ACTIVE, after it was TUNING, and has these parameters now. */
    void (*on_tuned)(struct pooled *server);
    /* The node does not take the client's parameters; it is to be given back. */
    void (*on_untunable)(struct pooled *server, const char *why);
    /* Messages for it, or parts of such. The buffer is its own now. */
    void (*on_bytes)(struct pooled *server, struct buffer *bytes);
    /* All that was sent to the server has gone. */
    void (*on_sent)(struct pooled *server);
    /* It has answered something, and is not at rest: what had to wait may go on. */
    void (*on_answered)(struct pooled *server);
    /* An error that the client is told; "" where it came without a code. */
    void (*on_error)(struct pooled *server, const char *sqlstate);
    /* A parameter of the session has changed. False when memory is out. */
    bool (*on_parameter)(struct pooled *server, const char *name, const char *value);
    /* Parameters were reset. The session has these now, and server->parameters what is
     * known of the server's own. */
    void (*on_reset)(struct pooled *server, struct parameter_set *parameters);
    /* What the session began with, and a reset leads back to. NULL: as the server's. */
    const struct parameter_set *(*initial)(const struct pooled *server);
    /* It ended while it was TUNING, before the client's first word: take another. */
    void (*on_unfit)(struct pooled *server);
    /* It has said ReadyForQuery; `is_idle`: and is in no transaction. */
    void (*on_ready)(struct pooled *server, bool is_idle);
    /* The server is at rest, and could serve another client. */
    void (*on_rest)(struct pooled *server);
    /* It is gone, while ACTIVE; its owner is told after this. What is known of the
     * request under way is in server->watch, and `request` and `held` may be taken. */
    void (*on_lost)(struct pooled *server, const char *why);
};

/* How long a client's request is kept, in case that its server ends. */
enum pooled_keeps { POOLED_KEEPS_NOTHING, POOLED_KEEPS_UNSENT, POOLED_KEEPS_UNANSWERED };

/* What is known of the requests that a client has under way: wire/ending.h. */
struct pooled_watch {
    struct buffer_keep request; /* as the client has said it; empty: it is not kept */
    struct buffer *held;        /* a chain: the begin of the answer, not passed on yet */
    struct buffer *last_held;
    struct buffer *word; /* the FATAL error that was the server's last word; NULL: none */
    uint32_t n_held;     /* bytes */
    uint32_t keep_max;   /* the same, of `request` and `held` each */
    uint8_t keeps;       /* pooled_keeps */
    uint8_t asked;       /* asked_flag */
    uint8_t heard;       /* heard_flag */
    uint8_t how;         /* ending_how, once it has ended */
    bool is_on;          /* somebody wants to know */
    bool is_whole;       /* `request` has all that was forwarded since it was at rest */
    bool is_unsent;      /* the last byte that was forwarded has not left us */
    bool is_confused;    /* it has not ended, but said what makes no sense */
};

/* What is left of a server's parts between two workers. */
struct pooled_luggage {
    int fd;
    bool has_tls;
    SSL *ssl;               /* NULL: without TLS */
    struct node_load *load; /* held */
    struct parameter_parcel *parameters;
    struct parameter_parcel *defaults;
};

/* Of what use it is to be. */
enum pooled_wants {
    POOLED_WANTS_ANY,
    POOLED_WANTS_PRIMARY, /* it must not be in recovery */
    POOLED_WANTS_LATER    /* the same, but not yet: it is WARM after the login */
};

struct pooled {
    struct server *connection; /* NULL once CLOSING */
    const struct pooled_events *events;
    void *owner;
    const struct lease_events *lease; /* while TUNING or ACTIVE */
    void *client;                     /* likewise */
    const struct login_identity *identity;
    struct login_run *login;          /* while LOGIN */
    struct parameter_set *parameters; /* held; of the session; NULL before the login */
    struct parameter_set *untuned;    /* held; while TUNING: what they were */
    struct parameter_set *defaults;   /* held; of a session that has set nothing */
    struct ledger_slot slot;
    struct pooled_watch watch;     /* while ACTIVE, for the lease's owner */
    struct pooled_luggage luggage; /* while MOVING and packed: connection is NULL */
    struct flow flow;
    struct translation translation; /* of names of prepared statements */
    const struct pooled_home *home;
    const char *reset_query; /* while CLEANING: still to be sent */
    struct link in_owner;
    struct cancel_key key;
    struct deadline deadline;
    uint64_t opened_at_ms;
    uint64_t opened_at_ns;
    uint64_t used_at_ms;           /* the end of the last lease */
    uint64_t lent_at_ns;           /* the begin of this one */
    uint64_t id;                   /* of the process's servers */
    uint64_t asked_at_ns;          /* when a client has last sent something */
    uint64_t query_began_ns;       /* 0 = none is under way */
    uint64_t transaction_began_ns; /* likewise */
    struct parameter_set *wanted;  /* held; while it is checked: for the client */
    uint32_t n_left;               /* of a message's body that is passing */
    uint32_t n_rests; /* how often it was at rest after a lease's word; wraps around */
    uint32_t node_id;
    unsigned generation; /* of the security that it was opened under */
    struct buffer *kept; /* the begin of a message that must be read in whole */
    uint16_t n_cancels;  /* cancel requests that are aimed at it */
    uint8_t n_tail;      /* the same, when it is as short as this */
    uint8_t tail[BUFFER_HEADROOM];
    enum pooled_state state;
    enum pooled_wants wants;
    char proof;      /* while PROVING: its answer, t or f; 0 = none yet */
    bool was_handed; /* to this worker, and has not served here yet */
    bool was_reset;  /* while CLEANING: a reset query was said */
    bool has_reset;  /* while ACTIVE: the client has said RESET, or DISCARD ALL */
    bool has_erred;  /* while TUNING and CLEANING */
    /* Before the lease, and while TUNING: its client is in a transaction that was lost
     * with another server, and this one is to be in a failed transaction, too. */
    bool fails_first;
    bool is_failing; /* it was told so */
    bool is_cut;     /* while ACTIVE: what the client was given ends inside a message */
    bool drops_rest; /* of the message under way, which began before the lease */
    char why[160];   /* likewise: the error */
    char *said; /* the begin of the statement under way, if it is wanted; else "" or NULL
                 */
    unsigned n_said; /* bytes there is room for */
};

/* Where servers are made: of one worker. */
struct pooled_home {
    struct loop *loop;
    struct slab *connections; /* of struct server */
    struct message_rules rules;
    struct parameter_store *parameters;
    struct statement_store *statements;
    struct security *security; /* held; NULL: servers are not encrypted */
    struct list *memories;     /* of TLS with nodes: security_memory() */
};

/* Connects to the node and logs in, both within `timeout_ms` (0 = for ever). `server` is
 * zeroed but for its slot and what it wants; the identity lives as long as it. False when
 * memory is out. */
bool pooled_open(struct pooled *server, const struct pooled_home *home,
                 struct topology *topology, const struct topology_node *node,
                 const struct login_identity *identity,
                 const struct tcp_settings *settings, uint64_t timeout_ms,
                 const struct pooled_events *events, void *owner) MUST_CHECK;

/* A WARM one is to be IDLE, if it is not in recovery, all that within `timeout_ms`
 * (0 = for ever): on_clean follows, or on_lost, which may come from within. */
void pooled_prove(struct pooled *server, uint64_t timeout_ms);

/* An IDLE one becomes the client's, with the session parameters that it wants, and after
 * it has answered `check_query` (NULL = it is not asked). True: it is ACTIVE. False: it
 * is TUNING first; on_tuned follows, or on_untunable, or on_unfit. */
bool pooled_lend(struct pooled *server, const struct lease_events *lease, void *client,
                 struct parameter_set *wanted, const char *check_query) MUST_CHECK;
/* A message of the client's is about to go by pooled_send(), or its begin. */
static inline enum flow_step MUST_CHECK pooled_forward(struct pooled *server,
                                                       uint8_t type)
{
    enum flow_step step = flow_forward(&server->flow, type);

    if (type == 'S')
        translation_sync(&server->translation, &server->flow);
    return step;
}
/* A Flush is about to go: says to the client what we owe it. False when memory is out. */
bool pooled_flush(struct pooled *server) MUST_CHECK;
/* Whether it could serve another client. */
static inline bool pooled_is_at_rest(const struct pooled *server)
{
    return flow_is_at_rest(&server->flow) && server->translation.n_notes == 0;
}
/* The same of one that is lost, for whatever it has said last. */
static inline bool pooled_was_at_rest(const struct pooled *server)
{
    struct flow flow = server->flow;

    flow.flags = (uint16_t)(flow.flags & ~FLOW_LOST);
    return flow_is_at_rest(&flow);
}
/* Whether one that is lost had nothing to answer: what it has said last does not count.
 */
static inline bool pooled_was_idle(const struct pooled *server)
{
    return (server->flow.flags & ~FLOW_LOST) == 0 && server->flow.n_groups == 0 &&
           server->flow.n_tail == 0 && server->translation.n_notes == 0 &&
           !server->watch.is_unsent;
}
/* True: gone already. False: on_sent follows, or on_lost. */
static inline bool pooled_send(struct pooled *server, struct buffer *bytes)
{
    bool is_gone = stream_send(&server->connection->stream, bytes);

    server->watch.is_unsent = !is_gone;
    return is_gone;
}
/* The bytes of the buffer from `begin` up to `end` are the client's, and what is to be
 * sent comes of them: keeps them, as far as they are wanted. Before the flow hears of
 * them, if `is_first`: nothing else is under way. */
void pooled_keep(struct pooled *server, struct buffer *bytes, uint32_t begin,
                 uint32_t end);
/* What was kept of the present request is not needed any more, or is not all of it. */
static inline void pooled_keep_none(struct pooled *server)
{
    if (server->watch.request.first != NULL)
        buffer_keep_drop(&server->watch.request);
    server->watch.is_whole = false;
}
/* What the server says is the begin of an answer to a request that is kept: whether it is
 * held back, and the buffer taken over. */
bool pooled_hold(struct pooled *server, struct buffer *bytes) MUST_CHECK;
/* What is held back, a chain, for the caller; NULL: nothing. */
struct buffer *pooled_take_held(struct pooled *server);
/* The client is slow: nothing is read from the server meanwhile. */
static inline void pooled_want(struct pooled *server, bool bytes)
{
    stream_want(&server->connection->stream, bytes);
}
/* The lease ends. True: it is IDLE. False: it is CLEANING, by what it needs and by
 * `reset_query` (NULL = none; lives as long as the server), for at most `timeout_ms`;
 * on_clean follows, or on_lost. */
bool pooled_take_back(struct pooled *server, const char *reset_query,
                      uint64_t timeout_ms) MUST_CHECK;

/* Whether an IDLE one can go to another worker now: not with half a message, nor twice
 * without having served in between. */
bool pooled_may_move(const struct pooled *server);
/* It is MOVING. on_packed follows, or on_lost; after on_packed the struct may be read by
 * another thread, for pooled_settle() or pooled_close(). */
void pooled_move(struct pooled *server);
/* One that is packed becomes IDLE in this worker. False when memory is out: then it is to
 * be closed. */
bool pooled_settle(struct pooled *server, const struct pooled_home *home,
                   const struct login_identity *identity) MUST_CHECK;

/* It is of no use any more, whatever it still has to say: on_lost follows from within. */
void pooled_cut(struct pooled *server, const char *why);
/* Says Terminate when it is at rest, and closes the descriptor. The struct is the
 * owner's, to be freed after the iteration. */
void pooled_close(struct pooled *server);

const char *pooled_state_name(enum pooled_state state);

#endif
