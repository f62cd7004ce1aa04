/* core/tls.h - TLS settings made into a context, which any number of streams share.
 *
 * A context is one SSL_CTX: certificates, keys and rules, read from their files once.
 * It never changes, so it is shared by all threads and counted by those who hold it; new
 * files make a new context (core/tls_registry.h). What a single connection does with it
 * is in core/stream_tls.h.
 *
 * Role, words and defaults are those of PgBouncer's client_tls_* and server_tls_*.
 * Thread: any, where nothing else is said.
 */
#ifndef CORE_TLS_H
#define CORE_TLS_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/check.h"
#include "core/text.h"

/* Which side of the handshake we are. */
enum tls_role { TLS_CLIENT, TLS_SERVER };

/* What a client makes of the server's certificate. */
enum tls_verify {
    TLS_VERIFY_NONE,
    TLS_VERIFY_CA,  /* must come from the CA */
    TLS_VERIFY_FULL /* and be for the host that was asked for, by name or address */
};

/* Whether a server asks for the client's certificate. One that is sent must be valid. */
enum tls_ask { TLS_ASK_NEVER, TLS_ASK_OPTIONAL, TLS_ASK_ALWAYS };

/* Texts are the caller's; NULL and "" mean the default. */
struct tls_settings {
    enum tls_role role;
    enum tls_verify verify; /* of TLS_CLIENT */
    enum tls_ask ask;       /* of TLS_SERVER */
    const char *cert_file;  /* PEM, with the chain behind it; a server needs one */
    const char *key_file;   /* PEM, without a passphrase */
    const char *ca_file;    /* PEM; a client without one trusts what the system trusts */
    const char *crl_file;   /* PEM, with a list of every CA in the chain */
    const char *protocols;  /* "secure" (TLS 1.2 and 1.3), "all", "legacy", or a list of
                               tlsv1.0 to tlsv1.3, of which "!" takes one out */
    const char *ciphers;    /* up to TLS 1.2: "default", "secure", "normal" and "fast" are
                               OpenSSL's own choice; "all", "legacy" and "compat" are
                               everything, for old peers; or OpenSSL's syntax */
    const char *tls13_ciphers;
    const char *dheparams; /* of TLS_SERVER: "auto", "legacy" (1024 bits), "none" */
    const char *ecdhcurve; /* "auto", "none", or names of curves between colons */
    const char *alpn;      /* the one protocol that is spoken: "postgresql" */
};

struct tls_context;

/* Reads the files, which takes a few milliseconds: not on a worker's thread. NULL when
 * something is wrong, with a sentence in `why` that names it and the file. */
struct tls_context *tls_context_new(const struct tls_settings *settings,
                                    struct text *why) MUST_CHECK;
struct tls_context *tls_context_hold(struct tls_context *context);
/* The last one frees it. NULL is fine. */
void tls_context_release(struct tls_context *context);
/* Whether anybody but the caller holds it. */
bool tls_context_is_shared(const struct tls_context *context);

/* Gives an SSL_CTX of a library's, such as libcurl's, the trust and the certificate of
 * this context, without reading any file. False when memory is out. */
bool tls_context_lend(const struct tls_context *context, SSL_CTX *other) MUST_CHECK;

/* A copy of what it was made of. */
const struct tls_settings *tls_context_settings(const struct tls_context *context);
/* NULL and "" are equal. */
bool tls_settings_equal(const struct tls_settings *a, const struct tls_settings *b);

/* The server's first common name of a certificate's subject, for logins by certificate.
 * False when there is none, when it is `size` bytes or longer, or has a zero byte in it:
 * a name is taken as a whole or not at all. */
bool tls_common_name(const X509 *certificate, char *name, size_t size) MUST_CHECK;

/* The session of the last handshake of a client with one host, for the next one, which
 * then goes without certificates. A zeroed one is empty. Thread: one, the one of the
 * streams that it was given to, which it outlives. */
struct tls_memory {
    SSL_SESSION *session;
    struct tls_context *context; /* that it was made under */
    char *host;
    uint32_t n_changes; /* of context or host */
};
void tls_memory_clear(struct tls_memory *memory);

/* What a context's callbacks know of a connection. For stream_tls.c. */
struct tls_link {
    const struct tls_link_ops *ops;
    struct tls_memory *memory; /* NULL: nothing is kept */
    uint32_t n_changes;        /* of the memory, when this was opened */
    const char *why;           /* a constant, once one of our own rules has refused it */
    bool needs_alpn;           /* the peer must have asked for the context's protocol */
};
struct tls_link_ops {
    /* How many of the bytes that the peer has sent fit into `bytes`; 0 = none are there.
     */
    size_t (*read)(struct tls_link *link, uint8_t *bytes, size_t n);
    /* Takes all of them. False: memory is out. */
    bool (*write)(struct tls_link *link, const uint8_t *bytes, size_t n);
};

/* An SSL that reads and writes through `link`, ready for its handshake. `host` is whom a
 * client asks for; it may be NULL where its name does not matter. NULL when memory is
 * out. The caller holds the context for as long as the SSL lives. */
SSL *tls_context_open(struct tls_context *context, struct tls_link *link,
                      const char *host) MUST_CHECK;
/* From now on it is this link's; NULL while it is nobody's. */
void tls_link_attach(SSL *ssl, struct tls_link *link);
/* The context that it was opened under. */
struct tls_context *tls_context_of(const SSL *ssl);

#endif
