/* The bodies of messages, read and written; the walk over them is in test_message.c. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/packets.h"
#include "wire/error.h"
#include "wire/message.h"

TestSuite(message_bodies, .timeout = 60);

/* ---- reading ------------------------------------------------------------------------
 */

enum reader {
    READ_STRING,
    READ_READY,
    READ_PARAMETER,
    READ_KEY,
    READ_NEGOTIATION,
    READ_PARSE,
    READ_BIND,
    READ_TARGET,
    READ_EXECUTE
};

/* Where everything is put that is read. */
struct found {
    const char *string, *value;
    char status;
    struct cancel_key key;
    struct message_negotiation negotiation;
    struct message_parse parse;
    struct message_bind bind;
    struct message_target target;
    struct message_execute execute;
};

static bool read_body(enum reader reader, const uint8_t *body, size_t n,
                      struct found *found)
{
    switch (reader) {
    case READ_STRING:
        return message_read_string(body, n, &found->string);
    case READ_READY:
        return message_read_ready(body, n, &found->status);
    case READ_PARAMETER:
        return message_read_parameter(body, n, &found->string, &found->value);
    case READ_KEY:
        return message_read_key(body, n, &found->key);
    case READ_NEGOTIATION:
        return message_read_negotiation(body, n, &found->negotiation);
    case READ_PARSE:
        return message_read_parse(body, n, &found->parse);
    case READ_BIND:
        return message_read_bind(body, n, &found->bind);
    case READ_TARGET:
        return message_read_target(body, n, &found->target);
    case READ_EXECUTE:
        return message_read_execute(body, n, &found->execute);
    }
    UNREACHABLE();
}

/* It is malformed, and says nothing. */
static void expect_malformed(enum reader reader, const void *body, size_t n)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    uint8_t untouched[sizeof(struct found)];
    struct found found;

    memset(&found, 0x5a, sizeof found);
    memset(untouched, 0x5a, sizeof untouched);
    if (n > 0)
        memcpy(copy, body, n);
    cr_assert_not(read_body(reader, copy, n, &found), "reader %d, %zu bytes", (int)reader,
                  n);
    cr_assert_eq(memcmp((const uint8_t *)&found, untouched, sizeof found), 0,
                 "reader %d, %zu bytes", (int)reader, n);
    free(copy);
}

/* Reads a body, which then belongs to the caller; but none that is cut anywhere. */
static uint8_t *expect_read(enum reader reader, const void *body, size_t n,
                            struct found *found)
{
    uint8_t *copy = malloc(n);

    for (size_t cut = 0; cut < n; cut++)
        expect_malformed(reader, body, cut);
    memcpy(copy, body, n);
    memset(found, 0x5a, sizeof *found);
    cr_assert(read_body(reader, copy, n, found), "reader %d", (int)reader);
    return copy;
}

Test(message_bodies, reads_a_string)
{
    struct found found;
    uint8_t *body = expect_read(READ_STRING, "select 1", 9, &found);

    cr_expect_str_eq(found.string, "select 1");
    free(body);
    body = expect_read(READ_STRING, "", 1, &found);
    cr_expect_str_eq(found.string, "");
    free(body);
    expect_malformed(READ_STRING, "select 1\0", 10);
}

Test(message_bodies, reads_what_ready_for_query_says)
{
    for (const char *status = "ITE"; *status != '\0'; status++) {
        struct found found;

        free(expect_read(READ_READY, status, 1, &found));
        cr_expect_eq(found.status, *status);
    }
    expect_malformed(READ_READY, "", 1);
    expect_malformed(READ_READY, "i", 1);
    expect_malformed(READ_READY, "II", 2);
}

Test(message_bodies, reads_a_parameter)
{
    struct found found;
    uint8_t *body = expect_read(READ_PARAMETER, "TimeZone\0UTC", 13, &found);

    cr_expect_str_eq(found.string, "TimeZone");
    cr_expect_str_eq(found.value, "UTC");
    free(body);
    expect_malformed(READ_PARAMETER, "a\0b\0", 5);
    expect_malformed(READ_PARAMETER, "a\0b\0c", 6);
}

