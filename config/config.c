#include "config/config.h"

#include <stdlib.h>
#include <string.h>

#include "config/ident_file.h"
#include "config/setting.h"
#include "config/users_file.h"
#include "core/memory.h"

struct config *config_hold(struct config *config)
{
    atomic_fetch_add_explicit(&config->references, 1, memory_order_relaxed);
    return config;
}

void config_release(struct config *config)
{
    if (config == NULL ||
        atomic_fetch_sub_explicit(&config->references, 1, memory_order_acq_rel) > 1)
        return;
    setting_clear_fields(SECTION_MAIN, &config->main);
    setting_clear_fields(SECTION_STATS, &config->stats);
#define X(KIND, array) \
    for (size_t i = 0; i < config->n_##array; i++) { \
        memory_free(config->array[i].name); \
        setting_clear_fields(SECTION_##KIND, &config->array[i]); \
    } \
    memory_free(config->array);
    SECTION_ARRAYS(X)
#undef X
    users_file_clear(&config->secrets);
    ident_file_free(config->ident);
    memory_free(config->notes);
    memory_free(config);
}

const struct cluster_config *config_cluster(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->n_clusters; i++)
        if (strcmp(config->clusters[i].name, name) == 0)
            return &config->clusters[i];
    return NULL;
}

const struct listener_config *config_listener(const struct config *config,
                                              const char *name)
{
    for (size_t i = 0; i < config->n_listeners; i++)
        if (strcmp(config->listeners[i].name, name) == 0)
            return &config->listeners[i];
    return NULL;
}

bool config_allows_certificate(const struct config *config, const char *name,
                               const char *user)
{
    const char *map = config->main.auth_ident_map;

    return *map == '\0' ? strcmp(name, user) == 0
                        : ident_file_allows(config->ident, map, name, user);
}

/* Of structs that begin with their name. */
static int compare_name(const void *name, const void *item)
{
    return strcmp(name, *(char *const *)item);
}

static const void *find(const char *name, const void *items, size_t n, size_t item_size)
{
    return n == 0 ? NULL : bsearch(name, items, n, item_size, compare_name);
}

const struct database_config *config_database(const struct config *config,
                                              const char *name)
{
    const struct database_config *database =
        find(name, config->databases, config->n_databases, sizeof *config->databases);

    if (database != NULL)
        return database;
    return find("*", config->databases, config->n_databases, sizeof *config->databases);
}

const struct user_config *config_user(const struct config *config, const char *name)
{
    return find(name, config->users, config->n_users, sizeof *config->users);
}

const struct peer_config *config_peer(const struct config *config, unsigned id)
{
    for (size_t i = 0; i < config->n_peers; i++)
        if (config->peers[i].id == id)
            return &config->peers[i];
    return NULL;
}

const char *config_secret(const struct config *config, const char *user)
{
    const struct user_secret *found = find(user, config->secrets.items, config->secrets.n,
                                           sizeof *config->secrets.items);

    return found == NULL ? NULL : found->secret;
}

enum pool_mode config_pool_mode(const struct config *config,
                                const struct listener_config *listener,
                                const struct database_config *database,
                                const struct user_config *user)
{
    if (user != NULL && user->pool_mode != POOL_MODE_DEFAULT)
        return user->pool_mode;
    if (database->pool_mode != POOL_MODE_DEFAULT)
        return database->pool_mode;
    if (listener != NULL && listener->pool_mode != POOL_MODE_DEFAULT)
        return listener->pool_mode;
    return config->main.pool_mode;
}

enum replay config_replay(const struct config *config,
                          const struct database_config *database,
                          const struct user_config *user)
{
    if (user != NULL && user->replay != REPLAY_DEFAULT)
        return user->replay;
    return database->replay != REPLAY_DEFAULT ? database->replay : config->main.replay;
}

int64_t config_pool_size(const struct config *config,
                         const struct database_config *database,
                         const struct user_config *user)
{
    int64_t size = config_own(database->pool_size, config->main.default_pool_size);

    return user == NULL ? size : config_own(user->pool_size, size);
}

enum auth_type config_auth_type(const struct config *config,
                                const struct listener_config *listener)
{
    return listener->auth_type != AUTH_TYPE_DEFAULT ? listener->auth_type
                                                    : config->main.auth_type;
}

/* Adds "name" or "name of [section]" for each that differs and needs a restart; `name`
 * is the section's. */
static void compare(enum section_kind kind, const char *word, const char *name,
                    const void *running, const void *loaded, struct text *names)
{
    struct setting_range range = setting_range(kind);

    for (size_t i = range.first; i < range.first + range.n; i++) {
        const struct setting *setting = &settings[i];

        if (!setting->restarts || setting_equal(setting, running, loaded))
            continue;
        text_add(names, setting->name);
        if (kind != SECTION_MAIN)
            text_addf(names, " of [%s%s]", word, name);
        text_add(names, "\n");
    }
}

/* A reload applies all that is said of databases, users and peers. */
void config_needs_restart(const struct config *running, const struct config *loaded,
                          struct text *names)
{
    compare(SECTION_MAIN, "", "", &running->main, &loaded->main, names);
    compare(SECTION_STATS, "stats", "", &running->stats, &loaded->stats, names);
    for (size_t i = 0; i < running->n_clusters; i++) {
        const struct cluster_config *cluster = &running->clusters[i];
        const struct cluster_config *now = config_cluster(loaded, cluster->name);

        if (now != NULL)
            compare(SECTION_CLUSTER, "cluster ", cluster->name, cluster, now, names);
    }
    for (size_t i = 0; i < running->n_listeners; i++) {
        const struct listener_config *listener = &running->listeners[i];
        const struct listener_config *now = config_listener(loaded, listener->name);

        if (now != NULL)
            compare(SECTION_LISTENER, "listener ", listener->name, listener, now, names);
    }
}

void config_describe(struct text *out, bool markdown)
{
    setting_describe(settings, SETTING_COUNT, out, markdown);
}
