/* tests/threads/mailbox.c - many senders, one receiver, and two that answer each other.
 *
 * Every message arrives once, those of one sender in the order of posting.
 */
#include "core/mailbox.h"

#include <pthread.h>
#include <stdlib.h>

#define SENDERS 8
#define MESSAGES 20000
#define ROUNDS 5000

struct letter {
    struct message message;
    unsigned sender;
    unsigned number;
};

static struct loop *loop;
static struct mailbox *mailbox;
static unsigned next_of[SENDERS]; /* the receiver's */
static unsigned n_arrived;

static void deliver(struct message *message, void *receiver)
{
    struct letter *letter = CONTAINER_OF(message, struct letter, message);

    REQUIRE(receiver == &next_of);
    REQUIRE(letter->number == next_of[letter->sender]);
    next_of[letter->sender]++;
    free(letter);
    if (++n_arrived == SENDERS * MESSAGES)
        loop_stop(loop);
}

static void *send_all(void *arg)
{
    unsigned sender = *(unsigned *)arg;

    for (unsigned i = 0; i < MESSAGES; i++) {
        struct letter *letter = calloc(1, sizeof *letter);

        REQUIRE(letter != NULL);
        letter->sender = sender;
        letter->number = i;
        mailbox_post(mailbox, &letter->message, deliver);
    }
    return NULL;
}

static void many_to_one(void)
{
    pthread_t threads[SENDERS];
    unsigned numbers[SENDERS];

    loop = loop_new(false);
    REQUIRE(loop != NULL);
    mailbox = mailbox_new(loop, &next_of);
    REQUIRE(mailbox != NULL);
    for (unsigned i = 0; i < SENDERS; i++) {
        numbers[i] = i;
        REQUIRE(pthread_create(&threads[i], NULL, send_all, &numbers[i]) == 0);
    }
    loop_run(loop);
    for (unsigned i = 0; i < SENDERS; i++) {
        REQUIRE(pthread_join(threads[i], NULL) == 0);
        REQUIRE(next_of[i] == MESSAGES);
    }
    mailbox_free(mailbox);
    loop_free(loop);
}

/* Two threads that pass one message to and fro: it needs no lock of its own. */
struct player {
    struct loop *loop;
    struct mailbox *mailbox;
    struct player *other;
};

static struct {
    struct message message;
    unsigned n_passed;
} ball;

static void catch_ball(struct message *message, void *receiver)
{
    struct player *player = receiver;

    if (++ball.n_passed >= 2 * ROUNDS)
        loop_stop(player->loop);
    if (ball.n_passed <= 2 * ROUNDS)
        mailbox_post(player->other->mailbox, message, catch_ball);
}

static void *play(void *arg)
{
    loop_run(((struct player *)arg)->loop);
    return NULL;
}

static void to_and_fro(void)
{
    struct player players[2];
    pthread_t threads[2];

    for (unsigned i = 0; i < 2; i++) {
        players[i].other = &players[!i];
        players[i].loop = loop_new(false);
        REQUIRE(players[i].loop != NULL);
        players[i].mailbox = mailbox_new(players[i].loop, &players[i]);
        REQUIRE(players[i].mailbox != NULL);
    }
    mailbox_post(players[0].mailbox, &ball.message, catch_ball);
    for (unsigned i = 0; i < 2; i++)
        REQUIRE(pthread_create(&threads[i], NULL, play, &players[i]) == 0);
    for (unsigned i = 0; i < 2; i++)
        REQUIRE(pthread_join(threads[i], NULL) == 0);
    REQUIRE(ball.n_passed == 2 * ROUNDS + 1);
    for (unsigned i = 0; i < 2; i++) {
        mailbox_drain(players[i].mailbox);
        mailbox_free(players[i].mailbox);
        loop_free(players[i].loop);
    }
}

int main(void)
{
    many_to_one();
    to_and_fro();
    return 0;
}
