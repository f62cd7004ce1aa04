#include <criterion/criterion.h>
#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include "core/memory.h"
#include "health/probe.h"
#include "tests/lib/loop_until.h"

static struct loop *loop;
static struct probe *probe;
static struct sample got;
static bool has_come;

static void on_sample(void *arg, const struct sample *sample)
{
    (void)arg;
    got = *sample;
    has_come = true;
}

static void open_all(void)
{
    loop = loop_new(false);
    cr_assert_not_null(loop);
    probe = probe_tcp_new(loop, on_sample, NULL);
    cr_assert_not_null(probe);
}

static void close_all(void)
{
    probe_free(probe);
    loop_free(loop);
}

TestSuite(probe_tcp, .init = open_all, .fini = close_all, .timeout = 10);

static int listen_at(const char *host, int backlog, struct address *address)
{
    socklen_t length;
    int fd;

    cr_assert(address_parse(host, 0, address));
    length = address_length(address);
    fd = socket(address->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(bind(fd, &address->sa, length), 0);
    cr_assert_eq(listen(fd, backlog), 0);
    cr_assert_eq(getsockname(fd, &address->sa, &length), 0);
    return fd;
}

static void ask(const struct address *address, uint32_t timeout_ms)
{
    const struct question question = {.address = *address, .timeout_ms = timeout_ms};

    has_come = false;
    probe_ask(probe, &question);
    cr_assert_not(has_come, "never from within the call");
    cr_assert(loop_until(loop, &has_come, 5000));
}

Test(probe_tcp, who_accepts_is_there_and_gets_no_byte)
{
    struct address address;
    int fd = listen_at("127.0.0.1", 10, &address), accepted;
    char byte;

    ask(&address, 1000);
    cr_expect_eq(got.source, SOURCE_TCP);
    cr_expect_eq(got.outcome, SAMPLE_OK);
    cr_expect_str_eq(got.said, "accepts connections");
    cr_expect_eq(got.role, NODE_UNKNOWN);
    accepted = accept(fd, NULL, NULL);
    cr_expect_eq(read(accepted, &byte, 1), 0, "an orderly end");
    close(accepted);
    close(fd);
}

Test(probe_tcp, who_refuses_is_not)
{
    struct address address;

    close(listen_at("127.0.0.1", 10, &address));
    ask(&address, 1000);
    cr_expect_eq(got.source, SOURCE_NOBODY);
    cr_expect_eq(got.outcome, SAMPLE_REFUSED);
    cr_expect_str_eq(got.said, "Connection refused");
    close(listen_at("::1", 10, &address));
    ask(&address, 1000);
    cr_expect_eq(got.outcome, SAMPLE_REFUSED);
}

Test(probe_tcp, who_does_not_answer_times_out)
{
    struct address address;
    int fd = listen_at("127.0.0.1", 0, &address), others[8];

    for (size_t i = 0; i < COUNT_OF(others); i++) {
        others[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        (void)!connect(others[i], &address.sa, address_length(&address));
    }
    ask(&address, 150);
    cr_expect_eq(got.outcome, SAMPLE_TIMEOUT);
    cr_expect_str_eq(got.said, "no answer within 150 ms");
    for (size_t i = 0; i < COUNT_OF(others); i++)
        close(others[i]);
    close(fd);
}

Test(probe_tcp, a_stopped_question_is_never_answered)
{
    struct address address;
    int fd = listen_at("127.0.0.1", 10, &address);
    const struct question question = {.address = address, .timeout_ms = 100};

    has_come = false;
    probe_ask(probe, &question);
    probe_stop(probe);
    close(fd);
    probe_ask(probe, &question);
    probe_stop(probe);
    loop_until(loop, NULL, 200);
    cr_expect_not(has_come);
}

Test(probe_tcp, without_descriptors_it_is_our_fault)
{
    struct rlimit limit, none = {0, 0};
    struct address address;
    int fd = listen_at("127.0.0.1", 10, &address);

    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none.rlim_max = limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    ask(&address, 1000);
    setrlimit(RLIMIT_NOFILE, &limit);
    cr_expect_eq(got.outcome, SAMPLE_NOT_MADE);
    close(fd);
}

Test(probe_tcp, survives_a_failed_allocation)
{
    memory_fail_at = 1;
    cr_expect_null(probe_tcp_new(loop, on_sample, NULL));
    cr_expect_eq(memory_fail_at, 0);
}
