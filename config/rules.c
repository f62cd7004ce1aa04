/* config/rules.c - what must hold between settings, once all of them are read.
 *
 * A rule that rests on a value which was reported as bad says nothing: one mistake, one
 * line.
 */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "config/lists.h"
#include "config/loading.h"
#include "config/unit.h"
#include "wire/secret.h"

/* Characters of scram_mock_secret. */
#define MOCK_SECRET_LEAST 16

/* ---- helpers ---- */

static const struct node_config *find_node(const struct node_list *nodes,
                                           const char *name)
{
    for (size_t i = 0; i < nodes->n; i++)
        if (strcmp(nodes->items[i].name, name) == 0)
            return &nodes->items[i];
    return NULL;
}

static const struct node_config *find_node_without_patroni(const struct node_list *nodes)
{
    for (size_t i = 0; i < nodes->n; i++)
        if (nodes->items[i].check_port == 0)
            return &nodes->items[i];
    return NULL;
}

/* A path as it may stand in an HTTP request. */
static bool is_uri(const char *text)
{
    if (*text != '/')
        return false;
    for (; *text != '\0'; text++)
        if (*text <= ' ' || *text > '~')
            return false;
    return true;
}

/* ---- each section ---- */

static void check_required(struct loading *loading, const struct section *section)
{
    for (size_t s = 0; s < section->range.n; s++) {
        const struct setting *setting = &settings[section->range.first + s];
        char title[LOADING_TITLE_MAX];
        struct text expected;

        if (setting->initial != NULL || section->given[s].place.source != NULL)
            continue;
        if (setting == &settings[SETTING_CLUSTER_nodes] &&
            loading_is_given(section, SETTING_CLUSTER_etcd))
            continue; /* they are found there */
        text_init(&expected, LOADING_LISTING_MAX);
        value_add_expected(&setting->rule, &expected);
        loading_error(loading, section->place, "%s: '%s' is missing; expected %s = %s",
                      loading_title(loading, section, title), setting->name,
                      setting->name, text_get(&expected));
        text_clear(&expected);
    }
}

static void check_main(struct loading *loading, const struct section *section)
{
    const struct main_config *main = &loading->config->main;
    size_t n_secret = strlen(main->scram_mock_secret);
    char least[UNIT_TEXT_MAX];

    if (n_secret > 0 && n_secret < MOCK_SECRET_LEAST)
        loading_error(loading, loading_place(section, SETTING_MAIN_scram_mock_secret),
                      "scram_mock_secret can be guessed; expected %d random characters "
                      "or more",
                      MOCK_SECRET_LEAST);
    if (main->dns_min_ttl > main->dns_max_ttl &&
        !loading_is_bad(section, SETTING_MAIN_dns_min_ttl) &&
        !loading_is_bad(section, SETTING_MAIN_dns_max_ttl))
        loading_error(loading, loading_place(section, SETTING_MAIN_dns_max_ttl),
                      "dns_max_ttl is below dns_min_ttl; expected %s or more",
                      unit_print_duration(main->dns_min_ttl, least));
}

static void check_nodes_have_patroni(struct loading *loading, struct place place,
                                     const char *who,
                                     const struct cluster_config *cluster)
{
    const struct node_config *node = find_node_without_patroni(&cluster->nodes);

    if (node != NULL)
        loading_error(loading, place,
                      "%s needs Patroni's port of every node, node '%s' has none; "
                      "expected %s=%s:%u:patroniport in [cluster %s]",
                      who, node->name, node->name, node->host, node->port, cluster->name);
}

static void check_drain(struct loading *loading, const struct section *section,
                        const struct cluster_config *cluster)
{
    for (size_t i = 0; i < cluster->drain.n; i++) {
        struct text names;

        if (find_node(&cluster->nodes, cluster->drain.items[i]) != NULL)
            continue;
        text_init(&names, LOADING_LISTING_MAX);
        for (size_t n = 0; n < cluster->nodes.n; n++)
            loading_offer(&names, n, ", ", cluster->nodes.items[n].name);
        loading_error(loading, loading_place(section, SETTING_CLUSTER_drain),
                      "drain: there is no node '%.80s'; expected some of %s",
                      cluster->drain.items[i], text_get(&names));
        text_clear(&names);
    }
}

