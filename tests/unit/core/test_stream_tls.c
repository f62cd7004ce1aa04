/* Streams of TLS against OpenSSL alone at the far end: handshakes, trust, sessions. Those
 * that go wrong are in test_stream_tls_hostile.c, what happens afterwards in
 * test_stream_tls_traffic.c. */
#include "core/stream_tls.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/peers.h"
#include "tests/lib/script_stream.h"
#include "tests/lib/tls_pair.h"
#include "tests/lib/turns.h"

static struct tls_pair pair;
static uint8_t got[65536];

static void make_pair(void)
{
    tls_pair_init(&pair);
}

static void clear_pair(void)
{
    tls_pair_clear(&pair);
}

TestSuite(stream_tls, .init = make_pair, .fini = clear_pair, .timeout = 120);

static void expect_calls(const char *calls)
{
    cr_expect_str_eq(pair.near.calls, calls, "%s, expected %s", pair.near.calls, calls);
    cr_expect_not(pair.near.was_called_back, "a callback came from within a call");
}

/* A few bytes each way. */
static void expect_to_talk(void)
{
    bool has_ended;

    recorder_want(&pair.near, true);
    cr_assert_eq(tls_peer_write(&pair.far, "ping", 4), 4);
    tls_pair_turn(&pair, 4);
    cr_assert_geq(pair.near.n_bytes, 4u);
    cr_expect_eq(memcmp(pair.near.bytes + pair.near.n_bytes - 4, "ping", 4), 0);
    cr_expect(recorder_send(&pair.near, "pong", 4));
    tls_pair_turn(&pair, 4);
    cr_expect_eq(tls_peer_read(&pair.far, got, sizeof got, &has_ended), 4);
    cr_expect_eq(memcmp(got, "pong", 4), 0);
    cr_expect_not(has_ended);
    cr_expect_eq(pond_n_taken(pair.loop->pond), 0);
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

/* ---- that go well --------------------------------------------------------------------
 */

Test(stream_tls, shakes_hands_and_talks)
{
    EACH_WAY(way)
    {
        struct stream *stream = &pair.near.stream;

        tls_pair_begin(&pair, *way);
        expect_calls("o");
        cr_expect(stream_is_tls(stream));
        cr_expect_str_eq(stream_tls_version(stream),
                         way->version == TLS1_3_VERSION ? "TLSv1.3" : "TLSv1.2");
        cr_expect_str_eq(stream_tls_cipher(stream), SSL_get_cipher_name(pair.far.ssl));
        cr_expect_not(stream_tls_has_alpn(stream));
        cr_expect_not(stream_tls_was_resumed(stream));
        expect_to_talk();
        expect_calls("ob");
    }
}

Test(stream_tls, shows_the_certificates_of_both_sides)
{
    EACH_WAY(way)
    {
        char name[64];

        tls_pair_begin(&pair, *way);
        cr_expect_eq(X509_cmp(stream_tls_certificate(&pair.near.stream),
                              way->role == TLS_SERVER ? pair.server.certificate
                                                      : pair.client.certificate),
                     0);
        cr_assert(tls_common_name(stream_tls_peer_certificate(&pair.near.stream), name,
                                  sizeof name));
        cr_expect_str_eq(name, way->role == TLS_SERVER ? "alice" : "localhost");
    }
}

Test(stream_tls, opens_from_the_loop_and_sends_what_it_was_given_before)
{
    EACH_WAY(way)
    {
        tls_pair_prepare(&pair, *way);
        tls_pair_open(&pair);
        cr_expect_not(recorder_send(&pair.near, "early", 5));
        recorder_end(&pair.near);
        expect_calls("");
        cr_assert(tls_pair_greet(&pair));
        tls_pair_turn(&pair, 4);
        expect_calls("os");
        cr_expect_eq(tls_peer_read(&pair.far, got, 100, &pair.far.has_failed), 5);
        cr_expect(pair.far.has_failed, "close_notify");
        cr_expect(pair.far.has_ended, "FIN");
        pair.far.has_failed = false;
    }
}

Test(stream_tls, ends_behind_the_handshake_if_it_was_told_to_before)
{
    EACH_WAY(way)
    {
        bool has_ended;

        tls_pair_prepare(&pair, *way);
        tls_pair_open(&pair);
        recorder_end(&pair.near);
        cr_assert(tls_pair_greet(&pair), "%s", tls_way_name(*way));
        tls_pair_turn(&pair, 3);
        cr_expect_eq(tls_peer_read(&pair.far, got, 100, &has_ended), 0);
        cr_expect(has_ended, "close_notify");
        cr_expect(pair.far.has_ended, "FIN");
        expect_calls("o");
    }
}

Test(stream_tls, sends_what_the_plain_stream_still_had_to_send_first)
{
    static uint8_t plain[300000], heard[300000];
    int small = 1;

    peers_fill(plain, sizeof plain);
    EACH_WAY(way)
    {
        size_t n = 0;

        tls_pair_prepare(&pair, *way);
        pair.start.context = tls_context_new(&pair.settings, &(struct text){0});
        cr_assert_not_null(pair.start.context);
        peers_unix(pair.fds);
        setsockopt(pair.fds[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof small);
        recorder_adopt(&pair.near, pair.loop, pair.fds[0]);
        cr_expect_not(recorder_send(&pair.near, plain, sizeof plain));
        cr_assert(stream_tls_start(&pair.near.stream, &pair.start));
        while (n < sizeof plain) { /* there is room for TLS, and it must wait */
            n += peers_read(pair.fds[1], heard + n, sizeof plain - n, &(bool){0});
            turn(pair.loop, 1);
        }
        cr_expect_eq(peers_differ_at(heard, sizeof heard), sizeof heard, "%s",
                     tls_way_name(*way));
        tls_peer_open(&pair.far, pair.fds[1]);
        cr_assert(tls_pair_greet(&pair), "%s", tls_way_name(*way));
        expect_to_talk();
    }
}

Test(stream_tls, takes_the_bytes_that_its_owner_has_read_already)
{
    static const size_t sizes[] = {1, 6, 60, 10000};

    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        EACH_WAY(way)
        {
            struct buffer *first = buffer_take(pair.loop->pond);

            if (way->role == TLS_CLIENT) {
                buffer_give(first); /* a server does not speak first */
                continue;
            }
            tls_pair_prepare(&pair, *way);
            pair.start.context = tls_context_new(&pair.settings, &(struct text){0});
            peers_unix(pair.fds);
            recorder_adopt(&pair.near, pair.loop, pair.fds[0]);
            tls_peer_open(&pair.far, pair.fds[1]);
            tls_peer_turn(&pair.far);
            first->end =
                (uint32_t)peers_read(pair.fds[0], first->bytes, sizes[i], &(bool){0});
            cr_assert_gt(first->end, 0u);
            pair.start.first = first;
            cr_assert(stream_tls_start(&pair.near.stream, &pair.start));
            cr_assert(tls_pair_greet(&pair), "%s, %zu bytes", tls_way_name(*way),
                      sizes[i]);
            expect_to_talk();
        }
    }
}

static void start_in_callback(struct stream *stream, struct buffer *bytes)
{
    buffer_give(bytes);
    stream->events = &recorder_events;
    recorder_want(&pair.near, false);
    cr_assert(stream_tls_start(stream, &pair.start));
}

/* As a server that has been asked for TLS does. */
Test(stream_tls, begins_within_a_callback_of_the_plain_stream)
{
    static struct stream_events asking;

    asking = recorder_events;
    asking.on_bytes = start_in_callback;
    EACH_WAY(way)
    {
        tls_pair_prepare(&pair, *way);
        pair.start.context = tls_context_new(&pair.settings, &(struct text){0});
        peers_unix(pair.fds);
        recorder_adopt(&pair.near, pair.loop, pair.fds[0]);
        pair.near.stream.events = &asking;
        recorder_want(&pair.near, true);
        peers_write(pair.fds[1], "SSLRequest", 10);
        turn(pair.loop, 1);
        cr_expect(stream_is_tls(&pair.near.stream));
        tls_peer_open(&pair.far, pair.fds[1]);
        cr_assert(tls_pair_greet(&pair), "%s", tls_way_name(*way));
        expect_to_talk();
    }
}

static void start_when_sent(struct stream *stream)
{
    stream->events = &recorder_events;
    cr_assert(stream_tls_start(stream, &pair.start));
}

/* Reads and forgets at most so many bytes at the far end; how many. */
static size_t drain_plain(size_t most)
{
    size_t n = 0, more = 1;

    for (; n < most && more > 0; n += more)
        more = peers_read(pair.fds[1], got, most - n < sizeof got ? most - n : sizeof got,
                          &(bool){0});
    return n;
}

/* The kernel says in one breath that the plain stream can write and read. What can be
 * read then is not for it any more. */
Test(stream_tls, begins_between_the_plain_streams_last_write_and_a_read)
{
    static struct stream_events sending;
    static const uint8_t plain[16384];

    sending = recorder_events;
    sending.on_sent = start_when_sent;
    EACH_WAY(way)
    {
        size_t n_left = 0;

        if (way->role == TLS_CLIENT)
            continue;
        tls_pair_prepare(&pair, *way);
        pair.start.context = tls_context_new(&pair.settings, &(struct text){0});
        peers_unix(pair.fds);
        recorder_adopt(&pair.near, pair.loop, pair.fds[0]);
        pair.near.stream.events = &sending;
        recorder_want(&pair.near, true);
        turn(pair.loop, 1);
        for (bool is_gone = true; is_gone; n_left += sizeof plain)
            is_gone = recorder_send(&pair.near, plain, sizeof plain);
        n_left -= drain_plain(n_left);
        tls_peer_open(&pair.far, pair.fds[1]);
        pair.far.is_deaf = true;
        tls_peer_turn(&pair.far);
        turn(pair.loop, 1);
        n_left -= drain_plain(n_left);
        cr_assert_eq(n_left, 0u);
        cr_assert(stream_is_tls(&pair.near.stream));
        cr_expect_eq(pair.near.n_bytes, 0u);
        pair.far.is_deaf = false;
        cr_assert(tls_pair_greet(&pair), "%s", tls_way_name(*way));
        expect_to_talk();
    }
}

Test(stream_tls, shakes_hands_one_byte_at_a_time)
{
    EACH_WAY(way)
    {
        tls_pair_prepare(&pair, *way);
        tls_pair_open(&pair);
        pair.far.piece = 1;
        cr_assert(tls_pair_greet(&pair), "%s", tls_way_name(*way));
        pair.far.piece = 0;
        tls_pair_turn(&pair, 2);
        expect_to_talk();
    }
}

Test(stream_tls, gives_its_memory_back_when_it_is_closed_at_any_point)
{
    EACH_WAY(way)
    {
        for (unsigned n_turns = 0; n_turns < 6; n_turns++) {
            char calls[RECORDER_CALLS_MAX + 1];

            tls_pair_prepare(&pair, *way);
            tls_pair_open(&pair);
            cr_expect_not(recorder_send(&pair.near, "early", 5));
            tls_pair_turn(&pair, n_turns);
            memcpy(calls, pair.near.calls, sizeof calls);
            recorder_close(&pair.near);
            cr_expect_eq(pond_n_taken(pair.loop->pond), 0);
            tls_pair_turn(&pair, 2);
            expect_calls(calls);
            recorder_close(&pair.near);
        }
    }
}

/* Not over a socket, and with every byte sent late. */
Test(stream_tls, shakes_hands_over_any_stream)
{
    EACH_WAY(way)
    {
        static uint8_t said[100][20000];
        struct script_peer peer = {.window = SCRIPT_ALL, .takes_late = true};
        size_t n_heard = 0, n_said = 0;
        int n;

        tls_pair_prepare(&pair, *way);
        pair.start.context = tls_context_new(&pair.settings, &(struct text){0});
        script_adopt(&pair.near.stream, pair.loop, &peer, &recorder_events, &pair.near);
        recorder_want(&pair.near, true);
        tls_peer_open(&pair.far, -1);
        cr_assert(stream_tls_start(&pair.near.stream, &pair.start));
        for (unsigned i = 0; i < 50; i++) {
            turn(pair.loop, 1);
            n = (int)(peer.n_heard - n_heard);
            if (n > 0)
                cr_assert_eq(
                    BIO_write(SSL_get_rbio(pair.far.ssl), peer.heard + n_heard, n), n);
            n_heard = peer.n_heard;
            if (!pair.far.is_greeted)
                pair.far.is_greeted = SSL_do_handshake(pair.far.ssl) == 1;
            if (i == 20)
                cr_assert_eq(tls_peer_write(&pair.far, "ping", 4), 4u);
            if (i == 30)
                cr_expect_not(recorder_send(&pair.near, "pong", 4));
            n = BIO_read(SSL_get_wbio(pair.far.ssl), said[n_said], sizeof said[0]);
            if (n > 0)
                script_says(&peer, said[n_said++], (size_t)n, 1000);
        }
        expect_calls("obs");
        cr_expect_eq(memcmp(pair.near.bytes, "ping", 4), 0);
        cr_expect_eq(tls_peer_read(&pair.far, got, 100, &(bool){0}), 4u);
        recorder_close(&pair.near);
        script_clear(&peer);
    }
}

/* ---- many at once --------------------------------------------------------------------
 */

#define MANY 200

Test(stream_tls, many_handshakes_at_once_do_not_hold_up_the_loop)
{
    static struct recorder near[MANY];
    static struct tls_peer far[MANY];
    static int fds[MANY][2];
    unsigned n_open = 0, n_turns = 0;

    tls_pair_prepare(&pair, tls_ways[0]);
    pair.start.context = tls_context_new(&pair.settings, &(struct text){0});
    for (unsigned i = 0; i < MANY; i++) {
        peers_unix(fds[i]);
        recorder_adopt(&near[i], pair.loop, fds[i][0]);
        tls_peer_init(&far[i], false, TLS1_3_VERSION, tls_pair_path(&pair, "client"),
                      NULL);
        tls_peer_open(&far[i], fds[i][1]);
        tls_peer_turn(&far[i]);
        cr_assert(stream_tls_start(&near[i].stream, &pair.start));
    }
    while (n_open < MANY && n_turns++ < 10000) {
        n_open = 0;
        turn(pair.loop, 1);
        for (unsigned i = 0; i < MANY; i++) {
            tls_peer_turn(&far[i]);
            n_open += near[i].is_open;
        }
    }
    cr_expect_eq(n_open, MANY);
    cr_expect_geq(n_turns, 5u, "%u: not in one go", n_turns);
    for (unsigned i = 0; i < MANY; i++) {
        recorder_clear(&near[i]);
        tls_peer_clear(&far[i]);
        close(fds[i][1]);
    }
}

/* ---- whom to trust -------------------------------------------------------------------
 */

static bool greets(void)
{
    tls_pair_open(&pair);
    return tls_pair_greet(&pair);
}

Test(stream_tls, a_client_insists_on_the_name_or_the_address)
{
    static const char *const good[] = {"localhost", "LocalHost", "127.0.0.1"};
    static const char *const bad[] = {"example.org", "127.0.0.2",      "::1",
                                      "host",        "localhost.evil", ""};

    EACH_WAY(way)
    {
        if (way->role == TLS_SERVER)
            continue;
        tls_pair_prepare(&pair, *way);
        for (size_t i = 0; i < COUNT_OF(good); i++) {
            pair.start.host = good[i];
            cr_expect(greets(), "%s: %s", good[i], pair.why);
        }
        for (size_t i = 0; i + 1 < COUNT_OF(bad); i++) {
            pair.start.host = bad[i];
            cr_expect_not(greets(), "%s", bad[i]);
            expect_failure("mismatch");
        }
        pair.settings.verify = TLS_VERIFY_CA;
        tls_pair_renew(&pair);
        cr_expect(greets(), "any name does");
        pair.start.host = NULL;
        cr_expect(greets(), "or none");
    }
}

Test(stream_tls, a_client_insists_on_a_name_that_it_knows, .signal = SIGABRT)
{
    tls_pair_prepare(&pair, tls_ways[1]);
    pair.start.host = NULL;
    tls_pair_open(&pair);
}

Test(stream_tls, asks_for_the_host_by_name_but_not_by_number)
{
    tls_pair_prepare(&pair, tls_ways[1]);
    cr_assert(greets());
    cr_expect_str_eq(SSL_get_servername(pair.far.ssl, TLSEXT_NAMETYPE_host_name),
                     "localhost");
    pair.start.host = "127.0.0.1";
    cr_assert(greets());
    cr_expect_null(SSL_get_servername(pair.far.ssl, TLSEXT_NAMETYPE_host_name));
}

static void write_server(const struct identity_wish *wish)
{
    struct identity made = identity_make(wish);

    identity_write(&made, NULL, pair.folder, "server", NULL);
    identity_clear(&made);
}

Test(stream_tls, a_wildcard_is_a_whole_label)
{
    static const struct {
        const char *host;
        bool fits;
    } hosts[] = {
        {"a.example.org", true},    {"example.org", false},
        {"a.b.example.org", false}, {"part1.example.com", false},
        {"a.example.net", false},
    };

    write_server(&(struct identity_wish){.name = "x",
                                         .alternative_names =
                                             "DNS:*.example.org,DNS:part*.example.com",
                                         .issuer = &pair.ca});
    tls_pair_prepare(&pair, tls_ways[1]);
    for (size_t i = 0; i < COUNT_OF(hosts); i++) {
        pair.start.host = hosts[i].host;
        cr_expect_eq(greets(), hosts[i].fits, "%s", hosts[i].host);
    }
}

Test(stream_tls, a_client_trusts_its_ca_alone)
{
    write_server(&(struct identity_wish){.name = "localhost"});
    EACH_WAY(way)
    {
        if (way->role == TLS_SERVER)
            continue;
        tls_pair_prepare(&pair, *way);
        cr_expect_not(greets());
        expect_failure("self-signed certificate");
        cr_expect(pair.far.has_failed, "it was told by an alert");
        pair.settings.verify = TLS_VERIFY_NONE;
        tls_pair_renew(&pair);
        cr_expect(greets());
    }
}

Test(stream_tls, a_client_refuses_what_has_expired)
{
    write_server(&(struct identity_wish){
        .name = "localhost", .issuer = &pair.ca, .is_expired = true});
    tls_pair_prepare(&pair, tls_ways[1]);
    cr_expect_not(greets());
    expect_failure("certificate has expired");
}

Test(stream_tls, a_client_refuses_what_is_revoked)
{
    tls_pair_prepare(&pair, tls_ways[1]);
    identity_write_crl(&pair.ca, NULL, tls_pair_path(&pair, "ca.crl"));
    pair.settings.crl_file = tls_pair_path(&pair, "ca.crl");
    cr_expect(greets(), "%s", pair.why);
    identity_write_crl(&pair.ca, pair.server.certificate, tls_pair_path(&pair, "ca.crl"));
    tls_pair_renew(&pair);
    pair.settings.crl_file = tls_pair_path(&pair, "ca.crl");
    cr_expect_not(greets());
    expect_failure("certificate revoked");
}

/* The far end is a client with that certificate, or with none, and without a session. */
static void have_client(const char *identity, enum tls_ask ask, int version)
{
    tls_pair_prepare(&pair, (struct tls_way){TLS_SERVER, version});
    pair.settings.ask = ask;
    tls_peer_clear(&pair.far);
    tls_peer_init(&pair.far, false, version,
                  identity != NULL ? tls_pair_path(&pair, identity) : NULL,
                  tls_pair_path(&pair, "ca.crt"));
}

Test(stream_tls, a_server_asks_for_certificates_as_it_is_told)
{
    struct identity stranger = identity_make(&(struct identity_wish){.name = "alice"});

    identity_write(&stranger, NULL, pair.folder, "stranger", NULL);
    for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        have_client("client", TLS_ASK_NEVER, version);
        cr_expect(greets());
        cr_expect_null(stream_tls_peer_certificate(&pair.near.stream));
        have_client("client", TLS_ASK_OPTIONAL, version);
        cr_expect(greets());
        cr_expect_not_null(stream_tls_peer_certificate(&pair.near.stream));
        have_client(NULL, TLS_ASK_OPTIONAL, version);
        cr_expect(greets());
        cr_expect_null(stream_tls_peer_certificate(&pair.near.stream));
        have_client("stranger", TLS_ASK_OPTIONAL, version);
        cr_expect_not(greets());
        expect_failure("self-signed certificate");
        have_client("stranger", TLS_ASK_ALWAYS, version);
        cr_expect_not(greets());
        expect_failure("self-signed certificate");
        have_client(NULL, TLS_ASK_ALWAYS, version);
        cr_expect_not(greets());
        expect_failure("peer did not return a certificate");
        have_client("client", TLS_ASK_ALWAYS, version);
        cr_expect(greets());
    }
    identity_clear(&stranger);
}

