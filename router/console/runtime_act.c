#include "router/console/runtime_act.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/log.h"

/* ---- what is meant ------------------------------------------------------------------
 */

struct target {
    const char *cluster; /* valid until something changes */
    const struct topology_node *node;
};

static const struct topology_node *find_node(const struct topology_cluster *cluster,
                                             const char *name)
{
    for (size_t i = 0; cluster != NULL && i < cluster->n_nodes; i++)
        if (strcmp(cluster->nodes[i].name, name) == 0)
            return &cluster->nodes[i];
    return NULL;
}

/* Of a listener, or by its own name: pools may lead to several. */
static const struct topology_cluster *find_cluster(const struct runtime_scene *scene,
                                                   const char *backend)
{
    const struct door *door = doors_find(scene->doors, backend);
    const char *name = door == NULL || door->listener->settings->to == NULL
                           ? backend
                           : door->listener->settings->to->name;

    return topology_cluster(monitor_topology(scene->monitor), name);
}

/* "backend/server"; NULL: it is said what is wrong. */
static const char *find_target(const struct runtime_scene *scene, char *name,
                               struct target *target)
{
    char *slash = strchr(name, '/');
    const struct topology_cluster *cluster;

    if (slash == NULL || slash == name || slash[1] == '\0')
        return "Require 'backend/server'.\n";
    *slash = '\0';
    cluster = find_cluster(scene, name);
    *slash = '/';
    if (cluster == NULL)
        return "No such backend.\n";
    target->node = find_node(cluster, slash + 1);
    if (target->node == NULL)
        return "No such server.\n";
    target->cluster = cluster->name;
    return NULL;
}

static struct door *find_frontend(const struct runtime_scene *scene, const char *name,
                                  struct text *out)
{
    struct door *door = *name == '\0' ? NULL : doors_find(scene->doors, name);

    if (*name == '\0')
        text_add(out, "A frontend name is expected.\n");
    else if (door == NULL)
        text_add(out, "No such frontend.\n");
    return door;
}

/* ---- nodes --------------------------------------------------------------------------
 */

/* The monitor makes a new topology of it, and keeps the last one only. */
static void set_word(const struct runtime_scene *scene, const struct target *target,
                     enum node_word word, struct text *out)
{
    struct topology *topology = topology_hold(monitor_topology(scene->monitor));

    if (!monitor_set_word(scene->monitor, target->cluster, target->node->name, word,
                          scene->who))
        text_add(out, "No such server.\n");
    topology_release(topology);
}

static void set_state(const struct runtime_scene *scene, const struct target *target,
                      const char *state, struct text *out)
{
    if (strcmp(state, "ready") == 0)
        set_word(scene, target, WORD_READY, out);
    else if (strcmp(state, "drain") == 0)
        set_word(scene, target, WORD_DRAIN, out);
    else if (strcmp(state, "maint") == 0)
        set_word(scene, target, WORD_MAINT, out);
    else
        text_add(out, "'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n");
}

/* A number, or a share of the first weight, which is 1. NULL: it is said what is wrong.
 */
static const char *read_weight(const char *text, unsigned *weight)
{
    char *end;
    long n = strtol(text, &end, 10);
    bool is_share = *end == '%' && end[1] == '\0';

    if (*text == '\0')
        return "Require <weight> or <weight%>.\n";
    if (end == text || (*end != '\0' && !is_share))
        return "Empty weight string empty or preceded by garbage.\n";
    if (n < 0 || (!is_share && n > (long)NODE_WEIGHT_MAX))
        return is_share ? "Relative weight must be positive.\n"
                        : "Absolute weight can only be between 0 and 256 inclusive.\n";
    n = is_share ? (n < 100L * (long)NODE_WEIGHT_MAX ? n / 100 : (long)NODE_WEIGHT_MAX)
                 : n;
    *weight = (unsigned)n;
    return NULL;
}

static void set_weight(const struct runtime_scene *scene, const struct target *target,
                       const char *text, struct text *out)
{
    struct topology *topology;
    unsigned weight = 0;
    const char *why = read_weight(text, &weight);

    if (why != NULL) {
        text_add(out, why);
        return;
    }
    topology = topology_hold(monitor_topology(scene->monitor));
    if (!monitor_set_weight(scene->monitor, target->cluster, target->node->name, weight,
                            scene->who))
        text_add(out, "No such server.\n");
    topology_release(topology);
}

