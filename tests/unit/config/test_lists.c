#include <criterion/criterion.h>
#include <stdio.h>

#include "config/lists.h"
#include "core/memory.h"

TestSuite(lists, .timeout = 5);

static struct text why;

static struct node_list nodes_of(const char *text)
{
    struct node_list nodes = {0};

    text_init(&why, 1024);
    cr_assert_eq(lists_parse_nodes(text, &nodes, &why), VALUE_OK, "'%s': %s", text,
                 text_get(&why));
    return nodes;
}

static void expect_node(const struct node_list *nodes, size_t index, const char *name,
                        const char *host, unsigned port, unsigned check_port)
{
    cr_assert_lt(index, nodes->n);
    cr_expect_str_eq(nodes->items[index].name, name);
    cr_expect_str_eq(nodes->items[index].host, host);
    cr_expect_eq(nodes->items[index].port, port);
    cr_expect_eq(nodes->items[index].check_port, check_port);
}

Test(lists, reads_nodes_in_all_their_forms)
{
    struct node_list nodes =
        nodes_of("pg1=10.0.0.1:5432:8008, pg2.example.org:5433:8009,pg3:5434 ,"
                 "\tpg-4=[fd00::4]:5435:8010,  [fd00::5]:1, [fe80::6%lo]:65535:1");

    cr_expect_eq(nodes.n, 6);
    expect_node(&nodes, 0, "pg1", "10.0.0.1", 5432, 8008);
    expect_node(&nodes, 1, "pg2", "pg2.example.org", 5433, 8009);
    expect_node(&nodes, 2, "pg3", "pg3", 5434, 0);
    expect_node(&nodes, 3, "pg-4", "fd00::4", 5435, 8010);
    expect_node(&nodes, 4, "fd00::5", "fd00::5", 1, 0);
    expect_node(&nodes, 5, "fe80::6%lo", "fe80::6%lo", 65535, 1);
    lists_clear_nodes(&nodes);
}

Test(lists, names_a_node_by_its_host_up_to_the_first_dot)
{
    struct node_list nodes = nodes_of("pg1.a.b:1, pg2:1, 10.1.2.3:1, [::1]:1");

    expect_node(&nodes, 0, "pg1", "pg1.a.b", 1, 0);
    expect_node(&nodes, 1, "pg2", "pg2", 1, 0);
    expect_node(&nodes, 2, "10.1.2.3", "10.1.2.3", 1, 0);
    expect_node(&nodes, 3, "::1", "::1", 1, 0);
    lists_clear_nodes(&nodes);
}

Test(lists, keeps_the_whole_host_where_short_names_would_be_the_same)
{
    struct node_list nodes = nodes_of("pg.a:1, pg.b:1, pg2.c:1, x=d:1, x.e:1");

    expect_node(&nodes, 0, "pg.a", "pg.a", 1, 0);
    expect_node(&nodes, 1, "pg.b", "pg.b", 1, 0);
    expect_node(&nodes, 2, "pg2", "pg2.c", 1, 0);
    expect_node(&nodes, 3, "x", "d", 1, 0);
    expect_node(&nodes, 4, "x.e", "x.e", 1, 0);
    lists_clear_nodes(&nodes);
}

Test(lists, adds_the_port_where_hosts_are_the_same)
{
    struct node_list nodes = nodes_of("127.0.0.1:1, 127.0.0.1:2, [::1]:1, [::1]:2, pg:1");

    expect_node(&nodes, 0, "127.0.0.1:1", "127.0.0.1", 1, 0);
    expect_node(&nodes, 1, "127.0.0.1:2", "127.0.0.1", 2, 0);
    expect_node(&nodes, 2, "[::1]:1", "::1", 1, 0);
    expect_node(&nodes, 3, "[::1]:2", "::1", 2, 0);
    expect_node(&nodes, 4, "pg", "pg", 1, 0);
    lists_clear_nodes(&nodes);
}

#define NODE_FORM \
    "expected name=host:port or name=host:port:patroniport, IPv6 as [v6]:port"

