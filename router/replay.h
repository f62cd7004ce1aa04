/* router/replay.h - may a request of a client's be sent once more, when it has provably
 * left nothing behind?
 *
 * One Query with one statement, or one Parse, Bind, Describe, Execute of all rows and
 * Sync, some of which may be missing; its statement begins with one of the words of
 * SQL_PLAIN. In doubt: no.
 *
 * Thread: the client's worker.
 */
#ifndef ROUTER_REPLAY_H
#define ROUTER_REPLAY_H

#include "router/client.h"

/* Of what is kept, which is all of the request. */
bool replay_is_allowed(const struct client *client,
                       const struct buffer_keep *request) MUST_CHECK;
/* What the request has prepared, and was told to have, is to be prepared once more. */
void replay_forget(struct client *client, const struct buffer_keep *request);

#endif
