/* router/console/escape.h - names that come from files and peers, as text of a format.
 *
 * Bytes that are no UTF-8 are written as \xHH, so that what is read is always UTF-8.
 */
#ifndef ROUTER_CONSOLE_ESCAPE_H
#define ROUTER_CONSOLE_ESCAPE_H

#include "core/text.h"

/* Inside the quotes of a label's value (OpenMetrics). */
void escape_label(struct text *out, const char *value);
/* Inside the quotes of a string (RFC 8259). */
void escape_json(struct text *out, const char *value);

#endif
