#include "router/control.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/log.h"
#include "core/memory.h"
#include "core/resolver.h"
#include "router/console/desk.h"
#include "router/console/halting.h"
#include "router/console/pages.h"
#include "router/console/runtime.h"
#include "router/console/switching.h"
#include "router/console/web.h"
#include "router/door.h"
#include "router/peers.h"
#include "router/worker.h"

/* Descriptors that are not sessions': of pages, probes, listening sockets, loops; and of
 * each worker's pipes. */
#define DESCRIPTORS_KEPT 512u
#define DESCRIPTORS_PER_WORKER 40u
/* How long we do not accept when the system is out of descriptors. */
#define ACCEPT_PAUSE_S 0.1
/* How often certificates and keys are looked at. */
#define FILES_EVERY_S 2.

enum phase { RUNNING, DRAINING, STOPPING };

#define NOT_TOLD UINT_MAX

/* What workers have told of one cluster. */
struct waiting_count {
    struct link in_control;
    char cluster[LISTENER_NAME_MAX];
    unsigned n[GATHER_WORKERS_MAX]; /* clients that wait for a node */
    uint64_t hold;                  /* of which the following speaks */
    unsigned
        n_open[GATHER_WORKERS_MAX]; /* transactions on the old primary, or NOT_TOLD */
};

struct control {
    struct loop *loop;
    struct mailbox *mailbox;
    const struct config_source *source;
    struct config *config; /* held */
    struct tls_registry *tls;
    struct security *security; /* held */
    bool has_new_files;        /* the registry has contexts that it does not */
    struct resolver *resolver;
    struct monitor *monitor;
    struct doors doors;
    struct admission admission;
    struct peers *peers;
    struct pages *pages;
    struct runtime *runtime;
    struct desk *desk;
    struct switching *switching;
    struct halting *halting;
    struct worker **workers;
    struct worker_pools shared;
    unsigned n_workers;
    unsigned *n_clients; /* of each worker */
    unsigned next_worker;
    unsigned n_present;
    unsigned n_consoles;    /* of those, for whom no shutdown waits */
    unsigned n_descriptors; /* that the process may have */
    unsigned n_present_max; /* what they suffice for */
    struct list waiting;    /* of waiting_count */
    struct log_limit accepts_logged;
    struct log_limit refusals_logged;
    struct log_limit slow_logged;
    ev_timer accept_pause;
    ev_timer files_look;
    struct deadline shutdown;
    ev_signal signals[6];
    enum phase phase;
};

static unsigned kept_descriptors(unsigned n_workers)
{
    return DESCRIPTORS_KEPT + n_workers * DESCRIPTORS_PER_WORKER;
}

struct config *config_source_load(const struct config_source *source, struct text *errors)
{
    return source->path != NULL ? config_load_file_with(source->path, getenv, errors)
                                : config_load_environment(getenv, errors);
}

/* ---- clients come -------------------------------------------------------------------
 */

/* The worker with the fewest clients; ties go round. */
static unsigned choose_worker(struct control *control)
{
    unsigned best = control->next_worker;

    for (unsigned i = 1; i < control->n_workers; i++) {
        unsigned other = (control->next_worker + i) % control->n_workers;

        if (control->n_clients[other] < control->n_clients[best])
            best = other;
    }
    control->next_worker = (best + 1) % control->n_workers;
    return best;
}

static void on_client(void *arg, struct door *door, int fd, const struct address *peer)
{
    struct control *control = arg;
    struct ticket *ticket = memory_zeroed(sizeof *ticket);

    if (ticket == NULL) {
        close(fd);
        return;
    }
    ticket->gate = &door->gate;
    ticket->listener = listener_hold(door->listener);
    ticket->fd = fd;
    ticket->peer = *peer;
    ticket->worker = choose_worker(control);
    control->n_clients[ticket->worker]++;
    admission_enter(&control->admission, ticket);
    worker_post_arrival(control->workers[ticket->worker], ticket);
    if (++control->n_present == control->n_present_max)
        doors_pause(&control->doors);
}

static void on_accept_pause_ended(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct control *control = CONTAINER_OF(timer, struct control, accept_pause);

    (void)ev;
    (void)events;
    if (control->phase == RUNNING && control->n_present < control->n_present_max)
        doors_resume(&control->doors);
}

