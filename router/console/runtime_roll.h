/* router/console/runtime_roll.h - "show sess": lines that each worker writes of its
 * clients, a piece at a time, so that nobody waits for thousands of them.
 *
 * Thread: whoever has the message; between two pieces it is home, on control.
 */
#ifndef ROUTER_CONSOLE_RUNTIME_ROLL_H
#define ROUTER_CONSOLE_RUNTIME_ROLL_H

#include "core/mailbox.h"
#include "core/text.h"

struct worker;

#define ROLL_BYTES_MAX (8u << 20)

/* Zeroed, but for the text and what the owner says. */
struct roll {
    struct message message;
    struct mailbox *home;
    void (*on_home)(struct message *message, void *control); /* when all have written */
    struct worker **workers;
    unsigned n_workers;
    struct text lines; /* ROLL_BYTES_MAX */
    unsigned worker;   /* whose turn it is */
    uint64_t id;       /* of its client that was written last */
};

void roll_begin(struct roll *roll);

#endif
