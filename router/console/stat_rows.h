/* router/console/stat_rows.h - HAProxy's table of proxies and servers, as texts: what its
 * CSV, the page and the runtime socket show.
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_STAT_ROWS_H
#define ROUTER_CONSOLE_STAT_ROWS_H

#include "core/text.h"
#include "router/console/overview.h"

enum stat_column {
#define COLUMN(name) COLUMN_##name,
#include "router/console/csv.def"
    COLUMN_COUNT
};
extern const char *const stat_column_names[COLUMN_COUNT];

/* What HAProxy puts into `type`. */
enum stat_type { STAT_FRONTEND = 0, STAT_BACKEND = 1, STAT_SERVER = 2 };

struct stat_row {
    enum stat_type type;
    char cells[COLUMN_COUNT][96]; /* "" = HAProxy has nothing to say there either */
};

/* Calls `each` for the frontend, the servers and the backend of each listener. */
void stat_rows(const struct overview *overview,
               void (*each)(void *arg, const struct stat_row *row), void *arg);

/* The same of those that the filter wants. */
struct csv_filter;
void stat_rows_of(const struct overview *overview, const struct csv_filter *filter,
                  void (*each)(void *arg, const struct stat_row *row), void *arg);

#endif
