/* pool/security.h - whether and how connections are encrypted, on both sides, as
 * client_tls_* and server_tls_* say; and the key of mock salts, which is made of secrets
 * that stay over a restart (pool/mock_key.h).
 *
 * A snapshot: made by control at start, at a reload and when files have changed, given to
 * listeners and workers, and counted by those who hold it.
 *
 * Thread: immutable; hold and release on any.
 */
#ifndef POOL_SECURITY_H
#define POOL_SECURITY_H

#include <stdatomic.h>

#include "config/config.h"
#include "core/list.h"
#include "core/tls_registry.h"
#include "pool/mock_key.h"

struct security {
    atomic_uint references;
    /* Grows when it is another way in which servers are spoken to: not with a certificate
     * that was renewed. */
    unsigned generation;
    enum sslmode to_clients;
    enum sslmode to_servers;
    struct tls_context *client_context; /* held; NULL: SSLMODE_DISABLE */
    struct tls_context *server_context; /* the same */
    struct tls_context *stats_context;  /* the same; NULL: [stats] tls is off */
    uint8_t mock_key[MOCK_KEY_BYTES];   /* of salts for users without a SCRAM secret */
    enum mock_key_source mock_source;
};

/* What `config` says, with the files as the registry has them. `before` is what it
 * follows, or NULL. On NULL `errors` has a line for each setting that will not do. On
 * control's thread. */
struct security *security_new(struct tls_registry *registry, const struct config *config,
                              const struct security *before,
                              struct text *errors) MUST_CHECK;
struct security *security_hold(struct security *security); /* NULL is fine */
void security_release(struct security *security);          /* likewise */

/* What is kept of TLS with each node, for the next handshake with it: of one worker, in a
 * list of its own. Outlives all streams that it is given to. */
struct tls_memory *security_memory(struct list *memories, uint32_t node_id); /* or NULL */
void security_forget(struct list *memories);

#endif
