/* core/text.h - a string that grows up to a maximum.
 *
 * Used for log lines, pages and messages, never on the relay path. A text that
 * ran out of memory or over its maximum keeps what it has and says so in
 * `overflowed`, so that callers check once, at the end.
 */
#ifndef CORE_TEXT_H
#define CORE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/check.h"

struct text {
    char *bytes; /* zero-terminated whenever not NULL */
    size_t length;
    size_t size; /* allocated */
    size_t max;  /* never longer than this, the zero byte not counted */
    bool overflowed;
};

void text_init(struct text *text, size_t max);
/* Back to empty and nothing allocated; keeps the maximum. A zeroed text is valid. */
void text_clear(struct text *text);
void text_add(struct text *text, const char *string);
void text_add_n(struct text *text, const char *bytes, size_t length);
void text_addf(struct text *text, const char *format, ...) PRINTF_LIKE(2, 3);
/* What there is, "" when there is nothing. Valid until the next change. */
const char *text_get(const struct text *text);

#endif
