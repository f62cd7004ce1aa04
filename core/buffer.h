/* core/buffer.h - bytes in flight, and the pond of buffers that a thread draws on.
 *
 *       0        begin              end            size
 *       |--------|==================|--------------|
 *         gone     to be read         room
 *
 * A buffer is attached to a connection only while bytes are in flight and goes back to
 * its pond afterwards: an idle connection holds none. Its bytes are in memory or, for
 * bulk that nobody looks into, in a pipe of the kernel (splice(2)): then `bytes` is NULL
 * and begin is always 0.
 *
 * Thread: a pond and its buffers belong to one thread.
 */
#ifndef CORE_BUFFER_H
#define CORE_BUFFER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/check.h"

/* Holds the largest startup packet; a larger message streams through. */
#define BUFFER_BYTES 16384u

/* Left free before what a stream receives. */
#define BUFFER_HEADROOM 8u

struct buffer {
    struct pond *home;
    struct buffer *next; /* in the pond, or in a stream's line to be sent */
    uint32_t begin;
    uint32_t end;
    uint32_t size;
    bool is_kept;             /* by a buffer_keep, beside whoever else has it */
    bool is_given;            /* ... who has given it back meanwhile */
    struct buffer *kept_next; /* while it is kept: the one behind it */
    uint32_t kept_begin;      /* likewise: what is kept of it */
    uint32_t kept_end;
    int pipe[2];    /* read and write end when bytes == NULL */
    uint8_t *bytes; /* size of them */
};

struct pond;

struct pond *pond_new(void) MUST_CHECK;
/* Every buffer must have been given back. NULL is fine. */
void pond_free(struct pond *pond);

/* An empty buffer with its bytes in memory; NULL when memory is out. */
struct buffer *buffer_take(struct pond *pond) MUST_CHECK;
/* An empty buffer in a pipe; NULL when there are enough pipes in use or none can be had.
 */
struct buffer *buffer_take_pipe(struct pond *pond) MUST_CHECK;
/* Back to its pond; a pipe that still holds bytes is closed instead. NULL is fine. */
void buffer_give(struct buffer *buffer);

static inline uint32_t buffer_unread(const struct buffer *buffer)
{
    return buffer->end - buffer->begin;
}

static inline uint32_t buffer_room(const struct buffer *buffer)
{
    return buffer->size - buffer->end;
}

/* Appends what fits, all or nothing. */
bool buffer_add(struct buffer *buffer, const void *bytes, uint32_t n) MUST_CHECK;
/* Puts bytes in front of the unread ones; all or nothing. Costs no move of the others
 * when there is as much room before them: streams leave BUFFER_HEADROOM. */
bool buffer_prepend(struct buffer *buffer, const void *bytes, uint32_t n) MUST_CHECK;
/* The first n unread bytes have been dealt with. */
void buffer_skip(struct buffer *buffer, uint32_t n);

/* ---- keeping ------------------------------------------------------------------------
 *
 * What others use up, say a stream that sends it, in case that it is needed once more.
 * Nothing is copied: who gives a kept buffer back does so as ever, and it goes to its
 * pond when it is kept no longer.
 */

/* A zeroed one keeps nothing. */
struct buffer_keep {
    struct buffer *first;
    struct buffer *last;
    uint32_t n; /* bytes */
};

/* Its bytes from `begin` up to `end`, which nobody changes from now on; it is in memory
 * and not kept already. */
void buffer_keep_add(struct buffer_keep *keep, struct buffer *buffer, uint32_t begin,
                     uint32_t end);
/* Keeps nothing any more. */
void buffer_keep_drop(struct buffer_keep *keep);
/* The same, and the caller has them, in a chain, as they were kept: others have given all
 * of them back. */
struct buffer *buffer_keep_take(struct buffer_keep *keep);

/* How many buffers of the pond are out now. */
unsigned pond_n_taken(const struct pond *pond);

#endif
