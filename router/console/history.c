#include "router/console/history.h"

#include <math.h>
#include <string.h>

enum series_kind { RATE, MEAN, LEVEL };

static const enum series_kind kinds[SERIES_COUNT] = {
#define SERIES(name, kind, title, unit) [SERIES_##name] = (kind),
#include "router/console/history.def"
};

const struct history_series_facts history_series_facts[SERIES_COUNT] = {
#define SERIES(name, kind, title, unit) [SERIES_##name] = {title, unit},
#include "router/console/history.def"
};

static void begin_ring(struct history_ring *ring, unsigned size, unsigned step_ms,
                       uint64_t now_ms, const struct history_sample *sample)
{
    memset(ring, 0, sizeof *ring);
    ring->size = size;
    ring->step_ms = step_ms;
    ring->at_ms = now_ms;
    ring->due_ms = now_ms + step_ms;
    ring->last = *sample;
}

void history_init(struct history *history, uint64_t now_ms,
                  const struct history_sample *sample)
{
    begin_ring(&history->recent, HISTORY_POINTS, HISTORY_STEP_MS, now_ms, sample);
    begin_ring(&history->day, HISTORY_LONG_POINTS, HISTORY_LONG_STEP_MS, now_ms, sample);
}

/* A count is lower than before when what it was counted for is gone. */
static uint64_t more(uint64_t now, uint64_t then)
{
    return now > then ? now - then : 0;
}

static float point(const struct history_ring *ring, const struct history_sample *sample,
                   unsigned series, uint64_t ms)
{
    uint64_t n = more(sample->values[series], ring->last.values[series]);
    uint64_t events = more(sample->events[series], ring->last.events[series]);

    switch (kinds[series]) {
    case RATE:
        return (float)((double)n * 1e3 / (double)ms);
    case MEAN:
        return events == 0 ? 0.f : (float)((double)n / (double)events);
    case LEVEL:
        return (float)ring->highest[series];
    }
    return NAN;
}

static float *next_point(struct history_ring *ring)
{
    return ring->points[ring->n_total++ % ring->size];
}

/* Of a time without a sample nobody knows how it was spread. */
static void add_unknown(struct history_ring *ring, uint64_t n)
{
    for (; n > 0; n--) {
        float *points = next_point(ring);

        for (unsigned i = 0; i < SERIES_COUNT; i++)
            points[i] = NAN;
    }
}

/* Timers come a little early or late: what is due soon is due. */
static uint64_t steps_since(const struct history_ring *ring, uint64_t now_ms)
{
    uint64_t soon_ms = now_ms + HISTORY_STEP_MS / 10;

    return soon_ms < ring->due_ms ? 0 : 1 + (soon_ms - ring->due_ms) / ring->step_ms;
}

static void note(struct history_ring *ring, uint64_t now_ms,
                 const struct history_sample *sample)
{
    uint64_t n = steps_since(ring, now_ms);
    float *points;

    for (unsigned i = 0; i < SERIES_COUNT; i++)
        if (sample->values[i] > ring->highest[i])
            ring->highest[i] = sample->values[i];
    if (n == 0)
        return;
    add_unknown(ring, n - 1 < ring->size ? n - 1 : ring->size);
    points = next_point(ring);
    for (unsigned i = 0; i < SERIES_COUNT; i++)
        points[i] = point(ring, sample, i, now_ms - ring->at_ms);
    memset(ring->highest, 0, sizeof ring->highest);
    ring->due_ms += n * ring->step_ms;
    ring->at_ms = now_ms;
    ring->last = *sample;
}

void history_note(struct history *history, uint64_t now_ms,
                  const struct history_sample *sample)
{
    note(&history->recent, now_ms, sample);
    note(&history->day, now_ms, sample);
}

float history_back(const struct history_ring *ring, enum history_series series,
                   unsigned n)
{
    if (n >= ring->n_total || n >= ring->size)
        return NAN;
    return ring->points[(ring->n_total - 1 - n) % ring->size][series];
}

float history_most(const struct history_ring *ring, enum history_series series)
{
    float most = 0.f;

    for (unsigned i = 0; i < ring->size; i++) {
        float value = history_back(ring, series, i);

        if (value > most)
            most = value;
    }
    return most;
}
