#include "wire/ending.h"

#include <string.h>

const uint8_t ending_heard[256] = {
    ['D'] = HEARD_ROWS,     ['d'] = HEARD_ROWS,     ['H'] = HEARD_ROWS,
    ['V'] = HEARD_ROWS,     ['C'] = HEARD_COMPLETE, ['I'] = HEARD_COMPLETE,
    ['s'] = HEARD_COMPLETE, ['E'] = HEARD_ERROR,    ['S'] = HEARD_MORE,
    ['A'] = HEARD_MORE,     ['G'] = HEARD_MORE,     ['W'] = HEARD_MORE,
    ['c'] = HEARD_MORE,     ['3'] = HEARD_MORE,
};

static bool is(const uint8_t *tag, size_t n, const char *text)
{
    return n >= strlen(text) && memcmp(tag, text, strlen(text)) == 0;
}

unsigned ending_read_tag(const uint8_t *tag, size_t n)
{
    switch (n > 0 ? tag[0] : 0) {
    case 'B':
        return is(tag, n, "BEGIN") ? HEARD_BEGIN : 0;
    case 'C':
        return is(tag, n, "COMMIT") ? HEARD_COMMIT : 0;
    case 'P':
        return is(tag, n, "PREPARE T") ? HEARD_COMMIT : 0;
    case 'S':
        return is(tag, n, "START T") ? HEARD_BEGIN : 0;
    default:
        return 0;
    }
}

bool ending_is_last(const struct error_fields *error, enum ending_how *how)
{
    bool is_panic = strcmp(error->severity, "PANIC") == 0;

    if (!is_panic && strcmp(error->severity, "FATAL") != 0)
        return false;
    if (is_panic || strcmp(error->sqlstate, "57P02") == 0)
        *how = ENDING_BARE;
    else
        *how = strcmp(error->sqlstate, "57P01") == 0 ? ENDING_SHUTDOWN : ENDING_FATAL;
    return true;
}

bool ending_is_warning(const struct error_fields *notice)
{
    return strcmp(notice->sqlstate, "57P01") == 0 ||
           strcmp(notice->sqlstate, "57P02") == 0;
}

/* ---- what is under way --------------------------------------------------------------
 */

static const struct flow_group *group_at(const struct flow *flow, uint32_t i)
{
    return &flow->groups[(flow->first + i) & (FLOW_GROUPS - 1)];
}

/* ReadyForQuery that are to come. */
static uint32_t n_ready(const struct flow *flow)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < flow->n_groups; i++)
        if (group_at(flow, i)->kind != FLOW_COPY_END)
            n += group_at(flow, i)->n_times;
    return n;
}

static bool is_copying(const struct flow *flow)
{
    return (flow->flags & (FLOW_COPY_IN | FLOW_COPY_BOTH)) != 0;
}

/* It is at one Query, and at nothing behind that. */
static bool is_simple(const struct flow *flow)
{
    return n_ready(flow) == 1 && flow->n_left == 0 &&
           group_at(flow, 0)->kind == FLOW_QUERY;
}

enum ending_debt ending_debt(const struct flow *flow)
{
    bool is_open = flow->n_tail > 0 || (flow->flags & (FLOW_OPEN | FLOW_SKIPPING)) != 0;
    uint32_t n = n_ready(flow);

    if (n > 1 || (n == 1 && is_open) || (flow->flags & (FLOW_UNSURE | FLOW_LOST)) != 0 ||
        (is_copying(flow) && !is_simple(flow)))
        return ENDING_OWES_MANY;
    if (is_open)
        return ENDING_OWES_SYNC;
    return n == 1 ? ENDING_OWES_READY : ENDING_OWES_NOTHING;
}

bool ending_is_in_block(const struct ending *ending)
{
    return flow_is_in_transaction(ending->flow) || (ending->heard & HEARD_BEGIN) != 0;
}

static bool has_left(const struct ending *ending)
{
    return !ending->is_unsent && (ending->flow->flags & FLOW_CUT) == 0;
}

/* Without its last byte nothing comes of it: of a Query; of a COPY, whose data has no end
 * yet; of the extended protocol, unless a part of that commits by itself. */
static bool is_incomplete(const struct ending *ending)
{
    if (is_simple(ending->flow))
        return !has_left(ending) || flow_is_copying_in(ending->flow);
    return !has_left(ending) && !(ending->asked & ASKED_ODD);
}

/* ---- judging ------------------------------------------------------------------------
 */

static enum ending_verdict judge_commit(const struct ending *ending)
{
    bool is_proven = is_simple(ending->flow) &&
                     !(ending->asked & (ASKED_MANY | ASKED_CHAIN)) &&
                     !(ending->heard & HEARD_WARNING);

    return is_proven ? ENDING_COMMITTED : ENDING_UNKNOWN;
}

static enum ending_verdict judge_block(const struct ending *ending, enum ending_debt debt)
{
    if (debt == ENDING_OWES_NOTHING)
        return ENDING_LOST;
    if (debt == ENDING_OWES_MANY)
        return ENDING_UNKNOWN;
    if (ending->heard & HEARD_COMMIT)
        return judge_commit(ending);
    if (ending->heard & HEARD_ERROR)
        return ENDING_FAILED;
    /* Either COMMIT was answered before FATAL, or there is none. */
    if (ending->how == ENDING_SHUTDOWN && !(ending->heard & HEARD_WARNING))
        return ENDING_LOST;
    return is_incomplete(ending) || !(ending->asked & (ASKED_ODD | ASKED_MANY))
               ? ENDING_LOST
               : ENDING_UNKNOWN;
}

/* Something was answered, and is no error. */
static enum ending_verdict judge_complete(const struct ending *ending)
{
    return is_simple(ending->flow) && !(ending->asked & ASKED_MANY) ? ENDING_COMMITTED
                                                                    : ENDING_UNKNOWN;
}

static enum ending_verdict judge_single(const struct ending *ending,
                                        enum ending_debt debt)
{
    bool is_odd = (ending->asked & ASKED_ODD) != 0;

    if (debt == ENDING_OWES_NOTHING)
        return ENDING_AT_REST;
    if (debt == ENDING_OWES_MANY || ending->heard & HEARD_WARNING)
        return ENDING_UNKNOWN;
    if (!has_left(ending) && ending->heard == 0 && is_incomplete(ending))
        return ENDING_NEVER_BEGUN;
    if (ending->heard & HEARD_COMPLETE)
        return judge_complete(ending);
    if (ending->heard & HEARD_ERROR)
        return ENDING_FAILED;
    if (is_incomplete(ending))
        return ENDING_ABORTED;
    /* Without Sync nothing is committed that does not commit by itself; nor is anything
     * of several statements whose first one is not done. */
    if (!is_odd && (ending->how == ENDING_SHUTDOWN || debt == ENDING_OWES_SYNC))
        return ENDING_ABORTED;
    return ENDING_UNKNOWN;
}

enum ending_verdict ending_judge(const struct ending *ending)
{
    enum ending_debt debt = ending_debt(ending->flow);

    if (ending->how == ENDING_FATAL)
        return ENDING_FORWARDED;
    return ending_is_in_block(ending) ? judge_block(ending, debt)
                                      : judge_single(ending, debt);
}
