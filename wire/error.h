/* wire/error.h - ErrorResponse: written for clients, read from servers.
 *
 * Format: PostgreSQL's documentation, "Error and Notice Message Fields". Pure.
 */
#ifndef WIRE_ERROR_H
#define WIRE_ERROR_H

#include <stddef.h>
#include <stdint.h>

#include "core/check.h"

/* Enough for every message that we write; a longer text is cut. */
#define ERROR_BYTES_MAX 512u

/* A FATAL ErrorResponse; `hint` may be NULL. Returns its length, at most
 * ERROR_BYTES_MAX. */
size_t error_write(const char *sqlstate, const char *message, const char *hint,
                   uint8_t bytes[ERROR_BYTES_MAX]);

/* Adds a hint to a whole ErrorResponse of `n` bytes, in a place for `size`. Returns its
 * new length: `n` where it has a hint, does not end as it should, or has no room. */
size_t error_add_hint(uint8_t *bytes, size_t n, size_t size, const char *hint) MUST_CHECK;

/* What we look at of a server's. Each is "" when the server did not send it. */
struct error_fields {
    char severity[16]; /* of field V, which is not translated; S when there is no V */
    char sqlstate[6];
    char text[160]; /* of field M, cut to this */
};
/* Reads the body of an ErrorResponse, of which the first `n` bytes are there. */
void error_read(const uint8_t *body, size_t n, struct error_fields *fields);

/* The TLS record with the alert that ends a handshake which cannot be served:
 * internal_error (RFC 8446, 6.2), sent as clear text in place of a ServerHello. */
#define TLS_ALERT_BYTES 7u
extern const uint8_t tls_alert_internal_error[TLS_ALERT_BYTES];

#endif