Test(lists, says_which_node_is_wrong_and_what_it_should_be)
{
    static const struct {
        const char *text;
        const char *why;
    } examples[] = {
        {"", ""},
        {"  \t ", ""},
        {"a", "entry 1 'a': " NODE_FORM},
        {"a:1,", "entry 2 '': " NODE_FORM},
        {",a:1", "entry 1 '': " NODE_FORM},
        {"a:1, b c:2", "entry 2 'b c:2': " NODE_FORM},
        {"a:1, fd00::1:5432", "entry 2 'fd00::1:5432': " NODE_FORM},
        {"a:1:2:3", "entry 1 'a:1:2:3': " NODE_FORM},
        {"a:0", "entry 1 'a:0': expected ports from 1 to 65535"},
        {"a:65536", "entry 1 'a:65536': expected ports from 1 to 65535"},
        {"a:1:x", "entry 1 'a:1:x': expected ports from 1 to 65535"},
        {"a:1:", "entry 1 'a:1:': expected ports from 1 to 65535"},
        {"a:+1", "entry 1 'a:+1': expected ports from 1 to 65535"},
        {"=a:1", "entry 1 '=a:1': expected a name of letters, digits and . _ -"},
        {"a b=a:1", "entry 1 'a b=a:1': expected a name of letters, digits and . _ -"},
        {"a=b=c:1", "entry 1 'a=b=c:1': " NODE_FORM},
        {"[fd00::1:5432", "entry 1 '[fd00::1:5432': " NODE_FORM},
        {"[fd00::1]5432", "entry 1 '[fd00::1]5432': " NODE_FORM},
        {"[fd00::xyz]:5432", "entry 1 '[fd00::xyz]:5432': " NODE_FORM},
        {"[127.0.0.1]:5432", "entry 1 '[127.0.0.1]:5432': " NODE_FORM},
        {"[fe80::1%a b]:1", "entry 1 '[fe80::1%a b]:1': " NODE_FORM},
        {".a:1", "entry 1 '.a:1': " NODE_FORM},
        {"-a:1", "entry 1 '-a:1': " NODE_FORM},
        {"/tmp/x:1", "entry 1 '/tmp/x:1': " NODE_FORM},
        {"x=a:1, x=b:1",
         "entries 1 and 2 are both named 'x'; expected names that differ"},
        {"a:1, b:2, a:1",
         "entries 1 and 3 are both named 'a:1'; expected names that differ"},
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        struct node_list nodes = {.n = 4711};

        text_init(&why, 1024);
        cr_expect_eq(lists_parse_nodes(examples[i].text, &nodes, &why), VALUE_BAD, "'%s'",
                     examples[i].text);
        cr_expect_str_eq(text_get(&why), examples[i].why);
        cr_expect_eq(nodes.n, 4711, "the result is touched");
        text_clear(&why);
    }
}

Test(lists, shows_no_more_than_the_start_of_a_wrong_entry)
{
    struct node_list nodes = {0};
    char text[1001];

    memset(text, 'x', 1000);
    text[1000] = '\0';
    text_init(&why, 4096);
    cr_expect_eq(lists_parse_nodes(text, &nodes, &why), VALUE_BAD);
    cr_expect_lt(why.length, 200);
    text_clear(&why);
}

Test(lists, takes_256_entries_and_no_more)
{
    struct node_list nodes = {0};
    struct text text;

    text_init(&text, 100000);
    text_init(&why, 1024);
    for (int i = 0; i < LISTS_MAX; i++)
        text_addf(&text, "%snode%d:1", i > 0 ? "," : "", i);
    cr_expect_eq(lists_parse_nodes(text_get(&text), &nodes, &why), VALUE_OK);
    cr_expect_eq(nodes.n, LISTS_MAX);
    lists_clear_nodes(&nodes);

    text_add(&text, ",one_more:1");
    cr_expect_eq(lists_parse_nodes(text_get(&text), &nodes, &why), VALUE_BAD);
    cr_expect_str_eq(text_get(&why), "expected at most 256 entries");
    text_clear(&text);
    text_clear(&why);
}

/* Hosts as [databases] has them. */
static enum value_result make_nodes(const char *text, struct node_list *nodes)
{
    struct name_list hosts = {0};
    enum value_result result;

