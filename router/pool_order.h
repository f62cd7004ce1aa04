/* router/pool_order.h - what an operator says of a database, or of a client: one message
 * that goes round all workers.
 *
 * Thread: whoever has the message.
 */
#ifndef ROUTER_POOL_ORDER_H
#define ROUTER_POOL_ORDER_H

#include "core/mailbox.h"
#include "health/topology.h"

struct worker;

enum pool_order_kind {
    ORDER_COUNT, /* nothing is done */
    ORDER_PAUSE,
    ORDER_RESUME,
    ORDER_KILL, /* PAUSE, and all its clients are sent away */
    ORDER_DISABLE,
    ORDER_ENABLE,
    ORDER_RECONNECT, /* servers are closed when they come back */
    ORDER_KILL_CLIENT
};

struct pool_order {
    struct message message;
    enum pool_order_kind kind;
    char database[NODE_NAME_MAX]; /* "" = all */
    uint64_t client_id;
    struct worker **workers;
    unsigned n_workers;
    unsigned worker; /* whose turn it is */
    struct mailbox *home;
    void (*on_home)(struct message *message, void *control);
    /* What all have answered. */
    unsigned n_servers, n_to_close; /* of the database */
    bool is_found;                  /* the client */
    bool lacks_memory;
};

/* Begins it anew at the first worker. */
void pool_order_post(struct pool_order *order);

#endif
