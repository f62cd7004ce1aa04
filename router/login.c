#include "router/login.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "core/memory.h"
#include "core/stream_tls.h"
#include "router/console/console.h"
#include "router/lease.h"
#include "router/target.h"
#include "router/worker.h"
#include "wire/auth.h"
#include "wire/message.h"

#define ITERATIONS_PER_SLICE 1000u
#define CERTIFICATE_NAME_MAX 256u

/* What is needed until the client is logged in, and no longer. */
struct client_login {
    struct client *client;
    struct target target;           /* what it asks for, and as whom */
    struct secret secret;           /* of its user; points into the config */
    struct channel_binding binding; /* of its TLS connection; zeroed = none */
    enum auth_kind asked;
    uint8_t salt[SECRET_MD5_SALT_BYTES];
    struct scram_server scram;
    struct scram_verifier verifier;
    struct scram_stretch stretch; /* of a plain secret, to check SCRAM by */
    struct deferred stretching;
};

void login_drop(struct client *client)
{
    struct client_login *login = client->proof;

    if (login == NULL)
        return;
    client->proof = NULL;
    loop_discontinue(client->worker->loop, &login->stretching);
    secret_clear(&login->secret);
    scram_server_clear(&login->scram);
    scram_verifier_clear(&login->verifier);
    scram_stretch_clear(&login->stretch);
    target_clear(&login->target);
    OPENSSL_cleanse(login, sizeof *login);
    memory_free(login);
}

static void send_bytes(struct client *client, const uint8_t *bytes, size_t n)
{
    struct buffer *buffer = buffer_take(client->worker->loop->pond);

    if (buffer == NULL || !buffer_add(buffer, bytes, (uint32_t)n)) {
        buffer_give(buffer);
        client_refuse(client, CLOSE_NO_MEMORY, NULL);
        return;
    }
    client->n_bytes[1] += n;
    (void)stream_send(&client->stream, buffer);
}

static void reject(struct client *client)
{
    char why[160];

    snprintf(why, sizeof why, "password authentication failed for user \"%.60s\"",
             client->proof->target.user);
    client_refuse(client, CLOSE_WRONG_PASSWORD, why);
}

static void let_in(struct client *client)
{
    struct client_login *login = client->proof;
    char why[TARGET_WHY_MAX];
    const char *full;

    if (console_is_meant(login->target.database)) {
        console_begin(client, &login->target);
        return;
    }
    if (login->target.settings == NULL) {
        snprintf(why, sizeof why, "no such database: %.100s", login->target.database);
        client_refuse(client, CLOSE_NO_DATABASE, why);
        return;
    }
    if (pools_has_halt(&client->worker->pools, login->target.database, HALT_DISABLED)) {
        snprintf(why, sizeof why, "database \"%.100s\" is disabled",
                 login->target.database);
        client_refuse(client, CLOSE_DISABLED, why);
        return;
    }
    full = target_count(&login->target, client->worker, client->counted);
    if (full != NULL && *full != '\0') {
        snprintf(why, sizeof why, "no more clients are allowed (%s)", full);
        client_refuse(client, CLOSE_TOO_MANY_CLIENTS, why);
        return;
    }
    client->pool = full != NULL
                       ? NULL
                       : target_pool(&login->target, client->worker, client->parameters);
    client->is_session_pooled =
        login->target.is_session_pooled || login->target.replication != REPLICATION_NONE;
    client->is_statement_pooled =
        login->target.is_statement_pooled && !client->is_session_pooled;
    client->keeps_unsent =
        !client->is_session_pooled && login->target.replay >= REPLAY_UNSENT;
    client->keeps_aborted =
        !client->is_session_pooled && login->target.replay == REPLAY_ABORTED;
    client->refuses_queries = login->target.config->main.disable_pqexec;
    client->idle_timeout_ms = target_idle_timeout_ms(&login->target);
    if (client->pool != NULL)
        client->guest = pool_enter(client->pool, login->target.user);
    if (client->guest == NULL) {
        client_refuse(client, CLOSE_NO_MEMORY, NULL);
        return;
    }
    login_drop(client);
    lease_welcome(client);
}

/* ---- what the client is asked for ---------------------------------------------------
 */

static void ask_for_scram(struct client *client)
{
    uint8_t bytes[AUTH_BYTES_MAX];

    client->proof->asked = AUTH_SASL;
    send_bytes(client, bytes,
               auth_write_sasl(scram_server_offer(&client->proof->binding), bytes));
}

