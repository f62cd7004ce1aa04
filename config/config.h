/* config/config.h - what the operator asked for, as one immutable struct.
 *
 * A config is loaded whole or not at all, never changed afterwards, and shared by
 * reference count: whoever keeps a pointer holds a reference. All durations are in
 * milliseconds, all sizes in bytes. Strings are never NULL.
 *
 * Thread: load on one; hold, release and read on any.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/address.h"
#include "core/log.h"
#include "core/text.h"

/* Choices: the words in config/types.def stand in the order of these enums. */
enum ro_fallback { RO_FALLBACK_WAIT, RO_FALLBACK_PRIMARY, RO_FALLBACK_ERROR };
enum check_kind { CHECK_PATRONI, CHECK_POSTGRES, CHECK_TCP };
enum listener_mode { MODE_TCP, MODE_POOL };
enum listener_role {
    ROLE_PRIMARY,
    ROLE_REPLICA,
    ROLE_READ_ONLY,
    ROLE_ANY,
    ROLE_DEFAULT /* own_role only: with mode = pool what the client's database says */
};
/* What may be asked for on the runtime socket; who may more may less. */
enum socket_level { SOCKET_USER, SOCKET_OPERATOR, SOCKET_ADMIN };

enum balance {
    BALANCE_ROUNDROBIN,
    BALANCE_LEASTCONN,
    BALANCE_FIRST,
    BALANCE_RANDOM,
    BALANCE_SOURCE
};
enum on_role_change { ON_ROLE_CHANGE_CLOSE, ON_ROLE_CHANGE_KEEP };
enum pool_mode {
    POOL_MODE_SESSION,
    POOL_MODE_TRANSACTION,
    POOL_MODE_STATEMENT,
    POOL_MODE_DEFAULT /* own_pool_mode only: config_pool_mode() */
};
/* What is sent again by itself when a server has ended; each means the ones before, too.
 */
enum replay {
    REPLAY_OFF,
    REPLAY_UNSENT,  /* what PostgreSQL has never begun */
    REPLAY_ABORTED, /* what it has aborted, and nothing of it was answered */
    REPLAY_DEFAULT  /* own_replay only: config_replay() */
};
enum auth_type {
    AUTH_TYPE_TRUST,
    AUTH_TYPE_ANY,
    AUTH_TYPE_PLAIN,
    AUTH_TYPE_MD5,
    AUTH_TYPE_SCRAM_SHA_256,
    AUTH_TYPE_CERT,
    AUTH_TYPE_HBA, /* this and the next two are refused, as nobody does them yet */
    AUTH_TYPE_PAM,
    AUTH_TYPE_LDAP,
    AUTH_TYPE_DEFAULT /* own_auth_type only: config_auth_type() */
};
enum sslmode {
    SSLMODE_DISABLE,
    SSLMODE_ALLOW,
    SSLMODE_PREFER,
    SSLMODE_REQUIRE,
    SSLMODE_VERIFY_CA,
    SSLMODE_VERIFY_FULL
};
enum sslnegotiation {
    SSLNEGOTIATION_POSTGRES,
    SSLNEGOTIATION_DIRECT,
    SSLNEGOTIATION_DEFAULT /* own_sslnegotiation only, and not in what was loaded */
};
/* In what way Patroni's REST API is asked: by http, or by https and whom we trust. */
enum restapi_tls {
    RESTAPI_TLS_OFF,
    RESTAPI_TLS_REQUIRE,
    RESTAPI_TLS_VERIFY_CA,
    RESTAPI_TLS_VERIFY_FULL
};
enum load_balance_hosts { LOAD_BALANCE_HOSTS_ROUND_ROBIN, LOAD_BALANCE_HOSTS_DISABLE };

/* A number of a database, user or peer that is not its own: config_own(). */
#define CONFIG_DEFAULT INT64_C(-1)
/* The name of the listener that listen_addr and unix_socket_dir make. */
#define CONFIG_POOL_LISTENER "pgbouncer"

struct node_config {
    char *name;
    char *host; /* name or number, without brackets */
    uint16_t port;
    uint16_t check_port; /* Patroni's; 0 = not given */
};

