/* tests/unit/health/samples.h - samples as probes would make them, for the tests here. */
#ifndef TESTS_UNIT_HEALTH_SAMPLES_H
#define TESTS_UNIT_HEALTH_SAMPLES_H

#include <stdio.h>
#include <string.h>

#include "health/sample.h"

/* A running server of which Patroni says so. */
static inline struct sample sample_of_patroni(int status, enum node_role role,
                                              uint32_t timeline)
{
    return (struct sample){.source = SOURCE_PATRONI,
                           .outcome = SAMPLE_OK,
                           .round = 1,
                           .http_status = status,
                           .role = role,
                           .state = "running",
                           .holds_lock = status == 200,
                           .timeline = timeline,
                           .system_id = "77"};
}

static inline struct sample sample_of_primary(uint32_t timeline)
{
    return sample_of_patroni(200, NODE_PRIMARY, timeline);
}

static inline struct sample sample_of_replica(uint32_t timeline)
{
    return sample_of_patroni(503, NODE_REPLICA, timeline);
}

/* Patroni answers, the server is in another state. */
static inline struct sample sample_of_state(int status, const char *state)
{
    struct sample sample = {.source = SOURCE_PATRONI,
                            .outcome = SAMPLE_WRONG,
                            .round = 1,
                            .http_status = status,
                            .holds_lock = status == 200};

    snprintf(sample.state, sizeof sample.state, "%s", state);
    return sample;
}

static inline struct sample sample_of_silence(enum sample_outcome outcome)
{
    return (struct sample){.outcome = outcome, .round = 1, .said = "silence"};
}

static inline struct sample sample_of_sql(enum node_role role, uint32_t timeline,
                                          bool is_streaming)
{
    return (struct sample){.source = SOURCE_POSTGRES,
                           .outcome = SAMPLE_OK,
                           .round = 1,
                           .role = role,
                           .timeline = timeline,
                           .is_streaming = is_streaming,
                           .system_id = "77"};
}

#endif
