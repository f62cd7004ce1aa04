#include "core/mailbox.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "tests/lib/fault.h"
#include "tests/lib/loop_until.h"
#include "tests/lib/turns.h"

struct letter {
    struct message message;
    int number;
    struct letter *answer; /* posted when this one is delivered */
};

static struct loop *loop;
static struct mailbox *mailbox;
static int receiver; /* its address is what matters */
static int got[2000];
static unsigned n_got, n_wanted;
static bool is_enough;

static void make_mailbox(void)
{
    loop = loop_new(false);
    mailbox = mailbox_new(loop, &receiver);
}

static void free_mailbox(void)
{
    mailbox_free(mailbox);
    loop_free(loop);
}

TestSuite(mailbox, .init = make_mailbox, .fini = free_mailbox, .timeout = 20);

static void deliver(struct message *message, void *to)
{
    struct letter *letter = CONTAINER_OF(message, struct letter, message);

    cr_assert_eq(to, &receiver);
    got[n_got++] = letter->number;
    is_enough = n_got == n_wanted;
    if (letter->answer != NULL)
        mailbox_post(mailbox, &letter->answer->message, deliver);
}

Test(mailbox, delivers_in_order_and_only_from_the_loop)
{
    struct letter letters[100] = {0};

    for (int i = 0; i < 100; i++) {
        letters[i].number = i;
        mailbox_post(mailbox, &letters[i].message, deliver);
    }
    cr_expect_eq(n_got, 0);
    turn(loop, 1);
    cr_expect_gt(n_got, 0);
    cr_expect_lt(n_got, 100, "others wait in the loop too");
    turn(loop, 3);
    cr_expect_eq(n_got, 100, "one wake-up suffices for all");
    for (int i = 0; i < 100; i++)
        cr_assert_eq(got[i], i);
    turn(loop, 3);
    cr_expect_eq(n_got, 100);
}

Test(mailbox, can_be_posted_to_while_it_is_emptied)
{
    struct letter third = {.number = 3}, second = {.number = 2, .answer = &third};
    struct letter first = {.number = 1, .answer = &second};

    mailbox_post(mailbox, &first.message, deliver);
    turn(loop, 6);
    cr_expect_eq(n_got, 3);
    cr_expect(got[0] == 1 && got[1] == 2 && got[2] == 3);
}

static void free_letter(struct message *message, void *to)
{
    (void)to;
    free(CONTAINER_OF(message, struct letter, message));
    n_got++;
}

Test(mailbox, gives_the_message_away)
{
    for (unsigned i = 0; i < 5; i++) {
        struct letter *letter = calloc(1, sizeof *letter);

        mailbox_post(mailbox, &letter->message, free_letter);
    }
    turn(loop, 1);
    cr_expect_eq(n_got, 5);
}

Test(mailbox, is_emptied_by_hand_when_no_loop_runs)
{
    struct letter letter = {.number = 1};

    cr_expect_not(mailbox_drain(mailbox));
    mailbox_post(mailbox, &letter.message, deliver);
    cr_expect(mailbox_drain(mailbox));
    cr_expect_eq(n_got, 1);
    cr_expect_not(mailbox_drain(mailbox));
}

static void *post_many(void *arg)
{
    struct letter *letters = arg;

    for (int i = 0; i < 1000; i++)
        mailbox_post(mailbox, &letters[i].message, deliver);
    return NULL;
}

Test(mailbox, wakes_a_loop_that_sleeps)
{
    static struct letter letters[1000];
    pthread_t thread;

    for (int i = 0; i < 1000; i++)
        letters[i].number = i;
    n_wanted = 1000;
    cr_assert_eq(pthread_create(&thread, NULL, post_many, letters), 0);
    cr_expect(loop_until(loop, &is_enough, 5000));
    pthread_join(thread, NULL);
    for (int i = 0; i < 1000; i++)
        cr_assert_eq(got[i], i);
}

Test(mailbox, is_not_freed_with_a_message_in_it, .signal = SIGABRT)
{
    struct letter letter = {0};

    mailbox_post(mailbox, &letter.message, deliver);
    mailbox_free(mailbox);
}

Test(mailbox, none_is_fine_to_free)
{
    mailbox_free(NULL);
}

static void make_and_free(void *unused)
{
    (void)unused;
    mailbox_free(mailbox_new(loop, &receiver));
}

Test(mailbox, survives_an_allocation_failure)
{
    cr_expect_eq(fault_each_allocation(make_and_free, NULL), 1);
}
