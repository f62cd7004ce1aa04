/* wire/message.h - regular messages: a type, a length, a body, in a stream that comes in
 * pieces of any size.
 *
 *   'D'  0 0 0 17  . . . . . . . . . . . . .  'C'  0 0 0 13  . . . . .
 *   type length    body (length - 4)          type length    body, begun
 *
 * A piece is walked from header to header; nothing is copied and no body is looked at.
 * Of a message that is only begun the owner keeps what is there until the rest has come,
 * or passes it on and remembers how much of its body is still to come: that number is all
 * that is kept between two pieces. Bodies are read and messages written by the functions
 * below the walk. Format: PostgreSQL's documentation, "Message Formats". Pure.
 */
#ifndef WIRE_MESSAGE_H
#define WIRE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/check.h"
#include "wire/startup.h"

/* ---- walking ------------------------------------------------------------------------
 */

#define MESSAGE_HEADER_BYTES 5u

enum message_side { MESSAGE_OF_CLIENT, MESSAGE_OF_SERVER };

/* How long the body of a type may be. Zero is a type that this side never sends. */
enum message_size {
    MESSAGE_ILLEGAL,
    MESSAGE_EMPTY, /* no body at all */
    MESSAGE_SMALL, /* PostgreSQL's own limit for what carries names and no data */
    MESSAGE_LARGE, /* up to the owner's limit */
    MESSAGE_SIZE_COUNT
};

/* PQ_SMALL_MESSAGE_LIMIT in PostgreSQL's src/include/libpq/libpq.h, less the length. */
#define MESSAGE_SMALL_MAX (10000u - 4u)

struct message_rules {
    const uint8_t *sizes; /* a message_size for each type */
    uint32_t body_max[MESSAGE_SIZE_COUNT];
};

/* What one side may send; `body_max` is the limit of large bodies, at most 2 GB - 5 as
 * the protocol's own. */
void message_rules_init(struct message_rules *rules, enum message_side side,
                        uint32_t body_max);

struct message_view {
    uint8_t type;
    uint32_t length; /* of the body */
    uint32_t n;      /* bytes of it that are here */
    const uint8_t *body;
};

enum message_step {
    MESSAGE_WHOLE,     /* the walk stands behind it */
    MESSAGE_BEGUN,     /* the end of its body is to come; the walk stands before it */
    MESSAGE_CUT,       /* not even the header is whole; the walk stands before it */
    MESSAGE_NONE,      /* the piece is at its end */
    MESSAGE_UNKNOWN,   /* a type that this side never sends */
    MESSAGE_TOO_SHORT, /* its length does not even count itself */
    MESSAGE_TOO_LONG   /* its body is above the limit */
};

struct message_walk {
    const uint8_t *at;
    const uint8_t *end;
    const struct message_rules *rules;
};

/* Stands at the begin of a piece of `n` bytes, of which the first belong to a body of
 * which `*n_left` bytes were still to come: goes behind them and lowers `*n_left`. */
static inline void message_walk_begin(struct message_walk *walk,
                                      const struct message_rules *rules,
                                      const uint8_t *bytes, size_t n, uint32_t *n_left)
{
    uint32_t n_here = n < *n_left ? (uint32_t)n : *n_left;

    walk->at = bytes + n_here;
    walk->end = bytes + n;
    walk->rules = rules;
    *n_left -= n_here;
}

/* Bytes that were not walked over yet. */
static inline size_t message_walk_rest(const struct message_walk *walk)
{
    return (size_t)(walk->end - walk->at);
}

/* What the `n` bytes are that do not begin with a whole and legal header. Takes no
 * walk, so that a walk may live in registers. */
enum message_step message_explain(const struct message_rules *rules, const uint8_t *bytes,
                                  size_t n);

/* There is no whole header to go on with. */
static inline enum message_step message_walk_stop(const struct message_walk *walk)
{
    enum message_step step =
        message_explain(walk->rules, walk->at, message_walk_rest(walk));

    REQUIRE(step >= MESSAGE_CUT);
    return step;
}

/* The next message of the piece; `message` is filled for WHOLE and BEGUN, and points into
 * the piece. After anything but WHOLE the walk has not moved, and says the same again. */
static inline enum message_step message_walk_next(struct message_walk *walk,
                                                  struct message_view *message)
{
    const uint8_t *at = walk->at;
    size_t n = message_walk_rest(walk);
    uint32_t length;
    unsigned size;

    if (n < MESSAGE_HEADER_BYTES)
        return message_walk_stop(walk);
    size = walk->rules->sizes[at[0]];
    length = wire_read_u32(at + 1) - 4; /* below 4 it is huge, and above every limit */
    if (size == MESSAGE_ILLEGAL || length > walk->rules->body_max[size])
        return message_walk_stop(walk);
    n -= MESSAGE_HEADER_BYTES;
    message->type = at[0];
    message->length = length;
    message->body = at + MESSAGE_HEADER_BYTES;
    if (n < length) {
        message->n = (uint32_t)n;
        return MESSAGE_BEGUN;
    }
    message->n = length;
    walk->at = message->body + length;
    return MESSAGE_WHOLE;
}

