/* Cancel requests among two workers. Over a scripted network. */
#include "router/cancel.h"

#include <criterion/criterion.h>
#include <string.h>

#include "core/memory.h"
#include "tests/lib/house.h"
#include "tests/lib/map.h"

#define REQUESTS 45

static struct house house;
static struct visitor session, other, caller;
static struct visitor callers[REQUESTS];
static struct script_peer servers[2], targets[3];
static struct packet first, welcome, request;
static const uint8_t key[32] = "the key of the session in here";

static void open_house(void)
{
    house_open(&house, 2, "",
               "role = read-only\nbalance = first\nconnect_timeout = 50ms");
    house_tell(&house, map_new("main", 3));
    house_turn(&house, 3);
    packet_add_login(&first, PACKET_PROTOCOL_3_2);
    packet_add_welcome(&welcome, 4711, key, sizeof key);
    packet_add_cancel(&request, 4711, key, sizeof key);
    for (unsigned i = 0; i < 3; i++)
        targets[i].window = SCRIPT_ALL;
    servers[0].window = servers[1].window = SCRIPT_ALL;
}

static void clear(void)
{
    house_close(&house);
    script_clear(&session.peer);
    script_clear(&other.peer);
    script_clear(&caller.peer);
    for (unsigned i = 0; i < REQUESTS; i++)
        script_clear(&callers[i].peer);
    for (unsigned i = 0; i < 3; i++)
        script_clear(&targets[i]);
    script_clear(&servers[0]);
    script_clear(&servers[1]);
}

TestSuite(cancel, .init = open_house, .fini = clear, .timeout = 30);

/* A session of the worker on n1, whose key was seen. */
static void open_session(unsigned worker)
{
    script_net_serve(HOUSE_PORT(1), &servers[0]);
    script_opens(&servers[0]);
    script_hears(&servers[0], first.n);
    script_says(&servers[0], welcome.bytes, welcome.n, 0);
    script_says(&session.peer, first.bytes, first.n, 0);
    house_visit(&house, worker, &session, true);
    house_turn(&house, 15);
    cr_assert_eq(visitor_client(&session)->state, CLIENT_ACTIVE);
}

/* One whose key was hidden by TLS, on the first node that is up. */
static void open_hidden(unsigned worker, struct visitor *visitor, unsigned node,
                        struct script_peer *server)
{
    static struct packet ssl;

    ssl.n = 0;
    packet_add_request(&ssl, PACKET_SSL);
    script_net_serve(HOUSE_PORT(node), server);
    script_opens(server);
    script_hears(server, ssl.n);
    script_says(server, "S", 1, 0);
    script_says(&visitor->peer, ssl.bytes, ssl.n, 0);
    house_visit(&house, worker, visitor, true);
    house_turn(&house, 15);
    cr_assert_eq(visitor_client(visitor)->state, CLIENT_ACTIVE);
}

/* The node takes the request and closes, as PostgreSQL does. */
static void await_request(unsigned node, struct script_peer *target)
{
    script_net_serve(HOUSE_PORT(node), target);
    script_opens(target);
    script_hears(target, request.n);
    script_ends(target);
}

static void call(unsigned worker, struct visitor *visitor)
{
    script_says(&visitor->peer, request.bytes, request.n, 0);
    house_visit(&house, worker, visitor, true);
}

Test(cancel, goes_to_the_node_that_issued_the_key)
{
    for (unsigned worker = 0; worker < 2; worker++) {
        clear();
        first.n = welcome.n = request.n = 0;
        open_house();
        open_session(worker);
        await_request(1, &targets[0]);
        call(0, &caller);
        house_turn(&house, 20);
        cr_expect(heard_packet(&targets[0], &request), "of worker %u", worker);
        cr_expect(caller.is_gone);
        cr_expect_eq(caller.peer.n_heard, 0);
        cr_expect_eq(script_net_n_connects(HOUSE_PORT(2)), 0);
        cr_expect_eq(house_tally(&house, 0, 1).cancels, 1);
        cr_expect_eq(visitor_client(&session)->state, CLIENT_ACTIVE);
    }
}

Test(cancel, comes_in_whatever_pieces)
{
    open_session(1);
    await_request(1, &targets[0]);
    script_says(&caller.peer, request.bytes, request.n, 1);
    house_visit(&house, 0, &caller, true);
    house_turn(&house, (unsigned)request.n + 20);
    cr_expect(heard_packet(&targets[0], &request));
    cr_expect(caller.is_gone);
}

Test(cancel, with_another_secret_goes_nowhere)
{
    open_session(0);
    request.bytes[request.n - 1] ^= 1;
    call(1, &caller);
    house_turn(&house, 20);
    cr_expect(caller.is_gone);
    cr_expect_eq(script_net_n_connects(HOUSE_PORT(1)), 1, "the session's own");
}

Test(cancel, for_a_session_that_has_ended_goes_nowhere)
{
    open_session(0);
    script_fails(&session.peer, STREAM_RESET);
    house_turn(&house, 5);
    call(1, &caller);
    house_turn(&house, 20);
    cr_expect(caller.is_gone);
    cr_expect_eq(script_net_n_connects(HOUSE_PORT(1)), 1);
}

