#include "config/ident_file.h"

#include <regex.h>
#include <string.h>

#include "config/file.h"
#include "core/memory.h"

#define BLANKS " \t\r\f\v"
#define EXPECTED "expected a map, a name and a user"
/* Of a user, after \1 has been filled in: PostgreSQL's own names are shorter. */
#define USER_MAX 512

struct ident_line {
    struct ident_line *next;
    char *map;
    char *name;
    char *user;
    bool is_pattern; /* the name: `pattern` is compiled */
    regex_t pattern;
};

struct ident_file {
    struct ident_line *first;
};

static void free_line(struct ident_line *line)
{
    if (line->is_pattern)
        regfree(&line->pattern);
    memory_free(line->map);
    memory_free(line->name);
    memory_free(line->user);
    memory_free(line);
}

void ident_file_free(struct ident_file *file)
{
    struct ident_line *next;

    if (file == NULL)
        return;
    for (struct ident_line *line = file->first; line != NULL; line = next) {
        next = line->next;
        free_line(line);
    }
    memory_free(file);
}

/* ---- reading ------------------------------------------------------------------------
 */

/* Takes a field off `*rest`, in place; "" at the end of the line; NULL = a quote has no
 * end. */
static char *take_field(char **rest)
{
    char *field = *rest + strspn(*rest, BLANKS), *from = field, *to = field;
    bool is_quoted = false;

    while (*from != '\0' && (is_quoted || strchr(BLANKS "#", *from) == NULL)) {
        if (*from != '"')
            *to++ = *from;
        else if (is_quoted && from[1] == '"')
            *to++ = *from++;
        else
            is_quoted = !is_quoted;
        from++;
    }
    if (is_quoted)
        return NULL;
    *rest = *from == '\0' ? from : from + 1;
    if (*from == '#')
        **rest = '\0';
    *to = '\0';
    return field;
}

/* NULL, or what is wrong. */
static const char *compile(struct ident_line *line)
{
    if (line->name[0] != '/')
        return NULL;
    if (regcomp(&line->pattern, line->name + 1, REG_EXTENDED) != 0)
        return "the name is no regular expression";
    line->is_pattern = true;
    return line->pattern.re_nsub == 0 && strstr(line->user, "\\1") != NULL
               ? "\\1 without parentheses in the regular expression"
               : NULL;
}

/* The same; the line stays empty where there is nothing on it. */
static const char *parse_line(char *text, struct ident_line *line, bool *has_memory)
{
    const char *fields[4];

    for (size_t i = 0; i < COUNT_OF(fields); i++) {
        fields[i] = take_field(&text);
        if (fields[i] == NULL)
            return "a quote has no end";
    }
    if (*fields[0] == '\0')
        return NULL;
    if (*fields[1] == '\0' || *fields[2] == '\0' || *fields[3] != '\0')
        return EXPECTED;
    line->map = memory_text(fields[0]);
    line->name = memory_text(fields[1]);
    line->user = memory_text(fields[2]);
    *has_memory = line->map != NULL && line->name != NULL && line->user != NULL;
    return *has_memory ? compile(line) : NULL;
}

/* Adds a line to the end, if there is one. */
static enum ident_file_result add_line(struct ident_line ***end, char *text,
                                       const char **wrong)
{
    struct ident_line *line = memory_zeroed(sizeof *line);
    bool has_memory = line != NULL;

    *wrong = has_memory ? parse_line(text, line, &has_memory) : NULL;
    if (has_memory && *wrong == NULL && line->map != NULL) {
        **end = line;
        *end = &line->next;
        return IDENT_FILE_OK;
    }
    if (line != NULL)
        free_line(line);
    if (!has_memory)
        return IDENT_FILE_NO_MEMORY;
    return *wrong == NULL ? IDENT_FILE_OK : IDENT_FILE_BAD;
}

enum ident_file_result ident_file_parse(const char *source, char *text,
                                        struct ident_file **file, struct text *errors)
{
    struct ident_file *found = memory_zeroed(sizeof *found);
    enum ident_file_result result = IDENT_FILE_OK;
    struct ident_line **end;
    char *next;

    if (found == NULL)
        return IDENT_FILE_NO_MEMORY;
    end = &found->first;
    for (unsigned number = 1; *text != '\0'; text = next, number++) {
        enum ident_file_result one;
        const char *wrong;

        next = strchrnul(text, '\n');
        if (*next != '\0')
            *next++ = '\0';
        one = add_line(&end, text, &wrong);
        if (wrong != NULL)
            text_addf(errors, "%s:%u: %s\n", source, number, wrong);
        if (one > result)
            result = one;
    }
    if (result == IDENT_FILE_OK)
        *file = found;
    else
        ident_file_free(found);
    return result;
}

enum ident_file_result ident_file_load(const char *path, struct ident_file **file,
                                       struct text *errors, const char **why)
{
    enum ident_file_result result = IDENT_FILE_UNREADABLE;
    struct text text;

    text_init(&text, FILE_MAX_BYTES);
    if (file_load(path, &text, why))
        result = IDENT_FILE_OK;
    if (text.overflowed)
        result = IDENT_FILE_NO_MEMORY;
    if (result == IDENT_FILE_OK)
        result = ident_file_parse(path, text.bytes, file, errors);
    text_clear(&text);
    return result;
}

/* ---- asking -------------------------------------------------------------------------
 */

bool ident_file_has(const struct ident_file *file, const char *map)
{
    for (const struct ident_line *line = file == NULL ? NULL : file->first; line != NULL;
         line = line->next)
        if (strcmp(line->map, map) == 0)
            return true;
    return false;
}

/* The line's user, with what the parentheses have matched in the place of \1. */
static bool fill_in(const struct ident_line *line, const char *name,
                    const regmatch_t *match, char user[USER_MAX])
{
    const char *place = strstr(line->user, "\\1");
    size_t n_before = place == NULL ? strlen(line->user) : (size_t)(place - line->user);
    size_t n_match = match->rm_so < 0 ? 0 : (size_t)(match->rm_eo - match->rm_so);
    const char *behind = place == NULL ? "" : place + 2;

    if (place == NULL)
        n_match = 0;
    if (n_before + n_match + strlen(behind) >= USER_MAX)
        return false;
    memcpy(user, line->user, n_before);
    if (n_match > 0)
        memcpy(user + n_before, name + match->rm_so, n_match);
    strcpy(user + n_before + n_match, behind);
    return true;
}

static bool allows(const struct ident_line *line, const char *name, const char *user)
{
    regmatch_t matches[2] = {{-1, -1}, {-1, -1}};
    char wanted[USER_MAX];

    if (!line->is_pattern)
        return strcmp(line->name, name) == 0 && strcmp(line->user, user) == 0;
    return regexec(&line->pattern, name, COUNT_OF(matches), matches, 0) == 0 &&
           fill_in(line, name, &matches[1], wanted) && strcmp(wanted, user) == 0;
}

bool ident_file_allows(const struct ident_file *file, const char *map, const char *name,
                       const char *user)
{
    for (const struct ident_line *line = file == NULL ? NULL : file->first; line != NULL;
         line = line->next)
        if (strcmp(line->map, map) == 0 && allows(line, name, user))
            return true;
    return false;
}
