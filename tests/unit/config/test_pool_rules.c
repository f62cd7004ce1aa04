#include "tests/unit/config/loaded.h"

TestSuite(pool_rules, .timeout = 10);

#define AUTH "[pgbouncer]\nauth_type = trust\n"

Test(pool_rules, want_a_way_to_each_database)
{
    const struct example examples[] = {
        {AUTH "unix_socket_dir =\n" DATABASE,
         "t.ini:5: nobody can reach [databases]; expected a [listener NAME] with mode = "
         "pool, or listen_addr = * in [pgrouter]\n"},
        {AUTH DATABASE "b = host=x\n" CLUSTER LISTENER,
         "t.ini:4: nobody can reach [databases]; expected a [listener NAME] with mode = "
         "pool, or listen_addr = * in [pgrouter]\n"},
        {AUTH DATABASE, ""},
        {AUTH DATABASE CLUSTER LISTENER "[listener p]\nbind = *:1\nmode = pool\n", ""},
        {AUTH DATABASE "[listener p]\nbind = *:1\nmode = loop\n",
         "t.ini:7: mode = 'loop' cannot be read; expected tcp or pool\n"},
    };

    expect_each(examples, COUNT_OF(examples));
}

Test(pool_rules, want_a_database_behind_each_way)
{
    const struct example examples[] = {
        {AUTH "[listener p]\nbind = *:1\nmode = pool\n",
         "t.ini:5: [listener p]: mode = pool without a database; expected a line in "
         "[databases]\n"},
        {AUTH "[databases]\n[listener p]\nbind = *:1\nmode = pool\n",
         "t.ini:6: [listener p]: mode = pool without a database; expected a line in "
         "[databases]\n"},
        {AUTH "[databases]\nfoo\n[listener p]\nbind = *:1\nmode = pool\n",
         "t.ini:4: expected name = value, [section] or a comment\n"},
        {AUTH "[database]\n[listener p]\nbind = *:1\nmode = pool\n",
         "t.ini:3: unknown section [database]; did you mean [databases]?\n"},
        {AUTH "listen_addr = *\n" CLUSTER LISTENER,
         "t.ini:3: listen_addr is for [databases], and there are none; expected a line "
         "in [databases], or bind in a [listener NAME]\n"},
        {AUTH "listen_addr =\n" CLUSTER LISTENER, ""},
    };

    expect_each(examples, COUNT_OF(examples));
}

Test(pool_rules, want_each_setting_in_a_listener_of_its_mode)
{
    const struct example examples[] = {
        {AUTH DATABASE CLUSTER
         "[listener p]\nbind = *:1\nmode = pool\ncluster = main\n"
         "role = any\ncheck_uri = /x\nbalance = first\nconnect_timeout = 1\n"
         "client_timeout = 1\nserver_timeout = 1\non_role_change = keep\n",
         "t.ini:10: cluster goes with mode = tcp only; expected it in another listener\n"
         "t.ini:12: check_uri goes with mode = tcp only; expected it in another "
         "listener\n"
         "t.ini:13: balance goes with mode = tcp only; expected it in another listener\n"
         "t.ini:14: connect_timeout goes with mode = tcp only; expected it in another "
         "listener\n"
         "t.ini:15: client_timeout goes with mode = tcp only; expected it in another "
         "listener\n"
         "t.ini:16: server_timeout goes with mode = tcp only; expected it in another "
         "listener\n"
         "t.ini:17: on_role_change goes with mode = tcp only; expected it in another "
         "listener\n"},
        {CLUSTER LISTENER "pool_mode = session\nauth_type = any\n",
         "t.ini:5: pool_mode goes with mode = pool only; expected it in another "
         "listener\n"
         "t.ini:6: auth_type goes with mode = pool only; expected it in another "
         "listener\n"},
        {AUTH DATABASE "[listener p]\nbind = *:1\nmode = pool\nmaxconn = 1\n"
                       "queue_timeout = 1\npool_mode = default\nauth_type = any\n",
         ""},
    };

    expect_each(examples, COUNT_OF(examples));
}

#define MD5_WANTS \
    "auth_type = md5 needs passwords; expected auth_file = FILE in [pgrouter]\n"

Test(pool_rules, want_passwords_where_they_are_asked_for)
{
    const struct example examples[] = {
        {DATABASE, "t.ini:2: " MD5_WANTS},
        {"[pgbouncer]\nlisten_addr = *\n" DATABASE, "t.ini:2: " MD5_WANTS},
        {"[pgbouncer]\nauth_type = md5\nlisten_addr = *\n" DATABASE,
         "t.ini:2: " MD5_WANTS},
        {"[pgbouncer]\nauth_type = plain\nauth_file =\n" DATABASE,
         "t.ini:2: auth_type = plain needs passwords; expected auth_file = FILE in "
         "[pgrouter]\n"},
        {"[pgbouncer]\nauth_type = scram-sha-256\n" DATABASE,
         "t.ini:2: auth_type = scram-sha-256 needs passwords; expected auth_file = FILE "
         "in [pgrouter]\n"},
        {"[pgbouncer]\nauth_file = /etc/users\n" DATABASE, ""},
        {"[pgbouncer]\nauth_type = any\n" DATABASE, ""},
        {AUTH DATABASE "[listener p]\nbind = *:1\nmode = pool\nauth_type = md5\n",
         "t.ini:8: " MD5_WANTS},
        /* Nobody goes by that of [pgrouter]. */
        {DATABASE "[listener p]\nbind = *:1\nmode = pool\nauth_type = trust\n", ""},
        {CLUSTER LISTENER, ""},
        {"[pgbouncer]\nauth_type = word\n" DATABASE,
         "t.ini:2: auth_type = 'word' cannot be read; expected trust, any, plain, md5, "
         "scram-sha-256, cert, hba, pam or ldap\n"},
    };

    expect_each(examples, COUNT_OF(examples));
}