static void on_stretched(struct deferred *deferred)
{
    struct client_login *login = CONTAINER_OF(deferred, struct client_login, stretching);
    struct client *client = login->client;
    struct scram_keys keys;
    bool ok = scram_stretch_run(&login->stretch, ITERATIONS_PER_SLICE);

    if (ok && !scram_stretch_is_done(&login->stretch)) {
        loop_continue(client->worker->loop, &login->stretching);
        return;
    }
    ok = ok && scram_stretch_keys(&login->stretch, &keys) &&
         scram_verifier_from_keys(&keys, &login->verifier);
    if (ok) {
        scram_keys_clear(&keys);
        ask_for_scram(client);
    } else {
        client_refuse(client, CLOSE_NO_MEMORY, NULL);
    }
    client_settle(client);
}

/* A user without a secret that SCRAM could check gets one that nothing fits. */
static bool prepare_scram(struct client *client)
{
    struct client_login *login = client->proof;
    const struct security *security = client->listener->security;
    const char *user = login->target.user;
    struct secret mock;

    if (login->secret.kind == SECRET_SCRAM) {
        login->verifier = login->secret.scram;
        return true;
    }
    if (!secret_mock(security->mock_key, sizeof security->mock_key, user,
                     (uint32_t)login->target.config->main.scram_iterations, &mock))
        return false;
    login->verifier = mock.scram;
    return login->secret.kind != SECRET_PLAIN ||
           scram_stretch_begin(&login->stretch, login->secret.plain,
                               login->secret.n_plain, &mock.scram.salt);
}

static void begin_scram(struct client *client)
{
    struct client_login *login = client->proof;

    if (!prepare_scram(client)) {
        client_refuse(client, CLOSE_NO_MEMORY, NULL);
    } else if (login->secret.kind == SECRET_PLAIN) {
        login->stretching.run = on_stretched;
        loop_continue(client->worker->loop, &login->stretching);
    } else {
        ask_for_scram(client);
    }
}

static void begin_md5(struct client *client)
{
    struct client_login *login = client->proof;
    uint8_t bytes[AUTH_BYTES_MAX];

    login->asked = AUTH_MD5;
    if (RAND_bytes(login->salt, sizeof login->salt) != 1)
        client_refuse(client, CLOSE_NO_MEMORY, NULL);
    else
        send_bytes(client, bytes, auth_write_md5(login->salt, bytes));
}

static void begin_plain(struct client *client)
{
    uint8_t bytes[AUTH_BYTES_MAX];

    client->proof->asked = AUTH_CLEARTEXT;
    send_bytes(client, bytes, auth_write_request(AUTH_CLEARTEXT, bytes));
}

/* Its common name is the user's, or mapped to it; that somebody vouches for it was seen
 * in the handshake.
 */
static bool is_shown_by_certificate(const struct client *client)
{
    const struct security *security = client->listener->security;
    const char *user = client->proof->target.user;
    const X509 *certificate;
    char name[CERTIFICATE_NAME_MAX];

    if (security == NULL || security->to_clients < SSLMODE_VERIFY_CA ||
        !stream_is_tls(&client->stream))
        return false;
    certificate = stream_tls_peer_certificate(&client->stream);
    return certificate != NULL && tls_common_name(certificate, name, sizeof name) &&
           config_allows_certificate(client->listener->config, name, user);
}

static void check_certificate(struct client *client)
{
    char why[160];

    if (client->proof->target.is_known && is_shown_by_certificate(client)) {
        let_in(client);
        return;
    }
    snprintf(why, sizeof why, "certificate authentication failed for user \"%.60s\"",
             client->proof->target.user);
    client_refuse(client, CLOSE_WRONG_CERTIFICATE, why);
}

static void ask(struct client *client)
{
    struct client_login *login = client->proof;

    switch (login->target.auth) {
    case AUTH_TYPE_ANY:
    case AUTH_TYPE_TRUST:
        if (login->target.auth == AUTH_TYPE_TRUST && !login->target.is_known)
            reject(client);
        else
            let_in(client);
        break;
    case AUTH_TYPE_PLAIN:
        begin_plain(client);
        break;
    case AUTH_TYPE_MD5:
        /* As PgBouncer: a SCRAM secret is checked by SCRAM. */
        if (login->secret.kind == SECRET_SCRAM)
            begin_scram(client);
        else
            begin_md5(client);
        break;
    case AUTH_TYPE_SCRAM_SHA_256:
        begin_scram(client);
        break;
    case AUTH_TYPE_CERT:
        check_certificate(client);
        break;
    case AUTH_TYPE_HBA: /* loading refuses these */
    case AUTH_TYPE_PAM:
    case AUTH_TYPE_LDAP:
    case AUTH_TYPE_DEFAULT:
        reject(client);
        break;
    }
}

/* ---- what it answers ----------------------------------------------------------------
 */

