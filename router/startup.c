#include "router/startup.h"

#include "router/cancel.h"
#include "router/session.h"
#include "router/worker.h"

static void count_bad_request(struct client *client)
{
    struct tally *front =
        tally_get(&client->worker->tallies, client->listener->settings->name, 0);

    if (front != NULL)
        front->bad_requests++;
}

/* A packet that wants a server: the one that has just declined to encrypt, or any. */
static void serve(struct client *client)
{
    if (client->server != NULL)
        session_send_first_packet(client);
    else
        session_begin(client);
}

void startup_advance(struct client *client)
{
    struct startup_packet packet;

    if (client->inbox == NULL)
        return;
    packet = startup_read(client->inbox->bytes + client->inbox->begin,
                          buffer_unread(client->inbox));
    client->first = packet.kind;
    switch (packet.kind) {
    case STARTUP_INCOMPLETE:
        break;
    case STARTUP_SSL:
    case STARTUP_GSSENC:
    case STARTUP_LOGIN:
    case STARTUP_DIRECT_TLS:
        serve(client);
        break;
    case STARTUP_CANCEL:
        session_drop_server(client, false);
        cancel_begin(client, &packet);
        break;
    case STARTUP_UNSUPPORTED:
        count_bad_request(client);
        client_refuse(client, CLOSE_PROTOCOL_TOO_OLD, NULL);
        break;
    case STARTUP_GARBAGE:
        count_bad_request(client);
        client_close(client, CLOSE_NOT_POSTGRESQL);
        break;
    }
}
