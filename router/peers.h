/* router/peers.h - where the processes of [peers] are: cancel requests whose keys they
 * have given out are passed on to them.
 *
 * Control watches their names; a worker that has such a request asks by message.
 *
 * Thread: control, but for the question, which is the asker's when it is not under way.
 */
#ifndef ROUTER_PEERS_H
#define ROUTER_PEERS_H

#include "config/config.h"
#include "core/mailbox.h"
#include "core/resolver.h"

/* As long as sun_path of unix(7). */
#define PEER_PATH_MAX 108

struct peer_place {
    struct address address;   /* AF_UNSPEC: it is not known, or there is a path */
    char path[PEER_PATH_MAX]; /* of its unix socket; "" = none */
};

/* From a worker to control, and back. */
struct peer_question {
    struct message message;
    unsigned id;
    struct mailbox *home;
    void (*on_answer)(struct message *message, void *worker);
    struct peer_place place; /* the answer */
    bool is_found;
};

struct peers;

/* NULL when memory is out. */
struct peers *peers_new(struct resolver *resolver) MUST_CHECK;
void peers_free(struct peers *peers); /* NULL is fine */
/* Those of a configuration, from now on; what is known of names goes on. False when
 * memory is out: some are not known then. */
bool peers_configure(struct peers *peers, const struct config *config) MUST_CHECK;
void peers_answer(struct peers *peers, struct peer_question *question);

#endif
