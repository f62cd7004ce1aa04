/* core/table.h - a hash table for what there are very many of: 16 bytes in each object
 * and some 6 in the table, where uthash takes 56 and some 4.
 *
 *   struct name { ...; struct table_entry in_table; };
 *   hash = table_hash(&table, bytes, n);
 *   TABLE_EACH_LIKE(entry, &table, hash) { ... CONTAINER_OF(entry, struct name, in_table)
 * }
 *
 * Entries of one hash are for the caller to tell apart. The table grows by a line at a
 * time, so that no call takes long. Hashes begin with a number of chance: who chooses the
 * keys cannot choose the line.
 *
 * Thread: a table and its entries belong to one thread.
 */
#ifndef CORE_TABLE_H
#define CORE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/check.h"

struct table_entry {
    struct table_entry *next; /* in its line */
    uint32_t hash;
};

struct table {
    struct table_entry **lines;
    uint32_t n_lines; /* in use: half <= n_lines <= 2 * half, for which there is room */
    uint32_t half;    /* a power of 2 */
    size_t n;
    uint64_t seed;
};

/* False when memory is out. */
bool table_init(struct table *table) MUST_CHECK;
/* Every entry must have been removed. A zeroed one is fine. */
void table_clear(struct table *table);

uint32_t table_hash(const struct table *table, const void *bytes, size_t n);
/* Never fails: without memory to grow the lines get longer. */
void table_add(struct table *table, struct table_entry *entry, uint32_t hash);
void table_remove(struct table *table, struct table_entry *entry);

/* The entries with this hash, the one added last first; NULL behind the last. */
struct table_entry *table_first(const struct table *table, uint32_t hash);
struct table_entry *table_next(const struct table_entry *entry);
#define TABLE_EACH_LIKE(entry, table, hash) \
    for (struct table_entry *entry = table_first(table, hash); entry != NULL; \
         entry = table_next(entry))

#endif
