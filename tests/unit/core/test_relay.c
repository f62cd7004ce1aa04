/* Over scripted streams, so that what each end has seen is known at every step; at the
 * end over sockets, where bulk is spliced. */
#include "core/relay.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/memory.h"
#include "tests/lib/loop_until.h"
#include "tests/lib/peers.h"
#include "tests/lib/script_stream.h"
#include "tests/lib/turns.h"

#define BULK (100 * 1000u)

static struct loop *loop;
static struct script_peer peers[2];
static struct stream ends[2];
static struct relay relay;
static uint64_t n_bytes[2];
static uint8_t said[2][BULK];

/* What the relay has told its owner. */
static struct {
    unsigned n_half_ends[2];
    unsigned n_ends;
    unsigned n_failures[2];
    enum stream_failure why;
    bool is_over;
} told;

static unsigned most_buffers;

static void on_half_end(struct relay *of, unsigned end)
{
    cr_assert_eq(of, &relay);
    told.n_half_ends[end]++;
}

static void close_both(void)
{
    told.is_over = true;
    stream_close(&ends[0]);
    stream_close(&ends[1]);
}

static void on_end(struct relay *of)
{
    cr_assert_eq(of, &relay);
    told.n_ends++;
    close_both();
}

static void on_failed(struct relay *of, unsigned end, enum stream_failure why)
{
    cr_assert_eq(of, &relay);
    told.n_failures[end]++;
    told.why = why;
    close_both();
}

static const struct relay_events events = {
    .on_half_end = on_half_end,
    .on_end = on_end,
    .on_failed = on_failed,
};

/* The owner before the relay takes over. */
static void on_early_bytes(struct stream *stream, struct buffer *bytes)
{
    (void)stream;
    buffer_give(bytes);
}

static void on_early(struct stream *stream)
{
    (void)stream;
}

static void on_early_failure(struct stream *stream, enum stream_failure why)
{
    (void)stream;
    (void)why;
}

static const struct stream_events early_events = {
    .on_open = on_early,
    .on_bytes = on_early_bytes,
    .on_sent = on_early,
    .on_end = on_early,
    .on_failed = on_early_failure,
};

static void open_loop(void)
{
    loop = loop_new(false);
    peers_fill(said[0], BULK);
    for (size_t i = 0; i < BULK; i++)
        said[1][i] = (uint8_t)~said[0][BULK - 1 - i];
    peers[0].window = peers[1].window = SCRIPT_ALL;
}

static void start(void)
{
    for (unsigned i = 0; i < 2; i++)
        script_adopt(&ends[i], loop, &peers[i], &early_events, NULL);
    relay_start(&relay, &ends[0], &ends[1], &events, &n_bytes[0], &n_bytes[1]);
}

static void play(unsigned n_turns)
{
    while (n_turns-- > 0) {
        turn(loop, 1);
        if (pond_n_taken(loop->pond) > most_buffers)
            most_buffers = pond_n_taken(loop->pond);
    }
}

static void tear_down(void)
{
    close_both();
    script_clear(&peers[0]);
    script_clear(&peers[1]);
    loop_free(loop);
}

static void expect_heard(unsigned end, const void *bytes, size_t n)
{
    cr_expect_eq(peers[end].n_heard, n, "end %u heard %zu of %zu bytes", end,
                 peers[end].n_heard, n);
    if (n > 0 && peers[end].n_heard == n)
        cr_expect_eq(memcmp(peers[end].heard, bytes, n), 0, "end %u", end);
}

TestSuite(relay, .init = open_loop, .fini = tear_down, .timeout = 60);

/* Both ways at once. Each iteration the ends take `window` bytes more, 0 = whatever
 * comes.
 */
static void exchange(size_t n, size_t piece, size_t window, bool takes_late)
{
    memset(&told, 0, sizeof told);
    n_bytes[0] = n_bytes[1] = 0;
    for (unsigned i = 0; i < 2; i++) {
        script_clear(&peers[i]);
        peers[i].window = window == 0 ? SCRIPT_ALL : 0;
        peers[i].takes_late = takes_late;
        script_says(&peers[i], said[i], n, piece);
    }
    start();
    for (unsigned i = 0; i < 100000; i++) {
        if (peers[0].n_heard == n && peers[1].n_heard == n)
            break;
        for (unsigned k = 0; k < 2 && window > 0; k++)
            script_widen(&peers[k], window);
        play(1);
    }
    play(2);
    expect_heard(1, said[0], n);
    expect_heard(0, said[1], n);
    cr_expect_eq(n_bytes[0], n);
    cr_expect_eq(n_bytes[1], n);
    cr_expect_eq(pond_n_taken(loop->pond), 0, "an idle relay holds no buffer");
    cr_expect_leq(most_buffers, 2, "%u buffers", most_buffers);
    close_both();
}

