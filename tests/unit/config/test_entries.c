#include <stdio.h>

#include "core/memory.h"
#include "tests/unit/config/loaded.h"

TestSuite(entries, .timeout = 20);

static const char every_setting[] =
    POOL "[databases]\n"
         "app = host=pg1,10.0.0.2 port=5433 load_balance_hosts=disable dbname=real "
         "user=u password='it''s a; secret' pool_size=1 min_pool_size=2 "
         "reserve_pool_size=3 max_db_connections=4 max_db_client_connections=5 "
         "pool_mode=statement server_lifetime=0.5 connect_query='select 1' "
         "client_encoding=UTF8 datestyle=ISO timezone='Europe/Berlin' "
         "application_name=x\n"
         "led = cluster=main role=read-only auth_user=a auth_query='select $1' "
         "auth_dbname=b\n"
         "[users]\n"
         "bob = pool_mode=transaction pool_size=6 reserve_pool_size=7 "
         "max_user_connections=8 max_user_client_connections=9 query_timeout=10 "
         "idle_transaction_timeout=11 transaction_timeout=12 client_idle_timeout=13\n"
         "[peers]\n"
         "16383 = host=other port=7432 pool_size=14\n" CLUSTER;

static void expect_app(const struct database_config *app)
{
    cr_expect_str_eq(app->name, "app");
    cr_assert_eq(app->host.n, 2);
    cr_expect_str_eq(app->host.items[1], "10.0.0.2");
    cr_expect_eq(app->port, 5433);
    cr_expect_eq(app->load_balance_hosts, LOAD_BALANCE_HOSTS_DISABLE);
    cr_expect_str_eq(app->dbname, "real");
    cr_expect_str_eq(app->user, "u");
    cr_expect_str_eq(app->password, "it's a; secret");
    cr_expect_eq(app->pool_size, 1);
    cr_expect_eq(app->min_pool_size, 2);
    cr_expect_eq(app->reserve_pool_size, 3);
    cr_expect_eq(app->max_db_connections, 4);
    cr_expect_eq(app->max_db_client_connections, 5);
    cr_expect_eq(app->pool_mode, POOL_MODE_STATEMENT);
    cr_expect_eq(app->server_lifetime, 500);
    cr_expect_str_eq(app->connect_query, "select 1");
    cr_expect_str_eq(app->client_encoding, "UTF8");
    cr_expect_str_eq(app->datestyle, "ISO");
    cr_expect_str_eq(app->timezone, "Europe/Berlin");
    cr_expect_str_eq(app->application_name, "x");
}

static void expect_bob(const struct user_config *bob)
{
    cr_expect_str_eq(bob->name, "bob");
    cr_expect_eq(bob->pool_mode, POOL_MODE_TRANSACTION);
    cr_expect_eq(bob->pool_size, 6);
    cr_expect_eq(bob->reserve_pool_size, 7);
    cr_expect_eq(bob->max_user_connections, 8);
    cr_expect_eq(bob->max_user_client_connections, 9);
    cr_expect_eq(bob->query_timeout, 10000);
    cr_expect_eq(bob->idle_transaction_timeout, 11000);
    cr_expect_eq(bob->transaction_timeout, 12000);
    cr_expect_eq(bob->client_idle_timeout, 13000);
}

Test(entries, set_every_setting)
{
    struct config *config = loaded(every_setting);

    cr_assert_eq(config->n_databases, 2);
    expect_app(&config->databases[0]);
    cr_expect_str_eq(config->databases[1].cluster, "main");
    cr_expect_eq(config->databases[1].role, ROLE_READ_ONLY);
    cr_expect_str_eq(config->databases[1].auth_user, "a");
    cr_expect_str_eq(config->databases[1].auth_query, "select $1");
    cr_expect_str_eq(config->databases[1].auth_dbname, "b");
    cr_assert_eq(config->n_users, 1);
    expect_bob(&config->users[0]);
    cr_assert_eq(config->n_peers, 1);
    cr_expect_eq(config->peers[0].id, 16383);
    cr_expect_str_eq(config->peers[0].host, "other");
    cr_expect_eq(config->peers[0].port, 7432);
    cr_expect_eq(config->peers[0].pool_size, 14);
    config_release(config);
}

