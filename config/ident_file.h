/* config/ident_file.h - auth_ident_file: whose certificate may log in as whom.
 *
 *   # a comment
 *   MAP  name-in-the-certificate      user
 *   MAP  /^(.*)@example\.com$         \1
 *
 * A name that begins with a slash is a regular expression (POSIX, extended), which may
 * fit anywhere in the name that is shown unless it says ^ and $; \1 in the user is what
 * its first parentheses have matched. Fields may stand in double quotes. Format:
 * PostgreSQL's documentation, "User Name Maps", as of version 15.
 *
 * Thread: any; immutable once read; ident_file_load() blocks on the file.
 */
#ifndef CONFIG_IDENT_FILE_H
#define CONFIG_IDENT_FILE_H

#include <stdbool.h>

#include "core/check.h"
#include "core/text.h"

struct ident_file;

enum ident_file_result {
    IDENT_FILE_OK,
    IDENT_FILE_UNREADABLE, /* `*why` says why (a constant, or as strerror(3)) */
    IDENT_FILE_BAD,        /* `errors` has a line for each mistake */
    IDENT_FILE_NO_MEMORY
};

/* On IDENT_FILE_OK the file is the caller's; else it is untouched. */
enum ident_file_result ident_file_load(const char *path, struct ident_file **file,
                                       struct text *errors, const char **why) MUST_CHECK;
/* The same from memory, which is taken apart; `source` stands for the file's name. */
enum ident_file_result ident_file_parse(const char *source, char *text,
                                        struct ident_file **file,
                                        struct text *errors) MUST_CHECK;
void ident_file_free(struct ident_file *file); /* NULL is fine */

/* Whether the file has such a map. */
bool ident_file_has(const struct ident_file *file, const char *map);
/* Whether who has shown `name` may log in as `user`. NULL allows nobody. */
bool ident_file_allows(const struct ident_file *file, const char *map, const char *name,
                       const char *user);

#endif
