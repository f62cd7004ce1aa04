/* core/stream_epoll.c - streams over a socket, libev and epoll.
 *
 * One receive for each readiness, and a send at once for what is handed over: an
 * exchange of short messages costs one recv(2) and one send(2) each way and no
 * epoll_ctl(2). After two reads that filled a buffer a stream that nobody looks into
 * brings its bytes in a pipe, by splice(2), until a read is short again.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/stream.h"

#define FULL_READS_OF_BULK 2

static const struct stream_ops epoll_ops;
static void on_io(struct ev_loop *ev, ev_io *watcher, int events);

/* False once it is closed, and when it has become the upper half of another kind. */
static bool is_ours(const struct stream *stream)
{
    return stream->ops == &epoll_ops;
}

/* The only place that starts and stops the watcher. */
static void settle(struct stream *stream)
{
    int events = 0;

    if (stream->watcher.fd < 0) /* connecting failed at once: on_failed is on its way */
        return;
    if (stream->is_connecting) {
        events = EV_WRITE;
    } else {
        if (stream->wants_bytes && !stream->has_ended)
            events |= EV_READ;
        if (stream->first_out != NULL)
            events |= EV_WRITE;
    }
    if (events == (ev_is_active(&stream->watcher)
                       ? stream->watcher.events & (EV_READ | EV_WRITE)
                       : 0))
        return;
    ev_io_stop(stream->loop->ev, &stream->watcher); /* forgets what was fed, too */
    if (events != 0) {
        ev_io_set(&stream->watcher, stream->watcher.fd, events);
        ev_io_start(stream->loop->ev, &stream->watcher);
    }
    if (stream->is_woken)
        ev_feed_event(stream->loop->ev, &stream->watcher, EV_CUSTOM);
}

/* Has on_io run in this iteration or the next, so that no callback comes from a call. */
static void wake(struct stream *stream)
{
    stream->is_woken = true;
    ev_feed_event(stream->loop->ev, &stream->watcher, EV_CUSTOM);
}

static void epoll_close(struct stream *stream, bool reset)
{
    ev_clear_pending(stream->loop->ev, &stream->watcher);
    ev_io_stop(stream->loop->ev, &stream->watcher);
    stream_outbox_drop(stream);
    if (stream->watcher.fd >= 0) {
        if (reset)
            socket_reset_on_close(stream->watcher.fd);
        close(stream->watcher.fd);
    }
    stream->ops = NULL;
}

static void fail(struct stream *stream, enum stream_failure why)
{
    epoll_close(stream, false);
    stream->events->on_failed(stream, why);
}

static enum stream_failure failure_from_errno(int error)
{
    switch (error) {
    case ECONNREFUSED:
    case ENOENT: /* a unix socket that is not there */
        return STREAM_REFUSED;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EADDRNOTAVAIL:
    case EACCES:
    case EPERM:
        return STREAM_UNREACHABLE;
    case ETIMEDOUT:
        return STREAM_VANISHED;
    case ENOMEM:
    case ENOBUFS:
    case EMFILE:
    case ENFILE:
        return STREAM_NO_MEMORY;
    default:
        return STREAM_RESET;
    }
}

enum progress { ALL, SOME, BROKEN };