#define NOT_DONE \
    " is not done by this version; expected trust, any, plain, md5, scram-sha-256 or " \
    "cert\n"

Test(pool_rules, refuse_what_nobody_would_check)
{
    const struct example examples[] = {
        {"[pgbouncer]\nauth_type = hba\nauth_hba_file = x\n" DATABASE,
         "t.ini:2: auth_type = hba" NOT_DONE},
        {"[pgbouncer]\nauth_type = pam\n" DATABASE, "t.ini:2: auth_type = pam" NOT_DONE},
        {"[pgbouncer]\nauth_type = ldap\n" DATABASE,
         "t.ini:2: auth_type = ldap" NOT_DONE},
        {AUTH DATABASE "[listener p]\nbind = *:1\nmode = pool\nauth_type = hba\n",
         "t.ini:8: auth_type = hba" NOT_DONE},
    };

    expect_each(examples, COUNT_OF(examples));
}

#define KEYS "client_tls_key_file = k\nclient_tls_cert_file = c\n"

Test(pool_rules, want_files_for_tls)
{
    const struct example examples[] = {
        {AUTH "client_tls_sslmode = allow\n" DATABASE,
         "t.ini:3: client_tls_sslmode needs a certificate to show; expected "
         "client_tls_key_file = FILE and client_tls_cert_file = FILE\n"},
        {AUTH "client_tls_sslmode = require\n" KEYS DATABASE, ""},
        {AUTH "client_tls_sslmode = verify-ca\n" KEYS DATABASE,
         "t.ini:3: client_tls_sslmode = verify-ca or verify-full needs somebody to vouch "
         "for clients; expected client_tls_ca_file = FILE\n"},
        {AUTH "client_tls_sslmode = verify-full\nclient_tls_ca_file = x\n" KEYS DATABASE,
         ""},
        {"[pgbouncer]\nauth_type = cert\n" DATABASE,
         "t.ini:2: auth_type = cert needs certificates of clients; expected "
         "client_tls_sslmode = verify-full in [pgrouter]\n"},
        {"[pgbouncer]\nauth_type = cert\nclient_tls_sslmode = bad\n" DATABASE,
         "t.ini:3: client_tls_sslmode = 'bad' cannot be read; expected disable, allow, "
         "prefer, require, verify-ca or verify-full\n"},
        {"[pgbouncer]\nauth_type = cert\nclient_tls_sslmode = verify-ca\n"
         "client_tls_ca_file = x\n" KEYS DATABASE,
         ""},
        {AUTH "server_tls_sslmode = verify-full\n" DATABASE, ""},
    };

    expect_each(examples, COUNT_OF(examples));
}

Test(pool_rules, want_direct_tls_to_be_tls)
{
    const struct example examples[] = {
        {POOL
         "server_tls_sslmode = prefer\nserver_tls_sslnegotiation = direct\n" DATABASE,
         "t.ini:4: sslnegotiation = direct leaves servers no choice; expected "
         "server_tls_sslmode = require, verify-ca or verify-full in [pgrouter]\n"},
        {POOL DATABASE CLUSTER "sslnegotiation = direct\n",
         "t.ini:1: sslnegotiation = direct leaves servers no choice; expected "
         "server_tls_sslmode = require, verify-ca or verify-full in [pgrouter]\n"},
        {POOL
         "server_tls_sslmode = require\nserver_tls_sslnegotiation = direct\n" DATABASE,
         ""},
        {POOL "server_tls_sslmode = verify-full\n" DATABASE CLUSTER
              "sslnegotiation = direct\n",
         ""},
        {POOL DATABASE CLUSTER "sslnegotiation = postgres\n", ""},
    };

    expect_each(examples, COUNT_OF(examples));
}

Test(pool_rules, give_clusters_the_negotiation_of_all)
{
    struct config *config = loaded(
        POOL "server_tls_sslmode = require\nserver_tls_sslnegotiation = direct\n" DATABASE
             "a = cluster=main\nb = cluster=two\n" CLUSTER "sslnegotiation = postgres\n"
             "[cluster two]\nnodes = x:1:2\n");

    cr_assert_eq(config->n_clusters, 3);
    cr_expect_eq(config_cluster(config, "main")->sslnegotiation, SSLNEGOTIATION_POSTGRES);
    cr_expect_eq(config_cluster(config, "two")->sslnegotiation, SSLNEGOTIATION_DIRECT);
    cr_expect_eq(config_database(config, "*")->to->sslnegotiation, SSLNEGOTIATION_DIRECT);
    config_release(config);
}
