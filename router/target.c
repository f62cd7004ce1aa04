#include "router/target.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "core/memory.h"
#include "router/pool_setup.h"
#include "router/worker.h"

void target_clear(struct target *target)
{
    memory_free(target->database);
    memory_free(target->user);
    scram_keys_clear(&target->keys);
    config_release(target->config);
    *target = (struct target){0};
}

static void look_up(struct target *target, const struct listener *listener,
                    struct secret *secret)
{
    const struct config *config = target->config;
    const char *text = config_secret(config, target->user);

    /* Whether there is such a database is for those who may know. */
    target->settings = config_database(config, target->database);
    target->user_settings = config_user(config, target->user);
    target->auth = config_auth_type(config, listener->settings);
    target->is_known = text != NULL;
    target->role = listener->settings->role;
    if (target->settings != NULL) {
        target->mode = config_pool_mode(config, listener->settings, target->settings,
                                        target->user_settings);
        target->replay = config_replay(config, target->settings, target->user_settings);
        target->is_session_pooled = target->mode == POOL_MODE_SESSION;
        target->is_statement_pooled = target->mode == POOL_MODE_STATEMENT;
    }
    if (text != NULL && secret_parse(text, strlen(text), secret) != SECRET_FINE)
        secret_clear(secret);
}

enum target_result target_find(struct target *target, const struct worker *worker,
                               const struct listener *listener,
                               const struct startup_packet *packet, struct secret *secret,
                               char why[TARGET_WHY_MAX])
{
    const char *user = startup_parameter(packet, "user");
    const char *database = startup_parameter(packet, "database");

    const char *replication = startup_parameter(packet, "replication");

    target->replication = startup_replication(replication);
    if (target->replication == REPLICATION_BAD) {
        snprintf(why, TARGET_WHY_MAX,
                 "invalid value for parameter \"replication\": \"%s\"", replication);
        return TARGET_MISTAKEN;
    }
    if (user == NULL || *user == '\0') {
        snprintf(why, TARGET_WHY_MAX, "no PostgreSQL user name is given");
        return TARGET_UNKNOWN;
    }
    target->config = config_hold(worker->config);
    target->user = memory_text(user);
    target->database =
        memory_text(database == NULL || *database == '\0' ? user : database);
    if (target->user == NULL || target->database == NULL)
        return TARGET_NO_MEMORY;
    look_up(target, listener, secret);
    return TARGET_FOUND;
}

/* ---- session parameters -------------------------------------------------------------
 */

static bool is_ignored(const struct target *target, const char *name)
{
    const struct name_list *ignored = &target->config->main.ignore_startup_parameters;

    for (size_t i = 0; i < ignored->n; i++)
        if (strcasecmp(ignored->items[i], name) == 0)
            return true;
    return false;
}

static bool put(struct parameter_set **set, const char *name, const char *value)
{
    struct parameter_set *next = parameters_with(*set, name, value);

    if (next == NULL)
        return false;
    parameters_release(*set);
    *set = next;
    return true;
}

/* The next word of `options`, blanks in it written with a backslash, as
 * pg_split_opts() in PostgreSQL's src/backend/utils/init/postinit.c reads them; false at
 * the end. */
static bool next_word(const char **at, char *word, size_t size)
{
    size_t n = 0;

    *at += strspn(*at, " \t\n");
    if (**at == '\0')
        return false;
    for (; **at != '\0' && strchr(" \t\n", **at) == NULL; (*at)++) {
        if (**at == '\\' && (*at)[1] != '\0')
            (*at)++;
        if (n + 1 < size)
            word[n++] = **at;
    }
    word[n] = '\0';
    return true;
}

/* What is no session parameter: a walsender is logged in to with the others, where one of
 * these would count in place of ours. */
static bool is_reserved(const char *name)
{
    return strcasecmp(name, "user") == 0 || strcasecmp(name, "database") == 0 ||
           strcasecmp(name, "replication") == 0 || strcasecmp(name, "options") == 0 ||
           strncasecmp(name, "_pq_.", 5) == 0;
}

/* "-c name=value", "-cname=value" and "--name=value"; others are not for sessions. */
static bool put_options(const struct target *target, struct parameter_set **set,
                        const char *options)
{
    char word[1024] = "";

    while (next_word(&options, word, sizeof word)) {
        char *name = word + 2, *value;

        if (strcmp(word, "-c") == 0) {
            if (!next_word(&options, word, sizeof word))
                return true;
            name = word;
        } else if (strncmp(word, "-c", 2) != 0 && strncmp(word, "--", 2) != 0) {
            continue;
        }
        value = strchr(name, '=');
        if (value == NULL)
            continue;
        *value++ = '\0';
        for (char *c = name; *c != '\0'; c++)
            if (*c == '-')
                *c = '_';
        if (!is_reserved(name) && !is_ignored(target, name) && !put(set, name, value))
            return false;
    }
    return true;
}

static bool put_one(const struct target *target, struct parameter_set **set,
                    const char *name, const char *value)
{
    if (strcmp(name, "options") == 0 && !is_ignored(target, name))
        return put_options(target, set, value);
    return is_reserved(name) || is_ignored(target, name) || put(set, name, value);
}

