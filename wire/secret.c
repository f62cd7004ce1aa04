#include "wire/secret.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "wire/base64.h"

#define MD5_BYTES 16u

static const char scram_prefix[] = "SCRAM-SHA-256$";

/* ---- reading --------------------------------------------------------------------- */

/* What PostgreSQL takes for a hash: its digits are small ones. */
static bool is_md5(const char *text, size_t n)
{
    if (n != SECRET_MD5_BYTES - 1 || memcmp(text, "md5", 3) != 0)
        return false;
    for (size_t i = 3; i < n; i++) {
        if ((text[i] < '0' || text[i] > '9') && (text[i] < 'a' || text[i] > 'f'))
            return false;
    }
    return true;
}

/* Cuts the part before `end` off the text. */
static bool cut(const char **text, size_t *n, char end, const char **part, size_t *n_part)
{
    const char *found = memchr(*text, end, *n);

    if (found == NULL)
        return false;
    *part = *text;
    *n_part = (size_t)(found - *text);
    *text = found + 1;
    *n -= *n_part + 1;
    return true;
}

static bool read_iterations(const char *text, size_t n, uint32_t *iterations)
{
    uint32_t value = 0;

    if (n == 0 || n > 8 || text[0] == '0')
        return false;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        value = value * 10 + (uint32_t)(text[i] - '0');
    }
    if (value > SCRAM_ITERATIONS_MAX)
        return false;
    *iterations = value;
    return true;
}

static bool read_key(const char *text, size_t n, uint8_t key[SCRAM_KEY_BYTES])
{
    size_t n_key;

    return base64_read(text, n, key, SCRAM_KEY_BYTES, &n_key) && n_key == SCRAM_KEY_BYTES;
}

/* What is behind the prefix: iterations:salt$StoredKey:ServerKey */
static bool read_scram(const char *text, size_t n, struct scram_verifier *verifier)
{
    const char *part;
    size_t n_part, n_salt;

    if (!cut(&text, &n, ':', &part, &n_part) ||
        !read_iterations(part, n_part, &verifier->salt.iterations))
        return false;
    if (!cut(&text, &n, '$', &part, &n_part) ||
        !base64_read(part, n_part, verifier->salt.bytes, SCRAM_SALT_MAX, &n_salt) ||
        n_salt == 0)
        return false;
    verifier->salt.n = (uint8_t)n_salt;
    return cut(&text, &n, ':', &part, &n_part) &&
           read_key(part, n_part, verifier->stored_key) &&
           read_key(text, n, verifier->server_key);
}

enum secret_fault secret_parse(const char *text, size_t n, struct secret *secret)
{
    struct secret found = {0};
    size_t n_prefix = sizeof scram_prefix - 1;

    if (n > SECRET_BYTES_MAX)
        return SECRET_TOO_LONG;
    if (n > 0 && memchr(text, 0, n) != NULL)
        return SECRET_HAS_ZERO;
    if (n >= n_prefix && memcmp(text, scram_prefix, n_prefix) == 0) {
        found.kind = SECRET_SCRAM;
        if (!read_scram(text + n_prefix, n - n_prefix, &found.scram))
            return SECRET_DAMAGED;
    } else if (is_md5(text, n)) {
        found.kind = SECRET_MD5;
        memcpy(found.md5, text, n);
    } else if (n > 0) {
        found.kind = SECRET_PLAIN;
        found.plain = text;
        found.n_plain = n;
    }
    *secret = found;
    secret_clear(&found);
    return SECRET_FINE;
}

const char *secret_fault_text(enum secret_fault fault)
{
    switch (fault) {
    case SECRET_FINE:
        return "fine";
    case SECRET_TOO_LONG:
        return "too long";
    case SECRET_HAS_ZERO:
        return "a zero byte in it";
    case SECRET_DAMAGED:
        return "a SCRAM secret that is damaged";
    }
    UNREACHABLE();
}

void secret_clear(struct secret *secret)
{
    OPENSSL_cleanse(secret, sizeof *secret);
}

bool secret_mock(const uint8_t *key, size_t n_key, const char *user, uint32_t iterations,
                 struct secret *secret)
{
    struct secret made = {.kind = SECRET_SCRAM, .scram = {.is_mock = true}};

    if (!scram_salt_of_user(key, n_key, user, iterations, &made.scram.salt))
        return false;
    *secret = made;
    return true;
}

/* ---- MD5 ------------------------------------------------------------------------- */

