/* router/console/events.h - the last things that control has logged, for the page: nodes
 * that have changed, holds, reloads, what operators have done. (What single clients live
 * through is logged by workers.)
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_EVENTS_H
#define ROUTER_CONSOLE_EVENTS_H

#include <time.h>

#include "core/log.h"

#define EVENTS_KEPT 64u
#define EVENT_TEXT_MAX 240u

struct event {
    time_t at_s;
    enum log_level level;
    char text[EVENT_TEXT_MAX]; /* cut, where it is longer */
};

struct events {
    struct event kept[EVENTS_KEPT]; /* a ring */
    size_t n_total;                 /* that there ever were */
};

void events_note(struct events *events, enum log_level level, const char *text);
/* The n-th before the last; NULL when there is none. */
const struct event *events_back(const struct events *events, size_t n);

#endif