Test(stream_tls, says_what_the_peer_finds_wrong)
{
    tls_pair_prepare(&pair, tls_ways[0]);
    tls_peer_clear(&pair.far);
    identity_write(&pair.client, NULL, pair.folder, "wrong", NULL);
    tls_peer_init(&pair.far, false, TLS1_3_VERSION, NULL,
                  tls_pair_path(&pair, "wrong.crt"));
    cr_expect_not(greets());
    expect_failure("alert unknown ca");
}

/* ---- protocols and ciphers -----------------------------------------------------------
 */

Test(stream_tls, speaks_only_the_protocols_that_are_set)
{
    static const struct {
        const char *protocols;
        bool fits[2]; /* 1.2, 1.3 */
    } cases[] = {
        {NULL, {true, true}},
        {"tlsv1.2", {true, false}},
        {"tlsv1.3", {false, true}},
        {"all,!tlsv1.3", {true, false}},
    };

    EACH_WAY(way)
    {
        for (size_t i = 0; i < COUNT_OF(cases); i++) {
            tls_pair_prepare(&pair, *way);
            pair.settings.protocols = cases[i].protocols;
            cr_expect_eq(greets(), cases[i].fits[way->version == TLS1_3_VERSION],
                         "%s, %s", tls_way_name(*way), cases[i].protocols);
            if (!pair.near.is_open)
                expect_failure(NULL);
        }
    }
}

