/* router/loss.h - a client of transaction or statement pooling whose server has ended.
 *
 *   LEASED ----> INQUIRING ----> IDLE            told what it has lost, or asked again
 *      |              '--------> REFUSING        the server's own word, and the end
 *      '------------------------> IDLE, REFUSING
 *
 * What became of its request says wire/ending.h. Where that was FATAL 57P01, the client
 * waits until it is known whether the node goes away (pool/pool_inquest.c): what an
 * administrator ends is not to be undone.
 *
 * A client that has lost a transaction is told so with SQLSTATE 40001, as the answer to
 * what it has asked or asks next, and is in a failed transaction then: the next server
 * that it gets is made to be in one, too, so that PostgreSQL itself has the last word.
 *
 * Thread: the client's worker.
 */
#ifndef ROUTER_LOSS_H
#define ROUTER_LOSS_H

#include "router/client.h"

/* The server, which is not the client's any more, was lost in the midst of something.
 * When this returns the client is IDLE and may go on (true), INQUIRING, or on its way
 * out. */
bool loss_begin(struct client *client, struct pooled *server, const char *why) MUST_CHECK;
/* The inquest is over; likewise. */
bool loss_end(struct client *client, bool goes_away) MUST_CHECK;
/* The client goes. */
void loss_drop(struct client *client);

/* Answers what an IDLE client says that is still to be told of its loss, or that was told
 * and skips up to Sync. False: it has more to say before it can go on, or is gone. */
bool loss_settle(struct client *client) MUST_CHECK;
/* Whether there is anything to settle. */
static inline bool loss_is_open(const struct client *client)
{
    return client->owes_loss || client->skips_to_sync;
}

#endif
