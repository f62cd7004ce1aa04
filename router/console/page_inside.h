/* router/console/page_inside.h - the sections of the page, each in a file of its own.
 *
 * A section is an element with an id, whose content is written anew as a whole.
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_PAGE_INSIDE_H
#define ROUTER_CONSOLE_PAGE_INSIDE_H

#include "router/console/html.h"
#include "router/console/overview.h"

void page_add_summary(const struct overview *overview, struct text *out);
void page_add_clusters(const struct overview *overview, struct text *out);
/* Not kept as things are: only for those who may act, once. */
void page_add_forms(const struct overview *overview, struct text *out);
void page_add_pools(const struct overview *overview, struct text *out);
void page_add_traffic(const struct overview *overview, struct text *out);
void page_add_switchovers(const struct overview *overview, struct text *out);
void page_add_events(const struct overview *overview, struct text *out);
void page_add_proxies(const struct overview *overview, struct text *out);
void page_add_threads(const struct overview *overview, struct text *out);

#endif
