#include <pthread.h>
#include <stdio.h>

#include "tests/unit/config/loaded.h"

TestSuite(config, .timeout = 20);

Test(config, lives_until_the_last_reference_is_released)
{
    struct config *config = loaded(CLUSTER LISTENER);

    cr_expect_eq(config_hold(config), config);
    config_release(config);
    cr_expect_str_eq(config->clusters[0].name, "main"); /* else ASan speaks */
    config_release(config);
}

Test(config, is_released_without_being_there)
{
    config_release(NULL);
}

static void *hold_and_release(void *arg)
{
    for (int i = 0; i < 100000; i++)
        config_release(config_hold(arg));
    return NULL;
}

Test(config, is_held_and_released_by_several_threads)
{
    struct config *config = loaded(CLUSTER LISTENER);
    pthread_t threads[4];

    for (size_t i = 0; i < COUNT_OF(threads); i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, hold_and_release, config), 0);
    for (size_t i = 0; i < COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    cr_expect_eq(atomic_load(&config->references), 1);
    config_release(config);
}

Test(config, finds_clusters_and_listeners_by_their_names)
{
    struct config *config =
        loaded(CLUSTER "[cluster other]\nnodes = x:1:1\n" LISTENER
                       "cluster = main\n[listener ro]\nbind = *:1\ncluster = other\n");

    cr_expect_eq(config_cluster(config, "main"), &config->clusters[0]);
    cr_expect_eq(config_cluster(config, "other"), &config->clusters[1]);
    cr_expect_null(config_cluster(config, "Main"));
    cr_expect_null(config_cluster(config, ""));
    cr_expect_eq(config_listener(config, "ro"), &config->listeners[1]);
    cr_expect_null(config_listener(config, "main"));
    config_release(config);
}

Test(config, finds_databases_users_and_peers_by_their_names)
{
    struct config *config = loaded(POOL "[databases]\nz = host=x\n\"a b\" = host=x\n"
                                        "m = host=x\n[users]\ny = pool_size=1\n"
                                        "b = pool_size=2\n[peers]\n10 = host=x\n"
                                        "9 = host=y\n");

    cr_assert_eq(config->n_databases, 3);
    cr_expect_str_eq(config->databases[0].name, "a b");
    cr_expect_str_eq(config->databases[1].name, "m");
    cr_expect_str_eq(config->databases[2].name, "z");
    for (size_t i = 0; i < 3; i++)
        cr_expect_eq(config_database(config, config->databases[i].name),
                     &config->databases[i]);
    cr_expect_null(config_database(config, "A b"));
    cr_expect_null(config_database(config, ""));
    cr_expect_eq(config_user(config, "b")->pool_size, 2);
    cr_expect_eq(config_user(config, "y")->pool_size, 1);
    cr_expect_null(config_user(config, "m"));
    cr_expect_str_eq(config_peer(config, 9)->host, "y");
    cr_expect_str_eq(config_peer(config, 10)->host, "x");
    cr_expect_null(config_peer(config, 1));
    cr_expect_null(config_secret(config, "y"));
    config_release(config);
}

Test(config, falls_back_to_the_database_that_stands_for_all)
{
    struct config *config = loaded(POOL "[databases]\n* = host=x\nm = host=x\n");

    cr_expect_str_eq(config_database(config, "m")->name, "m");
    cr_expect_str_eq(config_database(config, "other")->name, "*");
    cr_expect_str_eq(config_database(config, "*")->name, "*");
    cr_expect_null(config_user(config, "other"));
    config_release(config);
}

Test(config, lets_the_most_specific_pool_mode_win)
{
    struct config *config =
        loaded("[pgbouncer]\npool_mode = statement\nauth_type = any\n"
               "[databases]\na = host=x\nb = host=x pool_mode=session\n"
               "[users]\nu = pool_mode=transaction\nv = pool_size=1\n"
               "[listener one]\nbind = *:1\nmode = pool\n"
               "[listener two]\nbind = *:2\nmode = pool\npool_mode = transaction\n"
               "auth_type = trust\n");
    const struct listener_config *one = &config->listeners[0];
    const struct listener_config *two = &config->listeners[1];
    const struct database_config *a = config_database(config, "a");
    const struct database_config *b = config_database(config, "b");
    const struct user_config *u = config_user(config, "u");
    const struct user_config *v = config_user(config, "v");

    cr_expect_eq(config_pool_mode(config, one, a, NULL), POOL_MODE_STATEMENT);
    cr_expect_eq(config_pool_mode(config, one, a, v), POOL_MODE_STATEMENT);
    cr_expect_eq(config_pool_mode(config, two, a, v), POOL_MODE_TRANSACTION);
    cr_expect_eq(config_pool_mode(config, two, b, v), POOL_MODE_SESSION);
    cr_expect_eq(config_pool_mode(config, one, b, u), POOL_MODE_TRANSACTION);
    cr_expect_eq(config_auth_type(config, one), AUTH_TYPE_ANY);
    cr_expect_eq(config_auth_type(config, two), AUTH_TYPE_TRUST);
    cr_expect_eq(config_own(a->pool_size, config->main.default_pool_size), 20);
    cr_expect_eq(config_own(v->pool_size, config->main.default_pool_size), 1);
    config_release(config);
}

