/* Clients of transaction pooling whose servers end. Over a scripted network. */
#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "router/client.h"
#include "router/worker.h"
#include "tests/lib/fault.h"
#include "tests/lib/house.h"
#include "tests/lib/map.h"

static struct house house;
static struct visitor visitors[2];
static struct script_peer servers[5];
static struct packet login, welcome, query, answer, begun, fatal, refused, failing,
    failed, extended, answered;
static const uint8_t key[4] = {1, 2, 3, 4};

#define SHOP \
    "auth_type = any\nserver_tls_sslmode = disable\npool_mode = transaction\n" \
    "server_login_retry = 1ms\ndefault_pool_size = 2\n%s\n[databases]\n" \
    "shop = cluster=main\n"

static void clear(void)
{
    house_close(&house);
    for (unsigned i = 0; i < COUNT_OF(visitors); i++)
        script_clear(&visitors[i].peer);
    for (unsigned i = 0; i < COUNT_OF(servers); i++)
        script_clear(&servers[i]);
}

static void open_with(const char *settings)
{
    char ini[512];

    snprintf(ini, sizeof ini, SHOP, settings);
    house_open(&house, 1, ini, "mode = pool");
    house_tell(&house, map_new("main", 2));
    house_turn(&house, 3);
    for (unsigned i = 0; i < COUNT_OF(servers); i++)
        servers[i].window = SCRIPT_ALL;
}

static void open_house(void)
{
    packet_add_login(&login, PACKET_PROTOCOL_3_0);
    packet_add_welcome(&welcome, 4711, key, sizeof key);
    packet_add_message(&query, 'Q', "select 1", 9);
    packet_add_message(&answer, 'C', "SELECT 1", 9);
    packet_add_message(&answer, 'Z', "I", 1);
    packet_add_message(&begun, 'C', "BEGIN", 6);
    packet_add_message(&begun, 'Z', "T", 1);
    packet_add_error(&fatal, "FATAL", "57P01", "terminating connection");
    packet_add_error(&refused, "FATAL", "57P03", "the database system is shutting down");
    packet_add_message(&failing, 'Q',
                       "BEGIN; ROLLBACK TO SAVEPOINT \"transaction lost in switchover\"",
                       62);
    packet_add_message(&failed, 'C', "BEGIN", 6);
    packet_add_error(&failed, "ERROR", "3B001", "savepoint does not exist");
    packet_add_message(&failed, 'Z', "E", 1);
    packet_add_message(&extended, 'P', "a\0select 1\0\0\0", 13);
    packet_add_message(&extended, 'B', "\0a\0\0\0\0\0\0\0", 9);
    packet_add_message(&extended, 'E', "\0\0\0\0\0", 5);
    packet_add_message(&extended, 'S', "", 0);
    packet_add_message(&answered, '1', "", 0);
    packet_add_message(&answered, '2', "", 0);
    open_with("replay = aborted");
}

static void reopen(const char *settings)
{
    clear();
    script_net_forget();
    memset(visitors, 0, sizeof visitors);
    memset(servers, 0, sizeof servers);
    open_with(settings);
}

TestSuite(loss, .init = open_house, .fini = clear, .timeout = 30);

static void say(struct script_peer *peer, const struct packet *packet)
{
    script_says(peer, packet->bytes, packet->n, 0);
    house_turn(&house, 8);
}

/* The next server at the node logs us in, or says what it says. */
static void serve(unsigned node, struct script_peer *server, const struct packet *packet)
{
    script_net_serve(HOUSE_PORT(node), server);
    script_opens(server);
    script_hears(server, 20);
    script_says(server, packet->bytes, packet->n, 0);
}

static enum client_state state_of(unsigned i)
{
    const struct client *client = visitor_client(&visitors[i]);

    cr_assert_not_null(client, "client %u is gone", i);
    return client->state;
}

/* A client that has a server, and has asked it something. */
static void open_shop(const struct packet *asked)
{
    serve(1, &servers[0], &welcome);
    script_says(&visitors[0].peer, login.bytes, login.n, 0);
    house_visit(&house, 0, &visitors[0], true);
    house_turn(&house, 20);
    cr_assert_eq(state_of(0), CLIENT_IDLE);
    servers[0].n_heard = visitors[0].peer.n_heard = 0;
    if (asked != NULL) {
        say(&visitors[0].peer, asked);
        cr_assert_eq(state_of(0), CLIENT_LEASED);
    }
}

