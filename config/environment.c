/* config/environment.c - config_load_environment(): the variables of a container that
 * runs HAProxy in front of a Patroni cluster, with the same meaning and defaults.
 *
 *   POSTGRES_NODES           host:pgport:patroniport,...   required
 *   HAPROXY_MAX_CONN         1000     clients that are served at the same time
 *   HAPROXY_TIMEOUT_CONNECT  10s      durations as HAProxy writes them
 *   HAPROXY_TIMEOUT_CLIENT   30m
 *   HAPROXY_TIMEOUT_SERVER   30m
 *   HAPROXY_CHECK_INTERVAL   3s
 *
 * 5432 leads to the primary, 5433 to the replicas, 8404 serves /stats. A single node is
 * not asked who it is: both ports lead to it.
 *
 * What they say becomes an ini text, which is loaded like any other. All values are
 * checked before, so that mistakes are reported by the variable's name, and nothing of
 * what a variable holds gets into the text unchecked.
 */
#include "config/environment.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "config/lists.h"
#include "config/setting.h"
#include "config/unit.h"
#include "core/memory.h"

#define SHOWN_MAX 80 /* of a wrong value, in an error */

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

/* What the variables say, in words that an ini text takes as they are. */
struct environment {
    char *nodes; /* owned */
    size_t n_nodes;
    char values[VARIABLE_COUNT][UNIT_TEXT_MAX];
    struct text *errors;
    bool has_errors;
    bool out_of_memory;
};

/* The start of a value as it may stand in an error, on one line. */
static const char *show(const char *value, char shown[SHOWN_MAX + 1])
{
    snprintf(shown, SHOWN_MAX + 1, "%s", value);
    for (char *at = shown; *at != '\0'; at++)
        if ((unsigned char)*at < ' ' || *at == 0x7f)
            *at = '?';
    return shown;
}

/* ---- numbers ---- */

static void read_number(struct environment *e, enum variable_id id, const char *value)
{
    const struct variable *variable = &variables[id];
    const struct notation *notation = variable->notation;
    const struct value_rule *rule = &settings[variable->setting].rule;
    char shown[SHOWN_MAX + 1], least[UNIT_TEXT_MAX], most[UNIT_TEXT_MAX];
    int64_t number;

    if (value == NULL || *value == '\0')
        value = variable->initial;
    if (notation->parse(value, &number) && number >= rule->min && number <= rule->max) {
        notation->print(number, e->values[id]);
        return;
    }
    text_addf(e->errors, "%s: '%s': expected %s, %s to %s\n", variable->name,
              show(value, shown), notation->expected, notation->print(rule->min, least),
              notation->print(rule->max, most));
    e->has_errors = true;
}

/* ---- POSTGRES_NODES ---- */

static void check_entry(struct environment *e, char *entry, size_t number)
{
    char shown[SHOWN_MAX + 1];
    struct node_config node = {0};
    const char *why = NULL;
    bool is_named = strchr(entry, '=') != NULL;
    bool is_read;

    show(entry, shown);
    is_read = lists_parse_node(entry, &node, &why);
    if (!is_read && why == NULL) {
        e->out_of_memory = true;
    } else if (!is_read || is_named || node.check_port == 0) {
        text_addf(e->errors,
                  "POSTGRES_NODES: entry %zu '%s': expected host:pgport:patroniport, "
                  "with IPv6 as [v6]:pgport:patroniport\n",
                  number, shown);
        e->has_errors = true;
    }
    lists_clear_node(&node);
}

