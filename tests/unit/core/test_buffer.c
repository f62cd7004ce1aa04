#include "core/buffer.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "tests/lib/fault.h"

static struct pond *pond;

static void make_pond(void)
{
    pond = pond_new();
}

static void free_pond(void)
{
    pond_free(pond);
}

TestSuite(buffer, .init = make_pond, .fini = free_pond, .timeout = 10);

static unsigned n_descriptors(void)
{
    DIR *open_files = opendir("/proc/self/fd");
    unsigned n = 0;

    while (readdir(open_files) != NULL)
        n++;
    closedir(open_files);
    return n;
}

Test(buffer, is_empty_when_taken)
{
    struct buffer *buffer = buffer_take(pond);

    cr_expect_eq(buffer_unread(buffer), 0);
    cr_expect_eq(buffer_room(buffer), BUFFER_BYTES);
    cr_expect_null(buffer->next);
    cr_expect_eq(pond_n_taken(pond), 1);
    buffer_give(buffer);
    cr_expect_eq(pond_n_taken(pond), 0);
}

Test(buffer, keeps_what_is_added_until_it_is_skipped)
{
    struct buffer *buffer = buffer_take(pond);

    cr_assert(buffer_add(buffer, "hello ", 6));
    cr_assert(buffer_add(buffer, "world", 5));
    cr_expect_eq(buffer_unread(buffer), 11);
    buffer_skip(buffer, 4);
    cr_expect_eq(buffer_unread(buffer), 7);
    cr_expect_eq(memcmp(buffer->bytes + buffer->begin, "o world", 7), 0);
    buffer_skip(buffer, 7);
    cr_expect_eq(buffer_unread(buffer), 0);
    buffer_give(buffer);
}

Test(buffer, takes_all_or_nothing)
{
    static uint8_t filler[BUFFER_BYTES];
    struct buffer *buffer = buffer_take(pond);

    cr_expect(buffer_add(buffer, filler, BUFFER_BYTES - 1));
    cr_expect_not(buffer_add(buffer, "ab", 2));
    cr_expect_eq(buffer_unread(buffer), BUFFER_BYTES - 1);
    cr_expect(buffer_add(buffer, "a", 1));
    cr_expect_eq(buffer_room(buffer), 0);
    cr_expect_not(buffer_add(buffer, "b", 1));
    buffer_give(buffer);
}

Test(buffer, holds_the_largest_startup_packet)
{
    cr_expect_geq(BUFFER_BYTES, 10000);
}

Test(buffer, cannot_be_read_beyond_its_end, .signal = SIGABRT)
{
    struct buffer *buffer = buffer_take(pond);

    cr_assert(buffer_add(buffer, "hello", 5));
    buffer_skip(buffer, 6);
}

Test(buffer, comes_back_empty_and_alone)
{
    struct buffer *first = buffer_take(pond), *second = buffer_take(pond);

    cr_assert(buffer_add(first, "x", 1));
    first->next = second;
    buffer_give(first);
    first = buffer_take(pond);
    cr_expect_eq(buffer_unread(first), 0);
    cr_expect_null(first->next);
    cr_expect_neq(first, second);
    buffer_give(first);
    buffer_give(second);
    buffer_give(NULL);
    cr_expect_eq(pond_n_taken(pond), 0);
}

Test(buffer, pond_lends_any_number)
{
    static struct buffer *buffers[2000];

    for (unsigned round = 0; round < 3; round++) {
        for (size_t i = 0; i < COUNT_OF(buffers); i++) {
            buffers[i] = buffer_take(pond);
            cr_assert(buffer_add(buffers[i], &i, sizeof i));
        }
        cr_expect_eq(pond_n_taken(pond), COUNT_OF(buffers));
        for (size_t i = 0; i < COUNT_OF(buffers); i++) {
            cr_assert_eq(memcmp(buffers[i]->bytes, &i, sizeof i), 0);
            buffer_give(buffers[i]);
        }
    }
    cr_expect_eq(pond_n_taken(pond), 0);
}

Test(buffer, pond_is_not_freed_while_one_is_out, .signal = SIGABRT)
{
    cr_assert_not_null(buffer_take(pond));
    pond_free(pond);
}

Test(buffer, none_is_a_pond_that_can_be_freed)
{
    pond_free(NULL);
}

/* ---- in pipes -----------------------------------------------------------------------
 */

Test(buffer, in_a_pipe_holds_at_least_what_one_in_memory_does)
{
    struct buffer *buffer = buffer_take_pipe(pond);

    cr_expect_null(buffer->bytes);
    cr_expect_geq(buffer->size, BUFFER_BYTES);
    cr_expect_eq(fcntl(buffer->pipe[1], F_GETPIPE_SZ), (int)buffer->size);
    cr_expect(fcntl(buffer->pipe[0], F_GETFL) & O_NONBLOCK);
    cr_expect(fcntl(buffer->pipe[1], F_GETFD) & FD_CLOEXEC);
    buffer_give(buffer);
}

