/* wire/proxy_header.h - the header that a proxy sends before the first byte of its
 * client, to tell whose connection it is.
 *
 *   v1   PROXY TCP4 192.0.2.1 198.51.100.2 4711 5432\r\n       at most 107 bytes
 *   v2   12 bytes of signature, version and command, family and protocol, a length of two
 *        bytes, addresses and ports, whatever else the length counts (TLVs, skipped)
 *
 * Format: HAProxy's doc/proxy-protocol.txt. Pure.
 */
#ifndef WIRE_PROXY_HEADER_H
#define WIRE_PROXY_HEADER_H

#include <stddef.h>
#include <stdint.h>

#include "core/address.h"

/* Longest that is read. What a proxy has to say of a client takes some hundred bytes. */
#define PROXY_HEADER_MAX 4096u

enum proxy_header_kind {
    PROXY_HEADER_INCOMPLETE, /* more bytes are needed */
    PROXY_HEADER_TELLS,      /* `source` is the client's address */
    PROXY_HEADER_IS_MUTE, /* LOCAL, UNKNOWN, or no family of the internet: the client is
                             who has connected */
    PROXY_HEADER_BAD      /* no such header */
};

struct proxy_header {
    enum proxy_header_kind kind;
    uint32_t length;       /* of the header, once it is whole */
    struct address source; /* of TELLS */
};

/* Reads what begins at `bytes`. BAD is said as soon as no byte that may follow could
 * help, so that nobody is waited for in vain. */
struct proxy_header proxy_header_read(const uint8_t *bytes, size_t n);

#endif
