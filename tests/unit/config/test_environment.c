#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/memory.h"
#include "tests/unit/config/loaded.h"

TestSuite(environment, .timeout = 20);

/* The environment of the test: "NAME=value" lines, NULL behind the last. */
static const char *const *variables;

static char *get(const char *name)
{
    size_t length = strlen(name);

    for (size_t i = 0; variables[i] != NULL; i++)
        if (strncmp(variables[i], name, length) == 0 && variables[i][length] == '=')
            return (char *)(uintptr_t)(variables[i] + length + 1);
    return NULL;
}

static struct config *load_from(const char *const *environment)
{
    struct text errors;
    struct config *config;

    variables = environment;
    text_init(&errors, 10000);
    config = config_load_environment(get, &errors);
    cr_assert_not_null(config, "%s", text_get(&errors));
    cr_expect_str_eq(text_get(&errors), "");
    return config;
}

static struct config *load_nodes(const char *nodes)
{
    static char line[10000];

    snprintf(line, sizeof line, "POSTGRES_NODES=%s", nodes);
    return load_from((const char *const[]){line, NULL});
}

static void expect_refused(const char *const *environment, const char *wanted)
{
    struct text errors;

    variables = environment;
    text_init(&errors, 10000);
    cr_expect_null(config_load_environment(get, &errors));
    cr_expect_str_eq(text_get(&errors), wanted);
    text_clear(&errors);
}

static void expect_bind(const struct endpoint_list *list, unsigned port)
{
    cr_assert_eq(list->n, 1);
    cr_expect_str_eq(list->items[0].host, "*");
    cr_expect_eq(list->items[0].port, port);
}

Test(environment, makes_what_the_haproxy_image_makes_of_its_variables)
{
    struct config *config =
        load_nodes("pg1.internal:5432:8008,pg2.internal:5433:8009,pg3:5434:8010");
    const struct cluster_config *cluster = &config->clusters[0];
    const struct listener_config *primary, *replicas;

    cr_expect_eq(config->main.max_client_conn, 1000);
    cr_expect_eq(config->n_clusters, 1);
    cr_expect_str_eq(cluster->name, "main");
    cr_expect_eq(cluster->check, CHECK_PATRONI);
    cr_expect_eq(cluster->check_interval, 3000);
    cr_expect_eq(cluster->check_timeout, 5000);
    cr_expect_eq(cluster->rise, 2);
    cr_expect_eq(cluster->fall, 3);
    cr_assert_eq(cluster->nodes.n, 3);
    cr_expect_str_eq(cluster->nodes.items[0].name, "pg1");
    cr_expect_str_eq(cluster->nodes.items[0].host, "pg1.internal");
    cr_expect_eq(cluster->nodes.items[1].port, 5433);
    cr_expect_eq(cluster->nodes.items[2].check_port, 8010);

    cr_expect_eq(config->n_listeners, 2);
    primary = config_listener(config, "postgresql_primary");
    replicas = config_listener(config, "postgresql_replicas");
    cr_assert(primary != NULL && replicas != NULL);
    expect_bind(&primary->bind, 5432);
    expect_bind(&replicas->bind, 5433);
    cr_expect_eq(primary->role, ROLE_PRIMARY);
    cr_expect_eq(replicas->role, ROLE_REPLICA);
    cr_expect_eq(replicas->balance, BALANCE_ROUNDROBIN);
    cr_expect_eq(primary->on_role_change, ON_ROLE_CHANGE_CLOSE);
    for (size_t i = 0; i < 2; i++) {
        cr_expect_eq(config->listeners[i].to, cluster);
        cr_expect_eq(config->listeners[i].mode, MODE_TCP);
        cr_expect_eq(config->listeners[i].connect_timeout, 10000);
        cr_expect_eq(config->listeners[i].client_timeout, 1800000);
        cr_expect_eq(config->listeners[i].server_timeout, 1800000);
    }
    expect_bind(&config->stats.bind, 8404);
    cr_expect_str_eq(config->stats.uri, "/stats");
    config_release(config);
}

