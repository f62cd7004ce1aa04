#include "router/console/metrics.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "router/console/escape.h"
#include "router/console/views.h"

/* So many lines take less than a millisecond. */
#define LINES_PER_PIECE 400u

/* What a sample is of. */
struct place {
    const struct overview *overview;
    const struct snapshot *snapshot;
    const struct metrics_process *process;
    size_t n;
    const struct overview_listener *listener;
    const struct overview_server *server;
    const struct tally *tally;
    const struct cluster_row *cluster;
    const struct switchover *last, *over; /* of the cluster; NULL: none */
    const struct node_row *node;
    const struct database_config *database;
    const struct database_sum *sum;
    const struct pool_sum *pool;
};

/* Labels, without braces. */
struct labels {
    char bytes[1024];
    size_t n;
    bool overflowed;
};

/* ---- what values are made of --------------------------------------------------------
 */

/* In seconds. */
static double from_ms(uint64_t ms)
{
    return (double)ms / 1e3;
}

static double from_ns(uint64_t ns)
{
    return (double)ns / 1e9;
}

static uint64_t clients_of(const struct overview *overview, bool in_all)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < overview->gather->n_workers; i++)
        n += in_all ? overview->gather->workers[i].n_clients_total
                    : overview->gather->workers[i].n_clients;
    return n;
}

static unsigned servers_up(const struct overview_listener *listener)
{
    unsigned n = 0;

    for (size_t i = 0; i < listener->n_servers; i++)
        n += strcmp(view_status(&listener->servers[i]), "UP") == 0;
    return n;
}

/* Descriptors that are open; where the kernel does not say, they are counted. */
static double count_descriptors(void)
{
    struct stat status;
    DIR *folder;
    double n = 0;

    if (stat("/proc/self/fd", &status) == 0 && status.st_size > 0)
        return (double)status.st_size;
    folder = opendir("/proc/self/fd");
    if (folder == NULL)
        return 0;
    while (readdir(folder) != NULL)
        n++;
    closedir(folder);
    return n - 3; /* ".", "..", and its own */
}

static void look_at_memory(struct metrics_process *process)
{
    FILE *file = fopen("/proc/self/statm", "re");
    double page = (double)sysconf(_SC_PAGESIZE);
    char line[128], *rest;

    if (file == NULL)
        return;
    if (fgets(line, sizeof line, file) != NULL) {
        process->virtual_bytes = (double)strtoul(line, &rest, 10) * page;
        process->resident_bytes = (double)strtoul(rest, NULL, 10) * page;
    }
    fclose(file);
}

void metrics_look_at_process(struct metrics_process *process, uint64_t uptime_ms)
{
    struct timespec now, cpu;
    struct rlimit limit;

    *process = (struct metrics_process){.n_fds = count_descriptors()};
    look_at_memory(process);
    if (clock_gettime(CLOCK_REALTIME, &now) == 0)
        process->start_s =
            floor((double)now.tv_sec + (double)now.tv_nsec / 1e9 - from_ms(uptime_ms));
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0)
        process->cpu_s = (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        process->max_fds = (double)limit.rlim_cur;
}

/* ---- lines --------------------------------------------------------------------------
 */

static void add_value(struct text *out, double value)
{
    if (value == floor(value) && fabs(value) < 1e15)
        text_addf(out, " %.0f\n", value);
    else
        text_addf(out, " %.15g\n", value);
}

static void add_labels(struct text *out, const char *labels, const char *more)
{
    if (*labels == '\0' && *more == '\0')
        return;
    text_addf(out, "{%s%s%s}", labels, *labels != '\0' && *more != '\0' ? "," : "", more);
}

/* One sample; `suffix` and `more` labels may be "". */
static void add_sample(struct text *out, const char *name, const char *suffix,
                       const char *labels, const char *more, double value)
{
    text_add(out, name);
    text_add(out, suffix);
    add_labels(out, labels, more);
    add_value(out, value);
}

