#include "wire/scram_keys.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>
#include <stringprep.h>

#include "core/memory.h"
#include "wire/startup.h"

bool scram_hmac(const uint8_t *key, size_t n_key, const void *bytes, size_t n,
                uint8_t result[SCRAM_KEY_BYTES])
{
    uint8_t hash[EVP_MAX_MD_SIZE];
    bool ok = HMAC(EVP_sha256(), key, (int)n_key, bytes, n, hash, NULL) != NULL;

    if (ok)
        memcpy(result, hash, SCRAM_KEY_BYTES);
    OPENSSL_cleanse(hash, sizeof hash);
    return ok;
}

bool scram_stored_key(const uint8_t client_key[SCRAM_KEY_BYTES],
                      uint8_t stored_key[SCRAM_KEY_BYTES])
{
    uint8_t hash[SCRAM_KEY_BYTES];

    if (EVP_Digest(client_key, SCRAM_KEY_BYTES, hash, NULL, EVP_sha256(), NULL) != 1)
        return false;
    memcpy(stored_key, hash, sizeof hash);
    return true;
}

bool scram_salt_is_equal(const struct scram_salt *a, const struct scram_salt *b)
{
    return a->iterations == b->iterations && a->n == b->n &&
           memcmp(a->bytes, b->bytes, a->n) == 0;
}

bool scram_salt_of_user(const uint8_t *key, size_t n_key, const char *user,
                        uint32_t iterations, struct scram_salt *salt)
{
    uint8_t hash[SCRAM_KEY_BYTES];

    REQUIRE(iterations > 0 && iterations <= SCRAM_ITERATIONS_MAX);
    if (!scram_hmac(key, n_key, user, strlen(user), hash))
        return false;
    *salt = (struct scram_salt){.iterations = iterations, .n = SCRAM_SALT_BYTES};
    memcpy(salt->bytes, hash, SCRAM_SALT_BYTES);
    return true;
}

void scram_keys_clear(struct scram_keys *keys)
{
    OPENSSL_cleanse(keys, sizeof *keys);
}

void scram_verifier_clear(struct scram_verifier *verifier)
{
    OPENSSL_cleanse(verifier, sizeof *verifier);
}

bool scram_verifier_from_keys(const struct scram_keys *keys,
                              struct scram_verifier *verifier)
{
    uint8_t stored_key[SCRAM_KEY_BYTES];

    if (!scram_stored_key(keys->client_key, stored_key))
        return false;
    *verifier = (struct scram_verifier){.salt = keys->salt};
    memcpy(verifier->stored_key, stored_key, SCRAM_KEY_BYTES);
    memcpy(verifier->server_key, keys->server_key, SCRAM_KEY_BYTES);
    return true;
}

bool scram_verifier_accepts(const struct scram_verifier *verifier,
                            const struct scram_keys *keys)
{
    uint8_t stored_key[SCRAM_KEY_BYTES];

    if (!scram_stored_key(keys->client_key, stored_key))
        return false;
    return CRYPTO_memcmp(stored_key, verifier->stored_key, SCRAM_KEY_BYTES) == 0 &&
           !verifier->is_mock;
}

/* ---- SASLprep -------------------------------------------------------------------- */

/* Wipes and frees; NULL is fine. */
static void wipe(char *text)
{
    if (text != NULL)
        OPENSSL_cleanse(text, strlen(text));
    memory_free(text);
}

static bool is_ascii(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text > 127)
            return false;
    }
    return true;
}

/* libidn's steps of SASLprep in PostgreSQL's order: what is forbidden, or runs in two
 * directions, is looked for in the mapped text, before it is normalized and not after.
 * What is left of differences are corrections to Unicode 3.2 that libidn has no part in:
 * five ideographs (U+2F868 and others), and Korean with marks inside of a syllable. */
