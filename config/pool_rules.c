/* config/pool_rules.c - what must hold between the settings of pools: databases and where
 * they are, listeners with mode = pool, passwords and TLS.
 */
#include <stdio.h>

#include "config/loading.h"

/* ---- databases ---- */

static void check_database(struct loading *loading, const struct section *section)
{
    struct database_config *database = loading_fields(loading, section);

    if (section->cluster == LOADING_NONE)
        return;
    database->to = &loading->config->clusters[section->cluster];
    if (!database->to->is_implicit)
        rules_check_role(loading, section, SETTING_DATABASE_role, database->role,
                         database->to);
}

/* May lines be missing that the user believes in? */
static bool has_missed_lines(const struct loading *loading)
{
    return loading->has_bad_header || (loading->has_databases && loading->has_errors);
}

static bool has_pool_listener(const struct loading *loading)
{
    for (size_t i = 0; i < loading->config->n_listeners; i++)
        if (loading->config->listeners[i].mode == MODE_POOL)
            return true;
    return false;
}

static void check_way_in(struct loading *loading)
{
    const struct section *main = loading->sections.items[LOADING_MAIN];
    size_t n_databases = loading->config->n_databases;

    if (n_databases == 0 && loading_is_given(main, SETTING_MAIN_listen_addr) &&
        loading->config->main.listen_addr.n > 0 && !has_missed_lines(loading))
        loading_error(loading, loading_place(main, SETTING_MAIN_listen_addr),
                      "listen_addr is for [databases], and there are none; expected a "
                      "line in [databases], or bind in a [listener NAME]");
    for (size_t i = 0; n_databases > 0 && i < loading->entries.n; i++) {
        const struct section *section = loading->entries.items[i];

        if (section->kind != SECTION_DATABASE || has_pool_listener(loading) ||
            loading->has_errors)
            continue;
        loading_error(
            loading, section->place,
            "nobody can reach [databases]; expected a [listener NAME] with mode "
            "= pool, or listen_addr = * in [pgrouter]");
        return;
    }
}

/* ---- who clients are ---- */

static const char *const auth_words[] = {
    [AUTH_TYPE_TRUST] = "trust",
    [AUTH_TYPE_ANY] = "any",
    [AUTH_TYPE_PLAIN] = "plain",
    [AUTH_TYPE_MD5] = "md5",
    [AUTH_TYPE_SCRAM_SHA_256] = "scram-sha-256",
    [AUTH_TYPE_CERT] = "cert",
    [AUTH_TYPE_HBA] = "hba",
    [AUTH_TYPE_PAM] = "pam",
    [AUTH_TYPE_LDAP] = "ldap",
};

static void check_auth_type(struct loading *loading, struct place place,
                            enum auth_type type)
{
    const struct main_config *main = &loading->config->main;
    const struct section *section = loading->sections.items[LOADING_MAIN];

    switch (type) {
    case AUTH_TYPE_HBA:
    case AUTH_TYPE_PAM:
    case AUTH_TYPE_LDAP:
        loading_error(loading, place,
                      "auth_type = %s is not done by this version; expected trust, any, "
                      "plain, md5, scram-sha-256 or cert",
                      auth_words[type]);
        break;
    case AUTH_TYPE_PLAIN:
    case AUTH_TYPE_MD5:
    case AUTH_TYPE_SCRAM_SHA_256:
        if (*main->auth_file == '\0' && loading->config->secrets.n == 0)
            loading_error(loading, place,
                          "auth_type = %s needs passwords; expected auth_file = FILE in "
                          "[pgrouter]",
                          auth_words[type]);
        break;
    case AUTH_TYPE_CERT:
        if (main->client_tls_sslmode < SSLMODE_VERIFY_CA &&
            !loading_is_bad(section, SETTING_MAIN_client_tls_sslmode))
            loading_error(loading, place,
                          "auth_type = cert needs certificates of clients; expected "
                          "client_tls_sslmode = verify-full in [pgrouter]");
        break;
    case AUTH_TYPE_TRUST:
    case AUTH_TYPE_ANY:
    case AUTH_TYPE_DEFAULT:
        break;
    }
}

/* The one of [pgrouter], when a listener goes by it. */
static void check_main_auth_type(struct loading *loading)
{
    const struct section *main = loading->sections.items[LOADING_MAIN];

    if (loading_is_bad(main, SETTING_MAIN_auth_type))
        return;
    for (size_t i = 0; i < loading->sections.n; i++) {
        const struct section *section = loading->sections.items[i];
        const struct listener_config *listener;

        if (section->kind != SECTION_LISTENER)
            continue;
        listener = loading_fields(loading, section);
        if (listener->mode != MODE_POOL || listener->auth_type != AUTH_TYPE_DEFAULT ||
            loading_is_bad(section, SETTING_LISTENER_auth_type))
            continue;
        check_auth_type(loading,
                        loading_is_given(main, SETTING_MAIN_auth_type)
                            ? loading_place(main, SETTING_MAIN_auth_type)
                            : section->place,
                        loading->config->main.auth_type);
        return;
    }
}

