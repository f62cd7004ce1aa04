/* core/loop.h - one thread's event loop, and what hangs off it.
 *
 * A thread has one loop. Everything that belongs to the thread (streams, timers,
 * buffers) is reached through it, and only mailbox_post() reaches into another's.
 *
 * An iteration is: sleep, run the callbacks of what happened, run what was deferred.
 * What is too long for one goes on in the next: loop_continue(), loop_begin_work().
 * Nobody frees an object in a callback that may belong to somebody further up the
 * stack: it is closed, and its loop_defer()ed function frees it after the iteration.
 */
#ifndef CORE_LOOP_H
#define CORE_LOOP_H

#include <ev.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/check.h"
#include "core/list.h"
#include "core/ration.h"

struct pond;

/* Runs once after the callbacks of the present iteration. Embed it. */
struct deferred {
    struct link in_loop;
    void (*run)(struct deferred *deferred);
};

/* A wait with an end. Equal durations share one queue, so arming and cancelling are
 * O(1) and cost no system call. Embed it; a zeroed one is not armed. */
struct deadline {
    struct link in_queue;
    struct deadline_queue *queue;
    uint64_t due_ms;
    void (*on_due)(struct deadline *deadline);
};

struct loop {
    struct ev_loop *ev;
    struct pond *pond; /* the thread's buffers, core/buffer.h */
    struct list deferred;
    struct list continued; /* for the next iteration's start */
    ev_idle restless;      /* runs while there are such: then the loop does not sleep */
    struct list queues;    /* of deadlines, one for each duration in use */
    ev_prepare before_sleep;
    ev_check after_sleep;
    int epoll;       /* the kernel's set behind ev */
    uint64_t now_ns; /* monotonic, as of this iteration's start */
    int schedstat;   /* descriptor of the thread's scheduler statistics, or -1 */
    uint64_t n_iterations;
    unsigned n_events; /* of this iteration, that loop_is_late() was asked for */
    bool is_late;      /* what it said last */
    struct loop_work { /* of loop_begin_work() */
        uint64_t iteration;
        uint64_t used_ns; /* in that iteration */
        uint64_t began_ns;
    } work;
    struct loop_look { /* at the scheduler's statistics, see loop.c */
        uint64_t at_ns;
        uint64_t n_iterations;
        uint64_t run_delay_ns; /* ready, without a CPU */
        uint64_t cpu_ns;
        uint64_t n_sleeps; /* of the thread's own will */
    } look;
    struct ration onlookers; /* pages, tables and metrics are made with it */
    struct list turns;       /* of core/turns.h: who waits for it */
    struct deadline next_turn;
    _Atomic uint64_t longest_iteration_ns;
    _Atomic uint64_t longest_work_ns;
};

/* `watches_signals`: libev's default loop, of which there is one, the control thread's.
 * NULL when memory or descriptors are out. */
struct loop *loop_new(bool watches_signals) MUST_CHECK;
/* Every stream, deadline and deferred function must be gone. NULL is fine. */
void loop_free(struct loop *loop);

/* Returns after loop_stop(). */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
/* Runs what was deferred after the loop has returned: for the end. */
void loop_finish(struct loop *loop);

/* Milliseconds of the monotonic clock as of this iteration's start. */
uint64_t loop_now_ms(const struct loop *loop);

/* Whether this iteration has lasted so long that an event which the kernel will report
 * again is to be left for the next: thousands can be reported at once. To be asked before
 * each such event; looks at the clock now and then. */
#define LOOP_LATE_NS 5000000u
#define LOOP_EVENTS_PER_LOOK 32u
bool loop_look_at_clock(struct loop *loop);
static inline bool loop_is_late(struct loop *loop)
{
    return ++loop->n_events % LOOP_EVENTS_PER_LOOK == 0 ? loop_look_at_clock(loop)
                                                        : loop->is_late;
}

/* Takes a descriptor out of the kernel's set. libev leaves it there when a watcher stops,
 * which is right before a close, and wrong before the descriptor goes to another loop. */
void loop_forget_descriptor(struct loop *loop, int fd);

/* Nothing happens when it is already deferred. */
void loop_defer(struct loop *loop, struct deferred *deferred);
void loop_undefer(struct loop *loop, struct deferred *deferred);

/* Runs once at the start of the next iteration, before which the loop does not sleep, in
 * the order of the calls. The same object must not be deferred meanwhile. */
void loop_continue(struct loop *loop, struct deferred *deferred);
void loop_discontinue(struct loop *loop, struct deferred *deferred);

/* Around pieces of work that take about a millisecond each, such as a handshake's
 * arithmetic, of which many can come at once: an iteration has LOOP_WORK_MS for all of
 * them. False: no time is left; loop_continue() and ask again. */
#define LOOP_WORK_MS 5u
bool loop_begin_work(struct loop *loop) MUST_CHECK;
void loop_end_work(struct loop *loop);

/* Calls on_due once, `after_ms` (more than 0) from now at the earliest; arming an armed
 * one starts it anew. on_due may free the deadline's owner. False when this is the loop's
 * first wait of this length and memory is out: then it is not armed. */
bool deadline_arm(struct loop *loop, struct deadline *deadline, uint64_t after_ms,
                  void (*on_due)(struct deadline *));
void deadline_cancel(struct deadline *deadline);
bool deadline_is_armed(const struct deadline *deadline);

/* The longest iteration since start, ms, without the time that the thread stood ready and
 * the kernel gave the CPU to others. Any thread may read it. */
double loop_longest_iteration_ms(const struct loop *loop);
/* The same, without what was waited for inside it, such as a lock whose holder had to
 * wait for a CPU. */
double loop_longest_work_ms(const struct loop *loop);

#endif
