/* tests/lib/picture.h - an overview made by hand: what the views of router/console/
 * print.
 */
#ifndef TESTS_LIB_PICTURE_H
#define TESTS_LIB_PICTURE_H

#include <string.h>

#include "router/console/overview.h"
#include "router/console/sums.h"

#define PICTURE_LISTENERS 2
#define PICTURE_SERVERS 3

/* Two listeners, rw with n1, n2, n3 behind it and ro with n1 alone; every number is
 * another one. */
struct picture {
    struct overview overview;
    struct config config;
    struct gather gather;
    struct topology topology;
    struct topology_cluster cluster;
    struct topology_node nodes[PICTURE_SERVERS];
    struct cluster_config cluster_config;
    struct listener_config settings[PICTURE_LISTENERS];
    struct listener listeners[PICTURE_LISTENERS];
    struct door doors[PICTURE_LISTENERS];
    struct overview_listener shown[PICTURE_LISTENERS];
    struct overview_server servers[PICTURE_LISTENERS][PICTURE_SERVERS];
    struct endpoint binds[PICTURE_LISTENERS];
    struct overview_cluster report;
    struct node_report reports[PICTURE_SERVERS];
    struct node_load load;
    struct history history;
    struct events events;
    struct sums sums;
    struct pool_sum pool;
};

static inline char *picture_text(const char *text)
{
    return (char *)(uintptr_t)text;
}

static inline void picture_fill(struct tally *tally, uint64_t from)
{
#define TALLY(name, how, text) tally->name = from++;
#include "router/tally.def"
}

static inline void picture_server(struct picture *picture, unsigned listener, unsigned i)
{
    struct overview_server *server = &picture->servers[listener][i];

    server->report = (struct node_report){
        .cluster = "main",
        .node = picture->nodes[i],
        .source = "patroni",
        .said = "200 running primary",
        .http_status = 200,
        .outcome = REPORT_OK,
        .duration_ms = 11 + i,
        .checked_at_ms = 99000,
        .changed_at_ms = 40000,
        .n_failed = 13 + i,
        .n_downs = 17 + i,
        .down_ms = 19000,
        .rise = 1,
        .fall = 2,
        .in_a_row = 1,
    };
    server->serves = true;
    picture_fill(&server->tally, 1000 * (listener + 1) + 100 * (i + 1));
    tally_add(&picture->shown[listener].sum, &server->tally);
    picture->shown[listener].n_servers = i + 1;
}

static inline void picture_listener(struct picture *picture, unsigned i)
{
    static const char *const names[] = {"rw", "ro"};

    picture->binds[i] =
        (struct endpoint){.host = picture_text("*"), .port = (uint16_t)(5000 + i)};
    picture->settings[i] = (struct listener_config){
        .name = picture_text(names[i]),
        .to = &picture->cluster_config,
        .bind = {.items = &picture->binds[i], .n = 1},
        .role = i == 0 ? ROLE_PRIMARY : ROLE_READ_ONLY,
        .check_uri = picture_text(""),
        .balance = i == 0 ? BALANCE_LEASTCONN : BALANCE_ROUNDROBIN,
    };
    picture->listeners[i].settings = &picture->settings[i];
    picture->doors[i] = (struct door){
        .listener = &picture->listeners[i],
        .gate = {.max = i == 0 ? 50 : 0,
                 .n_admitted = 41,
                 .n_present = 43,
                 .n_present_max = 47,
                 .n_total = 4711,
                 .n_waiting = 9},
        .rate_second = 100,
        .n_this_second = 3,
        .n_last_second = 5,
        .n_most_in_a_second = 7,
    };
    picture->shown[i].door = &picture->doors[i];
    picture->shown[i].settings = &picture->settings[i];
    picture->shown[i].servers = picture->servers[i];
    picture_fill(&picture->shown[i].front, 500 * (i + 1));
}

static inline void picture_cluster(struct picture *picture)
{
    picture->report = (struct overview_cluster){
        .report = {.name = "main",
                   .primary = "n1",
                   .alarm = "",
                   .why_no_primary = "",
                   .timeline = 3,
                   .primary_since_ms = 40500},
        .nodes = picture->reports,
        .n_nodes = PICTURE_SERVERS,
    };
    for (unsigned i = 0; i < PICTURE_SERVERS; i++) {
        picture->reports[i] = picture->servers[0][i].report;
        picture->reports[i].node.load = &picture->load;
    }
    atomic_store(&picture->load.n_sessions, 29);
}

static inline void picture_pool(struct picture *picture)
{
    list_init(&picture->sums.pools);
    picture->pool = (struct pool_sum){
        .database = "app",
        .user = "alice",
        .mode = POOL_MODE_TRANSACTION,
        .n_clients = 31,
        .n_waiting = 6,
        .servers = {.n_active = 5, .n_idle = 3, .longest_wait_ns = 1500000},
        .why = "pool_size",
        .counts = {.transactions = 701, .queries = 702},
    };
    list_append(&picture->sums.pools, &picture->pool.in_list);
}

/* Its moment is second 100 of the clock. */
static inline void picture_make(struct picture *picture)
{
    memset(picture, 0, sizeof *picture);
    picture->config.main.max_client_conn = 1000;
    picture->cluster_config.name = picture_text("main");
    picture->cluster_config.check = CHECK_PATRONI;
    picture->cluster = (struct topology_cluster){.name = picture_text("main"),
                                                 .nodes = picture->nodes,
                                                 .n_nodes = PICTURE_SERVERS};
    picture->topology.clusters = &picture->cluster;
    picture->topology.n_clusters = 1;
    for (unsigned i = 0; i < PICTURE_SERVERS; i++) {
        struct topology_node *node = &picture->nodes[i];

        node->id = i + 1;
        memcpy(node->name, "n1", 3);
        node->name[1] = (char)('1' + i);
        REQUIRE(address_parse("127.0.0.1", (uint16_t)(5432 + i), &node->addresses[0]));
        node->n_addresses = 1;
        node->role = i == 0 ? NODE_PRIMARY : NODE_REPLICA;
        node->is_up = true;
        node->weight = 1;
        node->is_replica_for_all = i > 0;
        node->timeline = 3;
        node->lag_bytes = i == 0 ? -1 : (int64_t)(i - 1) * 3 * 1024 * 1024;
    }
    for (unsigned i = 0; i < PICTURE_LISTENERS; i++) {
        picture_listener(picture, i);
        for (unsigned k = 0; k < (i == 0 ? PICTURE_SERVERS : 1); k++)
            picture_server(picture, i, k);
    }
    picture->gather.n_workers = 2;
    picture->gather.workers[0].n_clients = 61;
    picture->gather.workers[1].n_clients = 67;
    picture->gather.workers[1].n_clients_total = 71;
    picture->gather.workers[1].longest_iteration_ms = 7.3;
    picture_cluster(picture);
    picture_pool(picture);
    history_init(&picture->history, 0, &(struct history_sample){{0}, {0}});
    picture->gather.sums = &picture->sums;
    picture->overview = (struct overview){
        .clusters = &picture->report,
        .n_clusters = 1,
        .history = &picture->history,
        .events = &picture->events,
        .refresh_s = 10,
        .config = &picture->config,
        .gather = &picture->gather,
        .topology = &picture->topology,
        .listeners = picture->shown,
        .n_listeners = PICTURE_LISTENERS,
        .n_admitted = 82,
        .n_in_line = 4,
        .now_ms = 100500,
        .uptime_ms = 93784000,
        .longest_iteration_ms = 1.9,
    };
}

#endif
