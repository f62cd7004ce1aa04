#include "health/membership.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"

static struct loop *loop;
static struct resolver *resolver;
static struct http *http;
static struct sql_turn turn;
static struct config *config;
static struct cluster *cluster;
static uint32_t next_id = 1;

static void on_change(void *arg)
{
    (void)arg;
}

static struct cluster *make_cluster(void)
{
    const struct node_tools tools = {
        .loop = loop, .http = http, .resolver = resolver, .sql_turn = &turn};

    return cluster_new(&tools, &config->clusters[0], config, on_change, NULL);
}

static void open_all(void)
{
    struct text errors;

    loop = loop_new(false);
    resolver = resolver_new(loop);
    http = http_new(loop);
    text_init(&errors, 1000);
    config =
        config_load_text("t.ini",
                         "[cluster main]\netcd = 127.0.0.1:1\nscope = main\n"
                         "[listener rw]\nbind = 127.0.0.1:15999\ncheck_uri = /sync\n",
                         &errors);
    cr_assert_not_null(config, "%s", text_get(&errors));
    text_clear(&errors);
    cluster = make_cluster();
    cr_assert(cluster != NULL && cluster_inherit(cluster, NULL, &next_id));
}

static void close_all(void)
{
    cluster_free(cluster);
    config_release(config);
    http_free(http);
    resolver_free(resolver);
    loop_free(loop);
}

TestSuite(membership, .init = open_all, .fini = close_all, .timeout = 20);

/* Members of these names, at ports of their own. */
static void name_members(const char *names)
{
    struct store_view *view = &cluster->view;

    store_view_clear(view);
    view->is_live = true;
    view->members = memory_zeroed(strlen(names) * sizeof *view->members + 1);
    cr_assert_not_null(view->members);
    for (; *names != '\0'; names++) {
        struct store_member *member = &view->members[view->n_members++];

        snprintf(member->name, sizeof member->name, "%c", *names);
        snprintf(member->host, sizeof member->host, "127.0.0.1");
        member->port = (uint16_t)(5400 + *names);
        member->rest_port = (uint16_t)(8000 + *names);
    }
}

static enum membership follow(const char *names)
{
    name_members(names);
    return membership_follow(cluster, &next_id);
}

/* The nodes' names in their order. */
static const char *nodes(void)
{
    static char names[32];

    for (size_t i = 0; i < cluster->n_nodes; i++) {
        names[i] = cluster->nodes[i]->config->name[0];
        cr_expect_eq(cluster->candidates[i].verdict, &cluster->nodes[i]->verdict);
        cr_expect_str_eq(cluster->candidates[i].name, cluster->nodes[i]->config->name);
    }
    names[cluster->n_nodes] = '\0';
    return names;
}

Test(membership, nodes_come_and_go)
{
    const struct node *b;
    uint32_t id;

    cr_expect_not(cluster_is_ready(cluster));
    cr_expect_eq(follow(""), MEMBERSHIP_STAYS);
    cr_expect_eq(follow("ab"), MEMBERSHIP_CHANGED);
    cr_expect_str_eq(nodes(), "ab");
    b = cluster->nodes[1];
    id = b->id;
    cr_expect_eq(b->config->port, 5400 + 'b');
    cr_expect_eq(b->config->check_port, 8000 + 'b');
    cr_expect_neq(id, 0);
    cr_expect_neq(id, cluster->nodes[0]->id);
    cr_expect_eq(follow("ab"), MEMBERSHIP_STAYS);
    cr_expect_eq(follow("bcd"), MEMBERSHIP_CHANGED);
    cr_expect_str_eq(nodes(), "bcd");
    cr_expect_eq(cluster->nodes[0], b, "with all that is known of it");
    cr_expect_eq(b->id, id);
    cr_expect_eq(follow("cd"), MEMBERSHIP_CHANGED);
    cr_expect_str_eq(nodes(), "cd");
    cr_expect_eq(follow("bcd"), MEMBERSHIP_CHANGED);
    cr_expect_gt(cluster->nodes[0]->id, id, "it is new");
}

Test(membership, the_election_follows)
{
    cr_assert_eq(follow("bcd"), MEMBERSHIP_CHANGED);
    cluster->election.primary = 1;
    cluster->election.fence_keeper = 2;
    cr_assert_eq(follow("abcde"), MEMBERSHIP_CHANGED);
    cr_expect_eq(cluster->election.primary, 2);
    cr_expect_eq(cluster->election.fence_keeper, 3);
    cr_assert_eq(follow("c"), MEMBERSHIP_CHANGED);
    cr_expect_eq(cluster->election.primary, 0);
    cr_expect_eq(cluster->election.fence_keeper, -1);
}

