/* core/log.h - one line per event, key=value or JSON, without ever blocking a loop.
 *
 *   LOG(INFO, "session ended", TEXT("client", address), NUMBER("bytes_in", n));
 *
 *   2026-11-21 09:00:00.123 UTC [4711] info  session ended client=127.0.0.1:5000
 * bytes_in=12
 *   {"time":"2026-11-21T09:00:00.123Z","level":"info","event":"session ended",...}
 *
 * Lines go through a bounded queue to a thread of their own, which writes them to
 * standard error; when that does not keep up, lines are dropped and counted, and the
 * next line that gets through is preceded by one that says how many are missing. Before
 * log_start() (and in unit tests) lines are written at once. Any thread may log.
 */
#ifndef CORE_LOG_H
#define CORE_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/check.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
const char *log_level_name(enum log_level level);
enum log_format { LOG_FORMAT_TEXT, LOG_FORMAT_JSON };

enum log_field_kind {
    LOG_FIELD_END,
    LOG_FIELD_TEXT,
    LOG_FIELD_NUMBER,
    LOG_FIELD_DECIMAL
};

struct log_field {
    const char *key;
    enum log_field_kind kind;
    union {
        const char *text; /* NULL = the field is left out */
        int64_t number;
        double decimal; /* printed with three digits */
    };
};

#define TEXT(k, v) ((struct log_field){.key = (k), .kind = LOG_FIELD_TEXT, .text = (v)})
#define NUMBER(k, v) \
    ((struct log_field){.key = (k), .kind = LOG_FIELD_NUMBER, .number = (int64_t)(v)})
#define DECIMAL(k, v) \
    ((struct log_field){.key = (k), .kind = LOG_FIELD_DECIMAL, .decimal = (v)})

#define LOG(level, ...) \
    (LOG_LEVEL_##level <= log_verbosity() ? LOG_WITH(level, __VA_ARGS__, {0}) : (void)0)
#define LOG_WITH(level, event, ...) \
    log_write(LOG_LEVEL_##level, event, (const struct log_field[]){__VA_ARGS__})

/* Fields end with a zeroed one. `event` is a few constant words. */
void log_write(enum log_level level, const char *event, const struct log_field *fields);

/* Lets through ten events in ten seconds and counts the rest. One object per kind of
 * event, for all threads that log it:
 *
 *   if (log_limit_allows(&limit, now_ms, &missed))
 *       LOG(WARNING, "...", NUMBER("repeats_left_out", missed));
 */
struct log_limit {
    uint64_t window_began_ms;
    uint32_t n_in_window;
    uint32_t n_missed;
};
bool log_limit_allows(struct log_limit *limit, uint64_t now_ms, uint32_t *missed);

/* What the calling thread logs is told to `on_line`, too, as one line without its time
 * and level: valid during the call, which must not log. NULL = no more. */
void log_listen(void (*on_line)(void *arg, enum log_level level, const char *text),
                void *arg);

/* What is logged from now on: LOG_LEVEL_INFO and LOG_FORMAT_TEXT until set. */
void log_configure(enum log_level verbosity, enum log_format format);
enum log_level log_verbosity(void);

/* Starts the writer's thread; false when it cannot be made. */
bool log_start(void) MUST_CHECK;
/* Writes what is queued, as far as somebody takes it, and ends the thread. */
void log_stop(void);

#endif
