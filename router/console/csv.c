#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "router/console/stat_rows.h"
#include "router/console/views.h"

const char *const stat_column_names[COLUMN_COUNT] = {
#define COLUMN(name) [COLUMN_##name] = #name,
#include "router/console/csv.def"
};

static const char *const modes[] = {[MODE_TCP] = "tcp", [MODE_POOL] = "tcp"};

PRINTF_LIKE(3, 4)
static void set(struct stat_row *row, enum stat_column column, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(row->cells[column], sizeof row->cells[column], format, args);
    va_end(args);
}

static void set_number(struct stat_row *row, enum stat_column column, uint64_t value)
{
    set(row, column, "%llu", (unsigned long long)value);
}

static void begin_row(struct stat_row *row, const struct overview_listener *listener,
                      const char *name, enum stat_type type, size_t listener_number)
{
    memset(row, 0, sizeof *row);
    row->type = type;
    set(row, COLUMN_pxname, "%s", listener->settings->name);
    set(row, COLUMN_svname, "%s", name);
    set_number(row, COLUMN_pid, 1);
    set_number(row, COLUMN_iid, listener_number + 1);
    set_number(row, COLUMN_type, type);
    set(row, COLUMN_mode, "%s", modes[listener->settings->mode]);
}

/* STOP: it accepts nobody any more, and some are still inside. */
static const char *frontend_status(const struct door *door)
{
    if (door->is_shut || door->is_disabled)
        return "STOP";
    return door->gate.max > 0 && door->gate.n_admitted >= door->gate.max ? "FULL"
                                                                         : "OPEN";
}

static void fill_frontend(struct stat_row *row, const struct overview *overview, size_t i)
{
    const struct overview_listener *listener = &overview->listeners[i];
    const struct door *door = listener->door;

    begin_row(row, listener, "FRONTEND", STAT_FRONTEND, i);
    set_number(row, COLUMN_sid, 0);
    set_number(row, COLUMN_scur, door->gate.n_present);
    set_number(row, COLUMN_smax, door->gate.n_present_max);
    set_number(row, COLUMN_slim,
               door->gate.max > 0 ? door->gate.max
                                  : (uint64_t)overview->config->main.max_client_conn);
    set_number(row, COLUMN_stot, door->gate.n_total);
    set_number(row, COLUMN_conn_tot, door->gate.n_total);
    set_number(row, COLUMN_bin, listener->sum.bytes_in);
    set_number(row, COLUMN_bout, listener->sum.bytes_out);
    set_number(row, COLUMN_dreq, listener->front.refused);
    set_number(row, COLUMN_ereq, listener->front.bad_requests);
    set_number(row, COLUMN_rate, door_rate(door, overview->now_ms));
    set_number(row, COLUMN_rate_max, door->n_most_in_a_second);
    set_number(row, COLUMN_conn_rate, door_rate(door, overview->now_ms));
    set_number(row, COLUMN_conn_rate_max, door->n_most_in_a_second);
    set(row, COLUMN_status, "%s", frontend_status(door));
}

/* What servers and backends have in common. */
static void set_traffic(struct stat_row *row, const struct overview *overview,
                        const struct tally *tally)
{
    set_number(row, COLUMN_scur, tally->sessions_now);
    set_number(row, COLUMN_smax, tally->sessions_max);
    set_number(row, COLUMN_stot, tally->sessions_total);
    set_number(row, COLUMN_lbtot, tally->sessions_total);
    set_number(row, COLUMN_connect, tally->sessions_total + tally->connect_errors);
    set_number(row, COLUMN_reuse, 0);
    set_number(row, COLUMN_bin, tally->bytes_in);
    set_number(row, COLUMN_bout, tally->bytes_out);
    set_number(row, COLUMN_econ, tally->connect_errors);
    set_number(row, COLUMN_eresp, tally->logins_refused);
    set_number(row, COLUMN_wretr, tally->retries);
    set_number(row, COLUMN_cli_abrt, tally->client_aborts);
    set_number(row, COLUMN_srv_abrt, tally->server_aborts);
    set_number(row, COLUMN_ctime_max, tally->connect_us_max / 1000);
    set_number(row, COLUMN_used_conn_cur, tally->sessions_now);
    if (tally->sessions_total > 0)
        set_number(row, COLUMN_ctime,
                   tally->connect_us_total / tally->sessions_total / 1000);
    if (tally->last_session_s > 0)
        set_number(row, COLUMN_lastsess, overview->now_ms / 1000 - tally->last_session_s);
    else
        set(row, COLUMN_lastsess, "-1");
}

