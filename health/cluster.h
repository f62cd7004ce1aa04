/* health/cluster.h - the nodes of one cluster: when they are asked, what follows.
 *
 *   pace --> round: all nodes are asked --> news of a node --> verdict, election, lag
 *                                                          --> log, pace, topology
 *
 *   etcd --> view of Patroni's keys --> a round at once; nodes, where they are found
 * there
 *
 * Every answer is weighed as it comes, not at the end of a round: a dead node's timeout
 * must not hold up the news of a new primary.
 *
 * Thread: control only.
 */
#ifndef HEALTH_CLUSTER_H
#define HEALTH_CLUSTER_H

#include "health/election.h"
#include "health/etcd.h"
#include "health/hold.h"
#include "health/node.h"
#include "health/pace.h"
#include "health/patroni_keys.h"

#define ALARM_MAX (WHY_NO_PRIMARY_MAX + 40)

struct cluster {
    const struct cluster_config *config;
    struct loop *loop;
    struct node_tools tools; /* its restapi_tls is held */
    struct node **nodes;     /* in the order of the configuration, or of their names */
    size_t n_nodes;
    struct node_config **found;    /* one for each node, where the configuration has none:
                                      membership.h; else NULL */
    struct candidate *candidates;  /* one for each node */
    char *uris[TOPOLOGY_URIS_MAX]; /* borrowed from the configuration */
    size_t n_uris;

    struct pace pace;
    struct pace_settings pace_settings;
    ev_timer next_round;
    ev_timer next_nodes; /* to ask in this round */
    size_t n_asked;      /* nodes, in this round */
    bool asks_anew;      /* even those whose last check is still under way */
    uint64_t spread_ms;  /* over which this round's checks are spread */
    uint64_t round;
    unsigned n_waiting;
    struct election election;
    struct hold hold;
    ev_timer hold_looks;           /* while it is on */
    char asked_for[NODE_NAME_MAX]; /* likewise: who is to be the primary; "" = anybody */
    bool wants_new_round;          /* in which nobody's answer of before counts */
    uint64_t primary_since_ms;     /* 0 = there is none */
    char alarm[ALARM_MAX];         /* what somebody should look at; "" = nothing */
    uint32_t leader_id; /* whose location the lag is counted from, and its timeline */
    uint32_t leader_timeline;
    uint64_t leader_location;
    uint32_t logged_primary_id; /* 0 = none */

    struct etcd *etcd;      /* NULL: Patroni's keys are not watched */
    struct store_view view; /* what they say, or said last */
    int64_t due_request;    /* revision of the request that we hold for; 0 = none */
    ev_timer request_timer; /* until it is */
    bool is_warned_of_no_keys;
    uint32_t *next_id; /* for nodes that are found; NULL before cluster_inherit() */

    void (*on_change)(void *arg); /* something that a topology may show */
    void *arg;
};

/* `config` is borrowed for the cluster's life. Nothing is asked until cluster_start().
 * NULL when memory is out. */
struct cluster *cluster_new(const struct node_tools *tools,
                            const struct cluster_config *cluster,
                            const struct config *config, void (*on_change)(void *arg),
                            void *arg) MUST_CHECK;
void cluster_free(struct cluster *cluster); /* NULL is fine */

/* Takes over what is known of the nodes that stay; `old` may be NULL. New nodes get their
 * ids, from `*next_id` on, which is borrowed for the cluster's life. False when memory is
 * out. */
bool cluster_inherit(struct cluster *cluster, const struct cluster *old,
                     uint32_t *next_id) MUST_CHECK;
/* The registry has read files anew. */
void cluster_renew_tls(struct cluster *cluster);
void cluster_start(struct cluster *cluster); /* the first round begins */

void cluster_take_evidence(struct cluster *cluster, enum evidence evidence);
void cluster_set_waiting(struct cluster *cluster, unsigned n_waiting);

/* As monitor_hold() and monitor_release(). */
uint64_t cluster_hold(struct cluster *cluster, const char *node, const char *next,
                      enum hold_cause cause, const char *sign);
bool cluster_release(struct cluster *cluster, enum hold_cause cause);

/* Forgets the fence, and asks all nodes anew. `user`, who wants that, is logged. */
void cluster_reset(struct cluster *cluster, const char *user);

/* Every node was asked once, of which there is one at least. */
bool cluster_is_ready(const struct cluster *cluster);

/* The node that Patroni calls so, by its name here or by its address; -1 = none. */
int cluster_find_node(const struct cluster *cluster, const char *name);
/* For membership.h. `config` is borrowed for the node's life; NULL when memory is out. */
struct node *cluster_make_node(struct cluster *cluster,
                               const struct node_config *config) MUST_CHECK;

/* As monitor_set_word() and those like it, of node `i`. */
void cluster_set_word(struct cluster *cluster, size_t i, enum node_word word);
bool cluster_set_address(struct cluster *cluster, size_t i,
                         const struct address *address) MUST_CHECK;
void cluster_set_weight(struct cluster *cluster, size_t i, unsigned weight);

/* How node `i` looks from outside. `load` is borrowed. */
void cluster_show_node(const struct cluster *cluster, size_t i,
                       struct topology_node *shown);

#endif
