/* tests/threads/control.h - workers with threads of their own, and control's side of the
 * messages as router/control.c has it: the caller's thread is control's.
 */
#ifndef TESTS_THREADS_CONTROL_H
#define TESTS_THREADS_CONTROL_H

#include "router/worker.h"

#define WORKERS 4

struct control {
    struct loop *loop;
    struct mailbox *mailbox;
    struct config *config;
    struct listener *listener;
    struct admission admission;
    struct gate gate;
    struct worker *workers[WORKERS];
    struct worker_pools shared;
    unsigned n_present;
    unsigned n_tickets; /* that are not freed yet */
    unsigned n_missed;  /* admissions that came too late */
    void (*on_gone)(struct control *control);
};

/* `listener_ini` are more lines of the listener's section. */
void control_open(struct control *control, const char *listener_ini);
/* Takes the descriptor. */
void control_give(struct control *control, int fd, unsigned worker);
/* To all workers; it is released. */
void control_tell(struct control *control, struct topology *topology);
/* Stops and joins the workers, settles what is under way; looks that nothing is left. */
void control_close(struct control *control);

#endif