static void on_accept_failed(void *arg, int error)
{
    struct control *control = arg;
    uint32_t missed;

    if (log_limit_allows(&control->accepts_logged, loop_now_ms(control->loop), &missed))
        LOG(ERROR, "cannot accept clients", TEXT("error", strerror(error)),
            NUMBER("clients", control->n_present), NUMBER("left_out_before", missed));
    doors_pause(&control->doors);
    ev_timer_set(&control->accept_pause, ACCEPT_PAUSE_S, 0.);
    ev_timer_start(control->loop->ev, &control->accept_pause);
}

/* ---- and go -------------------------------------------------------------------------
 */

static void begin_stopping(struct control *control);

static void admit_who_can_be(struct control *control)
{
    struct ticket *ticket;

    while ((ticket = admission_next(&control->admission)) != NULL)
        worker_post_admission(control->workers[ticket->worker], ticket);
}

static void on_client_gone(struct message *message, void *receiver)
{
    struct ticket *ticket = CONTAINER_OF(message, struct ticket, end);
    struct control *control = receiver;
    bool admission_is_under_way = ticket->is_admitted && !ticket->knows_admission;

    control->n_clients[ticket->worker]--;
    if (control->n_present-- == control->n_present_max && control->phase == RUNNING)
        doors_resume(&control->doors);
    control->n_consoles -= ticket->is_console;
    admission_leave(&control->admission, ticket);
    if (!admission_is_under_way)
        memory_free(ticket);
    if (control->phase != STOPPING)
        admit_who_can_be(control);
    if (control->phase == DRAINING && control->n_present == control->n_consoles)
        begin_stopping(control);
}

static void on_console(struct message *message, void *receiver)
{
    struct control *control = receiver;

    (void)message;
    control->n_consoles++;
    if (control->phase == DRAINING && control->n_present == control->n_consoles)
        begin_stopping(control);
}

static void on_admission_missed(struct message *message, void *receiver)
{
    (void)receiver;
    memory_free(CONTAINER_OF(message, struct ticket, admission));
}

/* ---- health -------------------------------------------------------------------------
 */

static void on_topology(void *arg, struct topology *topology)
{
    struct control *control = arg;

    for (unsigned i = 0; i < control->n_workers; i++)
        if (!worker_post_topology(control->workers[i], topology))
            LOG(ERROR, "out of memory: a worker missed a change of the topology",
                NUMBER("worker", i));
    if (control->switching != NULL)
        switching_wake(control->switching);
}

static void on_evidence(struct message *message, void *receiver)
{
    struct evidence_message *news =
        CONTAINER_OF(message, struct evidence_message, message);
    struct control *control = receiver;

    monitor_evidence(control->monitor, news->node_id, news->evidence);
    memory_free(news);
}

static struct waiting_count *waiting_at(struct control *control, const char *cluster)
{
    struct waiting_count *count;

    LIST_EACH(item, &control->waiting)
    {
        count = CONTAINER_OF(item, struct waiting_count, in_control);
        if (strcmp(count->cluster, cluster) == 0)
            return count;
    }
    count = memory_zeroed(sizeof *count);
    if (count == NULL)
        return NULL;
    strcpy(count->cluster, cluster);
    list_append(&control->waiting, &count->in_control);
    return count;
}

static unsigned sum_waiting(const struct waiting_count *count, unsigned n_workers)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < n_workers; i++)
        sum += count->n[i];
    return sum;
}

static void on_waiting(struct message *message, void *receiver)
{
    struct waiting_message *news = CONTAINER_OF(message, struct waiting_message, message);
    struct control *control = receiver;
    struct waiting_count *count = waiting_at(control, news->cluster);

    if (count != NULL) {
        count->n[news->worker] = news->n_waiting;
        monitor_waiting(control->monitor, news->cluster,
                        sum_waiting(count, control->n_workers));
    }
    memory_free(news);
}

static void count_open(struct control *control, const struct hold_message *told)
{
    struct waiting_count *count = waiting_at(control, told->news.cluster);
    unsigned sum = 0;

    if (count == NULL)
        return;
    if (count->hold != told->news.hold)
        for (unsigned i = 0; i < control->n_workers; i++)
            count->n_open[i] = NOT_TOLD;
    count->hold = told->news.hold;
    count->n_open[told->worker] = told->news.n_open;
    for (unsigned i = 0; i < control->n_workers; i++) {
        if (count->n_open[i] == NOT_TOLD)
            return;
        sum += count->n_open[i];
    }
    monitor_open_transactions(control->monitor, told->news.cluster, told->news.hold, sum);
}

