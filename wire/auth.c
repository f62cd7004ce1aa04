#include "wire/auth.h"

#include <string.h>

#include "wire/startup.h"

/* The strongest first. */
static const struct {
    const char *name;
    enum scram_mechanism mechanism;
} known_mechanisms[] = {
    {"SCRAM-SHA-256-PLUS", SCRAM_SHA_256_PLUS},
    {"SCRAM-SHA-256", SCRAM_SHA_256},
};

static enum scram_mechanism mechanism_of(const char *name)
{
    for (size_t i = 0; i < COUNT_OF(known_mechanisms); i++) {
        if (strcmp(known_mechanisms[i].name, name) == 0)
            return known_mechanisms[i].mechanism;
    }
    return SCRAM_NO_MECHANISM;
}

/* ---- writing --------------------------------------------------------------------- */

/* A message that is being written at `bytes`, with room for its header. */
struct writer {
    uint8_t *bytes;
    size_t n;
};

static struct writer writer_of(uint8_t *bytes)
{
    return (struct writer){bytes, 5};
}

static void write_n(struct writer *writer, const void *bytes, size_t n)
{
    memcpy(writer->bytes + writer->n, bytes, n);
    writer->n += n;
}

static void write_u32(struct writer *writer, uint32_t value)
{
    wire_write_u32(writer->bytes + writer->n, value);
    writer->n += 4;
}

static size_t finish(struct writer *writer, char type)
{
    writer->bytes[0] = (uint8_t)type;
    wire_write_u32(writer->bytes + 1, (uint32_t)writer->n - 1);
    return writer->n;
}

size_t auth_write_request(enum auth_kind kind, uint8_t bytes[AUTH_BYTES_MAX])
{
    struct writer writer = writer_of(bytes);

    REQUIRE(kind == AUTH_OK || kind == AUTH_CLEARTEXT);
    write_u32(&writer, kind);
    return finish(&writer, 'R');
}

size_t auth_write_md5(const uint8_t salt[SECRET_MD5_SALT_BYTES],
                      uint8_t bytes[AUTH_BYTES_MAX])
{
    struct writer writer = writer_of(bytes);

    write_u32(&writer, AUTH_MD5);
    write_n(&writer, salt, SECRET_MD5_SALT_BYTES);
    return finish(&writer, 'R');
}

size_t auth_write_sasl(unsigned mechanisms, uint8_t bytes[AUTH_BYTES_MAX])
{
    struct writer writer = writer_of(bytes);

    REQUIRE((mechanisms & (SCRAM_SHA_256 | SCRAM_SHA_256_PLUS)) != 0);
    write_u32(&writer, AUTH_SASL);
    for (size_t i = 0; i < COUNT_OF(known_mechanisms); i++) {
        if ((mechanisms & known_mechanisms[i].mechanism) != 0)
            write_n(&writer, known_mechanisms[i].name,
                    strlen(known_mechanisms[i].name) + 1);
    }
    write_n(&writer, "", 1);
    return finish(&writer, 'R');
}

size_t auth_write_challenge(enum auth_kind kind, const struct scram_message *message,
                            uint8_t bytes[AUTH_BYTES_MAX])
{
    struct writer writer = writer_of(bytes);

    REQUIRE(kind == AUTH_SASL_CONTINUE || kind == AUTH_SASL_FINAL);
    write_u32(&writer, kind);
    write_n(&writer, message->bytes, message->n);
    return finish(&writer, 'R');
}

size_t auth_write_password(const char *password, size_t n, uint8_t *bytes)
{
    struct writer writer = writer_of(bytes);

    write_n(&writer, password, n);
    write_n(&writer, "", 1);
    return finish(&writer, 'p');
}

