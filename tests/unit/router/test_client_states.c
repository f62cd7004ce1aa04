/* The table of a client's states: router/client.h's CLIENT_STATES against a list of what
 * is legal, written down here once more. */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <signal.h>
#include <string.h>

#include "tests/lib/house.h"

static const struct {
    enum client_state from;
    enum client_state to;
} legal[] = {
    {CLIENT_STARTUP, CLIENT_WAITING},     {CLIENT_STARTUP, CLIENT_NEGOTIATING},
    {CLIENT_STARTUP, CLIENT_LOGIN},       {CLIENT_STARTUP, CLIENT_ACTIVE},
    {CLIENT_STARTUP, CLIENT_CANCELLING},  {CLIENT_STARTUP, CLIENT_REFUSING},
    {CLIENT_STARTUP, CLIENT_CLOSING},     {CLIENT_WAITING, CLIENT_CONNECTING},
    {CLIENT_WAITING, CLIENT_REFUSING},    {CLIENT_WAITING, CLIENT_CLOSING},
    {CLIENT_CONNECTING, CLIENT_WAITING},  {CLIENT_CONNECTING, CLIENT_NEGOTIATING},
    {CLIENT_CONNECTING, CLIENT_LOGIN},    {CLIENT_CONNECTING, CLIENT_ACTIVE},
    {CLIENT_CONNECTING, CLIENT_REFUSING}, {CLIENT_CONNECTING, CLIENT_CLOSING},
    {CLIENT_NEGOTIATING, CLIENT_STARTUP}, {CLIENT_NEGOTIATING, CLIENT_WAITING},
    {CLIENT_NEGOTIATING, CLIENT_ACTIVE},  {CLIENT_NEGOTIATING, CLIENT_CLOSING},
    {CLIENT_LOGIN, CLIENT_WAITING},       {CLIENT_LOGIN, CLIENT_ACTIVE},
    {CLIENT_LOGIN, CLIENT_ENDING},        {CLIENT_LOGIN, CLIENT_REFUSING},
    {CLIENT_LOGIN, CLIENT_CLOSING},       {CLIENT_ACTIVE, CLIENT_ENDING},
    {CLIENT_ACTIVE, CLIENT_CLOSING},      {CLIENT_ENDING, CLIENT_CLOSING},
    {CLIENT_CANCELLING, CLIENT_CLOSING},  {CLIENT_REFUSING, CLIENT_CLOSING},
    {CLIENT_STARTUP, CLIENT_AUTH},        {CLIENT_WAITING, CLIENT_AUTH},
    {CLIENT_AUTH, CLIENT_IDLE},           {CLIENT_AUTH, CLIENT_QUEUED},
    {CLIENT_AUTH, CLIENT_CONSOLE},        {CLIENT_CONSOLE, CLIENT_REFUSING},
    {CLIENT_CONSOLE, CLIENT_CLOSING},     {CLIENT_AUTH, CLIENT_REFUSING},
    {CLIENT_AUTH, CLIENT_CLOSING},        {CLIENT_IDLE, CLIENT_QUEUED},
    {CLIENT_IDLE, CLIENT_LEASED},         {CLIENT_IDLE, CLIENT_REFUSING},
    {CLIENT_IDLE, CLIENT_CLOSING},        {CLIENT_QUEUED, CLIENT_IDLE},
    {CLIENT_QUEUED, CLIENT_LEASED},       {CLIENT_QUEUED, CLIENT_REFUSING},
    {CLIENT_QUEUED, CLIENT_CLOSING},      {CLIENT_LEASED, CLIENT_IDLE},
    {CLIENT_LEASED, CLIENT_REFUSING},     {CLIENT_LEASED, CLIENT_CLOSING},
    {CLIENT_STARTUP, CLIENT_SECURING},    {CLIENT_SECURING, CLIENT_STARTUP},
    {CLIENT_SECURING, CLIENT_CLOSING},    {CLIENT_PROXIED, CLIENT_STARTUP},
    {CLIENT_PROXIED, CLIENT_CLOSING},     {CLIENT_LEASED, CLIENT_INQUIRING},
    {CLIENT_INQUIRING, CLIENT_IDLE},      {CLIENT_INQUIRING, CLIENT_REFUSING},
    {CLIENT_INQUIRING, CLIENT_CLOSING},
};

static struct house house;
static struct client client; /* in no list: only its state changes */

static void open_house(void)
{
    house_open(&house, 1, "client_login_timeout = 7s",
               "queue_timeout = 5s\nclient_timeout = 8s");
    client.worker = house.workers[0];
    client.listener = house.listener;
    client.accepted_at_ms = loop_now_ms(house.workers[0]->loop);
}

static void close_house(void)
{
    deadline_cancel(&client.deadline);
    house_close(&house);
}

TestSuite(client_states, .init = open_house, .fini = close_house, .timeout = 10);

static bool is_legal(enum client_state from, enum client_state to)
{
    for (size_t i = 0; i < COUNT_OF(legal); i++)
        if (legal[i].from == from && legal[i].to == to)
            return true;
    return false;
}