static void on_hold(struct message *message, void *receiver)
{
    struct hold_message *told = CONTAINER_OF(message, struct hold_message, message);
    const struct hold_news *news = &told->news;
    struct control *control = receiver;

    switch (news->kind) {
    case HOLD_NEWS_OPEN:
        count_open(control, told);
        break;
    case HOLD_NEWS_LENT:
        monitor_lent(control->monitor, news->cluster, news->hold, news->at_ms);
        break;
    case HOLD_NEWS_COUNTS:
        monitor_count_held(control->monitor, news->cluster, news->hold, &news->counts);
        break;
    }
    memory_free(told);
}

static void on_peer_wanted(struct message *message, void *receiver)
{
    struct control *control = receiver;

    peers_answer(control->peers, CONTAINER_OF(message, struct peer_question, message));
}

/* ---- pages --------------------------------------------------------------------------
 */

static bool begin_gathering(void *arg, struct gather *gather)
{
    struct control *control = arg;

    if (control->phase == STOPPING)
        return false;
    gather->home = control->mailbox;
    worker_post_gather(control->workers[0], gather);
    return true;
}

static void describe(void *arg, struct overview *overview)
{
    const struct control *control = arg;

    overview->config = control->config;
    overview->topology = monitor_topology(control->monitor);
    overview->n_admitted = control->admission.n_admitted;
    overview->n_in_line = (unsigned)control->admission.line.n;
    overview->max_clients = control->admission.max;
    overview->hard_max_clients = control->n_present_max;
    overview->is_stopping = control->phase != RUNNING;
    overview->longest_iteration_ms = loop_longest_iteration_ms(control->loop);
}

static bool is_ready(void *arg)
{
    const struct control *control = arg;

    return control->phase == RUNNING && monitor_is_ready(control->monitor);
}

/* ---- the runtime socket -------------------------------------------------------------
 */

static bool begin_roll(void *arg, struct roll *roll)
{
    struct control *control = arg;

    if (control->phase == STOPPING)
        return false;
    roll->home = control->mailbox;
    roll->workers = control->workers;
    roll->n_workers = control->n_workers;
    roll_begin(roll);
    return true;
}

static bool set_max_clients(void *arg, unsigned n)
{
    struct control *control = arg;

    if (n > control->n_present_max)
        return false;
    control->admission.max = n;
    return true;
}

static void admit(void *arg)
{
    struct control *control = arg;

    if (control->phase != STOPPING)
        admit_who_can_be(control);
}

/* ---- configuration ------------------------------------------------------------------
 */

static void log_errors(const char *event, struct text *errors)
{
    char *line = errors->bytes, *rest = NULL;

    for (line = line == NULL ? NULL : strtok_r(line, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest))
        LOG(ERROR, event, TEXT("error", line));
}

static void expect_clients(struct control *control, unsigned n)
{
    if (n > control->n_present_max)
        n = control->n_present_max;
    n = 2 * n + kept_descriptors(control->n_workers);
    socket_expect(n < control->n_descriptors ? n : control->n_descriptors);
}

/* What the file says that has no effect, and which databases are led by their hosts. */
static void log_notes(const struct config *config)
{
    const char *line = config->notes;

    while (line != NULL && *line != '\0') {
        int n = (int)strcspn(line, "\n");
        char text[512];

        snprintf(text, sizeof text, "%.*s", n, line);
        LOG(WARNING, "setting without effect", TEXT("text", text));
        line += n + (line[n] == '\n');
    }
    for (size_t i = 0; i < config->n_databases; i++)
        if (config->databases[i].follows_host)
            LOG(INFO, "database follows the cluster of its host",
                TEXT("database", config->databases[i].name),
                TEXT("cluster", config->databases[i].to->name));
}

