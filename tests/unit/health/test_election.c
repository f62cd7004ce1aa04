#include "health/election.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#include "tests/unit/health/samples.h"

#define N_MAX 5

/* A cluster of nodes "a", "b", ... that are told of samples one by one. */
static struct verdict_settings settings;
static struct verdict verdicts[N_MAX];
static struct candidate candidates[N_MAX];
static struct election election;
static size_t n_nodes;

static void begin(enum check_kind check, size_t n)
{
    static const char *const names[N_MAX] = {"a", "b", "c", "d", "e"};

    settings = (struct verdict_settings){.check = check, .rise = 1, .fall = 2};
    n_nodes = n;
    election_init(&election);
    for (size_t i = 0; i < n; i++) {
        verdicts[i] = (struct verdict){.lag_bytes = -1};
        candidates[i] = (struct candidate){.name = names[i], .verdict = &verdicts[i]};
    }
}

static void begin_with_three(void)
{
    begin(CHECK_PATRONI, 3);
}

TestSuite(election, .init = begin_with_three, .timeout = 60);

static void hear(size_t node, uint64_t round, struct sample sample)
{
    sample.round = round;
    verdict_add(&verdicts[node], &sample, &settings);
    election_run(&election, candidates, n_nodes, settings.check);
}

static struct sample of_system(struct sample sample, const char *id)
{
    snprintf(sample.system_id, sizeof sample.system_id, "%s", id);
    return sample;
}

static struct sample silence(void)
{
    return sample_of_silence(SAMPLE_TIMEOUT);
}

Test(election, nobody_is_primary_before_anybody_was_asked)
{
    cr_expect_eq(election.primary, -1);
    cr_expect_str_eq(election.why_no_primary,
                     "no node of this cluster has been asked yet");
    election_run(&election, candidates, n_nodes, CHECK_PATRONI);
    cr_expect_str_eq(election.why_no_primary,
                     "no node of this cluster has been asked yet");
}

Test(election, patroni_names_the_primary_and_one_word_is_enough)
{
    hear(1, 1, sample_of_primary(4));
    cr_expect_eq(election.primary, 1);
    cr_expect_eq(election.fence, 4);
    cr_expect_str_eq(election.why_no_primary, "");
    cr_expect_not(candidates[1].is_rival || candidates[1].is_fenced);
    hear(0, 1, sample_of_replica(4));
    hear(2, 1, silence());
    cr_expect_eq(election.primary, 1);
}

Test(election, replicas_alone_have_no_primary)
{
    hear(0, 1, sample_of_replica(4));
    cr_expect_eq(election.primary, -1);
    cr_expect_str_eq(election.why_no_primary, "no node holds Patroni's leader lock");
}

Test(election, says_when_no_node_is_up)
{
    for (size_t i = 0; i < 3; i++)
        hear(i, 1, silence());
    cr_expect_str_eq(election.why_no_primary, "no node of this cluster is up");
}

Test(election, a_switchover_is_followed_in_each_step)
{
    hear(0, 1, sample_of_primary(4));
    hear(1, 1, sample_of_replica(4));
    hear(0, 2, sample_of_state(200, "stopping"));
    cr_expect_eq(election.primary, -1);
    cr_expect_str_eq(election.why_no_primary,
                     "a holds Patroni's leader lock, but its server is stopping");
    hear(0, 3, sample_of_state(503, "stopped"));
    cr_expect_str_eq(election.why_no_primary, "no node holds Patroni's leader lock");
    hear(1, 3, sample_of_patroni(200, NODE_REPLICA, 4));
    cr_expect_eq(election.primary, -1, "the lock alone makes no primary");
    cr_expect_str_eq(election.why_no_primary,
                     "b holds Patroni's leader lock, but its server is in recovery");
    hear(1, 4, sample_of_primary(5));
    cr_expect_eq(election.primary, 1);
    cr_expect_eq(election.fence, 5);
    hear(0, 5, sample_of_replica(5));
    cr_expect_eq(election.primary, 1);
}

Test(election, of_two_claims_the_higher_timeline_wins_at_once)
{
    hear(0, 1, sample_of_primary(4));
    hear(1, 1, sample_of_primary(5));
    cr_expect_eq(election.primary, 1);
    cr_expect(candidates[0].is_fenced);
    cr_expect_not(candidates[1].is_fenced);
    hear(0, 2, sample_of_primary(4));
    hear(1, 2, sample_of_primary(5));
    cr_expect_eq(election.primary, 1);
    cr_expect_not(election.has_rivals);
}