struct node_list {
    struct node_config *items;
    size_t n;
};
/* A member of the store that Patroni keeps its keys in. */
enum store_scheme { STORE_SCHEME_NONE, STORE_SCHEME_HTTP, STORE_SCHEME_HTTPS };
struct store_endpoint {
    char *host; /* name or number, without brackets */
    uint16_t port;
    enum store_scheme scheme;
};
struct store_list {
    struct store_endpoint *items;
    size_t n;
};
struct name_list {
    char **items;
    size_t n;
};
struct endpoint_list {
    struct endpoint *items;
    size_t n;
};
struct network_list {
    struct network *items;
    size_t n;
};

/* The C types of keys.def. */
#define C_WORKERS int64_t /* "auto" is already the number of cores */
#define C_COUNT int64_t
#define C_DURATION int64_t
#define C_MILLISECONDS int64_t
#define C_BYTES int64_t
#define C_OWN_COUNT int64_t    /* or CONFIG_DEFAULT */
#define C_OWN_DURATION int64_t /* or CONFIG_DEFAULT */
#define C_MODE_BITS int64_t
#define C_BOOL bool
#define C_STRING char *
#define C_SECRET char *
#define C_NODES struct node_list
#define C_STORES struct store_list
#define C_NAMES struct name_list
#define C_ENDPOINTS struct endpoint_list
#define C_NETWORKS struct network_list
#define C_log_format enum log_format
#define C_socket_level enum socket_level
#define C_check enum check_kind
#define C_ro_fallback enum ro_fallback
#define C_mode enum listener_mode
#define C_role enum listener_role
#define C_own_role enum listener_role
#define C_balance enum balance
#define C_on_role_change enum on_role_change
#define C_pool_mode enum pool_mode
#define C_own_pool_mode enum pool_mode
#define C_replay enum replay
#define C_own_replay enum replay
#define C_auth_type enum auth_type
#define C_own_auth_type enum auth_type
#define C_sslmode enum sslmode
#define C_sslnegotiation enum sslnegotiation
#define C_own_sslnegotiation enum sslnegotiation
#define C_restapi_tls enum restapi_tls
#define C_load_balance_hosts enum load_balance_hosts

#define AS_FIELD(type, name, ...) C_##type name;

struct main_config {
#define KEY_MAIN AS_FIELD
#include "config/keys.def"
};

struct cluster_config {
    char *name;
    bool is_implicit; /* made of the hosts of a database: its name has a ':' */
#define KEY_CLUSTER AS_FIELD
#include "config/keys.def"
};

struct listener_config {
    char *name;
    /* What `cluster` names, in the same config; NULL with mode = pool, where the client's
     * database says it. */
    const struct cluster_config *to;
#define KEY_LISTENER AS_FIELD
#include "config/keys.def"
};

struct stats_config {
#define KEY_STATS AS_FIELD
#include "config/keys.def"
};

/* A line of [databases]. */
struct database_config {
    char *name; /* "*" = every one that has no line of its own */
    /* Where it is, in the same config: the cluster that `cluster` names, the one that its
     * hosts belong to, or an implicit one of its hosts, whose `role` is ROLE_ANY. */
    const struct cluster_config *to;
    bool follows_host; /* it is in a [cluster] because of its host: see follow_hosts */
#define KEY_DATABASE AS_FIELD
#include "config/keys.def"
};

/* A line of [users]. */
struct user_config {
    char *name;
#define KEY_USER AS_FIELD
#include "config/keys.def"
};

/* A line of [peers]. */
struct peer_config {
    char *name;  /* the number as it stands there */
    uint16_t id; /* 1 to 16383 */
#define KEY_PEER AS_FIELD
#include "config/keys.def"
};

#undef AS_FIELD

/* A line of auth_file. */
struct user_secret {
    char *name;
    char *secret; /* a password, its MD5 or SCRAM form, or "" */
};
struct ident_file;
struct user_secrets {
    struct user_secret *items; /* sorted by name, each once */
    size_t n;
};

