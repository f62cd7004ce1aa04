/* config/users_file.h - auth_file: users and their secrets.
 *
 *   ; a comment
 *   "name" "secret"
 *   "name" "se""cret"    what follows on the line is not read
 *
 * A quote in a field is written twice. A name may stand there several times; the last
 * line holds. Format: PgBouncer's documentation, "Authentication file format".
 *
 * Thread: any; users_file_load() blocks on the file.
 */
#ifndef CONFIG_USERS_FILE_H
#define CONFIG_USERS_FILE_H

#include "config/config.h"

enum users_file_result {
    USERS_FILE_OK,
    USERS_FILE_UNREADABLE, /* `*why` says why (a constant, or as strerror(3)) */
    USERS_FILE_BAD,        /* `errors` has a line for each mistake, never with a secret */
    USERS_FILE_NO_MEMORY
};

/* `path` counts from the working directory. On anything but USERS_FILE_OK `secrets` is
 * untouched; else it is the caller's. */
enum users_file_result users_file_load(const char *path, struct user_secrets *secrets,
                                       struct text *errors, const char **why) MUST_CHECK;
/* The same from memory, which is taken apart; `source` stands for the file's name. */
enum users_file_result users_file_parse(const char *source, char *text,
                                        struct user_secrets *secrets,
                                        struct text *errors) MUST_CHECK;
/* One more, in place of what was said of that name. False: out of memory. */
bool users_file_add(struct user_secrets *secrets, const char *name,
                    const char *secret) MUST_CHECK;
void users_file_clear(struct user_secrets *secrets);

#endif
