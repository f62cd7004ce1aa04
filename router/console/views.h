/* router/console/views.h - an overview as HAProxy's table: CSV, JSON, or with types. */
#ifndef ROUTER_CONSOLE_VIEWS_H
#define ROUTER_CONSOLE_VIEWS_H

#include "core/text.h"
#include "router/console/overview.h"

/* Which rows of the CSV are wanted; a zeroed one wants all. */
struct csv_filter {
    bool is_limited;     /* the next three hold */
    int listener;        /* its number from 1 on (HAProxy's iid); -1 = all */
    unsigned types;      /* of 1 = frontends, 2 = backends, 4 = servers */
    int server;          /* its number (sid); -1 = all */
    const char *name;    /* of the listener; NULL = all */
    bool only_up;        /* no servers that are down */
    bool no_maintenance; /* nor in maintenance */
};
void view_csv_rows(const struct overview *overview, const struct csv_filter *filter,
                   struct text *out);
/* A frontend, its servers and their sum for each listener, in HAProxy's columns. */
void view_csv(const struct overview *overview, struct text *out);

/* The same as HAProxy's JSON, and as "show stat typed" has it. */
void view_json_rows(const struct overview *overview, const struct csv_filter *filter,
                    struct text *out);
void view_json(const struct overview *overview, struct text *out);
void view_typed_rows(const struct overview *overview, const struct csv_filter *filter,
                     struct text *out);

/* What a node is to a listener, in HAProxy's words: UP, DOWN, DRAIN, ... */
const char *view_status(const struct overview_server *server);
/* The result of the last check, in HAProxy's words: L7OK, L4CON, ... */
const char *view_check_code(const struct node_report *report, enum check_kind check);

#endif
