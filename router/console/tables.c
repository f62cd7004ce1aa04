#include "router/console/tables.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/setting.h"
#include "core/memory.h"
#include "router/console/insight.h"
#include "router/console/row.h"

/* A table of control's: writes the n-th row. */
enum row_step { ROW_ADDED, ROW_NO_ROOM, ROW_NONE };

static const char *const pool_modes[] = {
    [POOL_MODE_SESSION] = "session",
    [POOL_MODE_TRANSACTION] = "transaction",
    [POOL_MODE_STATEMENT] = "statement",
    [POOL_MODE_DEFAULT] = NULL,
};
static const char *const load_balances[] = {
    [LOAD_BALANCE_HOSTS_ROUND_ROBIN] = "round-robin",
    [LOAD_BALANCE_HOSTS_DISABLE] = "disable",
};
static const char *const roles[] = {[ROLE_PRIMARY] = "primary",
                                    [ROLE_REPLICA] = "replica",
                                    [ROLE_READ_ONLY] = "read-only",
                                    [ROLE_ANY] = "any",
                                    [ROLE_DEFAULT] = NULL};

static enum row_step ended(struct row *row)
{
    return row_end(row) ? ROW_ADDED : ROW_NO_ROOM;
}

static void begin(struct row *row, enum view_name view, struct question *question)
{
    row_begin(row, view, question->binary, &question->rows);
}

/* How PgBouncer says it: only of a database with several hosts. */
static const char *load_balance_of(const struct database_config *database)
{
    return database == NULL || database->host.n < 2
               ? NULL
               : load_balances[database->load_balance_hosts];
}

/* ---- VERSION, CONFIG, PEERS ---------------------------------------------------------
 */

static enum row_step add_version(struct snapshot *snapshot, struct question *question)
{
    struct row row;

    if (snapshot->at > 0)
        return ROW_NONE;
    begin(&row, VIEW_VERSION, question);
    row_text(&row, "PgBouncer 1.25.0 (pgrouter " PGROUTER_VERSION ")");
    return ended(&row);
}

/* The default, as it would be shown if it were the value. */
static void add_default(const struct setting *setting, struct text *out)
{
    struct value_rule rule = setting->rule;
    struct text why = {0};
    max_align_t field[4] = {0};

    if (setting->initial == NULL)
        return;
    if (strcmp(setting->initial, "auto") == 0) {
        text_add(out, "auto");
    } else if (value_parse(&rule, setting->initial, field, &why) == VALUE_OK) {
        value_add(rule.type, field, out);
        value_clear(rule.type, field);
    }
    text_clear(&why);
}

static enum row_step add_setting(struct snapshot *snapshot, struct question *question)
{
    struct setting_range range = setting_range(SECTION_MAIN);
    const struct setting *setting = &settings[range.first + snapshot->at];
    struct text value, initial;
    struct row row;

    if (snapshot->at >= range.n)
        return ROW_NONE;
    text_init(&value, 8192);
    text_init(&initial, 8192);
    value_add(setting->rule.type, (const char *)&snapshot->config->main + setting->offset,
              &value);
    add_default(setting, &initial);
    begin(&row, VIEW_CONFIG, question);
    row_text(&row, setting->name);
    row_text(&row, text_get(&value));
    row_text(&row, text_get(&initial));
    row_text(&row, setting->restarts ? "no" : "yes");
    text_clear(&value);
    text_clear(&initial);
    return ended(&row);
}

static enum row_step add_peer(struct snapshot *snapshot, struct question *question)
{
    const struct config *config = snapshot->config;
    const struct peer_config *peer;
    struct row row;

    if (snapshot->at >= config->n_peers)
        return ROW_NONE;
    peer = &config->peers[snapshot->at];
    begin(&row, VIEW_PEERS, question);
    row_number(&row, peer->id);
    row_text(&row, peer->host);
    row_number(&row, peer->port);
    row_number(&row, config_own(peer->pool_size, config->main.default_pool_size));
    return ended(&row);
}

/* ---- databases ----------------------------------------------------------------------
 */

/* Pools of one database stand side by side. */
static void sum_databases(struct snapshot *snapshot)
{
    struct database_sum *sum = NULL;

    LIST_EACH(item, &snapshot->sums->pools)
    {
        const struct pool_sum *pool = CONTAINER_OF(item, struct pool_sum, in_list);

        snapshot->pools[snapshot->n_pools++] = pool;
        if (sum == NULL || strcmp(sum->name, pool->database) != 0)
            sum = &snapshot->databases[snapshot->n_databases++];
        sum->name = pool->database;
        pool_counts_add(&sum->counts, &pool->counts);
        sum->n_clients += pool->n_clients;
        sum->n_servers += pool_sum_servers(pool);
    }
}

