/* router/console/console.h - a client of the database "pgbouncer": it commands us.
 *
 * It is answered by control and by the workers, with questions that travel
 * (router/console/question.h); it has one under way at a time.
 *
 * Thread: the client's worker.
 */
#ifndef ROUTER_CONSOLE_CONSOLE_H
#define ROUTER_CONSOLE_CONSOLE_H

#include "router/client.h"

struct target;

/* The two names that mean the console; [databases] has no say in them. */
bool console_is_meant(const char *database);
/* The client has proven who it is: it is greeted, or refused. */
void console_begin(struct client *client, const struct target *target);
/* Bytes have come, in CONSOLE. */
void console_advance(struct client *client);
/* All that the client was sent has gone. */
void console_sent(struct client *client);
/* The client ends. */
void console_drop(struct client *client);

/* For views: as whom it came, and whether an answer is under way. */
const char *console_user(const struct client *client);
bool console_is_busy(const struct client *client);

#endif
