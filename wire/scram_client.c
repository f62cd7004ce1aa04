#include "wire/scram.h"

#include <openssl/crypto.h>
#include <string.h>

#include "wire/base64.h"
#include "wire/scram_message.h"

/* False when nothing that is offered will do. */
static bool choose(struct scram_client *client, unsigned offered, bool must_bind)
{
    bool can_bind = client->binding.n > 0;

    if (can_bind && (offered & SCRAM_SHA_256_PLUS) != 0) {
        client->mechanism = SCRAM_SHA_256_PLUS;
        client->flag = 'p';
        return true;
    }
    client->mechanism = SCRAM_SHA_256;
    client->flag = can_bind ? 'y' : 'n';
    return (offered & SCRAM_SHA_256) != 0 && !must_bind;
}

enum scram_result scram_client_start(struct scram_client *client, unsigned offered,
                                     const struct channel_binding *binding,
                                     bool must_bind, const char *nonce,
                                     struct scram_message *answer)
{
    *client = (struct scram_client){.step = SCRAM_CLIENT_AWAITS_CHALLENGE};
    if (binding != NULL)
        client->binding = *binding;
    if (!choose(client, offered, must_bind)) {
        scram_client_clear(client);
        return SCRAM_NOT_OFFERED;
    }
    scram_copy_nonce(client->own_nonce, nonce);
    scram_add(&client->first, "n=,r=");
    scram_add(&client->first, client->own_nonce);
    answer->n = 0;
    scram_add(answer, scram_gs2_header(client->flag));
    scram_add_n(answer, client->first.bytes, client->first.n);
    return SCRAM_GOES_ON;
}

void scram_client_clear(struct scram_client *client)
{
    OPENSSL_cleanse(client, sizeof *client);
}

static enum scram_result read_salt(struct scram_span text, struct scram_salt *salt)
{
    size_t n;

    if (text.n > BASE64_LENGTH(SCRAM_SALT_MAX))
        return SCRAM_TOO_LONG;
    if (!base64_read(text.at, text.n, salt->bytes, SCRAM_SALT_MAX, &n) || n == 0)
        return SCRAM_MALFORMED;
    salt->n = (uint8_t)n;
    return SCRAM_GOES_ON;
}

static enum scram_result read_iterations(struct scram_span text, uint32_t *iterations)
{
    uint32_t value = 0;

    for (size_t i = 0; i < text.n; i++) {
        if (text.at[i] < '0' || text.at[i] > '9')
            return SCRAM_MALFORMED;
        if (value <= SCRAM_ITERATIONS_MAX)
            value = value * 10 + (uint32_t)(text.at[i] - '0');
    }
    if (value == 0)
        return SCRAM_MALFORMED;
    *iterations = value;
    return value > SCRAM_ITERATIONS_MAX ? SCRAM_ITERATIONS_ABSURD : SCRAM_GOES_ON;
}

/* Begins with our share, and has one of the server's. */
static enum scram_result check_nonce(const struct scram_client *client,
                                     struct scram_span nonce)
{
    size_t n_own = strlen(client->own_nonce);

    if (nonce.n <= n_own || !scram_is_same(nonce.at, n_own, client->own_nonce, n_own))
        return SCRAM_NONCE_DIFFERS;
    if (nonce.n > n_own + SCRAM_NONCE_MAX)
        return SCRAM_TOO_LONG;
    return scram_is_printable(nonce.at, nonce.n) ? SCRAM_GOES_ON : SCRAM_MALFORMED;
}

static enum scram_result read_challenge(struct scram_client *client, const char *bytes,
                                        size_t n)
{
    struct scram_reader reader = scram_reader_of(bytes, n);
    struct scram_span nonce, salt, iterations;
    enum scram_result result;

    if (!scram_take(&reader, 'r', &nonce))
        return scram_fault_at(&reader);
    result = check_nonce(client, nonce);
    if (result != SCRAM_GOES_ON)
        return result;
    if (!scram_take(&reader, 's', &salt) || !scram_take(&reader, 'i', &iterations) ||
        reader.has_more)
        return scram_fault_at(&reader);
    result = read_salt(salt, &client->salt);
    if (result == SCRAM_GOES_ON)
        result = read_iterations(iterations, &client->salt.iterations);
    if (result != SCRAM_GOES_ON)
        return result;
    if (n > sizeof client->challenge.bytes)
        return SCRAM_TOO_LONG;
    scram_add_n(&client->challenge, bytes, n);
    client->n_nonce = nonce.n;
    client->step = SCRAM_CLIENT_AWAITS_KEYS;
    return SCRAM_GOES_ON;
}

