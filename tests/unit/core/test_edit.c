#include "core/edit.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/fault.h"

static struct pond *pond;

static void make_pond(void)
{
    pond = pond_new();
}

static void free_pond(void)
{
    pond_free(pond); /* all buffers are there again */
}

TestSuite(edit, .init = make_pond, .fini = free_pond, .timeout = 10);

/* What the piece has become; gives the chain back. */
static void expect(struct edit *edit, size_t n, const char *text)
{
    size_t n_text = strlen(text), at = 0;

    cr_assert(edit_end(edit, n));
    cr_assert(edit->is_changed);
    cr_expect_eq(edit->n_out, n_text);
    for (const struct buffer *buffer = edit->first; buffer != NULL;
         buffer = buffer->next) {
        cr_assert_leq(at + buffer_unread(buffer), n_text);
        cr_expect_eq(
            memcmp(buffer->bytes + buffer->begin, text + at, buffer_unread(buffer)), 0);
        at += buffer_unread(buffer);
    }
    cr_expect_eq(at, n_text, "%zu of %s", at, text);
    edit_drop(edit);
    cr_expect_null(edit->first);
}

static struct edit edit_text(const char *text)
{
    return edit_begin(pond, (const uint8_t *)text);
}

Test(edit, without_a_change_nothing_is_copied)
{
    struct edit edit = edit_text("abcdef");

    cr_expect(edit_end(&edit, 6));
    cr_expect_not(edit.is_changed);
    cr_expect_null(edit.first);
    cr_expect_eq(pond_n_taken(pond), 0);
}

Test(edit, cuts_and_inserts)
{
    struct edit edit = edit_text("aaBBcd");

    edit_cut(&edit, 2, 4);
    edit_insert(&edit, 5, "x", 1);
    expect(&edit, 6, "aacxd");

    edit = edit_text("abc");
    edit_insert(&edit, 0, "1", 1);
    edit_insert(&edit, 0, "2", 1);
    edit_cut(&edit, 0, 1);
    edit_insert(&edit, 1, "3", 1);
    edit_insert(&edit, 3, "4", 1);
    expect(&edit, 3, "123bc4");
}

Test(edit, ends_where_it_is_told)
{
    struct edit edit = edit_text("abcdef");

    edit_insert(&edit, 1, "-", 1);
    expect(&edit, 3, "a-bc");
}

Test(edit, may_become_nothing)
{
    struct edit edit = edit_text("abc");

    edit_cut(&edit, 0, 3);
    expect(&edit, 3, "");
}

Test(edit, takes_as_many_buffers_as_it_needs)
{
    static char piece[BUFFER_BYTES + 1], inserted[2 * BUFFER_BYTES + 1],
        result[3 * BUFFER_BYTES + 1];
    struct edit edit = edit_text(piece);

    memset(piece, 'p', sizeof piece - 1);
    for (size_t i = 0; i < sizeof inserted - 1; i++)
        inserted[i] = (char)('a' + i % 23);
    memset(result, 'p', sizeof result - 1);
    memcpy(result + 100, inserted, sizeof inserted - 1);
    edit_insert(&edit, 100, inserted, sizeof inserted - 1);
    expect(&edit, sizeof piece - 1, result);
}

static void insert_much(void *arg)
{
    struct pond *own = pond_new();
    struct edit edit = edit_begin(own, (const uint8_t *)"abc");

    if (own == NULL)
        return;
    edit_insert(&edit, 1, arg, 2 * BUFFER_BYTES);
    if (edit_end(&edit, 3)) {
        cr_expect_eq(edit.n_out, 2 * BUFFER_BYTES + 3);
        edit_drop(&edit);
    } else {
        cr_expect(edit.has_failed);
        cr_expect_null(edit.first);
    }
    pond_free(own);
}

Test(edit, survives_any_allocation_that_fails)
{
    static char much[2 * BUFFER_BYTES];

    cr_expect_eq(fault_each_allocation(insert_much, much), 4);
}