Test(election, the_fence_outlives_who_has_shown_it)
{
    hear(0, 1, sample_of_primary(5));
    hear(0, 2, silence());
    hear(0, 3, silence());
    cr_expect_eq(election.primary, -1);
    hear(1, 3, sample_of_primary(4));
    cr_expect_eq(election.primary, -1);
    cr_expect(candidates[1].is_fenced);
    cr_expect_str_eq(election.why_no_primary, "b claims to be the primary on timeline 4, "
                                              "but timeline 5 was seen");
    hear(1, 4, sample_of_primary(5));
    cr_expect_eq(election.primary, 1);
}

/* As Patroni 3.0 does when a paused primary takes the lock back from its successor. */
Test(election, the_fence_comes_down_when_its_keeper_has_left_it)
{
    hear(0, 1, sample_of_primary(6));
    hear(1, 1, sample_of_replica(6));
    hear(0, 2, silence());
    hear(0, 3, silence());
    hear(1, 4, sample_of_primary(7));
    cr_assert_eq(election.primary, 1);
    hear(0, 5, sample_of_primary(6));
    cr_expect_eq(election.primary, 1);
    hear(1, 6, sample_of_state(503, "stopping"));
    cr_expect_eq(election.primary, -1, "it may come back");
    hear(1, 7, silence());
    hear(1, 8, silence());
    cr_expect_eq(election.primary, -1, "it may live where we cannot see it");
    hear(1, 9, sample_of_replica(7));
    cr_expect_eq(election.primary, -1, "it still has what was written on 7");
    hear(2, 9, sample_of_replica(7));
    hear(1, 10, sample_of_replica(6));
    cr_expect_eq(election.primary, -1, "c still has it");
    cr_expect_eq(election.fence, 7);
    hear(2, 11, sample_of_replica(6));
    cr_expect_eq(election.primary, 0);
    cr_expect_eq(election.fence, 6);
    cr_expect(election.is_lower_fence);
    hear(2, 12, sample_of_replica(6));
    cr_expect_not(election.is_lower_fence, "once");
    cr_expect_eq(election.primary, 0);
}

Test(election, the_fence_does_not_come_down_for_nobody)
{
    hear(0, 1, sample_of_primary(7));
    hear(0, 2, sample_of_replica(6));
    cr_expect_eq(election.fence, 7);
    hear(1, 2, sample_of_sql(NODE_PRIMARY, 6, false));
    cr_expect_eq(election.fence, 7, "PostgreSQL's word is no claim beside Patroni");
}

Test(election, the_fence_does_not_come_down_for_a_keeper_that_claims_less)
{
    hear(0, 1, sample_of_primary(7));
    hear(0, 2, sample_of_primary(6));
    cr_expect_eq(election.primary, -1);
    cr_expect_eq(election.fence, 7);
}

Test(election, a_replica_raises_no_fence)
{
    hear(0, 1, sample_of_replica(9));
    hear(1, 1, sample_of_primary(4));
    cr_expect_eq(election.primary, 1);
    cr_expect_eq(election.fence, 4);
}

Test(election, a_writable_node_without_the_lock_raises_no_fence_and_is_no_target)
{
    hear(0, 1, sample_of_patroni(503, NODE_PRIMARY, 9));
    cr_expect_eq(election.primary, -1);
    cr_expect_eq(election.fence, 0);
    cr_expect_str_eq(election.why_no_primary,
                     "a is writable, but does not hold Patroni's leader lock");
    hear(1, 1, sample_of_primary(4));
    cr_expect_eq(election.primary, 1);
}

Test(election, two_claims_on_one_timeline_in_two_rounds_stop_writes)
{
    hear(0, 1, sample_of_primary(5));
    hear(1, 1, sample_of_primary(5));
    cr_expect_eq(election.primary, 0, "the present primary stays for this round");
    cr_expect_not(election.has_rivals);
    hear(0, 2, sample_of_primary(5));
    cr_expect_eq(election.primary, 0, "b has not been asked again yet");
    hear(1, 2, sample_of_primary(5));
    cr_expect_eq(election.primary, -1);
    cr_expect(election.has_rivals);
    cr_expect_str_eq(election.why_no_primary,
                     "a and b both claim to be the primary on timeline 5");
    hear(0, 3, sample_of_primary(5));
    hear(1, 3, sample_of_primary(5));
    cr_expect_eq(election.primary, -1);

    hear(1, 4, sample_of_replica(5));
    cr_expect_eq(election.primary, 0, "writes go on when one is left");
    cr_expect_not(election.has_rivals);
}

