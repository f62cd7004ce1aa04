#include "health/inquiry.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/loop_until.h"

/* A probe that answers from a list, and notes where it was asked. */
struct scripted {
    struct probe base;
    struct sample answers[8];
    size_t n_answers, n_asked;
    struct question asked[8];
    unsigned n_stopped;
    bool hangs;
};

static struct loop *loop;
static struct inquiry inquiry;
static struct scripted *first, *substitute;
static struct address addresses[3];
static struct inquiry_plan plan;
static struct sample got;
static bool has_come;

static void scripted_ask(struct probe *probe, const struct question *question)
{
    struct scripted *self = (struct scripted *)probe;

    cr_assert_lt(self->n_asked, COUNT_OF(self->asked));
    self->asked[self->n_asked] = *question;
    if (self->hangs)
        return;
    cr_assert_lt(self->n_asked, self->n_answers, "asked too often");
    probe->sample = self->answers[self->n_asked++];
    probe_answer_later(probe);
}

static void scripted_stop(struct probe *probe)
{
    ((struct scripted *)probe)->n_stopped++;
}

static void scripted_free(struct probe *probe)
{
    free(probe);
}

static const struct probe_kind scripted_kind = {scripted_ask, scripted_stop,
                                                scripted_free};

static struct scripted *scripted_new(void)
{
    struct scripted *self = calloc(1, sizeof *self);

    cr_assert_not_null(self);
    self->base = (struct probe){.kind = &scripted_kind,
                                .loop = loop,
                                .on_sample = inquiry_on_sample,
                                .arg = &inquiry};
    return self;
}

static void on_result(void *arg, const struct sample *sample)
{
    (void)arg;
    got = *sample;
    has_come = true;
}

static void open_all(void)
{
    static const char *const hosts[] = {"127.0.0.1", "127.0.0.2", "::1"};

    loop = loop_new(false);
    cr_assert_not_null(loop);
    first = scripted_new();
    substitute = scripted_new();
    inquiry = (struct inquiry){.loop = loop,
                               .first = &first->base,
                               .substitute = &substitute->base,
                               .on_result = on_result};
    for (size_t i = 0; i < 3; i++)
        cr_assert(address_parse(hosts[i], 1, &addresses[i]));
    plan = (struct inquiry_plan){.addresses = addresses,
                                 .n_addresses = 3,
                                 .port = 8008,
                                 .substitute_port = 5432,
                                 .question = {.timeout_ms = 1000, .path = "/primary"}};
}

static void close_all(void)
{
    inquiry_clear(&inquiry);
    loop_free(loop);
}

TestSuite(inquiry, .init = open_all, .fini = close_all, .timeout = 10);

static struct sample sample_with(enum sample_source source, enum sample_outcome outcome,
                                 const char *said)
{
    struct sample sample = {.source = source, .outcome = outcome, .duration_ms = 5};

    snprintf(sample.said, sizeof sample.said, "%s", said);
    return sample;
}

static void script(struct scripted *probe, enum sample_source source,
                   enum sample_outcome outcome, const char *said)
{
    probe->answers[probe->n_answers++] = sample_with(source, outcome, said);
}

static void run(void)
{
    has_come = false;
    inquiry_start(&inquiry, &plan);
    cr_assert(inquiry_is_running(&inquiry));
    cr_assert(loop_until(loop, &has_come, 5000));
    cr_assert_not(inquiry_is_running(&inquiry));
}

static void expect_asked(const struct scripted *probe, size_t i, const char *where)
{
    char text[ADDRESS_TEXT_MAX];

    cr_assert_gt(probe->n_asked, i);
    cr_expect_str_eq(address_print(&probe->asked[i].address, text), where);
}

Test(inquiry, an_answer_is_the_result)
{
    script(first, SOURCE_PATRONI, SAMPLE_OK, "200 running");
    run();
    cr_expect_eq(got.source, SOURCE_PATRONI);
    cr_expect_str_eq(got.said, "200 running");
    expect_asked(first, 0, "127.0.0.1:8008");
    cr_expect_str_eq(first->asked[0].path, "/primary");
    cr_expect_leq(first->asked[0].timeout_ms, 1000);
    cr_expect_eq(substitute->n_asked, 0);
    cr_expect_eq(substitute->n_stopped, 1, "what it kept open is not needed");
}

Test(inquiry, refused_means_the_next_address_and_the_good_one_is_remembered)
{
    script(first, SOURCE_NOBODY, SAMPLE_REFUSED, "refused");
    script(first, SOURCE_NOBODY, SAMPLE_REFUSED, "refused");
    script(first, SOURCE_PATRONI, SAMPLE_OK, "third");
    script(first, SOURCE_PATRONI, SAMPLE_OK, "again");
    run();
    cr_expect_str_eq(got.said, "third");
    expect_asked(first, 1, "127.0.0.2:8008");
    expect_asked(first, 2, "[::1]:8008");
    run();
    expect_asked(first, 3, "[::1]:8008");
}

