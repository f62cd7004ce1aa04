/* router/console/question.h - a command of the console on its way, and what is answered.
 *
 *   worker:  a client's command --> control, or the worker whose rows are wanted
 *   there:   `rows` is filled   --> home, which sends them on
 *   worker:  the client has read all of it: the same way again, unless `is_last`
 *
 * One for each client of the console; it belongs to whom it was posted to.
 */
#ifndef ROUTER_CONSOLE_QUESTION_H
#define ROUTER_CONSOLE_QUESTION_H

#include "core/mailbox.h"
#include "core/text.h"
#include "router/console/command.h"

/* A piece of an answer. */
#define QUESTION_ROWS_MAX 65536u

struct worker;
struct client;
struct snapshot;

struct question {
    struct message message;
    struct worker *home;   /* NULL: control asks by itself */
    struct mailbox *asker; /* then: where the answer goes */
    struct client *client; /* the home's; NULL: it has gone */
    bool client_is_gone;   /* for control: nobody wants the rest, all is to be freed */
    enum command_name command;
    struct switchover_order order; /* of SWITCHOVER and RESET CLUSTER */
    char operand[NODE_NAME_MAX];   /* of PAUSE and those like it */
    char user[64];                 /* who asks, for logs; cut */
    uint64_t binary;               /* columns that are wanted so */
    /* The answer: whole DataRows, as many as have room. */
    struct text rows;
    bool is_last;
    const char *sqlstate; /* NULL: no error */
    uint64_t used_ns;     /* of threads' time, for these rows */
    char why[512];
    /* Where to go on. */
    struct {
        unsigned worker;
        uint32_t pool;
        uint64_t id; /* the last that was shown */
    } at;
    void (*on_answer)(struct message *message, void *home);
    struct snapshot *snapshot; /* control's, while there are more rows of it */
};

#endif
