/* tests/lib/script_stream.h - a stream whose peer plays a script.
 *
 * The second implementation of core/stream.h: no descriptor, no kernel, no clock. Each
 * iteration of the loop plays one step of the script, so a test knows what its owner has
 * seen when. The implementation is stricter than the one over sockets: a failure comes
 * also to an owner that wants no bytes, with `takes_late` nothing is ever sent at once,
 * and an owner that breaks the contract ends the test.
 *
 * The peer's memory is the test's and outlives the stream. What it keeps of its own is
 * plain malloc: it must not disturb the count of a failing allocation.
 */
#ifndef TESTS_LIB_SCRIPT_STREAM_H
#define TESTS_LIB_SCRIPT_STREAM_H

#include <stdint.h>

#include "core/stream.h"

#define SCRIPT_STEPS_MAX 64
#define SCRIPT_ALL SIZE_MAX

enum script_kind {
    SCRIPT_OPENS, /* the connection comes about */
    SCRIPT_SAYS,
    SCRIPT_ENDS,
    SCRIPT_FAILS, /* both ways are dead; before SCRIPT_OPENS: it never comes about */
    SCRIPT_TAKES, /* so many bytes more */
    SCRIPT_HEARS, /* waits until it has heard so many bytes in all */
    SCRIPT_RESTS  /* so many iterations */
};

struct script_step {
    enum script_kind kind;
    enum stream_failure why;
    const uint8_t *bytes;
    size_t n;
    size_t piece; /* of SCRIPT_SAYS: the most bytes of one iteration */
};

/* A zeroed peer says and takes nothing. */
struct script_peer {
    size_t window;   /* bytes that it takes from now on; SCRIPT_ALL = whatever comes */
    bool takes_late; /* in the next iteration, also with room for all */
    int fd;          /* what stream_detach() gives away */
    enum socket_peer look; /* what stream_look() says of it */

    /* What it has seen of the owner. */
    uint8_t *heard;
    size_t n_heard;
    bool has_heard_end; /* FIN, behind the last byte */
    bool was_closed;
    bool was_reset;

    /* Its own. */
    struct stream *stream; /* NULL: not open */
    struct loop *loop;
    ev_idle ticker; /* runs while there is something to do */
    struct script_step steps[SCRIPT_STEPS_MAX];
    size_t n_steps;
    size_t at; /* the step that is next */
    size_t n_done_of_step;
};

/* As stream_adopt() and stream_connect(). */
void script_adopt(struct stream *stream, struct loop *loop, struct script_peer *peer,
                  const struct stream_events *events, void *owner);
void script_connect(struct stream *stream, struct loop *loop, struct script_peer *peer,
                    const struct stream_events *events, void *owner);
/* Frees what it has heard. */
void script_clear(struct script_peer *peer);

/* Steps, to be played in this order; at any time, from outside the loop. `bytes` stay the
 * test's. A `piece` of 0 means as much as a buffer holds. */
void script_opens(struct script_peer *peer);
void script_says(struct script_peer *peer, const void *bytes, size_t n, size_t piece);
void script_ends(struct script_peer *peer);
void script_fails(struct script_peer *peer, enum stream_failure why);
void script_takes(struct script_peer *peer, size_t n);
void script_hears(struct script_peer *peer, size_t n);
void script_rests(struct script_peer *peer, size_t n_iterations);

/* It takes so many bytes more from now on, whatever step it is at. */
void script_widen(struct script_peer *peer, size_t n);

/* Every step was played, and of what it may take nothing is left to be sent. */
bool script_is_played(const struct script_peer *peer);

#endif
