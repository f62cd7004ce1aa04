#include "wire/error.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "tests/lib/packets.h"

TestSuite(error, .timeout = 10);

/* ---- written ------------------------------------------------------------------------
 */

/* The field's text, NULL when it is not there; fails on a message that is malformed. */
static const char *field(const uint8_t *bytes, size_t n, char letter)
{
    const char *found = NULL;
    size_t at = 5;

    cr_assert_eq(bytes[0], 'E');
    cr_assert_eq((size_t)bytes[3] * 256 + bytes[4], n - 1);
    cr_assert(bytes[1] == 0 && bytes[2] == 0);
    while (at < n && bytes[at] != 0) {
        const char *text = (const char *)bytes + at + 1;
        const void *end = memchr(text, 0, n - at - 1);

        cr_assert_not_null(end, "a field without an end");
        if (bytes[at] == (uint8_t)letter)
            found = text;
        at += 2 + strlen(text);
    }
    cr_assert_eq(at, n - 1, "one zero byte ends the message");
    return found;
}

Test(error, is_fatal_with_code_and_message)
{
    uint8_t bytes[ERROR_BYTES_MAX];
    size_t n = error_write("57P03", "no primary", NULL, bytes);

    cr_expect_str_eq(field(bytes, n, 'S'), "FATAL");
    cr_expect_str_eq(field(bytes, n, 'V'), "FATAL");
    cr_expect_str_eq(field(bytes, n, 'C'), "57P03");
    cr_expect_str_eq(field(bytes, n, 'M'), "no primary");
    cr_expect_null(field(bytes, n, 'H'));
}

Test(error, has_a_hint_when_there_is_one)
{
    uint8_t bytes[ERROR_BYTES_MAX];
    size_t n = error_write("57P03", "no primary", "try again", bytes);

    cr_expect_str_eq(field(bytes, n, 'H'), "try again");
}

Test(error, a_servers_gets_a_hint_where_it_has_none)
{
    uint8_t bytes[ERROR_BYTES_MAX];
    size_t n = error_write("57P01", "bye", NULL, bytes), more;

    cr_expect_eq(error_add_hint(bytes, n, n + 10, "come back"), n,
                 "one byte of room "
                 "is missing");
    more = error_add_hint(bytes, n, n + 11, "come back");
    cr_assert_eq(more, n + 11);
    cr_expect_str_eq(field(bytes, more, 'H'), "come back");
    cr_expect_str_eq(field(bytes, more, 'M'), "bye");
    cr_expect_eq(error_add_hint(bytes, more, sizeof bytes, "again"), more, "it has one");
}

Test(error, what_is_no_error_gets_no_hint)
{
    uint8_t bytes[ERROR_BYTES_MAX] = {'E', 0, 0, 0, 5, 0};

    cr_expect_eq(error_add_hint(bytes, 6, sizeof bytes, "x"), 6, "no field");
    memcpy(bytes + 5, "Mtext", 5);
    cr_expect_eq(error_add_hint(bytes, 10, sizeof bytes, "x"), 10, "a text without end");
    bytes[10] = 0;
    cr_expect_eq(error_add_hint(bytes, 11, sizeof bytes, "x"), 11, "no zero byte behind");
}

Test(error, is_whole_at_every_length_of_its_texts)
{
    char message[600], hint[600];

    for (size_t length = 0; length < 600; length++) {
        for (size_t more = 0; more < 600; more += length % 7 == 0 ? 1 : 97) {
            uint8_t *bytes = malloc(ERROR_BYTES_MAX);
            const char *text;
            size_t n;

            memset(message, 'm', sizeof message);
            message[length] = '\0';
            memset(hint, 'h', sizeof hint);
            hint[more] = '\0';
            n = error_write("57P03", message, hint, bytes);
            cr_assert_leq(n, ERROR_BYTES_MAX);
            text = field(bytes, n, 'M');
            cr_assert(text != NULL && strncmp(text, message, strlen(text)) == 0);
            cr_assert(strlen(text) == length || n >= ERROR_BYTES_MAX - 3,
                      "cut only where there is no room: %zu of %zu, %zu", strlen(text),
                      length, n);
            free(bytes);
        }
    }
}

