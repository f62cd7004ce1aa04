#include "wire/scram_message.h"

#include <openssl/crypto.h>
#include <string.h>

#include "wire/base64.h"

/* ---- writing --------------------------------------------------------------------- */

void scram_add_n(struct scram_message *message, const char *bytes, size_t n)
{
    REQUIRE(n <= sizeof message->bytes - message->n);
    memcpy(message->bytes + message->n, bytes, n);
    message->n += n;
}

void scram_add(struct scram_message *message, const char *text)
{
    scram_add_n(message, text, strlen(text));
}

void scram_add_base64(struct scram_message *message, const uint8_t *bytes, size_t n)
{
    REQUIRE(BASE64_LENGTH(n) <= sizeof message->bytes - message->n);
    message->n += base64_write(bytes, n, message->bytes + message->n);
}

void scram_add_number(struct scram_message *message, uint32_t number)
{
    char digits[10];
    size_t at = sizeof digits;

    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    scram_add_n(message, digits + at, sizeof digits - at);
}

const char *scram_gs2_header(char flag)
{
    return flag == 'p' ? SCRAM_BOUND_HEADER : flag == 'y' ? "y,," : "n,,";
}

void scram_add_binding(struct scram_message *message, char flag,
                       const struct channel_binding *binding)
{
    uint8_t input[sizeof SCRAM_BOUND_HEADER + CHANNEL_BINDING_MAX];
    size_t n = strlen(scram_gs2_header(flag));

    memcpy(input, scram_gs2_header(flag), n);
    if (flag == 'p') {
        memcpy(input + n, binding->hash, binding->n);
        n += binding->n;
    }
    scram_add(message, "c=");
    scram_add_base64(message, input, n);
}

/* ---- reading --------------------------------------------------------------------- */

struct scram_reader scram_reader_of(const char *bytes, size_t n)
{
    return (struct scram_reader){bytes, bytes + n, true};
}

bool scram_take_any(struct scram_reader *reader, char *name, struct scram_span *value)
{
    const char *comma;
    char letter;

    if (!reader->has_more || reader->end - reader->at < 2 || reader->at[1] != '=')
        return false;
    letter = reader->at[0];
    if (!((letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z')))
        return false;
    *name = letter;
    value->at = reader->at + 2;
    comma = memchr(value->at, ',', (size_t)(reader->end - value->at));
    reader->has_more = comma != NULL;
    value->n = (size_t)((comma != NULL ? comma : reader->end) - value->at);
    reader->at = comma != NULL ? comma + 1 : reader->end;
    return true;
}

bool scram_take(struct scram_reader *reader, char name, struct scram_span *value)
{
    struct scram_reader ahead = *reader;
    char found;

    if (!scram_take_any(&ahead, &found, value) || found != name)
        return false;
    *reader = ahead;
    return true;
}

/* RFC 5802, 7: printable. */
bool scram_is_printable(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '!' || text[i] > '~' || text[i] == ',')
            return false;
    }
    return n > 0;
}

bool scram_is_same(const char *a, size_t n_a, const char *b, size_t n_b)
{
    return n_a == n_b && CRYPTO_memcmp(a, b, n_a) == 0;
}

bool scram_read_key(struct scram_span text, uint8_t key[SCRAM_KEY_BYTES])
{
    size_t n;

    return base64_read(text.at, text.n, key, SCRAM_KEY_BYTES, &n) && n == SCRAM_KEY_BYTES;
}

enum scram_result scram_check_input(const uint8_t *bytes, size_t n)
{
    if (n > SCRAM_INPUT_MAX)
        return SCRAM_TOO_LONG;
    return n == 0 || memchr(bytes, 0, n) != NULL ? SCRAM_MALFORMED : SCRAM_GOES_ON;
}

/* ---- what both sign -------------------------------------------------------------- */

void scram_transcribe(struct scram_transcript *transcript, const char *bytes, size_t n)
{
    bool is_first = transcript->n == 0;

    REQUIRE(n < sizeof transcript->bytes - transcript->n);
    if (!is_first)
        transcript->bytes[transcript->n++] = ',';
    memcpy(transcript->bytes + transcript->n, bytes, n);
    transcript->n += n;
}

bool scram_sign(const struct scram_transcript *transcript,
                const uint8_t key[SCRAM_KEY_BYTES], uint8_t signature[SCRAM_KEY_BYTES])
{
    return scram_hmac(key, SCRAM_KEY_BYTES, transcript->bytes, transcript->n, signature);
}

void scram_apply(uint8_t key[SCRAM_KEY_BYTES], const uint8_t signature[SCRAM_KEY_BYTES])
{
    for (size_t i = 0; i < SCRAM_KEY_BYTES; i++)
        key[i] ^= signature[i];
}

void scram_copy_nonce(char own_nonce[SCRAM_OWN_NONCE_MAX + 1], const char *nonce)
{
    size_t n = strlen(nonce);

    REQUIRE(n >= 16 && n <= SCRAM_OWN_NONCE_MAX && scram_is_printable(nonce, n));
    memcpy(own_nonce, nonce, n + 1);
}
