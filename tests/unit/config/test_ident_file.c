#include "config/ident_file.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/fault.h"

TestSuite(ident_file, .timeout = 20);

static struct ident_file *parse(const char *text, const char *wanted_errors)
{
    struct ident_file *file = NULL;
    char *copy = strdup(text);
    struct text errors;
    enum ident_file_result result;

    text_init(&errors, 4096);
    result = ident_file_parse("f", copy, &file, &errors);
    cr_expect_eq(result, *wanted_errors == '\0' ? IDENT_FILE_OK : IDENT_FILE_BAD);
    cr_expect_str_eq(text_get(&errors), wanted_errors);
    cr_expect_eq(file == NULL, *wanted_errors != '\0');
    text_clear(&errors);
    free(copy);
    return file;
}

Test(ident_file, names_are_compared_as_they_stand)
{
    struct ident_file *file = parse("# a comment\n\n m  ann  app # more\n"
                                    "m\t\"a b\"\t\"say \"\"hi\"\"\"\r\nn ann root",
                                    "");

    cr_expect(ident_file_allows(file, "m", "ann", "app"));
    cr_expect(ident_file_allows(file, "m", "a b", "say \"hi\""));
    cr_expect(ident_file_allows(file, "n", "ann", "root"));
    cr_expect_not(ident_file_allows(file, "m", "ann", "root"));
    cr_expect_not(ident_file_allows(file, "m", "Ann", "app"));
    cr_expect_not(ident_file_allows(file, "m", "ann", "App"));
    cr_expect_not(ident_file_allows(file, "m", "anna", "app"));
    cr_expect_not(ident_file_allows(file, "o", "ann", "app"));
    cr_expect_not(ident_file_allows(NULL, "m", "ann", "app"));
    cr_expect(ident_file_has(file, "n"));
    cr_expect_not(ident_file_has(file, "o"));
    cr_expect_not(ident_file_has(NULL, "m"));
    ident_file_free(file);
}

Test(ident_file, patterns_fit_and_fill_in)
{
    struct ident_file *file = parse("m /^(.*)@here\\.com$ \\1\n"
                                    "m /^(a|b)c?$ x_\\1_y\n"
                                    "m /any root\n"
                                    "m /^(z)?$ user\\1\n",
                                    "");

    cr_expect(ident_file_allows(file, "m", "ann@here.com", "ann"));
    cr_expect_not(ident_file_allows(file, "m", "ann@hereXcom", "ann"));
    cr_expect_not(ident_file_allows(file, "m", "ann@here.com", "bob"));
    cr_expect_not(ident_file_allows(file, "m", "ann@here.com.net", "ann"));
    cr_expect(ident_file_allows(file, "m", "a", "x_a_y"));
    cr_expect(ident_file_allows(file, "m", "bc", "x_b_y"));
    cr_expect_not(ident_file_allows(file, "m", "bd", "x_b_y"));
    cr_expect(ident_file_allows(file, "m", "many of them", "root"), "anywhere");
    cr_expect(ident_file_allows(file, "m", "z", "userz"));
    cr_expect(ident_file_allows(file, "m", "", "user"), "what did not take part");
    ident_file_free(file);
}

Test(ident_file, a_user_that_becomes_too_long_is_nobody)
{
    struct ident_file *file = parse("m /^(.*)$ \\1", "");
    char name[600];

    memset(name, 'x', sizeof name);
    name[599] = '\0';
    cr_expect_not(ident_file_allows(file, "m", name, name));
    name[511] = '\0';
    cr_expect(ident_file_allows(file, "m", name, name));
    ident_file_free(file);
}

Test(ident_file, mistakes_are_told_by_their_line)
{
    parse("m ann\nm a b c\nm \"a b\nm /( x\nm /x \\1\nm ann app\n\"\" x y",
          "f:1: expected a map, a name and a user\n"
          "f:2: expected a map, a name and a user\n"
          "f:3: a quote has no end\n"
          "f:4: the name is no regular expression\n"
          "f:5: \\1 without parentheses in the regular expression\n");
}

static void try_one(void *unused)
{
    char text[] = "m ann app\nm /^(.*)$ \\1\n";
    struct ident_file *file = NULL;
    struct text errors;
    enum ident_file_result result;

    (void)unused;
    text_init(&errors, 1000);
    result = ident_file_parse("f", text, &file, &errors);
    cr_expect(result == IDENT_FILE_OK || result == IDENT_FILE_NO_MEMORY);
    cr_expect_eq(file != NULL, result == IDENT_FILE_OK);
    ident_file_free(file);
    text_clear(&errors);
}

Test(ident_file, survives_each_allocation_failure)
{
    cr_expect_geq(fault_each_allocation(try_one, NULL), 9);
}
