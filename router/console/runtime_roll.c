#include "router/console/runtime_roll.h"

#include "router/worker.h"

/* Some 300 us of a worker's time. */
#define CLIENTS_PER_PIECE 200u

static const char *server_of(const struct client *client, const struct worker *worker)
{
    const struct topology_node *node = NULL;

    if (worker->topology == NULL)
        return "<none>";
    if (client_is_pooled(client))
        node = client->lease == NULL
                   ? NULL
                   : topology_node(worker->topology, client->lease->node_id);
    else if (client->tally != NULL)
        node = topology_node(worker->topology, client->tally->node_id);
    return node == NULL ? "<none>" : node->name;
}

static void write_client(struct roll *roll, const struct worker *worker,
                         const struct client *client)
{
    const char *listener = client->listener->settings->name, *server;
    char address[ADDRESS_TEXT_MAX];

    server = server_of(client, worker);
    text_addf(
        &roll->lines,
        "0x%llx: proto=%s src=%s fe=%s be=%s srv=%s ts=%s age=%llus in=%llu "
        "out=%llu worker=%u\n",
        (unsigned long long)client->id,
        client->peer.sa.sa_family == AF_UNIX    ? "unix_stream"
        : client->peer.sa.sa_family == AF_INET6 ? "tcpv6"
                                                : "tcpv4",
        address_print(&client->peer, address), listener,
        client->console != NULL ? "<NONE>" : listener, server,
        client_state_name(client->state),
        (unsigned long long)((loop_now_ms(worker->loop) - client->accepted_at_ms) / 1000),
        (unsigned long long)client->n_bytes[0], (unsigned long long)client->n_bytes[1],
        worker->number);
}

/* False: there are more. */
static bool write_piece(struct roll *roll, const struct worker *worker)
{
    const struct list *clients = &worker->clients;
    struct link *item = worker_next_client(clients, roll->id);

    for (unsigned n = 0; item != NULL; n++) {
        const struct client *client = CONTAINER_OF(item, struct client, in_worker);

        if (client->id <= roll->id)
            break; /* once round */
        if (n == CLIENTS_PER_PIECE)
            return false;
        write_client(roll, worker, client);
        roll->id = client->id;
        item = item->next != &clients->head ? item->next : clients->head.next;
    }
    return true;
}

static void on_turn(struct message *message, void *receiver);

static void on_home(struct message *message, void *receiver)
{
    struct roll *roll = CONTAINER_OF(message, struct roll, message);

    if (roll->worker == roll->n_workers || roll->lines.overflowed)
        roll->on_home(message, receiver);
    else
        mailbox_post(roll->workers[roll->worker]->mailbox, message, on_turn);
}

static void on_turn(struct message *message, void *receiver)
{
    struct roll *roll = CONTAINER_OF(message, struct roll, message);

    if (write_piece(roll, receiver)) {
        roll->worker++;
        roll->id = 0;
    }
    mailbox_post(roll->home, message, on_home);
}

void roll_begin(struct roll *roll)
{
    mailbox_post(roll->workers[0]->mailbox, &roll->message, on_turn);
}
