/* router/console/order.h - SWITCHOVER and RESET CLUSTER, understood. Pure.
 *
 *   SWITCHOVER [cluster] [TO node] [TIMEOUT duration]
 *   RESET CLUSTER [cluster]
 *
 * A name in double or single quotes may be TO or TIMEOUT. Names are taken as they are
 * written: capitals count.
 */
#ifndef ROUTER_CONSOLE_ORDER_H
#define ROUTER_CONSOLE_ORDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/check.h"
#include "health/topology.h"

struct switchover_order {
    char cluster[NODE_NAME_MAX]; /* "" = the only one there is */
    char to[NODE_NAME_MAX];      /* "" = Patroni may choose */
    int64_t drain_ms;            /* for transactions to end; -1 = as it is configured */
};

/* Reads `n` bytes of `text`, behind SWITCHOVER. False: `*why` says what is wrong, a
 * constant; else it is NULL. */
bool order_read(const char *text, size_t n, struct switchover_order *order,
                const char **why) MUST_CHECK;
/* The same of a whole RESET CLUSTER, which sets order->cluster. False and NULL in `*why`:
 * it is something else. */
bool order_read_reset(const char *text, size_t n, struct switchover_order *order,
                      const char **why) MUST_CHECK;

/* One name, or none (""), as SWITCHOVER has them; false when it is something else. */
bool order_read_name(const char *text, size_t n, char name[NODE_NAME_MAX]) MUST_CHECK;

#endif
