/* health/patroni.h - what Patroni's answer to GET /primary says. Pure.
 *
 * Facts are from Patroni's api.py, do_GET() and get_postgresql_status(), 3.0 and 4.x:
 * status 200 = this node holds the leader lock and the cluster is no standby cluster; 503
 * = anything else. Both carry the same body. While the server runs, `role` there is what
 * pg_is_in_recovery() says ("master" up to 3.x, "primary" since 4.0, "replica"), except
 * that members of a standby cluster show the role that Patroni gave them. Otherwise only
 * `state` and that given role are there. The lock is Patroni's own memory: a 200 may
 * outlive the server.
 */
#ifndef HEALTH_PATRONI_H
#define HEALTH_PATRONI_H

#include <stddef.h>

#include "health/sample.h"

/* Fills `sample`, all of it but round and duration_ms. `body` may be any bytes. An answer
 * that makes no sense has source SOURCE_NOBODY; one that does has SOURCE_PATRONI, and
 * SAMPLE_OK when the server runs in a known role. */
void patroni_read(int http_status, const char *body, size_t length,
                  struct sample *sample);

#endif
