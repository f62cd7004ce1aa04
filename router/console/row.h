/* router/console/row.h - rows of views, as the protocol has them.
 *
 *   row_begin(&row, view, binary, out);
 *   row_text(&row, "app");
 *   row_number(&row, 7);
 *   if (!row_end(&row)) ... there was no room: nothing of it is in `out`
 *
 * Pure but for the text's memory.
 */
#ifndef ROUTER_CONSOLE_ROW_H
#define ROUTER_CONSOLE_ROW_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "core/text.h"
#include "router/console/command.h"

enum cell_type { CELL_TEXT, CELL_INT4, CELL_INT8, CELL_NUMERIC };

struct column {
    const char *name;
    enum cell_type type;
};

struct view {
    const struct column *columns;
    unsigned n;
};

/* The columns of a view; none of VIEW_NONE. */
struct view view_of(enum view_name name);

/* RowDescription. Bit i of `binary`: column i is sent in binary; no view has more than
 * 64. `name_of_first` may be NULL. */
void row_describe(const struct view *view, uint64_t binary, const char *name_of_first,
                  struct text *out);

struct row {
    struct text *out;
    struct view view;
    uint64_t binary;
    size_t begin; /* in `out` */
    unsigned n;   /* cells so far */
};

void row_begin(struct row *row, enum view_name view, uint64_t binary, struct text *out);
void row_text(struct row *row, const char *value); /* NULL is NULL */
void row_number(struct row *row, int64_t value);
void row_time(struct row *row, time_t then); /* in words, UTC */
/* DataRow is whole; every column has its cell. */
bool row_end(struct row *row) MUST_CHECK;

#endif