static void take_down(unsigned node)
{
    struct topology *next = map_next(house.workers[0]->topology);

    next->clusters[0].nodes[node - 1].is_draining = true;
    house_tell(&house, next);
    house_turn(&house, 3);
}

Test(cancel, with_a_hidden_key_goes_to_every_node_of_that_address)
{
    open_hidden(0, &session, 1, &servers[0]);
    take_down(1);
    open_hidden(1, &other, 2, &servers[1]);
    for (unsigned i = 0; i < 3; i++)
        await_request(i + 1, &targets[i]);
    call(0, &caller);
    house_turn(&house, 40);
    cr_expect(heard_packet(&targets[0], &request));
    cr_expect(heard_packet(&targets[1], &request));
    cr_expect_eq(targets[2].n_heard, 0, "it has no session on n3");
    cr_expect(caller.is_gone);
}

Test(cancel, of_another_address_does_not_go_where_keys_are_hidden)
{
    open_hidden(0, &session, 1, &servers[0]);
    call(0, &caller);
    cr_assert(address_parse("10.0.0.2", 40000, &caller.ticket.peer));
    house_turn(&house, 20);
    cr_expect(caller.is_gone);
    cr_expect_eq(script_net_n_connects(HOUSE_PORT(1)), 1);
}

/* The limit is one of each second: a burst sees two of them at most. */
Test(cancel, passes_on_twenty_of_an_address_in_a_second)
{
    unsigned n;

    open_session(0);
    for (unsigned i = 0; i < REQUESTS; i++)
        call(i % 2, &callers[i]);
    house_turn(&house, 40);
    for (unsigned i = 0; i < REQUESTS; i++)
        cr_expect(callers[i].is_gone);
    n = script_net_n_connects(HOUSE_PORT(1)) - 1;
    cr_expect(n == 20 || (n > 20 && n <= 40), "%u were passed on", n);
}

Test(cancel, is_carried_on_when_its_client_leaves)
{
    open_session(0);
    script_net_serve(HOUSE_PORT(1), &targets[0]);
    script_rests(&targets[0], 10);
    script_opens(&targets[0]);
    script_hears(&targets[0], request.n);
    script_ends(&targets[0]);
    script_says(&caller.peer, request.bytes, request.n, 0);
    script_rests(&caller.peer, 3);
    script_ends(&caller.peer);
    house_visit(&house, 1, &caller, true);
    house_turn(&house, 8);
    cr_expect(caller.is_gone);
    cr_expect_eq(targets[0].n_heard, 0);
    house_turn(&house, 20);
    cr_expect(heard_packet(&targets[0], &request));
    cr_expect_eq(house.workers[1]->cancel_runs.n, 0);
}

Test(cancel, ends_when_the_node_cannot_be_reached)
{
    open_session(0);
    call(1, &caller); /* nobody awaits it */
    house_turn(&house, 20);
    cr_expect(caller.is_gone);
    cr_expect_eq(script_net_n_connects(HOUSE_PORT(1)), 2);
}

Test(cancel, waits_for_a_silent_node_no_longer_than_for_a_connection)
{
    open_session(0);
    script_net_serve(HOUSE_PORT(1), &targets[0]);
    script_opens(&targets[0]);
    call(1, &caller);
    house_turn(&house, 20);
    cr_expect_not(caller.is_gone, "it has not acted yet");
    cr_expect(house_turn_until(&house, &caller.is_gone, 5000));
    cr_expect(targets[0].was_closed);
}

Test(cancel, ends_with_the_node_that_resets)
{
    open_session(0);
    script_net_serve(HOUSE_PORT(1), &targets[0]);
    script_opens(&targets[0]);
    script_hears(&targets[0], request.n);
    script_fails(&targets[0], STREAM_RESET);
    call(1, &caller);
    house_turn(&house, 20);
    cr_expect(caller.is_gone);
}

Test(cancel, under_way_ends_when_the_workers_stop)
{
    open_session(0);
    script_net_serve(HOUSE_PORT(1), &targets[0]);
    script_opens(&targets[0]);
    call(1, &caller);
    house_turn(&house, 20);
    cr_expect_eq(house.workers[1]->cancel_runs.n, 1);
    worker_post_stop(house.workers[0]);
    worker_post_stop(house.workers[1]);
    house_turn(&house, 5);
    cr_expect_eq(house.workers[1]->cancel_runs.n, 0);
    cr_expect(targets[0].was_closed);
    cr_expect(caller.is_gone);
}

Test(cancel, survives_each_allocation_failure)
{
    bool has_failed = true;
    unsigned nth = 0;

    open_session(0);
    while (has_failed) {
        caller.peer = (struct script_peer){0};
        script_clear(&targets[0]);
        targets[0].window = SCRIPT_ALL;
        await_request(1, &targets[0]);
        call(1, &caller);
        memory_fail_at = ++nth;
        house_turn(&house, 20);
        has_failed = memory_fail_at == 0;
        memory_fail_at = 0;
        cr_assert(caller.is_gone || house_turn_until(&house, &caller.is_gone, 3000));
        cr_expect_eq(house.workers[1]->cancel_runs.n, 0);
        script_clear(&caller.peer);
    }
    cr_expect_gt(nth, 2);
    cr_expect(heard_packet(&targets[0], &request));
}