Test(environment, reads_the_variables_as_haproxy_would)
{
    struct config *config = load_from((const char *const[]){
        "POSTGRES_NODES=a:1:2,b:1:2", "HAPROXY_MAX_CONN=77",
        "HAPROXY_TIMEOUT_CONNECT=700", "HAPROXY_TIMEOUT_CLIENT=2h",
        "HAPROXY_TIMEOUT_SERVER=0", "HAPROXY_CHECK_INTERVAL=500ms", NULL});

    cr_expect_eq(config->main.max_client_conn, 77);
    cr_expect_eq(config->listeners[0].connect_timeout, 700);
    cr_expect_eq(config->listeners[1].client_timeout, 7200000);
    cr_expect_eq(config->listeners[1].server_timeout, 0);
    cr_expect_eq(config->clusters[0].check_interval, 500);
    config_release(config);
}

Test(environment, takes_an_empty_variable_for_one_that_is_not_set)
{
    struct config *config = load_from((const char *const[]){
        "POSTGRES_NODES=a:1:2,b:1:2", "HAPROXY_MAX_CONN=", "HAPROXY_TIMEOUT_CONNECT=",
        "HAPROXY_CHECK_INTERVAL=", NULL});

    cr_expect_eq(config->main.max_client_conn, 1000);
    cr_expect_eq(config->listeners[0].connect_timeout, 10000);
    cr_expect_eq(config->clusters[0].check_interval, 3000);
    config_release(config);
}

Test(environment, leads_both_ports_to_a_single_node_without_asking_patroni)
{
    struct config *config = load_nodes("pg1:5432:8008");

    cr_expect_eq(config->clusters[0].check, CHECK_TCP);
    cr_expect_eq(config->clusters[0].nodes.n, 1);
    cr_expect_eq(config->listeners[0].role, ROLE_ANY);
    cr_expect_eq(config->listeners[1].role, ROLE_ANY);
    expect_bind(&config->listeners[0].bind, 5432);
    expect_bind(&config->listeners[1].bind, 5433);
    config_release(config);
}

Test(environment, names_nodes_by_their_hosts)
{
    static const struct {
        const char *nodes;
        const char *names[3];
    } examples[] = {
        {"pg1.a.b:1:2,pg2:1:2", {"pg1", "pg2"}},
        {"10.0.0.1:1:2,10.0.0.2:1:2", {"10.0.0.1", "10.0.0.2"}},
        {"[fd00::1]:1:2,[fd00::2]:1:2", {"fd00::1", "fd00::2"}},
        {"pg.a:1:2,pg.b:1:2,x.c:1:2", {"pg.a", "pg.b", "x"}},
        {"127.0.0.1:1:2,127.0.0.1:3:4", {"127.0.0.1:1", "127.0.0.1:3"}},
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        struct config *config = load_nodes(examples[i].nodes);
        const struct node_list *nodes = &config->clusters[0].nodes;

        for (size_t n = 0; n < nodes->n; n++)
            cr_expect_str_eq(nodes->items[n].name, examples[i].names[n]);
        config_release(config);
    }
}

Test(environment, forgives_blanks_and_a_comma_at_the_end)
{
    struct config *config = load_nodes(" pg1:1:2 ,\tpg2:3:4,\n");

    cr_assert_eq(config->clusters[0].nodes.n, 2);
    cr_expect_str_eq(config->clusters[0].nodes.items[1].host, "pg2");
    config_release(config);
}

Test(environment, takes_a_list_longer_than_a_line_of_inihs)
{
    struct config *config;
    struct text nodes;

    text_init(&nodes, 10000);
    for (int i = 0; i < 100; i++)
        text_addf(&nodes, "%snode%d.example.org:5432:8008", i > 0 ? "," : "", i);
    config = load_nodes(text_get(&nodes));
    cr_expect_eq(config->clusters[0].nodes.n, 100);
    config_release(config);
    text_clear(&nodes);
}

#define ENTRY ": expected host:pgport:patroniport, with IPv6 as [v6]:pgport:patroniport\n"

Test(environment, says_how_to_give_a_configuration_when_there_is_none)
{
    static const char none[] =
        "no configuration: expected a file (pgrouter FILE.ini) or, in the environment, "
        "POSTGRES_NODES=host:pgport:patroniport,... or DATABASE_URL\n";

    expect_refused((const char *const[]){NULL}, none);
    expect_refused((const char *const[]){"POSTGRES_NODES=", NULL}, none);
    expect_refused((const char *const[]){"POSTGRES_NODES= \n", NULL}, none);
}

