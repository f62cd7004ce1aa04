/* router/console/api.h - /api/v1: what SHOW commands show, as JSON.
 *
 *   /api/v1           {"version": ..., "views": ["clusters", ...]}
 *   /api/v1/schema    a JSON Schema of all answers, made of columns.def
 *   /api/v1/pools     {"view": "pools", "rows": [{"database": "app", ...}, ...]}
 *
 * A column of text is a string, one of numbers a number, NULL is null. The rows come from
 * the desk, in pieces, as those of the console do.
 *
 * Pure but for the text's memory.
 */
#ifndef ROUTER_CONSOLE_API_H
#define ROUTER_CONSOLE_API_H

#include "router/console/command.h"
#include "router/console/row.h"

/* The command behind a name of api.def; COMMAND_UNKNOWN when there is none. */
enum command_name api_command(const char *name, size_t n);

/* An answer's begin, its rows in pieces, and its end. */
void api_begin(enum command_name command, struct text *out);
/* `rows` are whole DataRows of the command's view, their cells as text. */
void api_add_rows(enum command_name command, const struct text *rows, struct text *out);
void api_end(struct text *out);

void api_add_index(struct text *out);
void api_add_schema(struct text *out);

#endif
