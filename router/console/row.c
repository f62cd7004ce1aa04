#include "router/console/row.h"

#include <stdio.h>
#include <string.h>

#include "wire/startup.h"

/* pg_type's oid and typlen. */
static const struct {
    uint32_t oid;
    int16_t bytes;
} types[] = {
    [CELL_TEXT] = {25, -1},
    [CELL_INT4] = {23, 4},
    [CELL_INT8] = {20, 8},
    [CELL_NUMERIC] = {1700, -1},
};

static const struct column columns[] = {
#define COLUMN(view, type, name) {name, CELL_##type},
#include "router/console/columns.def"
};

static const enum view_name view_of_column[] = {
#define COLUMN(view, type, name) VIEW_##view,
#include "router/console/columns.def"
};

struct view view_of(enum view_name name)
{
    struct view view = {0};

    for (unsigned i = 0; i < COUNT_OF(columns); i++) {
        if (view_of_column[i] != name)
            continue;
        if (view.n++ == 0)
            view.columns = &columns[i];
    }
    return view;
}

static void add_u16(struct text *out, unsigned value)
{
    const char bytes[2] = {(char)(value >> 8), (char)value};

    text_add_n(out, bytes, sizeof bytes);
}

static void add_u32(struct text *out, uint32_t value)
{
    uint8_t bytes[4];

    wire_write_u32(bytes, value);
    text_add_n(out, (const char *)bytes, sizeof bytes);
}

static size_t begin_message(char type, struct text *out)
{
    size_t begin = out->length;

    text_add_n(out, &type, 1);
    add_u32(out, 0);
    return begin;
}

/* Writes the length where begin_message() has left room for it; nothing of the message
 * stays when there was no room. */
static bool end_message(size_t begin, struct text *out)
{
    if (out->overflowed) {
        out->overflowed = false;
        out->length = begin;
        return false;
    }
    wire_write_u32((uint8_t *)out->bytes + begin + 1,
                   (uint32_t)(out->length - begin - 1));
    return true;
}

void row_describe(const struct view *view, uint64_t binary, const char *name_of_first,
                  struct text *out)
{
    size_t begin = begin_message('T', out);

    add_u16(out, view->n);
    for (unsigned i = 0; i < view->n; i++) {
        const struct column *column = &view->columns[i];
        const char *name = i == 0 && name_of_first != NULL ? name_of_first : column->name;

        text_add_n(out, name, strlen(name) + 1);
        add_u32(out, 0); /* of no table */
        add_u16(out, 0);
        add_u32(out, types[column->type].oid);
        add_u16(out, (unsigned)(uint16_t)types[column->type].bytes);
        add_u32(out, UINT32_MAX); /* no modifier */
        add_u16(out, binary >> i & 1);
    }
    (void)end_message(begin, out);
}

void row_begin(struct row *row, enum view_name view, uint64_t binary, struct text *out)
{
    *row = (struct row){.out = out, .view = view_of(view), .binary = binary};
    row->begin = begin_message('D', out);
    add_u16(out, row->view.n);
}

void row_time(struct row *row, time_t then)
{
    char text[32];
    struct tm tm;

    gmtime_r(&then, &tm);
    strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &tm);
    row_text(row, text);
}

static void add_cell(struct row *row, const void *bytes, size_t n)
{
    add_u32(row->out, (uint32_t)n);
    text_add_n(row->out, bytes, n);
}

void row_text(struct row *row, const char *value)
{
    REQUIRE(row->n < row->view.n);
    REQUIRE(row->view.columns[row->n].type == CELL_TEXT || value == NULL);
    if (value == NULL)
        add_u32(row->out, UINT32_MAX);
    else
        add_cell(row, value, strlen(value));
    row->n++;
}

/* As numeric_send() in PostgreSQL's src/backend/utils/adt/numeric.c: digits to the base
 * of 10000, the highest first, of a number without a fraction. */
static void add_numeric(struct row *row, int64_t value)
{
    uint64_t rest = value < 0 ? (uint64_t)-value : (uint64_t)value;
    uint16_t digits[5];
    unsigned n = 0;

    for (; rest > 0; rest /= 10000)
        digits[n++] = (uint16_t)(rest % 10000);
    add_u32(row->out, 8 + 2 * n);
    add_u16(row->out, n);
    add_u16(row->out, n == 0 ? 0 : n - 1);
    add_u16(row->out, value < 0 ? 0x4000 : 0);
    add_u16(row->out, 0);
    while (n > 0)
        add_u16(row->out, digits[--n]);
}

static void add_integer(struct row *row, int64_t value, size_t n)
{
    uint8_t bytes[8];

    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)((uint64_t)value >> 8 * (n - 1 - i));
    add_cell(row, bytes, n);
}

void row_number(struct row *row, int64_t value)
{
    enum cell_type type;
    char text[24];

    REQUIRE(row->n < row->view.n);
    type = row->view.columns[row->n].type;
    REQUIRE(type != CELL_TEXT);
    if (type == CELL_INT4) /* what does not fit is as much as can be said */
        value = value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : value;
    if ((row->binary >> row->n & 1) == 0)
        add_cell(row, text,
                 (size_t)snprintf(text, sizeof text, "%lld", (long long)value));
    else if (type == CELL_NUMERIC)
        add_numeric(row, value);
    else
        add_integer(row, value, type == CELL_INT4 ? 4 : 8);
    row->n++;
}

bool row_end(struct row *row)
{
    REQUIRE(row->n == row->view.n);
    return end_message(row->begin, row->out);
}
