/* wire/auth.h - the messages of a login, but for the words of SCRAM inside of them.
 *
 *   server (we, to clients)                        client (we, to servers)
 *   auth_write_request() and others      'R'  -->  auth_read_request()
 *   auth_read_password() and others      <-- 'p'   auth_write_password() and others
 *
 * Format: PostgreSQL's documentation, "Message Formats". What is written has its header,
 * what is read is a body, of which every byte is accounted for. Which of the three an 'p'
 * is follows from what was asked. Pure.
 */
#ifndef WIRE_AUTH_H
#define WIRE_AUTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/check.h"
#include "wire/scram.h"
#include "wire/secret.h"

/* The longest bodies of 'p' that are read: of a PasswordMessage, and of the other two. */
#define AUTH_PASSWORD_MAX (SECRET_BYTES_MAX + 1u)
#define AUTH_SASL_MAX (SCRAM_INPUT_MAX + 64u)
/* Enough for every message that is written, but for a PasswordMessage. */
#define AUTH_BYTES_MAX (SCRAM_OUTPUT_MAX + 64u)

/* ---- to a client ----------------------------------------------------------------- */

/* The codes in PostgreSQL's src/include/libpq/protocol.h. */
enum auth_kind {
    AUTH_OK = 0,
    AUTH_CLEARTEXT = 3,
    AUTH_MD5 = 5,
    AUTH_SASL = 10,
    AUTH_SASL_CONTINUE = 11,
    AUTH_SASL_FINAL = 12,
    AUTH_UNSUPPORTED = 100, /* read only: Kerberos, GSSAPI, SSPI, SCM, what is to come */
    AUTH_MALFORMED          /* read only */
};

/* AuthenticationOk or AuthenticationCleartextPassword. Returns the length, as all below
 * do. */
size_t auth_write_request(enum auth_kind kind, uint8_t bytes[AUTH_BYTES_MAX]);
size_t auth_write_md5(const uint8_t salt[SECRET_MD5_SALT_BYTES],
                      uint8_t bytes[AUTH_BYTES_MAX]);
/* AuthenticationSASL with the mechanisms of the set, the strongest first. */
size_t auth_write_sasl(unsigned mechanisms, uint8_t bytes[AUTH_BYTES_MAX]);
/* AuthenticationSASLContinue or AuthenticationSASLFinal. */
size_t auth_write_challenge(enum auth_kind kind, const struct scram_message *message,
                            uint8_t bytes[AUTH_BYTES_MAX]);

/* ---- from a client --------------------------------------------------------------- */

/* PasswordMessage; `*password` is zero-terminated, in the body. */
bool auth_read_password(const uint8_t *body, size_t n, const char **password) MUST_CHECK;

struct auth_choice {
    enum scram_mechanism mechanism; /* SCRAM_NO_MECHANISM: none that we have */
    const char *name;               /* zero-terminated, in the body */
    const uint8_t *data;            /* in the body; NULL when the client sent none */
    size_t n;
};
/* SASLInitialResponse. */
bool auth_read_choice(const uint8_t *body, size_t n,
                      struct auth_choice *choice) MUST_CHECK;
/* SASLResponse: its body is SCRAM's message, when it is not too long. */
bool auth_read_response(const uint8_t *body, size_t n) MUST_CHECK;

/* ---- from a server --------------------------------------------------------------- */

struct auth_request {
    enum auth_kind kind;
    uint32_t code; /* as the server sent it, for logs; of MALFORMED 0 */
    uint8_t salt[SECRET_MD5_SALT_BYTES]; /* of MD5 */
    unsigned mechanisms;                 /* of SASL: those that we have */
    const uint8_t *data; /* of SASL_CONTINUE and SASL_FINAL, in the body */
    size_t n;
};
/* Reads the body of an 'R'. */
struct auth_request auth_read_request(const uint8_t *body, size_t n);

/* ---- to a server ----------------------------------------------------------------- */

/* PasswordMessage, for a plain password and for the answer to MD5. `bytes` has room for
 * at least `n` + 6. */
size_t auth_write_password(const char *password, size_t n, uint8_t *bytes);
/* SASLInitialResponse and SASLResponse. */
size_t auth_write_choice(enum scram_mechanism mechanism,
                         const struct scram_message *message,
                         uint8_t bytes[AUTH_BYTES_MAX]);
size_t auth_write_response(const struct scram_message *message,
                           uint8_t bytes[AUTH_BYTES_MAX]);

#endif
