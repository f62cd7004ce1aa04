#include "wire/login.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/packets.h"

TestSuite(login, .timeout = 60);

/* What came of a conversation: a letter for each event that is one. */
struct story {
    char events[16]; /* k(ey) r(efused) d(one) c(onfused) */
    size_t n_seen;
    struct login_watch watch;
};

static char letter_of(enum login_event event)
{
    switch (event) {
    case LOGIN_GOES_ON:
        return '.';
    case LOGIN_KEY:
        return 'k';
    case LOGIN_REFUSED:
        return 'r';
    case LOGIN_DONE:
        return 'd';
    case LOGIN_CONFUSED:
        return 'c';
    }
    UNREACHABLE();
}

/* Feeds one piece, from memory that ends right behind it, to the end or to confusion. */
static bool feed_piece(struct story *story, const uint8_t *bytes, size_t n)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    bool goes_on = true;
    size_t at = 0;

    memcpy(copy, bytes, n);
    while (at < n && goes_on) {
        size_t n_seen = 0;
        char letter =
            letter_of(login_watch_feed(&story->watch, copy + at, n - at, &n_seen));

        cr_assert(n_seen > 0 && n_seen <= n - at);
        if (letter == '.')
            cr_assert_eq(n_seen, n - at, "all was looked at");
        else
            story->events[strlen(story->events)] = letter;
        at += n_seen;
        goes_on = letter != 'c';
    }
    story->n_seen += at;
    free(copy);
    return goes_on;
}

static struct story told(const struct packet *packet, size_t piece)
{
    struct story story = {0};

    for (size_t at = 0; at < packet->n; at += piece)
        if (!feed_piece(&story, packet->bytes + at,
                        piece < packet->n - at ? piece : packet->n - at))
            break;
    return story;
}

/* The same in every two pieces, and in pieces of every size. */
static void expect_story(const struct packet *packet, const char *events,
                         void (*look)(const struct story *story))
{
    for (size_t i = 1; i <= packet->n; i++) {
        struct story halves = {0}, pieces;

        if (feed_piece(&halves, packet->bytes, i))
            (void)feed_piece(&halves, packet->bytes + i, packet->n - i);
        cr_assert_str_eq(halves.events, events, "cut at %zu: %s", i, halves.events);
        look(&halves);
        pieces = told(packet, i);
        cr_assert_str_eq(pieces.events, events, "pieces of %zu: %s", i, pieces.events);
        look(&pieces);
    }
}

static uint8_t secret[300];

static void expect_key_of_4(const struct story *story)
{
    cr_assert_eq(story->watch.key.process_id, 4711);
    cr_assert_eq(story->watch.key.length, 4);
    cr_assert_eq(memcmp(story->watch.key.secret, secret, 4), 0);
    cr_assert_eq(story->watch.first, 'R');
}

static void expect_key_of_256(const struct story *story)
{
    cr_assert_eq(story->watch.key.process_id, 4711);
    cr_assert_eq(story->watch.key.length, 256);
    cr_assert_eq(memcmp(story->watch.key.secret, secret, 256), 0);
}

static void fill_secret(void)
{
    for (size_t i = 0; i < sizeof secret; i++)
        secret[i] = (uint8_t)(i * 5 + 3);
}

Test(login, sees_key_and_end_in_whatever_pieces, .init = fill_secret)
{
    struct packet short_key = {0}, long_key = {0};

    packet_add_welcome(&short_key, 4711, secret, 4);
    expect_story(&short_key, "kd", expect_key_of_4);
    packet_add_welcome(&long_key, 4711, secret, 256);
    expect_story(&long_key, "kd", expect_key_of_256);
}

static void expect_refusal(const struct story *story)
{
    cr_assert_str_eq(story->watch.error.severity, "FATAL");
    cr_assert_str_eq(story->watch.error.sqlstate, "57P03");
    cr_assert_eq(story->watch.first, 'E');
    cr_assert_not(login_watch_is_undecided(&story->watch));
}

Test(login, sees_why_it_is_refused_in_whatever_pieces)
{
    struct packet packet = {0};

    packet_add_error(&packet, "FATAL", "57P03", "the database system is starting up");
    expect_story(&packet, "r", expect_refusal);
}

static void expect_late_refusal(const struct story *story)
{
    cr_assert_str_eq(story->watch.error.sqlstate, "28P01");
    cr_assert_eq(story->watch.first, 'R', "it had spoken before");
}

Test(login, sees_a_refusal_behind_other_messages)
{
    struct packet packet = {0};

    packet_add_message(&packet, 'R', "\0\0\0\x0aSCRAM-SHA-256\0\0", 19);
    packet_add_message(&packet, 'N', "SNOTICE\0\0", 9);
    packet_add_error(&packet, "FATAL", "28P01", "password authentication failed");
    expect_story(&packet, "r", expect_late_refusal);
}

