/* wire/scram_keys.h - what SCRAM-SHA-256 makes of a password (RFC 5802, 3; RFC 7677).
 *
 *   password, salt, iterations --> salted password --> ClientKey --> StoredKey
 *                                                 '--> ServerKey
 *
 * A verifier (StoredKey, ServerKey) lets one check a client; keys (ClientKey, ServerKey)
 * let one log in. Keys are worth caching: they fit as long as the salt and the
 * iterations are the same, and the way to them is long. It is made of thousands of
 * iterations by intent, at about half a microsecond each (4096, PostgreSQL's default,
 * take 2 ms; a server may ask for millions), so a loop goes it in slices, with other work
 * in between: struct scram_stretch.
 *
 * Pure. Everything here lives in the caller's memory, has a fixed size and is wiped by
 * its clear function. What returns false does so when libcrypto or libidn has no memory.
 */
#ifndef WIRE_SCRAM_KEYS_H
#define WIRE_SCRAM_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/check.h"

#define SCRAM_KEY_BYTES 32u
#define SCRAM_SALT_MAX 128u
/* The salt that PostgreSQL makes, and the mock salts and salts of plain text here. */
#define SCRAM_SALT_BYTES 16u
#define SCRAM_ITERATIONS_DEFAULT 4096u
/* More are not asked for by anybody who wants to be logged in to. */
#define SCRAM_ITERATIONS_MAX 10000000u
#define SCRAM_PASSWORD_MAX 4095u

struct scram_salt {
    uint32_t iterations; /* 1 .. SCRAM_ITERATIONS_MAX */
    uint8_t n;           /* 1 .. SCRAM_SALT_MAX */
    uint8_t bytes[SCRAM_SALT_MAX];
};
/* Whether the same password has the same keys with both. */
bool scram_salt_is_equal(const struct scram_salt *a, const struct scram_salt *b);
/* A salt that is the same for a user whenever it is asked for, and tells nothing: the
 * HMAC-SHA-256 of the name under `key`, which all who serve the same clients share. */
bool scram_salt_of_user(const uint8_t *key, size_t n_key, const char *user,
                        uint32_t iterations, struct scram_salt *salt) MUST_CHECK;

struct scram_keys {
    struct scram_salt salt;
    uint8_t client_key[SCRAM_KEY_BYTES];
    uint8_t server_key[SCRAM_KEY_BYTES];
};
void scram_keys_clear(struct scram_keys *keys);

struct scram_verifier {
    struct scram_salt salt;
    uint8_t stored_key[SCRAM_KEY_BYTES];
    uint8_t server_key[SCRAM_KEY_BYTES];
    bool is_mock; /* nobody's: goes through the same exchange, and nothing fits */
};
void scram_verifier_clear(struct scram_verifier *verifier);
bool scram_verifier_from_keys(const struct scram_keys *keys,
                              struct scram_verifier *verifier) MUST_CHECK;
/* Whether the keys are those of the verifier's password. In constant time; false for a
 * mock, and when libcrypto fails. */
bool scram_verifier_accepts(const struct scram_verifier *verifier,
                            const struct scram_keys *keys);

/* The way from a password to its keys. */
struct scram_stretch {
    struct scram_salt salt;
    uint32_t n_done; /* iterations */
    uint8_t block[64];
    uint8_t last[SCRAM_KEY_BYTES];
    uint8_t sum[SCRAM_KEY_BYTES];
};
/* Prepares the `n` bytes of a password with SASLprep (RFC 4013) as PostgreSQL does: what
 * cannot be prepared is used as it is. False also for a password with a zero byte, over
 * SCRAM_PASSWORD_MAX bytes or without any: it has no keys. */
bool scram_stretch_begin(struct scram_stretch *stretch, const char *password, size_t n,
                         const struct scram_salt *salt) MUST_CHECK;
/* Does at most `n` more iterations; 1000 are a fair slice. On false nothing is lost: it
 * may be called again. */
bool scram_stretch_run(struct scram_stretch *stretch, uint32_t n) MUST_CHECK;
bool scram_stretch_is_done(const struct scram_stretch *stretch);
/* Of a stretch that is done. */
bool scram_stretch_keys(const struct scram_stretch *stretch,
                        struct scram_keys *keys) MUST_CHECK;
void scram_stretch_clear(struct scram_stretch *stretch);

/* The whole way at once, for where nobody waits. */
bool scram_keys_from_password(const char *password, size_t n,
                              const struct scram_salt *salt,
                              struct scram_keys *keys) MUST_CHECK;

/* HMAC-SHA-256. */
bool scram_hmac(const uint8_t *key, size_t n_key, const void *bytes, size_t n,
                uint8_t result[SCRAM_KEY_BYTES]) MUST_CHECK;
/* SHA-256 of a ClientKey. */
bool scram_stored_key(const uint8_t client_key[SCRAM_KEY_BYTES],
                      uint8_t stored_key[SCRAM_KEY_BYTES]) MUST_CHECK;

#endif
