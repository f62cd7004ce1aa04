#include "router/route.h"

#include <criterion/criterion.h>
#include <string.h>

#include "tests/lib/map.h"

#define N 5

/* n1 is the primary, n2 to n5 are replicas. */
static struct topology *topology;
static struct topology_cluster *cluster;
static struct topology_node *nodes;
static struct listener_config listener;

static void make_map(void)
{
    topology = map_new("main", N);
    cluster = &topology->clusters[0];
    nodes = cluster->nodes;
    listener.check_uri = (char *)(uintptr_t) "";
    listener.balance = BALANCE_ROUNDROBIN;
}

static void free_map(void)
{
    topology_release(topology);
}

TestSuite(route, .init = make_map, .fini = free_map, .timeout = 20);

static int choose(uint32_t turn)
{
    struct address client = {0};
    struct route_request request = {
        .listener = &listener, .client = &client, .turn = turn};

    return route_choose(cluster, &request);
}

/* Which of n1 to n5 satisfy the question: '1' to '5'. */
static const char *who(bool (*asks)(const struct topology_cluster *,
                                    const struct topology_node *,
                                    const struct listener_config *),
                       enum listener_role role)
{
    static char names[N + 1];
    size_t n = 0;

    listener.role = role;
    for (int i = 0; i < N; i++)
        if (asks(cluster, &nodes[i], &listener))
            names[n++] = (char)('1' + i);
    names[n] = '\0';
    return names;
}

static void expect(enum listener_role role, const char *takes_new, const char *may_stay)
{
    cr_expect_str_eq(who(route_takes_new, role), takes_new, "role %d: %s take new ones",
                     role, who(route_takes_new, role));
    cr_expect_str_eq(who(route_may_stay, role), may_stay, "role %d: %s keep theirs", role,
                     who(route_may_stay, role));
}

/* For the roles primary, replica, read-only, any in this order. */
static void expect_all(const char *const takes_new[4], const char *const may_stay[4])
{
    for (int role = 0; role < 4; role++)
        expect((enum listener_role)role, takes_new[role], may_stay[role]);
}

#define ALL(primary, replica, read_only, any) \
    (const char *const[]) \
    { \
        primary, replica, read_only, any \
    }

Test(route, each_role_has_its_nodes)
{
    expect_all(ALL("1", "2345", "12345", "12345"), ALL("1", "2345", "12345", "12345"));
}

Test(route, a_node_that_is_down_is_nobodys)
{
    nodes[0].is_up = nodes[2].is_up = false;
    expect_all(ALL("", "245", "245", "245"), ALL("", "245", "245", "245"));
}

Test(route, a_draining_node_keeps_what_it_has)
{
    nodes[0].is_draining = nodes[1].is_draining = true;
    expect_all(ALL("", "345", "345", "345"), ALL("1", "2345", "12345", "12345"));
}

/* How many of `n` turns each node gets. */
static void count_turns(unsigned n, unsigned counts[N])
{
    memset(counts, 0, N * sizeof *counts);
    for (unsigned i = 0; i < n; i++) {
        int index = choose(i);

        cr_assert(index >= 0 && index < N);
        counts[index]++;
    }
}

Test(route, turns_follow_the_weights)
{
    unsigned counts[N], run = 0;
    int last = -1;

    listener.role = ROLE_REPLICA;
    nodes[1].weight = 4;
    nodes[2].weight = 2;
    nodes[3].weight = 1;
    nodes[4].weight = 1;
    count_turns(8000, counts);
    cr_expect_eq(counts[0], 0);
    for (unsigned i = 1; i < N; i++)
        cr_expect(counts[i] + 10 > 1000 * nodes[i].weight &&
                      counts[i] < 1000 * nodes[i].weight + 10,
                  "node %u: %u turns", i, counts[i]);
    for (unsigned turn = 0; turn < 100; turn++) {
        run = choose(turn) == last ? run + 1 : 1;
        last = choose(turn);
        cr_expect_leq(run, 2, "the heavy one is not asked in long runs");
    }
}

