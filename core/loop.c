#include "core/loop.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "core/buffer.h"
#include "core/memory.h"

/* Iterations shorter than this are not worth asking the kernel about. */
#define WORTH_A_LOOK_NS 2000000u
/* How old our last look at the run delay may be at the start of an iteration. */
#define LOOK_EVERY_NS 5000000u

/* All waits of one duration, in the order in which they end: one timer for the first. */
struct deadline_queue {
    struct link in_loop;
    struct loop *loop;
    uint64_t duration_ms;
    struct list waiting;
    ev_timer timer;
};

static uint64_t read_clock_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t clock_now_ns(void)
{
    return read_clock_ns(CLOCK_MONOTONIC);
}

/* How long this thread has stood ready without getting a CPU, since it began (second
 * number of /proc/thread-self/schedstat: the kernel's Documentation/scheduler). */
static uint64_t read_run_delay_ns(const struct loop *loop)
{
    char text[96];
    ssize_t n =
        loop->schedstat < 0 ? -1 : pread(loop->schedstat, text, sizeof text - 1, 0);
    char *second;

    if (n <= 0)
        return 0;
    text[n] = '\0';
    second = strchr(text, ' ');
    return second == NULL ? 0 : strtoull(second, NULL, 10);
}

static uint64_t in_ns(const struct timeval *time)
{
    return (uint64_t)time->tv_sec * 1000000000u + (uint64_t)time->tv_usec * 1000u;
}

static void look(struct loop *loop)
{
    struct rusage usage = {0};

    (void)getrusage(RUSAGE_THREAD, &usage);
    loop->look = (struct loop_look){
        .at_ns = loop->now_ns,
        .n_iterations = loop->n_iterations,
        .run_delay_ns = read_run_delay_ns(loop),
        .cpu_ns = in_ns(&usage.ru_utime) + in_ns(&usage.ru_stime),
        .n_sleeps = (uint64_t)usage.ru_nvcsw,
    };
}

/* Those that are in line now: what they add is for the next iteration. */
static void run_continued(struct loop *loop)
{
    for (size_t n = loop->continued.n; n > 0 && loop->continued.n > 0; n--) {
        struct link *first = list_first(&loop->continued);
        struct deferred *deferred = CONTAINER_OF(first, struct deferred, in_loop);

        list_remove(&loop->continued, first);
        deferred->run(deferred);
    }
    if (loop->continued.n == 0)
        ev_idle_stop(loop->ev, &loop->restless);
}

static void on_after_sleep(struct ev_loop *ev, ev_check *watcher, int events)
{
    struct loop *loop = CONTAINER_OF(watcher, struct loop, after_sleep);

    (void)ev;
    (void)events;
    loop->now_ns = clock_now_ns();
    loop->n_iterations++;
    loop->n_events = 0;
    loop->is_late = false;
    if (loop->now_ns - loop->look.at_ns > LOOK_EVERY_NS)
        look(loop);
    if (loop->continued.n > 0)
        run_continued(loop);
}

static void on_restless(struct ev_loop *ev, ev_idle *watcher, int events)
{
    (void)ev;
    (void)watcher;
    (void)events;
}

static void keep_longest(_Atomic uint64_t *longest_ns, uint64_t ns)
{
    if (ns > atomic_load_explicit(longest_ns, memory_order_relaxed))
        atomic_store_explicit(longest_ns, ns, memory_order_relaxed);
}

/* What counts is the time for which we kept others waiting, without the time for which
 * other processes, or other machines on the same hardware, kept us from running. Who has
 * not slept oftener than once an iteration, which is the loop's own sleep, has not waited
 * for anything inside one: then it cannot have taken longer than the CPU time that was
 * used. */
static void measure_iteration(struct loop *loop)
{
    struct loop_look before = loop->look;
    uint64_t took_ns, waited_ns, used_ns;

    /* The coarse clock stands still between the kernel's ticks, which are 10 ms apart at
     * most, and costs a fraction of the other: most iterations see it stand still. */
    if (read_clock_ns(CLOCK_MONOTONIC_COARSE) <= loop->now_ns)
        return;
    took_ns = clock_now_ns() - loop->now_ns;
    if (took_ns < WORTH_A_LOOK_NS)
        return;
    look(loop);
    waited_ns = loop->look.run_delay_ns - before.run_delay_ns;
    used_ns = loop->look.cpu_ns - before.cpu_ns;
    took_ns = took_ns > waited_ns ? took_ns - waited_ns : 0;
    if (loop->look.n_sleeps - before.n_sleeps <=
            loop->look.n_iterations - before.n_iterations &&
        used_ns < took_ns)
        took_ns = used_ns;
    keep_longest(&loop->longest_iteration_ns, took_ns);
    keep_longest(&loop->longest_work_ns, took_ns < used_ns ? took_ns : used_ns);
}