/* Until the client is in this state. */
static bool comes_to(unsigned i, enum client_state state)
{
    for (unsigned n = 0; n < 300 && state_of(i) != state; n++) {
        usleep(5000);
        house_turn(&house, 3);
    }
    return state_of(i) == state;
}

static const struct pool_counts *counts(void)
{
    return &pools_at(&house.workers[0]->pools, 0)->counts;
}

static bool ends_with(const struct script_peer *peer, const struct packet *packet)
{
    return peer->n_heard >= packet->n &&
           memcmp(peer->heard + peer->n_heard - packet->n, packet->bytes, packet->n) == 0;
}

/* The whole of it, in what the peer has heard. */
static bool has_heard(const struct script_peer *peer, const char *text)
{
    return peer->n_heard > 0 &&
           memmem(peer->heard, peer->n_heard, text, strlen(text)) != NULL;
}

static void tell_of_switchover(void)
{
    struct topology *next = map_new("main", 2);

    next->generation = 2;
    next->clusters[0].primary = 1;
    for (unsigned i = 0; i < 2; i++) {
        next->clusters[0].nodes[i].role = i == 1 ? NODE_PRIMARY : NODE_REPLICA;
        next->clusters[0].nodes[i].is_replica_for_all = i == 0;
    }
    house_tell(&house, next);
}

static void switch_over(void)
{
    tell_of_switchover();
    house_turn(&house, 5);
}

/* ---- never begun -------------------------------------------------------------------
 */

/* From now on nothing reaches it. */
static void stop_reading(struct script_peer *server)
{
    server->n_heard = 1;
    server->window = 0;
}

static void fail_to_send(const char *settings)
{
    reopen(settings);
    open_shop(NULL);
    stop_reading(&servers[0]);
    say(&visitors[0].peer, &query);
    serve(1, &servers[1], &welcome);
    script_fails(&servers[0], STREAM_RESET);
    house_turn(&house, 20);
}

Test(loss, what_never_left_goes_to_another_server)
{
    fail_to_send("replay = unsent");
    cr_expect_eq(state_of(0), CLIENT_LEASED);
    cr_expect(ends_with(&servers[1], &query));
    cr_expect_eq(visitors[0].peer.n_heard, 0);
    say(&servers[1], &answer);
    cr_expect(heard_packet(&visitors[0].peer, &answer));
    cr_expect_eq(counts()->replayed, 1);
    cr_expect_eq(counts()->bytes_received, query.n, "once");
}

Test(loss, what_never_left_is_lost_when_nothing_is_to_be_sent_again)
{
    fail_to_send("replay = off");
    cr_expect(has_heard(&visitors[0].peer, "C40001"));
    cr_expect_eq(state_of(0), CLIENT_IDLE);
    cr_expect_eq(counts()->lost, 1);
    cr_expect_eq(counts()->replayed, 0);
}

/* Its server's last word is read behind the failure, and changes nothing. */
Test(loss, what_never_left_does_so_whatever_the_server_said)
{
    reopen("replay = unsent");
    open_shop(NULL);
    stop_reading(&servers[0]);
    say(&visitors[0].peer, &query);
    serve(1, &servers[1], &welcome);
    say(&servers[0], &fatal);
    house_turn(&house, 20);
    cr_expect(ends_with(&servers[1], &query));
    cr_expect_eq(counts()->replayed, 1);
}

/* The name that was to be prepared is new to the next server, too. */
Test(loss, what_never_left_prepares_once_more)
{
    reopen("replay = unsent");
    open_shop(NULL);
    stop_reading(&servers[0]);
    say(&visitors[0].peer, &extended);
    serve(1, &servers[1], &welcome);
    script_fails(&servers[0], STREAM_RESET);
    house_turn(&house, 20);
    cr_expect_eq(state_of(0), CLIENT_LEASED);
    cr_expect(has_heard(&servers[1], "select 1"));
    say(&servers[1], &answered);
    say(&servers[1], &answer);
    cr_expect_eq(state_of(0), CLIENT_IDLE);
    cr_expect(ends_with(&visitors[0].peer, &answer));
    cr_expect_eq(statement_names_count(&visitor_client(&visitors[0])->names), 1);
}

/* ---- 57P01 -------------------------------------------------------------------------
 */

