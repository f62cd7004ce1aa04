/* router/switchover_client.h - `pgrouter switchover`: has the process that runs with the
 * same configuration carry out SWITCHOVER, on its console. Blocks until it is over.
 */
#ifndef ROUTER_SWITCHOVER_CLIENT_H
#define ROUTER_SWITCHOVER_CLIENT_H

#include "config/config.h"

/* As typed on the command line; NULL = not given. */
struct switchover_wish {
    const char *cluster, *to, *timeout;
};

/* Prints the time line; else a line on standard error says why there is none. */
bool switchover_client_run(const struct config *config,
                           const struct switchover_wish *wish) MUST_CHECK;

#endif
