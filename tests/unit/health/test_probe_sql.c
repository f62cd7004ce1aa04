#include <criterion/criterion.h>
#include <dirent.h>
#include <sys/resource.h>

#include "core/memory.h"
#include "health/probe.h"
#include "tests/lib/fake_postgres.h"
#include "tests/lib/loop_until.h"

static struct loop *loop;
static struct probe *probe;
static struct sql_turn turn;
static struct fake_postgres server;
static struct sample got;
static bool has_come;
static unsigned n_come;

static const char *const primary_row[] = {"f",  "0000000A", "134490656", NULL,
                                          NULL, NULL,       "f",         "77107761618"};
static const char *const standby_row[] = {"t",         NULL, NULL, "134490656",
                                          "134490600", "10", "t",  "77107761618"};
static const char *const deaf_row[] = {"t",         NULL, NULL, NULL,
                                       "134490600", NULL, "f",  "77107761618"};

static void on_sample(void *arg, const struct sample *sample)
{
    (void)arg;
    got = *sample;
    has_come = true;
    n_come++;
}

static void open_all(void)
{
    loop = loop_new(false);
    cr_assert_not_null(loop);
    fake_postgres_open(&server, loop, "127.0.0.1", 0);
    fake_postgres_set(&server, 8, primary_row);
    probe = probe_sql_new(loop, &turn, on_sample, NULL);
    cr_assert_not_null(probe);
}

static void close_all(void)
{
    probe_free(probe);
    fake_postgres_close(&server);
    loop_free(loop);
}

TestSuite(probe_sql, .init = open_all, .fini = close_all, .timeout = 20);

static void ask_at(const struct address *address, uint32_t timeout_ms)
{
    const struct question question = {.address = *address,
                                      .timeout_ms = timeout_ms,
                                      .user = "checker",
                                      .password = "",
                                      .dbname = "postgres"};

    has_come = false;
    probe_ask(probe, &question);
    cr_assert_not(has_come, "never from within the call");
    cr_assert(loop_until(loop, &has_come, 10000));
}

static void ask(void)
{
    ask_at(&server.address, 2000);
}

static unsigned count_descriptors(void)
{
    DIR *open_files = opendir("/proc/self/fd");
    unsigned n = 0;

    cr_assert_not_null(open_files);
    while (readdir(open_files) != NULL)
        n++;
    closedir(open_files);
    return n;
}

Test(probe_sql, reads_a_primary)
{
    ask();
    cr_expect_eq(got.source, SOURCE_POSTGRES);
    cr_expect_eq(got.outcome, SAMPLE_OK, "%s", got.said);
    cr_expect_eq(got.role, NODE_PRIMARY);
    cr_expect_eq(got.timeline, 10, "hexadecimal");
    cr_expect_eq(got.location, 134490656);
    cr_expect_str_eq(got.system_id, "77107761618");
    cr_expect_not(got.holds_lock);
    cr_expect_str_eq(got.said, "PostgreSQL: writable timeline 10");
    cr_expect_not_null(strstr(server.startup, "user checker "));
    cr_expect_not_null(strstr(server.startup, "database postgres "));
    cr_expect_not_null(strstr(server.startup, "application_name pgrouter "));
}

Test(probe_sql, reads_a_standby)
{
    fake_postgres_set(&server, 8, standby_row);
    ask();
    cr_expect_eq(got.outcome, SAMPLE_OK, "%s", got.said);
    cr_expect_eq(got.role, NODE_REPLICA);
    cr_expect_eq(got.timeline, 10, "decimal");
    cr_expect_eq(got.received, 134490656);
    cr_expect_eq(got.replayed, 134490600);
    cr_expect(got.is_streaming);
    cr_expect_str_eq(got.said, "PostgreSQL: in recovery timeline 10");
}

Test(probe_sql, reads_a_standby_without_a_receiver)
{
    fake_postgres_set(&server, 8, deaf_row);
    ask();
    cr_expect_eq(got.outcome, SAMPLE_OK);
    cr_expect_not(got.is_streaming);
    cr_expect_eq(got.timeline, 0);
    cr_expect_eq(got.received, 0);
    cr_expect_str_eq(got.said, "PostgreSQL: in recovery, not streaming");
}

