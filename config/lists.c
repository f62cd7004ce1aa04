#include "config/lists.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "config/unit.h"
#include "core/memory.h"

#define BLANKS " \t"
#define NAME_MAX_BYTES 253 /* as a host's in DNS */
#define ENTRY_SHOWN_MAX 80 /* of a wrong entry, in an error */

char *lists_next_entry(char **rest)
{
    char *entry = *rest, *end;

    if (entry == NULL)
        return NULL;
    entry += strspn(entry, BLANKS);
    end = strchrnul(entry, ',');
    *rest = *end == '\0' ? NULL : end + 1;
    while (end > entry && strchr(BLANKS, end[-1]) != NULL)
        end--;
    *end = '\0';
    return entry;
}

static size_t count_entries(const char *text)
{
    size_t n = 1;

    if (text[strspn(text, BLANKS)] == '\0')
        return 0;
    for (; *text != '\0'; text++)
        if (*text == ',')
            n++;
    return n;
}

/* Fills one zeroed item. On false as lists_parse_node(). */
typedef bool item_parser(char *entry, void *item, const char **why);

/* `items` becomes an array of `*n` items, filled up to the one that failed. */
static enum value_result parse_items(const char *text, size_t item_size,
                                     item_parser *parse, void **items, size_t *n,
                                     struct text *why)
{
    size_t n_entries = count_entries(text);
    char *copy, *rest, *entry;
    const char *expected = NULL;
    enum value_result result = VALUE_OK;

    if (n_entries > LISTS_MAX) {
        text_addf(why, "expected at most %d entries", LISTS_MAX);
        return VALUE_BAD;
    }
    if (n_entries == 0)
        return VALUE_OK;
    *items = memory_zeroed(n_entries * item_size);
    copy = memory_text(text);
    if (*items == NULL || copy == NULL) {
        memory_free(copy);
        return VALUE_NO_MEMORY;
    }
    *n = n_entries;
    rest = copy;
    for (size_t i = 0; result == VALUE_OK && (entry = lists_next_entry(&rest)) != NULL;
         i++) {
        const char *shown = text + (entry - copy);
        int n_shown = (int)strnlen(entry, ENTRY_SHOWN_MAX);

        if (parse(entry, (char *)*items + i * item_size, &expected))
            continue;
        result = expected == NULL ? VALUE_NO_MEMORY : VALUE_BAD;
        if (result == VALUE_BAD)
            text_addf(why, "entry %zu '%.*s': expected %s", i + 1, n_shown, shown,
                      expected);
    }
    memory_free(copy);
    return result;
}

/* ---- nodes ---- */

