/* Rows of SHOW EVENTS and SHOW HISTORY, read as the API shows them. */
#include "router/console/chronicle.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "router/console/api.h"

TestSuite(chronicle, .timeout = 10);

#define START_MS 1000000u
#define NOW_S 1700000000 /* 2023-11-14 22:13:20 UTC */

static struct chronicle *new_chronicle(void)
{
    struct chronicle *chronicle = memory_zeroed(sizeof *chronicle);
    const struct history_sample nothing = {{0}, {0}};

    cr_assert_not_null(chronicle);
    chronicle->now_s = NOW_S;
    chronicle->now_ms = START_MS;
    history_init(&chronicle->history, START_MS, &nothing);
    return chronicle;
}

/* All rows as JSON; free() it. */
static char *rows_of(const struct chronicle *chronicle, enum command_name command)
{
    enum view_name view = command_facts[command].view;
    struct text rows, out;
    char *copy;

    text_init(&rows, 1 << 20);
    text_init(&out, 1 << 20);
    for (size_t i = 0; i < chronicle_count(chronicle, view); i++)
        cr_assert(chronicle_add_row(chronicle, view, i, 0, &rows));
    api_begin(command, &out);
    api_add_rows(command, &rows, &out);
    api_end(&out);
    copy = strdup(text_get(&out));
    text_clear(&rows);
    text_clear(&out);
    return copy;
}

static unsigned count(const char *text, const char *word)
{
    unsigned n = 0;

    while ((text = strstr(text, word)) != NULL) {
        text += strlen(word);
        n++;
    }
    return n;
}

Test(chronicle, the_last_event_comes_first)
{
    struct chronicle *chronicle = new_chronicle();
    char *rows;

    events_note(&chronicle->events, LOG_LEVEL_INFO, "one");
    events_note(&chronicle->events, LOG_LEVEL_ERROR, "two");
    chronicle->events.kept[0].at_s = NOW_S;
    chronicle->events.kept[1].at_s = NOW_S + 1;
    rows = rows_of(chronicle, COMMAND_SHOW_EVENTS);
    cr_expect_str_eq(rows,
                     "{\"view\": \"events\", \"rows\": [\n"
                     "{\"time\": \"2023-11-14 22:13:21 UTC\", \"level\": \"error\", "
                     "\"text\": \"two\"},\n"
                     "{\"time\": \"2023-11-14 22:13:20 UTC\", \"level\": \"info\", "
                     "\"text\": \"one\"}\n]}\n");
    free(rows);
    memory_free(chronicle);
}

Test(chronicle, there_are_as_many_events_as_are_kept)
{
    struct chronicle *chronicle = new_chronicle();
    char *rows;

    cr_expect_eq(chronicle_count(chronicle, VIEW_EVENTS), 0);
    for (unsigned i = 0; i < EVENTS_KEPT + 3; i++)
        events_note(&chronicle->events, LOG_LEVEL_INFO, i < 3 ? "old" : "new");
    rows = rows_of(chronicle, COMMAND_SHOW_EVENTS);
    cr_expect_eq(count(rows, "\"old\""), 0);
    cr_expect_eq(count(rows, "\"new\""), EVENTS_KEPT);
    free(rows);
    memory_free(chronicle);
}

static void note(struct chronicle *chronicle, uint64_t after_ms, uint64_t transactions)
{
    struct history_sample sample = {{0}, {0}};

    sample.values[SERIES_transactions] = transactions;
    sample.values[SERIES_clients] = 7;
    chronicle->now_ms = START_MS + after_ms;
    chronicle->now_s = NOW_S + (time_t)(after_ms / 1000);
    history_note(&chronicle->history, chronicle->now_ms, &sample);
}

Test(chronicle, points_stand_in_their_order_with_their_times)
{
    struct chronicle *chronicle = new_chronicle();
    char *rows;

    note(chronicle, HISTORY_STEP_MS, 50);
    note(chronicle, 2 * HISTORY_STEP_MS, 150);
    chronicle->now_s += 2; /* it is looked at a little later */
    chronicle->now_ms += 2000;
    rows = rows_of(chronicle, COMMAND_SHOW_HISTORY);
    cr_expect_eq(strstr(rows,
                        "{\"seconds\": 5, \"time\": \"2023-11-14 22:13:25 UTC\", "
                        "\"transactions\": 10, \"queries\": 0, \"query_time\": 0, "),
                 rows + strlen("{\"view\": \"history\", \"rows\": [\n"));
    cr_expect_not_null(strstr(rows, ",\n{\"seconds\": 5, \"time\": \"2023-11-14 22:13:30 "
                                    "UTC\", \"transactions\": 20, "));
    cr_expect_eq(count(rows, "\"clients\": 7"), 2);
    free(rows);
    memory_free(chronicle);
}

Test(chronicle, what_nobody_knows_is_null)
{
    struct chronicle *chronicle = new_chronicle();
    char *rows;

    note(chronicle, 3 * HISTORY_STEP_MS, 150);
    rows = rows_of(chronicle, COMMAND_SHOW_HISTORY);
    cr_expect_eq(count(rows, "\"transactions\": null"), 2);
    cr_expect_eq(count(rows, "\"transactions\": 10,"), 1);
    free(rows);
    memory_free(chronicle);
}

Test(chronicle, the_day_stands_behind_the_last_minutes)
{
    struct chronicle *chronicle = new_chronicle();
    char *rows, *long_ones;

    for (unsigned i = 1; i <= 2 * HISTORY_POINTS; i++)
        note(chronicle, (uint64_t)i * HISTORY_STEP_MS, i);
    rows = rows_of(chronicle, COMMAND_SHOW_HISTORY);
    cr_expect_eq(count(rows, "\"seconds\": 5,"), HISTORY_POINTS);
    cr_expect_eq(count(rows, "\"seconds\": 300,"), 6);
    long_ones = strstr(rows, "\"seconds\": 300,");
    cr_assert_not_null(long_ones);
    cr_expect_eq(count(long_ones, "\"seconds\": 5,"), 0);
    free(rows);
    memory_free(chronicle);
}

Test(chronicle, a_row_without_room_is_not_begun)
{
    struct chronicle *chronicle = new_chronicle();
    struct text rows;

    events_note(&chronicle->events, LOG_LEVEL_INFO, "one");
    text_init(&rows, 20);
    cr_expect_not(chronicle_add_row(chronicle, VIEW_EVENTS, 0, 0, &rows));
    cr_expect_eq(rows.length, 0);
    text_clear(&rows);
    memory_free(chronicle);
}
