/* router/startup.h - a client's first packet: read, told apart, sent where it belongs. */
#ifndef ROUTER_STARTUP_H
#define ROUTER_STARTUP_H

#include "router/client.h"

/* In STARTUP: looks at the inbox; once the packet is whole the state changes. */
void startup_advance(struct client *client);
/* In PROXIED, when bytes have come: the client may be gone after it. */
void startup_read_proxy(struct client *client);
/* In SECURING: the handshake is done, and the first packet comes inside of it. */
void startup_go_on(struct client *client);

#endif
