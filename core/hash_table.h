/* core/hash_table.h - uthash as it is used here: with memory from core/memory.h, and a
 * way out when there is none: behind HASH_ADD the new entry's `hh.tbl` is NULL then.
 */
#ifndef CORE_HASH_TABLE_H
#define CORE_HASH_TABLE_H

#include "core/memory.h"

/* uthash calls exit() when memory is out, unless told otherwise. */
#define HASH_NONFATAL_OOM 1
#define uthash_malloc(size) memory_zeroed(size)
#define uthash_free(memory, size) memory_free(memory)
#include <uthash.h>

#endif
