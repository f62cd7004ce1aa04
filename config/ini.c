/* config/ini.c - our reader around inih.
 *
 * inih splits "name = value", but on what it is given it has habits that no operator
 * expects (measured with Debian's build): it cuts a line after some 200 bytes and a
 * section's name after 50, takes " ;" for a comment wherever it stands, an indented line
 * for a continuation and a ':' for a '=', and says nothing of a section without settings.
 *
 * So files, sections, comments and includes are ours, and inih gets one setting at a
 * time in lines that it cannot misread:
 *
 *   nodes = a=127.0.0.1:5432, b...       nodes=a=127.0.0.1<04>5432,<01>b...
 *                                        nodes=the next 190 bytes or so
 *
 * Bytes that mean something to it are replaced, one by one, by control characters, which
 * files cannot hold, and put back in the handler; what is longer than a line of inih's
 * follows in further lines under the same name, and the handler joins them.
 */
#include "config/ini.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/file.h"
#include "core/memory.h"

#define DEPTH_MAX 10       /* files that include each other */
#define FILES_MAX 1000     /* that are read in all */
#define NAME_MAX_BYTES 100 /* of a setting: leaves room for a value in inih's line */
#define MISTAKE_MAX 512

#define BLANKS " \t\r\f\v"
#define BARE_NAME "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-*"

/* A file that is being read. */
struct source {
    const char *name; /* in ini->names */
    char *text;       /* owned; NULL when there is none left */
    char *next;       /* the line after the present one, in `text` */
    unsigned line;
    dev_t device; /* with `inode`: who it is, to see a file that includes itself */
    ino_t inode;
};

struct reading {
    struct ini *ini;
    const struct ini_handler *handler;
    struct source open[DEPTH_MAX]; /* the innermost last */
    unsigned depth;
    bool may_include;
    enum ini_lines lines; /* of the present section */
    bool out_of_memory;

    /* The setting in hand. */
    struct place place;
    char name[NAME_MAX_BYTES + 1];
    const char *rest;  /* of its value: encoded, still to be given to inih; NULL = none */
    struct text value; /* what came back from inih */
};

/* Not so the zero byte that ends a text. */
static bool is_blank(char byte)
{
    return byte != '\0' && strchr(BLANKS, byte) != NULL;
}

static void mistake(struct reading *r, struct place place, const char *what)
{
    r->handler->on_mistake(r->handler->arg, place, what);
}

/* ---- bytes that inih must not see ---- */

static const char hidden[] = " \t;:=[#";

static void encode(char *text)
{
    for (; *text != '\0'; text++) {
        const char *found = strchr(hidden, *text);

        if (found != NULL)
            *text = (char)(found - hidden + 1);
    }
}

static void decode(char *text)
{
    for (; *text != '\0'; text++)
        if ((unsigned char)*text < sizeof hidden)
            *text = hidden[(unsigned char)*text - 1];
}

/* ---- files ---- */

static void source_clear(struct source *source)
{
    memory_free(source->text);
    *source = (struct source){0};
}

const char *ini_keep(struct ini *ini, const char *name)
{
    char **names = memory_resized(ini->names, (ini->n + 1) * sizeof *names);

    if (names == NULL)
        return NULL;
    ini->names = names;
    names[ini->n] = memory_text(name);
    return names[ini->n] == NULL ? NULL : names[ini->n++];
}

/* Takes `source->text`; `name` is copied. */
static void push(struct reading *r, const char *name, struct source source)
{
    source.name = ini_keep(r->ini, name);
    if (source.name == NULL) {
        r->out_of_memory = true;
        source_clear(&source);
        return;
    }
    source.next = source.text;
    if (strncmp(source.next, "\xef\xbb\xbf", 3) == 0)
        source.next += 3; /* the byte order mark that some editors write */
    r->open[r->depth++] = source;
}

static bool is_open(const struct reading *r, const struct stat *status)
{
    for (unsigned i = 0; i < r->depth; i++)
        if (r->open[i].inode == status->st_ino && r->open[i].device == status->st_dev)
            return true;
    return false;
}

/* Makes what `fd` leads to the innermost source, or says why not. */
static void push_file(struct reading *r, const char *path, int fd, const char **why)
{
    struct stat status;
    struct text text;
    bool has_read;

    if (fstat(fd, &status) != 0) {
        *why = strerror(errno);
        return;
    }
    if (r->depth > 0 && !S_ISREG(status.st_mode)) {
        *why = "not a regular file";
        return;
    }
    if (is_open(r, &status)) {
        *why = "it includes itself";
        return;
    }
    text_init(&text, FILE_MAX_BYTES);
    has_read = file_read(fd, &text, why);
    if (text.overflowed)
        r->out_of_memory = true;
    if (!has_read || r->out_of_memory)
        text_clear(&text);
    else
        push(r, path,
             (struct source){
                 .text = text.bytes, .device = status.st_dev, .inode = status.st_ino});
}

/* ---- %include ---- */

/* Opens `name`, seen from the includer's folder or, where there is none, from the working
 * directory; `path` becomes what was opened. Below 0 errno says why not. */
