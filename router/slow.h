/* router/slow.h - queries that take longer than log_min_duration: one log line each.
 *
 * Thread: the client's worker.
 */
#ifndef ROUTER_SLOW_H
#define ROUTER_SLOW_H

#include "router/client.h"
#include "wire/message.h"

/* A Query, Parse or Bind is about to go to the client's server: the begin of its
 * statement is kept, for as long as terms.log_bytes says, unless another one's is. What
 * memory is out for has no text. */
void slow_note(struct client *client, const struct message_view *message);
/* A query of the client's has taken as long as this, which is too long. */
void slow_log(struct client *client, uint64_t took_ns);

#endif