Test(buffer, pipes_are_bounded_and_used_again)
{
    struct buffer *pipes[100];
    unsigned n = 0, n_open = n_descriptors();

    while (n < COUNT_OF(pipes) && (pipes[n] = buffer_take_pipe(pond)) != NULL)
        n++;
    cr_expect(n >= 4 && n < COUNT_OF(pipes), "%u pipes", n);
    cr_expect_eq(n_descriptors(), n_open + 2 * n);
    cr_expect_eq(pond_n_taken(pond), n);

    buffer_give(pipes[0]);
    cr_expect_eq(n_descriptors(), n_open + 2 * n, "kept for the next use");
    pipes[0] = buffer_take_pipe(pond);
    cr_expect_not_null(pipes[0]);
    cr_expect_null(buffer_take_pipe(pond));
    while (n > 0)
        buffer_give(pipes[--n]);
    pond_free(pond);
    cr_expect_eq(n_descriptors(), n_open);
    pond = NULL;
}

Test(buffer, a_pipe_with_bytes_in_it_is_not_lent_again)
{
    unsigned n_open = n_descriptors();
    struct buffer *buffer = buffer_take_pipe(pond);
    char byte;

    cr_assert_eq(write(buffer->pipe[1], "secret", 6), 6);
    buffer->end = 6;
    buffer_skip(buffer, 2);
    buffer_give(buffer);
    cr_expect_eq(n_descriptors(), n_open);
    cr_expect_eq(pond_n_taken(pond), 0);

    for (unsigned i = 0; i < 100; i++) { /* nor does it count any more */
        buffer = buffer_take_pipe(pond);
        cr_assert_not_null(buffer, "after %u", i);
        cr_assert_eq(read(buffer->pipe[0], &byte, 1), -1);
        cr_assert_eq(write(buffer->pipe[1], "x", 1), 1);
        buffer->end = 1;
        buffer_give(buffer);
    }
}

static void take_each(void *unused)
{
    struct pond *one = pond_new();

    (void)unused;
    if (one == NULL)
        return;
    buffer_give(buffer_take(one));
    buffer_give(buffer_take_pipe(one));
    cr_expect_eq(pond_n_taken(one), 0);
    pond_free(one);
}

Test(buffer, survives_each_allocation_failure)
{
    unsigned n_open = n_descriptors();

    cr_expect_eq(fault_each_allocation(take_each, NULL), 3);
    cr_expect_eq(n_descriptors(), n_open);
}

/* ---- keeping ------------------------------------------------------------------------
 */

static struct buffer *taken_with(const char *text)
{
    struct buffer *buffer = buffer_take(pond);

    cr_assert_not_null(buffer);
    cr_assert(buffer_add(buffer, text, (uint32_t)strlen(text)));
    return buffer;
}

Test(buffer, what_is_kept_outlives_its_use)
{
    struct buffer_keep keep = {0};
    struct buffer *first = taken_with("hello "), *last = taken_with("world!"), *chain;

    buffer_keep_add(&keep, first, 0, 6);
    buffer_keep_add(&keep, last, 0, 5);
    cr_expect_eq(keep.n, 11);
    buffer_skip(first, 6);
    buffer_skip(last, 6);
    buffer_give(first);
    buffer_give(last);
    cr_expect_eq(pond_n_taken(pond), 2);
    chain = buffer_keep_take(&keep);
    cr_expect_eq(chain, first);
    cr_expect_eq(first->next, last);
    cr_expect_null(last->next);
    cr_expect_eq(memcmp(first->bytes + first->begin, "hello ", 6), 0);
    cr_expect_eq(buffer_unread(last), 5);
    cr_expect_null(keep.first);
    buffer_give(first);
    buffer_give(last);
    cr_expect_eq(pond_n_taken(pond), 0);
}

/* Whoever lets go of it last gives it back. */
Test(buffer, what_is_kept_goes_to_its_pond_once)
{
    struct buffer_keep keep = {0};
    struct buffer *given = taken_with("a"), *in_use = taken_with("b");

    buffer_keep_add(&keep, given, 0, 1);
    buffer_keep_add(&keep, in_use, 0, 1);
    buffer_give(given);
    buffer_keep_drop(&keep);
    cr_expect_eq(pond_n_taken(pond), 1);
    buffer_give(in_use);
    cr_expect_eq(pond_n_taken(pond), 0);
    buffer_keep_drop(&keep);
}
