/* config/implicit.c - what stands in no section of its own, as in files that were written
 * for PgBouncer: clusters made of a database's hosts, and the listener made of
 * listen_addr and unix_socket_dir. From here on they are clusters and listeners like all
 * others.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config/lists.h"
#include "config/loading.h"
#include "core/memory.h"

#define WHY_MAX 1024
#define CLUSTER_NAME_MAX 48 /* of an implicit one; others have limits of their own */
#define ENDPOINT_TEXT_MAX 512

/* ---- hosts of a database ---- */

/* Of a cluster in the file, is this one of its nodes or aliases? */
static bool has_host(const struct cluster_config *cluster, const char *host,
                     uint16_t port)
{
    for (size_t i = 0; i < cluster->aliases.n; i++)
        if (lists_is_same_host(cluster->aliases.items[i], host))
            return true;
    for (size_t i = 0; i < cluster->nodes.n; i++) {
        const struct node_config *node = &cluster->nodes.items[i];

        if (node->port == port &&
            (strcasecmp(node->name, host) == 0 || lists_is_same_host(node->host, host)))
            return true;
    }
    return false;
}

static size_t find_by_host(const struct loading *loading, const char *host, uint16_t port)
{
    for (size_t i = 0; i < loading->n_own_clusters; i++)
        if (has_host(&loading->config->clusters[i], host, port))
            return i;
    return LOADING_NONE;
}

/* True when the hosts lead to a cluster in the file, or ought to. */
static bool follow(struct loading *loading, struct section *section,
                   struct database_config *database)
{
    const struct name_list *hosts = &database->host;
    size_t found[LISTS_MAX];
    size_t odd = 0;

    if (!loading->config->main.follow_hosts)
        return false;
    for (size_t i = 0; i < hosts->n; i++) {
        found[i] = find_by_host(loading, hosts->items[i], (uint16_t)database->port);
        if (found[i] != found[0])
            odd = i;
    }
    if (odd > 0) {
        size_t known = found[0] != LOADING_NONE ? 0 : odd;

        loading_error(loading, loading_place(section, SETTING_DATABASE_host),
                      "host: '%.80s' belongs to [cluster %s], '%.80s' does not; expected "
                      "hosts of one cluster, or follow_hosts = off in [pgrouter]",
                      hosts->items[known], loading->config->clusters[found[known]].name,
                      hosts->items[known == 0 ? odd : 0]);
        return true;
    }
    section->cluster = found[0];
    database->follows_host = found[0] != LOADING_NONE;
    return database->follows_host;
}

/* ---- implicit clusters ---- */

/* A database with hosts of its own, and what they make. */
struct owner {
    struct section *section;
    struct node_list nodes;
};

struct owners {
    struct owner *items; /* has room for all databases */
    size_t n;
};

static int compare_owners(const void *a, const void *b)
{
    const struct node_list *one = &((const struct owner *)a)->nodes;
    const struct node_list *other = &((const struct owner *)b)->nodes;
    int order = one->n < other->n ? -1 : one->n > other->n;

    for (size_t i = 0; order == 0 && i < one->n; i++) {
        order = (int)one->items[i].port - (int)other->items[i].port;
        if (order == 0)
            order = strcmp(one->items[i].host, other->items[i].host);
    }
    return order;
}

/* "host:port,host:port"; where that is too long what is left out is replaced by its
 * number. No [cluster NAME] can have a name with a ':'. */
static void name_cluster(struct loading *loading, const struct node_list *nodes,
                         char name[CLUSTER_NAME_MAX])
{
    struct text whole;

    text_init(&whole, FILENAME_MAX);
    for (size_t i = 0; i < nodes->n && whole.length < CLUSTER_NAME_MAX; i++) {
        const struct node_config *node = &nodes->items[i];

        text_addf(&whole, strchr(node->host, ':') != NULL ? "%s[%s]:%u" : "%s%s:%u",
                  i > 0 ? "," : "", node->host, node->port);
    }
    if (whole.length < CLUSTER_NAME_MAX)
        snprintf(name, CLUSTER_NAME_MAX, "%s", text_get(&whole));
    else
        snprintf(name, CLUSTER_NAME_MAX, "%.30s...:%zu", text_get(&whole),
                 loading->config->n_clusters);
    if (whole.overflowed)
        loading->out_of_memory = true;
    text_clear(&whole);
}

/* Takes the nodes, and leaves none there. */
static void add_cluster(struct loading *loading, struct section *section,
                        struct node_list *nodes)
{
    char name[CLUSTER_NAME_MAX];
    struct section *added;
    struct cluster_config *cluster;

    name_cluster(loading, nodes, name);
    added = sections_add(loading, SECTION_CLUSTER, name, section->place);
    if (added == NULL)
        return;
    cluster = loading_fields(loading, added);
    added->place = (struct place){0}; /* no rule of [cluster] is for the user to keep */
    cluster->is_implicit = true;
    cluster->check = CHECK_TCP;
    cluster->nodes = *nodes;
    *nodes = (struct node_list){0};
    section->cluster = added->index;
}

