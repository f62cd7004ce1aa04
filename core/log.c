#include "core/log.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048
#define QUEUE_BYTES (1u << 20)
#define LIMIT_WINDOW_MS 10000
#define LIMIT_BURST 10
/* Who reads the log may stand still: the program ends all the same. */
#define STOP_PATIENCE_S 2

static const char *const level_names[] = {"error", "warning", "info", "debug"};

const char *log_level_name(enum log_level level)
{
    return level_names[level];
}

/* The one place for mutable globals: a log sink that every thread shares. */
static _Atomic int verbosity = LOG_LEVEL_INFO;
static _Atomic int format = LOG_FORMAT_TEXT;

static _Thread_local struct {
    void (*on_line)(void *arg, enum log_level level, const char *text);
    void *arg;
} listener;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    pthread_t thread;
    bool runs;
    bool stops;
    uint32_t n_dropped;
    size_t head, length; /* of the bytes waiting in `bytes`, a ring */
    char bytes[QUEUE_BYTES];
} queue = {.lock = PTHREAD_MUTEX_INITIALIZER, .filled = PTHREAD_COND_INITIALIZER};

/* A line under construction: what does not fit is cut. Some bytes at its end are kept for
 * what closes a value and the line, so that a cut JSON line is JSON still. */
struct line {
    size_t length;
    size_t kept;
    char bytes[LINE_MAX_BYTES];
};

#define KEPT_FOR_THE_END 4 /* quote, brace, newline */
#define LONGEST_ESCAPE 6   /* backslash, u, four digits */
#define SHORTEST_FIELD 48  /* of JSON, with a number or a few letters */

static size_t line_room(const struct line *line)
{
    return LINE_MAX_BYTES - line->kept - line->length;
}

static void line_add_byte(struct line *line, char byte)
{
    if (line_room(line) > 0)
        line->bytes[line->length++] = byte;
}

static void line_add(struct line *line, const char *text)
{
    while (*text != '\0')
        line_add_byte(line, *text++);
}

/* Length of the well-formed UTF-8 sequence at `text` (RFC 3629, 4), 0 when there is none.
 */
