/* A cluster as it really is befalls what befalls clusters, in thousands of orders, and
 * what is watched of it comes late, in parts or not at all. Whatever it is, the topology
 * that workers get must be safe, and right again in the end.
 *
 * Each run has a seed, which a failure prints: SIMULATION_SEED=n runs that one alone and
 * with its log; SIMULATION_RUNS=n makes as many instead of the usual number.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/log.h"
#include "core/memory.h"
#include "health/cluster.h"
#include "health/snapshot.h"
#include "tests/lib/made_time.h"
#include "tests/lib/true_cluster.h"

#define CHECK_TIMEOUT_MS 1000
#define RUN_MS 90000
#define HEAL_MS 60000 /* the longest story ends within that, and a hold with it */
#define SETTLE_MS 25000

/* What is between the cluster and us. */
struct weather {
    unsigned delay_ms;       /* of an answer, at most */
    unsigned late_percent;   /* of the answers: as late as check_timeout allows */
    unsigned lost_percent;   /* of the answers */
    bool has_etcd, has_user; /* settings: etcd, check_user */
    bool finds_nodes;        /* there: nodes are not given */
    unsigned hold_timeout_ms;
    bool is_rest_closed;
    unsigned key_delay_ms;
    bool is_etcd_unsteady; /* it is lost, now and then */
    bool has_alarms;       /* workers report what they meet, true or not */
    bool is_reloaded;
    bool is_orderly;
};

#define WATCHES_MAX 64

static struct {
    uint64_t seed;
    struct weather weather;
    struct loop *loop;
    struct config *config;
    struct cluster *cluster;
    uint32_t next_id;
    struct topology *topology; /* that workers have */
    uint64_t generation;
    bool is_healed; /* nothing is lost or late any more */

    struct true_cluster truth;
    struct store_keys keys; /* as the watch has brought them */
    int64_t key_revision;
    bool is_live;
    uint64_t last_keys_ms; /* when the last of those under way arrive */

    /* For what must hold. */
    uint32_t highest_claim;        /* timeline of a full claim that has arrived */
    uint64_t asked_ms[TRUE_NODES]; /* the answer that came last from it */
    int offered;                   /* for writing; NOBODY */
    uint64_t hold;                 /* the last one, and the leader key as it began */
    char held_leader[NODE_NAME_MAX];
    int64_t held_leader_changed_at;
    uint64_t n_offers;
    uint64_t n_timeouts;
} sim;

/* ---- what must hold ---- */

static void fail(const char *what, const char *node)
{
    cr_assert_fail("SIMULATION_SEED=%llu at %llu ms: %s (node %s)",
                   (unsigned long long)sim.seed,
                   (unsigned long long)made_time_ms() - 1000000, what, node);
}

/* Nodes that are found come and go: here they are numbered as they truly are. */
static const struct node *node_of(int number)
{
    for (size_t i = 0; i < sim.cluster->n_nodes; i++)
        if (sim.cluster->nodes[i]->config->name[1] - '0' == number)
            return sim.cluster->nodes[i];
    fail("it is not there", "none");
    return NULL;
}

static int offered_by(const struct topology *topology)
{
    const struct topology_cluster *cluster = &topology->clusters[0];

    return cluster->hold != 0 || cluster->primary < 0
               ? NOBODY
               : cluster->nodes[cluster->primary].name[1] - '0';
}

static void expect_one_primary(const struct topology *topology)
{
    const struct topology_cluster *cluster = &topology->clusters[0];

    for (size_t i = 0; i < cluster->n_nodes; i++)
        if ((cluster->nodes[i].role == NODE_PRIMARY) != (cluster->primary == (int)i))
            fail("another node has the role of the primary", cluster->nodes[i].name);
}

static bool was_writable_since(int node, uint64_t ms)
{
    return true_cluster_is_writable(&sim.truth, node) ||
           sim.truth.nodes[node].writable_ms >= ms;
}

/* Patroni's keys are read where its REST API is not there. They say what was, so a login
 * has to show that it is: the pool makes one before it lends. */
static bool is_named_by_keys(int node)
{
    const struct verdict *verdict = &node_of(node)->verdict;

    return verdict->last.source == SOURCE_ETCD && verdict->last.holds_lock;
}

