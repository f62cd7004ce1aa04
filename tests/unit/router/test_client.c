/* A client up to its first packet, and how it is sent away. Over a scripted network. */
#include "router/client.h"

#include <criterion/criterion.h>
#include <string.h>

#include "core/memory.h"
#include "tests/lib/house.h"
#include "tests/lib/map.h"
#include "wire/error.h"

static struct house house;
static struct visitor visitor;
static struct script_peer server;
static struct packet first, welcome;
static const uint8_t key[4] = {1, 2, 3, 4};

static void clear(void)
{
    house_close(&house);
    script_clear(&visitor.peer);
    script_clear(&server);
    visitor = (struct visitor){0};
    first.n = welcome.n = 0;
}

/* No node can be had, and nobody waits for one, unless `listener` says so. */
static void open_empty(const char *ini, const char *listener)
{
    house_open(&house, 1, ini, listener);
    house_tell(&house, map_new("main", 0));
}

static void open_house(void)
{
    open_empty("", "queue_timeout = 0");
}

TestSuite(client, .init = open_house, .fini = clear, .timeout = 30);

static void reopen(const char *ini, const char *listener)
{
    clear();
    open_empty(ini, listener);
}

static void visit(bool is_admitted)
{
    house_visit(&house, 0, &visitor, is_admitted);
}

/* Says `first` in pieces, and looks what comes of it. */
static void say_first(size_t piece)
{
    script_says(&visitor.peer, first.bytes, first.n, piece);
    visit(true);
    house_turn(&house, (unsigned)(first.n / (piece > 0 ? piece : first.n)) + 10);
}

static void say_and_hear_error(const char *sqlstate)
{
    static const size_t pieces[] = {1, 3, 8, 0};

    for (size_t i = 0; i < COUNT_OF(pieces); i++) {
        say_first(pieces[i]);
        cr_expect(heard_error(&visitor.peer, sqlstate), "heard %zu bytes, %c",
                  visitor.peer.n_heard,
                  visitor.peer.n_heard > 0 ? visitor.peer.heard[0] : '-');
        cr_expect(visitor.peer.has_heard_end);
        cr_expect_not(visitor.is_gone, "it has time to read that");
        script_ends(&visitor.peer);
        house_turn(&house, 5);
        cr_expect(visitor.is_gone);
        cr_expect_null(visitor.ticket.client);
        cr_expect_eq(pond_n_taken(house.workers[0]->loop->pond), 0);
        script_clear(&visitor.peer);
    }
}

/* ---- refused in the client's own language -------------------------------------------
 */

Test(client, hears_that_no_node_can_be_had)
{
    packet_add_login(&first, PACKET_PROTOCOL_3_0);
    say_and_hear_error("57P03");
    cr_expect_eq(house_tally(&house, 0, 0).refused, 4);
}

Test(client, hears_it_with_any_protocol_3)
{
    packet_add_login(&first, PACKET_PROTOCOL_3_2);
    say_and_hear_error("57P03");
}

Test(client, that_asks_to_encrypt_hears_an_error_and_never_n)
{
    packet_add_request(&first, PACKET_SSL);
    say_and_hear_error("57P03");
    first.n = 0;
    packet_add_request(&first, PACKET_GSSENC);
    say_and_hear_error("57P03");
}

Test(client, of_direct_tls_hears_an_alert)
{
    packet_add(&first, PACKET_CLIENT_HELLO, PACKET_CLIENT_HELLO_BYTES);
    for (size_t piece = 0; piece < 3; piece++) {
        say_first(piece);
        cr_expect(heard(&visitor.peer, tls_alert_internal_error, TLS_ALERT_BYTES));
        cr_expect(visitor.peer.has_heard_end);
        script_ends(&visitor.peer);
        house_turn(&house, 5);
        cr_expect(visitor.is_gone);
        script_clear(&visitor.peer);
    }
}

Test(client, hears_why_in_words)
{
    static const char text[] = "Mno primary is available: two nodes claim to be it";
    struct topology *topology = map_new("main", 0);

    strcpy(topology->clusters[0].why_no_primary, "two nodes claim to be it");
    house_tell(&house, topology);
    packet_add_login(&first, PACKET_PROTOCOL_3_0);
    say_first(0);
    cr_expect_not_null(
        memmem(visitor.peer.heard, visitor.peer.n_heard, text, sizeof text));
}

Test(client, of_an_old_protocol_hears_so)
{
    packet_add_login(&first, 0x00020000u);
    say_and_hear_error("0A000");
    cr_expect_eq(house_tally(&house, 0, 0).bad_requests, 4);
}

