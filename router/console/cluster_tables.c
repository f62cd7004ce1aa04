#include "router/console/cluster_tables.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/memory.h"
#include "router/console/row.h"

/* ---- copies -------------------------------------------------------------------------
 */

/* While a copy is made. */
struct copying {
    struct cluster_tables *tables;
    const struct monitor *monitor;
    const char *cluster; /* whose switchovers come */
    unsigned (*count_waiting)(void *arg, const char *cluster);
    void *arg;
};

static void copy(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from == NULL ? "" : from);
}

static void take_cluster(void *arg, const struct cluster_report *report)
{
    struct copying *copying = arg;
    struct cluster_tables *tables = copying->tables;
    struct cluster_row *row,
        *rows = memory_resized(tables->clusters, (tables->n_clusters + 1) * sizeof *rows);

    if (rows == NULL) {
        tables->is_incomplete = true;
        return;
    }
    tables->clusters = rows;
    row = &rows[tables->n_clusters++];
    *row = (struct cluster_row){.report = *report};
    copy(row->name, sizeof row->name, report->name);
    copy(row->primary, sizeof row->primary, report->primary);
    copy(row->why_no_primary, sizeof row->why_no_primary, report->why_no_primary);
    copy(row->system_id, sizeof row->system_id, report->system_id);
    copy(row->alarm, sizeof row->alarm, report->alarm);
    if (report->present != NULL)
        row->present = *report->present;
    row->n_waiting = copying->count_waiting(copying->arg, report->name);
}

static void take_node(void *arg, const struct node_report *report)
{
    struct copying *copying = arg;
    struct cluster_tables *tables = copying->tables;
    struct node_row *row,
        *rows = memory_resized(tables->nodes, (tables->n_nodes + 1) * sizeof *rows);

    if (rows == NULL) {
        tables->is_incomplete = true;
        return;
    }
    tables->nodes = rows;
    row = &rows[tables->n_nodes++];
    *row = (struct node_row){.report = *report};
    copy(row->cluster, sizeof row->cluster, report->cluster);
    row->n_sessions = atomic_load(&report->node.load->n_sessions);
}

static void take_switchover(void *arg, const struct switchover *switchover)
{
    struct copying *copying = arg;
    struct cluster_tables *tables = copying->tables;
    struct switchover_row *row,
        *rows = memory_resized(tables->switchovers,
                               (tables->n_switchovers + 1) * sizeof *rows);

    if (rows == NULL) {
        tables->is_incomplete = true;
        return;
    }
    tables->switchovers = rows;
    row = &rows[tables->n_switchovers++];
    *row = (struct switchover_row){.switchover = *switchover};
    copy(row->cluster, sizeof row->cluster, copying->cluster);
}

static void take_switchovers(void *arg, const struct cluster_report *report)
{
    struct copying *copying = arg;

    copying->cluster = report->name;
    monitor_report_switchovers(copying->monitor, report->name, take_switchover, copying);
}

bool cluster_tables_take(struct cluster_tables *tables, enum view_name view,
                         const struct monitor *monitor, uint64_t now_ms,
                         unsigned (*count_waiting)(void *arg, const char *cluster),
                         void *arg)
{
    struct copying copying = {tables, monitor, "", count_waiting, arg};

    tables->now_ms = now_ms;
    if (view == VIEW_CLUSTERS)
        monitor_report_clusters(monitor, take_cluster, &copying);
    else if (view == VIEW_NODES)
        monitor_report(monitor, take_node, &copying);
    else if (view == VIEW_SWITCHOVERS)
        monitor_report_clusters(monitor, take_switchovers, &copying);
    return !tables->is_incomplete;
}

void cluster_tables_clear(struct cluster_tables *tables)
{
    memory_free(tables->clusters);
    memory_free(tables->nodes);
    memory_free(tables->switchovers);
    *tables = (struct cluster_tables){.n_nodes = 0};
}

/* ---- rows ---------------------------------------------------------------------------
 */

static void row_or_null(struct row *row, const char *text)
{
    row_text(row, *text == '\0' ? NULL : text);
}

/* A moment of the loop's clock; NULL = it has not come. */
static void row_moment(struct row *row, uint64_t now_ms, uint64_t at_ms)
{
    if (at_ms == 0)
        row_text(row, NULL);
    else
        row_time(row, time(NULL) - (time_t)((now_ms - at_ms) / 1000));
}

static void row_positive(struct row *row, int64_t number)
{
    if (number > 0)
        row_number(row, number);
    else
        row_text(row, NULL);
}

