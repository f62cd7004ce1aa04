/* Files that were written for PgBouncer, and what stands beside a file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config/setting.h"
#include "core/memory.h"
#include "tests/unit/config/loaded.h"

TestSuite(load_pgbouncer, .timeout = 60);

/* All keys of PgBouncer 1.25 with the values that it has by itself (doc/config.md). */
static const char pgbouncers_own[] =
    "[pgbouncer]\n"
    "admin_users =\n"
    "application_name_add_host = 0\n"
    "auth_dbname =\n"
    "auth_file =\n"
    "auth_hba_file =\n"
    "auth_ident_file =\n"
    "auth_ldap_options =\n"
    "auth_query = SELECT rolname, rolpassword FROM pg_authid WHERE rolname=$1\n"
    "auth_type = trust\n" /* md5 needs a file */
    "auth_user =\n"
    "autodb_idle_timeout = 3600\n"
    "cancel_wait_timeout = 10\n"
    "client_idle_timeout = 0\n"
    "client_login_timeout = 60\n"
    "client_tls13_ciphers =\n"
    "client_tls_ca_file =\n"
    "client_tls_cert_file =\n"
    "client_tls_ciphers = default\n"
    "client_tls_dheparams = auto\n"
    "client_tls_ecdhcurve = auto\n"
    "client_tls_key_file =\n"
    "client_tls_protocols = secure\n"
    "client_tls_sslmode = disable\n"
    "conffile = /etc/pgbouncer/pgbouncer.ini\n"
    "default_pool_size = 20\n"
    "disable_pqexec = 0\n"
    "dns_max_ttl = 15\n"
    "dns_nxdomain_ttl = 15\n"
    "dns_zone_check_period = 0\n"
    "idle_transaction_timeout = 0\n"
    "ignore_startup_parameters =\n"
    "job_name = pgbouncer\n"
    "listen_addr =\n"
    "listen_backlog = 128\n"
    "listen_port = 6432\n"
    "log_connections = 1\n"
    "log_disconnections = 1\n"
    "log_pooler_errors = 1\n"
    "log_stats = 1\n"
    "logfile =\n"
    "max_client_conn = 100\n"
    "max_db_client_connections = 0\n"
    "max_db_connections = 0\n"
    "max_packet_size = 2147483647\n"
    "max_prepared_statements = 200\n"
    "max_user_client_connections = 0\n"
    "max_user_connections = 0\n"
    "min_pool_size = 0\n"
    "peer_id = 0\n"
    "pidfile =\n"
    "pkt_buf = 4096\n"
    "pool_mode = session\n"
    "query_timeout = 0\n"
    "query_wait_notify = 5\n"
    "query_wait_timeout = 120\n"
    "reserve_pool_size = 0\n"
    "reserve_pool_timeout = 5\n"
    "resolv_conf =\n"
    "sbuf_loopcnt = 5\n"
    "scram_iterations = 4096\n"
    "server_check_delay = 30\n"
    "server_check_query = <empty>\n"
    "server_connect_timeout = 15\n"
    "server_fast_close = 0\n"
    "server_idle_timeout = 600\n"
    "server_lifetime = 3600\n"
    "server_login_retry = 15\n"
    "server_reset_query = DISCARD ALL\n"
    "server_reset_query_always = 0\n"
    "server_round_robin = 0\n"
    "server_tls13_ciphers =\n"
    "server_tls_ca_file =\n"
    "server_tls_cert_file =\n"
    "server_tls_ciphers = default\n"
    "server_tls_key_file =\n"
    "server_tls_protocols = secure\n"
    "server_tls_sslmode = prefer\n"
    "service_name = pgbouncer\n"
    "so_reuseport = 0\n"
    "stats_period = 60\n"
    "stats_users =\n"
    "suspend_timeout = 10\n"
    "syslog = 0\n"
    "syslog_facility = daemon\n"
    "syslog_ident = pgbouncer\n"
    "tcp_defer_accept = 1\n"
    "tcp_keepalive = 1\n"
    "tcp_keepcnt = 0\n"
    "tcp_keepidle = 0\n"
    "tcp_keepintvl = 0\n"
    "tcp_socket_buffer = 0\n"
    "tcp_user_timeout = 0\n"
    "track_extra_parameters = IntervalStyle\n"
    "transaction_timeout = 0\n"
    "unix_socket_dir = /tmp\n"
    "unix_socket_group =\n"
    "unix_socket_mode = 0777\n"
    "user =\n"
    "verbose = 0\n" DATABASE;

