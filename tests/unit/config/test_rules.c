#include <stdio.h>

#include "tests/unit/config/loaded.h"

TestSuite(rules, .timeout = 10);

Test(rules, want_what_is_required)
{
    const struct example examples[] = {
        {"[cluster main]\n" LISTENER,
         "t.ini:1: [cluster main]: 'nodes' is missing; expected nodes = "
         "name=host:port:patroniport, ... (name and patroniport may be left out)\n"},
        {CLUSTER "[listener rw]\n",
         "t.ini:3: [listener rw]: 'bind' is missing; expected bind = host:port, "
         "[v6]:port, *:port or /path, ...\n"},
        {CLUSTER LISTENER "[stats]\n",
         "t.ini:5: [stats]: 'bind' is missing; expected bind = host:port, [v6]:port, "
         "*:port or /path, ...\n"},
    };

    expect_each(examples, COUNT_OF(examples));
}

#define NOTHING \
    "t.ini: there is nothing to do: expected a section [listener NAME] or [databases]\n"

Test(rules, want_a_listener)
{
    const struct example examples[] = {
        {"", NOTHING},
        {CLUSTER STATS, NOTHING},
        {"[databases]\n[users]\nx = pool_size=1\n", NOTHING},
        {"[listner rw]\n",
         "t.ini:1: unknown section [listner rw]; did you mean [listener NAME]?\n"},
    };

    expect_each(examples, COUNT_OF(examples));
}

Test(rules, want_the_cluster_of_each_listener)
{
    static const char two[] = CLUSTER "[cluster other]\nnodes = x:1:1\n" LISTENER;
    struct config *config =
        loaded(CLUSTER "[cluster other]\nnodes = x:1:1\n" LISTENER "cluster = other\n");
    const struct example examples[] = {
        {LISTENER, "t.ini:1: [listener rw]: there is no cluster to lead to; expected a "
                   "section [cluster NAME]\n"},
        {LISTENER "cluster = main\n",
         "t.ini:3: [listener rw]: there is no cluster to lead to; expected a section "
         "[cluster NAME]\n"},
        {two, "t.ini:5: [listener rw]: 'cluster' is left out though there are several; "
              "expected cluster = main or other\n"},
        {CLUSTER LISTENER "cluster = mian\n",
         "t.ini:5: [listener rw]: there is no [cluster mian]; expected cluster = main\n"},
        {"[cluter main]\nnodes = a:1:1\n" LISTENER,
         "t.ini:1: unknown section [cluter main]; did you mean [cluster NAME]?\n"},
    };

    cr_expect_eq(config->listeners[0].to, &config->clusters[1]);
    config_release(config);
    expect_each(examples, COUNT_OF(examples));
}

Test(rules, want_a_scope_with_etcd)
{
    const struct example examples[] = {
        {"[cluster main]\netcd = e:2379\nscope = s\n" LISTENER, ""},
        {CLUSTER "etcd = e:2379\nscope = s\netcd_user = u\netcd_password = p\n" LISTENER,
         ""},
        {CLUSTER "etcd =\n" LISTENER, ""},
        {CLUSTER "etcd = e:2379\n" LISTENER, "t.ini:3: etcd needs the name that Patroni "
                                             "has for the cluster; expected scope = "
                                             "name in [cluster main]\n"},
        {"[cluster main]\netcd =\n" LISTENER,
         "t.ini:2: [cluster main] has neither nodes nor etcd, where they are found; "
         "expected one of them\n"},
        {CLUSTER "etcd = e:2379\nscope = s\netcd_password = p\n" LISTENER,
         "t.ini:5: etcd_password without a user; expected etcd_user = name in [cluster "
         "main]\n"},
        {CLUSTER "etcd = e:2379\nscope = s\netcd_key_file = k\n" LISTENER,
         "t.ini:5: a certificate and its key belong together; expected etcd_cert_file "
         "and "
         "etcd_key_file in [cluster main]\n"},
        {CLUSTER "etcd = e\nscope = s\n" LISTENER,
         "t.ini:3: etcd: entry 1 'e': expected host:port, http://host:port or "
         "https://host:port, IPv6 as [v6]:port\n"},
    };

    expect_each(examples, COUNT_OF(examples));
}

