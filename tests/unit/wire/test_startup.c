#include "wire/startup.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/packets.h"

TestSuite(startup, .timeout = 30);

/* Reads the first `n` bytes from memory that ends right behind them, so that a
 * sanitizer sees every look beyond. */
static struct startup_packet read_n(const struct packet *packet, size_t n, uint8_t **copy)
{
    *copy = malloc(n > 0 ? n : 1);
    memcpy(*copy, packet->bytes, n);
    return startup_read(*copy, n);
}

/* Nothing before the last byte of the packet; from then on `kind`, whatever follows. */
static void expect_kind(const struct packet *packet, enum startup_kind kind,
                        size_t known_after)
{
    struct packet more = *packet;
    uint8_t *copy;

    packet_add(&more, "\x16\x03\xff\0behind", 10);
    for (size_t n = 0; n <= more.n; n++) {
        struct startup_packet read = read_n(&more, n, &copy);

        if (n < known_after)
            cr_assert_eq(read.kind, STARTUP_INCOMPLETE, "after %zu: %d", n, read.kind);
        else
            cr_assert_eq(read.kind, kind, "after %zu: %d", n, read.kind);
        free(copy);
    }
}

Test(startup, knows_requests_to_encrypt_after_their_last_byte)
{
    struct packet ssl = {0}, gssenc = {0};

    packet_add_request(&ssl, PACKET_SSL);
    packet_add_request(&gssenc, PACKET_GSSENC);
    expect_kind(&ssl, STARTUP_SSL, 8);
    expect_kind(&gssenc, STARTUP_GSSENC, 8);
    cr_expect_eq(startup_read(ssl.bytes, 8).length, 8);
}

Test(startup, knows_every_protocol_3)
{
    static const uint32_t protocols[] = {PACKET_PROTOCOL_3_0, PACKET_PROTOCOL_3_2,
                                         0x00030000u + 9999, 0x0003ffffu};

    for (size_t i = 0; i < COUNT_OF(protocols); i++) {
        struct packet packet = {0};
        struct startup_packet read;

        packet_add_login(&packet, protocols[i]);
        expect_kind(&packet, STARTUP_LOGIN, packet.n);
        read = startup_read(packet.bytes, packet.n);
        cr_expect_eq(read.protocol, protocols[i]);
        cr_expect_eq(read.length, packet.n);
        cr_expect_eq(read.body, packet.bytes + 8);
        cr_expect_eq(read.body_length, packet.n - 8);
    }
}

Test(startup, knows_protocols_that_nobody_speaks_any_more)
{
    static const uint32_t protocols[] = {
        0, 0x00010000u, 0x00020000u, 0x0002ffffu, 0x00040000u, 80877105u, 0xffffffffu};

    for (size_t i = 0; i < COUNT_OF(protocols); i++) {
        struct packet packet = {0};

        packet_add_login(&packet, protocols[i]);
        expect_kind(&packet, STARTUP_UNSUPPORTED, packet.n);
        cr_expect_eq(startup_read(packet.bytes, packet.n).protocol, protocols[i]);
    }
}

Test(startup, knows_the_first_record_of_direct_tls_by_two_bytes)
{
    struct packet hello = {0}, other = {0};

    packet_add(&hello, PACKET_CLIENT_HELLO, PACKET_CLIENT_HELLO_BYTES);
    expect_kind(&hello, STARTUP_DIRECT_TLS, 2);
    packet_add(&other, "\x16\x02\x01\x00\x01", 5);
    expect_kind(&other, STARTUP_GARBAGE, 2);
}

Test(startup, takes_cancel_keys_of_4_to_256_bytes)
{
    static const struct {
        size_t n;
        enum startup_kind kind;
    } examples[] = {
        {0, STARTUP_GARBAGE},  {3, STARTUP_GARBAGE},   {4, STARTUP_CANCEL},
        {5, STARTUP_CANCEL},   {32, STARTUP_CANCEL},   {255, STARTUP_CANCEL},
        {256, STARTUP_CANCEL}, {257, STARTUP_GARBAGE}, {9000, STARTUP_GARBAGE},
    };
    static uint8_t secret[9000];

    for (size_t i = 0; i < sizeof secret; i++)
        secret[i] = (uint8_t)(i * 7 + 1);
    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        struct packet packet = {0};
        struct startup_packet read;
        struct cancel_key key;

        packet_add_cancel(&packet, 0x89abcdef, secret, examples[i].n);
        expect_kind(&packet, examples[i].kind, packet.n);
        if (examples[i].kind != STARTUP_CANCEL)
            continue;
        read = startup_read(packet.bytes, packet.n);
        startup_cancel_key(packet.bytes, &read, &key);
        cr_expect_eq(key.process_id, 0x89abcdef);
        cr_expect_eq(key.length, examples[i].n);
        cr_expect_eq(memcmp(key.secret, secret, examples[i].n), 0);
    }
}