static void write_cluster(struct row *row, const struct cluster_tables *tables, size_t n)
{
    const struct cluster_row *cluster = &tables->clusters[n];
    bool is_held = cluster->report.present != NULL;

    row_text(row, cluster->name);
    row_or_null(row, cluster->primary);
    row_positive(row, cluster->report.timeline);
    row_or_null(row, cluster->system_id);
    row_positive(row, is_held ? (int64_t)cluster->present.number : 0);
    row_text(row, is_held ? hold_cause_name(cluster->present.cause) : NULL);
    row_text(row, is_held ? cluster->present.sign : NULL);
    row_moment(row, tables->now_ms, is_held ? cluster->present.held_ms : 0);
    row_number(row, cluster->n_waiting);
    row_number(row, cluster->report.is_paused);
    row_number(row, cluster->report.has_rivals);
    row_or_null(row, cluster->why_no_primary);
    row_moment(row, tables->now_ms, cluster->report.primary_since_ms);
    row_or_null(row, cluster->alarm);
}

static void write_node(struct row *row, const struct cluster_tables *tables, size_t n)
{
    const struct node_row *line = &tables->nodes[n];
    const struct node_report *report = &line->report;
    const struct topology_node *node = &report->node;
    char number[ADDRESS_TEXT_MAX];

    row_text(row, line->cluster);
    row_text(row, node->name);
    row_text(row, node->host);
    row_number(row, report->port);
    row_positive(row, report->check_port);
    row_text(row, node->n_addresses == 0
                      ? NULL
                      : address_print_host(&node->addresses[0], number));
    row_text(row, node_role_name(node->role));
    row_number(row, node->is_up);
    row_or_null(row, report->said);
    row_or_null(row, report->source);
    row_positive(row, node->timeline);
    if (node->lag_bytes >= 0)
        row_number(row, node->lag_bytes);
    else
        row_text(row, NULL);
    row_number(row, node->is_lagging);
    row_number(row, line->n_sessions);
    row_number(row, node->is_draining);
    row_number(row, node->is_leaving);
    row_number(row, (int64_t)report->n_failed);
    row_number(row, (int64_t)report->n_downs);
    row_number(row, (int64_t)report->down_ms);
    if (report->checked_at_ms == 0) {
        row_text(row, NULL);
        row_text(row, NULL);
    } else {
        row_number(row, (int64_t)(tables->now_ms - report->checked_at_ms));
        row_number(row, report->duration_ms);
    }
    row_number(row, node->is_in_maintenance);
    row_number(row, node->weight);
}

/* Since the first sign; NULL = it has not happened. */
static void row_step(struct row *row, const struct switchover *switchover, uint64_t at_ms)
{
    if (at_ms == 0)
        row_text(row, NULL);
    else
        row_number(row, (int64_t)at_ms - (int64_t)switchover->held_ms);
}

static void write_switchover(struct row *row, const struct cluster_tables *tables,
                             size_t n)
{
    const struct switchover *switchover = &tables->switchovers[n].switchover;

    row_text(row, tables->switchovers[n].cluster);
    row_number(row, (int64_t)switchover->number);
    row_text(row, hold_cause_name(switchover->cause));
    row_text(row, switchover_outcome_name(switchover->outcome));
    row_or_null(row, switchover->from);
    row_or_null(row, switchover->to);
    row_or_null(row, switchover->sign);
    row_time(row, (time_t)switchover->began_at_s);
    row_step(row, switchover, switchover->drained_ms);
    row_step(row, switchover, switchover->gone_ms);
    row_step(row, switchover, switchover->proven_ms);
    row_step(row, switchover, switchover->lent_ms);
    row_step(row, switchover, switchover->ended_ms);
    row_number(row, (int64_t)switchover->n_held);
    row_number(row, (int64_t)switchover->n_replayed);
    row_number(row, (int64_t)switchover->n_lost);
    row_number(row, (int64_t)switchover->n_unknown);
    row_number(row, (int64_t)switchover->longest_wait_ms);
}

size_t cluster_tables_count(const struct cluster_tables *tables, enum view_name view)
{
    return view == VIEW_CLUSTERS ? tables->n_clusters
           : view == VIEW_NODES  ? tables->n_nodes
                                 : tables->n_switchovers;
}

bool cluster_tables_add_row(const struct cluster_tables *tables, enum view_name view,
                            size_t n, uint64_t binary, struct text *out)
{
    struct row row;

    row_begin(&row, view, binary, out);
    if (view == VIEW_CLUSTERS)
        write_cluster(&row, tables, n);
    else if (view == VIEW_NODES)
        write_node(&row, tables, n);
    else
        write_switchover(&row, tables, n);
    return row_end(&row);
}
