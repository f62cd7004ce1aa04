/* config/loading.h - a configuration on its way from text to struct config; for load.c
 * and rules.c only.
 *
 * load.c reads the sections and their settings one by one; when the last line is read,
 * rules_check() looks at what must hold between them. Neither stops at a mistake.
 */
#ifndef CONFIG_LOADING_H
#define CONFIG_LOADING_H

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"
#include "config/ini.h"
#include "config/setting.h"

#define LOADING_TITLE_MAX 300

/* A section as it was read. [pgrouter] and [stats] may stand in several pieces, which
 * make one. */
struct section {
    enum section_kind kind;
    size_t index;       /* in config->clusters or config->listeners */
    struct place place; /* of its header; source NULL = there is none */
    struct given {
        struct place place; /* source NULL = not given */
        bool is_bad;        /* reported already; the field has the default */
    } given[SETTING_COUNT];
};

/* Where the sections without a name stand among all. */
enum { LOADING_MAIN, LOADING_STATS };

struct loading {
    struct config *config;
    struct text *errors;
    struct ini ini;
    struct section **sections; /* the first: LOADING_MAIN, LOADING_STATS */
    size_t n_sections;
    struct section *current; /* NULL: what comes belongs to no section that we know */
    bool takes_comments;     /* current: behind values */
    bool has_bad_header;     /* sections may be missing that the user believes in */
    bool has_header;         /* any was read */
    bool has_errors;
    bool out_of_memory;
};

/* Adds one line of errors. */
void loading_error(struct loading *loading, struct place place, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* The struct that holds the section's fields. Valid until the next section is added. */
void *loading_fields(const struct loading *loading, const struct section *section);
/* "[cluster main]"; returns `title`. */
const char *loading_title(const struct loading *loading, const struct section *section,
                          char title[LOADING_TITLE_MAX]);

/* Reports what is missing or does not go together, and sets listener_config.to. */
void rules_check(struct loading *loading);

#endif
