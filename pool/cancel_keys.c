#include "pool/cancel_keys.h"

#include <openssl/rand.h>
#include <string.h>

#include "core/memory.h"
#include "core/table.h"

struct cancel_entry {
    struct table_entry in_table;
    void *client; /* of a key of our own */
    uint32_t node_id;
    uint16_t length;
    uint8_t key[]; /* process id, secret: as in the protocol */
};

struct cancel_keys {
    struct table entries;
};

/* One run of bytes identifies a session. */
static uint16_t flatten(const struct cancel_key *key, uint8_t bytes[4 + CANCEL_KEY_MAX])
{
    wire_write_u32(bytes, key->process_id);
    memcpy(bytes + 4, key->secret, key->length);
    return (uint16_t)(4u + key->length);
}

struct cancel_keys *cancel_keys_new(void)
{
    struct cancel_keys *keys = memory_zeroed(sizeof *keys);

    if (keys != NULL && !table_init(&keys->entries)) {
        memory_free(keys);
        return NULL;
    }
    return keys;
}

void cancel_keys_free(struct cancel_keys *keys)
{
    if (keys == NULL)
        return;
    table_clear(&keys->entries);
    memory_free(keys);
}

struct cancel_entry *cancel_keys_add(struct cancel_keys *keys,
                                     const struct cancel_key *key, uint32_t node_id)
{
    uint8_t bytes[4 + CANCEL_KEY_MAX];
    uint16_t length = flatten(key, bytes);
    size_t size = offsetof(struct cancel_entry, key) + length;
    struct cancel_entry *entry =
        memory_zeroed(size > sizeof *entry ? size : sizeof *entry);

    if (entry == NULL)
        return NULL;
    entry->node_id = node_id;
    entry->length = length;
    memcpy(entry->key, bytes, length);
    table_add(&keys->entries, &entry->in_table,
              table_hash(&keys->entries, bytes, length));
    return entry;
}

struct cancel_entry *cancel_keys_add_own(struct cancel_keys *keys,
                                         const struct cancel_key *key, void *client)
{
    struct cancel_entry *entry = cancel_keys_add(keys, key, 0);

    if (entry != NULL)
        entry->client = client;
    return entry;
}

void cancel_keys_remove(struct cancel_keys *keys, struct cancel_entry *entry)
{
    table_remove(&keys->entries, &entry->in_table);
    memory_free(entry);
}

bool cancel_keys_find(const struct cancel_keys *keys, const struct cancel_key *key,
                      uint32_t *node_id, void **client)
{
    uint8_t bytes[4 + CANCEL_KEY_MAX];
    uint16_t length = flatten(key, bytes);

    TABLE_EACH_LIKE(found, &keys->entries, table_hash(&keys->entries, bytes, length))
    {
        const struct cancel_entry *entry =
            CONTAINER_OF(found, struct cancel_entry, in_table);

        if (entry->length != length || memcmp(entry->key, bytes, length) != 0)
            continue;
        *node_id = entry->node_id;
        *client = entry->client;
        return true;
    }
    return false;
}

/* ---- keys of our own ----------------------------------------------------------------
 */

#define PASSES_MASK 3u

bool cancel_key_make(struct cancel_key *key, unsigned peer_id, bool is_long)
{
    uint8_t random[4 + CANCEL_KEY_OWN_LONG_BYTES];

    key->length = is_long ? CANCEL_KEY_OWN_LONG_BYTES : CANCEL_KEY_OWN_BYTES;
    if (RAND_bytes(random, sizeof random) != 1)
        return false;
    random[0] &= 0x7f;
    if (peer_id != 0) {
        random[1] = (uint8_t)peer_id;
        random[2] = (uint8_t)(peer_id >> 8);
        random[7] |= PASSES_MASK;
    }
    key->process_id = wire_read_u32(random);
    memcpy(key->secret, random + 4, key->length);
    return true;
}

unsigned cancel_key_peer(const struct cancel_key *key)
{
    return (key->process_id >> 16 & 0xff) | (key->process_id & 0xff00);
}

void cancel_key_renew(struct cancel_key *key)
{
    key->secret[3] |= PASSES_MASK;
}

bool cancel_key_spend(struct cancel_key *key)
{
    if ((key->secret[3] & PASSES_MASK) == 0)
        return false;
    key->secret[3]--;
    return true;
}

/* ---- how many are let through -------------------------------------------------------
 */

bool cancel_rates_allow(struct cancel_rates *rates, const struct address *address,
                        uint64_t now_ms)
{
    unsigned slot = address_hash_host(address) % CANCEL_RATES;
    uint64_t second = now_ms / 1000;

    if (rates->slots[slot].second != second ||
        !address_same_host(&rates->slots[slot].address, address)) {
        rates->slots[slot].address = *address;
        rates->slots[slot].second = second;
        rates->slots[slot].n = 0;
    }
    return rates->slots[slot].n++ < CANCELS_PER_SECOND;
}