static int compare_database(const void *name, const void *sum)
{
    return strcmp(name, ((const struct database_sum *)sum)->name);
}

static void add_database_row(struct snapshot *snapshot, const char *name,
                             const struct database_config *line)
{
    size_t n = snapshot->n_database_rows++;
    const struct database_sum *sum =
        bsearch(name, snapshot->databases, snapshot->n_databases,
                sizeof *snapshot->databases, compare_database);

    snapshot->database_rows[n].settings =
        strcmp(name, CONFIG_POOL_LISTENER) == 0 ? NULL : line;
    snapshot->database_rows[n].sum =
        sum != NULL ? *sum : (struct database_sum){.name = name};
}

/* Lines of [databases] but for "*", then what else has pools: those that "*" has made,
 * and the console. */
static void list_databases(struct snapshot *snapshot)
{
    const struct config *config = snapshot->config;

    for (size_t i = 0; i < config->n_databases; i++)
        if (strcmp(config->databases[i].name, "*") != 0)
            add_database_row(snapshot, config->databases[i].name, &config->databases[i]);
    for (size_t i = 0; i < snapshot->n_databases; i++) {
        const char *name = snapshot->databases[i].name;
        const struct database_config *line = config_database(config, name);

        if (line == NULL || strcmp(line->name, name) != 0)
            add_database_row(snapshot, name, line);
    }
}

/* Everybody of auth_file, then of [users]. */
static void list_users(struct snapshot *snapshot)
{
    const struct config *config = snapshot->config;

    for (size_t i = 0; i < config->secrets.n; i++)
        snapshot->users[snapshot->n_users++] = config->secrets.items[i].name;
    for (size_t i = 0; i < config->n_users; i++)
        if (config_secret(config, config->users[i].name) == NULL)
            snapshot->users[snapshot->n_users++] = config->users[i].name;
}

bool tables_prepare(struct snapshot *snapshot)
{
    const struct config *config = snapshot->config;
    size_t n_pools;

    if (snapshot->sums == NULL)
        return true;
    n_pools = snapshot->sums->pools.n;
    snapshot->pools = memory_zeroed((n_pools + 1) * sizeof *snapshot->pools);
    snapshot->databases = memory_zeroed((n_pools + 1) * sizeof *snapshot->databases);
    snapshot->database_rows = memory_zeroed((n_pools + config->n_databases + 1) *
                                            sizeof *snapshot->database_rows);
    snapshot->users = memory_zeroed((config->secrets.n + config->n_users + 1) *
                                    sizeof *snapshot->users);
    if (snapshot->pools == NULL || snapshot->databases == NULL ||
        snapshot->database_rows == NULL || snapshot->users == NULL)
        return false;
    sum_databases(snapshot);
    list_databases(snapshot);
    list_users(snapshot);
    return true;
}

void tables_clear(struct snapshot *snapshot)
{
    memory_free(snapshot->pools);
    memory_free(snapshot->databases);
    memory_free(snapshot->database_rows);
    memory_free(snapshot->users);
}

/* Where its servers are: as it says itself, or the primary of its cluster. */
static void row_host(struct row *row, const struct snapshot *snapshot,
                     const struct database_config *database)
{
    const struct topology_cluster *cluster =
        snapshot->topology == NULL
            ? NULL
            : topology_cluster(snapshot->topology, database->to->name);
    const struct topology_node *primary = cluster == NULL || cluster->primary < 0
                                              ? NULL
                                              : &cluster->nodes[cluster->primary];
    struct text hosts;

    if (database->host.n > 0 && !database->follows_host) {
        text_init(&hosts, 8192);
        for (size_t i = 0; i < database->host.n; i++)
            text_addf(&hosts, "%s%s", i == 0 ? "" : ",", database->host.items[i]);
        row_text(row, text_get(&hosts));
        row_number(row, database->port);
        text_clear(&hosts);
        return;
    }
    row_text(row, primary == NULL ? NULL : primary->host);
    row_number(row, primary == NULL || primary->n_addresses == 0
                        ? database->port
                        : address_port(&primary->addresses[0]));
}

static const char *or_null(const char *text)
{
    return *text == '\0' ? NULL : text;
}

