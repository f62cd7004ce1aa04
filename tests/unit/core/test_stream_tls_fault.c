/* TLS with each single allocation failing: ours and those of OpenSSL. A program of its
 * own, since OpenSSL's memory can be taken over only before its first allocation. */
#include "core/stream_tls.h"

#include <criterion/criterion.h>
#include <unistd.h>

#include "core/memory.h"
#include "tests/lib/crypto_fault.h"
#include "tests/lib/peers.h"
#include "tests/lib/tls_pair.h"
#include "tests/lib/turns.h"

#define N_BYTES 30000u

static struct tls_pair pair;
static uint8_t bytes[N_BYTES], got[N_BYTES + 1];

/* Whose allocations fail, and how many there are until then; the far end's do not count.
 */
static unsigned *fault_at;
static unsigned countdown;

static void begin_counting(void)
{
    *fault_at = countdown;
}

static void end_counting(void)
{
    countdown = *fault_at;
    *fault_at = 0;
}

static void make_pair(void)
{
    tls_pair_init(&pair);
    peers_fill(bytes, sizeof bytes);
}

static void clear_pair(void)
{
    tls_pair_clear(&pair);
}

TestSuite(stream_tls_fault, .init = make_pair, .fini = clear_pair, .timeout = 600);

/* They are some thousands; a step of 1 takes minutes and goes as well. */
Test(stream_tls_fault, a_context_survives_many)
{
    for (unsigned role = 0; role < 2; role++) {
        unsigned nth = 1, n_failed = 0, left;
        struct tls_context *context;

        tls_pair_prepare(&pair, tls_ways[role]);
        pair.settings.alpn = "postgresql";
        identity_write_crl(&pair.ca, NULL, tls_pair_path(&pair, "ca.crl"));
        pair.settings.crl_file = tls_pair_path(&pair, "ca.crl");
        do {
            struct text why = {.max = 1000};

            crypto_fault_at = nth;
            nth += 5;
            context = tls_context_new(&pair.settings, &why);
            left = crypto_fault_at;
            crypto_fault_at = 0;
            n_failed += context == NULL;
            cr_expect(context == NULL || left > 0 || why.length == 0);
            tls_context_release(context);
            text_clear(&why);
        } while (left == 0);
        cr_expect_not_null(context);
        cr_expect_gt(n_failed, 100u, "%u of %u", n_failed, nth);
    }
}

/* A handshake, a few records each way, new keys and the end. Whether all went well. */
static bool talk(void)
{
    struct stream *stream = &pair.near.stream;
    size_t n_got = 0;
    bool is_started, has_ended = false;

    pond_free(pair.loop->pond); /* so that buffers are allocated anew */
    pair.loop->pond = pond_new();
    peers_unix(pair.fds);
    recorder_adopt(&pair.near, pair.loop, pair.fds[0]);
    tls_peer_open(&pair.far, pair.fds[1]);
    begin_counting();
    is_started = stream_tls_start(stream, &pair.start);
    end_counting();
    cr_assert_neq(is_started, stream->ops == NULL || !stream_is_tls(stream));
    for (unsigned i = 0; is_started && i < 40 && stream_is_open(stream); i++) {
        begin_counting();
        turn(pair.loop, 1);
        end_counting();
        tls_peer_turn(&pair.far);
        if (!stream_is_open(stream) || !pair.near.is_open)
            continue;
        recorder_want(&pair.near, true);
        if (i == 10) {
            (void)tls_peer_write(&pair.far, bytes, sizeof bytes);
            tls_peer_turn(&pair.far);
        } else if (i == 20) {
            struct buffer *buffers[2] = {buffer_take(pair.loop->pond),
                                         buffer_take(pair.loop->pond)};

            buffers[0]->end = buffers[1]->end = 15000;
            for (unsigned k = 0; k < 15000; k++) {
                buffers[0]->bytes[k] = bytes[k];
                buffers[1]->bytes[k] = bytes[15000 + k];
            }
            begin_counting();
            (void)stream_send(stream, buffers[0]);
            (void)stream_send(stream, buffers[1]);
            end_counting();
        } else if (i == 30) {
            tls_peer_end(&pair.far);
            tls_peer_turn(&pair.far);
            begin_counting();
            stream_end(stream);
            end_counting();
        }
        n_got += tls_peer_read(&pair.far, got + n_got, sizeof got - n_got, &has_ended);
    }
    return is_started && has_ended && n_got == N_BYTES &&
           peers_differ_at(got, n_got) == n_got && pair.near.n_bytes == sizeof bytes &&
           peers_differ_at(pair.near.bytes, sizeof bytes) == sizeof bytes &&
           pair.near.has_ended;
}

/* Every `step`th allocation. Returns how many of the attempts did not go well. */
static unsigned try_each(struct tls_way way, unsigned step)
{
    unsigned n_failed = 0;
    bool went_well = false;

    tls_pair_prepare(&pair, way);
    pair.start.memory = &pair.memory;
    pair.settings.alpn = "postgresql";
    tls_pair_open(&pair);
    cr_assert(tls_pair_greet(&pair));
    countdown = 0;
    for (unsigned nth = 1; countdown == 0; nth += step) {
        tls_pair_close(&pair);
        tls_memory_clear(&pair.memory);
        SSL_SESSION_free(pair.far.session);
        pair.far.session = NULL;
        countdown = nth;
        went_well = talk();
        n_failed += !went_well;
        recorder_close(&pair.near);
        turn(pair.loop, 1);
        cr_assert_eq(pond_n_taken(pair.loop->pond), 0u, "the %uth", nth);
    }
    cr_expect(went_well, "without a failure");
    return n_failed;
}

Test(stream_tls_fault, a_connection_survives_each_of_ours)
{
    fault_at = &memory_fail_at;
    for (unsigned i = 0; i < TLS_WAYS; i++)
        cr_expect_geq(try_each(tls_ways[i], 1), 3u);
}

Test(stream_tls_fault, a_connection_survives_many_of_openssls)
{
    fault_at = &crypto_fault_at;
    for (unsigned i = 0; i < TLS_WAYS; i++)
        cr_expect_geq(try_each(tls_ways[i], 13), 20u);
}
