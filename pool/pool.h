/* pool/pool.h - a worker's share of the pools: its servers, and its clients that wait.
 *
 *   pool_take()   an idle server, or a place in the line of all workers (struct need)
 *                 --> on_lent(), when one has come free or was opened
 *   pool_give()   the lease is over
 *
 * How many servers there may be and whose turn it is says the ledger, for all workers.
 *
 * Thread: a struct pools and all in it belong to one worker; between workers go the
 * ledger's notices, through mailboxes of the pools' own.
 */
#ifndef POOL_POOL_H
#define POOL_POOL_H

#include "core/mailbox.h"
#include "core/table.h"
#include "health/switchover.h"
#include "health/topology.h"
#include "pool/account.h"
#include "pool/counts.h"
#include "pool/errors.h"
#include "pool/guests.h"
#include "pool/halts.h"
#include "pool/pooled.h"
#include "pool/times.h"

/* More workers than config/keys.def allows cannot be. */
#define POOLS_WORKERS_MAX 64u

struct pools;

/* What a pool is to do, as configured. */
struct pool_terms {
    enum listener_role role;
    uint64_t connect_timeout_ms;
    uint64_t retry_ms;          /* after a login that failed */
    uint64_t lifetime_ms;       /* of a server; 0 = for ever */
    uint64_t idle_ms;           /* 0 = for ever */
    uint64_t handover_after_ns; /* who has waited longer elsewhere by this comes first */
    unsigned max_node_connections;
    uint64_t forget_after_ms; /* without clients and servers; 0 = never */
    unsigned min_pool_size;
    uint64_t reserve_after_ms; /* who has waited as long may use it; 0 = nobody */
    uint64_t check_delay_ms;   /* who was not used for as long is checked first */
    enum pool_mode mode;       /* for views: the one under which a client came last */
    bool takes_first_node;     /* as long as it can be had, else the nodes take turns */
    bool takes_turns;    /* of idle servers the one used longest ago is lent first */
    bool resets_always;  /* also in transaction pooling */
    uint64_t log_min_ns; /* a query that takes as long is logged; 0 = none is */
    unsigned log_bytes;  /* of its statement */
};

/* Strings of a pool; "" = none. */
struct pool_texts {
    const char *cluster; /* where its servers are */
    const char *reset_query;
    const char *check_query;
    const char *connect_query;
};

struct pool {
    struct link in_pools;
    struct table_entry in_table; /* of the pools, by account, unless it is private */
    struct pools *pools;
    struct account *account; /* held, unless there is a base */
    struct pool *base;       /* of a private one: the pool whose limits it shares */
    struct ledger_pool *ledger_pool;      /* the account's, or a private one's own */
    enum startup_replication replication; /* of a private one */
    char *startup;                        /* likewise: see pools_make_private() */
    char *welcome; /* likewise: what its server said at its login */
    size_t n_welcome;
    struct pool_terms terms;
    char *cluster;
    char *reset_query;
    char *check_query;
    char *connect_query;
    struct login_identity identity;
    struct scram_keys keys;
    struct list branches; /* struct pool_branch */
    struct list idle;     /* servers, the one used last first */
    struct list busy;     /* all others */
    struct list needs;    /* clients that wait */
    struct list old_texts;
    uint32_t number; /* grows from one pool to the next in the list */
    unsigned n_clients;
    unsigned n_private; /* pools whose base this is */
    unsigned n_awaited; /* needs, and closed servers with a cancel request under way */
    struct list guests; /* of the clients, their users */
    struct pool_counts counts;
    uint64_t used_at_ms;
    uint64_t
        renewed_at_ms; /* RECONNECT: who was opened until then is closed; 0 = never */
    uint64_t mean_lease_ns; /* of the last ones */
    bool is_filling;        /* it has fewer than min_pool_size, and opens them */
    struct pool_errors errors;
    struct pool_times times;
};

/* A client that waits for a server. */
struct need {
    struct ledger_waiter waiter;
    struct link in_pool;
    struct pool *pool;
    struct pool_branch *branch; /* NULL: there is no node for it now */
    void *client;               /* NULL: it needs none any more */
    struct deferred end;
    bool has_asked_reserve;
    bool is_told;         /* its client, that it waits */
    uint64_t failed_hold; /* of the cluster, when it began to wait */
};

/* At a client that has a server, now and then. */
struct pool_look {
    uint64_t query_ms;       /* since the server answered last, 0 = it does not work */
    uint64_t idle_ms;        /* the same of a client in its transaction */
    uint64_t transaction_ms; /* 0 = it is in none */
};

