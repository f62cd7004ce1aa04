/* POST /hold and /release, with a monitor that notes what it is told. */
#include "router/console/holding.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/map.h"

static struct topology *topology;
static struct text body;
static struct holding_request asked;
static struct holding_answer answer;
static struct address peer;

static struct {
    unsigned n_holds, n_releases;
    char cluster[64], node[64], sign[SWITCHOVER_SIGN_MAX];
    bool refuses, was_held;
} seen;

struct topology *monitor_topology(const struct monitor *monitor)
{
    (void)monitor;
    return topology;
}

/* As the monitor does, which keeps the last one only. */
static void publish(void)
{
    struct topology *next;

    if (topology->n_clusters > 1)
        return; /* that is made by hand */
    next = map_next(topology);
    topology_release(topology);
    topology = next;
}

uint64_t monitor_hold(struct monitor *monitor, const char *cluster, const char *node,
                      const char *next, enum hold_cause cause, const char *sign,
                      char why[MONITOR_WHY_MAX])
{
    (void)monitor;
    cr_assert_str_empty(next);
    cr_assert_eq(cause, HOLD_BY_HOOK);
    seen.n_holds++;
    snprintf(seen.cluster, sizeof seen.cluster, "%s", cluster);
    snprintf(seen.node, sizeof seen.node, "%s", node);
    snprintf(seen.sign, sizeof seen.sign, "%s", sign);
    publish();
    snprintf(why, MONITOR_WHY_MAX, "%s", seen.refuses ? "nobody knows the roles" : "");
    return seen.refuses ? 0 : 9;
}

bool monitor_release(struct monitor *monitor, const char *cluster, enum hold_cause cause)
{
    (void)monitor;
    cr_assert_eq(cause, HOLD_BY_HOOK);
    seen.n_releases++;
    snprintf(seen.cluster, sizeof seen.cluster, "%s", cluster);
    publish();
    return seen.was_held;
}

static void open_all(void)
{
    topology = map_new("main", 3);
    text_init(&body, 4096);
    asked = (struct holding_request){.target = "/hold",
                                     .method = "POST",
                                     .authorization = "Bearer sesame",
                                     .body = ""};
}

static void close_all(void)
{
    text_clear(&body);
    topology_release(topology);
}

TestSuite(holding, .init = open_all, .fini = close_all, .timeout = 10);

static unsigned take(const char *token)
{
    json_t *json;

    text_clear(&body);
    seen.n_holds = seen.n_releases = 0;
    answer = holding_take(NULL, token, &asked, &body);
    json = json_loads(text_get(&body), 0, NULL);
    cr_assert(json_is_object(json), "%s", text_get(&body));
    json_decref(json);
    return answer.status;
}

static unsigned ask(const char *target, const char *form)
{
    asked.target = target;
    asked.body = form;
    return take("sesame");
}

static bool says(const char *words)
{
    return strstr(text_get(&body), words) != NULL;
}

Test(holding, two_paths_are_meant)
{
    cr_expect(holding_is_meant("/hold") && holding_is_meant("/release"));
    cr_expect(holding_is_meant("/hold?node=n1"));
    cr_expect_not(holding_is_meant("/holder") || holding_is_meant("/hold/") ||
                  holding_is_meant("/") || holding_is_meant("/releases"));
}

Test(holding, as_patronis_hook_asks)
{
    cr_expect_eq(take("sesame"), 200);
    cr_expect_str_eq(text_get(&body),
                     "{\"cluster\": \"main\", \"node\": \"\", \"hold\": 9}\n");
    cr_expect_eq(seen.n_holds, 1);
    cr_expect_str_eq(seen.cluster, "main");
    cr_expect_str_eq(seen.node, "", "whoever is the primary");
    cr_expect_str_eq(seen.sign, "POST /hold from unix");
}

Test(holding, a_local_one_needs_no_token)
{
    static const char *const tokens[] = {"", "sesame", "other"};

    asked.is_local = true;
    for (size_t i = 0; i < COUNT_OF(tokens); i++) {
        cr_expect_eq(take(tokens[i]), 200);
        cr_expect_eq(seen.n_holds, 1);
    }
    asked.method = "GET";
    cr_expect_eq(take(""), 405, "all other rules hold");
    asked.method = "POST";
    asked.is_local = false;
    cr_expect_eq(take("other"), 401);
    cr_expect_eq(take(""), 403);
    cr_expect(says("unix socket"));
    cr_expect_eq(seen.n_holds, 0);
}

Test(holding, names_stand_in_query_form_or_json)
{
    static const struct {
        const char *target, *form;
    } ways[] = {
        {"/hold?node=n2", ""},
        {"/hold?x=y&node=n%32&cluster=main", ""},
        {"/hold", "node=n2"},
        {"/hold", "cluster=main&node=n2\r\n"},
        {"/hold?cluster=main", "{\"node\": \"n2\"}"},
        {"/hold", "\n {\"node\": \"n2\", \"cluster\": null, \"x\": [1]}"},
        {"/hold?nodes=n1&node=n2&node", "nod=n3"},
    };

    for (size_t i = 0; i < COUNT_OF(ways) - 1; i++) {
        cr_expect_eq(ask(ways[i].target, ways[i].form), 200, "%zu: %s", i,
                     text_get(&body));
        cr_expect_str_eq(seen.node, "n2", "%zu", i);
    }
    cr_expect_eq(ask("/hold?node=n1&node", ""), 200);
    cr_expect_str_eq(seen.node, "", "the last one counts");
}

