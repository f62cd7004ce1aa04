#include "pool/statement_texts.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/hash_table.h"
#include "core/list.h"

struct entry {
    struct statement_text text;
    UT_hash_handle hh;
    unsigned references; /* of workers */
    uint8_t key[];
};

struct statement_texts {
    pthread_mutex_t mutex;
    struct entry *entries; /* hash table, by key */
    uint64_t n_made;
};

struct statement_texts *statement_texts_new(void)
{
    struct statement_texts *texts = memory_zeroed(sizeof *texts);

    if (texts != NULL)
        pthread_mutex_init(&texts->mutex, NULL);
    return texts;
}

void statement_texts_free(struct statement_texts *texts)
{
    if (texts == NULL)
        return;
    REQUIRE(texts->entries == NULL);
    pthread_mutex_destroy(&texts->mutex);
    memory_free(texts);
}

static struct entry *add(struct statement_texts *texts, const uint8_t *key, size_t n_key,
                         size_t n_rest)
{
    struct entry *made = memory_zeroed(sizeof *made + n_key);

    if (made == NULL)
        return NULL;
    made->text.n_rest = n_rest;
    made->text.n_key = n_key;
    made->text.key = made->key;
    memcpy(made->key, key, n_key);
    HASH_ADD_KEYPTR(hh, texts->entries, made->key, n_key, made);
    if (made->hh.tbl == NULL) { /* out of memory */
        memory_free(made);
        return NULL;
    }
    snprintf(made->text.name, sizeof made->text.name, "pgrouter_%" PRIu64,
             ++texts->n_made);
    return made;
}

const struct statement_text *statement_texts_hold(struct statement_texts *texts,
                                                  const uint8_t *key, size_t n_key,
                                                  size_t n_rest)
{
    struct entry *found;

    pthread_mutex_lock(&texts->mutex);
    HASH_FIND(hh, texts->entries, key, n_key, found);
    if (found == NULL)
        found = add(texts, key, n_key, n_rest);
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
        REQUIRE(texts->entries != NULL);
        HASH_DEL(texts->entries, entry);
        memory_free(entry);
    }
    pthread_mutex_unlock(&texts->mutex);
}
