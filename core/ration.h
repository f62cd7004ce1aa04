/* core/ration.h - the share of a thread's time that is for those who look on: pages,
 * tables, metrics. However many ask for them, the rest stays for those who work.
 *
 * Time is the thread's own on a CPU. What was not used is kept up to RATION_SAVED_NS, so
 * that nobody waits who looks now and then; what was used beyond that is a debt, and more
 * is begun only when it is paid.
 */
#ifndef CORE_RATION_H
#define CORE_RATION_H

#include <stdint.h>

/* One part of so many. */
#define RATION_SHARE 64
#define RATION_SAVED_NS 100000000
/* At most. What is beyond is forgiven, so that a single long piece shuts nobody out for
 * longer than 0.8 s. */
#define RATION_DEBT_NS 12500000

/* A zeroed one has saved all that it can. Thread: its own. */
struct ration {
    uint64_t looked_ns; /* at the clock, 0 = never */
    int64_t saved_ns;   /* below 0: the debt */
    uint64_t began_ns;  /* of ration_begin() */
};

/* Until something may be begun, rounded up; 0 = now. `now_ns`: monotonic. */
uint64_t ration_wait_ms(struct ration *ration, uint64_t now_ns);
void ration_spend(struct ration *ration, uint64_t used_ns);

/* What the thread does between them is spent. They do not nest. */
void ration_begin(struct ration *ration);
void ration_end(struct ration *ration);

/* The thread's time on a CPU until now. */
uint64_t ration_clock_ns(void);

#endif
