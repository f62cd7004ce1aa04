#include "wire/flow.h"

#include <stddef.h>

/* ---- the queue ----------------------------------------------------------------------
 */

static struct flow_group *group_at(struct flow *flow, uint32_t i)
{
    return &flow->groups[(flow->first + i) & (FLOW_GROUPS - 1)];
}

static bool is_front(const struct flow *flow, enum flow_kind kind)
{
    return flow->n_groups > 0 && flow->n_left == 0 &&
           flow->groups[flow->first].kind == kind;
}

/* The front group's closing message is done with, this time over. */
static void pop(struct flow *flow)
{
    struct flow_group *front = group_at(flow, 0);

    if (--front->n_times == 0) {
        flow->first = (uint8_t)((flow->first + 1) & (FLOW_GROUPS - 1));
        flow->n_groups--;
    }
    flow->n_left = flow->n_groups > 0 ? group_at(flow, 0)->n_extended : 0;
}

/* CopyDone and CopyFail whose turn has come outside of copy-in: the server ignores them.
 */
static void drop_strays(struct flow *flow)
{
    while (is_front(flow, FLOW_COPY_END))
        pop(flow);
}

/* Whether the server will answer something without being sent any more: what stands at
 * the end of extended messages makes it flush its answers. */
static bool has_closing(struct flow *flow, uint32_t from)
{
    for (uint32_t i = from; i < flow->n_groups; i++)
        if (group_at(flow, i)->kind != FLOW_COPY_END)
            return true;
    return false;
}

/* Closes the extended messages of the tail with `kind`; false when there is no room. */
static bool push(struct flow *flow, enum flow_kind kind)
{
    struct flow_group *last = group_at(flow, flow->n_groups - 1);

    if (flow->n_groups > 0 && last->kind == kind && last->n_extended == flow->n_tail &&
        last->n_times < UINT16_MAX) {
        last->n_times++;
    } else {
        if (flow->n_groups == FLOW_GROUPS)
            return false;
        *group_at(flow, flow->n_groups++) =
            (struct flow_group){flow->n_tail, 1, (uint16_t)kind};
        if (flow->n_groups == 1)
            flow->n_left = flow->n_tail;
    }
    flow->n_tail = 0;
    return true;
}

static void set(struct flow *flow, unsigned flags)
{
    flow->flags = (uint16_t)(flow->flags | flags);
}

static void unset(struct flow *flow, unsigned flags)
{
    flow->flags = (uint16_t)(flow->flags & ~flags);
}

static bool has(const struct flow *flow, unsigned flags)
{
    return (flow->flags & flags) != 0;
}

static enum flow_step lose(struct flow *flow)
{
    set(flow, FLOW_LOST);
    return FLOW_CONFUSED;
}

/* ---- forwarded ----------------------------------------------------------------------
 */

/* A message that the server skips, being in search of a Sync. */
static enum flow_step forward_skipped(struct flow *flow)
{
    if (has(flow, FLOW_UNSURE)) /* or has it found one already? */
        return FLOW_ILLEGAL;
    flow->n_forwarded++;
    flow->n_answered++;
    return FLOW_GOES_ON;
}

static enum flow_step forward_extended(struct flow *flow)
{
    if (flow_is_copying_in(flow) || flow->n_tail == UINT32_MAX)
        return FLOW_ILLEGAL;
    if (has(flow, FLOW_SKIPPING))
        return forward_skipped(flow);
    set(flow, FLOW_OPEN);
    flow->n_tail++;
    flow->n_forwarded++;
    return FLOW_GOES_ON;
}

/* Query or FunctionCall. */
static enum flow_step forward_statement(struct flow *flow, enum flow_kind kind)
{
    if (flow_is_copying_in(flow))
        return FLOW_ILLEGAL;
    if (has(flow, FLOW_SKIPPING))
        return forward_skipped(flow);
    if (!push(flow, kind))
        return has_closing(flow, 0) ? FLOW_FULL : FLOW_ILLEGAL;
    unset(flow, FLOW_OPEN);
    flow->n_forwarded++;
    return FLOW_GOES_ON;
}

