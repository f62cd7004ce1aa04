/* tests/lib/map.h - topologies made by hand. */
#ifndef TESTS_LIB_MAP_H
#define TESTS_LIB_MAP_H

#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "health/topology.h"

/* One cluster of `n` nodes n1, n2, ..., ids 1, 2, ..., at 127.0.0.1:5001, :5002, ...: the
 * first is the primary, the others are replicas, all are up. To be changed as a test
 * likes before anybody else sees it. */
static inline struct topology *map_new(const char *cluster_name, size_t n)
{
    struct topology *topology = memory_zeroed(sizeof *topology);
    struct topology_cluster *cluster;

    REQUIRE(topology != NULL);
    atomic_init(&topology->references, 1);
    topology->generation = 1;
    topology->n_clusters = 1;
    topology->clusters = cluster = memory_zeroed(sizeof *cluster);
    REQUIRE(cluster != NULL);
    cluster->name = memory_text(cluster_name);
    cluster->nodes = memory_zeroed((n > 0 ? n : 1) * sizeof *cluster->nodes);
    cluster->n_nodes = n;
    cluster->primary = n > 0 ? 0 : -1;
    REQUIRE(cluster->name != NULL && cluster->nodes != NULL);
    for (size_t i = 0; i < n; i++) {
        struct topology_node *node = &cluster->nodes[i];

        node->id = (uint32_t)i + 1;
        snprintf(node->name, sizeof node->name, "n%u", node->id);
        REQUIRE(
            address_parse("127.0.0.1", (uint16_t)(5000 + node->id), &node->addresses[0]));
        node->n_addresses = 1;
        node->role = i == 0 ? NODE_PRIMARY : NODE_REPLICA;
        node->is_up = node->is_replica_for_all = true;
        node->weight = 1;
        node->is_replica_for_all = i > 0;
        node->lag_bytes = i == 0 ? -1 : 0;
        node->load = node_load_new();
        REQUIRE(node->load != NULL);
    }
    return topology;
}

/* The same picture once more, as the next generation: loads are shared. */
static inline struct topology *map_next(const struct topology *old)
{
    struct topology *next = map_new(old->clusters[0].name, old->clusters[0].n_nodes);
    struct topology_cluster *from = &old->clusters[0], *to = &next->clusters[0];

    next->generation = old->generation + 1;
    to->primary = from->primary;
    memcpy(to->why_no_primary, from->why_no_primary, sizeof to->why_no_primary);
    for (size_t i = 0; i < to->n_nodes; i++) {
        node_load_release(to->nodes[i].load);
        to->nodes[i] = from->nodes[i];
        node_load_hold(to->nodes[i].load);
    }
    return next;
}

#endif
