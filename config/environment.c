/* config/environment.c - a container's environment as configuration.
 *
 * As in front of a Patroni cluster, with HAProxy's meaning and defaults:
 *
 *   POSTGRES_NODES           host:pgport:patroniport,...
 *   HAPROXY_MAX_CONN         1000     clients that are served at the same time
 *   HAPROXY_TIMEOUT_CONNECT  10s      durations as HAProxy writes them
 *   HAPROXY_TIMEOUT_CLIENT   30m
 *   HAPROXY_TIMEOUT_SERVER   30m
 *   HAPROXY_CHECK_INTERVAL   3s
 *   HAPROXY_STATS_PASSWORD            of admin, who may see the statistics
 *   PGROUTER_TOKEN                    of who may POST /hold and /release
 *   PATRONI_RESTAPI_USERNAME, PATRONI_RESTAPI_PASSWORD   as the nodes have them
 *
 * 5432 leads to the primary, 5433 to the replicas, 8404 serves /stats. A single node is
 * not asked who it is: both ports lead to it. With PGROUTER_POOL_MODE or POOL_MODE both
 * ports are pools.
 *
 * As in front of one host, with the meaning that images of PgBouncer give them, and then
 * 5432 is a pool:
 *
 *   DATABASE_URL             as libpq reads it
 *   DB_HOST, DB_PORT, DB_NAME
 *   DB_USER, DB_PASSWORD     and POSTGRES_USER, POSTGRES_PASSWORD: who logs in to pools
 *
 * And every setting of [pgrouter], in upper case, behind PGROUTER_; those of pools also
 * without it. A secret may stand in a file that <NAME>_FILE names.
 *
 * All is set like lines of a file, with the variable's name as their place, so that
 * mistakes are reported by it.
 */
#include "config/environment.h"

#include <ctype.h>
#include <libpq-fe.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>

#include "config/file.h"
#include "config/lists.h"
#include "config/setting.h"
#include "config/unit.h"
#include "config/users_file.h"
#include "core/memory.h"

#define SHOWN_MAX 80                     /* of a wrong value, in an error */
#define NAME_MAX_BYTES 80                /* of a variable */
#define LINE_MAX_BYTES ((size_t)1 << 20) /* more than any variable */

enum variable_id {
    MAX_CONN,
    TIMEOUT_CONNECT,
    TIMEOUT_CLIENT,
    TIMEOUT_SERVER,
    CHECK_INTERVAL,
    VARIABLE_COUNT
};

/* How the numbers of a variable are written. */
struct notation {
    bool (*parse)(const char *text, int64_t *number);
    const char *(*print)(int64_t number, char text[UNIT_TEXT_MAX]);
    const char *expected;
};

static const struct notation count = {unit_parse_count, unit_print_count,
                                      "a whole number"};
static const struct notation duration = {
    unit_parse_haproxy_duration, unit_print_duration,
    "a duration (500ms, 10s, 30m; a number alone counts milliseconds)"};

/* A variable that holds a number. */
struct variable {
    const char *name;
    const char *initial; /* when it is not set, or empty */
    const struct notation *notation;
    enum setting_id setting; /* whose bounds hold */
};

/* clang-format off */
static const struct variable variables[VARIABLE_COUNT] = {
    [MAX_CONN] =
        {"HAPROXY_MAX_CONN", "1000", &count, SETTING_MAIN_max_client_conn},
    [TIMEOUT_CONNECT] =
        {"HAPROXY_TIMEOUT_CONNECT", "10s", &duration, SETTING_LISTENER_connect_timeout},
    [TIMEOUT_CLIENT] =
        {"HAPROXY_TIMEOUT_CLIENT", "30m", &duration, SETTING_LISTENER_client_timeout},
    [TIMEOUT_SERVER] =
        {"HAPROXY_TIMEOUT_SERVER", "30m", &duration, SETTING_LISTENER_server_timeout},
    [CHECK_INTERVAL] =
        {"HAPROXY_CHECK_INTERVAL", "3s", &duration, SETTING_CLUSTER_check_interval},
};
/* clang-format on */

