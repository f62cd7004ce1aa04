#include "router/console/escape.h"

#include <criterion/criterion.h>

TestSuite(escape, .timeout = 10);

static void expect(void (*escape)(struct text *out, const char *value), const char *value,
                   const char *result)
{
    struct text out;

    text_init(&out, 1000);
    escape(&out, value);
    cr_expect_str_eq(text_get(&out), result);
    text_clear(&out);
}

Test(escape, leaves_what_means_nothing)
{
    expect(escape_label, "a b {=}'\t\x7F", "a b {=}'\t\x7F");
    expect(escape_json, "\xC3\xA4 \xE2\x82\xAC \xF0\x9F\x90\x98",
           "\xC3\xA4 \xE2\x82\xAC \xF0\x9F\x90\x98");
    expect(escape_json, "", "");
}

Test(escape, takes_its_meaning_from_the_rest)
{
    expect(escape_label, "\"\\\n", "\\\"\\\\\\n");
    expect(escape_json, "a\"b\\c\nd\te\x01", "a\\\"b\\\\c\\nd\\u0009e\\u0001");
}

/* Overlong, surrogates, beyond the last, without an end, without a begin. */
Test(escape, makes_utf_8_of_everything)
{
    expect(escape_label, "\xC0\xAF", "\\\\xC0\\\\xAF");
    expect(escape_label, "\xED\xA0\x80", "\\\\xED\\\\xA0\\\\x80");
    expect(escape_label, "\xF4\x90\x80\x80", "\\\\xF4\\\\x90\\\\x80\\\\x80");
    expect(escape_json, "a\xE2\x82", "a\\\\xE2\\\\x82");
    expect(escape_json, "\xFF\"", "\\\\xFF\\\"");
    expect(escape_json, "\x80z", "\\\\x80z");
}