struct config {
    atomic_uint references;
    struct main_config main;
    struct cluster_config *clusters;
    size_t n_clusters;
    struct listener_config *listeners;
    size_t n_listeners;
    struct stats_config stats;         /* bind.n == 0: no stats page */
    struct database_config *databases; /* sorted by name */
    size_t n_databases;
    struct user_config *users; /* sorted by name */
    size_t n_users;
    struct peer_config *peers; /* sorted by name */
    size_t n_peers;
    struct ident_file *ident;    /* what auth_ident_file held then; NULL: nothing */
    struct user_secrets secrets; /* what auth_file held when the config was loaded */
    /* "FILE:LINE: what was given without effect, and why", one per line, "" = nothing: to
     * be logged, and printed by --test. */
    char *notes;
};

/* Reads an ini file, with all that it includes and its auth_file. On NULL `errors` has
 * one line per mistake, all of the file: "FILE:LINE: what is wrong; what was expected".
 * On success the caller owns one reference. Blocks on files: at start and on reload only.
 */
struct config *config_load_file(const char *path, struct text *errors) MUST_CHECK;
/* The same in the environment of a container, whose variables `get` reads as getenv(3)
 * does: PGROUTER_<KEY> counts in place of what [pgrouter] says; when the file has no
 * [cluster], POSTGRES_NODES makes one, named main, so that [databases] as written for
 * PgBouncer follow it; docs/environment.md has the others. */
struct config *config_load_file_with(const char *path, char *(*get)(const char *name),
                                     struct text *errors) MUST_CHECK;
/* The same from memory, and from nothing else: it cannot include files, and its auth_file
 * is not read. `source` stands in place of the file's name in errors. */
struct config *config_load_text(const char *source, const char *ini,
                                struct text *errors) MUST_CHECK;
/* The configuration that the environment of a container describes. */
struct config *config_load_environment(char *(*get)(const char *name),
                                       struct text *errors) MUST_CHECK;

struct config *config_hold(struct config *config);
/* Frees it with the last reference. NULL is fine. */
void config_release(struct config *config);

const struct cluster_config *config_cluster(const struct config *config,
                                            const char *name);
const struct listener_config *config_listener(const struct config *config,
                                              const char *name);
/* The database's line, else that of "*"; NULL = there is neither. */
const struct database_config *config_database(const struct config *config,
                                              const char *name);
/* NULL = nothing is said of this user. */
const struct user_config *config_user(const struct config *config, const char *name);
/* NULL = no such peer. */
const struct peer_config *config_peer(const struct config *config, unsigned id);
/* What auth_file has as the user's secret; NULL = the user is not in it. */
const char *config_secret(const struct config *config, const char *user);

/* Whether a certificate in this name may log in as the user: by auth_ident_map, or, where
 * there is none, because it is the same name. */
bool config_allows_certificate(const struct config *config, const char *name,
                               const char *user);

/* `own`, or what holds for all when it is CONFIG_DEFAULT. */
static inline int64_t config_own(int64_t own, int64_t general)
{
    return own == CONFIG_DEFAULT ? general : own;
}
/* That of the user, else of the database, else of the listener, else [pgrouter]'s. `user`
 * and `listener` may be NULL. */
enum pool_mode config_pool_mode(const struct config *config,
                                const struct listener_config *listener,
                                const struct database_config *database,
                                const struct user_config *user);
/* That of the user, else of the database, else [pgrouter]'s. `user` may be NULL. */
enum replay config_replay(const struct config *config,
                          const struct database_config *database,
                          const struct user_config *user);
/* The same of the servers that a pool may have. */
int64_t config_pool_size(const struct config *config,
                         const struct database_config *database,
                         const struct user_config *user);
enum auth_type config_auth_type(const struct config *config,
                                const struct listener_config *listener);

/* Settings that differ between the two and that only a restart applies, one name per
 * line, "" when there is none (pure). */
void config_needs_restart(const struct config *running, const struct config *loaded,
                          struct text *names);

/* Every setting with default and help: for `pgrouter --settings` as plain text, for
 * docs/settings.md as Markdown. */
void config_describe(struct text *out, bool markdown);

#endif
