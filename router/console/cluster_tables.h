/* router/console/cluster_tables.h - SHOW CLUSTERS, NODES and SWITCHOVERS: what the
 * monitor reports, copied at one moment, and its rows.
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_CLUSTER_TABLES_H
#define ROUTER_CONSOLE_CLUSTER_TABLES_H

#include "core/text.h"
#include "health/monitor.h"
#include "health/sample.h"
#include "router/console/command.h"

struct cluster_row {
    char name[NODE_NAME_MAX];
    char primary[NODE_NAME_MAX];
    char why_no_primary[160];
    char system_id[SYSTEM_ID_MAX];
    char alarm[256];
    struct cluster_report report; /* its pointers are dead but for `present` */
    struct switchover present;
    unsigned n_waiting;
};

struct node_row {
    char cluster[NODE_NAME_MAX];
    struct node_report report; /* its `cluster` is dead */
    unsigned n_sessions;
};

struct switchover_row {
    char cluster[NODE_NAME_MAX];
    struct switchover switchover;
};

/* Those of one view: the others are empty. */
struct cluster_tables {
    struct cluster_row *clusters;
    size_t n_clusters;
    struct node_row *nodes;
    size_t n_nodes;
    struct switchover_row *switchovers;
    size_t n_switchovers;
    uint64_t now_ms; /* loop time */
    bool is_incomplete;
};

/* `view` may be any; `count_waiting` says how many clients wait for a node of the
 * cluster. False when memory is out; to be cleared in any case. */
bool cluster_tables_take(struct cluster_tables *tables, enum view_name view,
                         const struct monitor *monitor, uint64_t now_ms,
                         unsigned (*count_waiting)(void *arg, const char *cluster),
                         void *arg) MUST_CHECK;
void cluster_tables_clear(struct cluster_tables *tables); /* a zeroed one is fine */

/* How many rows the view has, and the n-th as one DataRow; false: there was no room. */
size_t cluster_tables_count(const struct cluster_tables *tables, enum view_name view);
bool cluster_tables_add_row(const struct cluster_tables *tables, enum view_name view,
                            size_t n, uint64_t binary, struct text *out) MUST_CHECK;

#endif
