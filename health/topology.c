#include "health/topology.h"

#include <string.h>

#include "core/check.h"
#include "core/memory.h"

struct node_load *node_load_new(void)
{
    struct node_load *load = memory_zeroed(sizeof *load);

    if (load != NULL)
        atomic_init(&load->references, 1);
    return load;
}

struct node_load *node_load_hold(struct node_load *load)
{
    atomic_fetch_add_explicit(&load->references, 1, memory_order_relaxed);
    return load;
}

void node_load_release(struct node_load *load)
{
    if (load != NULL &&
        atomic_fetch_sub_explicit(&load->references, 1, memory_order_acq_rel) == 1)
        memory_free(load);
}

static void cluster_clear(struct topology_cluster *cluster)
{
    for (size_t i = 0; i < cluster->n_nodes; i++)
        node_load_release(cluster->nodes[i].load);
    for (size_t i = 0; i < cluster->n_check_uris; i++)
        memory_free(cluster->check_uris[i]);
    memory_free(cluster->nodes);
    memory_free(cluster->name);
}

struct topology *topology_hold(struct topology *topology)
{
    atomic_fetch_add_explicit(&topology->references, 1, memory_order_relaxed);
    return topology;
}

void topology_release(struct topology *topology)
{
    if (topology == NULL ||
        atomic_fetch_sub_explicit(&topology->references, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < topology->n_clusters; i++)
        cluster_clear(&topology->clusters[i]);
    memory_free(topology->clusters);
    memory_free(topology);
}

const struct topology_cluster *topology_cluster(const struct topology *topology,
                                                const char *name)
{
    for (size_t i = 0; i < topology->n_clusters; i++)
        if (strcmp(topology->clusters[i].name, name) == 0)
            return &topology->clusters[i];
    return NULL;
}

const struct topology_node *topology_node(const struct topology *topology, uint32_t id)
{
    for (size_t i = 0; i < topology->n_clusters; i++)
        for (size_t k = 0; k < topology->clusters[i].n_nodes; k++)
            if (topology->clusters[i].nodes[k].id == id)
                return &topology->clusters[i].nodes[k];
    return NULL;
}

const char *node_role_name(enum node_role role)
{
    switch (role) {
    case NODE_UNKNOWN:
        return "unknown";
    case NODE_PRIMARY:
        return "primary";
    case NODE_REPLICA:
        return "replica";
    case NODE_STANDBY_LEADER:
        return "standby_leader";
    }
    UNREACHABLE();
}
