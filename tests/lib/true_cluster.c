#include "tests/lib/true_cluster.h"

#include <time.h>

#include "core/check.h"
#include "tests/lib/made_time.h"

/* One step of what befalls a cluster, so long after the one before. */
struct true_step {
    void (*run)(struct true_cluster *cluster);
    unsigned least_ms, most_ms;
};

bool true_cluster_is_writable(const struct true_cluster *cluster, int node)
{
    return cluster->nodes[node].server == SERVER_PRIMARY;
}

static void set_server(struct true_node *node, enum true_server server)
{
    if (node->server == SERVER_PRIMARY)
        node->writable_ms = made_time_ms();
    node->server = server;
}

static struct true_node *primary(struct true_cluster *cluster)
{
    return &cluster->nodes[cluster->primary];
}

static struct true_node *other(struct true_cluster *cluster)
{
    return &cluster->nodes[cluster->other];
}

/* ---- keys ---- */

static void on_changed(struct true_cluster *cluster)
{
    cluster->keys.revision++;
    if (cluster->on_keys != NULL)
        cluster->on_keys(cluster->arg);
}

static void give_lock(struct true_cluster *cluster, int to)
{
    struct true_keys *keys = &cluster->keys;

    keys->leader = to;
    keys->leader_changed_at = to == NOBODY ? 0 : keys->revision + 1;
    on_changed(cluster);
}

/* As Patroni's loop does; a machine that is dead or cut off tells nothing. */
static void tell_members(struct true_cluster *cluster)
{
    for (size_t i = 0; i < TRUE_NODES; i++) {
        const struct true_node *node = &cluster->nodes[i];

        if (!node->runs_patroni || node->is_frozen || node->is_cut)
            continue;
        cluster->keys.members[i].is_there = true;
        cluster->keys.members[i].server = node->server;
        cluster->keys.members[i].timeline = node->timeline;
    }
    on_changed(cluster);
}

