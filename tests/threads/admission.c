/* tests/threads/admission.c - clients come and go faster than there are places.
 *
 * Control and the workers pass tickets to and fro: arrival, admission, end, and the
 * admission that comes when its client has gone. Never more are admitted than may be, no
 * ticket is lost, none is freed twice, at the end nobody is left.
 */
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/map.h"
#include "tests/lib/packets.h"
#include "tests/threads/control.h"

#define CLIENTS 12000
#define AT_A_TIME 120
#define PLACES 25

static struct control control;
static int far_ends[AT_A_TIME]; /* the clients' own; -1 = none */
static unsigned n_come, n_open, seed = 1;
static struct packet first;
static ev_idle town;

static unsigned any(unsigned below)
{
    seed = seed * 1103515245u + 12345u;
    return (seed >> 8) % below;
}

/* Some leave without a word, some in the midst of one, some wait for a node. */
static void come(unsigned i)
{
    int fds[2];

    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    if (any(3) > 0)
        REQUIRE(write(fds[1], first.bytes, any(4) == 0 ? first.n / 2 : first.n) > 0);
    far_ends[i] = fds[1];
    n_come++;
    n_open++;
    control_give(&control, fds[0], any(WORKERS));
    if (n_come % 100 == 0)
        control.admission.max = PLACES + any(PLACES);
    if (n_come % 50 == 0)
        control_tell(&control, map_new("main", 0));
}

static void leave(unsigned i)
{
    close(far_ends[i]);
    far_ends[i] = -1;
    n_open--;
}

static void end_if_all_are_gone(struct control *of)
{
    if (n_come == CLIENTS && n_open == 0 && of->n_present == 0)
        loop_stop(of->loop);
}

/* One step of the town: somebody comes, or somebody leaves. */
static void on_idle(struct ev_loop *ev, ev_idle *idle, int events)
{
    unsigned i = any(AT_A_TIME);

    (void)events;
    if (far_ends[i] >= 0)
        leave(i);
    else if (n_come < CLIENTS)
        come(i);
    if (n_come == CLIENTS && n_open == 0) {
        ev_idle_stop(ev, idle);
        end_if_all_are_gone(&control);
    }
}

int main(void)
{
    packet_add_login(&first, PACKET_PROTOCOL_3_0);
    for (unsigned i = 0; i < AT_A_TIME; i++)
        far_ends[i] = -1;
    control_open(&control, "queue_timeout = 20ms");
    control.admission.max = PLACES;
    control.on_gone = end_if_all_are_gone;
    control_tell(&control, map_new("main", 0));
    ev_idle_init(&town, on_idle);
    ev_idle_start(control.loop->ev, &town);
    loop_run(control.loop);
    REQUIRE(control.gate.n_total == CLIENTS);
    REQUIRE(control.n_missed > 0); /* else this has tried less than it says */
    control_close(&control);
    return 0;
}
