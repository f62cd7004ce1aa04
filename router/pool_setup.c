#include "router/pool_setup.h"

#include <string.h>

#include "core/log.h"
#include "router/worker.h"

/* A pool without clients and servers whose line is gone from the file. */
#define FORGET_AFTER_MS 1000u

/* A number of the user's own, else the general one. */
#define OF_USER(user, field, general) \
    config_own((user) == NULL ? CONFIG_DEFAULT : (user)->field, general)

static const char *password_of(const struct config *config,
                               const struct database_config *settings, const char *user)
{
    const char *secret;

    if (*settings->password != '\0')
        return settings->password;
    secret = config_secret(config, user);
    return secret == NULL ? "" : secret;
}

static struct account *hold_account(struct worker *worker, const struct config *config,
                                    const struct database_config *settings,
                                    const struct pool_asked *asked)
{
    const struct main_config *main = &config->main;
    const struct user_config *own = config_user(config, asked->user);
    struct account_terms terms = {
        .name = asked->database,
        .database = *settings->dbname != '\0' ? settings->dbname : asked->database,
        .user = asked->user,
        .role = asked->role,
        .password = password_of(config, settings, asked->user),
        .pool_size = (unsigned)config_pool_size(config, settings, own),
        .reserve_pool_size = (unsigned)OF_USER(
            own, reserve_pool_size,
            config_own(settings->reserve_pool_size, main->reserve_pool_size)),
        .max_db_connections =
            (unsigned)config_own(settings->max_db_connections, main->max_db_connections),
        .max_user_connections =
            (unsigned)OF_USER(own, max_user_connections, main->max_user_connections),
    };
    struct ledger_todo todo = {0};
    struct account *account = account_hold(worker->shared->accounts, &terms, &todo);

    pools_post(&worker->pools, &todo);
    return account;
}

static unsigned min_pool_size(const struct config *config,
                              const struct database_config *settings)
{
    return (unsigned)config_own(settings->min_pool_size, config->main.min_pool_size);
}

/* Hosts without a [cluster] have no roles: see config/config.h. */
static enum listener_role role_of(const struct database_config *settings,
                                  enum listener_role asked)
{
    return asked == ROLE_DEFAULT || settings->to->is_implicit ? settings->role : asked;
}

static struct pool_terms terms_of(const struct config *config,
                                  const struct database_config *settings,
                                  const struct pool_asked *asked)
{
    const struct main_config *main = &config->main;
    uint64_t log_min_ns =
        (uint64_t)config_own(settings->log_min_duration, main->log_min_duration) *
        1000000u;

    return (struct pool_terms){
        .role = role_of(settings, asked->role),
        .connect_timeout_ms = (uint64_t)main->server_connect_timeout,
        .retry_ms = (uint64_t)main->server_login_retry,
        .lifetime_ms =
            (uint64_t)config_own(settings->server_lifetime, main->server_lifetime),
        .idle_ms = (uint64_t)main->server_idle_timeout,
        .handover_after_ns = (uint64_t)main->handover_after * 1000000u,
        .max_node_connections = (unsigned)main->max_node_connections,
        .takes_turns = main->server_round_robin,
        .takes_first_node = settings->load_balance_hosts == LOAD_BALANCE_HOSTS_DISABLE,
        .min_pool_size = min_pool_size(config, settings),
        .reserve_after_ms = (uint64_t)main->reserve_pool_timeout,
        .forget_after_ms =
            strcmp(settings->name, "*") == 0 ? (uint64_t)main->autodb_idle_timeout : 0,
        .check_delay_ms = (uint64_t)main->server_check_delay,
        .resets_always = main->server_reset_query_always,
        .mode = asked->mode,
        .log_min_ns = log_min_ns,
        .log_bytes = log_min_ns == 0 ? 0 : (unsigned)main->log_statement_bytes,
    };
}

struct pool *pool_setup(struct worker *worker, const struct config *config,
                        const struct database_config *settings,
                        const struct pool_asked *asked)
{
    struct account *account = hold_account(worker, config, settings, asked);
    struct pool_terms terms = terms_of(config, settings, asked);

    if (account == NULL)
        return NULL;
    return pools_find(&worker->pools, account, &terms,
                      &(struct pool_texts){
                          .cluster = settings->to->name,
                          .reset_query = config->main.server_reset_query,
                          .check_query = config->main.server_check_query,
                          .connect_query = settings->connect_query,
                      });
}

/* ---- behind a reload ----------------------------------------------------------------
 */

/* Its database is not there any more, has become another, or is logged in to as another
 * user: it serves those whom it has, and is forgotten then. */
static void leave_to_its_clients(struct pool *pool)
{
    pool->terms.min_pool_size = 0;
    pool->terms.forget_after_ms = FORGET_AFTER_MS;
}

static bool is_as_before(const struct account *account,
                         const struct database_config *settings)
{
    const char *dbname = *settings->dbname != '\0' ? settings->dbname : account->name;

    return strcmp(dbname, account->database) == 0 &&
           (*settings->user == '\0' || strcmp(settings->user, account->user) == 0);
}

static void set_up_again(struct worker *worker, struct pool *pool)
{
    const struct config *config = worker->config;
    const struct account *account = pool->account;
    const struct database_config *settings = config_database(config, account->name);

    if (settings == NULL || !is_as_before(account, settings))
        leave_to_its_clients(pool);
    else if (pool_setup(worker, config, settings,
                        &(struct pool_asked){.database = account->name,
                                             .user = account->user,
                                             .mode = pool->terms.mode,
                                             .role = account->role}) == NULL)
        LOG(ERROR, "out of memory: a pool goes on as before",
            TEXT("database", account->name), TEXT("user", account->user));
}

static void make_warm_pool(struct worker *worker, const struct database_config *settings)
{
    const struct config *config = worker->config;
    struct pool_asked asked = {.database = settings->name,
                               .user = settings->user,
                               .mode = config_pool_mode(config, NULL, settings, NULL),
                               .role = ROLE_DEFAULT};

    if (*settings->user == '\0' || strcmp(settings->name, "*") == 0 ||
        min_pool_size(config, settings) == 0)
        return;
    if (pool_setup(worker, config, settings, &asked) == NULL)
        LOG(ERROR, "out of memory: no servers are kept warm",
            TEXT("database", settings->name));
}

void pool_setup_all(struct worker *worker)
{
    const struct config *config = worker->config;

    ledger_set_login_concurrency(worker->pools.ledger,
                                 (unsigned)config->main.login_concurrency);
    LIST_EACH(item, &worker->pools.pools)
    {
        struct pool *pool = CONTAINER_OF(item, struct pool, in_pools);

        if (!pool_is_private(pool))
            set_up_again(worker, pool);
    }
    for (size_t i = 0; worker->number == 0 && i < config->n_databases; i++)
        make_warm_pool(worker, &config->databases[i]);
    if (worker->topology != NULL)
        pools_set_topology(&worker->pools, worker->topology);
}
