#include "router/console/sums.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/hash_table.h"
#include "router/worker.h"

struct pool_entry {
    struct pool_sum sum;
    UT_hash_handle hh;
};

struct user_entry {
    struct user_sum sum;
    UT_hash_handle hh;
};

struct sums *sums_new(void)
{
    struct sums *sums = memory_zeroed(sizeof *sums);

    if (sums == NULL)
        return NULL;
    list_init(&sums->pools);
    list_init(&sums->users);
    return sums;
}

static void free_pool(struct pool_entry *entry)
{
    memory_free(entry->sum.key);
    memory_free(entry->sum.times);
    memory_free(entry->sum.errors);
    memory_free(entry);
}

static void free_user(struct user_entry *entry)
{
    memory_free(entry->sum.name);
    memory_free(entry);
}

void sums_free(struct sums *sums)
{
    struct pool_entry *pools;
    struct user_entry *users;

    if (sums == NULL)
        return;
    pools = sums->pool_table;
    users = sums->user_table;
    HASH_CLEAR(hh, pools);
    HASH_CLEAR(hh, users);
    LIST_EACH_SAFE(item, &sums->pools)
    {
        free_pool(CONTAINER_OF(item, struct pool_entry, sum.in_list));
    }
    LIST_EACH_SAFE(item, &sums->users)
    {
        free_user(CONTAINER_OF(item, struct user_entry, sum.in_list));
    }
    memory_free(sums);
}

/* ---- finding ------------------------------------------------------------------------
 */

/* Takes over the key. */
static struct pool_sum *add_pool(struct sums *sums, char *key, size_t n_key)
{
    struct pool_entry *table = sums->pool_table;
    struct pool_entry *entry = memory_zeroed(sizeof *entry);

    if (entry == NULL) {
        memory_free(key);
        return NULL;
    }
    entry->sum.key = key;
    entry->sum.database = key;
    entry->sum.user = key + strlen(key) + 1;
    HASH_ADD_KEYPTR(hh, table, entry->sum.key, n_key, entry);
    if (entry->hh.tbl == NULL) {
        free_pool(entry);
        return NULL;
    }
    sums->pool_table = table;
    list_append(&sums->pools, &entry->sum.in_list);
    return &entry->sum;
}

static struct pool_sum *get_pool(struct sums *sums, const char *database,
                                 const char *user, enum listener_role role)
{
    struct pool_entry *table = sums->pool_table, *entry;
    size_t n_database = strlen(database) + 1, n_user = strlen(user) + 1;
    size_t n_key = n_database + n_user + 1;
    char *key = memory_zeroed(n_key);

    if (key == NULL)
        return NULL;
    memcpy(key, database, n_database);
    memcpy(key + n_database, user, n_user);
    key[n_key - 1] = (char)role;
    HASH_FIND(hh, table, key, n_key, entry);
    if (entry == NULL)
        return add_pool(sums, key, n_key);
    memory_free(key);
    return &entry->sum;
}

static struct user_entry *find_user(const struct sums *sums, const char *name)
{
    struct user_entry *table = sums->user_table, *entry;

    HASH_FIND(hh, table, name, strlen(name), entry);
    return entry;
}

static struct user_sum *get_user(struct sums *sums, const char *name)
{
    struct user_entry *table = sums->user_table, *entry = find_user(sums, name);

    if (entry != NULL)
        return &entry->sum;
    entry = memory_zeroed(sizeof *entry);
    if (entry == NULL)
        return NULL;
    entry->sum.name = memory_text(name);
    if (entry->sum.name != NULL)
        HASH_ADD_KEYPTR(hh, table, entry->sum.name, strlen(name), entry);
    if (entry->hh.tbl == NULL) {
        free_user(entry);
        return NULL;
    }
    sums->user_table = table;
    list_append(&sums->users, &entry->sum.in_list);
    return &entry->sum;
}

const struct user_sum *sums_user(const struct sums *sums, const char *name)
{
    struct user_entry *entry = find_user(sums, name);

    return entry == NULL ? NULL : &entry->sum;
}

/* ---- adding -------------------------------------------------------------------------
 */

static unsigned survey_servers(const struct pool_survey *servers)
{
    return servers->n_active + servers->n_idle + servers->n_to_check +
           servers->n_testing + servers->n_opening + servers->n_aimed_at +
           servers->n_warm;
}

unsigned pool_sum_servers(const struct pool_sum *sum)
{
    return survey_servers(&sum->servers);
}

static void add_survey(struct pool_survey *to, const struct pool_survey *one)
{
    to->n_active += one->n_active;
    to->n_idle += one->n_idle;
    to->n_to_check += one->n_to_check;
    to->n_testing += one->n_testing;
    to->n_opening += one->n_opening;
    to->n_warm += one->n_warm;
    to->n_aimed_at += one->n_aimed_at;
    to->n_cancels += one->n_cancels;
    if (one->longest_wait_ns > to->longest_wait_ns)
        to->longest_wait_ns = one->longest_wait_ns;
}

