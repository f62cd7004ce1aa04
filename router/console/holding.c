#include "router/console/holding.h"

#include <jansson.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/log.h"
#include "core/memory.h"
#include "router/console/form.h"

/* ---- answers ------------------------------------------------------------------------
 */

static void write_json(json_t *json, struct text *body)
{
    char *printed = json == NULL ? NULL : json_dumps(json, 0);

    text_add(body, printed == NULL ? "{\"error\": \"out of memory\"}" : printed);
    text_add(body, "\n");
    free(printed);
    json_decref(json);
}

static struct holding_answer refuse(struct text *body, unsigned status, const char *why)
{
    json_t *error = json_stringn_nocheck(why, strlen(why));

    write_json(json_pack("{s:o}", "error", error), body);
    return (struct holding_answer){.status = status};
}

/* ---- who may ------------------------------------------------------------------------
 */

static bool is_same(const char *one, const char *other)
{
    uint8_t digests[2][SHA256_DIGEST_LENGTH];

    SHA256((const uint8_t *)one, strlen(one), digests[0]);
    SHA256((const uint8_t *)other, strlen(other), digests[1]);
    return CRYPTO_memcmp(digests[0], digests[1], SHA256_DIGEST_LENGTH) == 0;
}

static bool is_allowed(const char *authorization, const char *token)
{
    static const char scheme[] = "Bearer ";
    const size_t n = sizeof scheme - 1;

    return strncasecmp(authorization, scheme, n) == 0 &&
           is_same(authorization + n, token);
}

/* ---- what is asked for --------------------------------------------------------------
 */

struct operands {
    char cluster[NODE_NAME_MAX];
    char node[NODE_NAME_MAX];
};

static bool copy(char to[NODE_NAME_MAX], const char *value)
{
    if (strlen(value) >= NODE_NAME_MAX)
        return false;
    strcpy(to, value);
    return true;
}

/* "node=n1&cluster=main"; what else there is counts for nothing. */
static bool read_form(const char *form, struct operands *operands)
{
    struct form_field field;
    enum form_step step;

    while ((step = form_next(&form, &field)) == FORM_FIELD) {
        if (strcmp(field.name, "node") == 0 && !copy(operands->node, field.value))
            return false;
        if (strcmp(field.name, "cluster") == 0 && !copy(operands->cluster, field.value))
            return false;
    }
    return step == FORM_END;
}

static bool read_member(const json_t *json, const char *name, char to[NODE_NAME_MAX])
{
    const json_t *value = json_object_get(json, name);
    const char *text = json_string_value(value);

    if (value == NULL || json_is_null(value))
        return true;
    return text != NULL && copy(to, text);
}

static bool read_body(const char *body, struct operands *operands)
{
    json_t *json;
    bool ok;

    body += strspn(body, " \t\r\n");
    if (*body != '{')
        return read_form(body, operands);
    json = json_loads(body, 0, NULL);
    ok = json_is_object(json) && read_member(json, "node", operands->node) &&
         read_member(json, "cluster", operands->cluster);
    json_decref(json);
    return ok;
}

static bool read_operands(const struct holding_request *request,
                          struct operands *operands)
{
    const char *query = strchr(request->target, '?');

    return read_body(request->body, operands) &&
           (query == NULL || read_form(query + 1, operands));
}

/* ---- whose request ------------------------------------------------------------------
 */

static bool is_at(const struct topology_node *node, const struct address *peer)
{
    for (size_t i = 0; i < node->n_addresses; i++)
        if (address_same_host(&node->addresses[i], peer))
            return true;
    return false;
}

/* Clusters made of a database's hosts have no primary: their names have a colon. */
static bool may_be_meant(const struct topology_cluster *cluster)
{
    return strchr(cluster->name, ':') == NULL;
}

static unsigned count_at(const struct topology_cluster *cluster,
                         const struct address *peer, const struct topology_node **last)
{
    unsigned n = 0;

    for (size_t i = 0; i < cluster->n_nodes; i++)
        if (is_at(&cluster->nodes[i], peer)) {
            *last = &cluster->nodes[i];
            n++;
        }
    return n;
}

/* NULL: it is not clear which one. */
static const struct topology_cluster *only_cluster(const struct topology *topology,
                                                   const struct address *peer)
{
    const struct topology_cluster *only = NULL, *at_peer = NULL;
    const struct topology_node *node;
    unsigned n = 0, n_at_peer = 0;

    for (size_t i = 0; i < topology->n_clusters; i++) {
        const struct topology_cluster *cluster = &topology->clusters[i];

        if (!may_be_meant(cluster))
            continue;
        only = cluster;
        n++;
        if (peer != NULL && count_at(cluster, peer, &node) > 0) {
            at_peer = cluster;
            n_at_peer++;
        }
    }
    return n == 1 ? only : n_at_peer == 1 ? at_peer : NULL;
}

static bool has_node(const struct topology_cluster *cluster, const char *name)
{
    for (size_t i = 0; i < cluster->n_nodes; i++)
        if (strcmp(cluster->nodes[i].name, name) == 0)
            return true;
    return false;
}

/* A request without a node that comes from the primary's own address, where no other
 * node is, means that one. */
