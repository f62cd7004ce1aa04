/* Settings made into contexts for both sides; what becomes of handshakes is seen in
 * tests/system/test_pool_tls.py. */
#include "pool/security.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/fault.h"
#include "tests/lib/identity.h"

static char folder[64];
static struct tls_registry *registry;
static struct text errors;

static void make_files(void)
{
    struct identity ca =
        identity_make(&(struct identity_wish){.name = "CA", .is_ca = true});
    struct identity own =
        identity_make(&(struct identity_wish){.name = "localhost", .issuer = &ca});

    snprintf(folder, sizeof folder, "/tmp/test_security.XXXXXX");
    if (mkdtemp(folder) == NULL)
        abort();
    identity_write(&ca, NULL, folder, "ca", NULL);
    identity_write(&own, NULL, folder, "own", NULL);
    identity_clear(&ca);
    identity_clear(&own);
    registry = tls_registry_new();
    text_init(&errors, 4096);
}

static void remove_files(void)
{
    static const char *const names[] = {"ca.crt", "ca.key", "own.crt", "own.key"};
    char path[128];

    for (unsigned i = 0; i < COUNT_OF(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
    tls_registry_free(registry);
    text_clear(&errors);
}

TestSuite(security, .init = make_files, .fini = remove_files, .timeout = 20);

/* `more` are lines of [pgrouter]; "@" in them stands for the folder. */
static struct config *config_of(const char *more, bool has_pool)
{
    struct text ini, said;
    struct config *config;

    text_init(&ini, 1 << 16);
    text_init(&said, 1 << 16);
    text_add(&ini, "[pgrouter]\nauth_type = any\n");
    for (; *more != '\0'; more++) {
        if (*more == '@')
            text_add(&ini, folder);
        else
            text_add_n(&ini, more, 1);
    }
    text_add(&ini, "\n[cluster main]\nnodes = n1:5432:8008\n");
    text_add(&ini, has_pool ? "[databases]\n* = cluster=main\n"
                              "[listener pool]\nmode = pool\nbind = *:6432\n"
                            : "[listener rw]\nbind = *:5000\n");
    config = config_load_text("test", text_get(&ini), &said);
    cr_assert_not_null(config, "%s", text_get(&said));
    text_clear(&ini);
    text_clear(&said);
    return config;
}

static struct security *security_of(const char *more, const struct security *before)
{
    struct config *config = config_of(more, true);
    struct security *security = security_new(registry, config, before, &errors);

    config_release(config);
    return security;
}

#define OWN "client_tls_key_file = @/own.key\nclient_tls_cert_file = @/own.crt\n"
#define CA "client_tls_ca_file = @/ca.crt\n"

Test(security, is_none_with_clients_and_what_can_be_had_with_servers_by_itself)
{
    struct security *security = security_of("", NULL);

    cr_assert_not_null(security);
    cr_expect_eq(security->to_clients, SSLMODE_DISABLE);
    cr_expect_null(security->client_context);
    cr_expect_eq(security->to_servers, SSLMODE_PREFER);
    cr_expect_not_null(security->server_context);
    cr_expect_eq(security_hold(security), security);
    security_release(security);
    security_release(security);
    cr_expect_null(security_hold(NULL));
    security_release(NULL);
}

Test(security, is_nobodys_business_where_bytes_pass_untouched)
{
    struct config *config = config_of(
        "client_tls_sslmode = require\n" OWN "server_tls_sslmode = require\n", false);
    struct security *security = security_new(registry, config, NULL, &errors);

    cr_assert_not_null(security);
    cr_expect_null(security->client_context);
    cr_expect_null(security->server_context);
    security_release(security);
    config_release(config);
}

/* Who has to show a certificate, and what is made of a server's. */
Test(security, asks_for_certificates_as_pgbouncer_does)
{
    static const struct {
        const char *mode;
        enum tls_ask ask;
        enum tls_verify verify;
    } modes[] = {
        {"allow", TLS_ASK_NEVER, TLS_VERIFY_NONE},
        {"prefer", TLS_ASK_NEVER, TLS_VERIFY_NONE},
        {"require", TLS_ASK_NEVER, TLS_VERIFY_NONE},
        {"verify-ca", TLS_ASK_ALWAYS, TLS_VERIFY_CA},
        {"verify-full", TLS_ASK_ALWAYS, TLS_VERIFY_FULL},
    };

    for (unsigned i = 0; i < COUNT_OF(modes); i++) {
        const struct tls_settings *settings;
        struct security *security;
        char more[400];

        snprintf(more, sizeof more,
                 "client_tls_sslmode = %s\nserver_tls_sslmode = %s\n" OWN CA
                 "server_tls_ca_file = @/ca.crt\n",
                 modes[i].mode, modes[i].mode);
        security = security_of(more, NULL);
        cr_assert_not_null(security, "%s", text_get(&errors));
        settings = tls_context_settings(security->client_context);
        cr_expect_eq(settings->role, TLS_SERVER);
        cr_expect_eq(settings->ask, modes[i].ask, "%s", modes[i].mode);
        cr_expect_str_eq(settings->alpn, "postgresql");
        settings = tls_context_settings(security->server_context);
        cr_expect_eq(settings->role, TLS_CLIENT);
        cr_expect_eq(settings->verify, modes[i].verify, "%s", modes[i].mode);
        security_release(security);
    }
}

Test(security, names_the_settings_that_will_not_do_on_both_sides)
{
    cr_expect_null(security_of("client_tls_sslmode = require\n" OWN
                               "client_tls13_ciphers = nonsense\n"
                               "server_tls_protocols = tlsv9\n",
                               NULL));
    cr_expect_eq(strncmp(text_get(&errors), "client_tls13_ciphers: ", 22), 0, "%s",
                 text_get(&errors));
    cr_expect_not_null(strstr(text_get(&errors), "\nserver_tls_protocols: "), "%s",
                       text_get(&errors));
}

Test(security, is_another_generation_when_servers_are_spoken_to_in_another_way)
{
    static const struct {
        const char *more;
        unsigned generation;
    } steps[] = {
        {"", 0},
        {"client_tls_sslmode = require\n" OWN, 0},
        {"server_tls_sslmode = require\n", 1},
        {"server_tls_sslmode = require\nserver_tls_protocols = tlsv1.3\n", 2},
        {"server_tls_sslmode = require\nserver_tls_protocols = tlsv1.3\n", 2},
        {"server_tls_sslmode = disable\n", 3},
        {"server_tls_sslmode = disable\n", 3},
    };
    struct security *before = NULL;

    for (unsigned i = 0; i < COUNT_OF(steps); i++) {
        struct security *security = security_of(steps[i].more, before);

        cr_assert_not_null(security, "%s", text_get(&errors));
        cr_expect_eq(security->generation, steps[i].generation, "step %u", i);
        security_release(before);
        before = security;
    }
    security_release(before);
}

Test(security, keeps_one_memory_for_each_node)
{
    struct tls_memory *one, *two;
    struct list memories;

    list_init(&memories);
    one = security_memory(&memories, 1);
    two = security_memory(&memories, 2);
    cr_assert_not_null(one);
    cr_assert_not_null(two);
    cr_expect_neq(one, two);
    cr_expect_eq(security_memory(&memories, 1), one);
    cr_expect_eq(security_memory(&memories, 2), two);
    security_forget(&memories);
    cr_expect_eq(memories.n, 0);
}

static void make_one(void *config)
{
    struct list memories;

    list_init(&memories);
    security_release(security_new(registry, config, NULL, &errors));
    text_clear(&errors);
    (void)!security_memory(&memories, 1);
    security_forget(&memories);
    (void)tls_registry_look(registry, &errors); /* forgets what nobody uses */
}

Test(security, survives_each_allocation_failure)
{
    struct config *config = config_of("client_tls_sslmode = verify-full\n" OWN CA, true);

    cr_expect_geq(fault_each_allocation(make_one, config), 4);
    config_release(config);
}