/* One of a set of states, of which `is` is 1 and the others 0. */
static void add_states(struct text *out, const char *name, const char *labels,
                       const char *label, const char *const *states, size_t n,
                       const char *is)
{
    char more[64];

    for (size_t i = 0; i < n; i++) {
        snprintf(more, sizeof more, "%s=\"%s\"", label, states[i]);
        add_sample(out, name, "", labels, more, strcmp(states[i], is) == 0);
    }
}

/* ---- families of several samples ----------------------------------------------------
 */

static void front_status_samples(const struct place *at, const char *name,
                                 const char *labels, struct text *out)
{
    static const char *const states[] = {"UP", "DOWN"};

    add_states(out, name, labels, "state", states, COUNT_OF(states),
               at->listener->door->is_shut ? "DOWN" : "UP");
}

static void back_status_samples(const struct place *at, const char *name,
                                const char *labels, struct text *out)
{
    static const char *const states[] = {"UP", "DOWN"};

    add_states(out, name, labels, "state", states, COUNT_OF(states),
               servers_up(at->listener) > 0 ? "UP" : "DOWN");
}

static void server_status_samples(const struct place *at, const char *name,
                                  const char *labels, struct text *out)
{
    static const char *const states[] = {"UP", "DOWN", "MAINT", "DRAIN", "NOLB"};

    add_states(out, name, labels, "state", states, COUNT_OF(states),
               view_status(at->server));
}

static void check_status_samples(const struct place *at, const char *name,
                                 const char *labels, struct text *out)
{
    static const char *const states[] = {"INI",  "L4OK",  "L4CON", "L4TOUT",
                                         "L7OK", "L7STS", "L7TOUT"};

    add_states(out, name, labels, "state", states, COUNT_OF(states),
               view_check_code(&at->server->report, at->listener->settings->to->check));
}

static void node_role_samples(const struct place *at, const char *name,
                              const char *labels, struct text *out)
{
    static const char *roles[] = {NULL, NULL, NULL, NULL};

    for (unsigned i = 0; i < COUNT_OF(roles); i++)
        roles[i] = node_role_name((enum node_role)i);
    add_states(out, name, labels, "role", roles, COUNT_OF(roles),
               node_role_name(at->node->report.node.role));
}

static void check_result_samples(const struct place *at, const char *name,
                                 const char *labels, struct text *out)
{
    static const char *const results[] = {[REPORT_NONE] = "none",
                                          [REPORT_OK] = "ok",
                                          [REPORT_WRONG] = "wrong",
                                          [REPORT_REFUSED] = "refused",
                                          [REPORT_TIMEOUT] = "timeout"};

    add_states(out, name, labels, "result", results, COUNT_OF(results),
               results[at->node->report.outcome]);
}

/* Classes that nothing was counted of have no sample. */
static void error_samples(const struct place *at, const char *name, const char *labels,
                          struct text *out)
{
    static const char *const sources[] = {
        [ERROR_OF_SERVER] = "server", [ERROR_OF_ROUTER] = "pgrouter"};
    char more[64];

    for (unsigned source = 0; source < ERROR_SOURCE_COUNT; source++)
        for (unsigned i = 0; i < ERROR_CLASS_COUNT; i++) {
            uint64_t n = at->pool->errors->by_class[source][i];

            if (n == 0)
                continue;
            snprintf(more, sizeof more, "source=\"%s\",class=\"%s\"", sources[source],
                     error_class_facts[i].code);
            add_sample(out, name, "", labels, more, (double)n);
        }
}

/* Where buckets of a histogram end: powers of two, in microseconds, since there the
 * finer ones end, too; exact therefore. */
static const uint64_t bounds_us[] = {1u << 7,  1u << 8,  1u << 9,  1u << 10, 1u << 11,
                                     1u << 12, 1u << 13, 1u << 14, 1u << 15, 1u << 16,
                                     1u << 17, 1u << 19, 1u << 21, 1u << 23, 1u << 25};

