/* router/startup.h - a client's first packet: read, told apart, sent where it belongs. */
#ifndef ROUTER_STARTUP_H
#define ROUTER_STARTUP_H

#include "router/client.h"

/* In STARTUP: looks at the inbox; once the packet is whole the state changes. */
void startup_advance(struct client *client);

#endif