static void apply_main(struct control *control)
{
    const struct main_config *main = &control->config->main;

    log_notes(control->config);
    log_configure(main->verbose > 0 ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO, main->log_format);
    resolver_set_ttl(control->resolver, (uint64_t)main->dns_min_ttl,
                     (uint64_t)main->dns_max_ttl);
    control->admission.max = (unsigned)main->max_client_conn;
    expect_clients(control, (unsigned)main->max_client_conn);
    if (main->max_client_conn > control->n_present_max)
        LOG(WARNING, "max_client_conn is more than the descriptors suffice for",
            NUMBER("max_client_conn", main->max_client_conn),
            NUMBER("suffice_for", control->n_present_max));
}

/* ---- certificates and keys ----------------------------------------------------------
 */

/* Takes over the caller's reference. */
static void set_security(struct control *control, struct security *security)
{
    security_release(control->security);
    control->security = security;
    if (security->stats_context != NULL)
        pages_secure(control->pages, security->stats_context);
    control->has_new_files = false;
    for (unsigned i = 0; i < control->n_workers; i++)
        if (!worker_post_settings(control->workers[i], control->config, security))
            LOG(ERROR, "out of memory: a worker goes on with settings of before",
                NUMBER("worker", i));
}

/* Reads the files that have changed; those that are bad leave what was. */
static void read_files_again(struct control *control)
{
    struct text errors;

    text_init(&errors, 64 * 1024);
    control->has_new_files =
        tls_registry_look(control->tls, &errors) || control->has_new_files;
    monitor_read_files(control->monitor, &errors);
    log_errors("certificate not read again, the old one goes on", &errors);
    text_clear(&errors);
}

static void on_files_look(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct control *control = CONTAINER_OF(timer, struct control, files_look);
    struct security *security;
    struct text errors;

    (void)ev;
    (void)events;
    if (control->phase != RUNNING)
        return;
    read_files_again(control);
    if (!control->has_new_files)
        return;
    text_init(&errors, 64 * 1024);
    security = security_new(control->tls, control->config, control->security, &errors);
    if (security != NULL &&
        doors_configure(&control->doors, control->config, security, &errors)) {
        set_security(control, security);
        LOG(INFO, "certificates read again");
    } else {
        security_release(security);
    }
    log_errors("certificate not read again, the old one goes on", &errors);
    text_clear(&errors);
}

/* ---- configuration, all of it -------------------------------------------------------
 */

/* All or nothing: what may fail comes first, and what it did is taken back. */
static bool apply(struct control *control, struct config *config, struct text *errors)
{
    struct config *old = control->config;
    struct security *security =
        security_new(control->tls, config, control->security, errors);

    if (security == NULL)
        return false;
    if (!monitor_check(control->monitor, config, errors) ||
        !pages_configure(control->pages, &config->stats, (int)config->main.listen_backlog,
                         security->stats_context, errors)) {
        security_release(security);
        return false;
    }
    if (!runtime_configure(control->runtime, &config->stats,
                           (int)config->main.listen_backlog, errors) ||
        !doors_configure(&control->doors, config, security, errors)) {
        if (old != NULL && !runtime_configure(control->runtime, &old->stats,
                                              (int)old->main.listen_backlog, errors))
            text_add(errors, "the runtime socket could not be brought back\n");
        if (old != NULL &&
            !pages_configure(control->pages, &old->stats, (int)old->main.listen_backlog,
                             security->stats_context, errors))
            text_add(errors, "the stats page could not be brought back\n");
        security_release(security);
        return false;
    }
    control->config = config_hold(config);
    set_security(control, security);
    apply_main(control);
    desk_configure(control->desk);
    if (!peers_configure(control->peers, config))
        text_add(errors, "out of memory: not all peers are known\n");
    if (!monitor_configure(control->monitor, config))
        text_add(errors, "out of memory: nodes and checks are those of before\n");
    config_release(old);
    if (control->phase == RUNNING)
        admit_who_can_be(control);
    return true;
}

/* False: the old one goes on, and `errors` says why. */
static bool reload(struct control *control, struct text *errors)
{
    struct text names;
    struct config *config, *old;
    bool ok;

    text_init(&names, 4096);
    config = config_source_load(control->source, errors);
    old = config_hold(control->config);
    read_files_again(control);
    ok = config != NULL && apply(control, config, errors);
    if (ok) {
        LOG(INFO, "configuration reloaded", TEXT("file", control->source->path));
        config_needs_restart(old, config, &names);
        for (char *rest,
             *name = names.bytes == NULL ? NULL : strtok_r(names.bytes, "\n", &rest);
             name != NULL; name = strtok_r(NULL, "\n", &rest))
            LOG(WARNING, "setting takes effect after a restart", TEXT("setting", name));
    } else {
        LOG(ERROR, "configuration not reloaded, the old one goes on",
            TEXT("file", control->source->path));
    }
    config_release(old);
    config_release(config);
    text_clear(&names);
    return ok;
}

