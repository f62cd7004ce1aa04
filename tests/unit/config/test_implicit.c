#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "tests/unit/config/loaded.h"

TestSuite(implicit, .timeout = 20);

/* ---- clusters ---- */

Test(implicit, clusters_are_made_of_hosts)
{
    struct config *config =
        loaded(POOL "[databases]\na = host=pg1\nb = host=pg1 port=5432\n"
                    "c = host=pg1,10.0.0.2,::1,[::2] port=6000\n"
                    "d = host='pg1 , 10.0.0.2, ::1, ::2' port=6000\n"
                    "e = host=pg1 port=1\n");
    const struct database_config *databases = config->databases;
    const struct cluster_config *one = databases[0].to, *four = databases[2].to;

    cr_assert_eq(config->n_clusters, 3);
    cr_expect_eq(databases[1].to, one);
    cr_expect_eq(databases[3].to, four);
    cr_expect_neq(databases[4].to, one);
    cr_expect_str_eq(one->name, "pg1:5432");
    cr_expect(one->is_implicit);
    cr_expect_eq(one->check, CHECK_TCP);
    cr_expect_eq(one->check_interval, 1000);
    cr_assert_eq(one->nodes.n, 1);
    cr_expect_str_eq(one->nodes.items[0].name, "pg1");
    cr_expect_str_eq(one->nodes.items[0].host, "pg1");
    cr_expect_eq(one->nodes.items[0].port, 5432);
    cr_expect_eq(one->nodes.items[0].check_port, 0);
    cr_expect_eq(databases[0].role, ROLE_ANY);
    cr_expect_not(databases[0].follows_host);

    cr_expect_str_eq(four->name, "pg1:6000,10.0.0.2:6000,[::1]:6000,[::2]:6000");
    cr_assert_eq(four->nodes.n, 4);
    cr_expect_str_eq(four->nodes.items[3].host, "::2");
    config_release(config);
}

Test(implicit, clusters_have_short_names_that_differ)
{
    struct config *config = loaded(
        POOL
        "[databases]\n"
        "a = host=some-very-long-host-name.example.org,another.example.org\n"
        "b = host=some-very-long-host-name.example.org,athird.example.org\n"
        "c = host=some-very-long-host-name.some-very-long-domain-name.example.org\n");

    cr_assert_eq(config->n_clusters, 3);
    for (size_t i = 0; i < 3; i++) {
        cr_expect_lt(strlen(config->clusters[i].name), 48);
        cr_expect_not_null(strchr(config->clusters[i].name, ':'));
        for (size_t other = 0; other < i; other++)
            cr_expect_str_neq(config->clusters[i].name, config->clusters[other].name);
    }
    config_release(config);
}

#define MAIN \
    "[cluster main]\nnodes = one=pg1.x:5432:8008, 10.0.0.2:5433:8008\n" \
    "aliases = haproxy, 10.0.0.9\n"

Test(implicit, clusters_are_not_made_where_a_host_belongs_to_one)
{
    static const char *const hosts[] = {
        "host=pg1.x",
        "host=PG1.X port=5432",
        "host=one",
        "host=10.0.0.2 port=5433",
        "host=haproxy",
        "host=HAproxy port=5000",
        "host=10.0.0.9 port=1",
        "host=pg1.x,haproxy,one",
    };

    for (size_t i = 0; i < COUNT_OF(hosts); i++) {
        char ini[1000];
        struct config *config;

        snprintf(ini, sizeof ini, POOL "[databases]\n* = %s\n" MAIN, hosts[i]);
        config = loaded(ini);
        cr_assert_eq(config->n_clusters, 1, "%s", hosts[i]);
        cr_expect_eq(config->databases[0].to, &config->clusters[0]);
        cr_expect(config->databases[0].follows_host);
        cr_expect_eq(config->databases[0].role, ROLE_PRIMARY);
        config_release(config);
    }
}

Test(implicit, clusters_are_made_of_hosts_that_belong_to_none)
{
    static const char *const hosts[] = {
        "host=pg1.x port=5433", "host=10.0.0.2", "host=pg1", "host=two", "host=pg1.x.y",
    };

    for (size_t i = 0; i < COUNT_OF(hosts); i++) {
        char ini[1000];
        struct config *config;

        snprintf(ini, sizeof ini, POOL "[databases]\n* = %s\n" MAIN, hosts[i]);
        config = loaded(ini);
        cr_assert_eq(config->n_clusters, 2, "%s", hosts[i]);
        cr_expect_eq(config->databases[0].to, &config->clusters[1]);
        cr_expect_not(config->databases[0].follows_host);
        config_release(config);
    }
}

Test(implicit, clusters_follow_no_hosts_when_told_so)
{
    struct config *config =
        loaded(POOL "follow_hosts = off\n[databases]\n* = host=haproxy\n" MAIN);

    cr_expect_eq(config->databases[0].to, &config->clusters[1]);
    cr_expect_str_eq(config->clusters[1].name, "haproxy:5432");
    config_release(config);
}