static enum flow_step forward_sync(struct flow *flow)
{
    if (has(flow, FLOW_COPY_BOTH) && flow_is_copying_in(flow))
        return FLOW_ILLEGAL;
    if (!push(flow, FLOW_SYNC))
        return has_closing(flow, 0) ? FLOW_FULL : FLOW_ILLEGAL;
    unset(flow, FLOW_SKIPPING);
    if (!flow_is_copying_in(flow)) /* otherwise it is swallowed */
        unset(flow, FLOW_OPEN);
    flow->n_forwarded++;
    return FLOW_GOES_ON;
}

/* CopyDone or CopyFail. */
static enum flow_step forward_copy_end(struct flow *flow)
{
    if (flow->n_groups == 0 && flow->n_tail == 0)
        return FLOW_GOES_ON;
    if (!push(flow, FLOW_COPY_END))
        return has_closing(flow, 0) ? FLOW_FULL : FLOW_ILLEGAL;
    if (has(flow, FLOW_COPY_IN | FLOW_COPY_BOTH))
        set(flow, FLOW_COPY_ENDS);
    return FLOW_GOES_ON;
}

enum flow_step flow_forward_any(struct flow *flow, uint8_t type)
{
    switch (type) {
    case 'P':
    case 'B':
    case 'D':
    case 'E':
    case 'C':
        return forward_extended(flow);
    case 'S':
        return forward_sync(flow);
    case 'Q':
        return forward_statement(flow, FLOW_QUERY);
    case 'F':
        return forward_statement(flow, FLOW_CALL);
    case 'c':
    case 'f':
        return forward_copy_end(flow);
    case 'd':
    case 'H':
        return FLOW_GOES_ON;
    default:
        return FLOW_ILLEGAL;
    }
}

/* ---- seen: COPY ---------------------------------------------------------------------
 */

/* What was forwarded behind a message that turns out to be a COPY, as far as the server
 * reads it as a part of the copy: Syncs, and then what ends it. */
struct copy_region {
    bool ends;        /* with CopyDone, CopyFail, or what is illegal there */
    bool has_closing; /* there is what makes the server flush, at its end or behind it */
};

static struct copy_region look_into_copy(struct flow *flow)
{
    const struct flow_group *front = group_at(flow, 0);
    uint32_t i = 1;

    if (flow->n_groups == 0)
        return (struct copy_region){flow->n_tail > 1, false};
    if (flow->n_left > 1 || (front->n_times > 1 && front->kind != FLOW_COPY_END) ||
        (flow->n_left == 1 && front->kind != FLOW_SYNC))
        return (struct copy_region){true, has_closing(flow, 0)};
    for (; i < flow->n_groups; i++) {
        const struct flow_group *group = group_at(flow, i);

        if (group->n_extended > 0 || group->kind != FLOW_SYNC)
            return (struct copy_region){true, has_closing(flow, i)};
    }
    return (struct copy_region){flow->n_tail > 0, false};
}

static enum flow_step begin_copy(struct flow *flow, unsigned flag)
{
    bool is_query = is_front(flow, FLOW_QUERY);
    bool is_execute = flow->n_left > 0 || (flow->n_groups == 0 && flow->n_tail > 0);
    struct copy_region region;

    if (has(flow, FLOW_COPY_IN | FLOW_COPY_BOTH) || (!is_query && !is_execute) ||
        (flag == FLOW_COPY_BOTH && !is_query))
        return lose(flow);
    region = look_into_copy(flow);
    set(flow, flag | (region.ends ? FLOW_COPY_ENDS : 0));
    if (is_execute && !region.has_closing)
        set(flow, FLOW_OPEN);
    return FLOW_GOES_ON;
}

/* Takes away what the server has read as a part of the copy, or will ignore now that the
 * copy is over; returns how many Syncs there were. The copy's own message is gone. */
