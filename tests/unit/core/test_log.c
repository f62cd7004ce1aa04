#include "core/log.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Standard error goes into a file while lines are captured. */
static int stderr_before = -1, file = -1;
static char lines[1 << 20];

static void capture(void)
{
    file = memfd_create("log", MFD_CLOEXEC);
    stderr_before = dup(STDERR_FILENO);
    dup2(file, STDERR_FILENO);
}

static const char *captured(void)
{
    ssize_t n = pread(file, lines, sizeof lines - 1, 0);

    dup2(stderr_before, STDERR_FILENO);
    close(stderr_before);
    close(file);
    lines[n > 0 ? n : 0] = '\0';
    return lines;
}

TestSuite(log, .timeout = 60);

/* What follows the time and the process id: "2026-11-21 09:00:00.123 UTC [4711] ". */
static const char *behind_prefix(const char *line)
{
    unsigned year, month, day, hour, minute, second, ms;
    int pid, n = 0;

    cr_assert_eq(sscanf(line, "%4u-%2u-%2u %2u:%2u:%2u.%3u UTC [%d] %n", &year, &month,
                        &day, &hour, &minute, &second, &ms, &pid, &n),
                 8, "%s", line);
    cr_expect(year >= 2024 && month <= 12 && day <= 31 && hour < 24 && minute < 60);
    cr_expect_eq(pid, (int)getpid());
    return line + n;
}

Test(log, text_is_one_line_of_key_and_value)
{
    capture();
    LOG(INFO, "session ended", TEXT("client", "127.0.0.1:5000"), NUMBER("bytes_in", 12),
        DECIMAL("seconds", 1.5));
    cr_expect_str_eq(behind_prefix(captured()),
                     "info    session ended client=127.0.0.1:5000 bytes_in=12 "
                     "seconds=1.500\n");
}

Test(log, has_a_word_for_each_level)
{
    log_configure(LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT);
    capture();
    LOG(ERROR, "a", NUMBER("n", 1));
    LOG(WARNING, "b", NUMBER("n", INT64_MIN));
    LOG(INFO, "c", NUMBER("n", INT64_MAX));
    LOG(DEBUG, "d", NUMBER("n", 0));
    captured();
    cr_expect_not_null(strstr(lines, "] error   a n=1\n"));
    cr_expect_not_null(strstr(lines, "] warning b n=-9223372036854775808\n"));
    cr_expect_not_null(strstr(lines, "] info    c n=9223372036854775807\n"));
    cr_expect_not_null(strstr(lines, "] debug   d n=0\n"));
}

Test(log, leaves_out_what_is_above_the_verbosity)
{
    capture();
    LOG(DEBUG, "unseen", NUMBER("n", 1));
    log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    LOG(WARNING, "unseen", NUMBER("n", 1));
    LOG(ERROR, "seen", NUMBER("n", 1));
    cr_expect_str_eq(behind_prefix(captured()), "error   seen n=1\n");
    cr_expect_eq(log_verbosity(), LOG_LEVEL_ERROR);
}