    text_clear(&why);
    text_init(&why, 1024);
    cr_assert_eq(lists_parse_names(text, &hosts, &why), VALUE_OK);
    result = lists_make_nodes(&hosts, 5432, nodes, &why);
    lists_clear_names(&hosts);
    return result;
}

Test(lists, makes_nodes_of_hosts)
{
    struct node_list nodes = {0};

    cr_expect_eq(make_nodes("pg1.a, 10.0.0.1, ::1, [::2], pg_2", &nodes), VALUE_OK);
    cr_expect_eq(nodes.n, 5);
    expect_node(&nodes, 0, "pg1", "pg1.a", 5432, 0);
    expect_node(&nodes, 1, "10.0.0.1", "10.0.0.1", 5432, 0);
    expect_node(&nodes, 2, "::1", "::1", 5432, 0);
    expect_node(&nodes, 3, "::2", "::2", 5432, 0);
    expect_node(&nodes, 4, "pg_2", "pg_2", 5432, 0);
    lists_clear_nodes(&nodes);
}

Test(lists, makes_no_nodes_of_what_is_no_host)
{
    static const struct {
        const char *text;
        const char *why;
    } examples[] = {
        {"a, b c", "entry 2 'b c': expected a host's name or number"},
        {"*", "entry 1 '*': expected a host's name or number"},
        {"[]", "entry 1 '[]': expected a host's name or number"},
        {"[", "entry 1 '[': expected a host's name or number"},
        {"[a]", "entry 1 '[a]': expected a host's name or number"},
        {"::x", "entry 1 '::x': expected a host's name or number"},
        {"a:1", "entry 1 'a:1': expected a host's name or number"},
        {"a, A.b, a",
         "entries 1 and 3 are both named 'a:5432'; expected names that differ"},
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        struct node_list nodes = {.n = 4711};

        cr_expect_eq(make_nodes(examples[i].text, &nodes), VALUE_BAD, "%s",
                     examples[i].text);
        cr_expect_str_eq(text_get(&why), examples[i].why);
        cr_expect_eq(nodes.n, 4711, "the result is touched");
    }
    text_clear(&why);
}

Test(lists, survives_each_allocation_failure_while_it_makes_nodes)
{
    char *items[] = {(char[]){"pg1"}, (char[]){"[::1]"}, (char[]){"::2"}};
    const struct name_list hosts = {items, COUNT_OF(items)};
    bool has_failed = true;

    for (unsigned nth = 1; has_failed; nth++) {
        struct node_list nodes = {0};
        enum value_result result;

        memory_fail_at = nth;
        result = lists_make_nodes(&hosts, 1, &nodes, &why);
        has_failed = memory_fail_at == 0;
        memory_fail_at = 0;
        cr_expect_eq(result, has_failed ? VALUE_NO_MEMORY : VALUE_OK);
        lists_clear_nodes(&nodes);
        text_clear(&why);
    }
}

Test(lists, knows_the_same_host_in_another_spelling)
{
    cr_expect(lists_is_same_host("pg1", "PG1"));
    cr_expect(lists_is_same_host("::1", "0:0::1"));
    cr_expect(lists_is_same_host("127.0.0.1", "::ffff:127.0.0.1"));
    cr_expect_not(lists_is_same_host("pg1", "pg1.a"));
    cr_expect_not(lists_is_same_host("127.0.0.1", "127.0.0.2"));
    cr_expect_not(lists_is_same_host("pg1", "127.0.0.1"));
}

Test(lists, reads_names_and_none_at_all)
{
    struct name_list names = {0};

    text_init(&why, 1024);
    cr_expect_eq(lists_parse_names("pg1, pg2 ,pg3", &names, &why), VALUE_OK);
    cr_expect_eq(names.n, 3);
    cr_expect_str_eq(names.items[0], "pg1");
    cr_expect_str_eq(names.items[1], "pg2");
    cr_expect_str_eq(names.items[2], "pg3");
    lists_clear_names(&names);

    cr_expect_eq(lists_parse_names("", &names, &why), VALUE_OK);
    cr_expect_eq(names.n, 0);

    cr_expect_eq(lists_parse_names("a,,b", &names, &why), VALUE_BAD);
    cr_expect_str_eq(text_get(&why), "entry 2 '': expected a name");
    text_clear(&why);
}

