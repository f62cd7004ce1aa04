/* router/lease.h - a client of a pool has a server for as long as it needs one.
 *
 *   IDLE --> (QUEUED) --> LEASED --> IDLE      of a transaction, or of a session
 *
 * Messages pass in whole buffers; only their headers are looked at.
 *
 * Thread: the client's worker.
 */
#ifndef ROUTER_LEASE_H
#define ROUTER_LEASE_H

#include "router/client.h"

/* The client has logged in: it is told what a server has said of itself, as soon as one
 * has logged in, and is IDLE then. */
void lease_welcome(struct client *client);
/* Bytes have come from the client, in IDLE, QUEUED or LEASED. */
void lease_advance(struct client *client);
/* All that the client was sent has gone. */
void lease_read_on(struct client *client);
/* The client ends: what it has of a server, or waits for, goes back. */
void lease_drop(struct client *client);
/* A client that is QUEUED, or whose server is not ready for it yet, wants its query no
 * more: it is told so as by PostgreSQL. */
void lease_cancel(struct client *client);
/* Of a client with a message in `collected`, a Parse: it is dropped. Returns how many of
 * its bytes are still to come. */
uint32_t lease_skip_collected(struct client *client) MUST_CHECK;
/* query_wait_timeout is over. */
void lease_give_up(struct client *client);

/* What the worker's pools tell of clients that wait. */
extern const struct pools_events lease_pools_events;

#endif
