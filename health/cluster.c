#include "health/cluster.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "core/memory.h"
#include "health/membership.h"

/* Beginning a check takes some 60 us of system calls: no more of them at a time. */
#define NODES_PER_ITERATION 3

/* ---- how nodes look from outside ---- */

/* A node that claims to be writable and is not the primary is nobody's target. */
static enum node_role shown_role(const struct cluster *cluster, size_t i)
{
    if (cluster->election.primary == (int)i)
        return NODE_PRIMARY;
    if (cluster->nodes[i]->verdict.role == NODE_PRIMARY)
        return NODE_UNKNOWN;
    return cluster->nodes[i]->verdict.role;
}

static bool is_configured_to_drain(const struct cluster *cluster, const struct node *node)
{
    const struct name_list *names = &cluster->config->drain;

    for (size_t i = 0; i < names->n; i++)
        if (strcmp(names->items[i], node->config->name) == 0)
            return true;
    return false;
}

/* A replica that lags by less than this behind the one that lags least may be chosen as
 * well: a segment of the WAL. */
#define CANDIDATES_APART (16 << 20)

static bool is_replica_in_order(const struct verdict *verdict)
{
    return verdict->checks.is_up && verdict->role == NODE_REPLICA && !verdict->is_lagging;
}

/* Of those of which it is known; -1 = it is of none. */
static int64_t least_lag(const struct cluster *cluster)
{
    int64_t least = -1;

    for (size_t i = 0; i < cluster->n_nodes; i++) {
        const struct verdict *verdict = &cluster->nodes[i]->verdict;

        if (is_replica_in_order(verdict) && verdict->lag_bytes >= 0 &&
            (least < 0 || verdict->lag_bytes < least))
            least = verdict->lag_bytes;
    }
    return least;
}

/* Somebody wants another primary, and this node may be it. */
static bool may_be_next(const struct cluster *cluster, size_t i)
{
    const struct switchover *present = hold_present(&cluster->hold);
    const struct verdict *verdict = &cluster->nodes[i]->verdict;

    if (present == NULL || present->cause == HOLD_BY_LOSS || !cluster->config->prewarm ||
        !is_replica_in_order(verdict) || cluster->nodes[i]->word == WORD_MAINT ||
        hold_leads_away(&cluster->hold, cluster->nodes[i]->config->name))
        return false;
    if (cluster->asked_for[0] != '\0')
        return strcmp(cluster->asked_for, cluster->nodes[i]->config->name) == 0;
    return verdict->lag_bytes < 0
               ? least_lag(cluster) < 0
               : verdict->lag_bytes < least_lag(cluster) + CANDIDATES_APART;
}

/* What an operator has said goes before what is configured. */
static bool is_drained(const struct cluster *cluster, const struct node *node)
{
    if (node->awaits_check)
        return true;
    return node->word == WORD_NONE ? is_configured_to_drain(cluster, node)
                                   : node->word != WORD_READY;
}

void cluster_show_node(const struct cluster *cluster, size_t i,
                       struct topology_node *shown)
{
    const struct node *node = cluster->nodes[i];
    const struct verdict *verdict = &node->verdict;

    *shown = (struct topology_node){
        .id = node->id,
        .n_addresses = node->n_addresses,
        .role = shown_role(cluster, i),
        .is_lagging = verdict->is_lagging,
        .is_draining = is_drained(cluster, node) || node->weight == 0,
        .is_in_maintenance = node->word == WORD_MAINT,
        .weight = node->weight,
        .is_leaving = hold_leads_away(&cluster->hold, node->config->name),
        .is_candidate = may_be_next(cluster, i),
        .begins_with_tls = cluster->config->sslnegotiation == SSLNEGOTIATION_DIRECT,
        .serves_any_role = cluster->config->check == CHECK_TCP,
        .uris_ok = node_uris_ok(node),
        .timeline = verdict->timeline,
        .lag_bytes = verdict->lag_bytes,
        .load = node->load,
    };
    snprintf(shown->name, sizeof shown->name, "%s", node->config->name);
    snprintf(shown->host, sizeof shown->host, "%s", node->config->host);
    memcpy(shown->addresses, node->addresses, sizeof shown->addresses);
    shown->is_up =
        verdict->checks.is_up && (shown->role != NODE_UNKNOWN || shown->serves_any_role);
    shown->is_replica_for_all =
        shown->is_up && shown->role == NODE_REPLICA && !verdict->is_noloadbalance;
}

/* ---- log ---- */

/* Why a node that is writable, by its last answer, may not be written to. */
static enum denial denial_of(const struct cluster *cluster, size_t i)
{
    const struct verdict *verdict = &cluster->nodes[i]->verdict;

    if (cluster->candidates[i].is_fenced)
        return DENIED_BY_FENCE;
    if (verdict->is_unnamed ||
        (cluster->candidates[i].is_overruled && verdict->claim == CLAIM_FULL) ||
        (cluster->election.primary != (int)i && verdict->claim == CLAIM_STAYS &&
         verdict->last.outcome == SAMPLE_OK))
        return DENIED_BY_PATRONI;
    return NOT_DENIED;
}

