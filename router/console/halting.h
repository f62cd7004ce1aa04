/* router/console/halting.h - PAUSE, RESUME, KILL, DISABLE, ENABLE, RECONNECT, WAIT_CLOSE
 * and KILL_CLIENT, carried out over all workers.
 *
 *   the order goes round --> PAUSE and WAIT_CLOSE: again, to count, until nothing is left
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_HALTING_H
#define ROUTER_CONSOLE_HALTING_H

#include "config/config.h"
#include "core/loop.h"
#include "pool/halts.h"
#include "router/console/command.h"
#include "router/pool_order.h"

struct halting;

/* NULL when memory is out. `begin` sends an order round; false: not now. */
struct halting *halting_new(struct loop *loop,
                            bool (*begin)(void *arg, struct pool_order *order),
                            void *arg) MUST_CHECK;
/* Who waits is answered with 57P01; orders that are away must be home. NULL is fine. */
void halting_free(struct halting *halting);
/* What waits for nothing but time is answered with 57P01. */
void halting_stop(struct halting *halting);

/* `operand` is the database or the client's number, "" = none was given; `user` has
 * asked. `on_end` is called once, maybe from within: with NULL, or with an SQLSTATE and
 * why. */
void halting_begin(struct halting *halting, const struct config *config,
                   enum command_name command, const char *operand, const char *user,
                   void (*on_end)(void *arg, const char *sqlstate, const char *why),
                   void *arg);
/* What is in force, for views. */
const struct halts *halting_halts(const struct halting *halting);

#endif
