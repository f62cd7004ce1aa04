#include <string.h>

#include "router/console/page_inside.h"
#include "router/console/stat_rows.h"

/* HAProxy's statistics report, for those who know it: its columns, its groups of them,
 * its colours (management.txt, 9.1, has the fields). */

struct group {
    const char *title;
    unsigned n;
};

static const struct group groups[] = {
    {"Queue", 3},  {"Session rate", 3}, {"Sessions", 6}, {"Bytes", 2},
    {"Denied", 2}, {"Errors", 3},       {"Warnings", 2}, {"Server", 10},
};

struct column {
    const char *title;
    enum stat_column from;
    bool is_bytes, is_seconds;
};

static const struct column columns[] = {
    {"Cur", COLUMN_qcur, false, false},     {"Max", COLUMN_qmax, false, false},
    {"Limit", COLUMN_qlimit, false, false}, {"Cur", COLUMN_rate, false, false},
    {"Max", COLUMN_rate_max, false, false}, {"Limit", COLUMN_rate_lim, false, false},
    {"Cur", COLUMN_scur, false, false},     {"Max", COLUMN_smax, false, false},
    {"Limit", COLUMN_slim, false, false},   {"Total", COLUMN_stot, false, false},
    {"LbTot", COLUMN_lbtot, false, false},  {"Last", COLUMN_lastsess, false, true},
    {"In", COLUMN_bin, true, false},        {"Out", COLUMN_bout, true, false},
    {"Req", COLUMN_dreq, false, false},     {"Resp", COLUMN_dresp, false, false},
    {"Req", COLUMN_ereq, false, false},     {"Conn", COLUMN_econ, false, false},
    {"Resp", COLUMN_eresp, false, false},   {"Retr", COLUMN_wretr, false, false},
    {"Redis", COLUMN_wredis, false, false}, {"Status", COLUMN_status, false, false},
    {"For", COLUMN_lastchg, false, true},   {"LastChk", COLUMN_last_chk, false, false},
    {"Wght", COLUMN_weight, false, false},  {"Act", COLUMN_act, false, false},
    {"Bck", COLUMN_bck, false, false},      {"Chk", COLUMN_chkfail, false, false},
    {"Dwn", COLUMN_chkdown, false, false},  {"Dwntme", COLUMN_downtime, false, true},
    {"Address", COLUMN_addr, false, false},
};

static void add_value(struct text *out, const struct column *column, const char *value)
{
    if (*value == '\0' || *value == '-')
        return;
    if (column->is_bytes)
        html_add_bytes(out, strtod(value, NULL));
    else if (column->is_seconds)
        html_add_seconds(out, strtoull(value, NULL, 10));
    else
        html_escape(out, value);
}

static const char *class_of(const struct stat_row *row)
{
    const char *status = row->cells[COLUMN_status];

    if (row->type == STAT_FRONTEND)
        return "frontend";
    if (row->type == STAT_BACKEND)
        return "backend";
    return strncmp(status, "UP", 2) == 0      ? "active_up"
           : strncmp(status, "DRAIN", 5) == 0 ? "active_draining"
           : strncmp(status, "MAINT", 5) == 0 ? "maintain"
           : strncmp(status, "no", 2) == 0    ? "no_check"
                                              : "active_down";
}

static void add_heads(struct text *out)
{
    text_add(out, "<table class=haproxy><thead><tr><td></td>");
    for (size_t i = 0; i < COUNT_OF(groups); i++)
        text_addf(out, "<th scope=colgroup colspan=%u>%s</th>", groups[i].n,
                  groups[i].title);
    text_add(out, "</tr><tr><td></td>");
    for (size_t i = 0; i < COUNT_OF(columns); i++)
        text_addf(out, "<th scope=col>%s</th>", columns[i].title);
    text_add(out, "</tr></thead>\n");
}

static const char *const roles[] = {
    [ROLE_PRIMARY] = "primary",
    [ROLE_REPLICA] = "replica",
    [ROLE_READ_ONLY] = "read-only",
    [ROLE_ANY] = "any",
    [ROLE_DEFAULT] = "what each line says",
};

/* Where clients come in, and where that leads. */
static void add_way(const struct listener_config *settings, struct text *out)
{
    text_add(out, "<p>");
    for (size_t i = 0; i < settings->bind.n; i++) {
        const struct endpoint *endpoint = &settings->bind.items[i];

        text_add(out, i > 0 ? ", " : "");
        html_escape(out, endpoint->path != NULL ? endpoint->path : endpoint->host);
        if (endpoint->path == NULL)
            text_addf(out, ":%u", endpoint->port);
    }
    text_add(out, " leads to ");
    html_escape(out, settings->check_uri[0] != '\0' ? settings->check_uri
                                                    : roles[settings->role]);
    text_add(out, " of ");
    html_escape(out, settings->to == NULL ? "[databases]" : settings->to->name);
    text_add(out, ".</p>\n");
}

struct writing {
    const struct overview *overview;
    size_t n_frontends;
    struct text *out;
};

static void add_row(void *arg, const struct stat_row *row)
{
    struct writing *writing = arg;
    struct text *out = writing->out;

    if (row->type == STAT_FRONTEND) {
        text_add(out, "<h3>");
        html_escape(out, row->cells[COLUMN_pxname]);
        text_add(out, "</h3>");
        add_way(writing->overview->listeners[writing->n_frontends++].settings, out);
        text_add(out, "<div class=wide tabindex=0 role=region aria-label=\"");
        html_escape(out, row->cells[COLUMN_pxname]);
        text_add(out, "\">");
        add_heads(out);
    }
    text_addf(out, "<tr class=%s><th scope=row>", class_of(row));
    html_escape(out, row->cells[COLUMN_svname]);
    text_add(out, "</th>");
    for (size_t i = 0; i < COUNT_OF(columns); i++) {
        text_add(out, "<td>");
        add_value(out, &columns[i], row->cells[columns[i].from]);
        text_add(out, "</td>");
    }
    text_add(out, "</tr>\n");
    if (row->type == STAT_BACKEND)
        text_add(out, "</table></div>\n");
}

void page_add_proxies(const struct overview *overview, struct text *out)
{
    struct writing writing = {overview, 0, out};

    text_add(out, "<h2>Frontends, servers, backends</h2>\n");
    stat_rows(overview, add_row, &writing);
}