Test(entries, leave_to_all_what_they_do_not_say)
{
    struct config *config = loaded(POOL DATABASE "[users]\nbob =\n[peers]\n1 = host=x\n");
    const struct database_config *database = &config->databases[0];
    const struct user_config *user = &config->users[0];

    cr_expect_str_eq(database->name, "*");
    cr_expect_eq(database->port, 5432);
    cr_expect_eq(database->pool_size, CONFIG_DEFAULT);
    cr_expect_eq(database->min_pool_size, CONFIG_DEFAULT);
    cr_expect_eq(database->reserve_pool_size, CONFIG_DEFAULT);
    cr_expect_eq(database->max_db_connections, CONFIG_DEFAULT);
    cr_expect_eq(database->max_db_client_connections, CONFIG_DEFAULT);
    cr_expect_eq(database->server_lifetime, CONFIG_DEFAULT);
    cr_expect_eq(database->pool_mode, POOL_MODE_DEFAULT);
    cr_expect_str_eq(database->dbname, "");
    cr_expect_str_eq(database->user, "");
    cr_expect_str_eq(database->password, "");
    cr_expect_str_eq(database->connect_query, "");
    cr_expect_eq(user->pool_mode, POOL_MODE_DEFAULT);
    cr_expect_eq(user->pool_size, CONFIG_DEFAULT);
    cr_expect_eq(user->max_user_connections, CONFIG_DEFAULT);
    cr_expect_eq(user->client_idle_timeout, CONFIG_DEFAULT);
    cr_expect_eq(config->peers[0].port, 6432);
    config_release(config);
}

Test(entries, know_the_reserve_by_its_older_name)
{
    struct config *config = loaded(POOL "[databases]\n* = host=pg reserve_pool=7\n");

    cr_expect_eq(config->databases[0].reserve_pool_size, 7);
    config_release(config);
    expect_errors(POOL "[databases]\n* = host=pg reserve_pool=7 reserve_pool_size=8\n",
                  "t.ini:5: 'reserve_pool_size' is given twice; expected it once, as at "
                  "t.ini:5\n");
}

Test(entries, take_a_name_in_quotes)
{
    struct config *config =
        loaded(POOL "[databases]\n\"my; \"\"db\"\" = x\" = host=pg\n");

    cr_expect_str_eq(config->databases[0].name, "my; \"db\" = x");
    config_release(config);
}

Test(entries, may_stand_in_several_pieces_and_files)
{
    struct config *config =
        loaded("[databases]\na = host=pg\n[users]\nu = pool_size=1\n" POOL
               "[databases]\nb = host=pg\n");

    cr_expect_eq(config->n_databases, 2);
    config_release(config);
}

#define COUNT_WANTED "default or a whole number, 1 to 1000000"

Test(entries, report_each_mistake_with_its_line)
{
    const struct example examples[] = {
        {POOL DATABASE "app = hots=x\n",
         "t.ini:6: unknown setting 'hots' in [databases] app; did you mean 'host'?\n"},
        {POOL DATABASE "app = host=x listen_port=1\n",
         "t.ini:6: 'listen_port' does not belong in [databases] app; expected it in "
         "[pgrouter]\n"},
        {POOL DATABASE "app = host=x what_is=1\n",
         "t.ini:6: unknown setting 'what_is' in [databases] app; pgrouter --settings "
         "lists them all\n"},
        {POOL DATABASE "app = host=x pool_size=0 port=x\n",
         "t.ini:6: pool_size = '0' is out of range; expected " COUNT_WANTED "\n"
         "t.ini:6: port = 'x' cannot be read; expected a whole number, 1 to 65535\n"},
        {POOL DATABASE "app = host=x pool_mode=sessions\n",
         "t.ini:6: pool_mode = 'sessions' cannot be read; expected session, transaction, "
         "statement or default\n"},
        {POOL DATABASE "app = host=x host=y\n",
         "t.ini:6: 'host' is given twice; expected it once, as at t.ini:6\n"},
        {POOL DATABASE "app = host=x ; comment\n",
         "t.ini:6: [databases] app: expected setting=value, and a value with blanks in "
         "single quotes (a comment stands on a line of its own)\n"},
        {POOL DATABASE "app = host=x pool_size=5;\n",
         "t.ini:6: pool_size = '5;' cannot be read; expected " COUNT_WANTED
         " (in [databases] a comment stands on a line of its own)\n"},
        {POOL DATABASE "app = x\n",
         "t.ini:6: [databases] app: expected setting=value, and a value with blanks in "
         "single quotes\n"},
        {POOL DATABASE "a b = host=x\n",
         "t.ini:6: a name with other characters than letters, digits and _ . - *; "
         "expected it in double quotes\n"},
        {POOL DATABASE "pgbouncer = host=x\npgrouter = host=x\n",
         "t.ini:6: [databases] pgbouncer: this is the console; expected another name\n"
         "t.ini:7: [databases] pgrouter: this is the console; expected another name\n"},
        {POOL DATABASE "* = host=y\n",
         "t.ini:6: [databases] * stands twice; expected it once, as at t.ini:5\n"},
        {POOL DATABASE "[users]\na = pool_size=1\nb =\na =\na =\n",
         "t.ini:9: [users] a stands twice; expected it once, as at t.ini:7\n"
         "t.ini:10: [users] a stands twice; expected it once, as at t.ini:7\n"},
        {POOL DATABASE "[users]\n* =\n[peers]\n* = host=x\n",
         "t.ini:9: [peers] *: expected the peer_id of a process, 1 to 16383\n"},
        {POOL DATABASE "[users]\na = query_timeout=-1 client_idle_timeout=x\n",
         "t.ini:7: client_idle_timeout = 'x' cannot be read; expected default or a "
         "duration (250ms, 1s, 30m, 2h, 1d; a number alone counts seconds), 0 to "
         "3650d\n"},
        {POOL DATABASE "[peers]\n0 = host=x\n16384 = host=x\n",
         "t.ini:7: [peers] 0: expected the peer_id of a process, 1 to 16383\n"
         "t.ini:8: [peers] 16384: expected the peer_id of a process, 1 to 16383\n"},
        {POOL DATABASE "[peers]\n1 = port=1\n2 = hots=x\n",
         "t.ini:8: unknown setting 'hots' in [peers] 2; did you mean 'host'?\n"
         "t.ini:7: [peers] 1: 'host' is missing; expected host = text\n"},
    };

    expect_each(examples, COUNT_OF(examples));
}

