#include "pool/account.h"

#include <openssl/crypto.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "core/hash_table.h"

/* A limit that several accounts take from: of a database, of a user, of a node. */
struct shared_limit {
    UT_hash_handle hh;
    unsigned references;
    struct ledger_limit *limit; /* held */
    struct client_count clients;
    uint8_t key[]; /* scope, node, name */
};

/* One that it has or had: a login that is under way may use it still. */
struct password {
    struct link in_passwords;
    struct secret secret; /* points into the text */
    char text[];
};

struct entry {
    struct account account;
    UT_hash_handle hh;
    char key[]; /* name, database and user, with a zero byte behind each, and role */
};

struct accounts {
    pthread_mutex_t mutex;
    struct ledger *ledger;
    struct entry *entries;       /* hash table, by key */
    struct shared_limit *limits; /* hash table, by key */
};

struct accounts *accounts_new(struct ledger *ledger)
{
    struct accounts *accounts = memory_zeroed(sizeof *accounts);

    if (accounts == NULL)
        return NULL;
    pthread_mutex_init(&accounts->mutex, NULL);
    accounts->ledger = ledger;
    return accounts;
}

static void free_limit(struct accounts *accounts, struct shared_limit *shared)
{
    REQUIRE(accounts->limits != NULL);
    HASH_DEL(accounts->limits, shared);
    ledger_limit_release(accounts->ledger, shared->limit);
    memory_free(shared);
}

void accounts_free(struct accounts *accounts)
{
    if (accounts == NULL)
        return;
    REQUIRE(accounts->entries == NULL);
    while (accounts->limits != NULL) /* those of nodes */
        free_limit(accounts, accounts->limits);
    pthread_mutex_destroy(&accounts->mutex);
    memory_free(accounts);
}

/* ---- limits that are shared ---------------------------------------------------------
 */

static struct shared_limit *make_limit(enum ledger_scope scope, const char *name,
                                       uint32_t node_id)
{
    size_t n_name = strlen(name);
    struct shared_limit *shared =
        memory_zeroed(sizeof *shared + 1 + sizeof node_id + n_name);

    if (shared == NULL)
        return NULL;
    shared->key[0] = (uint8_t)scope;
    memcpy(shared->key + 1, &node_id, sizeof node_id);
    memcpy(shared->key + 1 + sizeof node_id, name, n_name);
    return shared;
}

static bool add_limit(struct accounts *accounts, struct shared_limit *shared,
                      enum ledger_scope scope, size_t n_key)
{
    static const char *const settings[LEDGER_SCOPES] = {
        [LEDGER_POOL] = "pool_size",
        [LEDGER_DATABASE] = "max_db_connections",
        [LEDGER_USER] = "max_user_connections",
        [LEDGER_NODE] = "max_node_connections",
    };

    shared->limit = ledger_limit_new(settings[scope], 0);
    if (shared->limit == NULL)
        return false;
    HASH_ADD(hh, accounts->limits, key, n_key, shared);
    if (shared->hh.tbl != NULL)
        return true;
    ledger_limit_release(accounts->ledger, shared->limit); /* out of memory */
    return false;
}

