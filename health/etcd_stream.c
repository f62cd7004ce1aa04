#include "health/etcd_stream.h"

#include <string.h>

#include "core/memory.h"

void etcd_stream_clear(struct etcd_stream *stream)
{
    memory_free(stream->bytes);
    *stream = (struct etcd_stream){0};
}

/* Drops the objects that were handed out. */
static void drop_used(struct etcd_stream *stream)
{
    if (stream->begin == 0)
        return;
    memmove(stream->bytes, stream->bytes + stream->begin, stream->n - stream->begin);
    stream->n -= stream->begin;
    stream->scanned -= stream->begin;
    stream->begin = 0;
}

static bool make_room(struct etcd_stream *stream, size_t n)
{
    size_t room = stream->room == 0 ? 4096 : stream->room;
    char *bytes;

    while (room < stream->n + n)
        room *= 2;
    if (room == stream->room)
        return true;
    bytes = memory_resized(stream->bytes, room);
    if (bytes == NULL)
        return false;
    stream->bytes = bytes;
    stream->room = room;
    return true;
}

bool etcd_stream_add(struct etcd_stream *stream, const char *bytes, size_t n)
{
    if (stream->is_broken)
        return false;
    drop_used(stream);
    if (n > ETCD_STREAM_MAX_BYTES || stream->n + n > ETCD_STREAM_MAX_BYTES) {
        stream->is_broken = true;
        return false;
    }
    if (!make_room(stream, n))
        return false;
    memcpy(stream->bytes + stream->n, bytes, n);
    stream->n += n;
    return true;
}

/* Within an object. True when this byte ends it. */
static bool scan_inside(struct etcd_stream *stream, char byte)
{
    if (stream->is_in_string) {
        if (stream->is_escaped)
            stream->is_escaped = false;
        else if (byte == '\\')
            stream->is_escaped = true;
        else if (byte == '"')
            stream->is_in_string = false;
        return false;
    }
    if (byte == '"')
        stream->is_in_string = true;
    else if (byte == '{')
        stream->depth++;
    else if (byte == '}')
        stream->depth--;
    return stream->depth == 0;
}

const char *etcd_stream_next(struct etcd_stream *stream, size_t *length)
{
    while (!stream->is_broken && stream->scanned < stream->n) {
        size_t at = stream->scanned++;
        char byte = stream->bytes[at];

        if (stream->depth > 0) {
            if (!scan_inside(stream, byte))
                continue;
            *length = stream->scanned - stream->begin;
            at = stream->begin;
            stream->begin = stream->scanned;
            return stream->bytes + at;
        }
        if (byte == '{') {
            stream->begin = at;
            stream->depth = 1;
        } else if (strchr(" \t\r\n", byte) != NULL && byte != '\0') {
            stream->begin = stream->scanned;
        } else {
            stream->is_broken = true;
        }
    }
    return NULL;
}
