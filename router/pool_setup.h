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

/* Which pool of a database that the configuration has a line for. */
struct pool_asked {
    const char *database; /* as clients ask for it */
    const char *user;     /* as servers are logged in to */
    enum pool_mode mode;
    enum listener_role role; /* ROLE_DEFAULT: the database's */
};

/* The worker's pool of a database that has these `settings`; made when there is none, and
 * on the terms of this config from now on. NULL when memory is out. */
struct pool *pool_setup(struct worker *worker, const struct config *config,
                        const struct database_config *settings,
                        const struct pool_asked *asked) MUST_CHECK;

/* The worker's config is another: its pools go by that from now on. Pools that keep
 * servers warm without any client (min_pool_size of a database with a `user` of its own)
 * are made, in one of the workers. */
void pool_setup_all(struct worker *worker);

#endif
