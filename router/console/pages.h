/* router/console/pages.h - what the stats port answers.
 *
 *   / /stats /haproxy?stats and [stats] uri   the page; with ;csv or ;json
 *                                             HAProxy's table
 *   POST to these                             see acts.h
 *   /admin                                    asks who may act for the password
 *   POST /hold /release                       see holding.h
 *   /metrics                                  see metrics.h
 *   /api/v1/...                               see api.h
 *   /healthz                                  200 while the process runs
 *   /readyz                                   200 once every node was asked, until
 *                                             shutdown
 *   /primary /replica                         200 while new clients are led to one, in
 *                                             every cluster or in that of ?cluster=
 *
 * A page waits for a gather.h message to go round the workers. Requests that come
 * meanwhile share it.
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_PAGES_H
#define ROUTER_CONSOLE_PAGES_H

#include "router/console/overview.h"
#include "router/console/question.h"

/* What pages need of their owner. */
struct pages_source {
    /* Sends the message round; its on_home is the pages' own. False: not now. */
    bool (*begin_gathering)(void *arg, struct gather *gather);
    /* Fills in the numbers that are the owner's. */
    void (*describe)(void *arg, struct overview *overview);
    bool (*is_ready)(void *arg);
    struct config *(*config)(void *arg); /* borrowed */
    /* A question for the desk, whose answer goes to control. */
    void (*ask)(void *arg, struct question *question);
    void (*count_names)(void *arg, unsigned *n, unsigned *n_asked); /* of DNS */
};

struct pages;

/* NULL when memory is out. */
struct pages *pages_new(struct loop *loop, const struct doors *doors,
                        struct monitor *monitor, const struct pages_source *source,
                        void *arg) MUST_CHECK;
/* No gather may be under way. NULL is fine. */
void pages_free(struct pages *pages);
/* As web_configure(); what web_secure() says of `context` holds. */
bool pages_configure(struct pages *pages, const struct stats_config *stats, int backlog,
                     struct tls_context *context, struct text *errors) MUST_CHECK;
/* Borrowed. Nothing is added to the history without a [stats]. */
const struct events *pages_events(const struct pages *pages);
const struct history *pages_history(const struct pages *pages);
/* Its certificate is another one. */
void pages_secure(struct pages *pages, struct tls_context *context);

#endif
