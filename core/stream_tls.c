/* core/stream_tls.c - streams of TLS, each on top of a stream of another kind.
 *
 * The half below brings records in a buffer, which OpenSSL reads through the link until
 * it is empty; only then is the next one wanted. So whatever is pending is in that buffer
 * or decrypted in OpenSSL, and has_pending() knows it. What OpenSSL writes is always
 * taken: sent at once as far as it goes, the rest into buffers of the half below.
 * Back-pressure is one step higher: while that half has something to send nothing more is
 * encrypted, and if that is an answer of TLS itself (to new keys, to a wish to negotiate
 * anew), nothing more is read. The reverse: while OpenSSL has heard half a message of TLS
 * itself, it sends nothing, and we read for its sake, whatever the owner wants.
 */
#include "core/stream_tls.h"

#include <openssl/err.h>
#include <string.h>
#include <unistd.h>

#include "core/memory.h"

/* Records that bring nothing to the owner (tickets, new keys) and come in a row: so many
 * are looked at in one iteration. New keys cost us more than the peer that sends them. */
#define USELESS_PER_ITERATION 16u
#define RECORD_HEADER_BYTES 5u

const char stream_tls_peer_has_left[] = "the peer has left in the handshake";

struct stream_tls {
    struct stream below;  /* of records */
    struct stream *above; /* the owner's; NULL: closed */
    struct tls_link link;
    struct tls_context *context;
    SSL *ssl;
    struct buffer *in;     /* records that OpenSSL has not read yet */
    struct deferred later; /* goes on in the next iteration */
    struct deferred end;   /* frees this, when no callback is under way any more */
    uint64_t iteration;
    uint32_t n_encrypted; /* bytes, in that iteration */
    uint32_t n_useless;   /* records in a row, in that iteration */
    enum stream_failure failure;
    bool is_broken : 1; /* to be told: by `failure` */
    bool is_reading : 1;
    bool owes_answer : 1; /* of TLS to its peer: it waits in the half below */
    bool hears_out : 1;   /* half a message of TLS: it sends nothing before the rest */
    bool was_truncated : 1;
};

static const struct stream_ops tls_ops;

/* What SSL_read() and its like say. */
enum outcome { WAITS, ENDED, BROKEN };

static struct stream_tls *tls_of(const struct stream *stream)
{
    return stream->watcher.data;
}

static bool is_open(const struct stream_tls *tls)
{
    return tls->above != NULL;
}

/* What is counted is counted by iteration. A stream that is to leave its loop has no
 * next one there. */
static void count_anew(struct stream_tls *tls)
{
    uint64_t iteration = tls->below.loop->n_iterations;

    if (tls->iteration == iteration && tls->above->on_detached == NULL)
        return;
    tls->iteration = iteration;
    tls->n_encrypted = tls->n_useless = 0;
}

/* ---- beneath OpenSSL -----------------------------------------------------------------
 */

static size_t read_records(struct tls_link *link, uint8_t *bytes, size_t n)
{
    struct stream_tls *tls = CONTAINER_OF(link, struct stream_tls, link);
    struct buffer *in = tls->in;

    if (in == NULL || tls->owes_answer)
        return 0;
    if (tls->is_reading && n == RECORD_HEADER_BYTES) {
        count_anew(tls);
        if (tls->n_useless == USELESS_PER_ITERATION)
            return 0;
        tls->n_useless++;
    }
    if (n > buffer_unread(in))
        n = buffer_unread(in);
    memcpy(bytes, in->bytes + in->begin, n);
    buffer_skip(in, (uint32_t)n);
    if (buffer_unread(in) == 0) {
        tls->in = NULL;
        buffer_give(in);
    }
    return n;
}

