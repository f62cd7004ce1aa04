/* config/load.c - config_load_file() and config_load_text(): ini text into struct config.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config/environment.h"
#include "config/ident_file.h"
#include "config/loading.h"
#include "config/spelling.h"
#include "config/users_file.h"
#include "core/memory.h"

#define ERROR_MAX 4096
#define NOTES_MAX ((size_t)1 << 20)

/* ---- errors ---- */

static void add_line(struct text *text, struct place place, const char *line)
{
    if (place.line > 0)
        text_addf(text, "%s:%u: %s\n", place.source, place.line, line);
    else
        text_addf(text, "%s: %s\n", place.source, line);
}

void loading_error(struct loading *loading, struct place place, const char *format, ...)
{
    char error[ERROR_MAX];
    va_list args;

    va_start(args, format);
    vsnprintf(error, sizeof error, format, args);
    va_end(args);
    add_line(loading->errors, place, error);
    loading->has_errors = true;
}

void loading_offer(struct text *names, size_t index, const char *separator,
                   const char *name)
{
    const size_t few = 8;

    if (index <= few)
        text_addf(names, "%s%s", index > 0 ? separator : "", index < few ? name : "...");
}

static void on_mistake(void *arg, struct place place, const char *what)
{
    loading_error(arg, place, "%s", what);
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

static void report_unknown_setting(struct loading *loading, const struct section *section,
                                   const char *name, struct place place)
{
    struct spelling spelling = {.word = name};
    char title[LOADING_TITLE_MAX];
    struct text owners;

    loading_title(loading, section, title);
    text_init(&owners, LOADING_LISTING_MAX);
    add_owners(name, &owners);
    for (size_t i = 0; i < section->range.n; i++)
        spelling_try(&spelling, settings[section->range.first + i].name);

    if (owners.length > 0)
        loading_error(loading, place, "'%s' does not belong in %s; expected it in %s",
                      name, title, text_get(&owners));
    else if (spelling.nearest != NULL)
        loading_error(loading, place, "unknown setting '%.*s' in %s; did you mean '%s'?",
                      LOADING_SHOWN_MAX, name, title, spelling.nearest);
    else
        loading_error(loading, place,
                      "unknown setting '%.*s' in %s; pgrouter --settings lists them all",
                      LOADING_SHOWN_MAX, name, title);
    text_clear(&owners);
}

static void report_bad_value(struct loading *loading, const struct setting *setting,
                             const char *value, enum value_result result, const char *why,
                             struct place place)
{
    const char *dots = strlen(value) > LOADING_SHOWN_MAX ? "..." : "";
    char hint[LOADING_SHOWN_MAX] = "";
    struct text expected;

    if (!sections_take_comments(loading) && strchr(value, ';') != NULL)
        snprintf(hint, sizeof hint, " (in [%s] a comment stands on a line of its own)",
                 sections_word(loading));
    if (*why != '\0') {
        loading_error(loading, place, "%s: %s%s", setting->name, why, hint);
        return;
    }
    text_init(&expected, ERROR_MAX);
    value_add_expected(&setting->rule, &expected);
    loading_error(loading, place, "%s = '%.*s%s' %s; expected %s%s", setting->name,
                  LOADING_SHOWN_MAX, value, dots,
                  result == VALUE_OUT_OF_RANGE ? "is out of range" : "cannot be read",
                  text_get(&expected), hint);
    text_clear(&expected);
}

static void set(struct loading *loading, struct section *section,
                const struct setting *setting, const char *value, struct place place)
{
    struct given *given =
        &section->given[(size_t)(setting - settings) - section->range.first];
    struct text why;
    enum value_result result;

    if (given->place.source != NULL) {
        loading_error(loading, place,
                      "'%s' is given twice; expected it once, as at %s:%u", setting->name,
                      given->place.source, given->place.line);
        return;
    }
    text_init(&why, ERROR_MAX);
    result = value_parse(&setting->rule, value,
                         setting_field(setting, loading_fields(loading, section)), &why);
    given->place = place;
    given->is_bad = result != VALUE_OK;
    if (result == VALUE_NO_MEMORY)
        loading->out_of_memory = true;
    else if (result != VALUE_OK)
        report_bad_value(loading, setting, value, result, text_get(&why), place);
    text_clear(&why);
}

void loading_set_again(struct loading *loading, struct section *section,
                       const struct setting *setting, const char *value,
                       struct place place)
{
    section->given[(size_t)(setting - settings) - section->range.first].place.source =
        NULL;
    set(loading, section, setting, value, place);
}

void loading_set(struct loading *loading, struct section *section, const char *name,
                 const char *value, struct place place)
{
    const struct setting *setting = setting_find(section->kind, name);

    if (setting == NULL) {
        section->has_mistakes = true;
        report_unknown_setting(loading, section, name, place);
    } else {
        set(loading, section, setting, value, place);
    }
}

/* ---- lines ---- */

static enum ini_lines on_section(void *arg, const char *text, struct place place)
{
    struct loading *loading = arg;

    loading->has_header = true;
    loading->current = NULL;
    loading->header = NULL;
    if (text == NULL)
        loading->has_bad_header = true;
    else if (!loading->out_of_memory)
        return sections_open(loading, text, place);
    return INI_TO_THE_END;
}

static void on_setting(void *arg, const char *name, const char *value, struct place place)
{
    struct loading *loading = arg;
    enum section_kind entry = sections_entry_kind(loading);

    if (!loading->has_header)
        loading_error(loading, place, "'%s' in front of the first section; %s above it",
                      name, sections_expected);
    if (loading->out_of_memory)
        return;
    if (entry != SECTION_KIND_COUNT)
        entries_define(loading, entry, name, value, place);
    else if (loading->current != NULL)
        loading_set(loading, loading->current, name, value, place);
}

static struct ini_handler handler_of(struct loading *loading)
{
    return (struct ini_handler){.on_section = on_section,
                                .on_setting = on_setting,
                                .on_mistake = on_mistake,
                                .arg = loading};
}

/* ---- what comes from elsewhere ---- */

/* Beside a file. */
static void read_environment(struct loading *loading)
{
    if (loading->get == NULL || loading->has_bad_header)
        return;
    environment_override(loading);
    if (loading->config->n_clusters == 0 && !loading->out_of_memory)
        environment_add_cluster(loading);
    if (!loading->out_of_memory)
        environment_add_stats_secrets(loading);
}

static bool is_missing(const char *path)
{
    return access(path, F_OK) != 0 && errno == ENOENT;
}

/* The environment's user, when there is one, counts more than the file. */
static void take_secrets(struct loading *loading, struct user_secrets found)
{
    struct user_secrets *secrets = &loading->config->secrets;

    for (size_t i = 0; i < secrets->n; i++)
        if (!users_file_add(&found, secrets->items[i].name, secrets->items[i].secret))
            loading->out_of_memory = true;
    users_file_clear(secrets);
    *secrets = found;
}

static void read_users_file(struct loading *loading)
{
    struct user_secrets found = {0};
    const struct section *section = loading->sections.items[LOADING_MAIN];
    const char *path = loading->config->main.auth_file;
    const char *why;

    if (!loading->reads_files || *path == '\0')
        return;
    if (loading->get != NULL && is_missing(path)) {
        environment_add_user(loading);
        if (loading->config->secrets.n > 0 || loading->out_of_memory)
            return;
    }
    switch (users_file_load(path, &found, loading->errors, &why)) {
    case USERS_FILE_OK:
        take_secrets(loading, found);
        break;
    case USERS_FILE_UNREADABLE:
        loading_error(loading, loading_place(section, SETTING_MAIN_auth_file),
                      "auth_file: '%.300s' cannot be read: %s", path, why);
        break;
    case USERS_FILE_BAD:
        loading->has_errors = true;
        break;
    case USERS_FILE_NO_MEMORY:
        loading->out_of_memory = true;
        break;
    }
}

static void read_ident_file(struct loading *loading)
{
    const struct section *section = loading->sections.items[LOADING_MAIN];
    const struct main_config *main = &loading->config->main;
    const char *path = main->auth_ident_file, *map = main->auth_ident_map;
    const char *why;

    if (!loading->reads_files || *path == '\0')
        return;
    switch (ident_file_load(path, &loading->config->ident, loading->errors, &why)) {
    case IDENT_FILE_OK:
        if (*map != '\0' && !ident_file_has(loading->config->ident, map))
            loading_error(loading, loading_place(section, SETTING_MAIN_auth_ident_map),
                          "auth_ident_map: '%.80s' is not a map of %.300s", map, path);
        break;
    case IDENT_FILE_UNREADABLE:
        loading_error(loading, loading_place(section, SETTING_MAIN_auth_ident_file),
                      "auth_ident_file: '%.300s' cannot be read: %s", path, why);
        break;
    case IDENT_FILE_BAD:
        loading->has_errors = true;
        break;
    case IDENT_FILE_NO_MEMORY:
        loading->out_of_memory = true;
        break;
    }
}

/* ---- notes ---- */

static void note(const struct section_list *list, struct text *notes)
{
    for (size_t i = 0; i < list->n; i++)
        for (size_t s = 0; s < list->items[i]->range.n; s++) {
            const struct given *given = &list->items[i]->given[s];
            const struct setting *setting = &settings[list->items[i]->range.first + s];
            char line[ERROR_MAX];

            if (given->place.source == NULL || setting_no_effect(setting) == NULL)
                continue;
            snprintf(line, sizeof line, "%s is without effect: %s", setting->name,
                     setting_no_effect(setting));
            add_line(notes, given->place, line);
        }
}

static void make_notes(struct loading *loading)
{
    struct text notes;

    text_init(&notes, NOTES_MAX);
    note(&loading->sections, &notes);
    note(&loading->entries, &notes);
    loading->config->notes = memory_text(text_get(&notes));
    if (loading->config->notes == NULL || notes.overflowed)
        loading->out_of_memory = true;
    text_clear(&notes);
}

/* ---- loading ---- */

static void begin(struct loading *loading, struct text *errors)
{
    struct config *config = memory_zeroed(sizeof *config);

    *loading = (struct loading){.config = config, .errors = errors};
    if (config == NULL) {
        loading->out_of_memory = true;
        return;
    }
    atomic_init(&config->references, 1);
    sections_add_single(loading);
}

static void check(struct loading *loading)
{
    rules_check(loading);
    if (!loading->out_of_memory)
        read_users_file(loading);
    if (!loading->out_of_memory)
        read_ident_file(loading);
    if (!loading->out_of_memory)
        make_notes(loading);
    if (!loading->out_of_memory)
        entries_sort(loading->config);
}

static struct config *finish(struct loading *loading, const char *source)
{
    struct config *config = loading->config;

    /* A file that cannot be read needs no second line saying that it holds nothing. */
    if (!loading->out_of_memory && (loading->has_header || !loading->has_errors))
        check(loading);
    if (loading->out_of_memory)
        loading_error(loading, (struct place){source, 0}, "out of memory");
    if (loading->has_errors) {
        config_release(config);
        config = NULL;
    }
    sections_clear(loading);
    ini_clear(&loading->ini);
    return config;
}

struct config *config_load_file_with(const char *path, char *(*get)(const char *name),
                                     struct text *errors)
{
    struct loading loading;
    struct ini_handler handler = handler_of(&loading);

    begin(&loading, errors);
    loading.get = get;
    loading.reads_files = true;
    if (!loading.out_of_memory && !ini_read_file(&loading.ini, path, &handler))
        loading.out_of_memory = true;
    if (!loading.out_of_memory)
        read_environment(&loading);
    return finish(&loading, path);
}

struct config *config_load_environment(char *(*get)(const char *name),
                                       struct text *errors)
{
    struct loading loading;

    begin(&loading, errors);
    loading.get = get;
    loading.reads_files = true;
    if (!loading.out_of_memory)
        environment_describe(&loading);
    return finish(&loading, "environment");
}

struct config *config_load_file(const char *path, struct text *errors)
{
    return config_load_file_with(path, NULL, errors);
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
