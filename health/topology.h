/* health/topology.h - who is what, at one moment.
 *
 * A topology is made by the monitor, never changed afterwards, and given to every
 * worker by reference count. Routing reads nothing else about nodes.
 *
 * Thread: made on control; hold, release and read on any.
 */
#ifndef HEALTH_TOPOLOGY_H
#define HEALTH_TOPOLOGY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/address.h"

#define NODE_ADDRESSES_MAX 8
#define NODE_NAME_MAX 64
#define NODE_HOST_MAX 256 /* a DNS name is shorter */

enum node_role {
    NODE_UNKNOWN,
    NODE_PRIMARY,
    NODE_REPLICA,
    NODE_STANDBY_LEADER /* leads a standby cluster: read-only, but holds the lock */
};

/* What all threads share about one node, beyond topologies: how many sessions it has. */
#define LOAD_SHARES 64
struct node_load {
    atomic_uint references;
    atomic_uint n_sessions;
    atomic_uint shares[LOAD_SHARES]; /* of those sessions, by whom they were opened for */
};
struct node_load *node_load_new(void) MUST_CHECK;
struct node_load *node_load_hold(struct node_load *load);
void node_load_release(struct node_load *load);

/* What an operator has said of a node, at run time; it stays until he says otherwise. */
enum node_word {
    WORD_NONE,  /* nothing: as it is configured */
    WORD_READY, /* it serves, though `drain` names it */
    WORD_DRAIN, /* no new work; what runs goes on */
    WORD_MAINT  /* the same, and nobody asks it how it is */
};
#define NODE_WEIGHT_MAX 256u /* as HAProxy has it */

struct topology_node {
    uint32_t
        id; /* the same through reloads while name, host and ports stay; never reused */
    char name[NODE_NAME_MAX];
    char host[NODE_HOST_MAX]; /* name or number, as configured: whom TLS asks for */
    struct address addresses[NODE_ADDRESSES_MAX]; /* in the order to try, port included */
    size_t n_addresses;                           /* 0 = its name is not resolved */
    enum node_role role;
    bool is_up;
    bool is_lagging;         /* a replica behind by more than max_lag */
    bool is_replica_for_all; /* Patroni's /replica would say 200: running, not
                                noloadbalance */
    bool is_draining;        /* named in `drain`, or told to; or not checked yet after
                                maintenance */
    bool is_in_maintenance;
    unsigned weight;      /* of new work, beside others; with 0 it drains */
    bool is_leaving;      /* a hold is on, since it ceases to be the primary */
    bool is_candidate;    /* likewise, and this one may be the next: for prewarming */
    bool begins_with_tls; /* sslnegotiation = direct: for our own connections */
    bool serves_any_role; /* check = tcp: nobody knows its role */
    uint32_t uris_ok;     /* bit i: the cluster's check_uris[i] answered 200 */
    uint32_t timeline;    /* 0 = not known */
    int64_t lag_bytes;    /* of a replica behind its primary; -1 = not known */
    struct node_load *load;
};

/* The node's share of new work, among those that take any. */
static inline unsigned node_share(const struct topology_node *node)
{
    return node->weight > 0 ? node->weight : 1;
}
/* Which of `n_shares` the turn falls on, where nodes with more than one follow each
 * other as evenly as they can: by multiples of the golden ratio. */
static inline unsigned node_turn(uint32_t turn, unsigned n_nodes, unsigned n_shares)
{
    return n_shares == n_nodes
               ? turn % n_nodes
               : (unsigned)((uint64_t)(uint32_t)(turn * 2654435769u) * n_shares >> 32);
}

#define TOPOLOGY_URIS_MAX 32

struct topology_cluster {
    char *name;
    struct topology_node *nodes;
    size_t n_nodes;
    int primary; /* index into nodes; -1 = none may be written to */
    /* Not 0: clients that need the primary wait, though there may be one: it is about to
     * go, or nobody has proven yet that it stays. The number of the present struct
     * switchover. */
    uint64_t hold;
    uint64_t failed_hold; /* the last one, if it has ended by hold_timeout; else 0 */
    /* Why there is no primary, as a sentence for clients and logs; "" when there is one.
     */
    char why_no_primary[160];
    bool has_ro_fallback;    /* sessions of role = replica may stay on the primary */
    bool is_primary_for_all; /* no replica is left, and the primary takes their clients */
    bool refuses_read_only;  /* no replica is left, and their clients are not to wait */
    char *check_uris[TOPOLOGY_URIS_MAX]; /* of the cluster's listeners, each once */
    size_t n_check_uris;
};

struct topology {
    atomic_uint references;
    uint64_t generation; /* grows by one with each topology */
    struct topology_cluster *clusters;
    size_t n_clusters;
};

struct topology *topology_hold(struct topology *topology);
void topology_release(struct topology *topology); /* NULL is fine */

/* NULL when there is no such cluster or node. */
const struct topology_cluster *topology_cluster(const struct topology *topology,
                                                const char *name);
const struct topology_node *topology_node(const struct topology *topology, uint32_t id);

const char *node_role_name(enum node_role role); /* "unknown", "primary", ... */

#endif
