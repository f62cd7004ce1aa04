/* wire/sql.h - what a text of SQL is, as far as that can be told without a parser.
 *
 * Quotes, E'' and U&'' strings, quoted identifiers, dollar quotes, comments (nested ones,
 * too) and parentheses are followed as PostgreSQL's scanner does
 * (src/backend/parser/scan.l). Whatever is in doubt is not what was asked for: a text may
 * say "no" that a parser would say "yes" to, never the other way round. Pure.
 */
#ifndef WIRE_SQL_H
#define WIRE_SQL_H

#include <stdbool.h>
#include <stddef.h>

#include "core/check.h"

enum sql_flag {
    /* It is one statement, or none: what its end proves holds for all of it. */
    SQL_SINGLE = 1,
    /* ... which begins with SELECT, INSERT, UPDATE, DELETE, MERGE, WITH, VALUES or TABLE:
     * it ends no transaction but the one that PostgreSQL makes for it, and commits
     * nothing before its end. */
    SQL_PLAIN = 2,
    /* It is COMMIT or END, and no transaction follows by AND CHAIN. */
    SQL_COMMIT = 4,
    /* It begins with ROLLBACK or ABORT. */
    SQL_ROLLBACK = 8,
    /* It is SQL_COMMIT, or ROLLBACK or ABORT and nothing more: a transaction block is
     * over behind it, whatever becomes of it. */
    SQL_ENDS = 16
};

/* What the `n` bytes are, a set of the above; if more is to follow them, what that says
 * of the begin holds, and SQL_SINGLE does not. Costs a look at the first word and a
 * search for a semicolon, unless there is more to see. */
unsigned sql_look(const char *text, size_t n) MUST_CHECK;

/* The same with the whole of it read in any case: for those to whom SQL_PLAIN is a reason
 * to have it done twice. */
unsigned sql_read(const char *text, size_t n) MUST_CHECK;

#endif