Test(election, an_answer_of_the_round_before_is_not_a_second_round)
{
    hear(0, 1, sample_of_primary(5));
    hear(1, 2, sample_of_primary(5));
    hear(0, 2, sample_of_primary(5));
    cr_expect_eq(election.primary, 0, "both have claimed in one round");
    hear(1, 3, sample_of_primary(5));
    cr_expect_eq(election.primary, 0);
    hear(0, 3, sample_of_primary(5));
    cr_expect_eq(election.primary, -1);
}

Test(election, two_claims_on_one_timeline_without_a_present_primary_choose_none)
{
    hear(0, 1, silence());
    verdicts[0] = (struct verdict){.lag_bytes = -1};
    verdicts[1] = verdicts[0];
    struct sample claim = sample_of_primary(5);
    verdict_add(&verdicts[0], &claim, &settings);
    verdict_add(&verdicts[1], &claim, &settings);
    election_run(&election, candidates, n_nodes, CHECK_PATRONI);
    cr_expect_eq(election.primary, -1);
    cr_expect_not(election.has_rivals);
}

Test(election, rivals_that_end_within_a_round_do_no_harm)
{
    hear(0, 1, sample_of_primary(5));
    hear(1, 1, sample_of_primary(5));
    hear(1, 2, sample_of_replica(5));
    cr_expect_eq(election.primary, 0);
    hear(1, 3, sample_of_primary(5));
    cr_expect_eq(election.primary, 0, "the count begins anew");
    cr_expect_not(election.has_rivals);
}

Test(election, a_rival_that_falls_silent_is_one_no_more)
{
    hear(0, 1, sample_of_primary(5));
    hear(1, 1, sample_of_primary(5));
    hear(0, 2, sample_of_primary(5));
    hear(1, 2, sample_of_primary(5));
    cr_expect_eq(election.primary, -1);
    hear(1, 3, silence());
    cr_expect_eq(election.primary, 0);
}

Test(election, a_higher_timeline_ends_rivalry)
{
    hear(0, 1, sample_of_primary(5));
    hear(1, 1, sample_of_primary(5));
    hear(0, 2, sample_of_primary(5));
    hear(1, 2, sample_of_primary(5));
    hear(2, 2, sample_of_primary(6));
    cr_expect_eq(election.primary, 2);
    cr_expect_not(election.has_rivals);
    cr_expect(candidates[0].is_fenced && candidates[1].is_fenced);
}

Test(election, a_silent_primary_stays_until_fall)
{
    hear(0, 1, sample_of_primary(5));
    hear(0, 2, silence());
    cr_expect_eq(election.primary, 0);
    hear(0, 3, silence());
    cr_expect_eq(election.primary, -1);
}

Test(election, a_silent_primary_gives_way_to_who_claims_in_full)
{
    hear(0, 1, sample_of_primary(5));
    hear(0, 2, silence());
    hear(1, 2, sample_of_primary(5));
    cr_expect_eq(election.primary, 1);
    cr_expect_not(election.has_rivals);
}

Test(election, postgresql_keeps_the_primary_of_a_silent_patroni)
{
    hear(0, 1, sample_of_primary(5));
    for (uint64_t round = 2; round < 10; round++) {
        hear(0, round, sample_of_sql(NODE_PRIMARY, 5, false));
        cr_expect_eq(election.primary, 0);
    }
    hear(1, 10, sample_of_primary(6));
    cr_expect_eq(election.primary, 1, "Patroni's word counts more");
    hear(1, 11, silence());
    hear(1, 12, silence());
    hear(0, 12, sample_of_sql(NODE_PRIMARY, 5, false));
    cr_expect_eq(election.primary, -1, "the fence has closed behind it");
}

Test(election, postgresql_makes_no_primary_beside_a_silent_patroni)
{
    hear(0, 1, sample_of_sql(NODE_PRIMARY, 5, false));
    cr_expect_eq(election.primary, -1);
    hear(0, 2, sample_of_sql(NODE_PRIMARY, 5, false));
    cr_expect_eq(election.primary, -1);
}

