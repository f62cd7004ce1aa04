/* bench/floor.c - the least that a relay in user space can do: what others are held
 * against.
 *
 *   floor LISTEN-PORT TARGET-HOST TARGET-PORT       (on 127.0.0.1, numeric host)
 *
 * One thread. For each readable end one recv(2) and one send(2) to the other; no limits,
 * no parsing, no time. A peer that reads slowly holds up everybody: this is no relay for
 * use.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_FDS 65536

static int peer[MAX_FDS]; /* the other end, 0 = none */
static char bytes[65536];

static void must(int ok, const char *what)
{
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static struct sockaddr_in address_of(const char *host, const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(port))};

    must(inet_pton(AF_INET, host, &address.sin_addr) == 1, host);
    return address;
}

static void watch(int epoll, int fd)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
}

static void join(int epoll, int listening, const struct sockaddr_in *target)
{
    int client = accept(listening, NULL, NULL);
    int server = socket(AF_INET, SOCK_STREAM, 0);

    must(client >= 0 && client < MAX_FDS && server >= 0 && server < MAX_FDS, "accept");
    if (connect(server, (const struct sockaddr *)target, sizeof *target) != 0) {
        close(client);
        close(server);
        return;
    }
    watch(epoll, client);
    watch(epoll, server);
    peer[client] = server;
    peer[server] = client;
}

/* False: this way is at its end. */
static int pass(int from, int to)
{
    ssize_t n = recv(from, bytes, sizeof bytes, MSG_DONTWAIT), sent = 0;

    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    while (sent < n) {
        ssize_t more =
            send(to, bytes + sent, (size_t)(n - sent), MSG_DONTWAIT | MSG_NOSIGNAL);

        if (more >= 0)
            sent += more;
        else if (errno != EAGAIN || poll(&(struct pollfd){to, POLLOUT, 0}, 1, -1) < 0)
            return 0;
    }
    return 1;
}

static void part(int from, int to)
{
    peer[from] = peer[to] = 0;
    close(from);
    close(to);
}

int main(int argc, char **argv)
{
    struct epoll_event events[256];
    int listening = socket(AF_INET, SOCK_STREAM, 0), epoll = epoll_create1(0);
    struct sockaddr_in here, target;

    must(argc == 4, "floor LISTEN-PORT TARGET-HOST TARGET-PORT");
    here = address_of("127.0.0.1", argv[1]);
    target = address_of(argv[2], argv[3]);
    setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    must(bind(listening, (struct sockaddr *)&here, sizeof here) == 0, "bind");
    must(listen(listening, 1024) == 0, "listen");
    watch(epoll, listening);
    for (;;) {
        int n = epoll_wait(epoll, events, 256, -1);

        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;

            if (fd == listening)
                join(epoll, listening, &target);
            else if (peer[fd] != 0 && !pass(fd, peer[fd]))
                part(fd, peer[fd]);
        }
    }
}