enum scram_result scram_client_read_challenge(struct scram_client *client,
                                              const uint8_t *bytes, size_t n)
{
    enum scram_result result = scram_check_input(bytes, n);

    if (client->step != SCRAM_CLIENT_AWAITS_CHALLENGE)
        result = SCRAM_OUT_OF_TURN;
    if (result == SCRAM_GOES_ON)
        result = read_challenge(client, (const char *)bytes, n);
    if (result != SCRAM_GOES_ON)
        scram_client_clear(client);
    return result;
}

bool scram_client_fits(const struct scram_client *client, const struct scram_keys *keys)
{
    return client->step == SCRAM_CLIENT_AWAITS_KEYS &&
           scram_salt_is_equal(&client->salt, &keys->salt);
}

/* The proof for the server, and the signature that the server will have to show. */
static bool prove(struct scram_client *client, const struct scram_keys *keys,
                  const struct scram_transcript *transcript,
                  uint8_t proof[SCRAM_KEY_BYTES])
{
    uint8_t stored_key[SCRAM_KEY_BYTES];

    if (!scram_stored_key(keys->client_key, stored_key) ||
        !scram_sign(transcript, stored_key, proof) ||
        !scram_sign(transcript, keys->server_key, client->server_signature))
        return false;
    scram_apply(proof, keys->client_key);
    return true;
}

enum scram_result scram_client_answer(struct scram_client *client,
                                      const struct scram_keys *keys,
                                      struct scram_message *answer)
{
    struct scram_transcript transcript = {0};
    struct scram_message final = {0};
    uint8_t proof[SCRAM_KEY_BYTES];

    if (client->step != SCRAM_CLIENT_AWAITS_KEYS) {
        scram_client_clear(client);
        return SCRAM_OUT_OF_TURN;
    }
    if (!scram_client_fits(client, keys))
        return SCRAM_OTHER_SECRET;
    scram_add_binding(&final, client->flag, &client->binding);
    scram_add(&final, ",r=");
    scram_add_n(&final, client->challenge.bytes + 2, client->n_nonce);
    scram_transcribe(&transcript, client->first.bytes, client->first.n);
    scram_transcribe(&transcript, client->challenge.bytes, client->challenge.n);
    scram_transcribe(&transcript, final.bytes, final.n);
    if (!prove(client, keys, &transcript, proof)) {
        scram_client_clear(client);
        return SCRAM_FAILED;
    }
    scram_add(&final, ",p=");
    scram_add_base64(&final, proof, sizeof proof);
    *answer = final;
    client->step = SCRAM_CLIENT_AWAITS_END;
    return SCRAM_GOES_ON;
}

static enum scram_result read_end(struct scram_client *client, const char *bytes,
                                  size_t n)
{
    struct scram_reader reader = scram_reader_of(bytes, n);
    uint8_t signature[SCRAM_KEY_BYTES];
    struct scram_span value;

    if (scram_take(&reader, 'e', &value))
        return SCRAM_SERVER_REFUSED;
    if (!scram_take(&reader, 'v', &value) || reader.has_more ||
        !scram_read_key(value, signature))
        return SCRAM_MALFORMED;
    if (CRYPTO_memcmp(signature, client->server_signature, sizeof signature) != 0)
        return SCRAM_WRONG_SIGNATURE;
    client->step = SCRAM_CLIENT_VERIFIED;
    return SCRAM_DONE;
}

enum scram_result scram_client_read_end(struct scram_client *client, const uint8_t *bytes,
                                        size_t n)
{
    enum scram_result result = scram_check_input(bytes, n);

    if (client->step != SCRAM_CLIENT_AWAITS_END)
        result = SCRAM_OUT_OF_TURN;
    if (result == SCRAM_GOES_ON)
        result = read_end(client, (const char *)bytes, n);
    if (result != SCRAM_DONE)
        scram_client_clear(client);
    return result;
}

bool scram_client_has_verified(const struct scram_client *client)
{
    return client->step == SCRAM_CLIENT_VERIFIED;
}
