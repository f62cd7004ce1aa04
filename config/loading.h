/* config/loading.h - a configuration on its way from text to struct config; for the files
 * that load only.
 *
 *   load.c       lines, settings, the beginning and the end
 *   sections.c   [headers]
 *   entries.c    lines of [databases], [users] and [peers]
 *   implicit.c   clusters and a listener that stand in no section
 *   rules.c      what must hold between settings, once the last line is read
 *   pool_rules.c the same, of pools
 *
 * None stops at a mistake.
 */
#ifndef CONFIG_LOADING_H
#define CONFIG_LOADING_H

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"
#include "config/ini.h"
#include "config/setting.h"

#define LOADING_TITLE_MAX 300
#define LOADING_SHOWN_MAX 80     /* of a wrong name or value, in an error */
#define LOADING_LISTING_MAX 4096 /* of what is offered instead of something wrong */

/* A section as it was read, or a line of [databases], [users] or [peers]. [pgrouter] and
 * [stats] may stand in several pieces, which make one. */
struct section {
    enum section_kind kind;
    size_t index;       /* in config->clusters, config->listeners and so on */
    struct place place; /* of its header or line; source NULL = there is none */
    size_t cluster;     /* a database's: index in config->clusters, LOADING_NONE = none */
    bool has_mistakes;  /* settings may be missing that the user believes in */
    struct setting_range range;
    struct given {
        struct place place; /* source NULL = not given */
        bool is_bad;        /* reported already; the field has the default */
    } given[];              /* range.n of them */
};

#define LOADING_NONE SIZE_MAX

struct section_list {
    struct section **items;
    size_t n;
};

/* Where the sections without a name stand among all. */
enum { LOADING_MAIN, LOADING_STATS };

struct header;

struct loading {
    struct config *config;
    struct text *errors;
    char *(*get)(const char *name); /* NULL = there is no environment */
    struct ini ini;
    struct section_list sections; /* the first: LOADING_MAIN, LOADING_STATS */
    struct section_list entries;
    struct section *current;     /* where settings belong; NULL: to none that we know */
    const struct header *header; /* the last one; NULL: one that we do not know */
    size_t n_own_clusters;       /* those that stand in the file come first */
    size_t n_own_listeners;
    bool reads_files;    /* not only the text */
    bool has_bad_header; /* sections may be missing that the user believes in */
    bool has_header;     /* any was read */
    bool has_databases;  /* [databases] was read */
    bool has_errors;
    bool out_of_memory;
};

/* ---- load.c ---- */

/* Adds one line of errors. */
void loading_error(struct loading *loading, struct place place, const char *format, ...)
    PRINTF_LIKE(3, 4);
/* Sets a setting of the section, or says what is wrong with it. */
void loading_set(struct loading *loading, struct section *section, const char *name,
                 const char *value, struct place place);
/* The same in place of what was set before. */
void loading_set_again(struct loading *loading, struct section *section,
                       const struct setting *setting, const char *value,
                       struct place place);
/* " or "-joined: one more of the names that are offered, of which the first few do. */
void loading_offer(struct text *names, size_t index, const char *separator,
                   const char *name);

/* ---- sections.c ---- */

/* Makes the header's section the current one, and says what its lines look like. */
enum ini_lines sections_open(struct loading *loading, const char *text,
                             struct place place);
/* A new section or line with its struct in the config, all defaults. NULL: out of memory,
 * which is noted. */
struct section *sections_add(struct loading *loading, enum section_kind kind,
                             const char *name, struct place place) MUST_CHECK;
/* The two that are always there. */
void sections_add_single(struct loading *loading);
void sections_clear(struct loading *loading);
/* [pgrouter], [cluster NAME], ...: for a sentence that begins with "expected". */
extern const char sections_expected[];
/* The word in the last header's brackets; does a line below it define a database, user or
 * peer? SECTION_KIND_COUNT = none. */
const char *sections_word(const struct loading *loading);
enum section_kind sections_entry_kind(const struct loading *loading);
bool sections_take_comments(const struct loading *loading);

/* The struct that holds the section's fields. Valid until the next section is added. */
void *loading_fields(const struct loading *loading, const struct section *section);
/* "" where there is none. */
const char *loading_name(const struct loading *loading, const struct section *section);
/* "[cluster main]", "[databases] app"; returns `title`. */
const char *loading_title(const struct loading *loading, const struct section *section,
                          char title[LOADING_TITLE_MAX]);
const struct given *loading_given(const struct section *section, enum setting_id id);
bool loading_is_given(const struct section *section, enum setting_id id);
bool loading_is_bad(const struct section *section, enum setting_id id);
/* Where the setting stands, or the section that it would stand in. */
struct place loading_place(const struct section *section, enum setting_id id);

/* ---- entries.c ---- */

/* A line of [databases], [users] or [peers]. */
void entries_define(struct loading *loading, enum section_kind kind, const char *name,
                    const char *value, struct place place);
/* Reports names that stand twice. */
void entries_check_names(struct loading *loading);
/* Brings them into the order in which they are looked up: the last thing that is done. */
void entries_sort(struct config *config);

/* ---- implicit.c ---- */

/* Chooses each database's cluster, and makes those that its hosts are. */
void implicit_clusters(struct loading *loading);
/* Makes the listener of listen_addr and unix_socket_dir, when there shall be one. */
void implicit_listener(struct loading *loading);

/* ---- rules.c, pool_rules.c ---- */

/* Reports what is missing or does not go together, and sets each `to`. */
void rules_check(struct loading *loading);
/* "there is no cluster to lead to", ...; `id` is the setting that names one. */
void rules_report_no_cluster(struct loading *loading, const struct section *section,
                             enum setting_id id, const char *wanted);
/* The role against what its cluster's check can tell; `id` is the setting of the role. */
void rules_check_role(struct loading *loading, const struct section *section,
                      enum setting_id id, enum listener_role role,
                      const struct cluster_config *cluster);
void pool_rules_check(struct loading *loading);
/* Of a [listener] with `mode`. */
void pool_rules_check_listener(struct loading *loading, const struct section *section);

#endif
