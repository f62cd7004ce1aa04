/* router/target.h - which pool a client is for, and as whom it comes: what its
 * StartupMessage says, looked up in the configuration.
 *
 * Thread: the client's worker.
 */
#ifndef ROUTER_TARGET_H
#define ROUTER_TARGET_H

#include "config/config.h"
#include "pool/pool.h"
#include "router/listener.h"
#include "wire/startup.h"

struct worker;

struct target {
    struct config *config;                   /* held */
    const struct database_config *settings;  /* NULL: there is no such database */
    const struct user_config *user_settings; /* NULL: nothing is said of it */
    char *database;                          /* as the client calls it */
    char *user;
    enum auth_type auth;
    bool is_known; /* the user is in auth_file */
    bool is_session_pooled;
    bool is_statement_pooled;
    enum pool_mode mode;
    enum replay replay;
    enum listener_role role; /* ROLE_DEFAULT: what the database's settings say */
    enum startup_replication replication;
    struct scram_keys keys; /* shown at the client's login; zeroed = none */
};

#define TARGET_WHY_MAX 160

enum target_result {
    TARGET_FOUND,
    TARGET_UNKNOWN,
    TARGET_MISTAKEN, /* a parameter that no server would take */
    TARGET_NO_MEMORY
};
/* `secret` points into the target's config. UNKNOWN, MISTAKEN: `why` is for the client.
 */
enum target_result target_find(struct target *target, const struct worker *worker,
                               const struct listener *listener,
                               const struct startup_packet *packet, struct secret *secret,
                               char why[TARGET_WHY_MAX]) MUST_CHECK;
/* The session parameters that the StartupMessage names, but for those that are ignored,
 * and those of the database; held for the caller. NULL when memory is out. */
struct parameter_set *target_parameters(const struct target *target,
                                        const struct startup_packet *packet,
                                        const struct address *peer,
                                        struct parameter_store *store) MUST_CHECK;
/* A zeroed one is fine. */
void target_clear(struct target *target);

/* Counts the client among those of its database and user. NULL: it is in both; else the
 * setting that does not let it in, "" when memory is out. */
const char *target_count(const struct target *target, struct worker *worker,
                         struct client_count *counted[2]) MUST_CHECK;
/* client_idle_timeout, 0 = none. */
uint64_t target_idle_timeout_ms(const struct target *target);
/* The worker's pool for it, a private one for a client that replicates, who comes with
 * these session parameters; NULL when memory is out. */
struct pool *target_pool(const struct target *target, struct worker *worker,
                         const struct parameter_set *parameters);

#endif