/* Where our own value is another one, or the text needs it. */
static bool is_ours(const char *name)
{
    static const char *const names[] = {
        "auth_query",     "auth_type",       "conffile",
        "listen_backlog", "max_client_conn", "tcp_keepcnt",
        "tcp_keepidle",   "tcp_keepintvl",   "tcp_user_timeout"};

    for (size_t i = 0; i < COUNT_OF(names); i++)
        if (strcmp(names[i], name) == 0)
            return true;
    return false;
}

Test(load_pgbouncer, takes_every_key_of_pgbouncer_and_has_its_defaults)
{
    struct config *theirs = loaded(pgbouncers_own);
    struct config *ours = loaded("[pgbouncer]\nauth_type = trust\n" DATABASE);
    struct setting_range range = setting_range(SECTION_MAIN);

    for (size_t i = range.first; i < range.first + range.n; i++)
        if (!is_ours(settings[i].name))
            cr_expect(setting_equal(&settings[i], &theirs->main, &ours->main), "%s",
                      settings[i].name);
    config_release(theirs);
    config_release(ours);
}

Test(load_pgbouncer, sets_every_setting_of_pools)
{
    struct config *config = loaded("[pgbouncer]\n"
                                   "listen_addr = 127.0.0.1, ::1\n"
                                   "listen_port = 6433\n"
                                   "unix_socket_dir = /run/x\n"
                                   "unix_socket_group = staff\n"
                                   "auth_type = scram-sha-256\n"
                                   "auth_file = /etc/users\n"
                                   "scram_iterations = 5000\n"
                                   "admin_users = a, b\n"
                                   "stats_users = c\n"
                                   "pool_mode = transaction\n"
                                   "default_pool_size = 1\n"
                                   "min_pool_size = 2\n"
                                   "reserve_pool_size = 3\n"
                                   "reserve_pool_timeout = 4.5\n"
                                   "max_db_connections = 5\n"
                                   "max_db_client_connections = 6\n"
                                   "max_user_connections = 7\n"
                                   "max_user_client_connections = 8\n"
                                   "max_node_connections = 9\n"
                                   "handover_after = 11ms\n"
                                   "server_round_robin = 1\n"
                                   "autodb_idle_timeout = 12\n"
                                   "follow_hosts = off\n"
                                   "server_reset_query = select ';' ; x\n"
                                   "server_reset_query_always = 1\n"
                                   "server_check_query =\n"
                                   "server_check_delay = 13\n"
                                   "server_fast_close = 1\n"
                                   "server_lifetime = 14\n"
                                   "server_idle_timeout = 15\n"
                                   "server_connect_timeout = 16\n"
                                   "server_login_retry = 17\n"
                                   "query_timeout = 18\n"
                                   "query_wait_timeout = 19\n"
                                   "query_wait_notify = 20\n"
                                   "cancel_wait_timeout = 21\n"
                                   "client_idle_timeout = 22\n"
                                   "idle_transaction_timeout = 0.25\n"
                                   "transaction_timeout = 24\n"
                                   "track_extra_parameters = search_path,IntervalStyle\n"
                                   "ignore_startup_parameters = options\n"
                                   "application_name_add_host = 1\n"
                                   "disable_pqexec = 1\n"
                                   "max_packet_size = 1MB\n"
                                   "max_prepared_statements = 0\n"
                                   "peer_id = 25\n"
                                   "client_tls_sslmode = verify-full\n"
                                   "client_tls_key_file = k\n"
                                   "client_tls_cert_file = c\n"
                                   "client_tls_ca_file = a\n"
                                   "client_tls_protocols = tlsv1.3\n"
                                   "client_tls_ciphers = all\n"
                                   "client_tls13_ciphers = x:y\n"
                                   "client_tls_ecdhcurve = none\n"
                                   "client_tls_dheparams = legacy\n"
                                   "server_tls_sslmode = require\n"
                                   "server_tls_ca_file = sa\n"
                                   "server_tls_key_file = sk\n"
                                   "server_tls_cert_file = sc\n"
                                   "server_tls_protocols = all\n"
                                   "server_tls_ciphers = fast\n"
                                   "server_tls13_ciphers = z\n"
                                   "stats_period = 26\n"
                                   "log_stats = 0\n"
                                   "log_pooler_errors = 0\n" DATABASE);
    const struct main_config *main = &config->main;

    cr_assert_eq(main->listen_addr.n, 2);
    cr_expect_str_eq(main->listen_addr.items[1], "::1");
    cr_expect_eq(main->listen_port, 6433);
    cr_expect_str_eq(main->unix_socket_dir, "/run/x");
    cr_expect_str_eq(main->unix_socket_group, "staff");
    cr_expect_eq(main->auth_type, AUTH_TYPE_SCRAM_SHA_256);
    cr_expect_str_eq(main->auth_file, "/etc/users");
    cr_expect_eq(main->scram_iterations, 5000);
    cr_expect_eq(main->admin_users.n, 2);
    cr_expect_eq(main->stats_users.n, 1);
    cr_expect_eq(main->pool_mode, POOL_MODE_TRANSACTION);
    cr_expect_eq(main->default_pool_size, 1);
    cr_expect_eq(main->min_pool_size, 2);
    cr_expect_eq(main->reserve_pool_size, 3);
    cr_expect_eq(main->reserve_pool_timeout, 4500);
    cr_expect_eq(main->max_db_connections, 5);
    cr_expect_eq(main->max_db_client_connections, 6);
    cr_expect_eq(main->max_user_connections, 7);
    cr_expect_eq(main->max_user_client_connections, 8);
    cr_expect_eq(main->max_node_connections, 9);
    cr_expect_eq(main->handover_after, 11);
    cr_expect(main->server_round_robin);
    cr_expect_eq(main->autodb_idle_timeout, 12000);
    cr_expect_not(main->follow_hosts);
    cr_expect_str_eq(main->server_reset_query, "select ';' ; x");
    cr_expect(main->server_reset_query_always);
    cr_expect_str_eq(main->server_check_query, "");
    cr_expect_eq(main->server_check_delay, 13000);
    cr_expect(main->server_fast_close);
    cr_expect_eq(main->server_lifetime, 14000);
    cr_expect_eq(main->server_idle_timeout, 15000);
    cr_expect_eq(main->server_connect_timeout, 16000);
    cr_expect_eq(main->server_login_retry, 17000);
    cr_expect_eq(main->query_timeout, 18000);
    cr_expect_eq(main->query_wait_timeout, 19000);
    cr_expect_eq(main->query_wait_notify, 20000);
    cr_expect_eq(main->cancel_wait_timeout, 21000);
    cr_expect_eq(main->client_idle_timeout, 22000);
    cr_expect_eq(main->idle_transaction_timeout, 250);
    cr_expect_eq(main->transaction_timeout, 24000);
    cr_expect_str_eq(main->track_extra_parameters.items[0], "search_path");
    cr_expect_str_eq(main->ignore_startup_parameters.items[0], "options");
    cr_expect(main->application_name_add_host);
    cr_expect(main->disable_pqexec);
    cr_expect_eq(main->max_packet_size, 1 << 20);
    cr_expect_eq(main->max_prepared_statements, 0);
    cr_expect_eq(main->peer_id, 25);
    cr_expect_eq(main->client_tls_sslmode, SSLMODE_VERIFY_FULL);
    cr_expect_str_eq(main->client_tls_key_file, "k");
    cr_expect_str_eq(main->client_tls_cert_file, "c");
    cr_expect_str_eq(main->client_tls_ca_file, "a");
    cr_expect_str_eq(main->client_tls_protocols, "tlsv1.3");
    cr_expect_str_eq(main->client_tls_ciphers, "all");
    cr_expect_str_eq(main->client_tls13_ciphers, "x:y");
    cr_expect_str_eq(main->client_tls_ecdhcurve, "none");
    cr_expect_str_eq(main->client_tls_dheparams, "legacy");
    cr_expect_eq(main->server_tls_sslmode, SSLMODE_REQUIRE);
    cr_expect_str_eq(main->server_tls_ca_file, "sa");
    cr_expect_str_eq(main->server_tls_key_file, "sk");
    cr_expect_str_eq(main->server_tls_cert_file, "sc");
    cr_expect_str_eq(main->server_tls_protocols, "all");
    cr_expect_str_eq(main->server_tls_ciphers, "fast");
    cr_expect_str_eq(main->server_tls13_ciphers, "z");
    cr_expect_eq(main->stats_period, 26000);
    cr_expect_not(main->log_stats);
    cr_expect_not(main->log_pooler_errors);
    config_release(config);
}

