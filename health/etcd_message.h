/* health/etcd_message.h - what is asked of etcd's JSON gateway, and what it answers.
 * Pure.
 *
 * The gateway writes protobuf's JSON: 64-bit numbers are strings, keys and values are
 * base64, what is zero or empty is left out. etcd 3.4 and 3.5 word errors as {"error",
 * "code"}, within a stream as {"error": {"grpc_code", "message"}}; 3.6 as {"code",
 * "message"}.
 */
#ifndef HEALTH_ETCD_MESSAGE_H
#define HEALTH_ETCD_MESSAGE_H

#include "core/text.h"
#include "health/store_keys.h"

#define ETCD_ID_MAX 24
#define ETCD_WORDS_MAX 128
#define ETCD_TOKEN_MAX 4096 /* a JWT may be long */

enum etcd_meaning {
    ETCD_NONSENSE,  /* not etcd's, or more than we take */
    ETCD_DONE,      /* a range was read, changes were applied, or there were none */
    ETCD_CREATED,   /* the watch is there */
    ETCD_COMPACTED, /* the watch has ended: what it wanted is not kept any more */
    ETCD_TOKEN,     /* refused for want of a token, or of a newer one */
    ETCD_NO_USERS,  /* authentication is not enabled there */
    ETCD_REFUSED    /* refused, or the watch has ended, for another reason */
};

struct etcd_said {
    enum etcd_meaning meaning;
    char cluster_id[ETCD_ID_MAX]; /* "" = not said */
    int64_t revision;             /* a range's: of all it has read; 0 = not said */
    bool has_changes;             /* a watch's: keys have changed */
    char words[ETCD_WORDS_MAX];   /* why it was refused; printable ASCII */
};

/* Bodies of requests. A text that is too long or without memory is `overflowed`. Keys are
 * all that begin with `prefix`, which is not empty. */
void etcd_ask_login(struct text *body, const char *user, const char *password);
void etcd_ask_range(struct text *body, const char *prefix);
void etcd_ask_watch(struct text *body, const char *prefix, int64_t from_revision);

/* The answer to a login: `token` on ETCD_DONE. */
void etcd_read_login(const char *body, size_t length, struct etcd_said *said,
                     char token[ETCD_TOKEN_MAX]);
/* The answer to a range: on ETCD_DONE `keys`, empty before, has them, without the prefix;
 * otherwise it is empty. */
void etcd_read_range(const char *body, size_t length, const char *prefix,
                     struct etcd_said *said, struct store_keys *keys);
/* One message of a watch. Changes are applied to `keys` and to `*revision`, the last one
 * that they know of. */
void etcd_read_watch(const char *text, size_t length, const char *prefix,
                     struct etcd_said *said, struct store_keys *keys, int64_t *revision);

#endif