Test(relay, brings_every_byte_in_order_whatever_the_pieces)
{
    static const size_t pieces[] = {1, 7, 1000, 16384, 0};

    for (size_t i = 0; i < COUNT_OF(pieces); i++) {
        size_t n = pieces[i] < 100 ? 3000 : BULK;

        exchange(n, pieces[i], 0, false);
        exchange(n, pieces[i], 0, true);
    }
}

Test(relay, brings_every_byte_in_order_whatever_is_taken)
{
    static const size_t pieces[] = {11, 1000, 0}, windows[] = {1, 13, 4001, 16384};

    for (size_t i = 0; i < COUNT_OF(pieces); i++)
        for (size_t k = 0; k < COUNT_OF(windows); k++)
            exchange(windows[k] < 100 ? 3000 : BULK, pieces[i], windows[k], k % 2 == 1);
}

Test(relay, stops_reading_one_end_while_the_other_takes_nothing)
{
    peers[1].window = 0;
    script_says(&peers[0], said[0], 1000, 100);
    script_says(&peers[1], said[1], 500, 100);
    start();
    play(50);

    cr_expect_eq(n_bytes[0], 100, "one piece was read and no more: %zu",
                 (size_t)n_bytes[0]);
    cr_expect_not(ends[0].wants_bytes);
    cr_expect_eq(pond_n_taken(loop->pond), 1);
    expect_heard(0, said[1], 500);
    cr_expect(ends[1].wants_bytes, "the other way goes on");

    script_takes(&peers[1], 150);
    play(50);
    cr_expect_eq(n_bytes[0], 200, "the second piece is stuck in turn");
    expect_heard(1, said[0], 150);

    script_takes(&peers[1], SCRIPT_ALL);
    play(50);
    expect_heard(1, said[0], 1000);
    cr_expect(ends[0].wants_bytes);
    cr_expect_eq(pond_n_taken(loop->pond), 0);
}

Test(relay, holds_at_most_one_buffer_a_way)
{
    peers[0].window = peers[1].window = 0;
    script_says(&peers[0], said[0], BULK, 0);
    script_says(&peers[1], said[1], BULK, 0);
    start();
    play(50);

    cr_expect_eq(most_buffers, 2);
    cr_expect_eq(n_bytes[0], BUFFER_BYTES);
    cr_expect_eq(n_bytes[1], BUFFER_BYTES);
}

Test(relay, passes_on_the_end_behind_the_last_byte)
{
    peers[1].window = 10;
    script_says(&peers[0], said[0], 40, 20);
    script_ends(&peers[0]);
    start();
    play(20);
    expect_heard(1, said[0], 10);
    cr_expect_not(peers[1].has_heard_end);

    script_takes(&peers[1], 29);
    play(20);
    expect_heard(1, said[0], 39);
    cr_expect_not(peers[1].has_heard_end, "one byte is still on its way");

    script_takes(&peers[1], 1);
    play(20);
    expect_heard(1, said[0], 40);
    cr_expect(peers[1].has_heard_end);
    cr_expect_eq(told.n_half_ends[0], 1);
    cr_expect_not(told.is_over);
}

Test(relay, goes_on_the_other_way_after_a_half_end)
{
    script_ends(&peers[0]);
    script_rests(&peers[1], 10);
    script_says(&peers[1], said[1], 3000, 700);
    start();
    play(40);

    cr_expect(peers[1].has_heard_end);
    expect_heard(0, said[1], 3000);
    cr_expect_not(peers[0].has_heard_end);
    cr_expect_eq(told.n_half_ends[0], 1);
    cr_expect_eq(told.n_half_ends[1], 0);
    cr_expect_not(told.is_over);
}

Test(relay, tells_once_that_both_have_ended)
{
    for (unsigned first = 0; first < 2; first++) {
        memset(&told, 0, sizeof told);
        script_clear(&peers[0]);
        script_clear(&peers[1]);
        script_ends(&peers[first]);
        script_rests(&peers[!first], 5);
        script_ends(&peers[!first]);
        start();
        play(30);
        cr_expect_eq(told.n_ends, 1);
        cr_expect_eq(told.n_half_ends[first], 1);
        cr_expect_eq(told.n_half_ends[!first], 0);
    }
}

Test(relay, is_over_only_when_the_last_bytes_have_gone)
{
    peers[1].window = 0;
    script_says(&peers[0], said[0], 100, 0);
    script_ends(&peers[0]);
    script_ends(&peers[1]);
    start();
    play(30);
    cr_expect_eq(told.n_ends, 0);
    cr_expect_not(told.is_over, "100 bytes are still on their way");

    script_takes(&peers[1], SCRIPT_ALL);
    play(30);
    expect_heard(1, said[0], 100);
    cr_expect(peers[1].has_heard_end);
    cr_expect_eq(told.n_ends, 1);
}

