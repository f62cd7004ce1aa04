#include "wire/scram_keys.h"

#include <criterion/criterion.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/crypto_fault.h"
#include "tests/lib/fault.h"
#include "wire/base64.h"

TestSuite(scram_keys, .timeout = 60);

static struct scram_salt salt_of(const void *bytes, size_t n, uint32_t iterations)
{
    struct scram_salt salt = {.iterations = iterations, .n = (uint8_t)n};

    memcpy(salt.bytes, bytes, n);
    return salt;
}

static struct scram_keys keys_of(const char *password, size_t n,
                                 const struct scram_salt *salt)
{
    struct scram_keys keys;

    memset(&keys, 'x', sizeof keys);
    cr_assert(scram_keys_from_password(password, n, salt, &keys));
    return keys;
}

static bool are_equal(const struct scram_keys *a, const struct scram_keys *b)
{
    return scram_salt_is_equal(&a->salt, &b->salt) &&
           memcmp(a->client_key, b->client_key, SCRAM_KEY_BYTES) == 0 &&
           memcmp(a->server_key, b->server_key, SCRAM_KEY_BYTES) == 0;
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

static void expect_base64(const uint8_t bytes[SCRAM_KEY_BYTES], const char *wanted)
{
    char text[BASE64_LENGTH(SCRAM_KEY_BYTES) + 1] = "";

    base64_write(bytes, SCRAM_KEY_BYTES, text);
    cr_expect_str_eq(text, wanted);
}

/* ---- vectors ------------------------------------------------------------------------
 */

/* Secrets that PostgreSQL 15 has made with CREATE ROLE ... PASSWORD. */
static const struct {
    const char *password;
    const char *salt;
    const char *stored_key;
    const char *server_key;
} made_by_postgresql[] = {
    {"pencil", "zJqqAY+t5DxZw/+iE0JsaA==", "+Qp6rLddf49l5mR04egwL0h2umNuJY4en9C4PS5Qtj8=",
     "ZWc9xOjQ0poZ5EHEVBudDh83nMIz4uIo9BCHDds9J28="},
    /* a Roman numeral, a space that is none, a hyphen that is not seen */
    {"Gr\u00fc\u00dfe \u2168 \u00a0x\u00adyz",
     "fWClXzWkYEwhSNcB1GFvuQ==", "nKS+OKOnTC/L8wkOcv1VtmKU+JnMtOBmJ7jHx791qUo=",
     "6DK4V+Y+0VIN8eUD2/1gnTSW1+fnrG30KpWEhgZhkK0="},
    {"caf\u00e9",
     "cZZtawAbn+Ym5KSS7nbo2g==", "6kmB54nrv0cj/fP3sFKqINLKi5qKyRoUMHU+3szEqIo=",
     "1VaI2UZ6sBOjDc5MPNsEPbQRorwfgNotJtVD0uiW4bQ="},
    /* composed while it is prepared: the same password as before */
    {"cafe\u0301",
     "cZZtawAbn+Ym5KSS7nbo2g==", "6kmB54nrv0cj/fP3sFKqINLKi5qKyRoUMHU+3szEqIo=",
     "1VaI2UZ6sBOjDc5MPNsEPbQRorwfgNotJtVD0uiW4bQ="},
};

Test(scram_keys, are_those_that_postgresql_stores)
{
    for (size_t i = 0; i < COUNT_OF(made_by_postgresql); i++) {
        const char *password = made_by_postgresql[i].password;
        struct scram_salt salt = {.iterations = 4096};
        struct scram_verifier verifier = {0};
        struct scram_keys keys;
        size_t n;

        cr_assert(base64_read(made_by_postgresql[i].salt, 24, salt.bytes, 16, &n));
        salt.n = (uint8_t)n;
        keys = keys_of(password, strlen(password), &salt);
        cr_assert(scram_verifier_from_keys(&keys, &verifier));
        expect_base64(verifier.stored_key, made_by_postgresql[i].stored_key);
        expect_base64(verifier.server_key, made_by_postgresql[i].server_key);
        cr_expect_eq(memcmp(keys.server_key, verifier.server_key, SCRAM_KEY_BYTES), 0);
        cr_expect(scram_salt_is_equal(&keys.salt, &salt));
        cr_expect(scram_salt_is_equal(&verifier.salt, &salt));
        cr_expect_not(verifier.is_mock);
        cr_expect(scram_verifier_accepts(&verifier, &keys));
    }
}

/* The keys as libcrypto's own PBKDF2 makes them. */
static void expect_pbkdf2(size_t n_password, size_t n_salt, uint32_t iterations)
{
    uint8_t bytes[SCRAM_SALT_MAX], salted[SCRAM_KEY_BYTES], client_key[SCRAM_KEY_BYTES];
    char password[SCRAM_PASSWORD_MAX];
    struct scram_salt salt;
    struct scram_keys keys;

    memset(password, 'p', sizeof password);
    memset(bytes, 0x81, sizeof bytes);
    bytes[0] = 0;
    salt = salt_of(bytes, n_salt, iterations);
    keys = keys_of(password, n_password, &salt);
    cr_assert_eq(PKCS5_PBKDF2_HMAC(password, (int)n_password, bytes, (int)n_salt,
                                   (int)iterations, EVP_sha256(), sizeof salted, salted),
                 1);
    cr_assert(scram_hmac(salted, sizeof salted, "Client Key", 10, client_key));
    cr_expect_eq(memcmp(keys.client_key, client_key, sizeof client_key), 0,
                 "password of %zu, salt of %zu, %u iterations", n_password, n_salt,
                 iterations);
}

Test(scram_keys, are_those_of_libcrypto_at_the_lengths_where_something_changes)
{
    static const size_t passwords[] = {1, 63, 64, 65, 128, SCRAM_PASSWORD_MAX};

    for (size_t i = 0; i < COUNT_OF(passwords); i++)
        expect_pbkdf2(passwords[i], 16, 3);
    expect_pbkdf2(6, 1, 3);
    expect_pbkdf2(6, SCRAM_SALT_MAX, 3);
    expect_pbkdf2(6, 16, 1);
    expect_pbkdf2(6, 16, 2);
    expect_pbkdf2(6, 16, 10000);
}

/* ---- slices -------------------------------------------------------------------------
 */

Test(scram_keys, are_the_same_in_slices_of_any_size)
{
    static const uint32_t slices[] = {1, 2, 7, 999, 1000, 1001, UINT32_MAX};
    struct scram_salt salt = salt_of("0123456789abcdef", 16, 1000);
    struct scram_keys wanted = keys_of("pencil", 6, &salt);

    for (size_t i = 0; i < COUNT_OF(slices); i++) {
        struct scram_stretch stretch;
        struct scram_keys keys = {0};
        uint32_t n_turns = 0;

        cr_assert(scram_stretch_begin(&stretch, "pencil", 6, &salt));
        cr_expect_not(scram_stretch_is_done(&stretch));
        for (; !scram_stretch_is_done(&stretch); n_turns++)
            cr_assert(scram_stretch_run(&stretch, slices[i]));
        cr_expect_eq(n_turns, (1000 - 1) / slices[i] + 1);
        cr_expect(scram_stretch_run(&stretch, 5), "more does nothing");
        cr_assert(scram_stretch_keys(&stretch, &keys));
        cr_expect(are_equal(&keys, &wanted));
        scram_stretch_clear(&stretch);
    }
}

Test(scram_keys, are_not_taken_before_the_end, .signal = SIGABRT)
{
    struct scram_salt salt = salt_of("0123456789abcdef", 16, 1000);
    struct scram_stretch stretch;
    struct scram_keys keys;

    cr_assert(scram_stretch_begin(&stretch, "pencil", 6, &salt));
    cr_assert(scram_stretch_run(&stretch, 999));
    (void)!scram_stretch_keys(&stretch, &keys);
}

Test(scram_keys, of_no_password_and_of_absurd_ones_there_are_none)
{
    struct scram_salt salt = salt_of("0123456789abcdef", 16, 1);
    static char text[SCRAM_PASSWORD_MAX + 1];
    struct scram_keys keys;

    memset(text, 'x', sizeof text);
    memset(&keys, 'x', sizeof keys);
    cr_expect_not(scram_keys_from_password("", 0, &salt, &keys));
    cr_expect_not(scram_keys_from_password("a\0b", 3, &salt, &keys));
    cr_expect_not(scram_keys_from_password("ab\0", 3, &salt, &keys));
    cr_expect_not(scram_keys_from_password(text, sizeof text, &salt, &keys));
    cr_expect(is_all(&keys, sizeof keys, 'x'), "untouched");
    cr_expect(scram_keys_from_password(text, sizeof text - 1, &salt, &keys));
}

/* ---- SASLprep -----------------------------------------------------------------------
 */

/* Whether both are the same password. */
static bool are_same(const char *a, const char *b)
{
    struct scram_salt salt = salt_of("0123456789abcdef", 16, 1);
    struct scram_keys of_a = keys_of(a, strlen(a), &salt);
    struct scram_keys of_b = keys_of(b, strlen(b), &salt);

    return are_equal(&of_a, &of_b);
}

Test(scram_keys, passwords_are_prepared)
{
    static const struct {
        const char *password;
        const char *prepared;
    } same[] = {
        {"I\u00adX", "IX"}, /* these four are in RFC 4013, 3 */
        {"user", "user"},
        {"\u00aa", "a"},
        {"\u2168", "IX"},
        {"a\u00a0b", "a b"},
        {"a\u3000b", "a b"},
        {"a\u200bb", "a b"},
        {"a\ufb01b", "afib"},
        {"\u212b", "\u00c5"},
        {"e\u0301", "\u00e9"},
        {"\u0627\u0644", "\u0627\u0644"},
        {"\ufdfa", "\u0635\u0644\u0649 \u0627\u0644\u0644\u0647 \u0639\u0644\u064a\u0647"
                   " \u0648\u0633\u0644\u0645"},
        /* Hebrew that ends with a mark once it is normalized: PostgreSQL looks before */
        {"\u05d0\ufb1d\u05d0\ufb1d", "\u05d0\u05d9\u05b4\u05d0\u05d9\u05b4"},
        {"\ufb1d", "\u05d9\u05b4"},
    };

    for (size_t i = 0; i < COUNT_OF(same); i++)
        cr_expect(are_same(same[i].password, same[i].prepared), "%s", same[i].password);
    cr_expect_not(are_same("user", "USER"));
    cr_expect_not(are_same("e", "\u00e9"));
}

Test(scram_keys, what_cannot_be_prepared_is_used_as_it_is)
{
    static const struct {
        const char *why;
        const char *password;
        const char *other; /* what it would be the same as, were it prepared */
    } raw[] = {
        {"a control character", "\x07\u00a0", "\x07 "},
        {"private use", "\ue000\u00a0", "\ue000 "},
        {"a tag", "\U000e0001\u00a0", "\U000e0001 "},
        {"unassigned in Unicode 3.2", "\u0221\u00a0", "\u0221 "},
        {"younger than Unicode 3.2", "\U0001f600\u00a0", "\U0001f600 "},
        {"in two directions",
         "\u0627"
         "1\u00a0",
         "\u0627"
         "1 "},
        {"letters in two directions", "\u0627\u00aax\u0627", "\u0627ax\u0627"},
        {"nothing would be left", "\u00ad", "\u00ad\u00ad"},
        {"deprecated", "\u0340", "\u0300"},
        {"not UTF-8", "\xff\u00a0", "\xff "},
        {"UTF-8 cut off", "\u00a0\xc3", " \xc3"},
        {"overlong UTF-8", "\u00a0\xc0\xaf", " \xc0\xaf"},
        {"half a surrogate pair", "\u00a0\xed\xa0\x80", " \xed\xa0\x80"},
    };

    for (size_t i = 0; i < COUNT_OF(raw); i++)
        cr_expect_not(are_same(raw[i].password, raw[i].other), "%s", raw[i].why);
}

Test(scram_keys, the_text_that_grows_most_is_prepared_whole)
{
    static char shortest[SCRAM_PASSWORD_MAX + 1];
    struct scram_salt salt = salt_of("0123456789abcdef", 16, 1);
    struct scram_keys prepared, raw = {0};
    uint8_t salted[SCRAM_KEY_BYTES];

    for (size_t i = 0; i < SCRAM_PASSWORD_MAX; i++)
        shortest[i] = "\ufdfa"[i % 3];
    prepared = keys_of(shortest, SCRAM_PASSWORD_MAX, &salt);
    cr_assert_eq(PKCS5_PBKDF2_HMAC(shortest, SCRAM_PASSWORD_MAX, salt.bytes, 16, 1,
                                   EVP_sha256(), sizeof salted, salted),
                 1);
    cr_assert(scram_hmac(salted, sizeof salted, "Client Key", 10, raw.client_key));
    cr_expect_neq(memcmp(prepared.client_key, raw.client_key, SCRAM_KEY_BYTES), 0);
}

static void prepare_once(void *arg)
{
    struct scram_salt salt = salt_of("0123456789abcdef", 16, 1);
    struct scram_keys keys, *wanted = arg;

    if (scram_keys_from_password("\u2168", strlen("\u2168"), &salt, &keys))
        cr_assert(are_equal(&keys, wanted));
}

Test(scram_keys, without_memory_nothing_is_prepared_half)
{
    struct scram_salt salt = salt_of("0123456789abcdef", 16, 1);
    struct scram_keys keys = keys_of("IX", 2, &salt);

    cr_expect_eq(fault_each_allocation(prepare_once, &keys), 1);
}

/* ---- salts and verifiers ------------------------------------------------------------
 */

#define HOUSE_KEY (const uint8_t *)"a key of this house", 19

Test(scram_keys, a_users_salt_is_the_same_whenever_it_is_asked_for)
{
    /* The first half of HMAC-SHA-256, as Python's hmac says it. */
    static const uint8_t wanted[16] = {0xcd, 0xa5, 0xf2, 0x54, 0x87, 0xab, 0x7a, 0xc7,
                                       0xde, 0xc0, 0x35, 0xf1, 0x77, 0xfb, 0x3e, 0x2e};
    struct scram_salt salt = {0}, again = {0}, other = {0};

    cr_assert(scram_salt_of_user(HOUSE_KEY, "alice", 4096, &salt));
    cr_expect_eq(salt.n, 16);
    cr_expect_eq(salt.iterations, 4096);
    cr_expect_eq(memcmp(salt.bytes, wanted, 16), 0);
    cr_assert(scram_salt_of_user(HOUSE_KEY, "alice", 4096, &again));
    cr_expect(scram_salt_is_equal(&salt, &again));
    cr_assert(scram_salt_of_user(HOUSE_KEY, "alicf", 4096, &other));
    cr_expect_not(scram_salt_is_equal(&salt, &other), "another user");
    cr_assert(scram_salt_of_user((const uint8_t *)"key", 3, "alice", 4096, &other));
    cr_expect_not(scram_salt_is_equal(&salt, &other), "another key");
    cr_assert(scram_salt_of_user(HOUSE_KEY, "", 4096, &other));
    cr_expect_not(scram_salt_is_equal(&salt, &other), "no name");
}

Test(scram_keys, salts_are_equal_in_bytes_length_and_iterations)
{
    struct scram_salt a = salt_of("0123", 4, 1000), b = a;

    cr_expect(scram_salt_is_equal(&a, &b));
    b.iterations++;
    cr_expect_not(scram_salt_is_equal(&a, &b));
    b = a;
    b.n--;
    cr_expect_not(scram_salt_is_equal(&a, &b));
    b = salt_of("0124", 4, 1000);
    cr_expect_not(scram_salt_is_equal(&a, &b));
    b = a;
    b.bytes[4] = 'x';
    cr_expect(scram_salt_is_equal(&a, &b), "what is behind it does not count");
}

Test(scram_keys, a_verifier_accepts_its_own_keys_alone)
{
    struct scram_salt salt = salt_of("0123456789abcdef", 16, 10);
    struct scram_keys keys = keys_of("pencil", 6, &salt), wrong;
    struct scram_verifier verifier;

    cr_assert(scram_verifier_from_keys(&keys, &verifier));
    cr_expect(scram_verifier_accepts(&verifier, &keys));
    for (size_t i = 0; i < SCRAM_KEY_BYTES; i++) {
        wrong = keys;
        wrong.client_key[i] ^= 1;
        cr_expect_not(scram_verifier_accepts(&verifier, &wrong));
    }
    verifier.is_mock = true;
    cr_expect_not(scram_verifier_accepts(&verifier, &keys));
}

Test(scram_keys, nothing_is_left_of_what_is_cleared)
{
    struct scram_salt salt = salt_of("0123456789abcdef", 16, 10);
    struct scram_keys keys = keys_of("pencil", 6, &salt);
    struct scram_verifier verifier;
    struct scram_stretch stretch;

    cr_assert(scram_verifier_from_keys(&keys, &verifier));
    cr_assert(scram_stretch_begin(&stretch, "pencil", 6, &salt));
    cr_assert(scram_stretch_run(&stretch, 5));
    scram_keys_clear(&keys);
    scram_verifier_clear(&verifier);
    scram_stretch_clear(&stretch);
    cr_expect(is_all(&keys, sizeof keys, 0));
    cr_expect(is_all(&verifier, sizeof verifier, 0));
    cr_expect(is_all(&stretch, sizeof stretch, 0));
}

/* ---- libcrypto without memory -------------------------------------------------------
 */

/* Goes on after each failure, from where it was. */
static void stretch_once(void *arg)
{
    struct scram_salt salt = salt_of("0123456789abcdef", 16, 20);
    struct scram_keys keys = {0}, *wanted = arg;
    struct scram_verifier verifier;
    struct scram_stretch stretch;
    static char password[100];

    memset(password, 'x', sizeof password);
    while (!scram_stretch_begin(&stretch, password, sizeof password, &salt))
        ;
    while (!scram_stretch_is_done(&stretch))
        (void)!scram_stretch_run(&stretch, 7);
    while (!scram_stretch_keys(&stretch, &keys))
        ;
    while (!scram_verifier_from_keys(&keys, &verifier))
        ;
    if (wanted->salt.n == 0)
        *wanted = keys;
    cr_assert(are_equal(&keys, wanted));
    if (!scram_verifier_accepts(&verifier, &keys))
        cr_assert(scram_verifier_accepts(&verifier, &keys));
}

Test(scram_keys, an_allocation_that_fails_makes_no_wrong_keys)
{
    struct scram_keys keys = {0};

    cr_expect_gt(crypto_fault_each(stretch_once, &keys), 20);
}
