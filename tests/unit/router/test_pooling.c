/* Clients of a pool share servers. Over a scripted network: a server says what PostgreSQL
 * says, when the test wants it to. */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "router/client.h"
#include "router/worker.h"
#include "tests/lib/fault.h"
#include "tests/lib/house.h"
#include "tests/lib/map.h"

static struct house house;
static struct visitor visitors[3];
static struct script_peer servers[3], cancellers[2];
static struct packet login, welcome, query, answer, begun, failed;
static const uint8_t key[4] = {1, 2, 3, 4};

#define QUICK "server_login_retry = 1ms\n"
#define PLAIN "auth_type = any\nserver_tls_sslmode = disable\n"
#define SHOP "[databases]\nshop = cluster=main\n"
#define ONE_SERVER PLAIN "pool_mode = transaction\ndefault_pool_size = 1\n" SHOP

static void clear(void)
{
    house_close(&house);
    for (unsigned i = 0; i < COUNT_OF(visitors); i++)
        script_clear(&visitors[i].peer);
    for (unsigned i = 0; i < COUNT_OF(servers); i++)
        script_clear(&servers[i]);
    for (unsigned i = 0; i < COUNT_OF(cancellers); i++)
        script_clear(&cancellers[i]);
}

/* Two nodes, n1 the primary. */
static void open_with(unsigned n_workers, const char *ini)
{
    house_open(&house, n_workers, ini, "mode = pool");
    house_tell(&house, map_new("main", 2));
    house_turn(&house, 3);
    for (unsigned i = 0; i < COUNT_OF(servers); i++)
        servers[i].window = SCRIPT_ALL;
    for (unsigned i = 0; i < COUNT_OF(cancellers); i++)
        cancellers[i].window = SCRIPT_ALL;
}

/* One server for all, and what everybody says. */
static void open_house(void)
{
    packet_add_login(&login, PACKET_PROTOCOL_3_0);
    packet_add_welcome(&welcome, 4711, key, sizeof key);
    packet_add_message(&query, 'Q', "select 1", 9);
    packet_add_message(&answer, 'C', "SELECT 1", 9);
    packet_add_message(&answer, 'Z', "I", 1);
    packet_add_message(&begun, 'C', "BEGIN", 6);
    packet_add_message(&begun, 'Z', "T", 1);
    packet_add_message(&failed, 'R', "\0\0\0\0", 4);
    packet_add_error(&failed, "FATAL", "53300", "sorry, too many clients already");
    open_with(1, ONE_SERVER);
}

static void reopen(unsigned n_workers, const char *ini)
{
    clear();
    script_net_forget();
    memset(visitors, 0, sizeof visitors);
    memset(servers, 0, sizeof servers);
    memset(cancellers, 0, sizeof cancellers);
    open_with(n_workers, ini);
}

TestSuite(pooling, .init = open_house, .fini = clear, .timeout = 30);

static void say(struct script_peer *peer, const struct packet *packet)
{
    script_says(peer, packet->bytes, packet->n, 0);
    house_turn(&house, 8);
}

/* The next server at the node logs us in. */
static void serve(unsigned node, struct script_peer *server)
{
    script_net_serve(HOUSE_PORT(node), server);
    script_opens(server);
    script_hears(server, 20);
    script_says(server, welcome.bytes, welcome.n, 0);
}

static void visit(unsigned i, unsigned worker)
{
    script_says(&visitors[i].peer, login.bytes, login.n, 0);
    house_visit(&house, worker, &visitors[i], true);
    house_turn(&house, 20);
}

static enum client_state state_of(unsigned i)
{
    const struct client *client = visitor_client(&visitors[i]);

    cr_assert_not_null(client, "client %u is gone", i);
    return client->state;
}

/* From now on `n_heard` counts what is new. */
static void forget(struct script_peer *peer)
{
    peer->n_heard = 0;
}

/* Whether what it has heard ends so. */
static bool heard_last(const struct script_peer *peer, const struct packet *packet)
{
    return peer->n_heard >= packet->n &&
           memcmp(peer->heard + peer->n_heard - packet->n, packet->bytes, packet->n) == 0;
}

static struct packet ready(void)
{
    struct packet packet = {0};

    packet_add_message(&packet, 'Z', "I", 1);
    return packet;
}

