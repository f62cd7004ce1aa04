/* health/probe_tcp.c - does the node accept connections? Not a byte is sent. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/memory.h"
#include "health/probe.h"

struct probe_tcp {
    struct probe base;
    int fd; /* -1 unless connecting */
    uint32_t timeout_ms;
    uint64_t asked_at_ms;
    ev_io watcher;
    ev_timer timeout;
};

static void stop(struct probe *probe)
{
    struct probe_tcp *tcp = (struct probe_tcp *)probe;

    ev_timer_stop(probe->loop->ev, &tcp->timeout);
    ev_io_stop(probe->loop->ev, &tcp->watcher);
    if (tcp->fd >= 0)
        close(tcp->fd);
    tcp->fd = -1;
}

static void judge(struct probe *probe, int error)
{
    if (error == 0) {
        probe->sample = (struct sample){
            .source = SOURCE_TCP, .outcome = SAMPLE_OK, .said = "accepts connections"};
    } else if (error == ETIMEDOUT) {
        probe_fail(probe, SAMPLE_TIMEOUT, strerror(error));
    } else {
        probe_fail(probe, SAMPLE_REFUSED, strerror(error));
    }
}

static void on_connected(struct ev_loop *ev, ev_io *watcher, int events)
{
    struct probe_tcp *tcp = CONTAINER_OF(watcher, struct probe_tcp, watcher);
    struct probe *probe = &tcp->base;
    int error = 0;
    socklen_t length = sizeof error;

    (void)ev;
    (void)events;
    if (getsockopt(tcp->fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0)
        error = errno;
    stop(probe);
    judge(probe, error);
    probe->sample.duration_ms = (uint32_t)(loop_now_ms(probe->loop) - tcp->asked_at_ms);
    probe_answer(probe);
}

static void on_timeout(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct probe_tcp *tcp = CONTAINER_OF(timer, struct probe_tcp, timeout);
    char said[64];

    (void)ev;
    (void)events;
    stop(&tcp->base);
    snprintf(said, sizeof said, "no answer within %u ms", tcp->timeout_ms);
    probe_fail(&tcp->base, SAMPLE_TIMEOUT, said);
    tcp->base.sample.duration_ms = tcp->timeout_ms;
    probe_answer(&tcp->base);
}

static void ask(struct probe *probe, const struct question *question)
{
    struct probe_tcp *tcp = (struct probe_tcp *)probe;
    const struct address *address = &question->address;
    int error;

    tcp->asked_at_ms = loop_now_ms(probe->loop);
    tcp->timeout_ms = question->timeout_ms;
    tcp->fd =
        socket(address->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (tcp->fd < 0) {
        probe_fail(probe, SAMPLE_NOT_MADE, strerror(errno));
        probe_answer_later(probe);
        return;
    }
    error = connect(tcp->fd, &address->sa, address_length(address)) == 0 ? 0 : errno;
    if (error != EINPROGRESS) { /* the loopback device may answer at once */
        judge(probe, error);
        stop(probe);
        probe_answer_later(probe);
        return;
    }
    ev_io_set(&tcp->watcher, tcp->fd, EV_WRITE);
    ev_io_start(probe->loop->ev, &tcp->watcher);
    ev_timer_set(&tcp->timeout, question->timeout_ms / 1e3, 0.);
    ev_timer_start(probe->loop->ev, &tcp->timeout);
}

static void free_tcp(struct probe *probe)
{
    memory_free(probe);
}

static const struct probe_kind tcp_kind = {ask, stop, free_tcp};

struct probe *probe_tcp_new(struct loop *loop,
                            void (*on_sample)(void *arg, const struct sample *sample),
                            void *arg)
{
    struct probe_tcp *tcp = memory_zeroed(sizeof *tcp);

    if (tcp == NULL)
        return NULL;
    tcp->base = (struct probe){
        .kind = &tcp_kind, .loop = loop, .on_sample = on_sample, .arg = arg};
    tcp->fd = -1;
    ev_init(&tcp->watcher, on_connected);
    ev_init(&tcp->timeout, on_timeout);
    return &tcp->base;
}