Test(probe_sql, keeps_its_connection)
{
    for (int i = 0; i < 5; i++)
        ask();
    cr_expect_eq(server.n_accepted, 1);
    cr_expect_eq(server.n_queries, 5);
    probe_stop(probe);
    while (server.clients.n > 0)
        loop_until(loop, NULL, 5);
    cr_expect_eq(server.n_terminated, 1, "it says good-bye");
    ask();
    cr_expect_eq(server.n_accepted, 2);
}

Test(probe_sql, a_connection_that_ended_while_idle_is_no_failure)
{
    ask();
    fake_postgres_drop_all(&server);
    loop_until(loop, NULL, 10);
    ask();
    cr_expect_eq(got.outcome, SAMPLE_OK, "%s", got.said);
    cr_expect_eq(server.n_accepted, 2);
    cr_expect_eq(n_come, 2);
}

Test(probe_sql, a_server_that_drops_every_query_is_not_asked_for_ever)
{
    ask();
    server.behaviour = FAKE_PG_DROPS_QUERY;
    ask();
    cr_expect_eq(got.outcome, SAMPLE_WRONG);
    cr_expect_neq(got.said[0], '\0');
    cr_expect_eq(server.n_queries, 3, "once more on a new connection");
}

Test(probe_sql, another_address_is_another_connection)
{
    struct fake_postgres other;

    ask();
    fake_postgres_open(&other, loop, "127.0.0.2", 0);
    fake_postgres_set(&other, 8, standby_row);
    ask_at(&other.address, 2000);
    cr_expect_eq(got.role, NODE_REPLICA);
    cr_expect_eq(other.n_accepted, 1);
    fake_postgres_close(&other);
}

Test(probe_sql, tells_refusal_silence_and_errors_apart)
{
    uint16_t port = address_port(&server.address);
    static const struct {
        enum fake_postgres_behaviour behaviour;
        enum sample_outcome outcome;
        const char *said;
    } rows[] = {
        {FAKE_PG_SILENT, SAMPLE_TIMEOUT, "no answer within 150 ms"},
        {FAKE_PG_SILENT_IN_QUERY, SAMPLE_TIMEOUT, "no answer within 150 ms"},
        {FAKE_PG_EMPTY, SAMPLE_WRONG, NULL},
        {FAKE_PG_REFUSES_LOGIN, SAMPLE_WRONG,
         "FATAL:  the database system is starting up"},
        {FAKE_PG_ERROR, SAMPLE_WRONG, "ERROR:  permission denied for function x"},
        {FAKE_PG_NO_ROW, SAMPLE_WRONG, NULL},
        {FAKE_PG_TWO_RESULTS, SAMPLE_WRONG, NULL},
        {FAKE_PG_COPY, SAMPLE_WRONG, NULL},
        {FAKE_PG_GARBAGE, SAMPLE_WRONG, NULL},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        server.behaviour = rows[i].behaviour;
        ask_at(&server.address, 150);
        cr_expect_eq(got.outcome, rows[i].outcome, "row %zu: %d %s", i, (int)got.outcome,
                     got.said);
        cr_expect_eq(got.source, SOURCE_NOBODY);
        cr_expect_neq(got.said[0], '\0');
        if (rows[i].said != NULL)
            cr_expect_str_eq(got.said, rows[i].said);
    }
    fake_postgres_close(&server);
    address_set_port(&server.address, port);
    ask();
    cr_expect_eq(got.outcome, SAMPLE_REFUSED, "%s", got.said);
    cr_expect_str_eq(got.said, "Connection refused");
}

Test(probe_sql, logins_take_turns_and_nobody_is_left_out)
{
    struct probe *others[4];
    const struct question question = {.address = server.address,
                                      .timeout_ms = 5000,
                                      .user = "checker",
                                      .password = "",
                                      .dbname = "postgres"};

    for (size_t i = 0; i < COUNT_OF(others); i++) {
        others[i] = probe_sql_new(loop, &turn, on_sample, NULL);
        cr_assert_not_null(others[i]);
        probe_ask(others[i], &question);
    }
    while (n_come < COUNT_OF(others)) {
        has_come = false;
        cr_assert(loop_until(loop, &has_come, 5000));
        cr_assert_eq(got.outcome, SAMPLE_OK, "%s", got.said);
    }
    for (size_t i = 0; i < COUNT_OF(others); i++)
        probe_free(others[i]);
}