/* What the database's line says, where the client says nothing. */
static bool put_defaults(const struct target *target, struct parameter_set **set)
{
    const struct database_config *settings = target->settings;
    const struct {
        const char *name, *value;
    } defaults[] = {{"client_encoding", settings->client_encoding},
                    {"DateStyle", settings->datestyle},
                    {"TimeZone", settings->timezone},
                    {"application_name", settings->application_name}};

    for (size_t i = 0; i < COUNT_OF(defaults); i++)
        if (*defaults[i].value != '\0' &&
            parameters_find(*set, defaults[i].name) == NULL &&
            !put(set, defaults[i].name, defaults[i].value))
            return false;
    return true;
}

/* "name - 127.0.0.1:4711" */
static bool add_host_to_name(struct parameter_set **set, const struct address *peer)
{
    const char *name = parameters_find(*set, "application_name");
    char address[ADDRESS_TEXT_MAX];
    char both[256];

    address_print(peer, address);
    snprintf(both, sizeof both, "%s - %s", name != NULL ? name : "app", address);
    return put(set, "application_name", both);
}

struct parameter_set *target_parameters(const struct target *target,
                                        const struct startup_packet *packet,
                                        const struct address *peer,
                                        struct parameter_store *store)
{
    struct parameter_set *set = parameters_none(store);
    const uint8_t *at = NULL;
    const char *name, *value;
    bool ok = set != NULL;

    while (ok && startup_next_parameter(packet, &at, &name, &value))
        ok = put_one(target, &set, name, value);
    if (ok && target->settings != NULL)
        ok = put_defaults(target, &set);
    if (ok && target->config->main.application_name_add_host)
        ok = add_host_to_name(&set, peer);
    if (ok)
        return set;
    parameters_release(set);
    return NULL;
}

/* ---- its pool -----------------------------------------------------------------------
 */

const char *target_count(const struct target *target, struct worker *worker,
                         struct client_count *counted[2])
{
    const struct main_config *main = &target->config->main;
    const struct user_config *user = target->user_settings;
    const struct {
        enum client_count_of what;
        const char *name, *setting;
        int64_t max;
    } counts[] = {
        {COUNT_OF_DATABASE, target->database, "max_db_client_connections",
         config_own(target->settings->max_db_client_connections,
                    main->max_db_client_connections)},
        {COUNT_OF_USER, target->user, "max_user_client_connections",
         config_own(user == NULL ? CONFIG_DEFAULT : user->max_user_client_connections,
                    main->max_user_client_connections)},
    };

    for (size_t i = 0; i < COUNT_OF(counts); i++)
        switch (accounts_count_in(worker->shared->accounts, counts[i].what,
                                  counts[i].name, (unsigned)counts[i].max, &counted[i])) {
        case COUNT_ENTERED:
            break;
        case COUNT_FULL:
            return counts[i].setting;
        case COUNT_NO_MEMORY:
            return "";
        }
    return NULL;
}

uint64_t target_idle_timeout_ms(const struct target *target)
{
    const struct user_config *user = target->user_settings;

    return (uint64_t)config_own(user == NULL ? CONFIG_DEFAULT : user->client_idle_timeout,
                                target->config->main.client_idle_timeout);
}

static void add_parameter(void *arg, const char *name, const char *value)
{
    text_add_n(arg, name, strlen(name) + 1);
    text_add_n(arg, value, strlen(value) + 1);
}

/* Session parameters cannot be set later: a walsender of physical replication knows no
 * SQL. So the server is logged in to with them. */
static struct pool *private_pool(const struct target *target, struct pool *base,
                                 const struct parameter_set *parameters)
{
    struct pool *pool;
    struct text startup;

    text_init(&startup, STARTUP_BYTES_MAX);
    add_parameter(&startup, "replication",
                  target->replication == REPLICATION_LOGICAL ? "database" : "true");
    parameters_each(parameters, add_parameter, &startup);
    pool = pools_make_private(base, target->replication, &startup);
    text_clear(&startup);
    return pool;
}

struct pool *target_pool(const struct target *target, struct worker *worker,
                         const struct parameter_set *parameters)
{
    /* The pool goes by the newest, whatever was read while the client logged in. */
    const struct database_config *newest =
        config_database(worker->config, target->database);
    const struct config *config = newest != NULL ? worker->config : target->config;
    const struct database_config *settings = newest != NULL ? newest : target->settings;
    const char *user = *settings->user != '\0' ? settings->user : target->user;
    struct pool *pool = pool_setup(worker, config, settings,
                                   &(struct pool_asked){.database = target->database,
                                                        .user = user,
                                                        .mode = target->mode,
                                                        .role = target->role});

    if (pool == NULL)
        return NULL;
    if (target->keys.salt.n > 0 && strcmp(user, target->user) == 0)
        account_set_keys(pool->account, &target->keys);
    if (target->replication == REPLICATION_PHYSICAL && pool_is_unused(pool))
        pool->terms.min_pool_size = 0; /* its database need not be one */
    return target->replication == REPLICATION_NONE
               ? pool
               : private_pool(target, pool, parameters);
}