Test(route, sessions_are_weighed)
{
    listener.role = ROLE_REPLICA;
    listener.balance = BALANCE_LEASTCONN;
    nodes[1].weight = 10;
    for (unsigned i = 1; i < N; i++)
        atomic_store(&nodes[i].load->n_sessions, 3);
    atomic_store(&nodes[1].load->n_sessions, 30);
    cr_expect_eq(choose(0), 1, "31 of 10 is less than 4 of 1");
    atomic_store(&nodes[1].load->n_sessions, 40);
    cr_expect_neq(choose(0), 1);
}

Test(route, a_lagging_replica_keeps_what_it_has)
{
    nodes[1].is_lagging = true;
    expect_all(ALL("1", "345", "1345", "12345"), ALL("1", "2345", "12345", "12345"));
}

Test(route, a_replica_that_is_not_for_all_gets_no_new_ones)
{
    nodes[1].is_replica_for_all = false;
    expect_all(ALL("1", "345", "1345", "12345"), ALL("1", "2345", "12345", "12345"));
}

Test(route, a_node_without_an_address_keeps_what_it_has)
{
    nodes[0].n_addresses = nodes[1].n_addresses = 0;
    expect_all(ALL("", "345", "345", "345"), ALL("1", "2345", "12345", "12345"));
}

Test(route, without_a_primary_nobody_is_one)
{
    cluster->primary = -1;
    expect(ROLE_PRIMARY, "", "");
    expect(ROLE_REPLICA, "2345", "2345");
}

Test(route, who_says_primary_is_not_enough)
{
    nodes[1].role = NODE_PRIMARY; /* writable, and not the one that was elected */
    expect_all(ALL("1", "345", "1345", "12345"), ALL("1", "345", "1345", "12345"));
}

Test(route, an_unknown_role_serves_only_any)
{
    nodes[2].role = NODE_UNKNOWN;
    expect_all(ALL("1", "245", "1245", "12345"), ALL("1", "245", "1245", "12345"));
}

Test(route, the_leader_of_a_standby_cluster_is_a_replica)
{
    cluster->primary = -1;
    nodes[0].role = NODE_STANDBY_LEADER;
    nodes[0].is_replica_for_all = true;
    expect_all(ALL("", "12345", "12345", "12345"), ALL("", "12345", "12345", "12345"));
}

Test(route, nodes_of_which_nobody_knows_the_role_serve_every_one)
{
    cluster->primary = -1;
    for (unsigned i = 0; i < N; i++) {
        nodes[i].serves_any_role = true;
        nodes[i].role = NODE_UNKNOWN;
        nodes[i].is_replica_for_all = false;
    }
    nodes[3].is_up = false;
    expect_all(ALL("1235", "1235", "1235", "1235"), ALL("1235", "1235", "1235", "1235"));
}

Test(route, a_uri_of_the_listener_decides_alone)
{
    char first[] = "/sync", second[] = "/replica?lag=1MB", never[] = "/async";

    cluster->check_uris[0] = memory_text(first);
    cluster->check_uris[1] = memory_text(second);
    cluster->n_check_uris = 2;
    nodes[0].uris_ok = 1;
    nodes[1].uris_ok = 2;
    nodes[2].uris_ok = 3;
    nodes[2].is_lagging = true;
    nodes[2].is_replica_for_all = false;
    nodes[3].uris_ok = 3;
    nodes[3].is_up = false;
    listener.check_uri = first;
    expect_all(ALL("13", "13", "13", "13"), ALL("13", "13", "13", "13"));
    listener.check_uri = second;
    expect_all(ALL("23", "23", "23", "23"), ALL("23", "23", "23", "23"));
    listener.check_uri = never;
    expect_all(ALL("", "", "", ""), ALL("", "", "", ""));
    listener.check_uri = first;
    nodes[0].is_draining = true;
    expect_all(ALL("3", "3", "3", "3"), ALL("13", "13", "13", "13"));
}

/* ---- one of them --------------------------------------------------------------------
 */

Test(route, roundrobin_takes_each_in_turn)
{
    listener.role = ROLE_REPLICA;
    for (uint32_t turn = 0; turn < 20; turn++)
        cr_expect_eq(choose(turn), (int)(1 + turn % 4));
}

Test(route, roundrobin_goes_over_the_counters_end)
{
    listener.role = ROLE_REPLICA;
    cr_expect_eq(choose(UINT32_MAX), 4);
    cr_expect_eq(choose(UINT32_MAX + 1u), 1);
}

