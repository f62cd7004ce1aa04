/* core/mailbox.h - the only way from one thread into another's loop.
 *
 * A message is embedded in whatever it carries, and belongs to the receiver from the
 * moment it is posted. Messages of one sender arrive in the order of posting.
 */
#ifndef CORE_MAILBOX_H
#define CORE_MAILBOX_H

#include <stdbool.h>

#include "core/loop.h"

struct mailbox;

struct message {
    struct message *next;
    /* Runs on the receiver's thread. `receiver` is what mailbox_new() was given. */
    void (*deliver)(struct message *message, void *receiver);
};

/* Called on the loop's thread, or before that runs. NULL when memory is out. */
struct mailbox *mailbox_new(struct loop *loop, void *receiver) MUST_CHECK;
/* Must be empty, and nobody may post any more. NULL is fine. */
void mailbox_free(struct mailbox *mailbox);
/* Delivers some of what is in it; the loop does so by itself while it runs. True when
 * there was something. For the end, when the threads are gone and messages are still
 * under way. */
bool mailbox_drain(struct mailbox *mailbox);

/* Any thread. Never fails, never blocks for longer than a few instructions. */
void mailbox_post(struct mailbox *mailbox, struct message *message,
                  void (*deliver)(struct message *, void *));

#endif
