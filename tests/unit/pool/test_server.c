/* Over a scripted network: tests/lib/script_net.h. */
#include "pool/server.h"

#include <criterion/criterion.h>
#include <signal.h>

#include "core/memory.h"
#include "tests/lib/fault.h"
#include "tests/lib/loop_until.h"
#include "tests/lib/map.h"
#include "tests/lib/script_net.h"
#include "tests/lib/turns.h"

static struct loop *loop;
static struct slab *slab;
static struct topology *topology;
static struct topology_node *node;
static struct script_peer peers[4];
static const struct tcp_settings settings;

/* What the owner was told. */
static struct {
    unsigned n_open, n_unreachable;
    bool is_over;
    enum stream_failure why;
    const char *tls_why;
    struct server *server;
} told;

static void on_open(struct server *server)
{
    cr_assert_eq(server->owner, &told);
    told.n_open++;
    told.is_over = true;
}

static void on_unreachable(struct server *server, enum stream_failure why)
{
    cr_assert_eq(server->owner, &told);
    told.n_unreachable++;
    told.is_over = true;
    told.why = why;
    told.tls_why = server->tls_why;
    server_close(server, false);
    told.server = NULL;
}

static const struct server_events events = {
    .on_open = on_open,
    .on_unreachable = on_unreachable,
};

static void make_all(void)
{
    loop = loop_new(false);
    slab = slab_new(sizeof(struct server));
    topology = map_new("main", 1);
    node = &topology->clusters[0].nodes[0];
}

static void tear_down(void)
{
    if (told.server != NULL)
        server_close(told.server, false);
    turn(loop, 2);
    for (unsigned i = 0; i < COUNT_OF(peers); i++)
        script_clear(&peers[i]);
    topology_release(topology);
    slab_free(slab);
    loop_free(loop);
}

TestSuite(server, .init = make_all, .fini = tear_down, .timeout = 20);

/* The node has these addresses, and peers[i] stands at the i-th. */
static void give_addresses(unsigned n)
{
    node->n_addresses = n;
    for (unsigned i = 0; i < n; i++) {
        uint16_t port = (uint16_t)(6000 + i);

        cr_assert(address_parse("127.0.0.1", port, &node->addresses[i]));
        script_net_serve(port, &peers[i]);
    }
}

static void open_server(uint64_t connect_timeout_ms)
{
    told.server = server_open(slab, loop, topology, node, connect_timeout_ms, &settings,
                              &events, &told);
}

static unsigned n_sessions(void)
{
    return atomic_load(&node->load->n_sessions);
}

Test(server, opens_and_counts_among_the_nodes_sessions)
{
    give_addresses(1);
    script_opens(&peers[0]);
    open_server(1000);
    cr_assert_not_null(told.server);
    cr_expect_eq(told.server->state, SERVER_CONNECTING);
    cr_expect_eq(n_sessions(), 1, "from its birth");
    cr_expect_eq(told.n_open, 0);
    turn(loop, 3);
    cr_expect_eq(told.n_open, 1);
    cr_expect_eq(told.server->state, SERVER_OPEN);
    cr_expect_eq(told.server->node_id, node->id);
    cr_expect_not(deadline_is_armed(&told.server->deadline));

    server_close(told.server, false);
    cr_expect_eq(n_sessions(), 0);
    cr_expect_eq(slab_n_taken(slab), 1, "freed after the iteration");
    server_close(told.server, false);
    told.server = NULL;
    turn(loop, 1);
    cr_expect_eq(slab_n_taken(slab), 0);
    cr_expect(peers[0].was_closed);
}

Test(server, tries_the_addresses_in_turn)
{
    give_addresses(3);
    script_fails(&peers[0], STREAM_REFUSED);
    script_fails(&peers[1], STREAM_UNREACHABLE);
    script_opens(&peers[2]);
    open_server(1000);
    turn(loop, 10);
    cr_expect_eq(told.n_open, 1);
    cr_expect_eq(told.n_unreachable, 0);
    for (uint16_t i = 0; i < 3; i++)
        cr_expect_eq(script_net_n_connects((uint16_t)(6000 + i)), 1);
    cr_expect_eq(n_sessions(), 1);
}

Test(server, is_unreachable_when_every_address_has_failed)
{
    give_addresses(2);
    script_fails(&peers[0], STREAM_UNREACHABLE);
    script_fails(&peers[1], STREAM_REFUSED);
    open_server(1000);
    turn(loop, 10);
    cr_expect_eq(told.n_unreachable, 1);
    cr_expect_eq(told.why, STREAM_REFUSED, "as the last one said");
    cr_expect_eq(n_sessions(), 0);
    cr_expect_eq(slab_n_taken(slab), 0);
}

Test(server, gives_each_address_its_time)
{
    uint64_t began_ms;

    give_addresses(2);
    turn(loop, 1);
    began_ms = loop_now_ms(loop);
    open_server(30);
    cr_assert(loop_until(loop, &told.is_over, 5000));
    cr_expect_eq(told.n_unreachable, 1);
    cr_expect_eq(told.why, STREAM_UNREACHABLE);
    cr_expect_geq(loop_now_ms(loop) - began_ms, 60);
    cr_expect_eq(script_net_n_connects(6001), 1);
    cr_expect(peers[0].was_closed, "the silent one is let go");
}

