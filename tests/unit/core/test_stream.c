/* Streams over real sockets: core/stream_epoll.c. What holds for any stream is tried on
 * the scripted one too, in tests/unit/lib/test_script_stream.c. */
#include "core/stream.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "core/memory.h"
#include "tests/lib/loop_until.h"
#include "tests/lib/peers.h"
#include "tests/lib/recorder.h"
#include "tests/lib/turns.h"

#define MUCH (4u << 20)

static struct loop *loop;
static struct recorder near;
static int fds[2] = {-1, -1}; /* [0] is the stream's, [1] the far end */
static uint8_t much[MUCH], got[MUCH];

static void make_loop(void)
{
    loop = loop_new(false);
    peers_fill(much, MUCH);
}

static void close_far(void)
{
    if (fds[1] >= 0)
        close(fds[1]);
    fds[1] = -1;
}

static void tear_down(void)
{
    recorder_clear(&near);
    close_far();
    loop_free(loop);
}

TestSuite(stream, .init = make_loop, .fini = tear_down, .timeout = 60);

static void open_tcp(int buffer_bytes)
{
    peers_tcp(fds, buffer_bytes);
    recorder_adopt(&near, loop, fds[0]);
}

static void expect_calls(const char *calls)
{
    cr_expect_str_eq(near.calls, calls, "%s, expected %s", near.calls, calls);
    cr_expect_not(near.was_called_back, "a callback came from within a call");
}

/* Reads at the far end until `n` bytes are there, a little in each iteration. */
static void read_far(size_t n, size_t most)
{
    for (size_t at = 0; at < n;) {
        bool has_ended;
        size_t wanted = most < n - at ? most : n - at;

        at += peers_read(fds[1], got + at, wanted, &has_ended);
        cr_assert_not(has_ended, "at %zu", at);
        turn(loop, 1);
    }
    cr_expect_eq(peers_differ_at(got, n), n);
}

/* Without an answer to anything from now on: as if its machine had gone. */
static void make_far_vanish(void)
{
    struct sock_filter drop_all = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog program = {.len = 1, .filter = &drop_all};

    cr_assert_eq(
        setsockopt(fds[1], SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program), 0);
}

/* Lets the loop run until a look at the stream says `wanted`, or `ms` are over. */
static enum socket_peer look_for(enum socket_peer wanted, unsigned ms)
{
    enum socket_peer peer = stream_look(&near.stream, 100);

    for (unsigned waited = 0; waited < ms && peer != wanted; waited += 50) {
        loop_until(loop, &near.has_failed, 50);
        peer = stream_look(&near.stream, 100);
    }
    return peer;
}

/* ---- receiving ----------------------------------------------------------------------
 */

Test(stream, brings_bytes_only_when_they_are_wanted)
{
    open_tcp(0);
    peers_write(fds[1], "hello", 5);
    turn(loop, 5);
    expect_calls("");
    recorder_want(&near, true);
    expect_calls("");
    turn(loop, 5);
    expect_calls("b");
    cr_expect_eq(near.n_bytes, 5);
    cr_expect_eq(memcmp(near.bytes, "hello", 5), 0);

    recorder_want(&near, false);
    peers_write(fds[1], "hello", 5);
    turn(loop, 5);
    cr_expect_eq(near.n_bytes, 5);
}

Test(stream, brings_no_more_when_its_owner_pauses)
{
    open_tcp(0);
    near.pauses = true;
    peers_write(fds[1], much, 100000);
    recorder_want(&near, true);
    turn(loop, 10);
    cr_expect_eq(near.n_pieces, 1);
    cr_expect_leq(near.n_bytes, BUFFER_BYTES);
    cr_expect_eq(pond_n_taken(loop->pond), 0);
}

Test(stream, brings_every_byte_in_order)
{
    size_t n_written = 0;

    open_tcp(0);
    recorder_want(&near, true);
    while (near.n_bytes < MUCH) {
        n_written += peers_write(fds[1], much + n_written, MUCH - n_written);
        turn(loop, 1);
    }
    cr_expect_eq(peers_differ_at(near.bytes, MUCH), MUCH);
    cr_expect_eq(near.n_pipes, 0, "its owner looks into them");
    cr_expect_leq(near.largest_piece, BUFFER_BYTES);
    expect_calls("b");
}

