/* config/setting.h - config/keys.def as a table that can be walked and looked up.
 *
 * A section's settings live in one of config.h's structs ("fields" below: a struct
 * main_config, cluster_config, listener_config and so on); each row knows the offset of
 * its own. Any thread; pure but for memory.
 */
#ifndef CONFIG_SETTING_H
#define CONFIG_SETTING_H

#include <stdbool.h>
#include <stddef.h>

#include "config/config.h"
#include "config/value.h"

enum section_kind {
    SECTION_MAIN,
    SECTION_CLUSTER,
    SECTION_LISTENER,
    SECTION_STATS,
    SECTION_DATABASE, /* a line of [databases], and so on */
    SECTION_USER,
    SECTION_PEER,
    SECTION_KIND_COUNT
};

/* Those of which there may be many, each with a name in its first member: kind, and the
 * array in struct config, whose length is n_<array>. */
#define SECTION_ARRAYS(X) \
    X(CLUSTER, clusters) \
    X(LISTENER, listeners) \
    X(DATABASE, databases) \
    X(USER, users) \
    X(PEER, peers)

/* SETTING_MAIN_workers and so on: the row's index in settings[]. */
enum setting_id {
#define KEY_MAIN(type, name, ...) SETTING_MAIN_##name,
#define KEY_CLUSTER(type, name, ...) SETTING_CLUSTER_##name,
#define KEY_LISTENER(type, name, ...) SETTING_LISTENER_##name,
#define KEY_STATS(type, name, ...) SETTING_STATS_##name,
#define KEY_DATABASE(type, name, ...) SETTING_DATABASE_##name,
#define KEY_USER(type, name, ...) SETTING_USER_##name,
#define KEY_PEER(type, name, ...) SETTING_PEER_##name,
#include "config/keys.def"
    SETTING_COUNT
};

/* What NO_EFFECT("why") leaves in front of the reason. */
#define SETTING_NO_EFFECT "no effect: "

/* A row of keys.def. */
struct setting {
    const char *name;
    const char *initial; /* the default as text; NULL = the setting is required */
    const char *help;
    const char *proof;
    struct value_rule rule;
    size_t offset; /* in the section's struct */
    enum section_kind section;
    bool restarts; /* only a restart applies it */
};

extern const struct setting settings[SETTING_COUNT];

/* The rows of one section stand together. */
struct setting_range {
    size_t first;
    size_t n;
};
struct setting_range setting_range(enum section_kind section);

/* NULL, or why it does nothing (NO_EFFECT in keys.def). */
const char *setting_no_effect(const struct setting *setting);
/* How the section is written: "[pgrouter]", "[cluster NAME]", "[databases]". */
const char *setting_section(enum section_kind section);
/* NULL when the section has no such setting. */
const struct setting *setting_find(enum section_kind section, const char *name);

/* Sets every field of a zeroed struct to its default (required ones stay zero).
 * False: out of memory; the fields can be cleared. */
bool setting_init_fields(enum section_kind section, void *fields) MUST_CHECK;
void setting_clear_fields(enum section_kind section, void *fields);
void *setting_field(const struct setting *setting, void *fields);
/* Same value in both structs? */
bool setting_equal(const struct setting *setting, const void *a, const void *b);

/* What config_describe() does, for any `n` rows in the order of their sections. */
void setting_describe(const struct setting *rows, size_t n, struct text *out,
                      bool markdown);

#endif
