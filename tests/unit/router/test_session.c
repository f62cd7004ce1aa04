/* From the first packet to the end of a session. Over a scripted network. */
#include "router/session.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/house.h"
#include "tests/lib/map.h"

static struct house house;
static struct visitor visitor;
static struct script_peer servers[4];
static struct packet first, welcome, refusal;
static const uint8_t key[4] = {1, 2, 3, 4};
static struct topology *map; /* the one that the workers have */

static void clear(void)
{
    house_close(&house);
    topology_release(map);
    script_clear(&visitor.peer);
    for (unsigned i = 0; i < COUNT_OF(servers); i++)
        script_clear(&servers[i]);
}

static void tell(struct topology *topology)
{
    topology_release(map);
    map = topology_hold(topology);
    house_tell(&house, topology);
    house_turn(&house, 3);
}

/* Two nodes, n1 the primary, and packets to be said. */
static void open_with(const char *ini, const char *listener)
{
    house_open(&house, 1, ini, listener);
    tell(map_new("main", 2));
    first.n = welcome.n = refusal.n = 0;
    packet_add_login(&first, PACKET_PROTOCOL_3_0);
    packet_add_welcome(&welcome, 4711, key, sizeof key);
    for (unsigned i = 0; i < COUNT_OF(servers); i++)
        servers[i].window = SCRIPT_ALL;
}

static void open_house(void)
{
    open_with("", "queue_timeout = 60s");
}

static void reopen(const char *ini, const char *listener)
{
    clear();
    map = NULL;
    open_with(ini, listener);
}

TestSuite(session, .init = open_house, .fini = clear, .timeout = 30);

static struct worker *worker(void)
{
    return house.workers[0];
}

static const struct client *client(void)
{
    cr_assert_not_null(visitor_client(&visitor), "the client is gone");
    return visitor_client(&visitor);
}

/* Only while the worker's loop stands still. */
static void expect_state(enum client_state state)
{
    cr_expect_eq(client()->state, state, "it is %s", client_state_name(client()->state));
}

static void visit_saying(const struct packet *packet)
{
    script_says(&visitor.peer, packet->bytes, packet->n, 0);
    house_visit(&house, 0, &visitor, true);
}

/* The next server at the node opens, and says this once it has heard `n` bytes. */
static void serve(unsigned node, struct script_peer *server, size_t n_heard,
                  const struct packet *packet, size_t piece)
{
    script_net_serve(HOUSE_PORT(node), server);
    script_opens(server);
    script_hears(server, n_heard);
    if (packet != NULL)
        script_says(server, packet->bytes, packet->n, piece);
}

/* A session on n1 that is open. */
static void open_session(void)
{
    serve(1, &servers[0], first.n, &welcome, 0);
    visit_saying(&first);
    house_turn(&house, 15);
    expect_state(CLIENT_ACTIVE);
}

static bool key_is_known(void)
{
    struct cancel_key wanted = {.process_id = 4711, .length = 4};
    uint32_t node_id;
    void *client;

    memcpy(wanted.secret, key, 4);
    return cancel_keys_find(worker()->cancel_keys, &wanted, &node_id, &client) &&
           client == NULL && node_id == 1;
}

static unsigned n_sessions(unsigned node)
{
    return atomic_load(&map->clusters[0].nodes[node - 1].load->n_sessions);
}

/* ---- login --------------------------------------------------------------------------
 */

Test(session, opens_whatever_the_pieces)
{
    static const size_t pieces[] = {1, 2, 5, 0};

    for (size_t i = 0; i < COUNT_OF(pieces); i++) {
        reopen("", "");
        script_says(&visitor.peer, first.bytes, first.n, pieces[i]);
        serve(1, &servers[0], first.n, &welcome, pieces[i]);
        house_visit(&house, 0, &visitor, true);
        house_turn(&house, (unsigned)(first.n + welcome.n) + 20);
        expect_state(CLIENT_ACTIVE);
        cr_expect(heard_packet(&servers[0], &first));
        cr_expect(heard_packet(&visitor.peer, &welcome));
        cr_expect(key_is_known());
        cr_expect_null(client()->login, "what only the login needs is gone");
        cr_expect_null(client()->inbox);
        cr_expect_eq(pond_n_taken(worker()->loop->pond), 0, "idle: no buffer");
    }
}

Test(session, opens_when_nothing_is_ever_sent_at_once)
{
    visitor.peer.takes_late = servers[0].takes_late = true;
    open_session();
    cr_expect(heard_packet(&servers[0], &first));
    cr_expect(heard_packet(&visitor.peer, &welcome));
}

