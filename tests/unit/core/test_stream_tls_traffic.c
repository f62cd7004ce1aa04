/* Streams of TLS after their handshake: bytes, back-pressure, TLS's own messages, ends,
 * other loops, memory. */
#include "core/stream_tls.h"

#include <criterion/criterion.h>
#include <malloc.h>
#include <openssl/err.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/memory.h"
#include "core/relay.h"
#include "tests/lib/fault.h"
#include "tests/lib/loop_until.h"
#include "tests/lib/peers.h"
#include "tests/lib/tls_pair.h"
#include "tests/lib/turns.h"

#define MUCH (4u << 20)

static struct tls_pair pair;
static uint8_t much[MUCH], got[MUCH];

static void make_pair(void)
{
    tls_pair_init(&pair);
    peers_fill(much, MUCH);
}

static void clear_pair(void)
{
    tls_pair_clear(&pair);
}

TestSuite(stream_tls_traffic, .init = make_pair, .fini = clear_pair, .timeout = 300);

static void expect_calls(const char *calls)
{
    cr_expect_str_eq(pair.near.calls, calls, "%s, expected %s", pair.near.calls, calls);
    cr_expect_not(pair.near.was_called_back, "a callback came from within a call");
}

/* So that the kernel holds little between the two. */
static void narrow(void)
{
    int bytes = 1;

    for (unsigned i = 0; i < 2; i++)
        cr_assert_eq(setsockopt(pair.fds[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes),
                     0);
}

/* Reads at the far end until `n` bytes of `much` are there. */
static void read_far(size_t n)
{
    bool has_ended;

    for (size_t at = 0; at < n;) {
        at += tls_peer_read(&pair.far, got + at, n - at, &has_ended);
        cr_assert_not(pair.far.has_failed);
        tls_pair_turn(&pair, 1);
    }
    cr_expect_eq(peers_differ_at(got, n), n);
}

/* Writes at the far end; what our end does not take waits there. */
static void write_far(const void *bytes, size_t n)
{
    for (size_t at = 0; at < n;) {
        at += tls_peer_write(&pair.far, (const uint8_t *)bytes + at, n - at);
        tls_pair_turn(&pair, 1);
    }
}

/* ---- bytes ---------------------------------------------------------------------------
 */

Test(stream_tls_traffic, brings_bytes_only_when_they_are_wanted)
{
    EACH_WAY(way)
    {
        tls_pair_begin(&pair, *way);
        write_far("hello", 5);
        tls_pair_turn(&pair, 4);
        expect_calls("o");
        recorder_want(&pair.near, true);
        expect_calls("o");
        tls_pair_turn(&pair, 4);
        expect_calls("ob");
        recorder_want(&pair.near, false);
        write_far("hello", 5);
        tls_pair_turn(&pair, 4);
        cr_expect_eq(pair.near.n_bytes, 5u);
        recorder_want(&pair.near, true);
        tls_pair_turn(&pair, 4);
        cr_expect_eq(pair.near.n_bytes, 10u);
        cr_expect_eq(memcmp(pair.near.bytes, "hellohello", 10), 0);
    }
}

/* The kernel tells of the records once. Each time the owner resumes there is nothing new
 * from the socket, and all must come all the same. */
Test(stream_tls_traffic, what_is_pending_comes_when_a_paused_owner_resumes)
{
    EACH_WAY(way)
    {
        size_t n = 3 * BUFFER_BYTES + 100, n_turns = 0;

        tls_pair_begin(&pair, *way);
        pair.near.pauses = true;
        write_far(much, n);
        tls_pair_turn(&pair, 5);
        cr_assert_eq(tls_peer_n_waiting(&pair.far), 0u, "the kernel has it all");
        for (; pair.near.n_bytes < n && n_turns < 100; n_turns++) {
            recorder_want(&pair.near, true);
            turn(pair.loop, 1);
            cr_expect_leq(pond_n_taken(pair.loop->pond), 1u);
        }
        cr_expect_eq(pair.near.n_bytes, n);
        cr_expect_leq(pair.near.largest_piece, BUFFER_BYTES);
        cr_expect_eq(pair.near.least_headroom, BUFFER_HEADROOM);
        cr_expect_geq(pair.near.n_pieces, 4u);
        cr_expect_eq(peers_differ_at(pair.near.bytes, n), n);
        expect_calls("ob");
    }
}

/* The rest of a record that did not fit: it is in OpenSSL, and nowhere else. */
Test(stream_tls_traffic, what_is_decrypted_already_comes_when_a_paused_owner_resumes)
{
    EACH_WAY(way)
    {
        tls_pair_begin(&pair, *way);
        tls_pair_turn(&pair, 3);
        pair.near.pauses = true;
        for (unsigned i = 0; i < 3; i++)
            cr_assert_eq(tls_peer_write(&pair.far, much + 10000 * (size_t)i, 10000),
                         10000u);
        tls_peer_turn(&pair.far);
        for (unsigned i = 0; i < 3; i++) {
            cr_expect_lt(pair.near.n_bytes, 30000u);
            recorder_want(&pair.near, true);
            turn(pair.loop, 2);
        }
        cr_expect_eq(pair.near.n_bytes, 30000u);
        cr_expect_eq(peers_differ_at(pair.near.bytes, 30000), 30000u);
    }
}

Test(stream_tls_traffic, small_records_come_together)
{
    tls_pair_begin(&pair, tls_ways[0]);
    tls_pair_turn(&pair, 3);
    for (unsigned i = 0; i < 100; i++)
        cr_assert_eq(tls_peer_write(&pair.far, much + 4 * (size_t)i, 4), 4u);
    recorder_want(&pair.near, true);
    tls_pair_turn(&pair, 3);
    cr_expect_eq(pair.near.n_bytes, 400u);
    cr_expect_eq(pair.near.n_pieces, 1u);
    cr_expect_eq(peers_differ_at(pair.near.bytes, 400), 400u);
}

Test(stream_tls_traffic, records_may_come_one_byte_at_a_time)
{
    EACH_WAY(way)
    {
        tls_pair_begin(&pair, *way);
        pair.far.piece = 1;
        recorder_want(&pair.near, true);
        cr_assert_eq(tls_peer_write(&pair.far, much, 700), 700u);
        for (unsigned i = 0; i < 3000 && pair.near.n_bytes < 700; i++) {
            tls_pair_turn(&pair, 1);
            cr_expect_eq(pond_n_taken(pair.loop->pond), 0u, "no buffer waits for a byte");
        }
        cr_expect_eq(peers_differ_at(pair.near.bytes, 700), 700u);
    }
}

Test(stream_tls_traffic, says_at_once_that_all_has_gone)
{
    EACH_WAY(way)
    {
        tls_pair_begin(&pair, *way);
        cr_expect(recorder_send(&pair.near, much, 5));
        cr_expect_not(stream_is_sending(&pair.near.stream));
        cr_expect_eq(pond_n_taken(pair.loop->pond), 0u);
        tls_pair_turn(&pair, 3);
        read_far(5);
        expect_calls("o");
    }
}

Test(stream_tls_traffic, tells_later_what_could_not_go_at_once)
{
    EACH_WAY(way)
    {
        tls_pair_begin(&pair, *way);
        narrow();
        cr_expect_not(recorder_send(&pair.near, much, 300000));
        cr_expect(stream_is_sending(&pair.near.stream));
        turn(pair.loop, 5);
        expect_calls("o");
        read_far(300000);
        tls_pair_turn(&pair, 3);
        expect_calls("os");
        cr_expect_not(stream_is_sending(&pair.near.stream));
        cr_expect_eq(pond_n_taken(pair.loop->pond), 0u);
    }
}

Test(stream_tls_traffic, sends_at_most_64_kB_in_an_iteration)
{
    EACH_WAY(way)
    {
        size_t before;

        tls_pair_begin(&pair, *way);
        tls_pair_turn(&pair, 3);
        turn(pair.loop, 1);
        before = pair.far.n_heard;
        cr_expect_not(recorder_send(&pair.near, much, MUCH / 4));
        for (unsigned i = 1; i < 8; i++) {
            tls_peer_turn(&pair.far);
            cr_expect_leq(pair.far.n_heard - before, i * 66000u, "%u", i);
            turn(pair.loop, 1);
        }
        cr_expect_geq(pair.far.n_heard - before, 6 * 65536u,
                      "and that much it does send");
        read_far(MUCH / 4);
        tls_pair_turn(&pair, 3);
        expect_calls("os");
    }
}

/* ---- back-pressure -------------------------------------------------------------------
 */

Test(stream_tls_traffic, a_paused_owner_stops_its_peer)
{
    EACH_WAY(way)
    {
        size_t n_written = 0;

        tls_pair_begin(&pair, *way);
        narrow();
        pair.near.pauses = true;
        recorder_want(&pair.near, true);
        for (unsigned i = 0; i < 100; i++) {
            n_written += tls_peer_write(&pair.far, much + n_written, MUCH - n_written);
            tls_pair_turn(&pair, 1);
        }
        cr_expect_leq(pair.near.n_bytes, BUFFER_BYTES);
        cr_expect_leq(pond_n_taken(pair.loop->pond), 1u, "one of records, no more");
        cr_expect_gt(tls_peer_n_waiting(&pair.far), 0u);
        pair.near.pauses = false;
        recorder_want(&pair.near, true);
        while (pair.near.n_bytes < n_written)
            tls_pair_turn(&pair, 1);
        cr_expect_eq(peers_differ_at(pair.near.bytes, n_written), n_written);
    }
}

Test(stream_tls_traffic, a_peer_that_does_not_read_costs_a_few_buffers)
{
    EACH_WAY(way)
    {
        tls_pair_begin(&pair, *way);
        narrow();
        pair.far.is_deaf = true;
        /* As a relay's owner: no next buffer before the last has gone. */
        for (size_t at = 0; !stream_is_sending(&pair.near.stream); at += 16384)
            (void)recorder_send(&pair.near, much + at, 16384);
        tls_pair_turn(&pair, 20);
        cr_expect_leq(pond_n_taken(pair.loop->pond), 3u);
        recorder_want(&pair.near, true);
        write_far("hello", 5);
        tls_pair_turn(&pair, 5);
        cr_expect_eq(pair.near.n_bytes, 5u, "the other way goes on");
        recorder_close(&pair.near);
        cr_expect_eq(pond_n_taken(pair.loop->pond), 0u);
    }
}

/* ---- bulk, both ways, through small windows ------------------------------------------
 */

#define BULK (64u << 20)

/* The byte at each place of a stream of any length. */
static uint8_t byte_at(size_t at)
{
    return much[at % (MUCH - 4099)];
}

static size_t find_difference(const uint8_t *bytes, size_t n, size_t at)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != byte_at(at + i))
            return at + i;
    return SIZE_MAX;
}