static int open_included(const char *includer, const char *name, struct text *path)
{
    /* Without O_NONBLOCK a pipe that nobody writes to would hold us up. */
    const int flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    const char *slash = name[0] == '/' ? NULL : strrchr(includer, '/');

    if (slash != NULL) {
        int fd;

        text_add_n(path, includer, (size_t)(slash - includer) + 1);
        text_add(path, name);
        fd = open(text_get(path), flags);
        if (fd >= 0 || errno != ENOENT || path->overflowed)
            return fd;
        text_clear(path);
    }
    text_add(path, name);
    return open(text_get(path), flags);
}

static void include(struct reading *r, const char *name)
{
    char what[MISTAKE_MAX];
    const char *why = NULL;
    struct text path;
    int fd = -1;

    text_init(&path, 2 * FILE_MAX_BYTES);
    if (!r->may_include)
        why = "only a file can include another";
    else if (r->depth == DEPTH_MAX)
        why = "files may include each other 10 deep at most";
    else if (r->ini->n == FILES_MAX)
        why = "1000 files at most";
    else if ((fd = open_included(r->place.source, name, &path)) < 0)
        why = strerror(errno);
    if (path.overflowed)
        r->out_of_memory = true;
    else if (fd >= 0)
        push_file(r, text_get(&path), fd, &why);

    if (why != NULL && !r->out_of_memory) {
        snprintf(what, sizeof what, "cannot include '%.300s': %s", name, why);
        mistake(r, r->place, what);
    }
    if (fd >= 0)
        close(fd);
    text_clear(&path);
}

static void read_directive(struct reading *r, char *line)
{
    static const char word[] = "%include";
    const size_t length = strlen(word);

    if (strncmp(line, word, length) != 0 ||
        (line[length] != '\0' && !is_blank(line[length])))
        mistake(r, r->place, "a line that begins with '%'; expected %include FILE");
    else if (line[length] == '\0')
        mistake(r, r->place, "%include without a name; expected %include FILE");
    else
        include(r, line + length + strspn(line + length, BLANKS));
}

/* ---- lines ---- */

/* The next line of the innermost source, without the blanks around it. */
static char *take_line(struct source *source)
{
    char *line = source->next;
    char *end = strchrnul(line, '\n');

    source->next = *end == '\0' ? end : end + 1;
    source->line++;
    while (end > line && is_blank(end[-1]))
        end--;
    *end = '\0';
    return line + strspn(line, BLANKS);
}

static bool has_control_character(const char *line)
{
    for (; *line != '\0'; line++)
        if (((unsigned char)*line < ' ' && *line != '\t') || *line == 0x7f)
            return true;
    return false;
}

static void trim_end(char *text)
{
    size_t length = strlen(text);

    while (length > 0 && is_blank(text[length - 1]))
        length--;
    text[length] = '\0';
}

static void read_header(struct reading *r, char *line)
{
    char *header = line + 1 + strspn(line + 1, BLANKS);
    char *end = strchr(line, ']');
    const char *behind = end == NULL ? "" : end + 1 + strspn(end + 1, BLANKS);
    const char *what = NULL;

    if (end == NULL)
        what = "a ']' is missing; expected [section]";
    else if (*behind != '\0' && *behind != ';' && *behind != '#')
        what = "text behind a section's header; expected the end of the line";
    if (what != NULL) {
        mistake(r, r->place, what);
        header = NULL;
    } else {
        *end = '\0';
        trim_end(header);
    }
    r->lines = r->handler->on_section(r->handler->arg, header, r->place);
}

/* Takes the quotes off, in place; `*behind` is what follows the closing one and blanks.
 * False: there is no closing one. */
static bool unquote(char *text, char **behind)
{
    const char quote = *text;
    char *from = text + 1;
    char *to = text;

    for (; *from != quote || from[1] == quote; *to++ = *from++) {
        if (*from == '\0')
            return false;
        if (*from == quote)
            from++;
    }
    *behind = from + 1 + strspn(from + 1, BLANKS);
    *to = '\0';
    return true;
}

/* NULL, or what is wrong. */
static const char *unquote_value(char *value)
{
    char *behind;

    if (!unquote(value, &behind))
        return "the closing quote is missing (a quote inside is written twice)";
    if (*behind != '\0' && *behind != ';')
        return "text behind the closing quote (a quote inside is written twice)";
    return NULL;
}

/* Ends the value where a comment begins: at a ';' behind white space. There is a byte
 * before `value`. */
static void cut_comment(char *value)
{
    char *at = value;

    while (*at != '\0' && (*at != ';' || !is_blank(at[-1])))
        at++;
    *at = '\0';
    trim_end(value);
}