/* What HAProxy says of a change, or of none. */
static void say_change(struct text *out, const char *what, const char *from,
                       const char *to)
{
    if (strcmp(from, to) == 0)
        text_addf(out, "no need to change the %s",
                  strcmp(what, "IP") == 0 ? "addr" : what);
    else
        text_addf(out, "%s changed from '%s' to '%s'", what, from, to);
}

static void say_move(const struct topology_node *node, const struct address *to,
                     struct text *out)
{
    char from_host[ADDRESS_TEXT_MAX] = "", to_host[ADDRESS_TEXT_MAX];
    char from_port[8] = "", to_port[8];

    if (node->n_addresses > 0) {
        address_print_host(&node->addresses[0], from_host);
        snprintf(from_port, sizeof from_port, "%u", address_port(&node->addresses[0]));
    }
    snprintf(to_port, sizeof to_port, "%u", address_port(to));
    say_change(out, "IP", from_host, address_print_host(to, to_host));
    if (address_port(to) != 0) {
        text_add(out, ", ");
        say_change(out, "port", from_port, to_port);
    }
    if (strcmp(from_host, to_host) != 0 ||
        (address_port(to) != 0 && strcmp(from_port, to_port) != 0))
        text_add(out, " by 'stats socket command'");
    text_add(out, "\n");
}

/* "addr 10.0.0.1", "addr 10.0.0.1 port 5433". NULL: it is said what is wrong. */
static const char *read_address(const struct runtime_order *order,
                                struct address *address)
{
    const char *host = runtime_operand(order, 2), *port = runtime_operand(order, 4);
    unsigned long n = 0;
    char *end;

    if (*host == '\0' || order->n_operands == 4 || order->n_operands > 5 ||
        (order->n_operands > 3 && strcmp(runtime_operand(order, 3), "port") != 0))
        return "set server <b>/<s> addr requires an address and optionally a port.\n";
    if (order->n_operands > 3) {
        n = strtoul(port, &end, 10);
        if (*port < '0' || *port > '9' || *end != '\0' || n == 0 || n > UINT16_MAX)
            return "provided port is not an integer from 1 to 65535.\n";
    }
    return address_parse(host, (uint16_t)n, address)
               ? NULL
               : "Invalid addr: an IPv4 or IPv6 address is expected.\n";
}

static void set_address(const struct runtime_scene *scene,
                        const struct runtime_order *order, const struct target *target,
                        struct text *out)
{
    struct topology *topology;
    struct address to;
    const char *why = read_address(order, &to);

    if (why != NULL) {
        text_add(out, why);
        return;
    }
    topology = topology_hold(monitor_topology(scene->monitor));
    if (monitor_set_address(scene->monitor, target->cluster, target->node->name, &to,
                            scene->who))
        say_move(target->node, &to, out);
    else
        text_add(out, "No such server.\n");
    topology_release(topology);
}

static void set_server(const struct runtime_scene *scene,
                       const struct runtime_order *order, const struct target *target,
                       struct text *out)
{
    const char *what = runtime_operand(order, 1);

    if (strcmp(what, "state") == 0)
        set_state(scene, target, runtime_operand(order, 2), out);
    else if (strcmp(what, "weight") == 0)
        set_weight(scene, target, runtime_operand(order, 2), out);
    else if (strcmp(what, "addr") == 0)
        set_address(scene, order, target, out);
    else
        text_add(out, "usage: set server <backend>/<server> addr | state | weight\n");
}

static void act_on_server(const struct runtime_scene *scene,
                          const struct runtime_order *order, struct text *out)
{
    struct target target = {0};
    char empty[] = "";
    const char *why =
        find_target(scene, order->n_operands > 0 ? order->operands[0] : empty, &target);

    if (why != NULL)
        text_add(out, why);
    else if (order->command == RUNTIME_DISABLE_SERVER)
        set_word(scene, &target, WORD_MAINT, out);
    else if (order->command == RUNTIME_ENABLE_SERVER)
        set_word(scene, &target, WORD_READY, out);
    else if (order->command == RUNTIME_SET_WEIGHT)
        set_weight(scene, &target, runtime_operand(order, 1), out);
    else if (order->command == RUNTIME_GET_WEIGHT)
        text_addf(out, "%u (initial 1)\n", target.node->weight);
    else
        set_server(scene, order, &target, out);
}

/* ---- frontends ----------------------------------------------------------------------
 */

