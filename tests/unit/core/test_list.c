#include "core/list.h"

#include <criterion/criterion.h>
#include <signal.h>

struct item {
    int number;
    struct link in_list;
};

static struct list list;
static struct item items[5];

static void fill(void)
{
    list_init(&list);
    for (int i = 0; i < 5; i++) {
        items[i] = (struct item){.number = i};
        list_append(&list, &items[i].in_list);
    }
}

TestSuite(list, .init = fill, .timeout = 10);

/* The numbers in the list, as the digits of one. */
static int digits(void)
{
    int number = 0;

    LIST_EACH(item, &list)
    {
        number = number * 10 + CONTAINER_OF(item, struct item, in_list)->number + 1;
    }
    return number;
}

Test(list, keeps_the_order_of_appending)
{
    cr_expect_eq(digits(), 12345);
    cr_expect_eq(list.n, 5);
    cr_expect_eq(list_first(&list), &items[0].in_list);
}

Test(list, removes_first_middle_and_last)
{
    list_remove(&list, &items[2].in_list);
    cr_expect_eq(digits(), 1245);
    list_remove(&list, &items[0].in_list);
    cr_expect_eq(digits(), 245);
    list_remove(&list, &items[4].in_list);
    cr_expect_eq(digits(), 24);
    cr_expect_eq(list.n, 2);
    list_append(&list, &items[0].in_list);
    cr_expect_eq(digits(), 241);
}

Test(list, is_empty_when_all_are_gone)
{
    for (unsigned i = 0; i < 5; i++) {
        cr_expect(link_is_in_list(&items[i].in_list));
        list_remove(&list, &items[i].in_list);
        cr_expect_not(link_is_in_list(&items[i].in_list));
    }
    cr_expect_null(list_first(&list));
    cr_expect_eq(list.n, 0);
    cr_expect_eq(digits(), 0);
}

Test(list, can_be_emptied_while_it_is_walked)
{
    unsigned n = 0;

    LIST_EACH_SAFE(item, &list)
    {
        list_remove(&list, item);
        n++;
    }
    cr_expect_eq(n, 5);
    cr_expect_null(list_first(&list));
}

Test(list, refuses_a_link_that_is_in_one_already, .signal = SIGABRT)
{
    struct list other;

    list_init(&other);
    list_append(&other, &items[0].in_list);
}

Test(list, refuses_to_remove_what_is_in_none, .signal = SIGABRT)
{
    struct item stranger = {0};

    list_remove(&list, &stranger.in_list);
}