Test(session, passes_the_words_of_a_login_both_ways)
{
    struct packet question = {0}, answer = {0};

    packet_add_message(&question, 'R', "\0\0\0\x0aSCRAM-SHA-256\0\0", 19);
    packet_add_message(&answer, 'p', "secret", 7);
    serve(1, &servers[0], first.n, &question, 0);
    script_hears(&servers[0], first.n + answer.n);
    script_says(&servers[0], welcome.bytes, welcome.n, 0);
    script_says(&visitor.peer, first.bytes, first.n, 0);
    script_hears(&visitor.peer, question.n);
    script_says(&visitor.peer, answer.bytes, answer.n, 1);
    house_visit(&house, 0, &visitor, true);
    house_turn(&house, 40);
    expect_state(CLIENT_ACTIVE);
    packet_add(&first, answer.bytes, answer.n);
    packet_add(&question, welcome.bytes, welcome.n);
    cr_expect(heard_packet(&servers[0], &first));
    cr_expect(heard_packet(&visitor.peer, &question));
}

Test(session, keeps_what_is_said_too_early_until_the_node_has_answered)
{
    struct packet both = first;

    packet_add(&both, "early words", 11);
    serve(1, &servers[0], first.n, NULL, 0);
    script_rests(&servers[0], 10);
    script_says(&servers[0], welcome.bytes, welcome.n, 0);
    visit_saying(&both);
    house_turn(&house, 8);
    expect_state(CLIENT_LOGIN);
    cr_expect(heard_packet(&servers[0], &first), "nothing behind it");
    house_turn(&house, 20);
    expect_state(CLIENT_ACTIVE);
    cr_expect(heard_packet(&servers[0], &both));
    cr_expect_eq(client()->n_bytes[0], both.n);
    cr_expect_eq(client()->n_bytes[1], welcome.n);
}

Test(session, counts_and_forgets)
{
    house_capture_log(&house);
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    open_session();
    cr_expect_eq(house_tally(&house, 0, 1).sessions_now, 1);
    cr_expect_eq(house_tally(&house, 0, 1).sessions_total, 1);
    cr_expect_eq(house_tally(&house, 0, 1).sessions_max, 1);
    cr_expect_eq(n_sessions(1), 1);
    cr_expect(house_logged(&house, "session began client=10.0.0.1:4"));

    script_says(&visitor.peer, "question", 8, 0);
    script_says(&servers[0], "answers", 7, 0);
    house_turn(&house, 5);
    script_ends(&visitor.peer);
    house_turn(&house, 5);
    cr_expect(servers[0].has_heard_end);
    cr_expect_not(visitor.is_gone, "the server may go on");
    script_ends(&servers[0]);
    house_turn(&house, 5);
    cr_expect(visitor.is_gone);
    packet_add(&first, "question", 8);
    packet_add(&welcome, "answers", 7);
    cr_expect(heard_packet(&servers[0], &first));
    cr_expect(heard_packet(&visitor.peer, &welcome));
    cr_expect_eq(house_tally(&house, 0, 1).sessions_now, 0);
    cr_expect_eq(house_tally(&house, 0, 1).bytes_in, first.n);
    cr_expect_eq(house_tally(&house, 0, 1).bytes_out, welcome.n);
    cr_expect_eq(house_tally(&house, 0, 1).client_aborts, 0);
    cr_expect_eq(n_sessions(1), 0);
    cr_expect_not(key_is_known());
    cr_expect(house_logged(&house, "session ended client=10.0.0.1:4"));
    cr_expect(house_logged(&house, "node=n1"));
    cr_expect(house_logged(&house, "reason=CLIENT_CLOSED"));
}

/* ---- requests to encrypt ------------------------------------------------------------
 */

static struct packet ssl_request(void)
{
    struct packet packet = {0};

    packet_add_request(&packet, PACKET_SSL);
    return packet;
}

static void answer_request(const struct packet *request, const char *answer, size_t n)
{
    serve(1, &servers[0], request->n, NULL, 0);
    script_says(&servers[0], answer, n, 0);
    visit_saying(request);
    house_turn(&house, 15);
}

Test(session, passes_everything_untouched_once_the_node_encrypts)
{
    static const char codes[] = "SG";

    for (size_t i = 0; i < 2; i++) {
        struct packet request = {0};

        reopen("", "");
        packet_add_request(&request, i == 0 ? PACKET_SSL : PACKET_GSSENC);
        answer_request(&request, &codes[i], 1);
        expect_state(CLIENT_ACTIVE);
        cr_expect(heard(&visitor.peer, &codes[i], 1));
        script_says(&visitor.peer, "\x16\x03\x01 hidden", 10, 0);
        house_turn(&house, 5);
        packet_add(&request, "\x16\x03\x01 hidden", 10);
        cr_expect(heard_packet(&servers[0], &request));
        cr_expect_null(client()->key, "the key passes by unseen");
    }
}

