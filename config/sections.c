/* config/sections.c - [headers]: what they open, and where their settings go. */
#include <stdio.h>
#include <string.h>

#include "config/lists.h"
#include "config/loading.h"
#include "config/spelling.h"
#include "core/memory.h"

#define BLANKS " \t"
#define SECTIONS_MAX 1000

const char sections_expected[] = "expected [pgrouter], [cluster NAME], [listener NAME], "
                                 "[stats], [databases], [users] or [peers]";

/* What may stand between brackets. */
struct header {
    const char *word;
    enum section_kind kind;
    bool has_name;   /* [word NAME] */
    bool is_entries; /* each line below makes one of `kind` */
    enum ini_lines lines;
};

/* clang-format off */
static const struct header headers[] = {
    {"pgrouter",  SECTION_MAIN,     false, false, INI_COMMENTS},
    {"pgbouncer", SECTION_MAIN,     false, false, INI_TO_THE_END},
    {"cluster",   SECTION_CLUSTER,  true,  false, INI_COMMENTS},
    {"listener",  SECTION_LISTENER, true,  false, INI_COMMENTS},
    {"stats",     SECTION_STATS,    false, false, INI_COMMENTS},
    {"databases", SECTION_DATABASE, false, true,  INI_OWN_NAMES},
    {"users",     SECTION_USER,     false, true,  INI_OWN_NAMES},
    {"peers",     SECTION_PEER,     false, true,  INI_OWN_NAMES},
};
/* clang-format on */

static const struct header *find_header(const char *word)
{
    for (size_t i = 0; i < COUNT_OF(headers); i++)
        if (strcmp(headers[i].word, word) == 0)
            return &headers[i];
    return NULL;
}

const char *sections_word(const struct loading *loading)
{
    return loading->header == NULL ? "" : loading->header->word;
}

enum section_kind sections_entry_kind(const struct loading *loading)
{
    return loading->header != NULL && loading->header->is_entries ? loading->header->kind
                                                                  : SECTION_KIND_COUNT;
}

bool sections_take_comments(const struct loading *loading)
{
    return loading->header != NULL && loading->header->lines == INI_COMMENTS;
}

/* ---- what is known of a section ---- */

const char *loading_name(const struct loading *loading, const struct section *section)
{
    switch (section->kind) {
#define X(KIND, array) \
    case SECTION_##KIND: \
        return loading->config->array[section->index].name;
        SECTION_ARRAYS(X)
#undef X
    case SECTION_MAIN:
    case SECTION_STATS:
        return "";
    case SECTION_KIND_COUNT:
        break;
    }
    UNREACHABLE();
}

void *loading_fields(const struct loading *loading, const struct section *section)
{
    switch (section->kind) {
#define X(KIND, array) \
    case SECTION_##KIND: \
        return &loading->config->array[section->index];
        SECTION_ARRAYS(X)
#undef X
    case SECTION_MAIN:
        return &loading->config->main;
    case SECTION_STATS:
        return &loading->config->stats;
    case SECTION_KIND_COUNT:
        break;
    }
    UNREACHABLE();
}

static bool is_entry(enum section_kind kind)
{
    for (size_t i = 0; i < COUNT_OF(headers); i++)
        if (headers[i].kind == kind)
            return headers[i].is_entries;
    return false;
}

const char *loading_title(const struct loading *loading, const struct section *section,
                          char title[LOADING_TITLE_MAX])
{
    const char *name = loading_name(loading, section);
    const struct header *header = headers;

    while (header->kind != section->kind)
        header++;
    if (*name == '\0')
        snprintf(title, LOADING_TITLE_MAX, "[%s]", header->word);
    else
        snprintf(title, LOADING_TITLE_MAX, header->is_entries ? "[%s] %s" : "[%s %s]",
                 header->word, name);
    return title;
}

const struct given *loading_given(const struct section *section, enum setting_id id)
{
    REQUIRE(id >= section->range.first && id - section->range.first < section->range.n);
    return &section->given[id - section->range.first];
}

bool loading_is_given(const struct section *section, enum setting_id id)
{
    return loading_given(section, id)->place.source != NULL;
}

bool loading_is_bad(const struct section *section, enum setting_id id)
{
    return loading_given(section, id)->is_bad;
}

struct place loading_place(const struct section *section, enum setting_id id)
{
    return loading_is_given(section, id) ? loading_given(section, id)->place
                                         : section->place;
}

/* ---- adding ---- */

/* The array with room for one more, zeroed; NULL = out of memory. */
static void *grow(void *items, size_t n, size_t item_size)
{
    char *grown = memory_resized(items, (n + 1) * item_size);

    if (grown != NULL)
        memset(grown + n * item_size, 0, item_size);
    return grown;
}

static bool list_add(struct section_list *list, struct section *section)
{
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): the items are pointers */
    const size_t item_size = sizeof list->items[0];
    struct section **items = grow(list->items, list->n, item_size);

    if (items == NULL)
        return false;
    list->items = items;
    list->items[list->n++] = section;
    return true;
}

/* Its place in its array goes to `index`. On false (out of memory) it may be there half
 * built, and nothing but fit to be freed. */