bool loop_look_at_clock(struct loop *loop)
{
    loop->is_late = clock_now_ns() - loop->now_ns > LOOP_LATE_NS;
    return loop->is_late;
}

static void run_deferred(struct loop *loop)
{
    struct link *first;

    while ((first = list_first(&loop->deferred)) != NULL) {
        struct deferred *deferred = CONTAINER_OF(first, struct deferred, in_loop);

        list_remove(&loop->deferred, first);
        deferred->run(deferred);
    }
}

static void on_before_sleep(struct ev_loop *ev, ev_prepare *watcher, int events)
{
    struct loop *loop = CONTAINER_OF(watcher, struct loop, before_sleep);

    (void)ev;
    (void)events;
    run_deferred(loop);
    measure_iteration(loop);
}

struct loop *loop_new(bool watches_signals)
{
    struct loop *loop = memory_zeroed(sizeof *loop);

    if (loop == NULL)
        return NULL;
    list_init(&loop->deferred);
    list_init(&loop->continued);
    list_init(&loop->queues);
    list_init(&loop->turns);
    ev_idle_init(&loop->restless, on_restless);
    loop->schedstat = loop->epoll = -1;
    loop->pond = pond_new();
    loop->ev = watches_signals ? ev_default_loop(EVBACKEND_EPOLL | EVFLAG_NOENV)
                               : ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (loop->pond == NULL || loop->ev == NULL)
        goto fail;

    /* First after the sleep, last before it: the measure holds everything between. */
    ev_check_init(&loop->after_sleep, on_after_sleep);
    ev_set_priority(&loop->after_sleep, EV_MAXPRI);
    ev_check_start(loop->ev, &loop->after_sleep);
    ev_prepare_init(&loop->before_sleep, on_before_sleep);
    ev_set_priority(&loop->before_sleep, EV_MINPRI);
    ev_prepare_start(loop->ev, &loop->before_sleep);
    loop->now_ns = clock_now_ns();
    return loop;

fail:
    loop_free(loop);
    return NULL;
}

void loop_free(struct loop *loop)
{
    if (loop == NULL)
        return;
    LIST_EACH_SAFE(item, &loop->queues)
    {
        struct deadline_queue *queue = CONTAINER_OF(item, struct deadline_queue, in_loop);

        REQUIRE(queue->waiting.n == 0);
        ev_timer_stop(loop->ev, &queue->timer);
        memory_free(queue);
    }
    REQUIRE(loop->deferred.n == 0 && loop->continued.n == 0);
    if (loop->ev != NULL) {
        ev_check_stop(loop->ev, &loop->after_sleep);
        ev_prepare_stop(loop->ev, &loop->before_sleep);
        ev_loop_destroy(loop->ev);
    }
    if (loop->schedstat >= 0)
        close(loop->schedstat);
    pond_free(loop->pond);
    memory_free(loop);
}

void loop_run(struct loop *loop)
{
    loop->schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    loop->now_ns = clock_now_ns();
    look(loop);
    ev_now_update(loop->ev);
    ev_run(loop->ev, 0);
    run_deferred(loop); /* of the last iteration, which ended without a sleep */
}

void loop_finish(struct loop *loop)
{
    run_deferred(loop);
}

void loop_stop(struct loop *loop)
{
    ev_break(loop->ev, EVBREAK_ALL);
}

uint64_t loop_now_ms(const struct loop *loop)
{
    return loop->now_ns / 1000000u;
}

void loop_defer(struct loop *loop, struct deferred *deferred)
{
    if (!link_is_in_list(&deferred->in_loop))
        list_append(&loop->deferred, &deferred->in_loop);
}

void loop_undefer(struct loop *loop, struct deferred *deferred)
{
    if (link_is_in_list(&deferred->in_loop))
        list_remove(&loop->deferred, &deferred->in_loop);
}

void loop_continue(struct loop *loop, struct deferred *deferred)
{
    if (link_is_in_list(&deferred->in_loop))
        return;
    list_append(&loop->continued, &deferred->in_loop);
    ev_idle_start(loop->ev, &loop->restless);
}

void loop_discontinue(struct loop *loop, struct deferred *deferred)
{
    if (!link_is_in_list(&deferred->in_loop))
        return;
    list_remove(&loop->continued, &deferred->in_loop);
    if (loop->continued.n == 0)
        ev_idle_stop(loop->ev, &loop->restless);
}

