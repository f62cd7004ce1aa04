#include "config/config.h"

#include <string.h>

#include "config/setting.h"
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
    for (size_t i = 0; i < config->n_clusters; i++) {
        memory_free(config->clusters[i].name);
        setting_clear_fields(SECTION_CLUSTER, &config->clusters[i]);
    }
    for (size_t i = 0; i < config->n_listeners; i++) {
        memory_free(config->listeners[i].name);
        setting_clear_fields(SECTION_LISTENER, &config->listeners[i]);
    }
    memory_free(config->clusters);
    memory_free(config->listeners);
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

/* Adds "name" or "name of [section]" for each that differs and needs a restart; `name`
 * is the section's. */
static void compare(enum section_kind kind, const char *word, const char *name,
                    const void *running, const void *loaded, struct text *names)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const struct setting *setting = &settings[i];

        if (setting->section != kind || !setting->restarts ||
            setting_equal(setting, running, loaded))
            continue;
        text_add(names, setting->name);
        if (kind != SECTION_MAIN)
            text_addf(names, " of [%s%s]", word, name);
        text_add(names, "\n");
    }
}

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