Test(stream_tls, old_peers_can_be_let_in)
{
    for (int version = TLS1_VERSION; version <= TLS1_1_VERSION; version++) {
        tls_pair_prepare(&pair, (struct tls_way){TLS_SERVER, version});
        cr_assert_eq(SSL_CTX_set_cipher_list(pair.far.context, "ALL:@SECLEVEL=0"), 1);
        cr_expect_not(greets());
        expect_failure("unsupported protocol");
        pair.settings.protocols = "all";
        pair.settings.ciphers = "legacy";
        tls_pair_renew(&pair);
        cr_expect(greets(), "%s", pair.why);
        expect_to_talk();
    }
}

Test(stream_tls, speaks_only_the_ciphers_that_are_set)
{
    have_client(NULL, TLS_ASK_NEVER, TLS1_2_VERSION);
    pair.settings.ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384";
    cr_expect(greets());
    cr_expect_str_eq(stream_tls_cipher(&pair.near.stream),
                     "ECDHE-ECDSA-AES256-GCM-SHA384");
    have_client(NULL, TLS_ASK_NEVER, TLS1_2_VERSION);
    pair.settings.ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384";
    cr_assert_eq(
        SSL_CTX_set_cipher_list(pair.far.context, "ECDHE-ECDSA-AES128-GCM-SHA256"), 1);
    cr_expect_not(greets());
    expect_failure("no shared cipher");

    tls_pair_prepare(&pair, tls_ways[0]);
    pair.settings.tls13_ciphers = "TLS_CHACHA20_POLY1305_SHA256";
    cr_expect(greets());
    cr_expect_str_eq(stream_tls_cipher(&pair.near.stream),
                     "TLS_CHACHA20_POLY1305_SHA256");
}