Test(implicit, clusters_may_be_followed_in_another_role)
{
    struct config *config =
        loaded(POOL "[databases]\n* = host=haproxy role=replica\n"
                    "a = cluster=main\nb = cluster=main role=any\n" MAIN);

    cr_expect_eq(config_database(config, "x")->role, ROLE_REPLICA);
    cr_expect_eq(config_database(config, "a")->role, ROLE_PRIMARY);
    cr_expect_not(config_database(config, "a")->follows_host);
    cr_expect_eq(config_database(config, "a")->to, &config->clusters[0]);
    cr_expect_eq(config_database(config, "b")->role, ROLE_ANY);
    config_release(config);
}

/* Also for listeners, which see only those in the file. */
Test(implicit, clusters_cannot_be_named)
{
    expect_errors(POOL "[databases]\na = host=x\nb = cluster=x:5432\n",
                  "t.ini:6: [databases] b: there is no cluster to lead to; expected a "
                  "section [cluster NAME]\n");
    expect_errors(POOL "[databases]\na = host=x\n[listener rw]\nbind = *:1\n",
                  "t.ini:6: [listener rw]: there is no cluster to lead to; expected a "
                  "section [cluster NAME]\n");
    {
        struct config *config = loaded(POOL "[databases]\na = host=x\n" CLUSTER LISTENER);

        cr_expect_eq(config->listeners[0].to, &config->clusters[0]);
        config_release(config);
    }
}

Test(implicit, clusters_of_databases_are_reported_when_they_make_none)
{
    const struct example examples[] = {
        {POOL "[databases]\napp =\n",
         "t.ini:5: [databases] app: no host, which stands for a unix socket, and servers "
         "are not reached by these yet; expected host=NAME or cluster=NAME\n"},
        {POOL "[databases]\napp = host=/run/postgresql\nb = host=x,@y\n",
         "t.ini:5: [databases] app: servers are not reached by unix sockets yet; "
         "expected host=NAME or cluster=NAME\n"
         "t.ini:6: [databases] b: servers are not reached by unix sockets yet; "
         "expected host=NAME or cluster=NAME\n"},
        {POOL "[databases]\napp = host='x y'\n",
         "t.ini:5: host: entry 1 'x y': expected a host's name or number\n"},
        {POOL "[databases]\napp = host=a,[b]\n",
         "t.ini:5: host: entry 2 '[b]': expected a host's name or number\n"},
        {POOL "[databases]\napp = host=a,b,a\n",
         "t.ini:5: host: entries 1 and 3 are both named 'a:5432'; expected names that "
         "differ\n"},
        {POOL "[databases]\napp = host=a,,b\n",
         "t.ini:5: host: entry 2 '': expected a name\n"},
        {POOL "[databases]\napp = host=a role=replica\n",
         "t.ini:5: [databases] app: role without a cluster, whose nodes have roles; "
         "expected cluster=NAME in place of host\n"},
        {POOL "[databases]\napp = cluster=mian\n" MAIN,
         "t.ini:5: [databases] app: there is no [cluster mian]; expected cluster = "
         "main\n"},
        {POOL "[databases]\napp = cluster=main host=x port=1 "
              "load_balance_hosts=disable\n" MAIN,
         "t.ini:5: cluster and host in one database; expected one of the two\n"
         "t.ini:5: cluster and port in one database; expected one of the two\n"
         "t.ini:5: cluster and load_balance_hosts in one database; expected one of the "
         "two\n"},
        {POOL "[databases]\napp = host=haproxy,pg9\nb = host=pg9,pg8,one\n" MAIN,
         "t.ini:5: host: 'haproxy' belongs to [cluster main], 'pg9' does not; expected "
         "hosts of one cluster, or follow_hosts = off in [pgrouter]\n"
         "t.ini:6: host: 'one' belongs to [cluster main], 'pg9' does not; expected "
         "hosts of one cluster, or follow_hosts = off in [pgrouter]\n"},
        {POOL "[databases]\napp = cluster=main\n" CLUSTER "check = tcp\n",
         "t.ini:5: check = tcp cannot tell a primary from a replica; expected role = any "
         "here, or another check in [cluster main]\n"},
        {POOL "[databases]\napp = cluster=main role=any\n" CLUSTER "check = tcp\n", ""},
    };

    expect_each(examples, COUNT_OF(examples));
}

/* ---- the listener ---- */

static void expect_bind(const struct config *config, const char *wanted)
{
    const struct listener_config *listener =
        config_listener(config, CONFIG_POOL_LISTENER);
    struct text text;

    cr_assert_not_null(listener);
    cr_expect_eq(listener->mode, MODE_POOL);
    cr_expect_null(listener->to);
    text_init(&text, 1000);
    for (size_t i = 0; i < listener->bind.n; i++) {
        const struct endpoint *endpoint = &listener->bind.items[i];

        if (endpoint->path != NULL)
            text_addf(&text, "%s ", endpoint->path);
        else
            text_addf(&text, "%s|%u ", endpoint->host, endpoint->port);
    }
    cr_expect_str_eq(text_get(&text), wanted);
    text_clear(&text);
}