static void add_owner(struct loading *loading, struct section *section,
                      struct database_config *database, struct owners *owners)
{
    struct owner *owner = &owners->items[owners->n];
    struct text why;

    text_init(&why, WHY_MAX);
    switch (lists_make_nodes(&database->host, (uint16_t)database->port, &owner->nodes,
                             &why)) {
    case VALUE_OK:
        database->role = ROLE_ANY;
        owner->section = section;
        owners->n++;
        break;
    case VALUE_NO_MEMORY:
        loading->out_of_memory = true;
        break;
    case VALUE_BAD:
    case VALUE_OUT_OF_RANGE:
        loading_error(loading, loading_place(section, SETTING_DATABASE_host), "host: %s",
                      text_get(&why));
        break;
    }
    text_clear(&why);
}

/* Those with the same hosts share a cluster. */
static void add_clusters(struct loading *loading, struct owners *owners)
{
    size_t first = 0, next;

    if (owners->n > 0)
        qsort(owners->items, owners->n, sizeof *owners->items, compare_owners);
    for (; first < owners->n && !loading->out_of_memory; first = next) {
        struct owner *owner = &owners->items[first];

        next = first + 1;
        while (next < owners->n && compare_owners(owner, &owners->items[next]) == 0)
            next++;
        add_cluster(loading, owner->section, &owner->nodes);
        for (size_t i = first + 1; i < next; i++)
            owners->items[i].section->cluster = owner->section->cluster;
    }
}

static void clear_owners(struct owners *owners)
{
    for (size_t i = 0; i < owners->n; i++)
        lists_clear_nodes(&owners->items[i].nodes);
    memory_free(owners->items);
}

/* ---- choosing ---- */

static bool has_unix_socket(const struct name_list *hosts)
{
    for (size_t i = 0; i < hosts->n; i++)
        if (hosts->items[i][0] == '/' || hosts->items[i][0] == '@')
            return true;
    return false;
}

static void use_named(struct loading *loading, struct section *section,
                      const struct database_config *database)
{
    static const enum setting_id of_hosts[] = {SETTING_DATABASE_host,
                                               SETTING_DATABASE_port,
                                               SETTING_DATABASE_load_balance_hosts};

    for (size_t i = 0; i < COUNT_OF(of_hosts); i++)
        if (loading_is_given(section, of_hosts[i]))
            loading_error(loading, loading_place(section, of_hosts[i]),
                          "cluster and %s in one database; expected one of the two",
                          settings[of_hosts[i]].name);
    for (size_t i = 0; i < loading->n_own_clusters; i++)
        if (strcmp(loading->config->clusters[i].name, database->cluster) == 0)
            section->cluster = i;
    if (section->cluster == LOADING_NONE)
        rules_report_no_cluster(loading, section, SETTING_DATABASE_cluster,
                                database->cluster);
}

static void choose_cluster(struct loading *loading, struct section *section,
                           struct owners *owners)
{
    struct database_config *database = loading_fields(loading, section);
    char title[LOADING_TITLE_MAX];

    loading_title(loading, section, title);
    if (*database->cluster != '\0') {
        use_named(loading, section, database);
        return;
    }
    if (loading_is_bad(section, SETTING_DATABASE_host) ||
        loading_is_bad(section, SETTING_DATABASE_port))
        return;
    if (database->host.n == 0 && section->has_mistakes)
        return;
    if (database->host.n == 0 || has_unix_socket(&database->host)) {
        loading_error(
            loading, loading_place(section, SETTING_DATABASE_host),
            "%s: %s; expected host=NAME or cluster=NAME", title,
            database->host.n == 0
                ? "no host, which stands for a unix socket, and servers are not "
                  "reached by these yet"
                : "servers are not reached by unix sockets yet");
        return;
    }
    if (follow(loading, section, database))
        return;
    if (loading_is_given(section, SETTING_DATABASE_role))
        loading_error(loading, loading_place(section, SETTING_DATABASE_role),
                      "%s: role without a cluster, whose nodes have roles; expected "
                      "cluster=NAME in place of host",
                      title);
    else
        add_owner(loading, section, database, owners);
}

void implicit_clusters(struct loading *loading)
{
    const struct section_list *entries = &loading->entries;
    struct owners owners = {
        .items = memory_zeroed(loading->config->n_databases * sizeof *owners.items + 1)};

    if (owners.items == NULL)
        loading->out_of_memory = true;
    for (size_t i = 0; i < entries->n && !loading->out_of_memory; i++)
        if (entries->items[i]->kind == SECTION_DATABASE)
            choose_cluster(loading, entries->items[i], &owners);
    if (!loading->out_of_memory)
        add_clusters(loading, &owners);
    clear_owners(&owners);
}

/* ---- the implicit listener ---- */

