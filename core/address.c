#include "core/address.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "core/memory.h"

/* Of an interface's name or number (RFC 4007, 11); 0 when it is neither. */
static uint32_t scope_id(const char *text)
{
    unsigned long number = if_nametoindex(text);
    char *end;

    if (number == 0 && *text >= '0' && *text <= '9') {
        number = strtoul(text, &end, 10);
        if (*end != '\0' || number > UINT32_MAX)
            return 0;
    }
    return (uint32_t)number;
}

bool address_parse(const char *host, uint16_t port, struct address *address)
{
    char plain[INET6_ADDRSTRLEN];
    const char *scope = strchr(host, '%');
    struct address found = {0};

    if (inet_pton(AF_INET, host, &found.in.sin_addr) == 1) {
        found.in.sin_family = AF_INET;
        found.in.sin_port = htons(port);
        *address = found;
        return true;
    }
    if (scope != NULL) {
        if ((size_t)(scope - host) >= sizeof plain)
            return false;
        memcpy(plain, host, (size_t)(scope - host));
        plain[scope - host] = '\0';
        found.in6.sin6_scope_id = scope_id(scope + 1);
        if (found.in6.sin6_scope_id == 0)
            return false;
        host = plain;
    }
    if (inet_pton(AF_INET6, host, &found.in6.sin6_addr) != 1)
        return false;
    found.in6.sin6_family = AF_INET6;
    found.in6.sin6_port = htons(port);
    *address = found;
    return true;
}

const char *address_print_host(const struct address *address, char text[ADDRESS_TEXT_MAX])
{
    const void *bytes = address->sa.sa_family == AF_INET6
                            ? (const void *)&address->in6.sin6_addr
                            : (const void *)&address->in.sin_addr;

    if (address->sa.sa_family != AF_INET && address->sa.sa_family != AF_INET6)
        strcpy(text, "unix");
    else if (address->sa.sa_family == AF_INET6 &&
             IN6_IS_ADDR_V4MAPPED(&address->in6.sin6_addr))
        inet_ntop(AF_INET, &address->in6.sin6_addr.s6_addr[12], text, ADDRESS_TEXT_MAX);
    else
        inet_ntop(address->sa.sa_family, bytes, text, ADDRESS_TEXT_MAX);
    return text;
}

const char *address_print(const struct address *address, char text[ADDRESS_TEXT_MAX])
{
    char host[ADDRESS_TEXT_MAX];

    address_print_host(address, host);
    if (address->sa.sa_family != AF_INET && address->sa.sa_family != AF_INET6)
        strcpy(text, host);
    else
        snprintf(text, ADDRESS_TEXT_MAX, strchr(host, ':') ? "[%.46s]:%u" : "%.46s:%u",
                 host, address_port(address));
    return text;
}

socklen_t address_length(const struct address *address)
{
    switch (address->sa.sa_family) {
    case AF_INET:
        return sizeof address->in;
    case AF_INET6:
        return sizeof address->in6;
    default:
        return sizeof(sa_family_t);
    }
}

uint16_t address_port(const struct address *address)
{
    switch (address->sa.sa_family) {
    case AF_INET:
        return ntohs(address->in.sin_port);
    case AF_INET6:
        return ntohs(address->in6.sin6_port);
    default:
        return 0;
    }
}

void address_set_port(struct address *address, uint16_t port)
{
    if (address->sa.sa_family == AF_INET)
        address->in.sin_port = htons(port);
    else if (address->sa.sa_family == AF_INET6)
        address->in6.sin6_port = htons(port);
}

/* The host as 16 bytes, IPv4 in its v4-mapped form, so that one comparison serves. */
static void host_bytes(const struct address *address, unsigned char bytes[16])
{
    memset(bytes, 0, 16);
    if (address->sa.sa_family == AF_INET6) {
        memcpy(bytes, &address->in6.sin6_addr, 16);
    } else if (address->sa.sa_family == AF_INET) {
        bytes[10] = bytes[11] = 0xff;
        memcpy(bytes + 12, &address->in.sin_addr, 4);
    }
}

bool address_same_host(const struct address *a, const struct address *b)
{
    unsigned char host_a[16], host_b[16];

    host_bytes(a, host_a);
    host_bytes(b, host_b);
    return memcmp(host_a, host_b, 16) == 0;
}

