/* router/login.h - a client of a pool proves who it is.
 *
 *   AuthenticationX -->
 *                       <-- password, SCRAM's messages
 *
 * Unknown users go through the same exchange as known ones, and fail at its end.
 *
 * Thread: the client's worker.
 */
#ifndef ROUTER_LOGIN_H
#define ROUTER_LOGIN_H

#include "router/client.h"

/* The client's inbox begins with a StartupMessage, and it has its place. */
void login_begin(struct client *client);
/* Bytes have come, in AUTH. */
void login_advance(struct client *client);
/* The client ends. */
void login_drop(struct client *client);

#endif
