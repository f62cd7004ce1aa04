/* health/probe_rest.c - asks a node's Patroni by HTTP. */
#include <stdio.h>

#include "core/memory.h"
#include "health/patroni.h"
#include "health/probe.h"

struct probe_rest {
    struct probe base;
    struct http *http;
    struct http_request *request; /* NULL unless one is under way */
    void (*read)(int status, const char *body, size_t length, struct sample *sample);
};

static enum sample_outcome outcome_of(enum http_outcome outcome)
{
    switch (outcome) {
    case HTTP_REFUSED:
        return SAMPLE_REFUSED;
    case HTTP_TIMEOUT:
        return SAMPLE_TIMEOUT;
    case HTTP_NOT_SENT:
        return SAMPLE_NOT_MADE;
    case HTTP_ANSWERED:
    case HTTP_FAILED:
        return SAMPLE_WRONG;
    }
    UNREACHABLE();
}

static void on_answer(void *arg, const struct http_answer *answer)
{
    struct probe_rest *rest = arg;
    struct probe *probe = &rest->base;

    rest->request = NULL;
    if (answer->outcome == HTTP_ANSWERED)
        rest->read(answer->status, answer->body, answer->length, &probe->sample);
    else
        probe_fail(probe, outcome_of(answer->outcome), answer->error);
    probe->sample.is_mute = answer->outcome == HTTP_TIMEOUT && answer->is_sent;
    probe->sample.duration_ms = answer->duration_ms;
    probe_answer(probe);
}

static void ask(struct probe *probe, const struct question *question)
{
    struct probe_rest *rest = (struct probe_rest *)probe;
    const struct http_call call = {.host = question->host,
                                   .address = &question->address,
                                   .path = question->path,
                                   .tls = question->tls,
                                   .timeout_ms = question->timeout_ms,
                                   .on_answer = on_answer,
                                   .arg = rest};

    rest->request = http_send(rest->http, &call);
    if (rest->request == NULL) {
        probe_fail(probe, SAMPLE_NOT_MADE, "out of memory");
        probe_answer_later(probe);
    }
}

static void stop(struct probe *probe)
{
    struct probe_rest *rest = (struct probe_rest *)probe;

    if (rest->request != NULL)
        http_cancel(rest->request);
    rest->request = NULL;
}

static void free_rest(struct probe *probe)
{
    memory_free(probe);
}

static const struct probe_kind rest_kind = {ask, stop, free_rest};

static struct probe *
new_with(struct loop *loop, struct http *http,
         void (*on_sample)(void *arg, const struct sample *sample), void *arg,
         void (*read)(int status, const char *body, size_t length, struct sample *sample))
{
    struct probe_rest *rest = memory_zeroed(sizeof *rest);

    if (rest == NULL)
        return NULL;
    rest->base = (struct probe){
        .kind = &rest_kind, .loop = loop, .on_sample = on_sample, .arg = arg};
    rest->http = http;
    rest->read = read;
    return &rest->base;
}

struct probe *probe_rest_new(struct loop *loop, struct http *http,
                             void (*on_sample)(void *arg, const struct sample *sample),
                             void *arg)
{
    return new_with(loop, http, on_sample, arg, patroni_read);
}

static void read_status(int status, const char *body, size_t length,
                        struct sample *sample)
{
    (void)body;
    (void)length;
    *sample = (struct sample){.source = SOURCE_PATRONI,
                              .outcome = status == 200 ? SAMPLE_OK : SAMPLE_WRONG,
                              .http_status = status};
    snprintf(sample->said, sizeof sample->said, "HTTP status %d", status);
}

struct probe *probe_uri_new(struct loop *loop, struct http *http,
                            void (*on_sample)(void *arg, const struct sample *sample),
                            void *arg)
{
    return new_with(loop, http, on_sample, arg, read_status);
}