Test(session, goes_on_in_clear_text_at_the_same_server_when_the_node_says_no)
{
    struct packet request = ssl_request(), all = request;

    answer_request(&request, "N", 1);
    expect_state(CLIENT_STARTUP);
    cr_expect(heard(&visitor.peer, "N", 1), "the node's own");
    script_says(&visitor.peer, first.bytes, first.n, 3);
    script_hears(&servers[0], request.n + first.n);
    script_says(&servers[0], welcome.bytes, welcome.n, 0);
    house_turn(&house, 40);
    expect_state(CLIENT_ACTIVE);
    packet_add(&all, first.bytes, first.n);
    cr_expect(heard_packet(&servers[0], &all));
    cr_expect_eq(script_net_n_connects(HOUSE_PORT(1)), 1);
    cr_expect(key_is_known());
    cr_expect_eq(house_tally(&house, 0, 1).sessions_total, 1);
}

Test(session, may_be_asked_for_both_kinds_of_encryption_in_turn)
{
    struct packet gssenc = {0}, ssl = ssl_request();

    packet_add_request(&gssenc, PACKET_GSSENC);
    answer_request(&gssenc, "N", 1);
    script_says(&visitor.peer, ssl.bytes, ssl.n, 0);
    script_hears(&servers[0], 16);
    script_says(&servers[0], "S", 1, 0);
    house_turn(&house, 15);
    expect_state(CLIENT_ACTIVE);
    cr_expect(heard(&visitor.peer, "NS", 2));
}

Test(session, passes_on_an_error_in_answer_to_a_request)
{
    struct packet request = ssl_request();

    packet_add_error(&refusal, "FATAL", "0A000", "unsupported");
    answer_request(&request, (const char *)refusal.bytes, refusal.n);
    cr_expect(heard_packet(&visitor.peer, &refusal));
}

Test(session, ends_when_the_answer_to_a_request_is_nonsense)
{
    static const char *const answers[] = {"X", "NS", "N\x16\x03"};

    for (size_t i = 0; i < COUNT_OF(answers); i++) {
        struct packet request = ssl_request();

        reopen("", "");
        answer_request(&request, answers[i], strlen(answers[i]));
        cr_expect(visitor.is_gone, "%s", answers[i]);
        cr_expect_eq(visitor.peer.n_heard, 0, "no byte of it is passed on");
        cr_expect(servers[0].was_closed);
    }
}

Test(session, of_direct_tls_is_passed_on_as_it_is)
{
    struct packet hello = {0};

    packet_add(&hello, PACKET_CLIENT_HELLO, PACKET_CLIENT_HELLO_BYTES);
    serve(1, &servers[0], hello.n, NULL, 0);
    script_says(&servers[0], "\x16\x03\x03 hello", 8, 0);
    script_says(&visitor.peer, hello.bytes, hello.n, 2);
    house_visit(&house, 0, &visitor, true);
    house_turn(&house, 30);
    expect_state(CLIENT_ACTIVE);
    cr_expect(heard_packet(&servers[0], &hello));
    cr_expect(heard(&visitor.peer, "\x16\x03\x03 hello", 8));
}

Test(session, a_second_packet_that_is_garbage_ends_it)
{
    struct packet request = ssl_request();

    answer_request(&request, "N", 1);
    script_says(&visitor.peer, "GET / HTTP/1.1\r\n", 16, 0);
    house_turn(&house, 5);
    cr_expect(visitor.is_gone);
    cr_expect(servers[0].was_closed);
    cr_expect(heard_packet(&servers[0], &request));
}

/* ---- another node -------------------------------------------------------------------
 */

Test(session, goes_to_another_node_when_one_refuses)
{
    reopen("", "role = read-only\nbalance = first");
    serve(2, &servers[1], first.n, &welcome, 0);
    visit_saying(&first); /* nobody is at n1 */
    house_turn(&house, 30);
    expect_state(CLIENT_ACTIVE);
    cr_expect(heard_packet(&servers[1], &first));
    cr_expect_eq(script_net_n_connects(HOUSE_PORT(1)), 1);
    cr_expect_eq(house_tally(&house, 0, 1).connect_errors, 1);
    cr_expect_eq(house_tally(&house, 0, 1).retries, 1);
    cr_expect_eq(house.n_evidence[EVIDENCE_REFUSED], 1);
    cr_expect_eq(house.evidence_node, 1);
}

