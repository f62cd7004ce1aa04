/* health/probe_sql.c - asks PostgreSQL itself, by libpq without blocking.
 *
 *   CLOSED --> CONNECTING --> ASKING <--> IDLE
 *
 * Every state but IDLE belongs to an open question. libpq gets the resolved address as
 * `hostaddr` and no name, since it would look up a name synchronously. A connection that
 * has been idle may have ended meanwhile: then the question is asked once more on a new
 * one, within the same time.
 */
#include <errno.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "health/probe.h"

/* The timeline of a primary is in the name of the WAL file that it writes, a standby's in
 * its receiver's state; pg_control_checkpoint() would be out of date after a promotion.
 * To users without pg_read_all_stats the receiver shows its pid alone. */
static const char query[] =
    "SELECT pg_catalog.pg_is_in_recovery(),"
    " CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL ELSE pg_catalog.substr("
    "pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8) END,"
    " CASE WHEN pg_catalog.pg_is_in_recovery() THEN NULL ELSE pg_catalog.pg_wal_lsn_diff("
    "pg_catalog.pg_current_wal_lsn(), '0/0') END,"
    " pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_last_wal_receive_lsn(), '0/0'),"
    " pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_last_wal_replay_lsn(), '0/0'),"
    " w.received_tli,"
    " w.pid IS NOT NULL AND coalesce(w.status, 'streaming') = 'streaming',"
    " s.system_identifier"
    " FROM pg_catalog.pg_control_system() s"
    " LEFT JOIN pg_catalog.pg_stat_get_wal_receiver() w ON true";

enum column {
    IN_RECOVERY,
    PRIMARY_TIMELINE,
    LOCATION,
    RECEIVED,
    REPLAYED,
    RECEIVED_TIMELINE,
    IS_STREAMING,
    SYSTEM_ID,
    COLUMN_COUNT
};

enum sql_state { SQL_CLOSED, SQL_CONNECTING, SQL_ASKING, SQL_IDLE };

struct probe_sql {
    struct probe base;
    struct sql_turn *turn;
    enum sql_state state;
    PGconn *connection;    /* NULL when SQL_CLOSED */
    ConnStatusType status; /* of the connection after the last step */
    bool answer_is_usable; /* the query's result has come, its end has not */
    bool was_idle; /* the question went out on a connection that was open before */
    struct question question;
    struct address address; /* that the connection leads to */
    uint64_t asked_at_ms;
    ev_io watcher;
    ev_timer timeout;
};

static void open_connection(struct probe_sql *sql);

static void close_connection(struct probe_sql *sql)
{
    ev_io_stop(sql->base.loop->ev, &sql->watcher);
    PQfinish(sql->connection);
    sql->answer_is_usable = false;
    sql->connection = NULL;
    sql->state = SQL_CLOSED;
}

/* libpq may have closed one descriptor and opened another with the same number. */
static void wait_for(struct probe_sql *sql, int events)
{
    ev_io_stop(sql->base.loop->ev, &sql->watcher);
    ev_io_set(&sql->watcher, PQsocket(sql->connection), events);
    ev_io_start(sql->base.loop->ev, &sql->watcher);
}

static void finish(struct probe_sql *sql)
{
    ev_timer_stop(sql->base.loop->ev, &sql->timeout);
    sql->base.sample.duration_ms =
        (uint32_t)(loop_now_ms(sql->base.loop) - sql->asked_at_ms);
}

/* libpq's words: the first line, without the address that everybody knows. */
static void copy_reason(char said[128], const char *message)
{
    const char *reason = strstr(message, " failed: ");
    size_t length;

    if (strncmp(message, "connection to server", 20) == 0 && reason != NULL)
        message = reason + strlen(" failed: ");
    length = strcspn(message, "\n");
    if (length > 127)
        length = 127;
    memcpy(said, message, length);
    said[length] = '\0';
    if (length == 0)
        strcpy(said, "the connection failed");
}

static bool is_our_shortage(const char *message)
{
    return strstr(message, strerror(EMFILE)) != NULL ||
           strstr(message, strerror(ENFILE)) != NULL;
}

static void fail(struct probe_sql *sql, enum sample_outcome outcome)
{
    const char *message = PQerrorMessage(sql->connection);
    char said[128];

    copy_reason(said, message);
    probe_fail(&sql->base, is_our_shortage(message) ? SAMPLE_NOT_MADE : outcome, said);
    close_connection(sql);
    finish(sql);
}

/* ---- the answer ---- */

