/* router/console/api_runs.h - requests for /api/v1: rows of the desk, piece by piece
 * (api.h).
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_API_RUNS_H
#define ROUTER_CONSOLE_API_RUNS_H

#include "router/console/pages.h"
#include "router/console/web.h"

#define API_PATH "/api/v1"

struct api_runs {
    struct loop *loop;
    const struct pages_source *source;
    void *arg;
    unsigned n;
    struct list here; /* struct api_run: those that are not at the desk */
};

void api_runs_init(struct api_runs *runs, struct loop *loop,
                   const struct pages_source *source, void *arg);
/* No question may be at the desk. */
void api_runs_clear(struct api_runs *runs);

/* Whether the target is the API's. */
bool api_is_meant(const char *target);
/* Answers it, in a while. */
void api_take(struct api_runs *runs, struct web_request *request);

#endif