static void copy_bulk(uint8_t *bytes, size_t n, size_t at)
{
    for (size_t i = 0; i < n; i++)
        bytes[i] = byte_at(at + i);
}

static struct {
    size_t n_received, n_sent, n_far_received, n_far_sent, first_difference;
    unsigned most_buffers;
} bulk;

static void check_bulk(struct stream *stream, struct buffer *bytes)
{
    size_t difference = find_difference(bytes->bytes + bytes->begin, buffer_unread(bytes),
                                        bulk.n_received);

    (void)stream;
    if (difference < bulk.first_difference)
        bulk.first_difference = difference;
    bulk.n_received += buffer_unread(bytes);
    buffer_give(bytes);
    if (bulk.n_received % 7 == 0)
        stream_want(stream, false); /* the far end is slow, and so are we now and then */
}

static void send_bulk(struct stream *stream)
{
    bool is_gone = true;

    while (is_gone && bulk.n_sent < BULK) {
        struct buffer *buffer = buffer_take(stream->loop->pond);
        size_t n = BULK - bulk.n_sent;

        if (n > 1 + bulk.n_sent % BUFFER_BYTES)
            n = 1 + (bulk.n_sent * 31) % BUFFER_BYTES;
        if (n > BULK - bulk.n_sent)
            n = BULK - bulk.n_sent;
        copy_bulk(buffer->bytes, n, bulk.n_sent);
        buffer->end = (uint32_t)n;
        bulk.n_sent += n;
        is_gone = stream_send(stream, buffer);
    }
}

static void fail_bulk(struct stream *stream, enum stream_failure why)
{
    (void)stream;
    cr_assert_fail("%s", stream_failure_text(why));
}

static const struct stream_events bulk_events = {
    .on_open = send_bulk,
    .on_bytes = check_bulk,
    .on_sent = send_bulk,
    .on_failed = fail_bulk,
};

static void turn_bulk_far(void)
{
    size_t n = BULK - bulk.n_far_sent, difference;
    bool has_ended;

    if (tls_peer_n_waiting(&pair.far) == 0 && n > 0) {
        n = n < 40000 ? n : 40000;
        copy_bulk(got, n, bulk.n_far_sent);
        bulk.n_far_sent += tls_peer_write(&pair.far, got, n);
    }
    n = tls_peer_read(&pair.far, got, 50000, &has_ended);
    difference = find_difference(got, n, bulk.n_far_received);
    if (difference < bulk.first_difference)
        bulk.first_difference = difference;
    bulk.n_far_received += n;
    cr_assert_not(pair.far.has_failed);
}