/* The bits of the group that the far end has agreed on. */
static int bits_of_exchange(void)
{
    EVP_PKEY *key = NULL;
    int bits;

    cr_assert_eq(SSL_get_peer_tmp_key(pair.far.ssl, &key), 1);
    bits = EVP_PKEY_get_bits(key);
    EVP_PKEY_free(key);
    return bits;
}

/* A client without a certificate of its own, whose curve would count, too. */
static bool greets_by(const char *curve, const char *dhe, int version,
                      const char *far_ciphers)
{
    have_client(NULL, TLS_ASK_NEVER, version);
    pair.settings.ecdhcurve = curve;
    pair.settings.dheparams = dhe;
    pair.settings.ciphers = dhe != NULL ? "all" : NULL;
    cr_assert_eq(SSL_CTX_set_cipher_list(pair.far.context, far_ciphers), 1);
    return greets();
}

Test(stream_tls, exchanges_keys_as_it_is_told)
{
    static const char dhe[] = "DHE:@SECLEVEL=0";

    write_server(&(struct identity_wish){
        .name = "localhost", .issuer = &pair.ca, .rsa_bits = 2048});
    cr_expect(greets_by("P-384", NULL, TLS1_2_VERSION, "ECDHE"));
    cr_expect_eq(bits_of_exchange(), 384);
    cr_expect(greets_by("X25519", NULL, TLS1_3_VERSION, "ECDHE"));
    cr_expect_eq(bits_of_exchange(), 253);

    cr_expect(greets_by(NULL, NULL, TLS1_2_VERSION, dhe));
    cr_expect_eq(bits_of_exchange(), 2048);
    cr_expect(greets_by(NULL, "legacy", TLS1_2_VERSION, dhe));
    cr_expect_eq(bits_of_exchange(), 1024);
    cr_expect_not(greets_by(NULL, "none", TLS1_2_VERSION, dhe));
    expect_failure("no shared cipher");

    cr_expect(greets_by("none", NULL, TLS1_3_VERSION, "ALL"), "%s", pair.why);
    cr_expect_eq(bits_of_exchange(), 2048, "without a curve");
    cr_expect_not(greets_by("none", NULL, TLS1_2_VERSION, "ECDHE"));
    expect_failure("no shared cipher");
}

