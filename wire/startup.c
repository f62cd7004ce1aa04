#include "wire/startup.h"

#include <string.h>
#include <strings.h>

#define TLS_HANDSHAKE 0x16 /* RFC 8446, 5.1: ContentType handshake */
#define TLS_MAJOR 0x03
#define SMALLEST_CANCEL 16u

static enum startup_kind kind_of(uint32_t length, uint32_t code)
{
    switch (code) {
    case STARTUP_CODE_SSL:
        return length == 8 ? STARTUP_SSL : STARTUP_GARBAGE;
    case STARTUP_CODE_GSSENC:
        return length == 8 ? STARTUP_GSSENC : STARTUP_GARBAGE;
    case STARTUP_CODE_CANCEL:
        return length >= SMALLEST_CANCEL && length <= CANCEL_BYTES_MAX ? STARTUP_CANCEL
                                                                       : STARTUP_GARBAGE;
    default:
        return code >> 16 == 3 ? STARTUP_LOGIN : STARTUP_UNSUPPORTED;
    }
}

struct startup_packet startup_read(const uint8_t *bytes, size_t n)
{
    struct startup_packet packet = {.kind = STARTUP_INCOMPLETE};
    uint32_t code;

    if (n >= 1 && bytes[0] == TLS_HANDSHAKE) {
        if (n >= 2)
            packet.kind = bytes[1] == TLS_MAJOR ? STARTUP_DIRECT_TLS : STARTUP_GARBAGE;
        return packet;
    }
    if (n < 4)
        return packet;
    packet.length = wire_read_u32(bytes);
    if (packet.length < 8 || packet.length > STARTUP_BYTES_MAX) {
        packet.kind = STARTUP_GARBAGE;
        return packet;
    }
    if (n < packet.length)
        return packet;

    code = wire_read_u32(bytes + 4);
    packet.kind = kind_of(packet.length, code);
    packet.protocol = code;
    packet.body = bytes + 8;
    packet.body_length = packet.length - 8;
    return packet;
}

/* The zero byte of the string at `at`, NULL when there is none before `end`. */
static const uint8_t *string_end(const uint8_t *at, const uint8_t *end)
{
    return at < end ? memchr(at, 0, (size_t)(end - at)) : NULL;
}

bool startup_next_parameter(const struct startup_packet *packet, const uint8_t **at,
                            const char **name, const char **value)
{
    const uint8_t *begin = *at == NULL ? packet->body : *at;
    const uint8_t *end = packet->body + packet->body_length;
    const uint8_t *name_end, *value_end;

    if (packet->kind != STARTUP_LOGIN || begin >= end || *begin == 0)
        return false;
    name_end = string_end(begin, end);
    value_end = name_end == NULL ? NULL : string_end(name_end + 1, end);
    if (value_end == NULL)
        return false;
    *name = (const char *)begin;
    *value = (const char *)name_end + 1;
    *at = value_end + 1;
    return true;
}

const char *startup_parameter(const struct startup_packet *packet, const char *name)
{
    const uint8_t *at = NULL;
    const char *found, *value;

    while (startup_next_parameter(packet, &at, &found, &value))
        if (strcmp(found, name) == 0)
            return value;
    return NULL;
}

bool startup_is_well_formed(const struct startup_packet *packet)
{
    const uint8_t *at = packet->body;
    const char *name, *value;

    while (startup_next_parameter(packet, &at, &name, &value))
        ;
    return packet->body_length > 0 && at == packet->body + packet->body_length - 1 &&
           *at == 0;
}

/* A boolean as parse_bool() in PostgreSQL's src/backend/utils/adt/bool.c reads it: the
 * begin of a word will do, as far as it is the begin of one alone. */
static bool read_boolean(const char *text, bool *value)
{
    static const struct {
        const char *word;
        size_t n_least;
        bool value;
    } words[] = {{"true", 1, true}, {"false", 1, false}, {"yes", 1, true},
                 {"no", 1, false},  {"on", 2, true},     {"off", 2, false},
                 {"1", 1, true},    {"0", 1, false}};
    size_t n = strlen(text);

    for (size_t i = 0; i < COUNT_OF(words); i++) {
        if (n < words[i].n_least || n > strlen(words[i].word) ||
            strncasecmp(text, words[i].word, n) != 0)
            continue;
        *value = words[i].value;
        return true;
    }
    return false;
}

enum startup_replication startup_replication(const char *value)
{
    bool is_wanted;

    if (value == NULL)
        return REPLICATION_NONE;
    if (strcmp(value, "database") == 0)
        return REPLICATION_LOGICAL;
    if (!read_boolean(value, &is_wanted))
        return REPLICATION_BAD;
    return is_wanted ? REPLICATION_PHYSICAL : REPLICATION_NONE;
}

void startup_cancel_key(const uint8_t *bytes, const struct startup_packet *packet,
                        struct cancel_key *key)
{
    REQUIRE(packet->kind == STARTUP_CANCEL);
    key->process_id = wire_read_u32(bytes + 8);
    key->length = (uint16_t)(packet->length - 12);
    memcpy(key->secret, bytes + 12, key->length);
}

size_t startup_write_cancel(const struct cancel_key *key, uint8_t bytes[CANCEL_BYTES_MAX])
{
    wire_write_u32(bytes, 12u + key->length);
    wire_write_u32(bytes + 4, STARTUP_CODE_CANCEL);
    wire_write_u32(bytes + 8, key->process_id);
    memcpy(bytes + 12, key->secret, key->length);
    return 12u + key->length;
}

size_t startup_write_login(uint32_t protocol, const char *const *parameters,
                           uint8_t *bytes, size_t size)
{
    size_t n = 8;

    for (; *parameters != NULL; parameters++) {
        size_t length = strlen(*parameters) + 1;

        if (n + length + 1 > size)
            return 0;
        memcpy(bytes + n, *parameters, length);
        n += length;
    }
    if (n + 1 > size)
        return 0;
    bytes[n++] = 0;
    wire_write_u32(bytes, (uint32_t)n);
    wire_write_u32(bytes + 4, protocol);
    return n;
}

size_t startup_add_parameters(uint8_t *bytes, size_t n, size_t size, const char *more,
                              size_t n_more)
{
    if (n == 0 || n_more > size - n)
        return 0;
    memcpy(bytes + n - 1, more, n_more); /* over the last zero byte, which comes again */
    n += n_more;
    bytes[n - 1] = 0;
    wire_write_u32(bytes, (uint32_t)n);
    return n;
}
