/* core/resolver.h - names to addresses, without blocking, by c-ares.
 *
 * A name stays watched while somebody watches it: it is looked up again when its TTL
 * (between the floor and the ceiling) has run out and whenever the watcher asks; the
 * last good answer is kept when a look-up fails. A numeric host is answered at once.
 *
 * Thread: one (control). Callbacks come from the loop, never from within a call.
 */
#ifndef CORE_RESOLVER_H
#define CORE_RESOLVER_H

#include <stdbool.h>
#include <stdint.h>

#include "core/address.h"
#include "core/loop.h"

#define RESOLVER_ADDRESSES_MAX 8

struct resolver;
struct resolver_watch;

struct resolver *resolver_new(struct loop *loop) MUST_CHECK;
/* Every watch must be gone. */
void resolver_free(struct resolver *resolver);
/* Bounds of the time after which a name is looked up again. */
void resolver_set_ttl(struct resolver *resolver, uint64_t min_ms, uint64_t max_ms);
/* Where the name servers stand and their port, from the next look-up on; until called
 * /etc/resolv.conf and 53. The file is read again when it changes. `path` is borrowed. */
void resolver_set_servers(struct resolver *resolver, const char *path, uint16_t port);

/* How many names are watched or looked up, and of how many the answer is awaited. */
void resolver_count(const struct resolver *resolver, unsigned *n_names,
                    unsigned *n_asking);

/* `on_change` is called with the first answer and whenever the addresses differ from
 * those before; n == 0 and `error` when the first look-up failed (ports are 0).
 * Watches of the same name share one look-up. NULL when memory is out. */
struct resolver_watch *resolver_watch(struct resolver *resolver, const char *host,
                                      void (*on_change)(void *arg,
                                                        const struct address *addresses,
                                                        size_t n, const char *error),
                                      void *arg) MUST_CHECK;
void resolver_unwatch(struct resolver_watch *watch);
/* The name may have moved: look it up now, or as soon as the last look-up is older than
 * the floor. */
void resolver_refresh(struct resolver_watch *watch);

#endif
