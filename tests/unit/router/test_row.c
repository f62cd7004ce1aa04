#include "router/console/row.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>

#include "core/memory.h"
#include "wire/message.h"

static struct text out;
static struct row row;

static void open_text(void)
{
    text_init(&out, 1000);
}

static void close_text(void)
{
    text_clear(&out);
}

TestSuite(row, .init = open_text, .fini = close_text, .timeout = 10);

static void expect_bytes(const char *bytes, size_t n)
{
    cr_assert_eq(out.length, n);
    cr_expect_arr_eq(out.bytes, bytes, n);
}
#define EXPECT_BYTES(bytes) expect_bytes(bytes, sizeof(bytes) - 1)

Test(row, has_a_cell_for_each_column)
{
    row_begin(&row, VIEW_PEERS, 0, &out);
    row_number(&row, 7);
    row_text(&row, "h");
    row_number(&row, -1);
    row_number(&row, 6432);
    cr_assert(row_end(&row));
    EXPECT_BYTES("D\0\0\0\x1e\0\4"
                 "\0\0\0\1"
                 "7"
                 "\0\0\0\1h"
                 "\0\0\0\2-1"
                 "\0\0\0\4"
                 "6432");
}

Test(row, a_text_may_be_null_or_empty)
{
    row_begin(&row, VIEW_CONFIG, 0, &out);
    row_text(&row, "k");
    row_text(&row, "");
    row_text(&row, NULL);
    row_text(&row, "yes");
    cr_assert(row_end(&row));
    EXPECT_BYTES("D\0\0\0\x1a\0\4\0\0\0\1k\0\0\0\0\xff\xff\xff\xff\0\0\0\3yes");
}

Test(row, numbers_are_binary_where_that_is_wanted)
{
    row_begin(&row, VIEW_PEERS, 1u << 0 | 1u << 2, &out);
    row_number(&row, -2);
    row_text(&row, "h");
    row_number(&row, 0x01020304);
    row_number(&row, 5);
    cr_assert(row_end(&row));
    EXPECT_BYTES("D\0\0\0\x20\0\4"
                 "\0\0\0\4\xff\xff\xff\xfe"
                 "\0\0\0\1h"
                 "\0\0\0\4\1\2\3\4"
                 "\0\0\0\1"
                 "5");
}

/* The binary form of a numeric: ndigits, weight, sign, scale, digits to the base 10000.
 */
static void expect_numeric(int64_t value, const char *bytes, size_t n)
{
    out.length = 0;
    row_begin(&row, VIEW_TOTALS, UINT64_MAX, &out);
    row_text(&row, "");
    row_number(&row, value);
    cr_assert(row_end(&row));
    cr_assert_eq(out.length, 15 + n);
    cr_expect_arr_eq(out.bytes + 15, bytes, n, "%lld", (long long)value);
}
#define EXPECT_NUMERIC(value, bytes) expect_numeric(value, bytes, sizeof(bytes) - 1)

Test(row, numerics_are_digits_to_the_base_of_10000)
{
    EXPECT_NUMERIC(0, "\0\0\0\0\0\0\0\0");
    EXPECT_NUMERIC(9999, "\0\1\0\0\0\0\0\0\x27\x0f");
    EXPECT_NUMERIC(10000, "\0\2\0\1\0\0\0\0\0\1\0\0");
    EXPECT_NUMERIC(-10001, "\0\2\0\1\x40\0\0\0\0\1\0\1");
    EXPECT_NUMERIC(INT64_MAX, "\0\5\0\4\0\0\0\0\x03\x9a\x0d\x2c\x01\x70\x15\x65\x16\xaf");
}

Test(row, what_an_integer_cannot_hold_is_the_most_that_it_can)
{
    row_begin(&row, VIEW_ONE, 0, &out);
    row_number(&row, INT64_C(3000000000));
    cr_assert(row_end(&row));
    EXPECT_BYTES("D\0\0\0\x14\0\1\0\0\0\x0a"
                 "2147483647");
}

/* Three rows of 506 bytes do not fit into 1000. */
Test(row, one_without_room_leaves_nothing)
{
    char long_text[479];

    memset(long_text, 'x', sizeof long_text);
    long_text[sizeof long_text - 1] = '\0';
    for (unsigned i = 0; i < 3; i++) {
        size_t before = out.length;

        row_begin(&row, VIEW_VERSION, 0, &out);
        row_text(&row, long_text);
        cr_expect_eq(row_end(&row), i < 2, "row %u", i);
        cr_expect_eq(out.length, before + (i < 2 ? 489 : 0));
    }
    cr_expect_not(out.overflowed, "a shorter one still fits");
    row_begin(&row, VIEW_VERSION, 0, &out);
    row_text(&row, "x");
    cr_expect(row_end(&row));
}

Test(row, without_memory_leaves_nothing)
{
    memory_fail_at = 1;
    row_begin(&row, VIEW_VERSION, 0, &out);
    row_text(&row, "x");
    cr_expect_not(row_end(&row));
    memory_fail_at = 0;
    cr_expect_eq(out.length, 0);
}

Test(row, a_cell_too_few_is_a_bug_of_ours, .signal = SIGABRT)
{
    row_begin(&row, VIEW_CONFIG, 0, &out);
    row_text(&row, "x");
    cr_expect_not(row_end(&row), "unreachable");
}

Test(row, a_cell_of_another_type_is_a_bug_of_ours, .signal = SIGABRT)
{
    row_begin(&row, VIEW_PEERS, 0, &out);
    row_text(&row, "7");
}

Test(row, columns_are_described_with_their_types)
{
    struct view view = view_of(VIEW_TOTALS);

    cr_assert_eq(view.n, 2);
    row_describe(&view, 2, NULL, &out);
    EXPECT_BYTES("T\0\0\0\x35\0\2"
                 "name\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0"
                 "value\0\0\0\0\0\0\0\0\0\x06\xa4\xff\xff\xff\xff\xff\xff\0\1");
    out.length = 0;
    view = view_of(VIEW_PARAMETER);
    row_describe(&view, 0, "TimeZone", &out);
    cr_expect_str_eq(out.bytes + 7, "TimeZone");
}

Test(row, every_view_has_columns_and_none_more_than_64)
{
    for (unsigned i = 0; i < VIEW_COUNT; i++) {
        struct view view = view_of((enum view_name)i);

        cr_expect(view.n > 0 && view.n <= 64, "view %u", i);
    }
    cr_expect_eq(view_of(VIEW_NONE).n, 0);
}