static const char *describe(const struct cluster *cluster, size_t i,
                            const struct topology_node *shown)
{
    const struct verdict *verdict = &cluster->nodes[i]->verdict;

    if (!verdict->checks.is_known)
        return "unknown";
    if (!verdict->checks.is_up)
        return "down";
    switch (shown->role) {
    case NODE_PRIMARY:
        return "primary";
    case NODE_STANDBY_LEADER:
        return "standby leader";
    case NODE_REPLICA:
        if (shown->is_lagging)
            return "replica, lagging";
        return verdict->is_noloadbalance ? "replica, noloadbalance" : "replica";
    case NODE_UNKNOWN:
        break;
    }
    if (shown->serves_any_role)
        return "up";
    if ((verdict->last.source == SOURCE_PATRONI || verdict->last.source == SOURCE_ETCD) &&
        verdict->last.outcome != SAMPLE_OK)
        return verdict->last.state;
    if (cluster->candidates[i].is_rival)
        return "writable, beside another";
    switch (denial_of(cluster, i)) {
    case DENIED_BY_FENCE:
        return "writable, behind the fence";
    case DENIED_BY_PATRONI:
        return "writable, without the lock";
    case NOT_DENIED:
        break;
    }
    return "not usable";
}

static void count_change(struct node *node, bool is_served, uint64_t now_ms)
{
    if (node->verdict.checks.is_known && !is_served && node->down_since_ms == 0)
        node->down_since_ms = now_ms;
    if (is_served && node->down_since_ms != 0) {
        node->down_ms += now_ms - node->down_since_ms;
        node->down_since_ms = 0;
    }
    if (is_served == node->is_served)
        return;
    node->is_served = is_served;
    node->changed_at_ms = now_ms;
    node->n_downs += !is_served;
}

static void note_node(struct cluster *cluster, size_t i)
{
    struct node *node = cluster->nodes[i];
    struct topology_node shown;
    const char *is;
    uint32_t missed;

    cluster_show_node(cluster, i, &shown);
    count_change(node, shown.is_up, loop_now_ms(cluster->loop));
    is = describe(cluster, i, &shown);
    if (strcmp(is, node->described) == 0)
        return;
    if (log_limit_allows(&node->log_limit, loop_now_ms(cluster->loop), &missed)) {
        if (missed > 0)
            LOG(INFO, "changes not logged", TEXT("cluster", cluster->config->name),
                TEXT("node", shown.name), NUMBER("changes", missed));
        LOG(INFO, "node changed", TEXT("cluster", cluster->config->name),
            TEXT("node", shown.name), TEXT("was", node->described), TEXT("is", is),
            TEXT("evidence", node->verdict.last.said));
    }
    snprintf(node->described, sizeof node->described, "%s", is);
}

static const char *name_of(const struct cluster *cluster, uint32_t id)
{
    for (size_t i = 0; i < cluster->n_nodes; i++)
        if (id != 0 && cluster->nodes[i]->id == id)
            return cluster->nodes[i]->config->name;
    return "none";
}

static void note_primary(struct cluster *cluster)
{
    const struct election *election = &cluster->election;
    const struct node *primary =
        election->primary < 0 ? NULL : cluster->nodes[election->primary];
    uint32_t id = primary == NULL ? 0 : primary->id;

    if (id == cluster->logged_primary_id)
        return;
    LOG(INFO, "primary changed", TEXT("cluster", cluster->config->name),
        TEXT("was", name_of(cluster, cluster->logged_primary_id)),
        TEXT("is", name_of(cluster, id)), NUMBER("timeline", election->fence),
        TEXT("evidence",
             primary == NULL ? election->why_no_primary : primary->verdict.last.said));
    cluster->logged_primary_id = id;
    cluster->primary_since_ms = id == 0 ? 0 : loop_now_ms(cluster->loop);
}

/* Worth a warning when it is still so in the next round, since the end of a switchover
 * looks like that for a moment. */
static void warn_of_denial(struct cluster *cluster, size_t i)
{
    struct node *node = cluster->nodes[i];
    enum denial denial = denial_of(cluster, i);

    if (denial == NOT_DENIED || denial != node->denial) {
        node->denial = denial;
        node->denied_in_round = node->verdict.last.round;
        node->is_warned_of = false;
    } else if (!node->is_warned_of && node->verdict.last.round > node->denied_in_round) {
        node->is_warned_of = true;
        LOG(WARNING, "writable node that is not the primary",
            TEXT("cluster", cluster->config->name), TEXT("node", node->config->name),
            NUMBER("timeline", node->verdict.timeline),
            NUMBER("highest_timeline", cluster->election.fence),
            TEXT("evidence", node->verdict.last.said));
    }
}

