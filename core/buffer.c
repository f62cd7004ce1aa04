#include "core/buffer.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "core/memory.h"

/* Buffers that wait for their next use; more are given back to malloc. */
#define IDLE_BUFFERS_MAX 256
/* Pipes at a time and thread. Each takes two descriptors and, full, PIPE_BYTES of the
 * kernel's memory, of which a user who is not root has 64 MB (fs.pipe-user-pages-soft).
 */
#define PIPES_MAX 16
#define PIPE_BYTES (512 * 1024)

struct pond {
    struct buffer *idle;
    struct buffer *idle_pipes;
    unsigned n_idle;
    unsigned n_taken;
    unsigned n_pipes; /* idle and taken */
};

struct pond *pond_new(void)
{
    return memory_zeroed(sizeof(struct pond));
}

static void close_pipe(struct buffer *buffer)
{
    close(buffer->pipe[0]);
    close(buffer->pipe[1]);
    buffer->home->n_pipes--;
    memory_free(buffer);
}

void pond_free(struct pond *pond)
{
    struct buffer *buffer;

    if (pond == NULL)
        return;
    REQUIRE(pond->n_taken == 0);
    while ((buffer = pond->idle) != NULL) {
        pond->idle = buffer->next;
        memory_free(buffer);
    }
    while ((buffer = pond->idle_pipes) != NULL) {
        pond->idle_pipes = buffer->next;
        close_pipe(buffer);
    }
    memory_free(pond);
}

static struct buffer *hand_out(struct buffer **idle)
{
    struct buffer *buffer = *idle;

    *idle = buffer->next;
    buffer->next = NULL;
    buffer->begin = buffer->end = 0;
    buffer->home->n_taken++;
    return buffer;
}

struct buffer *buffer_take(struct pond *pond)
{
    if (pond->idle == NULL) {
        struct buffer *buffer = memory_zeroed(sizeof *buffer + BUFFER_BYTES);

        if (buffer == NULL)
            return NULL;
        buffer->home = pond;
        buffer->size = BUFFER_BYTES;
        buffer->bytes = (uint8_t *)(buffer + 1);
        pond->idle = buffer;
        pond->n_idle++;
    }
    pond->n_idle--;
    return hand_out(&pond->idle);
}

static struct buffer *open_pipe(struct pond *pond)
{
    struct buffer *buffer = memory_zeroed(sizeof *buffer);
    int size;

    if (buffer == NULL)
        return NULL;
    if (pipe2(buffer->pipe, O_NONBLOCK | O_CLOEXEC) != 0) {
        memory_free(buffer);
        return NULL;
    }
    buffer->home = pond;
    size = fcntl(buffer->pipe[1], F_SETPIPE_SZ, PIPE_BYTES);
    buffer->size = size > 0 ? (uint32_t)size : 65536u;
    pond->n_pipes++;
    return buffer;
}

struct buffer *buffer_take_pipe(struct pond *pond)
{
    if (pond->idle_pipes == NULL) {
        if (pond->n_pipes == PIPES_MAX)
            return NULL;
        pond->idle_pipes = open_pipe(pond);
        if (pond->idle_pipes == NULL)
            return NULL;
    }
    return hand_out(&pond->idle_pipes);
}

void buffer_give(struct buffer *buffer)
{
    struct pond *pond;

    if (buffer == NULL)
        return;
    if (buffer->is_kept) {
        buffer->is_given = true;
        return;
    }
    pond = buffer->home;
    pond->n_taken--;
    if (buffer->bytes == NULL) {
        if (buffer_unread(buffer) > 0) {
            close_pipe(buffer);
            return;
        }
        buffer->next = pond->idle_pipes;
        pond->idle_pipes = buffer;
    } else if (pond->n_idle == IDLE_BUFFERS_MAX) {
        memory_free(buffer);
    } else {
        buffer->next = pond->idle;
        pond->idle = buffer;
        pond->n_idle++;
    }
}

bool buffer_add(struct buffer *buffer, const void *bytes, uint32_t n)
{
    if (n > buffer_room(buffer))
        return false;
    memcpy(buffer->bytes + buffer->end, bytes, n);
    buffer->end += n;
    return true;
}

bool buffer_prepend(struct buffer *buffer, const void *bytes, uint32_t n)
{
    if (buffer->bytes == NULL || n > buffer->begin + buffer_room(buffer))
        return false;
    if (n > buffer->begin) {
        uint32_t by = n - buffer->begin;

        memmove(buffer->bytes + n, buffer->bytes + buffer->begin, buffer_unread(buffer));
        buffer->begin += by;
        buffer->end += by;
    }
    buffer->begin -= n;
    memcpy(buffer->bytes + buffer->begin, bytes, n);
    return true;
}

void buffer_skip(struct buffer *buffer, uint32_t n)
{
    REQUIRE(n <= buffer_unread(buffer));
    buffer->begin += n;
}

/* ---- keeping ------------------------------------------------------------------------
 */

void buffer_keep_add(struct buffer_keep *keep, struct buffer *buffer, uint32_t begin,
                     uint32_t end)
{
    REQUIRE(buffer->bytes != NULL && !buffer->is_kept);
    buffer->is_kept = true;
    buffer->is_given = false;
    buffer->kept_begin = begin;
    buffer->kept_end = end;
    buffer->kept_next = NULL;
    if (keep->last != NULL)
        keep->last->kept_next = buffer;
    else
        keep->first = buffer;
    keep->last = buffer;
    keep->n += end - begin;
}

void buffer_keep_drop(struct buffer_keep *keep)
{
    struct buffer *next;

    for (struct buffer *buffer = keep->first; buffer != NULL; buffer = next) {
        next = buffer->kept_next;
        buffer->is_kept = false;
        if (buffer->is_given)
            buffer_give(buffer);
    }
    *keep = (struct buffer_keep){0};
}

struct buffer *buffer_keep_take(struct buffer_keep *keep)
{
    struct buffer *first = keep->first;

    for (struct buffer *buffer = first; buffer != NULL; buffer = buffer->kept_next) {
        REQUIRE(buffer->is_given);
        buffer->is_kept = false;
        buffer->begin = buffer->kept_begin;
        buffer->end = buffer->kept_end;
        buffer->next = buffer->kept_next;
    }
    *keep = (struct buffer_keep){0};
    return first;
}

unsigned pond_n_taken(const struct pond *pond)
{
    return pond->n_taken;
}
