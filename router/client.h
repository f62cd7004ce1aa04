/* router/client.h - one client connection, from accept to close.
 *
 *   STARTUP --> WAITING <--> CONNECTING --> LOGIN --------> ACTIVE --> ENDING
 *      ^  |                      |            (to WAITING)    ^
 *      |  '--> CANCELLING        '--> NEGOTIATING ------------'
 *      '------------------------------------'   (to STARTUP: the node answered 'N')
 *   STARTUP <--> SECURING                       (of a pool)
 *
 *   PROXIED      it is to begin with a PROXY header; STARTUP follows
 *   STARTUP      its first packet is being read           router/startup.c
 *   SECURING     its TLS handshake with us
 *   WAITING      for a place or for a node                router/session.c
 *   CONNECTING   to the node that was chosen
 *   NEGOTIATING  the node answers a request to encrypt
 *   LOGIN        the node and the client talk, we listen
 *   ACTIVE       bytes pass untouched                     core/relay.c
 *   ENDING       the server has ended, the client not yet
 *   AUTH         it proves who it is                      router/login.c
 *   IDLE         of a pool, without a server              router/lease.c
 *   QUEUED       it waits for a server of its pool
 *   LEASED       it has one
 *   INQUIRING    its server was ended: does the node go away?  router/loss.c
 *   CONSOLE      it commands us                           router/console/console.c
 *   CANCELLING   its cancel request is under way          router/cancel.c
 *   REFUSING     an error is on its way to it             router/client.c
 *   CLOSING      nothing leaves it
 *
 * Thread: a client belongs to the worker that control gave it to, for life.
 */
#ifndef ROUTER_CLIENT_H
#define ROUTER_CLIENT_H

#include "core/relay.h"
#include "pool/cancel_keys.h"
#include "pool/pool.h"
#include "pool/server.h"
#include "router/admission.h"
#include "router/close_reason.h"
#include "router/listener.h"
#include "router/tally.h"
#include "wire/startup.h"

/* What ends a wait in a state: see deadline_of() in client.c. */
enum client_wait {
    WAIT_NOT,    /* nothing, or what the state before has armed */
    WAIT_LOGIN,  /* client_login_timeout */
    WAIT_QUEUE,  /* the listener's queue_timeout */
    WAIT_IDLE,   /* client_timeout and server_timeout */
    WAIT_QUERY,  /* query_wait_timeout */
    WAIT_REST,   /* client_idle_timeout */
    WAIT_CANCEL, /* cancel_wait_timeout */
    WAIT_LINGER, /* a fixed time: the peer has nothing to add */
    WAIT_NONE    /* and none of before goes on */
};

/* What becomes of bytes that the client sends. */
enum client_inbox {
    INBOX_FILLS,  /* kept, as far as there is room */
    INBOX_PASSES, /* the relay has them */
    INBOX_SPILLS  /* nobody wants them any more */
};

