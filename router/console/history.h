/* router/console/history.h - what the process has done in the last 15 minutes and the
 * last 24 hours: rings of fixed size, for the page's charts.
 *
 * Thread: control; a plain value.
 */
#ifndef ROUTER_CONSOLE_HISTORY_H
#define ROUTER_CONSOLE_HISTORY_H

#include <stddef.h>
#include <stdint.h>

#define HISTORY_STEP_MS 5000u
#define HISTORY_POINTS 180u /* 15 minutes */
#define HISTORY_LONG_STEP_MS (300u * 1000u)
#define HISTORY_LONG_POINTS 288u /* 24 hours */

enum history_series {
#define SERIES(name, kind, title, unit) SERIES_##name,
#include "router/console/history.def"
    SERIES_COUNT
};

struct history_series_facts {
    const char *title, *unit;
};
extern const struct history_series_facts history_series_facts[SERIES_COUNT];

/* All counts since the start, and what there is now. */
struct history_sample {
    uint64_t values[SERIES_COUNT];
    uint64_t events[SERIES_COUNT]; /* of a MEAN */
};

/* The last points at equal distances; NAN = nothing is known of that time. */
struct history_ring {
    float points[HISTORY_LONG_POINTS][SERIES_COUNT];
    unsigned size, n_total, step_ms;
    uint64_t at_ms;                 /* of the last one */
    uint64_t due_ms;                /* of the next one */
    struct history_sample last;     /* that the last one was made of */
    uint64_t highest[SERIES_COUNT]; /* of a LEVEL, since the last one */
};

struct history {
    struct history_ring recent, day;
};

/* Now is the first moment. */
void history_init(struct history *history, uint64_t now_ms,
                  const struct history_sample *sample);
/* To be called every HISTORY_STEP_MS; when it was not, the points between are unknown. */
void history_note(struct history *history, uint64_t now_ms,
                  const struct history_sample *sample);
/* The n-th before the last; NAN when there is none. */
float history_back(const struct history_ring *ring, enum history_series series,
                   unsigned n);
/* Highest that is kept; 0 when nothing is known. */
float history_most(const struct history_ring *ring, enum history_series series);

#endif
