/* tests/lib/tls_peer.h - the far end of a TLS connection: OpenSSL alone, none of our
 * code.
 *
 * Its SSL works on memory; tls_peer_turn() carries the records to and from a socket, as
 * many bytes at a time as the test allows, so that the test can dose, cut and forge them.
 */
#ifndef TESTS_LIB_TLS_PEER_H
#define TESTS_LIB_TLS_PEER_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tls_peer {
    SSL_CTX *context;
    SSL *ssl;
    int fd;         /* the test's; non-blocking */
    size_t piece;   /* most bytes to carry in one turn and way; 0 = all there are */
    size_t n_left;  /* bytes that may still be sent; SIZE_MAX at first */
    bool is_deaf;   /* reads nothing from the socket */
    size_t flip_at; /* the byte of all that it sends that is changed; SIZE_MAX = none */
    size_t n_sent;  /* in all */
    size_t n_heard;
    bool has_ended;  /* the socket has: FIN or RST */
    bool is_greeted; /* its handshake is done */
    bool has_failed;
    SSL_SESSION *session; /* the last that it was given */
};

/* A client or a server; `identity_path` without .crt and .key, or NULL; it verifies by
 * `ca_path` unless that is NULL. `version` as TLS1_3_VERSION. */
void tls_peer_init(struct tls_peer *peer, bool is_server, int version,
                   const char *identity_path, const char *ca_path);
/* Begins anew over another socket, with the same settings and the last session. */
void tls_peer_open(struct tls_peer *peer, int fd);
void tls_peer_close(struct tls_peer *peer);
void tls_peer_clear(struct tls_peer *peer);

/* Carries bytes and, until it is done, goes on with the handshake. */
void tls_peer_turn(struct tls_peer *peer);
/* As much as it can: no more is encrypted than a few records that wait to be carried. */
size_t tls_peer_write(struct tls_peer *peer, const void *bytes, size_t n);
/* What is there; `*has_ended` when a close_notify is. */
size_t tls_peer_read(struct tls_peer *peer, void *bytes, size_t n, bool *has_ended);
/* Takes new keys, and may ask the other side to do the same. */
void tls_peer_renew_keys(struct tls_peer *peer, bool asks);
/* Sends close_notify. */
void tls_peer_end(struct tls_peer *peer);
/* How many bytes wait to be carried. */
size_t tls_peer_n_waiting(const struct tls_peer *peer);

#endif
