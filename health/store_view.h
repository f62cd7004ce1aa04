/* health/store_view.h - what Patroni's keys say of a cluster, as a plain value.
 *
 * Texts are cut to fit and hold printable ASCII only. Names of nodes are Patroni's.
 */
#ifndef HEALTH_STORE_VIEW_H
#define HEALTH_STORE_VIEW_H

#include "health/sample.h"

struct store_member {
    char name[NODE_NAME_MAX];
    char host[NODE_HOST_MAX]; /* of PostgreSQL: name or number; "" = not known */
    uint16_t port;
    uint16_t rest_port;          /* of Patroni's REST API; 0 = not known */
    enum node_role role;         /* NODE_UNKNOWN unless the server runs in one */
    char state[SAMPLE_WORD_MAX]; /* "running", "stopping", ... */
    uint32_t timeline;           /* 0 = not known */
    uint64_t location;           /* bytes of WAL written, or replayed; 0 = not known */
    bool is_noloadbalance, is_nofailover; /* tagged so */
    bool says_streaming; /* it tells of its replication at all (since 4.0) */
    bool is_streaming;   /* it receives from its primary */
    int64_t changed_at;  /* revision */
};

/* A switchover or manual failover that somebody has asked Patroni for, and that it is
 * going to do. */
struct store_request {
    bool is_there;
    char from[NODE_NAME_MAX]; /* "" = whoever holds the lock */
    char to[NODE_NAME_MAX];   /* "" = whoever is the best */
    int64_t due_ms;           /* unix time; 0 = now */
    int64_t changed_at;       /* revision of its key */
};

/* A zeroed one knows of nothing. */
struct store_view {
    bool is_live;     /* the store is being watched; false: this is what was last seen */
    int64_t revision; /* that it is of; 0 = there was none */
    bool has_keys;    /* there is anything of Patroni's */

    char leader[NODE_NAME_MAX]; /* holds the leader lock; "" = nobody does */
    int64_t leader_created_at;  /* revisions of its key; 0 = there is none */
    int64_t leader_changed_at;
    struct store_request request;
    bool is_paused;                /* Patroni's automatic failover is off */
    uint64_t loop_wait_ms;         /* Patroni's, 10 s when it does not say */
    uint64_t ttl_ms;               /* 30 s when it does not say */
    char system_id[SYSTEM_ID_MAX]; /* of the PostgreSQL cluster, "" = not known */
    uint64_t leader_location;      /* bytes of WAL that the leader had; 0 = not known */

    struct store_member *members; /* by name */
    size_t n_members;
};

#endif
