/* Conversations by chance between a client of any kind and a server that does what
 * PostgreSQL's main loop does. Whatever they say, and however late it is heard: a flow
 * that is at rest follows a server that is, and what it says is needed brings it there.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "wire/flow.h"

TestSuite(flow_chance, .timeout = 300);

#define SCRIPTS 40000u
#define MOVES_MAX 80u
#define BYTES_MAX 8192u

/* ---- chance
 * ----------------------------------------------------------------------------
 */

static uint64_t chance;

static unsigned below(unsigned n)
{
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    return (unsigned)((chance >> 33) % n);
}

static bool one_in(unsigned n)
{
    return below(n) == 0;
}

static char one_of(const char *types)
{
    return types[below((unsigned)strlen(types))];
}

/* ---- the server
 * ------------------------------------------------------------------------
 */

enum copy { NO_COPY, COPY_OF_QUERY, COPY_OF_EXECUTE };

struct postgres {
    char heard[BYTES_MAX];
    size_t n_heard, n_read;
    char said[BYTES_MAX]; /* the status stands behind each 'Z' */
    size_t n_said, n_delivered;
    enum copy copy;
    unsigned n_statements; /* of the Query under way, still to be run */
    bool is_skipping;
    bool is_open; /* extended messages were run since the last ReadyForQuery */
    bool is_dead;
    char status;
    unsigned copies; /* one in how many statements is one */
};

static void say(struct postgres *server, const char *types)
{
    size_t n = strlen(types);

    cr_assert_lt(server->n_said + n + 1, BYTES_MAX);
    if (one_in(8))
        server->said[server->n_said++] = one_of("NAS");
    memcpy(server->said + server->n_said, types, n);
    server->n_said += n;
}

static void be_ready(struct postgres *server)
{
    if (one_in(4))
        server->status = one_of("ITE");
    say(server, server->status == 'I' ? "ZI" : server->status == 'T' ? "ZT" : "ZE");
    server->is_open = false;
}

static void fail_copy(struct postgres *server)
{
    say(server, "E");
    if (server->copy == COPY_OF_QUERY)
        be_ready(server);
    else
        server->is_skipping = true;
    server->copy = NO_COPY;
}

/* A trigger may fail before anything is read. */
static void begin_copy(struct postgres *server, enum copy copy)
{
    say(server, "G");
    server->copy = copy;
    if (one_in(6))
        fail_copy(server);
}

static void run_query(struct postgres *server)
{
    while (server->n_statements > 0) {
        server->n_statements--;
        if (one_in(server->copies)) {
            begin_copy(server, COPY_OF_QUERY);
            return;
        }
        switch (below(6)) {
        case 0:
            say(server, "E");
            server->n_statements = 0;
            break;
        case 1:
            say(server, "HddcC");
            break;
        case 2:
            say(server, "I");
            break;
        default:
            say(server, one_in(2) ? "C" : "TDDC");
        }
    }
    be_ready(server);
}

static const char *answer_to(char type)
{
    switch (type) {
    case 'P':
        return "1";
    case 'B':
        return "2";
    case 'C':
        return "3";
    case 'D':
        return one_in(2) ? "tT" : one_in(2) ? "n" : "T";
    default:
        return one_in(2) ? "DC" : one_in(2) ? "Ds" : one_in(2) ? "I" : "HdcC";
    }
}

static void run_extended(struct postgres *server, char type)
{
    server->is_open = true;
    if (one_in(10)) {
        say(server, "E");
        server->is_skipping = true;
    } else if (type == 'E' && one_in(server->copies)) {
        begin_copy(server, COPY_OF_EXECUTE);
    } else {
        say(server, answer_to(type));
    }
}

static void read_in_copy(struct postgres *server, char type)
{
    if (type == 'S' || type == 'H' || (type == 'd' && !one_in(8))) {
        if (one_in(20)) /* cancelled */
            fail_copy(server);
    } else if (type == 'c' && !one_in(8)) {
        enum copy copy = server->copy;

        say(server, "C");
        server->copy = NO_COPY;
        if (copy == COPY_OF_QUERY)
            run_query(server);
    } else if (strchr("dcf", type) != NULL) {
        server->n_statements = 0;
        fail_copy(server);
    } else { /* it does not even read on */
        say(server, "EE");
        server->is_dead = true;
    }
}

static void read_one(struct postgres *server)
{
    char type;

    if (server->is_dead || server->n_read == server->n_heard)
        return;
    type = server->heard[server->n_read++];
    if (server->copy != NO_COPY) {
        read_in_copy(server, type);
    } else if (type == 'S') {
        if (server->is_open && !server->is_skipping && one_in(12)) /* cannot commit */
            say(server, "E");
        server->is_skipping = false;
        be_ready(server);
    } else if (server->is_skipping || strchr("Hdcf", type) != NULL) {
        return;
    } else if (type == 'Q') {
        server->n_statements = 1 + below(3);
        run_query(server);
    } else if (type == 'F') {
        say(server, one_in(4) ? "E" : "V");
        be_ready(server);
    } else {
        run_extended(server, type);
    }
}

static bool is_idle(const struct postgres *server)
{
    for (size_t i = server->n_read; i < server->n_heard; i++)
        if (!flow_is_ignored_at_rest((uint8_t)server->heard[i]))
            return false;
    return server->n_delivered == server->n_said && server->copy == NO_COPY &&
           !server->is_skipping && !server->is_open && !server->is_dead &&
           server->status == 'I';
}

/* ---- between the two
 * -------------------------------------------------------------------
 */

