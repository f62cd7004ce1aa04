#include "router/close_reason.h"

#include <criterion/criterion.h>
#include <string.h>

TestSuite(close_reason, .timeout = 10);

Test(close_reason, each_has_a_name_and_a_text_of_its_own)
{
    for (unsigned i = 0; i < CLOSE_REASON_COUNT; i++) {
        cr_expect_gt(strlen(close_facts[i].name), 0);
        cr_expect_gt(strlen(close_facts[i].text), 0);
        for (unsigned k = 0; k < i; k++) {
            cr_expect_str_neq(close_facts[i].name, close_facts[k].name);
            cr_expect_str_neq(close_facts[i].text, close_facts[k].text);
        }
    }
}

Test(close_reason, a_sqlstate_has_five_letters_or_is_none)
{
    for (unsigned i = 0; i < CLOSE_REASON_COUNT; i++) {
        const char *code = close_facts[i].sqlstate;

        cr_expect(code[0] == '\0' ||
                      (strlen(code) == 5 &&
                       strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5),
                  "%s: %s", close_facts[i].name, code);
    }
}

/* What clients and their drivers go by. */
Test(close_reason, tells_clients_the_codes_that_postgresql_would)
{
    cr_expect_str_eq(close_facts[CLOSE_NO_NODE].sqlstate, "57P03");
    cr_expect_str_eq(close_facts[CLOSE_TOO_MANY_CLIENTS].sqlstate, "53300");
    cr_expect_str_eq(close_facts[CLOSE_NO_MEMORY].sqlstate, "53200");
    cr_expect_str_eq(close_facts[CLOSE_SHUTDOWN].sqlstate, "57P01");
    cr_expect_str_eq(close_facts[CLOSE_PROTOCOL_TOO_OLD].sqlstate, "0A000");
}

Test(close_reason, port_scanners_and_health_checks_are_quiet)
{
    cr_expect_eq(close_facts[CLOSE_SAID_NOTHING].kind, CLOSE_KIND_QUIET);
    cr_expect_eq(close_facts[CLOSE_NOT_POSTGRESQL].kind, CLOSE_KIND_QUIET);
    cr_expect_eq(close_facts[CLOSE_CANCEL_DONE].kind, CLOSE_KIND_QUIET);
    cr_expect_str_eq(close_facts[CLOSE_NOT_POSTGRESQL].sqlstate, "");
}

Test(close_reason, the_first_is_none)
{
    cr_expect_eq(CLOSE_NONE, 0);
    cr_expect_eq(close_facts[0].fault, CLOSE_FAULT_NOBODY);
}