Test(message_bodies, reads_keys_of_both_protocols)
{
    uint8_t body[4 + CANCEL_KEY_MAX + 1] = {0, 0, 0x12, 0x67};
    struct found found;

    for (size_t i = 4; i < sizeof body; i++)
        body[i] = (uint8_t)(i * 7);
    for (size_t n = 0; n < 8; n++)
        expect_malformed(READ_KEY, body, n);
    for (size_t n = 8; n < sizeof body; n++) {
        cr_assert(read_body(READ_KEY, body, n, &found));
        cr_assert_eq(found.key.process_id, 4711);
        cr_assert_eq(found.key.length, n - 4);
        cr_assert_eq(memcmp(found.key.secret, body + 4, n - 4), 0);
    }
    expect_malformed(READ_KEY, body, sizeof body);
}

Test(message_bodies, reads_a_negotiation)
{
    struct found found;
    uint8_t *body =
        expect_read(READ_NEGOTIATION, "\0\3\0\2\0\0\0\2_pq_.a\0_pq_.b", 22, &found);

    cr_expect_eq(found.negotiation.protocol, PACKET_PROTOCOL_3_2);
    cr_expect_eq(found.negotiation.n_options, 2);
    cr_expect_str_eq(found.negotiation.options, "_pq_.a");
    cr_expect_str_eq(found.negotiation.options + 7, "_pq_.b");
    free(body);
    free(expect_read(READ_NEGOTIATION, "\0\3\0\0\0\0\0\0", 8, &found));
    cr_expect_eq(found.negotiation.n_options, 0);
    expect_malformed(READ_NEGOTIATION, "\0\3\0\0\0\0\0\0", 9);
    expect_malformed(READ_NEGOTIATION, "\0\3\0\0\0\0\0\1", 8);
    expect_malformed(READ_NEGOTIATION, "\0\3\0\0\xff\xff\xff\xff\0\0", 10);
    expect_malformed(READ_NEGOTIATION, "\0\3\0\0\0\0\0\1a\0b", 12);
}

Test(message_bodies, reads_a_parse)
{
    static const char plain[] = "\0select 1\0\0";
    static const char typed[] = "name\0select $1, $2\0\0\2\0\0\0\x17\0\0\0\x19";
    struct found found;
    uint8_t *body = expect_read(READ_PARSE, plain, sizeof plain, &found);

    cr_expect_str_eq(found.parse.name, "");
    cr_expect_str_eq(found.parse.text, "select 1");
    cr_expect_eq(found.parse.n_text, 8);
    cr_expect_eq(found.parse.n_types, 0);
    free(body);
    body = expect_read(READ_PARSE, typed, sizeof typed - 1, &found);
    cr_expect_str_eq(found.parse.name, "name");
    cr_expect_str_eq(found.parse.text, "select $1, $2");
    cr_expect_eq(found.parse.n_types, 2);
    cr_expect_eq(wire_read_u32(found.parse.types + 4), 0x19);
    free(body);
    expect_malformed(READ_PARSE, typed, sizeof typed);
    expect_malformed(READ_PARSE, "\0\0\xff\xff", 4);
    expect_malformed(READ_PARSE, "a\0no end", 8);
}

Test(message_bodies, reads_a_parse_with_as_many_types_as_can_be)
{
    size_t n = 4 + 65535 * 4;
    uint8_t *body = calloc(1, n);
    struct message_parse parse;

    body[2] = body[3] = 0xff;
    cr_expect(message_read_parse(body, n, &parse));
    cr_expect_eq(parse.n_types, 65535);
    cr_expect_not(message_read_parse(body, n - 4, &parse));
    free(body);
}

Test(message_bodies, reads_the_names_of_a_bind_before_the_rest_is_here)
{
    struct found found;
    uint8_t *body = expect_read(READ_BIND, "portal\0statement", 17, &found);

    cr_expect_str_eq(found.bind.portal, "portal");
    cr_expect_str_eq(found.bind.statement, "statement");
    cr_expect_eq(found.bind.n_head, 17);
    free(body);
    body = malloc(7);
    memcpy(body, "\0s\0\0\0\0\0", 7);
    cr_assert(message_read_bind(body, 7, &found.bind));
    cr_expect_str_eq(found.bind.portal, "");
    cr_expect_str_eq(found.bind.statement, "s");
    cr_expect_eq(found.bind.n_head, 3, "what follows is not looked at");
    free(body);
}

Test(message_bodies, reads_what_is_described_or_closed)
{
    struct found found;
    uint8_t *body = expect_read(READ_TARGET, "Sname", 6, &found);

    cr_expect_eq(found.target.kind, 'S');
    cr_expect_str_eq(found.target.name, "name");
    free(body);
    free(expect_read(READ_TARGET, "P", 2, &found));
    cr_expect_eq(found.target.kind, 'P');
    free(expect_read(READ_TARGET, "?", 2, &found));
    cr_expect_eq(found.target.kind, '?', "the server has an error for it");
    expect_malformed(READ_TARGET, "Sname\0", 7);
}

