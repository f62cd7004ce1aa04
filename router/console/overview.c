#include "router/console/overview.h"

#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "router/route.h"

static void add_tally(struct tally *sum, const struct list *tallies, const char *listener,
                      uint32_t node_id)
{
    const struct tally *one = tally_find(tallies, listener, node_id);

    if (one != NULL)
        tally_add(sum, one);
}

static void add_node(struct overview *overview, const struct node_report *report)
{
    for (size_t i = 0; i < overview->n_clusters; i++) {
        struct overview_cluster *cluster = &overview->clusters[i];

        if (strcmp(cluster->report.name, report->cluster) == 0 &&
            cluster->n_nodes < cluster->room)
            cluster->nodes[cluster->n_nodes++] = *report;
    }
}

/* The reports come one by one; each goes to its cluster and to the listeners of that. */
static void add_report(void *arg, const struct node_report *report)
{
    struct overview *overview = arg;

    add_node(overview, report);
    for (size_t i = 0; i < overview->n_listeners; i++) {
        struct overview_listener *listener = &overview->listeners[i];
        const struct cluster_config *to = listener->settings->to;
        const struct topology_cluster *cluster =
            to == NULL ? NULL : topology_cluster(overview->topology, to->name);
        const struct topology_node *node =
            topology_node(overview->topology, report->node.id);
        struct overview_server *server;

        if (cluster == NULL || strcmp(to->name, report->cluster) != 0 ||
            listener->n_servers == listener->room)
            continue;
        server = &listener->servers[listener->n_servers++];
        server->report = *report;
        server->serves =
            node != NULL && route_takes_new(cluster, node, listener->settings);
        add_tally(&server->tally, &overview->gather->tallies, listener->settings->name,
                  report->node.id);
        tally_add(&listener->sum, &server->tally);
    }
}

static bool add_doors(struct overview *overview, const struct list *doors)
{
    LIST_EACH(item, doors)
    {
        const struct door *door = CONTAINER_OF(item, struct door, in_doors);
        struct overview_listener *listener = &overview->listeners[overview->n_listeners];
        const struct topology_cluster *cluster;

        if (door->is_shut && door->gate.n_present == 0)
            continue;
        listener->door = door;
        listener->settings = door->listener->settings;
        cluster =
            listener->settings->to == NULL
                ? NULL
                : topology_cluster(overview->topology, listener->settings->to->name);
        listener->room = cluster == NULL ? 0 : cluster->n_nodes;
        listener->servers =
            memory_zeroed((listener->room + 1) * sizeof *listener->servers);
        if (listener->servers == NULL)
            return false;
        overview->n_listeners++;
        add_tally(&listener->front, &overview->gather->tallies, listener->settings->name,
                  0);
    }
    return true;
}

/* They come the oldest first. */
static void note_last(void *arg, const struct switchover *switchover)
{
    struct overview_cluster *cluster = arg;

    if (switchover->outcome == SWITCHOVER_UNDER_WAY)
        return;
    memmove(&cluster->last[1], &cluster->last[0],
            (OVERVIEW_SWITCHOVERS - 1) * sizeof cluster->last[0]);
    cluster->last[0] = *switchover;
    if (cluster->n_last < OVERVIEW_SWITCHOVERS)
        cluster->n_last++;
}

struct collecting {
    struct overview *overview;
    const struct monitor *monitor;
    size_t n_max;
    bool is_incomplete; /* memory was out */
};

static void add_cluster(void *arg, const struct cluster_report *report)
{
    struct collecting *collecting = arg;
    struct overview *overview = collecting->overview;
    const struct topology_cluster *of =
        topology_cluster(overview->topology, report->name);
    struct overview_cluster *cluster;

    if (overview->n_clusters == collecting->n_max || of == NULL)
        return;
    cluster = &overview->clusters[overview->n_clusters++];
    cluster->report = *report;
    if (report->present != NULL) {
        cluster->present = *report->present;
        cluster->report.present = &cluster->present;
    }
    cluster->room = of->n_nodes;
    cluster->nodes = memory_zeroed((cluster->room + 1) * sizeof *cluster->nodes);
    if (cluster->nodes == NULL) {
        cluster->room = 0;
        collecting->is_incomplete = true;
    }
    monitor_report_switchovers(collecting->monitor, report->name, note_last, cluster);
}

/* False when memory is out. */
static bool add_clusters(struct overview *overview, const struct monitor *monitor)
{
    struct collecting collecting = {overview, monitor, overview->topology->n_clusters,
                                    false};

    overview->clusters =
        memory_zeroed((collecting.n_max + 1) * sizeof *overview->clusters);
    if (overview->clusters == NULL)
        return false;
    monitor_report_clusters(monitor, add_cluster, &collecting);
    return !collecting.is_incomplete;
}

bool overview_take(struct overview *overview, const struct doors *doors,
                   const struct monitor *monitor)
{
    overview->listeners =
        memory_zeroed((doors->open.n + doors->shut.n + 1) * sizeof *overview->listeners);
    if (overview->listeners == NULL)
        return false;
    if (!add_doors(overview, &doors->open) || !add_doors(overview, &doors->shut) ||
        !add_clusters(overview, monitor)) {
        overview_clear(overview);
        return false;
    }
    monitor_report(monitor, add_report, overview);
    return true;
}

void overview_clear(struct overview *overview)
{
    for (size_t i = 0; i < overview->n_listeners; i++)
        memory_free(overview->listeners[i].servers);
    memory_free(overview->listeners);
    for (size_t i = 0; i < overview->n_clusters; i++)
        memory_free(overview->clusters[i].nodes);
    memory_free(overview->clusters);
    overview->listeners = NULL;
    overview->n_listeners = 0;
    overview->clusters = NULL;
    overview->n_clusters = 0;
}