Test(rules, want_https_with_certificates_for_patroni)
{
    const struct example examples[] = {
        {CLUSTER "restapi_tls = require\n" LISTENER, ""},
        {CLUSTER "restapi_tls = verify-full\nrestapi_ca_file = c\n"
                 "restapi_cert_file = a\nrestapi_key_file = k\n" LISTENER,
         ""},
        {CLUSTER "restapi_tls = verify-ca\nrestapi_cert_file = a\n" LISTENER,
         "t.ini:4: a certificate and its key belong together; expected restapi_cert_file "
         "and restapi_key_file in [cluster main]\n"},
        {CLUSTER "restapi_ca_file = c\n" LISTENER,
         "t.ini:3: certificates for Patroni's REST API, which is asked by http; expected "
         "restapi_tls = verify-full in [cluster main]\n"},
        {CLUSTER "restapi_tls = yes\nrestapi_ca_file = c\n" LISTENER,
         "t.ini:3: restapi_tls = 'yes' cannot be read; expected off, require, verify-ca "
         "or "
         "verify-full\n"},
    };

    expect_each(examples, COUNT_OF(examples));
}

Test(rules, want_drained_nodes_to_be_there)
{
    const struct example examples[] = {
        {CLUSTER "drain = pg1, pg2\n" LISTENER, ""},
        {CLUSTER "drain =\n" LISTENER, ""},
        {CLUSTER "drain = pg1, pg3, x\n" LISTENER,
         "t.ini:3: drain: there is no node 'pg3'; expected some of pg1, pg2\n"
         "t.ini:3: drain: there is no node 'x'; expected some of pg1, pg2\n"},
        {"[cluster main]\nnodes = ?\ndrain = pg1\n" LISTENER,
         "t.ini:2: nodes: entry 1 '?': expected name=host:port or "
         "name=host:port:patroniport, IPv6 as [v6]:port\n"},
    };

    expect_each(examples, COUNT_OF(examples));
}

Test(rules, want_an_alias_in_one_cluster)
{
    const struct example examples[] = {
        {CLUSTER "aliases = db, 10.0.0.1\n" LISTENER, ""},
        {CLUSTER "aliases = db\n[cluster b]\nnodes = x:1:1\naliases = a, DB\n" LISTENER
                 "cluster = b\n",
         "t.ini:6: aliases: 'DB' is one of [cluster main]; expected it in one cluster\n"},
        {CLUSTER "aliases = a,\n" LISTENER,
         "t.ini:3: aliases: entry 2 '': expected a name\n"},
    };

    expect_each(examples, COUNT_OF(examples));
}

#define NO_PATRONI "[cluster main]\nnodes = pg1:5432:8008, pg2:5433\n"

Test(rules, want_patronis_port_where_patroni_is_asked)
{
    const struct example examples[] = {
        {NO_PATRONI LISTENER,
         "t.ini:2: check = patroni needs Patroni's port of every node, node 'pg2' has "
         "none; expected pg2=pg2:5433:patroniport in [cluster main]\n"},
        {NO_PATRONI "check = postgres\ncheck_user = u\n" LISTENER, ""},
        {NO_PATRONI "check = tcp\n" LISTENER "role = any\n", ""},
        {NO_PATRONI "check = postgres\ncheck_user = u\n" LISTENER "check_uri = /x\n",
         "t.ini:7: check_uri needs Patroni's port of every node, node 'pg2' has none; "
         "expected pg2=pg2:5433:patroniport in [cluster main]\n"},
        {CLUSTER "check = tcp\n" LISTENER "check_uri = /replica?lag=1MB&tag_x=~y\n", ""},
        {NO_PATRONI "check = nothing\n" LISTENER,
         "t.ini:3: check = 'nothing' cannot be read; expected patroni, postgres or "
         "tcp\n"},
    };

    expect_each(examples, COUNT_OF(examples));
}

Test(rules, want_a_path_where_a_path_belongs)
{
    static const char uri_error[] =
        "t.ini:5: check_uri = '%s'; expected a path that begins with / and has no "
        "blanks\n";
    static const char *const wrong[] = {"replica", "/rep lica", "http://x/", "/\xc3\xa4",
                                        "/a\tb"};
    const struct example examples[] = {
        {CLUSTER LISTENER "[stats]\nbind = *:1\nuri = stats\n",
         "t.ini:7: uri = 'stats'; expected a path that begins with / and has no "
         "blanks\n"},
        {CLUSTER LISTENER "[stats]\nbind = *:1\nuri =\n",
         "t.ini:7: uri = ''; expected a path that begins with / and has no blanks\n"},
        {CLUSTER LISTENER "[stats]\nbind = *:1\nuri = /\n", ""},
    };

    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        char ini[300], errors[300];

        snprintf(ini, sizeof ini, CLUSTER LISTENER "check_uri = %s\n", wrong[i]);
        snprintf(errors, sizeof errors, uri_error, wrong[i]);
        expect_errors(ini, errors);
    }
    expect_each(examples, COUNT_OF(examples));
}

