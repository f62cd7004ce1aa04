#include "router/console/order.h"

#include <criterion/criterion.h>
#include <string.h>

TestSuite(order, .timeout = 10);

static struct switchover_order order;
static const char *why;

static bool reads(const char *text)
{
    why = NULL;
    return order_read(text, strlen(text), &order, &why);
}

static void expect(const char *text, const char *cluster, const char *to,
                   int64_t drain_ms)
{
    cr_assert(reads(text), "%s: %s", text, why);
    cr_expect_str_eq(order.cluster, cluster, "%s", text);
    cr_expect_str_eq(order.to, to, "%s", text);
    cr_expect_eq(order.drain_ms, drain_ms, "%s", text);
}

Test(order, each_part_may_be_left_out)
{
    expect("", "", "", -1);
    expect(" \t\n", "", "", -1);
    expect("main", "main", "", -1);
    expect("to n2", "", "n2", -1);
    expect("timeout 5", "", "", 5000);
    expect("main TO n2", "main", "n2", -1);
    expect("main  Timeout\n500ms", "main", "", 500);
    expect(" main to n2 timeout 0 ", "main", "n2", 0);
    expect("timeout 1h to n2", "", "n2", 3600000);
}

Test(order, names_are_taken_as_they_are)
{
    expect("Main TO Node-2.x", "Main", "Node-2.x", -1);
    expect("\"to\" to \"timeout\"", "to", "timeout", -1);
    expect("'a b' to 'c d' timeout '2s'", "a b", "c d", 2000);
}

Test(order, only_the_given_bytes_are_read)
{
    cr_assert(order_read("main to n2", 4, &order, &why));
    cr_expect_str_eq(order.cluster, "main");
    cr_expect_str_eq(order.to, "");
}

Test(order, all_else_is_said_to_be_wrong)
{
    static const struct {
        const char *text, *why;
    } mistakes[] = {
        {"to", "behind TO"},
        {"to timeout 2", "behind TO"},
        {"to \"\"", "behind TO"},
        {"to \"n2", "behind TO"},
        {"to a to b", "TO stands twice"},
        {"timeout", "behind TIMEOUT"},
        {"timeout soon", "behind TIMEOUT"},
        {"timeout -1", "behind TIMEOUT"},
        {"timeout 3601", "behind TIMEOUT"},
        {"timeout to n2", "behind TIMEOUT"},
        {"timeout 1 timeout 1", "TIMEOUT stands twice"},
        {"main other", "expected SWITCHOVER [cluster]"},
        {"to n2 main", "expected SWITCHOVER [cluster]"},
        {"\"", "expected SWITCHOVER [cluster]"},
    };
    char text[200] = "to ";

    for (size_t i = 0; i < COUNT_OF(mistakes); i++) {
        cr_expect_not(reads(mistakes[i].text), "%s", mistakes[i].text);
        cr_expect_not_null(strstr(why, mistakes[i].why), "%s: %s", mistakes[i].text, why);
    }
    memset(text + 3, 'x', NODE_NAME_MAX);
    cr_expect_not(reads(text), "a name that is too long");
    text[3 + NODE_NAME_MAX - 1] = '\0';
    cr_expect(reads(text));
    cr_expect_eq(strlen(order.to), NODE_NAME_MAX - 1);
}
