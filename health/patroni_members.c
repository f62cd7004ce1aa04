#include "health/patroni_members.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "health/sample.h"

/* ---- members ---- */

static const char *text_of(const json_t *member, const char *key)
{
    const char *text = json_string_value(json_object_get(member, key));

    return text == NULL ? "" : text;
}

static bool is_at(const json_t *member, const struct topology_node *node)
{
    json_int_t port = json_integer_value(json_object_get(member, "port"));
    const char *host = text_of(member, "host");
    struct address address;
    bool is_number = address_parse(host, 0, &address);

    if (*host == '\0' || node->n_addresses == 0 ||
        port != address_port(&node->addresses[0]))
        return false;
    if (strcasecmp(host, node->host) == 0)
        return true;
    for (size_t i = 0; is_number && i < node->n_addresses; i++)
        if (address_same_host(&address, &node->addresses[i]))
            return true;
    return false;
}

/* A name that is too long for us is nobody's. */
static void copy_name(char to[PATRONI_NAME_MAX], const char *name)
{
    if (strlen(name) < PATRONI_NAME_MAX)
        strcpy(to, name);
}

static void find(const json_t *list, const struct topology_node *node,
                 char name[PATRONI_NAME_MAX])
{
    const json_t *member;
    size_t i;

    json_array_foreach(list, i, member)
    {
        if (is_at(member, node)) {
            copy_name(name, text_of(member, "name"));
            return;
        }
    }
    json_array_foreach(list, i, member)
    {
        if (strcmp(text_of(member, "name"), node->name) == 0) {
            copy_name(name, node->name);
            return;
        }
    }
}

bool patroni_read_members(const char *body, size_t length,
                          const struct topology_node *from,
                          const struct topology_node *to, struct patroni_members *members)
{
    json_t *json = json_loadb(body, length, 0, NULL);
    const json_t *list = json_object_get(json, "members");
    const json_t *member;
    size_t i;
    bool is_one = json_is_array(list);

    *members = (struct patroni_members){.is_paused =
                                            json_is_true(json_object_get(json, "pause"))};
    json_array_foreach(list, i, member)
    {
        if (strcmp(text_of(member, "role"), "leader") == 0)
            copy_name(members->leader, text_of(member, "name"));
    }
    find(list, from, members->from);
    if (to != NULL)
        find(list, to, members->to);
    json_decref(json);
    return is_one;
}

/* ---- the request ---- */

bool patroni_write_switchover(const char *leader, const char *candidate, struct text *out)
{
    json_t *json = json_object();
    bool ok =
        json != NULL && json_object_set_new(json, "leader", json_string(leader)) == 0;
    char *printed = NULL;

    if (ok && *candidate != '\0')
        ok = json_object_set_new(json, "candidate", json_string(candidate)) == 0;
    if (ok)
        printed = json_dumps(json, 0);
    json_decref(json);
    if (printed != NULL)
        text_add(out, printed);
    ok = printed != NULL && !out->overflowed;
    free(printed);
    return ok;
}

void patroni_read_words(const char *body, char *words, size_t size)
{
    size_t n;

    sample_copy_text(words, size, body);
    for (n = strlen(words); n > 0 && (words[n - 1] == ' ' || words[n - 1] == '?'); n--)
        words[n - 1] = '\0'; /* of the line's end, among others */
}

bool patroni_leaves_open(int http_status, const char *body)
{
    return http_status == 200 || http_status == 202 ||
           (http_status == 503 && strstr(body, "status unknown") != NULL);
}