Test(rules, want_role_or_check_uri_but_not_both)
{
    expect_errors(CLUSTER LISTENER "check_uri = /replica\nrole = replica\n",
                  "t.ini:6: role and check_uri in one listener; expected one of the "
                  "two\n");
}

Test(rules, want_no_roles_of_a_tcp_check)
{
    static const char cannot[] =
        "check = tcp cannot tell a primary from a replica; expected role = any here, or "
        "another check in [cluster main]\n";
    char errors[2][300];

    snprintf(errors[0], sizeof errors[0], "t.ini:4: %s", cannot);
    snprintf(errors[1], sizeof errors[1], "t.ini:6: %s", cannot);
    {
        const struct example examples[] = {
            {CLUSTER "check = tcp\n" LISTENER, errors[0]},
            {CLUSTER "check = tcp\n" LISTENER "role = replica\n", errors[1]},
            {CLUSTER "check = tcp\n" LISTENER "role = read-only\n", errors[1]},
            {CLUSTER "check = tcp\n" LISTENER "role = any\n", ""},
            {"[cluster main]\nnodes = pg1:5432\ncheck = tcp\n" LISTENER, ""},
            {CLUSTER "check = tcp\n" LISTENER "role = bad\n",
             "t.ini:6: role = 'bad' cannot be read; expected primary, replica, "
             "read-only, "
             "any or default\n"},
        };

        expect_each(examples, COUNT_OF(examples));
    }
}

Test(rules, want_a_user_for_the_sql_check)
{
    const struct example examples[] = {
        {CLUSTER "check = postgres\n" LISTENER,
         "t.ini:3: check = postgres needs a user to log in; expected check_user = name "
         "in [cluster main]\n"},
        {CLUSTER "check_user =\ncheck = postgres\n" LISTENER,
         "t.ini:4: check = postgres needs a user to log in; expected check_user = name "
         "in [cluster main]\n"},
        {CLUSTER "check = postgres\ncheck_user = u\n" LISTENER, ""},
    };

    expect_each(examples, COUNT_OF(examples));
}

Test(rules, want_names_to_be_kept_for_a_while_at_least)
{
    const struct example examples[] = {
        {"[pgrouter]\ndns_max_ttl = 500ms\n" CLUSTER LISTENER,
         "t.ini:2: dns_max_ttl is below dns_min_ttl; expected 1s or more\n"},
        {"[pgrouter]\ndns_min_ttl = 1m\n" CLUSTER LISTENER,
         "t.ini:1: dns_max_ttl is below dns_min_ttl; expected 1m or more\n"},
        {"[pgrouter]\ndns_min_ttl = 1m\ndns_max_ttl = 1m\n" CLUSTER LISTENER, ""},
        {"[pgrouter]\ndns_min_ttl = 1m\ndns_max_ttl = x\n" CLUSTER LISTENER,
         "t.ini:3: dns_max_ttl = 'x' cannot be read; expected a duration (250ms, 1s, "
         "30m, 2h, 1d; a number alone counts seconds), 100ms to 1h\n"},
    };

    expect_each(examples, COUNT_OF(examples));
}