static bool write_records(struct tls_link *link, const uint8_t *bytes, size_t n)
{
    struct stream_tls *tls = CONTAINER_OF(link, struct stream_tls, link);
    struct stream *below = &tls->below;
    size_t at = below->ops->write != NULL ? below->ops->write(below, bytes, n) : 0;

    while (at < n) {
        struct buffer *buffer = buffer_take(below->loop->pond);
        size_t piece;

        if (buffer == NULL) {
            tls->failure = STREAM_NO_MEMORY;
            return false;
        }
        piece = n - at < buffer->size ? n - at : buffer->size;
        REQUIRE(buffer_add(buffer, bytes + at, (uint32_t)piece));
        at += piece;
        (void)stream_send(below, buffer);
    }
    if (tls->is_reading && stream_is_sending(below))
        tls->owes_answer = true;
    return true;
}

static const struct tls_link_ops link_ops = {
    .read = read_records,
    .write = write_records,
};

/* The first complaint of TLS itself, or else of what lies beneath it. */
static unsigned long complaint(void)
{
    unsigned long first = ERR_peek_error(), error;

    while ((error = ERR_get_error()) != 0)
        if (ERR_GET_LIB(error) == ERR_LIB_SSL)
            return error;
    return first;
}

/* Of a call that did not succeed. What went wrong is written down once. */
static enum outcome outcome_of(struct stream_tls *tls, int result)
{
    int error = SSL_get_error(tls->ssl, result);
    unsigned long code;

    if (error == SSL_ERROR_WANT_READ)
        return WAITS;
    if (error == SSL_ERROR_ZERO_RETURN)
        return ENDED;
    if (ERR_GET_REASON(ERR_peek_error()) == ERR_R_MALLOC_FAILURE)
        tls->failure = STREAM_NO_MEMORY;
    code = complaint();
    if (tls->link.why == NULL && ERR_GET_LIB(code) == ERR_LIB_SSL &&
        ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED)
        tls->link.why = X509_verify_cert_error_string(SSL_get_verify_result(tls->ssl));
    if (tls->link.why == NULL)
        tls->link.why = ERR_reason_error_string(code);
    ERR_clear_error();
    return BROKEN;
}

/* ---- its end -------------------------------------------------------------------------
 */

static void free_tls(struct deferred *deferred)
{
    memory_free(CONTAINER_OF(deferred, struct stream_tls, end));
}

static void free_ssl(SSL *ssl)
{
    /* Without this OpenSSL takes the session for a broken one, and no handshake resumes
     * it any more. */
    if (ssl != NULL && SSL_is_init_finished(ssl) && SSL_get_shutdown(ssl) == 0)
        SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(ssl);
}

/* Everything but the half below. `above` keeps its pointer to us for stream_tls_why(). */
static void leave(struct stream_tls *tls)
{
    struct loop *loop = tls->below.loop;

    ev_clear_pending(loop->ev, &tls->above->watcher);
    stream_outbox_drop(tls->above);
    tls->above->ops = NULL;
    tls->above = NULL;
    buffer_give(tls->in);
    tls->in = NULL;
    loop_discontinue(loop, &tls->later);
    tls->end.run = free_tls;
    loop_defer(loop, &tls->end);
}

static void release_ssl(struct stream_tls *tls)
{
    free_ssl(tls->ssl);
    tls_context_release(tls->context);
    tls->ssl = NULL;
    tls->context = NULL;
}

static void fail(struct stream_tls *tls, enum stream_failure why)
{
    struct stream *above = tls->above;

    leave(tls);
    stream_close(&tls->below);
    release_ssl(tls);
    above->events->on_failed(above, why);
}

static void tell_end_to_peer(struct stream_tls *tls)
{
    ERR_clear_error();
    (void)SSL_shutdown(tls->ssl); /* it may fail, and then so does the half below */
    ERR_clear_error();
}

static void tls_close(struct stream *stream, bool reset)
{
    struct stream_tls *tls = tls_of(stream);

    if (!reset && !tls->is_broken && !stream->is_connecting && !stream->end_sent &&
        !stream_is_sending(stream) && !stream_is_sending(&tls->below))
        tell_end_to_peer(tls);
    leave(tls);
    if (reset)
        stream_reset(&tls->below);
    else
        stream_close(&tls->below);
    release_ssl(tls);
}

/* ---- what it waits for ---------------------------------------------------------------
 */

