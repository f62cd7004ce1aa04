/* wire/secret.h - what is known of a user's password, and what can be done with it.
 *
 * As PostgreSQL keeps it in pg_authid, and as it stands in auth_file and in password= of
 * [databases]:
 *
 *   kind   text                                          checks           logs in by
 *   PLAIN  the password                                  plain md5 SCRAM  the same
 *   MD5    "md5", 32 hex digits                          plain md5        md5
 *   SCRAM  SCRAM-SHA-256$4096:salt$StoredKey:ServerKey   plain SCRAM      SCRAM
 *
 * To check SCRAM with PLAIN, stretch it once with scram_salt_of_user() and keep the
 * verifier of its keys (wire/scram_keys.h): stretched at each login, the time that it
 * takes would tell which users exist. To log in by SCRAM with a SCRAM secret takes the
 * ClientKey, which a client's own login gives us (wire/scram.h).
 *
 * Pure; any thread. False where nothing is said means that libcrypto failed (it has no
 * memory, or no MD5).
 */
#ifndef WIRE_SECRET_H
#define WIRE_SECRET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/check.h"
#include "wire/scram_keys.h"

#define SECRET_BYTES_MAX SCRAM_PASSWORD_MAX
/* "md5", 32 hex digits, a zero byte: the stored hash and the answer to a salt alike. */
#define SECRET_MD5_BYTES 36u
#define SECRET_MD5_SALT_BYTES 4u

enum secret_kind {
    SECRET_NONE, /* no password: nothing fits it */
    SECRET_PLAIN,
    SECRET_MD5,
    SECRET_SCRAM
};

enum secret_fault {
    SECRET_FINE,
    SECRET_TOO_LONG,
    SECRET_HAS_ZERO, /* a zero byte in it */
    SECRET_DAMAGED   /* begins as a SCRAM secret and does not go on as one */
};

struct secret {
    enum secret_kind kind;
    size_t n_plain;
    const char *plain;           /* not zero-terminated: in the text */
    char md5[SECRET_MD5_BYTES];  /* zero-terminated, of MD5 */
    struct scram_verifier scram; /* of SCRAM */
};

/* Reads the `n` bytes of `text`; a plain secret points into them, so they stay as long as
 * it does. An empty text is SECRET_NONE. What PostgreSQL would take for neither of the
 * other kinds is plain text, except that a damaged SCRAM secret is a fault: it could be
 * read by more people than a password. */
enum secret_fault secret_parse(const char *text, size_t n,
                               struct secret *secret) MUST_CHECK;
/* "too long", ...: for logs. */
const char *secret_fault_text(enum secret_fault fault);
void secret_clear(struct secret *secret);

/* A SCRAM secret in the place of a user's who has none: with scram_salt_of_user() as its
 * salt, so the same on every attempt. */
bool secret_mock(const uint8_t *key, size_t n_key, const char *user, uint32_t iterations,
                 struct secret *secret) MUST_CHECK;

/* The stored form of an MD5 secret. */
bool secret_hash_md5(const char *password, size_t n, const char *user,
                     char hash[SECRET_MD5_BYTES]) MUST_CHECK;
/* The answer to AuthenticationMD5Password. False for kinds without one as well. */
bool secret_answer_md5(const struct secret *secret, const char *user,
                       const uint8_t salt[SECRET_MD5_SALT_BYTES],
                       char answer[SECRET_MD5_BYTES]) MUST_CHECK;

/* Whether a client's answer to AuthenticationMD5Password fits. In constant time; takes as
 * long for secrets that no answer fits. */
bool secret_accepts_md5(const struct secret *secret, const char *user,
                        const uint8_t salt[SECRET_MD5_SALT_BYTES], const char *answer);
/* Whether a client's password in clear text fits a PLAIN or MD5 secret. In constant time;
 * takes as long for secrets that no password fits. For SCRAM stretch the password with
 * the verifier's salt, and ask scram_verifier_accepts(). */
bool secret_accepts_plain(const struct secret *secret, const char *user,
                          const char *password);

#endif
