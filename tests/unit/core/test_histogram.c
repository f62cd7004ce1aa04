#include "core/histogram.h"

#include <criterion/criterion.h>

#include "core/memory.h"

TestSuite(histogram, .timeout = 30);

/* Of every duration, up to the longest. */
static void each_duration(void (*look)(uint64_t us))
{
    for (uint64_t us = 0; us < 5000; us++)
        look(us);
    for (unsigned bit = 12; bit < HISTOGRAM_RANGE_LOG2; bit++)
        for (uint64_t us = 1ull << bit; us < 2ull << bit; us += (1ull << bit) / 100) {
            look(us - 1);
            look(us);
        }
}

static void is_in_its_bucket(uint64_t us)
{
    unsigned bucket = histogram_bucket(us);

    cr_assert_lt(bucket, HISTOGRAM_BUCKETS);
    cr_assert_leq(histogram_begin_us(bucket), us);
    cr_assert_gt(histogram_begin_us(bucket + 1), us);
}

Test(histogram, every_duration_has_one_bucket)
{
    each_duration(is_in_its_bucket);
    cr_expect_eq(histogram_bucket(1ull << HISTOGRAM_RANGE_LOG2), HISTOGRAM_BUCKETS - 1);
    cr_expect_eq(histogram_bucket(UINT64_MAX), HISTOGRAM_BUCKETS - 1);
    cr_expect_eq(histogram_begin_us(HISTOGRAM_BUCKETS), 1ull << HISTOGRAM_RANGE_LOG2);
}

static void is_told_nearly(uint64_t us)
{
    struct histogram histogram = {0};
    struct histogram_sum sum = {0};
    double told;

    histogram_count(&histogram, us * 1000 + 999);
    histogram_add(&sum, &histogram);
    told = (double)histogram_quantile_us(&sum, 0.5);
    cr_assert_lt(told > (double)us ? told - (double)us : (double)us - told,
                 0.0625 * (double)us + 0.5, "%llu is told as %f", (unsigned long long)us,
                 told);
}

Test(histogram, the_middle_of_a_bucket_is_nearly_what_was_counted)
{
    each_duration(is_told_nearly);
}

Test(histogram, quantiles_are_those_of_all_that_was_counted)
{
    static struct histogram one, other;
    struct histogram_sum sum = {0}, all = {0};

    cr_expect_eq(histogram_quantile_us(&sum, 0.5), 0);
    for (unsigned i = 1; i <= 1000; i++)
        histogram_count(i % 2 ? &one : &other, i * 1000000ull); /* 1 to 1000 ms */
    histogram_add(&sum, &one);
    histogram_add(&sum, &other);
    histogram_add_sum(&all, &sum);
    cr_expect_eq(all.n, 1000);
    cr_expect_eq(all.sum_ns, 500500ull * 1000000);
    cr_expect_float_eq((double)histogram_quantile_us(&all, 0.), 1e3, 63);
    cr_expect_float_eq((double)histogram_quantile_us(&all, 0.5), 500e3, 500e3 * 0.063);
    cr_expect_float_eq((double)histogram_quantile_us(&all, 0.95), 950e3, 950e3 * 0.063);
    cr_expect_float_eq((double)histogram_quantile_us(&all, 0.99), 990e3, 990e3 * 0.063);
    cr_expect_float_eq((double)histogram_quantile_us(&all, 1.), 1000e3, 1000e3 * 0.063);
    cr_expect_eq(histogram_below(&all, 1), 0);
    cr_expect_eq(histogram_below(&all, 131072), 131);
    cr_expect_eq(histogram_below(&all, 1u << 20), 1000);
}

Test(histogram, a_count_goes_on_beyond_32_bits)
{
    struct histogram histogram = {0};
    struct histogram_sum sum = {0};

    histogram.low[3] = UINT32_MAX;
    memory_fail_at = 1; /* once there is no memory: nothing is lost but this one */
    histogram_count(&histogram, 3000);
    memory_fail_at = 0;
    cr_expect_eq(histogram.low[3], UINT32_MAX);
    histogram_count(&histogram, 3000);
    histogram_count(&histogram, 3000);
    histogram_add(&sum, &histogram);
    cr_expect_eq(sum.buckets[3], (1ull << 32) + 1);
    cr_expect_eq(sum.n, (1ull << 32) + 1);
    histogram_clear(&histogram);
    cr_expect_null(histogram.high);
    cr_expect_eq(histogram.low[3], 0);
}
