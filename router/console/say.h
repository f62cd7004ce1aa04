/* router/console/say.h - what a client of the console is told: collected in a buffer, and
 * sent when that is full or say_flush() is called.
 *
 * All that return a bool say false when the client is gone, if only because memory is
 * out.
 *
 * Thread: the client's worker.
 */
#ifndef ROUTER_CONSOLE_SAY_H
#define ROUTER_CONSOLE_SAY_H

#include "router/client.h"
#include "router/console/command.h"

/* Room for any one thing that is said but for rows. */
#define REPLY_MAX 4096u

struct say {
    struct client *client;
    struct buffer *out; /* NULL: nothing waits to be sent */
};

void say_flush(struct say *say);
/* At most a buffer's bytes, and of any length. */
bool say_bytes(struct say *say, const void *bytes, size_t n) MUST_CHECK;
bool say_all(struct say *say, const char *bytes, size_t n) MUST_CHECK;
/* A message without a body. */
bool say_empty(struct say *say, char type);
/* CommandComplete, ReadyForQuery, ErrorResponse. */
bool say_tag(struct say *say, const char *tag);
bool say_ready(struct say *say);
bool say_error(struct say *say, const char *sqlstate, const char *text);
/* RowDescription, as row_describe(); NoData where there are no columns. */
bool say_columns(struct say *say, enum view_name view, uint64_t binary,
                 const char *name_of_first);

#endif