/* Nodes that could be written to and must not: of that people should know until it is
 * over. */
static void note_alarm(struct cluster *cluster)
{
    const struct election *election = &cluster->election;

    cluster->alarm[0] = '\0';
    if (election->has_rivals) {
        snprintf(cluster->alarm, sizeof cluster->alarm, "%s: nobody gets writers",
                 election->why_no_primary);
        return;
    }
    for (size_t i = 0; i < cluster->n_nodes; i++)
        if (cluster->nodes[i]->is_warned_of)
            snprintf(cluster->alarm, sizeof cluster->alarm,
                     "%.60s is writable on timeline %u and is not the primary",
                     cluster->nodes[i]->config->name,
                     (unsigned)cluster->nodes[i]->verdict.timeline);
}

static void note_election(struct cluster *cluster, bool had_rivals)
{
    const struct election *election = &cluster->election;

    if (election->is_new_fence)
        LOG(WARNING, "system identifier changed", TEXT("cluster", cluster->config->name),
            TEXT("is", election->system_id), NUMBER("timeline", election->fence));
    if (election->is_lower_fence)
        LOG(WARNING, "higher timeline was given up",
            TEXT("cluster", cluster->config->name), NUMBER("timeline", election->fence));
    if (election->has_rivals && !had_rivals)
        LOG(ERROR, "two primaries, writes stop", TEXT("cluster", cluster->config->name),
            TEXT("evidence", election->why_no_primary));
    if (!election->has_rivals && had_rivals)
        LOG(WARNING, "one primary again", TEXT("cluster", cluster->config->name));
    for (size_t i = 0; i < cluster->n_nodes; i++)
        warn_of_denial(cluster, i);
    note_alarm(cluster);
    for (size_t i = 0; i < cluster->n_nodes; i++)
        note_node(cluster, i);
    note_primary(cluster);
}

/* ---- rounds ---- */

static void look_for_promotion(const struct sample *sample, struct pace_view *view)
{
    if (sample->source != SOURCE_PATRONI && sample->source != SOURCE_ETCD)
        return;
    if (sample->holds_lock && sample->role != NODE_PRIMARY)
        view->is_promoting = view->is_promotion_near = true;
    else if (sample->is_unlocked && !sample->is_paused && !sample->is_failsafe)
        view->is_promotion_near = true;
}

static struct pace_view look(const struct cluster *cluster)
{
    struct pace_view view = {.n_waiting = cluster->n_waiting};
    bool is_any_up = false;

    for (size_t i = 0; i < cluster->n_nodes; i++) {
        const struct verdict *verdict = &cluster->nodes[i]->verdict;

        if (cluster->nodes[i]->word == WORD_MAINT)
            continue; /* faster rounds would tell nothing of it */
        is_any_up = is_any_up || verdict->checks.is_up;
        look_for_promotion(&verdict->last, &view);
    }
    view.lacks_primary =
        cluster->config->check == CHECK_TCP
            ? !is_any_up
            : cluster->hold.is_on || (cluster->election.primary < 0 &&
                                      !cluster->election.is_standby_cluster);
    return view;
}

static void arm_next_round(struct cluster *cluster)
{
    uint64_t rest_ms = cluster->wants_new_round
                           ? 0
                           : pace_rest_ms(&cluster->pace, loop_now_ms(cluster->loop));

    ev_timer_stop(cluster->loop->ev, &cluster->next_round);
    ev_timer_set(&cluster->next_round, (double)rest_ms / 1e3, 0.);
    ev_timer_start(cluster->loop->ev, &cluster->next_round);
}

static void look_again(struct cluster *cluster)
{
    struct pace_view view = look(cluster);

    pace_look(&cluster->pace, &cluster->pace_settings, &view, loop_now_ms(cluster->loop));
    arm_next_round(cluster);
}

static uint64_t random_below(uint64_t limit)
{
    uint32_t number = 0;

    if (limit == 0 || getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number)
        return 0;
    return number % limit;
}

static void ask_some(struct cluster *cluster)
{
    for (unsigned i = 0; i < NODES_PER_ITERATION; i++) {
        struct node *node;

        if (cluster->n_asked == cluster->n_nodes)
            return;
        node = cluster->nodes[cluster->n_asked++];
        if (cluster->asks_anew)
            node_ask_anew(node, cluster->round);
        else
            node_ask(node, cluster->round, random_below(cluster->spread_ms));
    }
    ev_timer_set(&cluster->next_nodes, 0., 0.);
    ev_timer_start(cluster->loop->ev, &cluster->next_nodes);
}

static void on_next_nodes(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev;
    (void)events;
    ask_some(CONTAINER_OF(timer, struct cluster, next_nodes));
}

