/* router/console/holding.h - POST /hold and POST /release: programs, such as Patroni's
 * before_stop, say when the primary is about to go.
 *
 *   curl -X POST -H "Authorization: Bearer TOKEN" http://router:7000/hold -d node=n1
 *   curl -X POST --unix-socket /run/pgrouter/stats.sock http://router/hold -d node=n1
 *
 * `cluster` and `node` stand behind the path ("?node=n1&cluster=main") or in the body, as
 * a form or as a JSON object, or nowhere: then it is the only cluster, and its primary. A
 * cluster or node that is not named may also be that of the address which the request
 * comes from. Answers are JSON.
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_HOLDING_H
#define ROUTER_CONSOLE_HOLDING_H

#include "core/text.h"
#include "health/monitor.h"

/* A request, as HTTP brings it. */
struct holding_request {
    const char *target;         /* "/hold?node=n1" */
    const char *method;         /* "POST" */
    const char *authorization;  /* the header; "" = there is none */
    const char *body;           /* zero-terminated */
    bool is_too_long;           /* the body was */
    const struct address *peer; /* NULL = not known */
    bool is_local;              /* by a unix socket, whose file's mode says who may */
};

struct holding_answer {
    unsigned status;
    const char *header, *value; /* one more header; NULL = none */
};

/* Whether the target is one of the two. */
bool holding_is_meant(const char *target);
/* Does it and writes the body. `token` is [stats] control_token, "" = nobody may, but
 * locally; how long that takes tells nothing of it. */
struct holding_answer holding_take(struct monitor *monitor, const char *token,
                                   const struct holding_request *request,
                                   struct text *body);

#endif
