/* core/address.h - network addresses: as configured, and as the kernel takes them. */
#ifndef CORE_ADDRESS_H
#define CORE_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/check.h"

/* One resolved address. 28 bytes, since every client holds one: a unix socket's
 * path is not kept, sa_family alone says AF_UNIX. */
struct address {
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    };
};

/* "[0123:4567:89ab:cdef:0123:4567:89ab:cdef%4294967295]:65535" and the zero byte. */
#define ADDRESS_TEXT_MAX 64

/* What a setting says: a host (name or number) with a port, or a unix socket's path. */
struct endpoint {
    char *host; /* "*" = every address; without brackets; NULL for a unix socket */
    char *path; /* absolute path of a unix socket, else NULL */
    uint16_t port;
};

/* Numeric addresses only, never a look-up. False when `host` is not a number. */
bool address_parse(const char *host, uint16_t port, struct address *address) MUST_CHECK;
/* "127.0.0.1:5432", "[::1]:5432" or "unix"; returns `text`. */
const char *address_print(const struct address *address, char text[ADDRESS_TEXT_MAX]);
/* The same without the port and brackets. */
const char *address_print_host(const struct address *address,
                               char text[ADDRESS_TEXT_MAX]);
socklen_t address_length(const struct address *address);
uint16_t address_port(const struct address *address);
void address_set_port(struct address *address, uint16_t port);
/* Same family and host, whatever the ports. An IPv4 address equals its v4-mapped form. */
bool address_same_host(const struct address *a, const struct address *b);
/* Depends on family and host only (for balance = source). */
uint32_t address_hash_host(const struct address *address);

/* Addresses that begin alike; or all of unix sockets, where sa_family says AF_UNIX. */
struct network {
    struct address address;
    uint8_t n_bits; /* that count, of IPv4's v4-mapped form */
};
/* "10.0.0.0/8", "fd00::/8", one address alone, or "unix". */
bool network_parse(const char *text, struct network *network) MUST_CHECK;
bool network_has(const struct network *network, const struct address *address);
bool network_equal(const struct network *a, const struct network *b);

/* "host:port", "[v6]:port", "*:port", "/path". On false `*why` says what was expected
 * (a constant). On true the strings in `endpoint` are the caller's: endpoint_clear(). */
bool endpoint_parse(const char *text, struct endpoint *endpoint,
                    const char **why) MUST_CHECK;
void endpoint_clear(struct endpoint *endpoint);
bool endpoint_equal(const struct endpoint *a, const struct endpoint *b);

#endif