static void begin_round(struct cluster *cluster, bool is_anew)
{
    struct pace_view view = look(cluster);
    bool is_fast = pace_begin_round(&cluster->pace, &cluster->pace_settings, &view,
                                    loop_now_ms(cluster->loop));

    cluster->round++;
    cluster->n_asked = 0;
    cluster->asks_anew = is_anew;
    cluster->spread_ms = is_fast || is_anew ? 0 : pace_spread_ms(&cluster->pace_settings);
    arm_next_round(cluster);
    ev_timer_stop(cluster->loop->ev, &cluster->next_nodes);
    ask_some(cluster);
}

static void on_next_round(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct cluster *cluster = CONTAINER_OF(timer, struct cluster, next_round);
    bool is_anew = cluster->wants_new_round;

    (void)ev;
    (void)events;
    cluster->wants_new_round = false;
    begin_round(cluster, is_anew);
}

static void begin_round_soon(struct cluster *cluster)
{
    cluster->wants_new_round = true;
    arm_next_round(cluster);
}

void cluster_take_evidence(struct cluster *cluster, enum evidence evidence)
{
    if (pace_allows(&cluster->pace, evidence, loop_now_ms(cluster->loop)))
        begin_round(cluster, true);
}

void cluster_set_waiting(struct cluster *cluster, unsigned n_waiting)
{
    if (n_waiting == cluster->n_waiting)
        return;
    cluster->n_waiting = n_waiting;
    look_again(cluster);
}

/* ---- holds ---- */

#define HOLD_LOOK_S 0.1

static struct hold_time time_of(const struct cluster *cluster)
{
    return (struct hold_time){.now_ms = loop_now_ms(cluster->loop),
                              .now_s = (int64_t)time(NULL),
                              .round = cluster->round};
}

static void log_hold(const struct cluster *cluster)
{
    const struct hold *hold = &cluster->hold;
    const struct switchover *last = hold_last(hold);

    if (hold->is_on) {
        LOG(INFO, "hold began", TEXT("cluster", cluster->config->name),
            NUMBER("hold", last->number), TEXT("cause", hold_cause_name(last->cause)),
            TEXT("leaves", last->from), TEXT("evidence", last->sign));
        return;
    }
    if (last->outcome == SWITCHOVER_TIMED_OUT)
        LOG(WARNING, "the primary has not come in time",
            TEXT("cluster", cluster->config->name), NUMBER("hold", last->number));
    LOG(INFO, "hold ended", TEXT("cluster", cluster->config->name),
        NUMBER("hold", last->number),
        TEXT("outcome", switchover_outcome_name(last->outcome)), TEXT("left", last->from),
        TEXT("is", last->to),
        DECIMAL("seconds", (double)(last->ended_ms - last->held_ms) / 1e3));
}

/* It has begun or ended. */
static void follow_hold(struct cluster *cluster)
{
    log_hold(cluster);
    ev_timer_stop(cluster->loop->ev, &cluster->hold_looks);
    if (!cluster->hold.is_on) {
        cluster->asked_for[0] = '\0';
        return;
    }
    ev_timer_set(&cluster->hold_looks, HOLD_LOOK_S, HOLD_LOOK_S);
    ev_timer_start(cluster->loop->ev, &cluster->hold_looks);
    begin_round_soon(cluster);
}

static void on_hold_looks(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct cluster *cluster = CONTAINER_OF(timer, struct cluster, hold_looks);
    struct hold_time now = time_of(cluster);

    (void)ev;
    (void)events;
    if (!hold_look(&cluster->hold, (uint64_t)cluster->config->hold_timeout, &now))
        return;
    if (cluster->hold.is_on) {
        begin_round_soon(cluster);
        return;
    }
    follow_hold(cluster);
    cluster->on_change(cluster->arg);
}

uint64_t cluster_hold(struct cluster *cluster, const char *node, const char *next,
                      enum hold_cause cause, const char *sign)
{
    bool was_on = cluster->hold.is_on;
    struct hold_time now = time_of(cluster);
    uint64_t number = hold_begin(&cluster->hold, cause, node, sign, &now);

    if (*next != '\0')
        snprintf(cluster->asked_for, sizeof cluster->asked_for, "%s", next);
    if (!was_on) {
        follow_hold(cluster);
        cluster->on_change(cluster->arg);
    }
    return number;
}

bool cluster_release(struct cluster *cluster, enum hold_cause cause)
{
    struct hold_time now = time_of(cluster);

    if (!hold_end_cause(&cluster->hold, cause, &now))
        return false;
    begin_round_soon(cluster);
    return true;
}

/* After the election: who is the primary now, and is that proven? */
static void see_primary(struct cluster *cluster)
{
    const struct node *primary =
        cluster->election.primary < 0 ? NULL : cluster->nodes[cluster->election.primary];
    struct hold_time now = time_of(cluster);
    struct hold_sight sight = {.primary = ""};

    if (primary != NULL)
        sight =
            (struct hold_sight){.primary = primary->config->name,
                                .is_proof = primary->verdict.claim == CLAIM_FULL &&
                                            primary->verdict.last.outcome == SAMPLE_OK,
                                .round = primary->verdict.last.round};
    if (hold_see(&cluster->hold, &sight, cluster->election.why_no_primary, &now))
        follow_hold(cluster);
}

