#include "router/console/api.h"

#include <string.h>

#include "core/memory.h"
#include "router/console/escape.h"
#include "wire/startup.h"

static const struct {
    const char *name;
    enum command_name command;
} views[] = {
#define API(name, command) {#name, COMMAND_##command},
#include "router/console/api.def"
};

enum command_name api_command(const char *name, size_t n)
{
    for (unsigned i = 0; i < COUNT_OF(views); i++)
        if (strlen(views[i].name) == n && strncmp(views[i].name, name, n) == 0)
            return views[i].command;
    return COMMAND_UNKNOWN;
}

static const char *name_of(enum command_name command)
{
    for (unsigned i = 0; i < COUNT_OF(views); i++)
        if (views[i].command == command)
            return views[i].name;
    UNREACHABLE();
}

/* ---- rows ---------------------------------------------------------------------------
 */

void api_begin(enum command_name command, struct text *out)
{
    text_addf(out, "{\"view\": \"%s\", \"rows\": [", name_of(command));
}

void api_end(struct text *out)
{
    text_add(out, "\n]}\n");
}

/* A cell's text, which has no zero byte behind it. */
static void add_cell(const struct column *column, const char *bytes, size_t n,
                     struct text *out)
{
    char *text;

    if (column->type != CELL_TEXT) {
        text_add_n(out, bytes, n);
        return;
    }
    text = memory_text_n(bytes, n);
    if (text == NULL)
        out->overflowed = true;
    text_add(out, "\"");
    escape_json(out, text == NULL ? "" : text);
    text_add(out, "\"");
    memory_free(text);
}

/* Behind the header of a DataRow; returns where it ends. */
static const uint8_t *add_row(const struct view *view, const uint8_t *at,
                              struct text *out)
{
    at += 2; /* how many there are */
    for (unsigned i = 0; i < view->n; i++) {
        uint32_t n = wire_read_u32(at);

        at += 4;
        text_addf(out, "%s\"%s\": ", i == 0 ? "" : ", ", view->columns[i].name);
        if (n == UINT32_MAX) {
            text_add(out, "null");
            continue;
        }
        add_cell(&view->columns[i], (const char *)at, n, out);
        at += n;
    }
    return at;
}

void api_add_rows(enum command_name command, const struct text *rows, struct text *out)
{
    struct view view = view_of(command_facts[command].view);
    const uint8_t *at = (const uint8_t *)text_get(rows), *end = at + rows->length;

    while (at < end) {
        bool is_first = out->length > 0 && out->bytes[out->length - 1] == '[';

        text_add(out, is_first ? "\n{" : ",\n{");
        at = add_row(&view, at + 5, out);
        text_add(out, "}");
    }
}

/* ---- what there is ------------------------------------------------------------------
 */

void api_add_index(struct text *out)
{
    text_add(out, "{\"version\": \"" PGROUTER_VERSION "\", \"views\": [");
    for (unsigned i = 0; i < COUNT_OF(views); i++)
        text_addf(out, "%s\"%s\"", i == 0 ? "" : ", ", views[i].name);
    text_add(out, "]}\n");
}

static void add_row_schema(const struct view *view, struct text *out)
{
    text_add(out, "{\"type\": \"object\", \"properties\": {");
    for (unsigned i = 0; i < view->n; i++)
        text_addf(out, "%s\n  \"%s\": {\"type\": [\"%s\", \"null\"]}", i == 0 ? "" : ",",
                  view->columns[i].name,
                  view->columns[i].type == CELL_TEXT ? "string" : "integer");
    text_add(out, "},\n \"required\": [");
    for (unsigned i = 0; i < view->n; i++)
        text_addf(out, "%s\"%s\"", i == 0 ? "" : ", ", view->columns[i].name);
    text_add(out, "]}");
}

void api_add_schema(struct text *out)
{
    text_add(out, "{\"$schema\": \"https://json-schema.org/draft/2020-12/schema\",\n"
                  "\"title\": \"pgrouter's /api/v1\",\n\"oneOf\": [");
    for (unsigned i = 0; i < COUNT_OF(views); i++) {
        struct view view = view_of(command_facts[views[i].command].view);

        text_addf(out,
                  "%s\n{\"type\": \"object\", \"required\": [\"view\", \"rows\"],\n "
                  "\"properties\": {\"view\": {\"const\": \"%s\"}, \"rows\": "
                  "{\"type\": \"array\", \"items\":\n ",
                  i == 0 ? "" : ",", views[i].name);
        add_row_schema(&view, out);
        text_add(out, "}}}");
    }
    text_add(out, "\n]}\n");
}
