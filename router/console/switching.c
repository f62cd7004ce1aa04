#include "router/console/switching.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/http.h"
#include "core/log.h"
#include "core/memory.h"
#include "health/patroni_members.h"

/* How often we look whether the next step has come; a change of the topology tells us of
 * most. */
#define LOOK_EVERY_S 0.01
/* Patroni reads its store for GET /cluster. */
#define MEMBERS_MS 5000u
/* Patroni 3 answers POST /switchover after some 20 s at the latest. */
#define ANSWER_MS 30000u
/* So long may the old primary be one after it; and after an answer that leaves it open.
 */
#define COMING_MS 20000u
#define DOUBT_MS 2000u
/* So long we wait for the first client to have a server, which there may be none for. */
#define LENT_MS 250u

#define OBJECT_UNKNOWN "42704"
#define IN_USE "55006"
#define NOT_POSSIBLE "55000"
#define NO_MEMORY "53200"

enum stage { ASKING, DRAINING, ASKED, LENDING };

struct task {
    struct link in_switching;
    struct switching *switching;
    struct config *config; /* held */
    const struct cluster_config *cluster;
    struct topology *topology; /* held: who the nodes were in the beginning */
    const struct topology_node *from;
    const struct topology_node *to; /* NULL: Patroni may choose */
    uint16_t check_port;
    size_t n_tried; /* addresses of `from` */
    char user[64];
    struct patroni_members members;
    uint64_t drain_ms;
    enum stage stage;
    uint64_t hold;
    struct switchover seen;         /* as of the last look */
    char present[NODE_NAME_MAX];    /* the primary, as of then */
    uint64_t asked_ms, doubtful_ms; /* 0 = not yet */
    char words[200];                /* Patroni's */
    struct http_request *request;
    ev_timer look;
    void (*on_end)(void *arg, const struct switching_answer *answer);
    void *arg;
};

struct switching {
    struct loop *loop;
    struct monitor *monitor;
    struct http *http;
    struct list tasks;
};

/* ---- the end ------------------------------------------------------------------------
 */

static void free_task(struct task *task)
{
    if (task->request != NULL)
        http_cancel(task->request);
    ev_timer_stop(task->switching->loop->ev, &task->look);
    ev_clear_pending(task->switching->loop->ev, &task->look);
    list_remove(&task->switching->tasks, &task->in_switching);
    topology_release(task->topology);
    config_release(task->config);
    memory_free(task);
}

static void finish(struct task *task, const struct switching_answer *answer)
{
    void (*on_end)(void *, const struct switching_answer *) = task->on_end;
    void *arg = task->arg;

    free_task(task);
    on_end(arg, answer);
}

static void fail(struct task *task, const char *sqlstate, const char *format, ...)
    PRINTF_LIKE(3, 4);

/* Who is held goes on with the primary that there is. */
static void fail(struct task *task, const char *sqlstate, const char *format, ...)
{
    struct switching_answer answer = {.sqlstate = sqlstate};
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(answer.why, sizeof answer.why, format, arguments);
    va_end(arguments);
    if (task->hold != 0 && task->stage != LENDING)
        (void)monitor_release(task->switching->monitor, task->cluster->name,
                              HOLD_BY_COMMAND);
    LOG(WARNING, "switchover failed", TEXT("cluster", task->cluster->name),
        TEXT("from", task->from->name), TEXT("why", answer.why));
    finish(task, &answer);
}

static void add_step(const struct task *task, struct switching_answer *answer,
                     const char *name, uint64_t at_ms, const char *detail)
{
    struct switching_step *step = &answer->steps[answer->n_steps];

    if (at_ms == 0)
        return;
    REQUIRE(answer->n_steps++ < SWITCHING_STEPS_MAX);
    step->name = name;
    step->ms = at_ms < task->seen.held_ms ? 0 : at_ms - task->seen.held_ms;
    snprintf(step->detail, sizeof step->detail, "%s", detail);
}

