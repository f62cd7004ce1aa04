#include "pool/account.h"

#include <openssl/crypto.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"

/* A limit that several accounts take from: of a database, of a user, of a node. */
struct shared_limit {
    struct link in_accounts;
    enum ledger_scope scope;
    uint32_t node_id;
    char *name;
    unsigned references;
    struct ledger_limit *limit; /* held */
    struct client_count clients;
};

struct accounts {
    pthread_mutex_t mutex;
    struct ledger *ledger;
    struct list open;
    struct list limits;
};

struct accounts *accounts_new(struct ledger *ledger)
{
    struct accounts *accounts = memory_zeroed(sizeof *accounts);

    if (accounts == NULL)
        return NULL;
    pthread_mutex_init(&accounts->mutex, NULL);
    accounts->ledger = ledger;
    list_init(&accounts->open);
    list_init(&accounts->limits);
    return accounts;
}

static void free_limit(struct accounts *accounts, struct shared_limit *shared)
{
    list_remove(&accounts->limits, &shared->in_accounts);
    ledger_limit_release(accounts->ledger, shared->limit);
    memory_free(shared->name);
    memory_free(shared);
}

void accounts_free(struct accounts *accounts)
{
    if (accounts == NULL)
        return;
    REQUIRE(accounts->open.n == 0);
    LIST_EACH_SAFE(item, &accounts->limits) /* those of nodes */
    {
        free_limit(accounts, CONTAINER_OF(item, struct shared_limit, in_accounts));
    }
    pthread_mutex_destroy(&accounts->mutex);
    memory_free(accounts);
}

/* ---- limits that are shared ---------------------------------------------------------
 */

static struct shared_limit *find_limit(struct accounts *accounts, enum ledger_scope scope,
                                       const char *name, uint32_t node_id)
{
    LIST_EACH(item, &accounts->limits)
    {
        struct shared_limit *shared =
            CONTAINER_OF(item, struct shared_limit, in_accounts);

        if (shared->scope == scope && shared->node_id == node_id &&
            strcmp(shared->name, name) == 0)
            return shared;
    }
    return NULL;
}

static struct shared_limit *add_limit(struct accounts *accounts, enum ledger_scope scope,
                                      const char *name, uint32_t node_id)
{
    static const char *const settings[LEDGER_SCOPES] = {
        [LEDGER_POOL] = "pool_size",
        [LEDGER_DATABASE] = "max_db_connections",
        [LEDGER_USER] = "max_user_connections",
        [LEDGER_NODE] = "max_node_connections",
    };
    struct shared_limit *shared = memory_zeroed(sizeof *shared);

    if (shared == NULL)
        return NULL;
    shared->scope = scope;
    shared->node_id = node_id;
    shared->name = memory_text(name);
    shared->limit = ledger_limit_new(settings[scope], 0);
    if (shared->name == NULL || shared->limit == NULL) {
        if (shared->limit != NULL)
            ledger_limit_release(accounts->ledger, shared->limit);
        memory_free(shared->name);
        memory_free(shared);
        return NULL;
    }
    list_append(&accounts->limits, &shared->in_accounts);
    return shared;
}

/* To be released; NULL when memory is out. */
static struct shared_limit *hold_limit(struct accounts *accounts, enum ledger_scope scope,
                                       const char *name, uint32_t node_id)
{
    struct shared_limit *shared = find_limit(accounts, scope, name, node_id);

    if (shared == NULL)
        shared = add_limit(accounts, scope, name, node_id);
    if (shared != NULL)
        shared->references++;
    return shared;
}

static void release_limit(struct accounts *accounts, struct shared_limit *shared)
{
    if (shared != NULL && --shared->references == 0)
        free_limit(accounts, shared);
}

static void set_limit(struct accounts *accounts, struct shared_limit *shared,
                      unsigned max, struct ledger_todo *todo)
{
    if (shared->limit->max != max)
        ledger_limit_set(accounts->ledger, shared->limit, max, todo);
}

