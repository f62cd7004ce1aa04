/* health/etcd_stream.h - JSON objects one after the other, out of bytes that are cut
 * anywhere. Pure.
 *
 * etcd's gateway sends each message of a watch as an object, with a line break behind it
 * in most versions; nothing here needs one. What is within an object is not looked at but
 * for its strings and braces.
 */
#ifndef HEALTH_ETCD_STREAM_H
#define HEALTH_ETCD_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "core/check.h"

/* A longer object is not etcd's. */
#define ETCD_STREAM_MAX_BYTES (4u << 20)

/* A zeroed one is new. */
struct etcd_stream {
    char *bytes;
    size_t n, room;
    size_t begin;   /* of the object under way */
    size_t scanned; /* bytes that were looked at */
    unsigned depth; /* open braces */
    bool is_in_string, is_escaped;
    bool is_broken; /* something else than objects came, or one too long */
};

void etcd_stream_clear(struct etcd_stream *stream);
/* Bytes that have come. False when memory is out or the stream is broken. */
bool etcd_stream_add(struct etcd_stream *stream, const char *bytes, size_t n) MUST_CHECK;
/* The next whole object, NULL when there is none yet or the stream is broken. Valid until
 * the next etcd_stream_add() or _clear(). */
const char *etcd_stream_next(struct etcd_stream *stream, size_t *length);

#endif
