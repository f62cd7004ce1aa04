#include "wire/secret.h"

#include <criterion/criterion.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/crypto_fault.h"
#include "wire/base64.h"

TestSuite(secret, .timeout = 60);

/* Made by PostgreSQL 15 for the password "pencil", of alice and md5user. */
#define SCRAM_SECRET \
    "SCRAM-SHA-256$4096:zJqqAY+t5DxZw/+iE0JsaA==$+Qp6rLddf49l5mR04egwL0h2umNuJY4en9C4" \
    "PS5Qtj8=:ZWc9xOjQ0poZ5EHEVBudDh83nMIz4uIo9BCHDds9J28="
#define MD5_SECRET "md50098e7fab7b4d8d091067152a80b3f12"

/* Reads from memory that ends where the text ends; what it is made of is not kept. */
static enum secret_fault parse_n(const char *text, size_t n, struct secret *secret)
{
    char *copy = malloc(n > 0 ? n : 1);
    enum secret_fault fault;

    memcpy(copy, text, n);
    fault = secret_parse(copy, n, secret);
    free(copy);
    return fault;
}

/* Whether all `n` bytes of something are `byte`. */
static bool is_all(const void *bytes, size_t n, uint8_t byte)
{
    for (size_t i = 0; i < n; i++) {
        if (((const uint8_t *)bytes)[i] != byte)
            return false;
    }
    return true;
}

static struct secret parsed(const char *text)
{
    struct secret secret;

    memset(&secret, 'x', sizeof secret);
    cr_assert_eq(secret_parse(text, strlen(text), &secret), SECRET_FINE, "%s", text);
    return secret;
}

/* ---- reading ------------------------------------------------------------------------
 */

Test(secret, a_scram_secret_of_postgresql_is_read)
{
    struct secret secret = parsed(SCRAM_SECRET);
    struct scram_keys keys;

    cr_assert_eq(secret.kind, SECRET_SCRAM);
    cr_expect_eq(secret.scram.salt.iterations, 4096);
    cr_expect_eq(secret.scram.salt.n, 16);
    cr_expect_eq(secret.scram.salt.bytes[0], 0xcc);
    cr_expect_not(secret.scram.is_mock);
    cr_assert(scram_keys_from_password("pencil", 6, &secret.scram.salt, &keys));
    cr_expect(scram_verifier_accepts(&secret.scram, &keys));
    cr_expect_eq(memcmp(keys.server_key, secret.scram.server_key, SCRAM_KEY_BYTES), 0);
    cr_assert(scram_keys_from_password("pencil ", 7, &secret.scram.salt, &keys));
    cr_expect_not(scram_verifier_accepts(&secret.scram, &keys));
}

Test(secret, an_md5_secret_of_postgresql_is_read)
{
    struct secret secret = parsed(MD5_SECRET);
    char hash[SECRET_MD5_BYTES];

    cr_assert_eq(secret.kind, SECRET_MD5);
    cr_expect_str_eq(secret.md5, MD5_SECRET);
    cr_assert(secret_hash_md5("pencil", 6, "md5user", hash));
    cr_expect_str_eq(hash, MD5_SECRET);
}

Test(secret, everything_else_is_plain_text)
{
    static const char *const texts[] = {
        "pencil",
        "m",
        "md5",
        " ",
        "md50098e7fab7b4d8d091067152a80b3f1",   /* a digit less */
        "md50098e7fab7b4d8d091067152a80b3f122", /* a digit more */
        "md50098e7fab7b4d8d091067152a80b3f1g",
        "md50098E7FAB7B4D8D091067152A80B3F12", /* PostgreSQL writes small ones */
        "MD50098e7fab7b4d8d091067152a80b3f12",
        "SCRAM-SHA-256",
        "SCRAM-SHA-512$4096:zJqqAY+t5DxZw/+iE0JsaA==$a:b",
        "scram-sha-256$4096:zJqqAY+t5DxZw/+iE0JsaA==$a:b",
        "p\u00e4ssw\u00f6rd",
        "\xff\xfe",
    };

    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        struct secret secret = parsed(texts[i]);

        cr_expect_eq(secret.kind, SECRET_PLAIN, "%s", texts[i]);
        cr_expect_eq(secret.plain, texts[i]);
        cr_expect_eq(secret.n_plain, strlen(texts[i]));
    }
}

