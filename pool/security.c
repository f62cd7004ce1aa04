#include "pool/security.h"

#include <openssl/crypto.h>
#include <string.h>

#include "core/memory.h"

#define ALPN "postgresql"
#define STATS_ALPN "http/1.1"
#define MACHINE_ID_FILE "/etc/machine-id"

/* ---- settings -----------------------------------------------------------------------
 */

static struct tls_settings of_clients(const struct main_config *main)
{
    return (struct tls_settings){
        .role = TLS_SERVER,
        /* As PgBouncer: below verify-ca nobody is asked for a certificate. */
        .ask = main->client_tls_sslmode >= SSLMODE_VERIFY_CA ? TLS_ASK_ALWAYS
                                                             : TLS_ASK_NEVER,
        .cert_file = main->client_tls_cert_file,
        .key_file = main->client_tls_key_file,
        .ca_file = main->client_tls_ca_file,
        .protocols = main->client_tls_protocols,
        .ciphers = main->client_tls_ciphers,
        .tls13_ciphers = main->client_tls13_ciphers,
        .dheparams = main->client_tls_dheparams,
        .ecdhcurve = main->client_tls_ecdhcurve,
        .alpn = ALPN,
    };
}

/* As the listeners have it. */
static struct tls_settings of_stats(const struct main_config *main)
{
    struct tls_settings settings = of_clients(main);

    settings.alpn = STATS_ALPN;
    return settings;
}

static struct tls_settings of_servers(const struct main_config *main)
{
    return (struct tls_settings){
        .role = TLS_CLIENT,
        .verify = main->server_tls_sslmode == SSLMODE_VERIFY_FULL ? TLS_VERIFY_FULL
                  : main->server_tls_sslmode == SSLMODE_VERIFY_CA ? TLS_VERIFY_CA
                                                                  : TLS_VERIFY_NONE,
        .cert_file = main->server_tls_cert_file,
        .key_file = main->server_tls_key_file,
        .ca_file = main->server_tls_ca_file,
        .protocols = main->server_tls_protocols,
        .ciphers = main->server_tls_ciphers,
        .tls13_ciphers = main->server_tls13_ciphers,
        .alpn = ALPN,
    };
}

/* Which setting the begin of a complaint speaks of. */
static const char *setting_of(const char *why)
{
    static const struct {
        const char *begin;
        const char *name; /* behind client_tls or server_tls */
    } settings[] = {
        {"certificate file", "_cert_file"}, {"a certificate file", "_cert_file"},
        {"key file", "_key_file"},          {"CA file", "_ca_file"},
        {"protocols", "_protocols"},        {"ciphers", "_ciphers"},
        {"TLS 1.3 ciphers", "13_ciphers"},  {"DHE parameters", "_dheparams"},
        {"ECDH curve", "_ecdhcurve"},
    };

    for (size_t i = 0; i < COUNT_OF(settings); i++)
        if (strncmp(why, settings[i].begin, strlen(settings[i].begin)) == 0)
            return settings[i].name;
    return "_sslmode";
}

/* `side` is "client" or "server". */
static struct tls_context *hold_context(struct tls_registry *registry,
                                        const struct tls_settings *settings,
                                        const char *side, struct text *errors)
{
    struct tls_context *context;
    struct text why;

    text_init(&why, 1024);
    context = tls_registry_hold(registry, settings, &why);
    if (context == NULL)
        text_addf(errors, "%s_tls%s: %s\n", side, setting_of(text_get(&why)),
                  text_get(&why));
    text_clear(&why);
    return context;
}

/* Where bytes pass untouched, TLS is not ours. */
static bool has_pools(const struct config *config)
{
    for (size_t i = 0; i < config->n_listeners; i++)
        if (config->listeners[i].mode == MODE_POOL)
            return true;
    return false;
}

/* ---- snapshots ----------------------------------------------------------------------
 */

