#include <string.h>

#include "router/console/page_inside.h"
#include "router/console/sums.h"

/* Forms for those who may act: see acts.h. Not kept as things are, so that nothing moves
 * under somebody's hand. */

static void begin_form(const struct overview *overview, const char *title,
                       const char *name, struct text *out)
{
    text_addf(out, "<form method=post action=\"/\"><fieldset><legend>%s ", title);
    html_escape(out, name);
    text_addf(out, "</legend><input type=hidden name=csrf value=%s>", overview->token);
}

static void add_choice(struct text *out, const char *name, const char *label,
                       const char *const *options, size_t n)
{
    text_addf(out, "<label>%s <select name=%s>", label, name);
    for (size_t i = 0; i < n; i++)
        text_addf(out, "<option>%s</option>", options[i]);
    text_add(out, "</select></label> ");
}

static void end_form(const char *button, struct text *out)
{
    text_addf(out, "<button>%s</button></fieldset></form>\n", button);
}

static void add_node_option(const struct overview_cluster *cluster, const char *node,
                            struct text *out)
{
    text_add(out, "<option>");
    html_escape(out, cluster->report.name);
    text_add(out, "/");
    html_escape(out, node);
    text_add(out, "</option>");
}

static void add_nodes_form(const struct overview *overview, struct text *out)
{
    static const char *const actions[] = {"drain", "maint", "ready"};

    begin_form(overview, "A node", "", out);
    text_add(out, "<label>Node <select name=node>");
    for (size_t i = 0; i < overview->n_clusters; i++)
        for (size_t j = 0; j < overview->clusters[i].n_nodes; j++)
            add_node_option(&overview->clusters[i],
                            overview->clusters[i].nodes[j].node.name, out);
    text_add(out, "</select></label> ");
    add_choice(out, "action", "becomes", actions, COUNT_OF(actions));
    end_form("Set", out);
}

/* Pools of one database stand side by side. */
static void add_databases_form(const struct overview *overview, struct text *out)
{
    static const char *const actions[] = {"pause", "resume",  "reconnect",
                                          "kill",  "disable", "enable"};
    const char *before = CONFIG_POOL_LISTENER;

    begin_form(overview, "A database", "", out);
    text_add(out, "<label>Database <input name=db list=databases required></label> "
                  "<datalist id=databases>");
    LIST_EACH(item, &overview->gather->sums->pools)
    {
        const char *name = CONTAINER_OF(item, struct pool_sum, in_list)->database;

        if (strcmp(name, before) == 0 || strcmp(name, CONFIG_POOL_LISTENER) == 0)
            continue;
        text_add(out, "<option value=\"");
        html_escape(out, name);
        text_add(out, "\"></option>");
        before = name;
    }
    text_add(out, "</datalist>");
    add_choice(out, "action", "is to", actions, COUNT_OF(actions));
    end_form("Do it", out);
}

static void add_switchover_form(const struct overview *overview,
                                const struct overview_cluster *cluster, struct text *out)
{
    const struct cluster_config *settings =
        config_cluster(overview->config, cluster->report.name);

    if (settings == NULL || settings->is_implicit)
        return; /* made of a database's hosts: it has no primary */
    begin_form(overview, "Another primary of", cluster->report.name, out);
    text_add(out, "<input type=hidden name=action value=switchover>"
                  "<input type=hidden name=cluster value=\"");
    html_escape(out, cluster->report.name);
    text_add(out, "\"><label>To <select name=to><option value=\"\">whom Patroni chooses"
                  "</option>");
    for (size_t i = 0; i < cluster->n_nodes; i++) {
        if (cluster->nodes[i].node.role != NODE_REPLICA)
            continue;
        text_add(out, "<option>");
        html_escape(out, cluster->nodes[i].node.name);
        text_add(out, "</option>");
    }
    text_add(out, "</select></label> <label><input type=checkbox name=sure value=yes "
                  "required> Yes, move the primary</label> ");
    end_form("Switch over", out);
}

void page_add_forms(const struct overview *overview, struct text *out)
{
    text_add(out, "<h2>Act</h2>\n");
    if (*overview->last_act != '\0') {
        text_add(out, "<p role=status>Last: ");
        html_escape(out, overview->last_act);
        text_add(out, ".</p>\n");
    }
    add_nodes_form(overview, out);
    add_databases_form(overview, out);
    for (size_t i = 0; i < overview->n_clusters; i++)
        add_switchover_form(overview, &overview->clusters[i], out);
}