Test(client_states, every_legal_move_can_be_made)
{
    for (size_t i = 0; i < COUNT_OF(legal); i++) {
        client.state = legal[i].from;
        client_enter(&client, legal[i].to);
        cr_expect_eq(client.state, legal[i].to);
    }
}

struct move {
    enum client_state from;
    enum client_state to;
};

ParameterizedTestParameters(client_states, an_illegal_move_aborts)
{
    static struct move moves[CLIENT_STATE_COUNT * CLIENT_STATE_COUNT];
    size_t n = 0;

    for (unsigned from = 0; from < CLIENT_STATE_COUNT; from++)
        for (unsigned to = 0; to < CLIENT_STATE_COUNT; to++)
            if (!is_legal((enum client_state)from, (enum client_state)to))
                moves[n++] =
                    (struct move){(enum client_state)from, (enum client_state)to};
    return cr_make_param_array(struct move, moves, n);
}

ParameterizedTest(struct move *move, client_states, an_illegal_move_aborts,
                  .signal = SIGABRT)
{
    client.state = move->from;
    client_enter(&client, move->to);
}

/* ms until the deadline that entering the state has armed, 0 = none. */
static uint64_t wait_of(enum client_state from, enum client_state to)
{
    deadline_cancel(&client.deadline);
    client.state = from;
    client_enter(&client, to);
    if (!deadline_is_armed(&client.deadline))
        return 0;
    return client.deadline.due_ms - loop_now_ms(house.workers[0]->loop);
}

Test(client_states, each_has_its_deadline)
{
    cr_expect_eq(wait_of(CLIENT_CONNECTING, CLIENT_NEGOTIATING), 7000);
    cr_expect_eq(wait_of(CLIENT_CONNECTING, CLIENT_LOGIN), 7000);
    cr_expect_eq(wait_of(CLIENT_STARTUP, CLIENT_WAITING), 5000);
    cr_expect_eq(wait_of(CLIENT_LOGIN, CLIENT_ACTIVE), 2000, "looked at four times");
    cr_expect_eq(wait_of(CLIENT_ACTIVE, CLIENT_ENDING), 10000);
    cr_expect_eq(wait_of(CLIENT_STARTUP, CLIENT_CANCELLING), 10000);
    cr_expect_eq(wait_of(CLIENT_STARTUP, CLIENT_REFUSING), 10000);
    cr_expect_eq(wait_of(CLIENT_REFUSING, CLIENT_CLOSING), 0);
}

/* client_login_timeout is one for all of these states. */
Test(client_states, the_time_of_a_login_does_not_begin_anew)
{
    static const struct move moves[] = {{CLIENT_STARTUP, CLIENT_NEGOTIATING},
                                        {CLIENT_NEGOTIATING, CLIENT_STARTUP},
                                        {CLIENT_STARTUP, CLIENT_LOGIN}};
    uint64_t due_ms;

    client.state = CLIENT_STARTUP;
    client_wait_on(&client);
    due_ms = client.deadline.due_ms;
    house_turn_until(&house, &(bool){false}, 5);
    for (size_t i = 0; i < COUNT_OF(moves); i++) {
        client.state = moves[i].from;
        client_enter(&client, moves[i].to);
        cr_expect(deadline_is_armed(&client.deadline));
        cr_expect_eq(client.deadline.due_ms, due_ms);
    }
}

Test(client_states, a_wait_for_a_node_takes_nothing_from_the_time_of_a_login)
{
    static const struct {
        uint64_t spent_ms, left_ms;
    } examples[] = {/* counted in quarters, and never none */
                    {0, 7000},    {1, 7000},    {1750, 5250}, {1751, 5250},
                    {5000, 3500}, {5250, 1750}, {6999, 1750}, {100000, 1750}};

    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        uint64_t now_ms = loop_now_ms(house.workers[0]->loop);

        client.accepted_at_ms = now_ms - examples[i].spent_ms;
        wait_of(CLIENT_STARTUP, CLIENT_WAITING);
        client_enter(&client, CLIENT_CONNECTING);
        cr_expect_eq(wait_of(CLIENT_CONNECTING, CLIENT_LOGIN), examples[i].left_ms,
                     "after %u ms", (unsigned)examples[i].spent_ms);
    }
}

Test(client_states, connecting_goes_on_with_the_wait_for_a_node)
{
    client.state = CLIENT_STARTUP;
    client_enter(&client, CLIENT_WAITING);
    client_enter(&client, CLIENT_CONNECTING);
    cr_expect(deadline_is_armed(&client.deadline));
    client_enter(&client, CLIENT_CLOSING);
    cr_expect_not(deadline_is_armed(&client.deadline),
                  "nothing is waited for at the end");
}

Test(client_states, have_names)
{
    for (unsigned i = 0; i < CLIENT_STATE_COUNT; i++)
        for (unsigned k = 0; k < i; k++)
            cr_expect_str_neq(client_state_name((enum client_state)i),
                              client_state_name((enum client_state)k));
    cr_expect_str_eq(client_state_name(CLIENT_STARTUP), "STARTUP");
    cr_expect_str_eq(client_state_name(CLIENT_CLOSING), "CLOSING");
}