/* clang-format off */
#define CLIENT_STATES(X, TO)                                                              \
    /* state       wait    inbox   when it leaves   may become */                         \
    X(STARTUP,     LOGIN,  FILLS,  LEFT_AT_LOGIN,   TO(WAITING) | TO(NEGOTIATING) |       \
                                                    TO(LOGIN) | TO(ACTIVE) | TO(AUTH) |   \
                                                    TO(SECURING) |                        \
                                                    TO(CANCELLING) | TO(REFUSING) |       \
                                                    TO(CLOSING))                          \
    X(PROXIED,     LOGIN,  FILLS,  LEFT_AT_LOGIN,   TO(STARTUP) | TO(CLOSING))            \
    X(SECURING,    LOGIN,  FILLS,  LEFT_AT_LOGIN,   TO(STARTUP) | TO(CLOSING))            \
    X(WAITING,     QUEUE,  FILLS,  LEFT_THE_QUEUE,  TO(CONNECTING) | TO(REFUSING) |       \
                                                    TO(AUTH) |                            \
                                                    TO(CLOSING))                          \
    X(CONNECTING,  NOT,    FILLS,  LEFT_THE_QUEUE,  TO(WAITING) | TO(NEGOTIATING) |       \
                                                    TO(LOGIN) | TO(ACTIVE) |              \
                                                    TO(REFUSING) | TO(CLOSING))           \
    X(NEGOTIATING, LOGIN,  FILLS,  LEFT_AT_LOGIN,   TO(STARTUP) | TO(WAITING) |           \
                                                    TO(ACTIVE) | TO(CLOSING))             \
    X(LOGIN,       LOGIN,  FILLS,  LEFT_AT_LOGIN,   TO(WAITING) | TO(ACTIVE) |            \
                                                    TO(ENDING) | TO(REFUSING) |           \
                                                    TO(CLOSING))                          \
    X(ACTIVE,      IDLE,   PASSES, CLIENT_CLOSED,   TO(ENDING) | TO(CLOSING))             \
    X(ENDING,      LINGER, PASSES, CLIENT_CLOSED,   TO(CLOSING))                          \
    X(AUTH,        LOGIN,  FILLS,  LEFT_AT_LOGIN,   TO(IDLE) | TO(QUEUED) | TO(REFUSING) | \
                                                    TO(CONSOLE) | TO(CLOSING))            \
    X(IDLE,        REST,   FILLS,  CLIENT_CLOSED,   TO(QUEUED) | TO(LEASED) |             \
                                                    TO(REFUSING) | TO(CLOSING))           \
    X(QUEUED,      QUERY,  FILLS,  CLIENT_CLOSED,   TO(IDLE) | TO(LEASED) |               \
                                                    TO(REFUSING) | TO(CLOSING))           \
    X(LEASED,      NONE,   FILLS,  CLIENT_CLOSED,   TO(IDLE) | TO(INQUIRING) |            \
                                                    TO(REFUSING) | TO(CLOSING))           \
    X(INQUIRING,   NONE,   FILLS,  CLIENT_CLOSED,   TO(IDLE) | TO(REFUSING) |             \
                                                    TO(CLOSING))                          \
    X(CONSOLE,     NONE,   FILLS,  CLIENT_CLOSED,   TO(REFUSING) | TO(CLOSING))           \
    X(CANCELLING,  CANCEL, SPILLS, CANCEL_DONE,     TO(CLOSING))                          \
    X(REFUSING,    LINGER, SPILLS, NOT_POSTGRESQL,  TO(CLOSING))                          \
    X(CLOSING,     NONE,   SPILLS, NONE,            0)
/* clang-format on */

enum client_state {
#define X(name, wait, inbox, leaving, next) CLIENT_##name,
    CLIENT_STATES(X, )
#undef X
        CLIENT_STATE_COUNT
};

struct worker;
struct login;
struct cancel_run;
struct client_login;
struct console;
struct loss;