Test(secret, an_empty_text_is_no_password)
{
    struct secret secret = parsed("");

    cr_expect_eq(secret.kind, SECRET_NONE);
    cr_expect_eq(secret_parse(NULL, 0, &secret), SECRET_FINE);
    cr_expect_eq(secret.kind, SECRET_NONE);
}

#define KEYS \
    "$+Qp6rLddf49l5mR04egwL0h2umNuJY4en9C4PS5Qtj8=:ZWc9xOjQ0poZ5EHEVBudDh83nMIz4uIo9B" \
    "CHDds9J28="

static void expect_fault(const char *text, size_t n, enum secret_fault fault)
{
    struct secret secret;

    memset(&secret, 'x', sizeof secret);
    cr_expect_eq(parse_n(text, n, &secret), fault, "%.*s", (int)n, text);
    cr_expect(is_all(&secret, sizeof secret, 'x'), "untouched");
}

Test(secret, a_damaged_scram_secret_is_no_password)
{
    static const char *const texts[] = {
        "SCRAM-SHA-256$",
        "SCRAM-SHA-256$$",
        "SCRAM-SHA-256$4096",
        "SCRAM-SHA-256$4096:",
        "SCRAM-SHA-256$4096:$:",
        "SCRAM-SHA-256$4096:" KEYS, /* no salt */
        "SCRAM-SHA-256$:AAAA" KEYS,
        "SCRAM-SHA-256$0:AAAA" KEYS,
        "SCRAM-SHA-256$-1:AAAA" KEYS,
        "SCRAM-SHA-256$+1:AAAA" KEYS,
        "SCRAM-SHA-256$ 1:AAAA" KEYS,
        "SCRAM-SHA-256$04096:AAAA" KEYS,
        "SCRAM-SHA-256$1x:AAAA" KEYS,
        "SCRAM-SHA-256$0x1000:AAAA" KEYS,
        "SCRAM-SHA-256$10000001:AAAA" KEYS,
        "SCRAM-SHA-256$4294967297:AAAA" KEYS,
        "SCRAM-SHA-256$99999999999999999999999:AAAA" KEYS,
        "SCRAM-SHA-256$4096:AAA" KEYS,
        "SCRAM-SHA-256$4096:A A=" KEYS,
        "SCRAM-SHA-256$4096:AAAA" KEYS "=",
        "SCRAM-SHA-256$4096:AAAA" KEYS " ",
        "SCRAM-SHA-256$4096:AAAA" KEYS ":AAAA",
        "SCRAM-SHA-256$4096:AAAA" KEYS "$",
        "SCRAM-SHA-256$4096:AAAA$AAAA:AAAA", /* short keys */
        "SCRAM-SHA-256$4096$AAAA" KEYS,
        "SCRAM-SHA-256$4096:AAAA:AAAA:AAAA",
    };

    for (size_t i = 0; i < COUNT_OF(texts); i++)
        expect_fault(texts[i], strlen(texts[i]), SECRET_DAMAGED);
    cr_expect_eq(parsed("SCRAM-SHA-256$1:AAAA" KEYS).scram.salt.n, 3);
    cr_expect_eq(parsed("SCRAM-SHA-256$10000000:AAAA" KEYS).scram.salt.iterations,
                 10000000);
}

Test(secret, a_scram_secret_that_is_cut_off_anywhere_is_damaged)
{
    size_t n = strlen(SCRAM_SECRET), n_prefix = strlen("SCRAM-SHA-256$");
    struct secret secret;

    for (size_t i = n_prefix; i < n; i++)
        expect_fault(SCRAM_SECRET, i, SECRET_DAMAGED);
    for (size_t i = 1; i < n_prefix; i++) {
        cr_assert_eq(parse_n(SCRAM_SECRET, i, &secret), SECRET_FINE);
        cr_assert_eq(secret.kind, SECRET_PLAIN);
    }
}