Test(election, the_primary_of_a_paused_cluster_without_lock_stays)
{
    struct sample unlocked = sample_of_patroni(503, NODE_PRIMARY, 5);

    unlocked.is_paused = unlocked.is_unlocked = true;
    hear(0, 1, sample_of_primary(5));
    hear(0, 2, unlocked);
    hear(0, 3, unlocked);
    cr_expect_eq(election.primary, 0);
    hear(1, 3, unlocked);
    cr_expect_eq(election.primary, 0, "another such node is no rival");
    hear(1, 4, sample_of_primary(6));
    cr_expect_eq(election.primary, 1);
}

Test(election, another_system_identifier_starts_the_fence_anew)
{
    hear(0, 1, sample_of_primary(9));
    hear(0, 2, silence());
    hear(0, 3, silence());
    hear(1, 3, of_system(sample_of_primary(1), "88"));
    cr_expect_eq(election.primary, 1);
    cr_expect(election.is_new_fence);
    cr_expect_eq(election.fence, 1);
    cr_expect_str_eq(election.system_id, "88");
    hear(2, 3, of_system(sample_of_replica(1), "88"));
    cr_expect_not(election.is_new_fence, "once");
    cr_expect_eq(election.primary, 1);
}

Test(election, the_primary_itself_may_come_back_with_another_identifier)
{
    hear(0, 1, sample_of_primary(9));
    hear(0, 2, sample_of_state(200, "starting"));
    hear(0, 3, of_system(sample_of_primary(1), "88"));
    cr_expect_eq(election.primary, 0);
    cr_expect_eq(election.fence, 1);
}

Test(election, a_stranger_is_refused_while_the_own_system_runs)
{
    hear(0, 1, sample_of_primary(5));
    hear(1, 1, of_system(sample_of_primary(30), "88"));
    cr_expect_eq(election.primary, 0);
    cr_expect_eq(election.fence, 5);
    cr_expect(candidates[1].is_fenced);
    hear(2, 1, sample_of_replica(5));
    hear(0, 2, silence());
    hear(0, 3, silence());
    cr_expect_eq(election.primary, -1, "c still runs the own system");
    cr_expect_str_eq(election.why_no_primary,
                     "b claims to be the primary of another PostgreSQL cluster");
}

Test(election, an_unknown_identifier_is_no_reason_for_doubt)
{
    hear(0, 1, of_system(sample_of_primary(5), ""));
    cr_expect_eq(election.primary, 0);
    hear(0, 2, sample_of_primary(5));
    cr_expect_str_eq(election.system_id, "77");
    hear(1, 2, of_system(sample_of_primary(6), ""));
    cr_expect_eq(election.primary, 1);
    cr_expect_eq(election.fence, 6);
}

Test(election, a_standby_cluster_has_no_primary_and_says_so)
{
    hear(0, 1, sample_of_patroni(503, NODE_STANDBY_LEADER, 5));
    hear(1, 1, sample_of_replica(5));
    cr_expect_eq(election.primary, -1);
    cr_expect(election.is_standby_cluster);
    cr_expect_str_eq(election.why_no_primary,
                     "a standby cluster has no primary, only a standby leader");
    hear(0, 2, silence());
    hear(0, 3, silence());
    cr_expect(election.is_standby_cluster, "its leader's end does not change that");
    hear(1, 4, sample_of_primary(6));
    cr_expect_not(election.is_standby_cluster);
    cr_expect_eq(election.primary, 1);
}

Test(election, without_patroni_the_highest_timeline_of_writable_nodes_decides)
{
    begin(CHECK_POSTGRES, 3);
    hear(0, 1, sample_of_sql(NODE_REPLICA, 5, true));
    cr_expect_str_eq(election.why_no_primary, "no node is writable");
    hear(1, 1, sample_of_sql(NODE_PRIMARY, 5, false));
    cr_expect_eq(election.primary, 1);
    hear(0, 2, sample_of_sql(NODE_PRIMARY, 6, false));
    cr_expect_eq(election.primary, 0);
    cr_expect(candidates[1].is_fenced);
    hear(0, 3, silence());
    hear(0, 4, silence());
    cr_expect_eq(election.primary, -1, "b is behind the fence");
}