Test(login, reads_the_begin_of_an_error_that_is_long)
{
    struct packet packet = {0};
    static char text[5000];
    struct story story;

    memset(text, 'x', sizeof text - 1);
    packet_add_error(&packet, "FATAL", "57P01", text);
    packet_add_message(&packet, 'Z', "I", 1);
    for (size_t piece = 1; piece < 3000; piece = piece * 2 + 1) {
        story = told(&packet, piece);
        cr_assert_str_eq(story.events, "rd");
        cr_assert_str_eq(story.watch.error.sqlstate, "57P01");
    }
}

/* It is undecided after each byte of the packet before the `n_undecided`th. */
static void expect_undecided(const struct packet *packet, size_t n_undecided)
{
    struct story story = {0};

    cr_expect(login_watch_is_undecided(&story.watch));
    for (size_t i = 0; i < packet->n; i++) {
        cr_assert(feed_piece(&story, packet->bytes + i, 1));
        cr_assert_eq(login_watch_is_undecided(&story.watch), i + 1 < n_undecided,
                     "after %zu of %zu", i + 1, packet->n);
    }
}

Test(login, is_undecided_until_the_first_word_is_known_to_be_no_refusal)
{
    struct packet packet = {0};

    packet_add_message(&packet, 'R', "\0\0\0\0", 4);
    packet_add_error(&packet, "FATAL", "57P01", "too late");
    expect_undecided(&packet, 5);
}

Test(login, is_undecided_until_a_refusal_is_whole)
{
    struct packet packet = {0};
    size_t n;

    packet_add_error(&packet, "FATAL", "57P03", "starting up");
    n = packet.n;
    packet_add_message(&packet, 'Z', "I", 1);
    expect_undecided(&packet, n);
}

Test(login, a_note_about_the_protocols_version_decides_nothing)
{
    struct packet packet = {0};
    struct story story;

    packet_add_message(&packet, 'v', "\0\3\0\0\0\0\0\0", 8);
    packet_add_error(&packet, "FATAL", "57P03", "starting up");
    expect_undecided(&packet, packet.n);
    story = told(&packet, packet.n);
    cr_expect_eq(story.watch.first, 'E');
    cr_expect_str_eq(story.events, "r");
}

static void look_at_nothing(const struct story *story)
{
    (void)story;
}

Test(login, keys_of_other_lengths_are_not_postgresqls, .init = fill_secret)
{
    static const size_t lengths[] = {0, 1, 3, 257, 300};

    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        struct packet packet = {0};

        packet_add_key(&packet, 4711, secret, lengths[i]);
        packet_add_message(&packet, 'Z', "I", 1);
        expect_story(&packet, "c", look_at_nothing);
    }
}

Test(login, absurd_lengths_are_not_postgresqls)
{
    static const uint32_t lengths[] = {0, 1, 3, (1u << 20) + 5, 0x7fffffff, 0xffffffff};
    static const char types[] = "RSKEZ\0x";

    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        for (size_t k = 0; k < sizeof types; k++) {
            struct packet packet = {0};

            packet_add(&packet, &types[k], 1);
            packet_add_u32(&packet, lengths[i]);
            packet_add(&packet, "body body body", 14);
            expect_story(&packet, "c", look_at_nothing);
            cr_assert_eq(told(&packet, packet.n).n_seen, 5, "known after the header");
        }
    }
}

Test(login, an_error_of_protocol_2_is_not_postgresqls_any_more)
{
    struct packet packet = {0};

    packet_add(&packet, "Ecould not fork new process\n", 29);
    expect_story(&packet, "c", look_at_nothing);
}

Test(login, lets_a_message_of_a_megabyte_pass)
{
    struct story story = {0};
    struct packet header = {0}, end = {0};
    static uint8_t body[4096];

    packet_add(&header, "N", 1);
    packet_add_u32(&header, (1u << 20) + 4);
    cr_assert(feed_piece(&story, header.bytes, header.n));
    for (unsigned i = 0; i < (1u << 20) / sizeof body; i++)
        cr_assert(feed_piece(&story, body, sizeof body));
    cr_assert_str_eq(story.events, "");
    packet_add_message(&end, 'Z', "I", 1);
    cr_assert(feed_piece(&story, end.bytes, end.n));
    cr_assert_str_eq(story.events, "d");
}

Test(login, takes_a_message_without_a_body)
{
    struct packet packet = {0};

    packet_add_message(&packet, 'c', "", 0);
    packet_add_message(&packet, 'E', "", 0);
    packet_add_message(&packet, 'Z', "", 0);
    expect_story(&packet, "rd", look_at_nothing);
}
