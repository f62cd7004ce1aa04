#include "wire/scram.h"

#include <openssl/crypto.h>
#include <string.h>

#include "wire/scram_message.h"

unsigned scram_server_offer(const struct channel_binding *binding)
{
    return SCRAM_SHA_256 | (binding->n > 0 ? SCRAM_SHA_256_PLUS : 0u);
}

void scram_server_init(struct scram_server *server, const struct scram_verifier *verifier,
                       enum scram_mechanism mechanism,
                       const struct channel_binding *binding, const char *nonce)
{
    REQUIRE(verifier->salt.n > 0 && verifier->salt.n <= SCRAM_SALT_MAX);
    REQUIRE(verifier->salt.iterations > 0 && binding->n <= CHANNEL_BINDING_MAX);
    *server = (struct scram_server){.step = SCRAM_SERVER_AWAITS_FIRST,
                                    .mechanism = mechanism,
                                    .binding = *binding,
                                    .verifier = *verifier};
    scram_copy_nonce(server->own_nonce, nonce);
}

void scram_server_clear(struct scram_server *server)
{
    OPENSSL_cleanse(server, sizeof *server);
}

/* Reads the gs2-header; the bare message begins at `*rest`. */
static enum scram_result read_header(struct scram_server *server, const char *bytes,
                                     size_t n, size_t *rest)
{
    const char *comma = memchr(bytes, ',', n);
    bool is_bound = server->mechanism == SCRAM_SHA_256_PLUS;
    struct scram_span flag = {bytes, comma == NULL ? 0 : (size_t)(comma - bytes)};

    if (flag.n == 0 || strchr("nyp", flag.at[0]) == NULL)
        return SCRAM_MALFORMED;
    if (flag.at[0] == 'p' ? flag.n < 3 || flag.at[1] != '=' : flag.n != 1)
        return SCRAM_MALFORMED;
    *rest = flag.n + 2;
    if (*rest > n)
        return SCRAM_MALFORMED;
    if (bytes[flag.n + 1] != ',')
        return bytes[flag.n + 1] == 'a' ? SCRAM_UNSUPPORTED : SCRAM_MALFORMED;
    if ((flag.at[0] == 'p') != is_bound)
        return SCRAM_MALFORMED;
    if (is_bound &&
        !scram_is_same(bytes, *rest, SCRAM_BOUND_HEADER, sizeof SCRAM_BOUND_HEADER - 1))
        return SCRAM_UNSUPPORTED;
    if (flag.at[0] == 'y' && server->binding.n > 0)
        return SCRAM_DOWNGRADED;
    server->flag = flag.at[0];
    return SCRAM_GOES_ON;
}

/* Reads client-first-message-bare and keeps it. */
static enum scram_result read_bare(struct scram_server *server, const char *bytes,
                                   size_t n, struct scram_span *nonce)
{
    struct scram_reader reader = scram_reader_of(bytes, n);
    struct scram_span value;
    char name;

    if (n > SCRAM_BARE_MAX)
        return SCRAM_TOO_LONG;
    if (!scram_take(&reader, 'n', &value) || !scram_take(&reader, 'r', nonce))
        return scram_fault_at(&reader);
    if (nonce->n > SCRAM_NONCE_MAX)
        return SCRAM_TOO_LONG;
    if (!scram_is_printable(nonce->at, nonce->n))
        return SCRAM_MALFORMED;
    while (reader.has_more) {
        enum scram_result fault = scram_fault_at(&reader);

        if (fault == SCRAM_UNSUPPORTED || !scram_take_any(&reader, &name, &value))
            return fault;
    }
    memcpy(server->bare, bytes, n);
    server->n_bare = n;
    return SCRAM_GOES_ON;
}

/* server-first-message: r=both nonces,s=salt,i=iterations */
static void write_challenge(struct scram_server *server, struct scram_span client_nonce)
{
    const struct scram_salt *salt = &server->verifier.salt;
    struct scram_message *first = &server->first;

    scram_add(first, "r=");
    scram_add_n(first, client_nonce.at, client_nonce.n);
    scram_add(first, server->own_nonce);
    server->n_nonce = first->n - 2;
    scram_add(first, ",s=");
    scram_add_base64(first, salt->bytes, salt->n);
    scram_add(first, ",i=");
    scram_add_number(first, salt->iterations);
}

static enum scram_result read_first(struct scram_server *server, const char *bytes,
                                    size_t n, struct scram_message *answer)
{
    enum scram_result result;
    struct scram_span nonce;
    size_t at;

    if (server->mechanism != SCRAM_SHA_256 &&
        (server->mechanism != SCRAM_SHA_256_PLUS || server->binding.n == 0))
        return SCRAM_NOT_OFFERED;
    result = read_header(server, bytes, n, &at);
    if (result != SCRAM_GOES_ON)
        return result;
    result = read_bare(server, bytes + at, n - at, &nonce);
    if (result != SCRAM_GOES_ON)
        return result;
    write_challenge(server, nonce);
    *answer = server->first;
    server->step = SCRAM_SERVER_AWAITS_FINAL;
    return SCRAM_GOES_ON;
}

/* Reads client-final-message: c=binding,r=nonce,...,p=proof; says how long it is without
 * the proof. */