Test(error, alert_is_a_fatal_internal_error_in_one_tls_record)
{
    static const uint8_t record[] = {0x15, 3, 3, 0, 2, 2, 80};

    cr_expect_eq(TLS_ALERT_BYTES, sizeof record);
    cr_expect_eq(memcmp(tls_alert_internal_error, record, sizeof record), 0);
}

/* ---- read ---------------------------------------------------------------------------
 */

/* Reads from memory that ends right behind the body. */
static struct error_fields read_body(const void *body, size_t n)
{
    struct error_fields fields;
    uint8_t *copy = malloc(n > 0 ? n : 1);

    memcpy(copy, body, n);
    memset(&fields, 'x', sizeof fields);
    error_read(copy, n, &fields);
    free(copy);
    return fields;
}

#define BODY(text) (text), sizeof(text) - 1

static void expect_fields(const void *body, size_t n, const char *severity,
                          const char *sqlstate)
{
    struct error_fields fields = read_body(body, n);

    cr_expect_str_eq(fields.severity, severity, "%s", fields.severity);
    cr_expect_str_eq(fields.sqlstate, sqlstate, "%s", fields.sqlstate);
}

Test(error, reads_severity_and_code)
{
    expect_fields(BODY("SFATAL\0VFATAL\0C57P03\0Mstarting up\0\0"), "FATAL", "57P03");
    expect_fields(BODY("C28P01\0Mwrong\0SFATAL\0\0"), "FATAL", "28P01");
}

Test(error, prefers_the_severity_that_is_not_translated)
{
    expect_fields(BODY("SSCHWERWIEGEND\0VFATAL\0C57P03\0\0"), "FATAL", "57P03");
    expect_fields(BODY("VFATAL\0SSCHWERWIEGEND\0C57P03\0\0"), "FATAL", "57P03");
    expect_fields(BODY("SFATAL\0C57P03\0\0"), "FATAL", "57P03");
}

Test(error, reads_nothing_from_fields_that_are_missing)
{
    expect_fields(BODY(""), "", "");
    expect_fields(BODY("\0"), "", "");
    expect_fields(BODY("Mtext\0\0"), "", "");
    expect_fields(BODY("SFATAL\0\0"), "FATAL", "");
    expect_fields(BODY("C57P03\0\0"), "", "57P03");
    expect_fields(BODY("S\0C\0\0"), "", "");
}

Test(error, reads_nothing_from_a_field_without_an_end)
{
    expect_fields(BODY("S"), "", "");
    expect_fields(BODY("SFATAL"), "", "");
    expect_fields(BODY("SFATAL\0C57P03"), "FATAL", "");
    expect_fields(BODY("SFATAL\0C"), "FATAL", "");
}

Test(error, reads_nothing_behind_the_end_of_the_message)
{
    expect_fields(BODY("SFATAL\0\0C57P03\0"), "FATAL", "");
}

Test(error, cuts_fields_that_are_too_long)
{
    struct error_fields fields;
    char body[4096];

    memset(body, 'A', sizeof body);
    body[0] = 'V';
    body[2000] = '\0';
    body[2001] = 'C';
    body[4094] = body[4095] = '\0';
    fields = read_body(body, sizeof body);
    cr_expect_str_eq(fields.severity, "AAAAAAAAAAAAAAA");
    cr_expect_str_eq(fields.sqlstate, "AAAAA");
}

Test(error, reads_what_it_writes)
{
    uint8_t bytes[ERROR_BYTES_MAX];
    size_t n = error_write("53300", "too many clients", "wait", bytes);

    expect_fields(bytes + 5, n - 5, "FATAL", "53300");
    for (size_t cut = 0; cut < n - 5; cut++) /* as far as it is there */
        (void)read_body(bytes + 5, cut);
}
