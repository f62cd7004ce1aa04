#include "tests/lib/script_stream.h"

#include <stdlib.h>
#include <string.h>

static const struct stream_ops script_ops;

static struct script_peer *peer_of(const struct stream *stream)
{
    return stream->watcher.data;
}

static bool can_take(const struct script_peer *peer)
{
    return peer->stream->first_out != NULL && peer->window > 0 &&
           !peer->stream->is_connecting;
}

static bool can_play(const struct script_peer *peer)
{
    const struct script_step *step = &peer->steps[peer->at];
    const struct stream *stream = peer->stream;

    if (peer->at == peer->n_steps)
        return false;
    switch (step->kind) {
    case SCRIPT_OPENS:
    case SCRIPT_FAILS:
    case SCRIPT_TAKES:
    case SCRIPT_RESTS:
        return true;
    case SCRIPT_SAYS:
    case SCRIPT_ENDS:
        return stream->wants_bytes && !stream->is_connecting;
    case SCRIPT_HEARS:
        return peer->n_heard >= step->n;
    }
    UNREACHABLE();
}

static void settle(struct stream *stream)
{
    struct script_peer *peer = peer_of(stream);
    bool has_work = can_take(peer) || can_play(peer) || stream->on_detached != NULL;

    if (has_work)
        ev_idle_start(stream->loop->ev, &peer->ticker);
    else
        ev_idle_stop(stream->loop->ev, &peer->ticker);
}

static void leave(struct stream *stream)
{
    struct script_peer *peer = peer_of(stream);
    struct buffer *buffer;

    ev_idle_stop(stream->loop->ev, &peer->ticker);
    while ((buffer = stream->first_out) != NULL) {
        stream->first_out = buffer->next;
        buffer_give(buffer);
    }
    stream->last_out = NULL;
    stream->ops = NULL;
    peer->stream = NULL;
}

static void fail(struct stream *stream, enum stream_failure why)
{
    leave(stream);
    stream->events->on_failed(stream, why);
}

static void hear(struct script_peer *peer, const uint8_t *bytes, size_t n)
{
    peer->heard = realloc(peer->heard, peer->n_heard + n);
    REQUIRE(peer->heard != NULL);
    memcpy(peer->heard + peer->n_heard, bytes, n);
    peer->n_heard += n;
}

/* Takes of the buffer what the window allows; true when it is empty then. */
static bool take_some(struct script_peer *peer, struct buffer *buffer)
{
    uint32_t n = buffer_unread(buffer);

    if (n > peer->window)
        n = (uint32_t)peer->window;
    if (peer->window != SCRIPT_ALL)
        peer->window -= n;
    hear(peer, buffer->bytes + buffer->begin, n);
    buffer_skip(buffer, n);
    return buffer_unread(buffer) == 0;
}

static void send_end(struct stream *stream)
{
    if (stream->is_ending && !stream->end_sent && stream->first_out == NULL &&
        !stream->is_connecting) {
        stream->end_sent = true;
        peer_of(stream)->has_heard_end = true;
    }
}

static void take(struct stream *stream)
{
    struct script_peer *peer = peer_of(stream);
    struct buffer *buffer;

    while ((buffer = stream->first_out) != NULL && take_some(peer, buffer)) {
        stream->first_out = buffer->next;
        buffer_give(buffer);
    }
    if (stream->first_out != NULL)
        return;
    stream->last_out = NULL;
    send_end(stream);
    stream->events->on_sent(stream);
}

static void say(struct stream *stream, struct script_peer *peer)
{
    const struct script_step *step = &peer->steps[peer->at];
    struct buffer *buffer = buffer_take(stream->loop->pond);
    size_t n = step->n - peer->n_done_of_step;
    const uint8_t *bytes = step->bytes + peer->n_done_of_step;

    if (buffer == NULL) {
        fail(stream, STREAM_NO_MEMORY);
        return;
    }
    if (n > buffer->size)
        n = buffer->size;
    if (step->piece != 0 && n > step->piece)
        n = step->piece;
    REQUIRE(buffer_add(buffer, bytes, (uint32_t)n));
    peer->n_done_of_step += n;
    if (peer->n_done_of_step == step->n) {
        peer->n_done_of_step = 0;
        peer->at++;
    }
    stream->events->on_bytes(stream, buffer);
}

static void play(struct stream *stream, struct script_peer *peer)
{
    const struct script_step *step = &peer->steps[peer->at];

    switch (step->kind) {
    case SCRIPT_SAYS:
        say(stream, peer);
        return;
    case SCRIPT_RESTS:
        if (++peer->n_done_of_step < step->n)
            return;
        peer->n_done_of_step = 0;
        peer->at++;
        return;
    case SCRIPT_TAKES:
        peer->at++;
        script_widen(peer, step->n);
        return;
    case SCRIPT_HEARS:
        peer->at++;
        return;
    case SCRIPT_OPENS:
        REQUIRE(stream->is_connecting);
        peer->at++;
        stream->is_connecting = false;
        stream->events->on_open(stream);
        return;
    case SCRIPT_ENDS:
        REQUIRE(!stream->has_ended);
        peer->at++;
        stream->has_ended = true;
        stream->events->on_end(stream);
        return;
    case SCRIPT_FAILS:
        peer->at++;
        fail(stream, step->why);
        return;
    }
}

