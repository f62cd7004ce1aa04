#include "router/route.h"

#include <stdio.h>
#include <string.h>

/* What Patroni says to the listener's own question; false when it was not asked yet. */
static bool uri_says_yes(const struct topology_cluster *cluster,
                         const struct topology_node *node, const char *uri)
{
    for (size_t i = 0; i < cluster->n_check_uris; i++)
        if (strcmp(cluster->check_uris[i], uri) == 0)
            return node->uris_ok & (1u << i);
    return false;
}

static bool is_primary(const struct topology_cluster *cluster,
                       const struct topology_node *node)
{
    return node->serves_any_role ||
           (cluster->primary >= 0 && node == &cluster->nodes[cluster->primary]);
}

static bool is_replica(const struct topology_node *node)
{
    return node->serves_any_role || node->role == NODE_REPLICA ||
           node->role == NODE_STANDBY_LEADER;
}

bool route_may_stay(const struct topology_cluster *cluster,
                    const struct topology_node *node,
                    const struct listener_config *listener)
{
    if (!node->is_up)
        return false;
    if (listener->check_uri[0] != '\0')
        return uri_says_yes(cluster, node, listener->check_uri);
    switch (listener->role) {
    case ROLE_PRIMARY:
        return is_primary(cluster, node);
    case ROLE_REPLICA:
        return is_replica(node) ||
               (cluster->has_ro_fallback && is_primary(cluster, node));
    case ROLE_READ_ONLY:
        return is_primary(cluster, node) || is_replica(node);
    case ROLE_ANY:
        return true;
    case ROLE_DEFAULT: /* settled when the configuration was loaded */
        break;
    }
    UNREACHABLE();
}

bool route_takes_new(const struct topology_cluster *cluster,
                     const struct topology_node *node,
                     const struct listener_config *listener)
{
    if (node->n_addresses == 0 || node->is_draining ||
        !route_may_stay(cluster, node, listener))
        return false;
    if (listener->check_uri[0] == '\0' && cluster->hold != 0 &&
        (node->is_leaving || listener->role == ROLE_PRIMARY))
        return false;
    if (listener->check_uri[0] != '\0' || listener->role == ROLE_ANY ||
        node->serves_any_role)
        return true;
    if (is_primary(cluster, node))
        return listener->role != ROLE_REPLICA || cluster->is_primary_for_all;
    return node->is_replica_for_all && !node->is_lagging;
}

static unsigned n_sessions(const struct topology_node *node)
{
    return atomic_load_explicit(&node->load->n_sessions, memory_order_relaxed);
}

/* Highest random weight: when a node goes, only its own clients move. */
static uint32_t source_weight(const struct address *client,
                              const struct topology_node *node)
{
    uint32_t hash = address_hash_host(client) ^ node->id * 2654435761u;

    hash ^= hash >> 16;
    hash *= 2246822507u;
    hash ^= hash >> 13;
    hash *= 3266489909u;
    return hash ^ hash >> 16;
}

static unsigned count_shares(const struct topology_cluster *cluster,
                             const int *candidates, unsigned n)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < n; i++)
        sum += node_share(&cluster->nodes[candidates[i]]);
    return sum;
}

/* The one of `n` candidates that has the share. */
static int pick_share(const struct topology_cluster *cluster, const int *candidates,
                      unsigned n, unsigned share)
{
    for (unsigned i = 0; i + 1 < n; i++) {
        unsigned n_shares = node_share(&cluster->nodes[candidates[i]]);

        if (share < n_shares)
            return candidates[i];
        share -= n_shares;
    }
    return candidates[n - 1];
}

/* Fewer sessions for its weight, once it has one more. */
static bool is_less_loaded(const struct topology_node *one,
                           const struct topology_node *other)
{
    return (uint64_t)(n_sessions(one) + 1) * node_share(other) <
           (uint64_t)(n_sessions(other) + 1) * node_share(one);
}

/* The best of `n` candidates by the listener's rule; ties go round. */
static int pick(const struct topology_cluster *cluster, const int *candidates, unsigned n,
                const struct route_request *request)
{
    unsigned n_shares = count_shares(cluster, candidates, n);
    int best = candidates[request->turn % n];

    switch (request->listener->balance) {
    case BALANCE_ROUNDROBIN:
        return pick_share(cluster, candidates, n, node_turn(request->turn, n, n_shares));
    case BALANCE_FIRST:
        return candidates[0];
    case BALANCE_RANDOM:
        return pick_share(cluster, candidates, n, request->random % n_shares);
    case BALANCE_LEASTCONN:
        for (unsigned i = 1; i < n; i++) {
            int other = candidates[(request->turn + i) % n];

            if (is_less_loaded(&cluster->nodes[other], &cluster->nodes[best]))
                best = other;
        }
        return best;
    case BALANCE_SOURCE:
        for (unsigned i = 0; i < n; i++)
            if (source_weight(request->client, &cluster->nodes[candidates[i]]) >
                source_weight(request->client, &cluster->nodes[best]))
                best = candidates[i];
        return best;
    }
    UNREACHABLE();
}

int route_choose(const struct topology_cluster *cluster,
                 const struct route_request *request)
{
    int candidates[ROUTE_NODES_MAX];
    unsigned n = 0;

    for (size_t i = 0; i < cluster->n_nodes && i < ROUTE_NODES_MAX; i++)
        if (!(request->tried & (UINT64_C(1) << i)) &&
            route_takes_new(cluster, &cluster->nodes[i], request->listener))
            candidates[n++] = (int)i;
    return n == 0 ? -1 : pick(cluster, candidates, n, request);
}

bool route_refuses(const struct topology_cluster *cluster,
                   const struct listener_config *listener)
{
    return cluster->refuses_read_only && listener->role == ROLE_REPLICA &&
           listener->check_uri[0] == '\0';
}

static const char *what_is_missing(const struct listener_config *listener)
{
    if (listener->check_uri[0] != '\0')
        return "no node answers the listener's check_uri with 200";
    switch (listener->role) {
    case ROLE_PRIMARY:
        return "no primary is available";
    case ROLE_REPLICA:
        return "no replica is available";
    case ROLE_READ_ONLY:
        return "neither a primary nor a replica is available";
    case ROLE_ANY:
        return "no node is available";
    case ROLE_DEFAULT: /* settled when the configuration was loaded */
        break;
    }
    UNREACHABLE();
}

void route_why_none(const struct topology_cluster *cluster,
                    const struct listener_config *listener, char why[ROUTE_WHY_MAX])
{
    const char *missing = what_is_missing(listener);
    bool wants_primary = listener->check_uri[0] == '\0' && listener->role == ROLE_PRIMARY;

    if (!wants_primary)
        snprintf(why, ROUTE_WHY_MAX, "%s", missing);
    else if (cluster->primary >= 0 && cluster->nodes[cluster->primary].is_draining)
        snprintf(why, ROUTE_WHY_MAX, "%s: %s is %s", missing,
                 cluster->nodes[cluster->primary].name,
                 cluster->nodes[cluster->primary].is_in_maintenance ? "in maintenance"
                                                                    : "being drained");
    else if (cluster->hold != 0 && cluster->primary >= 0)
        snprintf(why, ROUTE_WHY_MAX, "%s: the primary is about to change", missing);
    else if (cluster->why_no_primary[0] == '\0')
        snprintf(why, ROUTE_WHY_MAX, "%s: it cannot be connected to", missing);
    else
        snprintf(why, ROUTE_WHY_MAX, "%s: %s", missing, cluster->why_no_primary);
}