Test(environment, says_which_entry_is_wrong)
{
    static const char *const wrong[] = {
        "pg1",       "pg1:5432", "pg1:5432:8008:1", "pg1:5432:",     "pg1::8008",
        ":1:2",      "pg1:0:1",  "pg1:1:65536",     "pg1:1:-2",      "pg1:x:2",
        "a=pg1:1:2", "pg 1:1:2", "fd00::1:1:2",     "[fd00::1]:1",   "[fd00::1:1:2",
        "",          "pg1;:1:2", "'pg1':1:2",       "[::1%a]b]:1:2", "pg1:1:2 ;x",
    };

    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        char line[200], errors[300];

        snprintf(line, sizeof line, "POSTGRES_NODES=a:1:2,%s,b:3:4", wrong[i]);
        snprintf(errors, sizeof errors, "POSTGRES_NODES: entry 2 '%s'" ENTRY, wrong[i]);
        expect_refused((const char *const[]){line, NULL}, errors);
    }
}

Test(environment, reports_all_mistakes_at_once)
{
    expect_refused(
        (const char *const[]){"POSTGRES_NODES=a:1,b:1:2,c", "HAPROXY_MAX_CONN=0",
                              "HAPROXY_CHECK_INTERVAL=3x", "HAPROXY_TIMEOUT_CONNECT=10",
                              "HAPROXY_TIMEOUT_CLIENT=0.5s", "HAPROXY_TIMEOUT_SERVER=-1",
                              NULL},
        "POSTGRES_NODES: entry 1 'a:1'" ENTRY "POSTGRES_NODES: entry 3 'c'" ENTRY
        "HAPROXY_MAX_CONN: '0': expected a whole number, 1 to 1000000\n"
        "HAPROXY_TIMEOUT_CONNECT: '10': expected a duration (500ms, 10s, 30m; "
        "a number alone counts milliseconds), 50ms to 1h\n"
        "HAPROXY_TIMEOUT_CLIENT: '0.5s': expected a duration (500ms, 10s, 30m; "
        "a number alone counts milliseconds), 0 to 30d\n"
        "HAPROXY_TIMEOUT_SERVER: '-1': expected a duration (500ms, 10s, 30m; "
        "a number alone counts milliseconds), 0 to 30d\n"
        "HAPROXY_CHECK_INTERVAL: '3x': expected a duration (500ms, 10s, 30m; "
        "a number alone counts milliseconds), 50ms to 1h\n");
}

Test(environment, reports_a_node_that_stands_twice)
{
    expect_refused((const char *const[]){"POSTGRES_NODES=a:1:2,a:1:2", NULL},
                   "POSTGRES_NODES: entries 1 and 2 are both named 'a:1'; expected names "
                   "that differ\n");
}

/* A value must not become a section or a setting of its own. */
Test(environment, lets_nothing_slip_into_the_ini_text)
{
    expect_refused((const char *const[]){"POSTGRES_NODES=a:1:2,b:1:2\n[stats]", NULL},
                   "POSTGRES_NODES: entry 2 'b:1:2?[stats]'" ENTRY);
    expect_refused(
        (const char *const[]){"POSTGRES_NODES=a:1:2,[fe80::1%x\nrise = 1]:1:2", NULL},
        "POSTGRES_NODES: entry 2 '[fe80::1%x?rise = 1]:1:2'" ENTRY);
    expect_refused((const char *const[]){"POSTGRES_NODES=a:1:2",
                                         "HAPROXY_MAX_CONN=5\n[stats]", NULL},
                   "HAPROXY_MAX_CONN: '5?[stats]': expected a whole number, 1 to "
                   "1000000\n");
}

static struct config *load_it(struct text *errors)
{
    return config_load_environment(get, errors);
}

