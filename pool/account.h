/* pool/account.h - a pool as all workers see it: one database, one user.
 *
 * What they share: the limits that it counts against, how to log in, and what the last
 * server said of itself at its login, which every client is told at its own. Found by
 * name when a client has logged in, and kept as long as somebody holds it.
 *
 * Thread: any. One mutex guards the table and what changes; it is held for some
 * microseconds, at the logins of clients and servers only.
 */
#ifndef POOL_ACCOUNT_H
#define POOL_ACCOUNT_H

#include <pthread.h>

#include "config/config.h"
#include "pool/ledger.h"
#include "pool/login.h"

#define ACCOUNT_WHY_MAX 160

struct accounts;
struct shared_limit;

struct account {
    struct accounts *home;
    unsigned references;
    const char *name;        /* of the database, as clients ask for it */
    const char *database;    /* as the server is asked for it */
    const char *user;        /* as the server is logged in to */
    enum listener_role role; /* ROLE_DEFAULT: what the database's settings say */
    struct shared_limit *of_database, *of_user; /* held */
    struct ledger_limit *limits[LEDGER_NODE];
    struct ledger_pool *ledger_pool;
    /* Guarded. */
    struct list passwords; /* the newest first */
    struct scram_keys keys;
    char *welcome; /* ParameterStatus messages, one behind the other; NULL = none yet */
    size_t n_welcome;
    char
        why[ACCOUNT_WHY_MAX]; /* the last login to a server has failed; "" = it has not */
};

struct account_terms {
    const char *name, *database, *user, *password;
    enum listener_role role;
    unsigned pool_size, reserve_pool_size, max_db_connections, max_user_connections;
};

/* NULL when memory is out. The ledger lives longer. */
struct accounts *accounts_new(struct ledger *ledger) MUST_CHECK;
void accounts_free(struct accounts *accounts); /* no account may be held; NULL is fine */

/* The account of a database and a user, made when there is none, on these terms, which
 * apply from now on, the password to servers that are opened from now on. NULL when
 * memory is out. What raised limits set free is in `todo`.
 */
struct account *account_hold(struct accounts *accounts, const struct account_terms *terms,
                             struct ledger_todo *todo) MUST_CHECK;
void account_release(struct account *account);

/* The limit of a node, which the table holds; NULL when memory is out. */
struct ledger_limit *accounts_node_limit(struct accounts *accounts, uint32_t node_id,
                                         unsigned max,
                                         struct ledger_todo *todo) MUST_CHECK;

/* How many clients a database or a user has, over all workers. */
struct client_count {
    unsigned n;
};
enum client_count_of { COUNT_OF_DATABASE, COUNT_OF_USER };
enum client_count_answer { COUNT_ENTERED, COUNT_FULL, COUNT_NO_MEMORY };
/* A client comes: FULL when there are `max` (0 = no limit) already. `*count` is for
 * accounts_count_out(). */
enum client_count_answer accounts_count_in(struct accounts *accounts,
                                           enum client_count_of what, const char *name,
                                           unsigned max,
                                           struct client_count **count) MUST_CHECK;
void accounts_count_out(struct accounts *accounts,
                        struct client_count *count); /* NULL is fine */

/* What to log in to servers with: the secret, which lives as long as the account, and a
 * copy of the keys that the last login has shown to be right; zeroed when there are none.
 */
const struct secret *account_get_secret(struct account *account, struct scram_keys *keys);
void account_set_keys(struct account *account, const struct scram_keys *keys);

/* Why the last login to a server has failed; "" when it has not. */
void account_get_why(struct account *account, char why[ACCOUNT_WHY_MAX]);
void account_set_why(struct account *account, const char *why);

/* Calls `use` with what a server said at its login; false when none has logged in yet. */
bool account_read_welcome(struct account *account,
                          void (*use)(void *arg, const char *messages, size_t n),
                          void *arg);
void account_set_welcome(struct account *account, const struct text *messages);

#endif