/* False when memory is out. */
static bool add_insight(struct pool_sum *sum, const struct pool *pool)
{
    if (sum->times == NULL)
        sum->times = memory_zeroed(sizeof *sum->times);
    if (sum->errors == NULL)
        sum->errors = memory_zeroed(sizeof *sum->errors);
    if (sum->times == NULL || sum->errors == NULL)
        return false;
    pool_times_add(sum->times, &pool->times);
    pool_errors_add(sum->errors, &pool->errors);
    return true;
}

static bool add_one_pool(struct sums *sums, const struct pool *pool)
{
    const struct account *account = pool->account;
    struct pool_sum *sum = get_pool(sums, account->name, account->user, account->role);
    struct user_sum *user = get_user(sums, account->user);
    struct pool_survey survey;

    if (sum == NULL || user == NULL || (sums->with_insight && !add_insight(sum, pool)))
        return false;
    pool_survey(pool, &survey);
    add_survey(&sum->servers, &survey);
    if (sum->why[0] == '\0')
        snprintf(sum->why, sizeof sum->why, "%s", survey.why);
    sum->mode = pool->terms.mode;
    sum->role = pool->terms.role;
    sum->n_clients += pool->n_clients;
    sum->n_waiting += (unsigned)pool->needs.n;
    pool_counts_add(&sum->counts, &pool->counts);
    user->n_servers += survey_servers(&survey);
    LIST_EACH(item, &pool->guests)
    {
        const struct guest *guest = CONTAINER_OF(item, struct guest, in_list);

        user = get_user(sums, guest->name);
        if (user == NULL)
            return false;
        user->n_clients += guest->n_clients;
    }
    return true;
}

/* The console is a pool, too, without servers. */
static bool add_console(struct sums *sums, const struct worker *worker)
{
    struct pool_sum *sum =
        get_pool(sums, CONFIG_POOL_LISTENER, CONFIG_POOL_LISTENER, ROLE_DEFAULT);

    if (sum == NULL)
        return false;
    sum->mode = POOL_MODE_STATEMENT;
    sum->role = ROLE_DEFAULT;
    sum->n_clients += worker->n_consoles;
    pool_counts_add(&sum->counts, &worker->console_counts);
    return true;
}

static void add_lists(struct sums *sums, const struct worker *worker)
{
    sums->n_clients += (unsigned)slab_n_taken(worker->client_slab);
    sums->n_clients_idle += (unsigned)slab_n_idle(worker->client_slab);
    sums->n_servers += (unsigned)slab_n_taken(worker->server_slab);
    sums->n_servers_idle += (unsigned)slab_n_idle(worker->server_slab);
    LIST_EACH(item, &worker->clients)
    {
        const struct client *client = CONTAINER_OF(item, struct client, in_worker);

        sums->n_logins += client->state == CLIENT_STARTUP ||
                          client->state == CLIENT_PROXIED ||
                          client->state == CLIENT_AUTH || client->state == CLIENT_LOGIN;
    }
}

bool sums_add_worker(struct sums *sums, const struct worker *worker)
{
    LIST_EACH(item, &worker->pools.pools)
    {
        if (!add_one_pool(sums, CONTAINER_OF(item, struct pool, in_pools)))
            return false;
    }
    add_lists(sums, worker);
    return add_console(sums, worker);
}

/* ---- sorting ------------------------------------------------------------------------
 */

static int compare_pools(struct pool_entry *a, struct pool_entry *b)
{
    int order = strcmp(a->sum.database, b->sum.database);

    if (order == 0)
        order = strcmp(a->sum.user, b->sum.user);
    return order != 0 ? order : (int)a->sum.role - (int)b->sum.role;
}

static int compare_users(struct user_entry *a, struct user_entry *b)
{
    return strcmp(a->sum.name, b->sum.name);
}

void sums_sort(struct sums *sums)
{
    struct pool_entry *pools = sums->pool_table;
    struct user_entry *users = sums->user_table;

    HASH_SORT(pools, compare_pools);
    HASH_SORT(users, compare_users);
    sums->pool_table = pools;
    sums->user_table = users;
    for (struct pool_entry *entry = pools; entry != NULL; entry = entry->hh.next) {
        list_remove(&sums->pools, &entry->sum.in_list);
        list_append(&sums->pools, &entry->sum.in_list);
    }
    for (struct user_entry *entry = users; entry != NULL; entry = entry->hh.next) {
        list_remove(&sums->users, &entry->sum.in_list);
        list_append(&sums->users, &entry->sum.in_list);
    }
}