Test(startup, writes_the_cancel_request_that_it_reads)
{
    static const size_t lengths[] = {4, 32, 256};

    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        struct cancel_key key = {.process_id = 4711, .length = (uint16_t)lengths[i]};
        uint8_t bytes[CANCEL_BYTES_MAX];
        struct packet packet = {0};

        memset(key.secret, (int)(0x80 + i), sizeof key.secret);
        packet_add_cancel(&packet, 4711, key.secret, lengths[i]);
        cr_expect_eq(startup_write_cancel(&key, bytes), packet.n);
        cr_expect_eq(memcmp(bytes, packet.bytes, packet.n), 0);
    }
}

Test(startup, a_key_is_not_read_from_another_packet, .signal = SIGABRT)
{
    struct packet packet = {0};
    struct startup_packet read;
    struct cancel_key key;

    packet_add_login(&packet, PACKET_PROTOCOL_3_0);
    read = startup_read(packet.bytes, packet.n);
    startup_cancel_key(packet.bytes, &read, &key);
}

Test(startup, refuses_absurd_lengths_after_four_bytes)
{
    static const uint32_t lengths[] = {
        0, 1, 4, 7, 10001, 0x15ffffff, 0x17000000, 0x47455420 /* "GET " */, 0xffffffff};

    for (size_t i = 0; i < COUNT_OF(lengths); i++) {
        struct packet packet = {0};

        packet_add_u32(&packet, lengths[i]);
        packet_add_u32(&packet, PACKET_PROTOCOL_3_0);
        expect_kind(&packet, STARTUP_GARBAGE, 4);
    }
}

Test(startup, takes_the_longest_packet_that_postgresql_takes)
{
    struct packet packet = {0};
    static char filler[10000];

    packet_add_startup(&packet, PACKET_PROTOCOL_3_0, filler, 10000 - 8);
    cr_assert_eq(packet.n, STARTUP_BYTES_MAX);
    expect_kind(&packet, STARTUP_LOGIN, 10000);
}

Test(startup, requests_to_encrypt_have_no_body)
{
    struct packet ssl = {0}, gssenc = {0};

    packet_add_startup(&ssl, PACKET_SSL, "x", 1);
    packet_add_startup(&gssenc, PACKET_GSSENC, "", 1);
    expect_kind(&ssl, STARTUP_GARBAGE, ssl.n);
    expect_kind(&gssenc, STARTUP_GARBAGE, gssenc.n);
}

/* ---- parameters ---------------------------------------------------------------------
 */

static void expect_parameter(const void *body, size_t n, const char *name,
                             const char *wanted)
{
    struct packet packet = {0};
    struct startup_packet read;
    const char *value;
    uint8_t *copy;

    packet_add_startup(&packet, PACKET_PROTOCOL_3_0, body, n);
    read = read_n(&packet, packet.n, &copy);
    value = startup_parameter(&read, name);
    if (wanted == NULL)
        cr_expect_null(value, "%s = %s", name, value);
    else
        cr_expect(value != NULL && strcmp(value, wanted) == 0, "%s = %s", name,
                  value == NULL ? "nothing" : value);
    free(copy);
}

#define BODY(text) (text), sizeof(text) - 1

Test(startup, finds_parameters_by_their_names)
{
    static const char body[] = "user\0alice\0database\0shop\0options\0\0application_name"
                               "\0psql\0";

    expect_parameter(body, sizeof body, "user", "alice");
    expect_parameter(body, sizeof body, "database", "shop");
    expect_parameter(body, sizeof body, "options", "");
    expect_parameter(body, sizeof body, "application_name", "psql");
    expect_parameter(body, sizeof body, "alice", NULL);
    expect_parameter(body, sizeof body, "use", NULL);
    expect_parameter(body, sizeof body, "users", NULL);
    expect_parameter(body, sizeof body, "", NULL);
}

Test(startup, finds_nothing_in_malformed_parameters)
{
    expect_parameter(BODY(""), "user", NULL);
    expect_parameter(BODY("\0"), "user", NULL);
    expect_parameter(BODY("user"), "user", NULL);
    expect_parameter(BODY("user\0"), "user", NULL);
    expect_parameter(BODY("user\0alice"), "user", NULL);
    expect_parameter(BODY("user\0alice\0"), "user", "alice");
    expect_parameter(BODY("user\0alice\0database"), "user", "alice");
    expect_parameter(BODY("user\0alice\0database"), "database", NULL);
    expect_parameter(BODY("user\0alice\0database\0shop"), "database", NULL);
    expect_parameter(BODY("a\0b\0\0user\0alice\0"), "user", NULL);
    expect_parameter(BODY("user\0alice\0user\0bob\0\0"), "user", "alice");
}