static char order[8];

static void write_name(struct stream *stream, struct buffer *bytes)
{
    strncat(order, stream->owner, 1);
    buffer_give(bytes);
}

Test(stream, that_comes_first_is_seen_before_others)
{
    static const struct stream_events others = {.on_bytes = write_name};
    static const struct stream_events first = {.on_bytes = write_name,
                                               .comes_first = true};
    const struct stream_events *events[] = {&others, &first, &others, &first};
    char *names[] = {"o", "F", "o", "F"};
    struct stream streams[4];
    int pairs[4][2];

    for (size_t i = 0; i < 4; i++) {
        peers_unix(pairs[i]);
        stream_adopt(&streams[i], loop, pairs[i][0], NULL, events[i], names[i]);
        stream_want(&streams[i], true);
        peers_write(pairs[i][1], "x", 1);
    }
    turn(loop, 1);
    cr_expect_str_eq(order, "FFoo");
    for (size_t i = 0; i < 4; i++) {
        stream_close(&streams[i]);
        close(pairs[i][1]);
    }
}

Test(stream, tells_that_the_peer_has_ended_behind_its_last_byte)
{
    open_tcp(0);
    peers_write(fds[1], "bye", 3);
    shutdown(fds[1], SHUT_WR);
    turn(loop, 3);
    expect_calls("");
    recorder_want(&near, true);
    turn(loop, 5);
    expect_calls("be");
    cr_expect(near.stream.has_ended);
    cr_expect(recorder_send(&near, "still here", 10), "the other way goes on");
    turn(loop, 3);
    cr_expect_eq(peers_read(fds[1], got, 100, &(bool){0}), 10);
    expect_calls("be");
}

Test(stream, fails_when_the_peer_resets)
{
    open_tcp(0);
    recorder_want(&near, true);
    socket_reset_on_close(fds[1]);
    close_far();
    turn(loop, 3);
    expect_calls("f");
    cr_expect_eq(near.why, STREAM_RESET);
    cr_expect_not(stream_is_open(&near.stream));
    turn(loop, 3);
    expect_calls("f");
}

Test(stream, fails_when_there_is_no_buffer)
{
    open_tcp(0);
    recorder_want(&near, true);
    peers_write(fds[1], "hello", 5);
    memory_fail_at = 1;
    turn(loop, 3);
    cr_expect_eq(memory_fail_at, 0);
    expect_calls("f");
    cr_expect_eq(near.why, STREAM_NO_MEMORY);
}

/* ---- sending ------------------------------------------------------------------------
 */

Test(stream, says_at_once_that_all_has_gone)
{
    open_tcp(0);
    cr_expect(recorder_send(&near, "hello", 5));
    cr_expect_not(stream_is_sending(&near.stream));
    turn(loop, 3);
    expect_calls("");
    cr_expect_eq(peers_read(fds[1], got, 100, &(bool){0}), 5);
    cr_expect_eq(pond_n_taken(loop->pond), 0);
}

Test(stream, tells_later_what_could_not_go_at_once)
{
    open_tcp(8192);
    cr_expect_not(recorder_send(&near, much, MUCH / 4));
    cr_expect(stream_is_sending(&near.stream));
    turn(loop, 5);
    expect_calls("");
    read_far(MUCH / 4, 10007);
    turn(loop, 3);
    expect_calls("s");
    cr_expect_not(stream_is_sending(&near.stream));
    cr_expect_eq(pond_n_taken(loop->pond), 0);

    cr_expect_not(recorder_send(&near, much, MUCH / 4));
    read_far(MUCH / 4, MUCH);
    turn(loop, 3);
    expect_calls("ss");
}