Test(election, with_tcp_any_node_will_do)
{
    begin(CHECK_TCP, 2);
    hear(0, 1, silence());
    hear(1, 1, silence());
    cr_expect_str_eq(election.why_no_primary, "no node of this cluster is up");
    hear(1, 2, (struct sample){.source = SOURCE_TCP, .outcome = SAMPLE_OK});
    cr_expect_eq(election.primary, -1);
    cr_expect_str_eq(election.why_no_primary, "");
}

Test(election, long_names_fit_into_the_sentence)
{
    char name[NODE_NAME_MAX];

    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    candidates[0].name = candidates[1].name = name;
    hear(0, 1, sample_of_primary(UINT32_MAX));
    hear(1, 1, sample_of_primary(UINT32_MAX));
    hear(0, 2, sample_of_primary(UINT32_MAX));
    hear(1, 2, sample_of_primary(UINT32_MAX));
    cr_expect(election.has_rivals);
    cr_expect_not_null(strstr(election.why_no_primary, "on timeline 4294967295"));
}

/* ---- random evidence in random order ---- */

static unsigned random_state;

static unsigned random_of(unsigned n)
{
    return (unsigned)rand_r(&random_state) % n;
}

static struct sample random_sample(void)
{
    static const enum node_role roles[] = {NODE_PRIMARY, NODE_PRIMARY, NODE_REPLICA,
                                           NODE_STANDBY_LEADER};
    static const char *const states[] = {"stopping", "stopped", "unknown", "starting"};
    uint32_t timeline = 1 + random_of(4);
    struct sample sample;

    switch (random_of(8)) {
    case 0:
        return sample_of_silence(SAMPLE_REFUSED + (random_of(2) ? 1 : 0));
    case 1:
        return sample_of_silence(SAMPLE_WRONG);
    case 2:
        return sample_of_state(random_of(2) ? 200 : 503, states[random_of(4)]);
    case 3:
        return sample_of_sql(random_of(2) ? NODE_PRIMARY : NODE_REPLICA, timeline,
                             random_of(2) == 0);
    default:
        sample =
            sample_of_patroni(random_of(2) ? 200 : 503, roles[random_of(4)], timeline);
        sample.is_paused = random_of(6) == 0;
        sample.is_failsafe = random_of(6) == 0;
        sample.is_unlocked = random_of(3) == 0;
        if (random_of(10) == 0)
            sample = of_system(sample, random_of(2) ? "88" : "");
        return sample;
    }
}

/* What the last answer of each node's Patroni was, kept by the test itself. */
struct memory {
    bool has_answered, denies, was_primary;
};

static void remember(struct memory *memory, const struct sample *sample, bool was_primary)
{
    bool lacks_lock_only = (sample->is_paused || sample->is_failsafe) &&
                           sample->is_unlocked && was_primary &&
                           sample->role == NODE_PRIMARY && sample->outcome == SAMPLE_OK;

    if (sample->source != SOURCE_PATRONI)
        return;
    memory->has_answered = true;
    memory->denies = !sample->holds_lock && !lacks_lock_only;
    memory->was_primary = memory->has_answered && !memory->denies;
}

static void check_invariants(const struct memory *memories, uint32_t highest)
{
    const struct verdict *primary;

    cr_assert_eq(election.primary >= 0, election.why_no_primary[0] == '\0');
    if (election.primary < 0)
        return;
    primary = &verdicts[election.primary];
    cr_assert(primary->checks.is_up);
    cr_assert_neq(primary->claim, CLAIM_NONE);
    cr_assert_geq(primary->timeline, election.fence);
    cr_assert_geq(primary->timeline, highest);
    cr_assert(memories[election.primary].has_answered, "Patroni never spoke of it");
    cr_assert_not(memories[election.primary].denies);
    cr_assert_not(election.has_rivals);
    for (size_t i = 0; i < n_nodes; i++)
        if ((int)i != election.primary && verdicts[i].claim == CLAIM_FULL &&
            primary->claim == CLAIM_STAYS)
            cr_assert(candidates[i].is_fenced, "a full claim outweighs one that stays");
}

/* Highest timeline of a full claim of the present system, as the test has seen it. */
static uint32_t raise_highest(uint32_t highest, const char *was_system)
{
    if (strcmp(was_system, election.system_id) != 0 && was_system[0] != '\0')
        highest = 0;
    if (election.is_lower_fence) {
        for (size_t i = 0; i < n_nodes; i++)
            cr_assert(!verdicts[i].checks.is_up || verdicts[i].timeline < highest);
        highest = 0;
    }
    for (size_t i = 0; i < n_nodes; i++)
        if (verdicts[i].claim == CLAIM_FULL &&
            (verdicts[i].system_id[0] == '\0' ||
             strcmp(verdicts[i].system_id, election.system_id) == 0) &&
            verdicts[i].timeline > highest)
            highest = verdicts[i].timeline;
    return highest;
}