/* What is sent again: the most specific counts. */
Test(config, replay_is_the_user_s_the_database_s_or_the_general_one)
{
    struct config *config =
        loaded("[pgrouter]\nlisten_addr = *\nauth_type = any\nreplay = off\n"
               "[databases]\na = host=x\nb = host=x replay=aborted\n"
               "[users]\nu = replay=unsent\nv = pool_size=1\n");
    const struct database_config *a = config_database(config, "a");
    const struct database_config *b = config_database(config, "b");
    const struct user_config *u = config_user(config, "u");
    const struct user_config *v = config_user(config, "v");

    cr_expect_eq(config_replay(config, a, NULL), REPLAY_OFF);
    cr_expect_eq(config_replay(config, a, v), REPLAY_OFF);
    cr_expect_eq(config_replay(config, b, v), REPLAY_ABORTED);
    cr_expect_eq(config_replay(config, b, u), REPLAY_UNSENT);
    config_release(config);
}

static void expect_restart(const char *before, const char *after, const char *wanted)
{
    struct config *running = loaded(before), *now = loaded(after);
    struct text names;

    text_init(&names, 1000);
    config_needs_restart(running, now, &names);
    cr_expect_str_eq(text_get(&names), wanted);
    text_clear(&names);
    config_release(running);
    config_release(now);
}

Test(config, names_the_settings_that_only_a_restart_applies)
{
    expect_restart("[pgrouter]\nworkers = 2\n" CLUSTER LISTENER,
                   "[pgrouter]\nworkers = 2\n" CLUSTER LISTENER, "");
    expect_restart("[pgrouter]\nworkers = 2\n" CLUSTER LISTENER,
                   "[pgrouter]\nworkers = 3\nmax_client_conn = 7\n" CLUSTER LISTENER,
                   "workers\n");
    expect_restart(CLUSTER LISTENER,
                   "[pgrouter]\nlisten_backlog = 1\nunix_socket_mode = 0600\n"
                   "log_format = json\n" CLUSTER "rise = 3\n" LISTENER
                   "maxconn = 1\n" STATS,
                   "listen_backlog\nunix_socket_mode\n");
}

Test(config, names_the_section_of_a_setting_that_only_a_restart_applies)
{
    static const char databases[] = "[pgrouter]\nauth_type = trust\nlisten_addr = *\n"
                                    "[databases]\na = cluster=main\n";
    char before[500], after[500];

    snprintf(before, sizeof before, "%s" CLUSTER LISTENER "[listener ro]\nbind = *:1\n",
             databases);
    snprintf(after, sizeof after,
             "%s" CLUSTER LISTENER "[listener ro]\nbind = *:1\nmode = pool\n", databases);
    expect_restart(before, after, "mode of [listener ro]\n");
    /* A listener that came or went is nobody else's. */
    snprintf(after, sizeof after,
             "%s" CLUSTER LISTENER "[listener xo]\nbind = *:1\nmode = pool\n", databases);
    expect_restart(before, after, "");
}

Test(config, is_described_with_every_setting)
{
    static const char *const names[] = {
#define KEY_MAIN(type, name, ...) #name,
#define KEY_CLUSTER(type, name, ...) #name,
#define KEY_LISTENER(type, name, ...) #name,
#define KEY_STATS(type, name, ...) #name,
#define KEY_DATABASE(type, name, ...) #name,
#define KEY_USER(type, name, ...) #name,
#define KEY_PEER(type, name, ...) #name,
#include "config/keys.def"
    };
    struct text plain, markdown;

    text_init(&plain, 1 << 20);
    text_init(&markdown, 1 << 20);
    config_describe(&plain, false);
    config_describe(&markdown, true);
    cr_expect_not(plain.overflowed);
    cr_expect_not(markdown.overflowed);
    for (size_t i = 0; i < COUNT_OF(names); i++) {
        char row[100];

        snprintf(row, sizeof row, "\n%s ", names[i]);
        cr_expect_not_null(strstr(text_get(&plain), row), "%s", names[i]);
        snprintf(row, sizeof row, "\n| `%s` | ", names[i]);
        cr_expect_not_null(strstr(text_get(&markdown), row), "%s", names[i]);
    }
    text_clear(&plain);
    text_clear(&markdown);
}
