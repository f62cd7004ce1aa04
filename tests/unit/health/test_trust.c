#include "health/trust.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "core/memory.h"

static struct tls_registry *registry;
static struct config *config;
static struct text why;

static const struct cluster_config *load(const char *settings)
{
    char ini[1000];

    snprintf(ini, sizeof ini,
             "[cluster main]\nnodes = pg1:5432:8008\n%s\n"
             "[listener rw]\nbind = 127.0.0.1:15999\n",
             settings);
    config_release(config);
    text_clear(&why);
    config = config_load_text("t.ini", ini, &why);
    cr_assert_not_null(config, "%s", text_get(&why));
    return &config->clusters[0];
}

static void open_all(void)
{
    text_init(&why, 1000);
    registry = tls_registry_new();
    cr_assert_not_null(registry);
}

static void close_all(void)
{
    text_clear(&why);
    config_release(config);
    tls_registry_free(registry);
}

TestSuite(trust, .init = open_all, .fini = close_all, .timeout = 20);

Test(trust, needs_tls_where_https_is_asked_for)
{
    static const struct {
        const char *settings;
        bool etcd, restapi;
    } examples[] = {
        {"", false, false},
        {"etcd = http://e:1\nscope = s\netcd_ca_file = c", false, false},
        {"etcd = http://e:1, https://f:1\nscope = s", true, false},
        {"etcd = e:1\nscope = s", false, false},
        {"etcd = e:1\nscope = s\netcd_ca_file = c", true, false},
        {"restapi_tls = require", false, true},
        {"restapi_tls = verify-full", false, true},
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        const struct cluster_config *cluster = load(examples[i].settings);

        cr_expect_eq(trust_needs_etcd(cluster), examples[i].etcd, "%zu", i);
        cr_expect_eq(trust_needs_restapi(cluster), examples[i].restapi, "%zu", i);
    }
}

Test(trust, is_as_strict_as_it_is_told)
{
    static const struct {
        const char *settings;
        enum tls_verify verify;
    } examples[] = {
        {"restapi_tls = require", TLS_VERIFY_NONE},
        {"restapi_tls = verify-ca", TLS_VERIFY_CA},
        {"restapi_tls = verify-full", TLS_VERIFY_FULL},
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        struct tls_context *context =
            trust_hold_restapi(registry, load(examples[i].settings), &why);

        cr_assert_not_null(context, "%s", text_get(&why));
        cr_expect_eq(tls_context_settings(context)->verify, examples[i].verify);
        cr_expect_eq(tls_context_settings(context)->role, TLS_CLIENT);
        tls_context_release(context);
    }
}

/* What the system trusts takes long to read. */
Test(trust, is_read_once_for_the_same_settings)
{
    static const char settings[] = "etcd = https://e:1\nscope = s\n"
                                   "restapi_tls = verify-full";
    struct tls_context *etcd = trust_hold_etcd(registry, load(settings), &why), *other;

    cr_assert_not_null(etcd, "%s", text_get(&why));
    other = trust_hold_etcd(registry, load(settings), &why);
    cr_expect_eq(other, etcd, "of another configuration");
    tls_context_release(other);
    other = trust_hold_restapi(registry, load(settings), &why);
    cr_expect_eq(other, etcd, "for somebody else");
    tls_context_release(other);
    tls_context_release(etcd);
}

Test(trust, bad_files_are_named)
{
    const struct cluster_config *cluster =
        load("etcd = e:1\nscope = s\netcd_ca_file = /nowhere/e.crt\n"
             "restapi_tls = verify-ca\nrestapi_ca_file = /nowhere/p.crt");

    cr_expect_null(trust_hold_restapi(registry, cluster, &why));
    text_clear(&why);
    cr_expect_not(trust_check_etcd(registry, cluster, &why));
    cr_expect_not(trust_check_restapi(registry, cluster, &why));
    cr_expect_str_eq(text_get(&why),
                     "[cluster main] etcd: CA file \"/nowhere/e.crt\": No such file or "
                     "directory\n[cluster main] restapi_tls: CA file "
                     "\"/nowhere/p.crt\": No such file or directory\n");
    cr_expect(trust_check_restapi(registry, load(""), &why));
    cr_expect(trust_check_etcd(registry, load(""), &why));
}

Test(trust, survives_every_failed_allocation)
{
    const struct cluster_config *cluster = load("restapi_tls = require");
    struct tls_context *context = NULL;

    for (unsigned n = 1; context == NULL; n++) {
        memory_fail_at = n;
        context = trust_hold_restapi(registry, cluster, &why);
        memory_fail_at = 0;
        cr_assert_lt(n, 1000);
    }
    tls_context_release(context);
}
