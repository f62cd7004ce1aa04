#include "wire/message.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/packets.h"

TestSuite(message, .timeout = 60);

#define BODY_MAX 100000u

/* The types that PostgreSQL's documentation lists for a session and its login. */
static const char *const types[] = {
    [MESSAGE_OF_CLIENT] = "QFPBDECSHdcfpX",
    [MESSAGE_OF_SERVER] = "RvKSZENATDCI123tnsGHWdcV",
};

static struct message_rules rules_of(enum message_side side)
{
    struct message_rules rules;

    message_rules_init(&rules, side, BODY_MAX);
    return rules;
}

/* ---- walking ------------------------------------------------------------------------
 */

/* What came of a stream: for each message its type and the sum of its body, and why it
 * ended. */
struct story {
    size_t n;
    uint8_t types[64];
    uint32_t lengths[64];
    uint32_t sums[64];
    enum message_step end;
};

static uint32_t sum_of(uint32_t sum, const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        sum = sum * 31 + bytes[i];
    return sum;
}

static void note(struct story *story, const struct message_view *message)
{
    cr_assert_lt(story->n, COUNT_OF(story->types));
    story->types[story->n] = message->type;
    story->lengths[story->n] = message->length;
    story->sums[story->n++] = sum_of(0, message->body, message->n);
}

/* A session that keeps a message until it is whole: a piece is what was kept and what is
 * new. Each is walked in memory that ends right behind it. */
static struct story told_whole(const struct message_rules *rules,
                               const struct packet *packet, size_t piece)
{
    struct story story = {.end = MESSAGE_NONE};
    size_t begin = 0;

    for (size_t end = 0; end < packet->n && story.end <= MESSAGE_NONE;) {
        struct message_walk walk;
        struct message_view message;
        uint32_t n_left = 0;
        uint8_t *copy;

        end = piece < packet->n - end ? end + piece : packet->n;
        copy = malloc(end - begin);
        memcpy(copy, packet->bytes + begin, end - begin);
        message_walk_begin(&walk, rules, copy, end - begin, &n_left);
        while ((story.end = message_walk_next(&walk, &message)) == MESSAGE_WHOLE)
            note(&story, &message);
        cr_assert_eq(message_walk_next(&walk, &message), story.end, "it says so again");
        begin = end - message_walk_rest(&walk);
        free(copy);
    }
    return story;
}

/* A session that passes on what it has of a body; only a header is kept. */
static struct story told_streaming(const struct message_rules *rules,
                                   const struct packet *packet, size_t piece)
{
    struct story story = {.end = MESSAGE_NONE};
    uint32_t n_left = 0;
    size_t begin = 0;

    for (size_t end = 0; end < packet->n && story.end <= MESSAGE_NONE;) {
        uint32_t n_before = n_left;
        struct message_walk walk;
        struct message_view message;

        end = piece < packet->n - end ? end + piece : packet->n;
        message_walk_begin(&walk, rules, packet->bytes + begin, end - begin, &n_left);
        if (n_before > 0)
            story.sums[story.n - 1] =
                sum_of(story.sums[story.n - 1], packet->bytes + begin, n_before - n_left);
        while ((story.end = message_walk_next(&walk, &message)) == MESSAGE_WHOLE)
            note(&story, &message);
        if (story.end == MESSAGE_BEGUN) {
            note(&story, &message);
            n_left = message_walk_stream(&walk, &message);
            cr_assert_gt(n_left, 0);
            story.end = message_walk_next(&walk, &message);
            cr_assert_eq(story.end, MESSAGE_NONE);
        }
        begin = end - message_walk_rest(&walk);
        cr_assert(story.end != MESSAGE_CUT || end - begin < MESSAGE_HEADER_BYTES);
    }
    return story;
}

static void expect_same(const struct story *story, const struct story *expected,
                        size_t piece)
{
    cr_assert_eq(story->n, expected->n, "pieces of %zu: %zu", piece, story->n);
    cr_assert_eq(story->end, expected->end, "pieces of %zu", piece);
    cr_assert_eq(memcmp(story->types, expected->types, story->n), 0);
    cr_assert_eq(memcmp(story->lengths, expected->lengths, 4 * story->n), 0);
    cr_assert_eq(memcmp(story->sums, expected->sums, 4 * story->n), 0);
}

static struct packet pipeline(void)
{
    static const char bind[] = "\0s\0\0\0\0\1\0\0\0\5hello\0\0";
    struct packet packet = {0};
    static char text[3000];

    memset(text, 'x', sizeof text - 1);
    packet_add_message(&packet, 'Q', "select 1", 9);
    packet_add_message(&packet, 'P', "s\0select $1\0\0\0", 14);
    packet_add_message(&packet, 'B', bind, sizeof bind - 1);
    packet_add_message(&packet, 'S', "", 0);
    packet_add_message(&packet, 'H', "", 0);
    packet_add_message(&packet, 'd', text, sizeof text);
    packet_add_message(&packet, 'c', "", 0);
    packet_add_message(&packet, 'X', "", 0);
    return packet;
}

