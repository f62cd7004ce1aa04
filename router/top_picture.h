/* router/top_picture.h - what `pgrouter top` shows, as lines: made of the console's rows.
 *
 * Nothing here touches a terminal. What comes from the console is printed without control
 * characters.
 */
#ifndef ROUTER_TOP_PICTURE_H
#define ROUTER_TOP_PICTURE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

#define TOP_LINES_MAX 500
#define TOP_LINE_BYTES 400

enum top_look { LOOK_PLAIN, LOOK_TITLE, LOOK_GOOD, LOOK_WARN, LOOK_BAD };

struct top_line {
    enum top_look look;
    char text[TOP_LINE_BYTES];
};

enum top_table {
    TOP_VERSION,
    TOP_CLUSTERS,
    TOP_NODES,
    TOP_DATABASES,
    TOP_POOLS,
    TOP_STATS,
    TOP_SWITCHOVERS,
    TOP_TABLES
};
/* What is asked for each. */
extern const char *const top_commands[TOP_TABLES];

enum top_order { ORDER_BY_NAME, ORDER_BY_WAITING, ORDER_BY_ACTIVE, TOP_ORDERS };
extern const char *const top_order_names[TOP_ORDERS];

struct top_picture {
    struct top_line lines[TOP_LINES_MAX];
    size_t n;
};

/* `tables` has a result for each command. `before` is what they were `seconds` ago, for
 * rates; NULL: the console's averages are shown. */
void top_picture_make(struct top_picture *picture, PGresult *const *tables,
                      PGresult *const *before, double seconds, enum top_order order);

#endif