static bool is_same(const struct scram_verifier *a, const struct scram_verifier *b)
{
    return scram_salt_is_equal(&a->salt, &b->salt) &&
           memcmp(a->stored_key, b->stored_key, SCRAM_KEY_BYTES) == 0 &&
           memcmp(a->server_key, b->server_key, SCRAM_KEY_BYTES) == 0;
}

Test(secret, a_scram_secret_with_another_byte_is_another_or_damaged)
{
    char text[] = SCRAM_SECRET;
    struct secret whole = parsed(text), secret;

    for (size_t i = strlen("SCRAM-SHA-256$"); i < sizeof text - 1; i++) {
        char right = text[i];

        for (int byte = 1; byte < 256; byte++) {
            text[i] = (char)byte;
            if (text[i] == right ||
                parse_n(text, sizeof text - 1, &secret) != SECRET_FINE)
                continue;
            cr_assert_eq(secret.kind, SECRET_SCRAM);
            cr_assert_not(is_same(&secret.scram, &whole.scram), "%s", text);
        }
        text[i] = right;
    }
}

static void expect_salt(size_t n_salt, enum secret_fault fault)
{
    static uint8_t salt[300];
    char text[1000] = "SCRAM-SHA-256$4096:";
    size_t at = strlen(text);

    at += base64_write(salt, n_salt, text + at);
    memcpy(text + at, KEYS, sizeof KEYS);
    if (fault == SECRET_FINE)
        cr_expect_eq(parsed(text).scram.salt.n, n_salt);
    else
        expect_fault(text, strlen(text), fault);
}

Test(secret, has_limits)
{
    static char text[SECRET_BYTES_MAX + 1];
    struct secret secret;

    expect_salt(1, SECRET_FINE);
    expect_salt(SCRAM_SALT_MAX, SECRET_FINE);
    expect_salt(SCRAM_SALT_MAX + 1, SECRET_DAMAGED);
    expect_salt(256 + 16, SECRET_DAMAGED);
    memset(text, 'x', sizeof text);
    cr_expect_eq(parse_n(text, SECRET_BYTES_MAX, &secret), SECRET_FINE);
    expect_fault(text, SECRET_BYTES_MAX + 1, SECRET_TOO_LONG);
    expect_fault("pen\0cil", 7, SECRET_HAS_ZERO);
    expect_fault("pencil", 7, SECRET_HAS_ZERO);
    expect_fault(MD5_SECRET, strlen(MD5_SECRET) + 1, SECRET_HAS_ZERO);
    expect_fault(SCRAM_SECRET, strlen(SCRAM_SECRET) + 1, SECRET_HAS_ZERO);
}

Test(secret, says_what_is_wrong)
{
    for (int fault = SECRET_FINE; fault <= SECRET_DAMAGED; fault++)
        cr_expect_gt(strlen(secret_fault_text((enum secret_fault)fault)), 3);
}

/* ---- MD5 ----------------------------------------------------------------------------
 */

static const uint8_t salt[SECRET_MD5_SALT_BYTES] = {1, 0, 0xfe, 0x7f};
/* "md5" and the MD5 of MD5(pencil md5user) and this salt, as Python's hashlib says it. */
#define ANSWER "md56cc19f695f701414ad318fe6bfe62d3d"

Test(secret, answers_to_an_md5_salt_from_plain_text_and_from_a_hash)
{
    struct secret plain = parsed("pencil"), hash = parsed(MD5_SECRET);
    char answer[SECRET_MD5_BYTES];

    cr_assert(secret_answer_md5(&plain, "md5user", salt, answer));
    cr_expect_str_eq(answer, ANSWER);
    answer[4] = 'x';
    cr_assert(secret_answer_md5(&hash, "md5user", salt, answer));
    cr_expect_str_eq(answer, ANSWER);
    cr_assert(secret_answer_md5(&plain, "md5user2", salt, answer));
    cr_expect_str_neq(answer, ANSWER);
}

