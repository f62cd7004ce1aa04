#include "wire/proxy_header.h"

#include <arpa/inet.h>
#include <string.h>

#define V1_BEGIN "PROXY "
#define V1_BEGIN_BYTES (sizeof V1_BEGIN - 1)
#define V1_BYTES_MAX 107u /* with the line's end */

#define V2_HEAD_BYTES 16u
#define V2_IP4_BYTES 12u /* two addresses, two ports */
#define V2_IP6_BYTES 36u
#define V2_UNIX_BYTES 216u

static const uint8_t signature[] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d,
                                    0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

static struct proxy_header just(enum proxy_header_kind kind)
{
    return (struct proxy_header){.kind = kind};
}

/* ---- version 1 ----------------------------------------------------------------------
 */

/* Takes the next word off `*rest`: words are apart by one blank each. NULL = there is
 * none, or an empty one. */
static char *next_word(char **rest)
{
    char *word = *rest, *end;

    if (word == NULL || *word == '\0' || *word == ' ')
        return NULL;
    end = strchr(word, ' ');
    *rest = end == NULL ? NULL : end + 1;
    if (end != NULL)
        *end = '\0';
    return word;
}

/* A decimal number as the format has it: no sign, no zero in front. */
static bool read_port(const char *word, uint16_t *port)
{
    size_t n = strspn(word, "0123456789");
    uint32_t number = 0;

    if (n == 0 || n > 5 || word[n] != '\0' || (word[0] == '0' && n > 1))
        return false;
    for (size_t i = 0; i < n; i++)
        number = number * 10 + (uint32_t)(word[i] - '0');
    *port = (uint16_t)number;
    return number <= UINT16_MAX;
}

static bool read_host(int family, const char *word, struct address *address)
{
    *address = (struct address){.sa = {.sa_family = (sa_family_t)family}};
    return inet_pton(family, word,
                     family == AF_INET ? (void *)&address->in.sin_addr
                                       : (void *)&address->in6.sin6_addr) == 1;
}

/* Source, destination, and their ports. */
static bool read_ends(int family, char *rest, struct address *source)
{
    struct address destination;
    char *words[4];
    uint16_t port, other;

    for (size_t i = 0; i < COUNT_OF(words); i++)
        if ((words[i] = next_word(&rest)) == NULL)
            return false;
    if (rest != NULL || !read_host(family, words[0], source) ||
        !read_host(family, words[1], &destination) || !read_port(words[2], &port) ||
        !read_port(words[3], &other))
        return false;
    address_set_port(source, port);
    return true;
}

/* The line without its end. */
static struct proxy_header read_line(char *line, uint32_t length)
{
    struct proxy_header header = {.kind = PROXY_HEADER_TELLS, .length = length};
    char *rest = line + V1_BEGIN_BYTES;
    const char *family = next_word(&rest);

    if (family == NULL)
        return just(PROXY_HEADER_BAD);
    if (strcmp(family, "UNKNOWN") == 0) /* whatever follows */
        header.kind = PROXY_HEADER_IS_MUTE;
    else if ((strcmp(family, "TCP4") != 0 && strcmp(family, "TCP6") != 0) ||
             !read_ends(family[3] == '4' ? AF_INET : AF_INET6, rest, &header.source))
        return just(PROXY_HEADER_BAD);
    return header;
}

/* Of at least V1_BEGIN_BYTES, which are V1_BEGIN. */
static struct proxy_header read_v1(const uint8_t *bytes, size_t n)
{
    size_t n_looked = n < V1_BYTES_MAX ? n : V1_BYTES_MAX, at = V1_BEGIN_BYTES;
    char line[V1_BYTES_MAX];

    while (at < n_looked && bytes[at] >= ' ' && bytes[at] <= '~')
        at++;
    if (at + 1 >= V1_BYTES_MAX || (at < n_looked && bytes[at] != '\r'))
        return just(PROXY_HEADER_BAD);
    if (at + 1 >= n_looked)
        return just(PROXY_HEADER_INCOMPLETE);
    if (bytes[at + 1] != '\n')
        return just(PROXY_HEADER_BAD);
    memcpy(line, bytes, at);
    line[at] = '\0';
    return read_line(line, (uint32_t)at + 2);
}