Test(stream_tls_traffic, carries_64_MB_each_way_past_slow_readers)
{
    EACH_WAY(way)
    {
        memset(&bulk, 0, sizeof bulk);
        bulk.first_difference = SIZE_MAX;
        tls_pair_begin(&pair, *way);
        narrow();
        pair.far.piece = 50000;
        pair.near.stream.events = &bulk_events;
        stream_want(&pair.near.stream, true);
        send_bulk(&pair.near.stream);
        for (unsigned i = 0; bulk.n_received < BULK || bulk.n_far_received < BULK; i++) {
            cr_assert_lt(i, 1000000u);
            tls_pair_turn(&pair, 1);
            turn_bulk_far();
            if (i % 1000 == 999 && way->version == TLS1_3_VERSION)
                tls_peer_renew_keys(&pair.far, i % 2000 == 999);
            if (pond_n_taken(pair.loop->pond) > bulk.most_buffers)
                bulk.most_buffers = pond_n_taken(pair.loop->pond);
            stream_want(&pair.near.stream, true);
        }
        cr_expect_eq(bulk.first_difference, SIZE_MAX, "at %zu", bulk.first_difference);
        cr_expect_leq(bulk.most_buffers, 5u);
        cr_expect_eq(pond_n_taken(pair.loop->pond), 0u);
    }
}

/* ---- TLS's own messages --------------------------------------------------------------
 */

/* A record of TLS 1.3 has 22 bytes more than its data, and an answer has 5 bytes. */
Test(stream_tls_traffic, takes_and_answers_new_keys_unseen)
{
    for (unsigned i = 0; i < 2; i++) { /* TLS 1.3, both roles */
        tls_pair_begin(&pair, tls_ways[i]);
        recorder_want(&pair.near, true);
        tls_pair_turn(&pair, 3);
        for (unsigned k = 0; k < 5; k++) {
            size_t heard = pair.far.n_heard;
            bool asks = k % 2 == 0;

            tls_peer_renew_keys(&pair.far, asks);
            tls_pair_turn(&pair, 3);
            expect_calls(k == 0 ? "o" : "ob");
            write_far("x", 1);
            tls_pair_turn(&pair, 2);
            cr_expect_eq(pair.near.n_bytes, k + 1u);
            cr_expect(recorder_send(&pair.near, much, 4));
            tls_pair_turn(&pair, 2);
            cr_expect_eq(pair.far.n_heard - heard, asks ? 22 + 4 + 22 + 5u : 22 + 4u);
            read_far(4);
        }
    }
}

/* They cost us more than the peer. So there is an end to them in each iteration, and all
 * that stands between them comes, and in its order. */
Test(stream_tls_traffic, takes_few_new_keys_at_a_time)
{
    for (unsigned i = 0; i < 2; i++) {
        unsigned n_turns = 0;

        tls_pair_begin(&pair, tls_ways[i]);
        recorder_want(&pair.near, true);
        tls_pair_turn(&pair, 3);
        for (unsigned k = 0; k < 1500; k++) { /* more than a buffer holds */
            tls_peer_renew_keys(&pair.far, k % 2 == 0);
            if (k % 300 == 299)
                cr_assert_eq(tls_peer_write(&pair.far, much + k / 300, 1), 1u);
        }
        tls_peer_turn(&pair.far);
        cr_assert_eq(tls_peer_n_waiting(&pair.far), 0u, "the kernel has it all");
        for (; pair.near.n_bytes < 5 && n_turns < 1000; n_turns++) {
            size_t before = pair.near.n_bytes;

            tls_pair_turn(&pair, 1);
            cr_expect_leq(pair.near.n_bytes - before, 1u);
        }
        cr_expect_eq(pair.near.n_bytes, 5u);
        cr_expect_eq(peers_differ_at(pair.near.bytes, 5), 5u);
        cr_expect_geq(n_turns, 1500u / 16, "%u turns", n_turns);
        cr_expect_leq(n_turns, 150u, "%u turns, without a pause", n_turns);
        cr_expect(recorder_send(&pair.near, much, 4));
        tls_pair_turn(&pair, 2);
        read_far(4);
        cr_expect_eq(pond_n_taken(pair.loop->pond), 0u);
    }
}

/* A read that wants to write, and cannot: each request to negotiate anew is answered by
 * an alert. The far end does not hear, so it goes on asking. */
Test(stream_tls_traffic, reads_no_more_while_an_answer_cannot_be_sent)
{
    unsigned n_buffers;
    size_t n_asked = 0, n_answered = 0, n;

    tls_pair_begin(&pair, tls_ways[3]); /* a client's end, TLS 1.2 */
    narrow();
    recorder_want(&pair.near, true);
    tls_pair_turn(&pair, 3);
    pair.far.is_deaf = true;
    while (!stream_is_sending(&pair.near.stream))
        (void)recorder_send(&pair.near, much, 16384);
    n_buffers = pond_n_taken(pair.loop->pond);
    for (unsigned k = 0; k < 250; k++) {
        for (unsigned i = 0; i < 8; i++) {
            n_asked += SSL_renegotiate(pair.far.ssl) == 1;
            (void)SSL_do_handshake(pair.far.ssl);
        }
        tls_pair_turn(&pair, 1);
        cr_expect_leq(pond_n_taken(pair.loop->pond), n_buffers + 2, "%u", k);
    }
    ERR_clear_error();
    cr_expect_gt(tls_peer_n_waiting(&pair.far), 0u, "it is held up");

    do {
        n = peers_read(pair.fds[1], got, sizeof got, &(bool){0});
        for (size_t i = 0; i + 2 < n; i++)
            n_answered += memcmp(got + i, "\x15\x03\x03", 3) == 0; /* alerts */
        tls_pair_turn(&pair, 1);
    } while (n > 0 || tls_peer_n_waiting(&pair.far) > 0);
    cr_expect_eq(n_asked, 2000u);
    cr_expect_geq(n_answered, n_asked, "%zu", n_answered);
    cr_expect_not(pair.near.has_failed);
    expect_calls("os");
    cr_expect_eq(pond_n_taken(pair.loop->pond), 0u);
}

Test(stream_tls_traffic, a_write_goes_on_when_the_peer_asks_for_new_keys_amidst)
{
    for (unsigned i = 0; i < 2; i++) {
        tls_pair_begin(&pair, tls_ways[i]);
        narrow();
        recorder_want(&pair.near, true);
        cr_expect_not(recorder_send(&pair.near, much, 500000));
        for (unsigned k = 0; k < 10; k++) {
            tls_peer_renew_keys(&pair.far, true);
            tls_pair_turn(&pair, 1);
        }
        read_far(500000);
        tls_pair_turn(&pair, 3);
        expect_calls("os");
    }
}

