#include "wire/auth.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/packets.h"
#include "wire/startup.h"

TestSuite(auth, .timeout = 30);

/* The bytes in memory that ends behind them, so that a sanitizer sees a look beyond. */
static uint8_t *copy_of(const void *bytes, size_t n)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);

    memcpy(copy, bytes, n);
    return copy;
}

static struct scram_message message_of(const char *text)
{
    struct scram_message message = {.n = strlen(text)};

    memcpy(message.bytes, text, message.n);
    return message;
}

/* ---- written ------------------------------------------------------------------------
 */

static void expect_message(const uint8_t *bytes, size_t n, char type, const void *body,
                           size_t n_body)
{
    struct packet wanted = {0};

    packet_add_message(&wanted, type, body, n_body);
    cr_assert_eq(n, wanted.n);
    cr_expect_eq(memcmp(bytes, wanted.bytes, n), 0);
}

Test(auth, writes_what_a_client_is_asked_for)
{
    static const uint8_t salt[4] = {0xff, 0, 1, 2};
    struct scram_message message = message_of("r=abc,s=AAAA,i=1");
    struct scram_message nothing = {0};
    uint8_t bytes[AUTH_BYTES_MAX];

    expect_message(bytes, auth_write_request(AUTH_OK, bytes), 'R', "\0\0\0\0", 4);
    expect_message(bytes, auth_write_request(AUTH_CLEARTEXT, bytes), 'R', "\0\0\0\3", 4);
    expect_message(bytes, auth_write_md5(salt, bytes), 'R', "\0\0\0\5\xff\0\1\2", 8);
    expect_message(bytes, auth_write_challenge(AUTH_SASL_CONTINUE, &message, bytes), 'R',
                   "\0\0\0\x0br=abc,s=AAAA,i=1", 20);
    expect_message(bytes, auth_write_challenge(AUTH_SASL_FINAL, &message, bytes), 'R',
                   "\0\0\0\x0cr=abc,s=AAAA,i=1", 20);
    expect_message(bytes, auth_write_challenge(AUTH_SASL_CONTINUE, &nothing, bytes), 'R',
                   "\0\0\0\x0b", 4);
}

Test(auth, names_the_strongest_mechanism_first)
{
    uint8_t bytes[AUTH_BYTES_MAX];

    expect_message(bytes, auth_write_sasl(SCRAM_SHA_256, bytes), 'R',
                   "\0\0\0\x0aSCRAM-SHA-256\0", 19);
    expect_message(bytes, auth_write_sasl(SCRAM_SHA_256 | SCRAM_SHA_256_PLUS, bytes), 'R',
                   "\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0", 38);
}

Test(auth, offers_no_empty_list, .signal = SIGABRT)
{
    uint8_t bytes[AUTH_BYTES_MAX];

    auth_write_sasl(0, bytes);
}

Test(auth, writes_what_a_server_asks_for)
{
    struct scram_message message = message_of("n,,n=,r=abc");
    uint8_t bytes[AUTH_BYTES_MAX];

    expect_message(bytes, auth_write_password("pencil", 6, bytes), 'p', "pencil", 7);
    expect_message(bytes, auth_write_choice(SCRAM_SHA_256, &message, bytes), 'p',
                   "SCRAM-SHA-256\0\0\0\0\x0bn,,n=,r=abc", 29);
    expect_message(bytes, auth_write_choice(SCRAM_SHA_256_PLUS, &message, bytes), 'p',
                   "SCRAM-SHA-256-PLUS\0\0\0\0\x0bn,,n=,r=abc", 34);
    expect_message(bytes, auth_write_response(&message, bytes), 'p', "n,,n=,r=abc", 11);
}