/* Has advance() run from the loop, so that no callback comes from a call. */
static void wake(struct stream *stream)
{
    ev_feed_event(stream->loop->ev, &stream->watcher, EV_CUSTOM);
}

static bool wants_bytes(const struct stream_tls *tls)
{
    const struct stream *above = tls->above;

    return (above->wants_bytes || above->on_detached != NULL) && !above->has_ended &&
           !tls->owes_answer;
}

/* Something that the kernel will not tell of again. */
static bool has_pending(const struct stream_tls *tls)
{
    return tls->in != NULL || SSL_pending(tls->ssl) > 0 ||
           (SSL_get_shutdown(tls->ssl) & SSL_RECEIVED_SHUTDOWN) != 0 ||
           tls->below.has_ended;
}

/* Of useless records, of which there may be more. */
static bool is_weary(struct stream_tls *tls)
{
    count_anew(tls);
    return tls->n_useless == USELESS_PER_ITERATION && tls->in != NULL;
}

static void settle(struct stream *stream)
{
    struct stream_tls *tls = tls_of(stream);

    if (stream->is_connecting) {
        stream_want(&tls->below, tls->in == NULL);
    } else if (wants_bytes(tls) && has_pending(tls)) {
        stream_want(&tls->below, false);
        if (is_weary(tls))
            loop_continue(stream->loop, &tls->later);
        else
            wake(stream);
    } else {
        stream_want(&tls->below, wants_bytes(tls) || (tls->hears_out && tls->in == NULL));
    }
}

/* ---- the handshake -------------------------------------------------------------------
 */

static void finish_handshake(struct stream_tls *tls)
{
    struct stream *above = tls->above;

    if (tls->link.needs_alpn && !stream_tls_has_alpn(above)) {
        tls->link.why = "no protocol was agreed on by ALPN";
        fail(tls, STREAM_TLS_FAILED);
        return;
    }
    above->is_connecting = false;
    above->events->on_open(above);
}

static void shake_hands(struct stream_tls *tls)
{
    struct loop *loop = tls->below.loop;
    enum outcome outcome = WAITS;
    int result;

    if (!loop_begin_work(loop)) {
        loop_continue(loop, &tls->later);
        return;
    }
    ERR_clear_error();
    result = SSL_do_handshake(tls->ssl);
    if (result != 1)
        outcome = outcome_of(tls, result);
    loop_end_work(loop);
    if (outcome == ENDED && tls->link.why == NULL)
        tls->link.why = stream_tls_peer_has_left;
    if (result == 1)
        finish_handshake(tls);
    else if (outcome != WAITS)
        fail(tls, tls->failure);
}

/* ---- sending -------------------------------------------------------------------------
 */

static bool may_encrypt_more(struct stream_tls *tls)
{
    count_anew(tls);
    if (tls->n_encrypted < TLS_BYTES_PER_ITERATION)
        return true;
    loop_continue(tls->below.loop, &tls->later);
    return false;
}

static void break_off(struct stream_tls *tls, const char *why)
{
    if (tls->link.why == NULL)
        tls->link.why = why;
    tls->is_broken = true;
}

/* False: nothing more for now. */
static bool encrypt(struct stream_tls *tls, struct buffer *buffer)
{
    size_t n;

    ERR_clear_error();
    if (SSL_write_ex(tls->ssl, buffer->bytes + buffer->begin, buffer_unread(buffer),
                     &n) == 1) {
        buffer_skip(buffer, (uint32_t)n);
        tls->n_encrypted += (uint32_t)n;
        return true;
    }
    if (outcome_of(tls, 0) != WAITS)
        break_off(tls, NULL);
    else if (tls->below.has_ended)
        break_off(tls, "the peer has left amidst a message of TLS");
    else
        tls->hears_out = true;
    return false;
}

/* Encrypts while the half below has nothing to send. The last buffer of the outbox stays
 * there, empty, until its records have gone: then nothing is pending. */