const char *view_status(const struct overview_server *server)
{
    if (server->report.node.is_in_maintenance)
        return "MAINT";
    if (!server->report.node.is_up || server->report.outcome == REPORT_NONE)
        return "DOWN";
    if (server->report.node.is_draining)
        return "DRAIN";
    return server->serves ? "UP" : "DOWN";
}

/* HAProxy's codes of check results (management.txt, check_status). */
const char *view_check_code(const struct node_report *report, enum check_kind check)
{
    bool asks = check != CHECK_TCP; /* a question, beyond the connection */

    switch (report->outcome) {
    case REPORT_NONE:
        return "INI";
    case REPORT_OK:
        return asks ? "L7OK" : "L4OK";
    case REPORT_WRONG:
        return "L7STS";
    case REPORT_REFUSED:
        return "L4CON";
    case REPORT_TIMEOUT:
        return asks ? "L7TOUT" : "L4TOUT";
    }
    UNREACHABLE();
}

static uint64_t seconds_since(const struct overview *overview, uint64_t at_ms)
{
    return at_ms == 0 ? overview->uptime_ms / 1000 : (overview->now_ms - at_ms) / 1000;
}

static void fill_server(struct stat_row *row, const struct overview *overview, size_t i,
                        size_t j)
{
    const struct overview_server *server = &overview->listeners[i].servers[j];
    const struct node_report *report = &server->report;
    bool serves = strcmp(view_status(server), "UP") == 0;
    char address[ADDRESS_TEXT_MAX] = "";

    begin_row(row, &overview->listeners[i], report->node.name, STAT_SERVER, i);
    set_number(row, COLUMN_sid, j + 1);
    set_traffic(row, overview, &server->tally);
    set(row, COLUMN_status, "%s", view_status(server));
    set_number(row, COLUMN_weight, report->node.weight);
    set_number(row, COLUMN_uweight, report->node.weight);
    set_number(row, COLUMN_act, serves);
    set_number(row, COLUMN_bck, 0);
    set_number(row, COLUMN_chkfail, report->n_failed);
    set_number(row, COLUMN_chkdown, report->n_downs);
    set_number(row, COLUMN_lastchg, seconds_since(overview, report->changed_at_ms));
    set_number(row, COLUMN_downtime, report->down_ms / 1000);
    set(row, COLUMN_check_status, "%s",
        view_check_code(report, overview->listeners[i].settings->to->check));
    if (report->http_status != 0)
        set_number(row, COLUMN_check_code, (uint64_t)report->http_status);
    set_number(row, COLUMN_check_duration, report->duration_ms);
    set(row, COLUMN_last_chk, "%s", report->said);
    set(row, COLUMN_check_desc, "%s", report->said);
    set_number(row, COLUMN_check_rise, report->rise);
    set_number(row, COLUMN_check_fall, report->fall);
    set_number(row, COLUMN_check_health, report->in_a_row);
    if (report->node.n_addresses > 0)
        set(row, COLUMN_addr, "%s", address_print(&report->node.addresses[0], address));
}

static const char *const algorithms[] = {
    [BALANCE_ROUNDROBIN] = "roundrobin", [BALANCE_LEASTCONN] = "leastconn",
    [BALANCE_FIRST] = "first",           [BALANCE_RANDOM] = "random",
    [BALANCE_SOURCE] = "source",
};