static bool has_alias(const struct cluster_config *cluster, const char *alias)
{
    for (size_t i = 0; i < cluster->aliases.n; i++)
        if (lists_is_same_host(cluster->aliases.items[i], alias))
            return true;
    return false;
}

/* Each against those of the clusters in front of this one. */
static void check_aliases(struct loading *loading, const struct section *section,
                          const struct cluster_config *cluster)
{
    for (size_t i = 0; i < cluster->aliases.n; i++)
        for (size_t c = 0; c < section->index; c++)
            if (has_alias(&loading->config->clusters[c], cluster->aliases.items[i]))
                loading_error(loading, loading_place(section, SETTING_CLUSTER_aliases),
                              "aliases: '%.80s' is one of [cluster %s]; expected it "
                              "in one cluster",
                              cluster->aliases.items[i],
                              loading->config->clusters[c].name);
}

static void check_etcd(struct loading *loading, const struct section *section,
                       const struct cluster_config *cluster)
{
    bool has_cert = *cluster->etcd_cert_file != '\0';

    if (cluster->etcd.n > 0 && *cluster->scope == '\0' &&
        !loading_is_bad(section, SETTING_CLUSTER_scope))
        loading_error(loading, loading_place(section, SETTING_CLUSTER_etcd),
                      "etcd needs the name that Patroni has for the cluster; expected "
                      "scope = name in [cluster %s]",
                      cluster->name);
    if (cluster->etcd.n > 0 && *cluster->etcd_user == '\0' &&
        *cluster->etcd_password != '\0')
        loading_error(loading, loading_place(section, SETTING_CLUSTER_etcd_password),
                      "etcd_password without a user; expected etcd_user = name in "
                      "[cluster %s]",
                      cluster->name);
    if (has_cert != (*cluster->etcd_key_file != '\0'))
        loading_error(loading,
                      loading_place(section, has_cert ? SETTING_CLUSTER_etcd_cert_file
                                                      : SETTING_CLUSTER_etcd_key_file),
                      "a certificate and its key belong together; expected "
                      "etcd_cert_file and etcd_key_file in [cluster %s]",
                      cluster->name);
    if (cluster->etcd.n == 0 && cluster->nodes.n == 0 &&
        loading_is_given(section, SETTING_CLUSTER_etcd) &&
        !loading_is_bad(section, SETTING_CLUSTER_etcd) &&
        !loading_is_given(section, SETTING_CLUSTER_nodes))
        loading_error(loading, loading_place(section, SETTING_CLUSTER_etcd),
                      "[cluster %s] has neither nodes nor etcd, where they are found; "
                      "expected one of them",
                      cluster->name);
}

static void check_restapi(struct loading *loading, const struct section *section,
                          const struct cluster_config *cluster)
{
    bool has_cert = *cluster->restapi_cert_file != '\0';

    if (has_cert != (*cluster->restapi_key_file != '\0'))
        loading_error(loading,
                      loading_place(section, has_cert ? SETTING_CLUSTER_restapi_cert_file
                                                      : SETTING_CLUSTER_restapi_key_file),
                      "a certificate and its key belong together; expected "
                      "restapi_cert_file and restapi_key_file in [cluster %s]",
                      cluster->name);
    if (cluster->restapi_tls == RESTAPI_TLS_OFF &&
        (has_cert || *cluster->restapi_ca_file != '\0') &&
        !loading_is_bad(section, SETTING_CLUSTER_restapi_tls))
        loading_error(loading,
                      loading_place(section, has_cert ? SETTING_CLUSTER_restapi_cert_file
                                                      : SETTING_CLUSTER_restapi_ca_file),
                      "certificates for Patroni's REST API, which is asked by http; "
                      "expected restapi_tls = verify-full in [cluster %s]",
                      cluster->name);
}

