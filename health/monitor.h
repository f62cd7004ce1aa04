/* health/monitor.h - keeps the topology true: probes all nodes, weighs what they say.
 *
 * Thread: control only.
 */
#ifndef HEALTH_MONITOR_H
#define HEALTH_MONITOR_H

#include "config/config.h"
#include "core/loop.h"
#include "core/resolver.h"
#include "health/switchover.h"
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
    uint16_t port, check_port; /* of PostgreSQL, and of Patroni; 0 = not given */
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

/* Whether the files for Patroni's REST API can be read, which may block; a line in
 * `errors` for each cluster where not, of which monitor_configure() would make nothing.
 */
bool monitor_check(struct monitor *monitor, const struct config *config,
                   struct text *errors) MUST_CHECK;
/* Reads the certificates for etcd and Patroni that have changed; those that are bad leave
 * what was, with a line in `errors`. Now and then, and before a reload. */
void monitor_read_files(struct monitor *monitor, struct text *errors);
/* How Patroni's REST API of this cluster is asked; NULL: by http. Valid until the next
 * call of the above or of monitor_configure(). */
struct tls_context *monitor_restapi_tls(const struct monitor *monitor,
                                        const char *cluster);

void monitor_evidence(struct monitor *monitor, uint32_t node_id, enum evidence evidence);
/* How many clients wait for a node of this cluster now: while some do, and no primary is
 * there, probing stays fast. */
void monitor_waiting(struct monitor *monitor, const char *cluster, unsigned n_waiting);

/* ---- holds: see health/hold.h ---- */

#define MONITOR_WHY_MAX 160

/* Clients that need the cluster's primary wait from now on. `node`: who is about to go;
 * "" = whoever is the primary. `next`: who is to be it, "" = anybody. `cause` is
 * HOLD_BY_COMMAND or HOLD_BY_HOOK; `sign` says in words who asked. Returns the hold's
 * number; 0 when there can be none: `why` says it. One that is on already is joined. */
uint64_t monitor_hold(struct monitor *monitor, const char *cluster, const char *node,
                      const char *next, enum hold_cause cause, const char *sign,
                      char why[MONITOR_WHY_MAX]);
/* The cause stands no more: a command's switchover has failed, or whoever called the hook
 * has thought better of it. Clients go on once a primary is proven, which may be the one
 * of before. (Another one's proof ends a hold without this.) False when it did not stand.
 */
bool monitor_release(struct monitor *monitor, const char *cluster, enum hold_cause cause);

/* What workers tell of a hold: transactions on the node that leaves, summed over all of
 * them; the first lease after it; and in the end what clients have lived through. */
void monitor_open_transactions(struct monitor *monitor, const char *cluster,
                               uint64_t hold, unsigned n);
void monitor_lent(struct monitor *monitor, const char *cluster, uint64_t hold,
                  uint64_t at_ms);
void monitor_count_held(struct monitor *monitor, const char *cluster, uint64_t hold,
                        const struct switchover *counts);

/* Forgets which timelines and which system identifier the cluster has shown, so that a
 * node on an older timeline may be its primary: what nodes claim now counts. `cluster`:
 * "" = the only one; `user` asks for it, and is logged. False when there is no such
 * cluster, or several: `why` says it. */
bool monitor_reset(struct monitor *monitor, const char *cluster, const char *user,
                   char why[MONITOR_WHY_MAX]) MUST_CHECK;
/* ---- what operators say of a node, which stays through reloads ---- */

/* `who` says it, and from where, for the log. WORD_READY takes back the other two, and
 * what `drain` says. False when there is no such node. */
bool monitor_set_word(struct monitor *monitor, const char *cluster, const char *node,
                      enum node_word word, const char *who) MUST_CHECK;
/* At most NODE_WEIGHT_MAX; 1 where nobody has said anything. */
bool monitor_set_weight(struct monitor *monitor, const char *cluster, const char *node,
                        unsigned weight, const char *who) MUST_CHECK;

/* The node is at that address and port (0 = that of before), whatever is configured:
 * until it is configured otherwise, or the process ends. Servers and sessions that there
 * are stay where they are. */
bool monitor_set_address(struct monitor *monitor, const char *cluster, const char *node,
                         const struct address *address, const char *who) MUST_CHECK;

/* Begins to count failed checks, downs and time spent down anew. */
void monitor_reset_counts(struct monitor *monitor);

/* One cluster as a whole, for views. */
struct cluster_report {
    const char *name;    /* valid until the next monitor_configure() */
    const char *primary; /* "" = none */
    const char *why_no_primary;
    uint32_t timeline; /* highest that a primary has shown; 0 = not known */
    const char *system_id;
    bool has_rivals;   /* two nodes claim to be the primary */
    const char *alarm; /* what somebody should look at, as a sentence; "" = nothing */
    bool is_paused;    /* Patroni's automatic failover is off */
    uint64_t primary_since_ms;        /* loop time; 0 = there is none */
    const struct switchover *present; /* the hold that is on; NULL = none */
};
void monitor_report_clusters(const struct monitor *monitor,
                             void (*each)(void *arg, const struct cluster_report *report),
                             void *arg);
/* Calls `each` for the cluster's last ones, the oldest first. */
void monitor_report_switchovers(const struct monitor *monitor, const char *cluster,
                                void (*each)(void *arg,
                                             const struct switchover *switchover),
                                void *arg);

/* The present topology; never NULL after the first monitor_configure(). Not held. */
struct topology *monitor_topology(const struct monitor *monitor);
/* Calls `each` for every node, in the order of the configuration. */
void monitor_report(const struct monitor *monitor,
                    void (*each)(void *arg, const struct node_report *report), void *arg);
/* True once every node has been asked once. */
bool monitor_is_ready(const struct monitor *monitor);

#endif