/* Cuts the line in two at its '='; the name loses its quotes. NULL, or what is wrong. */
static const char *split_setting(char *line, bool has_own_name, char **value)
{
    bool is_quoted = has_own_name && (*line == '"' || *line == '\'');
    char *equals = line;

    if (is_quoted && !unquote(line, &equals))
        return "the closing quote of the name is missing (a quote inside is written "
               "twice)";
    if (is_quoted && *equals != '=' && *equals != '\0')
        return "text behind the name's closing quote; expected \"name\" = value";
    equals = strchr(equals, '=');
    if (equals == NULL)
        return "expected name = value, [section] or a comment";
    *value = equals + 1 + strspn(equals + 1, BLANKS);
    if (!is_quoted) {
        *equals = '\0';
        trim_end(line);
    }
    if (*line == '\0')
        return "nothing in front of '='; expected name = value";
    if (strlen(line) > NAME_MAX_BYTES)
        return "a setting's name of more than 100 bytes; expected name = value";
    if (has_own_name && !is_quoted && line[strspn(line, BARE_NAME)] != '\0')
        return "a name with other characters than letters, digits and _ . - *; expected "
               "it "
               "in double quotes";
    return NULL;
}

/* Makes "name = value" the setting in hand, if it is one. */
static void read_setting(struct reading *r, char *line)
{
    char *value;
    const char *what = split_setting(line, r->lines == INI_OWN_NAMES, &value);

    if (what == NULL && r->lines == INI_COMMENTS) {
        if (*value == '"' || *value == '\'')
            what = unquote_value(value);
        else
            cut_comment(value);
    }
    if (what != NULL) {
        mistake(r, r->place, what);
        return;
    }
    encode(line);
    encode(value);
    snprintf(r->name, sizeof r->name, "%s", line);
    r->rest = value;
}

/* Works on one line; a setting in it becomes the one in hand. */
static void read_line(struct reading *r)
{
    struct source *source = &r->open[r->depth - 1];
    char *line = take_line(source);

    r->place = (struct place){source->name, source->line};
    if (*line == '\0' || *line == ';' || *line == '#')
        return;
    if (has_control_character(line))
        mistake(r, r->place, "a control character; expected text");
    else if (*line == '[')
        read_header(r, line);
    else if (*line == '%')
        read_directive(r, line);
    else
        read_setting(r, line);
}

/* ---- what inih calls ---- */

/* The ini_reader: as fgets, the next line of at most `size` - 1 bytes. */
static char *on_read(char *buffer, int size, void *arg)
{
    struct reading *r = arg;
    int room;
    size_t n;

    while (r->rest == NULL && !r->out_of_memory && r->depth > 0) {
        struct source *source = &r->open[r->depth - 1];

        if (*source->next != '\0') {
            read_line(r);
        } else {
            source_clear(source);
            r->depth--;
        }
    }
    if (r->rest == NULL || r->out_of_memory)
        return NULL;

    room = size - (int)strlen(r->name) - 3; /* the '=', the end of the line, the zero */
    REQUIRE(room > 0);
    n = strnlen(r->rest, (size_t)room);
    snprintf(buffer, (size_t)size, "%s=%.*s\n", r->name, (int)n, r->rest);
    r->rest = r->rest[n] == '\0' ? NULL : r->rest + n;
    return buffer;
}

/* The ini_handler. inih's own idea of the section is not used. */
static int on_piece(void *arg, const char *section, const char *name, const char *piece)
{
    struct reading *r = arg;
    char whole_name[NAME_MAX_BYTES + 1];

    (void)section;
    text_add(&r->value, piece);
    if (r->value.overflowed)
        r->out_of_memory = true;
    if (r->rest != NULL || r->out_of_memory)
        return 1;
    snprintf(whole_name, sizeof whole_name, "%s", name);
    decode(whole_name);
    decode(r->value.bytes);
    r->handler->on_setting(r->handler->arg, whole_name, r->value.bytes, r->place);
    text_clear(&r->value);
    return 1;
}

/* Runs inih over the source that was pushed. */
static bool run(struct reading *r)
{
    text_init(&r->value, FILE_MAX_BYTES);
    if (!r->out_of_memory && ini_parse_stream(on_read, r, on_piece, r) != 0)
        r->out_of_memory = true; /* it can fail for no other reason: see the top */
    while (r->depth > 0)
        source_clear(&r->open[--r->depth]);
    text_clear(&r->value);
    return !r->out_of_memory;
}

bool ini_read_file(struct ini *ini, const char *path, const struct ini_handler *handler)
{
    struct reading r = {.ini = ini, .handler = handler, .may_include = true};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    char what[MISTAKE_MAX];
    const char *why = NULL;

    if (fd < 0)
        why = strerror(errno);
    else
        push_file(&r, path, fd, &why);
    if (fd >= 0)
        close(fd);
    if (why != NULL && !r.out_of_memory) {
        snprintf(what, sizeof what, "cannot be read: %s", why);
        mistake(&r, (struct place){path, 0}, what);
    }
    return run(&r);
}

bool ini_read_text(struct ini *ini, const char *source, const char *text,
                   const struct ini_handler *handler)
{
    struct reading r = {.ini = ini, .handler = handler};
    char *copy = memory_text(text);

    if (copy == NULL)
        return false;
    push(&r, source, (struct source){.text = copy});
    return run(&r);
}

void ini_clear(struct ini *ini)
{
    for (size_t i = 0; i < ini->n; i++)
        memory_free(ini->names[i]);
    memory_free(ini->names);
    *ini = (struct ini){0};
}
