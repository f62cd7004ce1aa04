#include "router/console/runtime_order.h"

#include <string.h>

#include "core/check.h"

const struct runtime_fact runtime_facts[RUNTIME_COUNT] = {
#define RUNTIME(name, words, operands, level, needs, help) \
    [RUNTIME_##name] = {words, operands, SOCKET_##level, NEEDS_##needs, help},
#include "router/console/runtime.def"
};

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* One word, moved to where it begins; returns behind it. */
static char *cut_word(char *at)
{
    char *to = at;

    while (*at != '\0' && *at != ';' && !is_blank(*at)) {
        if (*at == '\\' && at[1] != '\0')
            at++;
        *to++ = *at++;
    }
    if (to != at)
        *to = '\0';
    return at;
}

/* How many of the words are the command's own; 0: it is not this command. */
static unsigned match(const char *const *words, unsigned n_words, const char *command)
{
    unsigned n = 0;

    while (*command != '\0') {
        size_t length = strcspn(command, " ");

        if (n == n_words || strlen(words[n]) != length ||
            strncmp(words[n], command, length) != 0)
            return 0;
        n++;
        command += length;
        command += *command == ' ';
    }
    return n;
}

static void understand(struct runtime_order *order, char **words, unsigned n_words)
{
    order->command = RUNTIME_UNKNOWN;
    order->n_operands = 0;
    for (unsigned i = 0; i < RUNTIME_COUNT; i++) {
        unsigned n = match((const char *const *)words, n_words, runtime_facts[i].words);

        if (n == 0)
            continue;
        order->command = (enum runtime_command)i;
        order->n_operands = n_words - n;
        memcpy(order->operands, words + n, order->n_operands * sizeof *words);
        return;
    }
}

void runtime_order_next(char **line, struct runtime_order *order)
{
    char *at = *line, *words[RUNTIME_WORDS_MAX], end;
    unsigned n = 0;

    for (;;) {
        while (is_blank(*at))
            at++;
        if (*at == '\0' || *at == ';')
            break;
        if (n < RUNTIME_WORDS_MAX)
            words[n++] = at;
        at = cut_word(at);
        end = *at;
        *at = '\0';
        if (end == '\0' || end == ';') {
            at += end == ';';
            *line = at;
            understand(order, words, n);
            return;
        }
        at++;
    }
    *line = at + (*at == ';');
    understand(order, words, n);
}

const char *runtime_operand(const struct runtime_order *order, unsigned n)
{
    return n < order->n_operands ? order->operands[n] : "";
}

void runtime_help(enum socket_level level, struct text *out)
{
    for (unsigned i = 0; i < RUNTIME_COUNT; i++) {
        const struct runtime_fact *fact = &runtime_facts[i];
        int width = 40 - (int)strlen(fact->words) - 1;

        if (fact->level <= level)
            text_addf(out, "  %s %-*s : %s\n", fact->words, width > 0 ? width : 0,
                      fact->operands, fact->help);
    }
}
