/* router/console/page.h - the page for people: readable without JavaScript, loading
 * nothing from elsewhere, kept as things are by a stream of its sections where there is
 * some.
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_PAGE_H
#define ROUTER_CONSOLE_PAGE_H

#include "core/text.h"
#include "router/console/overview.h"

#define PAGE_SECTIONS 8u

/* Browsers without JavaScript load it anew every `refresh_s`; with 0 they do not, and
 * others keep it as it is. */
void page_add(const struct overview *overview, struct text *out);
/* The content of one of its sections, which stands in the element of that id. */
const char *page_section_id(unsigned i);
void page_add_section(const struct overview *overview, unsigned i, struct text *out);

#endif