/* ---- news ---- */

/* Where the WAL of the cluster's leader ends. After a change of the leader its own
 * location counts, even if that of the old one was ahead. */
static void follow_leader(struct cluster *cluster, const struct node *node,
                          bool is_leader)
{
    const struct sample *sample = &node->verdict.last;
    uint64_t location = sample->location;

    if (sample->received > location)
        location = sample->received; /* of a standby leader */
    if (sample->replayed > location)
        location = sample->replayed;
    if (!is_leader || location == 0)
        return;
    if (node->id != cluster->leader_id ||
        node->verdict.timeline != cluster->leader_timeline ||
        location > cluster->leader_location)
        cluster->leader_location = location;
    cluster->leader_id = node->id;
    cluster->leader_timeline = node->verdict.timeline;
}

/* Whom Patroni's leader key names, as far as that is known now; -1 = nobody. */
static int leader_by_keys(const struct cluster *cluster)
{
    const struct store_view *view = &cluster->view;

    if (cluster->config->check != CHECK_PATRONI || !view->is_live ||
        view->leader[0] == '\0')
        return -1;
    return cluster_find_node(cluster, view->leader);
}

/* A promotion raises the timeline: who is above the leader's may have been promoted
 * since, and the keys be late. */
static void overrule(struct cluster *cluster)
{
    int leader = leader_by_keys(cluster);

    for (int i = 0; i < (int)cluster->n_nodes; i++)
        cluster->candidates[i].is_overruled =
            leader >= 0 && i != leader &&
            cluster->nodes[i]->verdict.timeline <=
                cluster->nodes[leader]->verdict.timeline;
}

static void elect(struct cluster *cluster)
{
    overrule(cluster);
    election_run(&cluster->election, cluster->candidates, cluster->n_nodes,
                 cluster->config->check);
}

static void weigh(struct cluster *cluster, struct node *node)
{
    const struct election *election = &cluster->election;

    elect(cluster);
    follow_leader(cluster, node,
                  (election->primary >= 0 && cluster->nodes[election->primary] == node) ||
                      node->verdict.role == NODE_STANDBY_LEADER);
    verdict_set_lag(&node->verdict, cluster->leader_location, &node->settings);
}

static void on_node_news(void *arg, struct node *node, const struct verdict *before)
{
    struct cluster *cluster = arg;
    bool had_rivals = cluster->election.has_rivals;

    if (before != NULL) {
        weigh(cluster, node);
        note_election(cluster, had_rivals);
        see_primary(cluster);
        if (verdict_is_suspect(before, &node->verdict))
            pace_suspect(&cluster->pace, &cluster->pace_settings,
                         loop_now_ms(cluster->loop));
        look_again(cluster);
    }
    cluster->on_change(cluster->arg);
}

/* ---- Patroni's keys ---- */

int cluster_find_node(const struct cluster *cluster, const char *name)
{
    const struct store_member *member = store_view_member(&cluster->view, name);

    for (size_t i = 0; i < cluster->n_nodes; i++)
        if (strcmp(cluster->nodes[i]->config->name, name) == 0)
            return (int)i;
    for (size_t i = 0; member != NULL && i < cluster->n_nodes; i++)
        if (strcmp(cluster->nodes[i]->config->host, member->host) == 0 &&
            cluster->nodes[i]->config->port == member->port)
            return (int)i;
    return -1;
}

static int64_t wall_clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Patroni does not run a request whose time was so long ago, and clears it. One that we
 * have seen become due is under way. */
static bool is_stale(const struct cluster *cluster, const struct store_request *request,
                     int64_t now_ms)
{
    return request->due_ms != 0 && request->changed_at != cluster->due_request &&
           now_ms - request->due_ms > (int64_t)cluster->view.loop_wait_ms * 3 / 2;
}

/* The wall clock may be set: it is looked at again after a minute. */
static void await_request(struct cluster *cluster, int64_t rest_ms)
{
    if (rest_ms > 60000)
        rest_ms = 60000;
    ev_timer_set(&cluster->request_timer, (double)rest_ms / 1e3, 0.);
    ev_timer_start(cluster->loop->ev, &cluster->request_timer);
}

static void log_request(const struct cluster *cluster, int64_t was)
{
    const struct store_view *view = &cluster->view;

    if (cluster->due_request != 0)
        LOG(INFO, "switchover asked for", TEXT("cluster", cluster->config->name),
            TEXT("from", view->request.from[0] ? view->request.from : view->leader),
            TEXT("to", view->request.to[0] ? view->request.to : "any"),
            NUMBER("revision", cluster->due_request));
    else
        LOG(INFO, "switchover no longer asked for",
            TEXT("cluster", cluster->config->name),
            TEXT("leader", view->leader[0] ? view->leader : "none"),
            NUMBER("revision", was));
}