Test(stream_tls_traffic, a_ticket_is_no_end_of_an_idle_connection)
{
    tls_pair_begin(&pair, tls_ways[1]); /* a client's end, TLS 1.3 */
    recorder_want(&pair.near, true);
    tls_pair_turn(&pair, 5);
    expect_calls("o");
    for (unsigned i = 0; i < 3; i++) {
        size_t n = pair.far.n_sent;

        cr_assert_eq(SSL_new_session_ticket(pair.far.ssl), 1);
        cr_assert_eq(SSL_do_handshake(pair.far.ssl), 1);
        tls_pair_turn(&pair, 5);
        cr_expect_gt(pair.far.n_sent, n);
        expect_calls("o");
    }
    write_far("hello", 5);
    tls_pair_turn(&pair, 3);
    expect_calls("ob");
}

static int fatten_ticket(SSL *ssl, void *unused)
{
    (void)unused;
    return SSL_SESSION_set1_ticket_appdata(SSL_get_session(ssl), much, 2000);
}

/* A client's end, TLS 1.3, which has heard half of a ticket. */
static void hear_half_a_ticket(void)
{
    tls_pair_prepare(&pair, tls_ways[1]);
    cr_assert_eq(SSL_CTX_set_max_send_fragment(pair.far.context, 512), 1);
    cr_assert_eq(SSL_CTX_set_num_tickets(pair.far.context, 0), 1);
    cr_assert_eq(
        SSL_CTX_set_session_ticket_cb(pair.far.context, fatten_ticket, NULL, NULL), 1);
    tls_pair_open(&pair);
    cr_assert(tls_pair_greet(&pair));
    recorder_want(&pair.near, true);
    cr_assert_eq(SSL_new_session_ticket(pair.far.ssl), 1);
    cr_assert_eq(SSL_do_handshake(pair.far.ssl), 1);
    cr_assert_gt(tls_peer_n_waiting(&pair.far), 2000u);
    pair.far.n_left = 1100; /* two records of several, and a little */
    tls_pair_turn(&pair, 3);
}

/* A write that wants to read: OpenSSL must have heard the rest before it can send. */
Test(stream_tls_traffic, a_write_waits_for_the_rest_of_a_ticket)
{
    for (unsigned pauses = 0; pauses < 2; pauses++) {
        hear_half_a_ticket();
        recorder_want(&pair.near, pauses == 0);
        cr_expect_not(recorder_send(&pair.near, much, 40000));
        recorder_end(&pair.near);
        tls_pair_turn(&pair, 5);
        expect_calls("o");
        cr_expect_eq(tls_peer_read(&pair.far, got, 1, &(bool){0}), 0u);
        pair.far.n_left = SIZE_MAX;
        read_far(40000);
        tls_pair_turn(&pair, 3);
        expect_calls("os");
        cr_expect(pair.far.has_ended);
        cr_expect_eq(tls_peer_write(&pair.far, "x", 1), 1u);
        tls_pair_turn(&pair, 3);
        expect_calls(pauses == 0 ? "osb" : "os");
        cr_expect_eq(pond_n_taken(pair.loop->pond), 0u);
    }
}

Test(stream_tls_traffic, a_write_fails_when_the_rest_of_a_ticket_never_comes)
{
    for (unsigned pauses = 0; pauses < 2; pauses++) {
        hear_half_a_ticket();
        recorder_want(&pair.near, pauses == 0);
        cr_expect_not(recorder_send(&pair.near, much, 10));
        tls_pair_turn(&pair, 3);
        shutdown(pair.fds[1], SHUT_WR);
        tls_pair_turn(&pair, 3);
        expect_calls("of");
        cr_expect_eq(pair.near.why, STREAM_TLS_FAILED);
        cr_expect_not_null(strstr(pair.why, "the peer has left amidst"), "%s", pair.why);
    }
}

Test(stream_tls_traffic, a_changed_record_fails_behind_what_came_before)
{
    EACH_WAY(way)
    {
        tls_pair_begin(&pair, *way);
        tls_pair_turn(&pair, 3);
        cr_assert_eq(tls_peer_write(&pair.far, "good", 4), 4u);
        pair.far.flip_at = pair.far.n_sent + tls_peer_n_waiting(&pair.far) + 7;
        cr_assert_eq(tls_peer_write(&pair.far, "evil", 4), 4u);
        recorder_want(&pair.near, true);
        tls_pair_turn(&pair, 3);
        expect_calls("obf");
        cr_expect_eq(pair.near.n_bytes, 4u);
        cr_expect_eq(memcmp(pair.near.bytes, "good", 4), 0);
        cr_expect_eq(pair.near.why, STREAM_TLS_FAILED);
        cr_expect_not_null(strstr(pair.why, "bad record mac"), "%s", pair.why);
        cr_expect_eq(pond_n_taken(pair.loop->pond), 0u);
    }
}

Test(stream_tls_traffic, plain_bytes_fail)
{
    EACH_WAY(way)
    {
        tls_pair_begin(&pair, *way);
        recorder_want(&pair.near, true);
        tls_pair_turn(&pair, 3);
        peers_write(pair.fds[1], "Q\0\0\0\x0dselect 1\0", 14);
        tls_pair_turn(&pair, 3);
        expect_calls("of");
        cr_expect_eq(pair.near.why, STREAM_TLS_FAILED);
    }
}

/* What others have left in the thread's queue is not taken for an error of this stream.
 */
Test(stream_tls_traffic, complaints_of_others_do_not_matter)
{
    EACH_WAY(way)
    {
        tls_pair_prepare(&pair, *way);
        ERR_raise(ERR_LIB_X509, X509_R_BAD_X509_FILETYPE);
        tls_pair_open(&pair);
        for (unsigned i = 0; i < 20; i++) {
            ERR_raise(ERR_LIB_X509, X509_R_BAD_X509_FILETYPE);
            turn(pair.loop, 1);
            tls_peer_turn(&pair.far);
        }
        cr_assert(pair.near.is_open);
        recorder_want(&pair.near, true);
        for (unsigned i = 0; i < 20; i++) {
            cr_assert_eq(tls_peer_write(&pair.far, "x", 1), 1u);
            pair.far.piece = 10; /* so that a read has to wait */
            tls_peer_turn(&pair.far);
            ERR_raise(ERR_LIB_X509, X509_R_BAD_X509_FILETYPE);
            turn(pair.loop, 1);
            pair.far.piece = 0;
            tls_peer_turn(&pair.far);
            ERR_raise(ERR_LIB_X509, X509_R_BAD_X509_FILETYPE);
            turn(pair.loop, 1);
            ERR_raise(ERR_LIB_X509, X509_R_BAD_X509_FILETYPE);
            cr_expect(recorder_send(&pair.near, much, 4));
        }
        ERR_raise(ERR_LIB_X509, X509_R_BAD_X509_FILETYPE);
        recorder_end(&pair.near);
        cr_expect_eq(pair.near.n_bytes, 20u);
        tls_peer_turn(&pair.far);
        cr_expect_eq(tls_peer_read(&pair.far, got, 1000, &(bool){0}), 80u);
        expect_calls("ob");
    }
}

