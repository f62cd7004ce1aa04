#include "pool/halts.h"

#include <string.h>

#include "core/memory.h"

struct halt {
    struct link in_halts;
    char *database;
    bool is[HALT_KIND_COUNT];
};

void halts_init(struct halts *halts)
{
    list_init(&halts->named);
    halts->all_paused = false;
}

static void drop(struct halts *halts, struct halt *halt)
{
    list_remove(&halts->named, &halt->in_halts);
    memory_free(halt->database);
    memory_free(halt);
}

void halts_clear(struct halts *halts)
{
    struct link *first;

    while (halts->named.head.next != NULL && (first = list_first(&halts->named)) != NULL)
        drop(halts, CONTAINER_OF(first, struct halt, in_halts));
}

static struct halt *find(const struct halts *halts, const char *database)
{
    LIST_EACH(item, &halts->named)
    {
        struct halt *halt = CONTAINER_OF(item, struct halt, in_halts);

        if (strcmp(halt->database, database) == 0)
            return halt;
    }
    return NULL;
}

static struct halt *make(struct halts *halts, const char *database)
{
    struct halt *halt = memory_zeroed(sizeof *halt);

    if (halt == NULL)
        return NULL;
    halt->database = memory_text(database);
    if (halt->database == NULL) {
        memory_free(halt);
        return NULL;
    }
    list_append(&halts->named, &halt->in_halts);
    return halt;
}

/* RESUME of all means also those that were paused by name. */
static void set_all(struct halts *halts, bool is_paused)
{
    halts->all_paused = is_paused;
    LIST_EACH_SAFE(item, &halts->named)
    {
        struct halt *halt = CONTAINER_OF(item, struct halt, in_halts);

        if (is_paused)
            continue;
        halt->is[HALT_PAUSED] = false;
        if (!halt->is[HALT_DISABLED])
            drop(halts, halt);
    }
}

bool halts_set(struct halts *halts, const char *database, enum halt_kind kind, bool on)
{
    struct halt *halt;

    if (*database == '\0') {
        REQUIRE(kind == HALT_PAUSED);
        set_all(halts, on);
        return true;
    }
    halt = find(halts, database);
    if (halt == NULL && !on)
        return true;
    if (halt == NULL)
        halt = make(halts, database);
    if (halt == NULL)
        return false;
    halt->is[kind] = on;
    if (!halt->is[HALT_PAUSED] && !halt->is[HALT_DISABLED])
        drop(halts, halt);
    return true;
}

bool halts_has(const struct halts *halts, const char *database, enum halt_kind kind)
{
    const struct halt *halt;

    if (kind == HALT_PAUSED && halts->all_paused)
        return true;
    halt = halts->named.n == 0 ? NULL : find(halts, database);
    return halt != NULL && halt->is[kind];
}
