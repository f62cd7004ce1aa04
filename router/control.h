/* router/control.h - the thread that decides: config, doors, health, signals, pages.
 *
 * It accepts every client and gives it to a worker, keeps the limits, publishes the
 * topology, reloads, and ends the program. It carries no bytes of anybody.
 *
 *   RUNNING --> DRAINING --> STOPPING
 *      '--------------------^
 *
 * Thread: the main thread.
 */
#ifndef ROUTER_CONTROL_H
#define ROUTER_CONTROL_H

#include "config/config.h"
#include "core/text.h"

/* Where the configuration comes from, and comes from again on SIGHUP. */
struct config_source {
    const char *path; /* of the ini file; NULL = the environment */
};

struct config *config_source_load(const struct config_source *source,
                                  struct text *errors) MUST_CHECK;

/* Runs until a signal ends it. `config` stays the caller's. The program's exit status. */
int control_run(struct config *config, const struct config_source *source);

#endif
