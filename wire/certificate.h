/* wire/certificate.h - what of a TLS connection a SCRAM login is bound to.
 *
 * tls-server-end-point (RFC 5929, 4): a hash of the server's certificate, by the hash of
 * the certificate's own signature. PostgreSQL does the same on both sides. Pure; any
 * thread.
 */
#ifndef WIRE_CERTIFICATE_H
#define WIRE_CERTIFICATE_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/check.h"

#define CHANNEL_BINDING_MAX 64u

/* A zeroed one is none: of a connection without TLS, or of a certificate that has none.
 */
struct channel_binding {
    uint8_t n;
    uint8_t hash[CHANNEL_BINDING_MAX];
};

/* Writes none for a certificate whose signature has no single hash (Ed25519, Ed448).
 * False when libcrypto fails: such a connection must not go on as one without. */
bool certificate_binding(X509 *certificate, struct channel_binding *binding) MUST_CHECK;

#endif