static void hold_for_request(struct cluster *cluster)
{
    const struct store_view *view = &cluster->view;
    int leaving = cluster_find_node(
        cluster, view->request.from[0] != '\0' ? view->request.from : view->leader);
    int next = cluster_find_node(cluster, view->request.to);
    char sign[SWITCHOVER_SIGN_MAX];

    if (cluster->config->check == CHECK_TCP)
        return; /* nobody would ever be proven */
    cluster->asked_for[0] = '\0';
    snprintf(sign, sizeof sign, "etcd: a switchover to %s was asked for",
             view->request.to[0] != '\0' ? view->request.to : "any node");
    cluster_hold(cluster, leaving < 0 ? "" : cluster->nodes[leaving]->config->name,
                 next < 0 ? "" : cluster->nodes[next]->config->name, HOLD_BY_REQUEST,
                 sign);
}

/* Holds while a switchover is asked for and due. The cause is over when it is not, and
 * somebody holds the lock: the new leader, or, where it was refused, the old one. Called
 * with each view, and when one becomes due. */
static void follow_request(struct cluster *cluster)
{
    const struct store_request *request = &cluster->view.request;
    int64_t now_ms = wall_clock_ms(), was = cluster->due_request;

    ev_timer_stop(cluster->loop->ev, &cluster->request_timer);
    if (request->is_there && request->due_ms > now_ms)
        await_request(cluster, request->due_ms - now_ms);
    cluster->due_request = request->is_there && request->due_ms <= now_ms &&
                                   !is_stale(cluster, request, now_ms)
                               ? request->changed_at
                               : 0;
    if (cluster->due_request == 0 && cluster->view.leader[0] == '\0')
        cluster->due_request = was;
    if (cluster->due_request == was)
        return;
    log_request(cluster, was);
    if (cluster->due_request != 0)
        hold_for_request(cluster);
    else
        cluster_release(cluster, HOLD_BY_REQUEST);
}

static void on_request_due(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct cluster *cluster = CONTAINER_OF(timer, struct cluster, request_timer);

    (void)ev;
    (void)events;
    follow_request(cluster);
}

static void warn_of_no_keys(struct cluster *cluster)
{
    if (cluster->view.is_live && !cluster->view.has_keys &&
        !cluster->is_warned_of_no_keys)
        LOG(WARNING, "nothing of Patroni's in etcd",
            TEXT("cluster", cluster->config->name),
            TEXT("hint", "scope and namespace must be those of Patroni"));
    cluster->is_warned_of_no_keys = !cluster->view.has_keys;
}

/* True when nodes have come or gone. */
static bool follow_members(struct cluster *cluster)
{
    return cluster->config->nodes.n == 0 && cluster->view.is_live &&
           membership_follow(cluster, cluster->next_id) == MEMBERSHIP_CHANGED;
}

/* Without an answer of a node: something else has changed. */
static void elect_anew(struct cluster *cluster)
{
    bool had_rivals = cluster->election.has_rivals;

    elect(cluster);
    note_election(cluster, had_rivals);
    see_primary(cluster);
    cluster->on_change(cluster->arg);
}

void cluster_reset(struct cluster *cluster, const char *user)
{
    LOG(WARNING, "timelines forgotten", TEXT("cluster", cluster->config->name),
        NUMBER("highest_timeline", cluster->election.fence),
        TEXT("system_id", cluster->election.system_id), TEXT("by", user));
    election_reset(&cluster->election);
    elect_anew(cluster);
    begin_round(cluster, true);
}

static bool has_news(const struct store_view *was, const struct store_view *is)
{
    return is->is_live && (was->leader_changed_at != is->leader_changed_at ||
                           was->request.changed_at != is->request.changed_at);
}

/* Takes the view. */
static void on_store(struct cluster *cluster, struct store_view *view)
{
    bool has_changed = has_news(&cluster->view, view);

    store_view_clear(&cluster->view);
    cluster->view = *view;
    warn_of_no_keys(cluster);
    has_changed |= follow_members(cluster);
    follow_request(cluster);
    if (!has_changed)
        return;
    elect_anew(cluster);
    begin_round(cluster, true);
}

/* Without memory the view of before goes on until the next change. */
static void on_keys(void *arg)
{
    struct cluster *cluster = arg;
    struct store_view view = {0};

    if (!patroni_keys_read(etcd_keys(cluster->etcd), &view))
        return;
    view.is_live = etcd_is_live(cluster->etcd);
    view.revision = etcd_revision(cluster->etcd);
    etcd_set_interval(cluster->etcd, view.loop_wait_ms);
    on_store(cluster, &view);
}

