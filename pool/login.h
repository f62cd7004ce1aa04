/* pool/login.h - logs in to PostgreSQL on a connection that has just been opened.
 *
 *   StartupMessage -->
 *                      <-- AuthenticationX
 *   password, SCRAM -->
 *                      <-- AuthenticationOk, ParameterStatus ..., BackendKeyData
 *                      <-- ReadyForQuery
 *
 * Format: PostgreSQL's documentation, "Message Flow", "Start-up".
 *
 * Thread: the worker that has the connection.
 */
#ifndef POOL_LOGIN_H
#define POOL_LOGIN_H

#include "core/buffer.h"
#include "core/loop.h"
#include "core/text.h"
#include "wire/scram.h"
#include "wire/secret.h"
#include "wire/startup.h"

/* Whom to log in as. Strings belong to the pool's account and live as long as it. */
struct login_identity {
    const char *database;
    const char *user;
    const struct secret *secret; /* SECRET_NONE: no password is known */
    const char *connect_query;   /* said after the login; "" = nothing is */
    const char *more;            /* parameters of the StartupMessage, as it has them */
    size_t n_more;               /* bytes of those */
    struct scram_keys *keys; /* the account's, of the last SCRAM login; zeroed = none */
};

/* What a server tells of itself at its login. */
struct login_welcome {
    struct text parameters; /* ParameterStatus messages, one behind the other, as sent */
    struct cancel_key key;
    bool is_standby;   /* in_hot_standby; since PostgreSQL 14 */
    bool says_standby; /* it said either */
    int version;       /* server_version's first number; 0 = it has said none */
};

struct login_run;

struct login_events {
    /* A message that is to be sent. */
    void (*on_send)(void *arg, const uint8_t *bytes, size_t n);
    /* It has failed while nothing was read: while keys were derived. The run may be
     * freed.
     */
    void (*on_failed)(void *arg);
};

/* Begins: on_send comes from within, and from within login_run_read(). The identity lives
 * as long as the run. NULL when memory is out. */
struct login_run *login_run_new(struct loop *loop, const struct login_identity *identity,
                                const struct login_events *events, void *arg) MUST_CHECK;
/* Before anything is read: the TLS connection that a login by SCRAM is to be bound to. */
void login_run_bind(struct login_run *run, const struct channel_binding *binding);
void login_run_free(struct login_run *run); /* NULL is fine */

enum login_progress { LOGIN_RUN_GOES_ON, LOGIN_RUN_DONE, LOGIN_RUN_FAILED };

/* Takes what the server says. DONE: it is ready, and has said nothing more. */
enum login_progress login_run_read(struct login_run *run,
                                   struct buffer *bytes) MUST_CHECK;
/* Of a run that is DONE. */
const struct login_welcome *login_run_welcome(const struct login_run *run);
/* Of one that has FAILED: the node's SQLSTATE, "" when it said none, and a sentence.
 * Valid as long as the run. */
const char *login_run_sqlstate(const struct login_run *run);
const char *login_run_why(const struct login_run *run);

#endif
