/* pool/guests.h - the users whose clients have logged in to a pool: a name is kept once,
 * however many clients come under it.
 *
 * They differ from the pool's own user where [databases] forces one.
 *
 * Thread: a worker's.
 */
#ifndef POOL_GUESTS_H
#define POOL_GUESTS_H

#include "core/check.h"
#include "core/list.h"

struct guest {
    struct link in_list;
    unsigned n_clients;
    char name[];
};

/* One more client of this user; NULL when memory is out. */
struct guest *guests_enter(struct list *guests, const char *name) MUST_CHECK;
/* One less; the name goes with the last. */
void guests_leave(struct list *guests, struct guest *guest);

#endif
