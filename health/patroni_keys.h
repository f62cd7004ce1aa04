/* health/patroni_keys.h - Patroni's keys in its store to a view of the cluster. Pure.
 *
 * Where the facts are from (Patroni 3.0.2, in patroni/): the names of the keys from
 * dcs/__init__.py, class AbstractDCS; how each value is read from Failover.from_node(),
 * Member.from_node(), ClusterConfig.from_node() there and from _cluster_from_nodes() in
 * dcs/etcd3.py; what becomes of a request from process_manual_failover_from_leader() and
 * should_run_scheduled_action() in ha.py. 4.x has the same keys.
 */
#ifndef HEALTH_PATRONI_KEYS_H
#define HEALTH_PATRONI_KEYS_H

#include "core/text.h"
#include "health/store_keys.h"
#include "health/store_view.h"

/* "/namespace/scope/", whatever slashes the two have: as client_path(). */
void patroni_keys_prefix(struct text *prefix, const char *namespace, const char *scope);

/* Fills a cleared view, all but is_live and revision. False when memory is out: then it
 * is cleared. */
bool patroni_keys_read(const struct store_keys *keys, struct store_view *view) MUST_CHECK;
/* A copy into a cleared view; false when memory is out. */
bool store_view_copy(struct store_view *to, const struct store_view *from) MUST_CHECK;
void store_view_clear(struct store_view *view);
/* NULL = there is none of that name. */
const struct store_member *store_view_member(const struct store_view *view,
                                             const char *name);

/* What the keys say of a member, all of `sample` but round, duration_ms and http_status:
 * source is SOURCE_ETCD. A key may be as old as its lease, so it must be known from
 * elsewhere that the server is there. */
void store_view_sample(const struct store_view *view, const struct store_member *member,
                       struct sample *sample);
/* Only who holds the lock, into a sample that somebody else has made. */
void store_view_lock(const struct store_view *view, const struct store_member *member,
                     struct sample *sample);

/* What `scheduled_at` says, in ms of unix time; false when it is no time with a zone,
 * which Patroni throws away. */
bool patroni_keys_time(const char *text, int64_t *ms) MUST_CHECK;

#endif