/* To be released; NULL when memory is out. */
static struct shared_limit *hold_limit(struct accounts *accounts, enum ledger_scope scope,
                                       const char *name, uint32_t node_id)
{
    size_t n_key = 1 + sizeof node_id + strlen(name);
    struct shared_limit *made = make_limit(scope, name, node_id), *found;

    if (made == NULL)
        return NULL;
    HASH_FIND(hh, accounts->limits, made->key, n_key, found);
    if (found == NULL && add_limit(accounts, made, scope, n_key))
        found = made;
    if (found != made)
        memory_free(made);
    if (found != NULL)
        found->references++;
    return found;
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

static void forget_password(struct account *account, struct password *password)
{
    list_remove(&account->passwords, &password->in_passwords);
    secret_clear(&password->secret);
    OPENSSL_cleanse(password->text, strlen(password->text));
    memory_free(password);
}

static struct password *newest_password(const struct account *account)
{
    struct link *first = list_first(&account->passwords);

    return first == NULL ? NULL : CONTAINER_OF(first, struct password, in_passwords);
}

/* Keys that were made of another password are forgotten. */
static bool set_password(struct account *account, const char *text)
{
    const struct password *newest = newest_password(account);
    size_t n = strlen(text);
    struct password *made;

    if (newest != NULL && strcmp(newest->text, text) == 0)
        return true;
    made = memory_zeroed(sizeof *made + n + 1);
    if (made == NULL)
        return false;
    memcpy(made->text, text, n);
    if (secret_parse(made->text, n, &made->secret) != SECRET_FINE)
        secret_clear(&made->secret); /* as if none were known; loading has said so */
    list_prepend(&account->passwords, &made->in_passwords);
    scram_keys_clear(&account->keys);
    account->why[0] = '\0';
    return true;
}

static void free_account(struct account *account)
{
    if (account->limits[LEDGER_POOL] != NULL)
        ledger_limit_release(account->home->ledger, account->limits[LEDGER_POOL]);
    release_limit(account->home, account->of_database);
    release_limit(account->home, account->of_user);
    LIST_EACH_SAFE(item, &account->passwords)
    {
        forget_password(account, CONTAINER_OF(item, struct password, in_passwords));
    }
    scram_keys_clear(&account->keys);
    memory_free(account->welcome);
    memory_free(CONTAINER_OF(account, struct entry, account));
}

/* Once: others read the limits without the mutex. */
static bool hold_limits(struct account *account, const struct account_terms *terms)
{
    struct accounts *home = account->home;

    if (account->limits[LEDGER_USER] != NULL)
        return true;
    account->of_database = hold_limit(home, LEDGER_DATABASE, terms->name, 0);
    account->of_user = hold_limit(home, LEDGER_USER, terms->user, 0);
    if (account->of_database == NULL || account->of_user == NULL)
        return false;
    account->limits[LEDGER_DATABASE] = account->of_database->limit;
    account->limits[LEDGER_USER] = account->of_user->limit;
    return true;
}

static bool set_terms(struct account *account, const struct account_terms *terms,
                      struct ledger_todo *todo)
{
    struct accounts *home = account->home;

    if (!hold_limits(account, terms) || !set_password(account, terms->password))
        return false;
    set_limit(home, account->of_database, terms->max_db_connections, todo);
    set_limit(home, account->of_user, terms->max_user_connections, todo);
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

static size_t key_bytes(const struct account_terms *terms)
{
    return strlen(terms->name) + strlen(terms->database) + strlen(terms->user) + 4;
}

/* With nothing but its names yet. */
static struct entry *make_entry(struct accounts *accounts,
                                const struct account_terms *terms)
{
    struct entry *entry = memory_zeroed(sizeof *entry + key_bytes(terms));
    size_t n_name = strlen(terms->name) + 1, n_database = strlen(terms->database) + 1;

    if (entry == NULL)
        return NULL;
    memcpy(entry->key, terms->name, n_name);
    memcpy(entry->key + n_name, terms->database, n_database);
    memcpy(entry->key + n_name + n_database, terms->user, strlen(terms->user) + 1);
    entry->key[key_bytes(terms) - 1] = (char)terms->role;
    entry->account.role = terms->role;
    entry->account.home = accounts;
    entry->account.name = entry->key;
    entry->account.database = entry->key + n_name;
    entry->account.user = entry->key + n_name + n_database;
    list_init(&entry->account.passwords);
    return entry;
}

static bool add_entry(struct accounts *accounts, struct entry *entry,
                      const struct account_terms *terms, struct ledger_todo *todo)
{
    struct account *account = &entry->account;

    account->limits[LEDGER_POOL] = ledger_limit_new("pool_size", terms->pool_size);
    if (account->limits[LEDGER_POOL] == NULL || !set_terms(account, terms, todo))
        return false;
    HASH_ADD(hh, accounts->entries, key, key_bytes(terms), entry);
    if (entry->hh.tbl != NULL)
        return true;
    REQUIRE(ledger_pool_release(accounts->ledger, account->ledger_pool)); /* no memory */
    return false;
}

static struct account *find_or_make(struct accounts *accounts,
                                    const struct account_terms *terms,
                                    struct ledger_todo *todo)
{
    struct entry *made = make_entry(accounts, terms), *found;

    if (made == NULL)
        return NULL;
    HASH_FIND(hh, accounts->entries, made->key, key_bytes(terms), found);
    if (found == NULL && add_entry(accounts, made, terms, todo))
        return &made->account;
    free_account(&made->account);
    return found != NULL && set_terms(&found->account, terms, todo) ? &found->account
                                                                    : NULL;
}

struct account *account_hold(struct accounts *accounts, const struct account_terms *terms,
                             struct ledger_todo *todo)
{
    struct account *account;

    pthread_mutex_lock(&accounts->mutex);
    account = find_or_make(accounts, terms, todo);
    if (account != NULL)
        account->references++;
    pthread_mutex_unlock(&accounts->mutex);
    return account;
}

void account_release(struct account *account)
{
    struct accounts *accounts = account->home;
    struct entry *entry = CONTAINER_OF(account, struct entry, account);

    pthread_mutex_lock(&accounts->mutex);
    if (--account->references == 0) {
        REQUIRE(ledger_pool_release(accounts->ledger, account->ledger_pool));
        REQUIRE(accounts->entries != NULL);
        HASH_DEL(accounts->entries, entry);
        free_account(account);
    }
    pthread_mutex_unlock(&accounts->mutex);
}

/* ---- what logins have shown ---------------------------------------------------------
 */

const struct secret *account_get_secret(struct account *account, struct scram_keys *keys)
{
    const struct secret *secret;

    pthread_mutex_lock(&account->home->mutex);
    *keys = account->keys;
    secret = &newest_password(account)->secret;
    pthread_mutex_unlock(&account->home->mutex);
    return secret;
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