Test(message_bodies, reads_an_execute)
{
    struct found found;
    uint8_t *body = expect_read(READ_EXECUTE, "portal\0\0\1\0\2", 11, &found);

    cr_expect_str_eq(found.execute.portal, "portal");
    cr_expect_eq(found.execute.n_rows_max, 65538);
    free(body);
    expect_malformed(READ_EXECUTE, "portal\0\0\0\0\0", 12);
}

/* ---- writing ------------------------------------------------------------------------
 */

enum writer {
    WRITE_EMPTY,
    WRITE_STRING,
    WRITE_PARSE,
    WRITE_BIND,
    WRITE_TARGET,
    WRITE_EXECUTE,
    WRITE_READY,
    WRITE_PARAMETER,
    WRITE_KEY,
    WRITE_NEGOTIATION,
    WRITE_REPORT
};

static const struct message_parse a_parse = {.name = "n",
                                             .text = "s$1 and no zero",
                                             .n_text = 3,
                                             .n_types = 1,
                                             .types = (const uint8_t *)"\0\0\0\x17"};
static const struct message_target a_target = {'S', "n"};
static const struct message_execute an_execute = {"p", 258};
static const struct cancel_key a_key = {4711, 6, "secret"};
static const struct message_report a_report = {"NOTICE", "00000", "text", "hint"};
static const char *const some_options[] = {"_pq_.a", "_pq_.b"};

static size_t write_one(enum writer writer, uint8_t *bytes, size_t size)
{
    switch (writer) {
    case WRITE_EMPTY:
        return message_write_empty('S', bytes, size);
    case WRITE_STRING:
        return message_write_string('Q', "begin", bytes, size);
    case WRITE_PARSE:
        return message_write_parse(&a_parse, bytes, size);
    case WRITE_BIND:
        return message_write_bind("p", "st", 1000, bytes, size);
    case WRITE_TARGET:
        return message_write_target('C', &a_target, bytes, size);
    case WRITE_EXECUTE:
        return message_write_execute(&an_execute, bytes, size);
    case WRITE_READY:
        return message_write_ready('T', bytes, size);
    case WRITE_PARAMETER:
        return message_write_parameter("TimeZone", "UTC", bytes, size);
    case WRITE_KEY:
        return message_write_key(&a_key, bytes, size);
    case WRITE_NEGOTIATION:
        return message_write_negotiation(PACKET_PROTOCOL_3_2, some_options, 2, bytes,
                                         size);
    case WRITE_REPORT:
        return message_write_report('N', &a_report, bytes, size);
    }
    UNREACHABLE();
}

/* Written into as many bytes as it takes and more; into fewer not at all. */
static void expect_written(enum writer writer, const char *expected, size_t n)
{
    for (size_t size = 0; size <= n + 3; size++) {
        uint8_t *bytes = malloc(size > 0 ? size : 1);
        size_t n_written = write_one(writer, bytes, size);

        if (size < n) {
            cr_assert_eq(n_written, 0, "writer %d into %zu", (int)writer, size);
        } else {
            cr_assert_eq(n_written, n, "writer %d: %zu", (int)writer, n_written);
            cr_assert_eq(memcmp(bytes, expected, n), 0, "writer %d", (int)writer);
        }
        free(bytes);
    }
}

Test(message_bodies, writes_what_the_documentation_says)
{
    expect_written(WRITE_EMPTY, "S\0\0\0\4", 5);
    expect_written(WRITE_STRING, "Q\0\0\0\12begin", 11);
    expect_written(WRITE_PARSE, "P\0\0\0\20n\0s$1\0\0\1\0\0\0\x17", 17);
    expect_written(WRITE_TARGET, "C\0\0\0\7Sn", 8);
    expect_written(WRITE_EXECUTE, "E\0\0\0\12p\0\0\0\1\2", 11);
    expect_written(WRITE_READY, "Z\0\0\0\5T", 6);
    expect_written(WRITE_PARAMETER, "S\0\0\0\21TimeZone\0UTC", 18);
    expect_written(WRITE_KEY, "K\0\0\0\16\0\0\x12\x67secret", 15);
    expect_written(WRITE_NEGOTIATION, "v\0\0\0\32\0\3\0\2\0\0\0\2_pq_.a\0_pq_.b", 27);
    expect_written(WRITE_REPORT, "N\0\0\0\50SNOTICE\0VNOTICE\0C00000\0Mtext\0Hhint\0",
                   41);
}

