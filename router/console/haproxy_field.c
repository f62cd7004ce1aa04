#include "router/console/haproxy_field.h"

#include <string.h>

#include "router/console/escape.h"

void haproxy_add_typed(struct text *out, const struct haproxy_field *field,
                       const char *value)
{
    text_addf(out, "%u.%s.1:%s:%s:%s\n", field->position, field->name, field->tags,
              field->type, value);
}

static const char *origin_name(char tag)
{
    switch (tag) {
    case 'M':
        return "Metric";
    case 'S':
        return "Status";
    case 'K':
        return "Key";
    case 'C':
        return "Config";
    default:
        return "Product";
    }
}

static const char *nature_name(char tag)
{
    static const struct {
        char tag;
        const char *name;
    } natures[] = {
        {'G', "Gauge"},    {'C', "Counter"}, {'L', "Limit"}, {'M', "Max"}, {'R', "Rate"},
        {'D', "Duration"}, {'A', "Age"},     {'N', "Name"},  {'a', "Avg"},
    };

    for (size_t i = 0; i < COUNT_OF(natures); i++)
        if (natures[i].tag == tag)
            return natures[i].name;
    return "Output";
}

void haproxy_add_json(struct text *out, const struct haproxy_field *field,
                      const char *value)
{
    bool is_text = strcmp(field->type, "str") == 0;

    text_addf(out,
              "\"field\":{\"pos\":%u,\"name\":\"%s\"},\"processNum\":1,\"tags\":{"
              "\"origin\":\"%s\",\"nature\":\"%s\",\"scope\":\"%s\"},\"value\":{"
              "\"type\":\"%s\",\"value\":",
              field->position, field->name, origin_name(field->tags[0]),
              nature_name(field->tags[1]), field->tags[2] == 'S' ? "Service" : "Process",
              field->type);
    if (is_text)
        text_add(out, "\"");
    escape_json(out, value);
    text_add(out, is_text ? "\"}}" : "}}");
}
