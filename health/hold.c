#include "health/hold.h"

#include <stdio.h>
#include <string.h>

#define BIT(cause) (1u << (cause))
#define NEVER UINT64_MAX

const char *hold_cause_name(enum hold_cause cause)
{
    static const char *const names[] = {[HOLD_NONE] = "none",
                                        [HOLD_BY_COMMAND] = "command",
                                        [HOLD_BY_REQUEST] = "request",
                                        [HOLD_BY_HOOK] = "hook",
                                        [HOLD_BY_LOSS] = "loss"};

    return names[cause];
}

const char *switchover_outcome_name(enum switchover_outcome outcome)
{
    static const char *const names[] = {[SWITCHOVER_UNDER_WAY] = "under way",
                                        [SWITCHOVER_CHANGED] = "changed",
                                        [SWITCHOVER_STAYED] = "stayed",
                                        [SWITCHOVER_TIMED_OUT] = "timed out"};

    return names[outcome];
}

static struct switchover *last(struct hold *hold)
{
    return &hold->records[(hold->number - 1) % SWITCHOVERS_KEPT];
}

const struct switchover *hold_last(const struct hold *hold)
{
    return &hold->records[(hold->number - 1) % SWITCHOVERS_KEPT];
}

const struct switchover *hold_present(const struct hold *hold)
{
    return hold->is_on ? hold_last(hold) : NULL;
}

bool hold_has_failed(const struct hold *hold)
{
    return hold->number > 0 && hold_last(hold)->outcome == SWITCHOVER_TIMED_OUT;
}

struct switchover *hold_record(struct hold *hold, uint64_t number)
{
    struct switchover *record;

    if (number == 0)
        return NULL;
    record = &hold->records[(number - 1) % SWITCHOVERS_KEPT];
    return record->number == number ? record : NULL;
}

bool hold_leads_away(const struct hold *hold, const char *node)
{
    const struct switchover *present = hold_present(hold);

    return present != NULL && strcmp(present->from, node) == 0;
}

/* ---- begin --------------------------------------------------------------------------
 */

static void begin(struct hold *hold, enum hold_cause cause, const char *leaving,
                  const char *sign, const struct hold_time *time)
{
    struct switchover *record;

    hold->number++;
    record = last(hold);
    *record = (struct switchover){.number = hold->number,
                                  .cause = cause,
                                  .began_at_s = time->now_s,
                                  .held_ms = time->now_ms};
    snprintf(record->from, sizeof record->from, "%s", leaving);
    snprintf(record->sign, sizeof record->sign, "%s", sign);
    hold->is_on = true;
    hold->has_left = false;
    hold->causes = 0;
    hold->proof_round = hold->stays_round = time->round + 1;
}

/* Another node is the primary before this one was missed. */
static void begin_late(struct hold *hold, const struct hold_sight *sight,
                       const struct hold_time *time)
{
    char sign[SWITCHOVER_SIGN_MAX];

    snprintf(sign, sizeof sign, "%s is the primary", sight->primary);
    begin(hold, HOLD_BY_LOSS, hold->primary, sign, time);
    if (sight->is_proof)
        hold->proof_round = sight->round;
}

uint64_t hold_begin(struct hold *hold, enum hold_cause cause, const char *leaving,
                    const char *sign, const struct hold_time *time)
{
    if (!hold->is_on)
        begin(hold, cause, *leaving == '\0' ? hold->primary : leaving, sign, time);
    hold->causes |= BIT(cause);
    hold->stays_round = NEVER;
    if (cause == HOLD_BY_HOOK)
        hold->hook_ms = time->now_ms;
    return hold->number;
}

bool hold_end_cause(struct hold *hold, enum hold_cause cause,
                    const struct hold_time *time)
{
    if (!hold->is_on || !(hold->causes & BIT(cause)))
        return false;
    hold->causes &= ~BIT(cause);
    if (hold->causes == 0)
        hold->stays_round = time->round + 1;
    return true;
}

/* ---- end ----------------------------------------------------------------------------
 */

static void end(struct hold *hold, enum switchover_outcome outcome, uint64_t now_ms)
{
    last(hold)->outcome = outcome;
    last(hold)->ended_ms = now_ms;
    hold->is_on = false;
    hold->causes = 0;
}

static void note_departure(struct hold *hold, const struct hold_sight *sight,
                           const struct hold_time *time)
{
    struct switchover *record = last(hold);

    if (strcmp(sight->primary, record->from) == 0)
        return;
    hold->has_left = true;
    if (record->gone_ms == 0)
        record->gone_ms = time->now_ms;
}

static bool is_proven(const struct hold *hold, const struct hold_sight *sight,
                      bool is_same)
{
    return *sight->primary != '\0' && sight->is_proof &&
           sight->round >= (is_same ? hold->stays_round : hold->proof_round);
}

static bool see_while_on(struct hold *hold, const struct hold_sight *sight,
                         const struct hold_time *time)
{
    struct switchover *record = last(hold);
    bool is_same = strcmp(sight->primary, record->from) == 0;

    note_departure(hold, sight, time);
    if (is_same && hold->has_left)
        (void)hold_end_cause(hold, HOLD_BY_HOOK, time);
    if (!is_proven(hold, sight, is_same))
        return false;
    record->proven_ms = time->now_ms;
    snprintf(record->to, sizeof record->to, "%s", sight->primary);
    end(hold, is_same ? SWITCHOVER_STAYED : SWITCHOVER_CHANGED, time->now_ms);
    return true;
}

bool hold_see(struct hold *hold, const struct hold_sight *sight, const char *why_none,
              const struct hold_time *time)
{
    bool was_on = hold->is_on;

    if (!was_on && *hold->primary != '\0' && *sight->primary == '\0')
        begin(hold, HOLD_BY_LOSS, hold->primary, why_none, time);
    else if (!was_on && *hold->primary != '\0' &&
             strcmp(hold->primary, sight->primary) != 0)
        begin_late(hold, sight, time);
    snprintf(hold->primary, sizeof hold->primary, "%s", sight->primary);
    if (hold->is_on && see_while_on(hold, sight, time))
        return true;
    return hold->is_on != was_on;
}

/* A node that still serves a while after its hook has called does not go. */
static bool is_hook_over(const struct hold *hold, uint64_t now_ms)
{
    uint64_t age_ms = now_ms - hold->hook_ms;

    if (!(hold->causes & BIT(HOLD_BY_HOOK)))
        return false;
    return age_ms >= HOLD_HOOK_MS || (!hold->has_left && age_ms >= HOLD_HOOK_DOUBT_MS);
}

bool hold_look(struct hold *hold, uint64_t timeout_ms, const struct hold_time *time)
{
    if (!hold->is_on)
        return false;
    if (time->now_ms - last(hold)->held_ms >= timeout_ms) {
        end(hold, SWITCHOVER_TIMED_OUT, time->now_ms);
        return true;
    }
    return is_hook_over(hold, time->now_ms) && hold_end_cause(hold, HOLD_BY_HOOK, time);
}