Test(stream_tls, never_negotiates_anew)
{
    tls_pair_begin(&pair, tls_ways[2]);
    expect_to_talk();
    cr_assert_eq(SSL_renegotiate(pair.far.ssl), 1);
    (void)SSL_do_handshake(pair.far.ssl);
    tls_pair_turn(&pair, 4);
    cr_expect_eq(tls_peer_read(&pair.far, got, 1, &(bool){0}), 0);
    cr_expect(pair.far.has_failed, "the far end insists");
    cr_expect_not(pair.near.has_failed, "ours does not mind");
}

/* ---- ALPN ----------------------------------------------------------------------------
 */

static const unsigned char postgresql[] = "\012postgresql", http[] = "\002h2\010http/1.1";

static int choose_postgresql(SSL *ssl, const unsigned char **chosen, unsigned char *n,
                             const unsigned char *offered, unsigned n_offered,
                             void *unused)
{
    (void)ssl;
    (void)offered;
    (void)n_offered;
    (void)unused;
    *chosen = postgresql + 1;
    *n = 10;
    return SSL_TLSEXT_ERR_OK;
}

static void have_alpn(struct tls_way way, const unsigned char *offered, size_t n)
{
    tls_pair_prepare(&pair, way);
    pair.settings.alpn = "postgresql";
    pair.start.needs_alpn = true;
    if (way.role == TLS_CLIENT && n > 0)
        SSL_CTX_set_alpn_select_cb(pair.far.context, choose_postgresql, NULL);
    else if (n > 0)
        cr_assert_eq(SSL_CTX_set_alpn_protos(pair.far.context, offered, (unsigned)n), 0);
}