static void check_cluster(struct loading *loading, const struct section *section)
{
    const struct cluster_config *cluster = loading_fields(loading, section);

    check_aliases(loading, section, cluster);
    check_etcd(loading, section, cluster);
    check_restapi(loading, section, cluster);
    if (cluster->nodes.n > 0)
        check_drain(loading, section, cluster);
    if (loading_is_bad(section, SETTING_CLUSTER_check))
        return;
    if (cluster->check == CHECK_PATRONI)
        check_nodes_have_patroni(loading, loading_place(section, SETTING_CLUSTER_nodes),
                                 "check = patroni", cluster);
    if (cluster->check == CHECK_POSTGRES && *cluster->check_user == '\0')
        loading_error(loading, loading_place(section, SETTING_CLUSTER_check),
                      "check = postgres needs a user to log in; expected check_user = "
                      "name in [cluster %s]",
                      cluster->name);
}

/* ---- listeners and their clusters ---- */

static const struct section *section_of_cluster(const struct loading *loading,
                                                const struct cluster_config *cluster)
{
    for (size_t i = 0; i < loading->sections.n; i++)
        if (loading->sections.items[i]->kind == SECTION_CLUSTER &&
            loading_fields(loading, loading->sections.items[i]) == cluster)
            return loading->sections.items[i];
    UNREACHABLE();
}

void rules_report_no_cluster(struct loading *loading, const struct section *section,
                             enum setting_id id, const char *wanted)
{
    const struct config *config = loading->config;
    char title[LOADING_TITLE_MAX];
    struct text names;

    if (loading->has_bad_header)
        return; /* it may be the one that was meant */
    loading_title(loading, section, title);
    text_init(&names, LOADING_LISTING_MAX);
    for (size_t i = 0; i < loading->n_own_clusters; i++)
        loading_offer(&names, i, " or ", config->clusters[i].name);

    if (loading->n_own_clusters == 0)
        loading_error(loading, loading_place(section, id),
                      "%s: there is no cluster to lead to; expected a section "
                      "[cluster NAME]",
                      title);
    else if (*wanted == '\0')
        loading_error(loading, section->place,
                      "%s: 'cluster' is left out though there are several; expected "
                      "cluster = %s",
                      title, text_get(&names));
    else
        loading_error(loading, loading_place(section, id),
                      "%s: there is no [cluster %.80s]; expected cluster = %s", title,
                      wanted, text_get(&names));
    text_clear(&names);
}

static const struct cluster_config *find_cluster(struct loading *loading,
                                                 const struct section *section)
{
    const struct config *config = loading->config;
    const struct listener_config *listener = loading_fields(loading, section);
    bool is_named = *listener->cluster != '\0';

    if (!is_named && loading->n_own_clusters == 1)
        return &config->clusters[0];
    for (size_t i = 0; is_named && i < loading->n_own_clusters; i++)
        if (strcmp(config->clusters[i].name, listener->cluster) == 0)
            return &config->clusters[i];
    rules_report_no_cluster(loading, section, SETTING_LISTENER_cluster,
                            listener->cluster);
    return NULL;
}

static void check_uri(struct loading *loading, const struct section *section,
                      const struct listener_config *listener)
{
    if (*listener->check_uri == '\0')
        return;
    if (!is_uri(listener->check_uri))
        loading_error(loading, loading_place(section, SETTING_LISTENER_check_uri),
                      "check_uri = '%.80s'; expected a path that begins with / and has "
                      "no blanks",
                      listener->check_uri);
    if (loading_is_given(section, SETTING_LISTENER_role))
        loading_error(loading, loading_place(section, SETTING_LISTENER_role),
                      "role and check_uri in one listener; expected one of the two");
}

void rules_check_role(struct loading *loading, const struct section *section,
                      enum setting_id id, enum listener_role role,
                      const struct cluster_config *cluster)
{
    const struct section *other = section_of_cluster(loading, cluster);

    if (cluster->check == CHECK_TCP && cluster->nodes.n > 1 && role != ROLE_ANY &&
        !loading_is_bad(section, id) && !loading_is_bad(other, SETTING_CLUSTER_check))
        loading_error(loading, loading_place(section, id),
                      "check = tcp cannot tell a primary from a replica; expected "
                      "role = any here, or another check in [cluster %s]",
                      cluster->name);
}

