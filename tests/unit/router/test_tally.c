#include "router/tally.h"

#include <criterion/criterion.h>
#include <string.h>

#include "tests/lib/fault.h"

static struct list tallies;

static void make_list(void)
{
    list_init(&tallies);
}

static void clear_list(void)
{
    tally_clear(&tallies);
}

TestSuite(tally, .init = make_list, .fini = clear_list, .timeout = 10);

Test(tally, is_made_at_first_use_and_found_again)
{
    struct tally *rw = tally_get(&tallies, "rw", 0), *node = tally_get(&tallies, "rw", 7);
    struct tally *ro = tally_get(&tallies, "ro", 7);

    cr_expect_neq(rw, node);
    cr_expect_neq(node, ro);
    cr_expect_eq(tally_get(&tallies, "rw", 0), rw);
    cr_expect_eq(tally_get(&tallies, "ro", 7), ro);
    cr_expect_eq(tally_find(&tallies, "rw", 7), node);
    cr_expect_null(tally_find(&tallies, "r", 7));
    cr_expect_null(tally_find(&tallies, "ro", 0));
    cr_expect_eq(tallies.n, 3);
    cr_expect_eq(rw->bytes_in, 0);
}

/* Every count of the table set to its own value times `factor`. */
static void fill(struct tally *tally, uint64_t factor)
{
    uint64_t value = 0;

#define TALLY(name, how, text) tally->name = ++value * factor;
#include "router/tally.def"
}

static uint64_t merged_SUM(uint64_t a, uint64_t b)
{
    return a + b;
}

static uint64_t merged_MAX(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

Test(tally, adds_each_count_in_its_way)
{
    struct tally a = {0}, b = {0}, sum;

    for (uint64_t factor = 1; factor < 20; factor += 18) {
        fill(&a, 10);
        fill(&b, factor);
        sum = a;
        tally_add(&sum, &b);
#define TALLY(name, how, text) \
    cr_expect_eq(sum.name, merged_##how(a.name, b.name), #name ": %llu", \
                 (unsigned long long)sum.name);
#include "router/tally.def"
    }
}

Test(tally, counts_that_are_the_same_moments_are_not_added)
{
    struct tally a = {.sessions_max = 5, .connect_us_max = 7, .last_session_s = 9};
    struct tally b = {.sessions_max = 4, .connect_us_max = 8, .last_session_s = 1};

    tally_add(&a, &b);
    cr_expect_eq(a.sessions_max, 5);
    cr_expect_eq(a.connect_us_max, 8);
    cr_expect_eq(a.last_session_s, 9);
}

Test(tally, merges_lists_by_listener_and_node)
{
    struct list sums;

    list_init(&sums);
    tally_get(&tallies, "rw", 1)->bytes_in = 10;
    tally_get(&tallies, "rw", 2)->bytes_in = 20;
    cr_assert(tally_merge(&sums, &tallies));
    tally_get(&tallies, "ro", 1)->bytes_in = 30;
    cr_assert(tally_merge(&sums, &tallies));
    cr_expect_eq(sums.n, 3);
    cr_expect_eq(tally_find(&sums, "rw", 1)->bytes_in, 20);
    cr_expect_eq(tally_find(&sums, "rw", 2)->bytes_in, 40);
    cr_expect_eq(tally_find(&sums, "ro", 1)->bytes_in, 30);
    tally_clear(&sums);
    cr_expect_eq(sums.n, 0);
    cr_expect_eq(tallies.n, 3);
}

Test(tally, bears_the_longest_name)
{
    char name[LISTENER_NAME_MAX];

    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    cr_expect_eq(tally_get(&tallies, name, 1), tally_get(&tallies, name, 1));
    cr_expect_eq(tallies.n, 1);
}

static void merge(void *unused)
{
    struct list from, to;
    struct tally *a, *b;

    (void)unused;
    list_init(&from);
    list_init(&to);
    a = tally_get(&from, "rw", 1);
    b = tally_get(&from, "rw", 2);
    if (a != NULL && b != NULL)
        cr_expect_eq(tally_merge(&to, &from), to.n == 2);
    tally_clear(&from);
    tally_clear(&to);
}

Test(tally, survives_each_allocation_failure)
{
    cr_expect_eq(fault_each_allocation(merge, NULL), 4);
}