bool lists_is_name(const char *text)
{
    size_t length = strspn(text, "abcdefghijklmnopqrstuvwxyz"
                                 "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

    return length > 0 && length <= NAME_MAX_BYTES && text[length] == '\0' &&
           text[0] != '.' && text[0] != '-';
}

static bool is_number(const char *host)
{
    struct address address;

    return address_parse(host, 0, &address);
}

bool lists_is_same_host(const char *a, const char *b)
{
    struct address number_a, number_b;

    if (strcasecmp(a, b) == 0)
        return true;
    return address_parse(a, 0, &number_a) && address_parse(b, 0, &number_b) &&
           address_same_host(&number_a, &number_b);
}

static bool parse_port(const char *text, uint16_t *port)
{
    int64_t number;

    if (!unit_parse_count(text, &number) || number < 1 || number > 65535)
        return false;
    *port = (uint16_t)number;
    return true;
}

/* Takes the host off the front of "host:...", in place; returns what follows the colon,
 * NULL when it is not well formed. */
static char *take_host(char *text, char **host)
{
    char *colon;

    if (*text == '[') {
        char *end = strchr(text, ']');

        if (end == NULL || end[1] != ':')
            return NULL;
        *end = '\0';
        *host = text + 1;
        return is_number(*host) && strchr(*host, ':') != NULL ? end + 2 : NULL;
    }
    colon = strchr(text, ':');
    if (colon == NULL)
        return NULL;
    *colon = '\0';
    *host = text;
    return lists_is_name(*host) ? colon + 1 : NULL;
}

bool lists_parse_node(char *entry, struct node_config *node, const char **why)
{
    struct node_config found = {0};
    char *name = NULL, *host, *port, *check_port;
    char *equals = strchr(entry, '=');

    *why = "name=host:port or name=host:port:patroniport, IPv6 as [v6]:port";
    if (equals != NULL) {
        *equals = '\0';
        name = entry;
        entry = equals + 1;
    }
    port = take_host(entry, &host);
    if (port == NULL)
        return false;
    check_port = strchr(port, ':');
    if (check_port != NULL)
        *check_port++ = '\0';
    if (check_port != NULL && strchr(check_port, ':') != NULL)
        return false; /* as an IPv6 address without brackets looks */
    if (name != NULL && !lists_is_name(name)) {
        *why = "a name of letters, digits and . _ -";
        return false;
    }
    if (!parse_port(port, &found.port) ||
        (check_port != NULL && !parse_port(check_port, &found.check_port))) {
        *why = "ports from 1 to 65535";
        return false;
    }
    *why = NULL;
    found.host = memory_text(host);
    if (name != NULL)
        found.name = memory_text(name);
    if (found.host == NULL || (name != NULL && found.name == NULL)) {
        lists_clear_node(&found);
        return false;
    }
    *node = found;
    return true;
}

void lists_clear_node(struct node_config *node)
{
    memory_free(node->name);
    memory_free(node->host);
    *node = (struct node_config){0};
}

static bool parse_node_item(char *entry, void *item, const char **why)
{
    return lists_parse_node(entry, item, why);
}

/* The name of a node that was given none: the shortest form first. */
enum name_form { SHORT_HOST, WHOLE_HOST, HOST_AND_PORT };

static char *make_name(const struct node_config *node, enum name_form form)
{
    char text[NAME_MAX_BYTES + 16];

    if (form == SHORT_HOST && !is_number(node->host))
        return memory_text_n(node->host, strcspn(node->host, "."));
    if (form != HOST_AND_PORT)
        return memory_text(node->host);
    snprintf(text, sizeof text, strchr(node->host, ':') ? "[%.*s]:%u" : "%.*s:%u",
             NAME_MAX_BYTES, node->host, node->port);
    return memory_text(text);
}

static bool is_name_shared(const struct node_list *list, size_t index)
{
    for (size_t i = 0; i < list->n; i++)
        if (i != index && list->items[i].name != NULL &&
            strcmp(list->items[i].name, list->items[index].name) == 0)
            return true;
    return false;
}

/* Names those that have no name of their own, all with the same first form, then those
 * that share one with the next form. False: out of memory. */
static bool name_nodes(struct node_list *list)
{
    bool is_to_name[LISTS_MAX];

    for (size_t i = 0; i < list->n; i++)
        is_to_name[i] = list->items[i].name == NULL;
    for (enum name_form form = SHORT_HOST; form <= HOST_AND_PORT; form++) {
        for (size_t i = 0; i < list->n; i++) {
            if (!is_to_name[i])
                continue;
            memory_free(list->items[i].name);
            list->items[i].name = make_name(&list->items[i], form);
            if (list->items[i].name == NULL)
                return false;
        }
        for (size_t i = 0; i < list->n; i++)
            is_to_name[i] = is_to_name[i] && is_name_shared(list, i);
    }
    return true;
}

static enum value_result check_names(const struct node_list *list, struct text *why)
{
    for (size_t i = 0; i < list->n; i++)
        for (size_t earlier = 0; earlier < i; earlier++)
            if (strcmp(list->items[earlier].name, list->items[i].name) == 0) {
                text_addf(why,
                          "entries %zu and %zu are both named '%s'; expected names "
                          "that differ",
                          earlier + 1, i + 1, list->items[i].name);
                return VALUE_BAD;
            }
    return VALUE_OK;
}

enum value_result lists_parse_nodes(const char *text, struct node_list *list,
                                    struct text *why)
{
    struct node_list found = {0};
    void *items = NULL;
    enum value_result result =
        parse_items(text, sizeof *found.items, parse_node_item, &items, &found.n, why);

    found.items = items;
    if (result == VALUE_OK && found.n == 0)
        return VALUE_BAD;
    if (result == VALUE_OK && !name_nodes(&found))
        result = VALUE_NO_MEMORY;
    if (result == VALUE_OK)
        result = check_names(&found, why);
    if (result == VALUE_OK)
        *list = found;
    else
        lists_clear_nodes(&found);
    return result;
}

/* The host as nodes have it: NULL when it is none, or memory is out (`*why` NULL). */
static char *make_host(const char *text, const char **why)
{
    size_t length = strlen(text);
    char *host;

    if (text[0] == '[' && text[length - 1] == ']')
        host = memory_text_n(text + 1, length - 2);
    else
        host = memory_text(text);
    *why = NULL;
    if (host == NULL || is_number(host) || (text[0] != '[' && lists_is_name(host)))
        return host;
    *why = "a host's name or number";
    memory_free(host);
    return NULL;
}

enum value_result lists_make_nodes(const struct name_list *hosts, uint16_t port,
                                   struct node_list *list, struct text *why)
{
    struct node_list found = {.items = memory_zeroed(hosts->n * sizeof *found.items + 1)};
    enum value_result result = found.items == NULL ? VALUE_NO_MEMORY : VALUE_OK;

    for (; result == VALUE_OK && found.n < hosts->n; found.n++) {
        const char *text = hosts->items[found.n], *expected;
        struct node_config *node = &found.items[found.n];

        node->port = port;
        node->host = make_host(text, &expected);
        if (node->host != NULL)
            continue;
        result = expected == NULL ? VALUE_NO_MEMORY : VALUE_BAD;
        if (expected != NULL)
            text_addf(why, "entry %zu '%.*s': expected %s", found.n + 1, ENTRY_SHOWN_MAX,
                      text, expected);
    }
    if (result == VALUE_OK && !name_nodes(&found))
        result = VALUE_NO_MEMORY;
    if (result == VALUE_OK)
        result = check_names(&found, why);
    if (result == VALUE_OK)
        *list = found;
    else
        lists_clear_nodes(&found);
    return result;
}

void lists_clear_nodes(struct node_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        lists_clear_node(&list->items[i]);
    memory_free(list->items);
    *list = (struct node_list){0};
}

static bool equal_node(const struct node_config *a, const struct node_config *b)
{
    return a->port == b->port && a->check_port == b->check_port &&
           strcmp(a->name, b->name) == 0 && strcmp(a->host, b->host) == 0;
}

bool lists_equal_nodes(const struct node_list *a, const struct node_list *b)
{
    size_t i = 0;

    while (i < a->n && i < b->n && equal_node(&a->items[i], &b->items[i]))
        i++;
    return i == a->n && i == b->n;
}

/* ---- stores ---- */

/* Takes "http://" or "https://" off the front of the entry. */
static enum store_scheme take_scheme(char **entry)
{
    static const struct {
        const char *text;
        enum store_scheme scheme;
    } schemes[] = {{"http://", STORE_SCHEME_HTTP}, {"https://", STORE_SCHEME_HTTPS}};

    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++)
        if (strncasecmp(*entry, schemes[i].text, strlen(schemes[i].text)) == 0) {
            *entry += strlen(schemes[i].text);
            return schemes[i].scheme;
        }
    return STORE_SCHEME_NONE;
}

