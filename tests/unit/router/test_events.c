/* The last events. */
#include "router/console/events.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

TestSuite(events, .timeout = 10);

Test(events, keeps_the_last)
{
    static struct events events;
    char text[32];

    cr_expect_null(events_back(&events, 0));
    for (unsigned i = 0; i < EVENTS_KEPT + 3; i++) {
        snprintf(text, sizeof text, "%u", i);
        events_note(&events, LOG_LEVEL_WARNING, text);
        cr_expect_str_eq(events_back(&events, 0)->text, text);
    }
    cr_expect_str_eq(events_back(&events, EVENTS_KEPT - 1)->text, "3");
    cr_expect_null(events_back(&events, EVENTS_KEPT));
    cr_expect_eq(events_back(&events, 0)->level, LOG_LEVEL_WARNING);
    cr_expect_leq(time(NULL) - events_back(&events, 0)->at_s, 5);
}

Test(events, cuts_what_is_too_long)
{
    static struct events events;
    char text[2 * EVENT_TEXT_MAX];

    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    events_note(&events, LOG_LEVEL_INFO, text);
    cr_expect_eq(strlen(events_back(&events, 0)->text), EVENT_TEXT_MAX - 1);
}

static void note(void *arg, enum log_level level, const char *text)
{
    events_note(arg, level, text);
}

Test(events, come_from_the_log_of_this_thread)
{
    static struct events events;

    log_listen(note, &events);
    LOG(WARNING, "node changed", TEXT("is", "a \"b\""), TEXT("left", NULL),
        NUMBER("n", 3));
    log_listen(NULL, NULL);
    LOG(WARNING, "not heard");
    cr_expect_eq(events.n_total, 1);
    cr_expect_str_eq(events_back(&events, 0)->text,
                     "node changed is=\"a \\\"b\\\"\" n=3");
}