static void note_hold(void)
{
    const struct store_view *view = &sim.cluster->view;

    if (sim.hold == sim.cluster->hold.number)
        return;
    sim.hold = sim.cluster->hold.number;
    snprintf(sim.held_leader, sizeof sim.held_leader, "%s", view->leader);
    sim.held_leader_changed_at = view->leader_changed_at;
}

/* Where keys alone have spoken for another node than before: its leader key was written
 * after the hold had begun, or was what the hold began for. */
static void expect_new_key(int node)
{
    const struct store_view *view = &sim.cluster->view;
    const char *name = node_of(node)->config->name;

    if (strcmp(view->leader, name) != 0)
        fail("offered by keys that do not name it", name);
    if (strcmp(hold_last(&sim.cluster->hold)->from, name) != 0 &&
        strcmp(sim.held_leader, name) != 0 &&
        view->leader_changed_at <= sim.held_leader_changed_at)
        fail("offered by a leader key of before the hold", name);
}

/* A node is offered that was not: it was writable after the hold had begun, or, where
 * none was, since it was asked. */
static void expect_proof(int node)
{
    const struct hold *hold = &sim.cluster->hold;
    const struct switchover *last = hold->number == 0 ? NULL : hold_last(hold);
    uint64_t since_ms = sim.asked_ms[node];

    if (last != NULL && last->outcome == SWITCHOVER_TIMED_OUT)
        return; /* then all goes by the election again */
    if (last != NULL && last->held_ms < made_time_ms() && since_ms < last->held_ms)
        fail("offered without an answer to a question of after the hold began",
             node_of(node)->config->name);
    if (last != NULL && is_named_by_keys(node))
        expect_new_key(node);
    if (!was_writable_since(node, since_ms) && !is_named_by_keys(node))
        fail("offered, and was not writable since it was asked",
             node_of(node)->config->name);
}

static void expect_newest(int node)
{
    const struct node *shown = node_of(node);

    if (shown->verdict.timeline < sim.highest_claim)
        fail("offered on an older timeline than was seen", shown->config->name);
}

/* The keys that have arrived name another: by Patroni's word this one is none, unless it
 * has been promoted since. */
static void expect_lock(int node)
{
    const struct store_view *view = &sim.cluster->view;
    const struct node *shown = node_of(node);

    if (view->is_live && view->leader[0] != '\0' &&
        strcmp(view->leader, shown->config->name) != 0 && sim.truth.primary != node)
        fail("offered, and the leader key names another", shown->config->name);
}

static void look_at(const struct topology *topology)
{
    int is = offered_by(topology);

    expect_one_primary(topology);
    note_hold();
    if (is >= 0) {
        expect_newest(is);
        expect_lock(is);
    }
    if (is >= 0 && is != sim.offered) {
        expect_proof(is);
        sim.n_offers++;
    }
    sim.offered = is;
}

/* As the monitor does. */
static void on_cluster(void *arg)
{
    struct topology *topology;

    (void)arg;
    if (sim.cluster == NULL)
        return;
    topology = snapshot_take(&sim.cluster, 1, ++sim.generation);
    cr_assert_not_null(topology);
    look_at(topology);
    topology_release(sim.topology);
    sim.topology = topology;
}

static void expect_end_of_hold(void)
{
    const struct switchover *present = hold_present(&sim.cluster->hold);

    if (present != NULL &&
        made_time_ms() - present->held_ms > sim.weather.hold_timeout_ms + 200)
        fail("a hold does not end", present->from);
}

/* ---- the probes, in the place of health/probe_*.c ---- */

enum asked { ASKED_REST, ASKED_SQL, ASKED_TCP };

struct asker {
    struct probe base;
    enum asked what;
    int node;
    uint64_t asked_ms;
    uint32_t timeout_ms;
    struct sample sample;
};

static void set_words(struct sample *sample, const char *state)
{
    snprintf(sample->state, sizeof sample->state, "%s", state);
    snprintf(sample->said, sizeof sample->said, "%d %s", sample->http_status, state);
    snprintf(sample->system_id, sizeof sample->system_id, "77");
}

