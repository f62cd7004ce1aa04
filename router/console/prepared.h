/* router/console/prepared.h - statements that a client of the console has prepared, and
 * portals made of them, by name. */
#ifndef ROUTER_CONSOLE_PREPARED_H
#define ROUTER_CONSOLE_PREPARED_H

#include <stdint.h>

#include "core/list.h"

/* Of one client; they are for drivers that know no other way. */
#define PREPARED_MAX 256u

struct prepared {
    struct link in_list;
    char kind;       /* 'S'tatement or 'P'ortal */
    uint64_t binary; /* columns that are wanted so, of a portal */
    char *name;
    char *text;
};

enum prepared_result { PREPARED_KEPT, PREPARED_TOO_MANY, PREPARED_NO_MEMORY };
/* In place of one with the same kind and name. */
enum prepared_result prepared_keep(struct list *list, char kind, const char *name,
                                   const char *text, uint64_t binary) MUST_CHECK;
/* NULL when there is none. */
struct prepared *prepared_find(const struct list *list, char kind, const char *name);
void prepared_forget(struct list *list, struct prepared *prepared); /* NULL is fine */
void prepared_clear(struct list *list);

#endif
