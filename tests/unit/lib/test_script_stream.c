/* The scripted stream keeps the contract of core/stream.h, and does what its script says.
 */
#include "tests/lib/script_stream.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "core/memory.h"
#include "tests/lib/peers.h"
#include "tests/lib/recorder.h"
#include "tests/lib/turns.h"

static struct loop *loop;
static struct recorder near;
static struct script_peer peer;
static uint8_t much[100000];

static void make_loop(void)
{
    loop = loop_new(false);
    peer.window = SCRIPT_ALL;
    peers_fill(much, sizeof much);
}

static void tear_down(void)
{
    recorder_clear(&near);
    script_clear(&peer);
    loop_free(loop);
}

TestSuite(script_stream, .init = make_loop, .fini = tear_down, .timeout = 10);

static void adopt(void)
{
    script_adopt(&near.stream, loop, &peer, &recorder_events, &near);
}

static void expect_calls(const char *calls)
{
    cr_expect_str_eq(near.calls, calls, "%s, expected %s", near.calls, calls);
    cr_expect_not(near.was_called_back, "a callback came from within a call");
}

Test(script_stream, says_its_pieces_one_per_iteration_and_only_when_wanted)
{
    adopt();
    script_says(&peer, "hello world", 11, 4);
    turn(loop, 3);
    expect_calls("");
    recorder_want(&near, true);
    expect_calls("");
    turn(loop, 1);
    cr_expect_eq(near.n_bytes, 4);
    turn(loop, 1);
    cr_expect_eq(near.n_bytes, 8);
    turn(loop, 5);
    cr_expect_eq(near.n_bytes, 11);
    cr_expect_eq(memcmp(near.bytes, "hello world", 11), 0);
    cr_expect(script_is_played(&peer));
}

Test(script_stream, says_more_than_a_buffer_in_several)
{
    adopt();
    script_says(&peer, much, sizeof much, 0);
    recorder_want(&near, true);
    turn(loop, 20);
    cr_expect_eq(near.n_bytes, sizeof much);
    cr_expect_eq(peers_differ_at(near.bytes, sizeof much), sizeof much);
    cr_expect_eq(near.largest_piece, BUFFER_BYTES);
}

Test(script_stream, takes_at_once_or_late)
{
    adopt();
    cr_expect(recorder_send(&near, "one", 3));
    peer.takes_late = true;
    cr_expect_not(recorder_send(&near, "two", 3));
    expect_calls("");
    turn(loop, 2);
    expect_calls("s");
    cr_expect_eq(peer.n_heard, 6);
    cr_expect_eq(memcmp(peer.heard, "onetwo", 6), 0);
}

Test(script_stream, takes_so_many_bytes_and_then_stalls)
{
    peer.window = 4;
    adopt();
    cr_expect_not(recorder_send(&near, "hello", 5));
    recorder_end(&near);
    turn(loop, 5);
    cr_expect_eq(peer.n_heard, 4);
    cr_expect_not(peer.has_heard_end);
    expect_calls("");
    cr_expect_not(script_is_played(&peer));
    script_takes(&peer, 1);
    turn(loop, 5);
    cr_expect_eq(peer.n_heard, 5);
    cr_expect(peer.has_heard_end);
    expect_calls("s");
}

Test(script_stream, ends_and_hears_on)
{
    adopt();
    script_ends(&peer);
    recorder_want(&near, true);
    turn(loop, 3);
    expect_calls("e");
    cr_expect(recorder_send(&near, "x", 1));
    recorder_end(&near);
    cr_expect(peer.has_heard_end);
}

Test(script_stream, fails_also_an_owner_that_wants_nothing)
{
    peer.window = 0;
    adopt();
    cr_expect_not(recorder_send(&near, "x", 1));
    script_fails(&peer, STREAM_VANISHED);
    turn(loop, 3);
    expect_calls("f");
    cr_expect_eq(near.why, STREAM_VANISHED);
    cr_expect_not(stream_is_open(&near.stream));
    cr_expect_eq(pond_n_taken(loop->pond), 0);
}

Test(script_stream, opens_or_refuses)
{
    script_rests(&peer, 3);
    script_opens(&peer);
    script_connect(&near.stream, loop, &peer, &recorder_events, &near);
    cr_expect_not(recorder_send(&near, "early", 5));
    turn(loop, 3);
    expect_calls("");
    turn(loop, 3);
    expect_calls("os");
    recorder_clear(&near);
    script_clear(&peer);

    script_fails(&peer, STREAM_REFUSED);
    script_connect(&near.stream, loop, &peer, &recorder_events, &near);
    expect_calls("");
    turn(loop, 3);
    expect_calls("f");
    cr_expect_eq(near.why, STREAM_REFUSED);
}

Test(script_stream, waits_for_what_it_is_to_hear)
{
    adopt();
    script_hears(&peer, 3);
    script_says(&peer, "answer", 6, 0);
    recorder_want(&near, true);
    cr_expect(recorder_send(&near, "as", 2));
    turn(loop, 5);
    expect_calls("");
    cr_expect(recorder_send(&near, "k", 1));
    turn(loop, 5);
    expect_calls("b");
}

Test(script_stream, knows_how_it_was_left)
{
    adopt();
    recorder_close(&near);
    cr_expect(peer.was_closed && !peer.was_reset);
    script_clear(&peer);
    adopt();
    stream_reset(&near.stream);
    cr_expect(peer.was_reset && !peer.was_closed);
}

Test(script_stream, leaves_its_loop)
{
    peer.fd = 4711;
    adopt();
    script_says(&peer, "last", 4, 0);
    recorder_want(&near, true);
    recorder_detach(&near);
    expect_calls("");
    turn(loop, 3);
    expect_calls("bd");
    cr_expect_eq(near.detached_fd, 4711);
}

Test(script_stream, fails_when_there_is_no_buffer)
{
    adopt();
    script_says(&peer, "hello", 5, 0);
    recorder_want(&near, true);
    memory_fail_at = 1;
    turn(loop, 3);
    expect_calls("f");
    cr_expect_eq(near.why, STREAM_NO_MEMORY);
}

Test(script_stream, makes_no_callback_after_it_was_closed_in_one)
{
    peer.window = 0;
    adopt();
    near.closes = true;
    cr_expect_not(recorder_send(&near, "x", 1));
    recorder_want(&near, true);
    script_takes(&peer, 1);
    script_says(&peer, "hello", 5, 0);
    script_ends(&peer);
    turn(loop, 5);
    expect_calls("s");
}

Test(script_stream, bears_no_bytes_behind_the_end, .signal = SIGABRT)
{
    adopt();
    recorder_end(&near);
    (void)recorder_send(&near, "x", 1);
}