/* n1 opens, hears the packet and then does this; n2 serves. */
static void expect_to_go_elsewhere(void)
{
    serve(2, &servers[1], first.n, &welcome, 0);
    visit_saying(&first);
    house_turn(&house, 150);
    expect_state(CLIENT_ACTIVE);
    cr_expect(heard_packet(&servers[0], &first));
    cr_expect(heard_packet(&servers[1], &first), "the whole packet once more");
    cr_expect(heard_packet(&visitor.peer, &welcome), "nothing of the first is heard");
    cr_expect_eq(n_sessions(1), 0);
    cr_expect_eq(n_sessions(2), 1);
    cr_expect_eq(client()->n_bytes[0], first.n, "counted once");
}

Test(session, goes_to_another_node_when_one_is_starting_up_or_shutting_down)
{
    static const char *const codes[] = {"57P01", "57P02", "57P03"};

    static const size_t pieces[] = {0, 1, 3, 40};

    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        for (size_t k = 0; k < COUNT_OF(pieces); k++) {
            reopen("", "role = read-only\nbalance = first");
            packet_add_error(&refusal, "FATAL", codes[i], "not now");
            serve(1, &servers[0], first.n, &refusal, pieces[k]);
            script_ends(&servers[0]);
            expect_to_go_elsewhere();
            cr_expect_eq(house.n_evidence[EVIDENCE_SHUTTING_DOWN], 1);
            cr_expect_eq(pond_n_taken(worker()->loop->pond), 0);
        }
    }
}

Test(session, goes_to_another_node_when_one_ends_or_resets_without_a_word)
{
    for (unsigned i = 0; i < 2; i++) {
        reopen("", "role = read-only\nbalance = first");
        serve(1, &servers[0], first.n, NULL, 0);
        if (i == 0)
            script_ends(&servers[0]);
        else
            script_fails(&servers[0], STREAM_RESET);
        expect_to_go_elsewhere();
        cr_expect_eq(house.n_evidence[EVIDENCE_REFUSED], 1);
    }
}

Test(session, is_refused_when_every_node_has_refused_it_for_too_long)
{
    reopen("", "role = read-only\nqueue_timeout = 250ms");
    visit_saying(&first);
    house_turn(&house, 20);
    expect_state(CLIENT_WAITING);
    cr_expect_eq(script_net_n_connects(HOUSE_PORT(1)), 1, "each is tried once");
    cr_expect_eq(script_net_n_connects(HOUSE_PORT(2)), 1);
    cr_expect(house_turn_until(&house, &visitor.peer.has_heard_end, 5000));
    cr_expect(heard_error(&visitor.peer, "57P03"));
    cr_expect_geq(script_net_n_connects(HOUSE_PORT(1)), 2, "and again while it waits");
    cr_expect_geq(script_net_n_connects(HOUSE_PORT(2)), 2);
}

Test(session, tries_a_silent_node_for_connect_timeout_and_goes_on)
{
    reopen("", "role = read-only\nbalance = first\nconnect_timeout = 50ms");
    script_net_serve(HOUSE_PORT(1), &servers[0]); /* never opens */
    serve(2, &servers[1], first.n, &welcome, 0);
    visit_saying(&first);
    script_hears(&visitor.peer, welcome.n);
    for (bool never = false; !script_is_played(&visitor.peer) && !visitor.is_gone;)
        house_turn_until(&house, &never, 10);
    house_turn(&house, 5);
    expect_state(CLIENT_ACTIVE);
    cr_expect(servers[0].was_closed);
    cr_expect_eq(house.n_evidence[EVIDENCE_SILENT], 1);
}

Test(session, goes_to_another_node_also_behind_a_note_about_the_protocols_version)
{
    reopen("", "role = read-only\nbalance = first");
    packet_add_message(&refusal, 'v', "\0\3\0\0\0\0\0\0", 8);
    packet_add_error(&refusal, "FATAL", "57P03", "not now");
    serve(1, &servers[0], first.n, &refusal, 5);
    expect_to_go_elsewhere();
}

Test(session, passes_on_a_first_word_that_is_too_long_to_be_a_refusal)
{
    static char text[20000];

    memset(text, 'x', sizeof text - 1);
    packet_add_error(&refusal, "FATAL", "57P03", text);
    serve(1, &servers[0], first.n, &refusal, 1000);
    visit_saying(&first);
    house_turn(&house, 60);
    cr_expect(heard_packet(&visitor.peer, &refusal));
}

/* ---- a login that is refused ---------------------------------------------------------
 */