static void on_hangup(struct control *control)
{
    struct text errors;

    text_init(&errors, 64 * 1024);
    (void)reload(control, &errors);
    log_errors("configuration", &errors);
    text_clear(&errors);
}

/* ---- the end ------------------------------------------------------------------------
 */

static void begin_stopping(struct control *control)
{
    if (control->phase == STOPPING)
        return;
    control->phase = STOPPING;
    deadline_cancel(&control->shutdown);
    doors_shut(&control->doors);
    for (unsigned i = 0; i < control->n_workers; i++)
        worker_post_stop(control->workers[i]);
    loop_stop(control->loop);
}

static void on_shutdown_timeout(struct deadline *deadline)
{
    begin_stopping(CONTAINER_OF(deadline, struct control, shutdown));
}

/* `with_waiting`: clients without a server may still get one. */
static void begin_draining(struct control *control, bool with_waiting)
{
    uint64_t timeout_ms = (uint64_t)control->config->main.shutdown_timeout;

    LOG(INFO, "shutting down: no new clients", NUMBER("clients", control->n_present));
    control->phase = DRAINING;
    doors_shut(&control->doors);
    if (control->n_present == control->n_consoles) {
        begin_stopping(control);
        return;
    }
    for (unsigned i = 0; !with_waiting && i < control->n_workers; i++)
        if (!worker_post_end_waiting(control->workers[i]))
            LOG(ERROR, "out of memory: waiting clients go on waiting",
                NUMBER("worker", i));
    if (timeout_ms > 0)
        deadline_arm(control->loop, &control->shutdown, timeout_ms, on_shutdown_timeout);
}

static void on_paused_by_signal(void *arg, const char *sqlstate, const char *why)
{
    (void)arg;
    if (sqlstate != NULL)
        LOG(WARNING, "pause ended", TEXT("why", why));
    else
        LOG(INFO, "pause or resume done");
}

/* As PgBouncer has it: SIGUSR1 is PAUSE, SIGUSR2 is RESUME. */
static void pause_or_resume(struct control *control, bool pauses)
{
    halting_begin(control->halting, control->config,
                  pauses ? COMMAND_PAUSE : COMMAND_RESUME, "", "signal",
                  on_paused_by_signal, NULL);
}

static void on_signal(struct ev_loop *ev, ev_signal *signal, int events)
{
    struct control *control = signal->data;

    (void)ev;
    (void)events;
    LOG(INFO, "signal", TEXT("name", strsignal(signal->signum)));
    switch (signal->signum) {
    case SIGHUP:
        if (control->phase == RUNNING)
            on_hangup(control);
        break;
    case SIGUSR1:
    case SIGUSR2:
        if (control->phase == RUNNING)
            pause_or_resume(control, signal->signum == SIGUSR1);
        break;
    case SIGTERM:
    case SIGINT:
        if (control->phase == RUNNING)
            begin_draining(control, signal->signum == SIGTERM);
        else
            begin_stopping(control);
        break;
    default: /* SIGQUIT */
        begin_stopping(control);
    }
}

/* ---- the console --------------------------------------------------------------------
 */

static void on_question(struct message *message, void *receiver)
{
    struct control *control = receiver;

    desk_ask(control->desk, CONTAINER_OF(message, struct question, message));
}

static void ask_desk(void *arg, struct question *question)
{
    struct control *control = arg;

    question->asker = control->mailbox;
    desk_ask(control->desk, question);
}

static struct config *config_of(void *arg)
{
    return ((struct control *)arg)->config;
}

static struct topology *topology_of(void *arg)
{
    return monitor_topology(((struct control *)arg)->monitor);
}

static const struct monitor *monitor_of(void *arg)
{
    return ((struct control *)arg)->monitor;
}