/* ---- ends ----------------------------------------------------------------------------
 */

Test(stream_tls_traffic, tells_that_the_peer_has_ended_behind_its_last_byte)
{
    EACH_WAY(way)
    {
        tls_pair_begin(&pair, *way);
        tls_pair_turn(&pair, 3);
        cr_assert_eq(tls_peer_write(&pair.far, "bye", 3), 3u);
        tls_peer_end(&pair.far);
        tls_pair_turn(&pair, 3);
        expect_calls("o");
        recorder_want(&pair.near, true);
        tls_pair_turn(&pair, 3);
        expect_calls("obe");
        cr_expect(pair.near.stream.has_ended);
        cr_expect_not(stream_tls_was_truncated(&pair.near.stream));
        shutdown(pair.fds[1], SHUT_WR);
        tls_pair_turn(&pair, 3);
        expect_calls("obe");

        cr_expect(recorder_send(&pair.near, much, 10), "the other way goes on");
        tls_pair_turn(&pair, 3);
        cr_expect_eq(tls_peer_read(&pair.far, got, 100, &(bool){0}), 10u);
        recorder_end(&pair.near);
        tls_pair_turn(&pair, 3);
        expect_calls("obe");
        cr_expect(pair.far.has_ended, "FIN");
        cr_expect_eq(pond_n_taken(pair.loop->pond), 0u);
    }
}

Test(stream_tls_traffic, an_end_waits_for_a_paused_owner)
{
    tls_pair_begin(&pair, tls_ways[0]);
    pair.near.pauses = true;
    recorder_want(&pair.near, true);
    tls_pair_turn(&pair, 3);
    cr_assert_eq(tls_peer_write(&pair.far, "bye", 3), 3u);
    tls_peer_end(&pair.far);
    tls_pair_turn(&pair, 5);
    expect_calls("ob");
    recorder_want(&pair.near, true);
    tls_pair_turn(&pair, 3);
    expect_calls("obe");
}

Test(stream_tls_traffic, nothing_is_read_behind_the_peers_end)
{
    tls_pair_begin(&pair, tls_ways[0]);
    recorder_want(&pair.near, true);
    tls_pair_turn(&pair, 3);
    tls_peer_end(&pair.far);
    tls_peer_turn(&pair.far);
    peers_write(pair.fds[1], much, 20000);
    tls_pair_turn(&pair, 5);
    expect_calls("oe");
    cr_expect_eq(pond_n_taken(pair.loop->pond), 0u);
}

Test(stream_tls_traffic, a_fin_without_close_notify_is_an_end_that_may_be_forged)
{
    EACH_WAY(way)
    {
        tls_pair_begin(&pair, *way);
        recorder_want(&pair.near, true);
        write_far("some", 4);
        shutdown(pair.fds[1], SHUT_WR);
        tls_pair_turn(&pair, 3);
        expect_calls("obe");
        cr_expect(stream_tls_was_truncated(&pair.near.stream));

        tls_pair_begin(&pair, *way);
        recorder_want(&pair.near, true);
        tls_pair_turn(&pair, 3);
        cr_assert_eq(tls_peer_write(&pair.far, much, 1000), 1000u);
        pair.far.n_left = 500; /* amidst a record */
        tls_peer_turn(&pair.far);
        shutdown(pair.fds[1], SHUT_WR);
        tls_pair_turn(&pair, 3);
        expect_calls("oe");
        cr_expect(stream_tls_was_truncated(&pair.near.stream));
    }
}

Test(stream_tls_traffic, ends_behind_the_last_byte_and_hears_on)
{
    EACH_WAY(way)
    {
        bool has_ended;

        tls_pair_begin(&pair, *way);
        narrow();
        cr_expect_not(recorder_send(&pair.near, much, 300000));
        recorder_end(&pair.near);
        read_far(300000);
        tls_pair_turn(&pair, 3);
        cr_expect_eq(tls_peer_read(&pair.far, got, 1, &has_ended), 0u);
        cr_expect(has_ended, "close_notify");
        cr_expect(pair.far.has_ended, "FIN");
        expect_calls("os");

        recorder_want(&pair.near, true);
        write_far("answer", 6);
        tls_pair_turn(&pair, 3);
        cr_expect_eq(pair.near.n_bytes, 6u);
        tls_peer_end(&pair.far);
        tls_pair_turn(&pair, 3);
        expect_calls("osbe");
        cr_expect_not(stream_tls_was_truncated(&pair.near.stream));
    }
}

Test(stream_tls_traffic, a_close_tells_the_peer_and_a_reset_does_not)
{
    EACH_WAY(way)
    {
        bool has_ended;

        tls_pair_begin(&pair, *way);
        recorder_close(&pair.near);
        tls_pair_turn(&pair, 2);
        (void)tls_peer_read(&pair.far, got, 1, &has_ended);
        cr_expect(has_ended);
        cr_expect(pair.far.has_ended);

        tls_pair_begin(&pair, *way);
        stream_reset(&pair.near.stream);
        tls_pair_turn(&pair, 2);
        (void)tls_peer_read(&pair.far, got, 1, &has_ended);
        cr_expect_not(has_ended);
        cr_expect(pair.far.has_ended);
        expect_calls("o");
    }
}

/* Over TCP, where a close with unread bytes resets. */
static void begin_over_tcp(struct tls_way way, int buffer_bytes)
{
    tls_pair_prepare(&pair, way);
    pair.start.context = tls_context_new(&pair.settings, &(struct text){0});
    peers_tcp(pair.fds, buffer_bytes);
    recorder_adopt(&pair.near, pair.loop, pair.fds[0]);
    tls_peer_open(&pair.far, pair.fds[1]);
    cr_assert(stream_tls_start(&pair.near.stream, &pair.start));
    cr_assert(tls_pair_greet(&pair));
}

static void reset_far(void)
{
    socket_reset_on_close(pair.fds[1]);
    close(pair.fds[1]);
    pair.fds[1] = -1;
}

