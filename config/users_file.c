#include "config/users_file.h"

#include <stdlib.h>
#include <string.h>

#include "config/file.h"
#include "core/memory.h"

#define BLANKS " \t\r\f\v"

#define EXPECTED "expected \"name\" \"secret\""

/* A line's fields, in the text. */
struct line {
    char *name;
    char *secret;
    unsigned number; /* of the line */
};

struct lines {
    struct line *items;
    size_t n;
    size_t room;
};

/* Takes a field in quotes off `*rest`, in place; NULL = there is none, or it has no end.
 */
static char *take_field(char **rest)
{
    char *field = *rest + strspn(*rest, BLANKS);
    char *from = field + 1, *to = field;

    if (*field != '"')
        return NULL;
    for (; *from != '"' || from[1] == '"'; *to++ = *from++) {
        if (*from == '\0')
            return NULL;
        if (*from == '"')
            from++;
    }
    *to = '\0';
    *rest = from + 1;
    return field;
}

/* NULL, or what is wrong. */
static const char *parse_line(char *text, struct line *line)
{
    line->name = take_field(&text);
    if (line->name == NULL)
        return EXPECTED " (a quote inside is written twice)";
    if (line->name[0] == '\0')
        return "a user without a name; " EXPECTED;
    if (text[0] != '\0' && strchr(BLANKS, text[0]) == NULL)
        return "no blank behind the name; " EXPECTED;
    line->secret = take_field(&text);
    if (line->secret == NULL)
        return "no secret behind the name; " EXPECTED
               " (a quote inside is written twice)";
    return NULL;
}

static bool add_line(struct lines *lines, struct line line)
{
    if (lines->n == lines->room) {
        size_t room = lines->room * 2 + 16;
        struct line *items = memory_resized(lines->items, room * sizeof *items);

        if (items == NULL)
            return false;
        lines->items = items;
        lines->room = room;
    }
    lines->items[lines->n++] = line;
    return true;
}

static enum users_file_result parse_lines(const char *source, char *text,
                                          struct lines *lines, struct text *errors)
{
    enum users_file_result result = USERS_FILE_OK;
    char *next;

    if (strncmp(text, "\xef\xbb\xbf", 3) == 0)
        text += 3; /* the byte order mark that some editors write */
    for (unsigned number = 1; *text != '\0'; text = next, number++) {
        struct line line = {.number = number};
        const char *wrong;

        next = strchrnul(text, '\n');
        if (*next != '\0')
            *next++ = '\0';
        text += strspn(text, BLANKS);
        if (*text == '\0' || *text == ';')
            continue;
        wrong = parse_line(text, &line);
        if (wrong != NULL) {
            text_addf(errors, "%s:%u: %s\n", source, number, wrong);
            result = USERS_FILE_BAD;
        } else if (!add_line(lines, line)) {
            return USERS_FILE_NO_MEMORY;
        }
    }
    return result;
}

/* By name, and the last line of a name first. */
static int compare_lines(const void *a, const void *b)
{
    const struct line *one = a, *other = b;
    int order = strcmp(one->name, other->name);

    if (order != 0)
        return order;
    return one->number > other->number ? -1 : 1;
}

/* Copies the sorted lines, of each name the first. */
static bool copy_lines(const struct lines *lines, struct user_secrets *secrets)
{
    if (lines->n == 0)
        return true;
    secrets->items = memory_zeroed(lines->n * sizeof *secrets->items);
    if (secrets->items == NULL)
        return false;
    for (size_t i = 0; i < lines->n; i++) {
        struct user_secret *copy = &secrets->items[secrets->n];

        if (i > 0 && strcmp(lines->items[i - 1].name, lines->items[i].name) == 0)
            continue;
        copy->name = memory_text(lines->items[i].name);
        copy->secret = memory_text(lines->items[i].secret);
        secrets->n++;
        if (copy->name == NULL || copy->secret == NULL)
            return false;
    }
    return true;
}

enum users_file_result users_file_parse(const char *source, char *text,
                                        struct user_secrets *secrets, struct text *errors)
{
    struct lines lines = {0};
    struct user_secrets found = {0};
    enum users_file_result result = parse_lines(source, text, &lines, errors);

    if (result == USERS_FILE_OK && lines.n > 0) {
        qsort(lines.items, lines.n, sizeof *lines.items, compare_lines);
        if (!copy_lines(&lines, &found))
            result = USERS_FILE_NO_MEMORY;
    }
    memory_free(lines.items);
    if (result == USERS_FILE_OK)
        *secrets = found;
    else
        users_file_clear(&found);
    return result;
}

enum users_file_result users_file_load(const char *path, struct user_secrets *secrets,
                                       struct text *errors, const char **why)
{
    enum users_file_result result = USERS_FILE_UNREADABLE;
    struct text text;

    text_init(&text, FILE_MAX_BYTES);
    if (file_load(path, &text, why))
        result = USERS_FILE_OK;
    if (text.overflowed)
        result = USERS_FILE_NO_MEMORY;
    if (result == USERS_FILE_OK)
        result = users_file_parse(path, text.bytes, secrets, errors);
    text_clear(&text);
    return result;
}

/* Where the name is, or belongs. */
static size_t find_place(const struct user_secrets *secrets, const char *name)
{
    size_t i = 0;

    while (i < secrets->n && strcmp(secrets->items[i].name, name) < 0)
        i++;
    return i;
}

bool users_file_add(struct user_secrets *secrets, const char *name, const char *secret)
{
    size_t at = find_place(secrets, name);
    bool is_there = at < secrets->n && strcmp(secrets->items[at].name, name) == 0;
    struct user_secret made = {.secret = memory_text(secret)};
    struct user_secret *items;

    if (made.secret == NULL)
        return false;
    if (is_there) {
        memory_free(secrets->items[at].secret);
        secrets->items[at].secret = made.secret;
        return true;
    }
    made.name = memory_text(name);
    items = memory_resized(secrets->items, (secrets->n + 1) * sizeof *items);
    if (items != NULL)
        secrets->items = items;
    if (items == NULL || made.name == NULL) {
        memory_free(made.name);
        memory_free(made.secret);
        return false;
    }
    memmove(items + at + 1, items + at, (secrets->n - at) * sizeof *items);
    items[at] = made;
    secrets->n++;
    return true;
}

void users_file_clear(struct user_secrets *secrets)
{
    for (size_t i = 0; i < secrets->n; i++) {
        memory_free(secrets->items[i].name);
        memory_free(secrets->items[i].secret);
    }
    memory_free(secrets->items);
    *secrets = (struct user_secrets){0};
}