Test(auth, the_longest_messages_have_room)
{
    struct scram_message message = {.n = SCRAM_OUTPUT_MAX};
    uint8_t *bytes = malloc(AUTH_BYTES_MAX), *password = malloc(SECRET_BYTES_MAX + 6);
    static char text[SECRET_BYTES_MAX];

    memset(message.bytes, 'x', sizeof message.bytes);
    memset(text, 'x', sizeof text);
    cr_expect_eq(auth_write_choice(SCRAM_SHA_256_PLUS, &message, bytes),
                 5 + 19 + 4 + SCRAM_OUTPUT_MAX);
    cr_expect_eq(auth_write_challenge(AUTH_SASL_FINAL, &message, bytes),
                 9 + SCRAM_OUTPUT_MAX);
    cr_expect_eq(auth_write_password(text, sizeof text, password), sizeof text + 6);
    free(bytes);
    free(password);
}

/* ---- a client's password ------------------------------------------------------------
 */

static void expect_password(const void *body, size_t n, const char *wanted)
{
    uint8_t *copy = copy_of(body, n);
    const char *password = NULL;

    cr_expect_eq(auth_read_password(copy, n, &password), wanted != NULL);
    if (wanted != NULL)
        cr_expect_str_eq(password, wanted);
    else
        cr_expect_null(password);
    free(copy);
}

Test(auth, reads_a_password_that_ends_with_its_only_zero)
{
    expect_password("pencil", 7, "pencil");
    expect_password("", 1, "");
    expect_password("", 0, NULL);
    expect_password("pencil", 6, NULL);
    expect_password("pen\0cil", 8, NULL);
    expect_password("pencil\0", 8, NULL);
    expect_password("\0\0", 2, NULL);
    expect_password("\0x", 2, NULL);
}

Test(auth, reads_no_overlong_password)
{
    static char body[AUTH_PASSWORD_MAX + 1];
    static char wanted[AUTH_PASSWORD_MAX];

    memset(wanted, 'x', AUTH_PASSWORD_MAX - 1);
    expect_password(wanted, AUTH_PASSWORD_MAX, wanted);
    memset(body, 'x', AUTH_PASSWORD_MAX);
    expect_password(body, AUTH_PASSWORD_MAX + 1, NULL);
}

/* ---- a client's choice --------------------------------------------------------------
 */

static bool read_choice(const void *body, size_t n, struct auth_choice *choice)
{
    uint8_t *copy = copy_of(body, n);
    bool ok = auth_read_choice(copy, n, choice);

    if (ok) {
        cr_assert(choice->name == (const char *)copy);
        cr_assert_eq(strlen(choice->name) + 1 + 4 + choice->n, n);
        if (choice->data != NULL)
            cr_assert(choice->data + choice->n == copy + n);
    }
    free(copy);
    return ok;
}

Test(auth, reads_a_choice)
{
    static const char plus[] = "SCRAM-SHA-256-PLUS\0\0\0\0\5n,,n=";
    static const char plain[] = "SCRAM-SHA-256\0\0\0\0\5n,,n=";
    static const char other[] = "OAUTHBEARER\0\0\0\0\5n,,n=";
    struct auth_choice choice = {0};

    cr_assert(read_choice(plus, sizeof plus - 1, &choice));
    cr_expect_eq(choice.mechanism, SCRAM_SHA_256_PLUS);
    cr_expect_eq(choice.n, 5);
    cr_assert(read_choice(plain, sizeof plain - 1, &choice));
    cr_expect_eq(choice.mechanism, SCRAM_SHA_256);
    cr_assert(read_choice(other, sizeof other - 1, &choice));
    cr_expect_eq(choice.mechanism, SCRAM_NO_MECHANISM);
    cr_assert(read_choice("\0\0\0\0\0", 5, &choice));
    cr_expect_eq(choice.mechanism, SCRAM_NO_MECHANISM);
    cr_assert(read_choice("SCRAM-SHA-256 \0\0\0\0\0", 19, &choice));
    cr_expect_eq(choice.mechanism, SCRAM_NO_MECHANISM);
}

Test(auth, no_data_is_another_thing_than_empty_data)
{
    struct auth_choice choice = {0};

    cr_assert(read_choice("SCRAM-SHA-256\0\xff\xff\xff\xff", 18, &choice));
    cr_expect_null(choice.data);
    cr_expect_eq(choice.n, 0);
    cr_assert(read_choice("SCRAM-SHA-256\0\0\0\0\0", 18, &choice));
    cr_expect_not_null(choice.data);
    cr_expect_eq(choice.n, 0);
}