static void fill_backend(struct stat_row *row, const struct overview *overview, size_t i)
{
    const struct overview_listener *listener = &overview->listeners[i];
    unsigned n_up = 0, weight = 0;

    for (size_t j = 0; j < listener->n_servers; j++)
        if (strcmp(view_status(&listener->servers[j]), "UP") == 0) {
            weight += listener->servers[j].report.node.weight;
            n_up++;
        }
    begin_row(row, listener, "BACKEND", STAT_BACKEND, i);
    set_number(row, COLUMN_sid, 0);
    set_traffic(row, overview, &listener->sum);
    set_number(row, COLUMN_smax, listener->front.sessions_max);
    set_number(row, COLUMN_qcur, listener->door->gate.n_waiting);
    set_number(row, COLUMN_qmax, listener->front.waiting_max);
    set_number(row, COLUMN_dreq, listener->front.refused);
    /* Of a pool servers are the databases' own. */
    set(row, COLUMN_status, "%s", n_up > 0 || listener->n_servers == 0 ? "UP" : "DOWN");
    set_number(row, COLUMN_weight, weight);
    set_number(row, COLUMN_uweight, weight);
    set_number(row, COLUMN_act, n_up);
    set_number(row, COLUMN_bck, 0);
    set(row, COLUMN_algo, "%s", algorithms[listener->settings->balance]);
}

void stat_rows(const struct overview *overview,
               void (*each)(void *arg, const struct stat_row *row), void *arg)
{
    struct stat_row row;

    for (size_t i = 0; i < overview->n_listeners; i++) {
        fill_frontend(&row, overview, i);
        each(arg, &row);
        for (size_t j = 0; j < overview->listeners[i].n_servers; j++) {
            fill_server(&row, overview, i, j);
            each(arg, &row);
        }
        fill_backend(&row, overview, i);
        each(arg, &row);
    }
}

/* RFC 4180: quoted where a comma, a quote or a line's end is inside. */
static void print_cell(struct text *out, const char *cell)
{
    if (strpbrk(cell, ",\"\r\n") == NULL) {
        text_add(out, cell);
        return;
    }
    text_add(out, "\"");
    for (; *cell != '\0'; cell++)
        text_addf(out, *cell == '"' ? "\"%c" : "%c", *cell);
    text_add(out, "\"");
}

static void print_row(void *arg, const struct stat_row *row)
{
    struct text *out = arg;

    for (unsigned i = 0; i < COLUMN_COUNT; i++) {
        print_cell(out, row->cells[i]);
        text_add(out, ",");
    }
    text_add(out, "\n");
}

struct choosing {
    const struct csv_filter *filter;
    void (*each)(void *arg, const struct stat_row *row);
    void *arg;
};

/* The cell has a number, which -1 leaves open. */
static bool fits(const struct stat_row *row, enum stat_column column, int wanted)
{
    return wanted < 0 || strtol(row->cells[column], NULL, 10) == wanted;
}

static bool is_wanted(const struct stat_row *row, const struct csv_filter *filter)
{
    const char *status = row->cells[COLUMN_status];

    if (filter->name != NULL && strcmp(filter->name, row->cells[COLUMN_pxname]) != 0)
        return false;
    if (row->type == STAT_SERVER &&
        ((filter->only_up && strcmp(status, "DOWN") == 0) ||
         (filter->no_maintenance && strcmp(status, "MAINT") == 0)))
        return false;
    return !filter->is_limited ||
           (filter->types & 1u << row->type && fits(row, COLUMN_iid, filter->listener) &&
            fits(row, COLUMN_sid, filter->server));
}

static void choose(void *arg, const struct stat_row *row)
{
    const struct choosing *choosing = arg;

    if (is_wanted(row, choosing->filter))
        choosing->each(choosing->arg, row);
}

void stat_rows_of(const struct overview *overview, const struct csv_filter *filter,
                  void (*each)(void *arg, const struct stat_row *row), void *arg)
{
    struct choosing choosing = {filter, each, arg};

    stat_rows(overview, choose, &choosing);
}

void view_csv_rows(const struct overview *overview, const struct csv_filter *filter,
                   struct text *out)
{
    text_add(out, "# ");
    for (unsigned i = 0; i < COLUMN_COUNT; i++)
        text_addf(out, "%s,", stat_column_names[i]);
    text_add(out, "\n");
    stat_rows_of(overview, filter, print_row, out);
}

void view_csv(const struct overview *overview, struct text *out)
{
    static const struct csv_filter all = {.is_limited = false};

    view_csv_rows(overview, &all, out);
}
