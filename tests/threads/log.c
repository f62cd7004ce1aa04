/* tests/threads/log.c - many threads log, while the settings change and somebody reads.
 *
 * Every line comes whole, those of one thread in order, and what is missing was counted.
 */
#include "core/log.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WRITERS 6
#define LINES 5000

static void *write_lines(void *arg)
{
    unsigned writer = *(unsigned *)arg;

    for (unsigned i = 0; i < LINES; i++) {
        LOG(DEBUG, "not wanted", NUMBER("writer", writer));
        LOG(ERROR, "event", NUMBER("writer", writer), NUMBER("line", i),
            TEXT("text", "with some words in it"));
    }
    return NULL;
}

struct reader {
    int fd;
    unsigned next[WRITERS];
    unsigned n_lines, n_missing;
};

/* The number of a field, in either format. */
static unsigned field(const char *line, const char *key)
{
    char pattern[32];
    const char *at;

    snprintf(pattern, sizeof pattern, line[0] == '{' ? "\"%s\":" : " %s=", key);
    at = strstr(line, pattern);
    REQUIRE(at != NULL);
    return (unsigned)strtoul(at + strlen(pattern), NULL, 10);
}

static void *read_lines(void *arg)
{
    struct reader *reader = arg;
    FILE *in = fdopen(reader->fd, "r");
    char line[4096];

    REQUIRE(in != NULL);
    while (fgets(line, sizeof line, in) != NULL) {
        unsigned writer, number;

        REQUIRE(line[strlen(line) - 1] == '\n');
        REQUIRE(line[0] != '{' || strcmp(line + strlen(line) - 2, "}\n") == 0);
        REQUIRE(strstr(line, "not wanted") == NULL);
        if (strstr(line, "log lines dropped") != NULL) {
            reader->n_missing += field(line, "lines");
            continue;
        }
        writer = field(line, "writer");
        number = field(line, "line");
        REQUIRE(writer < WRITERS && number < LINES);
        REQUIRE(strstr(line, "with some words in it") != NULL);
        REQUIRE(number >= reader->next[writer]);
        reader->next[writer] = number + 1 < LINES ? number + 1 : number;
        reader->n_lines++;
    }
    fclose(in);
    return NULL;
}

int main(void)
{
    pthread_t writers[WRITERS], reading;
    unsigned numbers[WRITERS];
    struct reader reader = {0};
    int ends[2], before = dup(STDERR_FILENO);

    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    REQUIRE(dup2(ends[1], STDERR_FILENO) >= 0);
    close(ends[1]);
    reader.fd = ends[0];
    REQUIRE(pthread_create(&reading, NULL, read_lines, &reader) == 0);
    REQUIRE(log_start());
    for (unsigned i = 0; i < WRITERS; i++) {
        numbers[i] = i;
        REQUIRE(pthread_create(&writers[i], NULL, write_lines, &numbers[i]) == 0);
    }
    for (unsigned i = 0; i < 1000; i++)
        log_configure(i % 3 == 0 ? LOG_LEVEL_ERROR : LOG_LEVEL_INFO,
                      i % 2 == 0 ? LOG_FORMAT_TEXT : LOG_FORMAT_JSON);
    for (unsigned i = 0; i < WRITERS; i++)
        REQUIRE(pthread_join(writers[i], NULL) == 0);
    log_stop();
    log_configure(LOG_LEVEL_INFO, LOG_FORMAT_TEXT);
    REQUIRE(log_start()); /* the one that follows tells what is missing */
    LOG(INFO, "event", NUMBER("writer", 0), NUMBER("line", LINES - 1),
        TEXT("text", "with some words in it"));
    log_stop();
    REQUIRE(dup2(before, STDERR_FILENO) >= 0); /* the pipe ends */
    close(before);
    REQUIRE(pthread_join(reading, NULL) == 0);
    REQUIRE(reader.n_lines + reader.n_missing == WRITERS * LINES + 1);
    return 0;
}