Test(secret, has_no_answer_to_md5_without_password_or_with_scram)
{
    struct secret none = {0}, scram = parsed(SCRAM_SECRET);
    char answer[SECRET_MD5_BYTES] = "untouched";

    cr_expect_not(secret_answer_md5(&none, "alice", salt, answer));
    cr_expect_not(secret_answer_md5(&scram, "alice", salt, answer));
    cr_expect_str_eq(answer, "untouched");
}

static void expect_md5(const struct secret *secret, const char *answer, bool is_right)
{
    cr_expect_eq(secret_accepts_md5(secret, "md5user", salt, answer), is_right, "%s",
                 answer);
}

Test(secret, accepts_the_right_answer_to_an_md5_salt_alone)
{
    struct secret secrets[] = {parsed("pencil"), parsed(MD5_SECRET)};

    for (size_t i = 0; i < COUNT_OF(secrets); i++) {
        char answer[] = ANSWER;

        expect_md5(&secrets[i], ANSWER, true);
        expect_md5(&secrets[i], "", false);
        expect_md5(&secrets[i], "md5", false);
        expect_md5(&secrets[i], ANSWER "0", false);
        expect_md5(&secrets[i], "6cc19f695f701414ad318fe6bfe62d3d", false);
        expect_md5(&secrets[i], "MD56CC19F695F701414AD318FE6BFE62D3D", false);
        expect_md5(&secrets[i], MD5_SECRET, false);
        expect_md5(&secrets[i], "pencil", false);
        for (size_t k = 0; k < sizeof answer - 1; k++) {
            answer[k] ^= 1;
            expect_md5(&secrets[i], answer, false);
            answer[k] ^= 1;
        }
    }
}

Test(secret, another_user_or_salt_has_another_answer)
{
    static const uint8_t other_salt[SECRET_MD5_SALT_BYTES] = {1, 0, 0xfe, 0x7e};
    struct secret plain = parsed("pencil");

    cr_expect(secret_accepts_md5(&plain, "md5user", salt, ANSWER));
    cr_expect_not(secret_accepts_md5(&plain, "md5use", salt, ANSWER));
    cr_expect_not(secret_accepts_md5(&plain, "md5user", other_salt, ANSWER));
}

/* The answer that would be right if it were a kind that has none. */
Test(secret, no_answer_is_right_for_secrets_that_have_none)
{
    struct secret empty = {0}, scram = parsed(SCRAM_SECRET);
    struct secret plain = {.kind = SECRET_PLAIN, .plain = "", .n_plain = 0};
    char answer[SECRET_MD5_BYTES];

    cr_assert(secret_answer_md5(&plain, "md5user", salt, answer));
    expect_md5(&empty, answer, false);
    expect_md5(&scram, answer, false);
}

/* ---- clear text ---------------------------------------------------------------------
 */

Test(secret, accepts_the_right_password_alone)
{
    struct secret secrets[] = {parsed("pencil"), parsed(MD5_SECRET)};
    static const char *const wrong[] = {"",       "penci",    "pencil ",
                                        "Pencil", "pencim",   "qencil",
                                        ANSWER,   MD5_SECRET, "pencil\n"};

    for (size_t i = 0; i < COUNT_OF(secrets); i++) {
        cr_expect(secret_accepts_plain(&secrets[i], "md5user", "pencil"));
        for (size_t k = 0; k < COUNT_OF(wrong); k++)
            cr_expect_not(secret_accepts_plain(&secrets[i], "md5user", wrong[k]), "%s",
                          wrong[k]);
    }
    cr_expect(secret_accepts_plain(&secrets[0], "other", "pencil"));
    cr_expect_not(secret_accepts_plain(&secrets[1], "other", "pencil"),
                  "a hash is of one user");
}

Test(secret, the_empty_password_is_never_right)
{
    char hash[SECRET_MD5_BYTES];
    struct secret of_empty;

    cr_assert(secret_hash_md5("", 0, "md5user", hash));
    of_empty = parsed(hash);
    cr_expect_eq(of_empty.kind, SECRET_MD5);
    cr_expect_not(secret_accepts_plain(&of_empty, "md5user", ""));
}

