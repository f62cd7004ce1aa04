/* router/console/offer.h - /primary and /replica: whether new clients are led to such a
 * node, for balancers in front of several pgrouters. Pure. */
#ifndef ROUTER_CONSOLE_OFFER_H
#define ROUTER_CONSOLE_OFFER_H

#include "config/config.h"
#include "health/topology.h"

/* 200 = there is one in every cluster, or in the one that the target names
 * ("...?cluster=main"); 503 = there is none; 404 = there is no such cluster. */
unsigned offer_status(const struct topology *topology, const char *target,
                      enum listener_role role);
/* In words. */
const char *offer_text(unsigned status);

#endif
