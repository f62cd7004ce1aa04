/* HAProxy's CSV of a picture made by hand. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "router/console/views.h"
#include "tests/lib/picture.h"

/* HAProxy's names in HAProxy's order, as its 3.x prints them. */
static const char header[] =
    "# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,"
    "wretr,wredis,status,weight,act,bck,chkfail,chkdown,lastchg,downtime,qlimit,pid,iid,"
    "sid,throttle,lbtot,tracked,type,rate,rate_lim,rate_max,check_status,check_code,"
    "check_duration,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,hanafail,"
    "req_rate,req_rate_max,req_tot,cli_abrt,srv_abrt,comp_in,comp_out,comp_byp,comp_rsp,"
    "lastsess,last_chk,last_agt,qtime,ctime,rtime,ttime,agent_status,agent_code,"
    "agent_duration,check_desc,agent_desc,check_rise,check_fall,check_health,agent_rise,"
    "agent_fall,agent_health,addr,cookie,mode,algo,conn_rate,conn_rate_max,conn_tot,"
    "intercepted,dcon,dses,wrew,connect,reuse,cache_lookups,cache_hits,srv_icur,src_ilim,"
    "qtime_max,ctime_max,rtime_max,ttime_max,eint,idle_conn_cur,safe_conn_cur,"
    "used_conn_cur,need_conn_est,uweight,agg_server_status,agg_server_check_status,"
    "agg_check_status,srid,sess_other,h1sess,h2sess,h3sess,req_other,h1req,h2req,h3req,"
    "proto,priv_idle_cur,reqbin,reqbout,resbin,resbout,cache_hint_hits,";

#define CELLS_MAX 200
#define ROWS_MAX 16

static struct picture picture;
static struct text csv;
static char copy[1 << 16];
static char *cells[ROWS_MAX][CELLS_MAX];
static unsigned n_cells[ROWS_MAX], n_rows;

/* Splits as RFC 4180 has it. */
static void parse(void)
{
    char *from = copy, *to = copy;

    n_rows = 0;
    while (*from != '\0') {
        n_cells[n_rows] = 0;
        while (*from != '\n') {
            cells[n_rows][n_cells[n_rows]++] = to;
            if (*from == '"') {
                for (from++; *from != '"' || from[1] == '"'; from++) {
                    from += *from == '"';
                    *to++ = *from;
                }
                from++;
            } else {
                while (*from != ',' && *from != '\n')
                    *to++ = *from++;
            }
            cr_assert_eq(*from, ',', "a comma behind each cell");
            from++;
            *to++ = '\0';
        }
        from++;
        n_rows++;
    }
}

static void print(void)
{
    text_clear(&csv);
    view_csv(&picture.overview, &csv);
    cr_assert_not(csv.overflowed);
    snprintf(copy, sizeof copy, "%s", text_get(&csv));
    parse();
}

static void make(void)
{
    text_init(&csv, sizeof copy - 1);
    picture_make(&picture);
}

static void clear(void)
{
    text_clear(&csv);
}

TestSuite(csv, .init = make, .fini = clear, .timeout = 10);

static const char *cell(const char *pxname, const char *svname, const char *column)
{
    unsigned i = 0;

    while (i < n_cells[0] && strcmp(cells[0][i] + (i == 0 ? 2 : 0), column) != 0)
        i++;
    cr_assert_lt(i, n_cells[0], "there is no column %s", column);
    for (unsigned row = 1; row < n_rows; row++)
        if (strcmp(cells[row][0], pxname) == 0 && strcmp(cells[row][1], svname) == 0)
            return cells[row][i];
    cr_assert_fail("there is no row %s, %s", pxname, svname);
    return NULL;
}

static void expect(const char *pxname, const char *svname, const char *column,
                   const char *wanted)
{
    const char *is = cell(pxname, svname, column);

    cr_expect_str_eq(is, wanted, "%s of %s %s is '%s', expected '%s'", column, pxname,
                     svname, is, wanted);
}

static void expect_number(const char *pxname, const char *svname, const char *column,
                          uint64_t wanted)
{
    char text[32];

    snprintf(text, sizeof text, "%llu", (unsigned long long)wanted);
    expect(pxname, svname, column, text);
}

Test(csv, has_haproxys_columns_in_haproxys_order)
{
    print();
    cr_expect_eq(strncmp(text_get(&csv), header, sizeof header - 1), 0, "%s",
                 text_get(&csv));
    cr_expect_eq(text_get(&csv)[sizeof header - 1], '\n');
}

