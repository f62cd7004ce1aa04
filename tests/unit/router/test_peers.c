#include "router/peers.h"

#include <criterion/criterion.h>
#include <string.h>

#include "core/memory.h"
#include "tests/lib/fault.h"
#include "tests/lib/loop_until.h"
#include "tests/unit/config/loaded.h"

static struct loop *loop;
static struct resolver *resolver;
static struct mailbox *mailbox;
static struct peers *peers;
static struct peer_question question;
static bool is_answered;

static void open_all(void)
{
    loop = loop_new(false);
    resolver = resolver_new(loop);
    mailbox = mailbox_new(loop, NULL);
    peers = peers_new(resolver);
    cr_assert(peers != NULL && mailbox != NULL);
}

static void close_all(void)
{
    peers_free(peers);
    mailbox_free(mailbox);
    resolver_free(resolver);
    loop_free(loop);
}

TestSuite(peers, .init = open_all, .fini = close_all, .timeout = 20);

#define PEERS POOL DATABASE "[peers]\n"

static void configure(const char *ini)
{
    struct config *config = loaded(ini);

    cr_assert(peers_configure(peers, config));
    config_release(config);
}

static void on_answer(struct message *message, void *receiver)
{
    (void)message;
    (void)receiver;
    is_answered = true;
}

static void ask(unsigned id)
{
    is_answered = false;
    question = (struct peer_question){.id = id, .home = mailbox, .on_answer = on_answer};
    peers_answer(peers, &question);
    cr_assert(loop_until(loop, &is_answered, 5000));
}

/* NULL = it is not known. */
static void expect_place(unsigned id, const char *wanted)
{
    char text[ADDRESS_TEXT_MAX];

    ask(id);
    cr_expect_eq(question.is_found, wanted != NULL, "%u", id);
    if (wanted == NULL)
        return;
    cr_expect_str_eq(*question.place.path != '\0'
                         ? question.place.path
                         : address_print(&question.place.address, text),
                     wanted);
}

/* Also a number is known a moment later only. */
static void await(unsigned id)
{
    do
        ask(id);
    while (!question.is_found);
}

Test(peers, are_known_by_number_name_and_path)
{
    configure(PEERS
              "1 = host=127.0.0.7 port=7000\n2 = host=::1\n3 = host=/run/x port=5\n");
    await(1);
    await(2);
    expect_place(1, "127.0.0.7:7000");
    expect_place(2, "[::1]:6432");
    expect_place(3, "/run/x/.s.PGSQL.5");
    expect_place(4, NULL);
    expect_place(0, NULL);
}

Test(peers, go_on_when_nothing_is_said_of_them_anew)
{
    configure(PEERS "1 = host=127.0.0.7\n2 = host=127.0.0.8\n3 = host=127.0.0.9\n");
    await(1);
    await(2);
    await(3);
    configure(PEERS "1 = host=127.0.0.7\n2 = host=127.0.0.8 port=7\n");
    expect_place(1, "127.0.0.7:6432");
    expect_place(3, NULL);
    await(2);
    expect_place(2, "127.0.0.8:7");
}

static void try_all(void *arg)
{
    struct peers *one = peers_new(resolver);

    if (one != NULL)
        (void)!peers_configure(one, arg);
    peers_free(one);
}

Test(peers, survive_each_allocation_failure)
{
    struct config *config = loaded(PEERS "1 = host=127.0.0.7\n2 = host=/run\n");

    cr_expect_geq(fault_each_allocation(try_all, config), 5);
    config_release(config);
}
