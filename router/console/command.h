/* router/console/command.h - what is typed at the console, understood. Pure. */
#ifndef ROUTER_CONSOLE_COMMAND_H
#define ROUTER_CONSOLE_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "core/check.h"
#include "router/console/order.h"

enum command_name {
#define COMMAND(name, ...) COMMAND_##name,
#include "router/console/commands.def"
    COMMAND_UNKNOWN,
    COMMAND_COUNT = COMMAND_UNKNOWN
};

enum command_who { WHO_ANYONE, WHO_ADMIN };
enum command_where { WHERE_HERE, WHERE_CONTROL, WHERE_SUMMED, WHERE_PEOPLE };

enum view_name {
#define VIEW(name) VIEW_##name,
#include "router/console/columns.def"
    VIEW_COUNT,
    VIEW_NONE = VIEW_COUNT
};

struct command_fact {
    const char *words;
    enum command_who who;
    enum command_where where;
    enum view_name view;
    const char *tag;
};
extern const struct command_fact command_facts[COMMAND_COUNT];

/* What the console says of itself as a server. */
struct console_parameter {
    const char *name;
    const char *value;
    bool greets;
};
extern const struct console_parameter console_parameters[];
extern const size_t n_console_parameters;

struct command {
    enum command_name name;
    const struct console_parameter *parameter; /* of SHOW and SET of one */
    char operand[NODE_NAME_MAX];               /* of PAUSE and those like it; "" = none */
    const char *text;                          /* the statement, `n_text` bytes */
    size_t n_text;
    struct switchover_order order; /* of SWITCHOVER and RESET CLUSTER */
    const char *why;               /* COMMAND_UNKNOWN: what is wrong; NULL = all */
};

/* Reads the next statement, up to a ';' or the end, and moves `*at` behind it. Statements
 * that are empty are passed over. False when there is none left. */
bool command_next(const char **at, struct command *command) MUST_CHECK;
#endif
