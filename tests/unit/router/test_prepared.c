#include "router/console/prepared.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "core/memory.h"

static struct list list;

static void open_list(void)
{
    list_init(&list);
}

static void close_list(void)
{
    prepared_clear(&list);
}

TestSuite(prepared, .init = open_list, .fini = close_list, .timeout = 10);

Test(prepared, is_found_by_its_kind_and_name)
{
    cr_assert_eq(prepared_keep(&list, 'S', "", "show pools", 0), PREPARED_KEPT);
    cr_assert_eq(prepared_keep(&list, 'P', "", "show stats", 5), PREPARED_KEPT);
    cr_expect_str_eq(prepared_find(&list, 'S', "")->text, "show pools");
    cr_expect_eq(prepared_find(&list, 'P', "")->binary, 5);
    cr_expect_null(prepared_find(&list, 'S', "x"));

    cr_assert_eq(prepared_keep(&list, 'S', "", "show lists", 0), PREPARED_KEPT);
    cr_expect_str_eq(prepared_find(&list, 'S', "")->text, "show lists");
    cr_expect_eq(list.n, 2, "another of the same name replaces it");
    prepared_forget(&list, prepared_find(&list, 'S', ""));
    prepared_forget(&list, NULL);
    cr_expect_null(prepared_find(&list, 'S', ""));
}

Test(prepared, there_is_an_end_to_their_number)
{
    char name[16];

    for (unsigned i = 0; i < PREPARED_MAX; i++) {
        snprintf(name, sizeof name, "%u", i);
        cr_assert_eq(prepared_keep(&list, 'S', name, "show pools", 0), PREPARED_KEPT);
    }
    cr_expect_eq(prepared_keep(&list, 'S', "more", "", 0), PREPARED_TOO_MANY);
    cr_expect_eq(prepared_keep(&list, 'S', "7", "", 0), PREPARED_KEPT, "in place of one");
}

Test(prepared, without_memory_none_is_kept)
{
    for (unsigned nth = 1; nth <= 3; nth++) {
        memory_fail_at = nth;
        cr_expect_eq(prepared_keep(&list, 'S', "n", "t", 0), PREPARED_NO_MEMORY);
        memory_fail_at = 0;
        cr_expect_eq(list.n, 0);
    }
}
