/* health/store_keys.h - keys and values of a store, as they were at one revision. Pure.
 *
 * What is kept is what stands below one prefix; names are without it. Few keys: a cluster
 * has about ten and one for each member.
 */
#ifndef HEALTH_STORE_KEYS_H
#define HEALTH_STORE_KEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/check.h"

/* More than that, in number or in bytes of one value, is not Patroni's. */
#define STORE_KEYS_MAX 1000
#define STORE_VALUE_MAX_BYTES (1u << 20)

struct store_key {
    char *name;  /* with a zero byte behind it, and perhaps some in it */
    char *value; /* likewise */
    size_t name_length, length;
    int64_t created_at, changed_at; /* revisions */
};

/* A zeroed one is empty. */
struct store_keys {
    struct store_key *items;
    size_t n, room;
};

void store_keys_clear(struct store_keys *keys);
/* Name and value are copied. False when memory is out or there are too many: nothing has
 * changed then. */
bool store_keys_put(struct store_keys *keys, const struct store_key *key) MUST_CHECK;
void store_keys_remove(struct store_keys *keys, const char *name, size_t name_length);
/* NULL = there is none. Valid until the next change. */
const struct store_key *store_keys_find(const struct store_keys *keys, const char *name);

/* Whether `ours`, which know of all changes up to `our_revision`, have missed something
 * that `theirs`, all keys as of `their_revision`, show: a key that is new or newer there,
 * or one that is gone. */
bool store_keys_lack(const struct store_keys *ours, int64_t our_revision,
                     const struct store_keys *theirs, int64_t their_revision);

#endif
