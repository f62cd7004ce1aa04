/* router/console/overview.h - what all views show: one picture of one moment.
 *
 * Made by control from its own counts, the monitor's reports and what was gathered from
 * the workers; views print it and count nothing by themselves.
 */
#ifndef ROUTER_CONSOLE_OVERVIEW_H
#define ROUTER_CONSOLE_OVERVIEW_H

#include "health/monitor.h"
#include "router/console/events.h"
#include "router/console/history.h"
#include "router/door.h"
#include "router/gather.h"
#include "router/tally.h"

#define OVERVIEW_SWITCHOVERS 5 /* of each cluster */

/* A node, as a listener sees it. */
struct overview_server {
    struct node_report report;
    struct tally tally;
    bool serves; /* new sessions of this listener may go there */
};

struct overview_listener {
    const struct door *door;
    const struct listener_config *settings;
    struct tally front;
    struct tally sum; /* of its servers */
    struct overview_server *servers;
    size_t n_servers, room;
};

struct overview_cluster {
    struct cluster_report report; /* its `present` is what holds it, or NULL */
    struct switchover present;
    struct switchover last[OVERVIEW_SWITCHOVERS]; /* that are over, the newest first */
    unsigned n_last;
    struct node_report *nodes;
    size_t n_nodes, room;
};

struct overview {
    const struct config *config;
    const struct gather *gather; /* with sums, sorted */
    const struct topology *topology;
    const struct history *history;
    const struct events *events;
    struct overview_listener *listeners;
    size_t n_listeners;
    struct overview_cluster *clusters;
    size_t n_clusters;
    bool hides_version; /* nobody is to read which version this is */
    unsigned refresh_s; /* see page.h */
    /* Of those who may act: */
    bool has_admin;       /* there is somebody who may */
    const char *token;    /* what their forms send; NULL: this is not for them */
    const char *last_act; /* "" = there was none yet */
    unsigned n_admitted;
    unsigned n_in_line;
    unsigned max_clients, hard_max_clients; /* max_client_conn, and what there can be */
    bool is_stopping;
    uint64_t now_ms; /* loop time */
    uint64_t uptime_ms;
    double longest_iteration_ms; /* of control */
};

/* Fills in listeners, servers and clusters; the rest is the caller's to set first, and
 * must live as long. False when memory is out. */
bool overview_take(struct overview *overview, const struct doors *doors,
                   const struct monitor *monitor) MUST_CHECK;
void overview_clear(struct overview *overview);

#endif
