/* tests/threads/gather.c - messages that go round all workers, several at a time, while
 * clients come and go and topologies change.
 *
 * Each comes home once with the counts of all.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "router/tally.h"
#include "tests/lib/map.h"
#include "tests/threads/control.h"

#define ROUNDS 3000
#define UNDER_WAY 8
#define CLIENTS_AT_A_TIME 40

static struct control control;
static struct gather gathers[UNDER_WAY];
static unsigned n_begun, n_home;
static uint64_t n_clients_before;
static int far_ends[CLIENTS_AT_A_TIME];
static unsigned n_given, next_far_end;

static void begin(struct gather *gather);

static void send_client(void)
{
    unsigned i = next_far_end++ % CLIENTS_AT_A_TIME;
    int fds[2];

    if (far_ends[i] > 0)
        close(far_ends[i]);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    far_ends[i] = fds[1];
    control_give(&control, fds[0], n_given++ % WORKERS);
}

static void on_home(struct message *message, void *receiver)
{
    struct gather *gather = CONTAINER_OF(message, struct gather, message);
    uint64_t n_clients = 0;

    REQUIRE(receiver == &control);
    REQUIRE(gather->n_workers == WORKERS);
    REQUIRE(!gather->is_incomplete);
    for (unsigned i = 0; i < WORKERS; i++)
        n_clients += gather->workers[i].n_clients_total;
    REQUIRE(n_clients <= n_given);
    REQUIRE(n_clients + UNDER_WAY * WORKERS >= n_clients_before);
    n_clients_before = n_clients;
    tally_clear(&gather->tallies);
    n_home++;
    send_client();
    if (n_home % 20 == 0)
        control_tell(&control, map_new("main", n_home % 3));
    if (n_begun < ROUNDS)
        begin(gather);
    else if (n_home == ROUNDS)
        loop_stop(control.loop);
}

static void begin(struct gather *gather)
{
    *gather = (struct gather){.home = control.mailbox, .on_home = on_home};
    list_init(&gather->tallies);
    n_begun++;
    worker_post_gather(control.workers[0], gather);
}

int main(void)
{
    control_open(&control, "");
    control_tell(&control, map_new("main", 0));
    for (unsigned i = 0; i < UNDER_WAY; i++)
        begin(&gathers[i]);
    loop_run(control.loop);
    REQUIRE(n_home == ROUNDS);
    for (unsigned i = 0; i < CLIENTS_AT_A_TIME; i++)
        if (far_ends[i] > 0)
            close(far_ends[i]);
    control_close(&control);
    return 0;
}
