/* router/console/basic_auth.h - who may look at the page: HTTP's Basic (RFC 7617) against
 * a name and a secret as auth_file has them: a password, or what PostgreSQL keeps of one.
 *
 * To stretch a password for a SCRAM secret takes milliseconds, in which control does
 * nothing else: one that fitted is remembered, and few others are tried in a second.
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_BASIC_AUTH_H
#define ROUTER_CONSOLE_BASIC_AUTH_H

#include "wire/secret.h"

#define BASIC_AUTH_TRIES_PER_S 20u

enum basic_auth_answer {
    BASIC_AUTH_FITS,
    BASIC_AUTH_WRONG,
    BASIC_AUTH_LATER /* too many were tried in this second */
};

struct basic_auth {
    char *text;           /* name, zero byte, secret; NULL: nobody is asked */
    struct secret secret; /* points into it */
    uint8_t fitted[32];   /* SHA-256 of what fitted last; zeroed: none has */
    bool has_fitted;
    uint64_t second; /* of the tries */
    unsigned n_tries;
};

/* `setting` is "name:secret" or "", checked at loading. False when memory is out: then
 * all is as before. */
bool basic_auth_set(struct basic_auth *auth, const char *setting) MUST_CHECK;
void basic_auth_clear(struct basic_auth *auth);
/* How long that takes tells nothing of a plain password or an MD5. `name` and `password`
 * may be NULL: none came. */
enum basic_auth_answer basic_auth_check(struct basic_auth *auth, const char *name,
                                        const char *password, uint64_t now_ms);

#endif