static void push(struct stream_tls *tls)
{
    struct stream *above = tls->above;

    tls->hears_out = false;
    while (above->first_out != NULL && !stream_is_sending(&tls->below)) {
        if (tls->below.send_failed)
            stream_outbox_drop(above); /* it is not kept; on_failed is on its way */
        else if (buffer_unread(above->first_out) == 0)
            stream_outbox_drop_first(above);
        else if (!may_encrypt_more(tls) || !encrypt(tls, above->first_out))
            break;
    }
}

static bool tls_send(struct stream *stream, struct buffer *bytes)
{
    struct stream_tls *tls = tls_of(stream);

    REQUIRE(bytes->bytes != NULL);
    if (tls->below.send_failed || tls->is_broken) {
        buffer_give(bytes);
        return false;
    }
    stream_outbox_append(stream, bytes);
    if (stream->is_connecting)
        return false;
    push(tls);
    if (tls->is_broken)
        wake(stream);
    else if (tls->hears_out)
        settle(stream);
    return stream->first_out == NULL && !tls->below.send_failed;
}

static void send_end(struct stream_tls *tls)
{
    struct stream *above = tls->above;

    if (above->is_ending && !above->end_sent && above->first_out == NULL &&
        !above->is_connecting && !tls->is_broken) {
        above->end_sent = true;
        tell_end_to_peer(tls);
        stream_end(&tls->below);
    }
}

static void tls_end(struct stream *stream)
{
    stream->is_ending = true;
    send_end(tls_of(stream));
}

static void go_on_sending(struct stream_tls *tls)
{
    struct stream *above = tls->above;

    if (above->first_out == NULL) {
        send_end(tls);
        return;
    }
    push(tls);
    if (tls->is_broken) {
        fail(tls, tls->failure);
    } else if (above->first_out == NULL && !tls->below.send_failed) {
        send_end(tls);
        above->events->on_sent(above);
    }
}

/* ---- receiving -----------------------------------------------------------------------
 */

/* As much as fits into the buffer. */
static enum outcome decrypt(struct stream_tls *tls, struct buffer *buffer)
{
    int result = 1;

    do {
        size_t n;

        ERR_clear_error();
        tls->is_reading = true;
        result =
            SSL_read_ex(tls->ssl, buffer->bytes + buffer->end, buffer_room(buffer), &n);
        tls->is_reading = false;
        if (result == 1) {
            buffer->end += (uint32_t)n;
            tls->n_useless = 0;
        }
    } while (result == 1 && buffer_room(buffer) > 0 && has_pending(tls) &&
             !tls->owes_answer);
    return result == 1 ? WAITS : outcome_of(tls, result);
}

static void end_reading(struct stream_tls *tls)
{
    struct stream *above = tls->above;

    above->has_ended = true;
    buffer_give(tls->in); /* behind the peer's end there is nothing */
    tls->in = NULL;
    above->events->on_end(above);
}

/* FIN, behind all that there was, and no close_notify. */
static bool is_cut_off(const struct stream_tls *tls)
{
    return tls->below.has_ended && tls->in == NULL && SSL_pending(tls->ssl) == 0 &&
           (SSL_get_shutdown(tls->ssl) & SSL_RECEIVED_SHUTDOWN) == 0;
}

static void tell_bytes(struct stream_tls *tls)
{
    struct stream *above = tls->above;
    struct buffer *buffer = buffer_take(above->loop->pond);
    enum outcome outcome;

    if (buffer == NULL) {
        fail(tls, STREAM_NO_MEMORY);
        return;
    }
    buffer->begin = buffer->end = BUFFER_HEADROOM;
    outcome = decrypt(tls, buffer);
    if (buffer_unread(buffer) > 0)
        above->events->on_bytes(above, buffer);
    else
        buffer_give(buffer);
    if (is_open(tls) && outcome == BROKEN)
        fail(tls, tls->failure);
    else if (is_open(tls) && outcome == ENDED && wants_bytes(tls))
        end_reading(tls);
}

/* Tells what there is, for as long as the owner wants it. */
static void pull(struct stream_tls *tls)
{
    while (is_open(tls) && wants_bytes(tls) && has_pending(tls) && !is_weary(tls)) {
        tls->was_truncated = is_cut_off(tls);
        if (tls->was_truncated)
            end_reading(tls);
        else
            tell_bytes(tls);
    }
}