/* Somebody may stand between the client and us: that is no wrong password. */
static void reject_scram(struct client *client, enum scram_result result)
{
    char why[160];

    if (result != SCRAM_DOWNGRADED && result != SCRAM_BINDING_DIFFERS) {
        reject(client);
        return;
    }
    snprintf(why, sizeof why, "%s: %s", close_facts[CLOSE_WRONG_BINDING].text,
             scram_result_text(result));
    client_refuse(client, CLOSE_WRONG_BINDING, why);
}

static void on_scram(struct client *client, const uint8_t *bytes, size_t n)
{
    struct client_login *login = client->proof;
    struct scram_message answer;
    uint8_t out[AUTH_BYTES_MAX];

    enum scram_result result = scram_server_read(&login->scram, bytes, n, &answer);

    if (result == SCRAM_GOES_ON) {
        login->asked = AUTH_SASL_CONTINUE;
        send_bytes(client, out, auth_write_challenge(AUTH_SASL_CONTINUE, &answer, out));
    } else if (result == SCRAM_DONE) {
        scram_server_keys(&login->scram, &login->target.keys);
        send_bytes(client, out, auth_write_challenge(AUTH_SASL_FINAL, &answer, out));
        let_in(client);
    } else {
        reject_scram(client, result);
    }
}

static void on_choice(struct client *client, const struct message_view *message)
{
    struct client_login *login = client->proof;
    uint8_t random[SCRAM_NONCE_RANDOM_BYTES];
    char nonce[SCRAM_NONCE_BYTES];
    struct auth_choice choice;

    if (!auth_read_choice(message->body, message->length, &choice)) {
        client_refuse(client, CLOSE_CLIENT_CONFUSED, NULL);
        return;
    }
    if (RAND_bytes(random, sizeof random) != 1) {
        client_refuse(client, CLOSE_NO_MEMORY, NULL);
        return;
    }
    scram_nonce_write(random, nonce);
    scram_server_init(&login->scram, &login->verifier, choice.mechanism, &login->binding,
                      nonce);
    on_scram(client, choice.data, choice.n);
}

/* The keys of the password that the client has sent are those of its SCRAM secret? */
static void on_password_stretched(struct deferred *deferred)
{
    struct client_login *login = CONTAINER_OF(deferred, struct client_login, stretching);
    struct client *client = login->client;
    bool ok = scram_stretch_run(&login->stretch, ITERATIONS_PER_SLICE);

    if (ok && !scram_stretch_is_done(&login->stretch)) {
        loop_continue(client->worker->loop, &login->stretching);
        return;
    }
    if (ok && scram_stretch_keys(&login->stretch, &login->target.keys) &&
        scram_verifier_accepts(&login->secret.scram, &login->target.keys))
        let_in(client);
    else
        reject(client);
    client_settle(client);
}

static void check_by_scram(struct client *client, const char *password)
{
    struct client_login *login = client->proof;

    if (!scram_stretch_begin(&login->stretch, password, strlen(password),
                             &login->secret.scram.salt)) {
        reject(client);
        return;
    }
    login->asked = AUTH_OK;
    login->stretching.run = on_password_stretched;
    loop_continue(client->worker->loop, &login->stretching);
}

static void on_password(struct client *client, const struct message_view *message)
{
    struct client_login *login = client->proof;
    const char *user = login->target.user, *password;

    if (!auth_read_password(message->body, message->length, &password))
        client_refuse(client, CLOSE_CLIENT_CONFUSED, NULL);
    else if (login->asked == AUTH_CLEARTEXT && login->secret.kind == SECRET_SCRAM)
        check_by_scram(client, password);
    else if (login->asked == AUTH_MD5
                 ? secret_accepts_md5(&login->secret, user, login->salt, password)
                 : secret_accepts_plain(&login->secret, user, password))
        let_in(client);
    else
        reject(client);
}

static void on_answer(struct client *client, const struct message_view *message)
{
    switch (client->proof->asked) {
    case AUTH_SASL:
        on_choice(client, message);
        break;
    case AUTH_SASL_CONTINUE:
        if (auth_read_response(message->body, message->length))
            on_scram(client, message->body, message->length);
        else
            client_refuse(client, CLOSE_CLIENT_CONFUSED, NULL);
        break;
    case AUTH_CLEARTEXT:
    case AUTH_MD5:
        on_password(client, message);
        break;
    case AUTH_OK: /* nothing was asked yet */
    case AUTH_SASL_FINAL:
    case AUTH_UNSUPPORTED:
    case AUTH_MALFORMED:
        client_refuse(client, CLOSE_CLIENT_CONFUSED, NULL);
        break;
    }
}