static void set_request(struct true_cluster *cluster, bool is_asked, int64_t after_ms)
{
    struct true_keys *keys = &cluster->keys;
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    keys->is_asked = is_asked;
    keys->from = cluster->primary;
    keys->to = made_time_chance(50) ? NOBODY : cluster->other;
    keys->is_to_stranger = false;
    keys->due_ms =
        after_ms == 0 ? 0 : (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000 + after_ms;
    keys->request_changed_at = keys->revision + 1;
    on_changed(cluster);
}

static void set_pause(struct true_cluster *cluster, bool is_paused)
{
    cluster->keys.is_paused = is_paused;
    on_changed(cluster);
}

/* ---- steps ---- */

static void ask(struct true_cluster *cluster)
{
    set_request(cluster, true, 0);
}

static void ask_for_one(struct true_cluster *cluster)
{
    set_request(cluster, true, 0);
    cluster->keys.to = cluster->other; /* in pause it must be named */
    on_changed(cluster);
}

static void ask_for_stranger(struct true_cluster *cluster)
{
    cluster->keys.is_to_stranger = true;
    cluster->keys.is_asked = true;
    cluster->keys.from = cluster->primary;
    cluster->keys.due_ms = 0;
    cluster->keys.request_changed_at = cluster->keys.revision + 1;
    on_changed(cluster);
}

static void ask_for_later(struct true_cluster *cluster)
{
    set_request(cluster, true, 3000); /* written in whole seconds */
}

static void clear(struct true_cluster *cluster)
{
    set_request(cluster, false, 0);
}

static void call_hook(struct true_cluster *cluster)
{
    if (made_time_chance(30) && cluster->on_hook != NULL)
        cluster->on_hook(cluster->arg, cluster->primary);
}

static void begin_stop(struct true_cluster *cluster)
{
    cluster->n_demotions++;
    set_server(primary(cluster), SERVER_STOPPING);
}

/* Its Patroni says 200 for up to a second after PostgreSQL has gone. */
static void on_belief_lost(void *arg)
{
    ((struct true_node *)arg)->believes = false;
}

static void stop(struct true_cluster *cluster)
{
    set_server(primary(cluster), SERVER_DOWN);
    made_time_call(made_time_below(1000), on_belief_lost, primary(cluster));
    give_lock(cluster, NOBODY);
}

static void take_lock(struct true_cluster *cluster)
{
    other(cluster)->believes = true;
    give_lock(cluster, cluster->other);
    if (cluster->keys.is_asked)
        clear(cluster);
}

/* From here on the other one is the primary, and the old one the other. */
static void promote(struct true_cluster *cluster)
{
    int old = cluster->primary;

    other(cluster)->timeline = primary(cluster)->timeline + 1;
    set_server(other(cluster), SERVER_PRIMARY);
    cluster->primary = cluster->other;
    cluster->other = old;
}

static void start_old(struct true_cluster *cluster)
{
    struct true_node *old = other(cluster);

    old->runs_patroni = true;
    old->is_cut = old->is_frozen = false;
    set_server(old, SERVER_STARTING);
    tell_members(cluster);
}

static void follow(struct true_cluster *cluster)
{
    for (int i = 0; i < TRUE_NODES; i++) {
        struct true_node *node = &cluster->nodes[i];

        if (i == cluster->primary || !node->runs_patroni)
            continue;
        set_server(node, SERVER_STANDBY);
        node->timeline = primary(cluster)->timeline;
        node->believes = false;
    }
    tell_members(cluster);
}

static void die(struct true_cluster *cluster)
{
    struct true_node *node = primary(cluster);

    cluster->n_demotions++;
    if (made_time_chance(50))
        node->is_cut = true;
    set_server(node, SERVER_DOWN);
    node->runs_patroni = node->believes = false;
}

static void freeze(struct true_cluster *cluster)
{
    cluster->n_demotions++;
    primary(cluster)->is_frozen = cluster->is_kind;
    primary(cluster)->is_cut = !cluster->is_kind;
}

/* What it was before it still believes to be. */
static void thaw(struct true_cluster *cluster)
{
    other(cluster)->is_frozen = other(cluster)->is_cut = false;
}

static void demote_old(struct true_cluster *cluster)
{
    other(cluster)->believes = false;
    set_server(other(cluster), SERVER_STOPPING);
    tell_members(cluster);
}

/* The leases of who was the primary have run out. */
static void lose_lock(struct true_cluster *cluster)
{
    cluster->keys.members[cluster->primary].is_there = false;
    give_lock(cluster, NOBODY);
}

static void crash(struct true_cluster *cluster)
{
    set_server(primary(cluster), SERVER_DOWN);
}

static void recover(struct true_cluster *cluster)
{
    set_server(primary(cluster), SERVER_STARTING);
}

static void serve_again(struct true_cluster *cluster)
{
    set_server(primary(cluster), SERVER_PRIMARY);
    tell_members(cluster);
}

static void fall_silent(struct true_cluster *cluster)
{
    cluster->nodes[made_time_below(TRUE_NODES)].runs_patroni = false;
}

static void speak_again(struct true_cluster *cluster)
{
    for (size_t i = 0; i < TRUE_NODES; i++)
        cluster->nodes[i].runs_patroni = true;
}

static void claim(struct true_cluster *cluster)
{
    cluster->is_split = true;
    other(cluster)->believes = true;
    set_server(other(cluster), SERVER_PRIMARY);
}

static void give_up(struct true_cluster *cluster)
{
    cluster->is_split = false;
    follow(cluster);
}

static void begin_pause(struct true_cluster *cluster)
{
    set_pause(cluster, true);
}

static void drop_lock(struct true_cluster *cluster)
{
    if (!cluster->is_kind)
        return;
    primary(cluster)->believes = false;
    give_lock(cluster, NOBODY);
}

static void take_lock_back(struct true_cluster *cluster)
{
    if (!cluster->is_kind)
        return;
    primary(cluster)->believes = true;
    give_lock(cluster, cluster->primary);
}

static void end_pause(struct true_cluster *cluster)
{
    set_pause(cluster, false);
}

/* ---- what befalls it ---- */

#define HANDS_OVER \
    {call_hook, 20, 500}, {begin_stop, 5, 500}, {stop, 50, 1500}, {take_lock, 50, 500}, \
        {promote, 20, 500}, {tell_members, 0, 300}, {start_old, 100, 2000}, \
    { \
        follow, 200, 1500 \
    }

static const struct true_step switchover[] = {{ask, 0, 0}, HANDS_OVER, {NULL, 0, 0}};
static const struct true_step scheduled[] = {
    {ask_for_later, 0, 0}, {tell_members, 3000, 3000}, HANDS_OVER, {NULL, 0, 0}};
static const struct true_step cancelled[] = {
    {ask_for_later, 0, 0}, {clear, 0, 1900}, {NULL, 0, 0}};
static const struct true_step impossible[] = {
    {ask_for_stranger, 0, 0}, {clear, 10, 2000}, {NULL, 0, 0}};
static const struct true_step rejected[] = {{ask, 0, 0}, {clear, 10, 2000}, {NULL, 0, 0}};
static const struct true_step paused[] = {{begin_pause, 0, 0},
                                          {drop_lock, 0, 3000},
                                          {take_lock_back, 0, 9000},
                                          {end_pause, 0, 3000},
                                          {NULL, 0, 0}};
static const struct true_step paused_switchover[] = {{begin_pause, 0, 0},
                                                     {ask_for_one, 0, 3000},
                                                     HANDS_OVER,
                                                     {end_pause, 0, 3000},
                                                     {NULL, 0, 0}};
static const struct true_step death[] = {{die, 0, 0},
                                         {lose_lock, 1000, 20000},
                                         {take_lock, 50, 500},
                                         {promote, 20, 500},
                                         {tell_members, 0, 300},
                                         {start_old, 100, 9000},
                                         {follow, 200, 1500},
                                         {NULL, 0, 0}};
static const struct true_step frozen[] = {
    {freeze, 0, 0},        {lose_lock, 1000, 20000}, {take_lock, 50, 500},
    {promote, 20, 500},    {tell_members, 0, 300},   {thaw, 0, 9000},
    {demote_old, 0, 2000}, {start_old, 50, 500},     {follow, 200, 1500},
    {NULL, 0, 0}};
static const struct true_step crashed[] = {
    {crash, 0, 0}, {recover, 50, 2000}, {serve_again, 100, 3000}, {NULL, 0, 0}};
static const struct true_step silent[] = {
    {fall_silent, 0, 0}, {speak_again, 100, 9000}, {NULL, 0, 0}};
static const struct true_step claimed[] = {
    {claim, 0, 0}, {give_up, 100, 8000}, {NULL, 0, 0}};

static const struct true_step *const stories[] = {
    switchover,        scheduled, cancelled, impossible, rejected, paused,
    paused_switchover, death,     frozen,    crashed,    silent,   claimed};

static void await(struct true_cluster *cluster);

static void on_step(void *arg)
{
    struct true_cluster *cluster = arg;
    const struct true_step *step = cluster->step++;

    step->run(cluster);
    await(cluster);
}

static void begin_story(void *arg)
{
    struct true_cluster *cluster = arg;
    size_t i;

    if (cluster->is_over) {
        cluster->is_quiet = true;
        return;
    }
    do
        i = made_time_below(sizeof stories / sizeof *stories);
    while (!(cluster->befalls & 1u << i));
    do
        cluster->other = (int)made_time_below(TRUE_NODES);
    while (cluster->other == cluster->primary);
    cluster->is_kind = made_time_chance(50);
    cluster->step = stories[i];
    await(cluster);
}

static void await(struct true_cluster *cluster)
{
    const struct true_step *step = cluster->step;

    if (step->run == NULL)
        made_time_call(made_time_between(2500, 8000), begin_story, cluster);
    else
        made_time_call(made_time_between(step->least_ms, step->most_ms), on_step,
                       cluster);
}

void true_cluster_begin(struct true_cluster *cluster, unsigned befalls)
{
    REQUIRE(befalls != 0);
    *cluster = (struct true_cluster){.befalls = befalls, .keys = {.revision = 100}};
    for (size_t i = 0; i < TRUE_NODES; i++)
        cluster->nodes[i] = (struct true_node){
            .server = SERVER_STANDBY, .timeline = 3, .runs_patroni = true};
    cluster->nodes[0].server = SERVER_PRIMARY;
    cluster->nodes[0].believes = true;
    give_lock(cluster, 0);
    tell_members(cluster);
    made_time_call(made_time_between(2500, 8000), begin_story, cluster);
}

void true_cluster_end(struct true_cluster *cluster)
{
    cluster->is_over = true;
}
