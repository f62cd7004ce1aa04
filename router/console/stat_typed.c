#include <string.h>

#include "core/check.h"
#include "router/console/haproxy_field.h"
#include "router/console/stat_rows.h"
#include "router/console/views.h"

/* HAProxy's table with the kind of each value, in its two formats. */

static const struct {
    const char *type, *tags;
} types[COLUMN_COUNT] = {
#define TYPE(column, type, tags) [COLUMN_##column] = {type, tags},
#include "router/console/stat_types.def"
};

static const char *const objects[] = {
    [STAT_FRONTEND] = "Frontend",
    [STAT_BACKEND] = "Backend",
    [STAT_SERVER] = "Server",
};

struct writing {
    struct text *out;
    bool has_rows;
};

/* Calls `add` for each value that there is. */
static void each_field(struct text *out, const struct stat_row *row,
                       void (*add)(struct text *out, const struct stat_row *row,
                                   const struct haproxy_field *field, const char *value))
{
    for (unsigned i = 0; i < COLUMN_COUNT; i++) {
        const struct haproxy_field field = {i, stat_column_names[i], types[i].tags,
                                            types[i].type};

        if (row->cells[i][0] == '\0')
            continue;
        REQUIRE(field.type != NULL); /* stat_types.def has a line for it */
        add(out, row, &field, row->cells[i]);
    }
}

static void add_typed(struct text *out, const struct stat_row *row,
                      const struct haproxy_field *field, const char *value)
{
    text_addf(out, "%c.%s.%s.", objects[row->type][0], row->cells[COLUMN_iid],
              row->cells[COLUMN_sid]);
    haproxy_add_typed(out, field, value);
}

static void add_typed_row(void *arg, const struct stat_row *row)
{
    each_field(((struct writing *)arg)->out, row, add_typed);
}

static void add_json(struct text *out, const struct stat_row *row,
                     const struct haproxy_field *field, const char *value)
{
    text_addf(out, "%s{\"objType\":\"%s\",\"proxyId\":%s,\"id\":%s,",
              field->position == 0 ? "" : ",", objects[row->type], row->cells[COLUMN_iid],
              row->cells[COLUMN_sid]);
    haproxy_add_json(out, field, value);
}

static void add_json_row(void *arg, const struct stat_row *row)
{
    struct writing *writing = arg;

    text_add(writing->out, writing->has_rows ? ",[" : "[");
    each_field(writing->out, row, add_json);
    text_add(writing->out, "]");
    writing->has_rows = true;
}

void view_typed_rows(const struct overview *overview, const struct csv_filter *filter,
                     struct text *out)
{
    struct writing writing = {out, false};

    stat_rows_of(overview, filter, add_typed_row, &writing);
}

void view_json_rows(const struct overview *overview, const struct csv_filter *filter,
                    struct text *out)
{
    struct writing writing = {out, false};

    text_add(out, "[");
    stat_rows_of(overview, filter, add_json_row, &writing);
    text_add(out, "]\n");
}

void view_json(const struct overview *overview, struct text *out)
{
    static const struct csv_filter all = {.is_limited = false};

    view_json_rows(overview, &all, out);
}