Test(relay, passes_on_a_reset_as_a_reset)
{
    for (unsigned end = 0; end < 2; end++) {
        memset(&told, 0, sizeof told);
        script_clear(&peers[0]);
        script_clear(&peers[1]);
        script_fails(&peers[end], STREAM_RESET);
        start();
        play(10);
        cr_expect(peers[!end].was_reset);
        cr_expect_eq(told.n_failures[end], 1);
        cr_expect_eq(told.n_failures[!end], 0);
        cr_expect_eq(told.why, STREAM_RESET);
    }
}

Test(relay, resets_only_after_what_had_arrived_was_taken)
{
    peers[1].window = 10;
    script_says(&peers[0], said[0], 300, 0);
    script_fails(&peers[0], STREAM_RESET);
    start();
    play(20);
    cr_expect_not(peers[1].was_reset);
    cr_expect_not(told.is_over);
    cr_expect_eq(told.n_half_ends[0], 1, "one end is gone already");

    script_takes(&peers[1], SCRIPT_ALL);
    play(20);
    expect_heard(1, said[0], 300);
    cr_expect_eq(told.n_half_ends[0], 1);
    cr_expect(peers[1].was_reset);
    cr_expect_not(peers[1].has_heard_end);
    cr_expect_eq(told.n_failures[0], 1);
    cr_expect_eq(told.n_failures[1], 0);
}

Test(relay, ends_the_other_way_than_by_reset_when_an_end_has_vanished)
{
    script_fails(&peers[0], STREAM_VANISHED);
    start();
    play(10);

    cr_expect_eq(told.n_failures[0], 1);
    cr_expect_eq(told.why, STREAM_VANISHED);
    cr_expect_not(peers[1].was_reset);
    cr_expect(peers[1].was_closed, "by the owner");
}

/* The end that is left takes what had arrived, and meanwhile it may say what it likes. */
Test(relay, bears_words_for_an_end_that_has_failed)
{
    peers[1].window = 0;
    script_says(&peers[0], said[0], 300, 0);
    script_fails(&peers[0], STREAM_RESET);
    script_rests(&peers[1], 10);
    script_says(&peers[1], said[1], 200, 50);
    start();
    play(30);
    cr_expect_not(told.is_over);

    script_widen(&peers[1], SCRIPT_ALL);
    play(30);
    expect_heard(1, said[0], 300);
    cr_expect(peers[1].was_reset);
    cr_expect_eq(told.n_failures[0], 1);
}

Test(relay, bears_an_end_for_an_end_that_has_failed)
{
    peers[1].window = 0;
    script_says(&peers[0], said[0], 300, 0);
    script_fails(&peers[0], STREAM_RESET);
    script_rests(&peers[1], 10);
    script_ends(&peers[1]);
    start();
    play(30);
    script_widen(&peers[1], SCRIPT_ALL);
    play(30);

    expect_heard(1, said[0], 300);
    cr_expect_eq(told.n_failures[0], 1);
    cr_expect_eq(told.n_ends, 0);
}

Test(relay, tells_once_that_both_have_failed)
{
    peers[1].window = 0;
    script_says(&peers[0], said[0], 300, 0);
    script_fails(&peers[0], STREAM_RESET);
    script_rests(&peers[1], 10);
    script_fails(&peers[1], STREAM_VANISHED);
    start();
    play(30);

    cr_expect_eq(told.n_failures[0] + told.n_failures[1], 1);
    cr_expect_eq(pond_n_taken(loop->pond), 0);
}

Test(relay, fails_when_there_is_no_buffer)
{
    script_says(&peers[0], said[0], 300, 0);
    start();
    memory_fail_at = 1;
    play(10);

    cr_expect_eq(memory_fail_at, 0);
    cr_expect_eq(told.n_failures[0], 1);
    cr_expect_eq(told.why, STREAM_NO_MEMORY);
}

Test(relay, lets_go_of_a_stream_in_the_midst_of_sending_before_it_reads_the_other)
{
    struct buffer *early;

    peers[1].window = 0;
    for (unsigned i = 0; i < 2; i++)
        script_adopt(&ends[i], loop, &peers[i], &early_events, NULL);
    early = buffer_take(loop->pond);
    cr_assert(buffer_add(early, "early ", 6));
    cr_assert_not(stream_send(&ends[1], early));
    script_says(&peers[0], "late", 4, 0);
    relay_start(&relay, &ends[0], &ends[1], &events, &n_bytes[0], &n_bytes[1]);
    play(10);
    cr_expect_eq(n_bytes[0], 0);

    script_takes(&peers[1], SCRIPT_ALL);
    play(10);
    expect_heard(1, "early late", 10);
    cr_expect_eq(n_bytes[0], 4, "what was sent before is not the relay's");
}

