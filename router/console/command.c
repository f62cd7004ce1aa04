#include "router/console/command.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* No statement that we understand is longer, in its plainest form. */
#define PLAIN_MAX 128u

const struct command_fact command_facts[COMMAND_COUNT] = {
#define COMMAND(name, words, who, where, view, tag) \
    [COMMAND_##name] = {words, WHO_##who, WHERE_##where, VIEW_##view, tag},
#include "router/console/commands.def"
};

const struct console_parameter console_parameters[] = {
#define PARAMETER(name, value, greets) {name, value, greets},
#include "router/console/parameters.def"
};
const size_t n_console_parameters = COUNT_OF(console_parameters);

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

/* Behind the statement: at a ';' that stands in no quotes, or at the end. */
static const char *end_of(const char *at)
{
    char quote = '\0';

    for (; *at != '\0' && (quote != '\0' || *at != ';'); at++) {
        if (quote == '\0' && (*at == '\'' || *at == '"'))
            quote = *at;
        else if (*at == quote)
            quote = '\0';
    }
    return at;
}

/* In small letters, with one blank between words and around '='; "" when it is too long
 * to be anything. */
static void make_plain(const char *text, size_t n, char plain[PLAIN_MAX])
{
    size_t length = 0;
    bool wants_blank = false;

    for (size_t i = 0; i < n; i++) {
        if (is_blank(text[i])) {
            wants_blank = length > 0;
            continue;
        }
        wants_blank =
            wants_blank || text[i] == '=' || (length > 0 && plain[length - 1] == '=');
        if (length + 3 > PLAIN_MAX) {
            length = 0;
            break;
        }
        if (wants_blank && length > 0)
            plain[length++] = ' ';
        wants_blank = false;
        plain[length++] = (char)tolower((unsigned char)text[i]);
    }
    plain[length] = '\0';
}

static const struct console_parameter *find_parameter(const char *name, size_t n)
{
    if (n > 2 && name[0] == '"' && name[n - 1] == '"') {
        name++;
        n -= 2;
    }
    for (size_t i = 0; i < n_console_parameters; i++)
        if (strlen(console_parameters[i].name) == n &&
            strncasecmp(console_parameters[i].name, name, n) == 0)
            return &console_parameters[i];
    return NULL;
}

/* "show name", "set name = value", "set session name to value". */
static void understand_parameter(const char *plain, struct command *command)
{
    size_t n;

    if (strncmp(plain, "show ", 5) == 0) {
        command->parameter = find_parameter(plain + 5, strlen(plain + 5));
        if (command->parameter != NULL)
            command->name = COMMAND_SHOW_PARAMETER;
        return;
    }
    if (strncmp(plain, "set ", 4) != 0)
        return;
    plain += 4;
    if (strncmp(plain, "session ", 8) == 0)
        plain += 8;
    n = strcspn(plain, " ");
    if (strncmp(plain + n, " = ", 3) != 0 && strncmp(plain + n, " to ", 4) != 0)
        return;
    command->parameter = find_parameter(plain, n);
    if (command->parameter != NULL)
        command->name = COMMAND_SET_PARAMETER;
}

/* Its operands have capitals, and blanks in quotes: they are read from the text. */
static void understand_switchover(struct command *command)
{
    static const char word[] = "switchover";
    const size_t n = sizeof word - 1;

    if (command->n_text <= n || strncasecmp(command->text, word, n) != 0 ||
        !is_blank(command->text[n]))
        return;
    if (order_read(command->text + n, command->n_text - n, &command->order,
                   &command->why))
        command->name = COMMAND_SWITCHOVER;
}

static void understand_reset(struct command *command)
{
    const char *why;

    if (order_read_reset(command->text, command->n_text, &command->order, &why))
        command->name = COMMAND_RESET_CLUSTER;
    else if (why != NULL)
        command->why = why;
}

/* The name of a database or node may have capitals, and blanks in quotes. */
static void understand_name(struct command *command)
{
    static const enum command_name names[] = {
        COMMAND_PAUSE,   COMMAND_RESUME,      COMMAND_KILL,      COMMAND_KILL_CLIENT,
        COMMAND_DISABLE, COMMAND_ENABLE,      COMMAND_RECONNECT, COMMAND_WAIT_CLOSE,
        COMMAND_DRAIN,   COMMAND_MAINTENANCE, COMMAND_READY};

    for (size_t i = 0; i < COUNT_OF(names); i++) {
        const char *word = command_facts[names[i]].words;
        size_t n = strlen(word);

        if (command->n_text <= n || strncasecmp(command->text, word, n) != 0 ||
            (!is_blank(command->text[n]) && command->text[n] != '"'))
            continue;
        if (order_read_name(command->text + n, command->n_text - n, command->operand))
            command->name = names[i];
        else
            command->why = "expected one name; in quotes where it has blanks";
        return;
    }
}

static void understand(struct command *command)
{
    char plain[PLAIN_MAX];

    make_plain(command->text, command->n_text, plain);
    for (unsigned i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(command_facts[i].words, plain) == 0) {
            command->name = (enum command_name)i;
            return;
        }
    understand_parameter(plain, command);
    understand_switchover(command);
    understand_reset(command);
    understand_name(command);
}

bool command_next(const char **at, struct command *command)
{
    const char *begin = *at, *end;

    while (is_blank(*begin) || *begin == ';')
        begin++;
    if (*begin == '\0') {
        *at = begin;
        return false;
    }
    end = end_of(begin);
    *at = *end == ';' ? end + 1 : end;
    while (is_blank(end[-1]))
        end--;
    *command = (struct command){.name = COMMAND_UNKNOWN,
                                .text = begin,
                                .n_text = (size_t)(end - begin),
                                .order = {.drain_ms = -1}};
    understand(command);
    return true;
}
