/* core/http.h - HTTP requests without blocking, by libcurl inside the loop.
 *
 * It never looks up a name, follows a redirect, uses a proxy or keeps a connection: one
 * request is one connection to the address that the caller gives. The host's name stays
 * for the Host header and, with TLS, for the server's certificate.
 *
 * An answer comes as a whole, or, where it may last for ever, piece by piece: a stream.
 *
 * Thread: one (control). Answers come from the loop, never from within a call.
 */
#ifndef CORE_HTTP_H
#define CORE_HTTP_H

#include <stdint.h>

#include "core/address.h"
#include "core/loop.h"

/* An answer with more bytes than this, in its head or in its body, is a failed one. */
#define HTTP_ANSWER_MAX_BYTES 65536

struct http;
struct http_request;
struct tls_context;

enum http_outcome {
    HTTP_ANSWERED,
    HTTP_REFUSED, /* no connection came about: refused, reset or without a route */
    HTTP_TIMEOUT,
    HTTP_FAILED,  /* anything else of the other side's: not HTTP, too long, cut short */
    HTTP_NOT_SENT /* memory or descriptors are out on our side */
};

struct http_answer {
    enum http_outcome outcome;
    int status;       /* 0 unless HTTP_ANSWERED */
    const char *body; /* with a zero byte behind it; "" unless HTTP_ANSWERED */
    size_t length;
    const char *error; /* in words; "" when HTTP_ANSWERED */
    uint32_t duration_ms;
    bool is_sent; /* a connection came about: the other side may have read the request */
};

/* Texts are borrowed until http_send() returns. */
struct http_call {
    const char *host; /* a name or a number */
    const struct address *address;
    const char *path;          /* begins with "/" */
    const char *body;          /* NULL: GET; else POST of JSON */
    const char *authorization; /* the header's value; NULL: none */
    const char *user;          /* by HTTP's Basic (RFC 7617); NULL or "": nobody */
    const char *password;
    const char *header; /* one more, "Name: value"; NULL: none */
    /* NULL: http; else https, whose settings say whom to trust: with TLS_VERIFY_FULL the
     * certificate must name the host. */
    struct tls_context *tls;
    size_t max_bytes; /* of the answer's body; 0: HTTP_ANSWER_MAX_BYTES */
    /* Until the answer has come. Of a stream only until the connection is there: the
     * kernel tells within some seconds when its peer has vanished, and `on_piece` what is
     * late. */
    uint32_t timeout_ms;
    /* NULL: no stream. Called with what has come of the body of an answer 200, in pieces
     * that begin and end anywhere; may start or cancel any request. Other answers have
     * their body as a whole. */
    void (*on_piece)(void *arg, const char *bytes, size_t length);
    /* Called once, at the end; of a stream that was answered with 200 without a body. May
     * start or cancel any request; `answer` and what it points to are gone afterwards. */
    void (*on_answer)(void *arg, const struct http_answer *answer);
    void *arg;
};

/* NULL when memory is out. */
struct http *http_new(struct loop *loop) MUST_CHECK;
/* Every request must have ended or be cancelled. NULL is fine. */
void http_free(struct http *http);

/* http[s]://HOST:PORT/PATH, whose port is the address's. NULL when memory is out. */
struct http_request *http_send(struct http *http,
                               const struct http_call *call) MUST_CHECK;
/* `on_answer` will not be called. Not to be called after it was. */
void http_cancel(struct http_request *request);

#endif