static void finish_detaching(struct stream *stream)
{
    int fd = peer_of(stream)->fd;

    leave(stream);
    stream->on_detached(stream, fd);
}

static void on_tick(struct ev_loop *ev, ev_idle *ticker, int events)
{
    struct script_peer *peer = CONTAINER_OF(ticker, struct script_peer, ticker);
    struct stream *stream = peer->stream;

    (void)ev;
    (void)events;
    if (can_take(peer))
        take(stream);
    if (peer->stream == stream && can_play(peer))
        play(stream, peer);
    if (peer->stream == stream && stream->on_detached != NULL)
        finish_detaching(stream);
    if (peer->stream == stream)
        settle(stream);
}

static bool script_send(struct stream *stream, struct buffer *bytes)
{
    struct script_peer *peer = peer_of(stream);

    REQUIRE(!stream->is_ending);
    REQUIRE(bytes->bytes != NULL && buffer_unread(bytes) > 0);
    if (stream->first_out == NULL && !stream->is_connecting && !peer->takes_late &&
        take_some(peer, bytes)) {
        buffer_give(bytes);
        settle(stream); /* it may have waited to hear that */
        return true;
    }
    bytes->next = NULL;
    if (stream->last_out != NULL)
        stream->last_out->next = bytes;
    else
        stream->first_out = bytes;
    stream->last_out = bytes;
    settle(stream);
    return false;
}

static void script_end(struct stream *stream)
{
    stream->is_ending = true;
    send_end(stream);
}

static void script_close(struct stream *stream, bool reset)
{
    peer_of(stream)->was_closed = !reset;
    peer_of(stream)->was_reset = reset;
    leave(stream);
}

static void script_detach(struct stream *stream)
{
    settle(stream);
}

static void script_move(struct stream *from, struct stream *to)
{
    *to = *from;
    peer_of(to)->stream = to;
    from->first_out = from->last_out = NULL;
}

static enum socket_peer script_look(const struct stream *stream, int for_ms)
{
    (void)for_ms;
    return peer_of(stream)->look;
}

static void script_show_ends(const struct stream *stream, struct socket_ends *ends)
{
    (void)stream;
    *ends = (struct socket_ends){0};
}

static const struct stream_ops script_ops = {
    .settle = settle,
    .send = script_send,
    .end = script_end,
    .close = script_close,
    .detach = script_detach,
    .look = script_look,
    .ends = script_show_ends,
    .move = script_move,
    .splices = false,
};

void script_adopt(struct stream *stream, struct loop *loop, struct script_peer *peer,
                  const struct stream_events *events, void *owner)
{
    *stream = (struct stream){
        .ops = &script_ops,
        .events = events,
        .owner = owner,
        .loop = loop,
        .watcher.data = peer,
    };
    peer->stream = stream;
    peer->loop = loop;
    ev_idle_init(&peer->ticker, on_tick);
    settle(stream);
}

void script_connect(struct stream *stream, struct loop *loop, struct script_peer *peer,
                    const struct stream_events *events, void *owner)
{
    script_adopt(stream, loop, peer, events, owner);
    stream->is_connecting = true;
    settle(stream);
}

void script_clear(struct script_peer *peer)
{
    REQUIRE(peer->stream == NULL);
    free(peer->heard);
    *peer = (struct script_peer){0};
}

static void add(struct script_peer *peer, struct script_step step)
{
    REQUIRE(peer->n_steps < SCRIPT_STEPS_MAX);
    peer->steps[peer->n_steps++] = step;
    if (peer->stream != NULL)
        settle(peer->stream);
}

void script_opens(struct script_peer *peer)
{
    add(peer, (struct script_step){.kind = SCRIPT_OPENS});
}

void script_says(struct script_peer *peer, const void *bytes, size_t n, size_t piece)
{
    REQUIRE(n > 0);
    add(peer, (struct script_step){
                  .kind = SCRIPT_SAYS, .bytes = bytes, .n = n, .piece = piece});
}

void script_ends(struct script_peer *peer)
{
    add(peer, (struct script_step){.kind = SCRIPT_ENDS});
}

void script_fails(struct script_peer *peer, enum stream_failure why)
{
    add(peer, (struct script_step){.kind = SCRIPT_FAILS, .why = why});
}

void script_takes(struct script_peer *peer, size_t n)
{
    add(peer, (struct script_step){.kind = SCRIPT_TAKES, .n = n});
}

void script_hears(struct script_peer *peer, size_t n)
{
    add(peer, (struct script_step){.kind = SCRIPT_HEARS, .n = n});
}

void script_rests(struct script_peer *peer, size_t n_iterations)
{
    add(peer, (struct script_step){.kind = SCRIPT_RESTS, .n = n_iterations});
}

void script_widen(struct script_peer *peer, size_t n)
{
    peer->window = n == SCRIPT_ALL ? SCRIPT_ALL : peer->window + n;
    if (peer->stream != NULL)
        settle(peer->stream);
}

bool script_is_played(const struct script_peer *peer)
{
    return peer->at == peer->n_steps &&
           (peer->stream == NULL || !stream_is_sending(peer->stream));
}
