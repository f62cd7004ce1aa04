/* router/route.h - which node a client goes to. Pure: no clock, no socket, no state. */
#ifndef ROUTER_ROUTE_H
#define ROUTER_ROUTE_H

#include "config/config.h"
#include "health/topology.h"

/* Nodes of a cluster that one request can have tried: one bit each. */
#define ROUTE_NODES_MAX 64

struct route_request {
    const struct listener_config *listener;
    const struct address *client;
    uint32_t turn;   /* the listener's, one higher with each request */
    uint32_t random; /* for balance = random */
    uint64_t tried;  /* bit i: node i of the cluster was tried already and failed */
};

/* The index of the node to go to, -1 when there is none for now. */
int route_choose(const struct topology_cluster *cluster,
                 const struct route_request *request);

/* Whether new sessions of the listener go to this node, if it can be connected to. */
bool route_takes_new(const struct topology_cluster *cluster,
                     const struct topology_node *node,
                     const struct listener_config *listener);

/* May a session that the listener has led to this node go on there? It may where a new
 * one may not: on a lagging replica, on one that drains. */
bool route_may_stay(const struct topology_cluster *cluster,
                    const struct topology_node *node,
                    const struct listener_config *listener);

/* Clients of this listener are not to wait for a node (ro_fallback = error). */
bool route_refuses(const struct topology_cluster *cluster,
                   const struct listener_config *listener);

/* Why route_choose() finds nothing: which role is missing, and what is known of the
 * reason. For the client and the log. */
#define ROUTE_WHY_MAX 256
void route_why_none(const struct topology_cluster *cluster,
                    const struct listener_config *listener, char why[ROUTE_WHY_MAX]);

#endif
