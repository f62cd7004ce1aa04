#include "wire/proxy_header.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

TestSuite(proxy_header, .timeout = 30);

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define BYTES(text) (const uint8_t *)(text), sizeof(text) - 1

/* From memory that ends right behind the bytes, so that a sanitizer sees every look
 * beyond. */
static struct proxy_header read_n(const uint8_t *bytes, size_t n)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    struct proxy_header header;

    memcpy(copy, bytes, n);
    header = proxy_header_read(copy, n);
    free(copy);
    return header;
}

/* Incomplete up to its last byte, and then the same whatever follows. */
static struct proxy_header read_whole(const uint8_t *bytes, size_t n)
{
    static const uint8_t more[] = "\r\n\0\0\0\10\4\322\26\57PROXY ";
    uint8_t *longer = malloc(n + sizeof more);
    struct proxy_header whole = read_n(bytes, n);

    for (size_t i = 0; i < n; i++)
        cr_assert_eq(read_n(bytes, i).kind, PROXY_HEADER_INCOMPLETE, "%zu of %zu", i, n);
    cr_assert_eq(whole.length, n, "%u, not %zu", whole.length, n);
    memcpy(longer, bytes, n);
    memcpy(longer + n, more, sizeof more);
    for (size_t i = 1; i <= sizeof more; i++) {
        struct proxy_header header = read_n(longer, n + i);

        cr_assert_eq(header.kind, whole.kind);
        cr_assert_eq(header.length, n);
        cr_assert(address_same_host(&header.source, &whole.source));
    }
    free(longer);
    return whole;
}

static void expect_source(const uint8_t *bytes, size_t n, const char *wanted)
{
    struct proxy_header header = read_whole(bytes, n);
    char text[ADDRESS_TEXT_MAX];

    cr_assert_eq(header.kind, PROXY_HEADER_TELLS, "%.*s", (int)n, (const char *)bytes);
    cr_expect_str_eq(address_print(&header.source, text), wanted);
}

static void expect_mute(const uint8_t *bytes, size_t n)
{
    cr_assert_eq(read_whole(bytes, n).kind, PROXY_HEADER_IS_MUTE);
}

/* From its `known_after`-th byte on. */
static void expect_bad(const uint8_t *bytes, size_t n, size_t known_after)
{
    for (size_t i = 0; i <= n; i++)
        cr_expect_eq(read_n(bytes, i).kind,
                     i < known_after ? PROXY_HEADER_INCOMPLETE : PROXY_HEADER_BAD,
                     "%zu of '%.*s'", i, (int)n, (const char *)bytes);
}

