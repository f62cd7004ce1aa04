/* tests/threads/snapshots.c - topologies and configurations that all threads hold and
 * release while new ones take their places.
 *
 * Nobody sees one that is freed or half made; the last one to let go frees it.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/config.h"
#include "core/mailbox.h"
#include "router/listener.h"
#include "tests/lib/map.h"

#define READERS 6
#define SNAPSHOTS 2000
#define NODES 4
#define CLIENTS 50

/* A thread that keeps the newest of each, and some of the old ones. */
struct reader {
    pthread_t thread;
    struct loop *loop;
    struct mailbox *mailbox;
    struct topology *topology;
    struct listener *listener;
    struct topology *kept[CLIENTS];
    struct listener *came_by[CLIENTS];
    unsigned n_seen;
};

struct news {
    struct message message;
    struct topology *topology; /* held */
    struct listener *listener; /* held */
};

static struct reader readers[READERS];
static struct node_load *loads[NODES];

/* Generation and numbers belong together; the load is shared by all generations. */
static void look_at(const struct topology *topology)
{
    const struct topology_cluster *cluster = topology_cluster(topology, "main");

    REQUIRE(cluster != NULL && cluster->n_nodes == NODES);
    for (size_t i = 0; i < NODES; i++) {
        const struct topology_node *node = &cluster->nodes[i];

        REQUIRE(node->timeline == (uint32_t)topology->generation);
        REQUIRE(node->load == loads[i]);
        atomic_fetch_add_explicit(&node->load->n_sessions, 1, memory_order_relaxed);
        atomic_fetch_sub_explicit(&node->load->n_sessions, 1, memory_order_relaxed);
    }
}

static void look_at_listener(struct listener *listener)
{
    REQUIRE(config_listener(listener->config, "rw") == listener->settings);
    atomic_fetch_add_explicit(&listener->turn, 1, memory_order_relaxed);
}

static void let_go(struct reader *reader, unsigned i)
{
    if (reader->kept[i] == NULL)
        return;
    look_at(reader->kept[i]);
    look_at_listener(reader->came_by[i]);
    topology_release(reader->kept[i]);
    listener_release(reader->came_by[i]);
    reader->kept[i] = NULL;
}

static void on_news(struct message *message, void *receiver)
{
    struct news *news = CONTAINER_OF(message, struct news, message);
    struct reader *reader = receiver;
    unsigned i = reader->n_seen++ * 7 % CLIENTS;

    topology_release(reader->topology);
    listener_release(reader->listener);
    reader->topology = news->topology;
    reader->listener = news->listener;
    free(news);
    look_at(reader->topology);
    look_at_listener(reader->listener);
    let_go(reader, i);
    reader->kept[i] = topology_hold(reader->topology);
    reader->came_by[i] = listener_hold(reader->listener);
    if (reader->n_seen == SNAPSHOTS)
        loop_stop(reader->loop);
}

static void *read_news(void *arg)
{
    struct reader *reader = arg;

    loop_run(reader->loop);
    for (unsigned i = 0; i < CLIENTS; i++)
        let_go(reader, i);
    topology_release(reader->topology);
    listener_release(reader->listener);
    return NULL;
}

static struct topology *make_topology(uint64_t generation)
{
    struct topology *topology = map_new("main", NODES);

    topology->generation = generation;
    for (size_t i = 0; i < NODES; i++) {
        struct topology_node *node = &topology->clusters[0].nodes[i];

        node->timeline = (uint32_t)generation;
        node_load_release(node->load);
        node->load = node_load_hold(loads[i]);
    }
    return topology;
}

static struct listener *make_listener(void)
{
    struct text errors;
    struct config *config;
    struct listener *listener;

    text_init(&errors, 1000);
    config = config_load_text("test",
                              "[cluster main]\nnodes = n1:5432:8008\n"
                              "[listener rw]\nbind = *:5000\n",
                              &errors);
    REQUIRE(config != NULL);
    listener = listener_new(config, &config->listeners[0]);
    REQUIRE(listener != NULL);
    config_release(config); /* the listener keeps it */
    text_clear(&errors);
    return listener;
}

static void tell_all(struct topology *topology, struct listener *listener)
{
    for (unsigned i = 0; i < READERS; i++) {
        struct news *news = calloc(1, sizeof *news);

        REQUIRE(news != NULL);
        news->topology = topology_hold(topology);
        news->listener = listener_hold(listener);
        mailbox_post(readers[i].mailbox, &news->message, on_news);
    }
}

int main(void)
{
    struct listener *listener = make_listener();

    for (unsigned i = 0; i < NODES; i++)
        loads[i] = node_load_new();
    for (unsigned i = 0; i < READERS; i++) {
        readers[i].loop = loop_new(false);
        REQUIRE(readers[i].loop != NULL);
        readers[i].mailbox = mailbox_new(readers[i].loop, &readers[i]);
        REQUIRE(readers[i].mailbox != NULL);
        REQUIRE(pthread_create(&readers[i].thread, NULL, read_news, &readers[i]) == 0);
    }
    for (unsigned i = 1; i <= SNAPSHOTS; i++) {
        struct topology *topology = make_topology(i);

        if (i % 50 == 0) { /* a reload */
            listener_release(listener);
            listener = make_listener();
        }
        tell_all(topology, listener);
        look_at(topology);
        topology_release(topology);
    }
    listener_release(listener);
    for (unsigned i = 0; i < READERS; i++) {
        REQUIRE(pthread_join(readers[i].thread, NULL) == 0);
        mailbox_free(readers[i].mailbox);
        loop_free(readers[i].loop);
    }
    for (unsigned i = 0; i < NODES; i++) {
        REQUIRE(atomic_load(&loads[i]->references) == 1);
        REQUIRE(atomic_load(&loads[i]->n_sessions) == 0);
        node_load_release(loads[i]);
    }
    return 0;
}