static unsigned count_waiting(void *arg, const char *cluster)
{
    const struct control *control = arg;

    LIST_EACH(item, &control->waiting)
    {
        const struct waiting_count *count =
            CONTAINER_OF(item, struct waiting_count, in_control);

        if (strcmp(count->cluster, cluster) == 0)
            return sum_waiting(count, control->n_workers);
    }
    return 0;
}

static void switch_over(void *arg, const struct switchover_order *order, const char *user,
                        void (*on_end)(void *arg, const struct switching_answer *answer),
                        void *on_end_arg)
{
    static const struct switching_answer ending = {.sqlstate = "57P01",
                                                   .why = "pgrouter is shutting down"};
    struct control *control = arg;

    if (control->switching == NULL)
        on_end(on_end_arg, &ending);
    else
        switching_begin(control->switching, control->config, order, user, on_end,
                        on_end_arg);
}

static bool begin_order(void *arg, struct pool_order *order)
{
    struct control *control = arg;

    if (control->phase == STOPPING)
        return false;
    order->home = control->mailbox;
    order->workers = control->workers;
    order->n_workers = control->n_workers;
    pool_order_post(order);
    return true;
}

static void halt(void *arg, enum command_name command, const char *operand,
                 const char *user,
                 void (*on_end)(void *arg, const char *sqlstate, const char *why),
                 void *on_end_arg)
{
    struct control *control = arg;

    halting_begin(control->halting, control->config, command, operand, user, on_end,
                  on_end_arg);
}

static const struct halts *halts_of(void *arg)
{
    return halting_halts(((struct control *)arg)->halting);
}

/* The cluster that the name speaks of; NULL: none, or several. `*node` is behind the
 * slash, or the name itself. */
static const struct topology_cluster *cluster_of(const struct topology *topology,
                                                 const char *name, const char **node)
{
    const struct topology_cluster *found = NULL;
    const char *slash = strchr(name, '/');
    size_t n = slash == NULL ? 0 : (size_t)(slash - name);

    *node = slash == NULL ? name : slash + 1;
    for (size_t i = 0; i < topology->n_clusters; i++) {
        const struct topology_cluster *cluster = &topology->clusters[i];

        if (slash != NULL &&
            (strlen(cluster->name) != n || strncmp(cluster->name, name, n) != 0))
            continue;
        for (size_t k = 0; k < cluster->n_nodes; k++)
            if (strcmp(cluster->nodes[k].name, *node) == 0) {
                if (found != NULL)
                    return NULL;
                found = cluster;
            }
    }
    return found;
}

static bool set_word(void *arg, const char *name, enum node_word word, const char *user)
{
    struct control *control = arg;
    struct topology *topology = topology_hold(monitor_topology(control->monitor));
    const char *node;
    const struct topology_cluster *cluster = cluster_of(topology, name, &node);
    char who[96];
    bool ok;

    snprintf(who, sizeof who, "console, user %s", user);
    ok = cluster != NULL &&
         monitor_set_word(control->monitor, cluster->name, node, word, who);
    topology_release(topology);
    return ok;
}

static void count_names(void *arg, unsigned *n, unsigned *n_asked)
{
    resolver_count(((struct control *)arg)->resolver, n, n_asked);
}

static void copy_chronicle(void *arg, struct chronicle *chronicle)
{
    const struct control *control = arg;

    chronicle->events = *pages_events(control->pages);
    chronicle->history = *pages_history(control->pages);
    chronicle->now_s = time(NULL);
    chronicle->now_ms = loop_now_ms(control->loop);
}

static bool reload_by_command(void *arg, struct text *errors)
{
    struct control *control = arg;
    struct text copy;
    bool ok;

    LOG(INFO, "RELOAD on the console");
    if (control->phase != RUNNING) {
        text_add(errors, "pgrouter is shutting down");
        return false;
    }
    ok = reload(control, errors);
    text_init(&copy, 64 * 1024);
    text_add(&copy, text_get(errors));
    log_errors("configuration", &copy); /* takes them apart */
    text_clear(&copy);
    return ok;
}

static bool reset_cluster(void *arg, const char *cluster, const char *user,
                          char why[MONITOR_WHY_MAX])
{
    struct control *control = arg;

    return monitor_reset(control->monitor, cluster, user, why);
}

