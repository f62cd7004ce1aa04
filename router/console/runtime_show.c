#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "router/console/haproxy_field.h"
#include "router/console/runtime_act.h"
#include "router/console/views.h"

/* ---- show info ----------------------------------------------------------------------
 */

enum info_form { INFO_PLAIN, INFO_TYPED, INFO_JSON };

struct info {
    enum info_form form;
    struct text *out;
    bool has_some;
};

static void add_field(struct info *info, const struct haproxy_field *field,
                      const char *value)
{
    switch (info->form) {
    case INFO_PLAIN:
        text_addf(info->out, "%s: %s\n", field->name, value);
        break;
    case INFO_TYPED:
        haproxy_add_typed(info->out, field, value);
        break;
    case INFO_JSON:
        text_add(info->out, info->has_some ? ",{" : "[{");
        haproxy_add_json(info->out, field, value);
        break;
    }
    info->has_some = true;
}

static void add_text(struct info *info, unsigned position, const char *name,
                     const char *tags, const char *value)
{
    add_field(info, &(struct haproxy_field){position, name, tags, "str"}, value);
}

static void add_number(struct info *info, unsigned position, const char *name,
                       const char *tags, uint64_t value)
{
    char text[24];

    snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    add_field(info, &(struct haproxy_field){position, name, tags, "u32"}, text);
}

/* ---- its fields ---------------------------------------------------------------------
 */

static void add_process(struct info *info, const struct overview *overview)
{
    unsigned long long s = overview->uptime_ms / 1000;
    char uptime[48];

    snprintf(uptime, sizeof uptime, "%llud %lluh%02llum%02llus", s / 86400, s / 3600 % 24,
             s / 60 % 60, s % 60);
    add_text(info, 0, "Name", "POS", "pgrouter");
    add_text(info, 1, "Version", "POS", PGROUTER_VERSION);
    add_text(info, 2, "Release_date", "POS", "-");
    add_number(info, 3, "Nbthread", "CGS", overview->gather->n_workers + 1);
    add_number(info, 4, "Nbproc", "CGS", 1);
    add_number(info, 5, "Process_num", "KGP", 1);
    add_number(info, 6, "Pid", "SGP", (uint64_t)getpid());
    add_text(info, 7, "Uptime", "MDP", uptime);
    add_number(info, 8, "Uptime_sec", "MDP", s);
    add_number(info, 13, "Ulimit-n", "CLP", (uint64_t)sysconf(_SC_OPEN_MAX));
}

struct front_sum {
    uint64_t n_total, rate, rate_max, bytes_out;
};

static struct front_sum sum_fronts(const struct overview *overview)
{
    struct front_sum sum = {0};

    for (size_t i = 0; i < overview->n_listeners; i++) {
        const struct door *door = overview->listeners[i].door;

        sum.n_total += door->gate.n_total;
        sum.rate += door_rate(door, overview->now_ms);
        sum.rate_max += door->n_most_in_a_second;
        sum.bytes_out += overview->listeners[i].sum.bytes_out;
    }
    return sum;
}

static void add_traffic(struct info *info, const struct overview *overview)
{
    struct front_sum sum = sum_fronts(overview);
    uint64_t n_now = overview->n_admitted + overview->n_in_line;

    add_number(info, 15, "Maxconn", "CLP", overview->max_clients);
    add_number(info, 16, "Hard_maxconn", "CLP", overview->hard_max_clients);
    add_number(info, 17, "CurrConns", "MGP", n_now);
    add_number(info, 18, "CumConns", "MCP", sum.n_total);
    add_number(info, 19, "CumReq", "MCP", sum.n_total);
    add_number(info, 23, "Maxpipes", "CLP", 0);
    add_number(info, 24, "PipesUsed", "MGP", 0);
    add_number(info, 25, "PipesFree", "MGP", 0);
    add_number(info, 26, "ConnRate", "MRP", sum.rate);
    add_number(info, 28, "MaxConnRate", "MMP", sum.rate_max);
    add_number(info, 29, "SessRate", "MRP", sum.rate);
    add_number(info, 31, "MaxSessRate", "MMP", sum.rate_max);
    add_number(info, 47, "Tasks", "MGP", n_now);
    add_number(info, 48, "Run_queue", "MGP", overview->n_in_line);
}

static void show_info(const struct runtime_order *order, const struct overview *overview,
                      struct text *out)
{
    struct info info = {.out = out};
    char host[256] = "";

    if (strcmp(runtime_operand(order, 0), "typed") == 0)
        info.form = INFO_TYPED;
    else if (strcmp(runtime_operand(order, 0), "json") == 0)
        info.form = INFO_JSON;
    gethostname(host, sizeof host - 1);
    host[strcspn(host, "\"\\\n")] = '\0';
    add_process(&info, overview);
    add_traffic(&info, overview);
    add_text(&info, 50, "node", "COS", host);
    add_number(&info, 52, "Stopping", "MGP", overview->is_stopping);
    add_number(&info, 55, "Listeners", "MGP", overview->n_listeners);
    add_number(&info, 61, "TotalBytesOut", "MCP", sum_fronts(overview).bytes_out);
    add_number(&info, 70, "Start_time_sec", "MDP",
               (uint64_t)time(NULL) - overview->uptime_ms / 1000);
    if (info.form == INFO_JSON)
        text_add(out, "]\n");
}

/* ---- show stat ----------------------------------------------------------------------
 */

/* False: it is none, or none that is meant. */
static bool read_number(const char *text, int *number)
{
    char *end;
    long value = strtol(text, &end, 10);

    *number = (int)value;
    return end != text && *end == '\0' && value >= -1 && value <= 1000000;
}