static bool add_item(struct config *config, enum section_kind kind, const char *name,
                     size_t *index)
{
    switch (kind) {
#define X(KIND, array) \
    case SECTION_##KIND: { \
        void *items = grow(config->array, config->n_##array, sizeof *config->array); \
\
        if (items == NULL) \
            return false; \
        config->array = items; \
        *index = config->n_##array++; \
        config->array[*index].name = memory_text(name); \
        return config->array[*index].name != NULL && \
               setting_init_fields(kind, &config->array[*index]); \
    }
        SECTION_ARRAYS(X)
#undef X
    case SECTION_MAIN:
        return setting_init_fields(kind, &config->main);
    case SECTION_STATS:
        return setting_init_fields(kind, &config->stats);
    case SECTION_KIND_COUNT:
        break;
    }
    UNREACHABLE();
}

struct section *sections_add(struct loading *loading, enum section_kind kind,
                             const char *name, struct place place)
{
    struct setting_range range = setting_range(kind);
    struct section *section =
        memory_zeroed(sizeof *section + range.n * sizeof section->given[0]);

    if (section == NULL)
        goto fail;
    section->kind = kind;
    section->place = place;
    section->range = range;
    section->cluster = LOADING_NONE;
    if (!add_item(loading->config, kind, name, &section->index) ||
        !list_add(is_entry(kind) ? &loading->entries : &loading->sections, section))
        goto fail;
    return section;

fail:
    loading->out_of_memory = true;
    memory_free(section);
    return NULL;
}

void sections_add_single(struct loading *loading)
{
    const struct place nowhere = {0};

    if (sections_add(loading, SECTION_MAIN, "", nowhere) != NULL &&
        sections_add(loading, SECTION_STATS, "", nowhere) == NULL)
        loading->out_of_memory = true;
}

static void clear_list(struct section_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        memory_free(list->items[i]);
    memory_free(list->items);
    *list = (struct section_list){0};
}

void sections_clear(struct loading *loading)
{
    clear_list(&loading->sections);
    clear_list(&loading->entries);
}

/* ---- opening ---- */

static void check_name(struct loading *loading, const struct header *header,
                       const char *name, struct place place)
{
    loading->has_bad_header |= !lists_is_name(name);
    if (*name == '\0')
        loading_error(loading, place, "[%s] without a name; expected %s", header->word,
                      setting_section(header->kind));
    else if (!lists_is_name(name))
        loading_error(loading, place,
                      "[%s %.*s]: expected a name of letters, digits and . _ -",
                      header->word, LOADING_SHOWN_MAX, name);
    for (size_t i = 0; i < loading->sections.n; i++) {
        const struct section *first = loading->sections.items[i];

        if (*name != '\0' && first->kind == header->kind &&
            strcmp(loading_name(loading, first), name) == 0) {
            loading_error(loading, place,
                          "[%s %.*s] stands twice; expected another name than at %s:%u",
                          header->word, LOADING_SHOWN_MAX, name, first->place.source,
                          first->place.line);
            return;
        }
    }
}

/* A wrong or missing name does not keep us from looking at the settings below. */
static void open_named(struct loading *loading, const struct header *header,
                       const char *name, struct place place)
{
    if (loading->sections.n == SECTIONS_MAX) {
        loading_error(loading, place, "expected at most %d sections", SECTIONS_MAX);
        return;
    }
    check_name(loading, header, name, place);
    loading->current = sections_add(loading, header->kind, name, place);
}

static void open_single(struct loading *loading, const struct header *header,
                        const char *name, struct place place)
{
    struct section *section =
        loading->sections
            .items[header->kind == SECTION_MAIN ? LOADING_MAIN : LOADING_STATS];

    if (*name != '\0')
        loading_error(loading, place, "[%s %.*s]: expected [%s], which takes no name",
                      header->word, LOADING_SHOWN_MAX, name, header->word);
    if (header->is_entries)
        return;
    if (section->place.source == NULL)
        section->place = place;
    loading->current = section;
}

static void report_unknown(struct loading *loading, const char *text, const char *word,
                           struct place place)
{
    struct spelling spelling = {.word = word};

    for (size_t i = 0; i < COUNT_OF(headers); i++)
        spelling_try(&spelling, headers[i].word);
    loading->has_bad_header = true;
    if (spelling.nearest != NULL)
        loading_error(loading, place, "unknown section [%.*s]; did you mean [%s%s]?",
                      LOADING_SHOWN_MAX, text, spelling.nearest,
                      find_header(spelling.nearest)->has_name ? " NAME" : "");
    else
        loading_error(loading, place, "unknown section [%.*s]; %s", LOADING_SHOWN_MAX,
                      text, sections_expected);
}

enum ini_lines sections_open(struct loading *loading, const char *text,
                             struct place place)
{
    size_t length = strcspn(text, BLANKS);
    const char *name = text + length + strspn(text + length, BLANKS);
    char word[LOADING_SHOWN_MAX + 1];
    const struct header *header;

    snprintf(word, sizeof word, "%.*s",
             (int)(length < LOADING_SHOWN_MAX ? length : LOADING_SHOWN_MAX), text);
    header = find_header(word);
    loading->header = header;
    if (header == NULL) {
        report_unknown(loading, text, word, place);
        return INI_TO_THE_END;
    }
    if (header->kind == SECTION_DATABASE)
        loading->has_databases = true;
    if (header->has_name)
        open_named(loading, header, name, place);
    else
        open_single(loading, header, name, place);
    return header->lines;
}