/* A file as it runs on a Docker Swarm today, with session pooling for Odoo. */
static const char swarm[] =
    "[databases]\n"
    "; Wildcard configuration - allows connections to any database\n"
    "; PgBouncer will forward connections to the PostgreSQL primary\n"
    "* = host=patroni-node1 port=5432 pool_size=25\n"
    "\n"
    "[pgbouncer]\n"
    "; Listen on all interfaces\n"
    "listen_addr = 0.0.0.0\n"
    "listen_port = 6432\n"
    "\n"
    "; Authentication\n"
    "auth_type = md5\n"
    "auth_file = /etc/pgbouncer/userlist.txt\n"
    "\n"
    "; Administrator users\n"
    "admin_users = postgres, pgbouncer_admin\n"
    "\n"
    "; Pooling mode\n"
    "; - session: client connects to a server for the session duration\n"
    "; - transaction: server is assigned for single transaction\n"
    "; - statement: server is assigned for single query\n"
    "pool_mode = session\n"
    "\n"
    "; Connection limits\n"
    "max_client_conn = 10000\n"
    "default_pool_size = 25\n"
    "min_pool_size = 10\n"
    "reserve_pool_size = 5\n"
    "reserve_pool_timeout = 3\n"
    "\n"
    "; Server connection\n"
    "max_db_connections = 100\n"
    "max_user_connections = 100\n"
    "\n"
    "; Timeouts\n"
    "server_idle_timeout = 600\n"
    "server_lifetime = 3600\n"
    "server_connect_timeout = 15\n"
    "query_timeout = 0\n"
    "query_wait_timeout = 120\n"
    "client_idle_timeout = 0\n"
    "idle_transaction_timeout = 0\n"
    "\n"
    "; Logging\n"
    "log_connections = 1\n"
    "log_disconnections = 1\n"
    "log_pooler_errors = 1\n"
    "stats_period = 60\n"
    "\n"
    "; Ignore startup parameters that may differ between clients\n"
    "ignore_startup_parameters = extra_float_digits,application_name\n"
    "\n"
    "; Disable for production, enable for debugging\n"
    "; verbose = 1\n"
    "\n"
    "; Performance tuning\n"
    "; so_reuseport = 1  # Uncomment if running multiple PgBouncer instances on same "
    "port\n";

