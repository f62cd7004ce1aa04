/* router/gather.h - one message that goes round all workers and brings their counts.
 *
 * Made by control for a page; each worker adds what it has and passes it on to the next,
 * the last one back to control.
 */
#ifndef ROUTER_GATHER_H
#define ROUTER_GATHER_H

#include "core/list.h"
#include "core/mailbox.h"
#include "router/close_reason.h"

/* More workers than config/keys.def allows cannot be. */
#define GATHER_WORKERS_MAX 64

struct pages;
struct sums;

/* What each worker does with its tallies before it adds them. */
enum gather_reset { RESET_NOTHING, RESET_MAXIMA, RESET_ALL };

struct gather {
    struct message message;
    enum gather_reset reset;
    struct list tallies; /* sums */
    struct sums *sums;   /* of the pools; NULL: they are not wanted */
    struct {
        uint64_t n_clients;
        uint64_t n_clients_total;
        double longest_iteration_ms;
    } workers[GATHER_WORKERS_MAX];
    unsigned n_workers;
    uint64_t n_closed[CLOSE_REASON_COUNT]; /* clients, of all workers */
    bool is_incomplete;                    /* memory was out somewhere */
    uint64_t used_ns;                      /* of workers' time on processors */
    struct mailbox *home;
    struct pages *pages; /* who asked */
    void (*on_home)(struct message *message, void *control);
};

#endif