Test(client, hears_that_there_are_too_many)
{
    packet_add_login(&first, PACKET_PROTOCOL_3_0);
    script_says(&visitor.peer, first.bytes, first.n, 0);
    visit(false);
    house_turn(&house, 10);
    cr_expect(heard_error(&visitor.peer, "53300"));
    cr_expect_not_null(memmem(visitor.peer.heard, visitor.peer.n_heard, "(maxconn)", 9),
                       "the setting that is in the way is named");
}

/* ---- and those whom nothing can be said to -------------------------------------------
 */

static void say_and_hear_nothing(void)
{
    say_first(0);
    cr_expect_eq(visitor.peer.n_heard, 0);
    cr_expect(visitor.is_gone);
    cr_expect(visitor.peer.was_closed);
}

Test(client, that_speaks_another_language_hears_nothing)
{
    packet_add(&first, "GET / HTTP/1.1\r\n\r\n", 18);
    house_capture_log(&house);
    say_and_hear_nothing();
    cr_expect(house_logged(&house, "reason=NOT_POSTGRESQL"));
    cr_expect_not(house_logged(&house, "warning"), "a port scanner is no event");
    cr_expect_eq(house_tally(&house, 0, 0).bad_requests, 1);
    cr_expect_eq(house_tally(&house, 0, 0).refused, 0);
}

Test(client, with_an_absurd_length_hears_nothing)
{
    packet_add_u32(&first, 0x7fffffff);
    say_and_hear_nothing();
}

Test(client, that_cancels_an_unknown_session_hears_nothing)
{
    packet_add_cancel(&first, 4711, key, sizeof key);
    house_capture_log(&house);
    say_and_hear_nothing();
    cr_expect(house_logged(&house, "reason=CANCEL_UNKNOWN"));
}

Test(client, that_leaves_without_a_word_is_no_event)
{
    house_capture_log(&house);
    script_ends(&visitor.peer);
    visit(true);
    house_turn(&house, 5);
    cr_expect(visitor.is_gone);
    cr_expect(house_logged(&house, "reason=SAID_NOTHING"));
    cr_expect_not(house_logged(&house, "warning"));
}

Test(client, that_resets_without_a_word_is_no_event)
{
    house_capture_log(&house);
    script_fails(&visitor.peer, STREAM_RESET);
    visit(true);
    house_turn(&house, 5);
    cr_expect(visitor.is_gone);
    cr_expect(house_logged(&house, "reason=SAID_NOTHING"));
}

Test(client, that_leaves_in_the_midst_of_its_first_packet_is_counted)
{
    house_capture_log(&house);
    packet_add_login(&first, PACKET_PROTOCOL_3_0);
    script_says(&visitor.peer, first.bytes, first.n - 1, 0);
    script_ends(&visitor.peer);
    visit(true);
    house_turn(&house, 5);
    cr_expect(visitor.is_gone);
    cr_expect_eq(visitor.peer.n_heard, 0);
    cr_expect(house_logged(&house, "reason=LEFT_AT_LOGIN"));
}

Test(client, that_is_silent_is_sent_away)
{
    reopen("client_login_timeout = 50ms", "");
    house_capture_log(&house);
    visit(true);
    house_turn(&house, 5);
    cr_expect_not(visitor.is_gone);
    cr_expect(house_turn_until(&house, &visitor.is_gone, 5000));
    cr_expect_eq(visitor.peer.n_heard, 0);
    cr_expect(house_logged(&house, "reason=LOGIN_TIMEOUT"));
}

Test(client, that_is_slow_is_sent_away_too)
{
    reopen("client_login_timeout = 50ms", "");
    packet_add_login(&first, PACKET_PROTOCOL_3_0);
    script_says(&visitor.peer, first.bytes, first.n - 1, 0);
    visit(true);
    cr_expect(house_turn_until(&house, &visitor.is_gone, 5000));
    cr_expect_eq(visitor.peer.n_heard, 0, "its packet was never whole");
}

/* ---- while it is refused -------------------------------------------------------------
 */

Test(client, may_say_what_it_likes_while_it_reads_why)
{
    static const char chatter[50000];

    packet_add_login(&first, PACKET_PROTOCOL_3_0);
    script_says(&visitor.peer, first.bytes, first.n, 0);
    script_says(&visitor.peer, chatter, sizeof chatter, 0);
    visit(true);
    house_turn(&house, 20);
    cr_expect(heard_error(&visitor.peer, "57P03"));
    cr_expect(script_is_played(&visitor.peer), "all of it is read, so nothing is reset");
    cr_expect_eq(pond_n_taken(house.workers[0]->loop->pond), 0);
    cr_expect_not(visitor.is_gone);
}

