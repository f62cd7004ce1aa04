#include "health/monitor.h"

#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "health/snapshot.h"

struct monitor {
    struct loop *loop;
    struct resolver *resolver;
    struct http *http;
    struct sql_turn sql_turn;
    struct config *config; /* held */
    struct cluster **clusters;
    size_t n_clusters;
    uint32_t next_id;
    struct topology *topology; /* held; NULL before the first configuration */
    void (*on_topology)(void *arg, struct topology *topology);
    void *arg;
};

/* ---- the topology ---- */

static void publish(struct monitor *monitor, struct topology *topology)
{
    topology_release(monitor->topology);
    monitor->topology = topology;
    monitor->on_topology(monitor->arg, topology);
}

/* Without memory the old topology goes on until the next answer. */
static void on_change(void *arg)
{
    struct monitor *monitor = arg;
    struct topology *topology = snapshot_take(monitor->clusters, monitor->n_clusters,
                                              monitor->topology->generation + 1);

    if (topology != NULL && snapshot_differs(monitor->topology, topology))
        publish(monitor, topology);
    else
        topology_release(topology);
}

/* ---- configuration ---- */

static void free_clusters(struct cluster **clusters, size_t n)
{
    for (size_t i = 0; i < n; i++)
        cluster_free(clusters[i]);
    memory_free(clusters);
}

static const struct cluster *find_cluster(const struct monitor *monitor, const char *name)
{
    for (size_t i = 0; i < monitor->n_clusters; i++)
        if (strcmp(monitor->clusters[i]->config->name, name) == 0)
            return monitor->clusters[i];
    return NULL;
}

static struct cluster **make_clusters(struct monitor *monitor,
                                      const struct config *config)
{
    const struct node_tools tools = {monitor->loop, monitor->http, monitor->resolver,
                                     &monitor->sql_turn};
    struct cluster **clusters = memory_zeroed(config->n_clusters * sizeof *clusters + 1);

    if (clusters == NULL)
        return NULL;
    for (size_t i = 0; i < config->n_clusters; i++) {
        clusters[i] =
            cluster_new(&tools, &config->clusters[i], config, on_change, monitor);
        if (clusters[i] == NULL) {
            free_clusters(clusters, i);
            return NULL;
        }
        cluster_inherit(clusters[i], find_cluster(monitor, config->clusters[i].name),
                        &monitor->next_id);
    }
    return clusters;
}

static void drop_clusters(struct monitor *monitor)
{
    free_clusters(monitor->clusters, monitor->n_clusters);
    config_release(monitor->config);
    monitor->clusters = NULL;
    monitor->n_clusters = 0;
    monitor->config = NULL;
}

bool monitor_configure(struct monitor *monitor, struct config *config)
{
    uint64_t generation =
        monitor->topology == NULL ? 1 : monitor->topology->generation + 1;
    struct cluster **clusters = make_clusters(monitor, config);
    struct topology *topology;

    if (clusters == NULL)
        return false;
    topology = snapshot_take(clusters, config->n_clusters, generation);
    if (topology == NULL) {
        free_clusters(clusters, config->n_clusters);
        return false;
    }
    drop_clusters(monitor);
    monitor->config = config_hold(config);
    monitor->clusters = clusters;
    monitor->n_clusters = config->n_clusters;
    resolver_set_ttl(monitor->resolver, (uint64_t)config->main.dns_min_ttl,
                     (uint64_t)config->main.dns_max_ttl);
    for (size_t i = 0; i < monitor->n_clusters; i++)
        cluster_start(clusters[i]);
    if (monitor->topology == NULL || snapshot_differs(monitor->topology, topology))
        publish(monitor, topology);
    else
        topology_release(topology);
    return true;
}

