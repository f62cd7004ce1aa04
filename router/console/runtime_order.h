/* router/console/runtime_order.h - a line of the runtime socket, understood. Pure. */
#ifndef ROUTER_CONSOLE_RUNTIME_ORDER_H
#define ROUTER_CONSOLE_RUNTIME_ORDER_H

#include "config/config.h"
#include "core/text.h"

enum runtime_command {
#define RUNTIME(name, ...) RUNTIME_##name,
#include "router/console/runtime.def"
    RUNTIME_UNKNOWN,
    RUNTIME_COUNT = RUNTIME_UNKNOWN
};

enum runtime_needs { NEEDS_NOTHING, NEEDS_PICTURE, NEEDS_PEOPLE };

struct runtime_fact {
    const char *words;
    const char *operands;
    enum socket_level level;
    enum runtime_needs needs;
    const char *help;
};
extern const struct runtime_fact runtime_facts[RUNTIME_COUNT];

/* Words behind the last that fits are not kept: no command has so many. */
#define RUNTIME_WORDS_MAX 16u

struct runtime_order {
    enum runtime_command command;
    /* What stands behind the command's own words, borrowed from the line. */
    char *operands[RUNTIME_WORDS_MAX];
    unsigned n_operands;
};

/* Takes the first command off the line, up to a ';', and cuts it into words in place:
 * a backslash takes the meaning from the character behind it. `*line` is what is left, at
 * its end an empty string. */
void runtime_order_next(char **line, struct runtime_order *order);
/* The n-th operand; "" when there are not so many. */
const char *runtime_operand(const struct runtime_order *order, unsigned n);
/* What may be said at this level, one command per line. */
void runtime_help(enum socket_level level, struct text *out);

#endif
