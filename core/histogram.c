#include "core/histogram.h"

#include "core/memory.h"

#define PARTS (1u << HISTOGRAM_PARTS_LOG2)

uint64_t histogram_begin_us(unsigned bucket)
{
    unsigned top = bucket >> HISTOGRAM_PARTS_LOG2;

    if (top == 0)
        return bucket;
    return (uint64_t)(PARTS + bucket % PARTS) << (top - 1);
}

void histogram_carry(struct histogram *histogram, unsigned bucket)
{
    if (histogram->high == NULL)
        histogram->high = memory_zeroed(HISTOGRAM_BUCKETS * sizeof *histogram->high);
    if (histogram->high == NULL)
        histogram->low[bucket] = UINT32_MAX;
    else
        histogram->high[bucket]++;
}

void histogram_clear(struct histogram *histogram)
{
    memory_free(histogram->high);
    *histogram = (struct histogram){0};
}

void histogram_add(struct histogram_sum *sum, const struct histogram *one)
{
    sum->sum_ns += one->sum_ns;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t n = one->low[i];

        if (one->high != NULL)
            n += (uint64_t)one->high[i] << 32;
        sum->buckets[i] += n;
        sum->n += n;
    }
}

void histogram_add_sum(struct histogram_sum *sum, const struct histogram_sum *one)
{
    sum->sum_ns += one->sum_ns;
    sum->n += one->n;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        sum->buckets[i] += one->buckets[i];
}

uint64_t histogram_quantile_us(const struct histogram_sum *sum, double part)
{
    uint64_t rank = (uint64_t)(part * (double)sum->n), n = 0;
    unsigned i = 0;

    if (sum->n == 0)
        return 0;
    if (rank >= sum->n)
        rank = sum->n - 1;
    while ((n += sum->buckets[i]) <= rank)
        i++;
    return (histogram_begin_us(i) + histogram_begin_us(i + 1)) / 2;
}

uint64_t histogram_below(const struct histogram_sum *sum, uint64_t us)
{
    unsigned end = histogram_bucket(us);
    uint64_t n = 0;

    for (unsigned i = 0; i < end; i++)
        n += sum->buckets[i];
    return n;
}
