#include "pool/login.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "wire/auth.h"
#include "wire/error.h"
#include "wire/message.h"

/* Iterations of SCRAM's key derivation in one go. */
#define ITERATIONS_PER_SLICE 1000u
#define PARAMETERS_MAX (16u * 1024)
/* Of a login that our own secret is not fit for: invalid_authorization_specification. */
#define CODE_OF_OURS "28000"
/* What an error's message is cut to. */
#define WHY_MAX 256u

struct login_run {
    struct loop *loop;
    const struct login_identity *identity;
    const struct login_events *events;
    void *arg;
    struct message_rules rules;
    struct channel_binding binding; /* zeroed = none */
    struct scram_client scram;
    struct scram_stretch stretch;
    struct deferred stretching;
    struct login_welcome welcome;
    struct buffer *inbox; /* the begin of a message that is not here in whole */
    enum login_progress progress;
    bool is_accepted; /* AuthenticationOk was seen */
    char sqlstate[6];
    char why[WHY_MAX];
};

static void refuse(struct login_run *run, const char *sqlstate, const char *why)
{
    if (run->progress == LOGIN_RUN_FAILED)
        return;
    run->progress = LOGIN_RUN_FAILED;
    snprintf(run->sqlstate, sizeof run->sqlstate, "%s", sqlstate);
    snprintf(run->why, sizeof run->why, "%s", why);
}

static void refuse_of_scram(struct login_run *run, enum scram_result result)
{
    char why[WHY_MAX];

    snprintf(why, sizeof why, "SCRAM: %s", scram_result_text(result));
    refuse(run, "", why);
}

/* ---- what the server asks for --------------------------------------------------------
 */

static void send_password(struct login_run *run, const char *password, size_t n)
{
    uint8_t bytes[AUTH_PASSWORD_MAX + MESSAGE_HEADER_BYTES];

    run->events->on_send(run->arg, bytes, auth_write_password(password, n, bytes));
    OPENSSL_cleanse(bytes, sizeof bytes);
}

static void on_cleartext(struct login_run *run)
{
    const struct secret *secret = run->identity->secret;

    if (secret->kind == SECRET_PLAIN)
        send_password(run, secret->plain, secret->n_plain);
    else
        refuse(run, CODE_OF_OURS,
               "the node asks for the password in clear text, which we do not have");
}

static void on_md5(struct login_run *run, const struct auth_request *request)
{
    char answer[SECRET_MD5_BYTES];

    if (secret_answer_md5(run->identity->secret, run->identity->user, request->salt,
                          answer))
        send_password(run, answer, strlen(answer));
    else
        refuse(run, CODE_OF_OURS,
               "the node asks for an MD5 password, which we do not have");
}

static void on_sasl(struct login_run *run, const struct auth_request *request)
{
    uint8_t random[SCRAM_NONCE_RANDOM_BYTES], bytes[AUTH_BYTES_MAX];
    char nonce[SCRAM_NONCE_BYTES];
    struct scram_message message;
    enum scram_result result = SCRAM_FAILED;

    if (RAND_bytes(random, sizeof random) == 1) {
        scram_nonce_write(random, nonce);
        result = scram_client_start(&run->scram, request->mechanisms, &run->binding,
                                    false, nonce, &message);
    }
    if (result == SCRAM_GOES_ON)
        run->events->on_send(run->arg, bytes,
                             auth_write_choice(run->scram.mechanism, &message, bytes));
    else
        refuse_of_scram(run, result);
}

static void answer_challenge(struct login_run *run, const struct scram_keys *keys)
{
    uint8_t bytes[AUTH_BYTES_MAX];
    struct scram_message message;
    enum scram_result result = scram_client_answer(&run->scram, keys, &message);

    if (result == SCRAM_GOES_ON)
        run->events->on_send(run->arg, bytes, auth_write_response(&message, bytes));
    else
        refuse_of_scram(run, result);
}

/* A slice of the way from the password to the keys. */
static void stretch_on(struct deferred *deferred)
{
    struct login_run *run = CONTAINER_OF(deferred, struct login_run, stretching);

    if (!scram_stretch_run(&run->stretch, ITERATIONS_PER_SLICE)) {
        refuse_of_scram(run, SCRAM_FAILED);
    } else if (!scram_stretch_is_done(&run->stretch)) {
        loop_continue(run->loop, &run->stretching);
    } else if (!scram_stretch_keys(&run->stretch, run->identity->keys)) {
        refuse_of_scram(run, SCRAM_FAILED);
    } else {
        scram_stretch_clear(&run->stretch);
        answer_challenge(run, run->identity->keys);
    }
    if (run->progress == LOGIN_RUN_FAILED)
        run->events->on_failed(run->arg);
}