Test(stream_tls, agrees_on_a_protocol_by_alpn)
{
    EACH_WAY(way)
    {
        have_alpn(*way, postgresql, sizeof postgresql - 1);
        cr_expect(greets(), "%s: %s", tls_way_name(*way), pair.why);
        cr_expect(stream_tls_has_alpn(&pair.near.stream));
        expect_to_talk();
    }
}

Test(stream_tls, refuses_a_peer_without_alpn_where_it_is_needed)
{
    EACH_WAY(way)
    {
        have_alpn(*way, NULL, 0);
        cr_expect_not(greets() && way->role == TLS_SERVER, "%s", tls_way_name(*way));
        expect_failure(way->role == TLS_SERVER ? "a direct TLS connection without ALPN"
                                               : "no protocol was agreed on by ALPN");
        have_alpn(*way, NULL, 0);
        pair.start.needs_alpn = false;
        cr_expect(greets(), "where it is not needed");
        cr_expect_not(stream_tls_has_alpn(&pair.near.stream));
    }
}

Test(stream_tls, refuses_a_client_that_speaks_other_protocols)
{
    EACH_WAY(way)
    {
        if (way->role == TLS_CLIENT)
            continue;
        have_alpn(*way, http, sizeof http - 1);
        pair.start.needs_alpn = false;
        cr_expect_not(greets());
        expect_failure("ALPN offers only other protocols");
    }
}

