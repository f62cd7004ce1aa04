#include "health/probe.h"

void probe_ask(struct probe *probe, const struct question *question)
{
    REQUIRE(!probe->is_asked);
    probe->is_asked = true;
    probe->sample = (struct sample){0};
    probe->kind->ask(probe, question);
}

void probe_stop(struct probe *probe)
{
    if (probe == NULL)
        return;
    probe->is_asked = false;
    loop_undefer(probe->loop, &probe->answering);
    probe->kind->stop(probe);
}

void probe_free(struct probe *probe)
{
    if (probe == NULL)
        return;
    probe_stop(probe);
    probe->kind->free(probe);
}

void probe_answer(struct probe *probe)
{
    struct sample sample = probe->sample; /* on_sample may ask anew */

    REQUIRE(probe->is_asked);
    probe->is_asked = false;
    probe->on_sample(probe->arg, &sample);
}

static void answer_now(struct deferred *deferred)
{
    probe_answer(CONTAINER_OF(deferred, struct probe, answering));
}

void probe_answer_later(struct probe *probe)
{
    probe->answering.run = answer_now;
    loop_defer(probe->loop, &probe->answering);
}

void probe_fail(struct probe *probe, enum sample_outcome outcome, const char *said)
{
    probe->sample = (struct sample){.outcome = outcome};
    sample_copy_text(probe->sample.said, sizeof probe->sample.said, said);
}