Test(holding, what_makes_no_sense_is_refused)
{
    static const char *const forms[] = {"node=n%", "node=n%2", "node=n%zz",    "node=%00",
                                        "{",       "{]",       "{\"node\": 7}"};
    static char long_one[200] = "cluster=";

    memset(long_one + 8, 'x', NODE_NAME_MAX);
    for (size_t i = 0; i < COUNT_OF(forms); i++)
        cr_expect_eq(ask("/hold", forms[i]), 400, "%s", forms[i]);
    cr_expect_eq(ask("/hold", long_one), 400);
    cr_expect_eq(ask("/hold?node=n%", ""), 400);
    cr_expect_eq(seen.n_holds, 0);
    cr_expect_eq(ask("/hold?cluster=other", ""), 404);
    cr_expect(says("no such cluster"));
    cr_expect_eq(ask("/hold?node=n4", ""), 404);
    cr_expect(says("no such node"));
    cr_expect_eq(seen.n_holds, 0);
    seen.refuses = true;
    cr_expect_eq(ask("/hold", ""), 409);
    cr_expect(says("{\"error\": \"nobody knows the roles\"}"));
}

Test(holding, only_with_the_token)
{
    static const char *const wrong[] = {"",
                                        "Bearer",
                                        "Bearer ",
                                        "Bearer sesam",
                                        "Bearer sesame ",
                                        "Bearer sesamee",
                                        "Bearer Sesame",
                                        "Basic sesame",
                                        "sesame"};

    for (size_t i = 0; i < COUNT_OF(wrong); i++) {
        asked.authorization = wrong[i];
        cr_expect_eq(take("sesame"), 401, "%s", wrong[i]);
        cr_expect_str_eq(answer.header, "WWW-Authenticate");
        cr_expect_eq(seen.n_holds, 0);
    }
    asked.authorization = "bearer sesame";
    cr_expect_eq(take("sesame"), 200, "a scheme's name has no case");
}

Test(holding, without_a_token_nobody_may)
{
    static const char *const tries[] = {"", "Bearer ", "Bearer x"};

    for (size_t i = 0; i < COUNT_OF(tries); i++) {
        asked.authorization = tries[i];
        cr_expect_eq(take(""), 403, "%s", tries[i]);
        cr_expect(says("set control_token in section [stats]"));
        cr_expect_eq(seen.n_holds, 0);
    }
}

Test(holding, only_by_post_and_not_at_length)
{
    asked.method = "GET";
    cr_expect_eq(take("sesame"), 405);
    cr_expect_str_eq(answer.header, "Allow");
    cr_expect_str_eq(answer.value, "POST");
    cr_expect_eq(take(""), 405);
    asked.method = "POST";
    asked.is_too_long = true;
    cr_expect_eq(take("sesame"), 413);
    cr_expect_eq(seen.n_holds, 0);
}

Test(holding, a_release_tells_whether_there_was_one)
{
    seen.was_held = true;
    cr_expect_eq(ask("/release", ""), 200);
    cr_expect_str_eq(text_get(&body), "{\"cluster\": \"main\", \"released\": true}\n");
    seen.was_held = false;
    cr_expect_eq(ask("/release", "node=n1"), 200);
    cr_expect(says("\"released\": false"));
    cr_expect_eq(seen.n_holds, 0);
    cr_expect_eq(seen.n_releases, 1);
}

/* ---- who asks ---- */

static void ask_from(const char *number)
{
    cr_assert(address_parse(number, 4711, &peer));
    asked.peer = &peer;
    (void)take("sesame");
}

static void move(struct topology_cluster *cluster, size_t node, const char *number)
{
    cr_assert(address_parse(number, 5432, &cluster->nodes[node].addresses[0]));
}

Test(holding, a_primary_that_asks_itself_is_known_by_its_address)
{
    ask_from("127.0.0.1");
    cr_expect_str_eq(seen.node, "", "three nodes have that address");
    move(&topology->clusters[0], 0, "10.0.0.1");
    move(&topology->clusters[0], 1, "10.0.0.2");
    ask_from("10.0.0.1");
    cr_expect_str_eq(seen.node, "n1");
    cr_expect_str_eq(seen.sign, "POST /hold from 10.0.0.1");
    ask_from("10.0.0.2");
    cr_expect_str_eq(seen.node, "", "a replica's machine may speak for another");
    topology->clusters[0].primary = -1;
    ask_from("10.0.0.1");
    cr_expect_str_eq(seen.node, "");
}

Test(holding, of_several_clusters_the_one_whose_node_asks)
{
    struct topology *two = map_new("two", 1), *hosts = map_new("db:5432", 1);
    struct topology_cluster clusters[3] = {topology->clusters[0], two->clusters[0],
                                           hosts->clusters[0]};
    struct topology_cluster *own = topology->clusters;

    move(&clusters[0], 0, "10.0.0.1");
    move(&clusters[1], 0, "10.0.1.1");
    topology->clusters = clusters;
    topology->n_clusters = 3;
    ask_from("10.0.1.1");
    cr_expect_eq(answer.status, 200);
    cr_expect_str_eq(seen.cluster, "two");
    cr_expect_str_eq(seen.node, "n1");
    ask_from("10.9.9.9");
    cr_expect_eq(answer.status, 400);
    cr_expect(says("several clusters"));
    cr_expect_eq(ask("/hold?cluster=main", ""), 200);
    cr_expect_str_eq(seen.cluster, "main");
    topology->clusters = own;
    topology->n_clusters = 1;
    topology_release(two);
    topology_release(hosts);
}