static void add_histogram(struct text *out, const char *name, const char *labels,
                          const struct histogram_sum *sum)
{
    char more[48];

    for (size_t i = 0; i < COUNT_OF(bounds_us); i++) {
        snprintf(more, sizeof more, "le=\"%.9g\"", (double)bounds_us[i] / 1e6);
        add_sample(out, name, "_bucket", labels, more,
                   (double)histogram_below(sum, bounds_us[i]));
    }
    add_sample(out, name, "_bucket", labels, "le=\"+Inf\"", (double)sum->n);
    add_sample(out, name, "_sum", labels, "", (double)sum->sum_ns / 1e9);
    add_sample(out, name, "_count", labels, "", (double)sum->n);
}

#define TIME(time, what) \
    static void time##_samples(const struct place *at, const char *name, \
                               const char *labels, struct text *out) \
    { \
        add_histogram(out, name, labels, &at->pool->times->of[POOL_TIME_##time]); \
    }
#include "pool/times.def"

/* ---- places, and what they are called -----------------------------------------------
 */

PRINTF_LIKE(2, 3)
static void label(struct labels *labels, const char *format, ...)
{
    va_list args;
    int n;

    va_start(args, format);
    n = vsnprintf(labels->bytes + labels->n, sizeof labels->bytes - labels->n, format,
                  args);
    va_end(args);
    if (n < 0 || (size_t)n >= sizeof labels->bytes - labels->n)
        labels->overflowed = true;
    else
        labels->n += (size_t)n;
}

/* A value that comes from elsewhere. */
static void label_name(struct labels *labels, const char *name, const char *value)
{
    struct text escaped;

    text_init(&escaped, sizeof labels->bytes);
    escape_label(&escaped, value);
    label(labels, "%s%s=\"%s\"", labels->n == 0 ? "" : ",", name, text_get(&escaped));
    labels->overflowed = labels->overflowed || escaped.overflowed;
    text_clear(&escaped);
}

/* For each scope: whether there is an n-th place, and its labels. */
static bool find_PROCESS(const struct metrics *metrics, struct place *at,
                         struct labels *labels)
{
    (void)metrics;
    (void)labels;
    return at->n == 0;
}

static bool find_BUILD(const struct metrics *metrics, struct place *at,
                       struct labels *labels)
{
    (void)metrics;
    label_name(labels, "version", PGROUTER_VERSION);
    return at->n == 0;
}

static bool find_CONSOLE(const struct metrics *metrics, struct place *at,
                         struct labels *labels)
{
    (void)metrics;
    label_name(labels, "version", "PgBouncer 1.25.0 (pgrouter " PGROUTER_VERSION ")");
    return at->n == 0;
}

static bool find_WORKER(const struct metrics *metrics, struct place *at,
                        struct labels *labels)
{
    label(labels, "worker=\"%zu\"", at->n);
    return at->n < metrics->overview->gather->n_workers;
}

static bool find_CLOSING(const struct metrics *metrics, struct place *at,
                         struct labels *labels)
{
    (void)metrics;
    if (at->n >= CLOSE_REASON_COUNT)
        return false;
    label_name(labels, "reason", close_facts[at->n].name);
    return true;
}

static bool find_FRONTEND(const struct metrics *metrics, struct place *at,
                          struct labels *labels)
{
    if (at->n >= metrics->overview->n_listeners)
        return false;
    at->listener = &metrics->overview->listeners[at->n];
    at->tally = &at->listener->sum;
    label_name(labels, "proxy", at->listener->settings->name);
    return true;
}

static bool find_BACKEND(const struct metrics *metrics, struct place *at,
                         struct labels *labels)
{
    return find_FRONTEND(metrics, at, labels);
}

static bool find_SERVER(const struct metrics *metrics, struct place *at,
                        struct labels *labels)
{
    const struct overview *overview = metrics->overview;
    size_t n = at->n, i = 0;

    while (i < overview->n_listeners && n >= overview->listeners[i].n_servers)
        n -= overview->listeners[i++].n_servers;
    if (i == overview->n_listeners)
        return false;
    at->listener = &overview->listeners[i];
    at->server = &at->listener->servers[n];
    at->tally = &at->server->tally;
    label_name(labels, "proxy", at->listener->settings->name);
    label_name(labels, "server", at->server->report.node.name);
    return true;
}

/* Rows of a cluster's switchovers come the oldest first. */
static bool find_CLUSTER(const struct metrics *metrics, struct place *at,
                         struct labels *labels)
{
    const struct cluster_tables *tables = metrics->clusters;

    if (at->n >= tables->n_clusters)
        return false;
    at->cluster = &tables->clusters[at->n];
    for (size_t i = 0; i < tables->n_switchovers; i++) {
        const struct switchover_row *row = &tables->switchovers[i];

        if (strcmp(row->cluster, at->cluster->name) != 0)
            continue;
        at->last = &row->switchover;
        if (row->switchover.outcome != SWITCHOVER_UNDER_WAY)
            at->over = &row->switchover;
    }
    label_name(labels, "cluster", at->cluster->name);
    return true;
}

static bool find_NODE(const struct metrics *metrics, struct place *at,
                      struct labels *labels)
{
    if (at->n >= metrics->clusters->n_nodes)
        return false;
    at->node = &metrics->clusters->nodes[at->n];
    label_name(labels, "cluster", at->node->cluster);
    label_name(labels, "node", at->node->report.node.name);
    return true;
}

static const char *const pool_modes[] = {
    [POOL_MODE_SESSION] = "session",
    [POOL_MODE_TRANSACTION] = "transaction",
    [POOL_MODE_STATEMENT] = "statement",
    [POOL_MODE_DEFAULT] = "",
};

/* The console, which has no line, has zeroes. */
static bool find_DATABASE(const struct metrics *metrics, struct place *at,
                          struct labels *labels)
{
    static const struct database_config none = {.dbname = "", .user = ""};
    const struct snapshot *snapshot = metrics->snapshot;

    if (at->n >= snapshot->n_database_rows)
        return false;
    at->sum = &snapshot->database_rows[at->n].sum;
    at->database = snapshot->database_rows[at->n].settings;
    if (at->database == NULL)
        at->database = &none;
    label_name(labels, "name", at->sum->name);
    label_name(labels, "database",
               *at->database->dbname != '\0' ? at->database->dbname : at->sum->name);
    label_name(labels, "force_user", at->database->user);
    label_name(labels, "pool_mode", pool_modes[at->database->pool_mode]);
    return true;
}

static bool find_STATS(const struct metrics *metrics, struct place *at,
                       struct labels *labels)
{
    if (at->n >= metrics->snapshot->n_databases)
        return false;
    at->sum = &metrics->snapshot->databases[at->n];
    label_name(labels, "database", at->sum->name);
    return true;
}

/* A pool of a listener with a role of its own says so. */
static bool find_POOL(const struct metrics *metrics, struct place *at,
                      struct labels *labels)
{
    static const char *const roles[] = {[ROLE_PRIMARY] = "primary",
                                        [ROLE_REPLICA] = "replica",
                                        [ROLE_READ_ONLY] = "read-only",
                                        [ROLE_ANY] = "any"};

    if (at->n >= metrics->snapshot->n_pools)
        return false;
    at->pool = metrics->snapshot->pools[at->n];
    label_name(labels, "database", at->pool->database);
    label_name(labels, "user", at->pool->user);
    if (at->pool->role != ROLE_DEFAULT)
        label_name(labels, "role", roles[at->pool->role]);
    return true;
}

/* The console has none: it is passed over. */
static bool find_INSIGHT(const struct metrics *metrics, struct place *at,
                         struct labels *labels)
{
    if (!find_POOL(metrics, at, labels))
        return false;
    if (at->pool->times == NULL)
        labels->overflowed = true;
    return true;
}

/* ---- the table ----------------------------------------------------------------------
 */

enum metric_type { TYPE_COUNTER, TYPE_GAUGE, TYPE_HISTOGRAM };
static const char *const types[] = {
    [TYPE_COUNTER] = "counter", [TYPE_GAUGE] = "gauge", [TYPE_HISTOGRAM] = "histogram"};

/* In the order of metrics.def: what is behind SCOPE_NODE needs no overview. */
enum scope {
    SCOPE_AT_ONCE,
    SCOPE_IN_PIECES,
};
#define SCOPE_OF_PROCESS SCOPE_AT_ONCE
#define SCOPE_OF_BUILD SCOPE_AT_ONCE
#define SCOPE_OF_CONSOLE SCOPE_AT_ONCE
#define SCOPE_OF_WORKER SCOPE_AT_ONCE
#define SCOPE_OF_CLOSING SCOPE_AT_ONCE
#define SCOPE_OF_FRONTEND SCOPE_AT_ONCE
#define SCOPE_OF_BACKEND SCOPE_AT_ONCE
#define SCOPE_OF_SERVER SCOPE_AT_ONCE
#define SCOPE_OF_CLUSTER SCOPE_AT_ONCE
#define SCOPE_OF_NODE SCOPE_AT_ONCE
#define SCOPE_OF_DATABASE SCOPE_IN_PIECES
#define SCOPE_OF_STATS SCOPE_IN_PIECES
#define SCOPE_OF_POOL SCOPE_IN_PIECES
#define SCOPE_OF_INSIGHT SCOPE_IN_PIECES

#define METRIC(scope, type, name, help, value) \
    static void name##_samples(const struct place *at, const char *family, \
                               const char *labels, struct text *out) \
    { \
        (void)at; \
        add_sample(out, family, "", labels, "", (double)(value)); \
    }
#include "router/console/metrics.def"

struct family {
    const char *name;
    const char *help;
    enum metric_type type;
    enum scope scope;
    bool (*find)(const struct metrics *metrics, struct place *at, struct labels *labels);
    void (*write)(const struct place *at, const char *name, const char *labels,
                  struct text *out);
};

static const struct family families[] = {
#define METRIC(scope, type, name, help, value) \
    {#name, help, TYPE_##type, SCOPE_OF_##scope, find_##scope, name##_samples},
#define FAMILY(scope, type, name, help, writer) \
    {#name, help, TYPE_##type, SCOPE_OF_##scope, find_##scope, writer##_samples},
#include "router/console/metrics.def"
};

/* ---- writing ------------------------------------------------------------------------
 */

/* A counter's family is called without its _total in OpenMetrics. */
static void add_head(struct metrics *metrics, const struct family *family)
{
    static const char total[] = "_total";
    int n = (int)strlen(family->name);

    if (metrics->format == METRICS_OPEN && family->type == TYPE_COUNTER)
        n -= (int)sizeof total - 1;
    text_addf(&metrics->out, "# HELP %.*s %s\n# TYPE %.*s %s\n", n, family->name,
              family->help, n, family->name, types[family->type]);
}

/* False: there is no such place. One whose names are too long is left out. */
static bool add_place(struct metrics *metrics, const struct family *family)
{
    struct labels labels = {.n = 0};
    struct place at = {.overview = metrics->overview,
                       .snapshot = metrics->snapshot,
                       .process = &metrics->process,
                       .n = metrics->row};

    if (!family->find(metrics, &at, &labels))
        return false;
    if (metrics->row == 0)
        add_head(metrics, family);
    if (!labels.overflowed)
        family->write(&at, family->name, labels.bytes, &metrics->out);
    return true;
}

const char *metrics_content_type(enum metrics_format format)
{
    return format == METRICS_OPEN
               ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
               : "text/plain; version=0.0.4; charset=utf-8";
}

static unsigned lines_of(const struct family *family)
{
    return family->type == TYPE_HISTOGRAM ? COUNT_OF(bounds_us) + 3 : 1;
}

void metrics_write_first(struct metrics *metrics)
{
    const struct family *family = families;

    for (; family->scope == SCOPE_AT_ONCE; family++) {
        for (metrics->row = 0; add_place(metrics, family);)
            metrics->row++;
    }
    metrics->family = (size_t)(family - families);
    metrics->row = 0;
}

bool metrics_write(struct metrics *metrics)
{
    unsigned n = 0;

    for (; metrics->family < COUNT_OF(families); metrics->family++) {
        const struct family *family = &families[metrics->family];

        while (add_place(metrics, family)) {
            metrics->row++;
            n += lines_of(family);
            if (n >= LINES_PER_PIECE)
                return false;
        }
        metrics->row = 0;
    }
    if (metrics->format == METRICS_OPEN)
        text_add(&metrics->out, "# EOF\n");
    return true;
}