/* What a worker tells of a hold of a cluster: see health/switchover.h. */
enum hold_news_kind {
    HOLD_NEWS_OPEN,  /* n_open has changed */
    HOLD_NEWS_LENT,  /* the first client that had waited has a server */
    HOLD_NEWS_COUNTS /* it is long over: `counts` */
};
struct hold_news {
    char cluster[NODE_NAME_MAX];
    uint64_t hold;
    enum hold_news_kind kind;
    unsigned n_open; /* transactions on the node that leaves */
    uint64_t at_ms;  /* of the first lease */
    struct switchover counts;
};

/* A client whose server was ended by its node: it waits until it is known whether that
 * was for this one alone, as by pg_terminate_backend(), or since the node goes away. */
struct inquest {
    struct link in_pools;
    struct pool *pool;
    void *client;
    uint32_t node_id;
    uint64_t after; /* servers with a higher id were opened since */
    uint64_t asked_at_ms;
};

/* An end of a server that nobody here has asked for. */
struct pool_end {
    uint32_t node_id;
    uint64_t at_ms;
};
#define POOL_ENDS_KEPT 16u

struct pools_events {
    /* A client that has waited gets a server; `need` is over. */
    void (*on_lent)(void *client, struct pooled *server);
    /* It gets none: the node refuses the login. `need` is over. */
    void (*on_refused)(void *client, const char *sqlstate, const char *why);
    /* It gets none: the primary has not come within hold_timeout, or no replica is left.
     * `need` is over. */
    void (*on_hold_failed)(void *client, const char *why_no_primary);
    void (*on_no_replica)(void *client);
    /* The server that the client has is doomed; the client may be closed by this. */
    void (*on_doomed)(void *client);
    /* The client has a server; it may be closed by this. */
    void (*on_look)(void *client, const struct pool_look *look);
    /* The client waits; true: it need not be told again. */
    bool (*on_long_wait)(void *client, uint64_t waited_ms);
    /* An inquest is over: the node goes away, or it serves on. */
    void (*on_judged)(void *client, bool goes_away);
    /* Something that the health checks should know. */
    void (*on_evidence)(void *arg, uint32_t node_id);
    void (*on_hold)(void *arg, const struct hold_news *news);
};

struct pools {
    struct loop *loop;
    struct mailbox *mailbox;
    struct pools **all; /* by worker */
    struct accounts *accounts;
    struct ledger *ledger;
    const struct pools_events *events;
    void *arg;
    struct topology *topology; /* held */
    struct pooled_home home;
    struct tcp_settings tcp;
    struct list memories; /* of TLS with nodes: security_memory() */
    struct slab *needs;   /* a waiting client costs no allocation */
    struct list inquests;
    struct halts halts;
    struct pool_end ends[POOL_ENDS_KEPT]; /* the last ones; a ring */
    unsigned n_ends;                      /* ever */
    struct list pools;
    struct table by_account;  /* the same */
    struct table by_branch;   /* what they have on each node */
    struct list hold_watches; /* of clusters whose primary changes, or has just changed */
    ev_timer hold_looks;
    ev_timer upkeep;
    ev_timer cuts;  /* while servers are left whose node has lost the role */
    bool is_closed; /* pools_close() was called */
    unsigned worker, n_workers;
    uint32_t turn;
    uint32_t n_made;         /* pools, ever */
    uint64_t n_servers_made; /* likewise */
};

/* False when memory is out. `connections` is the worker's slab of struct server. */
bool pools_init(struct pools *pools, struct loop *loop, unsigned worker,
                unsigned n_workers, struct pools **all, struct accounts *accounts,
                struct ledger *ledger, struct statement_texts *texts,
                struct slab *connections, const struct pools_events *events,
                void *arg) MUST_CHECK;
/* Closes every server: no client has one or waits. On the worker's thread. */
void pools_close(struct pools *pools);
/* When all threads have ended and the mailboxes are empty. A zeroed one is fine. */
void pools_clear(struct pools *pools);
void pools_set_topology(struct pools *pools, struct topology *topology);

/* How servers are opened from now on; those that were opened in another way serve their
 * clients and close. */
void pools_set_security(struct pools *pools, struct security *security);

/* What an operator says of a database ("" = all, of PAUSE and RESUME). False when memory
 * is out. */
bool pools_halt(struct pools *pools, const char *database, enum halt_kind kind,
                bool on) MUST_CHECK;
bool pools_has_halt(const struct pools *pools, const char *database, enum halt_kind kind);
/* Its servers are closed as soon as they are at rest; "" = of all. */
void pools_renew(struct pools *pools, const char *database);
/* Adds how many servers it has here, and how many of them are to be closed. */
void pools_count_servers(const struct pools *pools, const char *database,
                         unsigned *n_servers, unsigned *n_to_close);