Test(loss, a_node_that_serves_on_has_meant_this_client)
{
    open_shop(&query);
    serve(1, &servers[1], &welcome);
    servers[1].n_heard = 0;
    script_says(&servers[0], fatal.bytes, fatal.n, 0);
    house_turn(&house, 2);
    cr_expect_eq(state_of(0), CLIENT_INQUIRING);
    house_turn(&house, 20);
    cr_expect(heard_packet(&visitors[0].peer, &fatal), "as the server has said it");
    cr_expect(visitors[0].is_gone || visitors[0].peer.has_heard_end);
    cr_expect_not(has_heard(&servers[1], "select 1"));
    cr_expect_eq(counts()->replayed, 0);
}

Test(loss, a_node_that_refuses_logins_goes_away)
{
    open_shop(&query);
    serve(1, &servers[1], &refused);
    serve(1, &servers[2], &welcome);
    say(&servers[0], &fatal);
    cr_expect(comes_to(0, CLIENT_LEASED));
    cr_expect(ends_with(&servers[2], &query));
    cr_expect_eq(visitors[0].peer.n_heard, 0);
    say(&servers[2], &answer);
    cr_expect(heard_packet(&visitors[0].peer, &answer));
    cr_expect_eq(counts()->replayed, 1);
}

Test(loss, a_node_that_has_lost_the_role_goes_away)
{
    open_shop(&query);
    serve(2, &servers[1], &welcome);
    script_net_serve(HOUSE_PORT(1), &servers[2]); /* who does not answer */
    say(&servers[0], &fatal);
    cr_expect_eq(state_of(0), CLIENT_INQUIRING);
    switch_over();
    cr_expect(comes_to(0, CLIENT_LEASED));
    cr_expect(ends_with(&servers[1], &query));
}

Test(loss, a_hold_says_so_at_once)
{
    struct topology *next = map_new("main", 2);

    open_shop(&query);
    next->generation = 2;
    next->clusters[0].hold = 1;
    house_tell(&house, next);
    house_turn(&house, 3);
    script_net_serve(HOUSE_PORT(1), &servers[1]);
    say(&servers[0], &fatal);
    cr_expect_eq(state_of(0), CLIENT_QUEUED);
    cr_expect_eq(counts()->replayed, 1);
}

Test(loss, a_request_is_sent_again_once)
{
    open_shop(&query);
    serve(1, &servers[1], &refused);
    serve(1, &servers[2], &welcome);
    say(&servers[0], &fatal);
    cr_assert(comes_to(0, CLIENT_LEASED));
    serve(1, &servers[3], &refused);
    say(&servers[2], &fatal);
    cr_expect(comes_to(0, CLIENT_IDLE));
    cr_expect(has_heard(&visitors[0].peer, "C40001"));
    cr_expect_eq(counts()->replayed, 1);
    cr_expect_eq(counts()->lost, 1);
}

/* What has begun to be answered in the extended protocol is held back until it is sure.
 */
Test(loss, the_begin_of_an_answer_is_told_once)
{
    struct packet whole = answered;

    packet_add(&whole, answer.bytes, answer.n);
    open_shop(&extended);
    say(&servers[0], &answered);
    cr_expect_eq(visitors[0].peer.n_heard, 0);
    serve(1, &servers[1], &refused);
    serve(1, &servers[2], &welcome);
    say(&servers[0], &fatal);
    cr_assert(comes_to(0, CLIENT_LEASED));
    cr_expect(has_heard(&servers[2], "select 1"), "it is prepared there, too");
    say(&servers[2], &whole);
    cr_expect(heard_packet(&visitors[0].peer, &whole));
    cr_expect_eq(statement_names_count(&visitor_client(&visitors[0])->names), 1);
}

Test(loss, a_client_may_leave_while_the_node_is_asked)
{
    open_shop(&query);
    script_net_serve(HOUSE_PORT(1), &servers[1]); /* who does not answer */
    say(&servers[0], &fatal);
    cr_assert_eq(state_of(0), CLIENT_INQUIRING);
    script_ends(&visitors[0].peer);
    house_turn(&house, 8);
    cr_expect(visitors[0].is_gone);
}

/* ---- transactions ------------------------------------------------------------------
 */