Test(implicit, listener_is_where_pgbouncer_would_listen)
{
    static const struct {
        const char *settings;
        const char *bind;
    } examples[] = {
        {"", "/tmp/.s.PGSQL.6432 "},
        {"listen_port = 1\n", "/tmp/.s.PGSQL.1 "},
        {"listen_addr =\n", "/tmp/.s.PGSQL.6432 "},
        {"listen_addr = *\n", "*|6432 /tmp/.s.PGSQL.6432 "},
        {"listen_addr = 127.0.0.1, localhost,::1,[::2]\nunix_socket_dir =\n"
         "listen_port = 5\n",
         "127.0.0.1|5 localhost|5 ::1|5 ::2|5 "},
        {"unix_socket_dir = /run/a,b\n", "/run/a,b/.s.PGSQL.6432 "},
        {"listen_addr = *\n" CLUSTER LISTENER "[pgrouter]\n",
         "*|6432 /tmp/.s.PGSQL.6432 "},
        {"unix_socket_dir = /run/x\n" CLUSTER LISTENER "[pgrouter]\n",
         "/run/x/.s.PGSQL.6432 "},
        {"listen_addr = 127.0.0.1\nunix_socket_dir =\n"
         "[listener p]\nbind = *:1\nmode = pool\n[pgrouter]\n",
         "127.0.0.1|6432 "},
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        char ini[1000];
        struct config *config;

        snprintf(ini, sizeof ini, "[pgbouncer]\n%sauth_type = trust\n" DATABASE,
                 examples[i].settings);
        config = loaded(ini);
        expect_bind(config, examples[i].bind);
        config_release(config);
    }
}

Test(implicit, listener_is_not_made_where_nobody_asks_for_it)
{
    struct config *config = loaded("[pgrouter]\nauth_type = trust\n" DATABASE
                                   "[listener p]\nbind = *:1\nmode = "
                                   "pool\n");

    cr_expect_eq(config->n_listeners, 1);
    cr_expect_null(config_listener(config, CONFIG_POOL_LISTENER));
    config_release(config);
    config = loaded("[pgbouncer]\nunix_socket_dir = /run\n" CLUSTER LISTENER);
    cr_expect_eq(config->n_listeners, 1);
    config_release(config);
}

#define WITH(settings) "[pgbouncer]\nauth_type = trust\n" settings DATABASE

Test(implicit, listener_is_reported_when_it_cannot_be_made)
{
    const struct example examples[] = {
        {WITH("listen_addr = a b\n"),
         "t.ini:3: listen_addr = 'a b': expected a host's name or number in front of the "
         "port\n"},
        {WITH("listen_addr = 127.0.0.1,::xyz\n"),
         "t.ini:3: listen_addr = '::xyz': expected an IPv6 address between the "
         "brackets\n"},
        {WITH("listen_addr = a,,b\n"),
         "t.ini:3: listen_addr: entry 2 '': expected a name\n"},
        {WITH("listen_port = 0\n"),
         "t.ini:3: listen_port = '0' is out of range; expected a whole number, 1 to "
         "65535\n"},
        {WITH("unix_socket_dir = @x\n"),
         "t.ini:3: unix_socket_dir = '@x'; expected a path that begins with /, or "
         "nothing\n"},
        {WITH("listen_addr = *\n") CLUSTER
         "[listener pgbouncer]\nbind = *:1\ncluster = main\n",
         "t.ini:3: [listener pgbouncer] is the one that listen_addr and unix_socket_dir "
         "make; expected another name for that in the file\n"},
        {WITH("listen_addr = 127.0.0.1\n") CLUSTER
         "[listener rw]\nbind = *:6432\ncluster = main\n",
         "t.ini:3: bind: 127.0.0.1 port 6432 is taken by [listener rw] at t.ini:8; "
         "expected another address or port\n"},
        {WITH("listen_addr = *,127.0.0.1\n"),
         "t.ini:3: bind: 127.0.0.1 port 6432 is taken by [listener pgbouncer] at "
         "t.ini:3; expected another address or port\n"},
    };

    expect_each(examples, COUNT_OF(examples));
}

Test(implicit, listener_has_a_path_that_fits_a_socket)
{
    char ini[1000], errors[1000], folder[201];

    memset(folder, 'x', 200);
    folder[200] = '\0';
    snprintf(ini, sizeof ini, WITH("unix_socket_dir = /%s\n"), folder);
    {
        struct text found;

        text_init(&found, 10000);
        cr_expect_null(config_load_text("t.ini", ini, &found));
        snprintf(errors, sizeof errors, "t.ini:3: unix_socket_dir = '/%.79s': expected ",
                 folder);
        cr_expect_eq(strncmp(text_get(&found), errors, strlen(errors)), 0, "%s",
                     text_get(&found));
        text_clear(&found);
    }
}