static unsigned utf8_length(const unsigned char *text)
{
    unsigned n = text[0] < 0xc2 ? 0 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;

    if (text[0] < 0x80)
        return 1;
    if (text[0] > 0xf4 || (text[0] == 0xe0 && text[1] < 0xa0) ||
        (text[0] == 0xed && text[1] > 0x9f) || (text[0] == 0xf0 && text[1] < 0x90) ||
        (text[0] == 0xf4 && text[1] > 0x8f))
        return 0;
    for (unsigned i = 1; i < n; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

/* Control characters would let a peer forge lines, and bytes that are not UTF-8 would
 * spoil a JSON line: they are escaped in both formats. */
static void line_add_escaped(struct line *line, const char *text)
{
    char code[8];

    while (*text != '\0' && line_room(line) >= LONGEST_ESCAPE) {
        unsigned char byte = (unsigned char)*text;
        unsigned n = utf8_length((const unsigned char *)text);

        if (n == 0) {
            line_add(line, "\\ufffd");
            n = 1;
        } else if (byte == '"' || byte == '\\') {
            line_add_byte(line, '\\');
            line_add_byte(line, *text);
        } else if (byte < 0x20 || byte == 0x7f) {
            snprintf(code, sizeof code, "\\u%04x", byte);
            line_add(line, code);
        } else {
            for (unsigned i = 0; i < n; i++)
                line_add_byte(line, text[i]);
        }
        text += n;
    }
}

static void line_add_quoted(struct line *line, const char *text)
{
    line_add_byte(line, '"');
    line_add_escaped(line, text);
    line->kept--;
    line_add_byte(line, '"');
    line->kept++;
}

static bool is_plain_word(const char *text)
{
    if (*text == '\0')
        return false;
    while (*text != '\0') {
        unsigned n = utf8_length((const unsigned char *)text);

        if (n == 0 || (unsigned char)*text <= ' ' || strchr("\"\\=\x7f", *text) != NULL)
            return false;
        text += n;
    }
    return true;
}

static void line_add_value(struct line *line, const struct log_field *field, bool json)
{
    char number[40];

    switch (field->kind) {
    case LOG_FIELD_TEXT:
        if (!json && is_plain_word(field->text))
            line_add(line, field->text);
        else
            line_add_quoted(line, field->text);
        break;
    case LOG_FIELD_NUMBER:
        snprintf(number, sizeof number, "%lld", (long long)field->number);
        line_add(line, number);
        break;
    case LOG_FIELD_DECIMAL:
        snprintf(number, sizeof number, "%.3f",
                 isfinite(field->decimal) ? field->decimal : 0.0);
        line_add(line, number);
        break;
    case LOG_FIELD_END:
        UNREACHABLE();
    }
}

static void line_add_time(struct line *line, bool json)
{
    char text[64];
    struct timespec now;
    struct tm utc;
    size_t length;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    length = strftime(text, sizeof text, json ? "%Y-%m-%dT%H:%M:%S" : "%Y-%m-%d %H:%M:%S",
                      &utc);
    snprintf(text + length, sizeof text - length, json ? ".%03ldZ" : ".%03ld UTC",
             now.tv_nsec / 1000000);
    line_add(line, text);
}

static void add_fields(struct line *line, const struct log_field *fields, bool json)
{
    for (; fields->kind != LOG_FIELD_END; fields++) {
        if (fields->kind == LOG_FIELD_TEXT && fields->text == NULL)
            continue;
        if (json && line_room(line) < strlen(fields->key) + SHORTEST_FIELD)
            continue;
        if (json) {
            line_add_byte(line, ',');
            line_add_quoted(line, fields->key);
            line_add_byte(line, ':');
        } else {
            line_add_byte(line, ' ');
            line_add(line, fields->key);
            line_add_byte(line, '=');
        }
        line_add_value(line, fields, json);
    }
}

static void compose(struct line *line, enum log_level level, const char *event,
                    const struct log_field *fields, bool json)
{
    char prefix[48];

    line->kept = KEPT_FOR_THE_END;
    if (json) {
        line_add(line, "{\"time\":\"");
        line_add_time(line, true);
        snprintf(prefix, sizeof prefix,
                 "\",\"pid\":%d,\"level\":\"%s\",\"event\":", (int)getpid(),
                 level_names[level]);
        line_add(line, prefix);
        line_add_quoted(line, event);
    } else {
        line_add_time(line, false);
        snprintf(prefix, sizeof prefix, " [%d] %-7s ", (int)getpid(), level_names[level]);
        line_add(line, prefix);
        line_add(line, event);
    }
    add_fields(line, fields, json);
    line->kept = 0;
    if (json)
        line_add_byte(line, '}');
    line_add_byte(line, '\n');
}

static void write_out(const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t n = write(STDERR_FILENO, bytes, length);

        if (n <= 0)
            return; /* nobody reads the log: there is nobody to tell */
        bytes += n;
        length -= (size_t)n;
    }
}

static bool push_locked(const char *bytes, size_t length)
{
    size_t tail, first;

    if (length > QUEUE_BYTES - queue.length)
        return false;
    tail = (queue.head + queue.length) % QUEUE_BYTES;
    first = length < QUEUE_BYTES - tail ? length : QUEUE_BYTES - tail;
    memcpy(queue.bytes + tail, bytes, first);
    memcpy(queue.bytes, bytes + first, length - first);
    queue.length += length;
    return true;
}

static void compose_dropped(struct line *line, uint32_t n)
{
    compose(line, LOG_LEVEL_WARNING, "log lines dropped",
            (const struct log_field[]){NUMBER("lines", n), {0}},
            format == LOG_FORMAT_JSON);
}

void log_listen(void (*on_line)(void *arg, enum log_level level, const char *text),
                void *arg)
{
    listener.on_line = on_line;
    listener.arg = arg;
}

static void tell_listener(enum log_level level, const char *event,
                          const struct log_field *fields)
{
    struct line line = {.kept = KEPT_FOR_THE_END};

    line_add(&line, event);
    add_fields(&line, fields, false);
    line.bytes[line.length] = '\0';
    listener.on_line(listener.arg, level, line.bytes);
}

void log_write(enum log_level level, const char *event, const struct log_field *fields)
{
    struct line line = {0};

    if (listener.on_line != NULL)
        tell_listener(level, event, fields);

    compose(&line, level, event, fields, format == LOG_FORMAT_JSON);
    pthread_mutex_lock(&queue.lock);
    if (!queue.runs) {
        write_out(line.bytes, line.length);
    } else {
        struct line dropped = {0};

        if (queue.n_dropped > 0)
            compose_dropped(&dropped, queue.n_dropped);
        if (dropped.length + line.length <= QUEUE_BYTES - queue.length) {
            push_locked(dropped.bytes, dropped.length);
            push_locked(line.bytes, line.length);
            queue.n_dropped = 0;
        } else {
            queue.n_dropped++;
        }
        pthread_cond_signal(&queue.filled);
    }
    pthread_mutex_unlock(&queue.lock);
}

static void *write_lines(void *unused)
{
    static char chunk[64 * 1024];

    (void)unused;
    pthread_setname_np(pthread_self(), "log");
    pthread_mutex_lock(&queue.lock);
    while (!queue.stops || queue.length > 0) {
        size_t n = queue.length;

        if (n == 0) {
            pthread_cond_wait(&queue.filled, &queue.lock);
            continue;
        }
        if (n > QUEUE_BYTES - queue.head)
            n = QUEUE_BYTES - queue.head;
        if (n > sizeof chunk)
            n = sizeof chunk;
        memcpy(chunk, queue.bytes + queue.head, n);
        queue.head = (queue.head + n) % QUEUE_BYTES;
        queue.length -= n;
        pthread_mutex_unlock(&queue.lock);
        write_out(chunk, n);
        pthread_mutex_lock(&queue.lock);
    }
    pthread_mutex_unlock(&queue.lock);
    return NULL;
}

bool log_start(void)
{
    queue.stops = false;
    queue.runs = pthread_create(&queue.thread, NULL, write_lines, NULL) == 0;
    return queue.runs;
}

void log_stop(void)
{
    struct timespec patience;

    if (!queue.runs)
        return;
    pthread_mutex_lock(&queue.lock);
    queue.stops = true;
    pthread_cond_signal(&queue.filled);
    pthread_mutex_unlock(&queue.lock);
    clock_gettime(CLOCK_REALTIME, &patience);
    patience.tv_sec += STOP_PATIENCE_S;
    (void)pthread_timedjoin_np(queue.thread, NULL, &patience);
    queue.runs = false;
}

void log_configure(enum log_level new_verbosity, enum log_format new_format)
{
    verbosity = new_verbosity;
    format = new_format;
}

enum log_level log_verbosity(void)
{
    return (enum log_level)atomic_load_explicit(&verbosity, memory_order_relaxed);
}

static bool limit_allows_locked(struct log_limit *limit, uint64_t now_ms,
                                uint32_t *missed)
{
    if (now_ms - limit->window_began_ms >= LIMIT_WINDOW_MS) {
        limit->window_began_ms = now_ms;
        limit->n_in_window = 0;
    }
    if (limit->n_in_window == LIMIT_BURST) {
        limit->n_missed++;
        return false;
    }
    limit->n_in_window++;
    *missed = limit->n_missed;
    limit->n_missed = 0;
    return true;
}

bool log_limit_allows(struct log_limit *limit, uint64_t now_ms, uint32_t *missed)
{
    bool allows;

    pthread_mutex_lock(&queue.lock);
    allows = limit_allows_locked(limit, now_ms, missed);
    pthread_mutex_unlock(&queue.lock);
    return allows;
}
