#include "core/loop.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "core/buffer.h"
#include "tests/lib/fault.h"
#include "tests/lib/peers.h"
#include "tests/lib/turns.h"

static struct loop *loop;

static void make_loop(void)
{
    loop = loop_new(false);
}

static void free_loop(void)
{
    loop_free(loop);
}

TestSuite(loop, .init = make_loop, .fini = free_loop, .timeout = 20);

/* ---- what runs after the iteration ---------------------------------------------------
 */

static char order[64];

struct letter {
    struct deferred deferred;
    char name;
    struct letter *then; /* deferred by this one, when it runs */
};

static void write_letter(struct deferred *deferred)
{
    struct letter *letter = CONTAINER_OF(deferred, struct letter, deferred);

    order[strlen(order)] = letter->name;
    if (letter->then != NULL)
        loop_defer(loop, &letter->then->deferred);
}

static struct letter a = {.deferred.run = write_letter, .name = 'a'};
static struct letter b = {.deferred.run = write_letter, .name = 'b'};
static struct letter c = {.deferred.run = write_letter, .name = 'c'};

Test(loop, runs_what_was_deferred_in_order_and_once)
{
    loop_defer(loop, &b.deferred);
    loop_defer(loop, &a.deferred);
    loop_defer(loop, &c.deferred);
    cr_expect_str_eq(order, "");
    turn(loop, 3);
    cr_expect_str_eq(order, "bac");
}

Test(loop, defers_the_same_only_once)
{
    loop_defer(loop, &a.deferred);
    loop_defer(loop, &b.deferred);
    loop_defer(loop, &a.deferred);
    turn(loop, 3);
    cr_expect_str_eq(order, "ab");
    loop_defer(loop, &a.deferred);
    turn(loop, 1);
    cr_expect_str_eq(order, "aba", "again, once it has run");
}

Test(loop, runs_what_is_deferred_meanwhile_in_the_same_iteration)
{
    a.then = &b;
    b.then = &c;
    loop_defer(loop, &a.deferred);
    turn(loop, 1);
    cr_expect_str_eq(order, "abc");
}

Test(loop, does_not_run_what_was_taken_back)
{
    loop_defer(loop, &a.deferred);
    loop_defer(loop, &b.deferred);
    loop_undefer(loop, &a.deferred);
    loop_undefer(loop, &a.deferred);
    loop_undefer(loop, &c.deferred);
    turn(loop, 1);
    cr_expect_str_eq(order, "b");
}

/* A callback of the iteration, and what it defers: freed behind it, not under its feet.
 */
struct owner {
    struct deferred end;
    ev_timer timer;
    int value;
};

static unsigned n_freed;

static void free_owner(struct deferred *end)
{
    n_freed++;
    free(CONTAINER_OF(end, struct owner, end));
}

static void on_timer(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct owner *owner = CONTAINER_OF(timer, struct owner, timer);

    (void)ev;
    (void)events;
    loop_defer(loop, &owner->end);
    owner->value = 1; /* still ours */
    cr_expect_eq(n_freed, 0);
}

Test(loop, frees_after_the_callbacks_of_the_iteration)
{
    struct owner *owner = calloc(1, sizeof *owner);

    owner->end.run = free_owner;
    ev_timer_init(&owner->timer, on_timer, 0., 0.);
    ev_timer_start(loop->ev, &owner->timer);
    turn(loop, 2);
    cr_expect_eq(n_freed, 1);
}

static void stop_and_defer(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev;
    (void)timer;
    (void)events;
    loop_defer(loop, &a.deferred);
    loop_stop(loop);
}

Test(loop, runs_what_was_deferred_in_the_last_iteration)
{
    ev_timer timer;

    ev_timer_init(&timer, stop_and_defer, 0., 0.);
    ev_timer_start(loop->ev, &timer);
    loop_run(loop);
    cr_expect_str_eq(order, "a");
}

/* ---- its clock ----------------------------------------------------------------------
 */

