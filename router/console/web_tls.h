/* router/console/web_tls.h - HTTPS: TLS by core/stream, in front of libmicrohttpd.
 *
 *   browser == TLS == outside |relay| inside == socket pair == libmicrohttpd
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_WEB_TLS_H
#define ROUTER_CONSOLE_WEB_TLS_H

#include "core/stream_tls.h"

struct web_tls;

/* `on_plain` gets a connection once it has shaken hands: what comes out of `fd`, which is
 * the callee's, was decrypted, and what goes in will be encrypted. `on_room` is called
 * whenever one of them has gone. NULL when memory is out. */
struct web_tls *web_tls_new(struct loop *loop,
                            void (*on_plain)(void *arg, int fd,
                                             const struct address *peer),
                            void (*on_room)(void *arg), void *arg) MUST_CHECK;
/* Closes all; the loop must still run its deferred functions once. NULL is fine. */
void web_tls_free(struct web_tls *web);
/* Connections that there are. */
unsigned web_tls_count(const struct web_tls *web);
/* Takes the connection, also when it fails; a handshake that takes too long ends. */
void web_tls_take(struct web_tls *web, int fd, const struct address *peer,
                  struct tls_context *context);

#endif
