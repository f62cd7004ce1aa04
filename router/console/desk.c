#include "router/console/desk.h"

#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "core/memory.h"
#include "router/worker.h"

struct desk {
    struct loop *loop;
    const struct desk_source *source;
    void *arg;
    struct averages averages;
    ev_timer period;
    unsigned n_snapshots; /* that are not freed yet */
    bool is_noting;       /* a snapshot for the averages is under way */
};

/* A question that waits for a switchover. */
struct switching_request {
    struct desk *desk;
    struct question *question;
};

static void send_home(struct question *question)
{
    struct mailbox *to =
        question->home != NULL ? question->home->mailbox : question->asker;

    mailbox_post(to, &question->message, question->on_answer);
}

static void refuse(struct question *question, const char *sqlstate, const char *why)
{
    question->sqlstate = sqlstate;
    snprintf(question->why, sizeof question->why, "%s", why);
    send_home(question);
}

/* ---- snapshots ----------------------------------------------------------------------
 */

static void free_snapshot(struct snapshot *snapshot)
{
    snapshot->desk->n_snapshots--;
    tables_clear(snapshot);
    cluster_tables_clear(&snapshot->cluster_tables);
    memory_free(snapshot->chronicle);
    tally_clear(&snapshot->gather.tallies);
    sums_free(snapshot->sums);
    config_release(snapshot->config);
    topology_release(snapshot->topology);
    memory_free(snapshot);
}

static void on_gathered(struct message *message, void *control);

/* NULL when memory is out. */
static struct snapshot *new_snapshot(struct desk *desk, struct question *question,
                                     bool with_sums)
{
    struct snapshot *snapshot = memory_zeroed(sizeof *snapshot);
    struct topology *topology = desk->source->topology(desk->arg);

    if (snapshot == NULL)
        return NULL;
    desk->n_snapshots++;
    snapshot->desk = desk;
    snapshot->question = question;
    snapshot->config = config_hold(desk->source->config(desk->arg));
    if (topology != NULL)
        snapshot->topology = topology_hold(topology);
    snapshot->averages = &desk->averages;
    snapshot->halts = desk->source->halts(desk->arg);
    desk->source->count_names(desk->arg, &snapshot->n_names, &snapshot->n_names_asked);
    list_init(&snapshot->gather.tallies);
    snapshot->gather.on_home = on_gathered;
    if (with_sums)
        snapshot->gather.sums = snapshot->sums = sums_new();
    if (snapshot->sums != NULL && question != NULL)
        snapshot->sums->with_insight = question->command == COMMAND_SHOW_LATENCIES ||
                                       question->command == COMMAND_SHOW_ERRORS;
    if (!with_sums || snapshot->sums != NULL)
        return snapshot;
    free_snapshot(snapshot);
    return NULL;
}

/* ---- answers ------------------------------------------------------------------------
 */

static void answer(struct question *question)
{
    struct snapshot *snapshot = question->snapshot;
    uint64_t began_ns = ration_clock_ns();

    tables_answer(snapshot, question);
    question->used_ns += ration_clock_ns() - began_ns;
    if (question->is_last || question->sqlstate != NULL) {
        question->snapshot = NULL;
        free_snapshot(snapshot);
    }
    send_home(question);
}

/* Clients of pools that wait for a server in the cluster. */
static unsigned count_waiting_in_pools(const struct snapshot *snapshot,
                                       const char *cluster)
{
    unsigned n = 0;

    LIST_EACH(item, &snapshot->sums->pools)
    {
        const struct pool_sum *pool = CONTAINER_OF(item, struct pool_sum, in_list);
        const struct database_config *database =
            config_database(snapshot->config, pool->database);

        if (database != NULL && strcmp(database->to->name, cluster) == 0)
            n += pool->n_waiting;
    }
    return n;
}

static unsigned count_waiting(void *arg, const char *cluster)
{
    const struct snapshot *snapshot = arg;
    const struct desk *desk = snapshot->desk;

    return desk->source->count_waiting(desk->arg, cluster) +
           count_waiting_in_pools(snapshot, cluster);
}

/* What the monitor has to say; false when memory is out. */
static bool take_cluster_tables(struct snapshot *snapshot)
{
    struct desk *desk = snapshot->desk;

    return cluster_tables_take(&snapshot->cluster_tables,
                               command_facts[snapshot->question->command].view,
                               desk->source->monitor(desk->arg), loop_now_ms(desk->loop),
                               count_waiting, snapshot);
}