Test(route, first_takes_the_first_that_there_is)
{
    listener.role = ROLE_REPLICA;
    listener.balance = BALANCE_FIRST;
    for (uint32_t turn = 0; turn < 10; turn++)
        cr_expect_eq(choose(turn), 1);
    nodes[1].is_up = false;
    cr_expect_eq(choose(0), 2);
}

Test(route, random_follows_the_number_it_is_given)
{
    struct address client = {0};
    struct route_request request = {.listener = &listener, .client = &client};
    unsigned n[N] = {0};

    listener.role = ROLE_REPLICA;
    listener.balance = BALANCE_RANDOM;
    for (uint32_t i = 0; i < 4000; i++) {
        request.random = i * 2654435761u;
        request.turn = 7;
        n[route_choose(cluster, &request)]++;
    }
    for (unsigned i = 1; i < N; i++)
        cr_expect(n[i] > 800 && n[i] < 1200, "n%u: %u of 4000", i + 1, n[i]);
}

static void set_sessions(const unsigned sessions[N])
{
    for (unsigned i = 0; i < N; i++)
        atomic_store(&nodes[i].load->n_sessions, sessions[i]);
}

Test(route, leastconn_takes_the_node_with_the_fewest_sessions)
{
    listener.role = ROLE_READ_ONLY;
    listener.balance = BALANCE_LEASTCONN;
    for (uint32_t turn = 0; turn < 10; turn++) {
        set_sessions((const unsigned[N]){5, 4, 3, 4, 5});
        cr_expect_eq(choose(turn), 2);
        set_sessions((const unsigned[N]){0, 4, 3, 4, 5});
        cr_expect_eq(choose(turn), 0);
        set_sessions((const unsigned[N]){9, 4, 3, 4, 2});
        cr_expect_eq(choose(turn), 4);
    }
}

Test(route, leastconn_ties_go_round)
{
    unsigned n[N] = {0};

    listener.role = ROLE_READ_ONLY;
    listener.balance = BALANCE_LEASTCONN;
    for (uint32_t turn = 0; turn < 100; turn++)
        n[choose(turn)]++;
    for (unsigned i = 0; i < N; i++)
        cr_expect_eq(n[i], 20);
    set_sessions((const unsigned[N]){1, 0, 1, 0, 1});
    memset(n, 0, sizeof n);
    for (uint32_t turn = 0; turn < 100; turn++)
        n[choose(turn)]++;
    cr_expect_eq(n[1] + n[3], 100);
    cr_expect(n[1] >= 30 && n[3] >= 30, "%u and %u", n[1], n[3]);
}

Test(route, leastconn_levels_out)
{
    listener.role = ROLE_REPLICA;
    listener.balance = BALANCE_LEASTCONN;
    set_sessions((const unsigned[N]){0, 10, 0, 3, 3});
    for (uint32_t turn = 0; turn < 24; turn++)
        atomic_fetch_add(&nodes[choose(turn)].load->n_sessions, 1);
    for (unsigned i = 1; i < N; i++)
        cr_expect_eq(atomic_load(&nodes[i].load->n_sessions), 10);
}

static int choose_for(uint32_t client, uint16_t port)
{
    struct address address = {.in = {.sin_family = AF_INET,
                                     .sin_port = htons(port),
                                     .sin_addr.s_addr = htonl(0x0a000000 + client)}};
    struct route_request request = {.listener = &listener, .client = &address};

    /* Whatever the turn: the address decides. */
    request.turn = client * 7 + port;
    request.random = port;
    return route_choose(cluster, &request);
}

Test(route, source_leads_an_address_to_the_same_node_always)
{
    unsigned n[N] = {0};

    listener.role = ROLE_READ_ONLY;
    listener.balance = BALANCE_SOURCE;
    for (uint32_t client = 0; client < 1000; client++) {
        int node = choose_for(client, 1);

        n[node]++;
        for (uint16_t port = 2; port < 20; port++)
            cr_assert_eq(choose_for(client, port), node);
    }
    for (unsigned i = 0; i < N; i++)
        cr_expect(n[i] > 120 && n[i] < 290, "n%u: %u of 1000", i + 1, n[i]);
}

