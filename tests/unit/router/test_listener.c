#include "router/listener.h"

#include <criterion/criterion.h>

#include "tests/lib/fault.h"

static struct config *config;

static void load(void)
{
    struct text errors;

    text_init(&errors, 1000);
    config = config_load_text("test",
                              "[pgrouter]\n"
                              "tcp_keepalive = 1\ntcp_keepidle = 11s\n"
                              "tcp_keepintvl = 12s\ntcp_keepcnt = 13\n"
                              "tcp_user_timeout = 14s\n"
                              "[cluster main]\nnodes = n1:5432:8008\n"
                              "[listener rw]\nbind = *:5000\n"
                              "[listener ro]\nbind = *:5001\nrole = replica\n",
                              &errors);
    cr_assert_not_null(config, "%s", text_get(&errors));
    text_clear(&errors);
}

static void release(void)
{
    config_release(config);
}

TestSuite(listener, .init = load, .fini = release, .timeout = 10);

Test(listener, keeps_its_configuration_alive)
{
    struct listener *listener = listener_new(config, &config->listeners[1]);
    struct config *kept = config_hold(config);

    cr_expect_eq(listener->settings, &config->listeners[1]);
    cr_expect_eq(atomic_load(&kept->references), 3);
    cr_expect_eq(listener_hold(listener), listener);
    listener_release(listener);
    cr_expect_eq(atomic_load(&kept->references), 3, "somebody holds it still");
    listener_release(listener);
    cr_expect_eq(atomic_load(&kept->references), 2);
    config_release(kept);
    listener_release(NULL);
}

Test(listener, gives_sockets_their_settings_in_the_kernels_units)
{
    struct listener *listener = listener_new(config, &config->listeners[0]);

    cr_expect(listener->tcp.keepalive);
    cr_expect_eq(listener->tcp.keepidle_s, 11);
    cr_expect_eq(listener->tcp.keepintvl_s, 12);
    cr_expect_eq(listener->tcp.keepcnt, 13);
    listener_release(listener);
}

static void make_one(void *unused)
{
    (void)unused;
    listener_release(listener_new(config, &config->listeners[0]));
    cr_expect_eq(atomic_load(&config->references), 1);
}

Test(listener, survives_an_allocation_failure)
{
    cr_expect_eq(fault_each_allocation(make_one, NULL), 1);
}