static void expect_form(const char *body, size_t n, bool is_well_formed)
{
    struct startup_packet packet = {
        .kind = STARTUP_LOGIN, .body = (const uint8_t *)body, .body_length = (uint32_t)n};

    cr_expect_eq(startup_is_well_formed(&packet), is_well_formed, "%s", body);
}

Test(startup, a_packet_ends_with_the_end_of_its_parameters)
{
    expect_form(BODY("\0"), true);
    expect_form(BODY("user\0alice\0\0"), true);
    expect_form(BODY("user\0\0\0"), true);
    expect_form(BODY(""), false);
    expect_form(BODY("user"), false);
    expect_form(BODY("user\0alice"), false);
    expect_form(BODY("user\0alice\0"), false);
    expect_form(BODY("user\0alice\0database"), false);
    expect_form(BODY("user\0alice\0database\0"), false);
    expect_form(BODY("user\0alice\0\0\0"), false);
    expect_form(BODY("user\0alice\0\0x"), false);
}

Test(startup, finds_no_parameters_in_other_packets)
{
    struct packet packet = {0};
    struct startup_packet read;

    packet_add_login(&packet, 0x00020000u);
    read = startup_read(packet.bytes, packet.n);
    cr_expect_null(startup_parameter(&read, "user"));
    read = startup_read(packet.bytes, 5);
    cr_expect_null(startup_parameter(&read, "user"));
}

Test(startup, numbers_are_big_endian)
{
    uint8_t bytes[4];

    wire_write_u32(bytes, 0x81020384u);
    cr_expect(bytes[0] == 0x81 && bytes[1] == 2 && bytes[2] == 3 && bytes[3] == 0x84);
    cr_expect_eq(wire_read_u32(bytes), 0x81020384u);
}

Test(startup, reads_replication_as_postgresql_does)
{
    static const struct {
        const char *value;
        enum startup_replication wanted;
    } cases[] = {
        {NULL, REPLICATION_NONE},       {"database", REPLICATION_LOGICAL},
        {"true", REPLICATION_PHYSICAL}, {"TRUE", REPLICATION_PHYSICAL},
        {"t", REPLICATION_PHYSICAL},    {"tru", REPLICATION_PHYSICAL},
        {"on", REPLICATION_PHYSICAL},   {"yes", REPLICATION_PHYSICAL},
        {"y", REPLICATION_PHYSICAL},    {"1", REPLICATION_PHYSICAL},
        {"false", REPLICATION_NONE},    {"F", REPLICATION_NONE},
        {"no", REPLICATION_NONE},       {"n", REPLICATION_NONE},
        {"off", REPLICATION_NONE},      {"of", REPLICATION_NONE},
        {"0", REPLICATION_NONE},        {"o", REPLICATION_BAD},
        {"", REPLICATION_BAD},          {"truer", REPLICATION_BAD},
        {"Database", REPLICATION_BAD},  {"databases", REPLICATION_BAD},
        {"2", REPLICATION_BAD},         {"10", REPLICATION_BAD},
        {" true", REPLICATION_BAD},     {"onn", REPLICATION_BAD},
    };

    for (size_t i = 0; i < COUNT_OF(cases); i++)
        cr_expect_eq(startup_replication(cases[i].value), cases[i].wanted, "%s",
                     cases[i].value == NULL ? "nothing" : cases[i].value);
}

Test(startup, adds_parameters_to_a_packet)
{
    static const char more[] = "replication\0true\0application_name\0\0";
    const char *const parameters[] = {"user", "alice", NULL};
    uint8_t bytes[256];
    size_t n = startup_write_login(STARTUP_PROTOCOL_3_0, parameters, bytes, sizeof bytes);
    size_t longer = startup_add_parameters(bytes, n, sizeof bytes, more, sizeof more - 1);
    struct startup_packet read = startup_read(bytes, longer);

    cr_assert_eq(longer, n + sizeof more - 1);
    cr_assert_eq(read.kind, STARTUP_LOGIN);
    cr_expect_eq(read.length, longer);
    cr_expect_str_eq(startup_parameter(&read, "user"), "alice");
    cr_expect_str_eq(startup_parameter(&read, "replication"), "true");
    cr_expect_str_eq(startup_parameter(&read, "application_name"), "");
    n = startup_write_login(STARTUP_PROTOCOL_3_0, parameters, bytes, sizeof bytes);
    cr_expect_eq(startup_add_parameters(bytes, n, longer - 1, more, sizeof more - 1), 0);
    cr_expect_eq(startup_add_parameters(bytes, n, longer, more, sizeof more - 1), longer);
    cr_expect_eq(startup_add_parameters(bytes, 0, sizeof bytes, more, 1), 0);
}