Test(csv, has_a_row_for_each_listener_its_servers_and_their_sum)
{
    static const char *const rows[][2] = {
        {"rw", "FRONTEND"}, {"rw", "n1"},       {"rw", "n2"}, {"rw", "n3"},
        {"rw", "BACKEND"},  {"ro", "FRONTEND"}, {"ro", "n1"}, {"ro", "BACKEND"},
    };

    print();
    cr_assert_eq(n_rows, 1 + COUNT_OF(rows));
    for (unsigned i = 0; i < COUNT_OF(rows); i++) {
        cr_expect_str_eq(cells[i + 1][0], rows[i][0]);
        cr_expect_str_eq(cells[i + 1][1], rows[i][1]);
        cr_expect_eq(n_cells[i + 1], n_cells[0], "row %u has %u of %u cells", i,
                     n_cells[i + 1], n_cells[0]);
    }
}

Test(csv, tells_frontends_what_came_in)
{
    const struct tally *front = &picture.shown[0].front, *sum = &picture.shown[0].sum;

    print();
    expect("rw", "FRONTEND", "status", "OPEN");
    expect("rw", "FRONTEND", "type", "0");
    expect("rw", "FRONTEND", "mode", "tcp");
    expect("rw", "FRONTEND", "pid", "1");
    expect("rw", "FRONTEND", "iid", "1");
    expect("ro", "FRONTEND", "iid", "2");
    expect("rw", "FRONTEND", "scur", "43");
    expect("rw", "FRONTEND", "smax", "47");
    expect("rw", "FRONTEND", "slim", "50");
    expect("ro", "FRONTEND", "slim", "1000");
    expect("rw", "FRONTEND", "stot", "4711");
    expect("rw", "FRONTEND", "conn_tot", "4711");
    expect("rw", "FRONTEND", "rate", "5");
    expect("rw", "FRONTEND", "rate_max", "7");
    expect("rw", "FRONTEND", "conn_rate", "5");
    expect("rw", "FRONTEND", "conn_rate_max", "7");
    expect_number("rw", "FRONTEND", "bin", sum->bytes_in);
    expect_number("rw", "FRONTEND", "bout", sum->bytes_out);
    expect_number("rw", "FRONTEND", "dreq", front->refused);
    expect_number("rw", "FRONTEND", "ereq", front->bad_requests);
}

Test(csv, a_full_frontend_says_so)
{
    picture.doors[0].gate.n_admitted = 50;
    print();
    expect("rw", "FRONTEND", "status", "FULL");
    expect("ro", "FRONTEND", "status", "OPEN");
}

static void expect_traffic(const char *pxname, const char *svname, const struct tally *t)
{
    expect_number(pxname, svname, "scur", t->sessions_now);
    expect_number(pxname, svname, "smax", t->sessions_max);
    expect_number(pxname, svname, "stot", t->sessions_total);
    expect_number(pxname, svname, "bin", t->bytes_in);
    expect_number(pxname, svname, "bout", t->bytes_out);
    expect_number(pxname, svname, "econ", t->connect_errors);
    expect_number(pxname, svname, "eresp", t->logins_refused);
    expect_number(pxname, svname, "wretr", t->retries);
    expect_number(pxname, svname, "cli_abrt", t->client_aborts);
    expect_number(pxname, svname, "srv_abrt", t->server_aborts);
    expect_number(pxname, svname, "ctime_max", t->connect_us_max / 1000);
    expect_number(pxname, svname, "ctime",
                  t->connect_us_total / t->sessions_total / 1000);
}

Test(csv, tells_servers_and_backends_their_traffic)
{
    for (unsigned i = 0; i < 3; i++) {
        picture.servers[0][i].tally.connect_us_total = 5000000;
        picture.servers[0][i].tally.connect_us_max = 123456 * (i + 1);
        picture.servers[0][i].tally.last_session_s = 90;
    }
    print();
    expect_traffic("rw", "n1", &picture.servers[0][0].tally);
    expect_traffic("rw", "n2", &picture.servers[0][1].tally);
    picture.shown[0].sum.sessions_max = picture.shown[0].front.sessions_max;
    expect_traffic("rw", "BACKEND", &picture.shown[0].sum);
    expect_traffic("ro", "n1", &picture.servers[1][0].tally);
    expect("rw", "n1", "lastsess", "10");
    expect_number("rw", "BACKEND", "qcur", picture.doors[0].gate.n_waiting);
    expect_number("rw", "BACKEND", "qmax", picture.shown[0].front.waiting_max);
    expect_number("rw", "BACKEND", "dreq", picture.shown[0].front.refused);
}

Test(csv, a_server_that_never_served_has_no_times)
{
    picture.servers[0][1].tally = (struct tally){0};
    print();
    expect("rw", "n2", "lastsess", "-1");
    expect("rw", "n2", "ctime", "");
    expect("rw", "n2", "scur", "0");
}