Test(session, passes_on_why_the_node_refuses_a_login)
{
    house_capture_log(&house);
    packet_add_error(&refusal, "FATAL", "28P01", "password authentication failed");
    serve(1, &servers[0], first.n, &refusal, 7);
    script_ends(&servers[0]);
    visit_saying(&first);
    house_turn(&house, 40);
    cr_expect(heard_packet(&visitor.peer, &refusal));
    cr_expect(visitor.peer.has_heard_end);
    expect_state(CLIENT_ENDING);
    script_ends(&visitor.peer);
    house_turn(&house, 5);
    cr_expect(visitor.is_gone);
    cr_expect(house_logged(&house, "reason=REFUSED_BY_NODE"));
    cr_expect_eq(house_tally(&house, 0, 1).logins_refused, 1);
    cr_expect_eq(house.n_evidence[EVIDENCE_SHUTTING_DOWN], 0);
    cr_expect_eq(script_net_n_connects(HOUSE_PORT(2)), 0);
}

Test(session, passes_on_a_shutdown_that_comes_too_late_to_go_elsewhere)
{
    struct packet all = {0};

    packet_add_message(&all, 'R', "\0\0\0\0", 4);
    packet_add_error(&all, "FATAL", "57P01", "terminating connection");
    serve(1, &servers[0], first.n, &all, 0);
    script_ends(&servers[0]);
    visit_saying(&first);
    house_turn(&house, 20);
    cr_expect(heard_packet(&visitor.peer, &all));
    cr_expect_eq(house.n_evidence[EVIDENCE_SHUTTING_DOWN], 1);
    cr_expect_eq(house_tally(&house, 0, 1).retries, 0);
}

Test(session, says_so_when_the_node_does_not_speak_postgresqls_protocol)
{
    serve(1, &servers[0], first.n, NULL, 0);
    script_says(&servers[0], "HTTP/1.1 400 Bad Request\r\n", 26, 0);
    visit_saying(&first);
    house_turn(&house, 20);
    cr_expect(heard_error(&visitor.peer, "08P01"));
    cr_expect(servers[0].was_closed);
}

Test(session, ends_when_the_server_is_reset_in_the_midst_of_a_login)
{
    struct packet question = {0};

    house_capture_log(&house);
    packet_add_message(&question, 'R', "\0\0\0\x0aSCRAM-SHA-256\0\0", 19);
    serve(1, &servers[0], first.n, &question, 0);
    script_fails(&servers[0], STREAM_RESET);
    visit_saying(&first);
    house_turn(&house, 20);
    cr_expect(visitor.is_gone);
    cr_expect(house_logged(&house, "reason=SERVER_RESET"));
    cr_expect_eq(house_tally(&house, 0, 1).server_aborts, 1);
}

Test(session, ends_when_the_client_leaves_in_the_midst_of_a_login)
{
    house_capture_log(&house);
    serve(1, &servers[0], first.n, NULL, 0);
    script_says(&visitor.peer, first.bytes, first.n, 0);
    script_rests(&visitor.peer, 8);
    script_ends(&visitor.peer);
    house_visit(&house, 0, &visitor, true);
    house_turn(&house, 20);
    cr_expect(visitor.is_gone);
    cr_expect(servers[0].was_closed);
    cr_expect(house_logged(&house, "reason=LEFT_AT_LOGIN"));
    cr_expect_eq(house_tally(&house, 0, 1).sessions_now, 0);
    cr_expect_eq(house_tally(&house, 0, 1).client_aborts, 1);
}

Test(session, of_a_client_that_does_not_log_in_is_ended_in_time)
{
    struct packet question = {0};

    reopen("client_login_timeout = 100ms", "");
    packet_add_message(&question, 'R', "\0\0\0\x0aSCRAM-SHA-256\0\0", 19);
    serve(1, &servers[0], first.n, &question, 0);
    visit_saying(&first);
    house_turn(&house, 20);
    expect_state(CLIENT_LOGIN);
    cr_expect(house_turn_until(&house, &servers[0].was_closed, 5000));
    cr_expect_eq(memcmp(visitor.peer.heard + question.n, "E", 1), 0, "it is told so");
}

/* ---- back-pressure in the login ------------------------------------------------------
 */

Test(session, reads_no_more_of_the_server_than_a_slow_client_takes)
{
    static uint8_t notices[200000];
    struct packet header = {0};

    for (size_t i = 0; i + 200 <= sizeof notices; i += 200) {
        header.n = 0;
        packet_add(&header, "N", 1);
        packet_add_u32(&header, 199);
        memcpy(notices + i, header.bytes, 5);
    }
    visitor.peer.window = 10;
    serve(1, &servers[0], first.n, NULL, 0);
    script_says(&servers[0], notices, sizeof notices, 0);
    script_says(&servers[0], welcome.bytes, welcome.n, 0);
    visit_saying(&first);
    house_turn(&house, 50);
    expect_state(CLIENT_LOGIN);
    cr_expect_leq(pond_n_taken(worker()->loop->pond), 2);
    cr_expect_eq(visitor.peer.n_heard, 10);

    script_widen(&visitor.peer, SCRIPT_ALL);
    house_turn(&house, 50);
    expect_state(CLIENT_ACTIVE);
    cr_expect_eq(visitor.peer.n_heard, sizeof notices + welcome.n);
    cr_expect_eq(memcmp(visitor.peer.heard, notices, sizeof notices), 0);
}

