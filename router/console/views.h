/* router/console/views.h - an overview as HAProxy's CSV. */
#ifndef ROUTER_CONSOLE_VIEWS_H
#define ROUTER_CONSOLE_VIEWS_H

#include "core/text.h"
#include "router/console/overview.h"

/* A frontend, its servers and their sum for each listener, in HAProxy's columns. */
void view_csv(const struct overview *overview, struct text *out);

/* What a node is to a listener, in HAProxy's words: UP, DOWN, DRAIN, ... */
const char *view_status(const struct overview_server *server);
/* The result of the last check, in HAProxy's words: L7OK, L4CON, ... */
const char *view_check_code(const struct node_report *report, enum check_kind check);

#endif