Test(load_pgbouncer, takes_a_file_that_was_written_for_pgbouncer)
{
    struct config *config = loaded(swarm);
    const struct database_config *any = config_database(config, "odoo");

    cr_assert_eq(config->n_listeners, 1);
    cr_expect_str_eq(config->listeners[0].name, CONFIG_POOL_LISTENER);
    cr_expect_eq(config->listeners[0].mode, MODE_POOL);
    cr_assert_eq(config->listeners[0].bind.n, 2);
    cr_expect_str_eq(config->listeners[0].bind.items[0].host, "0.0.0.0");
    cr_expect_eq(config->listeners[0].bind.items[0].port, 6432);
    cr_expect_str_eq(config->listeners[0].bind.items[1].path, "/tmp/.s.PGSQL.6432");
    cr_assert_not_null(any);
    cr_expect_str_eq(any->name, "*");
    cr_expect_eq(any->pool_size, 25);
    cr_expect_str_eq(any->to->name, "patroni-node1:5432");
    cr_expect(any->to->is_implicit);
    cr_expect_eq(config->main.max_client_conn, 10000);
    cr_expect_eq(config->main.reserve_pool_timeout, 3000);
    cr_expect_eq(config->main.admin_users.n, 2);
    cr_expect_str_eq(config->main.ignore_startup_parameters.items[0],
                     "extra_float_digits");
    cr_expect_eq(config->main.ignore_startup_parameters.n, 2);
    cr_expect_eq(config->stats.bind.n, 0);
    cr_expect_str_eq(config->notes, "");
    config_release(config);
}

