#include "tests/lib/made_time.h"

#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_MAX 1024
#define FIRST_MS 1000000
#define WALL_S 1900000000

struct event {
    uint64_t due_ms, number;
    void (*run)(void *arg); /* NULL: `arg` is an ev_timer */
    void *arg;
};

static struct {
    bool is_made;
    struct loop loop;
    uint64_t now_ms, number, random;
    struct event events[EVENTS_MAX];
    size_t n;
} made;

struct loop *made_time_begin(uint64_t seed)
{
    made.is_made = true;
    made.now_ms = FIRST_MS;
    made.number = 0;
    made.random = seed * 0x9e3779b97f4a7c15u + 1;
    made.n = 0;
    return &made.loop;
}

uint64_t made_time_ms(void)
{
    return made.now_ms;
}

/* ---- chance: splitmix64 ---- */

static uint64_t next_random(void)
{
    uint64_t mixed = made.random += 0x9e3779b97f4a7c15u;

    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

uint64_t made_time_below(uint64_t limit)
{
    return limit == 0 ? 0 : next_random() % limit;
}

uint64_t made_time_between(uint64_t least, uint64_t most)
{
    return least + made_time_below(most - least + 1);
}

bool made_time_chance(unsigned percent)
{
    return made_time_below(100) < percent;
}

/* ---- events ---- */

static void add(uint64_t after_ms, void (*run)(void *arg), void *arg)
{
    REQUIRE(made.n < EVENTS_MAX);
    made.events[made.n++] = (struct event){.due_ms = made.now_ms + after_ms,
                                           .number = made.number++,
                                           .run = run,
                                           .arg = arg};
}

void made_time_call(uint64_t after_ms, void (*run)(void *arg), void *arg)
{
    add(after_ms, run, arg);
}

static void forget(const void *arg, bool is_timer)
{
    for (size_t i = made.n; i-- > 0;)
        if (made.events[i].arg == arg && (made.events[i].run == NULL) == is_timer)
            made.events[i] = made.events[--made.n];
}

void made_time_forget(const void *arg)
{
    forget(arg, false);
}

static bool is_before(const struct event *a, const struct event *b)
{
    return a->due_ms < b->due_ms || (a->due_ms == b->due_ms && a->number < b->number);
}

static void run_timer(ev_timer *timer)
{
    timer->active = 0;
    if (timer->repeat > 0.) {
        timer->at = timer->repeat;
        ev_timer_start(NULL, timer);
    }
    timer->cb(NULL, timer, EV_TIMER);
}

bool made_time_step(uint64_t until_ms)
{
    size_t first = 0;
    struct event event;

    for (size_t i = 1; i < made.n; i++)
        if (is_before(&made.events[i], &made.events[first]))
            first = i;
    if (made.n == 0 || made.events[first].due_ms > until_ms) {
        made.now_ms = until_ms;
        return false;
    }
    event = made.events[first];
    made.events[first] = made.events[--made.n];
    made.now_ms = event.due_ms;
    if (event.run == NULL)
        run_timer(event.arg);
    else
        event.run(event.arg);
    return true;
}

/* ---- in the place of libev, core/loop.c and the system ---- */

void ev_timer_start(struct ev_loop *ev, ev_timer *timer)
{
    (void)ev;
    if (timer->active)
        return;
    timer->active = 1;
    add((uint64_t)(timer->at * 1e3 + 0.5), NULL, timer);
}

void ev_timer_stop(struct ev_loop *ev, ev_timer *timer)
{
    (void)ev;
    timer->active = 0;
    forget(timer, true);
}

uint64_t loop_now_ms(const struct loop *loop)
{
    (void)loop;
    return made.now_ms;
}

void loop_defer(struct loop *loop, struct deferred *deferred)
{
    (void)loop;
    (void)deferred;
    UNREACHABLE(); /* nobody who lives by timers alone does */
}

void loop_undefer(struct loop *loop, struct deferred *deferred)
{
    (void)loop;
    (void)deferred;
}

ssize_t getrandom(void *buffer, size_t length, unsigned flags)
{
    unsigned char *bytes = buffer;

    (void)flags;
    for (size_t i = 0; i < length; i++)
        bytes[i] = (unsigned char)next_random();
    return (ssize_t)length;
}

/* The C library's names for these are reserved. */
/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name) */
int clock_gettime(clockid_t clock, struct timespec *now)
{
    uint64_t ms = made.now_ms;

    if (!made.is_made)
        return (int)syscall(SYS_clock_gettime, clock, now);
    *now = (struct timespec){.tv_sec = (time_t)(WALL_S + ms / 1000),
                             .tv_nsec = (long)(ms % 1000) * 1000000};
    return 0;
}
