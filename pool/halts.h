/* pool/halts.h - what an operator has said of databases: PAUSE, KILL, DISABLE.
 *
 * Thread: who owns it; each worker has its own, and control one for the views.
 */
#ifndef POOL_HALTS_H
#define POOL_HALTS_H

#include "core/check.h"
#include "core/list.h"

enum halt_kind {
    HALT_PAUSED,   /* nobody gets a server */
    HALT_DISABLED, /* nobody may log in */
    HALT_KIND_COUNT
};

struct halts {
    struct list named;
    bool all_paused;
};

void halts_init(struct halts *halts);
/* A zeroed one is fine. */
void halts_clear(struct halts *halts);
/* Of a database, or with "" of all that are paused or not. False when memory is out:
 * nothing has changed. */
bool halts_set(struct halts *halts, const char *database, enum halt_kind kind,
               bool on) MUST_CHECK;
bool halts_has(const struct halts *halts, const char *database, enum halt_kind kind);

#endif