bool loop_begin_work(struct loop *loop)
{
    if (loop->work.iteration != loop->n_iterations)
        loop->work = (struct loop_work){.iteration = loop->n_iterations};
    if (loop->work.used_ns >= LOOP_WORK_MS * 1000000u)
        return false;
    loop->work.began_ns = clock_now_ns();
    return true;
}

void loop_end_work(struct loop *loop)
{
    loop->work.used_ns += clock_now_ns() - loop->work.began_ns;
}

static void arm_timer(struct deadline_queue *queue)
{
    struct link *first = list_first(&queue->waiting);
    uint64_t now_ms = loop_now_ms(queue->loop), due_ms;

    if (first == NULL || ev_is_active(&queue->timer))
        return;
    due_ms = CONTAINER_OF(first, struct deadline, in_queue)->due_ms;
    ev_timer_set(&queue->timer, due_ms > now_ms ? (double)(due_ms - now_ms) / 1e3 : 0.001,
                 0.);
    ev_timer_start(queue->loop->ev, &queue->timer);
}

static void on_timer(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct deadline_queue *queue = CONTAINER_OF(timer, struct deadline_queue, timer);
    struct link *first;

    (void)ev;
    (void)events;
    while ((first = list_first(&queue->waiting)) != NULL) {
        struct deadline *deadline = CONTAINER_OF(first, struct deadline, in_queue);

        if (deadline->due_ms > loop_now_ms(queue->loop))
            break;
        deadline_cancel(deadline);
        deadline->on_due(deadline);
    }
    arm_timer(queue);
}

/* libev does not tell its epoll descriptor: it is the one among the process's that knows
 * `fd`, which this removes from it. -1 when there is none. */
static int forget_wherever_it_is(int fd)
{
    DIR *open_files = opendir("/proc/self/fd");
    struct dirent *entry;
    int found = -1;

    while (open_files != NULL && found < 0 && (entry = readdir(open_files)) != NULL) {
        char kind[32];
        ssize_t n = readlinkat(dirfd(open_files), entry->d_name, kind, sizeof kind - 1);
        int set = (int)strtol(entry->d_name, NULL, 10);

        kind[n > 0 ? n : 0] = '\0';
        if (strcmp(kind, "anon_inode:[eventpoll]") == 0 &&
            epoll_ctl(set, EPOLL_CTL_DEL, fd, NULL) == 0)
            found = set;
    }
    if (open_files != NULL)
        closedir(open_files);
    return found;
}

void loop_forget_descriptor(struct loop *loop, int fd)
{
    if (loop->epoll < 0)
        loop->epoll = forget_wherever_it_is(fd);
    else
        (void)epoll_ctl(loop->epoll, EPOLL_CTL_DEL, fd,
                        NULL); /* may never have been in */
}

/* The queue of one duration; they are few and stay, since durations are settings. */
static struct deadline_queue *queue_for(struct loop *loop, uint64_t duration_ms)
{
    struct deadline_queue *queue;

    LIST_EACH(item, &loop->queues)
    {
        queue = CONTAINER_OF(item, struct deadline_queue, in_loop);
        if (queue->duration_ms == duration_ms)
            return queue;
    }
    queue = memory_zeroed(sizeof *queue);
    if (queue == NULL)
        return NULL;
    queue->loop = loop;
    queue->duration_ms = duration_ms;
    list_init(&queue->waiting);
    ev_timer_init(&queue->timer, on_timer, 0., 0.);
    list_append(&loop->queues, &queue->in_loop);
    return queue;
}

bool deadline_arm(struct loop *loop, struct deadline *deadline, uint64_t after_ms,
                  void (*on_due)(struct deadline *))
{
    struct deadline_queue *queue = queue_for(loop, after_ms);

    deadline_cancel(deadline);
    if (queue == NULL)
        return false;
    deadline->queue = queue;
    deadline->due_ms = loop_now_ms(loop) + after_ms;
    deadline->on_due = on_due;
    list_append(&queue->waiting, &deadline->in_queue);
    arm_timer(queue);
    return true;
}

void deadline_cancel(struct deadline *deadline)
{
    if (deadline_is_armed(deadline))
        list_remove(&deadline->queue->waiting, &deadline->in_queue);
}

bool deadline_is_armed(const struct deadline *deadline)
{
    return link_is_in_list(&deadline->in_queue);
}

static double in_ms(const _Atomic uint64_t *ns)
{
    return (double)atomic_load_explicit(ns, memory_order_relaxed) / 1e6;
}

double loop_longest_iteration_ms(const struct loop *loop)
{
    return in_ms(&loop->longest_iteration_ns);
}

double loop_longest_work_ms(const struct loop *loop)
{
    return in_ms(&loop->longest_work_ns);
}
