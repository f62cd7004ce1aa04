/* pool/statements.h - prepared statements of clients, and which of them servers have.
 *
 *   client's name --> statement        server's set of names of ours
 *
 * A statement is a text with its parameter types, and what a session had to say of how it
 * is read: two clients that prepare the same have the same one, and a server that has it
 * need not parse it again. On servers it goes by a name of ours, which no other statement
 * has, on whatever worker. A server keeps at most so many; the one used longest ago makes
 * room.
 *
 * Names of clients live in one table per worker, keyed by client and name: a client
 * without any costs a pointer. A statement that no client has a name for is kept for a
 * while: who comes and goes prepares the same again.
 *
 * A name or a server's statement may be changed by messages that the server has not
 * answered yet: pool/translation.h counts these, and takes back what has failed.
 *
 * Thread: a store belongs to one worker, with all that is in it. A server's set refers to
 * nothing outside of itself: it goes where the server goes, at the same address.
 */
#ifndef POOL_STATEMENTS_H
#define POOL_STATEMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/check.h"
#include "core/list.h"
#include "pool/statement_texts.h"
#include "wire/message.h"

struct statement_store;
struct statement;

/* `texts` are those of all workers. NULL when memory is out. */
struct statement_store *statement_store_new(struct statement_texts *texts) MUST_CHECK;
/* No statement may be held any more. NULL is fine. */
void statement_store_free(struct statement_store *store);

/* The statement of a Parse, which was read from a message; held for the caller. `session`
 * is what its meaning depends on. NULL when memory is out. */
struct statement *statement_hold_parsed(struct statement_store *store,
                                        const struct message_parse *parse,
                                        const char *session) MUST_CHECK;
struct statement *statement_hold(struct statement *statement);
void statement_release(struct statement *statement); /* NULL is fine */

/* Its name on servers: shorter than STATEMENT_NAME_MAX. */
const char *statement_name(const struct statement *statement);
/* Whether it commits nothing before its end: SQL_PLAIN of wire/sql.h, and SQL_SINGLE. */
bool statement_is_plain(const struct statement *statement);
/* What stands behind the name in the body of its Parse. */
const uint8_t *statement_rest(const struct statement *statement, size_t *n);

/* Changes that the server has not answered yet. */
struct statement_pending {
    uint32_t n;  /* so many */
    uint32_t at; /* the number of the message that made the last of them */
};

/* ---- a client's names ---------------------------------------------------------------
 */

/* The longest that is followed, without its zero. */
#define CLIENT_NAME_MAX (MESSAGE_SMALL_MAX - 2u)

/* Of one client, all of its names: who sends more is told so. */
#define STATEMENT_NAMES_BYTES_MAX (64u << 20)

/* Of one client; a zeroed one has none. Stays at its address while there are any. */
struct statement_names {
    struct client_name *first;
    size_t n_bytes; /* of memory that they hold, about */
};

struct client_name {
    struct statement *statement; /* held; NULL: it means nothing (any more) */
    struct statement_pending pending;
    struct client_name *next; /* of the same client */
    struct client_name **link;
};

/* How many mean something; for views. */
size_t statement_names_count(const struct statement_names *names);
/* NULL when the client has no such name. */
struct client_name *statement_names_find(const struct statement_store *store,
                                         const struct statement_names *names,
                                         const char *name);
/* The same, made when there is none. NULL when memory is out, or the name is too long. */
struct client_name *statement_names_get(struct statement_store *store,
                                        struct statement_names *names,
                                        const char *name) MUST_CHECK;
/* Means `statement` from now on, NULL: nothing; takes over the reference, and gives that
 * to what it meant. */
struct statement *client_name_swap(struct client_name *name,
                                   struct statement *statement) MUST_CHECK;
/* The same, and that is released. */
void client_name_set(struct client_name *name, struct statement *statement);
/* Forgets it if it means nothing and nothing is pending. */
void client_name_settle(struct statement_store *store, struct client_name *name);
/* Forgets all for which nothing is pending. */
void statement_names_clear(struct statement_store *store, struct statement_names *names);

/* ---- what a server has --------------------------------------------------------------
 */

enum presence {
    STATEMENT_ABSENT,
    STATEMENT_HERE,
    STATEMENT_STALE /* there, but it must be parsed anew before it is used */
};

/* Of one server; a zeroed one is empty. */
struct server_statements {
    struct server_statement *table;
    struct list by_use; /* those that are not absent; the one used last first */
};

struct server_statement {
    struct link in_use;
    enum presence presence;
    struct statement_pending pending;
    char name[STATEMENT_NAME_MAX];
};

/* NULL when it was never there. */
struct server_statement *server_statements_find(const struct server_statements *set,
                                                const char *name);
/* The same, made when there is none. NULL when memory is out. */
struct server_statement *server_statements_get(struct server_statements *set,
                                               const char *name) MUST_CHECK;
/* It was used now. */
void server_statements_touch(struct server_statements *set,
                             struct server_statement *statement);
/* One that comes counts as used now. */
void server_statements_set(struct server_statements *set,
                           struct server_statement *statement, enum presence presence);
/* Forgets it if it is absent and nothing is pending. */
void server_statements_settle(struct server_statements *set,
                              struct server_statement *statement);
/* The one used longest ago; NULL when there is none. */
struct server_statement *server_statements_oldest(const struct server_statements *set);
/* All that are there must be parsed anew. */
void server_statements_spoil(struct server_statements *set);
/* Forgets all for which nothing is pending. */
void server_statements_clear(struct server_statements *set);

#endif