static void row_database(struct row *row, const struct snapshot *snapshot,
                         const struct database_config *database,
                         const struct database_sum *sum)
{
    const struct main_config *main = &snapshot->config->main;

    row_text(row, sum->name);
    row_host(row, snapshot, database);
    row_text(row, *database->dbname != '\0' ? database->dbname : sum->name);
    row_text(row, or_null(database->user));
    row_number(row, config_own(database->pool_size, main->default_pool_size));
    row_number(row, config_own(database->min_pool_size, main->min_pool_size));
    row_number(row, config_own(database->reserve_pool_size, main->reserve_pool_size));
    row_number(row, config_own(database->server_lifetime, main->server_lifetime) / 1000);
    row_text(row, pool_modes[database->pool_mode]);
    row_text(row, load_balance_of(database));
    row_number(row, config_own(database->max_db_connections, main->max_db_connections));
    row_number(row, sum->n_servers);
    row_number(row, config_own(database->max_db_client_connections,
                               main->max_db_client_connections));
    row_number(row, sum->n_clients);
    row_number(row, halts_has(snapshot->halts, sum->name, HALT_PAUSED));
    row_number(row, halts_has(snapshot->halts, sum->name, HALT_DISABLED));
    row_text(row, database->to->is_implicit ? NULL : database->to->name);
    row_text(row, roles[database->role]);
}

static void row_console(struct row *row, const struct snapshot *snapshot,
                        const struct database_sum *sum)
{
    const struct main_config *main = &snapshot->config->main;

    row_text(row, sum->name);
    row_text(row, NULL);
    row_number(row, main->listen_port);
    row_text(row, sum->name);
    row_text(row, sum->name);
    for (unsigned i = 0; i < 4; i++)
        row_number(row, 0); /* it has no servers */
    row_text(row, pool_modes[POOL_MODE_STATEMENT]);
    row_text(row, NULL);
    row_number(row, 0);
    row_number(row, 0);
    row_number(row, 0);
    row_number(row, sum->n_clients);
    row_number(row, 0);
    row_number(row, 0);
    row_text(row, NULL);
    row_text(row, NULL);
}

static enum row_step add_database(struct snapshot *snapshot, struct question *question)
{
    const struct database_config *line;
    const struct database_sum *sum;
    struct row row;

    if (snapshot->at >= snapshot->n_database_rows)
        return ROW_NONE;
    line = snapshot->database_rows[snapshot->at].settings;
    sum = &snapshot->database_rows[snapshot->at].sum;
    begin(&row, VIEW_DATABASES, question);
    if (line == NULL)
        row_console(&row, snapshot, sum);
    else
        row_database(&row, snapshot, line, sum);
    return ended(&row);
}

/* ---- POOLS --------------------------------------------------------------------------
 */

static enum row_step add_pool(struct snapshot *snapshot, struct question *question)
{
    const struct pool_sum *sum = snapshot->pools[snapshot->at];
    struct row row;

    if (snapshot->at >= snapshot->n_pools)
        return ROW_NONE;
    begin(&row, VIEW_POOLS, question);
    row_text(&row, sum->database);
    row_text(&row, sum->user);
    row_number(&row, (int64_t)sum->n_clients - sum->n_waiting);
    row_number(&row, sum->n_waiting);
    row_number(&row, sum->servers.n_cancels);
    row_number(&row, 0); /* a cancel request waits for nothing */
    row_number(&row, sum->servers.n_active);
    row_number(&row, sum->servers.n_cancels);
    row_number(&row, sum->servers.n_aimed_at);
    row_number(&row, sum->servers.n_idle);
    row_number(&row, sum->servers.n_to_check);
    row_number(&row, sum->servers.n_testing);
    row_number(&row, sum->servers.n_opening);
    row_number(&row, (int64_t)(sum->servers.longest_wait_ns / 1000000000u));
    row_number(&row, (int64_t)(sum->servers.longest_wait_ns / 1000u % 1000000u));
    row_text(&row, pool_modes[sum->mode]);
    row_text(&row, load_balance_of(config_database(snapshot->config, sum->database)));
    row_text(&row, sum->why);
    row_text(&row, roles[sum->role]);
#define EVENT(name) row_number(&row, (int64_t)sum->counts.name);
#include "pool/counts.def"
    row_number(&row, sum->servers.n_warm);
    return ended(&row);
}

/* ---- STATS --------------------------------------------------------------------------
 */

#define IN_US(how) IN_US_##how
#define IN_US_RATE 1u
#define IN_US_PER_QUERY 1000u
#define IN_US_PER_TRANSACTION 1000u
#define IN_US_PER_ASSIGNMENT 1000u

