#include "health/monitor.h"

#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "core/memory.h"
#include "health/snapshot.h"

struct monitor {
    struct loop *loop;
    struct resolver *resolver;
    struct http *http;
    struct tls_registry *registry;
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

static struct cluster *find_cluster(const struct monitor *monitor, const char *name)
{
    for (size_t i = 0; i < monitor->n_clusters; i++)
        if (strcmp(monitor->clusters[i]->config->name, name) == 0)
            return monitor->clusters[i];
    return NULL;
}

static struct cluster **make_clusters(struct monitor *monitor,
                                      const struct config *config)
{
    const struct node_tools tools = {.loop = monitor->loop,
                                     .http = monitor->http,
                                     .resolver = monitor->resolver,
                                     .sql_turn = &monitor->sql_turn,
                                     .registry = monitor->registry};
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
        if (!cluster_inherit(clusters[i], find_cluster(monitor, config->clusters[i].name),
                             &monitor->next_id)) {
            free_clusters(clusters, i + 1);
            return NULL;
        }
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

/* ---- certificates ---- */

bool monitor_check(struct monitor *monitor, const struct config *config,
                   struct text *errors)
{
    bool is_fine = true;

    for (size_t i = 0; i < config->n_clusters; i++)
        is_fine = trust_check_restapi(monitor->registry, &config->clusters[i], errors) &&
                  is_fine;
    return is_fine;
}

void monitor_read_files(struct monitor *monitor, struct text *errors)
{
    if (!tls_registry_look(monitor->registry, errors))
        return;
    for (size_t i = 0; i < monitor->n_clusters; i++)
        cluster_renew_tls(monitor->clusters[i]);
    LOG(INFO, "certificates for etcd or Patroni read again");
}

struct tls_context *monitor_restapi_tls(const struct monitor *monitor,
                                        const char *cluster_name)
{
    const struct cluster *cluster = find_cluster(monitor, cluster_name);

    return cluster == NULL ? NULL : cluster->tools.restapi_tls;
}

/* ---- making ---- */

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
    monitor->registry = tls_registry_new();
    if (monitor->http == NULL || monitor->registry == NULL) {
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
    tls_registry_free(monitor->registry);
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
    struct cluster *found = find_cluster(monitor, cluster);

    if (found != NULL)
        cluster_set_waiting(found, n_waiting);
}

/* ---- holds ---- */

/* -1: it has none of that name. */
static int find_node(const struct cluster *cluster, const char *name)
{
    for (size_t i = 0; cluster != NULL && i < cluster->n_nodes; i++)
        if (strcmp(cluster->nodes[i]->config->name, name) == 0)
            return (int)i;
    return -1;
}

uint64_t monitor_hold(struct monitor *monitor, const char *cluster_name, const char *node,
                      const char *next, enum hold_cause cause, const char *sign,
                      char why[MONITOR_WHY_MAX])
{
    struct cluster *cluster = find_cluster(monitor, cluster_name);

    if (cluster == NULL)
        snprintf(why, MONITOR_WHY_MAX, "there is no cluster \"%.60s\"", cluster_name);
    else if (cluster->config->check == CHECK_TCP)
        snprintf(why, MONITOR_WHY_MAX,
                 "nobody knows the roles of nodes with check = tcp");
    else if (*node != '\0' && find_node(cluster, node) < 0)
        snprintf(why, MONITOR_WHY_MAX, "there is no node \"%.60s\" in cluster \"%.60s\"",
                 node, cluster_name);
    else
        return cluster_hold(cluster, node, next, cause, sign);
    return 0;
}

bool monitor_release(struct monitor *monitor, const char *cluster_name,
                     enum hold_cause cause)
{
    struct cluster *cluster = find_cluster(monitor, cluster_name);

    return cluster != NULL && cluster_release(cluster, cause);
}

/* NULL: there is none, or there are several; `why` says it. */
static struct cluster *find_to_reset(struct monitor *monitor, const char *name,
                                     char why[MONITOR_WHY_MAX])
{
    struct cluster *found = NULL;
    unsigned n = 0;

    for (size_t i = 0; i < monitor->n_clusters; i++) {
        const struct cluster_config *config = monitor->clusters[i]->config;

        if (config->is_implicit || (*name != '\0' && strcmp(config->name, name) != 0))
            continue;
        found = monitor->clusters[i];
        n++;
    }
    if (n == 1)
        return found;
    if (n > 1)
        snprintf(why, MONITOR_WHY_MAX,
                 "there are several clusters: say which one, RESET CLUSTER cluster");
    else if (*name != '\0')
        snprintf(why, MONITOR_WHY_MAX, "there is no cluster \"%.60s\": see SHOW CLUSTERS",
                 name);
    else
        snprintf(why, MONITOR_WHY_MAX, "there is no [cluster]");
    return NULL;
}

bool monitor_reset(struct monitor *monitor, const char *name, const char *user,
                   char why[MONITOR_WHY_MAX])
{
    struct cluster *cluster = find_to_reset(monitor, name, why);

    if (cluster != NULL)
        cluster_reset(cluster, user);
    return cluster != NULL;
}

static struct switchover *record_of(struct monitor *monitor, const char *cluster_name,
                                    uint64_t hold)
{
    struct cluster *cluster = find_cluster(monitor, cluster_name);

    return cluster == NULL ? NULL : hold_record(&cluster->hold, hold);
}

void monitor_open_transactions(struct monitor *monitor, const char *cluster,
                               uint64_t hold, unsigned n)
{
    struct switchover *record = record_of(monitor, cluster, hold);

    if (record != NULL && n == 0 && record->drained_ms == 0)
        record->drained_ms = loop_now_ms(monitor->loop);
}

void monitor_lent(struct monitor *monitor, const char *cluster, uint64_t hold,
                  uint64_t at_ms)
{
    struct switchover *record = record_of(monitor, cluster, hold);

    if (record != NULL && (record->lent_ms == 0 || at_ms < record->lent_ms))
        record->lent_ms = at_ms;
}

void monitor_count_held(struct monitor *monitor, const char *cluster, uint64_t hold,
                        const struct switchover *counts)
{
    struct switchover *record = record_of(monitor, cluster, hold);

    if (record == NULL)
        return;
    record->n_held += counts->n_held;
    record->n_replayed += counts->n_replayed;
    record->n_lost += counts->n_lost;
    record->n_unknown += counts->n_unknown;
    if (counts->longest_wait_ms > record->longest_wait_ms)
        record->longest_wait_ms = counts->longest_wait_ms;
}

/* ---- what operators say ---- */

bool monitor_set_word(struct monitor *monitor, const char *cluster_name, const char *node,
                      enum node_word word, const char *who)
{
    static const char *const words[] = {[WORD_NONE] = "nothing",
                                        [WORD_READY] = "ready",
                                        [WORD_DRAIN] = "drain",
                                        [WORD_MAINT] = "maintenance"};
    struct cluster *cluster = find_cluster(monitor, cluster_name);
    int i = find_node(cluster, node);

    if (i < 0)
        return false;
    LOG(INFO, "node state set", TEXT("cluster", cluster_name), TEXT("node", node),
        TEXT("state", words[word]), TEXT("by", who));
    cluster_set_word(cluster, (size_t)i, word);
    return true;
}

bool monitor_set_weight(struct monitor *monitor, const char *cluster_name,
                        const char *node, unsigned weight, const char *who)
{
    struct cluster *cluster = find_cluster(monitor, cluster_name);
    int i = find_node(cluster, node);

    if (i < 0)
        return false;
    LOG(INFO, "node weight set", TEXT("cluster", cluster_name), TEXT("node", node),
        NUMBER("weight", weight), TEXT("by", who));
    cluster_set_weight(cluster, (size_t)i, weight);
    return true;
}

bool monitor_set_address(struct monitor *monitor, const char *cluster_name,
                         const char *node, const struct address *address, const char *who)
{
    struct cluster *cluster = find_cluster(monitor, cluster_name);
    char text[ADDRESS_TEXT_MAX];
    int i = find_node(cluster, node);

    if (i < 0)
        return false;
    if (cluster_set_address(cluster, (size_t)i, address))
        LOG(INFO, "node address set", TEXT("cluster", cluster_name), TEXT("node", node),
            TEXT("address", address_print(&cluster->nodes[i]->addresses[0], text)),
            TEXT("by", who));
    return true;
}

void monitor_reset_counts(struct monitor *monitor)
{
    for (size_t i = 0; i < monitor->n_clusters; i++)
        for (size_t k = 0; k < monitor->clusters[i]->n_nodes; k++) {
            struct node *node = monitor->clusters[i]->nodes[k];

            node->n_failed = node->n_downs = node->down_ms = 0;
            if (node->down_since_ms != 0)
                node->down_since_ms = loop_now_ms(monitor->loop);
        }
}

static void report_cluster(const struct cluster *cluster, struct cluster_report *report)
{
    const struct election *election = &cluster->election;

    *report = (struct cluster_report){
        .name = cluster->config->name,
        .primary =
            election->primary < 0 ? "" : cluster->nodes[election->primary]->config->name,
        .why_no_primary = election->why_no_primary,
        .timeline = election->fence,
        .system_id = election->system_id,
        .has_rivals = election->has_rivals,
        .alarm = cluster->alarm,
        .primary_since_ms = cluster->primary_since_ms,
        .present = hold_present(&cluster->hold),
    };
    for (size_t i = 0; i < cluster->n_nodes; i++)
        report->is_paused =
            report->is_paused || cluster->nodes[i]->verdict.last.is_paused;
}

void monitor_report_clusters(const struct monitor *monitor,
                             void (*each)(void *arg, const struct cluster_report *report),
                             void *arg)
{
    for (size_t i = 0; i < monitor->n_clusters; i++) {
        struct cluster_report report;

        report_cluster(monitor->clusters[i], &report);
        each(arg, &report);
    }
}

void monitor_report_switchovers(const struct monitor *monitor, const char *cluster_name,
                                void (*each)(void *arg,
                                             const struct switchover *switchover),
                                void *arg)
{
    struct cluster *cluster = find_cluster(monitor, cluster_name);
    uint64_t last = cluster == NULL ? 0 : cluster->hold.number;

    for (uint64_t n = last > SWITCHOVERS_KEPT ? last - SWITCHOVERS_KEPT + 1 : 1;
         n <= last; n++)
        each(arg, hold_record(&cluster->hold, n));
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
        .port = node_port(node),
        .check_port = node->config->check_port,
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
