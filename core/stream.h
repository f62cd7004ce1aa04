/* core/stream.h - a byte stream, completion-shaped.
 *
 * The owner never waits for readiness and never sees a descriptor. Bytes arrive in a
 * buffer that the stream brings; the owner keeps it, passes it on or gives it back. Bytes
 * to send are handed over, buffer and all, and the stream tells when they are gone.
 * What a stream waits for is computed from what its owner wants and what it still holds,
 * in one function of each implementation.
 *
 * Callbacks come from the loop, never from within a call into the stream. A callback may
 * close its stream, and any other. After on_failed and after stream_close() no callback
 * comes any more; the struct's memory is the owner's, to be freed after the iteration.
 *
 * Implementations: libev and epoll (stream_epoll.c), TLS on top of another
 * (stream_tls.c), and one that plays a script (tests/lib/script_stream.c), which keeps
 * owners honest.
 *
 * Thread: a stream belongs to the thread of its loop.
 */
#ifndef CORE_STREAM_H
#define CORE_STREAM_H

#include <stdbool.h>

#include "core/address.h"
#include "core/buffer.h"
#include "core/loop.h"
#include "core/socket.h"

struct stream;

enum stream_failure {
    STREAM_REFUSED,     /* connecting: nobody listens there */
    STREAM_UNREACHABLE, /* connecting: no route, or no answer */
    STREAM_RESET,       /* the peer sent RST */
    STREAM_VANISHED,    /* the kernel gave up asking */
    STREAM_NO_MEMORY,
    STREAM_TLS_FAILED /* stream_tls_why() says more */
};

struct stream_events {
    /* stream_connect() has succeeded, or the handshake of stream_tls_start(). */
    void (*on_open)(struct stream *stream);
    /* At least one byte. The buffer is the owner's now. */
    void (*on_bytes)(struct stream *stream, struct buffer *bytes);
    /* All that stream_send() could not send at once has gone. */
    void (*on_sent)(struct stream *stream);
    /* The peer will send no more; it may still read. */
    void (*on_end)(struct stream *stream);
    /* Both ways are dead. */
    void (*on_failed)(struct stream *stream, enum stream_failure why);
    /* What it brings is seen before what others bring in the same iteration. Read when
     * the stream is opened, and its own from then on. */
    bool comes_first;
};

/* What an implementation is. */
struct stream_ops {
    /* Computes what to wait for and waits for it; the last call of everything. */
    void (*settle)(struct stream *stream);
    bool (*send)(struct stream *stream, struct buffer *bytes);
    void (*end)(struct stream *stream);
    void (*close)(struct stream *stream, bool reset);
    void (*detach)(struct stream *stream);
    enum socket_peer (*look)(const struct stream *stream, int for_ms);
    void (*ends)(const struct stream *stream, struct socket_ends *ends);
    /* For an implementation on top of this one; NULL where there can be none. Moves all
     * that the stream is and holds into `to`, which settle() is then to be called for;
     * `from` keeps what its owner has set. */
    void (*move)(struct stream *from, struct stream *to);
    /* How many of the bytes can be sent at once, and were; the rest is for send(). NULL:
     * always none. */
    size_t (*write)(struct stream *stream, const uint8_t *bytes, size_t n);
    bool splices; /* brings and takes buffers in pipes */
};

struct stream {
    const struct stream_ops *ops; /* NULL: not open */
    const struct stream_events *events;
    void *owner; /* for the owner's use */
    struct loop *loop;
    struct buffer *first_out; /* handed over and not gone yet */
    struct buffer *last_out;
    ev_io watcher;
    void (*on_detached)(struct stream *stream, int fd); /* NULL: not asked for */
    enum stream_failure connect_failure; /* of a connect that failed at once */
    uint8_t full_reads;                  /* in a row: two make a bulk transfer */
    bool wants_bytes : 1;                /* the owner's wish */
    bool may_splice : 1;                 /* the owner does not look into the bytes */
    bool is_connecting : 1;              /* until on_open or on_failed */
    bool has_ended : 1;                  /* the peer's side */
    bool is_ending : 1;                  /* ours: FIN behind the last byte */
    bool end_sent : 1;
    bool send_failed : 1; /* what the peer had sent before is still read, if it is wanted
                           */
    bool is_woken : 1;    /* its callback runs soon, whatever the descriptor says */
};

/* Wraps a connected socket, which is the stream's from now on. `settings` is NULL for one
 * that was a stream's before. */
void stream_adopt(struct stream *stream, struct loop *loop, int fd,
                  const struct tcp_settings *settings, const struct stream_events *events,
                  void *owner);
/* Begins to connect; on_open or on_failed tells how it went. There is no time limit here:
 * the owner has a deadline of its own. */
void stream_connect(struct stream *stream, struct loop *loop,
                    const struct address *address, const struct tcp_settings *settings,
                    const struct stream_events *events, void *owner);

static inline bool stream_is_open(const struct stream *stream)
{
    return stream->ops != NULL;
}

/* Whether the owner takes bytes now: no at first. Cheap when nothing changes. */
static inline void stream_want(struct stream *stream, bool bytes)
{
    if (stream->wants_bytes != bytes) {
        stream->wants_bytes = bytes;
        stream->ops->settle(stream);
    }
}

/* Sends the unread bytes of `bytes` and gives the buffer back when they are gone. True:
 * gone already, nothing is pending. False: on_sent follows, or on_failed. */
static inline bool stream_send(struct stream *stream, struct buffer *bytes)
{
    return stream->ops->send(stream, bytes);
}

static inline bool stream_is_sending(const struct stream *stream)
{
    return stream->first_out != NULL;
}

/* We send no more: FIN behind what is pending. Bytes may still arrive. */
void stream_end(struct stream *stream);
/* What became of the bytes that were sent: see socket_look(). To be asked now and then,
 * since it costs a system call or two. */
static inline enum socket_peer stream_look(const struct stream *stream, int for_ms)
{
    return stream->ops->look(stream, for_ms);
}

/* Who is connected with whom, for views: costs two system calls or three. */
static inline void stream_ends(const struct stream *stream, struct socket_ends *ends)
{
    stream->ops->ends(stream, ends);
}

/* Lets go of it: what is pending is lost; `reset` sends RST instead of FIN. Closing a
 * stream that is not open does nothing. */
void stream_close(struct stream *stream);
void stream_reset(struct stream *stream);

/* Takes the stream out of its loop, to be adopted in another: `done` gets the descriptor,
 * and the stream is no longer open. Only for one that neither sends nor has ended.
 * Asynchronous, since an implementation may have a receive under way: bytes that arrive
 * meanwhile come by on_bytes before `done`, and travel along by the owner's hand. */
void stream_detach(struct stream *stream, void (*done)(struct stream *stream, int fd));

const char *stream_failure_text(enum stream_failure why);

/* For implementations: the line of buffers that are to be sent. */
void stream_outbox_append(struct stream *stream, struct buffer *bytes);
void stream_outbox_drop_first(struct stream *stream);
void stream_outbox_drop(struct stream *stream);

#endif
