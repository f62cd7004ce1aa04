/* What HTML's forms send. */
#include "router/console/form.h"

#include <criterion/criterion.h>
#include <string.h>

TestSuite(form, .timeout = 10);

static void expect(const char *form, const char *const *wanted, enum form_step end)
{
    struct form_field field;
    enum form_step step;

    while ((step = form_next(&form, &field)) == FORM_FIELD) {
        cr_assert_not_null(wanted[0], "%s=%s", field.name, field.value);
        cr_expect_str_eq(field.name, wanted[0]);
        cr_expect_str_eq(field.value, wanted[1]);
        wanted += 2;
    }
    cr_expect_eq(step, end);
    cr_expect_null(wanted[0]);
}

Test(form, fields)
{
    expect("", (const char *const[]){NULL}, FORM_END);
    expect("a=b&c=d", (const char *const[]){"a", "b", "c", "d", NULL}, FORM_END);
    expect("a&b=&=c", (const char *const[]){"a", "", "b", "", "", "c", NULL}, FORM_END);
    expect("a=b=c", (const char *const[]){"a", "b=c", NULL}, FORM_END);
    expect("a=b\r\nc=d", (const char *const[]){"a", "b", NULL}, FORM_END);
    expect("%61=%26%3d+%C3%a4", (const char *const[]){"a", "&= \xc3\xa4", NULL},
           FORM_END);
}

Test(form, what_is_none)
{
    char long_one[512];

    expect("a=%", (const char *const[]){NULL}, FORM_BAD);
    expect("a=%4", (const char *const[]){NULL}, FORM_BAD);
    expect("a=%4x", (const char *const[]){NULL}, FORM_BAD);
    expect("a=b&c=%00", (const char *const[]){"a", "b", NULL}, FORM_BAD);
    memset(long_one, 'x', sizeof long_one);
    long_one[1] = '=';
    long_one[2 * NODE_NAME_MAX + 2] = '\0';
    expect(long_one, (const char *const[]){NULL}, FORM_BAD);
    memset(long_one, 'x', sizeof long_one);
    memcpy(long_one + 400, "=1", 3);
    expect(long_one, (const char *const[]){"", "1", NULL}, FORM_END);
}
