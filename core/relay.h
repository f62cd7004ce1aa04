/* core/relay.h - joins two streams: what comes from one goes to the other, both ways.
 *
 * Back-pressure: while one end has bytes that it cannot send, nothing more is read from
 * the other, so a relay holds at most one buffer a way and, idle, none. FIN is passed on
 * behind the last byte, RST as RST. Nobody looks into the bytes, so bulk is spliced where
 * both streams can.
 *
 * Thread: the one of both streams' loop.
 */
#ifndef CORE_RELAY_H
#define CORE_RELAY_H

#include "core/stream.h"

struct relay;

struct relay_events {
    /* One end has said that it sends no more, and the other way goes on; or it has failed
     * (is not open any more), and the other is still being sent what had arrived before.
     */
    void (*on_half_end)(struct relay *relay, unsigned end);
    /* Both ways have ended and all was sent: close both streams. */
    void (*on_end)(struct relay *relay);
    /* `end` has failed and the other has been sent what had arrived before: close both.
     */
    void (*on_failed)(struct relay *relay, unsigned end, enum stream_failure why);
};

struct relay {
    struct stream *ends[2];
    const struct relay_events *events;
    uint64_t *n_bytes[2]; /* by the end that they come from; counted on as they pass */
    enum stream_failure failure; /* of the end that is no longer open */
    uint64_t active_at_ns;       /* when the last bytes passed, loop time */
};

/* Takes over the callbacks and the `owner` of both streams, which must be open; they may
 * still be sending, and one of them may have ended. */
void relay_start(struct relay *relay, struct stream *a, struct stream *b,
                 const struct relay_events *events, uint64_t *n_bytes_a,
                 uint64_t *n_bytes_b);

#endif
