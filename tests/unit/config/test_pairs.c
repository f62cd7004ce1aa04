#include <criterion/criterion.h>

#include "config/pairs.h"
#include "core/memory.h"
#include "core/text.h"

TestSuite(pairs, .timeout = 5);

static struct text found;

/* "name=<value> name=<value>", and "!what is wrong" behind the last. */
static const char *read_all(const char *text)
{
    char *copy = memory_text(text), *rest = copy;
    char *name, *value;
    const char *why;
    enum pairs_result result;

    cr_assert_not_null(copy);
    text_clear(&found);
    text_init(&found, 10000);
    while ((result = pairs_next(&rest, &name, &value, &why)) == PAIRS_ONE)
        text_addf(&found, "%s%s=<%s>", found.length > 0 ? " " : "", name, value);
    if (result == PAIRS_BAD)
        text_addf(&found, "!%s", why);
    memory_free(copy);
    return text_get(&found);
}

Test(pairs, reads_settings_between_blanks)
{
    cr_expect_str_eq(read_all(""), "");
    cr_expect_str_eq(read_all(" \t "), "");
    cr_expect_str_eq(read_all("host=a"), "host=<a>");
    cr_expect_str_eq(read_all(" host = a\t port=1  x =y "), "host=<a> port=<1> x=<y>");
    cr_expect_str_eq(read_all("host=a,b;c='d\"e"), "host=<a,b;c='d\"e>");
    cr_expect_str_eq(read_all("host= port=1"), "host=<port=1>");
}

Test(pairs, takes_quotes_off_values)
{
    cr_expect_str_eq(read_all("a='b c' d='e'"), "a=<b c> d=<e>");
    cr_expect_str_eq(read_all("a='it''s' b=' = '"), "a=<it's> b=< = >");
    cr_expect_str_eq(read_all("a='''' b=''''''"), "a=<'> b=<''>");
    cr_expect_str_eq(read_all("a='\\' b=\\x"), "a=<\\> b=<\\x>");
    cr_expect_str_eq(read_all("a = 'b'\t"), "a=<b>");
}

#define FORM "!expected setting=value, and a value with blanks in single quotes"
#define NO_VALUE "!a setting without a value; expected setting=value, or leave it out"

Test(pairs, says_what_is_wrong)
{
    cr_expect_str_eq(read_all("host"), FORM);
    cr_expect_str_eq(read_all("a=b host"), "a=<b>" FORM);
    cr_expect_str_eq(read_all("a=b c d=e"), "a=<b>" FORM);
    cr_expect_str_eq(read_all("=a"), FORM);
    cr_expect_str_eq(read_all(" = a"), FORM);
    cr_expect_str_eq(read_all("a="), NO_VALUE);
    cr_expect_str_eq(read_all("a= "), NO_VALUE);
    cr_expect_str_eq(read_all("a=''"), NO_VALUE);
    cr_expect_str_eq(read_all("a='b"),
                     "!a closing quote is missing (a quote inside is written twice)");
    cr_expect_str_eq(read_all("a='b''"),
                     "!a closing quote is missing (a quote inside is written twice)");
    cr_expect_str_eq(read_all("a='b'c=d"),
                     "!text behind a closing quote (a quote inside is written twice)");
}
