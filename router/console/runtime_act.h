/* router/console/runtime_act.h - commands of the runtime socket, carried out.
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_RUNTIME_ACT_H
#define ROUTER_CONSOLE_RUNTIME_ACT_H

#include "router/console/runtime.h"
#include "router/console/runtime_order.h"

/* On what and by whom. */
struct runtime_scene {
    struct doors *doors;
    struct monitor *monitor;
    const struct runtime_source *source;
    void *arg;
    const char *who; /* for the log */
};

/* Commands that change something, or look at what control itself has. Adds the answer. */
void runtime_act(const struct runtime_scene *scene, const struct runtime_order *order,
                 struct text *out);
/* Those that need a picture of all workers. */
void runtime_show(const struct runtime_order *order, const struct overview *overview,
                  struct text *out);

#endif