static void set_server(struct sample *sample, const struct true_node *node)
{
    static const char *const states[] = {[SERVER_DOWN] = "stopped",
                                         [SERVER_STARTING] = "starting",
                                         [SERVER_STANDBY] = "running",
                                         [SERVER_PRIMARY] = "running",
                                         [SERVER_STOPPING] = "stopping"};
    bool runs = node->server == SERVER_STANDBY || node->server == SERVER_PRIMARY;

    sample->outcome = runs ? SAMPLE_OK : SAMPLE_WRONG;
    sample->role = !runs                            ? NODE_UNKNOWN
                   : node->server == SERVER_PRIMARY ? NODE_PRIMARY
                                                    : NODE_REPLICA;
    sample->timeline = runs ? node->timeline : 0;
    sample->is_streaming = node->server == SERVER_STANDBY;
    set_words(sample, states[node->server]);
}

static struct sample answer_of_rest(const struct true_node *node)
{
    struct sample sample = {.source = SOURCE_PATRONI,
                            .http_status = node->believes ? 200 : 503,
                            .holds_lock = node->believes,
                            .is_unlocked = sim.truth.keys.leader == NOBODY,
                            .is_paused = sim.truth.keys.is_paused};

    set_server(&sample, node);
    return sample;
}

static struct sample answer_of_sql(const struct true_node *node)
{
    struct sample sample = {.source = SOURCE_POSTGRES};

    set_server(&sample, node);
    if (sample.outcome != SAMPLE_OK)
        sample = (struct sample){.outcome = SAMPLE_REFUSED, .said = "57P03"};
    return sample;
}

/* What is there at this moment. */
static struct sample answer_of(const struct asker *asker)
{
    const struct true_node *node = &sim.truth.nodes[asker->node];
    bool is_rest = asker->what == ASKED_REST;

    if (node->is_cut || (is_rest && sim.weather.is_rest_closed))
        return (struct sample){.outcome = SAMPLE_TIMEOUT, .said = "no connection"};
    if (is_rest ? !node->runs_patroni : node->server == SERVER_DOWN)
        return (struct sample){.outcome = SAMPLE_REFUSED, .said = "refused"};
    if (node->is_frozen && asker->what != ASKED_TCP)
        return (struct sample){
            .outcome = SAMPLE_TIMEOUT, .is_mute = is_rest, .said = "silence"};
    if (asker->what == ASKED_TCP)
        return (struct sample){.source = SOURCE_TCP, .outcome = SAMPLE_OK, .said = "tcp"};
    return is_rest ? answer_of_rest(node) : answer_of_sql(node);
}

static void on_arrival(void *arg)
{
    struct asker *asker = arg;
    const struct sample *sample = &asker->sample;

    sim.asked_ms[asker->node] = asker->asked_ms;
    if (sample->outcome == SAMPLE_OK && sample->holds_lock &&
        sample->role == NODE_PRIMARY && sample->timeline > sim.highest_claim)
        sim.highest_claim = sample->timeline;
    asker->base.sample = *sample;
    probe_answer(&asker->base);
}

static uint64_t deadline_of(const struct asker *asker)
{
    return asker->asked_ms + asker->timeout_ms;
}

/* The answer is made; its way back takes as long again. */
static void on_answered(void *arg)
{
    struct asker *asker = arg;
    uint64_t now_ms = made_time_ms(), way_ms = now_ms - asker->asked_ms;
    bool is_lost = !sim.is_healed && made_time_below(100) < sim.weather.lost_percent;

    asker->sample = answer_of(asker);
    if (asker->sample.outcome == SAMPLE_TIMEOUT || is_lost ||
        now_ms + way_ms > deadline_of(asker)) {
        if (is_lost)
            asker->sample = (struct sample){.outcome = SAMPLE_TIMEOUT, .said = "lost"};
        way_ms = deadline_of(asker) - now_ms;
    }
    made_time_call(way_ms, on_arrival, asker);
}

static void asker_ask(struct probe *probe, const struct question *question)
{
    struct asker *asker = CONTAINER_OF(probe, struct asker, base);
    bool is_late = !sim.is_healed && made_time_chance(sim.weather.late_percent);
    uint64_t way_ms = is_late ? question->timeout_ms : sim.weather.delay_ms;

    asker->node = address_port(&question->address) % 10;
    asker->asked_ms = made_time_ms();
    asker->timeout_ms = question->timeout_ms;
    made_time_call(made_time_between(0, way_ms / 2), on_answered, asker);
}

static void asker_stop(struct probe *probe)
{
    made_time_forget(CONTAINER_OF(probe, struct asker, base));
}

