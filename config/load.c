/* config/load.c - config_load_file() and config_load_text(): ini text into struct config.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "config/lists.h"
#include "config/loading.h"
#include "config/spelling.h"
#include "core/memory.h"

#define BLANKS " \t"
#define SECTIONS_MAX 1000
#define SHOWN_MAX 80 /* of a wrong name or value, in an error */
#define ERROR_MAX 4096

#define EXPECTED_SECTIONS \
    "expected [pgrouter], [cluster NAME], [listener NAME] or [stats]"

/* ---- errors ---- */

void loading_error(struct loading *loading, struct place place, const char *format, ...)
{
    char error[ERROR_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(error, sizeof error, format, args);
    va_end(args);
    if (place.line > 0)
        text_addf(loading->errors, "%s:%u: %s\n", place.source, place.line, error);
    else
        text_addf(loading->errors, "%s: %s\n", place.source, error);
    loading->has_errors = true;
}

static void on_mistake(void *arg, struct place place, const char *what)
{
    loading_error(arg, place, "%s", what);
}

/* ---- sections ---- */

/* What may stand between brackets. */
struct header {
    const char *word;
    enum section_kind kind;
    bool has_name;       /* [word NAME] */
    bool takes_comments; /* behind values; PgBouncer's own sections take none */
    bool is_for_pooling; /* PgBouncer's, which this version has no use for */
};

/* clang-format off */
static const struct header headers[] = {
    {"pgrouter",  SECTION_MAIN,     false, true,  false},
    {"pgbouncer", SECTION_MAIN,     false, false, false},
    {"cluster",   SECTION_CLUSTER,  true,  true,  false},
    {"listener",  SECTION_LISTENER, true,  true,  false},
    {"stats",     SECTION_STATS,    false, true,  false},
    {"databases", SECTION_MAIN,     false, false, true},
    {"users",     SECTION_MAIN,     false, false, true},
    {"peers",     SECTION_MAIN,     false, false, true},
};
/* clang-format on */

static const struct header *find_header(const char *word)
{
    for (size_t i = 0; i < COUNT_OF(headers); i++)
        if (strcmp(headers[i].word, word) == 0)
            return &headers[i];
    return NULL;
}

static const char *name_of(const struct loading *loading, const struct section *section)
{
    switch (section->kind) {
    case SECTION_CLUSTER:
        return loading->config->clusters[section->index].name;
    case SECTION_LISTENER:
        return loading->config->listeners[section->index].name;
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
    case SECTION_MAIN:
        return &loading->config->main;
    case SECTION_CLUSTER:
        return &loading->config->clusters[section->index];
    case SECTION_LISTENER:
        return &loading->config->listeners[section->index];
    case SECTION_STATS:
        return &loading->config->stats;
    case SECTION_KIND_COUNT:
        break;
    }
    UNREACHABLE();
}

const char *loading_title(const struct loading *loading, const struct section *section,
                          char title[LOADING_TITLE_MAX])
{
    static const char *const words[SECTION_KIND_COUNT] = {
        [SECTION_MAIN] = "pgrouter",
        [SECTION_CLUSTER] = "cluster",
        [SECTION_LISTENER] = "listener",
        [SECTION_STATS] = "stats",
    };
    const char *name = name_of(loading, section);

    snprintf(title, LOADING_TITLE_MAX, "[%s%s%s]", words[section->kind],
             *name == '\0' ? "" : " ", name);
    return title;
}

/* The array with room for one more, zeroed; NULL = out of memory. */
static void *grow(void *items, size_t n, size_t item_size)
{
    char *grown = memory_resized(items, (n + 1) * item_size);

    if (grown != NULL)
        memset(grown + n * item_size, 0, item_size);
    return grown;
}

/* On false (out of memory) the new one is half built, and nothing but fit to be freed. */
static bool add_cluster(struct config *config, const char *name)
{
    struct cluster_config *clusters =
        grow(config->clusters, config->n_clusters, sizeof *clusters);
    struct cluster_config *added;

    if (clusters == NULL)
        return false;
    config->clusters = clusters;
    added = &clusters[config->n_clusters++];
    added->name = memory_text(name);
    return added->name != NULL && setting_init_fields(SECTION_CLUSTER, added);
}

static bool add_listener(struct config *config, const char *name)
{
    struct listener_config *listeners =
        grow(config->listeners, config->n_listeners, sizeof *listeners);
    struct listener_config *added;

    if (listeners == NULL)
        return false;
    config->listeners = listeners;
    added = &listeners[config->n_listeners++];
    added->name = memory_text(name);
    return added->name != NULL && setting_init_fields(SECTION_LISTENER, added);
}

/* NULL: out of memory, which is noted. */
static struct section *add_section(struct loading *loading, struct section section)
{
    /* NOLINTNEXTLINE(bugprone-sizeof-expression): the items are pointers */
    const size_t item_size = sizeof loading->sections[0];
    struct section **sections = grow(loading->sections, loading->n_sections, item_size);
    struct section *added = memory_zeroed(sizeof *added);

    if (sections != NULL)
        loading->sections = sections;
    if (sections == NULL || added == NULL) {
        memory_free(added);
        loading->out_of_memory = true;
        return NULL;
    }
    *added = section;
    return sections[loading->n_sections++] = added;
}

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
                      header->word, SHOWN_MAX, name);
    for (size_t i = 0; i < loading->n_sections; i++) {
        const struct section *first = loading->sections[i];

        if (*name != '\0' && first->kind == header->kind &&
            strcmp(name_of(loading, first), name) == 0) {
            loading_error(loading, place,
                          "[%s %.*s] stands twice; expected another name than at %s:%u",
                          header->word, SHOWN_MAX, name, first->place.source,
                          first->place.line);
            return;
        }
    }
}

