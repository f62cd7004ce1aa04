#include "health/verdict.h"

#include <string.h>

/* A paused Patroni that has been at its store so often without getting the lock has lost
 * it to another. */
#define LOCK_SEARCHES 2

void streak_add(struct streak *streak, bool is_ok, unsigned rise, unsigned fall)
{
    streak->in_a_row =
        streak->is_known && is_ok == streak->last_ok ? streak->in_a_row + 1 : 1;
    streak->last_ok = is_ok;
    if (!streak->is_known)
        streak->is_up = is_ok;
    else if (is_ok != streak->is_up && streak->in_a_row >= (is_ok ? rise : fall))
        streak->is_up = is_ok;
    streak->is_known = true;
}

/* What a sample means for a node that had this verdict before. */
struct meaning {
    bool is_ok; /* the check has succeeded */
    bool is_unnamed;
    enum node_role role;
    enum claim claim;
};

static enum claim weaker(enum claim claim)
{
    return claim == CLAIM_NONE ? CLAIM_NONE : CLAIM_STAYS;
}

/* Nobody understandable has answered: what was known holds until the node is down. */
static struct meaning of_silence(const struct verdict *before)
{
    return (struct meaning){.role = before->role, .claim = weaker(before->claim)};
}

/* Patroni drops the lock as soon as its store does not answer, and says only later that
 * it knows of none; when the store is back it takes the lock at its second visit. */
static bool may_lack_the_lock(const struct verdict *before, const struct sample *sample)
{
    if (sample->is_unlocked)
        return sample->is_paused || sample->is_failsafe;
    return sample->is_paused && sample->store_seen_s != 0 &&
           before->without_lock <= LOCK_SEARCHES;
}

static struct meaning of_writable(const struct verdict *before,
                                  const struct sample *sample)
{
    struct meaning meaning = {.is_ok = true, .role = NODE_PRIMARY};

    if (sample->holds_lock) {
        meaning.claim = CLAIM_FULL;
    } else if (may_lack_the_lock(before, sample) && before->claim != CLAIM_NONE) {
        meaning.claim = CLAIM_STAYS;
    } else {
        meaning.role = NODE_UNKNOWN;
        meaning.is_unnamed = true;
    }
    return meaning;
}

static struct meaning of_patroni(const struct verdict *before,
                                 const struct sample *sample)
{
    if (sample->outcome == SAMPLE_OK && sample->role == NODE_PRIMARY)
        return of_writable(before, sample);
    if (sample->outcome == SAMPLE_OK)
        return (struct meaning){.is_ok = true, .role = sample->role};
    /* "unknown" = Patroni could not ask the server, which may be a passing trouble. All
     * other words for a server that does not run are certain: it takes no clients. */
    if (strcmp(sample->state, "unknown") == 0 &&
        (sample->holds_lock || before->role != NODE_PRIMARY))
        return of_silence(before);
    return (struct meaning){.role = NODE_UNKNOWN};
}

/* Patroni's keys, read because it does not answer itself: its word, too. */
static struct meaning of_keys(const struct verdict *before, const struct sample *sample)
{
    struct meaning meaning = of_patroni(before, sample);

    if (meaning.role == NODE_REPLICA)
        meaning.is_ok = sample->is_streaming;
    return meaning;
}

/* PostgreSQL, asked because Patroni does not answer: confirms, but names no primary. Who
 * holds the lock may be known from Patroni's keys. */
static struct meaning of_substitute(const struct verdict *before,
                                    const struct sample *sample)
{
    bool is_of_other = sample->knows_lock && !sample->holds_lock && !sample->is_unlocked;

    if (sample->role == NODE_PRIMARY && sample->knows_lock && sample->holds_lock &&
        sample->timeline != 0)
        return (struct meaning){.is_ok = true, .role = NODE_PRIMARY, .claim = CLAIM_FULL};
    if (sample->role == NODE_PRIMARY && before->claim != CLAIM_NONE && !is_of_other)
        return (struct meaning){
            .is_ok = true, .role = NODE_PRIMARY, .claim = CLAIM_STAYS};
    if (sample->role == NODE_PRIMARY)
        return (struct meaning){.is_ok = true, .role = NODE_UNKNOWN, .is_unnamed = true};
    return (struct meaning){.is_ok = sample->is_streaming, .role = NODE_REPLICA};
}