Test(stream, ends_behind_the_last_byte_and_hears_on)
{
    open_tcp(8192);
    cr_expect_not(recorder_send(&near, much, 300000));
    recorder_end(&near);
    read_far(299999, 10007);
    cr_expect_eq(peers_look(fds[1]), 1);
    cr_expect_eq(peers_read(fds[1], got, 1, &(bool){0}), 1);
    turn(loop, 3);
    cr_expect_eq(peers_look(fds[1]), 0, "FIN");

    recorder_want(&near, true);
    peers_write(fds[1], "answer", 6);
    turn(loop, 3);
    cr_expect_eq(near.n_bytes, 6);
    expect_calls("sb");
}

Test(stream, closes_by_fin_and_resets_by_rst)
{
    open_tcp(0);
    recorder_close(&near);
    cr_expect_eq(peers_look(fds[1]), 0);
    close_far();
    open_tcp(0);
    stream_reset(&near.stream);
    cr_expect_eq(peers_look(fds[1]), -ECONNRESET);
    stream_reset(&near.stream);
    recorder_close(&near);
    turn(loop, 3);
    expect_calls("");
}

Test(stream, gives_its_buffers_back_when_it_is_closed_while_sending)
{
    open_tcp(8192);
    cr_expect_not(recorder_send(&near, much, 1 << 20));
    cr_expect_gt(pond_n_taken(loop->pond), 0);
    recorder_close(&near);
    cr_expect_eq(pond_n_taken(loop->pond), 0);
    turn(loop, 3);
    expect_calls("");
}

/* Writing is broken, and what the peer said before still waits to be read. */
static void break_sending(size_t n_last_words)
{
    open_tcp(0);
    cr_assert(recorder_send(&near, "unread", 6));
    cr_assert_eq(peers_write(fds[1], much, n_last_words), n_last_words);
    close_far(); /* with unread bytes: RST */
    while (recorder_send(&near, "more", 4))
        turn(loop, 1);
}

Test(stream, brings_the_peers_last_words_when_sending_fails)
{
    break_sending(100000);
    expect_calls("");
    recorder_want(&near, true);
    turn(loop, 50);
    cr_expect_eq(near.n_bytes, 100000);
    cr_expect_eq(peers_differ_at(near.bytes, 100000), 100000);
    expect_calls("bf");
    cr_expect_eq(near.why, STREAM_RESET);
}

Test(stream, fails_once_when_sending_fails_and_nothing_was_said)
{
    break_sending(0);
    cr_expect_not(recorder_send(&near, "more", 4), "what cannot go is not kept");
    recorder_want(&near, true);
    turn(loop, 5);
    expect_calls("f");
    cr_expect_eq(near.why, STREAM_RESET);
    cr_expect_eq(pond_n_taken(loop->pond), 0);
}

/* ---- in callbacks -------------------------------------------------------------------
 */

Test(stream, makes_no_callback_after_it_was_closed_in_one)
{
    open_tcp(8192);
    near.closes = true;
    cr_expect_not(recorder_send(&near, much, 200000));
    recorder_want(&near, true);
    peers_write(fds[1], "hello", 5);
    shutdown(fds[1], SHUT_WR);
    for (unsigned i = 0; i < 100; i++) {
        (void)peers_read(fds[1], got, sizeof got, &(bool){0});
        turn(loop, 1);
    }
    cr_expect_eq(strlen(near.calls), 1, "%s", near.calls);
    cr_expect_not(near.was_called_back);
}

/* ---- connecting ---------------------------------------------------------------------
 */

Test(stream, opens_from_the_loop_and_sends_what_it_was_given_before)
{
    struct address address;
    int listening = peers_listen("127.0.0.1", 5, &address);

    recorder_connect(&near, loop, &address);
    cr_expect_not(recorder_send(&near, "early", 5));
    recorder_end(&near);
    expect_calls("");
    cr_assert(loop_until(loop, &near.is_sent, 5000));
    expect_calls("os");
    fds[1] = accept(listening, NULL, NULL);
    cr_expect_eq(peers_read(fds[1], got, 5, &(bool){0}), 5);
    cr_expect_eq(peers_look(fds[1]), 0);
    close(listening);
}