Test(session, reads_no_more_of_the_client_than_a_slow_server_takes)
{
    static char words[100000];
    struct packet question = {0};

    memset(words, 'w', sizeof words);
    packet_add_message(&question, 'R', "\0\0\0\x0aSCRAM-SHA-256\0\0", 19);
    serve(1, &servers[0], first.n, &question, 0);
    servers[0].window = first.n + 100;
    script_says(&visitor.peer, first.bytes, first.n, 0);
    script_says(&visitor.peer, words, sizeof words, 5000);
    house_visit(&house, 0, &visitor, true);
    house_turn(&house, 50);
    expect_state(CLIENT_LOGIN);
    cr_expect_leq(pond_n_taken(worker()->loop->pond), 4);
    cr_expect_eq(servers[0].n_heard, first.n + 100);

    script_widen(&servers[0], SCRIPT_ALL);
    house_turn(&house, 50);
    cr_expect_eq(servers[0].n_heard, first.n + sizeof words);
}

/* ---- waiting ------------------------------------------------------------------------
 */

static struct topology *without_primary(void)
{
    struct topology *next = map_next(map);

    next->clusters[0].primary = -1;
    next->clusters[0].nodes[0].is_up = false;
    return next;
}

static struct topology *with_primary(unsigned node)
{
    struct topology *next = map_next(map);

    for (size_t i = 0; i < next->clusters[0].n_nodes; i++) {
        next->clusters[0].nodes[i].is_up = true;
        next->clusters[0].nodes[i].role = i + 1 == node ? NODE_PRIMARY : NODE_REPLICA;
        next->clusters[0].nodes[i].is_replica_for_all = i + 1 != node;
    }
    next->clusters[0].primary = (int)node - 1;
    return next;
}

Test(session, waits_for_a_primary_and_goes_there_at_once)
{
    bool never = false;

    tell(without_primary());
    visit_saying(&first);
    house_turn(&house, 10);
    expect_state(CLIENT_WAITING);
    cr_expect_eq(house.gate.n_waiting, 1);
    cr_expect_eq(visitor.peer.n_heard, 0, "nothing is answered before");
    house_turn_until(&house, &never, 250);
    cr_expect_eq(house.n_waiting, 1, "control is told");

    serve(2, &servers[1], first.n, &welcome, 0);
    tell(with_primary(2));
    house_turn(&house, 15);
    expect_state(CLIENT_ACTIVE);
    cr_expect_eq(house.gate.n_waiting, 0);
    cr_expect_eq(house_tally(&house, 0, 0).waiting_max, 1);
    house_turn_until(&house, &never, 250);
    cr_expect_eq(house.n_waiting, 0, "and that it is over");
}

Test(session, waits_for_a_place_and_goes_on_at_once)
{
    script_says(&visitor.peer, first.bytes, first.n, 0);
    house_visit(&house, 0, &visitor, false);
    house_turn(&house, 10);
    expect_state(CLIENT_WAITING);
    cr_expect_eq(script_net_n_connects(HOUSE_PORT(1)), 0);
    serve(1, &servers[0], first.n, &welcome, 0);
    house_admit(&visitor);
    house_turn(&house, 15);
    expect_state(CLIENT_ACTIVE);
}

Test(session, a_place_may_come_before_the_first_packet)
{
    house_visit(&house, 0, &visitor, false);
    house_turn(&house, 3);
    house_admit(&visitor);
    house_turn(&house, 3);
    expect_state(CLIENT_STARTUP);
    serve(1, &servers[0], first.n, &welcome, 0);
    script_says(&visitor.peer, first.bytes, first.n, 0);
    house_turn(&house, 15);
    expect_state(CLIENT_ACTIVE);
}

Test(session, a_place_for_a_client_that_is_gone_goes_back)
{
    script_says(&visitor.peer, first.bytes, first.n, 0);
    script_rests(&visitor.peer, 5);
    script_ends(&visitor.peer);
    house_visit(&house, 0, &visitor, false);
    house_turn(&house, 15);
    cr_expect(visitor.is_gone);
    house_admit(&visitor);
    house_turn(&house, 5);
    cr_expect_eq(house.n_admissions_missed, 1);
    cr_expect_eq(house.gate.n_waiting, 0);
}

/* ---- the topology changes ------------------------------------------------------------
 */