Test(environment, survives_each_allocation_failure)
{
    static const char *const two_nodes[] = {"POSTGRES_NODES=a.x:1:2,a.y:1:2", NULL};
    static const char *const two_pools[] = {"POSTGRES_NODES=a.x:1:2,a.y:1:2",
                                            "PGROUTER_POOL_MODE=transaction",
                                            "POSTGRES_PASSWORD=x",
                                            "HAPROXY_STATS_PASSWORD=y",
                                            "PGROUTER_TOKEN=t",
                                            "PATRONI_RESTAPI_USERNAME=p",
                                            "PGROUTER_VERBOSE=1",
                                            NULL};
    static const char *const a_host[] = {"DB_HOST=db", "DB_PORT=1",     "DB_NAME=shop",
                                         "DB_USER=u",  "DB_PASSWORD=p", NULL};

    variables = two_nodes;
    survive_each_failure(load_it, "environment: out of memory\n");
    variables = two_pools;
    survive_each_failure(load_it, "environment: out of memory\n");
    variables = a_host;
    survive_each_failure(load_it, "environment: out of memory\n");
}

/* ---- pools --------------------------------------------------------------------------
 */

Test(environment, makes_both_ports_pools_when_it_is_asked_to)
{
    struct config *config = load_from((const char *const[]){
        "POSTGRES_NODES=a:1:2,b:1:2", "PGROUTER_POOL_MODE=transaction",
        "PGROUTER_DEFAULT_POOL_SIZE=7", "POSTGRES_PASSWORD=it's; \"a\" $ecret",
        "HAPROXY_MAX_CONN=50", NULL});
    const struct listener_config *primary, *replicas;

    cr_expect_eq(config->main.pool_mode, POOL_MODE_TRANSACTION);
    cr_expect_eq(config->main.default_pool_size, 7);
    cr_expect_eq(config->main.max_client_conn, 50);
    cr_expect_eq(config->main.auth_type, AUTH_TYPE_SCRAM_SHA_256);
    cr_expect_str_eq(config_secret(config, "postgres"), "it's; \"a\" $ecret");
    cr_assert_eq(config->n_listeners, 2);
    primary = config_listener(config, "postgresql_primary");
    replicas = config_listener(config, "postgresql_replicas");
    cr_assert(primary != NULL && replicas != NULL);
    expect_bind(&primary->bind, 5432);
    expect_bind(&replicas->bind, 5433);
    cr_expect_eq(primary->mode, MODE_POOL);
    cr_expect_eq(replicas->mode, MODE_POOL);
    cr_expect_eq(primary->role, ROLE_PRIMARY);
    cr_expect_eq(replicas->role, ROLE_REPLICA);
    cr_assert_eq(config->n_databases, 1);
    cr_expect_str_eq(config->databases[0].name, "*");
    cr_expect_eq(config->databases[0].to, &config->clusters[0]);
    expect_bind(&config->stats.bind, 8404);
    config_release(config);
}

Test(environment, pools_one_host_as_images_of_pgbouncer_do)
{
    struct config *config = load_from((const char *const[]){
        "DB_HOST=db.example", "DB_PORT=6000", "DB_USER=o'hara", "DB_PASSWORD=x",
        "DB_NAME=shop", "POOL_MODE=statement", "AUTH_TYPE=plain", "MAX_CLIENT_CONN=12",
        "LISTEN_PORT=6432", "PGROUTER_MAX_CLIENT_CONN=13", "USER=root", NULL});
    const struct database_config *database = config_database(config, "shop");

    cr_assert_eq(config->n_listeners, 1);
    expect_bind(&config->listeners[0].bind, 6432);
    cr_expect_eq(config->main.pool_mode, POOL_MODE_STATEMENT);
    cr_expect_eq(config->main.auth_type, AUTH_TYPE_PLAIN);
    cr_expect_eq(config->main.max_client_conn, 13,
                 "the name with the prefix counts more");
    cr_expect_str_eq(config->main.user, "", "USER is the shell's");
    cr_expect_str_eq(config->main.admin_users.items[0], "postgres");
    cr_expect_str_eq(config_secret(config, "o'hara"), "x");
    cr_assert_not_null(database);
    cr_expect_str_eq(database->host.items[0], "db.example");
    cr_expect_eq(database->port, 6000);
    cr_expect_null(config_database(config, "other"));
    config_release(config);
}

