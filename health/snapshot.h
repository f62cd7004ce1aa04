/* health/snapshot.h - makes topologies out of what the control thread knows.
 *
 * Thread: control only.
 */
#ifndef HEALTH_SNAPSHOT_H
#define HEALTH_SNAPSHOT_H

#include "health/cluster.h"

/* With one reference, the caller's. NULL when memory is out. */
struct topology *snapshot_take(struct cluster *const *clusters, size_t n,
                               uint64_t generation) MUST_CHECK;

/* Do the two differ in anything that routing uses? Generation and lag_bytes do not count:
 * is_lagging does. */
bool snapshot_differs(const struct topology *a, const struct topology *b);

#endif
