#include "pool/statement_texts.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/list.h"
#include "core/memory.h"
#include "core/table.h"

struct entry {
    struct statement_text text;
    struct table_entry in_table;
    unsigned references; /* of workers */
    uint8_t key[];
};

struct statement_texts {
    pthread_mutex_t mutex;
    struct table entries; /* by key */
    uint64_t n_made;
};

struct statement_texts *statement_texts_new(void)
{
    struct statement_texts *texts = memory_zeroed(sizeof *texts);

    if (texts == NULL)
        return NULL;
    if (!table_init(&texts->entries)) {
        memory_free(texts);
        return NULL;
    }
    pthread_mutex_init(&texts->mutex, NULL);
    return texts;
}

void statement_texts_free(struct statement_texts *texts)
{
    if (texts == NULL)
        return;
    table_clear(&texts->entries);
    pthread_mutex_destroy(&texts->mutex);
    memory_free(texts);
}

uint32_t statement_texts_hash(const struct statement_texts *texts, const uint8_t *key,
                              size_t n_key)
{
    return table_hash(&texts->entries, key, n_key);
}

static struct entry *find(const struct statement_texts *texts, const uint8_t *key,
                          size_t n_key, uint32_t hash)
{
    TABLE_EACH_LIKE(item, &texts->entries, hash)
    {
        struct entry *entry = CONTAINER_OF(item, struct entry, in_table);

        if (entry->text.n_key == n_key && memcmp(entry->key, key, n_key) == 0)
            return entry;
    }
    return NULL;
}

static struct entry *add(struct statement_texts *texts, const uint8_t *key, size_t n_key,
                         size_t n_rest, uint32_t hash)
{
    struct entry *made = memory_zeroed(sizeof *made + n_key);

    if (made == NULL)
        return NULL;
    made->text.n_rest = n_rest;
    made->text.n_key = n_key;
    made->text.hash = hash;
    made->text.key = made->key;
    memcpy(made->key, key, n_key);
    snprintf(made->text.name, sizeof made->text.name, "pgrouter_%" PRIu64,
             ++texts->n_made);
    table_add(&texts->entries, &made->in_table, hash);
    return made;
}

const struct statement_text *statement_texts_hold(struct statement_texts *texts,
                                                  const uint8_t *key, size_t n_key,
                                                  size_t n_rest, uint32_t hash)
{
    struct entry *found;

    pthread_mutex_lock(&texts->mutex);
    found = find(texts, key, n_key, hash);
    if (found == NULL)
        found = add(texts, key, n_key, n_rest, hash);
    if (found != NULL)
        found->references++;
    pthread_mutex_unlock(&texts->mutex);
    return found == NULL ? NULL : &found->text;
}

void statement_texts_release(struct statement_texts *texts,
                             const struct statement_text *text)
{
    struct entry *entry = CONTAINER_OF(text, struct entry, text);

    pthread_mutex_lock(&texts->mutex);
    if (--entry->references == 0) {
        table_remove(&texts->entries, &entry->in_table);
        memory_free(entry);
    }
    pthread_mutex_unlock(&texts->mutex);
}
