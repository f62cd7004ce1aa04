#include "router/console/averages.h"

#include <criterion/criterion.h>

#include "core/memory.h"

#define S UINT64_C(1000000000)

static struct averages averages;
static struct sums sums;
static struct pool_sum pool, other;

static void open_averages(void)
{
    averages_init(&averages, 10 * S);
    list_init(&sums.pools);
    list_init(&sums.users);
    pool = (struct pool_sum){.database = "app"};
    other = (struct pool_sum){.database = "app", .user = "other"};
    list_append(&sums.pools, &pool.in_list);
    list_append(&sums.pools, &other.in_list);
}

static void close_averages(void)
{
    averages_clear(&averages);
}

TestSuite(averages, .init = open_averages, .fini = close_averages, .timeout = 10);

static struct pool_counts average_at(uint64_t now_ns, const struct pool_counts *counts)
{
    struct pool_counts average;

    averages_of(&averages, "app", counts, now_ns, &average);
    return average;
}

Test(averages, before_the_first_period_are_since_the_start)
{
    const struct pool_counts counts = {
        .queries = 60, .query_time = 600, .bytes_sent = 90};
    struct pool_counts average = average_at(13 * S, &counts);

    cr_expect_eq(average.queries, 20);
    cr_expect_eq(average.bytes_sent, 30);
    cr_expect_eq(average.query_time, 10);
    cr_expect_eq(average_at(10 * S, &counts).queries, 0, "no time has passed");
}

Test(averages, are_over_what_was_noted_last_but_one)
{
    const struct pool_counts now = {
        .queries = 200, .transactions = 20, .transaction_time = 4000};

    pool.counts.queries = 60;
    other.counts.queries = 20;
    averages_note(&averages, &sums, 20 * S);
    cr_expect_eq(average_at(30 * S, &now).queries, 10, "200 in 20 s since the start");
    pool.counts.queries = 100;
    averages_note(&averages, &sums, 30 * S);
    cr_expect_eq(average_at(40 * S, &now).queries, 6, "200 - 80 in 20 s");
    cr_expect_eq(average_at(40 * S, &now).transaction_time, 200);
}

Test(averages, of_counts_that_have_shrunk_are_none)
{
    const struct pool_counts few = {.queries = 5};

    pool.counts.queries = 50;
    averages_note(&averages, &sums, 20 * S);
    averages_note(&averages, &sums, 30 * S);
    cr_expect_eq(average_at(40 * S, &few).queries, 0);
}

Test(averages, a_mean_of_nothing_is_nothing)
{
    const struct pool_counts counts = {.query_time = 7, .wait_time = 7};
    struct pool_counts average = average_at(20 * S, &counts);

    cr_expect_eq(average.query_time, 0);
    cr_expect_eq(average.wait_time, 0);
}

Test(averages, of_all_are_those_of_the_sum)
{
    const struct pool_counts counts = {.queries = 400};
    struct pool_counts average;

    pool.counts.queries = 100;
    other.database = "two";
    other.counts.queries = 100;
    averages_note(&averages, &sums, 20 * S);
    averages_note(&averages, &sums, 30 * S);
    averages_of_all(&averages, &counts, 40 * S, &average);
    cr_expect_eq(average.queries, 10);
}

Test(averages, what_memory_was_out_for_is_since_ever)
{
    const struct pool_counts counts = {.queries = 40};

    pool.counts.queries = 20;
    memory_fail_at = 1;
    averages_note(&averages, &sums, 20 * S);
    memory_fail_at = 0;
    averages_note(&averages, &sums, 30 * S);
    cr_expect_eq(average_at(40 * S, &counts).queries, 2);
}