static void succeed(struct task *task)
{
    const struct switchover *seen = &task->seen;
    struct switching_answer answer = {.n_steps = 0};
    char text[200];

    add_step(task, &answer, "held", seen->held_ms, seen->sign);
    add_step(task, &answer, "drained", seen->drained_ms,
             "no transaction is open on the old primary");
    snprintf(text, sizeof text, "Patroni: %.80s to %.80s", task->members.leader,
             task->to == NULL ? "any" : task->members.to);
    add_step(task, &answer, "asked", task->asked_ms, text);
    add_step(task, &answer, "gone", seen->gone_ms, seen->from);
    add_step(task, &answer, "proven", seen->proven_ms, seen->to);
    snprintf(text, sizeof text, "number %llu of SHOW SWITCHOVERS",
             (unsigned long long)seen->number);
    add_step(task, &answer, "ended", seen->ended_ms, text);
    add_step(task, &answer, "lent", seen->lent_ms, "the first client has a server there");
    LOG(INFO, "switchover done", TEXT("cluster", task->cluster->name),
        TEXT("from", seen->from), TEXT("to", seen->to),
        NUMBER("ms", seen->ended_ms - seen->held_ms));
    finish(task, &answer);
}

/* ---- what the monitor sees ----------------------------------------------------------
 */

static void see_switchover(void *arg, const struct switchover *switchover)
{
    struct task *task = arg;

    if (switchover->number == task->hold)
        task->seen = *switchover;
}

static void see_cluster(void *arg, const struct cluster_report *report)
{
    struct task *task = arg;

    if (strcmp(report->name, task->cluster->name) != 0)
        return;
    snprintf(task->present, sizeof task->present, "%s", report->primary);
    if (report->present != NULL)
        see_switchover(task, report->present);
}

/* False when the hold is no more known. */
static bool see(struct task *task)
{
    struct monitor *monitor = task->switching->monitor;

    task->present[0] = '\0';
    task->seen.number = 0;
    monitor_report_switchovers(monitor, task->cluster->name, see_switchover, task);
    monitor_report_clusters(monitor, see_cluster, task);
    return task->seen.number == task->hold;
}

/* ---- Patroni is asked ---------------------------------------------------------------
 */

/* The next address of the old primary's Patroni. False: all were tried. */
static bool next_address(struct task *task, struct address *address)
{
    if (task->n_tried == task->from->n_addresses)
        return false;
    *address = task->from->addresses[task->n_tried++];
    address_set_port(address, task->check_port);
    return true;
}

static void on_switchover_answer(void *arg, const struct http_answer *answer);

static void ask_for_switchover(struct task *task)
{
    struct switching *switching = task->switching;
    struct address address;
    struct http_call call = {
        .host = task->from->host,
        .address = &address,
        .path = "/switchover",
        .tls = monitor_restapi_tls(switching->monitor, task->cluster->name),
        .user = task->cluster->restapi_user,
        .password = task->cluster->restapi_password,
        .timeout_ms = ANSWER_MS,
        .on_answer = on_switchover_answer,
        .arg = task};
    struct text body;

    if (!next_address(task, &address)) {
        fail(task, NOT_POSSIBLE, "Patroni of node \"%s\" does not answer: %s",
             task->from->name, task->words);
        return;
    }
    text_init(&body, 4096);
    if (patroni_write_switchover(task->members.from, task->members.to, &body)) {
        call.body = text_get(&body);
        task->request = http_send(switching->http, &call);
    }
    text_clear(&body);
    if (task->request == NULL)
        fail(task, NO_MEMORY, "out of memory");
}

static bool has_changed(const struct task *task)
{
    return task->present[0] != '\0' && strcmp(task->present, task->from->name) != 0;
}

static bool is_refused(const struct task *task, const struct http_answer *answer)
{
    return answer->outcome == HTTP_ANSWERED &&
           !patroni_leaves_open(answer->status, answer->body) && !has_changed(task);
}

static void take_refusal(struct task *task, int status)
{
    const char *hint = status == 401 ? "; see restapi_user and restapi_password" : "";

    fail(task, NOT_POSSIBLE, "Patroni has not switched over: %s (HTTP status %d)%s",
         task->words[0] != '\0' ? task->words : "no reason given", status, hint);
}

static void on_switchover_answer(void *arg, const struct http_answer *answer)
{
    struct task *task = arg;

    task->request = NULL;
    patroni_read_words(answer->outcome == HTTP_ANSWERED ? answer->body : answer->error,
                       task->words, sizeof task->words);
    if (answer->outcome == HTTP_REFUSED && !answer->is_sent) {
        ask_for_switchover(task); /* elsewhere: nobody has read it here */
    } else if (answer->outcome == HTTP_NOT_SENT) {
        fail(task, NO_MEMORY, "cannot ask Patroni: %s", task->words);
    } else if (see(task) && is_refused(task, answer)) {
        take_refusal(task, answer->status);
    } else if (answer->status != 200 && answer->status != 202) {
        task->doubtful_ms = loop_now_ms(task->switching->loop);
    }
}