/* The first `n` bytes of the inbox have been dealt with. */
static void skip(struct client *client, uint32_t n)
{
    struct buffer *buffer = client->inbox;

    buffer_skip(buffer, n);
    if (buffer_unread(buffer) == 0) {
        client->inbox = buffer->next;
        buffer_give(buffer);
    }
}

void login_advance(struct client *client)
{
    struct message_walk walk;
    struct message_view message = {0};
    uint8_t body[AUTH_PASSWORD_MAX];
    uint32_t n_left = 0;

    if (client->inbox == NULL)
        return;
    message_walk_begin(&walk, &client->worker->login_rules,
                       client->inbox->bytes + client->inbox->begin,
                       buffer_unread(client->inbox), &n_left);
    switch (message_walk_next(&walk, &message)) {
    case MESSAGE_WHOLE:
        break;
    case MESSAGE_BEGUN:
    case MESSAGE_CUT:
    case MESSAGE_NONE:
        return;
    case MESSAGE_UNKNOWN:
    case MESSAGE_TOO_SHORT:
    case MESSAGE_TOO_LONG:
        client_refuse(client, CLOSE_CLIENT_CONFUSED, NULL);
        return;
    }
    if (message.type == 'X') {
        client_close(client, CLOSE_LEFT_AT_LOGIN);
    } else if (message.type != 'p' || message.length > sizeof body) {
        client_refuse(client, CLOSE_CLIENT_CONFUSED, NULL);
    } else { /* a copy: the inbox may go with the client */
        memcpy(body, message.body, message.length);
        message.body = body;
        skip(client, message.length + MESSAGE_HEADER_BYTES);
        on_answer(client, &message);
        OPENSSL_cleanse(body, sizeof body);
    }
}

/* ---- what we speak ------------------------------------------------------------------
 */

#define OPTIONS_MAX 64u

/* The newest protocol that we know, and what the client has asked for that we do not. */
static void negotiate(struct client *client, const struct startup_packet *packet)
{
    const char *options[OPTIONS_MAX], *name, *value;
    uint32_t n_options = 0;
    const uint8_t *at = NULL;
    uint8_t bytes[STARTUP_BYTES_MAX];

    client->has_long_key = packet->protocol >= STARTUP_PROTOCOL_3_2;
    while (n_options < OPTIONS_MAX && startup_next_parameter(packet, &at, &name, &value))
        if (strncmp(name, "_pq_.", 5) == 0)
            options[n_options++] = name;
    if (packet->protocol > STARTUP_PROTOCOL_3_2 || n_options > 0)
        send_bytes(client, bytes,
                   message_write_negotiation(packet->protocol > STARTUP_PROTOCOL_3_2
                                                 ? STARTUP_PROTOCOL_3_2
                                                 : packet->protocol,
                                             options, n_options, bytes, sizeof bytes));
}

/* ---- begin --------------------------------------------------------------------------
 */

/* False when libcrypto fails: then the client must not go on as one without TLS. */
static bool find_binding(const struct client *client, struct channel_binding *binding)
{
    return !stream_is_tls(&client->stream) ||
           certificate_binding(stream_tls_certificate(&client->stream), binding);
}

void login_begin(struct client *client)
{
    struct startup_packet packet = startup_read(
        client->inbox->bytes + client->inbox->begin, buffer_unread(client->inbox));
    struct client_login *login = memory_zeroed(sizeof *login);
    char why[TARGET_WHY_MAX];

    client_enter(client, CLIENT_AUTH);
    client->proof = login;
    if (login == NULL) {
        client_refuse(client, CLOSE_NO_MEMORY, NULL);
        return;
    }
    login->client = client;
    if (!startup_is_well_formed(&packet)) {
        client_refuse(client, CLOSE_CLIENT_CONFUSED, "the startup packet is malformed");
        return;
    }
    if (!find_binding(client, &login->binding)) {
        client_refuse(client, CLOSE_NO_MEMORY, NULL);
        return;
    }
    switch (target_find(&login->target, client->worker, client->listener, &packet,
                        &login->secret, why)) {
    case TARGET_FOUND:
        client->parameters = target_parameters(&login->target, &packet, &client->peer,
                                               client->worker->pools.home.parameters);
        negotiate(client, &packet);
        if (client->state != CLIENT_AUTH)
            break; /* memory was out */
        skip(client, packet.length);
        if (client->parameters != NULL)
            ask(client);
        else
            client_refuse(client, CLOSE_NO_MEMORY, NULL);
        break;
    case TARGET_UNKNOWN:
        client_refuse(client, CLOSE_NO_DATABASE, why);
        break;
    case TARGET_MISTAKEN:
        client_refuse(client, CLOSE_BAD_PARAMETER, why);
        break;
    case TARGET_NO_MEMORY:
        client_refuse(client, CLOSE_NO_MEMORY, NULL);
        break;
    }
}