static void row_counts(struct row *row, const struct pool_counts *counts)
{
#define COUNT(name, how) row_number(row, (int64_t)(counts->name / IN_US(how)));
#include "pool/counts.def"
}

static enum row_step add_stats(struct snapshot *snapshot, struct question *question)
{
    enum view_name view = command_facts[question->command].view;
    const struct database_sum *sum = &snapshot->databases[snapshot->at];
    struct pool_counts average;
    struct row row;

    if (snapshot->at >= snapshot->n_databases)
        return ROW_NONE;
    averages_of(snapshot->averages, sum->name, &sum->counts, snapshot->now_ns, &average);
    begin(&row, view, question);
    row_text(&row, sum->name);
    if (view != VIEW_STATS_AVERAGES)
        row_counts(&row, &sum->counts);
    if (view != VIEW_STATS_TOTALS)
        row_counts(&row, &average);
    return ended(&row);
}

/* The names are those of STATS' columns; of one database's row all rows are made. */
static enum row_step add_total(struct snapshot *snapshot, struct question *question)
{
    static const char *const names[] = {
        "server_assignment_count",
        "xact_count",
        "query_count",
        "client_bytes",
        "server_bytes",
        "xact_time",
        "query_time",
        "wait_time",
        "ps_client_parse_count",
        "ps_server_parse_count",
        "ps_bind_count",
    };
    struct pool_counts counts = {0}, average;
    uint64_t values[2 * COUNT_OF(names)];
    struct row row;
    char name[64];
    size_t n = 0;

    if (snapshot->at >= COUNT_OF(values))
        return ROW_NONE;
    LIST_EACH(item, &snapshot->sums->pools)
    {
        pool_counts_add(&counts, &CONTAINER_OF(item, struct pool_sum, in_list)->counts);
    }
    averages_of_all(snapshot->averages, &counts, snapshot->now_ns, &average);
#define COUNT(name, how) values[n++] = counts.name / IN_US(how);
#include "pool/counts.def"
#define COUNT(name, how) values[n++] = average.name / IN_US(how);
#include "pool/counts.def"
    REQUIRE(n == COUNT_OF(values));
    snprintf(name, sizeof name, "%s_%s", snapshot->at < COUNT_OF(names) ? "total" : "avg",
             names[snapshot->at % COUNT_OF(names)]);
    begin(&row, VIEW_TOTALS, question);
    row_text(&row, name);
    row_number(&row, (int64_t)values[snapshot->at]);
    return ended(&row);
}

/* ---- LISTS --------------------------------------------------------------------------
 */

static enum row_step add_list(struct snapshot *snapshot, struct question *question)
{
    const struct sums *sums = snapshot->sums;
    const struct {
        const char *name;
        size_t n;
    } lists[] = {
        {"databases", snapshot->n_database_rows},
        {"users", snapshot->n_users},
        {"peers", snapshot->config->n_peers},
        {"pools", sums->pools.n},
        {"peer_pools", 0}, /* peers are sent what is theirs, and have no pools */
        {"free_clients", sums->n_clients_idle},
        {"used_clients", sums->n_clients},
        {"login_clients", sums->n_logins},
        {"free_servers", sums->n_servers_idle},
        {"used_servers", sums->n_servers},
        {"dns_names", snapshot->n_names},
        {"dns_zones", 0},
        {"dns_queries", snapshot->n_names_asked},
        {"dns_pending", 0},
    };
    struct row row;

    if (snapshot->at >= COUNT_OF(lists))
        return ROW_NONE;
    begin(&row, VIEW_LISTS, question);
    row_text(&row, lists[snapshot->at].name);
    row_number(&row, (int64_t)lists[snapshot->at].n);
    return ended(&row);
}

/* ---- USERS --------------------------------------------------------------------------
 */

static void row_own(struct row *row, int64_t own)
{
    char text[24];

    if (own == CONFIG_DEFAULT) {
        row_text(row, "");
        return;
    }
    snprintf(text, sizeof text, "%lld", (long long)own);
    row_text(row, text);
}

static enum row_step add_user(struct snapshot *snapshot, struct question *question)
{
    const struct config *config = snapshot->config;
    const char *name = snapshot->users[snapshot->at];
    const struct user_config *user;
    const struct user_sum *sum;
    struct row row;

