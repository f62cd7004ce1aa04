/* router/console/metrics.h - /metrics: metrics.def as OpenMetrics, or as what Prometheus
 * had before.
 *
 * Written in pieces, of which none takes longer than a millisecond: what there is of
 * listeners and nodes in the first, what there is of pools in the others.
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_METRICS_H
#define ROUTER_CONSOLE_METRICS_H

#include "router/console/overview.h"
#include "router/console/tables.h"

enum metrics_format { METRICS_TEXT, METRICS_OPEN };

/* What the process is. */
struct metrics_process {
    double start_s, cpu_s;
    double resident_bytes, virtual_bytes;
    double n_fds, max_fds;
    bool is_ready;
};
void metrics_look_at_process(struct metrics_process *process, uint64_t uptime_ms);

struct metrics {
    enum metrics_format format;
    const struct overview *overview;       /* for the first piece */
    const struct snapshot *snapshot;       /* with sums, and prepared; for all pieces */
    const struct cluster_tables *clusters; /* clusters, nodes, switchovers; as overview */
    struct metrics_process process;
    struct text out;
    size_t family, row; /* where to go on */
};

const char *metrics_content_type(enum metrics_format format);
/* All that the overview is needed for. */
void metrics_write_first(struct metrics *metrics);
/* Writes one more piece; true: it was the last. `out` says whether it has overflowed. */
bool metrics_write(struct metrics *metrics);

#endif