static uint32_t take_region(struct flow *flow)
{
    uint32_t n_syncs = 0;

    while (is_front(flow, FLOW_SYNC)) {
        pop(flow);
        n_syncs++;
    }
    flow->n_answered += n_syncs;
    if (is_front(flow, FLOW_COPY_END))
        pop(flow);
    return n_syncs;
}

/* The same behind a Query, which stays. */
static uint32_t take_region_behind_query(struct flow *flow)
{
    uint32_t n_syncs;

    if (group_at(flow, 0)->n_times > 1)
        return 0;
    pop(flow);
    n_syncs = take_region(flow);
    flow->first = (uint8_t)((flow->first - 1) & (FLOW_GROUPS - 1));
    flow->n_groups++;
    *group_at(flow, 0) = (struct flow_group){0, 1, FLOW_QUERY};
    flow->n_left = 0;
    return n_syncs;
}

/* An extended message has got its last answer. */
static void answer_extended(struct flow *flow)
{
    if (flow->n_groups > 0)
        flow->n_left--;
    else
        flow->n_tail--;
    flow->n_answered++;
}

static bool is_extended_next(const struct flow *flow)
{
    return flow->n_groups > 0 ? flow->n_left > 0 : flow->n_tail > 0;
}

/* CommandComplete in copy-in: the server has read up to the CopyDone. */
static enum flow_step complete_copy(struct flow *flow)
{
    if (!has(flow, FLOW_COPY_ENDS))
        return lose(flow);
    unset(flow, FLOW_COPY_IN | FLOW_COPY_ENDS);
    if (is_extended_next(flow)) {
        answer_extended(flow);
        (void)take_region(flow);
        drop_strays(flow);
    } else {
        (void)take_region_behind_query(flow);
    }
    return FLOW_GOES_ON;
}

/* ---- seen: errors -------------------------------------------------------------------
 */

/* Up to the next Sync nothing is answered; returns how much was skipped. */
static uint32_t skip_to_sync(struct flow *flow)
{
    uint32_t n_before = flow->n_answered;

    while (flow->n_groups > 0) {
        flow->n_answered += flow->n_left;
        flow->n_left = 0;
        if (group_at(flow, 0)->kind == FLOW_SYNC)
            return flow->n_answered - n_before;
        if (group_at(flow, 0)->kind != FLOW_COPY_END)
            flow->n_answered++;
        pop(flow);
    }
    flow->n_answered += flow->n_tail;
    flow->n_tail = 0;
    unset(flow, FLOW_OPEN);
    set(flow, FLOW_SKIPPING);
    return flow->n_answered - n_before;
}

static enum flow_step fail_copy(struct flow *flow)
{
    bool is_extended = is_extended_next(flow);
    uint32_t n_syncs;

    unset(flow, FLOW_COPY_IN | FLOW_COPY_ENDS);
    if (is_extended) {
        answer_extended(flow);
        n_syncs = take_region(flow);
        /* When a Sync is left over, the server does not skip what stands behind it. */
        if (skip_to_sync(flow) > 0 && n_syncs > 0)
            return lose(flow);
    } else {
        n_syncs = take_region_behind_query(flow);
    }
    if (n_syncs > 0) {
        flow->n_unsure = n_syncs;
        set(flow, FLOW_UNSURE | (is_extended ? 0 : FLOW_DUE));
    }
    return FLOW_GOES_ON;
}

static enum flow_step see_error(struct flow *flow)
{
    if (has(flow, FLOW_COPY_IN))
        return fail_copy(flow);
    unset(flow, FLOW_COPY_BOTH | FLOW_COPY_ENDS);
    if (is_extended_next(flow) || (flow->n_groups == 0 && has(flow, FLOW_OPEN)))
        (void)skip_to_sync(flow);
    else if (flow->n_groups == 0)
        return lose(flow);
    return FLOW_GOES_ON;
}

/* ---- seen: everything else ----------------------------------------------------------
 */

