/* router/listener.h - what a client has to know of the listener that it came through.
 *
 * One object per [listener] and configuration: clients keep the one under which they
 * came, also when a reload has made another. The sockets are control's (router/door.h).
 *
 * Thread: immutable but for `turn`; hold and release on any.
 */
#ifndef ROUTER_LISTENER_H
#define ROUTER_LISTENER_H

#include <stdatomic.h>

#include "config/config.h"
#include "core/socket.h"
#include "pool/security.h"

struct listener {
    atomic_uint references;
    atomic_uint turn; /* grows with each routing, for round robin over all workers */
    unsigned share;   /* its place in the shares of a node_load */
    struct config *config;
    const struct listener_config *settings;
    struct security *security; /* held; NULL: bytes pass as they are */
    struct tcp_settings tcp;
};

/* Holds `config`, which `settings` is in. NULL when memory is out. */
struct listener *listener_new(struct config *config,
                              const struct listener_config *settings) MUST_CHECK;
/* Of a new one, that nobody else knows yet. Holds it; NULL is fine. */
void listener_secure(struct listener *listener, struct security *security);
struct listener *listener_hold(struct listener *listener);
void listener_release(struct listener *listener); /* NULL is fine */

#endif