static void check_tls(struct loading *loading)
{
    const struct main_config *main = &loading->config->main;
    const struct section *section = loading->sections.items[LOADING_MAIN];
    struct place place = loading_place(section, SETTING_MAIN_client_tls_sslmode);

    if (*main->auth_ident_map != '\0' && *main->auth_ident_file == '\0')
        loading_error(loading, loading_place(section, SETTING_MAIN_auth_ident_map),
                      "auth_ident_map names a map of a file; expected auth_ident_file = "
                      "FILE");
    if (main->client_tls_sslmode == SSLMODE_DISABLE)
        return;
    if (*main->client_tls_key_file == '\0' || *main->client_tls_cert_file == '\0')
        loading_error(loading, place,
                      "client_tls_sslmode needs a certificate to show; expected "
                      "client_tls_key_file = FILE and client_tls_cert_file = FILE");
    if (main->client_tls_sslmode >= SSLMODE_VERIFY_CA &&
        *main->client_tls_ca_file == '\0')
        loading_error(loading, place,
                      "client_tls_sslmode = verify-ca or verify-full needs somebody to "
                      "vouch for clients; expected client_tls_ca_file = FILE");
}

/* What a cluster does not say for itself is what [pgrouter] says. As libpq: who begins
 * with TLS must not mean to go on without. */
static void settle_negotiation(struct loading *loading)
{
    struct config *config = loading->config;
    const struct section *main = loading->sections.items[LOADING_MAIN];
    bool is_weak = config->main.server_tls_sslmode < SSLMODE_REQUIRE;
    bool is_direct = config->main.server_tls_sslnegotiation == SSLNEGOTIATION_DIRECT;

    for (size_t i = 0; i < config->n_clusters; i++) {
        if (config->clusters[i].sslnegotiation == SSLNEGOTIATION_DEFAULT)
            config->clusters[i].sslnegotiation = config->main.server_tls_sslnegotiation;
        else
            is_direct =
                is_direct || config->clusters[i].sslnegotiation == SSLNEGOTIATION_DIRECT;
    }
    if (is_direct && is_weak && !loading_is_bad(main, SETTING_MAIN_server_tls_sslmode))
        loading_error(loading, loading_place(main, SETTING_MAIN_server_tls_sslmode),
                      "sslnegotiation = direct leaves servers no choice; expected "
                      "server_tls_sslmode = require, verify-ca or verify-full in "
                      "[pgrouter]");
}

/* ---- listeners ---- */

static void refuse(struct loading *loading, const struct section *section,
                   enum setting_id id, const char *mode)
{
    if (loading_is_given(section, id))
        loading_error(loading, loading_place(section, id),
                      "%s goes with mode = %s only; expected it in another listener",
                      settings[id].name, mode);
}

void pool_rules_check_listener(struct loading *loading, const struct section *section)
{
    static const enum setting_id of_tcp[] = {
        SETTING_LISTENER_cluster,        SETTING_LISTENER_check_uri,
        SETTING_LISTENER_balance,        SETTING_LISTENER_connect_timeout,
        SETTING_LISTENER_client_timeout, SETTING_LISTENER_server_timeout,
        SETTING_LISTENER_on_role_change};
    static const enum setting_id of_pool[] = {SETTING_LISTENER_pool_mode,
                                              SETTING_LISTENER_auth_type};
    const struct listener_config *listener = loading_fields(loading, section);
    char title[LOADING_TITLE_MAX];

    if (listener->mode == MODE_TCP) {
        for (size_t i = 0; i < COUNT_OF(of_pool); i++)
            refuse(loading, section, of_pool[i], "pool");
        return;
    }
    for (size_t i = 0; i < COUNT_OF(of_tcp); i++)
        refuse(loading, section, of_tcp[i], "tcp");
    if (!loading_is_bad(section, SETTING_LISTENER_auth_type))
        check_auth_type(loading, loading_place(section, SETTING_LISTENER_auth_type),
                        listener->auth_type);
    if (loading->config->n_databases == 0 && !has_missed_lines(loading))
        loading_error(loading, loading_place(section, SETTING_LISTENER_mode),
                      "%s: mode = pool without a database; expected a line in "
                      "[databases]",
                      loading_title(loading, section, title));
}

void pool_rules_check(struct loading *loading)
{
    for (size_t i = 0; i < loading->entries.n; i++)
        if (loading->entries.items[i]->kind == SECTION_DATABASE)
            check_database(loading, loading->entries.items[i]);
    check_way_in(loading);
    check_main_auth_type(loading);
    check_tls(loading);
    settle_negotiation(loading);
}