struct ledger_limit *accounts_node_limit(struct accounts *accounts, uint32_t node_id,
                                         unsigned max, struct ledger_todo *todo)
{
    struct shared_limit *shared;

    pthread_mutex_lock(&accounts->mutex);
    shared = hold_limit(accounts, LEDGER_NODE, "", node_id); /* nodes are few, and stay */
    if (shared != NULL)
        set_limit(accounts, shared, max, todo);
    pthread_mutex_unlock(&accounts->mutex);
    return shared == NULL ? NULL : shared->limit;
}

enum client_count_answer accounts_count_in(struct accounts *accounts,
                                           enum client_count_of what, const char *name,
                                           unsigned max, struct client_count **count)
{
    enum client_count_answer answer = COUNT_NO_MEMORY;
    enum ledger_scope scope = what == COUNT_OF_USER ? LEDGER_USER : LEDGER_DATABASE;
    struct shared_limit *shared;

    pthread_mutex_lock(&accounts->mutex);
    shared = hold_limit(accounts, scope, name, 0);
    if (shared != NULL && max > 0 && shared->clients.n >= max) {
        release_limit(accounts, shared);
        shared = NULL;
        answer = COUNT_FULL;
    } else if (shared != NULL) {
        shared->clients.n++;
        *count = &shared->clients;
        answer = COUNT_ENTERED;
    }
    pthread_mutex_unlock(&accounts->mutex);
    return answer;
}

void accounts_count_out(struct accounts *accounts, struct client_count *count)
{
    struct shared_limit *shared;

    if (count == NULL)
        return;
    shared = CONTAINER_OF(count, struct shared_limit, clients);
    pthread_mutex_lock(&accounts->mutex);
    shared->clients.n--;
    release_limit(accounts, shared);
    pthread_mutex_unlock(&accounts->mutex);
}

/* ---- accounts -----------------------------------------------------------------------
 */

static struct account *find_account(struct accounts *accounts,
                                    const struct account_terms *terms)
{
    LIST_EACH(item, &accounts->open)
    {
        struct account *account = CONTAINER_OF(item, struct account, in_accounts);

        if (strcmp(account->name, terms->name) == 0 &&
            strcmp(account->database, terms->database) == 0 &&
            strcmp(account->user, terms->user) == 0 &&
            strcmp(account->password, terms->password) == 0)
            return account;
    }
    return NULL;
}

static void free_account(struct account *account)
{
    if (account->limits[LEDGER_POOL] != NULL)
        ledger_limit_release(account->home->ledger, account->limits[LEDGER_POOL]);
    release_limit(account->home, account->of_database);
    release_limit(account->home, account->of_user);
    secret_clear(&account->secret);
    scram_keys_clear(&account->keys);
    if (account->password != NULL)
        OPENSSL_cleanse(account->password, strlen(account->password));
    memory_free(account->password);
    memory_free(account->name);
    memory_free(account->database);
    memory_free(account->user);
    memory_free(account->welcome);
    memory_free(account);
}

static bool fill_account(struct account *account, const struct account_terms *terms)
{
    account->name = memory_text(terms->name);
    account->database = memory_text(terms->database);
    account->user = memory_text(terms->user);
    account->password = memory_text(terms->password);
    if (account->name == NULL || account->database == NULL || account->user == NULL ||
        account->password == NULL)
        return false;
    if (secret_parse(account->password, strlen(account->password), &account->secret) !=
        SECRET_FINE)
        secret_clear(&account->secret); /* as if none were known; loading has said so */
    account->limits[LEDGER_POOL] = ledger_limit_new("pool_size", terms->pool_size);
    return account->limits[LEDGER_POOL] != NULL;
}

static bool set_terms(struct account *account, const struct account_terms *terms,
                      struct ledger_todo *todo)
{
    struct accounts *home = account->home;