Test(stream, says_that_nobody_listens)
{
    struct address nobody = peers_nobody();

    recorder_connect(&near, loop, &nobody);
    cr_expect_not(recorder_send(&near, "early", 5));
    expect_calls("");
    cr_assert(loop_until(loop, &near.has_failed, 5000));
    expect_calls("f");
    cr_expect_eq(near.why, STREAM_REFUSED);
    cr_expect_eq(pond_n_taken(loop->pond), 0);
}

Test(stream, tells_from_the_loop_what_failed_at_once)
{
    struct address broadcast;

    cr_assert(address_parse("255.255.255.255", 1, &broadcast));
    recorder_connect(&near, loop, &broadcast);
    cr_expect_not(recorder_send(&near, "early", 5));
    expect_calls("");
    turn(loop, 3);
    expect_calls("f");
    cr_expect_eq(near.why, STREAM_UNREACHABLE);
    cr_expect_eq(pond_n_taken(loop->pond), 0);
}

Test(stream, that_is_closed_before_it_opens_is_never_heard_of)
{
    struct address address, broadcast;
    int listening = peers_listen("127.0.0.1", 5, &address);

    cr_assert(address_parse("255.255.255.255", 1, &broadcast));
    recorder_connect(&near, loop, &address);
    recorder_close(&near);
    recorder_connect(&near, loop, &broadcast);
    recorder_close(&near);
    turn(loop, 5);
    expect_calls("");
    close(listening);
}

/* ---- peers that are slow, and peers that are gone ------------------------------------
 */

Test(stream, tells_a_slow_peer_from_one_that_is_gone)
{
    peers_tcp(fds, 8192);
    recorder_adopt(&near, loop, fds[0]);
    cr_expect_eq(stream_look(&near.stream, 0), PEER_HAS_ALL);
    cr_expect_not(recorder_send(&near, much, 1 << 20));
    cr_expect_eq(look_for(PEER_VANISHED, 1500), PEER_OWES, "it answers each probe");
    read_far(1 << 20, MUCH);
    cr_expect_eq(look_for(PEER_HAS_ALL, 1000), PEER_HAS_ALL);
    expect_calls("s");
}

Test(stream, notices_a_peer_that_has_vanished_while_it_sends)
{
    peers_tcp(fds, 8192);
    recorder_adopt(&near, loop, fds[0]);
    make_far_vanish();
    cr_expect_not(recorder_send(&near, much, 1 << 20));
    cr_expect_eq(look_for(PEER_VANISHED, 10000), PEER_VANISHED);
}

Test(stream, notices_a_slow_peer_that_has_vanished)
{
    peers_tcp(fds, 8192);
    recorder_adopt(&near, loop, fds[0]);
    cr_expect_not(recorder_send(&near, much, 1 << 20));
    cr_expect_eq(look_for(PEER_VANISHED, 700), PEER_OWES);
    make_far_vanish();
    cr_expect_eq(look_for(PEER_VANISHED, 30000), PEER_VANISHED);
}

Test(stream, notices_a_peer_that_has_vanished_while_it_listens)
{
    peers_tcp(fds, 0);
    recorder_adopt(&near, loop, fds[0]);
    make_far_vanish();
    cr_expect(recorder_send(&near, "anybody there?", 14));
    cr_expect_eq(look_for(PEER_VANISHED, 10000), PEER_VANISHED);
}

/* ---- leaving a loop -----------------------------------------------------------------
 */

/* Is the descriptor in any epoll set of this process? */
static bool is_watched(int fd)
{
    char path[64], line[256], wanted[32];
    bool found = false;

    snprintf(wanted, sizeof wanted, "tfd: %8d ", fd);
    for (int epoll = 0; epoll < 100; epoll++) {
        FILE *file;

        snprintf(path, sizeof path, "/proc/self/fdinfo/%d", epoll);
        file = fopen(path, "r");
        while (file != NULL && fgets(line, sizeof line, file) != NULL)
            found = found || strncmp(line, wanted, strlen(wanted)) == 0;
        if (file != NULL)
            fclose(file);
    }
    return found;
}