Test(load_pgbouncer, notes_what_is_given_without_effect)
{
    struct config *config =
        loaded("[pgbouncer]\npkt_buf = 8192\nauth_type = trust\n"
               "so_reuseport = 1\n" DATABASE "a = host=pg auth_user=x\n"
               "[peers]\n1 = host=x pool_size=2\n");

    cr_expect_str_eq(
        config->notes,
        "t.ini:2: pkt_buf is without effect: connections share buffers of one size, and "
        "have none while they are idle\n"
        "t.ini:4: so_reuseport is without effect: one process serves all cores: see "
        "workers\n"
        "t.ini:7: auth_user is without effect: users come from auth_file alone in this "
        "version\n"
        "t.ini:9: pool_size is without effect: each request has a connection of its own, "
        "as many as there are requests\n");
    config_release(config);
}

/* inih would cut, join or refuse them; PgBouncer's values run to the end of the line. */
Test(load_pgbouncer, takes_values_as_pgbouncer_does)
{
    struct config *config =
        loaded("[pgbouncer]\n"
               "  auth_type = trust\n"
               "server_reset_query = select 100 % 7 ; # 'x' \"y\" = z : %include\n"
               "server_check_query = \"quoted\"\n"
               "admin_users = \"a\", 'b'\n"
               "[databases]\n"
               "  * = host=pg connect_query='set x to ''a;b'' -- %s # :'  \n"
               "\ta = host=pg password=100%;#\"'\n");

    cr_expect_str_eq(config->main.server_reset_query,
                     "select 100 % 7 ; # 'x' \"y\" = z : %include");
    cr_expect_str_eq(config->main.server_check_query, "\"quoted\"");
    cr_expect_str_eq(config->main.admin_users.items[0], "\"a\"");
    cr_expect_str_eq(config_database(config, "x")->connect_query,
                     "set x to 'a;b' -- %s # :");
    cr_expect_str_eq(config_database(config, "a")->password, "100%;#\"'");
    config_release(config);
}

/* ---- what stands beside a file ---- */

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(name, "w");

    cr_assert_not_null(file);
    cr_assert_geq(fputs(text, file), 0);
    cr_assert_eq(fclose(file), 0);
}

static struct config *load_file(struct text *errors)
{
    text_clear(errors);
    text_init(errors, 10000);
    return config_load_file("t.ini", errors);
}

#define WITH_USERS "[pgbouncer]\nlisten_addr = *\nauth_file = users.txt\n" DATABASE

Test(load_pgbouncer, reads_the_users_that_auth_file_has_now)
{
    char folder[] = "/tmp/test_load.XXXXXX";
    struct text errors = {0};
    struct config *before, *after;

    cr_assert_not_null(mkdtemp(folder));
    cr_assert_eq(chdir(folder), 0);
    write_file("t.ini", WITH_USERS);
    write_file("users.txt", "; users\n\"zoe\" \"old\"\n\"bob\" \"x\"\n");
    before = load_file(&errors);
    cr_assert_not_null(before, "%s", text_get(&errors));
    write_file("users.txt", "\"zoe\" \"new\"\n");
    after = load_file(&errors);
    cr_assert_not_null(after, "%s", text_get(&errors));

    cr_expect_str_eq(config_secret(before, "zoe"), "old");
    cr_expect_str_eq(config_secret(before, "bob"), "x");
    cr_expect_str_eq(config_secret(after, "zoe"), "new");
    cr_expect_null(config_secret(after, "bob"));
    cr_expect_null(config_secret(after, "ZOE"));
    config_release(before);
    config_release(after);
    text_clear(&errors);
    unlink("t.ini");
    unlink("users.txt");
    rmdir(folder);
}

Test(load_pgbouncer, refuses_a_file_whose_auth_file_is_wrong)
{
    char folder[] = "/tmp/test_load.XXXXXX";
    struct text errors = {0};

    cr_assert_not_null(mkdtemp(folder));
    cr_assert_eq(chdir(folder), 0);
    write_file("t.ini", WITH_USERS "a = host=x port=0\n");
    cr_expect_null(load_file(&errors));
    cr_expect_str_eq(text_get(&errors),
                     "t.ini:6: port = '0' is out of range; expected a whole number, 1 to "
                     "65535\n"
                     "t.ini:3: auth_file: 'users.txt' cannot be read: No such file or "
                     "directory\n");
    write_file("t.ini", WITH_USERS);
    write_file("users.txt", "\"bob\" \"x\"\nbob x\n");
    cr_expect_null(load_file(&errors));
    cr_expect_str_eq(text_get(&errors), "users.txt:2: expected \"name\" \"secret\" (a "
                                        "quote inside is written twice)\n");
    text_clear(&errors);
    unlink("t.ini");
    unlink("users.txt");
    rmdir(folder);
}

