/* Answers of GET /cluster and POST /switchover, as Patroni 3.0 and 4.0 give them. */
#include "health/patroni_members.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

TestSuite(patroni_members, .timeout = 10);

static const char answer[] =
    "{\"members\": ["
    "{\"name\": \"pg-a\", \"role\": \"leader\", \"state\": \"running\", "
    "\"api_url\": \"http://10.0.0.1:8008/patroni\", \"host\": \"10.0.0.1\", "
    "\"port\": 5432, \"timeline\": 3}, "
    "{\"name\": \"pg-b\", \"role\": \"sync_standby\", \"state\": \"streaming\", "
    "\"host\": \"10.0.0.1\", \"port\": 5433, \"lag\": 0}, "
    "{\"name\": \"pg-c\", \"role\": \"replica\", \"state\": \"running\", "
    "\"host\": \"DB3.example\", \"port\": 5432, \"lag\": \"unknown\"}, "
    "{\"name\": \"a\", \"role\": \"replica\", \"state\": \"stopped\"}]}";

static struct topology_node node_at(const char *name, const char *host,
                                    const char *number, uint16_t port)
{
    struct topology_node node = {.n_addresses = 1};

    strcpy(node.name, name);
    strcpy(node.host, host);
    cr_assert(address_parse(number, port, &node.addresses[0]));
    return node;
}

static struct patroni_members members;

static bool read_for(const struct topology_node *from, const struct topology_node *to)
{
    return patroni_read_members(answer, sizeof answer - 1, from, to, &members);
}

Test(patroni_members, are_found_by_their_addresses_first)
{
    struct topology_node a = node_at("a", "one", "10.0.0.1", 5432);
    struct topology_node b = node_at("b", "one", "10.0.0.1", 5433);

    cr_assert(read_for(&a, &b));
    cr_expect_str_eq(members.leader, "pg-a");
    cr_expect_str_eq(members.from, "pg-a", "not the member that is called as our node");
    cr_expect_str_eq(members.to, "pg-b");
    cr_expect_not(members.is_paused);
}

Test(patroni_members, are_found_by_host_in_any_case_and_by_name)
{
    struct topology_node c = node_at("c", "db3.EXAMPLE", "10.0.0.3", 5432);
    struct topology_node a = node_at("a", "elsewhere", "10.9.9.9", 5432);
    struct topology_node nobody = node_at("x", "10.0.0.1", "10.0.0.1", 1);

    cr_assert(read_for(&c, &a));
    cr_expect_str_eq(members.from, "pg-c");
    cr_expect_str_eq(members.to, "a");
    cr_assert(read_for(&nobody, NULL));
    cr_expect_str_eq(members.from, "", "the port counts");
    cr_expect_str_eq(members.to, "");
    a.n_addresses = 0;
    cr_assert(read_for(&a, NULL));
    cr_expect_str_eq(members.from, "a");
}

Test(patroni_members, tell_of_a_pause_and_of_no_leader)
{
    static const char paused[] =
        "{\"members\": [{\"name\": \"n\", \"role\": \"replica\"}], \"pause\": true}";
    struct topology_node n = node_at("n", "n", "10.0.0.1", 5432);

    cr_assert(patroni_read_members(paused, sizeof paused - 1, &n, NULL, &members));
    cr_expect(members.is_paused);
    cr_expect_str_eq(members.leader, "");
    cr_expect_str_eq(members.from, "n");
}

Test(patroni_members, bear_any_bytes)
{
    static const char *const bodies[] = {
        "", "{", "[]", "7", "null", "{\"members\": 7}", "{\"members\": {}}", "\xff\xfe",
    };
    static const char odd[] =
        "{\"members\": [7, null, {}, {\"name\": 7, \"port\": \"x\"}, "
        "{\"host\": [], \"role\": {}}], \"pause\": \"yes\"}";
    struct topology_node n = node_at("n", "n", "10.0.0.1", 5432);
    char long_name[400];

    for (size_t i = 0; i < COUNT_OF(bodies); i++)
        cr_expect_not(
            patroni_read_members(bodies[i], strlen(bodies[i]), &n, &n, &members), "%s",
            bodies[i]);
    cr_expect(patroni_read_members(odd, sizeof odd - 1, &n, &n, &members));
    cr_expect_not(members.is_paused);
    cr_expect_str_eq(members.from, "");
    snprintf(long_name, sizeof long_name,
             "{\"members\": [{\"name\": \"%0300d\", \"role\": \"leader\"}]}", 0);
    cr_expect(patroni_read_members(long_name, strlen(long_name), &n, NULL, &members));
    cr_expect_str_eq(members.leader, "", "too long to be anybody");
}

Test(patroni_members, a_switchover_is_asked_for_in_json)
{
    struct text out;

    text_init(&out, 1000);
    cr_assert(patroni_write_switchover("a \"b\"", "", &out));
    cr_expect_str_eq(text_get(&out), "{\"leader\": \"a \\\"b\\\"\"}");
    text_clear(&out);
    cr_assert(patroni_write_switchover("a", "c", &out));
    cr_expect_str_eq(text_get(&out), "{\"leader\": \"a\", \"candidate\": \"c\"}");
    text_clear(&out);
    cr_expect_not(patroni_write_switchover("\xff", "", &out), "no UTF-8");
    text_init(&out, 5);
    cr_expect_not(patroni_write_switchover("leader", "", &out), "no room");
    text_clear(&out);
}

Test(patroni_members, its_words_are_one_printable_line)
{
    char words[24];

    patroni_read_words("leader name\tdoes\x1b[1m not\r\n", words, sizeof words);
    cr_expect_str_eq(words, "leader name?does?[1m no");
    patroni_read_words("candidate gone\n", words, sizeof words);
    cr_expect_str_eq(words, "candidate gone");
    patroni_read_words("\n", words, sizeof words);
    cr_expect_str_eq(words, "");
}

Test(patroni_members, some_answers_leave_it_open)
{
    cr_expect(patroni_leaves_open(200, "Successfully switched over to \"b\""));
    cr_expect(patroni_leaves_open(202, "Switchover scheduled"));
    cr_expect(patroni_leaves_open(503, "Switchover status unknown"));
    cr_expect_not(patroni_leaves_open(503, "Switchover failed"));
    cr_expect_not(patroni_leaves_open(412, "candidate does not exists"));
    cr_expect_not(patroni_leaves_open(401, "no auth header received"));
    cr_expect_not(patroni_leaves_open(501, ""));
}
