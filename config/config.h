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
enum check_kind { CHECK_PATRONI, CHECK_POSTGRES, CHECK_TCP };
enum listener_mode { MODE_TCP };
enum listener_role { ROLE_PRIMARY, ROLE_REPLICA, ROLE_READ_ONLY, ROLE_ANY };
enum balance {
    BALANCE_ROUNDROBIN,
    BALANCE_LEASTCONN,
    BALANCE_FIRST,
    BALANCE_RANDOM,
    BALANCE_SOURCE
};
enum on_role_change { ON_ROLE_CHANGE_CLOSE, ON_ROLE_CHANGE_KEEP };

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
struct name_list {
    char **items;
    size_t n;
};
struct endpoint_list {
    struct endpoint *items;
    size_t n;
};

/* The C types of keys.def. */
#define C_WORKERS int64_t /* "auto" is already the number of cores */
#define C_COUNT int64_t
#define C_DURATION int64_t
#define C_MILLISECONDS int64_t
#define C_BYTES int64_t
#define C_MODE_BITS int64_t
#define C_BOOL bool
#define C_STRING char *
#define C_SECRET char *
#define C_NODES struct node_list
#define C_NAMES struct name_list
#define C_ENDPOINTS struct endpoint_list
#define C_log_format enum log_format
#define C_check enum check_kind
#define C_mode enum listener_mode
#define C_role enum listener_role
#define C_balance enum balance
#define C_on_role_change enum on_role_change

#define AS_FIELD(type, name, ...) C_##type name;

struct main_config {
#define KEY_MAIN AS_FIELD
#include "config/keys.def"
};

struct cluster_config {
    char *name;
#define KEY_CLUSTER AS_FIELD
#include "config/keys.def"
};

struct listener_config {
    char *name;
    const struct cluster_config *to; /* what `cluster` names; in the same config */
#define KEY_LISTENER AS_FIELD
#include "config/keys.def"
};

struct stats_config {
#define KEY_STATS AS_FIELD
#include "config/keys.def"
};

#undef AS_FIELD

struct config {
    atomic_uint references;
    struct main_config main;
    struct cluster_config *clusters;
    size_t n_clusters;
    struct listener_config *listeners;
    size_t n_listeners;
    struct stats_config stats; /* bind.n == 0: no stats page */
};

/* Reads an ini file. On NULL `errors` has one line per mistake, all of the file:
 * "FILE:LINE: what is wrong; what was expected". On success the caller owns one
 * reference. Blocks on the file: at start and on reload only. */
struct config *config_load_file(const char *path, struct text *errors) MUST_CHECK;
/* The same from memory; `source` stands in place of the file's name in errors. */
struct config *config_load_text(const char *source, const char *ini,
                                struct text *errors) MUST_CHECK;
/* The configuration that the environment of a container describes (POSTGRES_NODES,
 * HAPROXY_*); `get` is getenv or a test's stand-in. */
struct config *config_load_environment(char *(*get)(const char *name),
                                       struct text *errors) MUST_CHECK;

struct config *config_hold(struct config *config);
/* Frees it with the last reference. NULL is fine. */
void config_release(struct config *config);

const struct cluster_config *config_cluster(const struct config *config,
                                            const char *name);
const struct listener_config *config_listener(const struct config *config,
                                              const char *name);

/* Settings that differ between the two and that only a restart applies, one name per
 * line, "" when there is none (pure). */
void config_needs_restart(const struct config *running, const struct config *loaded,
                          struct text *names);

/* Every setting with default and help: for `pgrouter --settings` as plain text, for
 * docs/settings.md as Markdown. */
void config_describe(struct text *out, bool markdown);

#endif