static bool parse_store_item(char *entry, void *item, const char **why)
{
    struct store_endpoint *store = item, found = {0};
    char *host, *port;
    size_t length;

    *why = "host:port, http://host:port or https://host:port, IPv6 as [v6]:port";
    found.scheme = take_scheme(&entry);
    length = strlen(entry);
    if (found.scheme != STORE_SCHEME_NONE && length > 0 && entry[length - 1] == '/')
        entry[length - 1] = '\0'; /* as URLs are often written */
    port = take_host(entry, &host);
    if (port == NULL || strchr(port, ':') != NULL)
        return false;
    if (!parse_port(port, &found.port)) {
        *why = "a port from 1 to 65535";
        return false;
    }
    *why = NULL;
    found.host = memory_text(host);
    if (found.host == NULL)
        return false;
    *store = found;
    return true;
}

enum value_result lists_parse_stores(const char *text, struct store_list *list,
                                     struct text *why)
{
    struct store_list found = {0};
    void *items = NULL;
    enum value_result result =
        parse_items(text, sizeof *found.items, parse_store_item, &items, &found.n, why);

    found.items = items;
    if (result == VALUE_OK)
        *list = found;
    else
        lists_clear_stores(&found);
    return result;
}

void lists_clear_stores(struct store_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        memory_free(list->items[i].host);
    memory_free(list->items);
    *list = (struct store_list){0};
}