    if (account->of_database == NULL)
        account->of_database = hold_limit(home, LEDGER_DATABASE, terms->name, 0);
    if (account->of_user == NULL)
        account->of_user = hold_limit(home, LEDGER_USER, terms->user, 0);
    if (account->of_database == NULL || account->of_user == NULL)
        return false;
    set_limit(home, account->of_database, terms->max_db_connections, todo);
    set_limit(home, account->of_user, terms->max_user_connections, todo);
    account->limits[LEDGER_DATABASE] = account->of_database->limit;
    account->limits[LEDGER_USER] = account->of_user->limit;
    if (account->limits[LEDGER_POOL]->max != terms->pool_size)
        ledger_limit_set(home->ledger, account->limits[LEDGER_POOL], terms->pool_size,
                         todo);
    if (account->ledger_pool == NULL)
        account->ledger_pool =
            ledger_pool_new(home->ledger, account->limits, terms->reserve_pool_size);
    else
        ledger_pool_set_reserve(home->ledger, account->ledger_pool,
                                terms->reserve_pool_size, todo);
    return account->ledger_pool != NULL;
}

static struct account *make_account(struct accounts *accounts,
                                    const struct account_terms *terms,
                                    struct ledger_todo *todo)
{
    struct account *account = memory_zeroed(sizeof *account);

    if (account == NULL)
        return NULL;
    account->home = accounts;
    if (!fill_account(account, terms) || !set_terms(account, terms, todo)) {
        free_account(account);
        return NULL;
    }
    list_append(&accounts->open, &account->in_accounts);
    return account;
}

struct account *account_hold(struct accounts *accounts, const struct account_terms *terms,
                             struct ledger_todo *todo)
{
    struct account *account;

    pthread_mutex_lock(&accounts->mutex);
    account = find_account(accounts, terms);
    if (account == NULL)
        account = make_account(accounts, terms, todo);
    else if (!set_terms(account, terms, todo))
        account = NULL;
    if (account != NULL)
        account->references++;
    pthread_mutex_unlock(&accounts->mutex);
    return account;
}

void account_release(struct account *account)
{
    struct accounts *accounts = account->home;

    pthread_mutex_lock(&accounts->mutex);
    if (--account->references == 0) {
        REQUIRE(ledger_pool_release(accounts->ledger, account->ledger_pool));
        list_remove(&accounts->open, &account->in_accounts);
        free_account(account);
    }
    pthread_mutex_unlock(&accounts->mutex);
}

/* ---- what logins have shown ---------------------------------------------------------
 */

void account_get_keys(struct account *account, struct scram_keys *keys)
{
    pthread_mutex_lock(&account->home->mutex);
    *keys = account->keys;
    pthread_mutex_unlock(&account->home->mutex);
}

void account_set_keys(struct account *account, const struct scram_keys *keys)
{
    pthread_mutex_lock(&account->home->mutex);
    account->keys = *keys;
    pthread_mutex_unlock(&account->home->mutex);
}

void account_get_why(struct account *account, char why[ACCOUNT_WHY_MAX])
{
    pthread_mutex_lock(&account->home->mutex);
    memcpy(why, account->why, ACCOUNT_WHY_MAX);
    pthread_mutex_unlock(&account->home->mutex);
}

void account_set_why(struct account *account, const char *why)
{
    pthread_mutex_lock(&account->home->mutex);
    snprintf(account->why, sizeof account->why, "%s", why);
    pthread_mutex_unlock(&account->home->mutex);
}

bool account_read_welcome(struct account *account,
                          void (*use)(void *arg, const char *messages, size_t n),
                          void *arg)
{
    bool is_known;

    pthread_mutex_lock(&account->home->mutex);
    is_known = account->welcome != NULL;
    if (is_known)
        use(arg, account->welcome, account->n_welcome);
    pthread_mutex_unlock(&account->home->mutex);
    return is_known;
}

void account_set_welcome(struct account *account, const struct text *messages)
{
    char *copy = memory_text_n(text_get(messages), messages->length);

    if (copy == NULL)
        return; /* the one of before is as good */
    pthread_mutex_lock(&account->home->mutex);
    memory_free(account->welcome);
    account->welcome = copy;
    account->n_welcome = messages->length;
    pthread_mutex_unlock(&account->home->mutex);
}