/* "md5" and the digits of MD5(a b), as PostgreSQL writes it. */
static bool hash_two(const void *a, size_t n_a, const void *b, size_t n_b,
                     char text[SECRET_MD5_BYTES])
{
    static const char hex_digits[] = "0123456789abcdef";
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    uint8_t hash[MD5_BYTES];
    bool ok = context != NULL && EVP_DigestInit_ex(context, EVP_md5(), NULL) == 1 &&
              EVP_DigestUpdate(context, a, n_a) == 1 &&
              EVP_DigestUpdate(context, b, n_b) == 1 &&
              EVP_DigestFinal_ex(context, hash, NULL) == 1;

    EVP_MD_CTX_free(context);
    if (!ok)
        return false;
    memcpy(text, "md5", 3);
    for (size_t i = 0; i < MD5_BYTES; i++) {
        text[3 + 2 * i] = hex_digits[hash[i] >> 4];
        text[4 + 2 * i] = hex_digits[hash[i] & 15];
    }
    text[SECRET_MD5_BYTES - 1] = '\0';
    OPENSSL_cleanse(hash, sizeof hash);
    return true;
}

bool secret_hash_md5(const char *password, size_t n, const char *user,
                     char hash[SECRET_MD5_BYTES])
{
    return hash_two(password, n, user, strlen(user), hash);
}

/* The stored form, or one of nobody's, at the same cost as a plain one's. */
static bool hash_of(const struct secret *secret, const char *user,
                    char hash[SECRET_MD5_BYTES])
{
    bool is_plain = secret->kind == SECRET_PLAIN;

    if (!secret_hash_md5(is_plain ? secret->plain : "", is_plain ? secret->n_plain : 0,
                         user, hash))
        return false;
    if (secret->kind == SECRET_MD5)
        memcpy(hash, secret->md5, SECRET_MD5_BYTES);
    return true;
}

static bool has_md5(const struct secret *secret)
{
    return secret->kind == SECRET_PLAIN || secret->kind == SECRET_MD5;
}

/* The answer; for a secret that has none one that must not be used. */
static bool answer_any(const struct secret *secret, const char *user,
                       const uint8_t salt[SECRET_MD5_SALT_BYTES],
                       char answer[SECRET_MD5_BYTES])
{
    char hash[SECRET_MD5_BYTES];
    bool ok =
        hash_of(secret, user, hash) &&
        hash_two(hash + 3, SECRET_MD5_BYTES - 4, salt, SECRET_MD5_SALT_BYTES, answer);

    OPENSSL_cleanse(hash, sizeof hash);
    return ok;
}

bool secret_answer_md5(const struct secret *secret, const char *user,
                       const uint8_t salt[SECRET_MD5_SALT_BYTES],
                       char answer[SECRET_MD5_BYTES])
{
    return has_md5(secret) && answer_any(secret, user, salt, answer);
}

bool secret_accepts_md5(const struct secret *secret, const char *user,
                        const uint8_t salt[SECRET_MD5_SALT_BYTES], const char *answer)
{
    char wanted[SECRET_MD5_BYTES];
    bool is_equal;

    if (!answer_any(secret, user, salt, wanted))
        return false;
    is_equal = strlen(answer) == sizeof wanted - 1 &&
               CRYPTO_memcmp(answer, wanted, sizeof wanted - 1) == 0;
    OPENSSL_cleanse(wanted, sizeof wanted);
    return is_equal && has_md5(secret);
}

/* The hashes are compared, so that nothing depends on where two texts differ. */
static bool is_same_text(const char *a, size_t n_a, const char *b, size_t n_b)
{
    uint8_t hash_a[SCRAM_KEY_BYTES], hash_b[SCRAM_KEY_BYTES];

    return EVP_Digest(a, n_a, hash_a, NULL, EVP_sha256(), NULL) == 1 &&
           EVP_Digest(b, n_b, hash_b, NULL, EVP_sha256(), NULL) == 1 &&
           CRYPTO_memcmp(hash_a, hash_b, sizeof hash_a) == 0;
}

static bool is_md5_of(const struct secret *secret, const char *user, const char *password,
                      size_t n)
{
    char hash[SECRET_MD5_BYTES];

    return secret_hash_md5(password, n, user, hash) &&
           CRYPTO_memcmp(secret->md5, hash, sizeof hash) == 0;
}

/* Both ways are gone whatever the secret is, so that the time does not tell. */
bool secret_accepts_plain(const struct secret *secret, const char *user,
                          const char *password)
{
    size_t n = strlen(password);
    bool is_plain = secret->kind == SECRET_PLAIN;
    bool is_same = is_same_text(is_plain ? secret->plain : "",
                                is_plain ? secret->n_plain : 0, password, n);
    bool is_hashed = is_md5_of(secret, user, password, n);

    if (n == 0)
        return false;
    return is_plain ? is_same : secret->kind == SECRET_MD5 && is_hashed;
}
