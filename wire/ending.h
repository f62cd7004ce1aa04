/* wire/ending.h - a server's connection has ended: what became of what was asked of it?
 *
 * What is told here was measured (cut statements by the ten thousand, and SIGTERM at
 * exact points around the commit), and follows from exec_simple_query(),
 * exec_execute_message() and ProcessInterrupts() in PostgreSQL's
 * src/backend/tcop/postgres.c:
 *
 * - FATAL is sent behind all that was said before, and is said only between two steps. In
 *   the simple protocol a statement is committed before its CommandComplete, and nothing
 *   interrupts in between: FATAL 57P01 without CommandComplete means that nothing was
 *   committed. In the extended protocol CommandComplete is said by Execute, and the
 * commit is made by Sync: FATAL behind CommandComplete means nothing.
 * - That holds for statements that commit once, at their end: not for CALL, DO and
 * VACUUM, nor for several in one Query (SQL_PLAIN, SQL_SINGLE in wire/sql.h).
 * - An end without FATAL proves nothing, once the last byte of the request may have left.
 *   Nor does one behind a WARNING: the commit is there already, or what was said before
 * is.
 * - What is in a transaction block is committed by COMMIT, and by nothing else.
 *
 * Pure.
 */
#ifndef WIRE_ENDING_H
#define WIRE_ENDING_H

#include <stdbool.h>
#include <stdint.h>

#include "wire/error.h"
#include "wire/flow.h"
#include "wire/sql.h"

/* What was forwarded since everything was answered; all are doubts. */
enum asked_flag {
    ASKED_ODD = 1,    /* what may commit before it is done, or end a transaction block */
    ASKED_MANY = 2,   /* several statements in one Query */
    ASKED_CHAIN = 4,  /* what says COMMIT, and begins another transaction block by that */
    ASKED_PARSED = 8, /* no doubt: a text, of which the others speak */
    ASKED_END = 16    /* no doubt: what leaves no transaction block behind */
};
/* Those of a text: see sql_look(). */
static inline unsigned ending_asked(unsigned sql)
{
    return (sql & SQL_PLAIN ? 0u : ASKED_ODD) | (sql & SQL_SINGLE ? 0u : ASKED_MANY) |
           (sql & SQL_COMMIT ? 0u : ASKED_CHAIN) | (sql & SQL_ENDS ? ASKED_END : 0u);
}

/* What was heard since then. */
enum heard_flag {
    HEARD_ROWS = 1,
    HEARD_COMPLETE = 2, /* CommandComplete, EmptyQueryResponse, PortalSuspended */
    HEARD_ERROR = 4,    /* after which the session goes on */
    HEARD_COMMIT = 8,   /* CommandComplete of COMMIT or PREPARE TRANSACTION */
    HEARD_BEGIN = 16,   /* CommandComplete of BEGIN */
    HEARD_WARNING = 32, /* of those that stand before an end: 57P01, 57P02 */
    HEARD_MORE = 64     /* what else is no part of the begin of an answer */
};

/* The flags of a message's type alone; 0 for those with which an answer may begin. */
extern const uint8_t ending_heard[256];
/* Those of a CommandComplete, whose tag's first `n` bytes are there. */
unsigned ending_read_tag(const uint8_t *tag, size_t n);

enum ending_how {
    ENDING_SHUTDOWN, /* FATAL 57P01: a shutdown, or pg_terminate_backend() */
    ENDING_FATAL,    /* another word that is meant for this client */
    ENDING_BARE      /* no word, or one that proves nothing: 57P02, PANIC */
};
/* Whether this ErrorResponse is a server's last word, and then which. */
bool ending_is_last(const struct error_fields *error, enum ending_how *how);
/* Whether a NoticeResponse is HEARD_WARNING. */
bool ending_is_warning(const struct error_fields *notice);

struct ending {
    const struct flow *flow;
    unsigned asked; /* asked_flag */
    unsigned heard; /* heard_flag */
    bool is_unsent; /* the last byte of what was forwarded has never left us */
    enum ending_how how;
};

enum ending_verdict {
    ENDING_AT_REST,     /* nothing was asked, and no transaction is open */
    ENDING_FORWARDED,   /* the client is to hear the server's word as it is */
    ENDING_NEVER_BEGUN, /* another server may be asked the same */
    ENDING_ABORTED,     /* it has begun, and left nothing behind */
    ENDING_LOST,        /* the transaction block is gone, and left nothing behind */
    ENDING_FAILED,      /* it has failed, and the client was told so */
    ENDING_COMMITTED,   /* it is done, and the client was told so */
    ENDING_UNKNOWN
};
enum ending_verdict ending_judge(const struct ending *ending);

/* What the client is still owed. */
enum ending_debt {
    ENDING_OWES_NOTHING, /* it has asked nothing */
    ENDING_OWES_READY,   /* one ReadyForQuery */
    ENDING_OWES_SYNC,    /* that, once it has said Sync */
    ENDING_OWES_MANY
};
enum ending_debt ending_debt(const struct flow *flow);
/* Whether the transaction block that the client thinks it is in has ended by this. */
bool ending_is_in_block(const struct ending *ending);
/* Whether what was asked for is COMMIT or the like: PostgreSQL says of one that has
 * failed that no transaction is left. */
static inline bool ending_leaves_block(const struct ending *ending)
{
    return (ending->asked & (ASKED_END | ASKED_MANY)) == ASKED_END;
}

#endif
