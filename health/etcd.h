/* health/etcd.h - the keys below one prefix of etcd, kept as they are there.
 *
 *   RESTING --> (LOGGING_IN) --> READING --> OPENING --> WATCHING
 *      ^____________|________________|___________|___________|      any failure
 *
 * All keys are read first, then every change after that revision is watched, over a
 * stream of etcd's JSON gateway that never ends by itself. Endpoints are tried by turns,
 * with a backoff when all have failed.
 *
 * A stream may be silent because nothing changes or because it is dead, so it is looked
 * after in three ways: etcd ends it when its member has lost the leader (the header
 * hasleader), the kernel when the machine has vanished, and every so often the keys are
 * read from *another* endpoint: when that knows of changes that do not come through the
 * stream either, it is left.
 *
 * Thread: control only.
 */
#ifndef HEALTH_ETCD_H
#define HEALTH_ETCD_H

#include "config/config.h"
#include "core/http.h"
#include "core/resolver.h"
#include "health/store_keys.h"
#include "health/trust.h"

struct etcd;

struct etcd_tools {
    struct loop *loop;
    struct http *http;
    struct resolver *resolver;
    struct tls_registry *registry; /* used by etcd_new() only */
};

/* For the endpoints, user and TLS of a cluster that has `etcd`; `config` is borrowed for
 * its life, `prefix` is copied. Files of certificates are read now, which may block; when
 * they are bad that is logged, and nothing is watched. `on_change` is called from the
 * loop, when keys have changed and when the watch begins or is lost. NULL when memory is
 * out. */
struct etcd *etcd_new(const struct etcd_tools *tools, const struct cluster_config *config,
                      const char *prefix, void (*on_change)(void *arg),
                      void *arg) MUST_CHECK;
void etcd_free(struct etcd *etcd); /* NULL is fine; not from within on_change */
void etcd_start(struct etcd *etcd);

/* The registry has read files anew: what is asked from now on is asked with those. */
void etcd_renew_tls(struct etcd *etcd, struct tls_registry *registry);

/* How often another endpoint is looked at: 10 s until it is said, a minute at most. */
void etcd_set_interval(struct etcd *etcd, uint64_t interval_ms);

/* Valid until the next change. They stay as they were last seen while etcd is lost. */
const struct store_keys *etcd_keys(const struct etcd *etcd);
/* That the keys are of; 0 = they were never read. */
int64_t etcd_revision(const struct etcd *etcd);
/* Are the keys known to be what etcd has? */
bool etcd_is_live(const struct etcd *etcd);
/* Where they come from, or were sought last: "host:port"; "" = nowhere yet. */
const char *etcd_endpoint(const struct etcd *etcd);

#endif