/* Adds what `text` says to the list, whose array has room. */
static void add_endpoint(struct loading *loading, enum setting_id id, const char *shown,
                         const char *text, struct endpoint_list *list)
{
    const struct section *main = loading->sections.items[LOADING_MAIN];
    const char *why;

    if (lists_parse_endpoint(text, &list->items[list->n], &why))
        list->n++;
    else if (why == NULL)
        loading->out_of_memory = true;
    else
        loading_error(loading, loading_place(main, id), "%s = '%.80s': expected %s",
                      settings[id].name, shown, why);
}

static void add_host(struct loading *loading, const char *host,
                     struct endpoint_list *list)
{
    char text[ENDPOINT_TEXT_MAX];
    bool is_bare_v6 = host[0] != '[' && strchr(host, ':') != NULL;

    snprintf(text, sizeof text, is_bare_v6 ? "[%.400s]:%" PRId64 : "%.400s:%" PRId64,
             host, loading->config->main.listen_port);
    add_endpoint(loading, SETTING_MAIN_listen_addr, host, text, list);
}

static void add_unix_socket(struct loading *loading, struct endpoint_list *list)
{
    const struct main_config *main = &loading->config->main;
    char text[ENDPOINT_TEXT_MAX];

    if (main->unix_socket_dir[0] != '/') {
        loading_error(loading,
                      loading_place(loading->sections.items[LOADING_MAIN],
                                    SETTING_MAIN_unix_socket_dir),
                      "unix_socket_dir = '%.80s'; expected a path that begins with /, or "
                      "nothing",
                      main->unix_socket_dir);
        return;
    }
    snprintf(text, sizeof text, "%.400s/.s.PGSQL.%" PRId64, main->unix_socket_dir,
             main->listen_port);
    add_endpoint(loading, SETTING_MAIN_unix_socket_dir, main->unix_socket_dir, text,
                 list);
}

static void fill_listener(struct loading *loading, struct listener_config *listener)
{
    const struct main_config *main = &loading->config->main;
    const struct name_list *hosts = &main->listen_addr;
    struct endpoint_list *list = &listener->bind;

    listener->mode = MODE_POOL;
    list->items = memory_zeroed((hosts->n + 1) * sizeof *list->items);
    if (list->items == NULL) {
        loading->out_of_memory = true;
        return;
    }
    for (size_t i = 0; i < hosts->n; i++)
        add_host(loading, hosts->items[i], list);
    if (*main->unix_socket_dir != '\0')
        add_unix_socket(loading, list);
}

static struct place place_of_addresses(const struct loading *loading)
{
    static const enum setting_id ids[] = {
        SETTING_MAIN_listen_addr, SETTING_MAIN_unix_socket_dir, SETTING_MAIN_listen_port};
    const struct section *main = loading->sections.items[LOADING_MAIN];

    for (size_t i = 0; i < COUNT_OF(ids); i++)
        if (loading_is_given(main, ids[i]))
            return loading_place(main, ids[i]);
    for (size_t i = 0; i < loading->entries.n; i++)
        if (loading->entries.items[i]->kind == SECTION_DATABASE)
            return loading->entries.items[i]->place;
    UNREACHABLE();
}

static void add_listener(struct loading *loading)
{
    struct place place = place_of_addresses(loading);
    struct section *section;

    if (config_listener(loading->config, CONFIG_POOL_LISTENER) != NULL) {
        loading_error(loading, place,
                      "[listener " CONFIG_POOL_LISTENER
                      "] is the one that listen_addr and unix_socket_dir make; expected "
                      "another name for that in the file");
        return;
    }
    section = sections_add(loading, SECTION_LISTENER, CONFIG_POOL_LISTENER, place);
    if (section == NULL)
        return;
    section->given[SETTING_LISTENER_bind - section->range.first].place = place;
    section->given[SETTING_LISTENER_mode - section->range.first].place = place;
    fill_listener(loading, loading_fields(loading, section));
}

static bool has_pool_listener(const struct loading *loading)
{
    for (size_t i = 0; i < loading->config->n_listeners; i++)
        if (loading->config->listeners[i].mode == MODE_POOL)
            return true;
    return false;
}

/* listen_addr is obeyed whenever it stands there; the unix socket in /tmp, which nobody
 * asked for, is made as PgBouncer does where the file has no [listener]. */
void implicit_listener(struct loading *loading)
{
    const struct section *main_section = loading->sections.items[LOADING_MAIN];
    const struct main_config *main = &loading->config->main;
    bool has_dir = *main->unix_socket_dir != '\0' &&
                   (loading->n_own_listeners == 0 ||
                    loading_is_given(main_section, SETTING_MAIN_unix_socket_dir));

    if (loading->config->n_databases == 0 ||
        loading_is_bad(main_section, SETTING_MAIN_listen_addr) ||
        loading_is_bad(main_section, SETTING_MAIN_listen_port))
        return;
    if (main->listen_addr.n > 0 || (has_dir && !has_pool_listener(loading)))
        add_listener(loading);
}
