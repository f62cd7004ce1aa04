#include "health/topology.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "core/memory.h"

TestSuite(topology, .timeout = 10);

static struct topology *make_topology(void)
{
    static const char *const names[] = {"main", "other"};
    struct topology *topology = memory_zeroed(sizeof *topology);

    cr_assert_not_null(topology);
    topology->references = 1;
    topology->n_clusters = 2;
    topology->clusters = memory_zeroed(2 * sizeof *topology->clusters);
    for (size_t i = 0; i < 2; i++) {
        struct topology_cluster *cluster = &topology->clusters[i];

        cluster->name = memory_text(names[i]);
        cluster->n_nodes = 2;
        cluster->nodes = memory_zeroed(2 * sizeof *cluster->nodes);
        cluster->check_uris[0] = memory_text("/sync");
        cluster->n_check_uris = 1;
        for (uint32_t k = 0; k < 2; k++) {
            cluster->nodes[k].id = (uint32_t)i * 10 + k;
            cluster->nodes[k].load = node_load_new();
        }
    }
    return topology;
}

Test(topology, finds_clusters_and_nodes)
{
    struct topology *topology = make_topology();

    cr_expect_eq(topology_cluster(topology, "other"), &topology->clusters[1]);
    cr_expect_null(topology_cluster(topology, "third"));
    cr_expect_eq(topology_node(topology, 11), &topology->clusters[1].nodes[1]);
    cr_expect_null(topology_node(topology, 12));
    topology_release(topology);
}

Test(topology, lives_until_the_last_reference_and_so_do_the_loads)
{
    struct topology *topology = make_topology();
    struct node_load *load = node_load_hold(topology->clusters[0].nodes[0].load);

    topology_hold(topology);
    topology_release(topology);
    cr_expect_eq(topology->n_clusters, 2);
    topology_release(topology);
    load->n_sessions = 7; /* still ours */
    node_load_release(load);
    topology_release(NULL);
    node_load_release(NULL);
}

Test(topology, every_role_has_a_name)
{
    cr_expect_str_eq(node_role_name(NODE_UNKNOWN), "unknown");
    cr_expect_str_eq(node_role_name(NODE_PRIMARY), "primary");
    cr_expect_str_eq(node_role_name(NODE_REPLICA), "replica");
    cr_expect_str_eq(node_role_name(NODE_STANDBY_LEADER), "standby_leader");
}

Test(topology, a_load_survives_a_failed_allocation)
{
    memory_fail_at = 1;
    cr_expect_null(node_load_new());
    cr_expect_eq(memory_fail_at, 0);
}
