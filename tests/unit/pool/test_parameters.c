#include "pool/parameters.h"

#include <criterion/criterion.h>
#include <string.h>

#include "core/memory.h"

static struct parameter_store *store;

static void make_store(void)
{
    store = parameter_store_new();
    cr_assert_not_null(store);
}

static void free_store(void)
{
    parameter_store_free(store);
}

TestSuite(parameters, .init = make_store, .fini = free_store, .timeout = 10);

/* A set of name, value, name, value, ..., NULL. */
static struct parameter_set *set_of(const char *const *words)
{
    struct parameter_set *set = parameters_none(store);

    for (; *words != NULL; words += 2) {
        struct parameter_set *next = parameters_with(set, words[0], words[1]);

        cr_assert_not_null(next);
        parameters_release(set);
        set = next;
    }
    return set;
}
#define SET(...) set_of((const char *const[]){__VA_ARGS__, NULL})

static void expect_change(struct parameter_set *is, struct parameter_set *wanted,
                          const char *query)
{
    struct text text;

    text_init(&text, 1000);
    parameters_add_change(is, wanted, &text);
    cr_expect_str_eq(text_get(&text), query);
    text_clear(&text);
    parameters_release(is);
    parameters_release(wanted);
}

Test(parameters, equal_sets_are_the_same_one)
{
    struct parameter_set *a = SET("TimeZone", "UTC", "DateStyle", "ISO, MDY");
    struct parameter_set *b = SET("DateStyle", "ISO, MDY", "TimeZone", "UTC");
    struct parameter_set *c = SET("DateStyle", "ISO, DMY", "TimeZone", "UTC");

    cr_expect_eq(a, b);
    cr_expect_neq(a, c);
    parameters_release(a);
    parameters_release(b);
    parameters_release(c);
}

Test(parameters, a_value_can_be_found_changed_and_left_alone)
{
    struct parameter_set *a = SET("TimeZone", "UTC");
    struct parameter_set *same = parameters_with(a, "timezone", "UTC");
    struct parameter_set *b = parameters_with(a, "TIMEZONE", "CET");

    cr_expect_eq(a, same);
    cr_expect_str_eq(parameters_find(a, "timezone"), "UTC");
    cr_expect_str_eq(parameters_find(b, "TimeZone"), "CET");
    cr_expect_null(parameters_find(a, "DateStyle"));
    parameters_release(a);
    parameters_release(same);
    parameters_release(b);
}

Test(parameters, those_of_one_set_go_over_those_of_another)
{
    struct parameter_set *base = SET("a", "1", "c", "3", "d", "4");
    struct parameter_set *over = SET("b", "2", "c", "33", "e", "5");
    struct parameter_set *both = parameters_over(base, over);
    struct parameter_set *expected =
        SET("a", "1", "b", "2", "c", "33", "d", "4", "e", "5");
    struct parameter_set *like = parameters_like(both, base);
    struct parameter_set *left = SET("a", "1", "c", "33", "d", "4");

    cr_expect_eq(both, expected);
    cr_expect_eq(like, left);
    parameters_release(base);
    parameters_release(over);
    parameters_release(both);
    parameters_release(expected);
    parameters_release(like);
    parameters_release(left);
}

Test(parameters, a_change_sets_what_differs_and_resets_what_is_too_much)
{
    expect_change(SET("a", "1"), SET("a", "1"), "");
    expect_change(SET("a", "1", "b", "2"), SET("a", "1", "b", "3"),
                  "SELECT set_config(E'b',E'3',false)");
    expect_change(SET("a", "1"), SET("a", "2", "b", "3"),
                  "SELECT set_config(E'a',E'2',false),set_config(E'b',E'3',false)");
    expect_change(SET("a", "1", "b", "2"), SET("a", "1"), "RESET \"b\";");
    expect_change(SET("b", "2"), SET("a", "1"),
                  "RESET \"b\";SELECT set_config(E'a',E'1',false)");
}

Test(parameters, nothing_in_a_value_or_a_name_can_end_its_quotes)
{
    expect_change(SET("a\"b", "1"), SET("x", "it's \\ '; drop table t; --"),
                  "RESET \"a\"\"b\";"
                  "SELECT set_config(E'x',E'it''s \\\\ ''; drop table t; --',false)");
}

Test(parameters, words_about_the_server_are_not_followed)
{
    cr_expect(parameters_follows("client_encoding"));
    cr_expect(parameters_follows("application_name"));
    cr_expect_not(parameters_follows("server_version"));
    cr_expect_not(parameters_follows("in_hot_standby"));
    cr_expect_not(parameters_follows("session_authorization"));
}

Test(parameters, survive_each_allocation_failure)
{
    for (unsigned n = 1; n < 12; n++) {
        struct parameter_set *a = SET("a", "1"), *b;

        memory_fail_at = n;
        b = parameters_with(a, "b", "2");
        memory_fail_at = 0;
        parameters_release(b);
        parameters_release(a);
    }
}
