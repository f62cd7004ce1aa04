#include "pool/guests.h"

#include <criterion/criterion.h>

#include "tests/lib/fault.h"

static struct list guests;

static void make_list(void)
{
    list_init(&guests);
}

TestSuite(guests, .init = make_list, .timeout = 10);

Test(guests, a_name_is_kept_once_for_all_its_clients)
{
    struct guest *a = guests_enter(&guests, "app"), *b = guests_enter(&guests, "odoo");

    cr_assert(a != NULL && b != NULL && a != b);
    cr_expect_eq(guests_enter(&guests, "app"), a);
    cr_expect_str_eq(a->name, "app");
    cr_expect_eq(a->n_clients, 2);
    cr_expect_eq(guests.n, 2);

    guests_leave(&guests, a);
    cr_expect_eq(a->n_clients, 1);
    guests_leave(&guests, a);
    cr_expect_eq(guests.n, 1, "the name goes with the last");
    guests_leave(&guests, b);
    cr_expect_eq(guests.n, 0);
}

Test(guests, without_memory_there_is_nobody)
{
    memory_fail_at = 1;
    cr_expect_null(guests_enter(&guests, "app"));
    memory_fail_at = 0;
    cr_expect_eq(guests.n, 0);
}