Test(stream, leaves_its_loop_and_goes_on_in_another)
{
    struct loop *other = loop_new(false);
    struct recorder there = {0};

    open_tcp(0);
    recorder_want(&near, true);
    peers_write(fds[1], "before", 6);
    turn(loop, 3);
    cr_expect(is_watched(fds[0]));
    recorder_detach(&near);
    expect_calls("b");
    turn(loop, 3);
    expect_calls("bd");
    cr_expect_eq(near.detached_fd, fds[0]);
    cr_expect_not(is_watched(fds[0]), "the kernel would tell the old loop");

    recorder_adopt(&there, other, fds[0]);
    recorder_want(&there, true);
    peers_write(fds[1], "after", 5);
    turn(other, 3);
    cr_expect_eq(there.n_bytes, 5);
    cr_expect(recorder_send(&there, "hi", 2));
    recorder_clear(&there);
    cr_expect_eq(peers_read(fds[1], got, 10, &(bool){0}), 2);
    turn(loop, 3);
    expect_calls("bd");
    loop_free(other);
}

Test(stream, brings_what_has_come_before_it_leaves)
{
    open_tcp(0);
    recorder_want(&near, true);
    turn(loop, 1);
    peers_write(fds[1], "last", 4);
    recorder_detach(&near);
    turn(loop, 3);
    expect_calls("bd");
    cr_expect_eq(near.n_bytes, 4);
    close(near.detached_fd);
}

static void answer_at_length(struct stream *stream, struct buffer *bytes)
{
    buffer_give(bytes);
    stream->events = &recorder_events;
    near.in_call = 0;
    cr_expect_not(recorder_send(&near, much, 300000));
}

Test(stream, waits_for_what_its_owner_sends_before_it_leaves)
{
    struct stream_events answering = recorder_events;

    answering.on_bytes = answer_at_length;
    open_tcp(8192);
    near.stream.events = &answering;
    recorder_want(&near, true);
    turn(loop, 1);
    peers_write(fds[1], "last", 4);
    recorder_detach(&near);
    turn(loop, 3);
    expect_calls("");
    read_far(300000, MUCH);
    turn(loop, 3);
    expect_calls("sd");
    close(near.detached_fd);
}

Test(stream, that_is_closed_instead_does_not_leave)
{
    open_tcp(0);
    recorder_detach(&near);
    recorder_close(&near);
    turn(loop, 3);
    expect_calls("");
}

Test(stream, does_not_leave_while_it_sends, .signal = SIGABRT)
{
    open_tcp(8192);
    cr_assert_not(recorder_send(&near, much, 1 << 20));
    recorder_detach(&near);
}

/* ---- bulk that nobody looks into -----------------------------------------------------
 */

/* Writes `n` bytes at the far end, in pieces of at most `piece` per iteration. */
static void write_far(size_t from, size_t n, size_t piece)
{
    for (size_t at = 0; at < n || near.n_bytes < from + n;) {
        size_t most = piece < n - at ? piece : n - at;

        at += peers_write(fds[1], much + from + at, most);
        turn(loop, 1);
    }
    cr_expect_eq(peers_differ_at(near.bytes, from + n), from + n);
}

Test(stream, brings_bulk_in_pipes_and_the_rest_in_memory)
{
    open_tcp(0);
    near.stream.may_splice = true;
    recorder_want(&near, true);
    write_far(0, 100000, 100);
    cr_expect_eq(near.n_pipes, 0, "short messages are not bulk");

    write_far(100000, 3000000, MUCH);
    cr_expect_gt(near.n_pipes, 0);
    cr_expect_gt(near.largest_piece, BUFFER_BYTES);

    write_far(3100000, 100, 100);
    near.n_pipes = 0;
    write_far(3100100, 10000, 100);
    cr_expect_eq(near.n_pipes, 0, "after a short read it is not bulk any more");
    cr_expect_eq(pond_n_taken(loop->pond), 0);
}

Test(stream, brings_bulk_in_memory_when_no_pipe_can_be_had)
{
    struct buffer *pipes[64];
    unsigned n = 0;

    open_tcp(0);
    while (n < COUNT_OF(pipes) && (pipes[n] = buffer_take_pipe(loop->pond)) != NULL)
        n++;
    near.stream.may_splice = true;
    recorder_want(&near, true);
    write_far(0, 2000000, MUCH);
    cr_expect_eq(near.n_pipes, 0);
    while (n > 0)
        buffer_give(pipes[--n]);
}