Test(inquiry, refused_by_all_is_refused)
{
    inquiry.substitute = NULL;
    for (int i = 0; i < 3; i++)
        script(first, SOURCE_NOBODY, SAMPLE_REFUSED, "refused");
    run();
    cr_expect_eq(got.outcome, SAMPLE_REFUSED);
    cr_expect_eq(first->n_asked, 3);
    probe_free(&substitute->base);
}

Test(inquiry, silence_means_another_address_next_time)
{
    inquiry.substitute = NULL;
    script(first, SOURCE_NOBODY, SAMPLE_TIMEOUT, "silence");
    script(first, SOURCE_PATRONI, SAMPLE_OK, "there");
    run();
    cr_expect_eq(got.outcome, SAMPLE_TIMEOUT);
    cr_expect_eq(first->n_asked, 1, "the time is over");
    run();
    expect_asked(first, 1, "127.0.0.2:8008");
    probe_free(&substitute->base);
}

Test(inquiry, the_substitute_is_asked_where_nobody_answers)
{
    plan.n_addresses = 1;
    script(first, SOURCE_NOBODY, SAMPLE_TIMEOUT, "no answer within 1000 ms");
    script(substitute, SOURCE_POSTGRES, SAMPLE_OK, "PostgreSQL: writable timeline 5");
    run();
    cr_expect_eq(got.source, SOURCE_POSTGRES);
    cr_expect_eq(got.outcome, SAMPLE_OK);
    cr_expect_eq(got.duration_ms, 10);
    cr_expect_str_eq(got.said, "Patroni: no answer within 1000 ms; PostgreSQL: writable "
                               "timeline 5");
    expect_asked(substitute, 0, "127.0.0.1:5432");
    cr_expect_eq(substitute->n_stopped, 0, "its connection is kept");
}

Test(inquiry, an_answer_without_sense_is_none)
{
    script(first, SOURCE_NOBODY, SAMPLE_WRONG, "HTTP status 404, not Patroni");
    script(substitute, SOURCE_POSTGRES, SAMPLE_OK, "PostgreSQL: in recovery");
    run();
    cr_expect_eq(got.source, SOURCE_POSTGRES);
}

Test(inquiry, a_stopped_server_is_an_answer)
{
    script(first, SOURCE_PATRONI, SAMPLE_WRONG, "503 stopped");
    run();
    cr_expect_str_eq(got.said, "503 stopped");
    cr_expect_eq(substitute->n_asked, 0);
}

Test(inquiry, when_both_fail_the_first_one_counts)
{
    plan.n_addresses = 2;
    script(first, SOURCE_NOBODY, SAMPLE_REFUSED, "refused");
    script(first, SOURCE_NOBODY, SAMPLE_REFUSED, "refused");
    script(substitute, SOURCE_NOBODY, SAMPLE_REFUSED, "refused, too");
    script(substitute, SOURCE_NOBODY, SAMPLE_WRONG, "FATAL: no such user");
    run();
    cr_expect_eq(got.outcome, SAMPLE_REFUSED);
    cr_expect_str_eq(got.said, "refused");
    cr_expect_eq(substitute->n_asked, 2);
}

Test(inquiry, a_question_that_was_not_made_needs_no_substitute)
{
    script(first, SOURCE_NOBODY, SAMPLE_NOT_MADE, "Too many open files");
    run();
    cr_expect_eq(got.outcome, SAMPLE_NOT_MADE);
    cr_expect_eq(substitute->n_asked, 0);
}

Test(inquiry, fewer_addresses_than_before_are_fine)
{
    script(first, SOURCE_NOBODY, SAMPLE_REFUSED, "refused");
    script(first, SOURCE_NOBODY, SAMPLE_REFUSED, "refused");
    script(first, SOURCE_PATRONI, SAMPLE_OK, "third");
    script(first, SOURCE_PATRONI, SAMPLE_OK, "first");
    run();
    plan.n_addresses = 1;
    run();
    expect_asked(first, 3, "127.0.0.1:8008");
}

Test(inquiry, a_stopped_one_gives_no_result)
{
    first->hangs = true;
    has_come = false;
    inquiry_start(&inquiry, &plan);
    inquiry_stop(&inquiry);
    cr_expect_not(inquiry_is_running(&inquiry));
    first->hangs = false;
    script(first, SOURCE_PATRONI, SAMPLE_OK, "later");
    inquiry_start(&inquiry, &plan);
    inquiry_stop(&inquiry);
    loop_until(loop, NULL, 20);
    cr_expect_not(has_come);
}
