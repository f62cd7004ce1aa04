/* router/console/web.h - the stats port: HTTP by libmicrohttpd inside a loop.
 *
 * A request is handed up and waits, at no cost, until it is answered.
 *
 * Thread: one (control).
 */
#ifndef ROUTER_CONSOLE_WEB_H
#define ROUTER_CONSOLE_WEB_H

#include <sys/stat.h>

#include "config/config.h"
#include "core/loop.h"
#include "core/text.h"
#include "core/tls.h"
#include "router/console/basic_auth.h"

/* A longer body than this is not kept. */
#define WEB_BODY_MAX 4096u

struct web;
struct web_request;

/* `on_request` is called for each request that is whole; it must web_answer() it, at
 * once or later. NULL when memory is out. */
struct web *web_new(struct loop *loop,
                    void (*on_request)(void *arg, struct web_request *request),
                    void *arg) MUST_CHECK;
/* Every request must have been answered, and the loop must still run its deferred
 * functions once; streams end. NULL is fine. */
void web_free(struct web *web);

/* Where to listen. Borrowed for the call. */
struct web_places {
    const struct endpoint_list *endpoints;
    mode_t unix_mode; /* of the files of unix sockets */
    int backlog;
};

/* Listens where `places` says, and no longer elsewhere. False and lines in `errors` when
 * an address cannot be had: then nothing has changed. */
bool web_configure(struct web *web, const struct web_places *places,
                   struct text *errors) MUST_CHECK;
/* New connections are encrypted by this context from now on, which is held; NULL: they
 * are not. To be said before the first web_configure(), and not changed from or to NULL
 * after it. */
void web_secure(struct web *web, struct tls_context *context);

/* The request's target as it was sent: "/stats;csv", "/haproxy?stats". */
const char *web_target(const struct web_request *request);
const char *web_method(const struct web_request *request);
/* What came behind the headers, zero-terminated; cut where it is too long, or where
 * memory was out. */
const char *web_body(const struct web_request *request, bool *is_too_long);
const char *web_authorization(const struct web_request *request); /* the header, or "" */
const char *web_accept(const struct web_request *request);        /* likewise */
/* Whether it comes by a unix socket. */
bool web_is_local(const struct web_request *request);
/* Whether a browser has sent it, which says where its page is from. */
bool web_is_from_browser(const struct web_request *request);
/* Whom it comes from; false: from a unix socket. */
bool web_peer(const struct web_request *request, struct address *peer);
/* One header of its own for the answer, of constants. */
void web_add_header(struct web_request *request, const char *header, const char *value);
/* Whether it comes with the name and password of `auth`. */
enum basic_auth_answer web_check_auth(const struct web_request *request,
                                      struct basic_auth *auth);
/* Asks for one, in place of an answer. */
void web_ask_for_password(struct web_request *request);
/* What many requests are answered with alike: status 200, `body` copied once. NULL when
 * memory is out, or the body has overflowed. */
struct web_page;
struct web_page *web_page_new(const char *content_type,
                              const struct text *body) MUST_CHECK;
void web_page_release(struct web_page *page); /* NULL is fine */
/* Sends it off; the request is gone then. With NULL 500 is the answer. */
void web_answer_page(struct web_request *request, struct web_page *page);
/* Likewise. `body` is copied. */
void web_answer(struct web_request *request, unsigned status, const char *content_type,
                const struct text *body);
/* The same with one line of plain text. */
void web_answer_line(struct web_request *request, unsigned status, const char *line);
/* The same with bytes that live as long as the program, which need no copy. */
void web_answer_constant(struct web_request *request, const char *content_type,
                         const void *bytes, size_t n);

/* An answer that goes on until somebody ends it: web_stream_send() adds to it. */
struct web_stream;
/* `on_end` is called once, when the client has gone or web_stream_end() has come into
 * effect; the stream is gone then. NULL when memory is out: the request is answered with
 * a 503. */
struct web_stream *web_answer_stream(struct web_request *request,
                                     const char *content_type,
                                     void (*on_end)(void *arg, struct web_stream *stream),
                                     void *arg) MUST_CHECK;
/* False: the client has not taken yet what it was sent before, or memory is out; then
 * nothing of this is sent. */
bool web_stream_send(struct web_stream *stream, const struct text *text) MUST_CHECK;
void web_stream_end(struct web_stream *stream);

#endif
