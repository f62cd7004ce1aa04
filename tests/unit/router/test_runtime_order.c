#include "router/console/runtime_order.h"

#include <criterion/criterion.h>
#include <string.h>

TestSuite(runtime_order, .timeout = 10);

static char line[1000], *rest;
static struct runtime_order order;

static enum runtime_command begin(const char *text)
{
    strcpy(line, text);
    rest = line;
    runtime_order_next(&rest, &order);
    return order.command;
}

Test(runtime_order, a_command_and_its_operands)
{
    cr_expect_eq(begin("show stat"), RUNTIME_SHOW_STAT);
    cr_expect_eq(order.n_operands, 0);
    cr_expect_str_eq(rest, "");
    cr_expect_eq(begin(" \tset  server rw/n1   state drain \r"), RUNTIME_SET_SERVER);
    cr_expect_eq(order.n_operands, 3);
    cr_expect_str_eq(runtime_operand(&order, 0), "rw/n1");
    cr_expect_str_eq(runtime_operand(&order, 1), "state");
    cr_expect_str_eq(runtime_operand(&order, 2), "drain");
    cr_expect_str_eq(runtime_operand(&order, 3), "");
    cr_expect_eq(begin("set maxconn global 5"), RUNTIME_SET_MAX_GLOBAL);
    cr_expect_eq(begin("set maxconn frontend rw 5"), RUNTIME_SET_MAX_FRONTEND);
}

Test(runtime_order, what_is_none)
{
    static const char *const none[] = {"",     " ",         "show",        "shows stat",
                                       "stat", "Show stat", "show sta",    "show stats",
                                       "set",  "\\",        "set maxconn", "\"help\""};

    for (size_t i = 0; i < COUNT_OF(none); i++)
        cr_expect_eq(begin(none[i]), RUNTIME_UNKNOWN, "%s", none[i]);
}

Test(runtime_order, commands_between_semicolons)
{
    cr_expect_eq(begin("show info;get weight a/b ;; quit; "), RUNTIME_SHOW_INFO);
    runtime_order_next(&rest, &order);
    cr_expect_eq(order.command, RUNTIME_GET_WEIGHT);
    cr_expect_str_eq(runtime_operand(&order, 0), "a/b");
    runtime_order_next(&rest, &order);
    cr_expect_eq(order.command, RUNTIME_UNKNOWN);
    runtime_order_next(&rest, &order);
    cr_expect_eq(order.command, RUNTIME_QUIT);
    cr_expect_str_neq(rest, "");
    runtime_order_next(&rest, &order);
    cr_expect_eq(order.command, RUNTIME_UNKNOWN);
    cr_expect_str_eq(rest, "");
}

Test(runtime_order, a_backslash_takes_the_meaning)
{
    cr_expect_eq(begin("get weight a\\ b\\;c/d\\\\ x\\"), RUNTIME_GET_WEIGHT);
    cr_expect_eq(order.n_operands, 2);
    cr_expect_str_eq(runtime_operand(&order, 0), "a b;c/d\\");
    cr_expect_str_eq(runtime_operand(&order, 1), "x\\");
}

Test(runtime_order, words_beyond_all_bounds_are_not_kept)
{
    char text[1000] = "show stat";

    for (unsigned i = 0; i < 100; i++)
        strcat(text, " x");
    strcat(text, ";quit");
    cr_expect_eq(begin(text), RUNTIME_SHOW_STAT);
    cr_expect_eq(order.n_operands, RUNTIME_WORDS_MAX - 2);
    cr_expect_str_eq(rest, "quit");
}

Test(runtime_order, help_is_for_the_level)
{
    struct text help;

    text_init(&help, 100000);
    runtime_help(SOCKET_USER, &help);
    cr_expect_not_null(strstr(text_get(&help), "  show stat "));
    cr_expect_null(strstr(text_get(&help), "set weight"));
    text_clear(&help);
    runtime_help(SOCKET_ADMIN, &help);
    cr_expect_not_null(strstr(text_get(&help), "  set weight <backend>/<server> "));
    text_clear(&help);
}