#define STEPS_MAX 32
static void order_steps(Stringprep_profile steps[STEPS_MAX])
{
    const Stringprep_profile *from = stringprep_saslprep;
    size_t n = 0;

    for (; from->operation != 0; from++) {
        REQUIRE(n < STEPS_MAX - 2);
        if (from->operation != STRINGPREP_NFKC)
            steps[n++] = *from;
    }
    steps[n] = (Stringprep_profile){.operation = STRINGPREP_NFKC};
    steps[n + 1] = (Stringprep_profile){0};
}

/* NFKC makes nothing longer than U+FDFA: 33 bytes of 3. */
#define GROWTH_MAX 11u

/* The prepared form, to be freed; NULL in `*prepared` when the password is used as it is.
 * ASCII is its own prepared form, but for control characters, and with those nothing can
 * be prepared. False without memory. */
static bool prepare(const char *password, char **prepared)
{
    size_t size = strlen(password) * GROWTH_MAX + 1;
    Stringprep_profile steps[STEPS_MAX];
    char *text;
    int result;

    *prepared = NULL;
    if (is_ascii(password))
        return true;
    text = memory_zeroed(size);
    if (text == NULL)
        return false;
    memcpy(text, password, strlen(password));
    order_steps(steps);
    result = stringprep(text, size, STRINGPREP_NO_UNASSIGNED, steps);
    if (result == STRINGPREP_OK && text[0] != '\0') {
        *prepared = text;
        return true;
    }
    wipe(text);
    return result != STRINGPREP_MALLOC_ERROR && result != STRINGPREP_NFKC_FAILED;
}

/* ---- PBKDF2 in slices ---------------------------------------------------------------
 *
 * PBKDF2-HMAC-SHA-256 with a result of one block is a chain (RFC 8018, 5.2): U1 =
 * HMAC(password, salt 00000001), Ui = HMAC(password, Ui-1); the result is the XOR of all.
 */

/* HMAC (RFC 2104) with the key's share of both hashes done beforehand. */
struct hmac {
    EVP_MD_CTX *inner, *outer, *work;
};

static void hmac_close(struct hmac *hmac)
{
    EVP_MD_CTX_free(hmac->inner);
    EVP_MD_CTX_free(hmac->outer);
    EVP_MD_CTX_free(hmac->work);
}

static bool begin_hash(EVP_MD_CTX *context, const uint8_t block[64], uint8_t pad)
{
    uint8_t padded[64];
    bool ok;

    for (size_t i = 0; i < sizeof padded; i++)
        padded[i] = block[i] ^ pad;
    ok = EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1 &&
         EVP_DigestUpdate(context, padded, sizeof padded) == 1;
    OPENSSL_cleanse(padded, sizeof padded);
    return ok;
}

static bool hmac_open(struct hmac *hmac, const uint8_t block[64])
{
    *hmac = (struct hmac){EVP_MD_CTX_new(), EVP_MD_CTX_new(), EVP_MD_CTX_new()};
    if (hmac->inner == NULL || hmac->outer == NULL || hmac->work == NULL)
        goto fail;
    if (!begin_hash(hmac->inner, block, 0x36) || !begin_hash(hmac->outer, block, 0x5c))
        goto fail;
    return true;

fail:
    hmac_close(hmac);
    return false;
}

static bool hmac_of(const struct hmac *hmac, const uint8_t *bytes, size_t n,
                    uint8_t result[SCRAM_KEY_BYTES])
{
    return EVP_MD_CTX_copy_ex(hmac->work, hmac->inner) == 1 &&
           EVP_DigestUpdate(hmac->work, bytes, n) == 1 &&
           EVP_DigestFinal_ex(hmac->work, result, NULL) == 1 &&
           EVP_MD_CTX_copy_ex(hmac->work, hmac->outer) == 1 &&
           EVP_DigestUpdate(hmac->work, result, SCRAM_KEY_BYTES) == 1 &&
           EVP_DigestFinal_ex(hmac->work, result, NULL) == 1;
}