Test(session, ends_when_its_node_has_lost_the_role)
{
    house_capture_log(&house);
    open_session();
    tell(with_primary(2));
    cr_expect(visitor.is_gone);
    cr_expect(servers[0].was_closed);
    cr_expect(house_logged(&house, "reason=ROLE_CHANGED"));
    cr_expect_eq(house_tally(&house, 0, 1).server_aborts, 1);
}

Test(session, ends_when_its_node_is_down)
{
    house_capture_log(&house);
    open_session();
    tell(without_primary());
    cr_expect(visitor.is_gone);
    cr_expect(house_logged(&house, "reason=NODE_DOWN"));
}

Test(session, may_be_left_alone_when_roles_change)
{
    reopen("", "on_role_change = keep");
    open_session();
    tell(with_primary(2));
    tell(without_primary());
    expect_state(CLIENT_ACTIVE);
}

Test(session, lives_on_when_its_node_drains_or_is_configured_no_more)
{
    struct topology *next = map_next(map);

    open_session();
    next->clusters[0].nodes[0].is_draining = true;
    tell(next);
    expect_state(CLIENT_ACTIVE);
    tell(map_new("main", 0));
    tell(map_new("another", 0));
    expect_state(CLIENT_ACTIVE);
}

Test(session, that_the_node_has_not_answered_goes_elsewhere_when_the_role_does)
{
    serve(1, &servers[0], first.n, NULL, 0);
    visit_saying(&first);
    house_turn(&house, 10);
    expect_state(CLIENT_LOGIN);
    serve(2, &servers[1], first.n, &welcome, 0);
    tell(with_primary(2));
    house_turn(&house, 15);
    expect_state(CLIENT_ACTIVE);
    cr_expect(servers[0].was_closed);
    cr_expect(heard_packet(&servers[1], &first));
}

/* ---- ends ---------------------------------------------------------------------------
 */

Test(session, ends_as_the_server_does)
{
    for (unsigned i = 0; i < 2; i++) {
        reopen("", "");
        house_capture_log(&house);
        open_session();
        if (i == 0)
            script_ends(&servers[0]);
        else
            script_fails(&servers[0], STREAM_RESET);
        house_turn(&house, 5);
        cr_expect_eq(visitor.peer.has_heard_end, i == 0);
        cr_expect_eq(visitor.peer.was_reset, i == 1);
        if (i == 0)
            script_ends(&visitor.peer);
        house_turn(&house, 5);
        cr_expect(visitor.is_gone);
        cr_expect(house_logged(&house,
                               i == 0 ? "reason=SERVER_CLOSED" : "reason=SERVER_RESET"));
        cr_expect_eq(house_tally(&house, 0, 1).server_aborts, i);
    }
}

Test(session, a_reset_of_the_client_resets_the_server)
{
    house_capture_log(&house);
    open_session();
    script_fails(&visitor.peer, STREAM_RESET);
    house_turn(&house, 5);
    cr_expect(visitor.is_gone);
    cr_expect(servers[0].was_reset);
    cr_expect(house_logged(&house, "reason=CLIENT_RESET"));
    cr_expect_eq(house_tally(&house, 0, 1).client_aborts, 1);
}

Test(session, names_who_has_vanished)
{
    house_capture_log(&house);
    open_session();
    script_fails(&servers[0], STREAM_VANISHED);
    house_turn(&house, 5);
    cr_expect(visitor.is_gone);
    cr_expect(house_logged(&house, "reason=SERVER_VANISHED"));
}

Test(session, that_is_idle_for_too_long_ends)
{
    static const struct {
        const char *listener, *reason;
    } examples[] = {
        {"client_timeout = 200ms", "reason=CLIENT_TIMEOUT"},
        {"server_timeout = 200ms", "reason=SERVER_TIMEOUT"},
        {"server_timeout = 10s\nclient_timeout = 200ms", "reason=CLIENT_TIMEOUT"},
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        uint64_t active_ms;

        reopen("", examples[i].listener);
        house_capture_log(&house);
        open_session();
        for (unsigned k = 0; k < 5; k++) { /* life prolongs it */
            bool never = false;

            script_says(&visitor.peer, "x", 1, 0);
            house_turn_until(&house, &never, 60);
        }
        expect_state(CLIENT_ACTIVE);
        active_ms = client()->relay.active_at_ns / 1000000;
        cr_expect(house_turn_until(&house, &visitor.is_gone, 5000));
        cr_expect_geq(loop_now_ms(worker()->loop) - active_ms, 199);
        cr_expect_leq(loop_now_ms(worker()->loop) - active_ms, 1000);
        cr_expect(house_logged(&house, examples[i].reason));
    }
}

static void say(struct script_peer *peer)
{
    script_says(peer, "x", 1, 0);
    house_turn(&house, 5);
}

