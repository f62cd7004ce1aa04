/* tests/fuzz/fuzz_scram.c - any bytes as the messages of a login by SCRAM, to each side,
 * as a secret, and as the messages around them.
 *
 * The messages stand between zero bytes, as they cannot have any. Nobody gets in but with
 * the very words of RFC 7677, 3.
 */
#include <stdlib.h>
#include <string.h>

#include "wire/auth.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#define CLIENT_NONCE "rOprNGfwEbeRWgbNEkqO"
#define SERVER_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define BARE "n=user,r=" CLIENT_NONCE
#define FINAL \
    "c=biws,r=" CLIENT_NONCE SERVER_NONCE \
    ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define CHALLENGE "r=" CLIENT_NONCE SERVER_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
#define SIGNATURE "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
#define SECRET \
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLm" \
    "tbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

struct message {
    uint8_t *bytes; /* in memory that ends behind it: a sanitizer sees a look beyond */
    size_t n;
};

static struct message take_message(const uint8_t **at, const uint8_t *end)
{
    const uint8_t *zero = *at < end ? memchr(*at, 0, (size_t)(end - *at)) : NULL;
    struct message message = {.n = (size_t)((zero != NULL ? zero : end) - *at)};

    message.bytes = malloc(message.n > 0 ? message.n : 1);
    REQUIRE(message.bytes != NULL);
    memcpy(message.bytes, *at, message.n);
    *at = zero != NULL ? zero + 1 : end;
    return message;
}

static bool is(const struct message *message, const char *text)
{
    return message->n == strlen(text) && memcmp(message->bytes, text, message->n) == 0;
}

static struct scram_verifier verifier(void)
{
    struct secret secret;

    REQUIRE(secret_parse(SECRET, strlen(SECRET), &secret) == SECRET_FINE);
    return secret.scram;
}

/* The user's name and the header vary with the input: the other words follow them. */
static void be_server(const struct message *first, const struct message *final,
                      enum scram_mechanism mechanism,
                      const struct channel_binding *binding)
{
    struct scram_verifier of = verifier();
    struct scram_message answer;
    struct scram_server server;
    enum scram_result result;

    scram_server_init(&server, &of, mechanism, binding, SERVER_NONCE);
    result = scram_server_read(&server, first->bytes, first->n, &answer);
    REQUIRE(result != SCRAM_DONE && strlen(scram_result_text(result)) > 0);
    if (result == SCRAM_GOES_ON) {
        REQUIRE(answer.n <= sizeof answer.bytes && memcmp(answer.bytes, "r=", 2) == 0);
        result = scram_server_read(&server, final->bytes, final->n, &answer);
        REQUIRE(result != SCRAM_GOES_ON);
        REQUIRE((result == SCRAM_DONE) == (mechanism == SCRAM_SHA_256 &&
                                           is(first, "n,," BARE) && is(final, FINAL)));
    }
    scram_server_clear(&server);
}

static struct scram_keys keys(void)
{
    static struct scram_keys kept;
    struct scram_verifier of = verifier();

    if (kept.salt.n == 0)
        REQUIRE(scram_keys_from_password("pencil", 6, &of.salt, &kept));
    return kept;
}

/* The RFC's client, but for its name, which PostgreSQL's clients leave out: nobody has
 * the signature. */
static void be_client(const struct message *challenge, const struct message *end,
                      bool has_name)
{
    struct scram_client client;
    struct scram_message answer;
    struct scram_keys known = keys();
    enum scram_result result;

    REQUIRE(scram_client_start(&client, SCRAM_SHA_256, NULL, false, CLIENT_NONCE,
                               &answer) == SCRAM_GOES_ON);
    if (has_name) {
        client.first.n = strlen(BARE);
        memcpy(client.first.bytes, BARE, client.first.n);
    }
    result = scram_client_read_challenge(&client, challenge->bytes, challenge->n);
    if (result == SCRAM_GOES_ON) {
        REQUIRE(client.salt.n > 0 && client.salt.n <= SCRAM_SALT_MAX);
        REQUIRE(client.salt.iterations > 0 &&
                client.salt.iterations <= SCRAM_ITERATIONS_MAX);
        known.salt = client.salt;
        REQUIRE(scram_client_answer(&client, &known, &answer) == SCRAM_GOES_ON);
        result = scram_client_read_end(&client, end->bytes, end->n);
        REQUIRE((result == SCRAM_DONE) ==
                (has_name && is(challenge, CHALLENGE) && is(end, SIGNATURE)));
    }
    REQUIRE(scram_client_has_verified(&client) == (result == SCRAM_DONE));
    scram_client_clear(&client);
}

static void read_secret(const struct message *text)
{
    struct secret secret = {0};
    char hash[SECRET_MD5_BYTES];
    static const uint8_t salt[SECRET_MD5_SALT_BYTES];

    if (secret_parse((const char *)text->bytes, text->n, &secret) != SECRET_FINE) {
        REQUIRE(secret.kind == SECRET_NONE);
        return;
    }
    REQUIRE((secret.kind == SECRET_NONE) == (text->n == 0));
    if (secret.kind == SECRET_SCRAM)
        REQUIRE(secret.scram.salt.n > 0 && secret.scram.salt.iterations > 0 &&
                !secret.scram.is_mock);
    if (secret_answer_md5(&secret, "user", salt, hash))
        REQUIRE(secret_accepts_md5(&secret, "user", salt, hash));
    else
        REQUIRE(secret.kind == SECRET_SCRAM || secret.kind == SECRET_NONE);
    secret_clear(&secret);
}

static void read_messages(const uint8_t *bytes, size_t n)
{
    struct auth_request request = auth_read_request(bytes, n);
    struct auth_choice choice;
    const char *password;

    if (auth_read_password(bytes, n, &password))
        REQUIRE(strlen(password) + 1 == n);
    if (auth_read_choice(bytes, n, &choice))
        REQUIRE(strlen(choice.name) + 5 + choice.n == n);
    REQUIRE(auth_read_response(bytes, n) == (n > 0 && n <= AUTH_SASL_MAX));
    REQUIRE(request.kind != AUTH_OK || n == 4);
    REQUIRE(request.kind == AUTH_MALFORMED || n >= 4);
    REQUIRE(request.data == NULL || request.data + request.n == bytes + n);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const struct channel_binding none, some = {.n = 32, .hash = "certificate"};
    const uint8_t *at = bytes, *end = bytes + size;
    struct message first = take_message(&at, end), second = take_message(&at, end);

    be_server(&first, &second, SCRAM_SHA_256, &none);
    be_server(&first, &second, SCRAM_SHA_256, &some);
    be_server(&first, &second, SCRAM_SHA_256_PLUS, &some);
    be_client(&first, &second, true);
    be_client(&first, &second, false);
    read_secret(&first);
    free(first.bytes);
    free(second.bytes);
    at = bytes;
    first = (struct message){malloc(size > 0 ? size : 1), size};
    REQUIRE(first.bytes != NULL);
    if (size > 0)
        memcpy(first.bytes, bytes, size);
    read_messages(first.bytes, size);
    free(first.bytes);
    return 0;
}
