/* router/console/switching.h - SWITCHOVER, carried out.
 *
 *   ASKING    Patroni of the primary is asked who is who: nobody has noticed anything yet
 *   DRAINING  clients are held; transactions on the old primary may end
 *   ASKED     Patroni is asked for the switchover; the monitor sees what comes of it
 *   LENDING   the hold is over; the first client gets its server
 *
 * Whatever goes wrong ends the hold at once. Who has asked may leave: it goes on.
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_SWITCHING_H
#define ROUTER_CONSOLE_SWITCHING_H

#include "config/config.h"
#include "core/loop.h"
#include "health/monitor.h"
#include "router/console/order.h"

#define SWITCHING_STEPS_MAX 8

struct switching_step {
    const char *name;
    uint64_t ms; /* since the hold began */
    char detail[200];
};

struct switching_answer {
    const char *sqlstate; /* NULL: it is done, and these are its steps */
    char why[512];
    struct switching_step steps[SWITCHING_STEPS_MAX];
    size_t n_steps;
};

struct switching;

/* NULL when memory is out. */
struct switching *switching_new(struct loop *loop, struct monitor *monitor) MUST_CHECK;
/* What is under way ends with 57P01. Before the monitor is freed; NULL is fine. */
void switching_free(struct switching *switching);

/* `config` is what the monitor has now; `user` has asked. `on_end` is called once, maybe
 * from within; what `answer` points to is gone afterwards. */
void switching_begin(struct switching *switching, struct config *config,
                     const struct switchover_order *order, const char *user,
                     void (*on_end)(void *arg, const struct switching_answer *answer),
                     void *arg);
/* The topology has changed: what is under way is looked at in the next iteration. */
void switching_wake(struct switching *switching);

#endif