static void expect_no_choice(const void *body, size_t n)
{
    struct auth_choice choice = {.n = 99};

    cr_expect_not(read_choice(body, n, &choice), "%zu", n);
    cr_expect(choice.name == NULL && choice.n == 99, "untouched");
}

Test(auth, a_choice_whose_parts_do_not_add_up_is_none)
{
    static const char whole[] = "SCRAM-SHA-256\0\0\0\0\5n,,n=";

    for (size_t n = 0; n < sizeof whole - 1; n++)
        expect_no_choice(whole, n);
    expect_no_choice(whole, sizeof whole); /* a byte behind it */
    expect_no_choice("SCRAM-SHA-256", 13); /* without its zero */
    expect_no_choice("SCRAM-SHA-256\0\0\0\0\6n,,n=", 23);
    expect_no_choice("SCRAM-SHA-256\0\0\0\0\4n,,n=", 23);
    expect_no_choice("SCRAM-SHA-256\0\xff\xff\xff\xffn,,n=", 23);
    expect_no_choice("SCRAM-SHA-256\0\xff\xff\xff\xfen,,n=", 23);
    expect_no_choice("SCRAM-SHA-256\0\x80\0\0\5n,,n=", 23);
    expect_no_choice("SCRAM-SHA-256\0\x7f\xff\xff\xffn,,n=", 23);
}

Test(auth, overlong_choices_and_responses_are_refused)
{
    static uint8_t body[AUTH_SASL_MAX + 1];
    static const char name[] = "SCRAM-SHA-256-PLUS";
    struct auth_choice choice;
    size_t n_data = AUTH_SASL_MAX - sizeof name - 4;

    memcpy(body, name, sizeof name);
    wire_write_u32(body + sizeof name, (uint32_t)n_data);
    cr_expect(read_choice(body, AUTH_SASL_MAX, &choice));
    cr_expect_geq(n_data, SCRAM_INPUT_MAX, "all that SCRAM takes");
    wire_write_u32(body + sizeof name, (uint32_t)n_data + 1);
    expect_no_choice(body, AUTH_SASL_MAX + 1);
    cr_expect(auth_read_response(body, AUTH_SASL_MAX));
    cr_expect(auth_read_response(body, 1));
    cr_expect_not(auth_read_response(body, AUTH_SASL_MAX + 1));
    cr_expect_not(auth_read_response(body, 0));
    cr_expect_not(auth_read_response(NULL, 0));
}

/* ---- a server's request -------------------------------------------------------------
 */

static struct auth_request read_request(const void *body, size_t n)
{
    uint8_t *copy = copy_of(body, n);
    struct auth_request request = auth_read_request(copy, n);

    if (request.kind == AUTH_SASL_CONTINUE || request.kind == AUTH_SASL_FINAL)
        cr_assert(request.data == copy + 4 && request.n == n - 4);
    else
        cr_assert(request.data == NULL && request.n == 0);
    free(copy);
    return request;
}

static void expect_kind(const void *body, size_t n, enum auth_kind kind)
{
    cr_expect_eq(read_request(body, n).kind, kind, "%zu bytes", n);
}

Test(auth, reads_what_a_server_asks_for)
{
    struct auth_request request;

    expect_kind("\0\0\0\0", 4, AUTH_OK);
    expect_kind("\0\0\0\3", 4, AUTH_CLEARTEXT);
    request = read_request("\0\0\0\5\xff\0\1\2", 8);
    cr_expect_eq(request.kind, AUTH_MD5);
    cr_expect_eq(memcmp(request.salt, "\xff\0\1\2", 4), 0);
    expect_kind("\0\0\0\x0br=abc", 9, AUTH_SASL_CONTINUE);
    expect_kind("\0\0\0\x0b", 4, AUTH_SASL_CONTINUE);
    expect_kind("\0\0\0\x0cv=abc", 9, AUTH_SASL_FINAL);
}

static void expect_offer(const void *body, size_t n, unsigned mechanisms)
{
    struct auth_request request = read_request(body, n);

    cr_expect_eq(request.kind, AUTH_SASL);
    cr_expect_eq(request.mechanisms, mechanisms);
}