static void begin_asked(struct task *task)
{
    task->stage = ASKED;
    task->asked_ms = loop_now_ms(task->switching->loop);
    task->n_tried = 0;
    ask_for_switchover(task);
}

/* ---- steps --------------------------------------------------------------------------
 */

/* The hold is over. */
static void take_end(struct task *task)
{
    const struct switchover *seen = &task->seen;
    bool has_words = task->words[0] != '\0';

    task->stage = LENDING;
    if (seen->outcome == SWITCHOVER_TIMED_OUT)
        fail(task, NOT_POSSIBLE, "no primary was proven in time%s%s",
             has_words ? "; Patroni says: " : "", task->words);
    else if (seen->outcome == SWITCHOVER_STAYED)
        fail(task, NOT_POSSIBLE, "node \"%s\" is the primary as before%s%s",
             task->from->name, has_words ? "; Patroni says: " : "", task->words);
    else if (task->to != NULL && strcmp(seen->to, task->to->name) != 0)
        fail(task, NOT_POSSIBLE, "node \"%s\" has become the primary, not \"%s\"",
             seen->to, task->to->name);
}

static void wait_for_drain(struct task *task)
{
    uint64_t now_ms = loop_now_ms(task->switching->loop);

    if (task->seen.drained_ms != 0 || now_ms - task->seen.held_ms >= task->drain_ms)
        begin_asked(task);
}

static void wait_for_change(struct task *task)
{
    uint64_t now_ms = loop_now_ms(task->switching->loop);

    if (task->seen.gone_ms != 0)
        return; /* the monitor knows how long to wait for a new one */
    if (task->doubtful_ms != 0 && now_ms - task->doubtful_ms > DOUBT_MS)
        fail(task, NOT_POSSIBLE,
             "node \"%s\" is still the primary, and Patroni's answer was: %s",
             task->from->name, task->words);
    else if (now_ms - task->asked_ms > COMING_MS)
        fail(task, NOT_POSSIBLE,
             "node \"%s\" is still the primary %u s after Patroni was asked",
             task->from->name, COMING_MS / 1000);
}

static void on_look(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct task *task = CONTAINER_OF(timer, struct task, look);

    (void)ev;
    (void)events;
    if (!see(task))
        fail(task, NOT_POSSIBLE, "cluster \"%s\" is configured no more",
             task->cluster->name);
    else if (task->stage == LENDING) {
        if (task->seen.lent_ms != 0 ||
            loop_now_ms(task->switching->loop) - task->seen.ended_ms >= LENT_MS)
            succeed(task);
    } else if (task->seen.outcome != SWITCHOVER_UNDER_WAY)
        take_end(task);
    else if (task->stage == DRAINING && !has_changed(task))
        wait_for_drain(task);
    else
        wait_for_change(task);
}

/* ---- the beginning ------------------------------------------------------------------
 */

static void begin_hold(struct task *task)
{
    struct switching *switching = task->switching;
    char why[MONITOR_WHY_MAX] = "", sign[SWITCHOVER_SIGN_MAX];

    snprintf(sign, sizeof sign, "SWITCHOVER by %s", task->user);
    task->hold =
        monitor_hold(switching->monitor, task->cluster->name, task->from->name,
                     task->to == NULL ? "" : task->to->name, HOLD_BY_COMMAND, sign, why);
    if (task->hold == 0) {
        fail(task, NOT_POSSIBLE, "%s", why);
        return;
    }
    task->stage = DRAINING;
    LOG(INFO, "switchover begun", TEXT("cluster", task->cluster->name),
        TEXT("from", task->from->name),
        TEXT("to", task->to == NULL ? "any" : task->to->name), TEXT("user", task->user));
    ev_timer_set(&task->look, 0., LOOK_EVERY_S);
    ev_timer_start(switching->loop->ev, &task->look);
}

static void take_members(struct task *task)
{
    const struct patroni_members *members = &task->members;
    const char *from = task->from->name;

    if (members->from[0] == '\0')
        fail(task, NOT_POSSIBLE, "Patroni has no member that is node \"%s\"", from);
    else if (strcmp(members->leader, members->from) != 0)
        fail(task, NOT_POSSIBLE,
             "Patroni does not name node \"%s\" the leader, but \"%s\"", from,
             members->leader);
    else if (task->to != NULL && members->to[0] == '\0')
        fail(task, NOT_POSSIBLE, "Patroni has no member that is node \"%s\"",
             task->to->name);
    else if (members->is_paused && task->to == NULL)
        fail(task, NOT_POSSIBLE,
             "Patroni is paused: name the node, SWITCHOVER %s TO node",
             task->cluster->name);
    else
        begin_hold(task);
}