static bool make_watch(struct cluster *cluster, const struct node_tools *tools)
{
    const struct etcd_tools etcd_tools = {tools->loop, tools->http, tools->resolver,
                                          tools->registry};
    struct text prefix;

    if (cluster->config->etcd.n == 0)
        return true;
    text_init(&prefix, 4096);
    patroni_keys_prefix(&prefix, cluster->config->namespace, cluster->config->scope);
    if (!prefix.overflowed)
        cluster->etcd =
            etcd_new(&etcd_tools, cluster->config, text_get(&prefix), on_keys, cluster);
    text_clear(&prefix);
    return cluster->etcd != NULL;
}

/* ---- TLS ---- */

/* False with a log line: the files have become bad since they were checked. */
static bool hold_restapi_tls(struct cluster *cluster)
{
    struct text why;

    cluster->tools.restapi_tls = NULL;
    if (!trust_needs_restapi(cluster->config))
        return true;
    text_init(&why, 1024);
    cluster->tools.restapi_tls =
        trust_hold_restapi(cluster->tools.registry, cluster->config, &why);
    if (cluster->tools.restapi_tls == NULL)
        LOG(ERROR, "Patroni not asked", TEXT("cluster", cluster->config->name),
            TEXT("why", text_get(&why)));
    text_clear(&why);
    return cluster->tools.restapi_tls != NULL;
}

void cluster_renew_tls(struct cluster *cluster)
{
    struct tls_context *old = cluster->tools.restapi_tls;

    if (cluster->etcd != NULL)
        etcd_renew_tls(cluster->etcd, cluster->tools.registry);
    if (!hold_restapi_tls(cluster)) {
        cluster->tools.restapi_tls = old;
        return;
    }
    for (size_t i = 0; i < cluster->n_nodes; i++)
        node_set_restapi_tls(cluster->nodes[i], cluster->tools.restapi_tls);
    tls_context_release(old);
}

/* ---- making ---- */

static void collect_uris(struct cluster *cluster, const struct config *config)
{
    for (size_t i = 0; i < config->n_listeners; i++) {
        const struct listener_config *listener = &config->listeners[i];
        size_t k = 0;

        if (listener->to != cluster->config || listener->check_uri[0] == '\0')
            continue;
        while (k < cluster->n_uris && strcmp(cluster->uris[k], listener->check_uri) != 0)
            k++;
        if (k == cluster->n_uris && k < TOPOLOGY_URIS_MAX)
            cluster->uris[cluster->n_uris++] = listener->check_uri;
    }
}

struct node *cluster_make_node(struct cluster *cluster, const struct node_config *config)
{
    struct node *node = node_new(&cluster->tools, config, cluster->config, cluster->uris,
                                 cluster->n_uris, on_node_news, cluster);

    if (node != NULL && cluster->etcd != NULL)
        node->view = &cluster->view;
    return node;
}

struct cluster *cluster_new(const struct node_tools *tools,
                            const struct cluster_config *cluster_config,
                            const struct config *config, void (*on_change)(void *arg),
                            void *arg)
{
    const struct node_list *nodes = &cluster_config->nodes;
    struct cluster *cluster = memory_zeroed(sizeof *cluster);

    if (cluster == NULL)
        return NULL;
    cluster->config = cluster_config;
    cluster->loop = tools->loop;
    cluster->tools = *tools;
    cluster->on_change = on_change;
    cluster->arg = arg;
    cluster->round = 1;
    cluster->pace_settings =
        (struct pace_settings){.interval_ms = (uint64_t)cluster_config->check_interval,
                               .fast_ms = (uint64_t)cluster_config->check_fast_interval};
    ev_timer_init(&cluster->next_round, on_next_round, 0., 0.);
    ev_timer_init(&cluster->hold_looks, on_hold_looks, HOLD_LOOK_S, HOLD_LOOK_S);
    ev_timer_init(&cluster->next_nodes, on_next_nodes, 0., 0.);
    ev_timer_init(&cluster->request_timer, on_request_due, 0., 0.);
    election_init(&cluster->election);
    collect_uris(cluster, config);
    cluster->nodes = memory_zeroed(nodes->n * sizeof *cluster->nodes + 1);
    cluster->candidates = memory_zeroed(nodes->n * sizeof *cluster->candidates + 1);
    if (cluster->nodes == NULL || cluster->candidates == NULL ||
        !hold_restapi_tls(cluster) || !make_watch(cluster, tools))
        goto fail;
    for (; cluster->n_nodes < nodes->n; cluster->n_nodes++) {
        size_t i = cluster->n_nodes;

        cluster->nodes[i] = cluster_make_node(cluster, &nodes->items[i]);
        if (cluster->nodes[i] == NULL)
            goto fail;
        cluster->candidates[i].name = nodes->items[i].name;
        cluster->candidates[i].verdict = &cluster->nodes[i]->verdict;
    }
    return cluster;

fail:
    cluster_free(cluster);
    return NULL;
}