Test(session, ends_when_a_look_finds_an_end_vanished)
{
    for (unsigned i = 0; i < 2; i++) {
        struct script_peer *vanished = i == 0 ? &visitor.peer : &servers[0];

        reopen("tcp_user_timeout = 100ms", "");
        house_capture_log(&house);
        open_session();
        vanished->look = PEER_OWES;
        say(&visitor.peer);
        cr_expect_not(house_turn_until(&house, &visitor.is_gone, 300),
                      "who owes an answer is slow, which is its right");
        vanished->look = PEER_VANISHED;
        cr_expect(house_turn_until(&house, &visitor.is_gone, 5000));
        cr_expect(house_logged(&house, i == 0 ? "reason=CLIENT_VANISHED"
                                              : "reason=SERVER_VANISHED"));
        cr_expect_eq(house_tally(&house, 0, 1).client_aborts, i == 0);
        cr_expect_eq(house_tally(&house, 0, 1).server_aborts, i == 1);
    }
}

Test(session, that_is_idle_costs_no_look)
{
    reopen("tcp_user_timeout = 100ms", "");
    open_session();
    cr_expect_not(house_turn_until(&house, &visitor.is_gone, 150));
    visitor.peer.look = PEER_VANISHED;
    cr_expect_not(house_turn_until(&house, &visitor.is_gone, 300), "nobody asks");
    say(&servers[0]);
    cr_expect(house_turn_until(&house, &visitor.is_gone, 5000), "but after traffic");
}

Test(session, without_tcp_user_timeout_is_never_looked_at)
{
    reopen("tcp_user_timeout = 0", "client_timeout = 10s");
    open_session();
    visitor.peer.look = PEER_VANISHED;
    say(&servers[0]);
    session_look(visitor_client(&visitor));
    expect_state(CLIENT_ACTIVE);
}

/* The server has ended; the client reads slowly what it has said last. */
Test(session, that_ends_waits_for_a_slow_client)
{
    open_session();
    visitor.peer.window = 0;
    visitor.peer.look = PEER_OWES;
    script_says(&servers[0], "last words", 10, 0);
    script_fails(&servers[0], STREAM_RESET);
    house_turn(&house, 5);
    expect_state(CLIENT_ENDING);
    session_look(visitor_client(&visitor));
    expect_state(CLIENT_ENDING);

    script_widen(&visitor.peer, SCRIPT_ALL);
    house_turn(&house, 5);
    cr_expect(visitor.is_gone);
    packet_add(&welcome, "last words", 10);
    cr_expect(heard_packet(&visitor.peer, &welcome));
    cr_expect(visitor.peer.was_reset, "as the server was");
}

Test(session, that_ends_is_over_when_the_client_has_all_and_stays)
{
    house_capture_log(&house);
    open_session();
    script_ends(&servers[0]);
    house_turn(&house, 5);
    expect_state(CLIENT_ENDING);
    visitor.peer.look = PEER_OWES;
    session_look(visitor_client(&visitor));
    expect_state(CLIENT_ENDING);
    visitor.peer.look = PEER_HAS_ALL;
    session_look(visitor_client(&visitor));
    house_turn(&house, 3);
    cr_expect(visitor.is_gone);
    cr_expect(house_logged(&house, "reason=SERVER_CLOSED"));
}

Test(session, of_a_client_that_fails_ends_at_once_though_the_server_is_slow)
{
    house_capture_log(&house);
    open_session();
    servers[0].window = 0;
    script_says(&visitor.peer, "question", 8, 0);
    script_fails(&visitor.peer, STREAM_RESET);
    house_turn(&house, 5);
    cr_expect(visitor.is_gone);
    cr_expect(servers[0].was_reset);
    cr_expect(house_logged(&house, "reason=CLIENT_RESET"));
}

Test(session, lives_when_those_who_wait_are_sent_away)
{
    static struct visitor other;

    open_session();
    script_says(&other.peer, first.bytes, first.n, 0);
    house_visit(&house, 0, &other, false);
    house_turn(&house, 10);
    cr_assert(worker_post_end_waiting(worker()));
    house_turn(&house, 5);
    cr_expect(heard_error(&other.peer, "57P01"));
    expect_state(CLIENT_ACTIVE);
    script_ends(&other.peer);
    house_turn(&house, 5);
    cr_expect(other.is_gone);
    script_clear(&other.peer);
}

Test(session, ends_when_the_worker_stops)
{
    house_capture_log(&house);
    open_session();
    worker_post_stop(worker());
    house_turn(&house, 3);
    cr_expect(visitor.is_gone);
    cr_expect(servers[0].was_closed);
    cr_expect(house_logged(&house, "reason=SHUTDOWN"));
}
