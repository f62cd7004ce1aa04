/* health/inquiry.h - one check of one node, over all its addresses.
 *
 * It asks at the address that answered last, and at the next one when there is no
 * connection. With a substitute (PostgreSQL beside Patroni) that one is asked when the
 * first makes no sense or none at all. The result is one sample.
 *
 * Thread: control only.
 */
#ifndef HEALTH_INQUIRY_H
#define HEALTH_INQUIRY_H

#include "health/probe.h"

/* What to ask, and where. Borrowed while the inquiry runs. */
struct inquiry_plan {
    const struct address *addresses;
    size_t n_addresses; /* at least 1 */
    uint16_t port, substitute_port;
    struct question question; /* all but the address */
    uint32_t substitute_ms;   /* the substitute's time, 0 = as much as the first has */
};

struct inquiry {
    struct loop *loop;
    struct probe *first;
    struct probe *substitute; /* NULL = none */
    void (*on_result)(void *arg, const struct sample *sample);
    void *arg;

    const struct inquiry_plan *plan; /* NULL unless it runs */
    struct sample first_sample;      /* without sense, while the substitute is asked */
    bool asks_substitute;
    size_t at;      /* index of the address that is asked, or that answered last */
    size_t n_tried; /* addresses */
    uint64_t began_ms;
};

/* The callback of the inquiry's probes; their argument is the inquiry. */
void inquiry_on_sample(void *arg, const struct sample *sample);
/* `on_result` comes once, from the loop. Not while it runs. */
void inquiry_start(struct inquiry *inquiry, const struct inquiry_plan *plan);
bool inquiry_is_running(const struct inquiry *inquiry);
/* No result will come; kept connections are closed. */
void inquiry_stop(struct inquiry *inquiry);
/* Frees the probes, too. A zeroed one is fine. */
void inquiry_clear(struct inquiry *inquiry);

#endif