static void shut_down(void *arg, enum command_name how)
{
    struct control *control = arg;

    LOG(INFO, "SHUTDOWN on the console");
    if (control->phase == RUNNING && how != COMMAND_SHUTDOWN)
        begin_draining(control, how == COMMAND_SHUTDOWN_WAIT_CLIENTS);
    else
        begin_stopping(control);
}

/* ---- the beginning ------------------------------------------------------------------
 */

static void watch_signals(struct control *control)
{
    static const int numbers[] = {SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2};

    signal(SIGPIPE, SIG_IGN);
    for (unsigned i = 0; i < COUNT_OF(numbers); i++) {
        ev_signal_init(&control->signals[i], on_signal, numbers[i]);
        control->signals[i].data = control;
        ev_signal_start(control->loop->ev, &control->signals[i]);
    }
}

static void raise_descriptor_limit(struct control *control, unsigned n_workers)
{
    struct rlimit limit = {.rlim_cur = 1024};
    rlim_t kept = kept_descriptors(n_workers);

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
        (void)getrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur > INT_MAX)
        limit.rlim_cur = INT_MAX;
    control->n_descriptors = (unsigned)limit.rlim_cur;
    if (kept > limit.rlim_cur / 2)
        kept = limit.rlim_cur / 2;
    control->n_present_max = (unsigned)((limit.rlim_cur - kept) / 2);
    if (control->n_present_max == 0)
        control->n_present_max = 1;
}

static bool make_workers(struct control *control, struct config *config)
{
    const struct control_door door = {
        .mailbox = control->mailbox,
        .refusals_logged = &control->refusals_logged,
        .slow_logged = &control->slow_logged,
        .on_client_gone = on_client_gone,
        .on_admission_missed = on_admission_missed,
        .on_evidence = on_evidence,
        .on_hold = on_hold,
        .on_waiting = on_waiting,
        .on_console = on_console,
        .on_question = on_question,
        .on_peer_wanted = on_peer_wanted,
    };

    unsigned n = (unsigned)config->main.workers;

    control->workers = memory_zeroed(n * sizeof(struct worker *));
    control->n_clients = memory_zeroed(n * sizeof(unsigned));
    if (control->workers == NULL || control->n_clients == NULL ||
        !worker_pools_open(&control->shared, n))
        return false;
    for (; control->n_workers < n; control->n_workers++) {
        struct worker *worker = worker_new(control->n_workers, n, control->workers,
                                           &control->shared, &door, config);

        if (worker == NULL)
            return false;
        control->workers[control->n_workers] = worker;
    }
    return true;
}

static bool build(struct control *control, struct config *config)
{
    static const struct pages_source pages_source = {
        .begin_gathering = begin_gathering,
        .describe = describe,
        .is_ready = is_ready,
        .config = config_of,
        .ask = ask_desk,
        .count_names = count_names,
    };

    static const struct runtime_source runtime_source = {
        .begin_gathering = begin_gathering,
        .begin_roll = begin_roll,
        .describe = describe,
        .set_max_clients = set_max_clients,
        .admit = admit,
    };

    static const struct desk_source desk_source = {
        .begin_gathering = begin_gathering,
        .config = config_of,
        .topology = topology_of,
        .monitor = monitor_of,
        .count_names = count_names,
        .count_waiting = count_waiting,
        .switch_over = switch_over,
        .reset_cluster = reset_cluster,
        .halt = halt,
        .halts = halts_of,
        .copy_chronicle = copy_chronicle,
        .set_word = set_word,
        .reload = reload_by_command,
        .shut_down = shut_down,
    };

    control->loop = loop_new(true);
    if (control->loop == NULL)
        return false;
    control->mailbox = mailbox_new(control->loop, control);
    control->resolver = resolver_new(control->loop);
    control->tls = tls_registry_new();
    if (control->mailbox == NULL || control->tls == NULL || control->resolver == NULL ||
        !make_workers(control, config))
        return false;
    control->peers = peers_new(control->resolver);
    control->monitor =
        monitor_new(control->loop, control->resolver, on_topology, control);
    control->pages = pages_new(control->loop, &control->doors, control->monitor,
                               &pages_source, control);
    control->runtime = runtime_new(control->loop, &control->doors, control->monitor,
                                   &runtime_source, control);
    control->desk = desk_new(control->loop, &desk_source, control);
    control->halting = halting_new(control->loop, begin_order, control);
    if (control->monitor != NULL)
        control->switching = switching_new(control->loop, control->monitor);
    doors_init(&control->doors, control->loop, on_client, on_accept_failed, control);
    admission_init(&control->admission);
    list_init(&control->waiting);
    ev_timer_init(&control->accept_pause, on_accept_pause_ended, 0., 0.);
    ev_timer_init(&control->files_look, on_files_look, FILES_EVERY_S, FILES_EVERY_S);
    return control->peers != NULL && control->monitor != NULL && control->pages != NULL &&
           control->runtime != NULL && control->desk != NULL &&
           control->switching != NULL && control->halting != NULL;
}