/* A pipe with the first bytes of `much` in it. */
static struct buffer *filled_pipe(size_t from, size_t n)
{
    struct buffer *buffer = buffer_take_pipe(loop->pond);

    cr_assert_eq(write(buffer->pipe[1], much + from, n), (ssize_t)n);
    buffer->end = (uint32_t)n;
    return buffer;
}

Test(stream, sends_pipes_and_memory_in_their_order)
{
    open_tcp(8192);
    (void)stream_send(&near.stream, filled_pipe(0, 60000));
    cr_assert(stream_is_sending(&near.stream), "some of it is left");
    cr_expect_not(recorder_send(&near, much + 60000, 40000));
    (void)stream_send(&near.stream, filled_pipe(100000, 60000));
    recorder_end(&near);
    read_far(160000, 997);
    turn(loop, 3);
    cr_expect_eq(peers_look(fds[1]), 0);
    expect_calls("s");
    cr_expect_eq(pond_n_taken(loop->pond), 0);
}

Test(stream, end_and_reset_are_seen_in_the_midst_of_bulk)
{
    open_tcp(0);
    near.stream.may_splice = true;
    recorder_want(&near, true);
    write_far(0, 2000000, MUCH);
    shutdown(fds[1], SHUT_WR);
    turn(loop, 10);
    expect_calls("be");
    recorder_clear(&near);
    close_far();

    open_tcp(0);
    near.stream.may_splice = true;
    recorder_want(&near, true);
    write_far(0, 2000000, MUCH);
    socket_reset_on_close(fds[1]);
    close_far();
    turn(loop, 10);
    expect_calls("bf");
    cr_expect_eq(near.why, STREAM_RESET);
}

Test(stream, names_every_failure)
{
    static const enum stream_failure all[] = {STREAM_REFUSED, STREAM_UNREACHABLE,
                                              STREAM_RESET, STREAM_VANISHED,
                                              STREAM_NO_MEMORY};

    for (size_t i = 0; i < COUNT_OF(all); i++)
        for (size_t k = 0; k < i; k++)
            cr_expect_str_neq(stream_failure_text(all[i]), stream_failure_text(all[k]));
}

/* ---- many at once -------------------------------------------------------------------
 */

#define CROWD 200
#define WORK_NS 1000000u /* that each of them makes */

static unsigned n_served;

static void work_hard(struct stream *stream, struct buffer *bytes)
{
    struct timespec began, now;

    buffer_give(bytes);
    clock_gettime(CLOCK_MONOTONIC, &began);
    do {
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((now.tv_sec - began.tv_sec) * 1000000000 + (now.tv_nsec - began.tv_nsec) <
             (long)WORK_NS);
    n_served++;
    stream_close(stream);
}

Test(stream, a_crowd_is_served_in_more_iterations_than_one)
{
    static const struct stream_events events = {.on_bytes = work_hard};
    static struct stream crowd[CROWD];
    int far[CROWD];
    unsigned n_turns = 0, most = 0;

    for (unsigned i = 0; i < CROWD; i++) {
        int pair[2];

        peers_tcp(pair, 0);
        far[i] = pair[1];
        stream_adopt(&crowd[i], loop, pair[0], &(struct tcp_settings){0}, &events, NULL);
        stream_want(&crowd[i], true);
        peers_write(far[i], "x", 1);
    }
    for (; n_served < CROWD && n_turns < 1000; n_turns++) {
        unsigned before = n_served;

        turn(loop, 1);
        if (n_served - before > most)
            most = n_served - before;
    }
    cr_expect_eq(n_served, CROWD, "each of them, in the end");
    cr_expect_leq(most, LOOP_LATE_NS / WORK_NS + LOOP_EVENTS_PER_LOOK,
                  "%u in one iteration", most);
    for (unsigned i = 0; i < CROWD; i++)
        close(far[i]);
}
