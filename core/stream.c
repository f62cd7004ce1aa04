#include "core/stream.h"

void stream_end(struct stream *stream)
{
    stream->ops->end(stream);
}

void stream_close(struct stream *stream)
{
    if (stream_is_open(stream))
        stream->ops->close(stream, false);
}

void stream_reset(struct stream *stream)
{
    if (stream_is_open(stream))
        stream->ops->close(stream, true);
}

void stream_detach(struct stream *stream, void (*done)(struct stream *stream, int fd))
{
    REQUIRE(!stream_is_sending(stream) && !stream->has_ended && !stream->is_ending);
    stream->on_detached = done;
    stream->ops->detach(stream);
}

const char *stream_failure_text(enum stream_failure why)
{
    switch (why) {
    case STREAM_REFUSED:
        return "connection refused";
    case STREAM_UNREACHABLE:
        return "unreachable";
    case STREAM_RESET:
        return "connection reset";
    case STREAM_VANISHED:
        return "no sign of life";
    case STREAM_NO_MEMORY:
        return "out of memory or descriptors";
    case STREAM_TLS_FAILED:
        return "TLS failed";
    }
    UNREACHABLE();
}

void stream_outbox_append(struct stream *stream, struct buffer *bytes)
{
    bytes->next = NULL;
    if (stream->last_out != NULL)
        stream->last_out->next = bytes;
    else
        stream->first_out = bytes;
    stream->last_out = bytes;
}

void stream_outbox_drop_first(struct stream *stream)
{
    struct buffer *first = stream->first_out;

    stream->first_out = first->next;
    if (stream->first_out == NULL)
        stream->last_out = NULL;
    buffer_give(first);
}

void stream_outbox_drop(struct stream *stream)
{
    while (stream->first_out != NULL)
        stream_outbox_drop_first(stream);
}
