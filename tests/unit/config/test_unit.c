#include <criterion/criterion.h>

#include "config/unit.h"

TestSuite(unit, .timeout = 5);

typedef bool parser(const char *text, int64_t *value);

struct example {
    const char *text;
    int64_t value;
};

#define UNTOUCHED (-4711)

static void expect_values(parser *parse, const struct example *examples, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int64_t value = UNTOUCHED;

        cr_expect(parse(examples[i].text, &value), "'%s' is refused", examples[i].text);
        cr_expect_eq(value, examples[i].value, "'%s' is read as %lld", examples[i].text,
                     (long long)value);
    }
}

static void expect_refused(parser *parse, const char *const *texts, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int64_t value = UNTOUCHED;

        cr_expect_not(parse(texts[i], &value), "'%s' is taken", texts[i]);
        cr_expect_eq(value, UNTOUCHED, "'%s' writes its result", texts[i]);
    }
}

Test(unit, reads_durations_and_counts_seconds_without_a_unit)
{
    const struct example examples[] = {
        {"250ms", 250},
        {"1s", 1000},
        {"30m", 1800000},
        {"2h", 7200000},
        {"1d", 86400000},
        {"10", 10000},
        {"0", 0},
        {"0.5", 500},
        {"1.5h", 5400000},
        {"0.25d", 21600000},
        {"007s", 7000},
        {"0.0", 0},
        {"800us", 1},
        {"1001us", 2},
        {"0.001s", 1},
        {"0.0001s", 1},
        {"0.0000000001", 1},
        {"1.0000000000", 1000},
        {"9223372036854775807ms", INT64_MAX},
    };

    expect_values(unit_parse_duration, examples, COUNT_OF(examples));
}

Test(unit, reads_the_same_durations_in_milliseconds_without_a_unit)
{
    const struct example examples[] = {
        {"250", 250}, {"0", 0}, {"1s", 1000}, {"2m", 120000}, {"0.5", 1}, {"1.5", 2},
    };

    expect_values(unit_parse_milliseconds, examples, COUNT_OF(examples));
}

Test(unit, refuses_what_is_no_duration)
{
    const char *const texts[] = {"",      " ",   "s",     "1 s",  " 1s",   "1s ",
                                 "-1s",   "+1",  "1.",    ".5",   "1.5.5", "1e3",
                                 "1S",    "1M",  "1min",  "1ss",  "0x10",  "1,5",
                                 "1.5us", "1\n", "ms250", "1s1s", "nan",   "inf"};

    expect_refused(unit_parse_duration, texts, COUNT_OF(texts));
    expect_refused(unit_parse_milliseconds, texts, COUNT_OF(texts));
}

Test(unit, refuses_durations_beyond_64_bits)
{
    const char *const texts[] = {"9223372036854775808ms",
                                 "9223372036854775807",
                                 "9223372036854775.808s",
                                 "106751991168d",
                                 "99999999999999999999999999999999",
                                 "9223372036854775807.5ms"};

    expect_refused(unit_parse_duration, texts, COUNT_OF(texts));
}

Test(unit, reads_durations_as_haproxy_does)
{
    const struct example examples[] = {
        {"10", 10}, {"10s", 10000}, {"30m", 1800000}, {"500us", 1},     {"2000us", 2},
        {"0us", 0}, {"3ms", 3},     {"1h", 3600000},  {"1d", 86400000}, {"0", 0},
    };
    const char *const texts[] = {"0.5s", "1.", "",     "s",
                                 "-1",   "1S", "10 s", "9223372036854775808"};

    expect_values(unit_parse_haproxy_duration, examples, COUNT_OF(examples));
    expect_refused(unit_parse_haproxy_duration, texts, COUNT_OF(texts));
}

Test(unit, reads_sizes_in_units_of_1024)
{
    const struct example examples[] = {
        {"0", 0},
        {"16", 16},
        {"512B", 512},
        {"8kB", 8192},
        {"16MB", 16777216},
        {"1GB", 1073741824},
        {"1TB", INT64_C(1) << 40},
        {"1.5GB", 1610612736},
        {"0.5B", 1},
        {"0.999999TB", 1099510528265}, /* 2^40 - 2^40 / 10^6, up */
        {"8388607TB", INT64_C(8388607) << 40},
        {"9223372036854775807", INT64_MAX},
    };
    const char *const texts[] = {"",
                                 "kB",
                                 "8KB",
                                 "8kb",
                                 "8k",
                                 "16 MB",
                                 "-1",
                                 "1PB",
                                 "1.",
                                 "8388608TB",
                                 "1bB",
                                 "MB1",
                                 "9223372036854775808",
                                 "8388607.999999999TBx"};

    expect_values(unit_parse_bytes, examples, COUNT_OF(examples));
    expect_refused(unit_parse_bytes, texts, COUNT_OF(texts));
}

