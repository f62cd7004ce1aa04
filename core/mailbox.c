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

/* libev folds several wake-ups into one, so each one empties the queue. */
bool mailbox_drain(struct mailbox *mailbox)
{
    struct message *first, *message;

    pthread_mutex_lock(&mailbox->lock);
    first = message = mailbox->first;
    mailbox->first = mailbox->last = NULL;
    pthread_mutex_unlock(&mailbox->lock);

    while (message != NULL) {
        struct message *next = message->next;

        message->deliver(message, mailbox->receiver);
        message = next;
    }
    return first != NULL;
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