/* HMAC's key: the password, or its hash when it is longer than a block. */
static bool set_block(struct scram_stretch *stretch, const char *password)
{
    size_t n = strlen(password);

    if (n > sizeof stretch->block)
        return EVP_Digest(password, n, stretch->block, NULL, EVP_sha256(), NULL) == 1;
    memcpy(stretch->block, password, n);
    return true;
}

bool scram_stretch_begin(struct scram_stretch *stretch, const char *password, size_t n,
                         const struct scram_salt *salt)
{
    struct scram_stretch begun = {.salt = *salt};
    char text[SCRAM_PASSWORD_MAX + 1];
    char *prepared;
    bool ok;

    REQUIRE(salt->n > 0 && salt->n <= SCRAM_SALT_MAX && salt->iterations > 0);
    if (n == 0 || n > SCRAM_PASSWORD_MAX || memchr(password, 0, n) != NULL)
        return false;
    memcpy(text, password, n);
    text[n] = '\0';
    ok = prepare(text, &prepared) && set_block(&begun, prepared ? prepared : text);
    if (ok)
        *stretch = begun;
    wipe(prepared);
    OPENSSL_cleanse(text, n);
    scram_stretch_clear(&begun);
    return ok;
}

/* Does the next iteration; on failure the stretch stays where it was. */
static bool advance(struct scram_stretch *stretch, const struct hmac *hmac)
{
    uint8_t first[SCRAM_SALT_MAX + 4], next[SCRAM_KEY_BYTES];
    const uint8_t *input = stretch->last;
    size_t n = SCRAM_KEY_BYTES;

    if (stretch->n_done == 0) {
        memcpy(first, stretch->salt.bytes, stretch->salt.n);
        wire_write_u32(first + stretch->salt.n, 1);
        input = first;
        n = stretch->salt.n + 4u;
    }
    if (!hmac_of(hmac, input, n, next))
        return false;
    memcpy(stretch->last, next, sizeof next);
    for (size_t i = 0; i < SCRAM_KEY_BYTES; i++)
        stretch->sum[i] ^= next[i];
    OPENSSL_cleanse(next, sizeof next);
    stretch->n_done++;
    return true;
}

bool scram_stretch_run(struct scram_stretch *stretch, uint32_t n)
{
    struct hmac hmac;
    bool ok = true;

    if (scram_stretch_is_done(stretch))
        return true;
    if (!hmac_open(&hmac, stretch->block))
        return false;
    for (uint32_t i = 0; ok && i < n && !scram_stretch_is_done(stretch); i++)
        ok = advance(stretch, &hmac);
    hmac_close(&hmac);
    return ok;
}

bool scram_stretch_is_done(const struct scram_stretch *stretch)
{
    return stretch->n_done >= stretch->salt.iterations;
}

bool scram_stretch_keys(const struct scram_stretch *stretch, struct scram_keys *keys)
{
    struct scram_keys found = {.salt = stretch->salt};
    bool ok;

    REQUIRE(stretch->n_done > 0 && scram_stretch_is_done(stretch));
    ok = scram_hmac(stretch->sum, SCRAM_KEY_BYTES, "Client Key", 10, found.client_key) &&
         scram_hmac(stretch->sum, SCRAM_KEY_BYTES, "Server Key", 10, found.server_key);
    if (ok)
        *keys = found;
    scram_keys_clear(&found);
    return ok;
}

void scram_stretch_clear(struct scram_stretch *stretch)
{
    OPENSSL_cleanse(stretch, sizeof *stretch);
}

bool scram_keys_from_password(const char *password, size_t n,
                              const struct scram_salt *salt, struct scram_keys *keys)
{
    struct scram_stretch stretch;
    bool ok = scram_stretch_begin(&stretch, password, n, salt);

    if (!ok)
        return false;
    ok = scram_stretch_run(&stretch, salt->iterations) &&
         scram_stretch_keys(&stretch, keys);
    scram_stretch_clear(&stretch);
    return ok;
}
