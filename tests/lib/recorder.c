#include "tests/lib/recorder.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void write_down(struct recorder *recorder, char call)
{
    size_t n = strlen(recorder->calls);

    if (recorder->in_call > 0)
        recorder->was_called_back = true;
    if (call == 'b' && n > 0 && recorder->calls[n - 1] == 'b')
        return;
    REQUIRE(n < RECORDER_CALLS_MAX);
    recorder->calls[n] = call;
}

static void after(struct recorder *recorder)
{
    if (recorder->closes)
        stream_close(&recorder->stream);
}

static void on_open(struct stream *stream)
{
    struct recorder *recorder = stream->owner;

    write_down(recorder, 'o');
    recorder->is_open = true;
    after(recorder);
}

static void keep(struct recorder *recorder, const struct buffer *bytes)
{
    uint32_t n = buffer_unread(bytes);
    uint8_t *at;

    if (recorder->bytes == NULL)
        recorder->bytes = malloc(RECORDER_BYTES_MAX);
    REQUIRE(recorder->bytes != NULL && n > 0);
    REQUIRE(recorder->n_bytes + n <= RECORDER_BYTES_MAX);
    at = recorder->bytes + recorder->n_bytes;
    if (bytes->bytes != NULL)
        memcpy(at, bytes->bytes + bytes->begin, n);
    else
        REQUIRE(read(bytes->pipe[0], at, n) == (ssize_t)n);
    recorder->n_bytes += n;
    if (recorder->n_pieces == 0 || bytes->begin < recorder->least_headroom)
        recorder->least_headroom = bytes->begin;
    recorder->n_pieces++;
    recorder->n_pipes += bytes->bytes == NULL;
    if (n > recorder->largest_piece)
        recorder->largest_piece = n;
}

static void on_bytes(struct stream *stream, struct buffer *bytes)
{
    struct recorder *recorder = stream->owner;

    write_down(recorder, 'b');
    keep(recorder, bytes);
    buffer_skip(bytes, buffer_unread(bytes));
    buffer_give(bytes);
    if (recorder->enough > 0 && recorder->n_bytes >= recorder->enough)
        recorder->has_enough = true;
    if (recorder->pauses)
        recorder_want(recorder, false);
    after(recorder);
}

static void on_sent(struct stream *stream)
{
    struct recorder *recorder = stream->owner;

    write_down(recorder, 's');
    recorder->is_sent = true;
    after(recorder);
}

static void on_end(struct stream *stream)
{
    struct recorder *recorder = stream->owner;

    write_down(recorder, 'e');
    recorder->has_ended = true;
    after(recorder);
}

static void on_failed(struct stream *stream, enum stream_failure why)
{
    struct recorder *recorder = stream->owner;

    write_down(recorder, 'f');
    recorder->has_failed = true;
    recorder->why = why;
    REQUIRE(!stream_is_open(stream));
}

static void on_detached(struct stream *stream, int fd)
{
    struct recorder *recorder = stream->owner;

    write_down(recorder, 'd');
    recorder->is_detached = true;
    recorder->detached_fd = fd;
    REQUIRE(!stream_is_open(stream));
}

const struct stream_events recorder_events = {
    .on_open = on_open,
    .on_bytes = on_bytes,
    .on_sent = on_sent,
    .on_end = on_end,
    .on_failed = on_failed,
};

void recorder_adopt(struct recorder *recorder, struct loop *loop, int fd)
{
    struct tcp_settings settings = {0};

    recorder->in_call++;
    stream_adopt(&recorder->stream, loop, fd, &settings, &recorder_events, recorder);
    recorder->in_call--;
}

void recorder_connect(struct recorder *recorder, struct loop *loop,
                      const struct address *address)
{
    struct tcp_settings settings = {0};

    recorder->in_call++;
    stream_connect(&recorder->stream, loop, address, &settings, &recorder_events,
                   recorder);
    recorder->in_call--;
}

void recorder_want(struct recorder *recorder, bool bytes)
{
    recorder->in_call++;
    stream_want(&recorder->stream, bytes);
    recorder->in_call--;
}

bool recorder_send(struct recorder *recorder, const void *bytes, size_t n)
{
    bool is_gone = true;

    recorder->in_call++;
    for (size_t at = 0; at < n;) {
        struct buffer *buffer = buffer_take(recorder->stream.loop->pond);
        size_t piece = n - at < BUFFER_BYTES ? n - at : BUFFER_BYTES;

        REQUIRE(buffer != NULL &&
                buffer_add(buffer, (const uint8_t *)bytes + at, (uint32_t)piece));
        is_gone = stream_send(&recorder->stream, buffer);
        at += piece;
    }
    recorder->in_call--;
    return is_gone;
}

void recorder_end(struct recorder *recorder)
{
    recorder->in_call++;
    stream_end(&recorder->stream);
    recorder->in_call--;
}

void recorder_close(struct recorder *recorder)
{
    recorder->in_call++;
    stream_close(&recorder->stream);
    recorder->in_call--;
}

void recorder_detach(struct recorder *recorder)
{
    recorder->in_call++;
    stream_detach(&recorder->stream, on_detached);
    recorder->in_call--;
}

void recorder_clear(struct recorder *recorder)
{
    stream_close(&recorder->stream);
    free(recorder->bytes);
    *recorder = (struct recorder){0};
}