/* A wrong or missing name does not keep us from looking at the settings below. */
static void open_named(struct loading *loading, const struct header *header,
                       const char *name, struct place place)
{
    struct config *config = loading->config;
    bool is_cluster = header->kind == SECTION_CLUSTER;
    struct section section = {.kind = header->kind,
                              .index =
                                  is_cluster ? config->n_clusters : config->n_listeners,
                              .place = place};

    if (loading->n_sections == SECTIONS_MAX) {
        loading_error(loading, place, "expected at most %d sections", SECTIONS_MAX);
        return;
    }
    check_name(loading, header, name, place);
    if (is_cluster ? add_cluster(config, name) : add_listener(config, name))
        loading->current = add_section(loading, section);
    else
        loading->out_of_memory = true;
}

static void open_single(struct loading *loading, const struct header *header,
                        const char *name, struct place place)
{
    struct section *section =
        loading->sections[header->kind == SECTION_MAIN ? LOADING_MAIN : LOADING_STATS];

    if (*name != '\0')
        loading_error(loading, place, "[%s %.*s]: expected [%s], which takes no name",
                      header->word, SHOWN_MAX, name, header->word);
    if (section->place.source == NULL)
        section->place = place;
    loading->current = section;
}

static void report_unknown_section(struct loading *loading, const char *text,
                                   const char *word, struct place place)
{
    struct spelling spelling = {.word = word};

    for (size_t i = 0; i < COUNT_OF(headers); i++)
        if (!headers[i].is_for_pooling)
            spelling_try(&spelling, headers[i].word);
    loading->has_bad_header = true;
    if (spelling.nearest != NULL)
        loading_error(loading, place, "unknown section [%.*s]; did you mean [%s%s]?",
                      SHOWN_MAX, text, spelling.nearest,
                      find_header(spelling.nearest)->has_name ? " NAME" : "");
    else
        loading_error(loading, place, "unknown section [%.*s]; " EXPECTED_SECTIONS,
                      SHOWN_MAX, text);
}

static void open_section(struct loading *loading, const char *text, struct place place)
{
    size_t length = strcspn(text, BLANKS);
    const char *name = text + length + strspn(text + length, BLANKS);
    char word[SHOWN_MAX + 1];
    const struct header *header;

    snprintf(word, sizeof word, "%.*s", (int)(length < SHOWN_MAX ? length : SHOWN_MAX),
             text);
    header = find_header(word);
    if (header == NULL) {
        report_unknown_section(loading, text, word, place);
        return;
    }
    loading->takes_comments = header->takes_comments;
    if (header->is_for_pooling)
        loading_error(
            loading, place,
            "[%s] is for pooling, which this version does not do; " EXPECTED_SECTIONS,
            header->word);
    else if (header->has_name)
        open_named(loading, header, name, place);
    else
        open_single(loading, header, name, place);
}

static bool on_section(void *arg, const char *text, struct place place)
{
    struct loading *loading = arg;

    loading->has_header = true;
    loading->current = NULL;
    loading->takes_comments = false;
    if (text == NULL)
        loading->has_bad_header = true;
    else if (!loading->out_of_memory)
        open_section(loading, text, place);
    return loading->takes_comments;
}

/* ---- settings ---- */

/* " or "-joined, the sections that have a setting of this name. */
static void add_owners(const char *name, struct text *owners)
{
    for (enum section_kind kind = 0; kind < SECTION_KIND_COUNT; kind++)
        if (setting_find(kind, name) != NULL)
            text_addf(owners, "%s%s", owners->length > 0 ? " or " : "",
                      setting_section(kind));
}

static void report_unknown_setting(struct loading *loading, const char *name,
                                   struct place place)
{
    const struct section *section = loading->current;
    struct spelling spelling = {.word = name};
    char title[LOADING_TITLE_MAX];
    struct text owners;

    loading_title(loading, section, title);
    text_init(&owners, SHOWN_MAX);
    add_owners(name, &owners);
    for (size_t i = 0; i < SETTING_COUNT; i++)
        if (settings[i].section == section->kind)
            spelling_try(&spelling, settings[i].name);

