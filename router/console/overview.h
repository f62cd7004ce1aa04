/* router/console/overview.h - what all views show: one picture of one moment.
 *
 * Made by control from its own counts, the monitor's reports and what was gathered from
 * the workers; views print it and count nothing by themselves.
 */
#ifndef ROUTER_CONSOLE_OVERVIEW_H
#define ROUTER_CONSOLE_OVERVIEW_H

#include "health/monitor.h"
#include "router/door.h"
#include "router/gather.h"
#include "router/tally.h"

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

/* A cluster that is held, or was. */
struct overview_cluster {
    char name[NODE_NAME_MAX];
    bool is_held, has_last;
    struct switchover present; /* that holds it */
    struct switchover last;    /* that is over */
};

struct overview {
    const struct config *config;
    const struct gather *gather;
    const struct topology *topology;
    struct overview_listener *listeners;
    size_t n_listeners;
    struct overview_cluster *clusters;
    size_t n_clusters;
    unsigned n_admitted;
    unsigned n_in_line;
    uint64_t now_ms; /* loop time */
    uint64_t uptime_ms;
    double longest_iteration_ms; /* of control */
};

/* Fills in listeners, servers and clusters; config, topology, gather and the numbers are
 * the caller's to set first, and must live as long. False when memory is out. */
bool overview_take(struct overview *overview, const struct doors *doors,
                   const struct monitor *monitor) MUST_CHECK;
void overview_clear(struct overview *overview);

#endif