Test(csv, tells_what_the_checks_say)
{
    print();
    expect("rw", "n1", "type", "2");
    expect("rw", "n2", "sid", "2");
    expect("rw", "n2", "chkfail", "14");
    expect("rw", "n2", "chkdown", "18");
    expect("rw", "n2", "lastchg", "60");
    expect("rw", "n2", "downtime", "19");
    expect("rw", "n2", "check_status", "L7OK");
    expect("rw", "n2", "check_code", "200");
    expect("rw", "n2", "check_duration", "12");
    expect("rw", "n2", "last_chk", "200 running primary");
    expect("rw", "n2", "check_desc", "200 running primary");
    expect("rw", "n2", "check_rise", "1");
    expect("rw", "n2", "check_fall", "2");
    expect("rw", "n2", "check_health", "1");
    expect("rw", "n2", "addr", "127.0.0.1:5433");
    expect("rw", "BACKEND", "type", "1");
    expect("rw", "BACKEND", "algo", "leastconn");
    expect("ro", "BACKEND", "algo", "roundrobin");
}

Test(csv, has_haproxys_codes_for_what_a_check_found)
{
    static const struct {
        enum check_kind check;
        int http_status;
        enum report_outcome outcome;
        const char *code;
    } examples[] = {
        {CHECK_PATRONI, 0, REPORT_NONE, "INI"},
        {CHECK_PATRONI, 200, REPORT_OK, "L7OK"},
        {CHECK_TCP, 0, REPORT_OK, "L4OK"},
        {CHECK_PATRONI, 503, REPORT_WRONG, "L7STS"},
        {CHECK_POSTGRES, 0, REPORT_REFUSED, "L4CON"},
        {CHECK_POSTGRES, 0, REPORT_TIMEOUT, "L7TOUT"},
        {CHECK_TCP, 0, REPORT_TIMEOUT, "L4TOUT"},
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        struct node_report *report = &picture.servers[0][0].report;

        picture.cluster_config.check = examples[i].check;
        report->http_status = examples[i].http_status;
        report->outcome = examples[i].outcome;
        print();
        expect("rw", "n1", "check_status", examples[i].code);
        expect("rw", "n1", "check_code",
               examples[i].http_status == 0     ? ""
               : examples[i].http_status == 200 ? "200"
                                                : "503");
    }
}

Test(csv, a_node_that_never_changed_counts_from_the_start)
{
    picture.servers[0][0].report.changed_at_ms = 0;
    print();
    expect("rw", "n1", "lastchg", "93784");
}

Test(csv, tells_who_is_up)
{
    picture.servers[0][0].report.node.is_up = false;
    picture.servers[0][1].report.node.is_draining = true;
    picture.servers[0][2].serves = false;
    picture.servers[1][0].report.node.weight = 5;
    print();
    expect("rw", "n1", "status", "DOWN");
    expect("rw", "n2", "status", "DRAIN");
    expect("rw", "n3", "status", "DOWN");
    expect("rw", "n1", "act", "0");
    expect("rw", "BACKEND", "status", "DOWN");
    expect("rw", "BACKEND", "act", "0");
    expect("ro", "n1", "status", "UP");
    expect("ro", "n1", "act", "1");
    expect("ro", "BACKEND", "status", "UP");
    expect("ro", "BACKEND", "weight", "5");
    expect("ro", "n1", "weight", "5");
    picture.servers[0][1].report.node.is_in_maintenance = true;
    picture.servers[0][2].serves = true;
    print();
    expect("rw", "n2", "status", "MAINT");
    expect("rw", "BACKEND", "status", "UP");
}

Test(csv, a_node_that_was_never_asked_is_down)
{
    picture.servers[0][0].report.outcome = REPORT_NONE;
    cr_expect_str_eq(view_status(&picture.servers[0][0]), "DOWN");
}

Test(csv, quotes_what_has_commas_quotes_or_lines)
{
    strcpy(picture.servers[0][0].report.said, "a, \"b\"\r\nc");
    strcpy(picture.servers[0][1].report.said, "\"");
    strcpy(picture.servers[0][2].report.said, ",");
    print();
    cr_expect_not_null(strstr(text_get(&csv), ",\"a, \"\"b\"\"\r\nc\","));
    expect("rw", "n1", "last_chk", "a, \"b\"\r\nc");
    expect("rw", "n2", "last_chk", "\"");
    expect("rw", "n3", "last_chk", ",");
    for (unsigned i = 1; i < n_rows; i++)
        cr_expect_eq(n_cells[i], n_cells[0]);
}

Test(csv, of_no_listener_is_the_header)
{
    picture.overview.n_listeners = 0;
    print();
    cr_expect_eq(n_rows, 1);
}
