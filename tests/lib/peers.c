#include "tests/lib/peers.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void no_delay(int fd)
{
    int yes = 1;

    REQUIRE(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) == 0);
}

static void bound(int fd, int bytes)
{
    if (bytes == 0)
        return;
    REQUIRE(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) == 0);
    REQUIRE(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) == 0);
}

int peers_listen(const char *host, int backlog, struct address *address)
{
    socklen_t length;
    int fd;

    REQUIRE(address_parse(host, 0, address));
    length = address_length(address);
    fd = socket(address->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0);
    REQUIRE(bind(fd, &address->sa, length) == 0);
    REQUIRE(listen(fd, backlog) == 0);
    REQUIRE(getsockname(fd, &address->sa, &length) == 0);
    return fd;
}

struct address peers_nobody(void)
{
    struct address address;

    close(peers_listen("127.0.0.1", 1, &address));
    return address;
}

void peers_tcp(int fds[2], int buffer_bytes)
{
    struct address address;
    int listening = peers_listen("127.0.0.1", 1, &address);

    bound(listening, buffer_bytes);
    fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(fds[1] >= 0);
    bound(fds[1], buffer_bytes);
    REQUIRE(connect(fds[1], &address.sa, address_length(&address)) == 0);
    fds[0] = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    REQUIRE(fds[0] >= 0);
    REQUIRE(fcntl(fds[1], F_SETFL, O_NONBLOCK) == 0);
    no_delay(fds[0]);
    no_delay(fds[1]);
    close(listening);
}

void peers_unix(int fds[2])
{
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
}

size_t peers_write(int fd, const void *bytes, size_t n)
{
    size_t at = 0;

    while (at < n) {
        ssize_t written =
            send(fd, (const char *)bytes + at, n - at, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (written <= 0)
            break;
        at += (size_t)written;
    }
    return at;
}

size_t peers_read(int fd, void *bytes, size_t n, bool *has_ended)
{
    size_t at = 0;

    *has_ended = false;
    while (at < n) {
        ssize_t got = recv(fd, (char *)bytes + at, n - at, MSG_DONTWAIT);

        if (got <= 0) {
            *has_ended = got == 0 || (errno != EAGAIN && errno != EINTR);
            break;
        }
        at += (size_t)got;
    }
    return at;
}

long peers_look(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK);

    return n >= 0 ? n : -errno;
}

/* A number every four bytes; runs of one length do not hide a swap of whole buffers. */
void peers_fill(uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t)((i / 4 * 2654435761u) >> (8 * (i % 4)));
}

size_t peers_differ_at(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != (uint8_t)((i / 4 * 2654435761u) >> (8 * (i % 4))))
            return i;
    return n;
}
