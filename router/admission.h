/* router/admission.h - who may come in: max_client_conn and maxconn, exact over all
 * workers.
 *
 * Control accepts every connection and writes a ticket for it. A ticket is admitted while
 * there is a place, else it stands in one line for all listeners, first come, first
 * served (a listener that is full does not hold up the others). The worker that has the
 * client reads its first packet meanwhile, so that a refusal can be worded.
 *
 * Thread: control, but for the members that are marked as the workers'.
 */
#ifndef ROUTER_ADMISSION_H
#define ROUTER_ADMISSION_H

#include <stdatomic.h>
#include <stdbool.h>

#include "core/address.h"
#include "core/list.h"
#include "core/mailbox.h"

struct client;
struct listener;

/* What is counted for one listener, across reloads. */
struct gate {
    unsigned max; /* 0 = no limit */
    unsigned n_admitted;
    unsigned n_present; /* admitted and in line */
    unsigned n_present_max;
    uint64_t n_total;
    /* Kept by all workers together. */
    atomic_uint n_sessions;
    atomic_uint n_waiting;
};

/* There is one for each client, and most are idle: what is not needed at the same time
 * shares its place. */
struct ticket {
    union {
        struct message arrival; /* to the worker: here is a client */
        struct message end;     /* then, to control: the client is gone */
    };
    union {
        struct link in_line;      /* until it is admitted */
        struct message admission; /* then, to the worker: it has a place now; back if it
                                     is gone */
        struct message console;   /* then, to control: it commands us, and does not count
                                     as one whom a shutdown waits for */
    };
    struct gate *gate;
    struct listener *listener; /* held by the ticket until the worker takes it over */
    const char *full;          /* the setting that had no place for it when it came */
    unsigned worker;
    int fd;
    struct address peer;
    bool is_admitted;
    /* The worker's. */
    bool knows_admission;
    bool is_console;       /* before `console` is sent */
    struct client *client; /* NULL once it is gone */
};

struct admission {
    unsigned max; /* of all gates together */
    unsigned n_admitted;
    struct list line;
};

void admission_init(struct admission *admission);

/* A new client: admits it if there is a place, else it goes to the end of the line. */
void admission_enter(struct admission *admission, struct ticket *ticket);
/* The client has left; the ticket is counted no more. */
void admission_leave(struct admission *admission, struct ticket *ticket);
/* The next ticket in line that can be admitted now, and is; NULL when there is none. To
 * be asked again until it says NULL after a client has left or a limit was raised. */
struct ticket *admission_next(struct admission *admission);

#endif
