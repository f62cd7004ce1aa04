/* core/stream_tls.h - TLS on top of a stream that is open, behind the same interface.
 *
 *      owner
 *        |   plain bytes        struct stream, the owner's, of a new kind
 *     OpenSSL                   both ways through one BIO of ours, never a descriptor
 *        |   records            struct stream, the half below, of any other kind
 *      socket
 *
 * What core/stream.h says holds for it. Besides:
 * - Its close_notify goes out behind the last byte, before the FIN; without an end before
 *   it, stream_close() sends one if nothing is in its way.
 * - on_end comes with the peer's close_notify or with its FIN, whichever is first, and
 *   stream_tls_was_truncated() tells the two apart.
 * - What the peer sends for TLS's own sake (tickets, new keys) is never told. While an
 *   answer to it cannot be sent, nothing more is read.
 * - At most TLS_BYTES_PER_ITERATION are sent in one iteration, and one receive of the
 * half below is decrypted.
 * - It takes no buffers in pipes, and brings none.
 *
 * Thread: a stream's. SSL objects may go from one to another by detaching.
 */
#ifndef CORE_STREAM_TLS_H
#define CORE_STREAM_TLS_H

#include "core/stream.h"
#include "core/tls.h"

#define TLS_BYTES_PER_ITERATION 65536u

struct tls_start {
    struct tls_context *context; /* held for as long as it is needed */
    /* Of a client: whom it asks for, a name or a number; copied. NULL: the name is
     * nobody's business, which TLS_VERIFY_FULL does not allow. */
    const char *host;
    /* Of a client: where to find a session and to leave one. May be NULL; outlives the
     * stream. */
    struct tls_memory *memory;
    /* Records that have arrived already, a ClientHello for example; in memory. NULL: none
     * have. */
    struct buffer *first;
    /* The handshake fails unless the context's ALPN protocol was agreed on: for
     * connections that begin with TLS. */
    bool needs_alpn;
};

/* Turns an open stream of another kind into one of TLS; what it still sends goes first.
 * on_open tells that the handshake is done, what is sent before waits for it. There is no
 * time limit here. False when memory is out: then nothing has changed, and `first` is the
 * caller's still. */
bool stream_tls_start(struct stream *stream, const struct tls_start *how) MUST_CHECK;

/* Why on_failed said STREAM_TLS_FAILED: a constant, a few words. To be asked within that
 * callback, before the struct is used for anything else. */
const char *stream_tls_why(const struct stream *stream);
/* What that is when the peer has ended the connection in the handshake, without a word:
 * to be compared by address. */
extern const char stream_tls_peer_has_left[];

bool stream_is_tls(const struct stream *stream);

/* Of an open stream of TLS whose handshake is done. Texts are constants ("TLSv1.3",
 * "TLS_AES_256_GCM_SHA384"). Certificates are the stream's, NULL when there is none; for
 * a resumed one they are those of the first handshake. */
const char *stream_tls_version(const struct stream *stream);
const char *stream_tls_cipher(const struct stream *stream);
/* Whether both sides have agreed on the context's ALPN protocol. */
bool stream_tls_has_alpn(const struct stream *stream);
bool stream_tls_was_resumed(const struct stream *stream);
X509 *stream_tls_certificate(const struct stream *stream);
/* Verified, if the context's settings say so and not otherwise. */
X509 *stream_tls_peer_certificate(const struct stream *stream);

/* After on_end: the peer's FIN came without its close_notify, so somebody may have cut
 * off the rest. */
bool stream_tls_was_truncated(const struct stream *stream);

/* stream_detach() is for a stream of TLS whose handshake is done and that has nothing
 * undelivered: stream_tls_can_detach() says so. What arrives until `done` is told by
 * on_bytes even if the owner wants none. Within `done` the owner takes the SSL, which
 * belongs to the descriptor from now on; else it is freed. */
bool stream_tls_can_detach(const struct stream *stream);
SSL *stream_tls_take(struct stream *stream) MUST_CHECK;
/* As stream_adopt(), with an SSL from stream_tls_take(), in any loop. False when memory
 * is out: then both are still the caller's. */
bool stream_tls_adopt(struct stream *stream, struct loop *loop, int fd, SSL *ssl,
                      const struct tcp_settings *settings,
                      const struct stream_events *events, void *owner) MUST_CHECK;
/* Frees an SSL that nobody adopts. Any thread; NULL is fine. */
void stream_tls_discard(SSL *ssl);

#endif