/* ---- sessions ------------------------------------------------------------------------
 */

Test(stream_tls, resumes_a_session_with_the_same_peer)
{
    EACH_WAY(way)
    {
        tls_pair_prepare(&pair, *way);
        pair.start.memory = &pair.memory;
        for (unsigned i = 0; i < 4; i++) {
            cr_assert(greets(), "%s", pair.why);
            cr_expect_eq(stream_tls_was_resumed(&pair.near.stream), i > 0, "%s, %u",
                         tls_way_name(*way), i);
            cr_expect_eq(SSL_session_reused(pair.far.ssl), i > 0);
            expect_to_talk(); /* and reads the ticket */
            cr_expect_not_null(stream_tls_peer_certificate(&pair.near.stream));
            if (i == 1)
                stream_reset(&pair.near.stream); /* else tls_pair_open() closes it */
        }
        tls_memory_clear(&pair.memory);
    }
}

Test(stream_tls, resumes_no_session_of_another_host_or_context)
{
    EACH_WAY(way)
    {
        if (way->role == TLS_SERVER)
            continue;
        tls_pair_prepare(&pair, *way);
        pair.start.memory = &pair.memory;
        cr_assert(greets());
        expect_to_talk();
        pair.start.host = "127.0.0.1";
        cr_assert(greets());
        cr_expect_not(stream_tls_was_resumed(&pair.near.stream), "another host");
        expect_to_talk();
        tls_pair_renew(&pair);
        cr_assert(greets());
        cr_expect_not(stream_tls_was_resumed(&pair.near.stream), "another context");
        expect_to_talk();
        cr_assert(greets());
        cr_expect(stream_tls_was_resumed(&pair.near.stream), "the same of both");
        tls_memory_clear(&pair.memory);
    }
}

