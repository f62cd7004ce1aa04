#include "health/membership.h"

#include <string.h>

#include "core/memory.h"

/* The nodes on their way to be the cluster's. */
struct roll {
    struct node **nodes;
    struct node_config **configs;
    struct candidate *candidates;
    size_t n;
    bool has_new;
};

static void free_config(struct node_config *config)
{
    if (config == NULL)
        return;
    memory_free(config->name);
    memory_free(config->host);
    memory_free(config);
}

static struct node_config *make_config(const struct store_member *member)
{
    struct node_config *config = memory_zeroed(sizeof *config);

    if (config == NULL)
        return NULL;
    config->name = memory_text(member->name);
    config->host = memory_text(member->host);
    config->port = member->port;
    config->check_port = member->rest_port;
    if (config->name != NULL && config->host != NULL)
        return config;
    free_config(config);
    return NULL;
}

/* As nodes may be called in a configuration; they are shown in many places. */
static bool is_usable(const struct store_member *member)
{
    size_t n = strspn(member->name, "abcdefghijklmnopqrstuvwxyz"
                                    "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

    return n > 0 && member->name[n] == '\0' && member->host[0] != '\0' &&
           member->port != 0;
}

static bool is_node_of(const struct node *node, const struct store_member *member)
{
    return strcmp(node->config->name, member->name) == 0 &&
           strcmp(node->config->host, member->host) == 0 &&
           node->config->port == member->port &&
           node->config->check_port == member->rest_port;
}

/* SIZE_MAX = there is none. */
static size_t find_node(const struct cluster *cluster, const struct store_member *member)
{
    for (size_t i = 0; i < cluster->n_nodes; i++)
        if (is_node_of(cluster->nodes[i], member))
            return i;
    return SIZE_MAX;
}

static bool is_cluster_node(const struct cluster *cluster, const struct node *node)
{
    for (size_t i = 0; i < cluster->n_nodes; i++)
        if (cluster->nodes[i] == node)
            return true;
    return false;
}

static bool add_node(struct roll *roll, struct cluster *cluster,
                     const struct store_member *member)
{
    size_t old = find_node(cluster, member);
    struct node_config *config;
    struct node *node;

    if (old != SIZE_MAX) {
        roll->nodes[roll->n] = cluster->nodes[old];
        roll->configs[roll->n++] = cluster->found[old];
        return true;
    }
    config = make_config(member);
    node = config == NULL ? NULL : cluster_make_node(cluster, config);
    if (node == NULL) {
        free_config(config);
        return false;
    }
    roll->nodes[roll->n] = node;
    roll->configs[roll->n++] = config;
    roll->has_new = true;
    return true;
}

static bool keeps_primary(const struct cluster *cluster)
{
    return cluster->election.primary >= 0 &&
           store_view_member(&cluster->view,
                             cluster->nodes[cluster->election.primary]->config->name) ==
               NULL;
}

static bool call_roll(struct roll *roll, struct cluster *cluster)
{
    const struct store_view *view = &cluster->view;
    size_t room = view->n_members + 1;

    roll->nodes = memory_zeroed(room * sizeof *roll->nodes);
    roll->configs = memory_zeroed(room * sizeof *roll->configs);
    roll->candidates = memory_zeroed(room * sizeof *roll->candidates);
    if (roll->nodes == NULL || roll->configs == NULL || roll->candidates == NULL)
        return false;
    for (size_t i = 0; i < view->n_members && roll->n < MEMBERSHIP_MAX; i++)
        if (is_usable(&view->members[i]) && !add_node(roll, cluster, &view->members[i]))
            return false;
    if (keeps_primary(cluster)) {
        size_t i = (size_t)cluster->election.primary;

        roll->nodes[roll->n] = cluster->nodes[i];
        roll->configs[roll->n++] = cluster->found[i];
    }
    return true;
}

/* Frees what is not the cluster's. */
static void drop_roll(struct roll *roll, const struct cluster *cluster)
{
    for (size_t i = 0; i < roll->n; i++)
        if (!is_cluster_node(cluster, roll->nodes[i])) {
            node_free(roll->nodes[i]);
            free_config(roll->configs[i]);
        }
    memory_free(roll->nodes);
    memory_free(roll->configs);
    memory_free(roll->candidates);
}

/* Where the node of the index is now; -1 = nowhere. */
static int place_of(const struct cluster *cluster, const struct roll *old, int index)
{
    for (size_t i = 0; index >= 0 && i < cluster->n_nodes; i++)
        if (cluster->nodes[i] == old->nodes[index])
            return (int)i;
    return -1;
}

static void take_over(struct cluster *cluster, struct roll *roll, uint32_t *next_id)
{
    struct roll old = {cluster->nodes, cluster->found, cluster->candidates,
                       cluster->n_nodes, false};
    struct election *election = &cluster->election;

    cluster->nodes = roll->nodes;
    cluster->found = roll->configs;
    cluster->candidates = roll->candidates;
    cluster->n_nodes = roll->n;
    for (size_t i = 0; i < cluster->n_nodes; i++) {
        struct node *node = cluster->nodes[i];

        if (node->id == 0)
            node->id = (*next_id)++;
        cluster->candidates[i].name = node->config->name;
        cluster->candidates[i].verdict = &node->verdict;
    }
    election->primary = place_of(cluster, &old, election->primary);
    election->fence_keeper = place_of(cluster, &old, election->fence_keeper);
    drop_roll(&old, cluster);
}

enum membership membership_follow(struct cluster *cluster, uint32_t *next_id)
{
    struct roll roll = {0};

    if (!call_roll(&roll, cluster)) {
        drop_roll(&roll, cluster);
        return MEMBERSHIP_NO_MEMORY;
    }
    if (roll.n == 0 || (!roll.has_new && roll.n == cluster->n_nodes)) {
        drop_roll(&roll, cluster);
        return MEMBERSHIP_STAYS;
    }
    take_over(cluster, &roll, next_id);
    return MEMBERSHIP_CHANGED;
}

void membership_clear(struct cluster *cluster)
{
    for (size_t i = 0; i < cluster->n_nodes; i++) {
        node_free(cluster->nodes[i]);
        if (cluster->found != NULL)
            free_config(cluster->found[i]);
    }
    memory_free(cluster->nodes);
    memory_free(cluster->found);
    memory_free(cluster->candidates);
    cluster->nodes = NULL;
    cluster->found = NULL;
    cluster->candidates = NULL;
    cluster->n_nodes = 0;
}