Test(environment, reads_a_url_as_libpq_does)
{
    struct config *config = load_from((const char *const[]){
        "DATABASE_URL=postgresql://bob:p%40ss%27@[fd00::5]:6000/shop?sslmode=require",
        NULL});
    const struct database_config *database = config_database(config, "shop");

    cr_assert_not_null(database);
    cr_expect_str_eq(database->host.items[0], "fd00::5");
    cr_expect_eq(database->port, 6000);
    cr_expect_str_eq(config_secret(config, "bob"), "p@ss'");
    cr_expect_eq(config->main.server_tls_sslmode, SSLMODE_REQUIRE);
    expect_bind(&config->listeners[0].bind, 5432);
    config_release(config);
}

Test(environment, takes_a_host_that_would_be_more_than_a_host_for_one)
{
    struct text errors;

    variables = (const char *const[]){"DB_HOST=a' port='1' password='x", "DB_USER=u",
                                      "DB_PASSWORD=p", NULL};
    text_init(&errors, 10000);
    cr_expect_null(config_load_environment(get, &errors));
    cr_expect_eq(strncmp(text_get(&errors), "DB_HOST: ", 9), 0, "%s", text_get(&errors));
    text_clear(&errors);
}

Test(environment, says_what_a_pool_lacks)
{
    expect_refused(
        (const char *const[]){"POSTGRES_NODES=a:1:2", "POOL_MODE=session", NULL},
        "environment: a pool without anybody who may log in; expected "
        "POSTGRES_USER and POSTGRES_PASSWORD, DB_USER and DB_PASSWORD, or "
        "DATABASE_URL (a secret also as a file that <NAME>_FILE names), or "
        "PGROUTER_AUTH_FILE\n");
    expect_refused(
        (const char *const[]){"POSTGRES_NODES=a:1:2", "PGROUTER_WORKERS=0", NULL},
        "PGROUTER_WORKERS: workers = '0' is out of range; expected auto or a "
        "whole number, 1 to 64\n");
    expect_refused((const char *const[]){"DATABASE_URL=postgres://a:sec%ret@b", NULL},
                   "DATABASE_URL: cannot be read; expected "
                   "postgresql://user:password@host:port/name\n");
}

Test(environment, has_what_switchovers_need)
{
    struct config *config = load_from((const char *const[]){
        "POSTGRES_NODES=a.x:1:2,b.x:1:2", "PGROUTER_TOKEN=to ken",
        "PATRONI_RESTAPI_USERNAME=patroni", "PATRONI_RESTAPI_PASSWORD=s;#", NULL});

    cr_expect_str_eq(config->stats.control_token, "to ken");
    cr_expect_str_eq(config->clusters[0].restapi_user, "patroni");
    cr_expect_str_eq(config->clusters[0].restapi_password, "s;#");
    config_release(config);
    config = load_from((const char *const[]){"POSTGRES_NODES=a.x:1:2", NULL});
    cr_expect_str_eq(config->stats.control_token, "");
    cr_expect_str_eq(config->clusters[0].restapi_user, "");
    config_release(config);
}

Test(environment, reads_secrets_from_files)
{
    char path[] = "/tmp/pgrouter-secret-XXXXXX", line[80], missing[200];
    int fd = mkstemp(path);
    struct config *config;

    cr_assert_eq(write(fd, "from a file\r\n", 13), 13);
    close(fd);
    snprintf(line, sizeof line, "POSTGRES_PASSWORD_FILE=%s", path);
    config = load_from((const char *const[]){"POSTGRES_NODES=a:1:2", "POOL_MODE=session",
                                             "POSTGRES_USER=app", line, NULL});
    cr_expect_str_eq(config_secret(config, "app"), "from a file");
    config_release(config);

    snprintf(line, sizeof line, "HAPROXY_STATS_PASSWORD_FILE=%s", path);
    config = load_from((const char *const[]){"POSTGRES_NODES=a:1:2", line, NULL});
    cr_expect_str_eq(config->stats.auth, "admin:from a file");
    config_release(config);

    unlink(path);
    snprintf(missing, sizeof missing,
             "HAPROXY_STATS_PASSWORD_FILE: '%s' cannot be read: No such file or "
             "directory\n",
             path);
    expect_refused((const char *const[]){"POSTGRES_NODES=a:1:2", line, NULL}, missing);
}
