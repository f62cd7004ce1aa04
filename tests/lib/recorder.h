/* tests/lib/recorder.h - the owner of one stream, which writes down what it is told.
 *
 * Every call into the stream goes through recorder_*(), so that a callback that comes
 * from within a call is noticed (`was_called_back`). Buffers are copied and given back.
 */
#ifndef TESTS_LIB_RECORDER_H
#define TESTS_LIB_RECORDER_H

#include <stdint.h>

#include "core/stream.h"

#define RECORDER_BYTES_MAX (8u << 20)
#define RECORDER_CALLS_MAX 64

struct recorder {
    struct stream stream;
    uint8_t *bytes;
    size_t n_bytes;
    size_t n_pieces;
    size_t largest_piece;
    size_t least_headroom; /* before the bytes of any piece, of those in memory */
    size_t n_pipes;        /* pieces that came in a pipe */
    /* One letter per callback, on_bytes only once in a row: o(pen) b(ytes) s(ent) e(nd)
     * f(ailed) d(etached). */
    char calls[RECORDER_CALLS_MAX + 1];
    bool is_open, is_sent, has_ended, has_failed, is_detached; /* for loop_until() */
    enum stream_failure why;
    int detached_fd;
    bool was_called_back;
    unsigned in_call;
    bool pauses;   /* wants no more after each piece */
    bool closes;   /* closes the stream in the next callback */
    size_t enough; /* has_enough when n_bytes reaches it; 0 = never */
    bool has_enough;
};

extern const struct stream_events recorder_events;

void recorder_adopt(struct recorder *recorder, struct loop *loop, int fd);
void recorder_connect(struct recorder *recorder, struct loop *loop,
                      const struct address *address);
void recorder_want(struct recorder *recorder, bool bytes);
/* Sends any number of bytes; whether the last piece was gone at once. */
bool recorder_send(struct recorder *recorder, const void *bytes, size_t n);
void recorder_end(struct recorder *recorder);
void recorder_close(struct recorder *recorder);
void recorder_detach(struct recorder *recorder);
/* Closes what is open and frees what was kept. */
void recorder_clear(struct recorder *recorder);

#endif
