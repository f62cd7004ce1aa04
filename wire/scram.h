/* wire/scram.h - SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both sides of it.
 *
 *   client                                        server
 *   scram_client_start()      client-first  -->
 *                         <-- server-first        scram_server_read()
 *   scram_client_read_challenge(); get the keys
 *   scram_client_answer()     client-final  -->
 *                         <-- server-final        scram_server_read(), SCRAM_DONE
 *   scram_client_read_end(), SCRAM_DONE
 *
 * RFC 5802, RFC 7677 and RFC 5929 in PostgreSQL's dialect: the user's name is that of the
 * StartupMessage, and the one in the exchange is ignored; there is no authorization
 * identity; optional extensions of a client are ignored, mandatory ones ("m=") refused.
 * Channel binding is tls-server-end-point alone.
 *
 * Pure: random nonces come from the caller, keys that take long too. The structs live in
 * the caller's memory (1.4 kB, for as long as a login takes) and are wiped by their clear
 * functions; zeroed ones may be cleared. After any result but SCRAM_GOES_ON, SCRAM_DONE
 * and SCRAM_OTHER_SECRET the exchange is over, and every further call says
 * SCRAM_OUT_OF_TURN.
 */
#ifndef WIRE_SCRAM_H
#define WIRE_SCRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/check.h"
#include "wire/certificate.h"
#include "wire/scram_keys.h"

/* Bits of a set, too. */
enum scram_mechanism {
    SCRAM_NO_MECHANISM = 0,
    SCRAM_SHA_256 = 1,
    SCRAM_SHA_256_PLUS = 2
};

enum scram_result {
    SCRAM_GOES_ON,
    SCRAM_DONE,
    SCRAM_MALFORMED,
    SCRAM_TOO_LONG,          /* a message, a nonce or a salt over our limits */
    SCRAM_UNSUPPORTED,       /* it takes something that we do not do */
    SCRAM_NOT_OFFERED,       /* no mechanism in common */
    SCRAM_DOWNGRADED,        /* 'y' where PLUS was offered: somebody removed the offer */
    SCRAM_BINDING_DIFFERS,   /* bound to another connection than this */
    SCRAM_NONCE_DIFFERS,     /* not an answer to what we said */
    SCRAM_ITERATIONS_ABSURD, /* over SCRAM_ITERATIONS_MAX */
    SCRAM_OTHER_SECRET,      /* keys of another salt: our secret is not the server's */
    SCRAM_WRONG_PROOF,       /* the client does not have the password */
    SCRAM_WRONG_SIGNATURE,   /* the server does not have the verifier */
    SCRAM_SERVER_REFUSED,    /* the server says so in SCRAM's words */
    SCRAM_OUT_OF_TURN,
    SCRAM_FAILED /* libcrypto has no memory */
};
/* A few words for logs. */
const char *scram_result_text(enum scram_result result);

/* Longer messages are refused: PG_MAX_SASL_MESSAGE_LENGTH in PostgreSQL's
 * src/backend/libpq/auth-sasl.c. */
#define SCRAM_INPUT_MAX 1024u
/* What a client-first-message may have behind its gs2-header. */
#define SCRAM_BARE_MAX 512u
/* The longest share of the peer in a nonce, and of ours. */
#define SCRAM_NONCE_MAX 128u
#define SCRAM_OWN_NONCE_MAX 64u
#define SCRAM_OUTPUT_MAX 512u

/* A message that is to be sent, or one that was. */
struct scram_message {
    size_t n;
    char bytes[SCRAM_OUTPUT_MAX];
};

/* Our share of a nonce, of bytes that are fresh and random for each login. */
#define SCRAM_NONCE_RANDOM_BYTES 18u
#define SCRAM_NONCE_BYTES 25u
void scram_nonce_write(const uint8_t random[SCRAM_NONCE_RANDOM_BYTES],
                       char nonce[SCRAM_NONCE_BYTES]);

/* ---- the side of the server ------------------------------------------------------ */

enum scram_server_step {
    SCRAM_SERVER_OVER,
    SCRAM_SERVER_AWAITS_FIRST,
    SCRAM_SERVER_AWAITS_FINAL,
    SCRAM_SERVER_ACCEPTED
};

