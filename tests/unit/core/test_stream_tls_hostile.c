/* Handshakes of TLS that go wrong: cut, forged, or none at all. */
#include "core/stream_tls.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/peers.h"
#include "tests/lib/tls_pair.h"
#include "tests/lib/turns.h"

static struct tls_pair pair;

static void make_pair(void)
{
    tls_pair_init(&pair);
}

static void clear_pair(void)
{
    tls_pair_clear(&pair);
}

TestSuite(stream_tls_hostile, .init = make_pair, .fini = clear_pair, .timeout = 120);

static void expect_calls(const char *calls)
{
    cr_expect_str_eq(pair.near.calls, calls, "%s, expected %s", pair.near.calls, calls);
    cr_expect_not(pair.near.was_called_back, "a callback came from within a call");
}

/* Our end has failed, for this reason, and nothing is left of it. */
static void expect_failure(const char *why)
{
    tls_pair_turn(&pair, 4);
    cr_expect(pair.near.has_failed);
    cr_expect_eq(pair.near.why, STREAM_TLS_FAILED);
    cr_expect_not_null(pair.why);
    if (pair.why != NULL && why != NULL)
        cr_expect_not_null(strstr(pair.why, why), "%s, expected %s", pair.why, why);
    cr_expect_not(stream_is_open(&pair.near.stream));
    cr_expect_eq(pond_n_taken(pair.loop->pond), 0);
}

/* How many bytes the far end sends in a whole handshake, and no tickets behind it. It may
 * be a few less next time: signatures differ in length. */
static size_t n_of_handshake(struct tls_way way)
{
    tls_pair_prepare(&pair, way);
    cr_assert_eq(SSL_CTX_set_num_tickets(pair.far.context, 0), 1);
    SSL_CTX_sess_set_new_cb(pair.far.context, NULL);
    tls_pair_open(&pair);
    cr_assert(tls_pair_greet(&pair));
    return pair.far.n_sent;
}

Test(stream_tls_hostile, a_handshake_that_ends_at_any_byte_fails)
{
    EACH_WAY(way)
    {
        size_t n = n_of_handshake(*way);

        for (size_t i = 0; i < n; i++) {
            tls_pair_open(&pair);
            pair.far.n_left = i;
            for (unsigned k = 0; k < 8 && pair.far.n_left > 0; k++)
                tls_pair_turn(&pair, 1);
            tls_pair_turn(&pair, 1);
            if (pair.near.is_open && i + 10 > n)
                continue;
            cr_assert_eq(pair.far.n_left, 0);
            expect_calls("");
            shutdown(pair.fds[1], SHUT_WR);
            tls_pair_turn(&pair, 1);
            expect_calls("f");
            expect_failure("the peer has left in the handshake");
        }
    }
}

Test(stream_tls_hostile, a_handshake_with_a_changed_byte_never_succeeds)
{
    EACH_WAY(way)
    {
        size_t n = n_of_handshake(*way);

        for (size_t i = (size_t)(way - tls_ways) % 2; i < n; i += 2) {
            bool is_done;

            if (i == 2)
                continue; /* in the first record's version, which nobody looks at */
            tls_pair_open(&pair);
            pair.far.flip_at = i;
            for (unsigned k = 0; k < 8 && !pair.near.has_failed; k++)
                tls_pair_turn(&pair, 1);
            is_done = pair.near.is_open && pair.far.is_greeted && pair.far.n_sent > i;
            cr_expect_not(is_done && !pair.near.has_failed && !pair.far.has_failed,
                          "%s, byte %zu of %zu", tls_way_name(*way), i, n);
            if (pair.near.has_failed)
                expect_failure(NULL);
        }
    }
}

static const struct {
    const char *bytes;
    size_t n;
} garbage[] = {
    {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27},
    {"\0\0\0\x08\x04\xd2\x16\x2f", 8},          /* SSLRequest, once more */
    {"\0\0\0\x08\x04\xd2\x16\x30", 8},          /* GSSENCRequest */
    {"\0\0\0\x13\0\3\0\0user\0alice\0\0", 19},  /* a StartupMessage without TLS */
    {"\x16\x03\x01\xff\xff\x01\0\0\0", 9},      /* a record that is too long */
    {"\x16\x03\x01\0\0\x16\x03\x01\0\0", 10},   /* empty ones */
    {"\x17\x03\x03\0\x05hello", 10},            /* data before the handshake */
    {"\x80\x2e\x01\0\x02\0\x15\0\0\0\x10", 11}, /* SSL 2 */
    {"\x15\x03\x01\0\x02\x02\x28", 7},          /* a fatal alert */
};

Test(stream_tls_hostile, garbage_instead_of_a_handshake_fails)
{
    EACH_WAY(way)
    {
        tls_pair_prepare(&pair, *way);
        for (size_t i = 0; i < COUNT_OF(garbage); i++) {
            for (unsigned piece = 0; piece < 2; piece++) {
                size_t n = garbage[i].n;

                tls_pair_open(&pair);
                for (size_t at = 0; at < n; at += piece == 0 ? n : 1) {
                    peers_write(pair.fds[1], garbage[i].bytes + at, piece == 0 ? n : 1);
                    turn(pair.loop, 1);
                }
                shutdown(pair.fds[1], SHUT_WR);
                turn(pair.loop, 4);
                cr_expect_not(pair.near.is_open);
                expect_failure(NULL);
            }
        }
    }
}

/* Of a record with a ClientHello. */
static const uint8_t beginning[] = {0x16, 3, 3, 1, 0, 1, 0, 0, 0xfc, 3, 3};

Test(stream_tls_hostile, random_bytes_instead_of_a_handshake_fail)
{
    EACH_WAY(way)
    {
        tls_pair_prepare(&pair, *way);
        for (unsigned seed = 0; seed < 200; seed++) {
            uint8_t bytes[400];

            srandom(seed);
            for (size_t i = 0; i < sizeof bytes; i++)
                bytes[i] = (uint8_t)random();
            if (seed % 2 == 0)
                memcpy(bytes, beginning, sizeof beginning);
            tls_pair_open(&pair);
            peers_write(pair.fds[1], bytes, sizeof bytes);
            shutdown(pair.fds[1], SHUT_WR);
            turn(pair.loop, 6);
            cr_expect_not(pair.near.is_open);
            expect_failure(NULL);
        }
    }
}

Test(stream_tls_hostile, a_reset_in_the_handshake_is_a_reset)
{
    EACH_WAY(way)
    {
        tls_pair_prepare(&pair, *way);
        pair.start.context = tls_context_new(&pair.settings, &(struct text){0});
        peers_tcp(pair.fds, 0);
        recorder_adopt(&pair.near, pair.loop, pair.fds[0]);
        cr_assert(stream_tls_start(&pair.near.stream, &pair.start));
        turn(pair.loop, 2);
        socket_reset_on_close(pair.fds[1]);
        close(pair.fds[1]);
        pair.fds[1] = -1;
        turn(pair.loop, 3);
        expect_calls("f");
        cr_expect_eq(pair.near.why, STREAM_RESET);
        cr_expect_eq(pond_n_taken(pair.loop->pond), 0);
    }
}