Test(proxy_header, reads_lines)
{
    expect_source(BYTES("PROXY TCP4 192.0.2.7 198.51.100.2 4711 5432\r\n"),
                  "192.0.2.7:4711");
    expect_source(BYTES("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"),
                  "255.255.255.255:65535");
    expect_source(BYTES("PROXY TCP6 2001:db8::7 ::1 1 0\r\n"), "[2001:db8::7]:1");
    expect_source(BYTES("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
                        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
                  "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535");
}

Test(proxy_header, takes_unknown_clients_as_they_come)
{
    expect_mute(BYTES("PROXY UNKNOWN\r\n"));
    expect_mute(BYTES("PROXY UNKNOWN whatever stands here, 300.1 -5\r\n"));
    expect_mute(BYTES("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
                      "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"));
}

Test(proxy_header, reads_a_line_of_at_most_107_bytes)
{
    static const uint8_t begin[] = {'P', 'R', 'O', 'X', 'Y', ' ', 'U',
                                    'N', 'K', 'N', 'O', 'W', 'N', ' '},
                         end[] = {'\r', '\n'};
    uint8_t line[120];

    memset(line, 'x', sizeof line);
    memcpy(line, begin, sizeof begin);
    memcpy(line + 105, end, sizeof end);
    expect_mute(line, 107);
    line[105] = 'x';
    memcpy(line + 106, end, sizeof end);
    expect_bad(line, 108, 106);
    line[106] = line[107] = 'x';
    expect_bad(line, sizeof line, 106); /* it never ends */
}

/* The mistake is known with the line's end, unless the byte itself is one. */
Test(proxy_header, refuses_lines_that_are_not_as_they_should_be)
{
    static const char *const lines[] = {
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 \r\n",
        "PROXY TCP5 192.0.2.7 198.51.100.2 1 2\r\n",
        "PROXY tcp4 192.0.2.7 198.51.100.2 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY TCP4  192.0.2.7 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.2 1\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.2 1 2 \r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.2 1 2 3\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.2 1 65536\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.2 99999 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.2 01 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.2 -1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.7 198.51.100.2 1x 2\r\n",
        "PROXY TCP4 192.0.2.256 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2 198.51.100.2 1 2\r\n",
        "PROXY TCP4 0x7f.1 198.51.100.2 1 2\r\n",
        "PROXY TCP4 localhost 198.51.100.2 1 2\r\n",
        "PROXY TCP4 192.0.2.7 nowhere 1 2\r\n",
        "PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
        "PROXY TCP6 192.0.2.7 198.51.100.2 1 2\r\n",
        "PROXY TCP6 fe80::1%lo ::1 1 2\r\n",
        "PROXY TCP6 2001:db8::7::1 ::1 1 2\r\n",
    };

    for (size_t i = 0; i < COUNT_OF(lines); i++)
        expect_bad((const uint8_t *)lines[i], strlen(lines[i]), strlen(lines[i]));
    expect_bad(BYTES("PROXY UNKNOWN\n"), 14);
    expect_bad(BYTES("PROXY UNKNOWN\rx"), 15);
    expect_bad(BYTES("PROXY UNKNOWN\r\r\n"), 15);
    expect_bad(BYTES("PROXY TCP4\0 192.0.2.7"), 11);
    expect_bad(BYTES("PROXY TCP4\t192.0.2.7"), 11);
    expect_bad(BYTES("PROXY UNKNOWN \xc3\xa4\r\n"), 15);
}

Test(proxy_header, knows_from_the_first_byte_what_is_none)
{
    expect_bad(BYTES("GET / HTTP/1.0\r\n"), 1);
    expect_bad(BYTES("PROXIES"), 5);
    expect_bad(BYTES("PROXY\tTCP4"), 6);
    expect_bad(BYTES("proxy TCP4"), 1);
    expect_bad(BYTES("\0\0\0\10\4\322\26\57"), 1); /* SSLRequest */
    expect_bad(BYTES("\x16\x03\x01"), 1);          /* a ClientHello */
    expect_bad(BYTES("\r\n\r\n\0\r\nQUIX"), 11);
    expect_bad(BYTES("\r\n\r\nGET"), 5);
    expect_bad(BYTES(" PROXY"), 1);
}

/* A header of version 2. */
struct v2 {
    uint8_t bytes[PROXY_HEADER_MAX + 64];
    size_t n;
};

static struct v2 make(uint8_t command, uint8_t family, const void *ends, size_t n_ends,
                      size_t n_more)
{
    struct v2 header = {.n = 16 + n_ends + n_more};

    memcpy(header.bytes, SIGNATURE, 12);
    header.bytes[12] = command;
    header.bytes[13] = family;
    header.bytes[14] = (uint8_t)((n_ends + n_more) >> 8);
    header.bytes[15] = (uint8_t)(n_ends + n_more);
    memcpy(header.bytes + 16, ends, n_ends);
    memset(header.bytes + 16 + n_ends, 0xa5,
           n_more); /* no TLVs at all: they are skipped */
    return header;
}

#define IP4 "\xc0\0\2\7\xc6\x33\x64\2\x12\x67\x15\x38"
#define IP6 \
    "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\7" \
    "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x08\x12\x67\x15\x38"

Test(proxy_header, reads_addresses_in_binary)
{
    static const size_t more[] = {0, 1, 3, 200, 4096 - 16 - 36};

    for (size_t i = 0; i < COUNT_OF(more); i++) {
        struct v2 four = make(0x21, 0x11, IP4, 12, more[i]);
        struct v2 six = make(0x21, 0x21, IP6, 36, more[i]);

        expect_source(four.bytes, four.n, "192.0.2.7:4711");
        expect_source(six.bytes, six.n, "[2001:db8::7]:4711");
    }
}

Test(proxy_header, takes_what_it_is_not_told_as_it_comes)
{
    static const uint8_t path[216];
    struct v2 local = make(0x20, 0x00, "", 0, 0), told = make(0x20, 0x11, IP4, 12, 7);
    struct v2 odd = make(0x20, 0xff, "", 0, 5), none = make(0x21, 0x00, "", 0, 9);
    struct v2 unix_socket = make(0x21, 0x31, path, sizeof path, 0);

    expect_mute(local.bytes, local.n);
    expect_mute(told.bytes, told.n);
    expect_mute(odd.bytes, odd.n); /* the family of LOCAL is to be ignored */
    expect_mute(none.bytes, none.n);
    expect_mute(unix_socket.bytes, unix_socket.n);
}

Test(proxy_header, refuses_versions_commands_and_families)
{
    for (unsigned command = 0; command < 256; command++)
        if (command != 0x20 && command != 0x21) {
            struct v2 header = make((uint8_t)command, 0x11, IP4, 12, 0);

            expect_bad(header.bytes, header.n, 13);
        }
    for (unsigned family = 0; family < 256; family++)
        if (family != 0x00 && family != 0x11 && family != 0x21 && family != 0x31) {
            struct v2 header = make(0x21, (uint8_t)family, IP6, 36, 0);

            expect_bad(header.bytes, header.n, 14);
        }
}

Test(proxy_header, refuses_lengths_that_lie)
{
    static const uint8_t path[216];
    struct v2 four = make(0x21, 0x11, IP4, 11, 0), six = make(0x21, 0x21, IP6, 35, 0);
    struct v2 six_as_four = make(0x21, 0x21, IP4, 12, 0);
    struct v2 unix_socket = make(0x21, 0x31, path, 215, 0);
    struct v2 empty = make(0x21, 0x11, "", 0, 0);
    struct v2 most = make(0x21, 0x11, IP4, 12, PROXY_HEADER_MAX - 16 - 12);
    struct v2 long_one = make(0x21, 0x11, IP4, 12, PROXY_HEADER_MAX - 16 - 11);
    struct v2 longest = make(0x20, 0x00, "", 0, 0);

    expect_bad(four.bytes, four.n, 16);
    expect_bad(six.bytes, six.n, 16);
    expect_bad(six_as_four.bytes, six_as_four.n, 16);
    expect_bad(unix_socket.bytes, unix_socket.n, 16);
    expect_bad(empty.bytes, empty.n, 16);
    expect_source(most.bytes, most.n, "192.0.2.7:4711");
    expect_bad(long_one.bytes, long_one.n, 16);
    longest.bytes[14] = longest.bytes[15] = 0xff;
    expect_bad(longest.bytes, longest.n, 16);
}