Test(route, source_moves_only_those_whose_node_has_gone)
{
    int before[1000];

    listener.role = ROLE_READ_ONLY;
    listener.balance = BALANCE_SOURCE;
    for (uint32_t client = 0; client < 1000; client++)
        before[client] = choose_for(client, 1);
    nodes[2].is_up = false;
    for (uint32_t client = 0; client < 1000; client++) {
        int now = choose_for(client, 1);

        if (before[client] == 2)
            cr_assert_neq(now, 2);
        else
            cr_assert_eq(now, before[client]);
    }
    nodes[2].is_up = true;
    for (uint32_t client = 0; client < 1000; client++)
        cr_assert_eq(choose_for(client, 1), before[client], "they come back");
}

/* ---- not the same again --------------------------------------------------------------
 */

Test(route, what_was_tried_is_left_out_by_every_rule)
{
    static const enum balance rules[] = {BALANCE_ROUNDROBIN, BALANCE_LEASTCONN,
                                         BALANCE_FIRST, BALANCE_RANDOM, BALANCE_SOURCE};
    struct address client = {0};
    struct route_request request = {.listener = &listener, .client = &client};

    listener.role = ROLE_READ_ONLY;
    for (size_t i = 0; i < COUNT_OF(rules); i++) {
        listener.balance = rules[i];
        for (request.turn = 0; request.turn < 20; request.turn++) {
            request.random = request.turn * 2654435761u;
            request.tried = 0;
            for (unsigned n = 0; n < N; n++) {
                int index = route_choose(cluster, &request);

                cr_assert(index >= 0 && index < N);
                cr_assert_not(request.tried & (UINT64_C(1) << index));
                request.tried |= UINT64_C(1) << index;
            }
            cr_assert_eq(route_choose(cluster, &request), -1, "all were tried");
        }
    }
}

Test(route, none_is_chosen_where_there_is_none)
{
    struct topology *empty = map_new("empty", 0);
    struct address client = {0};
    struct route_request request = {.listener = &listener, .client = &client};

    listener.role = ROLE_ANY;
    cr_expect_eq(route_choose(&empty->clusters[0], &request), -1);
    topology_release(empty);
    for (unsigned i = 0; i < N; i++)
        nodes[i].is_up = false;
    cr_expect_eq(choose(0), -1);
}

Test(route, many_nodes_can_be_told_apart)
{
    struct topology *large = map_new("large", ROUTE_NODES_MAX + 5);
    struct address client = {0};
    struct route_request request = {.listener = &listener, .client = &client};
    unsigned n = 0;
    int index;

    listener.role = ROLE_ANY;
    while ((index = route_choose(&large->clusters[0], &request)) >= 0) {
        request.tried |= UINT64_C(1) << index;
        n++;
    }
    cr_expect_eq(n, ROUTE_NODES_MAX);
    topology_release(large);
}

/* ---- why ----------------------------------------------------------------------------
 */

static void expect_why(enum listener_role role, const char *wanted)
{
    char why[ROUTE_WHY_MAX];

    listener.role = role;
    route_why_none(cluster, &listener, why);
    cr_expect_str_eq(why, wanted);
}

Test(route, says_which_role_is_missing_and_why)
{
    strcpy(cluster->why_no_primary, "two nodes claim to be it");
    expect_why(ROLE_PRIMARY, "no primary is available: two nodes claim to be it");
    expect_why(ROLE_REPLICA, "no replica is available");
    expect_why(ROLE_READ_ONLY, "neither a primary nor a replica is available");
    expect_why(ROLE_ANY, "no node is available");
    cluster->why_no_primary[0] = '\0';
    expect_why(ROLE_PRIMARY, "no primary is available: it cannot be connected to");
    listener.check_uri = (char *)(uintptr_t) "/sync";
    for (int role = 0; role < 4; role++)
        expect_why((enum listener_role)role,
                   "no node answers the listener's check_uri with 200");
}

Test(route, says_the_longest_reason_in_full)
{
    char wanted[ROUTE_WHY_MAX];

    memset(cluster->why_no_primary, 'x', sizeof cluster->why_no_primary - 1);
    snprintf(wanted, sizeof wanted, "no primary is available: %s",
             cluster->why_no_primary);
    expect_why(ROLE_PRIMARY, wanted);
}
