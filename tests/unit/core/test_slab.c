#include "core/slab.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

#include "tests/lib/fault.h"

#define N 5000

TestSuite(slab, .timeout = 30);

Test(slab, gives_zeroed_objects_that_do_not_overlap)
{
    static const size_t sizes[] = {1, 8, 24, 100, 5000, 40000};
    static unsigned char *objects[N];

    for (size_t s = 0; s < COUNT_OF(sizes); s++) {
        struct slab *slab = slab_new(sizes[s]);
        size_t n = sizes[s] > 1000 ? 20 : N;

        for (size_t i = 0; i < n; i++) {
            objects[i] = slab_take(slab);
            for (size_t k = 0; k < sizes[s]; k++)
                cr_assert_eq(objects[i][k], 0);
            memset(objects[i], (int)(i % 251 + 1), sizes[s]);
            cr_assert_eq((uintptr_t)objects[i] % _Alignof(max_align_t), 0);
        }
        cr_expect_eq(slab_n_taken(slab), n);
        for (size_t i = 0; i < n; i++) {
            for (size_t k = 0; k < sizes[s]; k++)
                cr_assert_eq(objects[i][k], i % 251 + 1, "%zu has changed", i);
            slab_give(slab, objects[i]);
        }
        cr_expect_eq(slab_n_taken(slab), 0);
        slab_free(slab);
    }
}

Test(slab, uses_what_was_given_back_before_it_grows)
{
    struct slab *slab = slab_new(64);
    void *first = slab_take(slab), *second;

    memset(first, 0xff, 64);
    slab_give(slab, first);
    second = slab_take(slab);
    cr_expect_eq(first, second);
    for (size_t k = 0; k < 64; k++)
        cr_expect_eq(((unsigned char *)second)[k], 0);
    slab_give(slab, second);
    slab_free(slab);
}

Test(slab, none_is_fine_to_free)
{
    slab_free(NULL);
}

Test(slab, is_not_freed_while_an_object_is_out, .signal = SIGABRT)
{
    struct slab *slab = slab_new(64);

    cr_assert_not_null(slab_take(slab));
    slab_free(slab);
}

Test(slab, takes_back_no_more_than_it_gave, .signal = SIGABRT)
{
    struct slab *slab = slab_new(64);
    void *object = slab_take(slab);

    slab_give(slab, object);
    slab_give(slab, object);
}

static void take_some(void *unused)
{
    struct slab *slab = slab_new(4096);
    void *objects[20];
    size_t n = 0;

    (void)unused;
    if (slab == NULL)
        return;
    while (n < COUNT_OF(objects) && (objects[n] = slab_take(slab)) != NULL)
        n++;
    cr_expect_eq(slab_n_taken(slab), n);
    while (n > 0) {
        size_t n_idle = slab_n_idle(slab);

        slab_give(slab, objects[--n]);
        cr_expect_eq(slab_n_idle(slab), n_idle + 1);
    }
    slab_free(slab);
}

Test(slab, survives_each_allocation_failure)
{
    cr_expect_gt(fault_each_allocation(take_some, NULL), 2);
}
