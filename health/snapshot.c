#include "health/snapshot.h"

#include <stdio.h>
#include <string.h>

#include "core/memory.h"

static bool fill_nodes(struct topology_cluster *shown, const struct cluster *cluster)
{
    shown->nodes = memory_zeroed(cluster->n_nodes * sizeof *shown->nodes + 1);
    if (shown->nodes == NULL)
        return false;
    for (size_t i = 0; i < cluster->n_nodes; i++) {
        cluster_show_node(cluster, i, &shown->nodes[i]);
        node_load_hold(shown->nodes[i].load);
    }
    shown->n_nodes = cluster->n_nodes;
    return true;
}

static bool fill_uris(struct topology_cluster *shown, const struct cluster *cluster)
{
    for (size_t i = 0; i < cluster->n_uris; i++) {
        shown->check_uris[i] = memory_text(cluster->uris[i]);
        if (shown->check_uris[i] == NULL)
            return false;
        shown->n_check_uris = i + 1;
    }
    return true;
}

/* None that takes new clients, though every node was asked. */
static bool lacks_replicas(const struct topology_cluster *shown,
                           const struct cluster *cluster)
{
    if (!cluster_is_ready(cluster))
        return false;
    for (size_t i = 0; i < shown->n_nodes; i++) {
        const struct topology_node *node = &shown->nodes[i];

        if (node->is_up && node->n_addresses > 0 && !node->is_draining &&
            (node->serves_any_role || (node->is_replica_for_all && !node->is_lagging)))
            return false;
    }
    return true;
}

static void fill_fallback(struct topology_cluster *shown, const struct cluster *cluster)
{
    enum ro_fallback fallback = cluster->config->ro_fallback;
    bool lacks = lacks_replicas(shown, cluster);

    shown->has_ro_fallback = fallback == RO_FALLBACK_PRIMARY;
    shown->is_primary_for_all = fallback == RO_FALLBACK_PRIMARY && lacks;
    shown->refuses_read_only = fallback == RO_FALLBACK_ERROR && lacks;
}

static bool fill_cluster(struct topology_cluster *shown, const struct cluster *cluster)
{
    shown->name = memory_text(cluster->config->name);
    shown->primary = cluster->election.primary;
    shown->hold = cluster->hold.is_on ? cluster->hold.number : 0;
    shown->failed_hold = hold_has_failed(&cluster->hold) ? cluster->hold.number : 0;
    snprintf(shown->why_no_primary, sizeof shown->why_no_primary, "%s",
             cluster->election.why_no_primary);
    if (shown->name == NULL || !fill_nodes(shown, cluster) || !fill_uris(shown, cluster))
        return false;
    fill_fallback(shown, cluster);
    return true;
}

struct topology *snapshot_take(struct cluster *const *clusters, size_t n,
                               uint64_t generation)
{
    struct topology *topology = memory_zeroed(sizeof *topology);

    if (topology == NULL)
        return NULL;
    atomic_init(&topology->references, 1);
    topology->generation = generation;
    topology->clusters = memory_zeroed(n * sizeof *topology->clusters + 1);
    if (topology->clusters == NULL)
        goto fail;
    for (; topology->n_clusters < n; topology->n_clusters++)
        if (!fill_cluster(&topology->clusters[topology->n_clusters],
                          clusters[topology->n_clusters])) {
            topology->n_clusters++; /* what is half filled is to be freed, too */
            goto fail;
        }
    return topology;

fail:
    topology_release(topology);
    return NULL;
}

static bool nodes_differ(const struct topology_node *a, const struct topology_node *b)
{
    if (a->id != b->id || a->role != b->role || a->is_up != b->is_up ||
        a->is_lagging != b->is_lagging ||
        a->is_replica_for_all != b->is_replica_for_all ||
        a->is_draining != b->is_draining ||
        a->is_in_maintenance != b->is_in_maintenance || a->weight != b->weight ||
        a->is_leaving != b->is_leaving || a->is_candidate != b->is_candidate ||
        a->serves_any_role != b->serves_any_role ||
        a->begins_with_tls != b->begins_with_tls || a->uris_ok != b->uris_ok ||
        a->timeline != b->timeline || a->load != b->load ||
        a->n_addresses != b->n_addresses || strcmp(a->name, b->name) != 0)
        return true;
    for (size_t i = 0; i < a->n_addresses; i++)
        if (!address_same_host(&a->addresses[i], &b->addresses[i]) ||
            address_port(&a->addresses[i]) != address_port(&b->addresses[i]))
            return true;
    return false;
}

static bool clusters_differ(const struct topology_cluster *a,
                            const struct topology_cluster *b)
{
    if (strcmp(a->name, b->name) != 0 || a->primary != b->primary || a->hold != b->hold ||
        a->failed_hold != b->failed_hold || a->has_ro_fallback != b->has_ro_fallback ||
        a->is_primary_for_all != b->is_primary_for_all ||
        a->refuses_read_only != b->refuses_read_only ||
        strcmp(a->why_no_primary, b->why_no_primary) != 0 || a->n_nodes != b->n_nodes ||
        a->n_check_uris != b->n_check_uris)
        return true;
    for (size_t i = 0; i < a->n_nodes; i++)
        if (nodes_differ(&a->nodes[i], &b->nodes[i]))
            return true;
    for (size_t i = 0; i < a->n_check_uris; i++)
        if (strcmp(a->check_uris[i], b->check_uris[i]) != 0)
            return true;
    return false;
}

bool snapshot_differs(const struct topology *a, const struct topology *b)
{
    if (a->n_clusters != b->n_clusters)
        return true;
    for (size_t i = 0; i < a->n_clusters; i++)
        if (clusters_differ(&a->clusters[i], &b->clusters[i]))
            return true;
    return false;
}