uint32_t address_hash_host(const struct address *address)
{
    unsigned char bytes[16];
    uint32_t hash = 2166136261u; /* FNV-1a: isthe.com/chongo/tech/comp/fnv */

    host_bytes(address, bytes);
    for (size_t i = 0; i < sizeof bytes; i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    return hash;
}

/* ---- networks -----------------------------------------------------------------------
 */

static bool parse_bits(const char *text, unsigned max, unsigned *n_bits)
{
    char *end;
    unsigned long value;

    if (*text < '0' || *text > '9')
        return false;
    value = strtoul(text, &end, 10);
    if (*end != '\0' || value > max)
        return false;
    *n_bits = (unsigned)value;
    return true;
}

bool network_parse(const char *text, struct network *network)
{
    const char *slash = strchrnul(text, '/');
    char host[INET6_ADDRSTRLEN];
    struct network found = {0};
    unsigned n_bits, n_before;

    if (strcmp(text, "unix") == 0) {
        found.address.sa.sa_family = AF_UNIX;
        *network = found;
        return true;
    }
    if ((size_t)(slash - text) >= sizeof host)
        return false;
    memcpy(host, text, (size_t)(slash - text));
    host[slash - text] = '\0';
    if (strchr(host, '%') != NULL || !address_parse(host, 0, &found.address))
        return false;
    n_before = found.address.sa.sa_family == AF_INET ? 96 : 0;
    n_bits = 128 - n_before;
    if (*slash == '/' && !parse_bits(slash + 1, n_bits, &n_bits))
        return false;
    found.n_bits = (uint8_t)(n_before + n_bits);
    *network = found;
    return true;
}

static bool is_of_internet(const struct address *address)
{
    return address->sa.sa_family == AF_INET || address->sa.sa_family == AF_INET6;
}

bool network_has(const struct network *network, const struct address *address)
{
    unsigned n = network->n_bits / 8, n_rest = network->n_bits % 8;
    unsigned char wanted[16], host[16];

    if (!is_of_internet(&network->address) || !is_of_internet(address))
        return network->address.sa.sa_family == address->sa.sa_family;
    host_bytes(&network->address, wanted);
    host_bytes(address, host);
    return memcmp(wanted, host, n) == 0 &&
           (n_rest == 0 || (wanted[n] ^ host[n]) >> (8 - n_rest) == 0);
}

bool network_equal(const struct network *a, const struct network *b)
{
    return a->address.sa.sa_family == b->address.sa.sa_family && a->n_bits == b->n_bits &&
           address_same_host(&a->address, &b->address);
}

/* ---- endpoints ----------------------------------------------------------------------
 */

static bool parse_port(const char *text, uint16_t *port)
{
    char *end;
    unsigned long value;

    if (*text < '0' || *text > '9')
        return false;
    value = strtoul(text, &end, 10);
    if (*end != '\0' || value == 0 || value > 65535)
        return false;
    *port = (uint16_t)value;
    return true;
}

static bool parse_path(const char *text, struct endpoint *endpoint, const char **why)
{
    if (strlen(text) >= sizeof((struct sockaddr_un *)NULL)->sun_path) {
        *why = "a unix socket's path of at most 107 bytes";
        return false;
    }
    *why = "memory";
    endpoint->path = memory_text(text);
    return endpoint->path != NULL;
}

bool endpoint_parse(const char *text, struct endpoint *endpoint, const char **why)
{
    const char *host = text, *host_end, *colon;
    struct endpoint found = {0};
    struct address number;

    if (text[0] == '/') {
        if (!parse_path(text, &found, why))
            return false;
        *endpoint = found;
        return true;
    }

    *why = "host:port, [v6]:port, *:port or /path";
    if (text[0] == '[') {
        host = text + 1;
        host_end = strchr(host, ']');
        if (host_end == NULL || host_end[1] != ':')
            return false;
        colon = host_end + 1;
    } else {
        colon = host_end = strrchr(text, ':');
        if (colon == NULL)
            return false;
    }
    if (host_end == host)
        return false;
    if (text[0] != '[' && memchr(host, ':', (size_t)(host_end - host)) != NULL) {
        *why = "an IPv6 address in brackets: [v6]:port";
        return false;
    }
    if (!parse_port(colon + 1, &found.port)) {
        *why = "a port from 1 to 65535 behind the last colon";
        return false;
    }
    found.host = memory_text_n(host, (size_t)(host_end - host));
    if (found.host == NULL) {
        *why = "memory";
        return false;
    }
    if (text[0] == '[' && !address_parse(found.host, found.port, &number)) {
        *why = "an IPv6 address between the brackets";
        endpoint_clear(&found);
        return false;
    }
    *endpoint = found;
    return true;
}

void endpoint_clear(struct endpoint *endpoint)
{
    memory_free(endpoint->host);
    memory_free(endpoint->path);
    *endpoint = (struct endpoint){0};
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

bool endpoint_equal(const struct endpoint *a, const struct endpoint *b)
{
    return a->port == b->port && same_text(a->host, b->host) &&
           same_text(a->path, b->path);
}
