#include "health/patroni_json.h"

#include <string.h>
#include <strings.h>

void patroni_json_text(const json_t *object, const char *key, char *to, size_t size)
{
    const char *text = json_string_value(json_object_get(object, key));

    if (text != NULL)
        sample_copy_text(to, size, text);
}

uint64_t patroni_json_count(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));

    return value > 0 ? (uint64_t)value : 0;
}

bool patroni_json_is_set(const json_t *value)
{
    if (json_is_string(value))
        return json_string_length(value) > 0;
    if (json_is_number(value))
        return json_number_value(value) != 0;
    return json_is_true(value) || json_array_size(value) > 0 ||
           json_object_size(value) > 0;
}

bool patroni_json_is_on(const json_t *value)
{
    static const char *const words[] = {"on", "true", "yes", "1"};
    const char *text = json_string_value(value);

    if (json_is_integer(value))
        return json_integer_value(value) == 1;
    for (size_t i = 0; text != NULL && i < sizeof words / sizeof *words; i++)
        if (strcasecmp(text, words[i]) == 0)
            return true;
    return json_is_true(value);
}

enum node_role patroni_role(const char *word)
{
    if (strcmp(word, "master") == 0 || strcmp(word, "primary") == 0)
        return NODE_PRIMARY;
    if (strcmp(word, "replica") == 0)
        return NODE_REPLICA;
    if (strcmp(word, "standby_leader") == 0)
        return NODE_STANDBY_LEADER;
    return NODE_UNKNOWN;
}