/* What the variables say. */
struct environment {
    struct loading *loading;
    char *nodes; /* owned; NULL: there are none */
    size_t n_nodes;
    char values[VARIABLE_COUNT][UNIT_TEXT_MAX];
    bool is_pooled;
    /* Of one host; owned, NULL: not said. */
    char *host, *port, *database, *sslmode;
    const char *host_variable; /* where the host was said */
    char *user, *password;
};

static void clear_secret(char *secret)
{
    if (secret != NULL)
        OPENSSL_cleanse(secret, strlen(secret));
    memory_free(secret);
}

static void environment_clear(struct environment *e)
{
    memory_free(e->nodes);
    memory_free(e->host);
    memory_free(e->port);
    memory_free(e->database);
    memory_free(e->sslmode);
    memory_free(e->user);
    clear_secret(e->password);
}

static struct place place_of(const char *variable)
{
    return (struct place){.source = variable};
}

/* The start of a value as it may stand in an error, on one line. */
static const char *show(const char *value, char shown[SHOWN_MAX + 1])
{
    snprintf(shown, SHOWN_MAX + 1, "%s", value);
    for (char *at = shown; *at != '\0'; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = '?';
    return shown;
}

/* ---- variables ---- */

/* One that is set to nothing is not set. */
static const char *value_of(const struct loading *loading, const char *name)
{
    const char *value = loading->get(name);

    return value == NULL || *value == '\0' ? NULL : value;
}

/* For variables whose names are no constants. */
static void report(struct loading *loading, const char *variable, const char *path,
                   const char *why)
{
    const char *source = ini_keep(&loading->ini, variable);

    if (source == NULL)
        loading->out_of_memory = true;
    else
        loading_error(loading, place_of(source), "'%.300s' cannot be read: %s", path,
                      why);
}

/* Its first line; what ends it is the work of editors and `echo`. NULL: noted. */
static char *read_secret_file(struct loading *loading, const char *variable,
                              const char *path)
{
    struct text text;
    const char *why = "";
    char *secret = NULL;

    text_init(&text, FILE_MAX_BYTES);
    if (file_load(path, &text, &why)) {
        secret = memory_text_n(text.bytes, strcspn(text.bytes, "\r\n"));
        if (secret == NULL)
            loading->out_of_memory = true;
    } else if (text.overflowed) {
        loading->out_of_memory = true;
    } else {
        report(loading, variable, path, why);
    }
    if (text.bytes != NULL)
        OPENSSL_cleanse(text.bytes, text.length);
    text_clear(&text);
    return secret;
}

/* A copy of what the variable says, or of what the file holds that <name>_FILE names.
 * NULL: neither, or noted. */
static char *take(struct loading *loading, const char *name)
{
    char variable[NAME_MAX_BYTES];
    const char *value = value_of(loading, name), *path;
    char *copy;

    if (value == NULL) {
        snprintf(variable, sizeof variable, "%s_FILE", name);
        path = value_of(loading, variable);
        return path == NULL ? NULL : read_secret_file(loading, variable, path);
    }
    copy = memory_text(value);
    if (copy == NULL)
        loading->out_of_memory = true;
    return copy;
}

static bool has_failed(const struct environment *e)
{
    return e->loading->has_errors || e->loading->out_of_memory;
}

/* ---- numbers ---- */

static void read_number(struct environment *e, enum variable_id id)
{
    const struct variable *variable = &variables[id];
    const struct notation *notation = variable->notation;
    const struct value_rule *rule = &settings[variable->setting].rule;
    const char *value = value_of(e->loading, variable->name);
    char shown[SHOWN_MAX + 1], least[UNIT_TEXT_MAX], most[UNIT_TEXT_MAX];
    int64_t number;

    if (value == NULL)
        value = variable->initial;
    if (notation->parse(value, &number) && number >= rule->min && number <= rule->max) {
        notation->print(number, e->values[id]);
        return;
    }
    loading_error(e->loading, place_of(variable->name), "'%s': expected %s, %s to %s",
                  show(value, shown), notation->expected,
                  notation->print(rule->min, least), notation->print(rule->max, most));
}

/* ---- POSTGRES_NODES ---- */

static const char nodes_variable[] = "POSTGRES_NODES";

static void check_entry(struct environment *e, char *entry, size_t number)
{
    char shown[SHOWN_MAX + 1];
    struct node_config node = {0};
    const char *why = NULL;
    bool is_named = strchr(entry, '=') != NULL;
    bool is_read;

    show(entry, shown);
    is_read = lists_parse_node(entry, &node, &why);
    if (!is_read && why == NULL)
        e->loading->out_of_memory = true;
    else if (!is_read || is_named || node.check_port == 0)
        loading_error(e->loading, place_of(nodes_variable),
                      "entry %zu '%s': expected host:pgport:patroniport, with IPv6 as "
                      "[v6]:pgport:patroniport",
                      number, shown);
    lists_clear_node(&node);
}

static void check_entries(struct environment *e)
{
    char *copy = memory_text(e->nodes);
    char *rest = copy, *entry;

    if (copy == NULL)
        e->loading->out_of_memory = true;
    for (size_t number = 1; (entry = lists_next_entry(&rest)) != NULL; number++)
        check_entry(e, entry, number);
    memory_free(copy);
}

/* The list as a whole, its entries being right. */
static void check_list(struct environment *e)
{
    struct node_list nodes = {0};
    struct text why;
    enum value_result result;

    text_init(&why, 1024);
    result = lists_parse_nodes(e->nodes, &nodes, &why);
    if (result == VALUE_NO_MEMORY)
        e->loading->out_of_memory = true;
    else if (result != VALUE_OK)
        loading_error(e->loading, place_of(nodes_variable), "%s", text_get(&why));
    e->n_nodes = nodes.n;
    lists_clear_nodes(&nodes);
    text_clear(&why);
}

/* Without the blanks around it; `*length` is what is left. */
static const char *trim(const char *value, size_t *length)
{
    const char *blanks = " \t\r\n";

    value = value == NULL ? "" : value + strspn(value, blanks);
    *length = strlen(value);
    while (*length > 0 && strchr(blanks, value[*length - 1]) != NULL)
        --*length;
    return value;
}

static void read_nodes(struct environment *e)
{
    size_t length;
    const char *value = trim(e->loading->get(nodes_variable), &length);

    if (length == 0)
        return;
    if (value[length - 1] == ',')
        length--; /* as lists written by programs end */
    e->nodes = memory_text_n(value, length);
    if (e->nodes == NULL) {
        e->loading->out_of_memory = true;
        return;
    }
    check_entries(e);
    if (!has_failed(e))
        check_list(e);
}

/* ---- one host, and who logs in ---- */

/* Where the variable itself says nothing. */
static void use(struct environment *e, char **field, const char *value)
{
    if (*field != NULL || value == NULL || *value == '\0')
        return;
    *field = memory_text(value);
    if (*field == NULL)
        e->loading->out_of_memory = true;
}

static void use_option(struct environment *e, const PQconninfoOption *option)
{
    const struct {
        const char *keyword;
        char **field;
    } fields[] = {{"host", &e->host},         {"port", &e->port},
                  {"dbname", &e->database},   {"user", &e->user},
                  {"password", &e->password}, {"sslmode", &e->sslmode}};

    for (size_t i = 0; i < COUNT_OF(fields); i++)
        if (strcmp(fields[i].keyword, option->keyword) == 0)
            use(e, fields[i].field, option->val);
}

static void read_url(struct environment *e)
{
    static const char name[] = "DATABASE_URL";
    char *url = take(e->loading, name);
    PQconninfoOption *options;

    if (url == NULL)
        return;
    options = PQconninfoParse(url, NULL); /* what it says could hold the password */
    if (options == NULL)
        loading_error(
            e->loading, place_of(name),
            "cannot be read; expected postgresql://user:password@host:port/name");
    for (PQconninfoOption *o = options; o != NULL && o->keyword != NULL; o++)
        use_option(e, o);
    PQconninfoFree(options);
    clear_secret(url);
}

static void read_host(struct environment *e)
{
    e->host = take(e->loading, "DB_HOST");
    e->host_variable = e->host != NULL ? "DB_HOST" : "DATABASE_URL";
    e->port = take(e->loading, "DB_PORT");
    e->database = take(e->loading, "DB_NAME");
    e->user = take(e->loading, "DB_USER");
    e->password = take(e->loading, "DB_PASSWORD");
    read_url(e);
    if (e->password == NULL) {
        char *user = take(e->loading, "POSTGRES_USER");

        e->password = take(e->loading, "POSTGRES_PASSWORD");
        if (e->password != NULL)
            use(e, &e->user, user != NULL ? user : "postgres");
        memory_free(user);
    }
}

static void learn_user(struct environment *e)
{
    if (e->user != NULL && e->password != NULL &&
        !users_file_add(&e->loading->config->secrets, e->user, e->password))
        e->loading->out_of_memory = true;
}

/* ---- lines ---- */

static void open_section(struct environment *e, const char *header, const char *variable)
{
    e->loading->has_header = true;
    (void)sections_open(e->loading, header, place_of(variable));
}

/* In the section that was opened last. */
static void put(struct environment *e, const char *name, const char *value,
                const char *variable)
{
    if (!e->loading->out_of_memory)
        loading_set(e->loading, e->loading->current, name, value, place_of(variable));
}

static struct section *main_section(const struct loading *loading)
{
    return loading->sections.items[LOADING_MAIN];
}

static void put_default(struct environment *e, enum setting_id id, const char *value,
                        const char *variable)
{
    if (!e->loading->out_of_memory && !loading_is_given(main_section(e->loading), id))
        loading_set(e->loading, main_section(e->loading), settings[id].name, value,
                    place_of(variable));
}

/* One setting of [pgrouter], when there is a variable of it: in place of what stands in a
 * file. */
static void put_setting(struct loading *loading, const struct setting *setting,
                        const char *prefix)
{
    char name[NAME_MAX_BYTES];
    size_t n = (size_t)snprintf(name, sizeof name, "%s%s", prefix, setting->name);
    const char *source;
    char *value;

    for (size_t i = 0; i < n && i < sizeof name; i++)
        name[i] = (char)toupper((unsigned char)name[i]);
    value = take(loading, name);
    source = value == NULL ? NULL : ini_keep(&loading->ini, name);
    if (value != NULL && source == NULL)
        loading->out_of_memory = true;
    if (source != NULL && !loading->out_of_memory)
        loading_set_again(loading, main_section(loading), setting, value,
                          place_of(source));
    clear_secret(value);
}

static void put_settings(struct loading *loading, const char *prefix)
{
    struct setting_range range = setting_range(SECTION_MAIN);

    /* USER is the shell's. */
    for (size_t i = 0; i < range.n && !loading->out_of_memory; i++)
        if (*prefix != '\0' || range.first + i != SETTING_MAIN_user)
            put_setting(loading, &settings[range.first + i], prefix);
}

static void put_secret(struct environment *e, const char *key, const char *variable)
{
    char *secret = take(e->loading, variable);

    if (secret != NULL)
        put(e, key, secret, variable);
    clear_secret(secret);
}

static void put_cluster(struct environment *e)
{
    open_section(e, "cluster main", nodes_variable);
    put(e, "nodes", e->nodes, nodes_variable);
    put(e, "check", e->n_nodes == 1 ? "tcp" : "patroni", nodes_variable);
    put(e, "check_interval", e->values[CHECK_INTERVAL], variables[CHECK_INTERVAL].name);
    put(e, "check_timeout", "5s", nodes_variable);
    put(e, "rise", "2", nodes_variable);
    put(e, "fall", "3", nodes_variable);
    put_secret(e, "restapi_user", "PATRONI_RESTAPI_USERNAME");
    put_secret(e, "restapi_password", "PATRONI_RESTAPI_PASSWORD");
}

static void put_listener(struct environment *e, const char *header, const char *bind,
                         const char *role)
{
    open_section(e, header, nodes_variable);
    put(e, "bind", bind, nodes_variable);
    put(e, "role", e->n_nodes == 1 ? "any" : role, nodes_variable);
    if (e->is_pooled) {
        put(e, "mode", "pool", nodes_variable);
        return;
    }
    put(e, "cluster", "main", nodes_variable);
    put(e, "balance", "roundrobin", nodes_variable);
    put(e, "connect_timeout", e->values[TIMEOUT_CONNECT],
        variables[TIMEOUT_CONNECT].name);
    put(e, "client_timeout", e->values[TIMEOUT_CLIENT], variables[TIMEOUT_CLIENT].name);
    put(e, "server_timeout", e->values[TIMEOUT_SERVER], variables[TIMEOUT_SERVER].name);
}

/* As a value of a line of [databases]. */
static void add_quoted(struct text *line, const char *name, const char *value)
{
    text_addf(line, "%s='", name);
    for (; *value != '\0'; value++)
        text_addf(line, *value == '\'' ? "''" : "%c", *value);
    text_add(line, "' ");
}

static void put_database(struct environment *e)
{
    struct text line;

    open_section(e, "databases", "DB_NAME");
    if (e->nodes != NULL) {
        if (!e->loading->out_of_memory)
            entries_define(e->loading, SECTION_DATABASE, "*",
                           e->n_nodes == 1 ? "cluster=main role=any" : "cluster=main",
                           place_of(nodes_variable));
        return;
    }
    text_init(&line, LINE_MAX_BYTES);
    add_quoted(&line, "host", e->host);
    add_quoted(&line, "port", e->port == NULL ? "5432" : e->port);
    if (line.overflowed)
        e->loading->out_of_memory = true;
    else if (!e->loading->out_of_memory)
        entries_define(e->loading, SECTION_DATABASE,
                       e->database == NULL ? "*" : e->database, text_get(&line),
                       place_of(e->host_variable));
    text_clear(&line);
}

static void put_stats(struct environment *e)
{
    open_section(e, "stats", nodes_variable);
    put(e, "bind", "*:8404", nodes_variable);
    put(e, "uri", "/stats", nodes_variable);
    environment_add_stats_secrets(e->loading);
}

static void require_user(struct environment *e)
{
    const struct section *section = main_section(e->loading);

    if (e->loading->config->secrets.n > 0 || e->loading->out_of_memory ||
        loading_is_given(section, SETTING_MAIN_auth_file) ||
        loading_is_given(section, SETTING_MAIN_auth_type))
        return;
    loading_error(e->loading, place_of("environment"),
                  "a pool without anybody who may log in; expected POSTGRES_USER and "
                  "POSTGRES_PASSWORD, DB_USER and DB_PASSWORD, or DATABASE_URL (a secret "
                  "also as a file that <NAME>_FILE names), or PGROUTER_AUTH_FILE");
    put_default(e, SETTING_MAIN_auth_type, "any",
                "environment"); /* one error is enough */
}

static void put_all(struct environment *e)
{
    open_section(e, "pgrouter", nodes_variable);
    if (e->is_pooled)
        put_settings(e->loading, "");
    put_settings(e->loading, "PGROUTER_");
    put_default(e, SETTING_MAIN_max_client_conn, e->values[MAX_CONN],
                variables[MAX_CONN].name);
    if (e->is_pooled) {
        learn_user(e);
        require_user(e);
        put_default(e, SETTING_MAIN_auth_type, "scram-sha-256", "AUTH_TYPE");
        put_default(e, SETTING_MAIN_admin_users, "postgres", "ADMIN_USERS");
    }
    if (e->sslmode != NULL)
        put_default(e, SETTING_MAIN_server_tls_sslmode, e->sslmode, "DATABASE_URL");
    if (e->nodes != NULL) {
        put_cluster(e);
        put_listener(e, "listener postgresql_primary", "*:5432", "primary");
        put_listener(e, "listener postgresql_replicas", "*:5433", "replica");
    } else {
        put_default(e, SETTING_MAIN_listen_addr, "*", "LISTEN_ADDR");
        put_default(e, SETTING_MAIN_listen_port, "5432", "LISTEN_PORT");
        put_default(e, SETTING_MAIN_unix_socket_dir, "", "UNIX_SOCKET_DIR");
    }
    if (e->is_pooled)
        put_database(e);
    put_stats(e);
}

/* ---- the environment ---- */

void environment_describe(struct loading *loading)
{
    struct environment e = {.loading = loading};

    read_nodes(&e);
    for (enum variable_id id = 0; id < VARIABLE_COUNT; id++)
        read_number(&e, id);
    read_host(&e);
    e.is_pooled = value_of(loading, "PGROUTER_POOL_MODE") != NULL ||
                  value_of(loading, "POOL_MODE") != NULL ||
                  (e.nodes == NULL && e.host != NULL);
    if (!has_failed(&e) && e.nodes == NULL && e.host == NULL)
        loading_error(loading, place_of("no configuration"),
                      "expected a file (pgrouter FILE.ini) or, in the environment, "
                      "POSTGRES_NODES=host:pgport:patroniport,... or DATABASE_URL");
    if (!has_failed(&e))
        put_all(&e);
    environment_clear(&e);
}

void environment_override(struct loading *loading)
{
    put_settings(loading, "PGROUTER_");
}

void environment_add_cluster(struct loading *loading)
{
    struct environment e = {.loading = loading};

    read_nodes(&e);
    read_number(&e, CHECK_INTERVAL);
    if (e.nodes != NULL && !has_failed(&e))
        put_cluster(&e);
    environment_clear(&e);
}

/* Where the section leaves it open; `before` stands in front of what the variable says.
 */
static void add_stats_secret(struct loading *loading, enum setting_id setting,
                             const char *name, const char *before)
{
    struct section *stats = loading->sections.items[LOADING_STATS];
    char *secret;
    struct text value;

    if (loading_is_given(stats, setting) || !loading_is_given(stats, SETTING_STATS_bind))
        return;
    secret = take(loading, name);
    if (secret == NULL)
        return;
    text_init(&value, LINE_MAX_BYTES);
    text_addf(&value, "%s%s", before, secret);
    if (value.overflowed)
        loading->out_of_memory = true;
    else
        loading_set(loading, stats, settings[setting].name, text_get(&value),
                    place_of(name));
    if (value.bytes != NULL)
        OPENSSL_cleanse(value.bytes, value.length);
    text_clear(&value);
    clear_secret(secret);
}

void environment_add_stats_secrets(struct loading *loading)
{
    add_stats_secret(loading, SETTING_STATS_auth, "HAPROXY_STATS_PASSWORD", "admin:");
    add_stats_secret(loading, SETTING_STATS_control_token, "PGROUTER_TOKEN", "");
}

void environment_add_user(struct loading *loading)
{
    struct environment e = {.loading = loading};

    read_host(&e);
    learn_user(&e);
    environment_clear(&e);
}
