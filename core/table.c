#include "core/table.h"

#include <string.h>
#include <sys/random.h>

#include "core/memory.h"

#define LINES_AT_FIRST 8u
/* More than so many entries a line, and there is another line. */
#define ENTRIES_PER_LINE 2u

bool table_init(struct table *table)
{
    *table = (struct table){.n_lines = LINES_AT_FIRST, .half = LINES_AT_FIRST};
    if (getrandom(&table->seed, sizeof table->seed, GRND_NONBLOCK) != sizeof table->seed)
        table->seed = (uintptr_t)table; /* better than nothing */
    table->lines =
        memory_zeroed(2 * (size_t)LINES_AT_FIRST * sizeof(struct table_entry *));
    return table->lines != NULL;
}

void table_clear(struct table *table)
{
    REQUIRE(table->n == 0);
    memory_free(table->lines);
    table->lines = NULL;
}

static uint64_t mix(uint64_t state, uint64_t bytes)
{
    state = (state ^ bytes) * 0x9e3779b97f4a7c15u; /* 2^64 / the golden ratio */
    return state ^ state >> 32;
}

uint32_t table_hash(const struct table *table, const void *bytes, size_t n)
{
    const uint8_t *at = bytes;
    uint64_t state = mix(table->seed, n), piece;

    for (; n >= sizeof piece; n -= sizeof piece, at += sizeof piece) {
        memcpy(&piece, at, sizeof piece);
        state = mix(state, piece);
    }
    piece = 0;
    memcpy(&piece, at, n);
    return (uint32_t)mix(mix(state, piece), table->seed);
}

/* Lines are split in turn: those that were not yet have half of the number of bits. */
static uint32_t line_of(const struct table *table, uint32_t hash)
{
    uint32_t line = hash & (2 * table->half - 1);

    return line < table->n_lines ? line : line - table->half;
}

/* Room for as many lines again. */
static bool add_room(struct table *table)
{
    size_t bytes = 2 * (size_t)table->n_lines * sizeof(struct table_entry *);
    struct table_entry **lines =
        table->n_lines > UINT32_MAX / 4 ? NULL : memory_resized(table->lines, bytes);

    if (lines == NULL)
        return false;
    table->lines = lines;
    table->half = table->n_lines;
    return true;
}

/* Moves the entries of one line that belong to the new one behind the last. */
static void split_line(struct table *table)
{
    struct table_entry **from = &table->lines[table->n_lines - table->half], *entry;
    struct table_entry **to = &table->lines[table->n_lines++];

    *to = NULL;
    while ((entry = *from) != NULL) {
        if (entry->hash & table->half) {
            *from = entry->next;
            entry->next = *to;
            *to = entry;
        } else {
            from = &entry->next;
        }
    }
}

void table_add(struct table *table, struct table_entry *entry, uint32_t hash)
{
    struct table_entry **line;

    if (table->n >= (size_t)table->n_lines * ENTRIES_PER_LINE &&
        (table->n_lines < 2 * table->half || add_room(table)))
        split_line(table);
    line = &table->lines[line_of(table, hash)];
    entry->hash = hash;
    entry->next = *line;
    *line = entry;
    table->n++;
}

void table_remove(struct table *table, struct table_entry *entry)
{
    struct table_entry **link = &table->lines[line_of(table, entry->hash)];

    while (*link != entry) {
        REQUIRE(*link != NULL);
        link = &(*link)->next;
    }
    *link = entry->next;
    table->n--;
}

static struct table_entry *with_hash(struct table_entry *entry, uint32_t hash)
{
    while (entry != NULL && entry->hash != hash)
        entry = entry->next;
    return entry;
}

struct table_entry *table_first(const struct table *table, uint32_t hash)
{
    return with_hash(table->lines[line_of(table, hash)], hash);
}

struct table_entry *table_next(const struct table_entry *entry)
{
    return with_hash(entry->next, entry->hash);
}
