#include "config/setting.h"

#include <string.h>

/* The words of keys.def. */
#define REQUIRED NULL
#define RELOADS false
#define RESTARTS true
#define NO_EFFECT(why) SETTING_NO_EFFECT why

/* clang-format off */
#define ROW(kind, fields, type_name, key, initially, least, most, restart, words, test) { \
    .section = (kind), .name = #key, .initial = (initially), \
    .rule = {.type = VALUE_##type_name, .min = (least), .max = (most)}, \
    .restarts = (restart), .help = (words), .proof = (test), \
    .offset = offsetof(struct fields, key)},

const struct setting settings[SETTING_COUNT] = {
#define KEY_MAIN(...) ROW(SECTION_MAIN, main_config, __VA_ARGS__)
#define KEY_CLUSTER(...) ROW(SECTION_CLUSTER, cluster_config, __VA_ARGS__)
#define KEY_LISTENER(...) ROW(SECTION_LISTENER, listener_config, __VA_ARGS__)
#define KEY_STATS(...) ROW(SECTION_STATS, stats_config, __VA_ARGS__)
#define KEY_DATABASE(...) ROW(SECTION_DATABASE, database_config, __VA_ARGS__)
#define KEY_USER(...) ROW(SECTION_USER, user_config, __VA_ARGS__)
#define KEY_PEER(...) ROW(SECTION_PEER, peer_config, __VA_ARGS__)
#include "config/keys.def"
};
/* clang-format on */

const char *setting_section(enum section_kind section)
{
    static const char *const written[SECTION_KIND_COUNT] = {
        [SECTION_MAIN] = "[pgrouter]",
        [SECTION_CLUSTER] = "[cluster NAME]",
        [SECTION_LISTENER] = "[listener NAME]",
        [SECTION_STATS] = "[stats]",
        [SECTION_DATABASE] = "[databases]",
        [SECTION_USER] = "[users]",
        [SECTION_PEER] = "[peers]",
    };

    return written[section];
}

const char *setting_no_effect(const struct setting *setting)
{
    const size_t length = strlen(SETTING_NO_EFFECT);

    if (strncmp(setting->proof, SETTING_NO_EFFECT, length) != 0)
        return NULL;
    return setting->proof + length;
}

struct setting_range setting_range(enum section_kind section)
{
    struct setting_range range = {0};

    while (settings[range.first].section < section)
        range.first++;
    while (range.first + range.n < SETTING_COUNT &&
           settings[range.first + range.n].section == section)
        range.n++;
    return range;
}

const struct setting *setting_find(enum section_kind section, const char *name)
{
    struct setting_range range = setting_range(section);

    for (size_t i = range.first; i < range.first + range.n; i++)
        if (strcmp(settings[i].name, name) == 0)
            return &settings[i];
    return NULL;
}

void *setting_field(const struct setting *setting, void *fields)
{
    return (char *)fields + setting->offset;
}

bool setting_init_fields(enum section_kind section, void *fields)
{
    struct setting_range range = setting_range(section);

    for (size_t i = range.first; i < range.first + range.n; i++) {
        const struct setting *setting = &settings[i];
        struct text why = {0};
        enum value_result result;

        if (setting->initial == NULL)
            continue;
        result = value_parse(&setting->rule, setting->initial,
                             setting_field(setting, fields), &why);
        REQUIRE(result == VALUE_OK || result == VALUE_NO_MEMORY);
        if (result == VALUE_NO_MEMORY)
            return false;
    }
    return true;
}

void setting_clear_fields(enum section_kind section, void *fields)
{
    struct setting_range range = setting_range(section);

    for (size_t i = range.first; i < range.first + range.n; i++)
        value_clear(settings[i].rule.type, setting_field(&settings[i], fields));
}

bool setting_equal(const struct setting *setting, const void *a, const void *b)
{
    return value_equal(setting->rule.type, (const char *)a + setting->offset,
                       (const char *)b + setting->offset);
}