static bool is_same_to_servers(const struct security *a, const struct security *b)
{
    return a->to_servers == b->to_servers &&
           (a->server_context == NULL ||
            tls_settings_equal(tls_context_settings(a->server_context),
                               tls_context_settings(b->server_context)));
}

/* One of chance stays as long as the process. */
static bool make_mock_key(struct security *security, const struct config *config,
                          const struct security *before)
{
    security->mock_source =
        mock_key_make(config->main.scram_mock_secret, MACHINE_ID_FILE,
                      config->main.client_tls_key_file, security->mock_key);
    if (security->mock_source == MOCK_KEY_OF_CHANCE && before != NULL &&
        before->mock_source == MOCK_KEY_OF_CHANCE)
        memcpy(security->mock_key, before->mock_key, sizeof security->mock_key);
    return security->mock_source != MOCK_KEY_OF_NOTHING;
}

static bool fill(struct security *security, struct tls_registry *registry,
                 const struct config *config, struct text *errors)
{
    struct tls_settings clients = of_clients(&config->main);
    struct tls_settings servers = of_servers(&config->main);
    struct tls_settings stats = of_stats(&config->main);

    if (config->stats.tls) {
        security->stats_context = hold_context(registry, &stats, "client", errors);
        if (security->stats_context == NULL)
            return false;
    }
    if (!has_pools(config))
        return true;
    security->to_clients = config->main.client_tls_sslmode;
    security->to_servers = config->main.server_tls_sslmode;
    if (security->to_clients != SSLMODE_DISABLE)
        security->client_context = hold_context(registry, &clients, "client", errors);
    if (security->to_servers != SSLMODE_DISABLE)
        security->server_context = hold_context(registry, &servers, "server", errors);
    return (security->to_clients == SSLMODE_DISABLE) ==
               (security->client_context == NULL) &&
           (security->to_servers == SSLMODE_DISABLE) ==
               (security->server_context == NULL);
}

struct security *security_new(struct tls_registry *registry, const struct config *config,
                              const struct security *before, struct text *errors)
{
    struct security *security = memory_zeroed(sizeof *security);

    if (security == NULL) {
        text_add(errors, "out of memory\n");
        return NULL;
    }
    security->references = 1;
    if (!make_mock_key(security, config, before)) {
        text_add(errors, "out of memory\n");
        security_release(security);
        return NULL;
    }
    if (!fill(security, registry, config, errors)) {
        security_release(security);
        return NULL;
    }
    if (before != NULL)
        security->generation = before->generation + !is_same_to_servers(before, security);
    return security;
}

struct security *security_hold(struct security *security)
{
    if (security != NULL)
        atomic_fetch_add_explicit(&security->references, 1, memory_order_relaxed);
    return security;
}

void security_release(struct security *security)
{
    if (security == NULL ||
        atomic_fetch_sub_explicit(&security->references, 1, memory_order_acq_rel) > 1)
        return;
    tls_context_release(security->client_context);
    tls_context_release(security->server_context);
    tls_context_release(security->stats_context);
    OPENSSL_cleanse(security->mock_key, sizeof security->mock_key);
    memory_free(security);
}

/* ---- what is kept of handshakes -----------------------------------------------------
 */

struct node_memory {
    struct link in_list;
    struct tls_memory memory;
    uint32_t node_id;
};

struct tls_memory *security_memory(struct list *memories, uint32_t node_id)
{
    struct node_memory *found;

    LIST_EACH(item, memories)
    {
        found = CONTAINER_OF(item, struct node_memory, in_list);
        if (found->node_id == node_id)
            return &found->memory;
    }
    found = memory_zeroed(sizeof *found);
    if (found == NULL)
        return NULL;
    found->node_id = node_id;
    list_append(memories, &found->in_list);
    return &found->memory;
}

void security_forget(struct list *memories)
{
    LIST_EACH_SAFE(item, memories)
    {
        struct node_memory *kept = CONTAINER_OF(item, struct node_memory, in_list);

        list_remove(memories, item);
        tls_memory_clear(&kept->memory);
        memory_free(kept);
    }
}
