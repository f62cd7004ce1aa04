/* config/pairs.h - the values of [databases], [users] and [peers]: settings in one line.
 *
 *   host=10.0.0.1 port = 5432 password='it''s a secret'
 *
 * Blanks stand between settings, and may stand around '='. A value with blanks in it
 * stands in single quotes, in which a doubled one stands for one. Format: libpq's
 * connection strings, as far as PgBouncer has them: no backslashes, no empty values.
 *
 * Pure; any thread.
 */
#ifndef CONFIG_PAIRS_H
#define CONFIG_PAIRS_H

#include "core/check.h"

enum pairs_result { PAIRS_ONE, PAIRS_END, PAIRS_BAD };

/* Takes the next setting off `*rest`, in place. PAIRS_BAD: `*why` says what is wrong and
 * never holds a value (a constant); no more can be taken. */
enum pairs_result pairs_next(char **rest, char **name, char **value,
                             const char **why) MUST_CHECK;

#endif