/* ---- from the loop -------------------------------------------------------------------
 */

static void advance(struct stream_tls *tls)
{
    if (tls->is_broken) {
        fail(tls, tls->failure);
        return;
    }
    if (tls->above->is_connecting)
        shake_hands(tls);
    if (is_open(tls) && !tls->above->is_connecting)
        go_on_sending(tls);
    if (is_open(tls) && !tls->above->is_connecting)
        pull(tls);
    if (is_open(tls))
        settle(tls->above);
}

static void on_wake(struct ev_loop *ev, ev_io *watcher, int events)
{
    (void)ev;
    (void)events;
    advance(watcher->data);
}

static void on_later(struct deferred *later)
{
    advance(CONTAINER_OF(later, struct stream_tls, later));
}

static void on_open(struct stream *below)
{
    (void)below;
    UNREACHABLE(); /* TLS begins on a stream that is open */
}

static void on_bytes(struct stream *below, struct buffer *bytes)
{
    struct stream_tls *tls = below->owner;

    REQUIRE(tls->in == NULL);
    tls->in = bytes;
    advance(tls);
}

static void on_sent(struct stream *below)
{
    struct stream_tls *tls = below->owner;

    tls->owes_answer = false;
    advance(tls);
}

/* FIN. Behind a close_notify nobody asks for it any more. */
static void on_end(struct stream *below)
{
    struct stream_tls *tls = below->owner;

    if (tls->above->is_connecting) {
        tls->link.why = stream_tls_peer_has_left;
        fail(tls, STREAM_TLS_FAILED);
    } else {
        advance(tls);
    }
}

static void on_failed(struct stream *below, enum stream_failure why)
{
    fail(below->owner, why);
}

static const struct stream_events events_below = {
    .on_open = on_open,
    .on_bytes = on_bytes,
    .on_sent = on_sent,
    .on_end = on_end,
    .on_failed = on_failed,
};

/* ---- to another loop -----------------------------------------------------------------
 */

bool stream_tls_can_detach(const struct stream *stream)
{
    const struct stream_tls *tls = tls_of(stream);

    return !stream->is_connecting && !stream_is_sending(stream) && !stream->has_ended &&
           !stream->is_ending && !tls->is_broken && !has_pending(tls) &&
           !stream_is_sending(&tls->below);
}

static void on_detached_below(struct stream *below, int fd)
{
    struct stream_tls *tls = below->owner;
    struct stream *above = tls->above;

    if (tls->is_broken) {
        close(fd);
        fail(tls, tls->failure);
        return;
    }
    REQUIRE(tls->in == NULL && !stream_is_sending(above));
    leave(tls);
    above->on_detached(above, fd);
    release_ssl(tls);
}

static void tls_detach(struct stream *stream)
{
    struct stream_tls *tls = tls_of(stream);

    REQUIRE(stream_tls_can_detach(stream));
    tls->below.on_detached = on_detached_below;
    tls->below.ops->detach(&tls->below);
}

SSL *stream_tls_take(struct stream *stream)
{
    struct stream_tls *tls = tls_of(stream);
    SSL *ssl = tls->ssl;

    REQUIRE(ssl != NULL && !is_open(tls));
    tls_link_attach(ssl, NULL);
    tls->ssl = NULL;
    tls->context = NULL; /* goes along */
    return ssl;
}

void stream_tls_discard(SSL *ssl)
{
    struct tls_context *context = ssl != NULL ? tls_context_of(ssl) : NULL;

    free_ssl(ssl);
    tls_context_release(context);
}

static enum socket_peer tls_look(const struct stream *stream, int for_ms)
{
    return stream_look(&tls_of(stream)->below, for_ms);
}

static void tls_ends(const struct stream *stream, struct socket_ends *ends)
{
    stream_ends(&tls_of(stream)->below, ends);
}

