/* pool/cancel_keys.h - which session a cancel request means.
 *
 * PostgreSQL gives each session a key (BackendKeyData), and a client that wants a query
 * cancelled opens a second connection and shows the key. The worker that has the session
 * remembers key and node here for the session's life.
 *
 * Thread: one table per worker.
 */
#ifndef POOL_CANCEL_KEYS_H
#define POOL_CANCEL_KEYS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/address.h"
#include "wire/startup.h"

struct cancel_keys;
struct cancel_entry;

struct cancel_keys *cancel_keys_new(void) MUST_CHECK;
/* Every entry must be gone. NULL is fine. */
void cancel_keys_free(struct cancel_keys *keys);

/* Remembers that `key` was issued by the node. Two nodes may issue the same key: the
 * first one found wins. NULL when memory is out: the session then goes on uncancellable.
 */
struct cancel_entry *cancel_keys_add(struct cancel_keys *keys,
                                     const struct cancel_key *key,
                                     uint32_t node_id) MUST_CHECK;
/* The same for a key of our own making, which means a client of a pool. */
struct cancel_entry *cancel_keys_add_own(struct cancel_keys *keys,
                                         const struct cancel_key *key,
                                         void *client) MUST_CHECK;
void cancel_keys_remove(struct cancel_keys *keys, struct cancel_entry *entry);

/* False when nobody here has the key. Of a key of our own `*client` is set, else NULL. */
bool cancel_keys_find(const struct cancel_keys *keys, const struct cancel_key *key,
                      uint32_t *node_id, void **client) MUST_CHECK;

/* Keys of our own, laid out so that PgBouncer's peers can pass requests on to us, and we
 * to them. Of the process id and the secret as one run of bytes:
 *
 *   byte  0      its highest bit is clear: clients take it for a process id
 *         1, 2   the peer_id of whoever has made the key, the low byte first
 *         7      its two lowest bits: how often a request may still be passed on
 *
 * All else is random, and so are these without a peer_id.
 */
#define CANCEL_KEY_OWN_BYTES 4u       /* of the secret, as in protocol 3.0 */
#define CANCEL_KEY_OWN_LONG_BYTES 32u /* since 3.2 */
/* Makes a key of ours; `peer_id` 0 = we have none. False when chance is out. */
bool cancel_key_make(struct cancel_key *key, unsigned peer_id, bool is_long) MUST_CHECK;
/* Whose it would be, if it is laid out like that. */
unsigned cancel_key_peer(const struct cancel_key *key);
/* The key as it was made, however often a request with it was passed on. */
void cancel_key_renew(struct cancel_key *key);
/* A request with it is passed on; false: it was passed on too often. */
bool cancel_key_spend(struct cancel_key *key) MUST_CHECK;

/* Lets through at most CANCELS_PER_SECOND requests of one client address in each second.
 * A fixed table: an address that falls out of it starts anew. */
#define CANCELS_PER_SECOND 20u
#define CANCEL_RATES 256u

struct cancel_rates {
    struct {
        struct address address;
        uint64_t second;
        unsigned n;
    } slots[CANCEL_RATES];
};
bool cancel_rates_allow(struct cancel_rates *rates, const struct address *address,
                        uint64_t now_ms);

#endif
