/* router/console/html.h - pieces of the page: texts, cells and numbers as HTML.
 *
 * Thread: any.
 */
#ifndef ROUTER_CONSOLE_HTML_H
#define ROUTER_CONSOLE_HTML_H

#include <stdint.h>

#include "core/text.h"

/* Names and answers come from files and peers: nothing of them is markup. */
void html_escape(struct text *out, const char *text);
/* The same between <td> and </td>. */
void html_cell(struct text *out, const char *text);
void html_number(struct text *out, uint64_t number); /* a cell, aligned to the right */
void html_bytes(struct text *out, uint64_t bytes);   /* likewise: "1.5 MB" */

/* As text, without markup: "1.5 MB"; "12 ms"; "3 d 4 h". */
void html_add_bytes(struct text *out, double bytes);
void html_add_microseconds(struct text *out, double us);
void html_add_seconds(struct text *out, uint64_t seconds);

#endif