static const struct stream_ops tls_ops = {
    .settle = settle,
    .send = tls_send,
    .end = tls_end,
    .close = tls_close,
    .detach = tls_detach,
    .look = tls_look,
    .ends = tls_ends,
    .splices = false,
};

/* ---- its beginning -------------------------------------------------------------------
 */

static struct stream_tls *new_tls(void)
{
    struct stream_tls *tls = memory_zeroed(sizeof *tls);

    if (tls != NULL) {
        tls->link.ops = &link_ops;
        tls->later.run = on_later;
        tls->failure = STREAM_TLS_FAILED;
    }
    return tls;
}

/* `stream` is a plain one's husk, or zeroed but for its loop, events and owner. */
static void put_on_top(struct stream *stream, struct stream_tls *tls)
{
    tls->above = stream;
    tls->below.events = &events_below;
    tls->below.owner = tls;
    tls->below.may_splice = false;
    stream->ops = &tls_ops;
    stream->may_splice = false;
    ev_io_init(&stream->watcher, on_wake, -1, 0); /* never started, only fed */
    ev_set_priority(&stream->watcher, ev_priority(&tls->below.watcher));
    stream->watcher.data = tls;
}

bool stream_tls_start(struct stream *stream, const struct tls_start *how)
{
    struct stream_tls *tls = new_tls();

    REQUIRE(stream->ops->move != NULL && !stream->is_connecting && !stream->has_ended &&
            !stream->is_ending && stream->on_detached == NULL);
    REQUIRE(how->first == NULL || how->first->bytes != NULL);
    if (tls == NULL)
        return false;
    tls->link.memory = how->memory;
    tls->link.needs_alpn = how->needs_alpn;
    tls->ssl = tls_context_open(how->context, &tls->link, how->host);
    if (tls->ssl == NULL) {
        memory_free(tls);
        return false;
    }
    tls->context = tls_context_hold(how->context);
    tls->in = how->first;
    stream->ops->move(stream, &tls->below);
    put_on_top(stream, tls);
    stream->is_connecting = true;
    tls->below.wants_bytes = tls->in == NULL;
    tls->below.ops->settle(&tls->below);
    wake(stream);
    return true;
}

bool stream_tls_adopt(struct stream *stream, struct loop *loop, int fd, SSL *ssl,
                      const struct tcp_settings *settings,
                      const struct stream_events *events, void *owner)
{
    struct stream_tls *tls = new_tls();

    if (tls == NULL)
        return false;
    tls->ssl = ssl;
    tls->context = tls_context_of(ssl);
    tls_link_attach(ssl, &tls->link);
    stream_adopt(&tls->below, loop, fd, settings, events, tls);
    *stream = (struct stream){.loop = loop, .events = events, .owner = owner};
    put_on_top(stream, tls);
    return true;
}

/* ---- what it is ----------------------------------------------------------------------
 */

bool stream_is_tls(const struct stream *stream)
{
    return stream->ops == &tls_ops;
}

const char *stream_tls_why(const struct stream *stream)
{
    const char *why = tls_of(stream)->link.why;

    return why != NULL ? why : "OpenSSL does not say why";
}

const char *stream_tls_version(const struct stream *stream)
{
    return SSL_get_version(tls_of(stream)->ssl);
}

const char *stream_tls_cipher(const struct stream *stream)
{
    return SSL_get_cipher_name(tls_of(stream)->ssl);
}

bool stream_tls_has_alpn(const struct stream *stream)
{
    const unsigned char *name;
    unsigned n;

    SSL_get0_alpn_selected(tls_of(stream)->ssl, &name, &n);
    return n > 0;
}

bool stream_tls_was_resumed(const struct stream *stream)
{
    return SSL_session_reused(tls_of(stream)->ssl) == 1;
}

X509 *stream_tls_certificate(const struct stream *stream)
{
    return SSL_get_certificate(tls_of(stream)->ssl);
}

X509 *stream_tls_peer_certificate(const struct stream *stream)
{
    return SSL_get0_peer_certificate(tls_of(stream)->ssl);
}

bool stream_tls_was_truncated(const struct stream *stream)
{
    return tls_of(stream)->was_truncated;
}