    if (snapshot->at >= snapshot->n_users)
        return ROW_NONE;
    user = config_user(config, name);
    sum = sums_user(snapshot->sums, name);
    begin(&row, VIEW_USERS, question);
    row_text(&row, name);
    row_own(&row, user == NULL ? CONFIG_DEFAULT : user->pool_size);
    row_own(&row, user == NULL ? CONFIG_DEFAULT : user->reserve_pool_size);
    row_text(&row, user == NULL ? NULL : pool_modes[user->pool_mode]);
    row_number(&row,
               config_own(user == NULL ? CONFIG_DEFAULT : user->max_user_connections,
                          config->main.max_user_connections));
    row_number(&row, sum == NULL ? 0 : sum->n_servers);
    row_number(&row, config_own(user == NULL ? CONFIG_DEFAULT
                                             : user->max_user_client_connections,
                                config->main.max_user_client_connections));
    row_number(&row, sum == NULL ? 0 : sum->n_clients);
    return ended(&row);
}

/* ---- LATENCIES, ERRORS --------------------------------------------------------------
 */

static enum row_step add_insight(struct snapshot *snapshot, struct question *question)
{
    enum view_name view = command_facts[question->command].view;
    unsigned n_places = insight_places(view);

    if (snapshot->at >= snapshot->n_pools * n_places)
        return ROW_NONE;
    return insight_add_row(snapshot->pools[snapshot->at / n_places], view,
                           (unsigned)(snapshot->at % n_places), question->binary,
                           &question->rows)
               ? ROW_ADDED
               : ROW_NO_ROOM;
}

/* ---- CLUSTERS, NODES, SWITCHOVERS, EVENTS, ... --------------------------------------
 */

static enum row_step add_of_clusters(struct snapshot *snapshot, struct question *question)
{
    enum view_name view = command_facts[question->command].view;

    if (snapshot->at >= cluster_tables_count(&snapshot->cluster_tables, view))
        return ROW_NONE;
    return cluster_tables_add_row(&snapshot->cluster_tables, view, snapshot->at,
                                  question->binary, &question->rows)
               ? ROW_ADDED
               : ROW_NO_ROOM;
}

static enum row_step add_of_chronicle(struct snapshot *snapshot,
                                      struct question *question)
{
    enum view_name view = command_facts[question->command].view;

    if (snapshot->at >= chronicle_count(snapshot->chronicle, view))
        return ROW_NONE;
    return chronicle_add_row(snapshot->chronicle, view, snapshot->at, question->binary,
                             &question->rows)
               ? ROW_ADDED
               : ROW_NO_ROOM;
}

static enum row_step add_step(struct snapshot *snapshot, struct question *question)
{
    const struct switching_step *step = &snapshot->switched.steps[snapshot->at];
    struct row row;

    if (snapshot->at >= snapshot->switched.n_steps)
        return ROW_NONE;
    begin(&row, VIEW_SWITCHOVER, question);
    row_text(&row, step->name);
    row_number(&row, (int64_t)step->ms);
    row_text(&row, step->detail);
    return ended(&row);
}

/* ---- all ----------------------------------------------------------------------------
 */

typedef enum row_step (*add_row)(struct snapshot *snapshot, struct question *question);

static const add_row adders[VIEW_COUNT] = {
    [VIEW_VERSION] = add_version,      [VIEW_CONFIG] = add_setting,
    [VIEW_DATABASES] = add_database,   [VIEW_POOLS] = add_pool,
    [VIEW_STATS] = add_stats,          [VIEW_STATS_TOTALS] = add_stats,
    [VIEW_STATS_AVERAGES] = add_stats, [VIEW_TOTALS] = add_total,
    [VIEW_LISTS] = add_list,           [VIEW_USERS] = add_user,
    [VIEW_PEERS] = add_peer,           [VIEW_CLUSTERS] = add_of_clusters,
    [VIEW_NODES] = add_of_clusters,    [VIEW_SWITCHOVERS] = add_of_clusters,
    [VIEW_SWITCHOVER] = add_step,      [VIEW_LATENCIES] = add_insight,
    [VIEW_ERRORS] = add_insight,       [VIEW_EVENTS] = add_of_chronicle,
    [VIEW_HISTORY] = add_of_chronicle,
};

void tables_answer(struct snapshot *snapshot, struct question *question)
{
    add_row add = adders[command_facts[question->command].view];
    enum row_step step;

    REQUIRE(add != NULL);
    while ((step = add(snapshot, question)) == ROW_ADDED)
        snapshot->at++;
    question->is_last = step == ROW_NONE;
    if (step == ROW_NO_ROOM && question->rows.length == 0) {
        question->sqlstate = "53200";
        snprintf(question->why, sizeof question->why, "out of memory");
    }
}