Test(client, that_takes_nothing_is_not_waited_for_at_the_end)
{
    visitor.peer.window = 1;
    packet_add_login(&first, PACKET_PROTOCOL_3_0);
    say_first(0);
    cr_expect_eq(visitor.peer.n_heard, 1);
    cr_expect_not(visitor.peer.has_heard_end);
    worker_post_stop(house.workers[0]);
    house_turn(&house, 5);
    cr_expect(visitor.is_gone);
}

Test(client, that_resets_while_it_is_refused_is_gone)
{
    packet_add_login(&first, PACKET_PROTOCOL_3_0);
    script_says(&visitor.peer, first.bytes, first.n, 0);
    script_fails(&visitor.peer, STREAM_RESET);
    visit(true);
    house_turn(&house, 10);
    cr_expect(visitor.is_gone);
    cr_expect_eq(house.n_gone, 1);
}

Test(client, refusals_are_logged_and_not_too_often)
{
    static struct visitor many[40];

    house_capture_log(&house);
    packet_add_login(&first, PACKET_PROTOCOL_3_0);
    for (size_t i = 0; i < COUNT_OF(many); i++) {
        script_says(&many[i].peer, first.bytes, first.n, 0);
        script_ends(&many[i].peer);
        house_visit(&house, 0, &many[i], true);
    }
    house_turn(&house, 20);
    cr_expect_eq(house.n_gone, COUNT_OF(many));
    cr_expect(house_logged(&house, "client refused client=10.0.0.1:4"));
    cr_expect(house_logged(&house, "listener=rw reason=NO_NODE"));
    cr_expect_gt(house.refusals_logged.n_missed, 0);
    cr_expect_eq(house_tally(&house, 0, 0).refused, COUNT_OF(many));
    for (size_t i = 0; i < COUNT_OF(many); i++)
        script_clear(&many[i].peer);
}

/* ---- more than its first packet ------------------------------------------------------
 */

Test(client, is_read_only_as_far_as_there_is_room)
{
    static char chatter[200000];

    reopen("", "queue_timeout = 60s");
    packet_add_login(&first, PACKET_PROTOCOL_3_0);
    script_says(&visitor.peer, first.bytes, first.n, 0);
    script_says(&visitor.peer, chatter, sizeof chatter, 1000);
    visit(true);
    house_turn(&house, 300);
    cr_expect_eq(visitor_client(&visitor)->state, CLIENT_WAITING);
    cr_expect_leq(pond_n_taken(house.workers[0]->loop->pond), 2);
    cr_expect_not(script_is_played(&visitor.peer));
    cr_expect_not(visitor_client(&visitor)->stream.wants_bytes);
}

/* ---- without memory ------------------------------------------------------------------
 */

/* One client from its arrival to its end, with the `nth` allocation failing. Whatever
 * happens it is told nothing wrong, and is gone at the end. Whether it failed. */
static bool survive(unsigned nth)
{
    bool has_failed;
    const struct script_peer *peer = &visitor.peer;

    reopen("", "queue_timeout = 50ms");
    packet_add_login(&first, PACKET_PROTOCOL_3_0);
    packet_add_welcome(&welcome, 4711, key, sizeof key);
    house_tell(&house, map_new("main", 1));
    house_turn(&house, 2);
    script_net_serve(HOUSE_PORT(1), &server);
    server.window = SCRIPT_ALL;
    script_opens(&server);
    script_hears(&server, first.n);
    script_says(&server, welcome.bytes, welcome.n, 0);
    script_says(&visitor.peer, first.bytes, first.n, 0);
    script_rests(&visitor.peer, 20);
    script_ends(&visitor.peer);
    script_rests(&server, 30);
    script_ends(&server);
    visit(true);

    memory_fail_at = nth;
    house_turn(&house, 50);
    has_failed = memory_fail_at == 0;
    memory_fail_at = 0;
    cr_assert(visitor.is_gone || house_turn_until(&house, &visitor.is_gone, 3000));
    cr_expect(peer->n_heard == 0 || heard_packet(peer, &welcome) ||
                  heard_error(peer, "53200") || heard_error(peer, "57P03"),
              "failure of allocation %u: %zu bytes heard", nth, peer->n_heard);
    cr_expect_eq(slab_n_taken(house.workers[0]->client_slab), 0);
    cr_expect_eq(slab_n_taken(house.workers[0]->server_slab), 0);
    cr_expect_eq(pond_n_taken(house.workers[0]->loop->pond), 0);
    return has_failed;
}

Test(client, survives_each_allocation_failure)
{
    unsigned nth = 1;

    while (survive(nth))
        nth++;
    cr_expect_gt(nth, 5);
    cr_expect(heard_packet(&visitor.peer, &welcome), "and without a failure all is well");
}
