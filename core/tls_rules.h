/* core/tls_rules.h - the part of TLS settings that an SSL_CTX takes as they are. */
#ifndef CORE_TLS_RULES_H
#define CORE_TLS_RULES_H

#include "core/tls.h"

/* Protocols, ciphers, key exchange, certificates, trust, and what we want of any
 * connection. False with a sentence in `why`; OpenSSL's error queue is to be cleared. */
bool tls_rules_apply(SSL_CTX *ssl, const struct tls_settings *settings,
                     struct text *why) MUST_CHECK;

/* What OpenSSL's error queue says, in a few words; of several complaints the first, which
 * lies the deepest. A constant, or as strerror(3). */
const char *tls_rules_reason(void);

#endif
