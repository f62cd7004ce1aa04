/* router/healthcheck.h - `pgrouter healthcheck`: asks the process that runs with the same
 * configuration whether it is alive, as HEALTHCHECK of an image wants it. Blocks for two
 * seconds at most.
 */
#ifndef ROUTER_HEALTHCHECK_H
#define ROUTER_HEALTHCHECK_H

#include "config/config.h"

/* Whether /healthz of [stats] answers 200 or, without [stats], the first listener accepts
 * connections; else a line on standard error says why not. */
bool healthcheck_run(const struct config *config) MUST_CHECK;

/* Where a process on this machine is reached that listens there: a name or a number, for
 * an endpoint that is no unix socket. */
const char *healthcheck_host_of(const struct endpoint *endpoint);

#endif