static enum progress write_some(struct stream *stream, struct buffer *buffer)
{
    ssize_t n = buffer->bytes != NULL
                    ? socket_send(stream->watcher.fd, buffer->bytes + buffer->begin,
                                  buffer_unread(buffer))
                    : splice(buffer->pipe[0], NULL, stream->watcher.fd, NULL,
                             buffer_unread(buffer), SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? SOME : BROKEN;
    buffer_skip(buffer, (uint32_t)n);
    return buffer_unread(buffer) == 0 ? ALL : SOME;
}

static void break_sending(struct stream *stream)
{
    stream_outbox_drop(stream);
    stream->send_failed = true;
    wake(stream);
}

static bool epoll_send(struct stream *stream, struct buffer *bytes)
{
    if (stream->send_failed) {
        buffer_give(bytes);
        return false;
    }
    if (stream->first_out == NULL && !stream->is_connecting) {
        switch (write_some(stream, bytes)) {
        case ALL:
            buffer_give(bytes);
            return true;
        case SOME:
            break;
        case BROKEN:
            buffer_give(bytes);
            break_sending(stream);
            return false;
        }
    }
    stream_outbox_append(stream, bytes);
    settle(stream);
    return false;
}

static size_t epoll_write(struct stream *stream, const uint8_t *bytes, size_t n)
{
    ssize_t n_sent;

    if (stream->send_failed)
        return n; /* what cannot go is not kept */
    if (stream->first_out != NULL || stream->is_connecting)
        return 0;
    n_sent = send(stream->watcher.fd, bytes, n, MSG_NOSIGNAL);
    if (n_sent >= 0)
        return (size_t)n_sent;
    if (errno == EAGAIN || errno == EINTR)
        return 0;
    break_sending(stream);
    return n;
}

static void send_end(struct stream *stream)
{
    if (stream->is_ending && !stream->end_sent && stream->first_out == NULL &&
        !stream->is_connecting && !stream->send_failed) {
        stream->end_sent = true;
        shutdown(stream->watcher.fd, SHUT_WR);
    }
}

static void epoll_end(struct stream *stream)
{
    stream->is_ending = true;
    send_end(stream);
}

static void epoll_detach(struct stream *stream)
{
    wake(stream);
}

static void epoll_move(struct stream *from, struct stream *to)
{
    ev_clear_pending(from->loop->ev, &from->watcher);
    ev_io_stop(from->loop->ev, &from->watcher);
    *to = *from;
    ev_io_init(&to->watcher, on_io, from->watcher.fd, 0);
    ev_set_priority(&to->watcher, ev_priority(&from->watcher));
    if (to->is_woken)
        wake(to);
    from->watcher.fd = -1;
    from->first_out = from->last_out = NULL;
}

static void finish_detaching(struct stream *stream)
{
    int fd = stream->watcher.fd;

    ev_io_stop(stream->loop->ev, &stream->watcher);
    loop_forget_descriptor(stream->loop, fd);
    stream->watcher.fd = -1;
    stream->ops = NULL;
    stream->on_detached(stream, fd);
}

static void finish_connecting(struct stream *stream)
{
    int error = 0;
    socklen_t length = sizeof error;

    if (stream->watcher.fd < 0) {
        fail(stream, stream->connect_failure);
        return;
    }
    if (getsockopt(stream->watcher.fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
        error = errno;
    if (error != 0) {
        fail(stream, error == ETIMEDOUT ? STREAM_UNREACHABLE : failure_from_errno(error));
        return;
    }
    stream->is_connecting = false;
    stream->events->on_open(stream);
}

static void on_writable(struct stream *stream)
{
    struct buffer *buffer;

    while ((buffer = stream->first_out) != NULL) {
        switch (write_some(stream, buffer)) {
        case SOME:
            return;
        case BROKEN:
            break_sending(stream);
            return;
        case ALL:
            stream_outbox_drop_first(stream);
            break;
        }
    }
    send_end(stream);
    stream->events->on_sent(stream);
}

static ssize_t read_some(struct stream *stream, struct buffer **bytes)
{
    struct buffer *buffer = NULL;
    ssize_t n;

    if (stream->may_splice && stream->full_reads >= FULL_READS_OF_BULK)
        buffer = buffer_take_pipe(stream->loop->pond);
    if (buffer != NULL) {
        n = splice(stream->watcher.fd, NULL, buffer->pipe[1], NULL, buffer->size,
                   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    } else {
        buffer = buffer_take(stream->loop->pond);
        if (buffer == NULL) {
            errno = ENOMEM;
            return -1;
        }
        buffer->begin = buffer->end = BUFFER_HEADROOM;
        n = socket_receive(stream->watcher.fd, buffer->bytes + BUFFER_HEADROOM,
                           buffer->size - BUFFER_HEADROOM);
    }
    if (n <= 0) {
        int error = errno;

        buffer_give(buffer);
        errno = error;
        return n;
    }
    buffer->end += (uint32_t)n;
    *bytes = buffer;
    return n;
}

static void on_readable(struct stream *stream)
{
    struct buffer *bytes;
    ssize_t n = read_some(stream, &bytes);

    if (n > 0) {
        if (n < (ssize_t)(BUFFER_BYTES - BUFFER_HEADROOM))
            stream->full_reads = 0;
        else if (stream->full_reads < FULL_READS_OF_BULK)
            stream->full_reads++;
        if (stream->send_failed)
            wake(stream); /* there may be more, and then the reason why it failed */
        stream->events->on_bytes(stream, bytes);
    } else if (n == 0 && !stream->send_failed) {
        stream->has_ended = true;
        stream->events->on_end(stream);
    } else if (n == 0 || stream->send_failed) {
        fail(stream, STREAM_RESET);
    } else if (errno == EAGAIN || errno == EINTR) {
        stream->full_reads = 0;
    } else {
        fail(stream, failure_from_errno(errno));
    }
}

static void on_io(struct ev_loop *ev, ev_io *watcher, int events)
{
    struct stream *stream = CONTAINER_OF(watcher, struct stream, watcher);

    (void)ev;
    if (events & EV_CUSTOM)
        stream->is_woken = false;
    else if (loop_is_late(stream->loop))
        return; /* epoll is level-triggered */
    if (stream->is_connecting) {
        finish_connecting(stream);
    } else {
        if (events & EV_WRITE && stream->first_out != NULL)
            on_writable(stream);
        if (events & (EV_READ | EV_CUSTOM) && is_ours(stream) && stream->wants_bytes &&
            !stream->has_ended)
            on_readable(stream);
        if (is_ours(stream) && stream->send_failed &&
            (!stream->wants_bytes || stream->has_ended))
            fail(stream, STREAM_RESET);
        if (is_ours(stream) && stream->on_detached != NULL && stream->first_out == NULL)
            finish_detaching(stream);
    }
    if (is_ours(stream))
        settle(stream);
}

static enum socket_peer epoll_look(const struct stream *stream, int for_ms)
{
    return socket_look(stream->watcher.fd, for_ms);
}

static void epoll_ends(const struct stream *stream, struct socket_ends *ends)
{
    socket_ends(stream->watcher.fd, ends);
}

static const struct stream_ops epoll_ops = {
    .settle = settle,
    .send = epoll_send,
    .end = epoll_end,
    .close = epoll_close,
    .detach = epoll_detach,
    .look = epoll_look,
    .ends = epoll_ends,
    .move = epoll_move,
    .write = epoll_write,
    .splices = true,
};

static void open_stream(struct stream *stream, struct loop *loop, int fd,
                        const struct tcp_settings *settings,
                        const struct stream_events *events, void *owner)
{
    *stream = (struct stream){
        .ops = &epoll_ops,
        .events = events,
        .owner = owner,
        .loop = loop,
    };
    ev_io_init(&stream->watcher, on_io, fd, 0);
    ev_set_priority(&stream->watcher, events->comes_first);
    if (fd >= 0 && settings != NULL)
        socket_tune(fd, settings);
}

void stream_adopt(struct stream *stream, struct loop *loop, int fd,
                  const struct tcp_settings *settings, const struct stream_events *events,
                  void *owner)
{
    open_stream(stream, loop, fd, settings, events, owner);
}

void stream_connect(struct stream *stream, struct loop *loop,
                    const struct address *address, const struct tcp_settings *settings,
                    const struct stream_events *events, void *owner)
{
    int fd = socket_connect(address);
    enum stream_failure failure = failure_from_errno(errno);

    open_stream(stream, loop, fd, settings, events, owner);
    stream->is_connecting = true;
    if (fd < 0) {
        stream->connect_failure = failure;
        wake(stream);
    } else {
        settle(stream);
    }
}
