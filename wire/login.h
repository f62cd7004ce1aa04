/* wire/login.h - follows a login by watching what the server says, in whatever pieces.
 *
 * Knows message headers and looks into two messages: BackendKeyData, for routing cancel
 * requests, and ErrorResponse, for its SQLSTATE. Everything else passes by. Pure.
 */
#ifndef WIRE_LOGIN_H
#define WIRE_LOGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "wire/error.h"
#include "wire/startup.h"

enum login_event {
    LOGIN_GOES_ON, /* all bytes were looked at, nothing special */
    LOGIN_KEY,     /* `key` holds the BackendKeyData */
    LOGIN_REFUSED, /* `error` holds what an ErrorResponse says */
    LOGIN_DONE,    /* ReadyForQuery: the session is open */
    LOGIN_CONFUSED /* this is not PostgreSQL's protocol */
};

struct login_watch {
    uint8_t header[5];
    uint8_t n_header;
    uint32_t body_left;
    uint8_t first; /* type of the first message that is no note about the protocol's
                      version */
    bool has_error;
    uint16_t n_kept;
    uint8_t kept[4 + CANCEL_KEY_MAX]; /* the begin of a body that we look into */
    struct cancel_key key;
    struct error_fields error;
};

/* A zeroed watch is at the begin of a login. Looks at `bytes` up to the end of the first
 * message that makes an event, or at all; `*n_seen` says how many. Call again with the
 * rest. */
enum login_event login_watch_feed(struct login_watch *watch, const uint8_t *bytes,
                                  size_t n, size_t *n_seen);

/* Whether the server's first word, which may be a refusal, is not there in whole yet. A
 * NegotiateProtocolVersion is not a word: one follows. */
bool login_watch_is_undecided(const struct login_watch *watch);

#endif
