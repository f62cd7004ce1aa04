/* router/console/runtime.h - the runtime socket: HAProxy's commands, for scripts and
 * tools that know them.
 *
 *   echo "show stat" | socat stdio /run/pgrouter/runtime.sock
 *
 * One line in a connection, of commands between ';', or more behind `prompt`. Who is
 * silent for too long, or does not read, is closed. While RUNTIME_VISITORS_MAX are there,
 * more wait in the kernel's line.
 *
 * Backends and servers are called as in the CSV (views.h): by listener and node; a
 * cluster may stand in place of the listener. A node's state and weight are the same
 * behind all listeners.
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_RUNTIME_H
#define ROUTER_CONSOLE_RUNTIME_H

#include "health/monitor.h"
#include "router/console/overview.h"
#include "router/console/runtime_roll.h"

#define RUNTIME_VISITORS_MAX 32u

struct runtime;

/* What it needs of its owner. */
struct runtime_source {
    /* Sends the message round; its on_home is the runtime's own. False: not now. */
    bool (*begin_gathering)(void *arg, struct gather *gather);
    bool (*begin_roll)(void *arg, struct roll *roll);
    /* Fills in the numbers that are the owner's. */
    void (*describe)(void *arg, struct overview *overview);
    /* max_client_conn until the next reload; false: it is more than there can be. */
    bool (*set_max_clients)(void *arg, unsigned n);
    /* A limit of a listener has been raised. */
    void (*admit)(void *arg);
};

/* NULL when memory is out. */
struct runtime *runtime_new(struct loop *loop, struct doors *doors,
                            struct monitor *monitor, const struct runtime_source *source,
                            void *arg) MUST_CHECK;
/* Everything that was sent round must be home, and the loop must still run its deferred
 * functions once. NULL is fine. */
void runtime_free(struct runtime *runtime);
/* Listens where `stats` says, and no longer elsewhere. False and a line in `errors` when
 * that cannot be had: then nothing has changed. */
bool runtime_configure(struct runtime *runtime, const struct stats_config *stats,
                       int backlog, struct text *errors) MUST_CHECK;

#endif
