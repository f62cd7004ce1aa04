#include "router/console/command.h"

#include <criterion/criterion.h>
#include <string.h>

TestSuite(command, .timeout = 10);

/* The name of the one statement in `text`. */
static enum command_name name_of(const char *text)
{
    struct command command;
    const char *at = text;

    cr_assert(command_next(&at, &command), "%s", text);
    cr_expect_not(command_next(&at, &(struct command){0}), "%s", text);
    return command.name;
}

Test(command, each_of_the_table_is_found_in_any_spelling)
{
    static const struct {
        const char *words;
        enum command_name name;
    } facts[] = {
#define COMMAND(name, words, ...) {words, COMMAND_##name},
#include "router/console/commands.def"
    };

    for (size_t i = 0; i < COUNT_OF(facts); i++) {
        char text[128] = " \t";
        bool is_in_table = strstr(facts[i].words, "PARAMETER") == NULL;

        strcat(text, facts[i].words);
        for (char *c = text; *c != '\0'; c++)
            *c = i % 2 == 0 && *c >= 'a' && *c <= 'z' ? (char)(*c - 32)
                 : *c == ' '                          ? '\n'
                                                      : *c;
        strcat(text, " ; ;");
        if (is_in_table)
            cr_expect_eq(name_of(text), facts[i].name, "%s", text);
    }
}

Test(command, statements_are_taken_one_by_one)
{
    const char *at = " ;; show pools;\nSHOW 'a;b' ; reload";
    struct command command;

    cr_assert(command_next(&at, &command));
    cr_expect_eq(command.name, COMMAND_SHOW_POOLS);
    cr_assert(command_next(&at, &command));
    cr_expect_eq(command.name, COMMAND_UNKNOWN);
    cr_expect_eq(command.n_text, strlen("SHOW 'a;b'"));
    cr_expect_arr_eq(command.text, "SHOW 'a;b'", command.n_text);
    cr_assert(command_next(&at, &command));
    cr_expect_eq(command.name, COMMAND_RELOAD);
    cr_expect_not(command_next(&at, &command));
    cr_expect_str_empty(at);
}

Test(command, nothing_is_no_statement)
{
    static const char *const texts[] = {"", " ", ";", " ;\n; "};

    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        const char *at = texts[i];

        cr_expect_not(command_next(&at, &(struct command){0}));
    }
}

Test(command, what_resembles_a_command_is_none)
{
    static const char *const texts[] = {
        "show",
        "showpools",
        "show pools now",
        "show pool",
        "reload all",
        "shutdown 1",
        "set",
        "set client_encoding",
        "select 2",
        "show stats totals",
        "set x = 1",
        "show PARAMETER",
        "set PARAMETER",
        "'show pools'",
        "show nonsense",
        "shutdown wait_for_servers wait_for_clients",
        "=",
        "set client_encoding utf8",
        "switchovers",
        "switchover to",
        "switchover main other",
        "reset",
        "reset all",
        "reset clusters",
        "resetcluster",
        "reset cluster main other",
        "reset cluster \"main",
    };

    for (size_t i = 0; i < COUNT_OF(texts); i++)
        cr_expect_eq(name_of(texts[i]), COMMAND_UNKNOWN, "%s", texts[i]);
}

Test(command, a_statement_of_any_length_is_none)
{
    char text[5000];

    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    cr_expect_eq(name_of(text), COMMAND_UNKNOWN);
    memcpy(text, "show pools ", 11);
    cr_expect_eq(name_of(text), COMMAND_UNKNOWN);
    memset(text + 11, ' ', sizeof text - 12);
    cr_expect_eq(name_of(text), COMMAND_SHOW_POOLS, "blanks are nothing");
}

/* The parameter that the statement is about; NULL when it is another one. */
static const struct console_parameter *parameter_of(const char *text,
                                                    enum command_name name)
{
    struct command command;
    const char *at = text;

    cr_assert(command_next(&at, &command));
    cr_expect_eq(command.name, name, "%s", text);
    return command.parameter;
}