void cluster_free(struct cluster *cluster)
{
    if (cluster == NULL)
        return;
    ev_timer_stop(cluster->loop->ev, &cluster->next_round);
    ev_timer_stop(cluster->loop->ev, &cluster->next_nodes);
    ev_timer_stop(cluster->loop->ev, &cluster->request_timer);
    ev_timer_stop(cluster->loop->ev, &cluster->hold_looks);
    etcd_free(cluster->etcd);
    store_view_clear(&cluster->view);
    membership_clear(cluster);
    tls_context_release(cluster->tools.restapi_tls);
    memory_free(cluster);
}

static void inherit_nodes(struct cluster *cluster, const struct cluster *old)
{
    for (size_t i = 0; i < cluster->n_nodes; i++)
        for (size_t k = 0; k < old->n_nodes; k++)
            if (node_is_same(cluster->nodes[i]->config, old->nodes[k]->config)) {
                node_inherit(cluster->nodes[i], old->nodes[k]);
                if (old->election.primary == (int)k)
                    cluster->election.primary = (int)i;
                if (old->election.fence_keeper == (int)k)
                    cluster->election.fence_keeper = (int)i;
            }
}

static void inherit_cluster(struct cluster *cluster, const struct cluster *old)
{
    if (cluster->config->check == old->config->check)
        cluster->election = old->election;
    cluster->election.primary = cluster->election.fence_keeper = -1;
    inherit_nodes(cluster, old);
    cluster->round = old->round;
    cluster->n_waiting = old->n_waiting;
    cluster->pace = old->pace;
    cluster->leader_id = old->leader_id;
    cluster->leader_timeline = old->leader_timeline;
    cluster->leader_location = old->leader_location;
    cluster->logged_primary_id = old->logged_primary_id;
    cluster->primary_since_ms = old->primary_since_ms;
    if (cluster->config->check == old->config->check) {
        cluster->hold = old->hold;
        memcpy(cluster->asked_for, old->asked_for, sizeof cluster->asked_for);
    }
    cluster->wants_new_round = cluster->hold.is_on;
    election_run(&cluster->election, cluster->candidates, cluster->n_nodes,
                 cluster->config->check);
}

/* The view as it was last seen, until the new watch is there, and the nodes that it
 * names. What has become of a request meanwhile is not known: it goes on. */
static bool inherit_view(struct cluster *cluster, const struct cluster *old,
                         uint32_t *next_id)
{
    if (cluster->etcd == NULL || old->etcd == NULL)
        return true;
    if (!store_view_copy(&cluster->view, &old->view))
        return false;
    cluster->view.is_live = false;
    cluster->due_request = old->due_request;
    cluster->is_warned_of_no_keys = old->is_warned_of_no_keys;
    return cluster->config->nodes.n > 0 ||
           membership_follow(cluster, next_id) != MEMBERSHIP_NO_MEMORY;
}

bool cluster_inherit(struct cluster *cluster, const struct cluster *old,
                     uint32_t *next_id)
{
    cluster->next_id = next_id;
    if (old != NULL && !inherit_view(cluster, old, next_id))
        return false;
    if (old != NULL)
        inherit_cluster(cluster, old);
    for (size_t i = 0; i < cluster->n_nodes; i++)
        if (cluster->nodes[i]->id == 0)
            cluster->nodes[i]->id = (*next_id)++;
    return true;
}

void cluster_start(struct cluster *cluster)
{
    pace_suspect(&cluster->pace, &cluster->pace_settings, loop_now_ms(cluster->loop));
    if (cluster->hold.is_on)
        ev_timer_start(cluster->loop->ev, &cluster->hold_looks);
    ev_timer_set(&cluster->next_round, 0., 0.);
    ev_timer_start(cluster->loop->ev, &cluster->next_round);
    if (cluster->etcd == NULL)
        return;
    follow_request(cluster);
    etcd_start(cluster->etcd);
}

bool cluster_is_ready(const struct cluster *cluster)
{
    for (size_t i = 0; i < cluster->n_nodes; i++)
        if (!cluster->nodes[i]->verdict.checks.is_known &&
            cluster->nodes[i]->word != WORD_MAINT)
            return false;
    return cluster->n_nodes > 0;
}

/* ---- what operators say ---- */

void cluster_set_word(struct cluster *cluster, size_t i, enum node_word word)
{
    struct node *node = cluster->nodes[i];
    bool was_in_maintenance = node->word == WORD_MAINT;

    if (word == WORD_READY && !is_configured_to_drain(cluster, node))
        word = WORD_NONE;
    node_set_word(node, word);
    if (was_in_maintenance != (word == WORD_MAINT))
        begin_round_soon(cluster);
    cluster->on_change(cluster->arg);
}

bool cluster_set_address(struct cluster *cluster, size_t i, const struct address *address)
{
    return node_set_address(cluster->nodes[i], address);
}

void cluster_set_weight(struct cluster *cluster, size_t i, unsigned weight)
{
    cluster->nodes[i]->weight = weight;
    cluster->on_change(cluster->arg);
}
