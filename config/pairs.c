#include "config/pairs.h"

#include <stdbool.h>
#include <string.h>

#define BLANKS " \t"

static char *skip_blanks(char *text)
{
    return text + strspn(text, BLANKS);
}

/* Takes the quotes off the value that begins here, in place; what follows it, NULL =
 * there is no closing quote. */
static char *unquote(char *text)
{
    char *from = text + 1, *to = text;

    for (; *from != '\'' || from[1] == '\''; *to++ = *from++) {
        if (*from == '\0')
            return NULL;
        if (*from == '\'')
            from++;
    }
    *to = '\0';
    return from + 1;
}

/* Ends the value that begins here; what follows it. */
static char *end_value(char *text)
{
    char *end = text + strcspn(text, BLANKS);

    if (*end != '\0')
        *end++ = '\0';
    return end;
}

enum pairs_result pairs_next(char **rest, char **name, char **value, const char **why)
{
    char *at = skip_blanks(*rest), *equals, *end;

    if (*at == '\0')
        return PAIRS_END;
    *why = "expected setting=value, and a value with blanks in single quotes";
    end = at + strcspn(at, BLANKS "=");
    equals = skip_blanks(end);
    if (*equals != '=' || end == at)
        return PAIRS_BAD;
    *end = '\0';
    *name = at;
    at = skip_blanks(equals + 1);
    *value = at;
    if (*at == '\'') {
        end = unquote(at);
        *why = "a closing quote is missing (a quote inside is written twice)";
        if (end == NULL)
            return PAIRS_BAD;
        *why = "text behind a closing quote (a quote inside is written twice)";
        if (*end != '\0' && strchr(BLANKS, *end) == NULL)
            return PAIRS_BAD;
    } else {
        end = end_value(at);
    }
    *why = "a setting without a value; expected setting=value, or leave it out";
    if (**value == '\0')
        return PAIRS_BAD;
    *rest = end;
    return PAIRS_ONE;
}