Test(message, the_same_messages_come_of_a_stream_in_pieces_of_every_size)
{
    struct message_rules rules = rules_of(MESSAGE_OF_CLIENT);
    struct packet packet = pipeline();
    struct story expected = told_whole(&rules, &packet, packet.n);

    cr_assert_eq(expected.n, 8);
    cr_assert_eq(memcmp(expected.types, "QPBSHdcX", 8), 0);
    cr_assert_eq(expected.lengths[1], 14);
    cr_assert_eq(expected.lengths[5], 3000);
    cr_assert_eq(expected.end, MESSAGE_NONE);
    for (size_t piece = 1; piece <= packet.n; piece++) {
        struct story whole = told_whole(&rules, &packet, piece);
        struct story streaming = told_streaming(&rules, &packet, piece);

        expect_same(&whole, &expected, piece);
        expect_same(&streaming, &expected, piece);
    }
}

Test(message, what_is_here_of_a_message_is_said_at_every_cut)
{
    struct message_rules rules = rules_of(MESSAGE_OF_SERVER);
    struct packet packet = {0};

    packet_add_message(&packet, 'D', "\0\1\0\0\0\4four", 10);
    for (size_t n = 0; n <= packet.n; n++) {
        uint8_t *copy = malloc(n > 0 ? n : 1);
        struct message_view message = {0};
        struct message_walk walk;
        uint32_t n_left = 0;
        enum message_step step;

        memcpy(copy, packet.bytes, n);
        message_walk_begin(&walk, &rules, copy, n, &n_left);
        step = message_walk_next(&walk, &message);
        if (n == 0) {
            cr_assert_eq(step, MESSAGE_NONE);
        } else if (n < MESSAGE_HEADER_BYTES) {
            cr_assert_eq(step, MESSAGE_CUT);
        } else {
            cr_assert_eq(step, n < packet.n ? MESSAGE_BEGUN : MESSAGE_WHOLE);
            cr_assert_eq(message.type, 'D');
            cr_assert_eq(message.length, 10);
            cr_assert_eq(message.n, n - MESSAGE_HEADER_BYTES);
            cr_assert_eq(message.body, copy + MESSAGE_HEADER_BYTES);
        }
        cr_assert_eq(message_walk_rest(&walk), step == MESSAGE_WHOLE ? 0 : n,
                     "only a whole message is walked over");
        if (step == MESSAGE_BEGUN) {
            cr_assert_eq(message_walk_stream(&walk, &message), packet.n - n);
            cr_assert_eq(message_walk_rest(&walk), 0);
        }
        free(copy);
    }
}

Test(message, the_rest_of_a_body_may_take_many_pieces)
{
    struct message_rules rules = rules_of(MESSAGE_OF_CLIENT);
    static const uint8_t bytes[] = "12345678S\0\0\0\4";
    struct message_walk walk;
    struct message_view message;
    uint32_t n_left = 12;

    message_walk_begin(&walk, &rules, bytes, 0, &n_left);
    cr_assert_eq(n_left, 12);
    message_walk_begin(&walk, &rules, bytes, 4, &n_left);
    cr_assert_eq(n_left, 8);
    cr_assert_eq(message_walk_next(&walk, &message), MESSAGE_NONE);
    message_walk_begin(&walk, &rules, bytes, 13, &n_left);
    cr_assert_eq(n_left, 0);
    cr_assert_eq(message_walk_next(&walk, &message), MESSAGE_WHOLE);
    cr_assert_eq(message.type, 'S');
}

/* What is said of a header alone, and of its first bytes. */
static enum message_step said_of(const struct message_rules *rules, uint8_t type,
                                 uint32_t length, size_t n)
{
    uint8_t *bytes = malloc(n);
    uint8_t header[5] = {type};
    struct message_walk walk;
    struct message_view message;
    enum message_step step;
    uint32_t n_left = 0;

    wire_write_u32(header + 1, length);
    memcpy(bytes, header, n);
    message_walk_begin(&walk, rules, bytes, n, &n_left);
    step = message_walk_next(&walk, &message);
    cr_assert(step == MESSAGE_WHOLE || message_walk_rest(&walk) == n);
    free(bytes);
    return step;
}

Test(message, types_that_a_side_never_sends_are_known_by_their_first_byte)
{
    for (int side = MESSAGE_OF_CLIENT; side <= MESSAGE_OF_SERVER; side++) {
        struct message_rules rules = rules_of((enum message_side)side);

        for (unsigned type = 0; type < 256; type++) {
            bool is_legal = type != 0 && strchr(types[side], (int)type) != NULL;

            for (size_t n = 1; n <= 5; n++) {
                enum message_step step = said_of(&rules, (uint8_t)type, 4, n);

                if (!is_legal)
                    cr_assert_eq(step, MESSAGE_UNKNOWN, "%d %u %zu", side, type, n);
                else
                    cr_assert_eq(step, n < 5 ? MESSAGE_CUT : MESSAGE_WHOLE, "%d %u %zu",
                                 side, type, n);
            }
        }
    }
}

