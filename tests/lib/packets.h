/* tests/lib/packets.h - messages of PostgreSQL's protocol, as clients and servers send
 * them. Written from the protocol's documentation, not with wire/. */
#ifndef TESTS_LIB_PACKETS_H
#define TESTS_LIB_PACKETS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/check.h"

#define PACKET_BYTES_MAX 32768

struct packet {
    size_t n;
    uint8_t bytes[PACKET_BYTES_MAX];
};

static inline void packet_add(struct packet *packet, const void *bytes, size_t n)
{
    REQUIRE(packet->n + n <= PACKET_BYTES_MAX);
    memcpy(packet->bytes + packet->n, bytes, n);
    packet->n += n;
}

static inline void packet_add_u32(struct packet *packet, uint32_t value)
{
    const uint8_t bytes[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16),
                              (uint8_t)(value >> 8), (uint8_t)value};

    packet_add(packet, bytes, 4);
}

/* ---- what a client begins with ------------------------------------------------------
 */

#define PACKET_PROTOCOL_3_0 0x00030000u
#define PACKET_PROTOCOL_3_2 0x00030002u
#define PACKET_SSL 80877103u
#define PACKET_GSSENC 80877104u
#define PACKET_CANCEL 80877102u

/* Length and code alone. */
static inline void packet_add_request(struct packet *packet, uint32_t code)
{
    packet_add_u32(packet, 8);
    packet_add_u32(packet, code);
}

static inline void packet_add_startup(struct packet *packet, uint32_t protocol,
                                      const void *body, size_t n)
{
    packet_add_u32(packet, (uint32_t)n + 8);
    packet_add_u32(packet, protocol);
    packet_add(packet, body, n);
}

/* A StartupMessage of user alice and database shop. */
static inline void packet_add_login(struct packet *packet, uint32_t protocol)
{
    static const char body[] = "user\0alice\0database\0shop\0";

    packet_add_startup(packet, protocol, body, sizeof body);
}

static inline void packet_add_cancel(struct packet *packet, uint32_t process_id,
                                     const void *key, size_t n)
{
    packet_add_u32(packet, (uint32_t)n + 12);
    packet_add_u32(packet, PACKET_CANCEL);
    packet_add_u32(packet, process_id);
    packet_add(packet, key, n);
}

/* The beginning of a TLS ClientHello. */
#define PACKET_CLIENT_HELLO "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
#define PACKET_CLIENT_HELLO_BYTES 11

/* ---- what a server says -------------------------------------------------------------
 */

static inline void packet_add_message(struct packet *packet, char type, const void *body,
                                      size_t n)
{
    packet_add(packet, &type, 1);
    packet_add_u32(packet, (uint32_t)n + 4);
    packet_add(packet, body, n);
}

static inline void packet_add_key(struct packet *packet, uint32_t process_id,
                                  const void *key, size_t n)
{
    packet_add(packet, "K", 1);
    packet_add_u32(packet, (uint32_t)n + 8);
    packet_add_u32(packet, process_id);
    packet_add(packet, key, n);
}

static inline void packet_add_error(struct packet *packet, const char *severity,
                                    const char *sqlstate, const char *text)
{
    struct packet body = {0};

    packet_add(&body, "S", 1);
    packet_add(&body, severity, strlen(severity) + 1);
    packet_add(&body, "V", 1);
    packet_add(&body, severity, strlen(severity) + 1);
    packet_add(&body, "C", 1);
    packet_add(&body, sqlstate, strlen(sqlstate) + 1);
    packet_add(&body, "M", 1);
    packet_add(&body, text, strlen(text) + 1);
    packet_add(&body, "", 1);
    packet_add_message(packet, 'E', body.bytes, body.n);
}

/* AuthenticationOk, two ParameterStatus, BackendKeyData, ReadyForQuery. */
static inline void packet_add_welcome(struct packet *packet, uint32_t process_id,
                                      const void *key, size_t n_key)
{
    packet_add_message(packet, 'R', "\0\0\0\0", 4);
    packet_add_message(packet, 'S', "server_version\00015.2", 20);
    packet_add_message(packet, 'S', "in_hot_standby\0off", 19);
    packet_add_key(packet, process_id, key, n_key);
    packet_add_message(packet, 'Z', "I", 1);
}

#endif
