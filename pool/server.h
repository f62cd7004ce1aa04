/* pool/server.h - one connection of ours to PostgreSQL.
 *
 *        .--------------------------.
 *   CONNECTING --> ASKING --> SECURING --> OPEN --> CLOSING      (from each)
 *        '---------------------^
 *
 *   CONNECTING  to one of the node's addresses
 *   ASKING      the node whether it speaks TLS; not with sslnegotiation = direct
 *   SECURING    the TLS handshake
 *
 * A server tries the addresses of its node in turn and counts among the node's sessions
 * from its birth to its end. In tcp mode its one client drives what is said on it.
 *
 * Thread: a server belongs to the worker that opened it.
 */
#ifndef POOL_SERVER_H
#define POOL_SERVER_H

#include "core/loop.h"
#include "core/slab.h"
#include "core/stream.h"
#include "core/stream_tls.h"
#include "health/topology.h"
#include "pool/security.h"

#define SERVER_STATES(X, TO) \
    /* state      may become                   */ \
    X(CONNECTING, TO(ASKING) | TO(SECURING) | TO(OPEN) | TO(CLOSING)) \
    X(ASKING, TO(CONNECTING) | TO(SECURING) | TO(OPEN) | TO(CLOSING)) \
    X(SECURING, TO(CONNECTING) | TO(OPEN) | TO(CLOSING)) \
    X(OPEN, TO(CLOSING)) \
    X(CLOSING, 0)

enum server_state {
#define X(name, next) SERVER_##name,
    SERVER_STATES(X, )
#undef X
        SERVER_STATE_COUNT
};

struct server;

struct server_events {
    /* Connected: the stream's callbacks are still the server's, set your own. */
    void (*on_open)(struct server *server);
    /* No address of the node could be reached in time, or TLS could not be had:
     * STREAM_TLS_FAILED, and server->tls_why. Close the server. */
    void (*on_unreachable)(struct server *server, enum stream_failure why);
};

struct server {
    struct stream stream;
    const struct server_events *events;
    void *owner;
    struct slab *home;
    struct topology *topology; /* held until connected: the addresses are in it */
    const struct topology_node *node;
    struct node_load *load;    /* held */
    struct security *security; /* held until open; NULL: not encrypted */
    struct tls_memory *memory; /* of TLS with the node; NULL: nothing is kept */
    const char *tls_why;       /* a constant: why TLS could not be had */
    struct deadline deadline;
    struct deferred end;
    uint64_t connect_timeout_ms;
    const struct tcp_settings *settings;
    uint32_t node_id;
    uint8_t next_address;
    enum server_state state;
};

/* Begins to connect to `node` of `topology`. Each address has `connect_timeout_ms`. The
 * settings must live until the server is open. NULL when memory is out. */
struct server *server_open(struct slab *home, struct loop *loop,
                           struct topology *topology, const struct topology_node *node,
                           uint64_t connect_timeout_ms,
                           const struct tcp_settings *settings,
                           const struct server_events *events, void *owner) MUST_CHECK;
/* One whose descriptor comes from another worker: OPEN at once. `ssl` is NULL for one
 * without TLS. Holds the load. NULL when memory is out: descriptor and ssl are closed. */
struct server *server_adopt(struct slab *home, struct loop *loop, int fd, SSL *ssl,
                            uint32_t node_id, struct node_load *load,
                            const struct stream_events *events, void *owner) MUST_CHECK;
/* Of one that has just been opened: before on_open it is encrypted, as `security` says.
 * Both may be NULL; the memory outlives the stream. */
void server_secure(struct server *server, struct security *security,
                   struct tls_memory *memory);
/* Closes the stream now (by RST if `reset`); the struct goes after the iteration. */
void server_close(struct server *server, bool reset);

const char *server_state_name(enum server_state state);

#endif