Test(lists, reads_stores_in_all_their_forms)
{
    static const struct {
        const char *host;
        uint16_t port;
        enum store_scheme scheme;
    } expected[] = {{"etcd1", 2379, STORE_SCHEME_NONE},
                    {"10.0.0.1", 1, STORE_SCHEME_HTTP},
                    {"etcd.example.org", 65535, STORE_SCHEME_HTTPS},
                    {"fd00::1", 2379, STORE_SCHEME_HTTPS},
                    {"::1", 2379, STORE_SCHEME_NONE}};
    struct store_list stores = {0};

    text_init(&why, 1024);
    cr_assert_eq(lists_parse_stores("etcd1:2379,http://10.0.0.1:1, "
                                    "HTTPS://etcd.example.org:65535/ ,"
                                    "https://[fd00::1]:2379,[::1]:2379",
                                    &stores, &why),
                 VALUE_OK, "%s", text_get(&why));
    cr_assert_eq(stores.n, COUNT_OF(expected));
    for (size_t i = 0; i < stores.n; i++) {
        cr_expect_str_eq(stores.items[i].host, expected[i].host);
        cr_expect_eq(stores.items[i].port, expected[i].port);
        cr_expect_eq(stores.items[i].scheme, expected[i].scheme);
    }
    lists_clear_stores(&stores);
    cr_expect_eq(lists_parse_stores("", &stores, &why), VALUE_OK);
    cr_expect_eq(stores.n, 0);
}

Test(lists, says_which_store_is_wrong)
{
    static const char *const wrong[] = {
        "etcd1",    "etcd1:",   "etcd1:0",   "etcd1:65536", "etcd1:2379/",
        ":2379",    "a:1:2",    "ftp://a:1", "https://a",   "https://a:1/x",
        "https://", "::1:2379", "a:1,,b:1",  "user@a:1",    "/path"};

    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        struct store_list stores = {0};

        text_init(&why, 1024);
        cr_expect_eq(lists_parse_stores(wrong[i], &stores, &why), VALUE_BAD, "%s",
                     wrong[i]);
        cr_expect_neq(why.length, 0, "%s", wrong[i]);
        cr_expect_eq(stores.n, 0);
        text_clear(&why);
    }
}

Test(lists, reads_addresses_to_listen_on)
{
    struct endpoint_list list = {0};

    text_init(&why, 1024);
    cr_expect_eq(lists_parse_endpoints("*:5000, [::1]:5001,/run/x.sock , pg-proxy:5002",
                                       &list, &why),
                 VALUE_OK);
    cr_assert_eq(list.n, 4);
    cr_expect_str_eq(list.items[0].host, "*");
    cr_expect_str_eq(list.items[1].host, "::1");
    cr_expect_eq(list.items[1].port, 5001);
    cr_expect_str_eq(list.items[2].path, "/run/x.sock");
    cr_expect_str_eq(list.items[3].host, "pg-proxy");
    lists_clear_endpoints(&list);
    text_clear(&why);
}

Test(lists, says_which_address_is_wrong)
{
    static const struct {
        const char *text;
        const char *why;
    } examples[] = {
        {"", ""},
        {"*:5000, 5001",
         "entry 2 '5001': expected host:port, [v6]:port, *:port or /path"},
        {"*:5000,", "entry 2 '': expected host:port, [v6]:port, *:port or /path"},
        {"a b:5000",
         "entry 1 'a b:5000': expected a host's name or number in front of the port"},
        {"**:5000",
         "entry 1 '**:5000': expected a host's name or number in front of the port"},
        {"[::1%a b]:5000",
         "entry 1 '[::1%a b]:5000': expected an IPv6 address between the brackets"},
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        struct endpoint_list list = {.n = 4711};

        text_init(&why, 1024);
        cr_expect_eq(lists_parse_endpoints(examples[i].text, &list, &why), VALUE_BAD,
                     "'%s'", examples[i].text);
        cr_expect_str_eq(text_get(&why), examples[i].why);
        cr_expect_eq(list.n, 4711, "the result is touched");
        text_clear(&why);
    }
}