/* A ticket that comes when the memory is another host's already. */
Test(stream_tls, a_late_session_is_not_taken_for_another_hosts)
{
    struct recorder second = {0};
    struct tls_peer far;
    int fds[2];

    tls_pair_prepare(&pair, tls_ways[1]);
    pair.start.memory = &pair.memory;
    cr_assert(greets());
    recorder_want(&pair.near, true);
    pair.start.host = "127.0.0.1";
    peers_unix(fds);
    recorder_adopt(&second, pair.loop, fds[0]);
    tls_peer_init(&far, true, TLS1_3_VERSION, tls_pair_path(&pair, "server"), NULL);
    tls_peer_open(&far, fds[1]);
    cr_assert(stream_tls_start(&second.stream, &pair.start));
    tls_pair_turn(&pair, 3); /* which brings the first one's tickets */
    cr_expect_str_eq(pair.memory.host, "127.0.0.1");
    cr_expect_null(pair.memory.session);
    recorder_want(&second, true);
    for (unsigned i = 0; i < 10; i++) {
        tls_peer_turn(&far);
        turn(pair.loop, 1);
    }
    cr_expect_not_null(pair.memory.session, "that of the second");
    recorder_clear(&second);
    tls_peer_clear(&far);
    close(fds[1]);
}

Test(stream_tls, a_servers_new_context_takes_no_old_tickets)
{
    tls_pair_prepare(&pair, tls_ways[0]);
    cr_assert(greets());
    expect_to_talk();
    tls_pair_renew(&pair);
    cr_assert(greets(), "a full handshake instead");
    cr_expect_not(stream_tls_was_resumed(&pair.near.stream));
}