Test(stream_tls_traffic, a_reset_is_a_failure)
{
    EACH_WAY(way)
    {
        begin_over_tcp(*way, 0);
        recorder_want(&pair.near, true);
        reset_far();
        turn(pair.loop, 3);
        expect_calls("of");
        cr_expect_eq(pair.near.why, STREAM_RESET);
        cr_expect_eq(pond_n_taken(pair.loop->pond), 0u);
    }
}

Test(stream_tls_traffic, brings_the_peers_last_words_when_sending_fails)
{
    EACH_WAY(way)
    {
        begin_over_tcp(*way, 0);
        tls_pair_turn(&pair, 3);
        cr_assert(recorder_send(&pair.near, "unread", 6));
        cr_assert_eq(tls_peer_write(&pair.far, much, 60000), 60000u);
        while (tls_peer_n_waiting(&pair.far) > 0) {
            pair.far.is_deaf = true;
            tls_peer_turn(&pair.far);
        }
        close(pair.fds[1]); /* with unread bytes: RST */
        pair.fds[1] = -1;
        while (recorder_send(&pair.near, "more", 4))
            turn(pair.loop, 1);
        cr_expect_not(recorder_send(&pair.near, "more", 4), "what cannot go is not kept");
        expect_calls("o");
        recorder_want(&pair.near, true);
        turn(pair.loop, 50);
        cr_expect_eq(pair.near.n_bytes, 60000u);
        cr_expect_eq(peers_differ_at(pair.near.bytes, 60000), 60000u);
        expect_calls("obf");
        cr_expect_eq(pair.near.why, STREAM_RESET);
        cr_expect_eq(pond_n_taken(pair.loop->pond), 0u);
    }
}

Test(stream_tls_traffic, makes_no_callback_after_it_was_closed_in_one)
{
    for (unsigned in_which = 0; in_which < 4; in_which++) {
        EACH_WAY(way)
        {
            tls_pair_prepare(&pair, *way);
            tls_pair_open(&pair);
            pair.near.closes = in_which == 0;
            (void)(tls_pair_greet(&pair) || in_which == 0);
            if (in_which == 0) {
                tls_pair_turn(&pair, 5);
                expect_calls("o");
                continue;
            }
            pair.near.closes = true;
            narrow();
            if (in_which == 1)
                (void)recorder_send(&pair.near, much, 200000);
            recorder_want(&pair.near, true);
            if (in_which == 2)
                (void)tls_peer_write(&pair.far, much, 60000);
            tls_peer_end(&pair.far);
            for (unsigned i = 0; i < 100; i++) {
                (void)tls_peer_read(&pair.far, got, sizeof got, &(bool){0});
                tls_pair_turn(&pair, 1);
            }
            cr_expect_eq(strlen(pair.near.calls), 2u, "%s", pair.near.calls);
            cr_expect_eq(pond_n_taken(pair.loop->pond), 0u);
        }
    }
}

Test(stream_tls_traffic, looks_through_to_the_socket)
{
    begin_over_tcp(tls_ways[0], 8192);
    loop_until(pair.loop, NULL, 50);
    cr_expect_eq(stream_look(&pair.near.stream, 0), PEER_HAS_ALL);
    pair.far.is_deaf = true;
    cr_expect_not(recorder_send(&pair.near, much, 1 << 20));
    loop_until(pair.loop, NULL, 50);
    cr_expect_eq(stream_look(&pair.near.stream, 0), PEER_OWES);
}

/* ---- a relay over it -----------------------------------------------------------------
 */

static struct relay relay;
static struct stream plain;
static uint64_t n_passed[2];
static bool has_relay_ended;

static void on_half_end(struct relay *of, unsigned end)
{
    (void)of;
    (void)end;
}

static void on_relay_end(struct relay *of)
{
    (void)of;
    has_relay_ended = true;
    stream_close(&plain);
    stream_close(&pair.near.stream);
}

static void on_relay_failed(struct relay *of, unsigned end, enum stream_failure why)
{
    (void)of;
    cr_assert_fail("end %u: %s", end, stream_failure_text(why));
}

static const struct relay_events relay_events = {
    .on_half_end = on_half_end,
    .on_end = on_relay_end,
    .on_failed = on_relay_failed,
};

Test(stream_tls_traffic, a_relay_joins_it_with_a_plain_stream)
{
    EACH_WAY(way)
    {
        int fds[2];
        size_t n_far = 0, n_plain = 0;
        bool has_ended = false;

        has_relay_ended = false;
        tls_pair_begin(&pair, *way);
        peers_unix(fds);
        stream_adopt(&plain, pair.loop, fds[0], &(struct tcp_settings){0},
                     &recorder_events, NULL);
        relay_start(&relay, &pair.near.stream, &plain, &relay_events, &n_passed[0],
                    &n_passed[1]);
        cr_expect_not(plain.may_splice);
        for (unsigned i = 0; n_plain < MUCH && i < 100000; i++) {
            n_far += tls_peer_write(&pair.far, much + n_far, MUCH - n_far);
            n_plain += peers_read(fds[1], got + n_plain, MUCH - n_plain, &has_ended);
            tls_pair_turn(&pair, 1);
        }
        cr_expect_eq(peers_differ_at(got, MUCH), MUCH);
        n_far = n_plain = 0;
        for (unsigned i = 0; n_far < MUCH && i < 100000; i++) {
            n_plain += peers_write(fds[1], much + n_plain, MUCH - n_plain);
            n_far += tls_peer_read(&pair.far, got + n_far, MUCH - n_far, &has_ended);
            tls_pair_turn(&pair, 1);
            cr_expect_leq(pond_n_taken(pair.loop->pond), 4u);
        }
        cr_expect_eq(peers_differ_at(got, MUCH), MUCH);
        tls_peer_end(&pair.far);
        shutdown(fds[1], SHUT_WR);
        tls_pair_turn(&pair, 5);
        cr_expect(has_relay_ended);
        cr_expect_eq(pond_n_taken(pair.loop->pond), 0u);
        close(fds[1]);
    }
}

/* ---- to another loop -----------------------------------------------------------------
 */

static SSL *taken;
static bool is_left_behind; /* the owner does not take the SSL */

static void on_leave(struct stream *stream, int fd)
{
    struct recorder *recorder = stream->owner;

    taken = is_left_behind ? NULL : stream_tls_take(stream);
    recorder->detached_fd = fd;
    recorder->is_detached = true;
    cr_expect_not(stream_is_open(stream));
}