static struct meaning meaning_of(const struct verdict *before,
                                 const struct sample *sample, enum check_kind check)
{
    bool is_ok = sample->outcome == SAMPLE_OK;

    switch (sample->source) {
    case SOURCE_PATRONI:
        return of_patroni(before, sample);
    case SOURCE_ETCD:
        return of_keys(before, sample);
    case SOURCE_POSTGRES:
        if (!is_ok)
            break;
        if (check == CHECK_PATRONI)
            return of_substitute(before, sample);
        return (struct meaning){.is_ok = true,
                                .role = sample->role,
                                .claim = sample->role == NODE_PRIMARY ? CLAIM_FULL
                                                                      : CLAIM_NONE};
    case SOURCE_TCP:
        if (!is_ok)
            break;
        return (struct meaning){.is_ok = true, .role = NODE_UNKNOWN};
    case SOURCE_NOBODY:
        break;
    }
    return of_silence(before);
}

/* What only an answering node tells is kept from its last answer. */
static void keep_facts(struct verdict *verdict, const struct sample *sample)
{
    if (sample->source == SOURCE_NOBODY)
        return;
    if (sample->timeline != 0)
        verdict->timeline = sample->timeline;
    if (sample->source == SOURCE_PATRONI || sample->knows_lock)
        verdict->is_noloadbalance = sample->is_noloadbalance;
    if (sample->system_id[0] != '\0')
        memcpy(verdict->system_id, sample->system_id, sizeof verdict->system_id);
}

static void count_searches(struct verdict *verdict, const struct sample *sample)
{
    if (sample->source != SOURCE_PATRONI)
        return;
    if (sample->holds_lock)
        verdict->without_lock = 0;
    else if (sample->store_seen_s > verdict->store_seen_s)
        verdict->without_lock++;
    verdict->store_seen_s = sample->store_seen_s;
}

void verdict_add(struct verdict *verdict, const struct sample *sample,
                 const struct verdict_settings *settings)
{
    struct meaning meaning;

    count_searches(verdict, sample);
    meaning = meaning_of(verdict, sample, settings->check);
    streak_add(&verdict->checks, meaning.is_ok, settings->rise, settings->fall);
    if (!verdict->checks.is_up) {
        meaning.role = NODE_UNKNOWN;
        meaning.claim = CLAIM_NONE;
    }
    verdict->role = meaning.role;
    verdict->claim = meaning.claim;
    verdict->is_unnamed = meaning.is_unnamed;
    keep_facts(verdict, sample);
    verdict->last = *sample;
}

void verdict_set_lag(struct verdict *verdict, uint64_t leader_location,
                     const struct verdict_settings *settings)
{
    uint64_t replayed = verdict->last.replayed;

    if (verdict->role != NODE_REPLICA) {
        verdict->lag_bytes = -1;
        verdict->is_lagging = false;
        return;
    }
    if (verdict->last.outcome != SAMPLE_OK)
        return; /* nothing new */
    verdict->lag_bytes = leader_location == 0 ? -1
                         : leader_location <= replayed
                             ? 0
                             : (int64_t)(leader_location - replayed);
    verdict->is_lagging = settings->max_lag_bytes != 0 && verdict->lag_bytes > 0 &&
                          (uint64_t)verdict->lag_bytes > settings->max_lag_bytes;
}

static bool says_the_same(const struct sample *a, const struct sample *b)
{
    return a->source == b->source && a->outcome == b->outcome &&
           a->http_status == b->http_status && a->role == b->role &&
           a->holds_lock == b->holds_lock && a->is_paused == b->is_paused &&
           a->is_unlocked == b->is_unlocked && a->is_failsafe == b->is_failsafe &&
           a->timeline == b->timeline && strcmp(a->state, b->state) == 0 &&
           strcmp(a->role_word, b->role_word) == 0 &&
           strcmp(a->system_id, b->system_id) == 0;
}

bool verdict_is_suspect(const struct verdict *before, const struct verdict *after)
{
    return !before->checks.is_known || !says_the_same(&before->last, &after->last) ||
           before->checks.is_up != after->checks.is_up ||
           after->checks.last_ok != after->checks.is_up;
}
