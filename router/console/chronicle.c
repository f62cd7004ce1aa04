#include "router/console/chronicle.h"

#include <math.h>

#include "router/console/row.h"

static size_t count_points(const struct history_ring *ring)
{
    return ring->n_total < ring->size ? ring->n_total : ring->size;
}

size_t chronicle_count(const struct chronicle *chronicle, enum view_name view)
{
    const struct events *events = &chronicle->events;

    if (view == VIEW_EVENTS)
        return events->n_total < EVENTS_KEPT ? events->n_total : EVENTS_KEPT;
    return count_points(&chronicle->history.recent) +
           count_points(&chronicle->history.day);
}

static void write_event(struct row *row, const struct event *event)
{
    row_time(row, event->at_s);
    row_text(row, log_level_name(event->level));
    row_text(row, event->text);
}

/* The n-th of the ring from its begin. */
static void write_point(struct row *row, const struct chronicle *chronicle,
                        const struct history_ring *ring, size_t n)
{
    unsigned back = (unsigned)(count_points(ring) - 1 - n);
    uint64_t ago_ms = chronicle->now_ms - ring->at_ms + (uint64_t)back * ring->step_ms;

    row_number(row, ring->step_ms / 1000);
    row_time(row, chronicle->now_s - (time_t)(ago_ms / 1000));
    for (unsigned i = 0; i < SERIES_COUNT; i++) {
        float value = history_back(ring, i, back);

        if (isnan(value))
            row_text(row, NULL);
        else
            row_number(row, llroundf(value));
    }
}

bool chronicle_add_row(const struct chronicle *chronicle, enum view_name view, size_t n,
                       uint64_t binary, struct text *out)
{
    const struct history *history = &chronicle->history;
    size_t n_recent = count_points(&history->recent);
    struct row row;

    row_begin(&row, view, binary, out);
    if (view == VIEW_EVENTS)
        write_event(&row, events_back(&chronicle->events, n));
    else if (n < n_recent)
        write_point(&row, chronicle, &history->recent, n);
    else
        write_point(&row, chronicle, &history->day, n - n_recent);
    return row_end(&row);
}