Test(command, parameters_of_a_server_can_be_shown_and_set)
{
    static const char *const sets[] = {
        "SET datestyle=ISO",
        "set DateStyle = 'ISO'",
        "set session datestyle to ISO",
        "SET DATESTYLE  TO  'ISO; x'",
    };

    cr_expect_str_eq(parameter_of("SHOW TimeZone", COMMAND_SHOW_PARAMETER)->value, "GMT");
    cr_expect_str_eq(parameter_of("show \"timezone\"", COMMAND_SHOW_PARAMETER)->name,
                     "TimeZone");
    for (size_t i = 0; i < COUNT_OF(sets); i++)
        cr_expect_str_eq(parameter_of(sets[i], COMMAND_SET_PARAMETER)->name, "DateStyle");
}

Test(command, a_switchover_has_operands)
{
    const char *at = " SwitchOver\tMain TO \"N 2\" timeout 3; switchover to";
    struct command command;

    cr_assert(command_next(&at, &command));
    cr_expect_eq(command.name, COMMAND_SWITCHOVER);
    cr_expect_str_eq(command.order.cluster, "Main");
    cr_expect_str_eq(command.order.to, "N 2");
    cr_expect_eq(command.order.drain_ms, 3000);
    cr_expect_null(command.why);
    cr_assert(command_next(&at, &command));
    cr_expect_eq(command.name, COMMAND_UNKNOWN);
    cr_expect_not_null(strstr(command.why, "behind TO"));
    at = "switchover";
    cr_assert(command_next(&at, &command));
    cr_expect_eq(command.name, COMMAND_SWITCHOVER);
    cr_expect_eq(command.order.drain_ms, -1);
    cr_expect_str_empty(command.order.cluster);
}

Test(command, a_reset_names_its_cluster)
{
    const char *at = " Reset\tCLUSTER Main;reset cluster \"a b\" ; RESET CLUSTER";
    struct command command;

    cr_assert(command_next(&at, &command));
    cr_expect_eq(command.name, COMMAND_RESET_CLUSTER);
    cr_expect_str_eq(command.order.cluster, "Main");
    cr_assert(command_next(&at, &command));
    cr_expect_eq(command.name, COMMAND_RESET_CLUSTER);
    cr_expect_str_eq(command.order.cluster, "a b");
    cr_assert(command_next(&at, &command));
    cr_expect_eq(command.name, COMMAND_RESET_CLUSTER);
    cr_expect_str_empty(command.order.cluster);
    at = "reset cluster a b";
    cr_assert(command_next(&at, &command));
    cr_expect_str_eq(command.why, "expected RESET CLUSTER [cluster]");
    at = "reset all";
    cr_assert(command_next(&at, &command));
    cr_expect_null(command.why);
}

Test(command, some_have_one_name)
{
    const char *at = "pause;PAUSE App ;resume \"a B\"; kill_client 12;kill  x;KILL a b;"
                     "reconnect 'x;wait_closed; drain\tmain/n1;disable";
    static const struct {
        enum command_name name;
        const char *operand;
    } wanted[] = {
        {COMMAND_PAUSE, ""},         {COMMAND_PAUSE, "App"}, {COMMAND_RESUME, "a B"},
        {COMMAND_KILL_CLIENT, "12"}, {COMMAND_KILL, "x"},    {COMMAND_UNKNOWN, NULL},
    };
    struct command command;

    for (size_t i = 0; i < COUNT_OF(wanted); i++) {
        cr_assert(command_next(&at, &command));
        cr_expect_eq(command.name, wanted[i].name, "command %zu", i);
        if (wanted[i].operand != NULL)
            cr_expect_str_eq(command.operand, wanted[i].operand);
        else
            cr_expect_not_null(command.why);
    }
    cr_assert(command_next(&at, &command)); /* the quote has no end: all of the rest */
    cr_expect_eq(command.name, COMMAND_UNKNOWN);
    cr_expect_not(command_next(&at, &command));
    at = "wait_closed; drain\tmain/n1;disable";
    cr_assert(command_next(&at, &command));
    cr_expect_eq(command.name, COMMAND_UNKNOWN);
    cr_assert(command_next(&at, &command));
    cr_expect_eq(command.name, COMMAND_DRAIN);
    cr_expect_str_eq(command.operand, "main/n1");
    cr_assert(command_next(&at, &command));
    cr_expect_eq(command.name, COMMAND_DISABLE);
    cr_expect_str_empty(command.operand);
}
