/* health/probe.h - one question to one node at one address, and its answer as a sample.
 *
 * A probe is asked again and again; between two questions the SQL probe keeps its
 * connection. Its answer comes once per question, from the loop, never from within
 * probe_ask(), and at the latest when the question's time is over.
 *
 * Thread: control only.
 */
#ifndef HEALTH_PROBE_H
#define HEALTH_PROBE_H

#include "core/http.h"
#include "core/loop.h"
#include "health/sample.h"

/* Strings are borrowed until the answer. */
struct question {
    struct address address; /* with the port to ask at */
    uint32_t timeout_ms;
    const char *host;        /* REST: for the Host header */
    const char *path;        /* REST: "/primary", ... */
    struct tls_context *tls; /* REST: as in struct http_call */
    const char *user;        /* SQL, and the next two */
    const char *password;
    const char *dbname;
};

struct probe;

struct probe_kind {
    void (*ask)(struct probe *probe, const struct question *question);
    void (*stop)(struct probe *probe); /* forgets the question, closes all */
    void (*free)(struct probe *probe); /* stopped before */
};

/* The part that all kinds share; embedded first. */
struct probe {
    const struct probe_kind *kind;
    struct loop *loop;
    void (*on_sample)(void *arg, const struct sample *sample);
    void *arg;
    bool is_asked;
    struct sample sample; /* in the making */
    struct deferred answering;
};

/* GET /primary, read by patroni.h. NULL when memory is out, for all kinds. */
struct probe *probe_rest_new(struct loop *loop, struct http *http,
                             void (*on_sample)(void *arg, const struct sample *sample),
                             void *arg) MUST_CHECK;
/* GET of a path whose status is all that counts: SAMPLE_OK for 200. */
struct probe *probe_uri_new(struct loop *loop, struct http *http,
                            void (*on_sample)(void *arg, const struct sample *sample),
                            void *arg) MUST_CHECK;
/* A step of a login may take milliseconds (libpq hashes the password thousands of times):
 * the probes of one loop share this, so that no iteration has two of them. Zeroed at
 * first. */
struct sql_turn {
    uint64_t taken_ns; /* the iteration that had its step last */
};

/* Logs in and asks for role, timeline and locations. The connection is kept. `turn` is
 * borrowed. */
struct probe *probe_sql_new(struct loop *loop, struct sql_turn *turn,
                            void (*on_sample)(void *arg, const struct sample *sample),
                            void *arg) MUST_CHECK;
/* Connects and closes. */
struct probe *probe_tcp_new(struct loop *loop,
                            void (*on_sample)(void *arg, const struct sample *sample),
                            void *arg) MUST_CHECK;

/* `on_sample` may ask anew, stop, and free other probes. Not while a question is open. */
void probe_ask(struct probe *probe, const struct question *question);
/* Forgets an open question and closes a kept connection. NULL is fine. */
void probe_stop(struct probe *probe);
void probe_free(struct probe *probe); /* NULL is fine; not from within its on_sample */

/* For the kinds: hands out probe->sample, now (from the loop) or after the iteration. */
void probe_answer(struct probe *probe);
void probe_answer_later(struct probe *probe);
/* Makes the sample a failure, in words. */
void probe_fail(struct probe *probe, enum sample_outcome outcome, const char *said);

#endif
