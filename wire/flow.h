/* wire/flow.h - what a server still owes: may it be given back?
 *
 *   forwarded   P B E S   Q   P B D E S          answers come in the same order; with
 *   seen        1 2 C Z   T D C Z   1 2 ...      each the queue's front moves on
 *
 * Fed with the type of each message that is forwarded to the server and of each that the
 * server says, it keeps a queue of what has not been answered, as PostgreSQL's main loop
 * works it off (src/backend/tcop/postgres.c; copyfromparse.c for COPY):
 *
 * - A Query, FunctionCall or Sync is answered with one ReadyForQuery. Each extended
 *   message (Parse, Bind, Describe, Execute, Close) has one answer that is its last.
 *   Flush has none.
 * - After an error in an extended message everything up to the next Sync is skipped,
 *   Queries too. After one in a Query, FunctionCall or Sync their ReadyForQuery follows.
 * - During copy-in, Sync and Flush are swallowed; CopyDone or CopyFail end it. All three
 *   may have been forwarded before CopyInResponse is seen. Outside of copy-in CopyData,
 *   CopyDone and CopyFail are ignored.
 * - When copy-in fails, nobody can see how many of the Syncs forwarded into it were read
 *   before: those left over are answered after all. Such a server is at rest only when
 *   the answer to something behind them was seen.
 *
 * A zeroed flow is that of a server at rest. Pure; no memory but its own.
 */
#ifndef WIRE_FLOW_H
#define WIRE_FLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "core/check.h"

/* Different pieces of a pipeline that may be under way, a power of 2. Equal ones that
 * follow each other, such as a thousand times Bind, Execute, Sync, are one. */
#define FLOW_GROUPS 32u

enum flow_kind { FLOW_SYNC, FLOW_QUERY, FLOW_CALL, FLOW_COPY_END };

/* Extended messages and the one that follows them, all `n_times` over. */
struct flow_group {
    uint32_t n_extended;
    uint16_t n_times;
    uint16_t kind;
};

enum flow_flag {
    FLOW_OPEN = 1,       /* extended messages wait for a Sync that was not forwarded */
    FLOW_SKIPPING = 2,   /* the server ignores everything up to a Sync, likewise */
    FLOW_COPY_IN = 4,    /* CopyInResponse was seen, its end was not */
    FLOW_COPY_BOTH = 8,  /* the same for CopyBothResponse */
    FLOW_COPY_ENDS = 16, /* CopyDone or CopyFail for it was forwarded */
    FLOW_UNSURE = 32,    /* up to n_unsure more ReadyForQuery may come than are queued */
    FLOW_DUE = 64,       /* one that is queued comes before those */
    FLOW_CUT = 128,      /* only a part of the last message was forwarded */
    FLOW_LOST = 256      /* nothing is known any more */
};

struct flow {
    uint16_t flags;
    char status;       /* of the last ReadyForQuery, 0 before the first */
    uint8_t first;     /* in `groups`, a ring */
    uint32_t n_groups; /* in use */
    uint32_t n_left;   /* extended messages of the first group, this time over */
    uint32_t n_tail;   /* extended messages behind the last group */
    uint32_t n_unsure;
    /* How many messages that have answers were forwarded, and how many of them were
     * answered or skipped: what is to be said to a client behind the answer to the i-th
     * is due when the i-th is among the answered. Both wrap around. */
    uint32_t n_forwarded;
    uint32_t n_answered;
    struct flow_group groups[FLOW_GROUPS];
};

enum flow_step {
    FLOW_GOES_ON,
    FLOW_READY, /* seen: a ReadyForQuery; what it says is in `status` */
    /* To forward: nothing has changed; the client is not read before the server has
     * answered something, and then this message is tried again. */
    FLOW_FULL,
    /* To forward: nothing has changed; a client may not send this now, or at all. */
    FLOW_ILLEGAL,
    /* Seen: this answers nothing that was asked, or what the server will answer cannot be
     * known. So it remains: the server is to be closed. An ErrorResponse that says FATAL,
     * out of the blue, is among them. */
    FLOW_CONFUSED
};