Test(auth, knows_the_mechanisms_among_others)
{
    static const char both[] = "\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0";
    static const char third[] = "\0\0\0\x0aOAUTHBEARER\0SCRAM-SHA-256\0";
    static const char none[] = "\0\0\0\x0aOAUTHBEARER\0";

    expect_offer("\0\0\0\x0aSCRAM-SHA-256\0", 19, SCRAM_SHA_256);
    expect_offer(both, sizeof both, SCRAM_SHA_256 | SCRAM_SHA_256_PLUS);
    expect_offer(third, sizeof third, SCRAM_SHA_256);
    expect_offer(none, sizeof none, 0);
    expect_offer("\0\0\0\x0a", 5, 0);
}

Test(auth, a_list_without_its_zeros_is_malformed)
{
    static const char both[] = "\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0";

    for (size_t n = 0; n < sizeof both; n++)
        expect_kind(both, n, AUTH_MALFORMED);
    expect_kind("\0\0\0\x0aSCRAM-SHA-256\0\0", 20, AUTH_MALFORMED);
    expect_kind("\0\0\0\x0aSCRAM-SHA-256\0\0x", 21, AUTH_MALFORMED);
}

Test(auth, a_request_that_is_too_long_or_too_short_is_malformed)
{
    static uint8_t body[AUTH_SASL_MAX + 5] = {0, 0, 0, 11};

    expect_kind("", 0, AUTH_MALFORMED);
    expect_kind("\0\0\0", 3, AUTH_MALFORMED);
    expect_kind("\0\0\0\0\0", 5, AUTH_MALFORMED);
    expect_kind("\0\0\0\3\0", 5, AUTH_MALFORMED);
    expect_kind("\0\0\0\5\0\0\0", 7, AUTH_MALFORMED);
    expect_kind("\0\0\0\5\0\0\0\0\0", 9, AUTH_MALFORMED);
    expect_kind(body, sizeof body, AUTH_MALFORMED);
    expect_kind(body, sizeof body - 1, AUTH_SASL_CONTINUE);
    body[3] = 12;
    expect_kind(body, sizeof body, AUTH_MALFORMED);
}

Test(auth, what_we_do_not_do_is_named_by_its_code)
{
    static const uint32_t codes[] = {
        1,  2,   4,   6,   7,        8,          9,          13,
        14, 100, 101, 256, 10 + 256, 0x7fffffff, 0xffffffff, 0x0a000000};

    for (size_t i = 0; i < COUNT_OF(codes); i++) {
        uint8_t body[6];
        struct auth_request request;

        wire_write_u32(body, codes[i]);
        request = read_request(body, 4);
        cr_expect_eq(request.kind, AUTH_UNSUPPORTED, "%u", codes[i]);
        cr_expect_eq(request.code, codes[i]);
        expect_kind(body, 6, AUTH_UNSUPPORTED);
    }
}

/* What one side writes the other reads. */
Test(auth, reads_what_it_writes)
{
    struct scram_message message = message_of("c=biws");
    uint8_t bytes[AUTH_BYTES_MAX];
    struct auth_choice choice;
    const char *password;
    size_t n;

    n = auth_write_sasl(SCRAM_SHA_256_PLUS, bytes);
    expect_offer(bytes + 5, n - 5, SCRAM_SHA_256_PLUS);
    n = auth_write_challenge(AUTH_SASL_FINAL, &message, bytes);
    expect_kind(bytes + 5, n - 5, AUTH_SASL_FINAL);
    n = auth_write_choice(SCRAM_SHA_256_PLUS, &message, bytes);
    cr_assert(auth_read_choice(bytes + 5, n - 5, &choice));
    cr_expect_eq(choice.mechanism, SCRAM_SHA_256_PLUS);
    cr_expect_eq(choice.n, message.n);
    n = auth_write_password("pencil", 6, bytes);
    cr_assert(auth_read_password(bytes + 5, n - 5, &password));
    cr_expect_str_eq(password, "pencil");
}
