/* router/session.h - a client gets a server: waiting, connecting, login, relay.
 *
 * Thread: the client's worker.
 */
#ifndef ROUTER_SESSION_H
#define ROUTER_SESSION_H

#include "router/client.h"

/* The first packet is whole and the client has no server: chooses a node and connects, or
 * has the client wait. */
void session_begin(struct client *client);
/* Closes the client's server, if it has one (by RST if `reset`), and forgets its key. */
void session_drop_server(struct client *client, bool reset);
/* For a client in WAITING: is there a node now? */
void session_try_again(struct client *client);
/* The client has a server (which answered its request to encrypt with 'N') and has sent
 * another first packet. */
void session_send_first_packet(struct client *client);
/* Bytes have come from the client and are in its inbox, in NEGOTIATING or LOGIN. */
void session_pass_on(struct client *client);
/* All that the client was sent has gone: its server may go on, in NEGOTIATING or LOGIN.
 */
void session_read_on(struct client *client);
/* A new topology: may the client stay where it is? */
void session_reconsider(struct client *client);
/* A session is looked at now and then: is it idle for too long, has one of its ends
 * vanished? */
void session_look(struct client *client);

#endif