Test(message_bodies, the_length_of_a_bind_counts_what_follows)
{
    uint8_t bytes[64];

    expect_written(WRITE_BIND, "B\0\0\3\361p\0st", 10);
    cr_expect_eq(message_write_bind("", "", 0, bytes, sizeof bytes), 7);
    cr_expect_eq(wire_read_u32(bytes + 1), 6);
    cr_expect_eq(message_write_bind("", "", INT32_MAX - 7, bytes, sizeof bytes), 7);
    cr_expect_eq(wire_read_u32(bytes + 1), INT32_MAX - 1);
    cr_expect_eq(message_write_bind("", "", INT32_MAX - 6, bytes, sizeof bytes), 0);
    cr_expect_eq(message_write_bind("", "", SIZE_MAX, bytes, sizeof bytes), 0);
}

Test(message_bodies, a_parse_is_read_and_written_with_another_name)
{
    static const char body[] = "name\0select $1\0\0\1\0\0\0\x17";
    struct message_parse parse, again;
    uint8_t bytes[64];
    size_t n;

    cr_assert(message_read_parse((const uint8_t *)body, sizeof body - 1, &parse));
    parse.name = "PGROUTER_1";
    n = message_write_parse(&parse, bytes, sizeof bytes);
    cr_assert_gt(n, 0);
    cr_assert(message_read_parse(bytes + 5, n - 5, &again));
    cr_expect_str_eq(again.name, "PGROUTER_1");
    cr_expect_str_eq(again.text, "select $1");
    cr_expect_eq(wire_read_u32(again.types), 0x17);
}

Test(message_bodies, an_error_is_written_as_it_is_read)
{
    static const struct message_report report = {"ERROR", "26000", "no such statement",
                                                 NULL};
    struct error_fields fields;
    uint8_t bytes[128];
    size_t n = message_write_report('E', &report, bytes, sizeof bytes);

    cr_assert_gt(n, 0);
    cr_expect_eq(bytes[0], 'E');
    error_read(bytes + 5, n - 5, &fields);
    cr_expect_str_eq(fields.severity, "ERROR");
    cr_expect_str_eq(fields.sqlstate, "26000");
}

Test(message_bodies, an_error_may_have_a_detail_and_a_hint)
{
    static const struct message_report report = {
        .severity = "E", .sqlstate = "40001", .text = "t", .hint = "h", .detail = "d"};
    static const char expected[] = "E\0\0\0\33SE\0VE\0C40001\0Mt\0Dd\0Hh\0";
    uint8_t bytes[64];

    cr_assert_eq(message_write_report('E', &report, bytes, sizeof bytes),
                 sizeof expected);
    cr_expect_eq(memcmp(bytes, expected, sizeof expected), 0);
}

/* What we write is legal for who reads it. */
Test(message_bodies, written_messages_are_walked_over)
{
    static const struct {
        enum writer writer;
        enum message_side side;
    } cases[] = {
        {WRITE_EMPTY, MESSAGE_OF_CLIENT},       {WRITE_STRING, MESSAGE_OF_CLIENT},
        {WRITE_PARSE, MESSAGE_OF_CLIENT},       {WRITE_TARGET, MESSAGE_OF_CLIENT},
        {WRITE_EXECUTE, MESSAGE_OF_CLIENT},     {WRITE_READY, MESSAGE_OF_SERVER},
        {WRITE_PARAMETER, MESSAGE_OF_SERVER},   {WRITE_KEY, MESSAGE_OF_SERVER},
        {WRITE_NEGOTIATION, MESSAGE_OF_SERVER}, {WRITE_REPORT, MESSAGE_OF_SERVER},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        struct message_rules rules;
        struct message_walk walk;
        struct message_view message = {0};
        uint8_t bytes[128];
        uint32_t n_left = 0;
        size_t n = write_one(cases[i].writer, bytes, sizeof bytes);

        message_rules_init(&rules, cases[i].side, sizeof bytes);
        message_walk_begin(&walk, &rules, bytes, n, &n_left);
        cr_assert_eq(message_walk_next(&walk, &message), MESSAGE_WHOLE);
        cr_expect_eq(message.length, n - 5);
        cr_expect_eq(message_walk_next(&walk, &message), MESSAGE_NONE);
    }
}
