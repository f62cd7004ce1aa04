/* router/console/scrapes.h - requests for /metrics: a picture of all workers, written
 * piece by piece (metrics.h).
 *
 * Requests that come meanwhile share it, unless they ask for the other format.
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_SCRAPES_H
#define ROUTER_CONSOLE_SCRAPES_H

#include "router/console/pages.h"
#include "router/console/web.h"

struct scrapes;

/* NULL when memory is out. */
struct scrapes *scrapes_new(struct loop *loop, const struct doors *doors,
                            struct monitor *monitor, const struct pages_source *source,
                            void *arg) MUST_CHECK;
/* No gather may be under way. NULL is fine. */
void scrapes_free(struct scrapes *scrapes);
/* Answers it, in the format that it accepts, in a while. */
void scrapes_take(struct scrapes *scrapes, struct web_request *request);

#endif