/* False when memory is out. */
static bool take_chronicle(struct snapshot *snapshot)
{
    const struct desk *desk = snapshot->desk;
    enum view_name view = command_facts[snapshot->question->command].view;

    if (view != VIEW_EVENTS && view != VIEW_HISTORY)
        return true;
    snapshot->chronicle = memory_zeroed(sizeof *snapshot->chronicle);
    if (snapshot->chronicle == NULL)
        return false;
    desk->source->copy_chronicle(desk->arg, snapshot->chronicle);
    return true;
}

static void begin_answer(struct snapshot *snapshot)
{
    struct question *question = snapshot->question;
    uint64_t began_ns = ration_clock_ns();

    snapshot->now_ns = snapshot->desk->loop->now_ns;
    if (snapshot->sums != NULL)
        sums_sort(snapshot->sums);
    if (snapshot->gather.is_incomplete || !tables_prepare(snapshot) ||
        !take_cluster_tables(snapshot) || !take_chronicle(snapshot)) {
        free_snapshot(snapshot);
        refuse(question, "53200", "out of memory");
        return;
    }
    question->used_ns += ration_clock_ns() - began_ns;
    question->snapshot = snapshot;
    answer(question);
}

static void note_averages(struct snapshot *snapshot);

static void on_gathered(struct message *message, void *control)
{
    struct snapshot *snapshot = CONTAINER_OF(message, struct snapshot, gather.message);

    (void)control;
    if (snapshot->question != NULL)
        snapshot->question->used_ns += snapshot->gather.used_ns;
    if (snapshot->question != NULL)
        begin_answer(snapshot);
    else
        note_averages(snapshot);
}

static void begin_table(struct desk *desk, struct question *question)
{
    bool with_sums = command_facts[question->command].where == WHERE_SUMMED;
    struct snapshot *snapshot = new_snapshot(desk, question, with_sums);

    if (snapshot == NULL) {
        refuse(question, "53200", "out of memory");
    } else if (!with_sums) {
        begin_answer(snapshot);
    } else if (!desk->source->begin_gathering(desk->arg, &snapshot->gather)) {
        free_snapshot(snapshot);
        refuse(question, "57P01", "pgrouter is shutting down");
    }
}

/* ---- commands -----------------------------------------------------------------------
 */

static void reload(struct desk *desk, struct question *question)
{
    char why[sizeof question->why];
    struct text errors;
    bool ok;

    text_init(&errors, 64 * 1024);
    ok = desk->source->reload(desk->arg, &errors);
    snprintf(why, sizeof why, "RELOAD failed: %.*s",
             (int)strcspn(text_get(&errors), "\n"), text_get(&errors));
    text_clear(&errors);
    question->is_last = true;
    if (ok)
        send_home(question);
    else
        refuse(question, "F0000", why);
}

static void reset_cluster(struct desk *desk, struct question *question)
{
    char why[MONITOR_WHY_MAX];

    question->is_last = true;
    if (desk->source->reset_cluster(desk->arg, question->order.cluster, question->user,
                                    why))
        send_home(question);
    else
        refuse(question, "42704", why);
}

static void shut_down(struct desk *desk, struct question *question)
{
    enum command_name how = question->command;

    question->is_last = true;
    send_home(question); /* of an end at once the client hears first that it ends */
    desk->source->shut_down(desk->arg, how);
}

/* A switchover that was asked for is over. Who has asked may be gone: that is found out
 * at home. */
static void on_switched_over(void *arg, const struct switching_answer *answer)
{
    struct switching_request *request = arg;
    struct question *question = request->question;
    struct snapshot *snapshot = NULL;

    if (answer->sqlstate == NULL)
        snapshot = new_snapshot(request->desk, question, false);
    memory_free(request);
    if (answer->sqlstate != NULL) {
        refuse(question, answer->sqlstate, answer->why);
    } else if (snapshot == NULL) {
        refuse(question, "53200", "it is done, but memory is out to tell how");
    } else {
        snapshot->switched = *answer;
        begin_answer(snapshot);
    }
}

static void switch_over(struct desk *desk, struct question *question)
{
    struct switching_request *request = memory_zeroed(sizeof *request);

    if (request == NULL) {
        refuse(question, "53200", "out of memory");
        return;
    }
    request->desk = desk;
    request->question = question;
    desk->source->switch_over(desk->arg, &question->order, question->user,
                              on_switched_over, request);
}

/* Who has asked may be gone, as with a switchover. */
static void on_halted(void *arg, const char *sqlstate, const char *why)
{
    struct question *question = arg;

    question->is_last = true;
    if (sqlstate != NULL)
        refuse(question, sqlstate, why);
    else
        send_home(question);
}

