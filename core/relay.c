#include "core/relay.h"

static unsigned end_of(const struct relay *relay, const struct stream *stream)
{
    return stream == relay->ends[1];
}

static struct stream *other_end(const struct relay *relay, const struct stream *stream)
{
    return relay->ends[stream == relay->ends[0]];
}

static void on_bytes(struct stream *from, struct buffer *bytes)
{
    struct relay *relay = from->owner;

    *relay->n_bytes[end_of(relay, from)] += buffer_unread(bytes);
    relay->active_at_ns = from->loop->now_ns;
    if (!stream_send(other_end(relay, from), bytes))
        stream_want(from, false);
}

/* Both have said that they send no more, and both have been told so. */
static bool is_over(const struct relay *relay)
{
    return relay->ends[0]->has_ended && relay->ends[1]->has_ended &&
           !stream_is_sending(relay->ends[0]) && !stream_is_sending(relay->ends[1]);
}

/* What had arrived before the failure has gone to the other end: now that ends too. */
static void pass_on_failure(struct relay *relay, struct stream *failed)
{
    if (relay->failure == STREAM_RESET)
        stream_reset(other_end(relay, failed));
    relay->events->on_failed(relay, end_of(relay, failed), relay->failure);
}

static void on_sent(struct stream *to)
{
    struct relay *relay = to->owner;

    relay->active_at_ns = to->loop->now_ns;
    if (!stream_is_open(other_end(relay, to)))
        pass_on_failure(relay, other_end(relay, to));
    else if (is_over(relay))
        relay->events->on_end(relay);
    else
        stream_want(other_end(relay, to), true);
}

static void on_end(struct stream *from)
{
    struct relay *relay = from->owner;

    stream_end(other_end(relay, from));
    if (is_over(relay))
        relay->events->on_end(relay);
    else
        relay->events->on_half_end(relay, end_of(relay, from));
}

static void on_failed(struct stream *stream, enum stream_failure why)
{
    struct relay *relay = stream->owner;
    struct stream *other = other_end(relay, stream);

    relay->failure = why;
    if (!stream_is_open(other) || !stream_is_sending(other)) {
        pass_on_failure(relay, stream);
    } else {
        stream_want(other, false); /* nobody takes what it says any more */
        relay->events->on_half_end(relay, end_of(relay, stream));
    }
}

static void on_open(struct stream *stream)
{
    (void)stream;
    UNREACHABLE(); /* a relay joins streams that are open */
}

static const struct stream_events stream_events = {
    .on_open = on_open,
    .on_bytes = on_bytes,
    .on_sent = on_sent,
    .on_end = on_end,
    .on_failed = on_failed,
};

/* Both counts are written to, later. NOLINTBEGIN(readability-non-const-parameter) */
void relay_start(struct relay *relay, struct stream *a, struct stream *b,
                 const struct relay_events *events, uint64_t *n_bytes_a,
                 uint64_t *n_bytes_b)
/* NOLINTEND(readability-non-const-parameter) */
{
    *relay = (struct relay){
        .ends = {a, b},
        .events = events,
        .n_bytes = {n_bytes_a, n_bytes_b},
        .active_at_ns = a->loop->now_ns,
    };
    for (unsigned i = 0; i < 2; i++) {
        struct stream *stream = relay->ends[i];

        stream->events = &stream_events;
        stream->owner = relay;
        stream->may_splice = a->ops->splices && b->ops->splices;
    }
    for (unsigned i = 0; i < 2; i++) {
        if (relay->ends[i]->has_ended)
            stream_end(relay->ends[!i]);
        stream_want(relay->ends[i], !stream_is_sending(relay->ends[!i]));
    }
}
