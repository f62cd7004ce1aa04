#include "router/console/offer.h"

#include <string.h>

#include "router/route.h"

/* "...?cluster=main", at the end. */
static const char *cluster_wanted(const char *target)
{
    static const char word[] = "?cluster=";
    const char *found = strstr(target, word);

    return found == NULL ? NULL : found + sizeof word - 1;
}

/* Whether a new client of the role would be led to a node now. */
static bool has_node(const struct topology_cluster *cluster, enum listener_role role)
{
    char none[] = "";
    const struct listener_config listener = {.role = role, .check_uri = none};

    for (size_t i = 0; i < cluster->n_nodes; i++)
        if (route_takes_new(cluster, &cluster->nodes[i], &listener))
            return true;
    return false;
}

unsigned offer_status(const struct topology *topology, const char *target,
                      enum listener_role role)
{
    const char *wanted = cluster_wanted(target);
    bool is_offered = true, is_known = false;

    for (size_t i = 0; topology != NULL && i < topology->n_clusters; i++) {
        const struct topology_cluster *cluster = &topology->clusters[i];

        if (wanted != NULL && strcmp(cluster->name, wanted) != 0)
            continue;
        is_known = true;
        is_offered = is_offered && has_node(cluster, role);
    }
    if (wanted != NULL && !is_known)
        return 404;
    return is_known && is_offered ? 200 : 503;
}

const char *offer_text(unsigned status)
{
    return status == 200   ? "there is one"
           : status == 404 ? "no such cluster"
                           : "there is none now";
}
