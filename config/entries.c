/* config/entries.c - [databases], [users] and [peers]: each line is one, with its
 * settings in the line's value. */
#include <stdlib.h>
#include <string.h>

#include "config/loading.h"
#include "config/pairs.h"
#include "config/unit.h"
#include "core/memory.h"

#define ENTRIES_MAX 100000
#define PEER_ID_MAX 16383 /* what PgBouncer's cancel keys have room for */

/* ---- names ---- */

/* Names of the console, as in PgBouncer. */
static bool is_reserved(const char *name)
{
    return strcmp(name, "pgbouncer") == 0 || strcmp(name, "pgrouter") == 0;
}

static void set_peer_id(struct loading *loading, const struct section *section,
                        const char *name)
{
    struct peer_config *peer = loading_fields(loading, section);
    int64_t id;

    if (unit_parse_count(name, &id) && id >= 1 && id <= PEER_ID_MAX)
        peer->id = (uint16_t)id;
    else
        loading_error(loading, section->place,
                      "[peers] %.*s: expected the peer_id of a process, 1 to %d",
                      LOADING_SHOWN_MAX, name, PEER_ID_MAX);
}

static void check_name(struct loading *loading, const struct section *section,
                       const char *name)
{
    if (section->kind == SECTION_DATABASE && is_reserved(name))
        loading_error(loading, section->place,
                      "[databases] %s: this is the console; expected another name", name);
    if (section->kind == SECTION_PEER)
        set_peer_id(loading, section, name);
}

/* ---- settings ---- */

/* How it is called in keys.def. */
static const char *real_name(enum section_kind kind, const char *name)
{
    if (kind == SECTION_DATABASE && strcmp(name, "reserve_pool") == 0)
        return "reserve_pool_size"; /* its name in PgBouncer until 1.24 */
    return name;
}

/* A password with a blank in it that is not in quotes: nothing of it may be shown. */
static bool is_rest_of_secret(enum section_kind kind, const char *before,
                              const char *name)
{
    const struct setting *setting = setting_find(kind, before);

    return setting != NULL && setting->rule.type == VALUE_SECRET &&
           setting_find(kind, name) == NULL;
}

static void report_syntax(struct loading *loading, const struct section *section,
                          const char *why, const char *value)
{
    char title[LOADING_TITLE_MAX];

    loading_error(
        loading, section->place, "%s: %s%s", loading_title(loading, section, title), why,
        strchr(value, ';') != NULL ? " (a comment stands on a line of its own)" : "");
}

static void read_settings(struct loading *loading, struct section *section,
                          const char *value, char *rest)
{
    const char *before = "";
    char *name, *setting;
    const char *why;
    enum pairs_result result;

    while ((result = pairs_next(&rest, &name, &setting, &why)) == PAIRS_ONE) {
        const char *real = real_name(section->kind, name);

        if (is_rest_of_secret(section->kind, before, real)) {
            why =
                "an unknown setting behind a secret; expected a secret with blanks in it "
                "to stand in single quotes";
            result = PAIRS_BAD;
            break;
        }
        loading_set(loading, section, real, setting, section->place);
        before = real;
    }
    if (result != PAIRS_BAD)
        return;
    section->has_mistakes = true;
    report_syntax(loading, section, why, value);
}

void entries_define(struct loading *loading, enum section_kind kind, const char *name,
                    const char *value, struct place place)
{
    struct section *section;
    char *copy;

    if (loading->entries.n == ENTRIES_MAX) {
        loading_error(loading, place, "expected at most %d databases, users and peers",
                      ENTRIES_MAX);
        return;
    }
    section = sections_add(loading, kind, name, place);
    if (section == NULL)
        return;
    check_name(loading, section, name);
    copy = memory_text(value);
    if (copy == NULL)
        loading->out_of_memory = true;
    else
        read_settings(loading, section, value, copy);
    memory_free(copy);
}

/* ---- order ---- */

struct named {
    const char *name;
    const struct section *section;
    size_t order;
};

static int compare_named(const void *a, const void *b)
{
    const struct named *one = a, *other = b;
    int order = (int)one->section->kind - (int)other->section->kind;

    if (order == 0)
        order = strcmp(one->name, other->name);
    if (order == 0)
        order = one->order < other->order ? -1 : 1;
    return order;
}

static void report_twins(struct loading *loading, const struct named *names, size_t n)
{
    size_t first = 0;

    for (size_t i = 1; i < n; i++) {
        char title[LOADING_TITLE_MAX];

        if (names[i].section->kind != names[first].section->kind ||
            strcmp(names[i].name, names[first].name) != 0) {
            first = i;
            continue;
        }
        loading_error(loading, names[i].section->place,
                      "%s stands twice; expected it once, as at %s:%u",
                      loading_title(loading, names[i].section, title),
                      names[first].section->place.source,
                      names[first].section->place.line);
    }
}

void entries_check_names(struct loading *loading)
{
    const struct section_list *entries = &loading->entries;
    struct named *names = memory_zeroed(entries->n * sizeof *names + 1);

    if (names == NULL) {
        loading->out_of_memory = true;
        return;
    }
    for (size_t i = 0; i < entries->n; i++)
        names[i] = (struct named){loading_name(loading, entries->items[i]),
                                  entries->items[i], i};
    qsort(names, entries->n, sizeof *names, compare_named);
    report_twins(loading, names, entries->n);
    memory_free(names);
}

/* Of structs that begin with their name. */
static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort(void *items, size_t n, size_t item_size)
{
    if (n > 0)
        qsort(items, n, item_size, compare_names);
}

void entries_sort(struct config *config)
{
    sort(config->databases, config->n_databases, sizeof *config->databases);
    sort(config->users, config->n_users, sizeof *config->users);
    sort(config->peers, config->n_peers, sizeof *config->peers);
}
