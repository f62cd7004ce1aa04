#include "core/ration.h"

#include <time.h>

void ration_spend(struct ration *ration, uint64_t used_ns)
{
    if (used_ns > RATION_SAVED_NS + RATION_DEBT_NS)
        used_ns = RATION_SAVED_NS + RATION_DEBT_NS;
    ration->saved_ns -= (int64_t)used_ns;
    if (ration->saved_ns < -RATION_DEBT_NS)
        ration->saved_ns = -RATION_DEBT_NS;
}

static void save(struct ration *ration, uint64_t now_ns)
{
    uint64_t more_ns = (now_ns - ration->looked_ns) / RATION_SHARE;

    if (more_ns > RATION_SAVED_NS + RATION_DEBT_NS || ration->looked_ns == 0)
        more_ns = RATION_SAVED_NS + RATION_DEBT_NS;
    ration->looked_ns = now_ns;
    ration->saved_ns += (int64_t)more_ns;
    if (ration->saved_ns > RATION_SAVED_NS)
        ration->saved_ns = RATION_SAVED_NS;
}

uint64_t ration_wait_ms(struct ration *ration, uint64_t now_ns)
{
    save(ration, now_ns);
    if (ration->saved_ns >= 0)
        return 0;
    return ((uint64_t)-ration->saved_ns * RATION_SHARE + 999999) / 1000000;
}

void ration_begin(struct ration *ration)
{
    ration->began_ns = ration_clock_ns();
}

void ration_end(struct ration *ration)
{
    ration_spend(ration, ration_clock_ns() - ration->began_ns);
}

uint64_t ration_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now); /* with this clock it cannot fail */
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