Test(server, that_is_silent_at_first_opens_at_the_second_address)
{
    give_addresses(2);
    script_opens(&peers[1]);
    open_server(20);
    cr_assert(loop_until(loop, &told.is_over, 5000));
    cr_expect_eq(told.n_open, 1);
    cr_expect_not(deadline_is_armed(&told.server->deadline));
}

Test(server, may_be_closed_while_it_connects)
{
    give_addresses(1);
    script_rests(&peers[0], 2);
    script_opens(&peers[0]);
    open_server(1000);
    turn(loop, 1);
    server_close(told.server, true);
    told.server = NULL;
    turn(loop, 10);
    cr_expect_eq(told.n_open + told.n_unreachable, 0);
    cr_expect(peers[0].was_reset);
}

Test(server, lets_go_of_the_topology_once_it_is_open)
{
    give_addresses(1);
    script_opens(&peers[0]);
    open_server(1000);
    cr_expect_eq(atomic_load(&topology->references), 2);
    turn(loop, 3);
    cr_expect_eq(atomic_load(&topology->references), 1);
    cr_expect_eq(atomic_load(&node->load->references), 2, "but not of the node's load");
}

/* ---- TLS -----------------------------------------------------------------------------
 */

static const uint8_t request[] = {0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f};

static struct security *security_of(enum sslmode mode)
{
    struct security *security = memory_zeroed(sizeof *security);
    struct text why;

    text_init(&why, 1000);
    security->references = 1;
    security->to_servers = mode;
    if (mode != SSLMODE_DISABLE)
        security->server_context =
            tls_context_new(&(struct tls_settings){.role = TLS_CLIENT}, &why);
    cr_assert_eq(security->server_context == NULL, mode == SSLMODE_DISABLE, "%s",
                 text_get(&why));
    text_clear(&why);
    return security;
}

/* The node, which answers so, is asked; NULL: it is not to be asked. */
static void ask_for_tls(enum sslmode mode, const void *answer, size_t n)
{
    struct security *security = security_of(mode);

    give_addresses(1);
    peers[0].window = SCRIPT_ALL;
    script_opens(&peers[0]);
    if (answer != NULL) {
        script_hears(&peers[0], sizeof request);
        script_says(&peers[0], answer, n, 0);
    }
    open_server(1000);
    server_secure(told.server, security, NULL);
    security_release(security);
    turn(loop, 3);
    if (answer != NULL) {
        cr_expect_eq(peers[0].n_heard, sizeof request);
        cr_expect_eq(memcmp(peers[0].heard, request, sizeof request), 0);
    }
    turn(loop, 5);
}

Test(server, asks_the_node_for_tls_unless_it_is_disabled)
{
    ask_for_tls(SSLMODE_DISABLE, NULL, 0);
    cr_expect_eq(told.n_open, 1);
    cr_expect_eq(peers[0].n_heard, 0);
}

Test(server, begins_with_tls_where_the_node_wants_no_question)
{
    struct security *security = security_of(SSLMODE_REQUIRE);

    node->begins_with_tls = true;
    give_addresses(1);
    peers[0].window = SCRIPT_ALL;
    script_opens(&peers[0]);
    open_server(1000);
    server_secure(told.server, security, NULL);
    security_release(security);
    turn(loop, 5);
    cr_expect_eq(told.server->state, SERVER_SECURING);
    cr_assert_geq(peers[0].n_heard, 6);
    cr_expect_eq(peers[0].heard[0], 0x16, "a handshake");
    cr_expect_eq(peers[0].heard[5], 1, "a ClientHello");
    cr_expect(deadline_is_armed(&told.server->deadline));
}

Test(server, goes_on_without_tls_where_the_node_has_none_and_that_is_allowed)
{
    ask_for_tls(SSLMODE_PREFER, "N", 1);
    cr_expect_eq(told.n_open, 1);
    cr_expect_eq(told.server->state, SERVER_OPEN);
    cr_expect_not(told.server->stream.wants_bytes, "as of any new stream");
    cr_expect_not(deadline_is_armed(&told.server->deadline));
}

Test(server, does_not_go_on_without_tls_where_it_is_demanded)
{
    ask_for_tls(SSLMODE_REQUIRE, "N", 1);
    cr_expect_eq(told.n_open, 0);
    cr_expect_eq(told.n_unreachable, 1);
    cr_expect_eq(told.why, STREAM_TLS_FAILED);
    cr_expect_not_null(strstr(told.tls_why, "server_tls_sslmode"));
}

/* CVE-2021-23222: what was not encrypted must not pass for such. */
Test(server, takes_no_bytes_behind_the_nodes_answer)
{
    static const char *const answers[] = {"S\x16", "SZ", "NZ", "X",
                                          "Sxxxxxxxxxxxxxxxxxxxxx"};

    for (unsigned i = 0; i < COUNT_OF(answers); i++) {
        told.n_unreachable = 0;
        told.tls_why = NULL;
        ask_for_tls(SSLMODE_PREFER, answers[i], strlen(answers[i]));
        cr_expect_eq(told.n_open, 0);
        cr_expect_eq(told.n_unreachable, 1, "%s", answers[i]);
        cr_expect_eq(told.why, STREAM_TLS_FAILED);
        cr_expect_not_null(told.tls_why);
        script_clear(&peers[0]);
        peers[0] = (struct script_peer){0};
    }
}