/* A text touches nothing outside of it. */
Test(load_pgbouncer, reads_no_auth_file_for_a_text)
{
    struct config *config =
        loaded("[pgbouncer]\nauth_file = /nonexistent/users\n" DATABASE);

    cr_expect_eq(config->secrets.n, 0);
    config_release(config);
}

static const char *nodes;

static char *get(const char *name)
{
    return strcmp(name, "POSTGRES_NODES") == 0 ? (char *)(uintptr_t)nodes : NULL;
}

static struct config *load_file_with(const char *postgres_nodes, struct text *errors)
{
    nodes = postgres_nodes;
    text_clear(errors);
    text_init(errors, 10000);
    return config_load_file_with("t.ini", get, errors);
}

Test(load_pgbouncer, has_the_cluster_of_the_environment_when_the_file_has_none)
{
    char folder[] = "/tmp/test_load.XXXXXX";
    static const char three[] = "patroni-node1:5432:8008,patroni-node2:5432:8008";
    struct text errors = {0};
    struct config *config;

    cr_assert_not_null(mkdtemp(folder));
    cr_assert_eq(chdir(folder), 0);
    write_file("t.ini", "[pgbouncer]\nauth_type = trust\n[databases]\n"
                        "* = host=patroni-node1 port=5432\na = host=other\n");
    config = load_file_with(three, &errors);
    cr_assert_not_null(config, "%s", text_get(&errors));
    cr_assert_eq(config->n_clusters, 2);
    cr_expect_str_eq(config->clusters[0].name, "main");
    cr_expect_eq(config->clusters[0].check, CHECK_PATRONI);
    cr_expect_eq(config->clusters[0].check_interval, 3000);
    cr_expect_eq(config->clusters[0].nodes.n, 2);
    cr_expect_eq(config_database(config, "x")->to, &config->clusters[0]);
    cr_expect(config_database(config, "x")->follows_host);
    cr_expect_eq(config_database(config, "x")->role, ROLE_PRIMARY);
    cr_expect(config_database(config, "a")->to->is_implicit);
    config_release(config);

    config = load_file_with(" ", &errors);
    cr_assert_not_null(config, "%s", text_get(&errors));
    cr_expect(config_database(config, "x")->to->is_implicit);
    config_release(config);

    cr_expect_null(load_file_with("patroni-node1:5432", &errors));
    cr_expect_str_eq(text_get(&errors),
                     "POSTGRES_NODES: entry 1 'patroni-node1:5432': expected "
                     "host:pgport:patroniport, with IPv6 as [v6]:pgport:patroniport\n");

    write_file("t.ini", CLUSTER LISTENER);
    config = load_file_with(three, &errors);
    cr_assert_not_null(config, "%s", text_get(&errors));
    cr_expect_eq(config->n_clusters, 1);
    cr_expect_str_eq(config->clusters[0].nodes.items[0].name, "pg1");
    config_release(config);

    write_file("t.ini", LISTENER);
    config = load_file_with(three, &errors);
    cr_assert_not_null(config, "%s", text_get(&errors));
    cr_expect_eq(config->listeners[0].to, &config->clusters[0]);
    config_release(config);
    text_clear(&errors);
    unlink("t.ini");
    rmdir(folder);
}

static struct config *load_it(struct text *errors)
{
    return config_load_file_with("t.ini", get, errors);
}

Test(load_pgbouncer, survives_each_allocation_failure_with_all_that_is_beside_the_file)
{
    char folder[] = "/tmp/test_load.XXXXXX";

    cr_assert_not_null(mkdtemp(folder));
    cr_assert_eq(chdir(folder), 0);
    write_file("t.ini", WITH_USERS "a = host=pg1 auth_user=b\n");
    write_file("users.txt", "\"zoe\" \"old\"\n\"bob\" \"x\"\n");
    nodes = "pg1:5432:8008";
    survive_each_failure(load_it, "t.ini: out of memory\n");
    unlink("t.ini");
    unlink("users.txt");
    rmdir(folder);
}