static uint64_t read_number(const PGresult *result, enum column column, int base)
{
    const char *text = PQgetvalue(result, 0, (int)column);

    /* pg_wal_lsn_diff() is numeric, so a negative one would be possible. */
    return text[0] == '-' ? 0 : strtoull(text, NULL, base);
}

static bool read_flag(const PGresult *result, enum column column)
{
    return strcmp(PQgetvalue(result, 0, (int)column), "t") == 0;
}

static void describe(struct sample *sample)
{
    char timeline[32] = "";

    if (sample->timeline != 0)
        snprintf(timeline, sizeof timeline, " timeline %u", sample->timeline);
    snprintf(sample->said, sizeof sample->said, "PostgreSQL: %s%s%s",
             sample->role == NODE_PRIMARY ? "writable" : "in recovery", timeline,
             sample->role == NODE_REPLICA && !sample->is_streaming ? ", not streaming"
                                                                   : "");
}

/* A PostgreSQL that is no PostgreSQL may send anything. */
static bool read_result(const PGresult *result, struct sample *sample)
{
    uint64_t timeline;

    if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1 ||
        PQnfields(result) != COLUMN_COUNT)
        return false;
    if (read_flag(result, IN_RECOVERY)) {
        sample->role = NODE_REPLICA;
        timeline = read_number(result, RECEIVED_TIMELINE, 10);
    } else {
        sample->role = NODE_PRIMARY;
        timeline = read_number(result, PRIMARY_TIMELINE, 16);
    }
    if (timeline > UINT32_MAX || (sample->role == NODE_PRIMARY && timeline == 0))
        return false;
    sample->source = SOURCE_POSTGRES;
    sample->outcome = SAMPLE_OK;
    sample->timeline = (uint32_t)timeline;
    sample->location = read_number(result, LOCATION, 10);
    sample->replayed = read_number(result, REPLAYED, 10);
    sample->received = read_number(result, RECEIVED, 10);
    sample->is_streaming = read_flag(result, IS_STREAMING);
    sample_copy_text(sample->system_id, sizeof sample->system_id,
                     PQgetvalue(result, 0, SYSTEM_ID));
    describe(sample);
    return true;
}

/* ---- steps; each returns true when the question has its answer, good or bad ---- */

static bool give_up(struct probe_sql *sql)
{
    if (!sql->was_idle) {
        fail(sql, SAMPLE_WRONG);
        return true;
    }
    close_connection(sql);
    open_connection(sql);
    return sql->state == SQL_CLOSED;
}

static void wait_for_answer(struct probe_sql *sql)
{
    wait_for(sql, PQflush(sql->connection) == 1 ? EV_READ | EV_WRITE : EV_READ);
}

static bool send_query(struct probe_sql *sql)
{
    if (!PQsendQuery(sql->connection, query))
        return give_up(sql);
    sql->state = SQL_ASKING;
    wait_for_answer(sql);
    return false;
}

static bool go_on_connecting(struct probe_sql *sql)
{
    PostgresPollingStatusType wants;

    if (sql->turn->taken_ns == sql->base.loop->now_ns)
        return false; /* the watcher calls again in the next iteration */
    sql->turn->taken_ns = sql->base.loop->now_ns;
    ev_io_stop(sql->base.loop->ev, &sql->watcher);
    wants = PQconnectPoll(sql->connection);
    if (wants == PGRES_POLLING_OK) {
        PQsetnonblocking(sql->connection, 1);
        return send_query(sql);
    }
    if (wants == PGRES_POLLING_FAILED) {
        fail(sql, sql->status == CONNECTION_STARTED ? SAMPLE_REFUSED : SAMPLE_WRONG);
        return true;
    }
    sql->status = PQstatus(sql->connection);
    wait_for(sql, wants == PGRES_POLLING_READING ? EV_READ : EV_WRITE);
    return false;
}

/* The query's one result, and the end of the query behind it. Anything else is refused at
 * once: libpq would hand out some results, such as that of a COPY, for ever. */
static bool take_results(struct probe_sql *sql)
{
    while (!PQisBusy(sql->connection)) {
        PGresult *result = PQgetResult(sql->connection);

        if (result == NULL && sql->answer_is_usable) {
            ev_io_stop(sql->base.loop->ev, &sql->watcher);
            sql->state = SQL_IDLE;
            finish(sql);
            return true;
        }
        if (sql->answer_is_usable || !read_result(result, &sql->base.sample)) {
            PQclear(result);
            return give_up(sql);
        }
        PQclear(result);
        sql->answer_is_usable = true;
    }
    wait_for_answer(sql);
    return false;
}