/* Whom to believe is never guessed. */
static void check_proxies(struct loading *loading, const struct section *section,
                          const struct listener_config *listener)
{
    if (loading_is_bad(section, SETTING_LISTENER_proxy_protocol) ||
        loading_is_bad(section, SETTING_LISTENER_proxy_protocol_from))
        return;
    if (listener->proxy_protocol && listener->proxy_protocol_from.n == 0)
        loading_error(loading, loading_place(section, SETTING_LISTENER_proxy_protocol),
                      "proxy_protocol = on lets proxies say whose connection it is; "
                      "expected their addresses in proxy_protocol_from");
    if (!listener->proxy_protocol && listener->proxy_protocol_from.n > 0)
        loading_error(loading,
                      loading_place(section, SETTING_LISTENER_proxy_protocol_from),
                      "proxy_protocol_from has no meaning without PROXY headers; "
                      "expected proxy_protocol = on beside it");
}

static void check_listener(struct loading *loading, const struct section *section)
{
    struct listener_config *listener = loading_fields(loading, section);

    check_proxies(loading, section, listener);
    if (loading_is_bad(section, SETTING_LISTENER_mode))
        return;
    pool_rules_check_listener(loading, section);
    if (listener->mode == MODE_POOL)
        return;
    if (listener->role == ROLE_DEFAULT)
        listener->role = ROLE_PRIMARY;
    listener->to = find_cluster(loading, section);
    check_uri(loading, section, listener);
    if (listener->to == NULL)
        return;
    if (*listener->check_uri == '\0')
        rules_check_role(loading, section, SETTING_LISTENER_role, listener->role,
                         listener->to);
    else
        check_nodes_have_patroni(loading,
                                 loading_place(section, SETTING_LISTENER_check_uri),
                                 "check_uri", listener->to);
}

static void check_name_and_secret(struct loading *loading, const struct section *section,
                                  enum setting_id id, const char *name, const char *value)
{
    const char *colon = strchr(value, ':');
    struct secret secret;
    enum secret_fault fault;

    if (*value == '\0')
        return;
    if (colon == NULL || colon == value) {
        loading_error(loading, loading_place(section, id), "%s: expected name:password",
                      name);
        return;
    }
    fault = secret_parse(colon + 1, strlen(colon + 1), &secret);
    if (fault != SECRET_FINE)
        loading_error(loading, loading_place(section, id), "%s: the secret is %s", name,
                      secret_fault_text(fault));
    secret_clear(&secret);
}

static void check_stats(struct loading *loading, const struct section *section)
{
    const struct stats_config *stats = &loading->config->stats;

    if (!is_uri(stats->uri))
        loading_error(loading, loading_place(section, SETTING_STATS_uri),
                      "uri = '%.80s'; expected a path that begins with / and has no "
                      "blanks",
                      stats->uri);
    check_name_and_secret(loading, section, SETTING_STATS_auth, "auth", stats->auth);
    check_name_and_secret(loading, section, SETTING_STATS_admin, "admin", stats->admin);
}

/* ---- addresses ---- */

static const struct endpoint_list *endpoints_of(const struct loading *loading,
                                                const struct section *section)
{
    static const struct endpoint_list none;
    const struct listener_config *listener;

    switch (section->kind) {
    case SECTION_LISTENER:
        listener = loading_fields(loading, section);
        return &listener->bind;
    case SECTION_STATS:
        return &loading->config->stats.bind;
    case SECTION_MAIN:
    case SECTION_CLUSTER:
    case SECTION_DATABASE:
    case SECTION_USER:
    case SECTION_PEER:
    case SECTION_KIND_COUNT:
        return &none;
    }
    UNREACHABLE();
}

