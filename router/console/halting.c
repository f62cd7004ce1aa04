#include "router/console/halting.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/log.h"
#include "core/memory.h"

/* How often it is looked whether servers are left. */
#define LOOK_S 0.02

struct halting {
    struct loop *loop;
    bool (*begin)(void *arg, struct pool_order *order);
    void *arg;
    struct halts halts;
    struct list errands;
    bool is_stopped;
};

enum until { UNTIL_DONE, UNTIL_NO_SERVERS, UNTIL_NONE_TO_CLOSE };

/* A command under way. */
struct errand {
    struct link in_halting;
    struct halting *halting;
    struct pool_order order;
    enum until until;
    bool is_pause; /* it ends with the pause */
    bool is_away;
    ev_timer look;
    void (*on_end)(void *arg, const char *sqlstate, const char *why);
    void *arg;
};

/* What a command is to the workers. */
struct fact {
    bool is_there;
    enum pool_order_kind kind;
    enum until until;
    bool needs_operand;
};

static const struct fact facts[COMMAND_COUNT] = {
    [COMMAND_PAUSE] = {true, ORDER_PAUSE, UNTIL_NO_SERVERS, false},
    [COMMAND_RESUME] = {true, ORDER_RESUME, UNTIL_DONE, false},
    [COMMAND_KILL] = {true, ORDER_KILL, UNTIL_DONE, false},
    [COMMAND_DISABLE] = {true, ORDER_DISABLE, UNTIL_DONE, true},
    [COMMAND_ENABLE] = {true, ORDER_ENABLE, UNTIL_DONE, true},
    [COMMAND_RECONNECT] = {true, ORDER_RECONNECT, UNTIL_DONE, false},
    [COMMAND_WAIT_CLOSE] = {true, ORDER_COUNT, UNTIL_NONE_TO_CLOSE, false},
    [COMMAND_KILL_CLIENT] = {true, ORDER_KILL_CLIENT, UNTIL_DONE, true},
};

/* ---- the end of one -----------------------------------------------------------------
 */

static void end(struct errand *errand, const char *sqlstate, const char *why)
{
    ev_timer_stop(errand->halting->loop->ev, &errand->look);
    list_remove(&errand->halting->errands, &errand->in_halting);
    errand->on_end(errand->arg, sqlstate, why);
    memory_free(errand);
}

static void send_round(struct errand *errand)
{
    struct halting *halting = errand->halting;

    errand->is_away = true;
    if (halting->begin(halting->arg, &errand->order))
        return;
    errand->is_away = false;
    end(errand, "57P01", "pgrouter is shutting down");
}

static void on_look(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct errand *errand = CONTAINER_OF(timer, struct errand, look);

    (void)ev;
    (void)events;
    errand->order.kind = ORDER_COUNT;
    send_round(errand);
}

static bool is_over(const struct errand *errand)
{
    return errand->until == UNTIL_DONE ||
           (errand->until == UNTIL_NO_SERVERS && errand->order.n_servers == 0) ||
           (errand->until == UNTIL_NONE_TO_CLOSE && errand->order.n_to_close == 0);
}

static void on_home(struct message *message, void *control)
{
    struct errand *errand = CONTAINER_OF(message, struct errand, order.message);
    const struct pool_order *order = &errand->order;
    struct halting *halting = errand->halting;

    (void)control;
    errand->is_away = false;
    if (order->lacks_memory)
        end(errand, "53200", "out of memory: not all workers have done it");
    else if (order->kind == ORDER_KILL_CLIENT && !order->is_found)
        end(errand, "42704", "there is no such client");
    else if (is_over(errand))
        end(errand, NULL, NULL);
    else if (errand->is_pause &&
             !halts_has(&halting->halts, order->database, HALT_PAUSED))
        end(errand, "57014", "RESUME has come before all servers were released");
    else if (halting->is_stopped)
        end(errand, "57P01", "pgrouter is shutting down");
    else {
        ev_timer_set(&errand->look, LOOK_S, 0.);
        ev_timer_start(halting->loop->ev, &errand->look);
    }
}

/* ---- the beginning ------------------------------------------------------------------
 */

