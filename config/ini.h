/* config/ini.h - reads ini files: finds the sections and settings, knows none of them.
 *
 * What a file may hold:
 *
 *   ; a comment, # another          lines may be indented, values are never cut
 *   [section]                       ; a comment
 *   name = value                    ; a comment, in sections that take them there
 *   name = "value ; with ""quotes"" kept as it is"      (in such sections only)
 *   %include FILE
 *
 * What stands in a line depends on its section (on_section says so):
 *
 *   INI_COMMENTS   a ';' behind white space begins a comment, and a value may stand in
 *                  double or single quotes, in which a doubled quote stands for one
 *   INI_TO_THE_END a value runs to the end of its line, quotes included, as PgBouncer has
 *                  it
 *   INI_OWN_NAMES  so too; and the names are the user's: of letters, digits and _ . - *,
 *                  or in double or single quotes, in which a doubled quote stands for one
 *
 * An included file is read as if it stood in that place. Its name counts from the folder
 * of the file that includes it or, where there is none, from the working directory (as
 * PgBouncer has it). A mistake does not end the reading.
 *
 * Thread: any; blocks on files.
 */
#ifndef CONFIG_INI_H
#define CONFIG_INI_H

#include <stdbool.h>
#include <stddef.h>

#include "core/check.h"

/* Where something stands. `source` lives as long as the struct ini. */
struct place {
    const char *source;
    unsigned line; /* 0 = the file as a whole, or nowhere when `source` is NULL */
};

enum ini_lines { INI_TO_THE_END, INI_COMMENTS, INI_OWN_NAMES };

struct ini_handler {
    /* A [header], without its brackets; NULL = one that cannot be read. Returns what the
     * lines that follow look like; those in front of the first are INI_TO_THE_END. */
    enum ini_lines (*on_section)(void *arg, const char *header, struct place place);
    void (*on_setting)(void *arg, const char *name, const char *value,
                       struct place place);
    /* `what` is wrong and what was expected; never holds a value. */
    void (*on_mistake)(void *arg, struct place place, const char *what);
    void *arg;
};

/* The names of the files that were read. Zeroed = none yet. */
struct ini {
    char **names;
    size_t n;
};

/* Reads it to its end, calling the handler on the way. False: out of memory. */
bool ini_read_file(struct ini *ini, const char *path,
                   const struct ini_handler *handler) MUST_CHECK;
/* The same from memory, where nothing can be included; `source` stands in place of
 * the file's name. */
bool ini_read_text(struct ini *ini, const char *source, const char *text,
                   const struct ini_handler *handler) MUST_CHECK;
/* A copy of the name that lives as long, for a place; NULL: out of memory. */
const char *ini_keep(struct ini *ini, const char *name) MUST_CHECK;
void ini_clear(struct ini *ini);

#endif