static void leave(void)
{
    cr_assert(stream_tls_can_detach(&pair.near.stream));
    stream_detach(&pair.near.stream, on_leave);
    cr_expect_not(pair.near.is_detached);
    turn(pair.loop, 2);
    cr_assert(pair.near.is_detached);
    cr_expect_eq(pair.near.detached_fd, pair.fds[0]);
    cr_expect_eq(pond_n_taken(pair.loop->pond), 0u);
}

static void enter(struct recorder *there, struct loop *loop)
{
    *there = (struct recorder){0};
    cr_assert(stream_tls_adopt(&there->stream, loop, pair.near.detached_fd, taken,
                               &(struct tcp_settings){0}, &recorder_events, there));
}

static void turn_there(struct loop *loop, unsigned n)
{
    while (n-- > 0) {
        turn(loop, 1);
        tls_peer_turn(&pair.far);
    }
}

Test(stream_tls_traffic, leaves_its_loop_and_goes_on_in_another)
{
    struct loop *other = loop_new(false);
    static struct recorder there;

    EACH_WAY(way)
    {
        const char *cipher;

        tls_pair_begin(&pair, *way);
        recorder_want(&pair.near, true);
        write_far("before", 6);
        tls_pair_turn(&pair, 3);
        cipher = stream_tls_cipher(&pair.near.stream);
        leave();
        turn(pair.loop, 2);
        enter(&there, other);
        recorder_want(&there, true);
        cr_expect_eq(tls_peer_write(&pair.far, "after", 5), 5u);
        turn_there(other, 3);
        cr_expect_eq(there.n_bytes, 5u);
        cr_expect_eq(memcmp(there.bytes, "after", 5), 0);
        cr_expect(recorder_send(&there, much, 10000));
        turn_there(other, 3);
        cr_expect_eq(tls_peer_read(&pair.far, got, 20000, &(bool){0}), 10000u);
        cr_expect_eq(stream_tls_cipher(&there.stream), cipher);
        cr_expect_not_null(stream_tls_peer_certificate(&there.stream));
        cr_expect_str_eq(pair.near.calls, "ob");
        cr_expect_str_eq(there.calls, "b", "no handshake");
        if (way->version == TLS1_3_VERSION) {
            tls_peer_renew_keys(&pair.far, true);
            turn_there(other, 3);
            cr_expect(recorder_send(&there, much, 10));
            turn_there(other, 3);
            cr_expect_eq(tls_peer_read(&pair.far, got, 20000, &(bool){0}), 10u);
        }
        recorder_clear(&there);
        turn_there(other, 2);
        (void)tls_peer_read(&pair.far, got, 1, &pair.near.has_enough);
        cr_expect(pair.near.has_enough, "its close_notify");
    }
    loop_free(other);
}

Test(stream_tls_traffic, brings_what_has_come_before_it_leaves)
{
    EACH_WAY(way)
    {
        struct recorder there;

        tls_pair_begin(&pair, *way);
        recorder_want(&pair.near, true);
        tls_pair_turn(&pair, 3);
        pair.near.pauses = true; /* it must take the rest all the same */
        cr_assert_eq(tls_peer_write(&pair.far, much, 10000), 10000u);
        cr_assert_eq(tls_peer_write(&pair.far, much + 10000, 10000), 10000u);
        pair.far.n_left = 9000;
        tls_pair_turn(&pair, 2);
        cr_assert_eq(pair.near.n_bytes, 0u);
        pair.far.n_left = SIZE_MAX;
        tls_peer_turn(&pair.far); /* now more comes at once than a buffer holds */
        leave();
        cr_expect_eq(pair.near.n_bytes, 20000u);
        cr_expect_eq(peers_differ_at(pair.near.bytes, 20000), 20000u);
        enter(&there, pair.loop);
        recorder_want(&there, true);
        cr_expect_eq(tls_peer_write(&pair.far, "x", 1), 1u);
        turn_there(pair.loop, 3);
        cr_expect_eq(there.n_bytes, 1u);
        recorder_clear(&there);
        turn(pair.loop, 1);
    }
}

/* Part of a record is in OpenSSL then, which goes along. */
Test(stream_tls_traffic, may_leave_amidst_a_record)
{
    EACH_WAY(way)
    {
        struct recorder there;

        tls_pair_begin(&pair, *way);
        recorder_want(&pair.near, true);
        tls_pair_turn(&pair, 3);
        cr_assert_eq(tls_peer_write(&pair.far, much, 15000), 15000u);
        pair.far.n_left = 7000;
        tls_pair_turn(&pair, 2);
        leave();
        enter(&there, pair.loop);
        recorder_want(&there, true);
        pair.far.n_left = SIZE_MAX;
        turn_there(pair.loop, 3);
        cr_expect_eq(peers_differ_at(there.bytes, 15000), 15000u);
        cr_expect_eq(there.n_bytes, 15000u);
        recorder_clear(&there);
        turn(pair.loop, 1);
    }
}

Test(stream_tls_traffic, tells_the_end_of_a_peer_that_left_meanwhile)
{
    EACH_WAY(way)
    {
        struct recorder there;

        tls_pair_begin(&pair, *way);
        tls_pair_turn(&pair, 3);
        leave();
        tls_peer_end(&pair.far);
        tls_peer_turn(&pair.far);
        enter(&there, pair.loop);
        recorder_want(&there, true);
        turn_there(pair.loop, 3);
        cr_expect_str_eq(there.calls, "e");
        recorder_clear(&there);
        turn(pair.loop, 1);
    }
}

Test(stream_tls_traffic, that_is_closed_instead_does_not_leave)
{
    tls_pair_begin(&pair, tls_ways[0]);
    stream_detach(&pair.near.stream, on_leave);
    recorder_close(&pair.near);
    turn(pair.loop, 3);
    cr_expect_not(pair.near.is_detached);
}

Test(stream_tls_traffic, what_nobody_takes_or_adopts_is_freed)
{
    EACH_WAY(way)
    {
        tls_pair_begin(&pair, *way);
        tls_pair_turn(&pair, 3);
        is_left_behind = true;
        leave();
        close(pair.near.detached_fd);
        is_left_behind = false;

        tls_pair_begin(&pair, *way);
        tls_pair_turn(&pair, 3);
        leave();
        tls_pair_renew(&pair);
        memory_fail_at = 1;
        cr_expect_not(
            stream_tls_adopt(&pair.near.stream, pair.loop, pair.near.detached_fd, taken,
                             &(struct tcp_settings){0}, &recorder_events, NULL));
        cr_expect_eq(memory_fail_at, 0u);
        stream_tls_discard(taken);
        close(pair.near.detached_fd);
    }
    stream_tls_discard(NULL);
}

