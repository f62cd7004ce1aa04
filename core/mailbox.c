#include "core/mailbox.h"

#include <pthread.h>

#include "core/memory.h"

struct mailbox {
    pthread_mutex_t lock;
    struct message *first; /* guarded by lock, as is last */
    struct message *last;
    struct loop *loop;
    void *receiver;
    ev_async wake;
};

/* Delivered in one go: others wait in the loop too. */
#define MESSAGES_PER_ITERATION 64

static struct message *take_first(struct mailbox *mailbox)
{
    struct message *message;

    pthread_mutex_lock(&mailbox->lock);
    message = mailbox->first;
    if (message != NULL)
        mailbox->first = message->next;
    if (mailbox->first == NULL)
        mailbox->last = NULL;
    pthread_mutex_unlock(&mailbox->lock);
    return message;
}

bool mailbox_drain(struct mailbox *mailbox)
{
    struct message *message;
    unsigned n = 0;

    while (n < MESSAGES_PER_ITERATION && (message = take_first(mailbox)) != NULL) {
        message->deliver(message, mailbox->receiver);
        n++;
    }
    /* libev folds several wake-ups into one, so who leaves some behind wakes itself. */
    if (n == MESSAGES_PER_ITERATION)
        ev_async_send(mailbox->loop->ev, &mailbox->wake);
    return n > 0;
}

static void on_wake(struct ev_loop *ev, ev_async *wake, int events)
{
    (void)ev;
    (void)events;
    mailbox_drain(CONTAINER_OF(wake, struct mailbox, wake));
}

struct mailbox *mailbox_new(struct loop *loop, void *receiver)
{
    struct mailbox *mailbox = memory_zeroed(sizeof *mailbox);

    if (mailbox == NULL)
        return NULL;
    pthread_mutex_init(&mailbox->lock, NULL);
    mailbox->loop = loop;
    mailbox->receiver = receiver;
    ev_async_init(&mailbox->wake, on_wake);
    ev_async_start(loop->ev, &mailbox->wake);
    return mailbox;
}

void mailbox_free(struct mailbox *mailbox)
{
    if (mailbox == NULL)
        return;
    REQUIRE(mailbox->first == NULL);
    ev_async_stop(mailbox->loop->ev, &mailbox->wake);
    pthread_mutex_destroy(&mailbox->lock);
    memory_free(mailbox);
}

void mailbox_post(struct mailbox *mailbox, struct message *message,
                  void (*deliver)(struct message *, void *))
{
    message->deliver = deliver;
    message->next = NULL;
    pthread_mutex_lock(&mailbox->lock);
    if (mailbox->last != NULL)
        mailbox->last->next = message;
    else
        mailbox->first = message;
    mailbox->last = message;
    pthread_mutex_unlock(&mailbox->lock);
    ev_async_send(mailbox->loop->ev, &mailbox->wake);
}