Test(server, takes_an_error_for_a_node_that_cannot_serve)
{
    ask_for_tls(SSLMODE_REQUIRE, "Etoo many", 9);
    cr_expect_eq(told.n_unreachable, 1);
    cr_expect_eq(told.why, STREAM_REFUSED);
}

Test(server, tells_why_a_handshake_has_failed)
{
    struct security *security = security_of(SSLMODE_PREFER);

    give_addresses(2);
    peers[0].window = SCRIPT_ALL;
    script_opens(&peers[0]);
    script_hears(&peers[0], sizeof request);
    script_says(&peers[0], "S", 1, 0);
    script_hears(&peers[0], sizeof request + 100);
    script_says(&peers[0], "this is no record of TLS", 24, 0);
    open_server(1000);
    server_secure(told.server, security, NULL);
    security_release(security);
    cr_expect(loop_until(loop, &told.is_over, 5000));
    cr_expect_eq(told.n_unreachable, 1, "nor is it tried at another address");
    cr_expect_eq(told.why, STREAM_TLS_FAILED);
    cr_expect_not_null(told.tls_why);
}

Test(server, tries_another_address_when_the_node_leaves_in_the_handshake)
{
    struct security *security = security_of(SSLMODE_PREFER);

    give_addresses(2);
    for (unsigned i = 0; i < 2; i++) {
        peers[i].window = SCRIPT_ALL;
        script_opens(&peers[i]);
        script_hears(&peers[i], sizeof request);
        script_says(&peers[i], i == 0 ? "S" : "N", 1, 0);
    }
    script_hears(&peers[0], sizeof request + 100);
    script_ends(&peers[0]);
    open_server(1000);
    server_secure(told.server, security, NULL);
    security_release(security);
    cr_expect(loop_until(loop, &told.is_over, 5000));
    cr_expect_eq(told.n_open, 1);
    cr_expect(peers[0].was_closed);
}

Test(server, gives_a_silent_node_no_more_time_for_tls_than_for_connecting)
{
    struct security *security = security_of(SSLMODE_PREFER);

    give_addresses(1);
    peers[0].window = SCRIPT_ALL;
    script_opens(&peers[0]);
    open_server(50);
    server_secure(told.server, security, NULL);
    security_release(security);
    turn(loop, 3);
    cr_expect_eq(told.server->state, SERVER_ASKING);
    cr_expect(loop_until(loop, &told.is_over, 5000));
    cr_expect_eq(told.n_unreachable, 1);
    cr_expect_eq(told.why, STREAM_UNREACHABLE);
}

Test(server, outlives_the_topology_that_it_was_opened_by)
{
    struct node_load *load = node_load_hold(node->load);

    give_addresses(1);
    script_opens(&peers[0]);
    open_server(1000);
    topology_release(topology);
    topology = NULL;
    turn(loop, 3);
    cr_expect_eq(told.n_open, 1);
    server_close(told.server, false);
    told.server = NULL;
    cr_expect_eq(atomic_load(&load->n_sessions), 0);
    node_load_release(load);
}

Test(server, cannot_be_read_before_its_owner_has_set_callbacks, .signal = SIGABRT)
{
    give_addresses(1);
    script_opens(&peers[0]);
    script_says(&peers[0], "hello", 5, 0);
    open_server(1000);
    stream_want(&told.server->stream, true);
    turn(loop, 5);
}

Test(server, is_not_opened_to_a_node_without_an_address, .signal = SIGABRT)
{
    node->n_addresses = 0;
    open_server(1000);
}

Test(server, names_its_states)
{
    cr_expect_str_eq(server_state_name(SERVER_CONNECTING), "CONNECTING");
    cr_expect_str_eq(server_state_name(SERVER_ASKING), "ASKING");
    cr_expect_str_eq(server_state_name(SERVER_SECURING), "SECURING");
    cr_expect_str_eq(server_state_name(SERVER_OPEN), "OPEN");
    cr_expect_str_eq(server_state_name(SERVER_CLOSING), "CLOSING");
}

static void open_one(void *unused)
{
    struct slab *one = slab_new(sizeof(struct server));
    struct server *server;

    (void)unused;
    if (one == NULL)
        return;
    server = server_open(one, loop, topology, node, 1000, &settings, &events, &told);
    cr_expect_eq(n_sessions(), server != NULL);
    if (server != NULL)
        server_close(server, false);
    cr_expect_eq(n_sessions(), 0);
    turn(loop, 1);
    slab_free(one);
}

Test(server, survives_each_allocation_failure)
{
    cr_expect_geq(fault_each_allocation(open_one, NULL), 2);
    cr_expect_eq(atomic_load(&topology->references), 1);
    cr_expect_eq(atomic_load(&node->load->references), 1);
}