Test(membership, the_primary_stays_without_its_key)
{
    cr_assert_eq(follow("abc"), MEMBERSHIP_CHANGED);
    cluster->election.primary = 0;
    cr_expect_eq(follow("bc"), MEMBERSHIP_STAYS);
    cr_expect_str_eq(nodes(), "abc");
    cr_expect_eq(follow("bcd"), MEMBERSHIP_CHANGED);
    cr_expect_str_eq(nodes(), "bcda");
    cr_expect_eq(cluster->election.primary, 3);
    cluster->election.primary = -1;
    cr_expect_eq(follow("bcd"), MEMBERSHIP_CHANGED);
    cr_expect_str_eq(nodes(), "bcd");
}

Test(membership, all_stay_where_there_is_no_member)
{
    cr_assert_eq(follow("abc"), MEMBERSHIP_CHANGED);
    cr_expect_eq(follow(""), MEMBERSHIP_STAYS);
    cr_expect_str_eq(nodes(), "abc");
}

Test(membership, another_address_is_another_node)
{
    uint32_t id;

    cr_assert_eq(follow("ab"), MEMBERSHIP_CHANGED);
    id = cluster->nodes[0]->id;
    cluster->election.primary = 0;
    name_members("ab");
    cluster->view.members[0].port++;
    cr_expect_eq(membership_follow(cluster, &next_id), MEMBERSHIP_CHANGED);
    cr_expect_str_eq(nodes(), "ab");
    cr_expect_neq(cluster->nodes[0]->id, id);
    cr_expect_eq(cluster->election.primary, -1);
}

Test(membership, what_cannot_be_a_node_is_left_out)
{
    name_members("abcd");
    snprintf(cluster->view.members[0].name, NODE_NAME_MAX, "a b");
    cluster->view.members[1].host[0] = '\0';
    cluster->view.members[2].port = 0;
    cr_expect_eq(membership_follow(cluster, &next_id), MEMBERSHIP_CHANGED);
    cr_expect_str_eq(nodes(), "d");
}

Test(membership, a_new_configuration_takes_over)
{
    struct cluster *other = make_cluster();
    struct node_load *load;
    uint32_t id;

    cr_assert_eq(follow("ab"), MEMBERSHIP_CHANGED);
    id = cluster->nodes[1]->id;
    load = cluster->nodes[1]->load;
    cr_assert(other != NULL && cluster_inherit(other, cluster, &next_id));
    cr_assert_eq(other->n_nodes, 2);
    cr_expect_eq(other->nodes[1]->id, id);
    cr_expect_eq(other->nodes[1]->load, load);
    cr_expect_not(other->view.is_live);
    cluster_free(other);
}

Test(membership, a_node_is_found_by_patronis_name)
{
    cr_assert_eq(follow("ab"), MEMBERSHIP_CHANGED);
    cr_expect_eq(cluster_find_node(cluster, "b"), 1);
    cr_expect_eq(cluster_find_node(cluster, "c"), -1);
    /* As where the configuration has names of its own. */
    snprintf(cluster->view.members[1].name, NODE_NAME_MAX, "patroni-b");
    cr_expect_eq(cluster_find_node(cluster, "patroni-b"), 1);
}

Test(membership, survives_each_allocation_failure)
{
    unsigned n_failed = 0;

    cr_assert_eq(follow("ab"), MEMBERSHIP_CHANGED);
    for (unsigned nth = 1; memory_fail_at == 0; nth++) {
        name_members("bcd");
        memory_fail_at = nth;
        if (membership_follow(cluster, &next_id) == MEMBERSHIP_NO_MEMORY) {
            cr_expect_str_eq(nodes(), "ab");
            n_failed++;
        }
    }
    memory_fail_at = 0;
    cr_expect_str_eq(nodes(), "bcd");
    cr_expect_geq(n_failed, 10);
}

Test(membership, a_cluster_survives_each_allocation_failure)
{
    unsigned n_failed = 0;

    cr_assert_eq(follow("ab"), MEMBERSHIP_CHANGED);
    for (unsigned nth = 1; memory_fail_at == 0; nth++) {
        struct cluster *other;

        memory_fail_at = nth;
        other = make_cluster();
        if (other == NULL || !cluster_inherit(other, cluster, &next_id))
            n_failed++;
        cluster_free(other);
    }
    memory_fail_at = 0;
    cr_expect_geq(n_failed, 15);
}
