#include "core/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Questions without an answer after which silence means absence. */
#define UNANSWERED_PROBES 2

static void set_int(int fd, int level, int option, int value)
{
    /* A refusal (a unix socket, an old kernel) leaves the system's value: no harm. */
    (void)setsockopt(fd, level, option, &value, sizeof value);
}

static int close_keeping_errno(int fd)
{
    int saved = errno;

    close(fd);
    errno = saved;
    return -1;
}

void socket_share(int fd, bool share)
{
    set_int(fd, SOL_SOCKET, SO_REUSEPORT, share);
}

static int listen_tcp(const struct address *address, int backlog, bool share)
{
    int fd = socket(address->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    socket_share(fd, share);
    if (address->sa.sa_family == AF_INET6)
        set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    if (bind(fd, &address->sa, address_length(address)) != 0 || listen(fd, backlog) != 0)
        return close_keeping_errno(fd);
    return fd;
}

static bool somebody_listens(const struct sockaddr_un *name)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool answered;

    if (fd < 0)
        return true;
    answered =
        connect(fd, (const struct sockaddr *)name, sizeof *name) == 0 || errno == EAGAIN;
    close(fd);
    return answered;
}

static int listen_unix(const char *path, int backlog, mode_t mode)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    struct stat file;
    int fd;

    if (strlen(path) >= sizeof name.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    strcpy(name.sun_path, path);
    if (lstat(path, &file) == 0 && S_ISSOCK(file.st_mode)) {
        if (somebody_listens(&name)) {
            errno = EADDRINUSE;
            return -1;
        }
        unlink(path);
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (bind(fd, (const struct sockaddr *)&name, sizeof name) != 0 ||
        chmod(path, mode) != 0 || listen(fd, backlog) != 0)
        return close_keeping_errno(fd);
    return fd;
}

unsigned socket_listen(const struct endpoint *endpoint, int backlog, mode_t unix_mode,
                       bool share, int sockets[SOCKETS_PER_ENDPOINT])
{
    static const char *const everywhere[] = {"0.0.0.0", "::"};
    const char *const one[] = {endpoint->host};
    bool all = endpoint->host != NULL && strcmp(endpoint->host, "*") == 0;
    unsigned n = 0;

    if (endpoint->path != NULL) {
        sockets[0] = listen_unix(endpoint->path, backlog, unix_mode);
        return sockets[0] < 0 ? 0 : 1;
    }
    for (unsigned i = 0; i < (all ? 2 : 1); i++) {
        struct address address;
        int fd;

        if (!address_parse(all ? everywhere[i] : one[i], endpoint->port, &address)) {
            errno = EADDRNOTAVAIL;
            return 0;
        }
        fd = listen_tcp(&address, backlog, share);
        if (fd >= 0) {
            sockets[n++] = fd;
        } else if (!all || errno == EADDRINUSE || errno == EACCES) {
            while (n > 0) /* half of "*" would be a surprise, unless IPv6 is not there */
                close_keeping_errno(sockets[--n]);
            return 0;
        }
    }
    return n;
}

unsigned socket_listen_beside(const struct endpoint *endpoint, int backlog,
                              mode_t unix_mode, void (*share_ours)(void *arg, bool share),
                              void *arg, int sockets[SOCKETS_PER_ENDPOINT])
{
    unsigned n = socket_listen(endpoint, backlog, unix_mode, false, sockets);
    int error;

    if (n > 0 || errno != EADDRINUSE || share_ours == NULL)
        return n;
    share_ours(arg, true);
    n = socket_listen(endpoint, backlog, unix_mode, true, sockets);
    error = errno;
    for (unsigned i = 0; i < n; i++)
        socket_share(sockets[i], false);
    share_ours(arg, false);
    errno = error;
    return n;
}

int socket_accept(int listening, struct address *peer)
{
    struct sockaddr_storage name = {0};
    socklen_t length = sizeof name;
    int fd = accept4(listening, (struct sockaddr *)&name, &length,
                     SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd < 0)
        return -1;
    *peer = (struct address){.sa.sa_family = AF_UNIX};
    if (name.ss_family == AF_INET || name.ss_family == AF_INET6)
        memcpy(peer, &name, length < sizeof *peer ? length : sizeof *peer);
    return fd;
}

int socket_connect(const struct address *address)
{
    int fd = socket(address->sa.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    if (connect(fd, &address->sa, address_length(address)) != 0 && errno != EINPROGRESS)
        return close_keeping_errno(fd);
    return fd;
}

int socket_connect_path(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(path);
    int fd;

    if (length >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, length);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        return close_keeping_errno(fd);
    return fd;
}

void socket_tune(int fd, const struct tcp_settings *settings)
{
    set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_int(fd, SOL_SOCKET, SO_KEEPALIVE, settings->keepalive);
    if (settings->keepidle_s > 0)
        set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, settings->keepidle_s);
    if (settings->keepintvl_s > 0)
        set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, settings->keepintvl_s);
    if (settings->keepcnt > 0)
        set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, settings->keepcnt);
}

void socket_expect(unsigned n)
{
    int any = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int last = any < 0 || n == 0 ? -1 : fcntl(any, F_DUPFD_CLOEXEC, (int)n - 1);

    if (last >= 0)
        close(last);
    if (any >= 0)
        close(any);
}

void socket_reset_on_close(int fd)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};

    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

enum socket_peer socket_look(int fd, int for_ms)
{
    struct tcp_info info;
    socklen_t length = sizeof info;
    int n_unacknowledged;

    if (ioctl(fd, SIOCOUTQ, &n_unacknowledged) != 0 || n_unacknowledged == 0 ||
        getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0)
        return PEER_HAS_ALL; /* as far as can be known: a unix socket's is on this machine
                              */
    if ((info.tcpi_probes >= UNANSWERED_PROBES ||
         info.tcpi_retransmits >= UNANSWERED_PROBES) &&
        info.tcpi_last_ack_recv >= (uint32_t)for_ms)
        return PEER_VANISHED;
    return PEER_OWES;
}

void socket_ends(int fd, struct socket_ends *ends)
{
    struct sockaddr_storage storage;
    socklen_t n = sizeof storage;
    struct ucred peer;

    *ends = (struct socket_ends){0};
    if (getsockname(fd, (struct sockaddr *)&storage, &n) == 0)
        memcpy(&ends->local, &storage, sizeof ends->local);
    n = sizeof storage;
    if (getpeername(fd, (struct sockaddr *)&storage, &n) == 0)
        memcpy(&ends->peer, &storage, sizeof ends->peer);
    n = sizeof peer;
    if (ends->local.sa.sa_family == AF_UNIX &&
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0)
        ends->pid = (int)peer.pid;
}