enum flow_step flow_forward_any(struct flow *flow, uint8_t type) MUST_CHECK;
enum flow_step flow_see_any(struct flow *flow, uint8_t type) MUST_CHECK;
enum flow_step flow_see_ready_any(struct flow *flow, char status) MUST_CHECK;

/* A message of this type, or its begin, is about to be forwarded to the server: the
 * client's or one of our own. */
static inline enum flow_step MUST_CHECK flow_forward(struct flow *flow, uint8_t type)
{
    if (type == 'Q' && (flow->flags | flow->n_groups) == 0) {
        flow->groups[flow->first] = (struct flow_group){0, 1, FLOW_QUERY};
        flow->n_groups = 1;
        flow->n_forwarded++;
        return FLOW_GOES_ON;
    }
    return flow_forward_any(flow, type);
}

/* Whether a part of the last message is still to be forwarded. */
static inline void flow_set_cut(struct flow *flow, bool is_cut)
{
    flow->flags = (uint16_t)((flow->flags & ~FLOW_CUT) | (is_cut ? FLOW_CUT : 0));
}

/* The server has said a message of this type, or its begin; but for ReadyForQuery. */
static inline enum flow_step MUST_CHECK flow_see(struct flow *flow, uint8_t type)
{
    if (flow->flags == 0 && flow->n_groups > 0) {
        if (flow->n_left > 0 ? type == 'D'
                             : flow->groups[flow->first].kind == FLOW_QUERY &&
                                   (type == 'D' || type == 'T' || type == 'C'))
            return FLOW_GOES_ON;
    }
    return flow_see_any(flow, type);
}

/* The server has said ReadyForQuery. */
static inline enum flow_step MUST_CHECK flow_see_ready(struct flow *flow, char status)
{
    const struct flow_group *group = &flow->groups[flow->first];

    if (flow->n_groups == 1 && flow->flags == 0 && flow->n_left == 0 &&
        group->n_times == 1 && status == 'I') {
        flow->n_groups = 0;
        flow->n_answered++;
        flow->status = status;
        return FLOW_READY;
    }
    return flow_see_ready_any(flow, status);
}

/* Whether the server waits for a new statement, in no transaction, and will say nothing
 * of its own accord: then it may serve another client. */
static inline bool flow_is_at_rest(const struct flow *flow)
{
    return (flow->flags | flow->n_groups) == 0 &&
           (flow->status == 'I' || flow->status == 0);
}

/* Whether the client waits for an answer; not while it sends data in copy-in. */
bool flow_is_answering(const struct flow *flow);

/* Whether the last ReadyForQuery was inside of a transaction. */
static inline bool flow_is_in_transaction(const struct flow *flow)
{
    return flow->status == 'T' || flow->status == 'E';
}

/* Whether the server takes CopyData. */
static inline bool flow_is_copying_in(const struct flow *flow)
{
    return (flow->flags & (FLOW_COPY_IN | FLOW_COPY_BOTH)) != 0 &&
           (flow->flags & FLOW_COPY_ENDS) == 0;
}

/* What brings the server to rest, say when its client has left: to be asked again after
 * each message that was forwarded or seen. */
enum flow_need {
    FLOW_NEEDS_NOTHING,   /* it is at rest */
    FLOW_NEEDS_ANSWERS,   /* waiting */
    FLOW_NEEDS_COPY_FAIL, /* a CopyFail forwarded */
    FLOW_NEEDS_SYNC,      /* a Sync forwarded */
    FLOW_NEEDS_ROLLBACK,  /* ROLLBACK forwarded; its answer ends doubts, too */
    FLOW_NEEDS_CLOSE      /* nothing does */
};
enum flow_need flow_need(const struct flow *flow);

/* Whether a server at rest ignores a message of this type: a client that sends one needs
 * no server for it. It is late: copy-in had failed when it was sent. */
static inline bool flow_is_ignored_at_rest(uint8_t type)
{
    return type == 'd' || type == 'c' || type == 'f' || type == 'H';
}

#endif