Test(secret, no_password_is_right_for_secrets_that_clear_text_cannot_be_checked_with)
{
    struct secret none = {0}, scram = parsed(SCRAM_SECRET);

    cr_expect_not(secret_accepts_plain(&none, "alice", ""));
    cr_expect_not(secret_accepts_plain(&none, "alice", "pencil"));
    cr_expect_not(secret_accepts_plain(&scram, "alice", ""));
    cr_expect_not(secret_accepts_plain(&scram, "alice", "pencil"));
    cr_expect_not(secret_accepts_plain(&scram, "alice", SCRAM_SECRET));
}

/* ---- nobody's -----------------------------------------------------------------------
 */

#define HOUSE_KEY (const uint8_t *)"a key of this house", 19

Test(secret, a_mock_looks_the_same_on_every_attempt_and_fits_nobody)
{
    struct secret mock = {0}, again = {0}, other = {0};
    struct scram_keys keys;

    cr_assert(secret_mock(HOUSE_KEY, "alice", 4096, &mock));
    cr_assert(secret_mock(HOUSE_KEY, "alice", 4096, &again));
    cr_assert(secret_mock(HOUSE_KEY, "bob", 4096, &other));
    cr_expect_eq(mock.kind, SECRET_SCRAM);
    cr_expect(mock.scram.is_mock);
    cr_expect_eq(mock.scram.salt.n, 16);
    cr_expect_eq(mock.scram.salt.iterations, 4096);
    cr_expect(scram_salt_is_equal(&mock.scram.salt, &again.scram.salt));
    cr_expect_not(scram_salt_is_equal(&mock.scram.salt, &other.scram.salt));
    cr_assert(scram_keys_from_password("pencil", 6, &mock.scram.salt, &keys));
    cr_expect_not(scram_verifier_accepts(&mock.scram, &keys));
    cr_assert(scram_verifier_from_keys(&keys, &mock.scram));
    mock.scram.is_mock = true;
    cr_expect_not(scram_verifier_accepts(&mock.scram, &keys), "whatever its keys are");
}

Test(secret, nothing_is_left_of_what_is_cleared)
{
    struct secret secret = parsed(SCRAM_SECRET);

    secret_clear(&secret);
    cr_expect(is_all(&secret, sizeof secret, 0));
}

/* ---- libcrypto without memory -------------------------------------------------------
 */

static void check_once(void *arg)
{
    struct secret secrets[] = {parsed("pencil"), parsed(MD5_SECRET)};
    char answer[SECRET_MD5_BYTES];
    struct secret mock;

    (void)arg;
    for (size_t i = 0; i < COUNT_OF(secrets); i++) {
        if (secret_answer_md5(&secrets[i], "md5user", salt, answer))
            cr_assert_str_eq(answer, ANSWER);
        cr_assert_not(secret_accepts_md5(&secrets[i], "md5user", salt, MD5_SECRET));
        cr_assert_not(secret_accepts_plain(&secrets[i], "md5user", "pencil "));
        cr_assert_not(secret_accepts_plain(&secrets[i], "md5user", ""));
        (void)secret_accepts_md5(&secrets[i], "md5user", salt, ANSWER);
        (void)secret_accepts_plain(&secrets[i], "md5user", "pencil");
    }
    if (secret_mock(HOUSE_KEY, "alice", 4096, &mock))
        cr_assert_eq(mock.scram.salt.n, 16);
}

Test(secret, an_allocation_that_fails_lets_nobody_in)
{
    cr_expect_gt(crypto_fault_each(check_once, NULL), 10);
}

/* A machine on which MD5 is forbidden. */
Test(secret, without_md5_plain_text_is_still_checked)
{
    struct secret plain = parsed("pencil"), hash = parsed(MD5_SECRET);
    char answer[SECRET_MD5_BYTES];

    cr_assert_eq(EVP_set_default_properties(NULL, "fips=yes"), 1);
    cr_expect_not(secret_answer_md5(&plain, "md5user", salt, answer));
    cr_expect_not(secret_accepts_md5(&plain, "md5user", salt, ANSWER));
    cr_expect_not(secret_accepts_plain(&hash, "md5user", "pencil"));
}