    if (owners.length > 0)
        loading_error(loading, place, "'%s' does not belong in %s; expected it in %s",
                      name, title, text_get(&owners));
    else if (spelling.nearest != NULL)
        loading_error(loading, place, "unknown setting '%s' in %s; did you mean '%s'?",
                      name, title, spelling.nearest);
    else
        loading_error(loading, place,
                      "unknown setting '%s' in %s; pgrouter --settings lists them all",
                      name, title);
    text_clear(&owners);
}

static void report_bad_value(struct loading *loading, const struct setting *setting,
                             const char *value, enum value_result result, const char *why,
                             struct place place)
{
    const char *dots = strlen(value) > SHOWN_MAX ? "..." : "";
    const char *hint = "";
    struct text expected;

    if (!loading->takes_comments && strchr(value, ';') != NULL)
        hint = " (in [pgbouncer] a comment stands on a line of its own)";
    if (*why != '\0') {
        loading_error(loading, place, "%s: %s%s", setting->name, why, hint);
        return;
    }
    text_init(&expected, ERROR_MAX);
    value_add_expected(&setting->rule, &expected);
    loading_error(loading, place, "%s = '%.*s%s' %s; expected %s%s", setting->name,
                  SHOWN_MAX, value, dots,
                  result == VALUE_OUT_OF_RANGE ? "is out of range" : "cannot be read",
                  text_get(&expected), hint);
    text_clear(&expected);
}

static void set(struct loading *loading, const struct setting *setting, const char *value,
                struct place place)
{
    struct given *given = &loading->current->given[setting - settings];
    struct text why;
    enum value_result result;

    if (given->place.source != NULL) {
        loading_error(loading, place,
                      "'%s' is given twice; expected it once, as at %s:%u", setting->name,
                      given->place.source, given->place.line);
        return;
    }
    text_init(&why, ERROR_MAX);
    result = value_parse(
        &setting->rule, value,
        setting_field(setting, loading_fields(loading, loading->current)), &why);
    given->place = place;
    given->is_bad = result != VALUE_OK;
    if (result == VALUE_NO_MEMORY)
        loading->out_of_memory = true;
    else if (result != VALUE_OK)
        report_bad_value(loading, setting, value, result, text_get(&why), place);
    text_clear(&why);
}

static void on_setting(void *arg, const char *name, const char *value, struct place place)
{
    struct loading *loading = arg;
    const struct setting *setting;

    if (!loading->has_header)
        loading_error(
            loading, place,
            "'%s' in front of the first section; " EXPECTED_SECTIONS " above it", name);
    if (loading->current == NULL || loading->out_of_memory)
        return;
    setting = setting_find(loading->current->kind, name);
    if (setting == NULL)
        report_unknown_setting(loading, name, place);
    else
        set(loading, setting, value, place);
}

/* ---- loading ---- */

static void begin(struct loading *loading, struct text *errors)
{
    struct config *config = memory_zeroed(sizeof *config);

    *loading = (struct loading){.config = config, .errors = errors};
    loading->out_of_memory = config == NULL ||
                             !setting_init_fields(SECTION_MAIN, &config->main) ||
                             !setting_init_fields(SECTION_STATS, &config->stats);
    if (config != NULL)
        atomic_init(&config->references, 1);
    if (!loading->out_of_memory &&
        add_section(loading, (struct section){.kind = SECTION_MAIN}) != NULL)
        add_section(loading, (struct section){.kind = SECTION_STATS});
}

static struct config *finish(struct loading *loading, const char *source)
{
    struct config *config = loading->config;

    /* A file that cannot be read needs no second line saying that it holds nothing. */
    if (!loading->out_of_memory && (loading->has_header || !loading->has_errors))
        rules_check(loading);
    if (loading->out_of_memory)
        loading_error(loading, (struct place){source, 0}, "out of memory");
    if (loading->has_errors) {
        config_release(config);
        config = NULL;
    }
    for (size_t i = 0; i < loading->n_sections; i++)
        memory_free(loading->sections[i]);
    memory_free(loading->sections);
    ini_clear(&loading->ini);
    return config;
}

static struct ini_handler handler_of(struct loading *loading)
{
    return (struct ini_handler){.on_section = on_section,
                                .on_setting = on_setting,
                                .on_mistake = on_mistake,
                                .arg = loading};
}

struct config *config_load_file(const char *path, struct text *errors)
{
    struct loading loading;
    struct ini_handler handler = handler_of(&loading);

    begin(&loading, errors);
    if (!loading.out_of_memory && !ini_read_file(&loading.ini, path, &handler))
        loading.out_of_memory = true;
    return finish(&loading, path);
}

struct config *config_load_text(const char *source, const char *ini, struct text *errors)
{
    struct loading loading;
    struct ini_handler handler = handler_of(&loading);

    begin(&loading, errors);
    if (!loading.out_of_memory && !ini_read_text(&loading.ini, source, ini, &handler))
        loading.out_of_memory = true;
    return finish(&loading, source);
}
