/* health/monitor.h - keeps the topology true: probes all nodes, weighs what they say.
 *
 * Thread: control only.
 */
#ifndef HEALTH_MONITOR_H
#define HEALTH_MONITOR_H

#include "config/config.h"
#include "core/loop.h"
#include "core/resolver.h"
#include "health/topology.h"

struct monitor;

/* What a worker has seen in band. None of it decides anything: it starts one probe of
 * all nodes, and fast probing goes on only while a probe confirms it. */
enum evidence {
    EVIDENCE_REFUSED,       /* connecting was refused, reset or had no route */
    EVIDENCE_SILENT,        /* connecting or logging in took too long */
    EVIDENCE_SHUTTING_DOWN, /* FATAL 57P01, 57P02 or 57P03 */
    EVIDENCE_WANTED,        /* a client waits for a node of a role that is not there */
    EVIDENCE_KIND_COUNT
};

enum report_outcome {
    REPORT_NONE,
    REPORT_OK,
    REPORT_WRONG,
    REPORT_REFUSED,
    REPORT_TIMEOUT
};

/* The last check of one node, for pages and logs. */
struct node_report {
    const char *cluster; /* valid until the next monitor_configure() */
    struct topology_node node;
    const char *source; /* who said so: "patroni", "postgres", "tcp", "" = nobody yet */
    char said[128];     /* in words: "200 running primary", "connection refused", ... */
    int http_status;    /* 0 = none */
    enum report_outcome outcome;
    uint32_t duration_ms;   /* of the last check */
    uint64_t checked_at_ms; /* loop time; 0 = never */
    uint64_t changed_at_ms; /* when it last went up or down; 0 = never */
    uint64_t n_failed;      /* checks */
    uint64_t n_downs;       /* transitions from up to down */
    uint64_t down_ms;       /* time spent down, until now */
    unsigned rise, fall,
        in_a_row; /* in_a_row: checks with the same outcome, at most rise or fall */
};

/* `on_topology` is called for the first topology and for each that differs from the one
 * before in anything that routing uses; `topology` is held by the callee if it wants it.
 * NULL when memory is out. */
struct monitor *monitor_new(struct loop *loop, struct resolver *resolver,
                            void (*on_topology)(void *arg, struct topology *topology),
                            void *arg) MUST_CHECK;
void monitor_free(struct monitor *monitor);

/* At start and on reload: nodes that stay keep their id, verdict and load. False when
 * memory is out; what was configured before goes on then. */
bool monitor_configure(struct monitor *monitor, struct config *config) MUST_CHECK;

void monitor_evidence(struct monitor *monitor, uint32_t node_id, enum evidence evidence);
/* How many clients wait for a node of this cluster now: while some do, and no primary is
 * there, probing stays fast. */
void monitor_waiting(struct monitor *monitor, const char *cluster, unsigned n_waiting);

/* The present topology; never NULL after the first monitor_configure(). Not held. */
struct topology *monitor_topology(const struct monitor *monitor);
/* Calls `each` for every node, in the order of the configuration. */
void monitor_report(const struct monitor *monitor,
                    void (*each)(void *arg, const struct node_report *report), void *arg);
/* True once every node has been asked once. */
bool monitor_is_ready(const struct monitor *monitor);

#endif
