#include "router/peers.h"

#include <stdio.h>
#include <string.h>

#include "core/list.h"
#include "core/memory.h"

struct peer {
    struct link in_peers;
    unsigned id;
    char *host;
    uint16_t port;
    struct resolver_watch *watch; /* NULL: it has a path */
    struct peer_place place;
    bool is_wanted; /* by the newest configuration */
};

struct peers {
    struct resolver *resolver;
    struct list all;
};

struct peers *peers_new(struct resolver *resolver)
{
    struct peers *peers = memory_zeroed(sizeof *peers);

    if (peers == NULL)
        return NULL;
    peers->resolver = resolver;
    list_init(&peers->all);
    return peers;
}

static void drop_peer(struct peers *peers, struct peer *peer)
{
    list_remove(&peers->all, &peer->in_peers);
    if (peer->watch != NULL)
        resolver_unwatch(peer->watch);
    memory_free(peer->host);
    memory_free(peer);
}

void peers_free(struct peers *peers)
{
    if (peers == NULL)
        return;
    LIST_EACH_SAFE(item, &peers->all)
    {
        drop_peer(peers, CONTAINER_OF(item, struct peer, in_peers));
    }
    memory_free(peers);
}

/* The first will do: a peer listens on all that its name means. */
static void on_addresses(void *arg, const struct address *addresses, size_t n,
                         const char *error)
{
    struct peer *peer = arg;

    (void)error;
    if (n == 0)
        return;
    peer->place.address = addresses[0];
    address_set_port(&peer->place.address, peer->port);
}

static bool find_place(struct peers *peers, struct peer *peer)
{
    if (*peer->host != '/') {
        peer->watch = resolver_watch(peers->resolver, peer->host, on_addresses, peer);
        return peer->watch != NULL;
    }
    snprintf(peer->place.path, sizeof peer->place.path, "%.90s/.s.PGSQL.%u", peer->host,
             peer->port);
    return true;
}

static bool add_peer(struct peers *peers, const struct peer_config *config)
{
    struct peer *peer = memory_zeroed(sizeof *peer);

    if (peer == NULL)
        return false;
    list_append(&peers->all, &peer->in_peers);
    peer->id = config->id;
    peer->port = (uint16_t)config->port;
    peer->host = memory_text(config->host);
    peer->is_wanted = true;
    if (peer->host != NULL && find_place(peers, peer))
        return true;
    drop_peer(peers, peer);
    return false;
}

static struct peer *find_peer(struct peers *peers, unsigned id)
{
    LIST_EACH(item, &peers->all)
    {
        struct peer *peer = CONTAINER_OF(item, struct peer, in_peers);

        if (peer->id == id)
            return peer;
    }
    return NULL;
}

static bool is_same(const struct peer *peer, const struct peer_config *config)
{
    return strcmp(peer->host, config->host) == 0 && peer->port == config->port;
}

bool peers_configure(struct peers *peers, const struct config *config)
{
    bool ok = true;

    LIST_EACH(item, &peers->all)
    {
        struct peer *peer = CONTAINER_OF(item, struct peer, in_peers);
        const struct peer_config *now = config_peer(config, peer->id);

        peer->is_wanted = now != NULL && is_same(peer, now);
    }
    LIST_EACH_SAFE(item, &peers->all)
    {
        struct peer *peer = CONTAINER_OF(item, struct peer, in_peers);

        if (!peer->is_wanted)
            drop_peer(peers, peer);
    }
    for (size_t i = 0; i < config->n_peers; i++)
        if (find_peer(peers, config->peers[i].id) == NULL)
            ok = add_peer(peers, &config->peers[i]) && ok;
    return ok;
}

void peers_answer(struct peers *peers, struct peer_question *question)
{
    const struct peer *peer = find_peer(peers, question->id);

    question->is_found = peer != NULL && (*peer->place.path != '\0' ||
                                          peer->place.address.sa.sa_family != AF_UNSPEC);
    if (question->is_found)
        question->place = peer->place;
    mailbox_post(question->home, &question->message, question->on_answer);
}