/* One client, logged in, whose pool has one idle server. */
static void open_shop(void)
{
    struct packet is_ready = ready();

    serve(1, &servers[0]);
    visit(0, 0);
    cr_assert_eq(state_of(0), CLIENT_IDLE);
    cr_assert(heard_last(&visitors[0].peer, &is_ready));
    forget(&servers[0]);
    forget(&visitors[0].peer);
}

static struct pool *pool_of(unsigned worker)
{
    struct pool *pool = pools_at(&house.workers[worker]->pools, 0);

    cr_assert_not_null(pool);
    return pool;
}

/* ---- leases ---------------------------------------------------------------------------
 */

Test(pooling, a_query_goes_to_a_server_and_its_answer_back)
{
    open_shop();
    say(&visitors[0].peer, &query);
    cr_expect_eq(state_of(0), CLIENT_LEASED);
    cr_expect(heard_packet(&servers[0], &query));
    say(&servers[0], &answer);
    cr_expect(heard_packet(&visitors[0].peer, &answer));
    cr_expect_eq(state_of(0), CLIENT_IDLE);
    cr_expect_eq(pool_of(0)->idle.n, 1);
}

Test(pooling, a_second_client_waits_for_the_only_server)
{
    open_shop();
    visit(1, 0);
    say(&visitors[0].peer, &query);
    say(&visitors[1].peer, &query);
    cr_expect_eq(state_of(1), CLIENT_QUEUED);
    cr_expect(heard_packet(&servers[0], &query), "it has heard the first one only");
    forget(&servers[0]);
    say(&servers[0], &answer);
    cr_expect_eq(state_of(0), CLIENT_IDLE);
    cr_expect_eq(state_of(1), CLIENT_LEASED);
    cr_expect(heard_packet(&servers[0], &query));
    say(&servers[0], &answer);
    cr_expect(heard_last(&visitors[1].peer, &answer));
    cr_expect_eq(script_net_n_connects(HOUSE_PORT(1)), 1);
}

Test(pooling, a_transaction_keeps_its_server)
{
    open_shop();
    visit(1, 0);
    say(&visitors[0].peer, &query);
    say(&servers[0], &begun);
    cr_expect_eq(state_of(0), CLIENT_LEASED);
    say(&visitors[1].peer, &query);
    cr_expect_eq(state_of(1), CLIENT_QUEUED);
    say(&visitors[0].peer, &query);
    say(&servers[0], &answer);
    cr_expect_eq(state_of(0), CLIENT_IDLE);
    cr_expect_eq(state_of(1), CLIENT_LEASED);
}

/* Until ReadyForQuery of the last: the others are a pipeline's. */
Test(pooling, a_pipeline_keeps_its_server)
{
    open_shop();
    say(&visitors[0].peer, &query);
    say(&visitors[0].peer, &query);
    say(&servers[0], &answer);
    cr_expect_eq(state_of(0), CLIENT_LEASED);
    say(&servers[0], &answer);
    cr_expect_eq(state_of(0), CLIENT_IDLE);
}

Test(pooling, a_session_keeps_its_server_until_the_client_leaves)
{
    struct packet terminate = {0}, reset = {0};

    reopen(1, PLAIN "pool_mode = session\ndefault_pool_size = 1\n" SHOP);
    packet_add_message(&terminate, 'X', "", 0);
    packet_add_message(&reset, 'Q', "DISCARD ALL", 12);
    open_shop();
    visit(1, 0);
    say(&visitors[0].peer, &query);
    say(&servers[0], &answer);
    cr_expect_eq(state_of(0), CLIENT_LEASED);
    say(&visitors[1].peer, &query);
    cr_expect_eq(state_of(1), CLIENT_QUEUED);
    forget(&servers[0]);
    say(&visitors[0].peer, &terminate);
    cr_expect(visitors[0].is_gone);
    cr_expect(heard_packet(&servers[0], &reset));
    cr_expect_eq(state_of(1), CLIENT_QUEUED, "it is not clean yet");
    forget(&servers[0]);
    say(&servers[0], &answer);
    cr_expect_eq(state_of(1), CLIENT_LEASED);
    cr_expect(heard_packet(&servers[0], &query));
}

/* ---- ends -----------------------------------------------------------------------------
 */

