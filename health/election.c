#include "health/election.h"

#include <stdio.h>
#include <string.h>

void election_init(struct election *election)
{
    *election = (struct election){.primary = -1, .fence_keeper = -1};
    snprintf(election->why_no_primary, sizeof election->why_no_primary,
             "no node of this cluster has been asked yet");
}

void election_reset(struct election *election)
{
    election->fence = 0;
    election->fence_keeper = -1;
    election->system_id[0] = '\0';
    election->rivals_since_round = 0;
    election->has_rivals = false;
}

static bool claims_in_full(const struct verdict *verdict)
{
    return verdict->checks.is_up && verdict->claim == CLAIM_FULL &&
           verdict->timeline != 0;
}

/* A node, or we, that do not know the identifier are no reason for a doubt. */
static bool is_of_system(const struct election *election, const struct verdict *verdict)
{
    return election->system_id[0] == '\0' || verdict->system_id[0] == '\0' ||
           strcmp(election->system_id, verdict->system_id) == 0;
}

static bool shows_present_system(const struct election *election,
                                 const struct verdict *verdict)
{
    return verdict->checks.is_up && verdict->system_id[0] != '\0' &&
           strcmp(election->system_id, verdict->system_id) == 0;
}

/* The highest full claim of another system, when ours has left the cluster. */
static const struct verdict *find_successor(const struct election *election,
                                            const struct candidate *candidates, size_t n)
{
    const struct verdict *found = NULL;

    for (size_t i = 0; i < n; i++) {
        const struct verdict *verdict = candidates[i].verdict;

        if (shows_present_system(election, verdict))
            return NULL;
        if (claims_in_full(verdict) && !is_of_system(election, verdict) &&
            (found == NULL || verdict->timeline > found->timeline))
            found = verdict;
    }
    return found;
}

static void adopt_system(struct election *election, const struct verdict *verdict)
{
    memcpy(election->system_id, verdict->system_id, sizeof election->system_id);
}

static bool has_left_the_fence(const struct election *election,
                               const struct verdict *verdict)
{
    return verdict->checks.is_up && verdict->role == NODE_REPLICA &&
           verdict->last.outcome == SAMPLE_OK && verdict->timeline != 0 &&
           verdict->timeline < election->fence;
}

static void lower_fence(struct election *election, const struct candidate *candidates,
                        size_t n)
{
    uint32_t highest = 0;
    int keeper = election->fence_keeper;

    election->is_lower_fence = false;
    if (keeper < 0 || !has_left_the_fence(election, candidates[keeper].verdict))
        return;
    for (size_t i = 0; i < n; i++) {
        const struct verdict *verdict = candidates[i].verdict;

        if (verdict->checks.is_up && verdict->timeline >= election->fence)
            return;
        if (claims_in_full(verdict) && is_of_system(election, verdict) &&
            verdict->timeline > highest) {
            highest = verdict->timeline;
            keeper = (int)i;
        }
    }
    if (highest == 0)
        return;
    election->fence = highest;
    election->fence_keeper = keeper;
    election->is_lower_fence = true;
}

static void raise_fence(struct election *election, const struct candidate *candidates,
                        size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct verdict *verdict = candidates[i].verdict;

        if (!claims_in_full(verdict) || !is_of_system(election, verdict))
            continue;
        if (election->system_id[0] == '\0')
            adopt_system(election, verdict);
        if (verdict->timeline > election->fence) {
            election->fence = verdict->timeline;
            election->fence_keeper = (int)i;
        }
    }
}

static void renew_fence(struct election *election, const struct candidate *candidates,
                        size_t n)
{
    const struct verdict *successor = find_successor(election, candidates, n);

    election->is_new_fence = successor != NULL;
    if (successor != NULL) {
        adopt_system(election, successor);
        election->fence = 0;
        election->rivals_since_round = 0;
        election->has_rivals = false;
    }
    raise_fence(election, candidates, n);
    lower_fence(election, candidates, n);
}

/* Marks the candidates; returns how many claim in full on the fence, `*one` is one. One
 * alone that is overruled does not count. */
static size_t count_claims(const struct election *election, struct candidate *candidates,
                           size_t n, int *one)
{
    size_t n_claims = 0;

    for (size_t i = 0; i < n; i++) {
        struct candidate *candidate = &candidates[i];
        bool claims = claims_in_full(candidate->verdict);
        bool may = is_of_system(election, candidate->verdict) &&
                   candidate->verdict->timeline == election->fence;

        candidate->is_fenced = claims && !may;
        candidate->is_rival = claims && may;
        if (claims && may) {
            n_claims++;
            *one = (int)i;
        }
    }
    if (n_claims != 1)
        return n_claims;
    candidates[*one].is_rival = false;
    return candidates[*one].is_overruled ? 0 : 1;
}

/* The rounds in which rivals have answered last: the earliest and the latest. */
static void rounds_of_rivals(const struct candidate *candidates, size_t n,
                             uint64_t *earliest, uint64_t *latest)
{
    *earliest = UINT64_MAX;
    *latest = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t round = candidates[i].verdict->last.round;

        if (candidates[i].is_rival && round < *earliest)
            *earliest = round;
        if (candidates[i].is_rival && round > *latest)
            *latest = round;
    }
}

static int choose_among_rivals(struct election *election,
                               const struct candidate *candidates, size_t n)
{
    uint64_t earliest, latest;

    rounds_of_rivals(candidates, n, &earliest, &latest);
    if (election->rivals_since_round == 0)
        election->rivals_since_round = latest;
    else if (earliest > election->rivals_since_round)
        election->has_rivals = true;
    if (election->has_rivals || election->primary < 0 ||
        !candidates[election->primary].is_rival ||
        candidates[election->primary].is_overruled)
        return -1;
    return election->primary;
}