/* Thousands of them are idle: what is not needed at the same time shares its place. */
struct client {
    struct stream stream;
    struct worker *worker;
    struct listener *listener; /* held */
    struct ticket *ticket;
    struct server *server;
    struct login *login;        /* while NEGOTIATING and LOGIN */
    struct cancel_run *cancel;  /* while CANCELLING */
    struct cancel_entry *key;   /* what a cancel request for this session shows */
    struct client_login *proof; /* while AUTH */
    struct console *console;    /* while CONSOLE */
    struct pool *pool;          /* of a client that has logged in to one */
    struct need *need;          /* while QUEUED */
    struct pooled *lease;       /* while LEASED */
    struct tally *tally;        /* of the listener and node, while there is a server */
    struct buffer *inbox; /* received and not passed on yet: at most two in a chain */
    struct link in_worker;
    struct link in_line; /* of the worker's, while WAITING */
    struct deadline deadline;
    struct deferred end;
    uint64_t id;              /* of the process's clients; grows in the worker's */
    uint64_t tried;           /* nodes, as in route_request */
    uint64_t tried_in;        /* generation of the topology that `tried` speaks of */
    uint64_t reconsidered_in; /* generation of the topology that it was judged by last */
    uint64_t accepted_at_ms;
    uint64_t wait_until_ms; /* end of the present wait for a node */
    uint64_t began_at_ms;   /* when bytes began to pass; 0 = not yet */
    uint64_t n_bytes[2];    /* from the client, from the server */
    union {
        struct { /* of a listener with mode = tcp */
            struct relay relay;
            uint64_t connecting_at_ns;
            uint64_t looked_at_ns; /* when session_look() was last here */
            uint64_t n_counted[2]; /* of n_bytes, what is in the tallies */
        };
        struct {                 /* of a listener with mode = pool */
            struct guest *guest; /* while there is a pool: its user, among those there */
            struct parameter_set *parameters; /* held; of its session */
            struct parameter_set *initial;    /* held; what its session began with */
            struct client_count *counted[2];  /* among those of its database and user */
            struct statement_names names;     /* of its prepared statements */
            struct collected *collected;      /* a message that must be passed in whole */
            struct loss *loss;                /* while INQUIRING */
            uint64_t idle_timeout_ms;         /* 0 = none */
            uint64_t asked_at_ns;             /* when it has last sent something */
            uint32_t n_left;                  /* of a message's body that is passing */
        };
    };
    struct address peer;     /* as the PROXY header has it, if one does */
    uint32_t login_spent_ms; /* of client_login_timeout, before it waited for a node */
    enum client_state state;
    enum close_reason reason;   /* CLOSE_NONE until it is known */
    enum startup_kind first;    /* the packet that is being served */
    bool is_logged : 1;         /* how it ends */
    bool is_told_of : 1;        /* by a proxy: the socket's own address is the ticket's */
    bool is_owed : 1;           /* an end had bytes to acknowledge at the last look */
    bool is_session_pooled : 1; /* its lease lasts as long as it */
    bool is_statement_pooled : 1; /* a transaction of several statements is refused */
    bool keeps_unsent : 1;        /* replay = unsent, or aborted: see config/config.h */
    bool keeps_aborted : 1;       /* replay = aborted */
    bool was_replayed : 1;        /* its present request */
    /* Its transaction was lost with its server: the next one it gets is in a failed
     * transaction. */
    bool is_in_lost : 1;
    bool owes_loss : 1;       /* ... and it is to be told so when it says something */
    bool skips_to_sync : 1;   /* it was told of an error: see router/loss.h */
    bool refuses_queries : 1; /* the simple protocol: disable_pqexec */
    bool waits_for_place : 1; /* while WAITING: max_client_conn or maxconn */
    bool has_long_key : 1;    /* of a pool, and its protocol is 3.2 */
    bool has_asked_tls : 1;   /* of a pool: an SSLRequest was answered */
    bool has_asked_gss : 1;   /* likewise a GSSENCRequest */
};

/* Takes over the descriptor and the listener's reference of the ticket. False when memory
 * is out: then both are still the ticket's. */
bool client_new(struct worker *worker, struct ticket *ticket) MUST_CHECK;

/* The only way to change the state; arms its deadline. */
void client_enter(struct client *client, enum client_state next);

/* Starts the present state's wait anew. */
void client_wait_on(struct client *client);

/* Ends it: the first reason wins and is logged, the struct goes after the iteration. */
void client_close(struct client *client, enum close_reason reason);
/* Tells it why in its own language first, as far as the reason and its first packet have
 * words for that. `detail` may be NULL: then the reason's own text is sent. */
void client_refuse(struct client *client, enum close_reason reason, const char *detail);
/* What a session does that has ended with its server. */
#define CLIENT_CONNECT_AGAIN "Connect again: that leads to a node that has the role."
/* The same, in the words of a server. The buffer is the client's from now on. */
void client_refuse_with(struct client *client, enum close_reason reason,
                        struct buffer *words);

/* Adds bytes to the inbox, which is the buffer's owner then. */
void client_keep(struct client *client, struct buffer *bytes);
/* Last call of every callback before the relay: asks for bytes while there is room. */
void client_settle(struct client *client);
/* Brings the tallies up to date with n_bytes. */
void client_count_bytes(struct client *client);

/* The address of the proxy that has told of it, for logs; NULL: nobody has. */
const char *client_proxy(const struct client *client, char text[ADDRESS_TEXT_MAX]);
/* Whether it has come through a listener with mode = pool. */
static inline bool client_is_pooled(const struct client *client)
{
    return client->listener->settings->mode == MODE_POOL;
}

const char *client_state_name(enum client_state state);

/* The callbacks of a client's stream until the relay takes over. */
extern const struct stream_events client_stream_events;

#endif