Test(pooling, a_transaction_that_is_left_is_rolled_back)
{
    struct packet rollback = {0};

    packet_add_message(&rollback, 'Q', "ROLLBACK", 9);
    open_shop();
    visit(1, 0);
    say(&visitors[0].peer, &query);
    say(&servers[0], &begun);
    say(&visitors[1].peer, &query);
    forget(&servers[0]);
    script_ends(&visitors[0].peer);
    house_turn(&house, 8);
    cr_expect(visitors[0].is_gone);
    cr_expect(heard_packet(&servers[0], &rollback));
    cr_expect_eq(state_of(1), CLIENT_QUEUED);
    forget(&servers[0]);
    say(&servers[0], &answer);
    cr_expect_eq(state_of(1), CLIENT_LEASED);
    cr_expect(heard_packet(&servers[0], &query));
}

/* The server is lent to nobody until PostgreSQL has dealt with the request, although it
 * has answered long before. */
Test(pooling, a_query_that_is_left_is_cancelled)
{
    struct packet cancel = {0};

    packet_add_cancel(&cancel, 4711, key, sizeof key);
    open_shop();
    visit(1, 0);
    say(&visitors[0].peer, &query);
    say(&visitors[1].peer, &query);
    script_net_serve(HOUSE_PORT(1), &cancellers[0]);
    script_opens(&cancellers[0]);
    script_ends(&visitors[0].peer);
    house_turn(&house, 8);
    cr_expect(heard_packet(&cancellers[0], &cancel));
    forget(&servers[0]);
    say(&servers[0], &answer);
    cr_expect_eq(state_of(1), CLIENT_QUEUED);
    cr_expect_eq(servers[0].n_heard, 0);
    script_ends(&cancellers[0]);
    house_turn(&house, 8);
    cr_expect_eq(state_of(1), CLIENT_LEASED);
    cr_expect(heard_packet(&servers[0], &query));
}

Test(pooling, a_server_that_dies_ends_its_client_only)
{
    open_shop();
    visit(1, 0);
    say(&visitors[0].peer, &query);
    say(&visitors[1].peer, &query);
    serve(1, &servers[1]);
    forget(&visitors[0].peer);
    script_fails(&servers[0], STREAM_RESET);
    house_turn(&house, 12);
    cr_expect(heard_error(&visitors[0].peer, "08007"));
    cr_expect_eq(state_of(1), CLIENT_LEASED, "the other has one that was opened for it");
    cr_expect(heard_last(&servers[1], &query));
}

Test(pooling, a_server_that_answers_nothing_ends)
{
    open_shop();
    serve(1, &servers[1]);
    say(&servers[0], &answer); /* to no question */
    cr_expect(servers[0].was_closed);
    cr_expect_eq(state_of(0), CLIENT_IDLE);
    say(&visitors[0].peer, &query);
    house_turn(&house, 8);
    cr_expect(heard_last(&servers[1], &query));
}

/* What it said between two leases is for nobody. */
Test(pooling, ready_for_query_twice_ends_the_server)
{
    struct packet twice = answer;

    packet_add_message(&twice, 'Z', "I", 1);
    open_shop();
    say(&visitors[0].peer, &query);
    say(&servers[0], &twice);
    cr_expect(servers[0].was_closed);
    cr_expect_eq(pool_of(0)->idle.n, 0);
}

/* ---- logins
 * ----------------------------------------------------------------------------
 */

Test(pooling, a_refused_login_is_told_and_takes_no_place)
{
    script_net_serve(HOUSE_PORT(1), &servers[0]);
    script_opens(&servers[0]);
    script_hears(&servers[0], 20);
    script_says(&servers[0], failed.bytes, failed.n, 0);
    visit(0, 0);
    cr_expect_eq(state_of(0), CLIENT_QUEUED, "another may be free soon");
    cr_expect_eq(pool_of(0)->busy.n, 0);
    cr_expect_str_eq(pool_of(0)->account->why, "sorry, too many clients already");
}

Test(pooling, a_login_that_can_never_succeed_ends_the_client)
{
    struct packet never = {0};

    packet_add_error(&never, "FATAL", "28P01", "password authentication failed");
    script_net_serve(HOUSE_PORT(1), &servers[0]);
    script_opens(&servers[0]);
    script_hears(&servers[0], 20);
    script_says(&servers[0], never.bytes, never.n, 0);
    visit(0, 0);
    cr_expect(heard_error(&visitors[0].peer, "08006"));
}