/* An answer to the front: the Syncs that were left over are behind us. */
static void be_sure(struct flow *flow)
{
    if (has(flow, FLOW_UNSURE) && !has(flow, FLOW_DUE) && !is_front(flow, FLOW_SYNC) &&
        (flow->n_groups | flow->n_tail) != 0) {
        flow->n_unsure = 0;
        unset(flow, FLOW_UNSURE);
    }
}

/* What ends the answer to an extended message, and may be a part of that to a Query. */
static enum flow_step see_last(struct flow *flow, uint8_t type)
{
    if (has(flow, FLOW_COPY_IN))
        return type == 'C' ? complete_copy(flow) : lose(flow);
    if (is_extended_next(flow)) {
        answer_extended(flow);
        drop_strays(flow);
    } else if (!is_front(flow, FLOW_QUERY)) {
        return lose(flow);
    }
    return FLOW_GOES_ON;
}

/* What is a part of an answer and never its end. */
static enum flow_step see_part(struct flow *flow)
{
    if (has(flow, FLOW_COPY_IN) ||
        (!is_extended_next(flow) && !is_front(flow, FLOW_QUERY) &&
         !is_front(flow, FLOW_CALL)))
        return lose(flow);
    return FLOW_GOES_ON;
}

enum flow_step flow_see_any(struct flow *flow, uint8_t type)
{
    if (has(flow, FLOW_LOST))
        return FLOW_CONFUSED;
    if (type == 'N' || type == 'A' || type == 'S')
        return FLOW_GOES_ON;
    be_sure(flow);
    switch (type) {
    case '1':
    case '2':
    case '3':
    case 'n':
    case 'T':
    case 'C':
    case 'I':
    case 's':
        return see_last(flow, type);
    case 'D':
    case 'd':
    case 'c':
    case 'H':
    case 't':
    case 'V':
        return see_part(flow);
    case 'G':
        return begin_copy(flow, FLOW_COPY_IN);
    case 'W':
        return begin_copy(flow, FLOW_COPY_BOTH);
    case 'E':
        return see_error(flow);
    default:
        return lose(flow);
    }
}

/* A ReadyForQuery of a Sync that was left over from a copy that has failed. */
static bool is_left_over(const struct flow *flow)
{
    return has(flow, FLOW_UNSURE) && !has(flow, FLOW_DUE) && !is_front(flow, FLOW_SYNC);
}

enum flow_step flow_see_ready_any(struct flow *flow, char status)
{
    if (has(flow, FLOW_LOST))
        return FLOW_CONFUSED;
    if (has(flow, FLOW_COPY_IN) || (status != 'I' && status != 'T' && status != 'E'))
        return lose(flow);
    if (is_left_over(flow)) {
        unset(flow, FLOW_SKIPPING);
        if (--flow->n_unsure == 0)
            unset(flow, FLOW_UNSURE);
    } else {
        if (flow->n_groups == 0 || flow->n_left > 0)
            return lose(flow);
        pop(flow);
        drop_strays(flow);
        flow->n_answered++;
        unset(flow, FLOW_DUE | FLOW_COPY_BOTH | FLOW_COPY_ENDS);
    }
    flow->status = status;
    return FLOW_READY;
}

/* ---- asked --------------------------------------------------------------------------
 */

bool flow_is_answering(const struct flow *flow)
{
    return (flow->n_groups | flow->n_tail) != 0 && !flow_is_copying_in(flow);
}

enum flow_need flow_need(const struct flow *flow)
{
    if (has(flow, FLOW_LOST | FLOW_CUT | FLOW_COPY_BOTH))
        return FLOW_NEEDS_CLOSE;
    if (flow_is_copying_in(flow))
        return FLOW_NEEDS_COPY_FAIL;
    if (has(flow, FLOW_OPEN | FLOW_SKIPPING))
        return FLOW_NEEDS_SYNC;
    if (flow->n_groups > 0)
        return FLOW_NEEDS_ANSWERS;
    if (has(flow, FLOW_UNSURE) || flow_is_in_transaction(flow))
        return FLOW_NEEDS_ROLLBACK;
    return FLOW_NEEDS_NOTHING;
}