static void asker_free(struct probe *probe)
{
    memory_free(CONTAINER_OF(probe, struct asker, base));
}

static const struct probe_kind asking = {asker_ask, asker_stop, asker_free};

static struct probe *make_asker(enum asked what,
                                void (*on_sample)(void *arg, const struct sample *sample),
                                void *arg)
{
    struct asker *asker = memory_zeroed(sizeof *asker);

    cr_assert_not_null(asker);
    asker->base = (struct probe){
        .kind = &asking, .loop = sim.loop, .on_sample = on_sample, .arg = arg};
    asker->what = what;
    return &asker->base;
}

struct probe *probe_rest_new(struct loop *loop, struct http *http,
                             void (*on_sample)(void *arg, const struct sample *sample),
                             void *arg)
{
    (void)loop;
    (void)http;
    return make_asker(ASKED_REST, on_sample, arg);
}

struct probe *probe_uri_new(struct loop *loop, struct http *http,
                            void (*on_sample)(void *arg, const struct sample *sample),
                            void *arg)
{
    return probe_rest_new(loop, http, on_sample, arg);
}

struct probe *probe_sql_new(struct loop *loop, struct sql_turn *turn,
                            void (*on_sample)(void *arg, const struct sample *sample),
                            void *arg)
{
    (void)loop;
    (void)turn;
    return make_asker(ASKED_SQL, on_sample, arg);
}

struct probe *probe_tcp_new(struct loop *loop,
                            void (*on_sample)(void *arg, const struct sample *sample),
                            void *arg)
{
    (void)loop;
    return make_asker(ASKED_TCP, on_sample, arg);
}

/* ---- names, in the place of core/resolver.c ---- */

struct resolver_watch {
    void (*on_change)(void *arg, const struct address *addresses, size_t n,
                      const char *error);
    void *arg;
};

static void on_resolved(void *arg)
{
    struct resolver_watch *watch = arg;
    struct address address;

    cr_assert(address_parse("127.0.0.1", 0, &address));
    watch->on_change(watch->arg, &address, 1, NULL);
}

struct resolver_watch *resolver_watch(struct resolver *resolver, const char *host,
                                      void (*on_change)(void *arg,
                                                        const struct address *addresses,
                                                        size_t n, const char *error),
                                      void *arg)
{
    struct resolver_watch *watch = memory_zeroed(sizeof *watch);

    (void)resolver;
    (void)host;
    cr_assert_not_null(watch);
    watch->on_change = on_change;
    watch->arg = arg;
    made_time_call(0, on_resolved, watch);
    return watch;
}

void resolver_unwatch(struct resolver_watch *watch)
{
    made_time_forget(watch);
    memory_free(watch);
}

void resolver_refresh(struct resolver_watch *watch)
{
    (void)watch;
}

/* ---- etcd, in the place of health/etcd.c ---- */

struct etcd {
    void (*on_change)(void *arg);
    void *arg;
};

/* A change on its way. */
struct letter {
    struct true_keys keys;
    bool is_used;
};

static struct letter letters[WATCHES_MAX];
static struct etcd *watched; /* that is started */

struct etcd *etcd_new(const struct etcd_tools *tools, const struct cluster_config *config,
                      const char *prefix, void (*on_change)(void *arg), void *arg)
{
    struct etcd *made = memory_zeroed(sizeof *made);

    (void)tools;
    (void)config;
    (void)prefix;
    cr_assert_not_null(made);
    made->on_change = on_change;
    made->arg = arg;
    return made;
}

static void put(const char *name, const char *value, int64_t changed_at)
{
    struct store_key key = {.name = (char *)(uintptr_t)name,
                            .value = (char *)(uintptr_t)value,
                            .name_length = strlen(name),
                            .length = strlen(value),
                            .created_at = changed_at,
                            .changed_at = changed_at};

    cr_assert(store_keys_put(&sim.keys, &key));
}