struct scram_server {
    enum scram_server_step step;
    enum scram_mechanism mechanism;
    char flag; /* of the gs2-header: n, y, p */
    bool was_asked_to_begin;
    struct channel_binding binding;
    struct scram_verifier verifier;
    char own_nonce[SCRAM_OWN_NONCE_MAX + 1];
    size_t n_bare;
    char bare[SCRAM_BARE_MAX];
    size_t n_nonce; /* in `first`, behind its r= */
    struct scram_message first;
    uint8_t client_key[SCRAM_KEY_BYTES];
};

/* What to offer: PLUS too, where the connection has a binding. */
unsigned scram_server_offer(const struct channel_binding *binding);

/* `mechanism` is what the client has chosen, offered or not. `binding` is of this very
 * connection. `nonce`: 16 to SCRAM_OWN_NONCE_MAX printable characters without a comma.
 * Everything is copied. */
void scram_server_init(struct scram_server *server, const struct scram_verifier *verifier,
                       enum scram_mechanism mechanism,
                       const struct channel_binding *binding, const char *nonce);
void scram_server_clear(struct scram_server *server);

/* Reads a message of the client; NULL is a SASLInitialResponse without one.
 * SCRAM_GOES_ON: `answer` goes out as AuthenticationSASLContinue. SCRAM_DONE: as
 * AuthenticationSASLFinal, and the client has proven that it has the password. Else
 * `answer` is untouched. */
enum scram_result scram_server_read(struct scram_server *server, const uint8_t *bytes,
                                    size_t n, struct scram_message *answer) MUST_CHECK;

/* After SCRAM_DONE: the keys that the client has logged in with, by which we log in to a
 * server that has the same verifier. */
void scram_server_keys(const struct scram_server *server, struct scram_keys *keys);

/* ---- the side of the client ------------------------------------------------------ */

enum scram_client_step {
    SCRAM_CLIENT_OVER,
    SCRAM_CLIENT_AWAITS_CHALLENGE,
    SCRAM_CLIENT_AWAITS_KEYS,
    SCRAM_CLIENT_AWAITS_END,
    SCRAM_CLIENT_VERIFIED
};

struct scram_client {
    enum scram_client_step step;
    enum scram_mechanism mechanism; /* that start has chosen */
    char flag;
    struct channel_binding binding;
    char own_nonce[SCRAM_OWN_NONCE_MAX + 1];
    struct scram_message first; /* without the gs2-header */
    struct scram_message challenge;
    size_t n_nonce;         /* in `challenge`, behind its r= */
    struct scram_salt salt; /* from the challenge on: of the keys that are needed */
    uint8_t server_signature[SCRAM_KEY_BYTES];
};

/* Chooses of the mechanisms in `offered`: PLUS where it is offered and the connection has
 * a binding, and only that when it `must_bind`. `binding` may be NULL: then channel
 * binding is not even wished for. `nonce` as for a server. SCRAM_GOES_ON: `answer` goes
 * out in a SASLInitialResponse for `client->mechanism`. */
enum scram_result scram_client_start(struct scram_client *client, unsigned offered,
                                     const struct channel_binding *binding,
                                     bool must_bind, const char *nonce,
                                     struct scram_message *answer) MUST_CHECK;
void scram_client_clear(struct scram_client *client);

/* Reads the server's challenge. SCRAM_GOES_ON: the caller gets keys for `client->salt`,
 * from a cache, from a client's login or out of the password; the last takes as long as
 * the server wishes (wire/scram_keys.h). */
enum scram_result scram_client_read_challenge(struct scram_client *client,
                                              const uint8_t *bytes, size_t n) MUST_CHECK;

/* Whether keys are of the salt and the iterations that the server has told. Keys of a
 * secret that do not fit mean that it is not the one that the server stores. */
bool scram_client_fits(const struct scram_client *client, const struct scram_keys *keys);

/* SCRAM_GOES_ON: `answer` goes out in a SASLResponse. SCRAM_OTHER_SECRET: the keys do not
 * fit; others may be tried in this one case. */
enum scram_result scram_client_answer(struct scram_client *client,
                                      const struct scram_keys *keys,
                                      struct scram_message *answer) MUST_CHECK;

/* Reads the server's last word. SCRAM_DONE: it has the verifier of our keys. */
enum scram_result scram_client_read_end(struct scram_client *client, const uint8_t *bytes,
                                        size_t n) MUST_CHECK;
/* An AuthenticationOk before this is true comes from nobody who knows the user. */
bool scram_client_has_verified(const struct scram_client *client);

#endif