struct monitor *monitor_new(struct loop *loop, struct resolver *resolver,
                            void (*on_topology)(void *arg, struct topology *topology),
                            void *arg)
{
    struct monitor *monitor = memory_zeroed(sizeof *monitor);

    if (monitor == NULL)
        return NULL;
    monitor->loop = loop;
    monitor->resolver = resolver;
    monitor->on_topology = on_topology;
    monitor->arg = arg;
    monitor->next_id = 1;
    monitor->http = http_new(loop);
    if (monitor->http == NULL) {
        monitor_free(monitor);
        return NULL;
    }
    return monitor;
}

void monitor_free(struct monitor *monitor)
{
    if (monitor == NULL)
        return;
    drop_clusters(monitor);
    http_free(monitor->http);
    topology_release(monitor->topology);
    memory_free(monitor);
}

/* ---- what others tell ---- */

void monitor_evidence(struct monitor *monitor, uint32_t node_id, enum evidence evidence)
{
    for (size_t i = 0; i < monitor->n_clusters; i++) {
        struct cluster *cluster = monitor->clusters[i];

        for (size_t k = 0; k < cluster->n_nodes; k++)
            if (cluster->nodes[k]->id == node_id) {
                cluster_take_evidence(cluster, evidence);
                return;
            }
    }
}

void monitor_waiting(struct monitor *monitor, const char *cluster, unsigned n_waiting)
{
    for (size_t i = 0; i < monitor->n_clusters; i++)
        if (strcmp(monitor->clusters[i]->config->name, cluster) == 0)
            cluster_set_waiting(monitor->clusters[i], n_waiting);
}

/* ---- what others ask ---- */

struct topology *monitor_topology(const struct monitor *monitor)
{
    return monitor->topology;
}

bool monitor_is_ready(const struct monitor *monitor)
{
    for (size_t i = 0; i < monitor->n_clusters; i++)
        if (!cluster_is_ready(monitor->clusters[i]))
            return false;
    return true;
}

static void report_check(const struct node *node, struct node_report *report)
{
    const struct verdict *verdict = &node->verdict;
    unsigned most = verdict->checks.last_ok ? node->settings.rise : node->settings.fall;

    report->rise = node->settings.rise;
    report->fall = node->settings.fall;
    report->in_a_row = verdict->checks.in_a_row < most ? verdict->checks.in_a_row : most;
    if (!verdict->checks.is_known)
        return;
    report->source = sample_source_name(verdict->last.source);
    report->http_status = verdict->last.http_status;
    report->duration_ms = verdict->last.duration_ms;
    snprintf(report->said, sizeof report->said, "%s", verdict->last.said);
    switch (verdict->last.outcome) {
    case SAMPLE_OK:
        report->outcome = REPORT_OK;
        break;
    case SAMPLE_WRONG:
        report->outcome = REPORT_WRONG;
        break;
    case SAMPLE_REFUSED:
        report->outcome = REPORT_REFUSED;
        break;
    case SAMPLE_TIMEOUT:
        report->outcome = REPORT_TIMEOUT;
        break;
    case SAMPLE_NOT_MADE:
        UNREACHABLE(); /* never reaches a verdict */
    }
}

static void report_node(const struct cluster *cluster, size_t i,
                        struct node_report *report)
{
    const struct node *node = cluster->nodes[i];

    *report = (struct node_report){
        .cluster = cluster->config->name,
        .source = "",
        .checked_at_ms = node->checked_at_ms,
        .changed_at_ms = node->changed_at_ms,
        .n_failed = node->n_failed,
        .n_downs = node->n_downs,
        .down_ms = node->down_ms,
    };
    if (node->down_since_ms != 0)
        report->down_ms += loop_now_ms(cluster->loop) - node->down_since_ms;
    cluster_show_node(cluster, i, &report->node);
    report_check(node, report);
}

void monitor_report(const struct monitor *monitor,
                    void (*each)(void *arg, const struct node_report *report), void *arg)
{
    for (size_t i = 0; i < monitor->n_clusters; i++)
        for (size_t k = 0; k < monitor->clusters[i]->n_nodes; k++) {
            struct node_report report;

            report_node(monitor->clusters[i], k, &report);
            each(arg, &report);
        }
}