/* ---- the topology
 * ------------------------------------------------------------------------
 */

static void switch_over(void)
{
    struct topology *next = map_new("main", 2);

    next->generation = 2;
    next->clusters[0].primary = 1;
    for (unsigned i = 0; i < 2; i++) {
        next->clusters[0].nodes[i].role = i == 1 ? NODE_PRIMARY : NODE_REPLICA;
        next->clusters[0].nodes[i].is_replica_for_all = i == 0;
    }
    house_tell(&house, next);
    house_turn(&house, 5);
}

Test(pooling, servers_of_the_old_primary_are_closed)
{
    open_shop();
    serve(2, &servers[1]);
    switch_over();
    cr_expect(servers[0].was_closed);
    say(&visitors[0].peer, &query);
    house_turn(&house, 12);
    cr_expect(heard_last(&servers[1], &query));
}

Test(pooling, a_server_of_the_old_primary_ends_with_its_lease)
{
    open_shop();
    visit(1, 0);
    say(&visitors[0].peer, &query);
    say(&visitors[1].peer, &query);
    serve(2, &servers[1]);
    switch_over();
    cr_expect_not(servers[0].was_closed);
    say(&servers[0], &answer);
    cr_expect(heard_packet(&visitors[0].peer, &answer));
    cr_expect(servers[0].was_closed);
    house_turn(&house, 12);
    cr_expect_eq(state_of(1), CLIENT_LEASED);
    cr_expect(heard_last(&servers[1], &query));
}

/* ---- from worker to worker
 * ---------------------------------------------------------------
 */

/* The same connection: nobody logs in a second time. */
Test(pooling, a_server_moves_to_a_waiting_client_of_another_worker)
{
    reopen(2, ONE_SERVER);
    servers[0].fd = script_net_descriptor(&servers[0]);
    open_shop();
    visit(1, 1);
    say(&visitors[1].peer, &query);
    house_turn(&house, 20);
    cr_expect_eq(state_of(1), CLIENT_LEASED);
    cr_expect(heard_packet(&servers[0], &query));
    say(&servers[0], &answer);
    cr_expect(heard_last(&visitors[1].peer, &answer));
    cr_expect_eq(pool_of(0)->idle.n + pool_of(0)->busy.n, 0);
    cr_expect_eq(pool_of(1)->idle.n, 1);
    cr_expect_eq(script_net_n_connects(HOUSE_PORT(1)), 1);
}

/* ---- without memory
 * ------------------------------------------------------------------------
 */

static void live_through(void *arg)
{
    unsigned n_left;

    (void)arg;
    serve(1, &servers[0]);
    serve(1, &servers[1]);
    visit(0, 0);
    if (visitor_client(&visitors[0]) != NULL)
        say(&visitors[0].peer, &query);
    if (servers[0].stream != NULL)
        say(&servers[0], &answer);
    n_left = memory_fail_at;
    memory_fail_at = 0;
    if (visitors[0].peer.stream != NULL)
        script_ends(&visitors[0].peer);
    house_turn(&house, 20);
    cr_expect(visitors[0].is_gone);

    serve(1, &servers[2]);
    visit(1, 0);
    say(&visitors[1].peer, &query);
    /* Where memory was out at the login of a server, there is a pause before the next. */
    for (unsigned n = 0; n < 400 && !heard_last(&visitors[1].peer, &answer); n++) {
        for (unsigned i = 0; i < COUNT_OF(servers); i++)
            if (servers[i].stream != NULL && heard_last(&servers[i], &query)) {
                forget(&servers[i]);
                say(&servers[i], &answer);
            }
        usleep(5000);
        house_turn(&house, 3);
    }
    cr_expect(heard_last(&visitors[1].peer, &answer),
              "a later client, when memory is back");
    reopen(1, QUICK ONE_SERVER);
    memory_fail_at = n_left;
}

Test(pooling, survives_any_allocation_that_fails)
{
    reopen(1, QUICK ONE_SERVER);
    cr_expect_geq(fault_each_allocation(live_through, NULL), 20);
}