size_t auth_write_choice(enum scram_mechanism mechanism,
                         const struct scram_message *message,
                         uint8_t bytes[AUTH_BYTES_MAX])
{
    struct writer writer = writer_of(bytes);

    for (size_t i = 0; i < COUNT_OF(known_mechanisms); i++) {
        if (known_mechanisms[i].mechanism == mechanism)
            write_n(&writer, known_mechanisms[i].name,
                    strlen(known_mechanisms[i].name) + 1);
    }
    REQUIRE(writer.n > 5);
    write_u32(&writer, (uint32_t)message->n);
    write_n(&writer, message->bytes, message->n);
    return finish(&writer, 'p');
}

size_t auth_write_response(const struct scram_message *message,
                           uint8_t bytes[AUTH_BYTES_MAX])
{
    struct writer writer = writer_of(bytes);

    write_n(&writer, message->bytes, message->n);
    return finish(&writer, 'p');
}

/* ---- reading --------------------------------------------------------------------- */

bool auth_read_password(const uint8_t *body, size_t n, const char **password)
{
    if (n == 0 || n > AUTH_PASSWORD_MAX || memchr(body, 0, n) != body + n - 1)
        return false;
    *password = (const char *)body;
    return true;
}

bool auth_read_choice(const uint8_t *body, size_t n, struct auth_choice *choice)
{
    const uint8_t *end = n == 0 || n > AUTH_SASL_MAX ? NULL : memchr(body, 0, n);
    struct auth_choice found = {.name = (const char *)body};
    uint32_t length;
    size_t at;

    if (end == NULL)
        return false;
    at = (size_t)(end - body) + 1;
    if (n - at < 4)
        return false;
    length = wire_read_u32(body + at);
    at += 4;
    /* -1 stands for no data. */
    if (length != UINT32_MAX) {
        found.data = body + at;
        found.n = length;
    }
    if (found.n != n - at)
        return false;
    found.mechanism = mechanism_of(found.name);
    *choice = found;
    return true;
}

bool auth_read_response(const uint8_t *body, size_t n)
{
    return body != NULL && n > 0 && n <= AUTH_SASL_MAX;
}

/* A list of names, ended by an empty one; false when it is not that. */
static bool read_mechanisms(const uint8_t *at, size_t n, unsigned *offered)
{
    const uint8_t *end = at + n, *zero;

    *offered = 0;
    for (; at < end; at = zero + 1) {
        zero = memchr(at, 0, (size_t)(end - at));
        if (zero == NULL)
            return false;
        if (zero == at)
            return zero + 1 == end;
        *offered |= mechanism_of((const char *)at);
    }
    return false;
}

/* Whether what follows the code is as it should be. */
static bool read_rest(struct auth_request *request, const uint8_t *rest, size_t n)
{
    switch (request->code) {
    case AUTH_OK:
    case AUTH_CLEARTEXT:
        return n == 0;
    case AUTH_MD5:
        if (n != SECRET_MD5_SALT_BYTES)
            return false;
        memcpy(request->salt, rest, n);
        return true;
    case AUTH_SASL:
        return read_mechanisms(rest, n, &request->mechanisms);
    case AUTH_SASL_CONTINUE:
    case AUTH_SASL_FINAL:
        request->data = rest;
        request->n = n;
        return n <= AUTH_SASL_MAX;
    default:
        return false;
    }
}

static bool is_known(uint32_t code)
{
    return code == AUTH_OK || code == AUTH_CLEARTEXT || code == AUTH_MD5 ||
           (code >= AUTH_SASL && code <= AUTH_SASL_FINAL);
}

struct auth_request auth_read_request(const uint8_t *body, size_t n)
{
    struct auth_request request = {.kind = AUTH_UNSUPPORTED};

    if (n < 4)
        return (struct auth_request){.kind = AUTH_MALFORMED};
    request.code = wire_read_u32(body);
    if (!is_known(request.code))
        return request;
    if (!read_rest(&request, body + 4, n - 4))
        return (struct auth_request){.kind = AUTH_MALFORMED};
    request.kind = (enum auth_kind)request.code;
    return request;
}