/* NULL: it can be done; else why not. */
static const char *mistake(const struct config *config, enum command_name command,
                           const char *operand, const char **sqlstate)
{
    const struct fact *fact = &facts[command];

    *sqlstate = "42601";
    if (fact->needs_operand && *operand == '\0')
        return command == COMMAND_KILL_CLIENT
                   ? "expected KILL_CLIENT and an id of SHOW CLIENTS"
                   : "expected the name of a database";
    if (command == COMMAND_KILL_CLIENT) {
        char *rest;

        errno = 0;
        (void)strtoull(operand, &rest, 10);
        if (*operand < '0' || *operand > '9' || *rest != '\0' || errno != 0)
            return "expected KILL_CLIENT and an id of SHOW CLIENTS";
        return NULL;
    }
    *sqlstate = "3D000";
    return *operand != '\0' && config_database(config, operand) == NULL
               ? "there is no such database"
               : NULL;
}

/* For the views, and for who pauses twice; false when memory is out. */
static bool note(struct halting *halting, const struct pool_order *order)
{
    if (order->kind == ORDER_PAUSE || order->kind == ORDER_KILL)
        return halts_set(&halting->halts, order->database, HALT_PAUSED, true);
    if (order->kind == ORDER_RESUME)
        return halts_set(&halting->halts, order->database, HALT_PAUSED, false);
    if (order->kind == ORDER_DISABLE || order->kind == ORDER_ENABLE)
        return halts_set(&halting->halts, order->database, HALT_DISABLED,
                         order->kind == ORDER_DISABLE);
    return true;
}

void halting_begin(struct halting *halting, const struct config *config,
                   enum command_name command, const char *operand, const char *user,
                   void (*on_end)(void *arg, const char *sqlstate, const char *why),
                   void *arg)
{
    const char *sqlstate, *why = mistake(config, command, operand, &sqlstate);
    struct errand *errand;

    REQUIRE(facts[command].is_there);
    if (why != NULL) {
        on_end(arg, sqlstate, why);
        return;
    }
    errand = memory_zeroed(sizeof *errand);
    if (errand == NULL) {
        on_end(arg, "53200", "out of memory");
        return;
    }
    *errand = (struct errand){.halting = halting,
                              .order = {.kind = facts[command].kind, .on_home = on_home},
                              .until = facts[command].until,
                              .is_pause = command == COMMAND_PAUSE,
                              .on_end = on_end,
                              .arg = arg};
    if (command == COMMAND_KILL_CLIENT)
        errand->order.client_id = strtoull(operand, NULL, 10);
    else
        snprintf(errand->order.database, sizeof errand->order.database, "%s", operand);
    ev_timer_init(&errand->look, on_look, LOOK_S, 0.);
    list_append(&halting->errands, &errand->in_halting);
    if (!note(halting, &errand->order)) {
        end(errand, "53200", "out of memory");
        return;
    }
    LOG(INFO, "command on the console", TEXT("command", command_facts[command].tag),
        TEXT("operand", operand), TEXT("user", user));
    send_round(errand);
}

const struct halts *halting_halts(const struct halting *halting)
{
    return &halting->halts;
}

/* ---- begin and end ------------------------------------------------------------------
 */

struct halting *halting_new(struct loop *loop,
                            bool (*begin)(void *arg, struct pool_order *order), void *arg)
{
    struct halting *halting = memory_zeroed(sizeof *halting);

    if (halting == NULL)
        return NULL;
    halting->loop = loop;
    halting->begin = begin;
    halting->arg = arg;
    halts_init(&halting->halts);
    list_init(&halting->errands);
    return halting;
}

void halting_stop(struct halting *halting)
{
    halting->is_stopped = true;
    LIST_EACH_SAFE(item, &halting->errands)
    {
        struct errand *errand = CONTAINER_OF(item, struct errand, in_halting);

        if (!errand->is_away)
            end(errand, "57P01", "pgrouter is shutting down");
    }
}

void halting_free(struct halting *halting)
{
    if (halting == NULL)
        return;
    REQUIRE(halting->errands.n == 0);
    halts_clear(&halting->halts);
    memory_free(halting);
}