static void ask_for_members(struct task *task);

static void on_members_answer(void *arg, const struct http_answer *answer)
{
    struct task *task = arg;

    task->request = NULL;
    patroni_read_words(answer->error, task->words, sizeof task->words);
    if (answer->outcome == HTTP_REFUSED)
        ask_for_members(task); /* elsewhere */
    else if (answer->outcome != HTTP_ANSWERED)
        fail(task, NOT_POSSIBLE, "Patroni of node \"%s\" does not answer: %s",
             task->from->name, task->words);
    else if (answer->status != 200 ||
             !patroni_read_members(answer->body, answer->length, task->from, task->to,
                                   &task->members))
        fail(task, NOT_POSSIBLE,
             "Patroni of node \"%s\" does not tell its members (HTTP status %d)",
             task->from->name, answer->status);
    else
        take_members(task);
}

static void ask_for_members(struct task *task)
{
    struct switching *switching = task->switching;
    struct address address;
    const struct http_call call = {
        .host = task->from->host,
        .address = &address,
        .path = "/cluster",
        .tls = monitor_restapi_tls(switching->monitor, task->cluster->name),
        .timeout_ms = MEMBERS_MS,
        .on_answer = on_members_answer,
        .arg = task};

    if (!next_address(task, &address)) {
        fail(task, NOT_POSSIBLE, "Patroni of node \"%s\" does not answer: %s",
             task->from->name, task->words);
        return;
    }
    task->request = http_send(switching->http, &call);
    if (task->request == NULL)
        fail(task, NO_MEMORY, "out of memory");
}

/* ---- what was asked for -------------------------------------------------------------
 */

static void refuse(struct switching_answer *answer, const char *sqlstate,
                   const char *format, ...) PRINTF_LIKE(3, 4);

static void refuse(struct switching_answer *answer, const char *sqlstate,
                   const char *format, ...)
{
    va_list arguments;

    answer->sqlstate = sqlstate;
    va_start(arguments, format);
    vsnprintf(answer->why, sizeof answer->why, format, arguments);
    va_end(arguments);
}

/* NULL: there is a refusal. */
static const struct cluster_config *find_cluster(const struct config *config,
                                                 const char *name,
                                                 struct switching_answer *refusal)
{
    const struct cluster_config *found = NULL;
    unsigned n = 0;

    for (size_t i = 0; i < config->n_clusters; i++) {
        const struct cluster_config *cluster = &config->clusters[i];

        if (cluster->is_implicit || (*name != '\0' && strcmp(cluster->name, name) != 0))
            continue;
        found = cluster;
        n++;
    }
    if (n == 0 && *name != '\0')
        refuse(refusal, OBJECT_UNKNOWN, "there is no cluster \"%s\": see SHOW CLUSTERS",
               name);
    else if (n == 0)
        refuse(refusal, OBJECT_UNKNOWN, "there is no [cluster]");
    else if (n > 1)
        refuse(refusal, OBJECT_UNKNOWN,
               "there are several clusters: say which one, SWITCHOVER cluster");
    else if (found->check != CHECK_PATRONI)
        refuse(refusal, NOT_POSSIBLE, "cluster \"%s\" is not checked by Patroni",
               found->name);
    return refusal->sqlstate == NULL ? found : NULL;
}

/* False: there is a refusal. */
static bool find_nodes(struct task *task, const struct topology_cluster *cluster,
                       const char *to, struct switching_answer *refusal)
{
    if (cluster->primary < 0) {
        refuse(refusal, NOT_POSSIBLE, "cluster \"%s\" has no primary: %s", cluster->name,
               cluster->why_no_primary);
        return false;
    }
    task->from = &cluster->nodes[cluster->primary];
    for (size_t i = 0; *to != '\0' && i < cluster->n_nodes; i++)
        if (strcmp(cluster->nodes[i].name, to) == 0)
            task->to = &cluster->nodes[i];
    if (*to != '\0' && task->to == NULL)
        refuse(refusal, OBJECT_UNKNOWN,
               "cluster \"%s\" has no node \"%s\": see SHOW NODES", cluster->name, to);
    else if (task->to == task->from)
        refuse(refusal, NOT_POSSIBLE, "node \"%s\" is the primary already", to);
    return refusal->sqlstate == NULL;
}