static bool may_stay(const struct election *election, const struct candidate *candidates)
{
    const struct verdict *verdict;

    if (election->primary < 0)
        return false;
    if (candidates[election->primary].is_overruled)
        return false;
    verdict = candidates[election->primary].verdict;
    return verdict->checks.is_up && verdict->claim == CLAIM_STAYS &&
           verdict->timeline >= election->fence && is_of_system(election, verdict);
}

static void see_standby_cluster(struct election *election,
                                const struct candidate *candidates, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (claims_in_full(candidates[i].verdict)) {
            election->is_standby_cluster = false;
            return;
        }
    for (size_t i = 0; i < n; i++)
        if (candidates[i].verdict->role == NODE_STANDBY_LEADER)
            election->is_standby_cluster = true;
}

static const struct candidate *find_rival(const struct candidate *candidates, size_t n,
                                          const struct candidate *other)
{
    for (size_t i = 0; i < n; i++)
        if (candidates[i].is_rival && &candidates[i] != other)
            return &candidates[i];
    return NULL;
}

static const struct candidate *find_fenced(const struct candidate *candidates, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (candidates[i].is_fenced)
            return &candidates[i];
    return NULL;
}

static const struct candidate *find_overruled(const struct candidate *candidates,
                                              size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (candidates[i].is_overruled && claims_in_full(candidates[i].verdict))
            return &candidates[i];
    return NULL;
}

static const struct candidate *find_unnamed(const struct candidate *candidates, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (candidates[i].verdict->is_unnamed)
            return &candidates[i];
    return NULL;
}

/* Who holds the lock without being writable: its server stops, starts or recovers. */
static const struct candidate *find_holder(const struct candidate *candidates, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct sample *sample = &candidates[i].verdict->last;

        if (sample->holds_lock &&
            (sample->source == SOURCE_PATRONI || sample->source == SOURCE_ETCD))
            return &candidates[i];
    }
    return NULL;
}

static const char *server_state(const struct sample *sample)
{
    if (sample->outcome == SAMPLE_OK)
        return "in recovery";
    return strcmp(sample->state, "unknown") == 0 ? "not answering" : sample->state;
}

static const char *simple_reason(const struct candidate *candidates, size_t n,
                                 enum check_kind check)
{
    bool was_asked = false, is_up = false;

    for (size_t i = 0; i < n; i++) {
        was_asked = was_asked || candidates[i].verdict->checks.is_known;
        is_up = is_up || candidates[i].verdict->checks.is_up;
    }
    if (!was_asked)
        return "no node of this cluster has been asked yet";
    if (!is_up)
        return "no node of this cluster is up";
    switch (check) {
    case CHECK_PATRONI:
        return "no node holds Patroni's leader lock";
    case CHECK_POSTGRES:
        return "no node is writable";
    case CHECK_TCP:
        return ""; /* any node that is up will do */
    }
    UNREACHABLE();
}

static void explain(struct election *election, const struct candidate *candidates,
                    size_t n, enum check_kind check)
{
    const struct candidate *rival = find_rival(candidates, n, NULL);
    const struct candidate *fenced = find_fenced(candidates, n);
    const struct candidate *overruled = find_overruled(candidates, n);
    const struct candidate *unnamed = find_unnamed(candidates, n);
    const struct candidate *holder = find_holder(candidates, n);
    char *why = election->why_no_primary;
    size_t size = sizeof election->why_no_primary;

    if (election->primary >= 0)
        why[0] = '\0';
    else if (rival != NULL)
        snprintf(why, size, "%.40s and %.40s both claim to be the primary on timeline %u",
                 rival->name, find_rival(candidates, n, rival)->name, election->fence);
    else if (fenced != NULL && !is_of_system(election, fenced->verdict))
        snprintf(why, size,
                 "%.40s claims to be the primary of another PostgreSQL cluster",
                 fenced->name);
    else if (fenced != NULL)
        snprintf(
            why, size,
            "%.40s claims to be the primary on timeline %u, but timeline %u was seen",
            fenced->name, fenced->verdict->timeline, election->fence);
    else if (election->is_standby_cluster)
        snprintf(why, size, "a standby cluster has no primary, only a standby leader");
    else if (overruled != NULL)
        snprintf(why, size,
                 "%.40s claims to be the primary, but Patroni's keys name another node",
                 overruled->name);
    else if (unnamed != NULL)
        snprintf(why, size, "%.40s is writable, but does not hold Patroni's leader lock",
                 unnamed->name);
    else if (holder != NULL)
        snprintf(why, size, "%.40s holds Patroni's leader lock, but its server is %s",
                 holder->name, server_state(&holder->verdict->last));
    else
        snprintf(why, size, "%s", simple_reason(candidates, n, check));
}

void election_run(struct election *election, struct candidate *candidates, size_t n,
                  enum check_kind check)
{
    size_t n_claims;
    int claimant = -1;

    renew_fence(election, candidates, n);
    n_claims = count_claims(election, candidates, n, &claimant);
    if (n_claims < 2) {
        election->rivals_since_round = 0;
        election->has_rivals = false;
    }
    if (n_claims == 1)
        election->primary = claimant;
    else if (n_claims >= 2)
        election->primary = choose_among_rivals(election, candidates, n);
    else if (!may_stay(election, candidates))
        election->primary = -1;
    see_standby_cluster(election, candidates, n);
    explain(election, candidates, n, check);
}
