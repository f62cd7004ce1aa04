#include "core/text.h"

#include <criterion/criterion.h>
#include <string.h>

#include "tests/lib/fault.h"

TestSuite(text, .timeout = 10);

Test(text, is_empty_at_first_and_when_zeroed)
{
    struct text text, zeroed = {0};

    text_init(&text, 100);
    cr_expect_str_eq(text_get(&text), "");
    cr_expect_str_eq(text_get(&zeroed), "");
    text_clear(&zeroed);
    text_clear(&text);
}

Test(text, joins_what_is_added)
{
    struct text text;

    text_init(&text, 100);
    text_add(&text, "one");
    text_add_n(&text, ", two and more", 5);
    text_addf(&text, ", %d %s", 3, "three");
    cr_expect_str_eq(text_get(&text), "one, two, 3 three");
    cr_expect_eq(text.length, strlen("one, two, 3 three"));
    cr_expect_not(text.overflowed);
    text_clear(&text);
}

Test(text, grows_over_many_sizes)
{
    struct text text;

    text_init(&text, 1 << 20);
    for (unsigned i = 0; i < 100000; i++)
        text_addf(&text, "%u", i % 10);
    cr_expect_eq(text.length, 100000);
    cr_expect_eq(strlen(text_get(&text)), 100000);
    for (size_t i = 0; i < 100000; i++)
        cr_assert_eq(text_get(&text)[i], (char)('0' + i % 10));
    text_clear(&text);
}

Test(text, ends_with_a_zero_byte_at_every_length)
{
    for (size_t length = 0; length < 300; length++) {
        char filler[300];
        struct text text;

        memset(filler, 'x', sizeof filler);
        text_init(&text, 1000);
        text_add_n(&text, filler, length);
        text_addf(&text, "%.*s", (int)length, filler);
        cr_assert_eq(strlen(text_get(&text)), 2 * length);
        text_clear(&text);
    }
}

Test(text, takes_exactly_its_maximum_and_not_one_byte_more)
{
    struct text text;

    text_init(&text, 5);
    text_add(&text, "123");
    text_addf(&text, "%d", 45);
    cr_expect_not(text.overflowed);
    cr_expect_str_eq(text_get(&text), "12345");
    text_add(&text, "");
    cr_expect_not(text.overflowed);

    text_add(&text, "6");
    cr_expect(text.overflowed);
    cr_expect_str_eq(text_get(&text), "12345");
    text_clear(&text);
}

Test(text, adds_nothing_of_what_does_not_fit_nor_anything_behind_it)
{
    struct text text;

    text_init(&text, 5);
    text_add(&text, "1");
    text_addf(&text, "%s", "23456");
    cr_expect(text.overflowed);
    text_add(&text, "2");
    cr_expect_str_eq(text_get(&text), "1", "a gap would go unnoticed");
    text_clear(&text);
}

Test(text, is_as_new_after_clear)
{
    struct text text;

    text_init(&text, 5);
    text_add(&text, "123456");
    cr_expect(text.overflowed);
    text_clear(&text);
    cr_expect_not(text.overflowed);
    cr_expect_str_eq(text_get(&text), "");
    text_add(&text, "12345");
    cr_expect_str_eq(text_get(&text), "12345", "the maximum is kept");
    text_clear(&text);
}

static void add_much(void *unused)
{
    struct text text;

    (void)unused;
    text_init(&text, 1000);
    for (unsigned i = 0; i < 500; i++) {
        text_add(&text, "x");
        text_addf(&text, "%s", "y");
    }
    cr_expect_eq(text.overflowed, text.length < 1000);
    cr_expect_eq(strlen(text_get(&text)), text.length);
    text_clear(&text);
}

Test(text, keeps_what_it_has_when_memory_is_out)
{
    cr_expect_gt(fault_each_allocation(add_much, NULL), 1);
}