/* Messages that were under way when the threads ended still own what they carry. */
static void settle_mailboxes(struct control *control)
{
    bool delivered = true;

    while (delivered) {
        delivered = control->mailbox != NULL && mailbox_drain(control->mailbox);
        for (unsigned i = 0; i < control->n_workers; i++)
            delivered = worker_drain(control->workers[i]) || delivered;
    }
}

static void tear_down(struct control *control)
{
    switching_free(control->switching); /* answers those who wait */
    control->switching = NULL;
    if (control->halting != NULL)
        halting_stop(control->halting);
    settle_mailboxes(control);
    halting_free(control->halting);
    pages_free(control->pages);
    runtime_free(control->runtime);
    desk_free(control->desk);
    if (control->loop != NULL && control->doors.loop != NULL)
        doors_clear(&control->doors);
    monitor_free(control->monitor);
    peers_free(control->peers);
    resolver_free(control->resolver);
    for (unsigned i = 0; i < control->n_workers; i++)
        worker_free(control->workers[i]);
    for (struct link *first; control->waiting.head.next != NULL &&
                             (first = list_first(&control->waiting)) != NULL;) {
        list_remove(&control->waiting, first);
        memory_free(CONTAINER_OF(first, struct waiting_count, in_control));
    }
    memory_free(control->workers);
    worker_pools_close(&control->shared);
    memory_free(control->n_clients);
    mailbox_free(control->mailbox);
    for (unsigned i = 0; control->loop != NULL && i < COUNT_OF(control->signals); i++)
        ev_signal_stop(control->loop->ev, &control->signals[i]);
    if (control->loop != NULL)
        ev_timer_stop(control->loop->ev, &control->accept_pause);
    if (control->loop != NULL)
        ev_timer_stop(control->loop->ev, &control->files_look);
    if (control->loop != NULL)
        loop_finish(control->loop);
    loop_free(control->loop);
    config_release(control->config);
    security_release(control->security);
    tls_registry_free(control->tls);
}

/* False when a thread could not be started. */
static bool run(struct control *control)
{
    unsigned n_started = 0;

    while (n_started < control->n_workers && worker_start(control->workers[n_started]))
        n_started++;
    if (n_started == control->n_workers) {
        LOG(INFO, "pgrouter is running", TEXT("version", PGROUTER_VERSION),
            NUMBER("workers", control->n_workers),
            NUMBER("listeners", control->config->n_listeners));
        loop_run(control->loop);
    } else {
        LOG(ERROR, "cannot start a thread");
        begin_stopping(control);
    }
    for (unsigned i = 0; i < n_started; i++)
        worker_join(control->workers[i]);
    LOG(INFO, "loop ended", TEXT("thread", "control"),
        DECIMAL("longest_ms", loop_longest_iteration_ms(control->loop)),
        DECIMAL("longest_work_ms", loop_longest_work_ms(control->loop)));
    return n_started == control->n_workers;
}

int control_run(struct config *config, const struct config_source *source)
{
    struct control control = {.source = source};
    struct text errors;
    bool ok;

    text_init(&errors, 64 * 1024);
    raise_descriptor_limit(&control, (unsigned)config->main.workers);
    ok = build(&control, config);
    if (!ok)
        text_add(&errors, "out of memory or descriptors\n");
    ok = ok && apply(&control, config, &errors);
    log_errors("cannot start", &errors);
    text_clear(&errors);
    if (ok) {
        watch_signals(&control);
        ev_timer_start(control.loop->ev, &control.files_look);
        ok = run(&control);
    }
    tear_down(&control);
    return ok ? 0 : 1;
}