Test(log, quotes_values_that_are_not_plain_words)
{
    static const struct {
        const char *value, *printed;
    } examples[] = {
        {"plain", "plain"},
        {"with:punctuation/-._[]", "with:punctuation/-._[]"},
        {"", "\"\""},
        {"two words", "\"two words\""},
        {"a=b", "\"a=b\""},
        {"say \"hi\"", "\"say \\\"hi\\\"\""},
        {"back\\slash", "\"back\\\\slash\""},
        {"line\nbreak", "\"line\\u000abreak\""},
        {"\x01\x1f\x7f", "\"\\u0001\\u001f\\u007f\""},
        {"ümlaut", "ümlaut"},
        {"\xe2\x82\xac\xf0\x9f\x90\x98", "\xe2\x82\xac\xf0\x9f\x90\x98"},
        {"\xff", "\"\\ufffd\""},                                  /* no byte of UTF-8 */
        {"\xc3", "\"\\ufffd\""},                                  /* cut short */
        {"\xc0\xaf", "\"\\ufffd\\ufffd\""},                       /* overlong */
        {"\xed\xa0\x80x", "\"\\ufffd\\ufffd\\ufffdx\""},          /* half of a pair */
        {"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""}, /* too high */
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        char wanted[200];

        capture();
        LOG(INFO, "event", TEXT("key", examples[i].value));
        snprintf(wanted, sizeof wanted, "info    event key=%s\n", examples[i].printed);
        cr_expect_str_eq(behind_prefix(captured()), wanted);
    }
}

Test(log, leaves_out_a_field_without_a_value)
{
    capture();
    LOG(INFO, "event", TEXT("node", NULL), NUMBER("n", 1));
    cr_expect_str_eq(behind_prefix(captured()), "info    event n=1\n");
}

Test(log, prints_no_number_that_is_none)
{
    capture();
    LOG(INFO, "event", DECIMAL("a", NAN), DECIMAL("b", -INFINITY));
    cr_expect_str_eq(behind_prefix(captured()), "info    event a=0.000 b=0.000\n");
}

Test(log, json_is_one_object_per_line)
{
    json_t *object;
    json_error_t error;

    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    capture();
    LOG(WARNING, "client \"refused\"", TEXT("client", "[::1]:5000"),
        TEXT("why", "line\nbreak \\ \"quoted\" \x01"), TEXT("node", NULL),
        NUMBER("n", -5), DECIMAL("seconds", 0.25));
    captured();
    cr_assert_eq(strchr(lines, '\n'), lines + strlen(lines) - 1, "one line");
    object = json_loads(lines, 0, &error);
    cr_assert_not_null(object, "%s: %s", error.text, lines);
    cr_expect_str_eq(json_string_value(json_object_get(object, "level")), "warning");
    cr_expect_str_eq(json_string_value(json_object_get(object, "event")),
                     "client \"refused\"");
    cr_expect_str_eq(json_string_value(json_object_get(object, "client")), "[::1]:5000");
    cr_expect_str_eq(json_string_value(json_object_get(object, "why")),
                     "line\nbreak \\ \"quoted\" \x01");
    cr_expect_null(json_object_get(object, "node"));
    cr_expect_eq(json_integer_value(json_object_get(object, "n")), -5);
    cr_expect_eq(json_real_value(json_object_get(object, "seconds")), 0.25);
    cr_expect_eq(json_integer_value(json_object_get(object, "pid")), getpid());
    cr_expect_eq(strlen(json_string_value(json_object_get(object, "time"))),
                 strlen("2026-11-21T09:00:00.123Z"));
    json_decref(object);
}

Test(log, cuts_a_line_that_is_too_long)
{
    static char filler[5000];

    memset(filler, 'x', sizeof filler - 1);
    capture();
    LOG(INFO, "event", TEXT("key", filler), NUMBER("unseen", 1));
    captured();
    cr_expect(strlen(lines) > 2000 && strlen(lines) <= 2048, "%zu", strlen(lines));
    cr_expect_eq(strchr(lines, '\n'), lines + strlen(lines) - 1, "one line");
    cr_expect_null(strstr(lines, "unseen"));
}

Test(log, json_that_is_too_long_is_still_json)
{
    static char filler[5000];

    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    for (size_t length = 1800; length < 2100; length++) {
        json_t *object;

        memset(filler, length % 2 ? '"' : 'x', length);
        filler[length] = '\0';
        capture();
        LOG(INFO, "event", TEXT("key", filler), NUMBER("number", 123456));
        object = json_loads(captured(), 0, NULL);
        cr_assert_not_null(object, "%zu: %s", length, lines + strlen(lines) - 30);
        json_decref(object);
    }
}

Test(log, json_is_json_whatever_the_bytes)
{
    unsigned seed = 1;

    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_JSON);
    for (unsigned i = 0; i < 2000; i++) {
        char bytes[40];
        json_t *object;

        for (size_t k = 0; k < sizeof bytes - 1; k++) {
            seed = seed * 1103515245u + 12345u;
            bytes[k] = (char)(seed >> 20);
        }
        bytes[i % sizeof bytes] = '\0';
        capture();
        LOG(INFO, "event", TEXT("key", bytes));
        object = json_loads(captured(), 0, NULL);
        cr_assert_not_null(object, "%s", lines);
        json_decref(object);
    }
}

