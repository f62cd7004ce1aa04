#include "health/inquiry.h"

#include <stdio.h>

/* Asks at the present address with what is left of the time. */
static void ask(struct inquiry *inquiry)
{
    const struct inquiry_plan *plan = inquiry->plan;
    struct probe *probe = inquiry->asks_substitute ? inquiry->substitute : inquiry->first;
    struct question question = plan->question;
    uint64_t spent_ms = loop_now_ms(inquiry->loop) - inquiry->began_ms;

    if (inquiry->asks_substitute && plan->substitute_ms != 0)
        question.timeout_ms = plan->substitute_ms;
    question.address = plan->addresses[inquiry->at];
    address_set_port(&question.address,
                     inquiry->asks_substitute ? plan->substitute_port : plan->port);
    question.timeout_ms =
        spent_ms < question.timeout_ms ? question.timeout_ms - (uint32_t)spent_ms : 1;
    probe_ask(probe, &question);
}

static void begin(struct inquiry *inquiry, bool asks_substitute)
{
    inquiry->asks_substitute = asks_substitute;
    inquiry->began_ms = loop_now_ms(inquiry->loop);
    inquiry->n_tried = 1;
    ask(inquiry);
}

static void finish(struct inquiry *inquiry, const struct sample *sample)
{
    inquiry->plan = NULL;
    inquiry->on_result(inquiry->arg, sample);
}

static void finish_with_both(struct inquiry *inquiry, const struct sample *substitute)
{
    struct sample sample = *substitute;

    sample.http_status = inquiry->first_sample.http_status;
    sample.duration_ms += inquiry->first_sample.duration_ms;
    snprintf(sample.said, sizeof sample.said, "Patroni: %.55s; %.60s",
             inquiry->first_sample.said, substitute->said);
    finish(inquiry, &sample);
}

/* The kernel accepts connections for a machine's frozen processes, too: where Patroni's
 * is there and nobody speaks, that of PostgreSQL tells nothing. */
static bool is_of_use(const struct inquiry *inquiry, const struct sample *substitute)
{
    return substitute->source != SOURCE_NOBODY &&
           !(inquiry->first_sample.is_mute && substitute->source == SOURCE_TCP);
}

void inquiry_on_sample(void *arg, const struct sample *sample)
{
    struct inquiry *inquiry = arg;
    bool was_substitute = inquiry->asks_substitute;

    if (sample->outcome == SAMPLE_REFUSED || sample->outcome == SAMPLE_TIMEOUT) {
        inquiry->at = (inquiry->at + 1) % inquiry->plan->n_addresses;
        if (sample->outcome == SAMPLE_REFUSED &&
            inquiry->n_tried < inquiry->plan->n_addresses) {
            inquiry->n_tried++;
            ask(inquiry);
            return;
        }
    }
    if (was_substitute && is_of_use(inquiry, sample)) {
        finish_with_both(inquiry, sample);
    } else if (was_substitute) {
        finish(inquiry, &inquiry->first_sample);
    } else if (sample->source == SOURCE_NOBODY && sample->outcome != SAMPLE_NOT_MADE &&
               inquiry->substitute != NULL) {
        inquiry->first_sample = *sample;
        begin(inquiry, true);
    } else {
        if (sample->source != SOURCE_NOBODY)
            probe_stop(inquiry->substitute); /* its connection is not needed */
        finish(inquiry, sample);
    }
}

void inquiry_start(struct inquiry *inquiry, const struct inquiry_plan *plan)
{
    REQUIRE(inquiry->plan == NULL && plan->n_addresses > 0);
    inquiry->plan = plan;
    if (inquiry->at >= plan->n_addresses)
        inquiry->at = 0;
    begin(inquiry, false);
}

bool inquiry_is_running(const struct inquiry *inquiry)
{
    return inquiry->plan != NULL;
}

void inquiry_stop(struct inquiry *inquiry)
{
    probe_stop(inquiry->first);
    probe_stop(inquiry->substitute);
    inquiry->plan = NULL;
}

void inquiry_clear(struct inquiry *inquiry)
{
    probe_free(inquiry->first);
    probe_free(inquiry->substitute);
    *inquiry = (struct inquiry){0};
}
