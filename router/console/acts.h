/* router/console/acts.h - what is done by the page's forms, and by HAProxy's.
 *
 *   POST /  b=rw&s=pg2&s=pg3&action=drain             HAProxy's: ready, drain, maint
 *           node=main/pg2&action=maint                ours, of one node
 *           db=app&action=pause                       resume, reconnect, kill, disable,
 * enable cluster=main&to=pg2&action=switchover&sure=yes
 *
 * The answer leads back to the page, or says what is wrong; what takes longer goes on,
 * and how it ends is among the events. A browser has to send the token that stands in our
 * forms, since it sends its user's password to whoever sends it here (CSRF); programs,
 * which say of no origin, need none.
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_ACTS_H
#define ROUTER_CONSOLE_ACTS_H

#include "router/console/pages.h"
#include "router/console/web.h"

#define ACTS_MAX 32u /* at a time */
#define ACTS_TOKEN_MAX 33u
#define ACTS_LAST_MAX 256u

struct acts {
    struct loop *loop;
    const struct doors *doors;
    struct monitor *monitor;
    const struct pages_source *source;
    void *arg;
    unsigned n;
    struct list answers; /* struct act: under way, with a request that waits */
    char token[ACTS_TOKEN_MAX];
    char last[ACTS_LAST_MAX]; /* what was done, by whom, and what came of it */
};

/* False when there is no randomness. */
bool acts_init(struct acts *acts, struct loop *loop, const struct doors *doors,
               struct monitor *monitor, const struct pages_source *source,
               void *arg) MUST_CHECK;
/* Who waits is answered; no question may be at the desk. */
void acts_clear(struct acts *acts);
/* A POST of somebody who may: `name` is who, for the log. */
void acts_take(struct acts *acts, struct web_request *request, const char *name);

#endif