static void put_request(const struct true_keys *keys)
{
    char value[160], time[80] = "";
    time_t due_s = (time_t)(keys->due_ms / 1000);
    struct tm due;
    const char *to = keys->is_to_stranger ? "stranger"
                     : keys->to == 0      ? "n0"
                     : keys->to == 1      ? "n1"
                     : keys->to == 2      ? "n2"
                                          : "";

    if (keys->due_ms != 0 && gmtime_r(&due_s, &due) != NULL)
        strftime(time, sizeof time, ",\"scheduled_at\":\"%Y-%m-%dT%H:%M:%S+00:00\"",
                 &due);
    snprintf(value, sizeof value, "{\"leader\":\"n%d\",\"member\":\"%s\"%s}", keys->from,
             to, time);
    put("failover", keys->is_asked ? value : "{}", keys->request_changed_at);
}

static void put_member(const struct true_keys *keys, int i)
{
    static const char *const states[] = {"stopped", "starting", "running", "running",
                                         "stopping"};
    char name[24], value[256];

    snprintf(name, sizeof name, "members/n%d", i);
    snprintf(value, sizeof value,
             "{\"conn_url\":\"postgres://127.0.0.1:543%d/postgres\",\"api_url\":"
             "\"http://127.0.0.1:800%d/patroni\",\"state\":\"%s\",\"role\":\"%s\","
             "\"timeline\":%u}",
             i, i, states[keys->members[i].server],
             keys->members[i].server == SERVER_PRIMARY ? "master" : "replica",
             keys->members[i].timeline);
    put(name, value, keys->revision);
}

static void write_keys(const struct true_keys *keys)
{
    char leader[8];

    store_keys_clear(&sim.keys);
    snprintf(leader, sizeof leader, "n%d", keys->leader);
    put("initialize", "77", 1);
    put("config", keys->is_paused ? "{\"pause\":true}" : "{}", 2);
    if (keys->leader != NOBODY)
        put("leader", leader, keys->leader_changed_at);
    if (keys->request_changed_at != 0)
        put_request(keys);
    for (int i = 0; i < TRUE_NODES; i++)
        if (keys->members[i].is_there)
            put_member(keys, i);
    sim.key_revision = keys->revision;
}

static void on_letter(void *arg)
{
    struct letter *letter = arg;

    letter->is_used = false;
    if (!sim.is_live || watched == NULL)
        return;
    write_keys(&letter->keys);
    watched->on_change(watched->arg);
}

static void on_true_keys(void *arg)
{
    uint64_t at_ms = made_time_ms() + made_time_between(1, sim.weather.key_delay_ms);
    size_t i = 0;

    (void)arg;
    if (!sim.is_live)
        return;
    while (letters[i].is_used)
        cr_assert(++i < WATCHES_MAX);
    letters[i] = (struct letter){.keys = sim.truth.keys, .is_used = true};
    if (at_ms < sim.last_keys_ms)
        at_ms = sim.last_keys_ms;
    sim.last_keys_ms = at_ms;
    made_time_call(at_ms - made_time_ms(), on_letter, &letters[i]);
}

static void on_etcd_lost(void *arg)
{
    if (!sim.is_healed)
        etcd_start(arg);
}

static void on_etcd_found(void *arg)
{
    (void)arg;
    sim.is_live = true;
    write_keys(&sim.truth.keys);
    watched->on_change(watched->arg);
    if (sim.weather.is_etcd_unsteady && !sim.is_healed)
        made_time_call(made_time_between(1000, 30000), on_etcd_lost, watched);
}

static void forget_letters(void)
{
    for (size_t i = 0; i < WATCHES_MAX; i++) {
        made_time_forget(&letters[i]);
        letters[i].is_used = false;
    }
    sim.last_keys_ms = 0;
}

/* Also: it is lost, and found again. */
void etcd_start(struct etcd *etcd)
{
    bool was_live = sim.is_live && watched == etcd;

    watched = etcd;
    sim.is_live = false;
    forget_letters();
    if (was_live)
        etcd->on_change(etcd->arg);
    made_time_call(was_live ? made_time_between(100, 15000) : 20, on_etcd_found, etcd);
}

void etcd_free(struct etcd *etcd)
{
    if (etcd == NULL)
        return;
    made_time_forget(etcd);
    if (watched == etcd)
        watched = NULL;
    memory_free(etcd);
}

void etcd_renew_tls(struct etcd *etcd, struct tls_registry *registry)
{
    (void)etcd;
    (void)registry;
}

void etcd_set_interval(struct etcd *etcd, uint64_t interval_ms)
{
    (void)etcd;
    (void)interval_ms;
}