/* "<iid> <type> <sid>", where -1 is any, and a name may stand for the first. */
static void limit(struct csv_filter *filter, const struct runtime_order *order)
{
    int type, server, listener;

    if (!read_number(runtime_operand(order, 1), &type) ||
        !read_number(runtime_operand(order, 2), &server))
        return;
    filter->is_limited = true;
    filter->types = type < 0 ? 7u : (unsigned)type & 7u;
    filter->server = server;
    filter->listener = -1;
    if (read_number(runtime_operand(order, 0), &listener))
        filter->listener = listener;
    else
        filter->name = runtime_operand(order, 0);
}

static void show_stat(const struct runtime_order *order, const struct overview *overview,
                      struct text *out)
{
    struct csv_filter filter = {.is_limited = false};
    void (*view)(const struct overview *overview, const struct csv_filter *filter,
                 struct text *out) = view_csv_rows;

    for (unsigned i = 0; i < order->n_operands; i++) {
        if (strcmp(order->operands[i], "up") == 0)
            filter.only_up = true;
        else if (strcmp(order->operands[i], "no-maint") == 0)
            filter.no_maintenance = true;
        else if (strcmp(order->operands[i], "typed") == 0)
            view = view_typed_rows;
        else if (strcmp(order->operands[i], "json") == 0)
            view = view_json_rows;
    }
    limit(&filter, order);
    view(overview, &filter, out);
}

/* ---- show servers -------------------------------------------------------------------
 */

/* HAProxy's: 0 = stopped, 2 = running. */
static int operational_state(const struct overview_server *server)
{
    return strcmp(view_status(server), "UP") == 0 ||
                   strcmp(view_status(server), "DRAIN") == 0
               ? 2
               : 0;
}

/* Its bits: 1 = forced into maintenance, 8 = forced to drain. */
static int admin_state(const struct topology_node *node)
{
    return node->is_in_maintenance ? 1 : node->is_draining ? 8 : 0;
}

static void address_of(const struct topology_node *node, char text[ADDRESS_TEXT_MAX])
{
    if (node->n_addresses == 0)
        strcpy(text, "-");
    else
        address_print_host(&node->addresses[0], text);
}

/* HAProxy's numbers of check results: 6 = no answer, 7 = passed, ... */
static int check_result(const struct node_report *report)
{
    return report->outcome == REPORT_NONE ? 0 : report->outcome == REPORT_OK ? 3 : 2;
}

static void add_state(const struct overview *overview, size_t i, size_t j,
                      struct text *out)
{
    const struct overview_server *server = &overview->listeners[i].servers[j];
    const struct node_report *report = &server->report;
    char address[ADDRESS_TEXT_MAX];
    uint64_t since_ms = report->changed_at_ms == 0
                            ? overview->uptime_ms
                            : overview->now_ms - report->changed_at_ms;

    address_of(&report->node, address);
    text_addf(
        out, "%zu %s %zu %s %s %d %d %u 1 %llu %d %d %u %d 0 0 0 %s %u - 0 %u - - 0\n",
        i + 1, overview->listeners[i].settings->name, j + 1, report->node.name, address,
        operational_state(server), admin_state(&report->node), report->node.weight,
        (unsigned long long)(since_ms / 1000), report->outcome == REPORT_OK ? 15 : 8,
        check_result(report), report->in_a_row, report->node.is_in_maintenance ? 0 : 6,
        report->node.host, report->port, report->check_port);
}

static void add_connections(const struct overview *overview, size_t i, size_t j,
                            struct text *out)
{
    const struct overview_server *server = &overview->listeners[i].servers[j];
    const struct node_report *report = &server->report;
    char address[ADDRESS_TEXT_MAX];

    address_of(&report->node, address);
    text_addf(out, "%s/%s %zu/%zu %s %u - 0 %llu %llu 0 0 0 0 0\n",
              overview->listeners[i].settings->name, report->node.name, i + 1, j + 1,
              address, report->port, (unsigned long long)server->tally.sessions_now,
              (unsigned long long)server->tally.sessions_max);
}

static void show_servers(const struct runtime_order *order,
                         const struct overview *overview, struct text *out)
{
    const char *backend = runtime_operand(order, 0);
    bool is_state = order->command == RUNTIME_SHOW_SERVERS_STATE, has_it = false;

    for (size_t i = 0; i < overview->n_listeners; i++)
        has_it = has_it || strcmp(overview->listeners[i].settings->name, backend) == 0;
    if (*backend != '\0' && !has_it) {
        text_add(out, "Can't find backend.\n");
        return;
    }
    text_add(out,
             is_state
                 ? "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state "
                   "srv_admin_state srv_uweight srv_iweight srv_time_since_last_change "
                   "srv_check_status srv_check_result srv_check_health srv_check_state "
                   "srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port "
                   "srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr "
                   "srv_agent_port\n"
                 : "# bkname/svname bkid/svid addr port - purge_delay used_cur used_max "
                   "need_est unsafe_nb safe_nb idle_lim idle_cur\n");
    for (size_t i = 0; i < overview->n_listeners; i++)
        for (size_t j = 0; j < overview->listeners[i].n_servers; j++) {
            if (*backend != '\0' &&
                strcmp(overview->listeners[i].settings->name, backend) != 0)
                continue;
            if (is_state)
                add_state(overview, i, j, out);
            else
                add_connections(overview, i, j, out);
        }
}

void runtime_show(const struct runtime_order *order, const struct overview *overview,
                  struct text *out)
{
    if (order->command == RUNTIME_SHOW_INFO)
        show_info(order, overview, out);
    else if (order->command == RUNTIME_SHOW_STAT)
        show_stat(order, overview, out);
    else if (order->command != RUNTIME_CLEAR_COUNTERS) /* that is done by now */
        show_servers(order, overview, out);
}