static bool go_on_asking(struct probe_sql *sql)
{
    if (!PQconsumeInput(sql->connection) || PQflush(sql->connection) < 0)
        return give_up(sql);
    return take_results(sql);
}

static void on_io(struct ev_loop *ev, ev_io *watcher, int events)
{
    struct probe_sql *sql = CONTAINER_OF(watcher, struct probe_sql, watcher);

    (void)ev;
    (void)events;
    if (sql->state == SQL_CONNECTING ? go_on_connecting(sql) : go_on_asking(sql))
        probe_answer(&sql->base);
}

static void on_timeout(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct probe_sql *sql = CONTAINER_OF(timer, struct probe_sql, timeout);
    char said[64];

    (void)ev;
    (void)events;
    snprintf(said, sizeof said, "no answer within %u ms", sql->question.timeout_ms);
    probe_fail(&sql->base, SAMPLE_TIMEOUT, said);
    close_connection(sql);
    finish(sql);
    probe_answer(&sql->base);
}

static void be_silent(void *arg, const char *message)
{
    (void)arg;
    (void)message;
}

/* On failure the state is SQL_CLOSED and the sample says why. */
static void open_connection(struct probe_sql *sql)
{
    const struct question *question = &sql->question;
    char host[ADDRESS_TEXT_MAX], port[8];
    const char *const keys[] = {"hostaddr", "port",       "user",
                                "password", "dbname",     "application_name",
                                "passfile", "gssencmode", NULL};
    const char *const values[] = {host,
                                  port,
                                  question->user,
                                  question->password,
                                  question->dbname,
                                  "pgrouter",
                                  "/dev/null/none", /* no file is read */
                                  "disable",
                                  NULL};

    sql->was_idle = false;
    sql->address = question->address;
    address_print_host(&question->address, host);
    snprintf(port, sizeof port, "%u", address_port(&question->address));
    sql->connection = PQconnectStartParams(keys, values, 0);
    if (sql->connection == NULL) {
        probe_fail(&sql->base, SAMPLE_NOT_MADE, "out of memory");
        finish(sql);
        return;
    }
    PQsetNoticeProcessor(sql->connection, be_silent, NULL);
    sql->status = PQstatus(sql->connection);
    if (sql->status == CONNECTION_BAD) {
        fail(sql, PQsocket(sql->connection) < 0 ? SAMPLE_REFUSED : SAMPLE_WRONG);
        return;
    }
    sql->state = SQL_CONNECTING;
    wait_for(sql, EV_WRITE);
}

static bool leads_to(const struct probe_sql *sql, const struct address *address)
{
    return address_same_host(&sql->address, address) &&
           address_port(&sql->address) == address_port(address);
}

static void ask(struct probe *probe, const struct question *question)
{
    struct probe_sql *sql = (struct probe_sql *)probe;
    bool is_answered;

    sql->question = *question;
    sql->asked_at_ms = loop_now_ms(probe->loop);
    ev_timer_set(&sql->timeout, question->timeout_ms / 1e3, 0.);
    ev_timer_start(probe->loop->ev, &sql->timeout);
    if (sql->state == SQL_IDLE && leads_to(sql, &question->address)) {
        sql->was_idle = true;
        sql->answer_is_usable = false;
        is_answered = send_query(sql);
    } else {
        close_connection(sql);
        open_connection(sql);
        is_answered = sql->state == SQL_CLOSED;
    }
    if (is_answered)
        probe_answer_later(probe);
}

static void stop(struct probe *probe)
{
    struct probe_sql *sql = (struct probe_sql *)probe;

    ev_timer_stop(probe->loop->ev, &sql->timeout);
    close_connection(sql);
}

static void free_sql(struct probe *probe)
{
    memory_free(probe);
}

static const struct probe_kind sql_kind = {ask, stop, free_sql};

struct probe *probe_sql_new(struct loop *loop, struct sql_turn *turn,
                            void (*on_sample)(void *arg, const struct sample *sample),
                            void *arg)
{
    struct probe_sql *sql = memory_zeroed(sizeof *sql);

    if (sql == NULL)
        return NULL;
    sql->base = (struct probe){
        .kind = &sql_kind, .loop = loop, .on_sample = on_sample, .arg = arg};
    sql->turn = turn;
    ev_init(&sql->watcher, on_io);
    ev_init(&sql->timeout, on_timeout);
    return &sql->base;
}