static bool is_any_address(const struct address *address)
{
    struct address any = *address;

    if (address->sa.sa_family == AF_INET)
        return address->in.sin_addr.s_addr == htonl(INADDR_ANY);
    any.in6.sin6_addr = in6addr_any;
    return address_same_host(address, &any);
}

static bool hosts_clash(const char *a, const char *b)
{
    struct address number_a, number_b;

    if (strcmp(a, "*") == 0 || strcmp(b, "*") == 0 || strcasecmp(a, b) == 0)
        return true;
    if (!address_parse(a, 0, &number_a) || !address_parse(b, 0, &number_b))
        return false;
    return address_same_host(&number_a, &number_b) ||
           (number_a.sa.sa_family == number_b.sa.sa_family &&
            (is_any_address(&number_a) || is_any_address(&number_b)));
}

/* Would the kernel refuse the second? */
static bool endpoints_clash(const struct endpoint *a, const struct endpoint *b)
{
    if (a->path != NULL || b->path != NULL)
        return a->path != NULL && b->path != NULL && strcmp(a->path, b->path) == 0;
    return a->port == b->port && hosts_clash(a->host, b->host);
}

static void report_clash(struct loading *loading, const struct section *section,
                         const struct section *first, const struct endpoint *endpoint)
{
    char title[LOADING_TITLE_MAX];
    enum setting_id bind =
        section->kind == SECTION_STATS ? SETTING_STATS_bind : SETTING_LISTENER_bind;

    loading_title(loading, first, title);
    if (endpoint->path != NULL)
        loading_error(loading, loading_place(section, bind),
                      "bind: %s is taken by %s at %s:%u; expected another path",
                      endpoint->path, title, first->place.source, first->place.line);
    else
        loading_error(loading, loading_place(section, bind),
                      "bind: %s port %u is taken by %s at %s:%u; expected another "
                      "address or port",
                      endpoint->host, endpoint->port, title, first->place.source,
                      first->place.line);
}

/* Each address of the section against those in front of it, in all sections. */
static void check_addresses(struct loading *loading, size_t index)
{
    const struct section *section = loading->sections.items[index];
    const struct endpoint_list *mine = endpoints_of(loading, section);

    for (size_t i = 0; i < mine->n; i++)
        for (size_t s = 0; s <= index; s++) {
            const struct endpoint_list *theirs =
                endpoints_of(loading, loading->sections.items[s]);
            size_t n = s == index ? i : theirs->n;

            for (size_t j = 0; j < n; j++)
                if (endpoints_clash(&mine->items[i], &theirs->items[j])) {
                    report_clash(loading, section, loading->sections.items[s],
                                 &mine->items[i]);
                    j = n;
                }
        }
}

/* ---- all of it ---- */

static void check_section(struct loading *loading, size_t index)
{
    const struct section *section = loading->sections.items[index];

    check_required(loading, section);
    if (section->kind == SECTION_MAIN)
        check_main(loading, section);
    else if (section->kind == SECTION_CLUSTER)
        check_cluster(loading, section);
    else if (section->kind == SECTION_LISTENER)
        check_listener(loading, section);
    else
        check_stats(loading, section);
    check_addresses(loading, index);
}

void rules_check(struct loading *loading)
{
    struct config *config = loading->config;

    loading->n_own_clusters = config->n_clusters;
    loading->n_own_listeners = config->n_listeners;
    entries_check_names(loading);
    implicit_clusters(loading);
    implicit_listener(loading);
    if (loading->out_of_memory)
        return;
    for (size_t i = 0; i < loading->sections.n; i++)
        if (loading->sections.items[i]->place.source != NULL)
            check_section(loading, i);
    for (size_t i = 0; i < loading->entries.n; i++)
        if (!loading->entries.items[i]->has_mistakes)
            check_required(loading, loading->entries.items[i]);
    pool_rules_check(loading);
    if (config->n_listeners == 0 && config->n_databases == 0 &&
        !loading->has_bad_header && !(loading->has_databases && loading->has_errors))
        loading_error(loading, (struct place){loading->ini.names[0], 0},
                      "there is nothing to do: expected a section [listener NAME] or "
                      "[databases]");
}