static enum scram_result read_proof(const struct scram_server *server, const char *bytes,
                                    size_t n, uint8_t proof[SCRAM_KEY_BYTES],
                                    size_t *n_without)
{
    struct scram_reader reader = scram_reader_of(bytes, n);
    struct scram_message binding = {0};
    struct scram_span value, nonce;
    char name;

    if (!scram_take(&reader, 'c', &value) || !scram_take(&reader, 'r', &nonce))
        return scram_fault_at(&reader);
    scram_add_binding(&binding, server->flag, &server->binding);
    if (!scram_is_same(value.at, value.n, binding.bytes + 2, binding.n - 2))
        return SCRAM_BINDING_DIFFERS;
    if (!scram_is_same(nonce.at, nonce.n, server->first.bytes + 2, server->n_nonce))
        return SCRAM_NONCE_DIFFERS;
    do {
        enum scram_result fault = scram_fault_at(&reader);

        *n_without = (size_t)(reader.at - bytes) - 1;
        if (fault == SCRAM_UNSUPPORTED || !scram_take_any(&reader, &name, &value))
            return fault;
    } while (name != 'p');
    return reader.has_more || !scram_read_key(value, proof) ? SCRAM_MALFORMED
                                                            : SCRAM_GOES_ON;
}

/* Whether the proof is of the verifier's password. On SCRAM_DONE `key`, which was the
 * proof, is the ClientKey. */
static enum scram_result check_proof(const struct scram_server *server,
                                     const struct scram_transcript *transcript,
                                     uint8_t key[SCRAM_KEY_BYTES])
{
    uint8_t signature[SCRAM_KEY_BYTES], stored_key[SCRAM_KEY_BYTES];

    if (!scram_sign(transcript, server->verifier.stored_key, signature))
        return SCRAM_FAILED;
    scram_apply(key, signature);
    if (!scram_stored_key(key, stored_key))
        return SCRAM_FAILED;
    if (CRYPTO_memcmp(stored_key, server->verifier.stored_key, SCRAM_KEY_BYTES) != 0 ||
        server->verifier.is_mock)
        return SCRAM_WRONG_PROOF;
    return SCRAM_DONE;
}

static enum scram_result read_final(struct scram_server *server, const char *bytes,
                                    size_t n, struct scram_message *answer)
{
    uint8_t key[SCRAM_KEY_BYTES], signature[SCRAM_KEY_BYTES];
    struct scram_transcript transcript;
    enum scram_result result;
    size_t n_without;

    result = read_proof(server, bytes, n, key, &n_without);
    if (result != SCRAM_GOES_ON)
        return result;
    transcript.n = 0;
    scram_transcribe(&transcript, server->bare, server->n_bare);
    scram_transcribe(&transcript, server->first.bytes, server->first.n);
    scram_transcribe(&transcript, bytes, n_without);
    result = check_proof(server, &transcript, key);
    if (result == SCRAM_DONE &&
        !scram_sign(&transcript, server->verifier.server_key, signature))
        result = SCRAM_FAILED;
    if (result == SCRAM_DONE) {
        answer->n = 0;
        scram_add(answer, "v=");
        scram_add_base64(answer, signature, sizeof signature);
        memcpy(server->client_key, key, sizeof key);
        server->step = SCRAM_SERVER_ACCEPTED;
    }
    OPENSSL_cleanse(key, sizeof key);
    return result;
}

/* A client that names its mechanism and waits for the first word gets an empty one. */
static enum scram_result ask_to_begin(struct scram_server *server,
                                      struct scram_message *answer)
{
    if (server->step != SCRAM_SERVER_AWAITS_FIRST || server->was_asked_to_begin)
        return SCRAM_OUT_OF_TURN;
    server->was_asked_to_begin = true;
    answer->n = 0;
    return SCRAM_GOES_ON;
}

static enum scram_result server_read(struct scram_server *server, const uint8_t *bytes,
                                     size_t n, struct scram_message *answer)
{
    enum scram_result result;

    if (bytes == NULL)
        return ask_to_begin(server, answer);
    result = scram_check_input(bytes, n);
    if (result != SCRAM_GOES_ON)
        return result;
    if (server->step == SCRAM_SERVER_AWAITS_FIRST)
        return read_first(server, (const char *)bytes, n, answer);
    if (server->step == SCRAM_SERVER_AWAITS_FINAL)
        return read_final(server, (const char *)bytes, n, answer);
    return SCRAM_OUT_OF_TURN;
}

enum scram_result scram_server_read(struct scram_server *server, const uint8_t *bytes,
                                    size_t n, struct scram_message *answer)
{
    enum scram_result result = server_read(server, bytes, n, answer);

    if (result != SCRAM_GOES_ON && result != SCRAM_DONE)
        scram_server_clear(server);
    return result;
}

void scram_server_keys(const struct scram_server *server, struct scram_keys *keys)
{
    REQUIRE(server->step == SCRAM_SERVER_ACCEPTED);
    *keys = (struct scram_keys){.salt = server->verifier.salt};
    memcpy(keys->client_key, server->client_key, SCRAM_KEY_BYTES);
    memcpy(keys->server_key, server->verifier.server_key, SCRAM_KEY_BYTES);
}
