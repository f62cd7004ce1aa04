/* router/console/people.h - SHOW CLIENTS and SHOW SERVERS: rows that workers write of
 * what they own, a piece at a time. */
#ifndef ROUTER_CONSOLE_PEOPLE_H
#define ROUTER_CONSOLE_PEOPLE_H

#include "router/console/question.h"

/* To the worker whose turn it is, by message. */
void people_ask(struct question *question, void (*on_answer)(struct message *, void *));

#endif
