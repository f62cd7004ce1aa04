#include "pool/errors.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

static struct pool_errors errors;

TestSuite(errors, .timeout = 10);

Test(errors, each_code_is_of_its_class)
{
    cr_expect_eq(error_class_of("42P01"), ERROR_CLASS_SYNTAX);
    cr_expect_eq(error_class_of("57P01"), ERROR_CLASS_INTERVENTION);
    cr_expect_eq(error_class_of("XX000"), ERROR_CLASS_INTERNAL);
    cr_expect_eq(error_class_of("ZZ000"), ERROR_CLASS_OTHER);
    cr_expect_eq(error_class_of("42"), ERROR_CLASS_OTHER);
    cr_expect_eq(error_class_of("42\"}\n"), ERROR_CLASS_OTHER);
    cr_expect_eq(error_class_of(""), ERROR_CLASS_OTHER);
}

Test(errors, are_counted_by_class_and_code_and_by_who_has_said_them)
{
    struct pool_errors sum = {0};

    pool_errors_count(&errors, ERROR_OF_SERVER, "42P01");
    pool_errors_count(&errors, ERROR_OF_SERVER, "42601");
    pool_errors_count(&errors, ERROR_OF_SERVER, "42P01");
    pool_errors_count(&errors, ERROR_OF_ROUTER, "42P01");
    pool_errors_count(&errors, ERROR_OF_SERVER, "no code");
    cr_expect_eq(errors.by_class[ERROR_OF_SERVER][ERROR_CLASS_SYNTAX], 3);
    cr_expect_eq(errors.by_class[ERROR_OF_ROUTER][ERROR_CLASS_SYNTAX], 1);
    cr_expect_eq(errors.by_class[ERROR_OF_SERVER][ERROR_CLASS_OTHER], 1);
    cr_expect_str_eq(errors.codes[0].sqlstate, "42P01");
    cr_expect_eq(errors.codes[0].n, 2);
    cr_expect_eq(errors.codes[1].n, 1);
    cr_expect_eq(errors.codes[2].source, ERROR_OF_ROUTER);
    cr_expect_eq(errors.codes[3].n, 0);
    pool_errors_add(&sum, &errors);
    pool_errors_add(&sum, &errors);
    cr_expect_eq(sum.by_class[ERROR_OF_SERVER][ERROR_CLASS_SYNTAX], 6);
    cr_expect_eq(sum.codes[0].n, 4);
}

Test(errors, a_full_table_of_codes_leaves_the_classes)
{
    char sqlstate[6];

    for (unsigned i = 0; i < 99; i++) {
        snprintf(sqlstate, sizeof sqlstate, "P0%03u", i);
        pool_errors_count(&errors, ERROR_OF_SERVER, sqlstate);
    }
    cr_expect_eq(errors.by_class[ERROR_OF_SERVER][ERROR_CLASS_PLPGSQL], 99);
    cr_expect_str_eq(errors.codes[POOL_ERROR_CODES_MAX - 1].sqlstate, "P0023");
    pool_errors_count(&errors, ERROR_OF_SERVER, "P0000");
    cr_expect_eq(errors.codes[0].n, 2);
}
