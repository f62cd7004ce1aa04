#include "router/console/events.h"

#include <stdio.h>

void events_note(struct events *events, enum log_level level, const char *text)
{
    struct event *event = &events->kept[events->n_total++ % EVENTS_KEPT];

    event->at_s = time(NULL);
    event->level = level;
    snprintf(event->text, sizeof event->text, "%s", text);
}

const struct event *events_back(const struct events *events, size_t n)
{
    if (n >= events->n_total || n >= EVENTS_KEPT)
        return NULL;
    return &events->kept[(events->n_total - 1 - n) % EVENTS_KEPT];
}