/* ---- version 2 ----------------------------------------------------------------------
 */

enum { COMMAND_LOCAL = 0x20, COMMAND_PROXY = 0x21 }; /* with the version */
enum { UNSPEC = 0x00, TCP_OVER_IP4 = 0x11, TCP_OVER_IP6 = 0x21, UNIX_STREAM = 0x31 };

/* How many bytes the addresses of a family take; false when we serve nobody like that. */
static bool size_of_family(uint8_t family, uint32_t *n)
{
    switch (family) {
    case UNSPEC:
        *n = 0;
        return true;
    case TCP_OVER_IP4:
        *n = V2_IP4_BYTES;
        return true;
    case TCP_OVER_IP6:
        *n = V2_IP6_BYTES;
        return true;
    case UNIX_STREAM:
        *n = V2_UNIX_BYTES;
        return true;
    default:
        return false;
    }
}

static void read_source(uint8_t family, const uint8_t *ends, struct address *source)
{
    *source = (struct address){0};
    if (family == TCP_OVER_IP4) {
        source->in.sin_family = AF_INET;
        memcpy(&source->in.sin_addr, ends, 4);
        memcpy(&source->in.sin_port, ends + 8, 2);
    } else {
        source->in6.sin6_family = AF_INET6;
        memcpy(&source->in6.sin6_addr, ends, 16);
        memcpy(&source->in6.sin6_port, ends + 32, 2);
    }
}

/* Whether the bytes of the head that are here are those of one. */
static bool is_head(const uint8_t *bytes, size_t n)
{
    uint32_t n_ends = 0, n_behind;

    if (n > 12 && bytes[12] != COMMAND_LOCAL && bytes[12] != COMMAND_PROXY)
        return false;
    if (n > 13 && bytes[12] == COMMAND_PROXY && !size_of_family(bytes[13], &n_ends))
        return false;
    if (n < V2_HEAD_BYTES)
        return true;
    n_behind = (uint32_t)bytes[14] << 8 | bytes[15];
    return n_behind >= n_ends && n_behind <= PROXY_HEADER_MAX - V2_HEAD_BYTES;
}

static struct proxy_header read_v2(const uint8_t *bytes, size_t n)
{
    struct proxy_header header = {.kind = PROXY_HEADER_IS_MUTE};

    if (!is_head(bytes, n))
        return just(PROXY_HEADER_BAD);
    if (n < V2_HEAD_BYTES)
        return just(PROXY_HEADER_INCOMPLETE);
    header.length = V2_HEAD_BYTES + ((uint32_t)bytes[14] << 8 | bytes[15]);
    if (n < header.length)
        return just(PROXY_HEADER_INCOMPLETE);
    if (bytes[12] == COMMAND_PROXY &&
        (bytes[13] == TCP_OVER_IP4 || bytes[13] == TCP_OVER_IP6)) {
        header.kind = PROXY_HEADER_TELLS;
        read_source(bytes[13], bytes + V2_HEAD_BYTES, &header.source);
    }
    return header;
}

static bool begins_like(const uint8_t *bytes, size_t n, const void *begin, size_t n_begin)
{
    return memcmp(bytes, begin, n < n_begin ? n : n_begin) == 0;
}

struct proxy_header proxy_header_read(const uint8_t *bytes, size_t n)
{
    if (n == 0)
        return just(PROXY_HEADER_INCOMPLETE);
    if (begins_like(bytes, n, signature, sizeof signature))
        return n < sizeof signature ? just(PROXY_HEADER_INCOMPLETE) : read_v2(bytes, n);
    if (begins_like(bytes, n, V1_BEGIN, V1_BEGIN_BYTES))
        return n < V1_BEGIN_BYTES ? just(PROXY_HEADER_INCOMPLETE) : read_v1(bytes, n);
    return just(PROXY_HEADER_BAD);
}