struct presence {
    const char *cluster;
    struct switching_answer *refusal;
};

/* Somebody else has begun: what Patroni would say to a second request helps nobody. What
 * a hook has begun, or a command that has failed since, may be joined. */
static void refuse_beside_others(void *arg, const struct cluster_report *report)
{
    struct presence *presence = arg;
    const struct switchover *present = report->present;

    if (strcmp(report->name, presence->cluster) == 0 && present != NULL &&
        (present->cause == HOLD_BY_REQUEST || present->cause == HOLD_BY_LOSS))
        refuse(presence->refusal, IN_USE,
               "the primary of cluster \"%s\" is changing already: %s", report->name,
               present->sign);
}

/* False: there is a refusal. */
static bool is_free(const struct switching *switching, const char *cluster,
                    struct switching_answer *refusal)
{
    struct presence presence = {cluster, refusal};

    LIST_EACH(item, &switching->tasks)
    {
        const struct task *task = CONTAINER_OF(item, struct task, in_switching);

        if (strcmp(task->cluster->name, cluster) == 0)
            refuse(refusal, IN_USE, "a switchover of cluster \"%s\" is under way already",
                   cluster);
    }
    if (refusal->sqlstate == NULL)
        monitor_report_clusters(switching->monitor, refuse_beside_others, &presence);
    return refusal->sqlstate == NULL;
}

static void find_check_port(void *arg, const struct node_report *report)
{
    struct task *task = arg;

    if (report->node.id == task->from->id)
        task->check_port = report->check_port;
}

/* False: there is a refusal. */
static bool fill_in(struct task *task, const struct switchover_order *order,
                    struct switching_answer *refusal)
{
    struct topology *topology = monitor_topology(task->switching->monitor);
    const struct topology_cluster *cluster;

    task->cluster = find_cluster(task->config, order->cluster, refusal);
    if (task->cluster == NULL || !is_free(task->switching, task->cluster->name, refusal))
        return false;
    cluster = topology_cluster(topology, task->cluster->name);
    if (cluster == NULL) {
        refuse(refusal, NOT_POSSIBLE, "cluster \"%s\" is not known yet",
               task->cluster->name);
        return false;
    }
    if (!find_nodes(task, cluster, order->to, refusal))
        return false;
    task->topology = topology_hold(topology);
    monitor_report(task->switching->monitor, find_check_port, task);
    task->drain_ms =
        (uint64_t)(order->drain_ms >= 0 ? order->drain_ms
                                        : task->cluster->switchover_drain_timeout);
    return true;
}

void switching_begin(struct switching *switching, struct config *config,
                     const struct switchover_order *order, const char *user,
                     void (*on_end)(void *arg, const struct switching_answer *answer),
                     void *arg)
{
    struct switching_answer refusal = {.sqlstate = NULL};
    struct task *task = memory_zeroed(sizeof *task);

    if (task == NULL) {
        refuse(&refusal, NO_MEMORY, "out of memory");
        on_end(arg, &refusal);
        return;
    }
    task->switching = switching;
    task->config = config;
    if (!fill_in(task, order, &refusal)) {
        memory_free(task);
        on_end(arg, &refusal);
        return;
    }
    task->config = config_hold(config);
    task->on_end = on_end;
    task->arg = arg;
    snprintf(task->user, sizeof task->user, "%s", user);
    ev_init(&task->look, on_look);
    list_append(&switching->tasks, &task->in_switching);
    ask_for_members(task);
}

void switching_wake(struct switching *switching)
{
    LIST_EACH(item, &switching->tasks)
    {
        struct task *task = CONTAINER_OF(item, struct task, in_switching);

        if (ev_is_active(&task->look))
            ev_feed_event(switching->loop->ev, &task->look, EV_TIMER);
    }
}

struct switching *switching_new(struct loop *loop, struct monitor *monitor)
{
    struct switching *switching = memory_zeroed(sizeof *switching);

    if (switching == NULL)
        return NULL;
    switching->loop = loop;
    switching->monitor = monitor;
    list_init(&switching->tasks);
    switching->http = http_new(loop);
    if (switching->http == NULL) {
        memory_free(switching);
        return NULL;
    }
    return switching;
}

void switching_free(struct switching *switching)
{
    struct link *first;

    if (switching == NULL)
        return;
    while ((first = list_first(&switching->tasks)) != NULL)
        fail(CONTAINER_OF(first, struct task, in_switching), "57P01",
             "pgrouter is shutting down");
    http_free(switching->http);
    memory_free(switching);
}