static void switch_frontend(const struct runtime_scene *scene,
                            const struct runtime_order *order, struct text *out)
{
    struct door *door = find_frontend(scene, runtime_operand(order, 0), out);
    bool disables = order->command == RUNTIME_DISABLE_FRONTEND;

    if (door == NULL)
        return;
    if (door->is_disabled == disables) {
        text_addf(out, "All sockets are already %s.\n",
                  disables ? "disabled" : "enabled");
        return;
    }
    LOG(INFO, disables ? "listener disabled" : "listener enabled",
        TEXT("listener", door->listener->settings->name), TEXT("by", scene->who));
    if (disables)
        door_disable(door);
    else
        door_enable(door);
}

/* False: it is not a number that a limit can be, which is said. */
static bool read_limit(const char *text, unsigned *limit, struct text *out)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);

    if (*text < '0' || *text > '9' || *end != '\0') {
        text_add(out, "Integer value expected.\n");
        return false;
    }
    if (n == 0 || n > 1000000) {
        text_add(out, "Value out of range.\n");
        return false;
    }
    *limit = (unsigned)n;
    return true;
}

static void set_max_frontend(const struct runtime_scene *scene,
                             const struct runtime_order *order, struct text *out)
{
    struct door *door = find_frontend(scene, runtime_operand(order, 0), out);
    unsigned limit;

    if (door == NULL || !read_limit(runtime_operand(order, 1), &limit, out))
        return;
    LOG(INFO, "limit set", TEXT("listener", door->listener->settings->name),
        NUMBER("maxconn", limit), TEXT("by", scene->who));
    door->gate.max = limit;
    scene->source->admit(scene->arg);
}

static void set_max_global(const struct runtime_scene *scene,
                           const struct runtime_order *order, struct text *out)
{
    unsigned limit;

    if (!read_limit(runtime_operand(order, 0), &limit, out))
        return;
    if (!scene->source->set_max_clients(scene->arg, limit)) {
        text_add(out, "Value out of range.\n");
        return;
    }
    LOG(INFO, "limit set", NUMBER("max_client_conn", limit), TEXT("by", scene->who));
    scene->source->admit(scene->arg);
}

/* ---- all of them --------------------------------------------------------------------
 */

static void show_backends(const struct runtime_scene *scene,
                          const struct runtime_order *order, struct text *out)
{
    (void)order;
    text_add(out, "# name\n");
    LIST_EACH(item, &scene->doors->open)
    {
        text_addf(out, "%s\n",
                  CONTAINER_OF(item, struct door, in_doors)->listener->settings->name);
    }
}

static void show_errors(const struct runtime_scene *scene,
                        const struct runtime_order *order, struct text *out)
{
    struct timespec now;
    struct tm tm;
    char text[40];

    (void)scene;
    (void)order;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &tm);
    strftime(text, sizeof text, "%d/%b/%Y:%H:%M:%S", &tm);
    text_addf(out, "Total events captured on [%s.%03ld] : 0\n", text,
              now.tv_nsec / 1000000);
}

static void show_version(const struct runtime_scene *scene,
                         const struct runtime_order *order, struct text *out)
{
    (void)scene;
    (void)order;
    text_add(out, PGROUTER_VERSION "\n");
}

static void (*const acts[RUNTIME_COUNT])(const struct runtime_scene *scene,
                                         const struct runtime_order *order,
                                         struct text *out) = {
    [RUNTIME_DISABLE_SERVER] = act_on_server,
    [RUNTIME_ENABLE_SERVER] = act_on_server,
    [RUNTIME_SET_SERVER] = act_on_server,
    [RUNTIME_SET_WEIGHT] = act_on_server,
    [RUNTIME_GET_WEIGHT] = act_on_server,
    [RUNTIME_DISABLE_FRONTEND] = switch_frontend,
    [RUNTIME_ENABLE_FRONTEND] = switch_frontend,
    [RUNTIME_SET_MAX_FRONTEND] = set_max_frontend,
    [RUNTIME_SET_MAX_GLOBAL] = set_max_global,
    [RUNTIME_SHOW_BACKEND] = show_backends,
    [RUNTIME_SHOW_ERRORS] = show_errors,
    [RUNTIME_SHOW_VERSION] = show_version,
};

void runtime_act(const struct runtime_scene *scene, const struct runtime_order *order,
                 struct text *out)
{
    REQUIRE(acts[order->command] != NULL);
    acts[order->command](scene, order, out);
}