Test(probe_sql, strange_values_are_refused_or_count_as_nothing)
{
    static const struct {
        const char *row[8];
        bool is_usable;
    } rows[] = {
        {{"f", "00000000", "1", NULL, NULL, NULL, "f", "7"}, false},
        {{"f", NULL, "1", NULL, NULL, NULL, "f", "7"}, false},
        {{"f", "1FFFFFFFF", "1", NULL, NULL, NULL, "f", "7"}, false},
        {{"f", "-1", "1", NULL, NULL, NULL, "f", "7"}, false},
        {{"f", "xyz", "1", NULL, NULL, NULL, "f", "7"}, false},
        {{"maybe", "1", "1", NULL, NULL, NULL, "f", "7"}, true}, /* not "t" */
        {{"t", NULL, NULL, "-5", "99999999999999999999999", "1", "t", NULL}, true},
        {{"t", NULL, NULL, "", "", "99999999999", "t", "7"}, false},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        fake_postgres_set(&server, 8, rows[i].row);
        ask();
        cr_expect_eq(got.outcome == SAMPLE_OK, rows[i].is_usable, "row %zu: %s", i,
                     got.said);
    }
    fake_postgres_set(&server, 7, primary_row);
    ask();
    cr_expect_eq(got.outcome, SAMPLE_WRONG, "a column is missing");
}

Test(probe_sql, the_time_holds_for_login_and_query_together)
{
    uint64_t began_ms;

    ask();
    server.behaviour = FAKE_PG_SILENT_IN_QUERY;
    began_ms = loop_now_ms(loop);
    ask_at(&server.address, 200);
    cr_expect_eq(got.outcome, SAMPLE_TIMEOUT);
    cr_expect_lt(loop_now_ms(loop) - began_ms, 600);
    server.behaviour = FAKE_PG_ANSWERS;
    ask();
    cr_expect_eq(got.outcome, SAMPLE_OK, "and leaves nothing behind");
}

Test(probe_sql, a_stopped_question_is_never_answered)
{
    const struct question question = {.address = server.address,
                                      .timeout_ms = 200,
                                      .user = "checker",
                                      .password = "",
                                      .dbname = "postgres"};

    has_come = false;
    probe_ask(probe, &question);
    probe_stop(probe);
    server.behaviour = FAKE_PG_SILENT;
    probe_ask(probe, &question);
    loop_until(loop, NULL, 50);
    probe_stop(probe);
    fake_postgres_close(&server);
    probe_ask(probe, &question); /* refused at once, which is told later */
    probe_stop(probe);
    loop_until(loop, NULL, 300);
    cr_expect_not(has_come);
}

Test(probe_sql, failures_leave_no_descriptor_behind)
{
    static const enum fake_postgres_behaviour rows[] = {
        FAKE_PG_SILENT_IN_QUERY, FAKE_PG_REFUSES_LOGIN, FAKE_PG_ERROR, FAKE_PG_COPY,
        FAKE_PG_GARBAGE,         FAKE_PG_DROPS_QUERY};
    unsigned before;

    ask();
    probe_stop(probe);
    fake_postgres_drop_all(&server);
    before = count_descriptors();
    for (size_t i = 0; i < 5 * COUNT_OF(rows); i++) {
        server.behaviour = rows[i % COUNT_OF(rows)];
        ask_at(&server.address, 50);
    }
    probe_stop(probe);
    while (server.clients.n > 0)
        loop_until(loop, NULL, 5);
    cr_expect_eq(count_descriptors(), before);
}

Test(probe_sql, without_descriptors_it_is_our_fault)
{
    struct rlimit limit, none = {0, 0};

    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none.rlim_max = limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    ask();
    setrlimit(RLIMIT_NOFILE, &limit);
    cr_expect_eq(got.outcome, SAMPLE_NOT_MADE, "%s", got.said);
}

Test(probe_sql, survives_a_failed_allocation)
{
    memory_fail_at = 1;
    cr_expect_null(probe_sql_new(loop, &turn, on_sample, NULL));
    cr_expect_eq(memory_fail_at, 0);
}
