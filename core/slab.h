/* core/slab.h - objects of one size, kept for their next use.
 *
 * One slab per type and thread: taking and giving back is a pointer each way, and the
 * objects lie close together.
 */
#ifndef CORE_SLAB_H
#define CORE_SLAB_H

#include <stddef.h>

#include "core/check.h"

struct slab;

struct slab *slab_new(size_t object_bytes) MUST_CHECK;
/* Every object must have been given back. NULL is fine. */
void slab_free(struct slab *slab);
/* A zeroed object; NULL when memory is out. */
void *slab_take(struct slab *slab) MUST_CHECK;
void slab_give(struct slab *slab, void *object);
size_t slab_n_taken(const struct slab *slab);
/* Of those that lie ready for their next use. */
size_t slab_n_idle(const struct slab *slab);

#endif
