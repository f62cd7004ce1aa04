/* What the charts show, of counts made here. */
#include "router/console/history.h"

#include <criterion/criterion.h>
#include <math.h>

static struct history history;
static struct history_sample sample;
static uint64_t now_ms;

static void begin(void)
{
    now_ms = 1000;
    sample = (struct history_sample){{0}, {0}};
    history_init(&history, now_ms, &sample);
}

TestSuite(history, .init = begin, .timeout = 10);

static void after(uint64_t ms)
{
    now_ms += ms;
    history_note(&history, now_ms, &sample);
}

static double last(enum history_series series, unsigned n)
{
    return (double)history_back(&history.recent, series, n);
}

Test(history, knows_nothing_at_first)
{
    cr_expect(isnan(last(SERIES_queries, 0)));
    cr_expect_eq(history_most(&history.recent, SERIES_queries), 0);
}

Test(history, counts_are_shown_per_second)
{
    sample.values[SERIES_queries] = 500;
    after(HISTORY_STEP_MS);
    sample.values[SERIES_queries] = 600;
    after(HISTORY_STEP_MS);
    cr_expect_float_eq(last(SERIES_queries, 0), 20, 0.01);
    cr_expect_float_eq(last(SERIES_queries, 1), 100, 0.01);
    cr_expect(isnan(last(SERIES_queries, 2)));
    cr_expect_float_eq((double)history_most(&history.recent, SERIES_queries), 100, 0.01);
}

Test(history, a_count_that_falls_is_no_flood)
{
    sample.values[SERIES_queries] = 500;
    after(HISTORY_STEP_MS);
    sample.values[SERIES_queries] = 3;
    after(HISTORY_STEP_MS);
    cr_expect_eq(last(SERIES_queries, 0), 0);
}

Test(history, times_are_means)
{
    sample.values[SERIES_query_time] = 3000;
    sample.events[SERIES_query_time] = 10;
    after(HISTORY_STEP_MS);
    cr_expect_float_eq(last(SERIES_query_time, 0), 300, 0.01);
    after(HISTORY_STEP_MS);
    cr_expect_eq(last(SERIES_query_time, 0), 0, "without an event there is no time");
}

Test(history, of_a_level_the_most_is_kept)
{
    sample.values[SERIES_clients] = 7;
    after(1000);
    sample.values[SERIES_clients] = 2;
    after(HISTORY_STEP_MS - 1000);
    cr_expect_eq(last(SERIES_clients, 0), 7);
    after(HISTORY_STEP_MS);
    cr_expect_eq(last(SERIES_clients, 0), 2);
}

Test(history, pictures_between_make_no_points)
{
    for (unsigned i = 0; i < 10; i++)
        after(HISTORY_STEP_MS / 10);
    cr_expect_eq(history.recent.n_total, 1, "timers come a little early or late");
}

Test(history, what_was_missed_is_unknown)
{
    sample.values[SERIES_queries] = 300;
    after(3 * HISTORY_STEP_MS);
    cr_expect_float_eq(last(SERIES_queries, 0), 20, 0.01);
    cr_expect(isnan(last(SERIES_queries, 1)));
    cr_expect(isnan(last(SERIES_queries, 2)));
    cr_expect_eq(history.recent.n_total, 3);
    after(10ull * HISTORY_POINTS * HISTORY_STEP_MS);
    cr_expect(isnan(last(SERIES_queries, HISTORY_POINTS - 1)));
}

Test(history, a_day_goes_on_and_on)
{
    for (unsigned i = 0; i < 2 * HISTORY_LONG_POINTS; i++)
        for (unsigned j = 0; j < HISTORY_LONG_STEP_MS / HISTORY_STEP_MS; j++) {
            sample.values[SERIES_queries] += HISTORY_STEP_MS / 1000 * i;
            sample.values[SERIES_waiting] = i == 3 && j == 5 ? 99 : 1;
            after(HISTORY_STEP_MS);
        }
    cr_expect_eq(history.day.n_total, 2 * HISTORY_LONG_POINTS);
    for (unsigned i = 0; i < HISTORY_LONG_POINTS; i++)
        cr_expect_float_eq((double)history_back(&history.day, SERIES_queries, i),
                           2 * HISTORY_LONG_POINTS - 1 - i, 0.5);
    cr_expect_eq(history_most(&history.day, SERIES_waiting), 1, "it is forgotten");
    cr_expect(isnan(history_back(&history.day, SERIES_queries, HISTORY_LONG_POINTS)));
}