static void guess_node(const struct topology_cluster *cluster, const struct address *peer,
                       char node[NODE_NAME_MAX])
{
    const struct topology_node *at_peer = NULL;

    if (node[0] == '\0' && peer != NULL && cluster->primary >= 0 &&
        count_at(cluster, peer, &at_peer) == 1 &&
        at_peer == &cluster->nodes[cluster->primary])
        strcpy(node, at_peer->name);
}

/* ---- the two ------------------------------------------------------------------------
 */

static bool is_path(const char *target, const char *path)
{
    size_t n = strlen(path);

    return strncmp(target, path, n) == 0 && (target[n] == '\0' || target[n] == '?');
}

bool holding_is_meant(const char *target)
{
    return is_path(target, "/hold") || is_path(target, "/release");
}

static struct holding_answer hold(struct monitor *monitor,
                                  const struct topology_cluster *cluster,
                                  const struct holding_request *request,
                                  struct operands *operands, struct text *body)
{
    char why[MONITOR_WHY_MAX] = "", sign[SWITCHOVER_SIGN_MAX], from[ADDRESS_TEXT_MAX];
    uint64_t number;

    guess_node(cluster, request->peer, operands->node);
    snprintf(sign, sizeof sign, "POST /hold from %s",
             request->peer == NULL ? "unix" : address_print_host(request->peer, from));
    number =
        monitor_hold(monitor, cluster->name, operands->node, "", HOLD_BY_HOOK, sign, why);
    LOG(INFO, number != 0 ? "hold asked for" : "hold asked for, but not possible",
        TEXT("cluster", cluster->name), TEXT("node", operands->node), TEXT("sign", sign),
        TEXT("why", why));
    if (number == 0)
        return refuse(body, 409, why);
    write_json(json_pack("{s:s, s:s, s:I}", "cluster", cluster->name, "node",
                         operands->node, "hold", (json_int_t)number),
               body);
    return (struct holding_answer){.status = 200};
}

static struct holding_answer release(struct monitor *monitor,
                                     const struct topology_cluster *cluster,
                                     struct text *body)
{
    bool was_held = monitor_release(monitor, cluster->name, HOLD_BY_HOOK);

    LOG(INFO, "release asked for", TEXT("cluster", cluster->name),
        TEXT("was_held", was_held ? "yes" : "no"));
    write_json(json_pack("{s:s, s:b}", "cluster", cluster->name, "released", was_held),
               body);
    return (struct holding_answer){.status = 200};
}

static struct holding_answer take_in(struct monitor *monitor,
                                     const struct topology *topology,
                                     const struct holding_request *request,
                                     struct text *body)
{
    struct operands operands = {.node = ""};
    const struct topology_cluster *cluster;

    if (!read_operands(request, &operands))
        return refuse(body, 400, "expected node=NAME&cluster=NAME, or these two in JSON");
    cluster = operands.cluster[0] == '\0' ? only_cluster(topology, request->peer)
                                          : topology_cluster(topology, operands.cluster);
    if (cluster == NULL && operands.cluster[0] != '\0')
        return refuse(body, 404, "there is no such cluster");
    if (cluster == NULL)
        return refuse(body, 400,
                      "there are several clusters: say which one (cluster=NAME)");
    if (operands.node[0] != '\0' && !has_node(cluster, operands.node))
        return refuse(body, 404, "the cluster has no such node");
    return is_path(request->target, "/hold")
               ? hold(monitor, cluster, request, &operands, body)
               : release(monitor, cluster, body);
}

/* A hold makes a new topology, and the monitor keeps the last one only. */
static struct holding_answer take_operands(struct monitor *monitor,
                                           const struct holding_request *request,
                                           struct text *body)
{
    struct topology *topology = topology_hold(monitor_topology(monitor));
    struct holding_answer answer = take_in(monitor, topology, request, body);

    topology_release(topology);
    return answer;
}

/* False: there is a refusal. */
static bool has_token(const struct holding_request *request, const char *token,
                      struct text *body, struct holding_answer *refusal)
{
    if (*token == '\0') {
        *refusal = refuse(body, 403,
                          "nobody may do this here: set control_token in section "
                          "[stats], and send it as Authorization: Bearer TOKEN; or have "
                          "a unix socket in its bind, by which no token is needed");
        return false;
    }
    if (is_allowed(request->authorization, token))
        return true;
    *refusal = refuse(body, 401,
                      "expected Authorization: Bearer TOKEN, with the token that "
                      "[stats] control_token says");
    refusal->header = "WWW-Authenticate";
    refusal->value = "Bearer realm=\"pgrouter\"";
    return false;
}

struct holding_answer holding_take(struct monitor *monitor, const char *token,
                                   const struct holding_request *request,
                                   struct text *body)
{
    struct holding_answer answer;

    if (strcmp(request->method, "POST") != 0) {
        answer = refuse(body, 405, "only POST is answered here");
        answer.header = "Allow";
        answer.value = "POST";
        return answer;
    }
    if (!request->is_local && !has_token(request, token, body, &answer))
        return answer;
    if (request->is_too_long)
        return refuse(body, 413, "the body is too long");
    return take_operands(monitor, request, body);
}