Test(entries, never_show_a_secret)
{
    static const char *const lines[] = {
        "app = host=x password='Geheim\n",
        "app = host=x password=Geh Geheim\n",
        "app = host=x password=x Geheim=y\n",
        "app = host=x password=x Geheim = 'y\n",
        "app = host=x password='x'Geheim\n",
        "app = host=x password=Geheim password=Geheim\n",
        "app = host=x passwort=Geheim\n",
        "app = password=Geheim\n",
        "app = host=x password=Geheim pool_size=x\n",
        "app = host=x password=x;Geheim ;Geheim\n",
        "app = host=x password=\001Geheim\n",
    };

    for (size_t i = 0; i < COUNT_OF(lines); i++) {
        struct text ini, errors;

        text_init(&ini, 10000);
        text_init(&errors, 10000);
        text_addf(&ini, POOL DATABASE "%s", lines[i]);
        cr_expect_null(config_load_text("t.ini", text_get(&ini), &errors), "%s",
                       lines[i]);
        cr_expect_gt(errors.length, 0);
        cr_expect_null(strstr(text_get(&errors), "Geh"), "%s", text_get(&errors));
        text_clear(&ini);
        text_clear(&errors);
    }
}

static struct config *load_it(struct text *errors)
{
    return config_load_text("t.ini", every_setting, errors);
}

Test(entries, survive_each_allocation_failure)
{
    survive_each_failure(load_it, "t.ini: out of memory\n");
}

static struct config *load_mistakes(struct text *errors)
{
    static const char ini[] = "[databases]\na = b\nb = host=/x\nb = host='x y' what=1\n"
                              "c = cluster=d\nd = host=x,x\n\"e\n[users]\nf = g=h\n"
                              "[peers]\n0 = host=x\n1 =\n";

    return config_load_text("t.ini", ini, errors);
}

Test(entries, survive_each_allocation_failure_while_they_report)
{
    survive_each_failure(load_mistakes, NULL);
}

Test(entries, are_many)
{
    struct config *config;
    struct text ini;

    text_init(&ini, 1 << 22);
    text_add(&ini, POOL "[databases]\n");
    for (unsigned i = 0; i < 3000; i++)
        text_addf(&ini, "db%u = host=pg%u pool_size=%u\n", i * 7 % 3000, i % 500, i + 1);
    config = loaded(text_get(&ini));
    cr_assert_eq(config->n_databases, 3000);
    cr_expect_eq(config->n_clusters, 500);
    for (unsigned i = 0; i < 3000; i++) {
        char name[20];

        snprintf(name, sizeof name, "db%u", i * 7 % 3000);
        cr_assert_eq(config_database(config, name)->pool_size, i + 1);
    }
    config_release(config);
    text_clear(&ini);
}