Test(lists, compares_nodes_by_all_that_they_are)
{
    static const char *const texts[] = {"a=h:1:2",          "b=h:1:2",         "a=i:1:2",
                                        "a=h:2:2",          "a=h:1:3",         "a=h:1",
                                        "a=h:1:2, c=h:1:2", "c=h:1:2, a=h:1:2"};

    for (size_t i = 0; i < COUNT_OF(texts); i++)
        for (size_t j = 0; j < COUNT_OF(texts); j++) {
            struct node_list a = nodes_of(texts[i]), b = nodes_of(texts[j]);

            cr_expect_eq(lists_equal_nodes(&a, &b), i == j, "%s and %s", texts[i],
                         texts[j]);
            lists_clear_nodes(&a);
            lists_clear_nodes(&b);
        }
}

Test(lists, compares_names_and_addresses)
{
    static const char *const texts[] = {"a:1", "b:1", "a:1,b:1", "b:1,a:1", "a:2", "/a"};

    text_init(&why, 1024);
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        for (size_t j = 0; j < COUNT_OF(texts); j++) {
            struct name_list names_a = {0}, names_b = {0};
            struct endpoint_list list_a = {0}, list_b = {0};

            cr_assert_eq(lists_parse_names(texts[i], &names_a, &why), VALUE_OK);
            cr_assert_eq(lists_parse_names(texts[j], &names_b, &why), VALUE_OK);
            cr_assert_eq(lists_parse_endpoints(texts[i], &list_a, &why), VALUE_OK);
            cr_assert_eq(lists_parse_endpoints(texts[j], &list_b, &why), VALUE_OK);
            cr_expect_eq(lists_equal_names(&names_a, &names_b), i == j);
            cr_expect_eq(lists_equal_endpoints(&list_a, &list_b), i == j);
            lists_clear_names(&names_a);
            lists_clear_names(&names_b);
            lists_clear_endpoints(&list_a);
            lists_clear_endpoints(&list_b);
        }
}

Test(lists, clears_what_is_zeroed)
{
    lists_clear_nodes(&(struct node_list){0});
    lists_clear_names(&(struct name_list){0});
    lists_clear_endpoints(&(struct endpoint_list){0});
    lists_clear_node(&(struct node_config){0});
}

Test(lists, knows_a_name_when_it_sees_one)
{
    char longest[255];

    memset(longest, 'a', 254);
    longest[254] = '\0';
    cr_expect(lists_is_name("pg-1.a_b"));
    cr_expect(lists_is_name("_1"));
    cr_expect(lists_is_name("9"));
    cr_expect(lists_is_name(longest + 1));
    cr_expect_not(lists_is_name(longest));
    cr_expect_not(lists_is_name(""));
    cr_expect_not(lists_is_name("-a"));
    cr_expect_not(lists_is_name(".a"));
    cr_expect_not(lists_is_name("a b"));
    cr_expect_not(lists_is_name("a:b"));
    cr_expect_not(lists_is_name("ä"));
}

Test(lists, survives_each_allocation_failure)
{
    bool has_failed = true;

    for (unsigned nth = 1; has_failed; nth++) {
        struct node_list nodes = {0};
        struct name_list names = {0};
        struct endpoint_list list = {0};
        enum value_result results[3];

        text_init(&why, 1024);
        memory_fail_at = nth;
        results[0] = lists_parse_nodes("a=h:1:2, h.x:2, h.y:2, h:3, h:4", &nodes, &why);
        results[1] = lists_parse_names("a, b", &names, &why);
        results[2] = lists_parse_endpoints("a:1, /b", &list, &why);
        has_failed = memory_fail_at == 0;
        memory_fail_at = 0;

        for (int i = 0; i < 3; i++)
            cr_expect(results[i] == VALUE_OK || results[i] == VALUE_NO_MEMORY);
        cr_expect_eq(has_failed, results[0] != VALUE_OK || results[1] != VALUE_OK ||
                                     results[2] != VALUE_OK);
        cr_expect_eq(nodes.n, results[0] == VALUE_OK ? 5 : 0);
        lists_clear_nodes(&nodes);
        lists_clear_names(&names);
        lists_clear_endpoints(&list);
        text_clear(&why);
    }
}