/* ---- not too often ------------------------------------------------------------------
 */

Test(log, limit_lets_a_burst_through_and_counts_the_rest)
{
    struct log_limit limit = {0};
    uint32_t missed = 99;
    unsigned n = 0;

    for (unsigned i = 0; i < 25; i++)
        if (log_limit_allows(&limit, 1000000 + i, &missed)) {
            n++;
            cr_expect_eq(missed, 0);
        }
    cr_expect_eq(n, 10);
    cr_expect_not(log_limit_allows(&limit, 1000000 + 9999, &missed));

    cr_expect(log_limit_allows(&limit, 1000000 + 10000, &missed));
    cr_expect_eq(missed, 16);
    cr_expect(log_limit_allows(&limit, 1000000 + 10001, &missed));
    cr_expect_eq(missed, 0, "told once");
}

/* ---- through the queue --------------------------------------------------------------
 */

Test(log, writes_everything_that_is_queued_before_it_stops)
{
    char *at;

    capture();
    cr_assert(log_start());
    for (unsigned i = 0; i < 5000; i++)
        LOG(INFO, "event", NUMBER("n", i));
    log_stop();
    at = (char *)(uintptr_t)captured();
    for (unsigned i = 0; i < 5000; i++) {
        char *end = strchr(at, '\n'), wanted[60];

        cr_assert_not_null(end, "line %u", i);
        *end = '\0';
        snprintf(wanted, sizeof wanted, "info    event n=%u", i);
        cr_assert_str_eq(behind_prefix(at), wanted);
        at = end + 1;
    }
    cr_expect_str_eq(at, "");
}

Test(log, writes_at_once_again_after_the_stop)
{
    cr_assert(log_start());
    log_stop();
    log_stop();
    capture();
    LOG(INFO, "event", NUMBER("n", 1));
    cr_expect_str_eq(behind_prefix(captured()), "info    event n=1\n");
}

/* Reads a pipe to its end, counting the lines and those said to be missing. */
struct reader {
    int fd;
    unsigned n_lines, n_missing, next;
    bool is_out_of_order;
};

static void *read_all(void *arg)
{
    struct reader *reader = arg;
    FILE *in = fdopen(reader->fd, "r");
    char line[4096];

    while (fgets(line, sizeof line, in) != NULL) {
        const char *dropped = strstr(line, "log lines dropped lines=");
        unsigned n;

        if (dropped != NULL) {
            n = (unsigned)strtoul(strchr(dropped, '=') + 1, NULL, 10);
            reader->n_missing += n;
            reader->next += n;
            continue;
        }
        n = (unsigned)strtoul(strstr(line, "n=") + 2, NULL, 10);
        reader->is_out_of_order |= n != reader->next;
        reader->next = n + 1;
        reader->n_lines++;
    }
    fclose(in);
    return NULL;
}

Test(log, drops_and_counts_lines_while_nobody_reads)
{
    struct reader reader = {0};
    unsigned n = 0;
    pthread_t thread;
    int pipe_ends[2];

    cr_assert_eq(pipe2(pipe_ends, O_CLOEXEC), 0);
    capture();
    dup2(pipe_ends[1], STDERR_FILENO);
    close(pipe_ends[1]);
    cr_assert(log_start());
    for (; n < 100000; n++) /* more than pipe and queue hold, and nobody blocks */
        LOG(INFO, "event with some words", NUMBER("n", n));
    reader.fd = pipe_ends[0];
    cr_assert_eq(pthread_create(&thread, NULL, read_all, &reader), 0);
    log_stop(); /* all that was queued has been read: there is room again */
    cr_assert(log_start());
    LOG(INFO, "the last event", NUMBER("n", n));
    log_stop();
    captured(); /* gives standard error back: the pipe ends */
    pthread_join(thread, NULL);

    cr_expect_eq(reader.n_lines + reader.n_missing, n + 1);
    cr_expect_gt(reader.n_missing, 0);
    cr_expect_gt(reader.n_lines, 1000);
    cr_expect_not(reader.is_out_of_order, "the gap is told where it is");
    cr_expect_eq(reader.next, n + 1);
}