static const char *why_no_keys(const struct login_run *run)
{
    if (run->identity->secret->kind != SECRET_SCRAM)
        return "the node asks for SCRAM, for which we have no password";
    return run->identity->keys->salt.n > 0
               ? "the SCRAM secret in auth_file is not the one that PostgreSQL stores"
               : "no client has logged in by SCRAM yet, whose key would let us log in "
                 "with "
                 "a SCRAM secret";
}

static void on_challenge(struct login_run *run, const struct auth_request *request)
{
    const struct secret *secret = run->identity->secret;
    enum scram_result result =
        scram_client_read_challenge(&run->scram, request->data, request->n);

    if (result != SCRAM_GOES_ON) {
        refuse_of_scram(run, result);
    } else if (scram_client_fits(&run->scram, run->identity->keys)) {
        answer_challenge(run, run->identity->keys);
    } else if (secret->kind != SECRET_PLAIN) {
        refuse(run, CODE_OF_OURS, why_no_keys(run));
    } else if (scram_stretch_begin(&run->stretch, secret->plain, secret->n_plain,
                                   &run->scram.salt)) {
        run->stretching.run = stretch_on;
        loop_continue(run->loop, &run->stretching);
    } else {
        refuse_of_scram(run, SCRAM_FAILED);
    }
}

static void on_final(struct login_run *run, const struct auth_request *request)
{
    enum scram_result result =
        scram_client_read_end(&run->scram, request->data, request->n);

    if (result != SCRAM_DONE)
        refuse_of_scram(run, result);
}

static void on_ok(struct login_run *run)
{
    if (run->scram.step != SCRAM_CLIENT_OVER && !scram_client_has_verified(&run->scram))
        refuse(run, "", "the node let us in without proof that it knows the password");
    else
        run->is_accepted = true;
}

static void on_authentication(struct login_run *run, const struct message_view *message)
{
    struct auth_request request = auth_read_request(message->body, message->length);

    switch (request.kind) {
    case AUTH_OK:
        on_ok(run);
        break;
    case AUTH_CLEARTEXT:
        on_cleartext(run);
        break;
    case AUTH_MD5:
        on_md5(run, &request);
        break;
    case AUTH_SASL:
        on_sasl(run, &request);
        break;
    case AUTH_SASL_CONTINUE:
        on_challenge(run, &request);
        break;
    case AUTH_SASL_FINAL:
        on_final(run, &request);
        break;
    case AUTH_UNSUPPORTED:
        refuse(run, "", "the node asks for a kind of authentication that we do not have");
        break;
    case AUTH_MALFORMED:
        refuse(run, "", "the node's request for authentication is malformed");
        break;
    }
}

/* ---- what the server tells -----------------------------------------------------------
 */

static void on_error(struct login_run *run, const struct message_view *message)
{
    struct error_fields error;

    error_read(message->body, message->length, &error);
    refuse(run, error.sqlstate,
           error.text[0] != '\0' ? error.text : "no reason was given");
}

static void on_parameter(struct login_run *run, const struct message_view *message)
{
    const char *name, *value;

    if (!message_read_parameter(message->body, message->length, &name, &value)) {
        refuse(run, "", "the node's ParameterStatus is malformed");
        return;
    }
    text_add_n(&run->welcome.parameters,
               (const char *)message->body - MESSAGE_HEADER_BYTES,
               message->length + MESSAGE_HEADER_BYTES);
    if (strcmp(name, "in_hot_standby") == 0) {
        run->welcome.says_standby = true;
        run->welcome.is_standby = strcmp(value, "on") == 0;
    }
    if (strcmp(name, "server_version") == 0)
        run->welcome.version = (int)strtol(value, NULL, 10);
}

static void on_key(struct login_run *run, const struct message_view *message)
{
    if (!message_read_key(message->body, message->length, &run->welcome.key))
        refuse(run, "", "the node's BackendKeyData is malformed");
}

static void on_ready(struct login_run *run)
{
    if (run->welcome.parameters.overflowed)
        refuse(run, "", "the node tells more parameters than we keep");
    else
        run->progress = LOGIN_RUN_DONE;
}

