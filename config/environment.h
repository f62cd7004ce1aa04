/* config/environment.h - what a container's environment says, as a whole configuration or
 * beside a file. Mistakes are noted in `loading`. At start and on reload only: blocks on
 * files that hold secrets.
 */
#ifndef CONFIG_ENVIRONMENT_H
#define CONFIG_ENVIRONMENT_H

#include "config/loading.h"

/* All that config_load_environment() is. */
void environment_describe(struct loading *loading);

/* Settings of [pgrouter], in place of those in a file. */
void environment_override(struct loading *loading);
/* [cluster main], when POSTGRES_NODES is set. */
void environment_add_cluster(struct loading *loading);
/* HAPROXY_STATS_PASSWORD and PGROUTER_TOKEN, where [stats] does not say who may. */
void environment_add_stats_secrets(struct loading *loading);
/* Whoever logs in to pools, in place of an auth_file that is not there. */
void environment_add_user(struct loading *loading);

#endif
