/* health/membership.h - a cluster's nodes, where they are those that Patroni's keys name.
 *
 * Thread: control only.
 */
#ifndef HEALTH_MEMBERSHIP_H
#define HEALTH_MEMBERSHIP_H

#include "health/cluster.h"

/* Members beyond are left out. */
#define MEMBERSHIP_MAX 256

enum membership {
    MEMBERSHIP_STAYS,
    MEMBERSHIP_CHANGED,  /* nodes have come or gone: begin a round */
    MEMBERSHIP_NO_MEMORY /* as it was */
};

/* Makes the nodes those of cluster->view. Nodes that stay keep all that is known of them;
 * new ones get ids from `*next_id` on. The present primary stays while no member has its
 * name: its key may have run out while the store was away; and so do all nodes while
 * there is no member at all. */
enum membership membership_follow(struct cluster *cluster, uint32_t *next_id) MUST_CHECK;

/* Ends the nodes and what belongs to them. */
void membership_clear(struct cluster *cluster);

#endif
