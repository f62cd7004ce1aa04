/* router/pool_setup.h - what the configuration makes of a pool: its limits, times and
 * texts.
 *
 * Thread: the worker's.
 */
#ifndef ROUTER_POOL_SETUP_H
#define ROUTER_POOL_SETUP_H

#include "config/config.h"
#include "pool/pool.h"

struct worker;

/* The worker's pool of servers that are logged in to as `user`, of the database that
 * clients ask for as `database` and that has these `settings`; made when there is none,
 * and on the terms of this config from now on. NULL when memory is out. */
struct pool *pool_setup(struct worker *worker, const struct config *config,
                        const struct database_config *settings, const char *database,
                        const char *user, enum pool_mode mode) MUST_CHECK;

/* The worker's config is another: its pools go by that from now on. Pools that keep
 * servers warm without any client (min_pool_size of a database with a `user` of its own)
 * are made, in one of the workers. */
void pool_setup_all(struct worker *worker);

#endif
