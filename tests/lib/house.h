/* tests/lib/house.h - workers in a test's own thread, with a scripted network around.
 *
 * The house plays control: it gives clients to workers, tells them of topologies, and
 * writes down what they tell. Loops turn only when the test turns them.
 */
#ifndef TESTS_LIB_HOUSE_H
#define TESTS_LIB_HOUSE_H

#include "router/worker.h"
#include "tests/lib/packets.h"
#include "tests/lib/script_net.h"

#define HOUSE_WORKERS_MAX 4
/* Where the nodes of map_new() stand: n1 at 5001, ... */
#define HOUSE_PORT(node) ((uint16_t)(5000 + (node)))

struct house {
    struct config *config;
    struct listener *listener; /* of the first [listener] */
    struct worker *workers[HOUSE_WORKERS_MAX];
    struct worker_pools shared;
    unsigned n_workers;
    struct loop *loop; /* control's */
    struct mailbox *mailbox;
    struct gate gate;
    struct log_limit refusals_logged;
    int log; /* what is logged goes there, and to nobody else; -1 = it does not */
    int stderr_before;

    /* What the workers have told. */
    unsigned n_gone;
    unsigned n_admissions_missed;
    unsigned n_evidence[EVIDENCE_KIND_COUNT];
    uint32_t evidence_node;
    unsigned n_waiting; /* the last that was told */
    struct gather *gathered;
};

/* A client at the door. */
struct visitor {
    struct script_peer peer;
    struct ticket ticket;
    struct house *house;
    bool is_gone;
};

/* Nodes of the cluster "main" and one listener "rw"; `listener_ini` are more lines of the
 * latter, `ini` of the section before the cluster. */
void house_open(struct house *house, unsigned n_workers, const char *ini,
                const char *listener_ini);
void house_close(struct house *house);
/* From now on nothing is printed, and house_logged() finds it. */
void house_capture_log(struct house *house);
/* Whether a line with these words was logged. */
bool house_logged(const struct house *house, const char *words);

/* Tells every worker; the house holds it no longer. */
void house_tell(struct house *house, struct topology *topology);
/* A client of 10.0.0.1 for the worker, admitted or in line; its peer takes whatever
 * comes unless its window was set before. */
void house_visit(struct house *house, unsigned worker, struct visitor *visitor,
                 bool is_admitted);
void house_admit(struct visitor *visitor);
void house_turn(struct house *house, unsigned n);
/* Turns until `*done`, at most so long; whether it is. */
bool house_turn_until(struct house *house, const bool *done, unsigned limit_ms);

/* NULL once it is gone. */
static inline struct client *visitor_client(const struct visitor *visitor)
{
    return visitor->ticket.client;
}

/* The worker's count for the listener and node; an empty one where there is none. */
struct tally house_tally(const struct house *house, unsigned worker, uint32_t node_id);

/* What the peer has heard is exactly this, or begins so. */
bool heard(const struct script_peer *peer, const void *bytes, size_t n);
bool heard_packet(const struct script_peer *peer, const struct packet *packet);
/* It has heard one ErrorResponse and nothing else, with this code. */
bool heard_error(const struct script_peer *peer, const char *sqlstate);

#endif