static bool equal_store(const struct store_endpoint *a, const struct store_endpoint *b)
{
    return a->port == b->port && a->scheme == b->scheme && strcmp(a->host, b->host) == 0;
}

bool lists_equal_stores(const struct store_list *a, const struct store_list *b)
{
    size_t i = 0;

    while (i < a->n && i < b->n && equal_store(&a->items[i], &b->items[i]))
        i++;
    return i == a->n && i == b->n;
}

/* ---- names ---- */

static bool parse_name_item(char *entry, void *item, const char **why)
{
    *why = *entry == '\0' ? "a name" : NULL;
    if (*entry == '\0')
        return false;
    *(char **)item = memory_text(entry);
    return *(char **)item != NULL;
}

enum value_result lists_parse_names(const char *text, struct name_list *list,
                                    struct text *why)
{
    struct name_list found = {0};
    void *items = NULL;
    enum value_result result =
        parse_items(text, sizeof *found.items, parse_name_item, &items, &found.n, why);

    found.items = items;
    if (result == VALUE_OK)
        *list = found;
    else
        lists_clear_names(&found);
    return result;
}

void lists_clear_names(struct name_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        memory_free(list->items[i]);
    memory_free(list->items);
    *list = (struct name_list){0};
}

bool lists_equal_names(const struct name_list *a, const struct name_list *b)
{
    size_t i = 0;

    while (i < a->n && i < b->n && strcmp(a->items[i], b->items[i]) == 0)
        i++;
    return i == a->n && i == b->n;
}

/* ---- addresses ---- */

bool lists_parse_endpoint(const char *entry, struct endpoint *endpoint, const char **why)
{
    if (!endpoint_parse(entry, endpoint, why)) {
        if (strcmp(*why, "memory") == 0)
            *why = NULL;
        return false;
    }
    if (endpoint->host != NULL && strcmp(endpoint->host, "*") != 0 &&
        !is_number(endpoint->host) && !lists_is_name(endpoint->host)) {
        *why = "a host's name or number in front of the port";
        endpoint_clear(endpoint);
        return false;
    }
    return true;
}

static bool parse_endpoint_item(char *entry, void *item, const char **why)
{
    return lists_parse_endpoint(entry, item, why);
}

enum value_result lists_parse_endpoints(const char *text, struct endpoint_list *list,
                                        struct text *why)
{
    struct endpoint_list found = {0};
    void *items = NULL;
    enum value_result result = parse_items(text, sizeof *found.items, parse_endpoint_item,
                                           &items, &found.n, why);

    found.items = items;
    if (result == VALUE_OK && found.n == 0)
        return VALUE_BAD;
    if (result == VALUE_OK)
        *list = found;
    else
        lists_clear_endpoints(&found);
    return result;
}

void lists_clear_endpoints(struct endpoint_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        endpoint_clear(&list->items[i]);
    memory_free(list->items);
    *list = (struct endpoint_list){0};
}

bool lists_equal_endpoints(const struct endpoint_list *a, const struct endpoint_list *b)
{
    size_t i = 0;

    while (i < a->n && i < b->n && endpoint_equal(&a->items[i], &b->items[i]))
        i++;
    return i == a->n && i == b->n;
}

/* ---- networks ---- */

static bool parse_network_item(char *entry, void *item, const char **why)
{
    *why = "an address, a network as 10.0.0.0/8 or fd00::/8, or unix";
    return network_parse(entry, item);
}

enum value_result lists_parse_networks(const char *text, struct network_list *list,
                                       struct text *why)
{
    struct network_list found = {0};
    void *items = NULL;
    enum value_result result =
        parse_items(text, sizeof *found.items, parse_network_item, &items, &found.n, why);

    found.items = items;
    if (result == VALUE_OK)
        *list = found;
    else
        lists_clear_networks(&found);
    return result;
}

void lists_clear_networks(struct network_list *list)
{
    memory_free(list->items);
    *list = (struct network_list){0};
}

bool lists_equal_networks(const struct network_list *a, const struct network_list *b)
{
    size_t i = 0;

    while (i < a->n && i < b->n && network_equal(&a->items[i], &b->items[i]))
        i++;
    return i == a->n && i == b->n;
}
