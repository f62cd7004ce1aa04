#include "core/slab.h"

#include <stdbool.h>
#include <string.h>

#include "core/memory.h"

#define CHUNK_BYTES 16384u

/* An object that nobody has: its first bytes are the chain. */
struct idle_object {
    struct idle_object *next;
};

struct chunk {
    struct chunk *next;
    max_align_t objects[];
};

struct slab {
    size_t object_bytes;
    size_t n_taken;
    size_t n_idle;
    struct idle_object *idle;
    struct chunk *chunks;
};

struct slab *slab_new(size_t object_bytes)
{
    struct slab *slab = memory_zeroed(sizeof *slab);
    size_t alignment = _Alignof(max_align_t);

    if (slab != NULL)
        slab->object_bytes = (object_bytes + alignment - 1) / alignment * alignment;
    return slab;
}

void slab_free(struct slab *slab)
{
    struct chunk *chunk;

    if (slab == NULL)
        return;
    REQUIRE(slab->n_taken == 0);
    while ((chunk = slab->chunks) != NULL) {
        slab->chunks = chunk->next;
        memory_free(chunk);
    }
    memory_free(slab);
}

static bool add_chunk(struct slab *slab)
{
    size_t n = CHUNK_BYTES / slab->object_bytes + 1;
    struct chunk *chunk = memory_zeroed(sizeof *chunk + n * slab->object_bytes);

    if (chunk == NULL)
        return false;
    chunk->next = slab->chunks;
    slab->chunks = chunk;
    for (size_t i = n; i-- > 0;) {
        struct idle_object *object =
            (struct idle_object *)((char *)chunk->objects + i * slab->object_bytes);

        object->next = slab->idle;
        slab->idle = object;
    }
    slab->n_idle += n;
    return true;
}

void *slab_take(struct slab *slab)
{
    struct idle_object *object;

    if (slab->idle == NULL && !add_chunk(slab))
        return NULL;
    object = slab->idle;
    REQUIRE(object != NULL);
    slab->idle = object->next;
    slab->n_taken++;
    slab->n_idle--;
    memset(object, 0, slab->object_bytes);
    return object;
}

void slab_give(struct slab *slab, void *object)
{
    struct idle_object *idle = object;

    REQUIRE(slab->n_taken > 0);
    slab->n_taken--;
    slab->n_idle++;
    idle->next = slab->idle;
    slab->idle = idle;
}

size_t slab_n_taken(const struct slab *slab)
{
    return slab->n_taken;
}

size_t slab_n_idle(const struct slab *slab)
{
    return slab->n_idle;
}