/* In one listener and between two. */
Test(rules, want_each_address_once)
{
    static const struct {
        const char *a, *b;
        bool clash;
    } pairs[] = {
        {"127.0.0.1:5000", "127.0.0.1:5000", true},
        {"127.0.0.1:5000", "127.0.0.1:5001", false},
        {"127.0.0.1:5000", "127.0.0.2:5000", false},
        {"*:5000", "127.0.0.1:5000", true},
        {"[::1]:5000", "*:5000", true},
        {"*:5000", "*:5000", true},
        {"*:5000", "*:5001", false},
        {"0.0.0.0:5000", "127.0.0.1:5000", true},
        {"0.0.0.0:5000", "[::1]:5000", false},
        {"[::]:5000", "[::1]:5000", true},
        {"[::]:5000", "0.0.0.0:5000", false},
        {"[::1]:5000", "[0:0::1]:5000", true},
        {"pg:5000", "PG:5000", true},
        {"pg:5000", "pg2:5000", false},
        {"pg:5000", "127.0.0.1:5000", false},
        {"/tmp/a", "/tmp/a", true},
        {"/tmp/a", "/tmp/b", false},
        {"/tmp/a", "*:5000", false},
    };

    for (size_t i = 0; i < COUNT_OF(pairs); i++) {
        char one[300], two[300];
        struct text errors;
        struct config *config;

        text_init(&errors, 10000);
        snprintf(one, sizeof one, CLUSTER "[listener a]\nbind = %s, %s\n", pairs[i].a,
                 pairs[i].b);
        config = config_load_text("t.ini", one, &errors);
        cr_expect_eq(config == NULL, pairs[i].clash, "%s%s", one, text_get(&errors));
        config_release(config);

        snprintf(two, sizeof two,
                 CLUSTER "[listener a]\nbind = %s\n[listener b]\nbind = %s\n", pairs[i].a,
                 pairs[i].b);
        config = config_load_text("t.ini", two, &errors);
        cr_expect_eq(config == NULL, pairs[i].clash, "%s%s", two, text_get(&errors));
        config_release(config);
        text_clear(&errors);
    }
}

Test(rules, say_who_has_the_address)
{
    const struct example examples[] = {
        {CLUSTER LISTENER "[listener ro]\nbind = *:5001, 127.0.0.1:5000\n",
         "t.ini:6: bind: 127.0.0.1 port 5000 is taken by [listener rw] at t.ini:3; "
         "expected another address or port\n"},
        {CLUSTER LISTENER "[stats]\nbind = [::1]:5000\n",
         "t.ini:4: bind: * port 5000 is taken by [stats] at t.ini:5; expected another "
         "address or port\n"},
        {CLUSTER "[stats]\nbind = *:5000\n" LISTENER,
         "t.ini:6: bind: * port 5000 is taken by [stats] at t.ini:3; expected another "
         "address or port\n"},
        {CLUSTER "[listener rw]\nbind = /tmp/a, /tmp/a\n",
         "t.ini:4: bind: /tmp/a is taken by [listener rw] at t.ini:3; expected another "
         "path\n"},
        {CLUSTER LISTENER STATS "[listener ro]\nbind = *:5001\n", ""},
    };

    expect_each(examples, COUNT_OF(examples));
}

Test(rules, want_proxies_to_be_named)
{
    const struct example examples[] = {
        {CLUSTER LISTENER "proxy_protocol = on\n",
         "t.ini:5: proxy_protocol = on lets proxies say whose connection it is; expected "
         "their addresses in proxy_protocol_from\n"},
        {CLUSTER LISTENER "proxy_protocol = on\nproxy_protocol_from =\n",
         "t.ini:5: proxy_protocol = on lets proxies say whose connection it is; expected "
         "their addresses in proxy_protocol_from\n"},
        {CLUSTER LISTENER "proxy_protocol_from = 10.0.0.0/8\n",
         "t.ini:5: proxy_protocol_from has no meaning without PROXY headers; expected "
         "proxy_protocol = on beside it\n"},
        {CLUSTER LISTENER "proxy_protocol = on\nproxy_protocol_from = 10.0.0.0/33\n",
         "t.ini:6: proxy_protocol_from: entry 1 '10.0.0.0/33': expected an address, a "
         "network as 10.0.0.0/8 or fd00::/8, or unix\n"},
        {CLUSTER LISTENER
         "proxy_protocol = on\nproxy_protocol_from = ::1, 10.0.0.0/8, unix\n",
         ""},
        {CLUSTER LISTENER "proxy_protocol = off\nproxy_protocol_from =\n", ""},
    };

    expect_each(examples, COUNT_OF(examples));
}

Test(rules, want_a_secret_that_cannot_be_guessed)
{
    const struct example examples[] = {
        {POOL "scram_mock_secret = 0123456789abcde\n" DATABASE,
         "t.ini:4: scram_mock_secret can be guessed; expected 16 random characters or "
         "more\n"},
        {POOL "scram_mock_secret = 0123456789abcdef\n" DATABASE, ""},
        {POOL "scram_mock_secret =\n" DATABASE, ""},
    };

    expect_each(examples, COUNT_OF(examples));
}
