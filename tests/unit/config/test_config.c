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

/* There is one mode yet, so the test makes up another. */
Test(config, names_the_section_of_a_setting_that_only_a_restart_applies)
{
    static const char ini[] = CLUSTER LISTENER "[listener ro]\nbind = *:1\n";
    struct config *running = loaded(ini), *now = loaded(ini);
    struct text names;

    text_init(&names, 1000);
    now->listeners[1].mode = (enum listener_mode)1;
    config_needs_restart(running, now, &names);
    cr_expect_str_eq(text_get(&names), "mode of [listener ro]\n");
    text_clear(&names);

    /* A listener that came or went is nobody else's. */
    now->listeners[1].name[0] = 'x';
    config_needs_restart(running, now, &names);
    cr_expect_str_eq(text_get(&names), "");
    text_clear(&names);
    config_release(running);
    config_release(now);
}

Test(config, is_described_with_every_setting)
{
    static const char *const names[] = {
#define KEY_MAIN(type, name, ...) #name,
#define KEY_CLUSTER(type, name, ...) #name,
#define KEY_LISTENER(type, name, ...) #name,
#define KEY_STATS(type, name, ...) #name,
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