const struct store_keys *etcd_keys(const struct etcd *etcd)
{
    (void)etcd;
    return &sim.keys;
}

int64_t etcd_revision(const struct etcd *etcd)
{
    (void)etcd;
    return sim.key_revision;
}

bool etcd_is_live(const struct etcd *etcd)
{
    (void)etcd;
    return sim.is_live;
}

/* ---- what else happens to us ---- */

static void on_hook(void *arg, int node)
{
    const char name[] = {'n', (char)('0' + node), '\0'};

    (void)arg;
    if (!sim.weather.is_orderly)
        cluster_hold(sim.cluster, name, "", HOLD_BY_HOOK, "hook");
}

static void on_command_over(void *arg)
{
    (void)arg;
    cluster_release(sim.cluster, HOLD_BY_COMMAND);
}

static void on_alarm(void *arg)
{
    (void)arg;
    if (sim.is_healed)
        return;
    if (made_time_chance(5)) {
        cluster_hold(sim.cluster, "", "", HOLD_BY_COMMAND, "command");
        made_time_call(made_time_between(0, 5000), on_command_over, &sim.n_offers);
    } else {
        cluster_take_evidence(sim.cluster,
                              (enum evidence)made_time_below(EVIDENCE_KIND_COUNT));
    }
    cluster_set_waiting(sim.cluster, (unsigned)made_time_below(3));
    made_time_call(made_time_between(10, 2000), on_alarm, NULL);
}

static const struct node_tools tools;

static void start_cluster(void)
{
    struct node_tools with_loop = tools;
    struct cluster *old = sim.cluster, *cluster;

    with_loop.loop = sim.loop;
    cluster =
        cluster_new(&with_loop, &sim.config->clusters[0], sim.config, on_cluster, NULL);
    cr_assert_not_null(cluster);
    cr_assert(cluster_inherit(cluster, old, &sim.next_id));
    sim.cluster = cluster;
    cluster_free(old);
    cluster_start(cluster);
    on_cluster(NULL);
}

static void on_reload(void *arg)
{
    (void)arg;
    if (sim.is_healed)
        return;
    start_cluster();
    made_time_call(made_time_between(100, 20000), on_reload, &sim.generation);
}

/* ---- a run ---- */

static void load_config(void)
{
    char ini[640];
    struct text errors;

    snprintf(
        ini, sizeof ini,
        "[cluster main]\n%scheck_timeout = %dms\nhold_timeout = %ums\n"
        "%s%s[listener rw]\nbind = 127.0.0.1:15999\ncluster = main\nrole = primary\n",
        sim.weather.finds_nodes
            ? ""
            : "nodes = n0=127.0.0.1:5430:8000, n1=127.0.0.1:5431:8001, "
              "n2=127.0.0.1:5432:8002\n",
        CHECK_TIMEOUT_MS, sim.weather.hold_timeout_ms,
        sim.weather.has_etcd ? "etcd = 127.0.0.1:2379\nscope = main\n" : "",
        sim.weather.has_user ? "check_user = postgres\n" : "");
    text_init(&errors, 10000);
    sim.config = config_load_text("test.ini", ini, &errors);
    cr_assert_not_null(sim.config, "%s", text_get(&errors));
    text_clear(&errors);
}

static void begin(uint64_t seed, const struct weather *weather, unsigned befalls)
{
    memset(&sim, 0, sizeof sim);
    memset(letters, 0, sizeof letters);
    sim.seed = seed;
    sim.weather = *weather;
    sim.loop = made_time_begin(seed);
    sim.next_id = 1;
    sim.offered = NOBODY;
    load_config();
    true_cluster_begin(&sim.truth, befalls);
    sim.truth.on_hook = on_hook;
    if (weather->has_etcd)
        sim.truth.on_keys = on_true_keys;
    start_cluster();
    if (weather->has_alarms)
        made_time_call(1000, on_alarm, NULL);
    if (weather->is_reloaded)
        made_time_call(3000, on_reload, &sim.generation);
}

static void go_on(uint64_t for_ms)
{
    uint64_t until_ms = made_time_ms() + for_ms;

    while (made_time_step(until_ms))
        expect_end_of_hold();
}

static void finish(void)
{
    cluster_free(sim.cluster);
    sim.cluster = NULL;
    topology_release(sim.topology);
    config_release(sim.config);
    store_keys_clear(&sim.keys);
}