static unsigned simulate(unsigned seed)
{
    struct memory memories[N_MAX] = {{0}};
    uint64_t rounds[N_MAX] = {0};
    uint32_t highest = 0;
    unsigned n_with_primary = 0;

    random_state = seed;
    begin(CHECK_PATRONI, 2 + random_of(N_MAX - 1));
    settings.rise = 1 + random_of(3);
    settings.fall = 1 + random_of(3);
    for (unsigned step = 0; step < 200; step++) {
        size_t node = random_of((unsigned)n_nodes);
        struct sample sample = random_sample();
        char was_system[SYSTEM_ID_MAX];

        memcpy(was_system, election.system_id, sizeof was_system);
        remember(&memories[node], &sample, memories[node].was_primary);
        hear(node, ++rounds[node], sample);
        highest = raise_highest(highest, was_system);
        check_invariants(memories, highest);
        n_with_primary += election.primary >= 0;
    }
    return n_with_primary;
}

Test(election, no_order_of_evidence_breaks_an_invariant)
{
    unsigned n_with_primary = 0;

    for (unsigned seed = 1; seed <= 5000; seed++)
        n_with_primary += simulate(seed);
    /* The simulation is worth something only if there often is a primary. */
    cr_expect_gt(n_with_primary, 100000);
}

/* Two that claim on one timeline, round after round, in any order within a round, and now
 * and then too late for one: after two full rounds nobody is primary. */
Test(election, rivals_are_found_in_any_order_of_answers)
{
    for (unsigned seed = 1; seed <= 2000; seed++) {
        unsigned n_full = 0;

        random_state = seed;
        begin(CHECK_PATRONI, 3);
        hear(0, 1, sample_of_primary(5));
        for (uint64_t round = 2; n_full < 3; round++) {
            size_t first = random_of(2), n_late = random_of(4);

            hear(first, round, sample_of_primary(5));
            if (n_late != 0)
                hear(1 - first, round, sample_of_primary(5));
            n_full += n_late != 0;
        }
        cr_assert_eq(election.primary, -1, "seed %u", seed);
        cr_assert(election.has_rivals);
    }
}

/* ---- Patroni's keys ---- */

/* As cluster.c marks it, before it lets elect. */
static void overrule(size_t node, bool is_overruled)
{
    candidates[node].is_overruled = is_overruled;
    election_run(&election, candidates, n_nodes, settings.check);
}

Test(election, whom_the_keys_overrule_is_no_primary_whatever_it_says)
{
    hear(0, 1, sample_of_primary(5));
    overrule(0, true);
    cr_expect_eq(election.primary, -1);
    cr_expect_str_eq(election.why_no_primary, "a claims to be the primary, but Patroni's "
                                              "keys name another node");
    hear(0, 2, sample_of_primary(5));
    cr_expect_eq(election.primary, -1);
    cr_expect_not(candidates[0].is_rival || candidates[0].is_fenced);
    overrule(0, false);
    cr_expect_eq(election.primary, 0);
}

Test(election, whom_the_keys_overrule_does_not_stay_in_silence)
{
    hear(0, 1, sample_of_primary(5));
    hear(0, 2, silence());
    cr_expect_eq(election.primary, 0);
    overrule(0, true);
    cr_expect_eq(election.primary, -1);
}

Test(election, a_claim_that_is_overruled_makes_rivals)
{
    hear(0, 1, sample_of_primary(5));
    overrule(1, true);
    hear(1, 1, sample_of_primary(5));
    cr_expect_eq(election.primary, 0, "for this round");
    hear(0, 2, sample_of_primary(5));
    hear(1, 2, sample_of_primary(5));
    cr_expect_eq(election.primary, -1);
    cr_expect(election.has_rivals);
}

Test(election, of_rivals_none_stays_that_is_overruled)
{
    hear(0, 1, sample_of_primary(5));
    overrule(0, true);
    hear(1, 1, sample_of_primary(5));
    cr_expect_eq(election.primary, -1);
    cr_expect_not(election.has_rivals);
}
