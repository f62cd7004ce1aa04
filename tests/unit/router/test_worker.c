/* What a worker says and hears by message. Over a scripted network. */
#include "router/worker.h"

#include <criterion/criterion.h>
#include <string.h>

#include "tests/lib/fault.h"
#include "tests/lib/house.h"
#include "tests/lib/map.h"
#include "tests/lib/turns.h"

static struct house house;
static struct visitor visitors[3];
static struct packet first;

static void open_house(void)
{
    house_open(&house, 3, "", "queue_timeout = 60s");
    house_tell(&house, map_new("main", 0));
    house_turn(&house, 2);
    packet_add_login(&first, PACKET_PROTOCOL_3_0);
}

static void clear(void)
{
    house_close(&house);
    for (unsigned i = 0; i < COUNT_OF(visitors); i++)
        script_clear(&visitors[i].peer);
}

TestSuite(worker, .init = open_house, .fini = clear, .timeout = 20);

/* ---- counts go round ----------------------------------------------------------------
 */

static struct gather gather;
static unsigned n_home;

static void on_home(struct message *message, void *control)
{
    cr_assert_eq(control, &house);
    cr_assert_eq(CONTAINER_OF(message, struct gather, message), &gather);
    n_home++;
}

static void go_round(void)
{
    tally_clear(&gather.tallies);
    worker_post_gather(house.workers[0], &gather);
    house_turn(&house, 8);
}

Test(worker, gathers_the_counts_of_all)
{
    list_init(&gather.tallies);
    gather.home = house.mailbox;
    gather.on_home = on_home;
    for (unsigned i = 0; i < 3; i++) {
        tally_get(&house.workers[i]->tallies, "rw", 1)->bytes_in = 10 + i;
        tally_get(&house.workers[i]->tallies, "rw", 1)->connect_us_max = 20 + i;
    }
    tally_get(&house.workers[1]->tallies, "ro", 7)->bytes_out = 5;
    house_visit(&house, 1, &visitors[0], true);
    house_visit(&house, 1, &visitors[1], true);
    house_visit(&house, 2, &visitors[2], true);
    house_turn(&house, 3);
    go_round();
    cr_expect_eq(n_home, 1);
    cr_expect_eq(gather.n_workers, 3);
    cr_expect_not(gather.is_incomplete);
    cr_expect_eq(gather.workers[0].n_clients, 0);
    cr_expect_eq(gather.workers[1].n_clients, 2);
    cr_expect_eq(gather.workers[2].n_clients, 1);
    cr_expect_eq(tally_find(&gather.tallies, "rw", 1)->bytes_in, 33);
    cr_expect_eq(tally_find(&gather.tallies, "rw", 1)->connect_us_max, 22);
    cr_expect_eq(tally_find(&gather.tallies, "ro", 7)->bytes_out, 5);

    script_ends(&visitors[0].peer);
    house_turn(&house, 3);
    go_round();
    cr_expect_eq(gather.workers[1].n_clients, 1);
    cr_expect_eq(gather.workers[1].n_clients_total, 2);
    tally_clear(&gather.tallies);
}

Test(worker, says_that_its_counts_are_not_all)
{
    list_init(&gather.tallies);
    gather.home = house.mailbox;
    gather.on_home = on_home;
    tally_get(&house.workers[1]->tallies, "rw", 1)->bytes_in = 1;
    memory_fail_at = 1;
    go_round();
    memory_fail_at = 0;
    cr_expect_eq(n_home, 1);
    cr_expect(gather.is_incomplete);
    tally_clear(&gather.tallies);
}

/* ---- what it tells ------------------------------------------------------------------
 */

Test(worker, tells_the_same_evidence_not_too_often)
{
    struct worker *worker = house.workers[0];

    for (unsigned i = 0; i < 10; i++)
        worker_evidence(worker, 1, EVIDENCE_REFUSED);
    house_turn(&house, 2);
    cr_expect_eq(house.n_evidence[EVIDENCE_REFUSED], 1);
    worker_evidence(worker, 2, EVIDENCE_REFUSED);
    house_turn(&house, 2);
    cr_expect_eq(house.n_evidence[EVIDENCE_REFUSED], 2, "of another node");
    cr_expect_eq(house.evidence_node, 2);
    house_turn_until(&house, &(bool){false}, 200);
    worker_evidence(worker, 2, EVIDENCE_SILENT);
    house_turn(&house, 2);
    cr_expect_eq(house.n_evidence[EVIDENCE_SILENT], 1, "later");
}

Test(worker, without_memory_tells_nothing)
{
    memory_fail_at = 1;
    worker_evidence(house.workers[0], 1, EVIDENCE_REFUSED);
    memory_fail_at = 0;
    house_turn(&house, 2);
    cr_expect_eq(house.n_evidence[EVIDENCE_REFUSED], 0);
    worker_evidence(house.workers[0], 1, EVIDENCE_REFUSED);
    house_turn(&house, 2);
    cr_expect_eq(house.n_evidence[EVIDENCE_REFUSED], 1);
}

/* ---- what it is told ----------------------------------------------------------------
 */

Test(worker, without_memory_sends_a_client_back)
{
    house_visit(&house, 0, &visitors[0], true);
    memory_fail_at = 1;
    house_turn(&house, 3);
    cr_expect_eq(memory_fail_at, 0);
    cr_expect(visitors[0].is_gone);
    cr_expect_null(visitors[0].ticket.client);
    cr_expect_eq(house.workers[0]->clients.n, 0);
}