/* The worker's share of an account's pool, made when there is none. Takes over the
 * account's reference. NULL when memory is out. */
struct pool *pools_find(struct pools *pools, struct account *account,
                        const struct pool_terms *terms,
                        const struct pool_texts *texts) MUST_CHECK;
/* A pool for one client alone, who replicates: its one server takes from the limits of
 * `base`, is logged in to with `startup`, parameters as in a StartupMessage, said nothing
 * of our own, and closed at the end of its lease. Gone soon after the client. NULL when
 * memory is out. */
struct pool *pools_make_private(struct pool *base, enum startup_replication replication,
                                const struct text *startup) MUST_CHECK;
static inline bool pool_is_private(const struct pool *pool)
{
    return pool->base != NULL;
}
/* Nobody has come to it but those who replicate. */
static inline bool pool_is_unused(const struct pool *pool)
{
    return pool->n_clients == 0 && pool->idle.n == 0 && pool->busy.n == 0;
}
/* Calls `use` with what a server of the pool said at its login; false when none has
 * logged in yet. */
bool pool_read_welcome(struct pool *pool,
                       void (*use)(void *arg, const char *messages, size_t n), void *arg);
/* Tells other workers what a call of the ledger wants them told. */
void pools_post(struct pools *pools, struct ledger_todo *todo);

enum pool_answer { POOL_LENT, POOL_WAITS, POOL_NO_MEMORY };
/* What a lent server is to be asked before the client's first word; NULL: nothing. */
const char *pool_check_query(const struct pooled *server);
/* For a client that needs a server now: `*server`, lent to nobody yet, or `*need`. */
enum pool_answer pool_take(struct pool *pool, void *client, struct pooled **server,
                           struct need **need) MUST_CHECK;
/* The client waits no longer. */
void pool_forget(struct need *need);
/* A lease is over; `is_reset`: with the reset query. */
void pool_give(struct pooled *server, bool is_reset);
/* Its node has lost the role: sessions end, too. */
bool pool_is_doomed(struct pooled *server);
/* A server of the pool, on this node, was ended by FATAL 57P01 while the client had it.
 * To be called before the pool hears of its end; the struct is the caller's. True: the
 * node goes away, for all that is known. False: on_judged follows, unless the inquest is
 * dropped. */
bool pool_inquire(struct inquest *inquest, struct pool *pool, uint32_t node_id,
                  void *client) MUST_CHECK;
/* What has become of a client whose server has ended: counted, also in the time line of
 * the switchover, if there is one. */
enum pool_loss { POOL_REPLAYED, POOL_LOST, POOL_UNKNOWN };
void pool_note_loss(struct pool *pool, enum pool_loss loss);
/* Nobody waits for it any more. A zeroed one, or one that is over, is fine. */
void pool_drop_inquest(struct inquest *inquest);
/* A cancel request is aimed at a lent server, and then PostgreSQL is done with it:
 * in between it is lent to nobody else. Nor after it, if it is not known whether the
 * request `is_over`. */
void pool_aim(struct pooled *server);
void pool_aimed(struct pooled *server, bool is_over);
/* A client has logged in to the pool; NULL when memory is out. */
struct guest *pool_enter(struct pool *pool, const char *user) MUST_CHECK;
void pool_leave(struct pool *pool, struct guest *guest);

/* What views show of a pool's servers. */
struct pool_survey {
    unsigned n_active, n_idle, n_testing, n_opening;
    unsigned n_warm;     /* at nodes that may become the primary: not to be lent before */
    unsigned n_to_check; /* idle for so long that they are checked before they are lent */
    unsigned n_aimed_at; /* at rest, but cancel requests are still aimed at them */
    unsigned n_cancels;  /* such requests, at any of them */
    uint64_t longest_wait_ns;  /* of a client */
    char why[ACCOUNT_WHY_MAX]; /* clients wait, or the last login failed; "" = neither */
};
void pool_survey(const struct pool *pool, struct pool_survey *survey);
/* The server with the next higher id; NULL behind the last. `*is_doomed`: it is closed as
 * soon as it is at rest. */
const struct pooled *pool_next_server(const struct pool *pool, uint64_t after_id,
                                      bool *is_doomed);
/* The pool with the lowest number that is at least this; NULL behind the last. */
struct pool *pools_at(const struct pools *pools, uint32_t number);
/* Whether clients of the pool wait because its cluster has no primary, or holds. */
bool pool_is_held(const struct pool *pool);
/* Whether clients of the pool are not to wait for a node (ro_fallback = error). */
bool pool_refuses(const struct pool *pool);
/* Why a client waits: which limit, or what the last login ended with. */
void pool_why_waiting(const struct need *need, char why[ACCOUNT_WHY_MAX]);

#endif