Test(stream_tls_traffic, cannot_leave_unless_it_is_idle)
{
    EACH_WAY(way)
    {
        tls_pair_prepare(&pair, *way);
        tls_pair_open(&pair);
        cr_expect_not(stream_tls_can_detach(&pair.near.stream), "no handshake yet");
        cr_assert(tls_pair_greet(&pair));
        tls_pair_turn(&pair, 3);
        cr_expect(stream_tls_can_detach(&pair.near.stream));
        narrow();
        cr_expect_not(recorder_send(&pair.near, much, 200000));
        cr_expect_not(stream_tls_can_detach(&pair.near.stream), "it sends");
        read_far(200000);
        tls_pair_turn(&pair, 3);
        cr_expect(stream_tls_can_detach(&pair.near.stream));
        pair.near.pauses = true;
        cr_assert_eq(tls_peer_write(&pair.far, much, 60000), 60000u);
        for (unsigned i = 0; i < 8 && stream_tls_can_detach(&pair.near.stream); i++) {
            recorder_want(&pair.near, true);
            tls_pair_turn(&pair, 1);
        }
        cr_expect_not(stream_tls_can_detach(&pair.near.stream), "something is pending");
        pair.near.pauses = false;
        recorder_want(&pair.near, true);
        tls_pair_turn(&pair, 5);
        cr_expect(stream_tls_can_detach(&pair.near.stream));
        recorder_end(&pair.near);
        cr_expect_not(stream_tls_can_detach(&pair.near.stream), "it has ended");
    }
}

Test(stream_tls_traffic, does_not_leave_while_it_sends, .signal = SIGABRT)
{
    tls_pair_begin(&pair, tls_ways[0]);
    narrow();
    cr_assert_not(recorder_send(&pair.near, much, 1 << 20));
    recorder_detach(&pair.near);
}

#define HANDOVERS 200

/* The other thread: adopts, answers what it is asked once, and gives the stream back. */
static void *serve_once(void *unused)
{
    struct loop *loop = loop_new(false);
    struct recorder there = {0};

    (void)unused;
    REQUIRE(loop != NULL);
    REQUIRE(stream_tls_adopt(&there.stream, loop, pair.near.detached_fd, taken,
                             &(struct tcp_settings){0}, &recorder_events, &there));
    recorder_want(&there, true);
    there.enough = 4;
    REQUIRE(loop_until(loop, &there.has_enough, 10000));
    REQUIRE(recorder_send(&there, there.bytes, 4));
    stream_detach(&there.stream, on_leave);
    REQUIRE(loop_until(loop, &there.is_detached, 10000));
    pair.near.detached_fd = there.detached_fd;
    recorder_clear(&there);
    turn(loop, 1);
    loop_free(loop);
    return NULL;
}

Test(stream_tls_traffic, goes_from_thread_to_thread)
{
    EACH_WAY(way)
    {
        tls_pair_begin(&pair, *way);
        tls_pair_turn(&pair, 3);
        leave();
        for (unsigned i = 0; i < HANDOVERS; i++) {
            pthread_t thread;

            cr_assert_eq(tls_peer_write(&pair.far, much + 4 * (size_t)i, 4), 4u);
            tls_peer_turn(&pair.far);
            cr_assert_eq(pthread_create(&thread, NULL, serve_once, NULL), 0);
            pthread_join(thread, NULL);
            tls_peer_turn(&pair.far);
            cr_assert_eq(tls_peer_read(&pair.far, got, 100, &(bool){0}), 4u);
            cr_assert_eq(memcmp(got, much + 4 * (size_t)i, 4), 0);
        }
        stream_tls_discard(taken);
        close(pair.near.detached_fd);
    }
}

/* ---- memory --------------------------------------------------------------------------
 */

/* AddressSanitizer's own malloc tells nothing of what it has given out. */
static bool can_count_memory(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks > 0;
}

#define IDLE 400

/* The far ends, in a process of their own: greets and waits for the test's end. */
static void play_far_ends(int fds[IDLE][2])
{
    for (unsigned i = 0; i < IDLE; i++)
        close(fds[i][0]);
    for (unsigned n_done = 0; n_done < IDLE; n_done++) {
        struct tls_peer *far = &pair.far;

        tls_peer_open(far, fds[n_done][1]);
        while (!far->is_greeted && !far->has_ended) {
            tls_peer_turn(far);
            usleep(100);
        }
        (void)tls_peer_write(far, much, 4);
        tls_peer_turn(far);
    }
    pause();
}

static size_t n_allocated(void)
{
    struct mallinfo2 info = mallinfo2();

    return info.uordblks + info.hblkhd;
}

/* What one idle connection takes, with everything that belongs to it but the descriptor.
 * A certificate of the peer's stays with its connection, which no option of OpenSSL's
 * prevents: so a client's end takes more, and a server's with a client's certificate. */
Test(stream_tls_traffic, an_idle_connection_takes_at_most_17_kB)
{
    static struct recorder near[IDLE];
    static int fds[IDLE][2];

    if (!can_count_memory())
        cr_skip_test("this malloc does not tell what it has given out");
    EACH_WAY(way)
    {
        size_t before, each;
        pid_t child;

        tls_pair_prepare(&pair, *way);
        pair.settings.ask = TLS_ASK_NEVER;
        tls_pair_open(&pair); /* what is taken once is taken now */
        cr_assert(tls_pair_greet(&pair));
        for (unsigned i = 0; i < IDLE; i++)
            peers_unix(fds[i]);
        child = fork();
        if (child == 0)
            play_far_ends(fds);
        before = n_allocated();
        for (unsigned i = 0; i < IDLE; i++) {
            close(fds[i][1]);
            near[i] = (struct recorder){0};
            recorder_adopt(&near[i], pair.loop, fds[i][0]);
            cr_assert(stream_tls_start(&near[i].stream, &pair.start));
            recorder_want(&near[i], true);
            near[i].enough = 4;
            cr_assert(loop_until(pair.loop, &near[i].has_enough, 20000));
            cr_assert(recorder_send(&near[i], much, 4));
            free(near[i].bytes);
            near[i].bytes = NULL;
        }
        loop_until(pair.loop, NULL, 20);
        each = (n_allocated() - before) / IDLE;
        cr_log_info("%s, TLS 1.%d: %zu bytes",
                    way->role == TLS_SERVER ? "server" : "client",
                    way->version == TLS1_3_VERSION ? 3 : 2, each);
        cr_expect_leq(each, way->role == TLS_SERVER ? 17000u : 24000u);
        cr_expect_eq(pond_n_taken(pair.loop->pond), 0u);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        for (unsigned i = 0; i < IDLE; i++)
            recorder_clear(&near[i]);
        turn(pair.loop, 1);
    }
}