static void on_message(struct login_run *run, const struct message_view *message)
{
    bool may_come = run->is_accepted || message->type == 'R' || message->type == 'E' ||
                    message->type == 'N' || message->type == 'v';

    if (!may_come) {
        refuse(run, "", "the node goes on as if we were logged in");
        return;
    }
    switch (message->type) {
    case 'R':
        on_authentication(run, message);
        break;
    case 'E':
        on_error(run, message);
        break;
    case 'S':
        on_parameter(run, message);
        break;
    case 'K':
        on_key(run, message);
        break;
    case 'Z':
        on_ready(run);
        break;
    case 'N': /* a notice, and the news that it speaks an older protocol */
    case 'v':
        break;
    default:
        refuse(run, "", "the node says something that belongs to no login");
    }
}

/* How many of the bytes are whole messages, which were read. */
static size_t read_messages(struct login_run *run, const uint8_t *bytes, size_t n)
{
    struct message_walk walk;
    struct message_view message = {0};
    uint32_t n_left = 0;

    message_walk_begin(&walk, &run->rules, bytes, n, &n_left);
    while (run->progress == LOGIN_RUN_GOES_ON) {
        switch (message_walk_next(&walk, &message)) {
        case MESSAGE_WHOLE:
            on_message(run, &message);
            break;
        case MESSAGE_BEGUN:
        case MESSAGE_CUT:
        case MESSAGE_NONE:
            return n - message_walk_rest(&walk);
        case MESSAGE_UNKNOWN:
        case MESSAGE_TOO_SHORT:
        case MESSAGE_TOO_LONG:
            refuse(run, "", "this is not PostgreSQL's protocol");
            break;
        }
    }
    return n - message_walk_rest(&walk);
}

static bool keep(struct login_run *run, struct buffer *bytes)
{
    bool fits = true;

    if (run->inbox == NULL) {
        run->inbox = bytes;
        return true;
    }
    fits = buffer_add(run->inbox, bytes->bytes + bytes->begin, buffer_unread(bytes));
    buffer_give(bytes);
    return fits;
}

enum login_progress login_run_read(struct login_run *run, struct buffer *bytes)
{
    if (!keep(run, bytes)) {
        refuse(run, "", "a message of the node's is too long for a login");
        return run->progress;
    }
    buffer_skip(run->inbox,
                (uint32_t)read_messages(run, run->inbox->bytes + run->inbox->begin,
                                        buffer_unread(run->inbox)));
    if (buffer_unread(run->inbox) == 0) {
        buffer_give(run->inbox);
        run->inbox = NULL;
    } else if (run->progress == LOGIN_RUN_DONE) {
        run->progress = LOGIN_RUN_GOES_ON;
        refuse(run, "", "the node goes on when it should wait");
    }
    return run->progress;
}

const struct login_welcome *login_run_welcome(const struct login_run *run)
{
    return &run->welcome;
}

const char *login_run_sqlstate(const struct login_run *run)
{
    return run->sqlstate;
}

const char *login_run_why(const struct login_run *run)
{
    return run->why;
}

/* ---- begin and end -------------------------------------------------------------------
 */

static bool send_startup(struct login_run *run)
{
    const char *parameters[] = {"user", run->identity->user, "database",
                                run->identity->database, NULL};
    uint8_t bytes[STARTUP_BYTES_MAX];
    size_t n = startup_write_login(STARTUP_PROTOCOL_3_0, parameters, bytes, sizeof bytes);

    if (run->identity->n_more > 0)
        n = startup_add_parameters(bytes, n, sizeof bytes, run->identity->more,
                                   run->identity->n_more);
    if (n > 0)
        run->events->on_send(run->arg, bytes, n);
    return n > 0;
}

struct login_run *login_run_new(struct loop *loop, const struct login_identity *identity,
                                const struct login_events *events, void *arg)
{
    struct login_run *run = memory_zeroed(sizeof *run);

    if (run == NULL)
        return NULL;
    run->loop = loop;
    run->identity = identity;
    run->events = events;
    run->arg = arg;
    text_init(&run->welcome.parameters, PARAMETERS_MAX);
    message_rules_init(&run->rules, MESSAGE_OF_SERVER, BUFFER_BYTES);
    if (!send_startup(run)) {
        login_run_free(run);
        return NULL;
    }
    return run;
}

void login_run_bind(struct login_run *run, const struct channel_binding *binding)
{
    run->binding = *binding;
}

void login_run_free(struct login_run *run)
{
    if (run == NULL)
        return;
    loop_discontinue(run->loop, &run->stretching);
    scram_client_clear(&run->scram);
    scram_stretch_clear(&run->stretch);
    text_clear(&run->welcome.parameters);
    buffer_give(run->inbox);
    memory_free(run);
}
