/* router/door.h - the sockets of a [listener], and what is counted at them.
 *
 * A door stays through reloads while its name does; what clients need of it is in
 * struct listener. Reloading is in two steps, so that it happens whole or not at all:
 * first every socket that is not open yet is opened, then the new set takes effect.
 *
 * Thread: control.
 */
#ifndef ROUTER_DOOR_H
#define ROUTER_DOOR_H

#include "core/loop.h"
#include "core/text.h"
#include "health/topology.h"
#include "router/admission.h"
#include "router/listener.h"

struct door;
struct doors;

struct doorway {
    struct link in_door;
    struct door *door;
    ev_io watcher;
    struct endpoint endpoint;
};

struct door {
    struct link in_doors;
    struct doors *doors;
    unsigned share; /* no other door's, while there are enough of them */
    struct gate gate;
    struct listener *listener; /* held; of the newest configuration */
    struct list doorways;
    bool is_disabled; /* by an operator: nobody is accepted until he says otherwise */
    bool is_shut;     /* no longer configured: here while clients hold its gate */
    uint64_t rate_second;
    unsigned n_this_second, n_last_second, n_most_in_a_second;
};

struct doors {
    struct loop *loop;
    struct list open;
    struct list shut;
    void (*on_client)(void *arg, struct door *door, int fd, const struct address *peer);
    void (*on_accept_failed)(void *arg, int error);
    void *arg;
    bool is_paused;
};

void doors_init(struct doors *doors, struct loop *loop,
                void (*on_client)(void *arg, struct door *door, int fd,
                                  const struct address *peer),
                void (*on_accept_failed)(void *arg, int error), void *arg);

/* Opens and shuts doors until they are those of `config`; whoever comes from now on is
 * encrypted as `security` says, which may be NULL. False and a line in `errors`
 * for each address that cannot be had: then nothing has changed. */
bool doors_configure(struct doors *doors, struct config *config,
                     struct security *security, struct text *errors) MUST_CHECK;
/* Stops and goes on accepting; the kernel keeps new connections meanwhile. */
void doors_pause(struct doors *doors);
void doors_resume(struct doors *doors);
/* The same of one door, at an operator's word, which stays through reloads. */
void door_disable(struct door *door);
void door_enable(struct door *door);
/* The open one of that name; NULL: there is none. */
struct door *doors_find(const struct doors *doors, const char *name);
/* Closes all sockets. Gates stay for those who are inside. */
void doors_shut(struct doors *doors);
/* Nobody holds a gate any more. */
void doors_clear(struct doors *doors);

/* Clients that came in the last full second. */
unsigned door_rate(const struct door *door, uint64_t now_ms);

#endif
