#include "health/etcd_stream.h"

#include <criterion/criterion.h>
#include <string.h>

#include "core/memory.h"

TestSuite(etcd_stream, .timeout = 30);

/* As a watch of etcd 3.4 begins and goes on; braces and quotes in strings. */
static const char watch[] =
    "{\"result\":{\"header\":{\"revision\":\"7\"},\"created\":true}}\n"
    "{\"result\":{\"events\":[{\"kv\":{\"key\":\"a}b{\\\"}\\\\\"}}]}}\n"
    "  {\"error\":{\"message\":\"\\\\\"}}{}\r\n";
static const char *const objects[] = {
    "{\"result\":{\"header\":{\"revision\":\"7\"},\"created\":true}}",
    "{\"result\":{\"events\":[{\"kv\":{\"key\":\"a}b{\\\"}\\\\\"}}]}}",
    "{\"error\":{\"message\":\"\\\\\"}}", "{}"};

static size_t expect_objects(struct etcd_stream *stream, size_t n_before)
{
    const char *object;
    size_t length;

    while ((object = etcd_stream_next(stream, &length)) != NULL) {
        cr_assert_lt(n_before, 4);
        cr_expect_eq(length, strlen(objects[n_before]));
        cr_expect_eq(memcmp(object, objects[n_before], length), 0, "%.*s", (int)length,
                     object);
        n_before++;
    }
    return n_before;
}

Test(etcd_stream, finds_objects_that_are_cut_at_any_two_places)
{
    size_t n = strlen(watch);

    for (size_t first = 0; first <= n; first++)
        for (size_t second = first; second <= n; second++) {
            struct etcd_stream stream = {0};
            size_t n_found = 0;

            cr_assert(etcd_stream_add(&stream, watch, first));
            n_found = expect_objects(&stream, n_found);
            cr_assert(etcd_stream_add(&stream, watch + first, second - first));
            n_found = expect_objects(&stream, n_found);
            cr_assert(etcd_stream_add(&stream, watch + second, n - second));
            cr_assert_eq(expect_objects(&stream, n_found), 4, "%zu %zu", first, second);
            cr_assert_not(stream.is_broken);
            etcd_stream_clear(&stream);
        }
}

Test(etcd_stream, hands_out_an_object_with_its_last_byte)
{
    struct etcd_stream stream = {0};
    size_t length, n_found = 0, end = strlen(objects[0]);

    for (size_t i = 0; i < end; i++) {
        cr_assert_null(etcd_stream_next(&stream, &length));
        cr_assert(etcd_stream_add(&stream, watch + i, 1));
    }
    cr_expect_eq(expect_objects(&stream, n_found), 1);
    etcd_stream_clear(&stream);
}

Test(etcd_stream, breaks_at_what_is_no_object)
{
    static const char *const wrong[] = {"[", "1", "\"", "}", "{} x", "HTTP", "\x01"};

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct etcd_stream stream = {0};
        size_t length;

        cr_assert(etcd_stream_add(&stream, wrong[i], strlen(wrong[i])));
        while (etcd_stream_next(&stream, &length) != NULL)
            ;
        cr_expect(stream.is_broken, "%s", wrong[i]);
        cr_expect_not(etcd_stream_add(&stream, "{}", 2));
        etcd_stream_clear(&stream);
    }
}

Test(etcd_stream, takes_one_object_up_to_its_bound)
{
    static char many[1 << 16];
    struct etcd_stream stream = {0};
    size_t n = 0;

    memset(many, 'x', sizeof many);
    cr_assert(etcd_stream_add(&stream, "{\"", 2));
    while (n < ETCD_STREAM_MAX_BYTES + sizeof many &&
           etcd_stream_add(&stream, many, sizeof many))
        n += sizeof many;
    cr_expect(stream.is_broken);
    cr_expect_eq(n, ETCD_STREAM_MAX_BYTES - sizeof many);
    etcd_stream_clear(&stream);
}

Test(etcd_stream, keeps_no_more_than_the_object_under_way)
{
    struct etcd_stream stream = {0};
    size_t n_found = 0, length;

    for (unsigned i = 0; i < 100000; i++) {
        cr_assert(etcd_stream_add(&stream, "{\"a\":1}\n{\"b\"", 12));
        while (etcd_stream_next(&stream, &length) != NULL)
            n_found++;
        cr_assert(etcd_stream_add(&stream, ":2}", 3));
        while (etcd_stream_next(&stream, &length) != NULL)
            n_found++;
    }
    cr_expect_eq(n_found, 200000);
    cr_expect_leq(stream.room, 4096);
    etcd_stream_clear(&stream);
}

Test(etcd_stream, survives_each_allocation_failure)
{
    static char many[10000];

    memset(many, ' ', sizeof many);
    for (unsigned nth = 1; memory_fail_at == 0; nth++) {
        struct etcd_stream stream = {0};

        memory_fail_at = nth;
        if (etcd_stream_add(&stream, "{}", 2) && etcd_stream_add(&stream, many, 10000))
            cr_expect_eq(stream.n, 10002);
        etcd_stream_clear(&stream);
    }
    memory_fail_at = 0;
}