Test(loss, a_lost_transaction_fails_on_the_next_server)
{
    struct packet ready = {0};

    packet_add_message(&ready, 'Z', "E", 1);
    open_shop(&query);
    say(&servers[0], &begun);
    visitors[0].peer.n_heard = 0;
    script_fails(&servers[0], STREAM_RESET);
    house_turn(&house, 8);
    cr_expect_eq(state_of(0), CLIENT_IDLE);
    cr_expect_eq(visitors[0].peer.n_heard, 0, "it has asked nothing");
    say(&visitors[0].peer, &query);
    cr_expect(has_heard(&visitors[0].peer, "C40001"));
    cr_expect(ends_with(&visitors[0].peer, &ready));
    cr_expect_eq(state_of(0), CLIENT_IDLE);

    serve(1, &servers[1], &welcome);
    say(&visitors[0].peer, &query);
    house_turn(&house, 20);
    cr_expect(ends_with(&servers[1], &failing));
    visitors[0].peer.n_heard = 0;
    say(&servers[1], &failed);
    cr_expect_eq(visitors[0].peer.n_heard, 0, "that is between us");
    cr_expect(ends_with(&servers[1], &query));
    say(&servers[1], &answer);
    cr_expect(heard_packet(&visitors[0].peer, &answer));
    cr_expect_eq(counts()->lost, 1);
}

/* The server that was to fail has ended itself: there are others. */
/* As after any COMMIT that fails: some drivers never say ROLLBACK behind one. */
Test(loss, nothing_is_left_behind_a_commit)
{
    struct packet commit = {0}, ready = {0};

    packet_add_message(&commit, 'Q', "commit", 7);
    packet_add_message(&ready, 'Z', "I", 1);
    open_shop(&query);
    say(&servers[0], &begun);
    script_fails(&servers[0], STREAM_RESET);
    house_turn(&house, 8);
    visitors[0].peer.n_heard = 0;
    say(&visitors[0].peer, &commit);
    cr_expect(has_heard(&visitors[0].peer, "C40001"));
    cr_expect(ends_with(&visitors[0].peer, &ready));

    serve(1, &servers[1], &welcome);
    say(&visitors[0].peer, &query);
    house_turn(&house, 20);
    cr_expect(ends_with(&servers[1], &query), "without a transaction that fails");
}

Test(loss, nothing_is_left_behind_a_commit_that_was_under_way)
{
    struct topology *next = map_new("main", 2);
    struct packet commit = {0}, ready = {0};

    packet_add_message(&commit, 'Q', "commit", 7);
    packet_add_message(&ready, 'Z', "I", 1);
    open_shop(&query);
    say(&servers[0], &begun);
    say(&visitors[0].peer, &commit);
    next->generation = 2;
    next->clusters[0].hold = 1;
    house_tell(&house, next);
    visitors[0].peer.n_heard = 0;
    say(&servers[0], &fatal);
    cr_expect(has_heard(&visitors[0].peer, "C40001"));
    cr_expect(ends_with(&visitors[0].peer, &ready));
    cr_expect_eq(state_of(0), CLIENT_IDLE);
}

Test(loss, the_next_server_may_end_as_well)
{
    open_shop(&query);
    say(&servers[0], &begun);
    script_fails(&servers[0], STREAM_RESET);
    house_turn(&house, 8);
    say(&visitors[0].peer, &query);
    serve(1, &servers[1], &welcome);
    say(&visitors[0].peer, &query);
    house_turn(&house, 20);
    serve(1, &servers[2], &welcome);
    script_fails(&servers[1], STREAM_RESET);
    house_turn(&house, 20);
    cr_expect(ends_with(&servers[2], &failing));
}

/* ---- without memory ----------------------------------------------------------------
 */

static void live_through(void *arg)
{
    unsigned n_left;

    (void)arg;
    serve(1, &servers[0], &welcome);
    script_says(&visitors[0].peer, login.bytes, login.n, 0);
    house_visit(&house, 0, &visitors[0], true);
    house_turn(&house, 20);
    if (visitor_client(&visitors[0]) != NULL)
        say(&visitors[0].peer, &extended);
    serve(2, &servers[1], &welcome);
    script_net_serve(HOUSE_PORT(1), &servers[2]); /* who does not answer */
    if (servers[0].stream != NULL && servers[0].n_heard > 60)
        say(&servers[0], &fatal);
    n_left = memory_fail_at;
    memory_fail_at = 0; /* control's memory is not out */
    tell_of_switchover();
    memory_fail_at = n_left;
    house_turn(&house, 20);
    n_left = memory_fail_at;
    memory_fail_at = 0;
    if (visitors[0].peer.stream != NULL)
        script_ends(&visitors[0].peer);
    house_turn(&house, 20);
    cr_expect(visitors[0].is_gone);
    reopen("replay = aborted");
    memory_fail_at = n_left;
}

Test(loss, survives_any_allocation_that_fails)
{
    cr_expect_geq(fault_each_allocation(live_through, NULL), 20);
}
