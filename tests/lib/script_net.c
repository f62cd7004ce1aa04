#include "tests/lib/script_net.h"

#include <string.h>

#define PEERS_MAX 256

/* The network of the one test of this process. */
static struct {
    struct script_peer *adopted[PEERS_MAX];
    int n_adopted;
    struct {
        uint16_t port;
        struct script_peer *peer; /* NULL: was met */
    } served[PEERS_MAX];
    size_t n_served;
    uint16_t connects[PEERS_MAX]; /* ports */
    size_t n_connects;
    struct script_peer nobody[PEERS_MAX];
    size_t n_nobody;
} net;

void script_net_forget(void)
{
    for (size_t i = 0; i < net.n_nobody; i++)
        script_clear(&net.nobody[i]);
    memset(&net, 0, sizeof net);
}

int script_net_descriptor(struct script_peer *peer)
{
    REQUIRE(net.n_adopted < PEERS_MAX);
    net.adopted[net.n_adopted] = peer;
    peer->fd = SCRIPT_FIRST_FD + net.n_adopted++;
    return peer->fd;
}

void script_net_serve(uint16_t port, struct script_peer *peer)
{
    REQUIRE(net.n_served < PEERS_MAX);
    net.served[net.n_served].port = port;
    net.served[net.n_served++].peer = peer;
}

unsigned script_net_n_connects(uint16_t port)
{
    unsigned n = 0;

    for (size_t i = 0; i < net.n_connects; i++)
        n += net.connects[i] == port;
    return n;
}

static struct script_peer *peer_at(uint16_t port)
{
    struct script_peer *peer;

    for (size_t i = 0; i < net.n_served; i++) {
        peer = net.served[i].peer;
        if (net.served[i].port == port && peer != NULL) {
            net.served[i].peer = NULL;
            return peer;
        }
    }
    REQUIRE(net.n_nobody < PEERS_MAX);
    peer = &net.nobody[net.n_nobody++];
    script_fails(peer, STREAM_REFUSED);
    return peer;
}

void stream_adopt(struct stream *stream, struct loop *loop, int fd,
                  const struct tcp_settings *settings, const struct stream_events *events,
                  void *owner)
{
    (void)settings;
    REQUIRE(fd >= SCRIPT_FIRST_FD && fd < SCRIPT_FIRST_FD + net.n_adopted);
    script_adopt(stream, loop, net.adopted[fd - SCRIPT_FIRST_FD], events, owner);
}

void stream_connect(struct stream *stream, struct loop *loop,
                    const struct address *address, const struct tcp_settings *settings,
                    const struct stream_events *events, void *owner)
{
    uint16_t port = address_port(address);

    (void)settings;
    REQUIRE(net.n_connects < PEERS_MAX);
    net.connects[net.n_connects++] = port;
    script_connect(stream, loop, peer_at(port), events, owner);
}
