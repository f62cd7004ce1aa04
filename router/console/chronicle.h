/* router/console/chronicle.h - SHOW EVENTS and SHOW HISTORY: what the page keeps of the
 * past, copied at one moment, and its rows.
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_CHRONICLE_H
#define ROUTER_CONSOLE_CHRONICLE_H

#include "core/text.h"
#include "router/console/command.h"
#include "router/console/events.h"
#include "router/console/history.h"

struct chronicle {
    struct events events;
    struct history history;
    time_t now_s;
    uint64_t now_ms; /* of the loop, as history's */
};

/* VIEW_EVENTS: the last one first. VIEW_HISTORY: the last 15 minutes, then the last 24
 * hours, each from its begin. The n-th row; false when there was no room. */
size_t chronicle_count(const struct chronicle *chronicle, enum view_name view);
bool chronicle_add_row(const struct chronicle *chronicle, enum view_name view, size_t n,
                       uint64_t binary, struct text *out) MUST_CHECK;

#endif
