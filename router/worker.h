/* router/worker.h - a thread that carries clients.
 *
 * What it owns, nobody else touches: its loop, clients, servers, cancel keys, tallies. It
 * learns of the world by messages from control, and tells it of evidence, of clients that
 * are gone and of its counts by messages too.
 *
 * Thread: worker_new(), worker_start(), worker_stop() and worker_free() on control, with
 * the messages; everything else on the worker's own.
 */
#ifndef ROUTER_WORKER_H
#define ROUTER_WORKER_H

#include <pthread.h>

#include "core/log.h"
#include "core/mailbox.h"
#include "core/slab.h"
#include "health/monitor.h"
#include "health/topology.h"
#include "pool/cancel_keys.h"
#include "router/client.h"
#include "router/gather.h"

/* What workers send to control; implemented by control, posted to its mailbox. */
struct evidence_message {
    struct message message;
    uint32_t node_id;
    enum evidence evidence;
};

/* How many of a worker's clients wait for a node of a cluster. */
struct waiting_message {
    struct message message;
    unsigned worker;
    unsigned n_waiting;
    char cluster[LISTENER_NAME_MAX];
};

/* Of its clients, while a primary changes. */
struct hold_message {
    struct message message;
    unsigned worker;
    struct hold_news news;
};

/* Where a worker's messages to control go, and what happens to them there. */
struct control_door {
    struct mailbox *mailbox;
    struct log_limit *refusals_logged; /* of all workers together */
    struct log_limit *slow_logged;     /* likewise: slow queries */
    void (*on_client_gone)(struct message *message, void *control);
    void (*on_admission_missed)(struct message *message, void *control);
    void (*on_evidence)(struct message *message, void *control);
    void (*on_waiting)(struct message *message, void *control);
    void (*on_hold)(struct message *message, void *control);
    void (*on_console)(struct message *message, void *control);
    void (*on_question)(struct message *message, void *control);
    void (*on_peer_wanted)(struct message *message, void *control);
};

/* What all workers' pools share. */
struct worker_pools {
    struct ledger *ledger;
    struct accounts *accounts;
    struct statement_texts *texts;
    struct pools **all; /* by worker */
};

/* False when memory is out; to be closed in any case. */
bool worker_pools_open(struct worker_pools *shared, unsigned n_workers) MUST_CHECK;
/* When all workers are freed. */
void worker_pools_close(struct worker_pools *shared);

struct worker {
    const struct worker_pools *shared;
    unsigned number; /* from 0 */
    unsigned n_workers;
    struct worker **workers; /* all of them, for messages to each other */
    struct control_door control;
    pthread_t thread;
    struct loop *loop;
    struct mailbox *mailbox;
    struct topology *topology; /* held */
    struct config *config;     /* held; the newest */
    struct slab *client_slab;
    struct slab *server_slab;
    struct pools pools;
    struct message_rules client_rules; /* of clients that have logged in */
    struct message_rules login_rules;
    struct cancel_keys *cancel_keys;
    struct cancel_rates
        *cancel_rates; /* of all workers' clients: only worker 0 has them */
    struct list clients;
    struct list cancel_runs;
    struct list line; /* of clients in WAITING, first come first */
    struct list tallies;
    struct pool_counts console_counts;
    unsigned n_consoles;
    ev_timer retry; /* runs while somebody waits */
    ev_timer
        reconsider; /* runs while clients have not been judged by the newest topology */
    uint64_t evidence_at_ms;
    uint32_t evidence_node;
    uint32_t random;
    uint64_t n_clients_total;
    uint64_t n_closed[CLOSE_REASON_COUNT]; /* clients */
    struct message stop;
    bool is_stopping;
    bool is_ending; /* clients without a server are sent away */
};

/* NULL when memory or descriptors are out. */
struct worker *worker_new(unsigned number, unsigned n_workers, struct worker **workers,
                          const struct worker_pools *shared,
                          const struct control_door *control,
                          struct config *config) MUST_CHECK;
bool worker_start(struct worker *worker) MUST_CHECK;
/* Waits for the thread, which ends after worker_post_stop(). */
void worker_join(struct worker *worker);
/* Delivers what is under way to it, when its thread has ended; whether there was any. */
bool worker_drain(struct worker *worker);
/* Its thread has ended, and no message is under way to it. NULL is fine. */
void worker_free(struct worker *worker);

/* From control, to the worker's mailbox. */
void worker_post_arrival(struct worker *worker, struct ticket *ticket);
void worker_post_admission(struct worker *worker, struct ticket *ticket);
/* The message's memory is made here; false when there is none (the worker goes on with
 * what it has, and the next one supersedes this). */
bool worker_post_topology(struct worker *worker, struct topology *topology) MUST_CHECK;
/* The same. */
bool worker_post_settings(struct worker *worker, struct config *config,
                          struct security *security) MUST_CHECK;
/* Clients without a server are sent away; sessions go on. */
bool worker_post_end_waiting(struct worker *worker) MUST_CHECK;
/* Every client is sent away, then the thread ends. */
void worker_post_stop(struct worker *worker);
/* Goes round all workers, beginning with this one, and then home. */
void worker_post_gather(struct worker *worker, struct gather *gather);

/* On the worker's thread. */
void worker_evidence(struct worker *worker, uint32_t node_id, enum evidence evidence);
void worker_tell_of_hold(struct worker *worker, const struct hold_news *told);
/* Of the worker's clients the one with the next higher id; NULL: there is none. The list
 * may be turned round, and has them in the order of their ids otherwise. */
struct link *worker_next_client(const struct list *clients, uint64_t after_id);
/* Puts a client into the line and sees to it that it is asked again. */
void worker_wait(struct worker *worker, struct client *client);
void worker_stop_waiting(struct worker *worker, struct client *client);

#endif