/* The message that is BEGUN is passed on as it comes: goes to the end of the piece and
 * returns how much of the body is still to come. */
static inline uint32_t message_walk_stream(struct message_walk *walk,
                                           const struct message_view *message)
{
    walk->at = walk->end;
    return message->length - message->n;
}

/* ---- reading bodies -----------------------------------------------------------------
 *
 * All take a whole body but where it is said, account for each byte of it, and leave the
 * out-parameters alone when it is malformed. Strings are zero-terminated, in the body.
 */

/* One string and nothing more: Query, CommandComplete, CopyFail. Its length is n - 1. */
bool message_read_string(const uint8_t *body, size_t n, const char **string) MUST_CHECK;
/* ReadyForQuery: 'I', 'T' or 'E'. */
bool message_read_ready(const uint8_t *body, size_t n, char *status) MUST_CHECK;
/* ParameterStatus. */
bool message_read_parameter(const uint8_t *body, size_t n, const char **name,
                            const char **value) MUST_CHECK;
/* BackendKeyData, of any protocol 3: a secret of 4 to CANCEL_KEY_MAX bytes. */
bool message_read_key(const uint8_t *body, size_t n, struct cancel_key *key) MUST_CHECK;

struct message_negotiation {
    uint32_t protocol; /* the newest that the server speaks, as it says it */
    uint32_t n_options;
    const char *options; /* one behind the other; of those it does not know */
};
/* NegotiateProtocolVersion. */
bool message_read_negotiation(const uint8_t *body, size_t n,
                              struct message_negotiation *negotiation) MUST_CHECK;

struct message_parse {
    const char *name;
    const char *text;
    size_t n_text;
    const uint8_t *types; /* 4 bytes each, as on the wire */
    uint16_t n_types;
};
bool message_read_parse(const uint8_t *body, size_t n,
                        struct message_parse *parse) MUST_CHECK;

struct message_bind {
    const char *portal;
    const char *statement;
    size_t n_head; /* bytes of both names; formats and values follow */
};
/* The names at the begin of a Bind, of whose body `n` bytes are here. False when they are
 * not here in whole. */
bool message_read_bind(const uint8_t *body, size_t n,
                       struct message_bind *bind) MUST_CHECK;

struct message_target {
    char kind; /* 'S'tatement or 'P'ortal; PostgreSQL refuses others with an error */
    const char *name;
};
/* Describe and Close. */
bool message_read_target(const uint8_t *body, size_t n,
                         struct message_target *target) MUST_CHECK;

struct message_execute {
    const char *portal;
    uint32_t n_rows_max; /* 0 is all */
};
bool message_read_execute(const uint8_t *body, size_t n,
                          struct message_execute *execute) MUST_CHECK;

/* ---- writing ------------------------------------------------------------------------
 *
 * All write a message, header and all, into `bytes`, which has room for `size`, and
 * return its length; 0 when it does not fit, and then the bytes are of no use.
 */

/* A message without a body: Sync, Flush, Terminate, CopyDone; ParseComplete,
 * CloseComplete, EmptyQueryResponse and such. */
size_t message_write_empty(char type, uint8_t *bytes, size_t size);
/* One string: Query, CopyFail, CommandComplete. */
size_t message_write_string(char type, const char *string, uint8_t *bytes, size_t size);
/* Parse with the name of `parse`, which need not be in the message that it was read of.
 */
size_t message_write_parse(const struct message_parse *parse, uint8_t *bytes,
                           size_t size);
/* The begin of a Bind, up to the end of both names; `n_rest` bytes of body follow. */
size_t message_write_bind(const char *portal, const char *statement, size_t n_rest,
                          uint8_t *bytes, size_t size);
/* Describe and Close, by their type. */
size_t message_write_target(char type, const struct message_target *target,
                            uint8_t *bytes, size_t size);
size_t message_write_execute(const struct message_execute *execute, uint8_t *bytes,
                             size_t size);
size_t message_write_ready(char status, uint8_t *bytes, size_t size);
size_t message_write_parameter(const char *name, const char *value, uint8_t *bytes,
                               size_t size);
size_t message_write_key(const struct cancel_key *key, uint8_t *bytes, size_t size);
/* NegotiateProtocolVersion; `options` are those that we do not know. */
size_t message_write_negotiation(uint32_t protocol, const char *const *options,
                                 uint32_t n_options, uint8_t *bytes, size_t size);

struct message_report {
    const char *severity; /* "NOTICE", "WARNING"; "ERROR" and such in an ErrorResponse */
    const char *sqlstate;
    const char *text;
    const char *hint; /* may be NULL, as the next */
    const char *detail;
};
/* NoticeResponse ('N'), or an ErrorResponse ('E') after which the session goes on. */
size_t message_write_report(char type, const struct message_report *report,
                            uint8_t *bytes, size_t size);

#endif