static void check_entries(struct environment *e)
{
    char *copy = memory_text(e->nodes);
    char *rest = copy, *entry;

    if (copy == NULL)
        e->out_of_memory = true;
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
    if (result == VALUE_NO_MEMORY) {
        e->out_of_memory = true;
    } else if (result != VALUE_OK) {
        text_addf(e->errors, "POSTGRES_NODES: %s\n", text_get(&why));
        e->has_errors = true;
    }
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

bool environment_has_nodes(char *(*get)(const char *name))
{
    size_t length;

    trim(get("POSTGRES_NODES"), &length);
    return length > 0;
}

static void read_nodes(struct environment *e, const char *value)
{
    size_t length;

    value = trim(value, &length);
    if (length == 0) {
        text_add(e->errors, "no configuration; expected a file (pgrouter FILE.ini) or "
                            "POSTGRES_NODES=host:pgport:patroniport,... in the "
                            "environment\n");
        e->has_errors = true;
        return;
    }
    if (value[length - 1] == ',')
        length--; /* as lists written by programs end */
    e->nodes = memory_text_n(value, length);
    if (e->nodes == NULL) {
        e->out_of_memory = true;
        return;
    }
    check_entries(e);
    if (!e->has_errors && !e->out_of_memory)
        check_list(e);
}

/* ---- the ini text ---- */

static void add_listener(const struct environment *e, struct text *ini, const char *name,
                         unsigned port, const char *role)
{
    text_addf(ini,
              "[listener %s]\n"
              "bind = *:%u\n"
              "cluster = main\n"
              "role = %s\n"
              "balance = roundrobin\n"
              "connect_timeout = %s\n"
              "client_timeout = %s\n"
              "server_timeout = %s\n",
              name, port, e->n_nodes == 1 ? "any" : role, e->values[TIMEOUT_CONNECT],
              e->values[TIMEOUT_CLIENT], e->values[TIMEOUT_SERVER]);
}

static void add_cluster(const struct environment *e, struct text *ini)
{
    text_addf(ini,
              "[cluster main]\n"
              "nodes = %s\n"
              "check = %s\n"
              "check_interval = %s\n"
              "check_timeout = 5s\n"
              "rise = 2\n"
              "fall = 3\n",
              e->nodes, e->n_nodes == 1 ? "tcp" : "patroni", e->values[CHECK_INTERVAL]);
}

static void add_ini(const struct environment *e, struct text *ini)
{
    text_addf(ini,
              "[pgrouter]\n"
              "max_client_conn = %s\n",
              e->values[MAX_CONN]);
    add_cluster(e, ini);
    add_listener(e, ini, "postgresql_primary", 5432, "primary");
    add_listener(e, ini, "postgresql_replicas", 5433, "replica");
    text_add(ini, "[stats]\n"
                  "bind = *:8404\n"
                  "uri = /stats\n");
}

enum environment_result environment_add_cluster(char *(*get)(const char *name),
                                                struct text *ini, struct text *errors)
{
    struct environment e = {.errors = errors};
    enum environment_result result = ENVIRONMENT_OK;

    read_nodes(&e, get("POSTGRES_NODES"));
    read_number(&e, CHECK_INTERVAL, get(variables[CHECK_INTERVAL].name));
    if (!e.has_errors && !e.out_of_memory)
        add_cluster(&e, ini);
    if (e.has_errors)
        result = ENVIRONMENT_BAD;
    else if (e.out_of_memory || ini->overflowed)
        result = ENVIRONMENT_NO_MEMORY;
    memory_free(e.nodes);
    return result;
}

struct config *config_load_environment(char *(*get)(const char *name),
                                       struct text *errors)
{
    struct environment e = {.errors = errors};
    struct config *config = NULL;
    struct text ini;

    text_init(&ini, ENVIRONMENT_INI_MAX);
    read_nodes(&e, get("POSTGRES_NODES"));
    for (enum variable_id id = 0; id < VARIABLE_COUNT; id++)
        read_number(&e, id, get(variables[id].name));
    if (!e.has_errors && !e.out_of_memory)
        add_ini(&e, &ini);
    if (e.out_of_memory || ini.overflowed)
        text_add(errors, "environment: out of memory\n");
    else if (!e.has_errors)
        config = config_load_text("environment", text_get(&ini), errors);
    text_clear(&ini);
    memory_free(e.nodes);
    return config;
}