/* What was under way comes to its end, and after a while all is known as it is. */
static void heal(void)
{
    true_cluster_end(&sim.truth);
    go_on(HEAL_MS);
    sim.is_healed = true;
    on_command_over(NULL);
    go_on(SETTLE_MS);
    if (!sim.truth.is_quiet)
        fail("the story has no end", "none");
    if (sim.cluster->hold.is_on)
        fail("a hold is on, and all is well", hold_last(&sim.cluster->hold)->from);
    if (sim.offered != sim.truth.primary)
        fail("the primary is not offered, and all is well", "none");
}

static uint64_t number_from(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);

    return text == NULL ? otherwise : strtoull(text, NULL, 10);
}

static void run_all(uint64_t n, void (*run)(uint64_t seed))
{
    uint64_t alone = number_from("SIMULATION_SEED", 0);

    log_configure(alone != 0 ? LOG_LEVEL_DEBUG : LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    if (alone != 0) {
        run(alone);
        return;
    }
    n = number_from("SIMULATION_RUNS", n);
    for (uint64_t seed = 1; seed <= n; seed++)
        run(seed);
}

TestSuite(simulation, .timeout = 100);

/* ---- all that may happen ---- */

static struct weather any_weather(uint64_t seed)
{
    return (struct weather){.delay_ms = 1u << seed % 8,
                            .late_percent = seed % 3 == 0 ? 20 : 0,
                            .lost_percent = seed % 5 == 0 ? 20 : 0,
                            .hold_timeout_ms = seed % 6 == 1 ? 3000 : 60000,
                            .key_delay_ms = seed % 7 == 0 ? 2000 : 20,
                            .is_etcd_unsteady = seed % 11 == 0,
                            .has_alarms = seed % 2 == 0,
                            .is_reloaded = seed % 13 == 0};
}

static const unsigned anything = (BEFALLS_CLAIM << 1) - 1;

static void run_with_rest(uint64_t seed)
{
    struct weather weather = any_weather(seed);

    begin(seed, &weather, anything);
    go_on(RUN_MS);
    heal();
    finish();
}

static void run_with_etcd(uint64_t seed)
{
    struct weather weather = any_weather(seed);

    weather.has_etcd = true;
    weather.has_user = seed % 4 < 2;
    weather.finds_nodes = seed % 9 < 3;
    begin(seed, &weather, anything);
    go_on(RUN_MS);
    heal();
    finish();
}

static void run_with_etcd_alone(uint64_t seed)
{
    struct weather weather = any_weather(seed);

    weather.has_etcd = weather.is_rest_closed = true;
    weather.has_user = seed % 4 < 2;
    weather.finds_nodes = seed % 9 < 3;
    begin(seed, &weather, anything);
    go_on(RUN_MS);
    heal();
    finish();
}

Test(simulation, with_patronis_rest_api)
{
    run_all(500, run_with_rest);
}

Test(simulation, with_its_keys_beside_it)
{
    run_all(500, run_with_etcd);
}

Test(simulation, with_its_keys_alone)
{
    run_all(800, run_with_etcd_alone);
}

/* ---- orderly evidence ---- */

static void run_orderly(uint64_t seed)
{
    const struct weather weather = {.delay_ms = 10,
                                    .key_delay_ms = 10,
                                    .hold_timeout_ms = 60000,
                                    .has_etcd = true,
                                    .is_orderly = true};
    const struct hold *hold;

    begin(seed, &weather,
          BEFALLS_SWITCHOVER | BEFALLS_SCHEDULED | BEFALLS_CANCELLED |
              BEFALLS_IMPOSSIBLE | BEFALLS_PAUSE | BEFALLS_PAUSED_SWITCHOVER |
              BEFALLS_DEATH);
    go_on(RUN_MS);
    heal();
    hold = &sim.cluster->hold;
    if (hold->number != sim.truth.n_demotions)
        fail("there are not as many holds as demotions", "none");
    for (uint64_t n = 1; n <= hold->number; n++)
        if (hold->records[(n - 1) % SWITCHOVERS_KEPT].outcome != SWITCHOVER_CHANGED)
            fail("a hold has not ended with another primary", "none");
    finish();
}

Test(simulation, as_many_holds_as_demotions)
{
    run_all(400, run_orderly);
}