static void set_word(struct desk *desk, struct question *question)
{
    enum node_word word = question->command == COMMAND_DRAIN         ? WORD_DRAIN
                          : question->command == COMMAND_MAINTENANCE ? WORD_MAINT
                                                                     : WORD_READY;

    question->is_last = true;
    if (*question->operand == '\0')
        refuse(question, "42601", "expected the name of a node, or cluster/node");
    else if (!desk->source->set_word(desk->arg, question->operand, word, question->user))
        refuse(question, "42704",
               "there is no such node, or several: see SHOW NODES, say cluster/node");
    else
        send_home(question);
}

void desk_ask(struct desk *desk, struct question *question)
{
    if (question->client_is_gone) {
        if (question->snapshot != NULL)
            free_snapshot(question->snapshot);
        text_clear(&question->rows);
        memory_free(question);
    } else if (question->snapshot != NULL) {
        answer(question);
    } else if (question->command == COMMAND_SWITCHOVER) {
        switch_over(desk, question);
    } else if (command_facts[question->command].view != VIEW_NONE) {
        begin_table(desk, question);
    } else if (question->command >= COMMAND_PAUSE &&
               question->command <= COMMAND_WAIT_CLOSE) {
        desk->source->halt(desk->arg, question->command, question->operand,
                           question->user, on_halted, question);
    } else if (question->command >= COMMAND_DRAIN && question->command <= COMMAND_READY) {
        set_word(desk, question);
    } else if (question->command == COMMAND_RELOAD) {
        reload(desk, question);
    } else if (question->command == COMMAND_RESET_CLUSTER) {
        reset_cluster(desk, question);
    } else {
        shut_down(desk, question);
    }
}

/* ---- averages -----------------------------------------------------------------------
 */

static void log_averages(const struct snapshot *snapshot)
{
    struct pool_counts counts = {0}, average;

    LIST_EACH(item, &snapshot->sums->pools)
    {
        pool_counts_add(&counts, &CONTAINER_OF(item, struct pool_sum, in_list)->counts);
    }
    averages_of_all(snapshot->averages, &counts, snapshot->now_ns, &average);
    LOG(INFO, "stats", NUMBER("transactions_per_second", average.transactions),
        NUMBER("queries_per_second", average.queries),
        NUMBER("client_parses_per_second", average.client_parses),
        NUMBER("server_parses_per_second", average.server_parses),
        NUMBER("binds_per_second", average.binds),
        NUMBER("bytes_in_per_second", average.bytes_received),
        NUMBER("bytes_out_per_second", average.bytes_sent),
        NUMBER("transaction_us", average.transaction_time / 1000),
        NUMBER("query_us", average.query_time / 1000),
        NUMBER("wait_us", average.wait_time / 1000));
}

static void note_averages(struct snapshot *snapshot)
{
    struct desk *desk = snapshot->desk;

    desk->is_noting = false;
    snapshot->now_ns = desk->loop->now_ns;
    if (!snapshot->gather.is_incomplete) {
        sums_sort(snapshot->sums);
        averages_note(&desk->averages, snapshot->sums, snapshot->now_ns);
        if (snapshot->config->main.log_stats)
            log_averages(snapshot);
    }
    free_snapshot(snapshot);
}

static void on_period(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct desk *desk = CONTAINER_OF(timer, struct desk, period);
    struct snapshot *snapshot;

    (void)ev;
    (void)events;
    if (desk->is_noting)
        return;
    snapshot = new_snapshot(desk, NULL, true);
    if (snapshot == NULL)
        return; /* the average is over a longer time then */
    desk->is_noting = desk->source->begin_gathering(desk->arg, &snapshot->gather);
    if (!desk->is_noting)
        free_snapshot(snapshot);
}

/* ---- begin and end ------------------------------------------------------------------
 */

struct desk *desk_new(struct loop *loop, const struct desk_source *source, void *arg)
{
    struct desk *desk = memory_zeroed(sizeof *desk);

    if (desk == NULL)
        return NULL;
    desk->loop = loop;
    desk->source = source;
    desk->arg = arg;
    averages_init(&desk->averages, loop->now_ns);
    ev_init(&desk->period, on_period);
    return desk;
}

void desk_free(struct desk *desk)
{
    if (desk == NULL)
        return;
    desk_stop(desk);
    REQUIRE(desk->n_snapshots == 0);
    averages_clear(&desk->averages);
    memory_free(desk);
}

void desk_configure(struct desk *desk)
{
    double period_s = (double)desk->source->config(desk->arg)->main.stats_period / 1000.;

    if (ev_is_active(&desk->period) && desk->period.repeat == period_s)
        return;
    ev_timer_stop(desk->loop->ev, &desk->period);
    ev_timer_set(&desk->period, period_s, period_s);
    ev_timer_start(desk->loop->ev, &desk->period);
}

void desk_stop(struct desk *desk)
{
    ev_timer_stop(desk->loop->ev, &desk->period);
}