Test(relay, passes_on_an_end_that_came_before_it_started)
{
    for (unsigned i = 0; i < 2; i++)
        script_adopt(&ends[i], loop, &peers[i], &early_events, NULL);
    script_ends(&peers[1]);
    stream_want(&ends[1], true);
    play(5);
    cr_assert(ends[1].has_ended);
    relay_start(&relay, &ends[0], &ends[1], &events, &n_bytes[0], &n_bytes[1]);
    cr_expect(peers[0].has_heard_end);

    script_says(&peers[0], said[0], 10, 0);
    script_ends(&peers[0]);
    play(20);
    expect_heard(1, said[0], 10);
    cr_expect_eq(told.n_ends, 1);
}

Test(relay, knows_when_the_last_bytes_passed)
{
    uint64_t began_ns;

    start();
    play(1);
    began_ns = relay.active_at_ns;
    loop_until(loop, NULL, 5);
    cr_expect_eq(relay.active_at_ns, began_ns, "silence is not activity");

    peers[1].window = 0;
    script_says(&peers[0], said[0], 10, 0);
    play(10);
    cr_expect_gt(relay.active_at_ns, began_ns, "bytes are read");
    began_ns = relay.active_at_ns;
    loop_until(loop, NULL, 5);
    script_takes(&peers[1], SCRIPT_ALL);
    play(10);
    cr_expect_gt(relay.active_at_ns, began_ns, "bytes are taken");
}

/* ---- over sockets -------------------------------------------------------------------
 */

#define FLOOD (6u << 20)

/* Writes and reads as the kernel lets it, at both far ends, until all has arrived. */
static void flood(const int far[2], uint8_t *sent, uint8_t *got[2])
{
    size_t n_sent[2] = {0}, n_got[2] = {0};

    for (unsigned round = 0; n_got[0] < FLOOD || n_got[1] < FLOOD; round++) {
        for (unsigned i = 0; i < 2; i++) {
            bool has_ended;
            /* One end is slow: it reads little, and seldom. */
            size_t most = i == 0 ? 3001 : FLOOD;

            n_sent[i] += peers_write(far[i], sent + n_sent[i], FLOOD - n_sent[i]);
            if (most > FLOOD - n_got[i])
                most = FLOOD - n_got[i];
            if (i == 1 || round % 3 == 0)
                n_got[i] += peers_read(far[i], got[i] + n_got[i], most, &has_ended);
        }
        turn(loop, 1);
    }
}

/* Pipes that this process has open. */
static unsigned n_pipes(void)
{
    unsigned n = 0;

    for (int fd = 0; fd < 1000; fd++) {
        char path[64], target[64];
        ssize_t length;

        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        length = readlink(path, target, sizeof target - 1);
        target[length > 0 ? length : 0] = '\0';
        n += strncmp(target, "pipe:", 5) == 0;
    }
    return n;
}

Test(relay, splices_bulk_between_sockets_without_a_loss)
{
    int near[2], far[2], fds[2];
    unsigned n_pipes_before = n_pipes();
    uint8_t *sent = malloc(FLOOD), *got[2] = {malloc(FLOOD), malloc(FLOOD)};
    struct tcp_settings settings = {0};

    peers_fill(sent, FLOOD);
    for (unsigned i = 0; i < 2; i++) {
        peers_tcp(fds, 0);
        near[i] = fds[0];
        far[i] = fds[1];
        stream_adopt(&ends[i], loop, near[i], &settings, &early_events, NULL);
    }
    relay_start(&relay, &ends[0], &ends[1], &events, &n_bytes[0], &n_bytes[1]);
    cr_expect(ends[0].may_splice && ends[1].may_splice);
    flood(far, sent, got);
    cr_expect_eq(peers_differ_at(got[0], FLOOD), FLOOD);
    cr_expect_eq(peers_differ_at(got[1], FLOOD), FLOOD);
    cr_expect_eq(n_bytes[0], FLOOD);
    cr_expect_eq(n_bytes[1], FLOOD);
    turn(loop, 3);
    cr_expect_eq(pond_n_taken(loop->pond), 0);
    cr_expect_gt(n_pipes(), n_pipes_before, "in pipes of the kernel");

    shutdown(far[0], SHUT_WR);
    turn(loop, 3);
    cr_expect_eq(peers_look(far[1]), 0, "FIN has come through");
    shutdown(far[1], SHUT_WR);
    turn(loop, 3);
    cr_expect_eq(told.n_ends, 1);
    close(far[0]);
    close(far[1]);
    free(sent);
    free(got[0]);
    free(got[1]);
}