static uint64_t monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t cpu_ns(void)
{
    struct timespec used;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

/* Uses a core for so long, whatever it takes to get one. */
static void burn(uint64_t ns)
{
    uint64_t end = cpu_ns() + ns;

    while (cpu_ns() < end)
        continue;
}

Test(loop, tells_the_time_of_the_iterations_start)
{
    uint64_t before = monotonic_ns();

    turn(loop, 1);
    cr_expect_geq(loop->now_ns, before);
    cr_expect_leq(loop->now_ns, monotonic_ns());
    cr_expect_eq(loop_now_ms(loop), loop->now_ns / 1000000u);
    before = loop->now_ns;
    burn(2000000);
    cr_expect_eq(loop->now_ns, before, "the same throughout the iteration");
    turn(loop, 1);
    cr_expect_geq(loop->now_ns, before + 2000000);
}

/* Runs the loop for one iteration with this callback, which stops it. */
static void run_once(void (*callback)(struct ev_loop *, ev_timer *, int), double after_s)
{
    ev_timer timer;

    ev_timer_init(&timer, callback, after_s, 0.);
    ev_timer_start(loop->ev, &timer);
    loop_run(loop);
    turn(loop, 1); /* an iteration is measured at its end */
}

static void burn_and_stop(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev;
    (void)timer;
    (void)events;
    burn(30 * 1000000u);
    loop_stop(loop);
}

static void wait_and_stop(struct ev_loop *ev, ev_timer *timer, int events)
{
    const struct timespec a_while = {.tv_nsec = 30 * 1000000};

    (void)ev;
    (void)timer;
    (void)events;
    nanosleep(&a_while, NULL);
    nanosleep(&a_while, NULL);
    loop_stop(loop);
}

static void burn_in_deferred(struct deferred *deferred)
{
    (void)deferred;
    burn(30 * 1000000u);
    loop_stop(loop);
}

static void defer_burning(struct ev_loop *ev, ev_timer *timer, int events)
{
    static struct deferred deferred = {.run = burn_in_deferred};

    (void)ev;
    (void)timer;
    (void)events;
    loop_defer(loop, &deferred);
}

Test(loop, measures_its_longest_iteration)
{
    run_once(stop_and_defer, 0.);
    cr_expect_lt(loop_longest_iteration_ms(loop), 20);
    run_once(burn_and_stop, 0.);
    cr_expect_geq(loop_longest_iteration_ms(loop), 29);
    cr_expect_lt(loop_longest_iteration_ms(loop), 60);
    run_once(stop_and_defer, 0.);
    cr_expect_geq(loop_longest_iteration_ms(loop), 29, "short ones do not hide it");
}

Test(loop, measures_what_of_it_was_work)
{
    run_once(wait_and_stop, 0.);
    cr_expect_geq(loop_longest_iteration_ms(loop), 59);
    cr_expect_lt(loop_longest_work_ms(loop), 20);
    run_once(burn_and_stop, 0.);
    cr_expect_geq(loop_longest_work_ms(loop), 29);
}

Test(loop, measures_what_was_deferred_too)
{
    run_once(defer_burning, 0.);
    cr_expect_geq(loop_longest_iteration_ms(loop), 29);
}

Test(loop, does_not_measure_its_sleep)
{
    run_once(stop_and_defer, 0.06);
    cr_expect_lt(loop_longest_iteration_ms(loop), 20);
}

/* Others on the same core take most of the time: that is not our iteration. */
Test(loop, does_not_measure_the_time_without_a_core)
{
    cpu_set_t one;
    pid_t rivals[4];

    if (access("/proc/thread-self/schedstat", R_OK) != 0)
        cr_skip_test("this kernel does not count the time without a core");
    CPU_ZERO(&one);
    CPU_SET(0, &one);
    cr_assert_eq(sched_setaffinity(0, sizeof one, &one), 0);
    for (unsigned i = 0; i < COUNT_OF(rivals); i++) {
        rivals[i] = fork();
        if (rivals[i] == 0)
            for (;;)
                continue;
    }
    run_once(burn_and_stop, 0.001);
    for (unsigned i = 0; i < COUNT_OF(rivals); i++)
        kill(rivals[i], SIGKILL);
    cr_expect_geq(loop_longest_iteration_ms(loop), 29);
    cr_expect_lt(loop_longest_iteration_ms(loop), 75, "%.1f ms",
                 loop_longest_iteration_ms(loop));
}

/* ---- the rest -----------------------------------------------------------------------
 */

static bool is_watched(int epoll, int fd)
{
    char path[64], line[256], wanted[32];
    bool found = false;
    FILE *file;

    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", epoll);
    file = fopen(path, "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        snprintf(wanted, sizeof wanted, "tfd: %8d ", fd);
        found = found || strncmp(line, wanted, strlen(wanted)) == 0;
    }
    if (file != NULL)
        fclose(file);
    return found;
}

static void on_io(struct ev_loop *ev, ev_io *io, int events)
{
    (void)ev;
    (void)io;
    (void)events;
}

Test(loop, forgets_a_descriptor_that_leaves_it)
{
    struct loop *other = loop_new(false);
    ev_io elsewhere, first, second;
    int fds[2], others[2];

    peers_unix(fds);
    peers_unix(others);
    ev_io_init(&elsewhere, on_io, others[0], EV_READ);
    ev_io_init(&first, on_io, fds[0], EV_READ);
    ev_io_init(&second, on_io, fds[1], EV_READ);
    ev_io_start(other->ev, &elsewhere);
    ev_io_start(loop->ev, &first);
    ev_io_start(loop->ev, &second);
    turn(loop, 1);
    turn(other, 1);
    ev_io_stop(loop->ev, &first);
    loop_forget_descriptor(loop, fds[0]);
    cr_assert_geq(loop->epoll, 0);
    cr_expect_not(is_watched(loop->epoll, fds[0]));
    cr_expect(is_watched(loop->epoll, fds[1]));

    ev_io_stop(loop->ev, &second);
    loop_forget_descriptor(loop, fds[1]);
    cr_expect_not(is_watched(loop->epoll, fds[1]));
    loop_forget_descriptor(loop, fds[1]); /* was not in it: nothing happens */
    ev_io_stop(other->ev, &elsewhere);
    loop_forget_descriptor(other, others[0]);
    cr_expect_neq(other->epoll, loop->epoll);
    cr_expect_not(is_watched(other->epoll, others[0]));
    for (unsigned i = 0; i < 2; i++) {
        close(fds[i]);
        close(others[i]);
    }
    loop_free(other);
}

/* ---- what is too long for one iteration ----------------------------------------------
 */

struct portion {
    struct deferred deferred;
    unsigned n_left;
    unsigned n_done;
};

static void do_portion(struct deferred *deferred)
{
    struct portion *portion = CONTAINER_OF(deferred, struct portion, deferred);

    portion->n_done++;
    if (--portion->n_left > 0)
        loop_continue(loop, deferred);
}

Test(loop, continues_once_an_iteration_and_does_not_sleep_before)
{
    struct portion first = {.deferred.run = do_portion, .n_left = 3};
    struct portion second = {.deferred.run = do_portion, .n_left = 2};

    loop_continue(loop, &first.deferred);
    loop_continue(loop, &second.deferred);
    loop_continue(loop, &first.deferred);
    cr_expect_eq(first.n_done, 0);
    for (unsigned i = 1; i <= 3; i++) {
        ev_run(loop->ev, EVRUN_ONCE); /* there is nothing else to wake it up */
        cr_expect_eq(first.n_done, i);
        cr_expect_eq(second.n_done, i < 2 ? i : 2);
    }
    cr_expect_not(ev_is_active(&loop->restless), "then it may sleep");
}

Test(loop, continues_nothing_that_was_discontinued)
{
    struct portion first = {.deferred.run = do_portion, .n_left = 3};
    struct portion second = {.deferred.run = do_portion, .n_left = 3};

    loop_continue(loop, &first.deferred);
    loop_continue(loop, &second.deferred);
    loop_discontinue(loop, &first.deferred);
    turn(loop, 1);
    cr_expect_eq(first.n_done, 0);
    cr_expect_eq(second.n_done, 1);
    loop_discontinue(loop, &second.deferred);
    loop_discontinue(loop, &second.deferred);
    cr_expect_not(ev_is_active(&loop->restless));
    turn(loop, 2);
    cr_expect_eq(second.n_done, 1);
}

static void work_ms(unsigned ms)
{
    struct timespec began, now;

    clock_gettime(CLOCK_MONOTONIC, &began);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - began.tv_sec) * 1000000000 + now.tv_nsec - began.tv_nsec <
           (int64_t)ms * 1000000);
}