Test(unit, reads_counts)
{
    const struct example examples[] = {
        {"0", 0}, {"42", 42}, {"007", 7}, {"9223372036854775807", INT64_MAX}};
    const char *const texts[] = {"",
                                 "-1",
                                 "+1",
                                 "1.0",
                                 "1 ",
                                 " 1",
                                 "0x1",
                                 "one",
                                 "1k",
                                 "9223372036854775808",
                                 "18446744073709551617"};

    expect_values(unit_parse_count, examples, COUNT_OF(examples));
    expect_refused(unit_parse_count, texts, COUNT_OF(texts));
}

Test(unit, reads_mode_bits_in_octal)
{
    const struct example examples[] = {
        {"0777", 0777}, {"777", 0777}, {"0", 0}, {"0600", 0600}, {"00600", 0600}};
    const char *const texts[] = {"",   "0788",  "9",   "0o777",
                                 "-7", "0x1ff", "rwx", "7777777777777777777777"};

    expect_values(unit_parse_octal, examples, COUNT_OF(examples));
    expect_refused(unit_parse_octal, texts, COUNT_OF(texts));
}

Test(unit, reads_yes_and_no_in_all_their_words)
{
    const char *const yes[] = {"1", "on", "yes", "true", "ON", "True", "YES"};
    const char *const no[] = {"0", "off", "no", "false", "OFF", "False", "No"};
    const char *const neither[] = {"", "2", "y", "n", "t", "ja", "on ", "00", "truee"};

    for (size_t i = 0; i < COUNT_OF(yes); i++) {
        bool value = false;

        cr_expect(unit_parse_bool(yes[i], &value) && value, "'%s'", yes[i]);
    }
    for (size_t i = 0; i < COUNT_OF(no); i++) {
        bool value = true;

        cr_expect(unit_parse_bool(no[i], &value) && !value, "'%s'", no[i]);
    }
    for (size_t i = 0; i < COUNT_OF(neither); i++) {
        bool value = true;

        cr_expect_not(unit_parse_bool(neither[i], &value), "'%s'", neither[i]);
        cr_expect(value, "'%s' writes its result", neither[i]);
    }
}

Test(unit, prints_in_the_largest_unit_that_fits)
{
    char text[UNIT_TEXT_MAX];

    cr_expect_str_eq(unit_print_duration(0, text), "0");
    cr_expect_str_eq(unit_print_duration(250, text), "250ms");
    cr_expect_str_eq(unit_print_duration(1000, text), "1s");
    cr_expect_str_eq(unit_print_duration(1001, text), "1001ms");
    cr_expect_str_eq(unit_print_duration(90000, text), "90s");
    cr_expect_str_eq(unit_print_duration(7200000, text), "2h");
    cr_expect_str_eq(unit_print_duration(86400000, text), "1d");
    cr_expect_str_eq(unit_print_bytes(0, text), "0");
    cr_expect_str_eq(unit_print_bytes(512, text), "512B");
    cr_expect_str_eq(unit_print_bytes(8192, text), "8kB");
    cr_expect_str_eq(unit_print_bytes(INT64_C(3) << 40, text), "3TB");
    cr_expect_str_eq(unit_print_count(1000, text), "1000");
    cr_expect_str_eq(unit_print_octal(0770, text), "0770");
    cr_expect_str_eq(unit_print_octal(0, text), "0");
}

Test(unit, reads_what_it_prints)
{
    char text[UNIT_TEXT_MAX];
    int64_t value, back;

    for (value = 1; value < INT64_MAX / 3; value *= 3) {
        cr_expect(unit_parse_duration(unit_print_duration(value, text), &back));
        cr_expect_eq(back, value, "%s", text);
        cr_expect(unit_parse_bytes(unit_print_bytes(value * 2, text), &back));
        cr_expect_eq(back, value * 2, "%s", text);
        cr_expect(unit_parse_octal(unit_print_octal(value, text), &back));
        cr_expect_eq(back, value, "%s", text);
    }
    cr_expect(unit_parse_bytes(unit_print_bytes(INT64_MAX, text), &back));
    cr_expect_eq(back, INT64_MAX);
}
