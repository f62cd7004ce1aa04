/* wire/startup.h - the first packet of a connection.
 *
 * What a client may send first: SSLRequest, GSSENCRequest, CancelRequest,
 * StartupMessage (PostgreSQL's documentation, "Message Formats"), or the ClientHello of a
 * direct TLS connection (since PostgreSQL 17). Pure functions over bytes; nothing is
 * copied.
 */
#ifndef WIRE_STARTUP_H
#define WIRE_STARTUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/check.h"

/* PostgreSQL's own limit (MAX_STARTUP_PACKET_LENGTH in src/include/libpq/pqcomm.h). */
#define STARTUP_BYTES_MAX 10000u
/* A cancel key: 4 bytes in protocol 3.0, up to 256 since 3.2. */
#define CANCEL_KEY_MAX 256u
/* The largest CancelRequest: length, code, process id, key. */
#define CANCEL_BYTES_MAX (12u + CANCEL_KEY_MAX)

enum startup_kind {
    STARTUP_INCOMPLETE,  /* more bytes are needed */
    STARTUP_SSL,         /* SSLRequest */
    STARTUP_GSSENC,      /* GSSENCRequest */
    STARTUP_CANCEL,      /* CancelRequest */
    STARTUP_LOGIN,       /* StartupMessage, protocol 3.x */
    STARTUP_DIRECT_TLS,  /* a TLS handshake record */
    STARTUP_UNSUPPORTED, /* well-formed, of a protocol that nobody speaks any more */
    STARTUP_GARBAGE      /* not PostgreSQL at all */
};

/* Identifies a session for cancelling, as BackendKeyData and CancelRequest carry it. */
struct cancel_key {
    uint32_t process_id;
    uint16_t length;
    uint8_t secret[CANCEL_KEY_MAX];
};

struct startup_packet {
    enum startup_kind kind;
    uint32_t length;     /* of the whole packet, in bytes; 0 for DIRECT_TLS */
    uint32_t protocol;   /* major << 16 | minor, of LOGIN and UNSUPPORTED */
    const uint8_t *body; /* of LOGIN: name, value, name, value, ..., zero byte */
    uint32_t body_length;
};

/* Classifies what begins at `bytes`; the result points into them. */
struct startup_packet startup_read(const uint8_t *bytes, size_t n);

/* The value of a startup parameter, NULL when it is absent or the packet is malformed.
 * Zero-terminated, in the packet's bytes. */
const char *startup_parameter(const struct startup_packet *packet, const char *name);

/* The next parameter: `*at` is NULL before the first. False behind the last, and where
 * the packet is malformed. */
bool startup_next_parameter(const struct startup_packet *packet, const uint8_t **at,
                            const char **name, const char **value);

/* Whether all parameters of a LOGIN have an end, and nothing follows the last. */
bool startup_is_well_formed(const struct startup_packet *packet);

/* What a client asks for that is to be a walsender's: `replication` of its
 * StartupMessage.
 */
enum startup_replication {
    REPLICATION_NONE,
    REPLICATION_PHYSICAL, /* true, as PostgreSQL reads a boolean */
    REPLICATION_LOGICAL,  /* database */
    REPLICATION_BAD       /* neither */
};
/* `value` is that of the parameter; NULL = it is not given. */
enum startup_replication startup_replication(const char *value);

/* The key of a CancelRequest that startup_read() has found at `bytes`. */
void startup_cancel_key(const uint8_t *bytes, const struct startup_packet *packet,
                        struct cancel_key *key);

#define STARTUP_PROTOCOL_3_0 (3u << 16)
#define STARTUP_PROTOCOL_3_2 (3u << 16 | 2)

/* Writes a StartupMessage; `parameters` are name, value, name, value, ..., NULL. Returns
 * its length, 0 when it is longer than `size`. */
size_t startup_write_login(uint32_t protocol, const char *const *parameters,
                           uint8_t *bytes, size_t size);

/* Adds parameters, written as in the packet (name, zero byte, value, zero byte, ...), to
 * the `n` bytes of a StartupMessage. Returns its length then, 0 when it is longer than
 * `size`. */
size_t startup_add_parameters(uint8_t *bytes, size_t n, size_t size, const char *more,
                              size_t n_more);

/* The code of a request to encrypt, CancelRequest and such. */
#define STARTUP_CODE_CANCEL 80877102u
#define STARTUP_CODE_SSL 80877103u
#define STARTUP_CODE_GSSENC 80877104u

/* Writes a CancelRequest; returns its length. */
size_t startup_write_cancel(const struct cancel_key *key,
                            uint8_t bytes[CANCEL_BYTES_MAX]);

/* Big-endian numbers, as all of the protocol's are. */
static inline uint32_t wire_read_u32(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 |
           bytes[3];
}

static inline void wire_write_u32(uint8_t *bytes, uint32_t value)
{
    bytes[0] = (uint8_t)(value >> 24);
    bytes[1] = (uint8_t)(value >> 16);
    bytes[2] = (uint8_t)(value >> 8);
    bytes[3] = (uint8_t)value;
}

#endif
