#include "health/trust.h"

bool trust_needs_etcd(const struct cluster_config *cluster)
{
    for (size_t i = 0; i < cluster->etcd.n; i++)
        if (cluster->etcd.items[i].scheme == STORE_SCHEME_HTTPS ||
            (cluster->etcd.items[i].scheme == STORE_SCHEME_NONE &&
             cluster->etcd_ca_file[0] != '\0'))
            return true;
    return false;
}

struct tls_context *trust_hold_etcd(struct tls_registry *registry,
                                    const struct cluster_config *cluster,
                                    struct text *why)
{
    const struct tls_settings settings = {.role = TLS_CLIENT,
                                          .verify = TLS_VERIFY_FULL,
                                          .cert_file = cluster->etcd_cert_file,
                                          .key_file = cluster->etcd_key_file,
                                          .ca_file = cluster->etcd_ca_file};

    return tls_registry_hold(registry, &settings, why);
}

bool trust_needs_restapi(const struct cluster_config *cluster)
{
    return cluster->restapi_tls != RESTAPI_TLS_OFF;
}

static enum tls_verify verify_of(enum restapi_tls tls)
{
    switch (tls) {
    case RESTAPI_TLS_OFF:
    case RESTAPI_TLS_REQUIRE:
        return TLS_VERIFY_NONE;
    case RESTAPI_TLS_VERIFY_CA:
        return TLS_VERIFY_CA;
    case RESTAPI_TLS_VERIFY_FULL:
        return TLS_VERIFY_FULL;
    }
    UNREACHABLE();
}

struct tls_context *trust_hold_restapi(struct tls_registry *registry,
                                       const struct cluster_config *cluster,
                                       struct text *why)
{
    const struct tls_settings settings = {.role = TLS_CLIENT,
                                          .verify = verify_of(cluster->restapi_tls),
                                          .cert_file = cluster->restapi_cert_file,
                                          .key_file = cluster->restapi_key_file,
                                          .ca_file = cluster->restapi_ca_file};

    return tls_registry_hold(registry, &settings, why);
}

/* Takes the context. */
static bool report(struct tls_context *context, const struct cluster_config *cluster,
                   const char *of, struct text *why, struct text *errors)
{
    bool is_fine = context != NULL;

    if (!is_fine)
        text_addf(errors, "[cluster %s] %s: %s\n", cluster->name, of, text_get(why));
    tls_context_release(context);
    text_clear(why);
    return is_fine;
}

bool trust_check_etcd(struct tls_registry *registry, const struct cluster_config *cluster,
                      struct text *errors)
{
    struct text why;

    if (!trust_needs_etcd(cluster))
        return true;
    text_init(&why, 1024);
    return report(trust_hold_etcd(registry, cluster, &why), cluster, "etcd", &why,
                  errors);
}

bool trust_check_restapi(struct tls_registry *registry,
                         const struct cluster_config *cluster, struct text *errors)
{
    struct text why;

    if (!trust_needs_restapi(cluster))
        return true;
    text_init(&why, 1024);
    return report(trust_hold_restapi(registry, cluster, &why), cluster, "restapi_tls",
                  &why, errors);
}