struct scene {
    unsigned number;
    struct postgres server;
    struct flow flow;
    bool is_over; /* the server is to be closed */
};

/* False when the flow has it wait. */
static bool forward(struct scene *scene, char type)
{
    enum flow_step step = flow_forward(&scene->flow, (uint8_t)type);

    if (step == FLOW_GOES_ON) {
        cr_assert_lt(scene->server.n_heard, BYTES_MAX);
        scene->server.heard[scene->server.n_heard++] = type;
    } else if (step != FLOW_FULL) { /* a client may always close what it has begun */
        cr_assert(step == FLOW_ILLEGAL && type != 'S', "script %u", scene->number);
    }
    return step != FLOW_FULL;
}

static void deliver_one(struct scene *scene)
{
    struct postgres *server = &scene->server;
    unsigned flags = scene->flow.flags;
    enum flow_step step;
    char type;

    if (server->n_delivered == server->n_said)
        return;
    type = server->said[server->n_delivered++];
    if (type == 'Z')
        step = flow_see_ready(&scene->flow, server->said[server->n_delivered++]);
    else
        step = flow_see(&scene->flow, (uint8_t)type);
    if (step == FLOW_CONFUSED) { /* the last word of the dying, or a copy's bad end */
        cr_assert_eq(type, 'E', "script %u: %c", scene->number, type);
        cr_assert(server->is_dead || (flags & FLOW_COPY_IN) != 0, "script %u",
                  scene->number);
        scene->is_over = true;
    } else {
        cr_assert_eq(step, type == 'Z' ? FLOW_READY : FLOW_GOES_ON, "script %u: %c",
                     scene->number, type);
    }
}

/* Until the server waits, and all was heard that it has said. */
static void settle(struct scene *scene)
{
    struct postgres *server = &scene->server;

    while (!scene->is_over && (server->n_delivered < server->n_said ||
                               (!server->is_dead && server->n_read < server->n_heard))) {
        read_one(server);
        deliver_one(scene);
    }
    scene->is_over |= server->is_dead;
}

static void look(const struct scene *scene)
{
    const struct flow *flow = &scene->flow;

    if (!flow_is_at_rest(flow))
        return;
    cr_assert(is_idle(&scene->server), "script %u", scene->number);
    cr_assert_eq(flow->n_answered, flow->n_forwarded, "script %u", scene->number);
}

/* The server is to answer before anything else is forwarded: it will. */
static void wait_for_room(struct scene *scene, char type)
{
    settle(scene);
    cr_assert(scene->is_over || forward(scene, type), "script %u", scene->number);
}

static void move(struct scene *scene)
{
    const char *types =
        flow_is_copying_in(&scene->flow) ? "ddddccfSHQP" : "QQQQFPPBBDDEEECSSSSSHcdcf";
    char type = one_of(types);

    switch (below(3)) {
    case 0:
        read_one(&scene->server);
        break;
    case 1:
        deliver_one(scene);
        break;
    default:
        if (!forward(scene, type))
            wait_for_room(scene, type);
    }
}

/* Obeys until it is at rest. */
static void bring_to_rest(struct scene *scene)
{
    for (unsigned i = 0; i < 20; i++) {
        settle(scene);
        if (scene->is_over)
            return;
        look(scene);
        cr_assert(flow_is_at_rest(&scene->flow) || !is_idle(&scene->server) ||
                      (scene->flow.flags & FLOW_UNSURE) != 0,
                  "script %u: at rest unseen", scene->number);
        switch (flow_need(&scene->flow)) {
        case FLOW_NEEDS_NOTHING:
            cr_assert(flow_is_at_rest(&scene->flow));
            return;
        case FLOW_NEEDS_COPY_FAIL:
            cr_assert(forward(scene, 'f'));
            break;
        case FLOW_NEEDS_SYNC:
            cr_assert(forward(scene, 'S'));
            break;
        case FLOW_NEEDS_ROLLBACK:
            cr_assert_eq(flow_forward(&scene->flow, 'Q'), FLOW_GOES_ON);
            say(&scene->server, "CZI");
            scene->server.status = 'I';
            break;
        case FLOW_NEEDS_ANSWERS:
        case FLOW_NEEDS_CLOSE:
            cr_assert_fail("script %u: %d", scene->number, (int)flow_need(&scene->flow));
        }
    }
    cr_assert_fail("script %u: never at rest", scene->number);
}

Test(flow_chance, at_rest_is_who_has_nothing_to_say_and_everybody_comes_to_rest)
{
    static struct scene scene;
    unsigned n_rests = 0, n_over = 0;

    for (unsigned i = 1; i <= SCRIPTS; i++) {
        unsigned n_moves;

        chance = i * 0x9e3779b97f4a7c15u;
        memset(&scene, 0, sizeof scene);
        scene.number = i;
        scene.server.status = 'I';
        scene.server.copies = 2 + 5 * below(8);
        n_moves = 1 + below(MOVES_MAX);
        for (unsigned k = 0; k < n_moves && !scene.is_over; k++) {
            move(&scene);
            if (!scene.is_over)
                look(&scene);
            n_rests += flow_is_at_rest(&scene.flow);
        }
        if (!scene.is_over)
            bring_to_rest(&scene);
        n_over += scene.is_over;
    }
    cr_expect_gt(n_rests, SCRIPTS);
    cr_expect_lt(n_over, SCRIPTS / 3);
    cr_log_info("%u rests, %u of %u over", n_rests, n_over, SCRIPTS);
}
