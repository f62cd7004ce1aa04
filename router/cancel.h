/* router/cancel.h - carries a cancel request to the node that it means.
 *
 * The request goes round all workers by message until one knows its key. When none does,
 * the session it means may be one whose key was hidden by TLS: then it goes to every
 * node on which the same client address has a session through the same listener.
 *
 * A request to a pool whose key no worker knows is passed on to the process of [peers]
 * that has made the key, as its layout says (pool/cancel_keys.h), but not for ever.
 *
 * Thread: the client's worker, and by message all others.
 */
#ifndef ROUTER_CANCEL_H
#define ROUTER_CANCEL_H

#include "router/client.h"

/* The client's inbox begins with a CancelRequest. */
void cancel_begin(struct client *client, const struct startup_packet *packet);
/* Gives the client a key of ours, with which it may have its query cancelled; its worker
 * knows it from now on. False when memory, or chance, is out. */
bool cancel_make_key(struct client *client, struct cancel_key *key) MUST_CHECK;
/* The client leaves while its server still works for it: a query that nobody waits for is
 * cancelled. */
void cancel_abandoned(struct client *client);
/* The client goes: its request is carried on, if it is under way. */
void cancel_forget_client(struct cancel_run *run);
/* The worker stops: requests that it is telling nodes of are let go. */
void cancel_stop(struct worker *worker);

#endif