Test(loop, gives_each_iteration_a_share_for_work)
{
    for (unsigned i = 0; i < 3; i++) {
        unsigned n = 0;

        while (n < 100 && loop_begin_work(loop)) {
            work_ms(2);
            loop_end_work(loop);
            n++;
        }
        cr_expect_leq(n, LOOP_WORK_MS / 2 + 1);
        cr_expect_geq(n, 1u);
        turn(loop, 1);
    }
}

Test(loop, is_not_freed_while_something_is_to_continue, .signal = SIGABRT)
{
    loop_continue(loop, &a.deferred);
    loop_free(loop);
}

static struct deadline waiting;

static void on_due(struct deadline *deadline)
{
    (void)deadline;
}

Test(loop, is_not_freed_while_somebody_waits, .signal = SIGABRT)
{
    cr_assert(deadline_arm(loop, &waiting, 1000, on_due));
    loop_free(loop);
}

Test(loop, is_not_freed_while_something_is_deferred, .signal = SIGABRT)
{
    loop_defer(loop, &a.deferred);
    loop_free(loop);
}

Test(loop, none_is_fine_to_free)
{
    loop_free(NULL);
}

static void make_and_free(void *unused)
{
    (void)unused;
    loop_free(loop_new(false));
}

Test(loop, survives_each_allocation_failure)
{
    cr_expect_eq(fault_each_allocation(make_and_free, NULL), 2);
}