Test(message, absurd_lengths_end_the_walk_for_every_type)
{
    static const uint32_t huge[] = {BODY_MAX + 5, 0x7fffffff, 0x80000000,
                                    0x80000004,   0xfffffffc, 0xffffffff};

    for (int side = MESSAGE_OF_CLIENT; side <= MESSAGE_OF_SERVER; side++) {
        struct message_rules rules = rules_of((enum message_side)side);

        for (const char *type = types[side]; *type != '\0'; type++) {
            for (uint32_t length = 0; length < 4; length++)
                cr_assert_eq(said_of(&rules, (uint8_t)*type, length, 5),
                             MESSAGE_TOO_SHORT, "%c %u", *type, length);
            for (size_t i = 0; i < COUNT_OF(huge); i++)
                cr_assert_eq(said_of(&rules, (uint8_t)*type, huge[i], 5),
                             MESSAGE_TOO_LONG, "%c %u", *type, huge[i]);
        }
    }
}

/* The longest body of a type that is not above the limit. */
static uint32_t longest(const struct message_rules *rules, char type)
{
    uint32_t length = 4;

    while (length < BODY_MAX + 5 &&
           said_of(rules, (uint8_t)type, length + 1, 5) != MESSAGE_TOO_LONG)
        length++;
    return length - 4;
}

Test(message, what_carries_no_data_has_a_limit_of_its_own)
{
    struct message_rules client = rules_of(MESSAGE_OF_CLIENT);
    struct message_rules server = rules_of(MESSAGE_OF_SERVER);

    for (const char *type = "SHcX"; *type != '\0'; type++)
        cr_expect_eq(longest(&client, *type), 0, "%c", *type);
    for (const char *type = "DECf"; *type != '\0'; type++)
        cr_expect_eq(longest(&client, *type), MESSAGE_SMALL_MAX, "%c", *type);
    for (const char *type = "QFPBdp"; *type != '\0'; type++)
        cr_expect_eq(longest(&client, *type), BODY_MAX, "%c", *type);
    for (const char *type = "I123nsc"; *type != '\0'; type++)
        cr_expect_eq(longest(&server, *type), 0, "%c", *type);
    for (const char *type = "KZCGHW"; *type != '\0'; type++)
        cr_expect_eq(longest(&server, *type), MESSAGE_SMALL_MAX, "%c", *type);
    for (const char *type = "RvSENATDtdV"; *type != '\0'; type++)
        cr_expect_eq(longest(&server, *type), BODY_MAX, "%c", *type);
}

Test(message, a_low_limit_is_everybodys)
{
    struct message_rules rules;

    message_rules_init(&rules, MESSAGE_OF_CLIENT, 9);
    for (const char *type = "QDf"; *type != '\0'; type++) {
        cr_expect_eq(said_of(&rules, (uint8_t)*type, 13, 5), MESSAGE_BEGUN);
        cr_expect_eq(said_of(&rules, (uint8_t)*type, 14, 5), MESSAGE_TOO_LONG);
    }
}

Test(message, the_highest_limit_is_below_what_wraps_around)
{
    struct message_rules rules;

    message_rules_init(&rules, MESSAGE_OF_CLIENT, INT32_MAX - 4);
    cr_expect_eq(said_of(&rules, 'Q', INT32_MAX, 5), MESSAGE_BEGUN);
    cr_expect_eq(said_of(&rules, 'Q', (uint32_t)INT32_MAX + 1, 5), MESSAGE_TOO_LONG);
    cr_expect_eq(said_of(&rules, 'Q', 3, 5), MESSAGE_TOO_SHORT);
}

Test(message, a_limit_above_the_protocols_is_our_mistake, .signal = SIGABRT)
{
    struct message_rules rules;

    message_rules_init(&rules, MESSAGE_OF_CLIENT, INT32_MAX - 3);
}

Test(message, messages_before_an_illegal_one_are_seen)
{
    struct message_rules rules = rules_of(MESSAGE_OF_CLIENT);

    for (unsigned i = 0; i < 3; i++) {
        static const char *const bad[] = {"Z\0\0\0\5I", "Q\0\0\0\3??", "S\0\0\0\5?"};
        static const enum message_step why[] = {MESSAGE_UNKNOWN, MESSAGE_TOO_SHORT,
                                                MESSAGE_TOO_LONG};
        struct packet packet = pipeline();
        struct story whole, streaming;

        packet_add(&packet, bad[i], 6);
        for (size_t piece = 1; piece <= packet.n; piece++) {
            whole = told_whole(&rules, &packet, piece);
            streaming = told_streaming(&rules, &packet, piece);
            cr_assert_eq(whole.n, 8, "pieces of %zu", piece);
            cr_assert_eq(whole.end, why[i], "pieces of %zu", piece);
            expect_same(&streaming, &whole, piece);
        }
    }
}