Test(worker, that_stops_takes_no_more_clients)
{
    worker_post_stop(house.workers[0]);
    house_turn(&house, 2);
    house_visit(&house, 0, &visitors[0], true);
    house_turn(&house, 2);
    cr_expect(visitors[0].is_gone);
    cr_expect_eq(visitors[0].peer.n_heard, 0);
}

Test(worker, that_misses_a_topology_goes_on_with_the_last)
{
    struct topology *news = map_new("main", 2);
    const struct topology *before = house.workers[0]->topology;

    memory_fail_at = 1;
    cr_expect_not(worker_post_topology(house.workers[0], news));
    memory_fail_at = 0;
    house_turn(&house, 2);
    cr_expect_eq(house.workers[0]->topology, before);
    cr_expect_eq(atomic_load(&news->references), 1);
    topology_release(news);
}

/* One that was never told of any, since memory was out. */
Test(worker, without_a_topology_has_clients_wait)
{
    clear();
    memset(visitors, 0, sizeof visitors);
    house_open(&house, 3, "", "queue_timeout = 300ms");
    script_says(&visitors[0].peer, first.bytes, first.n, 0);
    house_visit(&house, 0, &visitors[0], true);
    house_turn(&house, 5);
    cr_expect_eq(visitor_client(&visitors[0])->state, CLIENT_WAITING);
    cr_expect(house_turn_until(&house, &visitors[0].peer.has_heard_end, 5000));
    cr_expect(heard_error(&visitors[0].peer, "57P03"));
}

#define MANY 100

/* More than are judged in one iteration. */
Test(worker, judges_every_client_by_a_new_topology)
{
    static struct visitor many[MANY];
    static struct script_peer servers[MANY];
    struct topology *topology = map_new("main", 2), *next;
    unsigned n_before;

    house_tell(&house, topology_hold(topology));
    for (unsigned i = 0; i < MANY; i++) {
        script_says(&many[i].peer, "\x16\x03", 2, 0); /* direct TLS: no login to follow */
        house_visit(&house, 0, &many[i], true);
        servers[i].window = SCRIPT_ALL;
        script_opens(&servers[i]);
        script_net_serve(HOUSE_PORT(1), &servers[i]);
    }
    house_turn(&house, 20);
    for (unsigned i = 0; i < MANY; i++)
        cr_assert_eq(visitor_client(&many[i])->state, CLIENT_ACTIVE);

    next = map_next(topology);
    next->clusters[0].primary = 1;
    next->clusters[0].nodes[0].role = NODE_REPLICA;
    house_tell(&house, next);
    n_before = house.n_gone;
    house_turn(&house, 2);
    cr_expect_lt(house.n_gone - n_before, MANY, "others wait in the loop too");
    house_turn(&house, 10);
    cr_expect_eq(house.n_gone - n_before, MANY);
    for (unsigned i = 0; i < MANY; i++)
        script_clear(&many[i].peer);
    for (unsigned i = 0; i < MANY; i++)
        script_clear(&servers[i]);
    topology_release(topology);
}

Test(worker, judges_no_longer_by_what_has_been_superseded)
{
    struct topology *topology = map_new("main", 1), *down = NULL, *up;
    static struct script_peer server;

    house_tell(&house, topology_hold(topology));
    script_says(&visitors[0].peer, "\x16\x03", 2, 0);
    house_visit(&house, 0, &visitors[0], true);
    server.window = SCRIPT_ALL;
    script_opens(&server);
    script_net_serve(HOUSE_PORT(1), &server);
    house_turn(&house, 20);
    cr_assert_eq(visitor_client(&visitors[0])->state, CLIENT_ACTIVE);
    down = map_next(topology);
    down->clusters[0].nodes[0].is_up = false;
    up = map_next(down);
    up->clusters[0].nodes[0].is_up = true;
    house_tell(&house, down);
    house_tell(&house, up); /* both arrive before anybody is judged */
    house_turn(&house, 10);
    cr_expect_not(visitors[0].is_gone);
    topology_release(topology);
}

Test(worker, keeps_the_line_in_order)
{
    static struct script_peer servers[3];
    struct topology *news = map_new("main", 1);

    for (unsigned i = 0; i < 3; i++) {
        script_says(&visitors[i].peer, first.bytes, first.n, 0);
        house_visit(&house, 0, &visitors[i], true);
        servers[i].window = SCRIPT_ALL;
        script_net_serve(HOUSE_PORT(1), &servers[i]);
        house_turn(&house, 3);
    }
    cr_expect_eq(house.workers[0]->line.n, 3);
    house_tell(&house, news);
    house_turn(&house, 3);
    cr_expect_eq(house.workers[0]->line.n, 0);
    for (unsigned i = 0; i < 3; i++)
        cr_expect_eq(servers[i].stream, &visitor_client(&visitors[i])->server->stream,
                     "first come, first served");
}

static void make_and_free(void *unused)
{
    struct worker *workers[1];
    struct control_door door = {.mailbox = house.mailbox};

    (void)unused;
    workers[0] = worker_new(0, 1, workers, &house.shared, &door, house.config);
    worker_free(workers[0]);
}

Test(worker, survives_each_allocation_failure)
{
    cr_expect_geq(fault_each_allocation(make_and_free, NULL), 7);
    worker_free(NULL);
}
