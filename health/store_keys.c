#include "health/store_keys.h"

#include <string.h>

#include "core/memory.h"

static void clear_key(struct store_key *key)
{
    memory_free(key->name);
    memory_free(key->value);
    *key = (struct store_key){0};
}

void store_keys_clear(struct store_keys *keys)
{
    for (size_t i = 0; i < keys->n; i++)
        clear_key(&keys->items[i]);
    memory_free(keys->items);
    *keys = (struct store_keys){0};
}

static struct store_key *find(const struct store_keys *keys, const char *name,
                              size_t length)
{
    for (size_t i = 0; i < keys->n; i++)
        if (keys->items[i].name_length == length &&
            memcmp(keys->items[i].name, name, length) == 0)
            return &keys->items[i];
    return NULL;
}

const struct store_key *store_keys_find(const struct store_keys *keys, const char *name)
{
    return find(keys, name, strlen(name));
}

static bool make_room(struct store_keys *keys)
{
    size_t room = keys->room == 0 ? 16 : keys->room * 2;
    struct store_key *items;

    if (keys->n < keys->room)
        return true;
    if (keys->n >= STORE_KEYS_MAX)
        return false;
    items = memory_resized(keys->items, room * sizeof *items);
    if (items == NULL)
        return false;
    keys->items = items;
    keys->room = room;
    return true;
}

bool store_keys_put(struct store_keys *keys, const struct store_key *key)
{
    struct store_key copy = *key;
    struct store_key *old = find(keys, key->name, key->name_length);

    copy.name = memory_text_n(key->name, key->name_length);
    copy.value = memory_text_n(key->value, key->length);
    if (copy.name == NULL || copy.value == NULL || (old == NULL && !make_room(keys))) {
        clear_key(&copy);
        return false;
    }
    if (old != NULL)
        clear_key(old);
    else
        old = &keys->items[keys->n++];
    *old = copy;
    return true;
}

void store_keys_remove(struct store_keys *keys, const char *name, size_t name_length)
{
    struct store_key *key = find(keys, name, name_length);

    if (key == NULL)
        return;
    clear_key(key);
    *key = keys->items[--keys->n];
}

bool store_keys_lack(const struct store_keys *ours, int64_t our_revision,
                     const struct store_keys *theirs, int64_t their_revision)
{
    for (size_t i = 0; i < theirs->n; i++) {
        const struct store_key *key = &theirs->items[i];
        const struct store_key *mine = find(ours, key->name, key->name_length);

        if (mine == NULL ? key->changed_at > our_revision
                         : key->changed_at > mine->changed_at)
            return true;
    }
    for (size_t i = 0; i < ours->n; i++) {
        const struct store_key *key = &ours->items[i];

        if (key->changed_at <= their_revision &&
            find(theirs, key->name, key->name_length) == NULL)
            return true;
    }
    return false;
}
