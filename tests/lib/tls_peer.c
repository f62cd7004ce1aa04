#include "tests/lib/tls_peer.h"

#include <errno.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "core/check.h"

#define ENOUGH_WAITING 65536u

static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls_peer *peer = SSL_get_app_data(ssl);

    SSL_SESSION_free(peer->session);
    peer->session = session;
    return 1;
}

void tls_peer_init(struct tls_peer *peer, bool is_server, int version,
                   const char *identity_path, const char *ca_path)
{
    char path[256];

    *peer = (struct tls_peer){.fd = -1};
    peer->context = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
    REQUIRE(peer->context != NULL);
    REQUIRE(SSL_CTX_set_min_proto_version(peer->context, version) == 1);
    REQUIRE(SSL_CTX_set_max_proto_version(peer->context, version) == 1);
    if (identity_path != NULL) {
        snprintf(path, sizeof path, "%s.crt", identity_path);
        REQUIRE(SSL_CTX_use_certificate_chain_file(peer->context, path) == 1);
        snprintf(path, sizeof path, "%s.key", identity_path);
        REQUIRE(SSL_CTX_use_PrivateKey_file(peer->context, path, SSL_FILETYPE_PEM) == 1);
    }
    if (ca_path != NULL) {
        REQUIRE(SSL_CTX_load_verify_file(peer->context, ca_path) == 1);
        SSL_CTX_set_verify(peer->context,
                           SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
    }
    REQUIRE(SSL_CTX_set_session_id_context(peer->context, (const unsigned char *)"peer",
                                           4) == 1);
    if (!is_server) {
        SSL_CTX_set_session_cache_mode(peer->context, SSL_SESS_CACHE_CLIENT |
                                                          SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(peer->context, on_new_session);
    }
}

void tls_peer_open(struct tls_peer *peer, int fd)
{
    tls_peer_close(peer);
    peer->ssl = SSL_new(peer->context);
    REQUIRE(peer->ssl != NULL);
    SSL_set_bio(peer->ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_mode(peer->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE);
    SSL_set_app_data(peer->ssl, peer);
    if (SSL_CTX_get_ssl_method(peer->context) == TLS_server_method()) {
        SSL_set_accept_state(peer->ssl);
    } else {
        SSL_set_connect_state(peer->ssl);
        if (peer->session != NULL)
            REQUIRE(SSL_set_session(peer->ssl, peer->session) == 1);
    }
    peer->fd = fd;
    peer->piece = peer->n_sent = peer->n_heard = 0;
    peer->n_left = peer->flip_at = SIZE_MAX;
    peer->is_deaf = peer->has_ended = peer->is_greeted = peer->has_failed = false;
}

void tls_peer_close(struct tls_peer *peer)
{
    if (peer->ssl != NULL && peer->is_greeted && !peer->has_failed)
        SSL_set_shutdown(peer->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(peer->ssl);
    peer->ssl = NULL;
}

void tls_peer_clear(struct tls_peer *peer)
{
    tls_peer_close(peer);
    SSL_SESSION_free(peer->session);
    SSL_CTX_free(peer->context);
    *peer = (struct tls_peer){.fd = -1};
}

static void hear(struct tls_peer *peer)
{
    uint8_t bytes[16384];
    size_t most = peer->piece != 0 ? peer->piece : SIZE_MAX;

    while (most > 0 && !peer->is_deaf && !peer->has_ended) {
        ssize_t n = recv(peer->fd, bytes, most < sizeof bytes ? most : sizeof bytes,
                         MSG_DONTWAIT);

        if (n < 0 && errno == EAGAIN)
            return;
        if (n <= 0) {
            peer->has_ended = true;
            return;
        }
        REQUIRE(BIO_write(SSL_get_rbio(peer->ssl), bytes, (int)n) == (int)n);
        peer->n_heard += (size_t)n;
        most -= (size_t)n;
    }
}

static void say(struct tls_peer *peer)
{
    BIO *bio = SSL_get_wbio(peer->ssl);
    size_t most = peer->piece != 0 ? peer->piece : SIZE_MAX;

    if (most > peer->n_left)
        most = peer->n_left;
    while (most > 0 && BIO_pending(bio) > 0) {
        uint8_t bytes[16384];
        char *waiting;
        size_t n = (size_t)BIO_get_mem_data(bio, &waiting);
        ssize_t n_sent;

        if (n > most)
            n = most;
        if (n > sizeof bytes)
            n = sizeof bytes;
        memcpy(bytes, waiting, n);
        if (peer->flip_at >= peer->n_sent && peer->flip_at - peer->n_sent < n)
            bytes[peer->flip_at - peer->n_sent] ^= 0x20;
        n_sent = send(peer->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n_sent <= 0)
            return;
        REQUIRE(BIO_read(bio, bytes, (int)n_sent) == (int)n_sent);
        peer->n_sent += (size_t)n_sent;
        peer->n_left -= peer->n_left != SIZE_MAX ? (size_t)n_sent : 0;
        most -= (size_t)n_sent;
    }
}

/* False: it waits. */
static bool has_gone_well(struct tls_peer *peer, int result)
{
    int error = SSL_get_error(peer->ssl, result);

    if (result > 0)
        return true;
    peer->has_failed = peer->has_failed ||
                       (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE &&
                        error != SSL_ERROR_ZERO_RETURN);
    ERR_clear_error();
    return false;
}

void tls_peer_turn(struct tls_peer *peer)
{
    hear(peer);
    if (!peer->is_greeted && !peer->has_failed) {
        ERR_clear_error();
        peer->is_greeted = has_gone_well(peer, SSL_do_handshake(peer->ssl));
    }
    say(peer);
}

size_t tls_peer_n_waiting(const struct tls_peer *peer)
{
    return (size_t)BIO_pending(SSL_get_wbio(peer->ssl));
}

size_t tls_peer_write(struct tls_peer *peer, const void *bytes, size_t n)
{
    size_t at = 0;

    while (at < n && tls_peer_n_waiting(peer) < ENOUGH_WAITING) {
        size_t n_written = 0;

        ERR_clear_error();
        if (!has_gone_well(peer, SSL_write_ex(peer->ssl, (const uint8_t *)bytes + at,
                                              n - at, &n_written)))
            break;
        at += n_written;
    }
    return at;
}

size_t tls_peer_read(struct tls_peer *peer, void *bytes, size_t n, bool *has_ended)
{
    size_t at = 0;

    while (at < n) {
        size_t n_read = 0;

        ERR_clear_error();
        if (!has_gone_well(
                peer, SSL_read_ex(peer->ssl, (uint8_t *)bytes + at, n - at, &n_read)))
            break;
        at += n_read;
    }
    *has_ended = (SSL_get_shutdown(peer->ssl) & SSL_RECEIVED_SHUTDOWN) != 0;
    return at;
}

void tls_peer_renew_keys(struct tls_peer *peer, bool asks)
{
    REQUIRE(SSL_key_update(peer->ssl, asks ? SSL_KEY_UPDATE_REQUESTED
                                           : SSL_KEY_UPDATE_NOT_REQUESTED) == 1);
    REQUIRE(SSL_do_handshake(peer->ssl) == 1);
}

void tls_peer_end(struct tls_peer *peer)
{
    REQUIRE(SSL_shutdown(peer->ssl) >= 0);
}
