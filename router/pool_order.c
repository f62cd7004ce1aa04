#include "router/pool_order.h"

#include <string.h>

#include "router/worker.h"

static bool is_of(const struct client *client, const struct pool_order *order)
{
    if (order->kind == ORDER_KILL_CLIENT)
        return client->id == order->client_id;
    return client_is_pooled(client) && client->pool != NULL &&
           (*order->database == '\0' ||
            strcmp(client->pool->account->name, order->database) == 0);
}

static bool kill_clients(struct worker *worker, const struct pool_order *order)
{
    bool is_found = false;

    LIST_EACH_SAFE(item, &worker->clients)
    {
        struct client *client = CONTAINER_OF(item, struct client, in_worker);

        if (client->state == CLIENT_REFUSING || client->state == CLIENT_CLOSING ||
            !is_of(client, order))
            continue;
        is_found = true;
        client_refuse(client, CLOSE_KILLED, NULL);
    }
    return is_found;
}

static bool carry_out(struct worker *worker, struct pool_order *order)
{
    struct pools *pools = &worker->pools;

    switch (order->kind) {
    case ORDER_COUNT:
        return true;
    case ORDER_PAUSE:
        return pools_halt(pools, order->database, HALT_PAUSED, true);
    case ORDER_RESUME:
        return pools_halt(pools, order->database, HALT_PAUSED, false);
    case ORDER_KILL:
        if (!pools_halt(pools, order->database, HALT_PAUSED, true))
            return false;
        (void)kill_clients(worker, order);
        return true;
    case ORDER_DISABLE:
        return pools_halt(pools, order->database, HALT_DISABLED, true);
    case ORDER_ENABLE:
        return pools_halt(pools, order->database, HALT_DISABLED, false);
    case ORDER_RECONNECT:
        pools_renew(pools, order->database);
        return true;
    case ORDER_KILL_CLIENT:
        order->is_found = kill_clients(worker, order) || order->is_found;
        return true;
    }
    UNREACHABLE();
}

static void on_turn(struct message *message, void *receiver)
{
    struct pool_order *order = CONTAINER_OF(message, struct pool_order, message);
    struct worker *worker = receiver;

    if (!worker->is_stopping && !carry_out(worker, order))
        order->lacks_memory = true;
    pools_count_servers(&worker->pools, order->database, &order->n_servers,
                        &order->n_to_close);
    if (++order->worker == order->n_workers)
        mailbox_post(order->home, message, order->on_home);
    else
        mailbox_post(worker->workers[order->worker]->mailbox, message, on_turn);
}

void pool_order_post(struct pool_order *order)
{
    order->worker = 0;
    order->n_servers = order->n_to_close = 0;
    mailbox_post(order->workers[0]->mailbox, &order->message, on_turn);
}
