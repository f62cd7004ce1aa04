/* router/console/haproxy_field.h - one value as HAProxy's "typed" and JSON formats have
 * it (management.txt, 9.2).
 *
 * Thread: any.
 */
#ifndef ROUTER_CONSOLE_HAPROXY_FIELD_H
#define ROUTER_CONSOLE_HAPROXY_FIELD_H

#include "core/text.h"

struct haproxy_field {
    unsigned position; /* where HAProxy has it */
    const char *name;
    const char *tags; /* three letters: its origin, nature and scope */
    const char *type; /* "str", "u32", ... */
};

/* "4.scur.1:MGP:u32:7", the line's end included. */
void haproxy_add_typed(struct text *out, const struct haproxy_field *field,
                       const char *value);
/* An object; members that stand before "field" may be added first: it opens no brace. */
void haproxy_add_json(struct text *out, const struct haproxy_field *field,
                      const char *value);

#endif
