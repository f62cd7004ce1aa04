#include "core/socket.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/peers.h"

TestSuite(socket, .timeout = 20);

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof value;

    cr_assert_eq(getsockopt(fd, level, name, &value, &length), 0);
    return value;
}

static struct address name_of(int fd)
{
    struct address address = {0};
    socklen_t length = sizeof address;

    cr_assert_eq(getsockname(fd, &address.sa, &length), 0);
    return address;
}

/* Waits for the kernel's hand-shake, which is never long on loopback. */
static int accepted(int listening, struct address *peer)
{
    int fd;

    do
        fd = socket_accept(listening, peer);
    while (fd < 0 && errno == EAGAIN);
    cr_assert_geq(fd, 0, "%s", strerror(errno));
    return fd;
}

static unsigned listen_at(const char *host, uint16_t port, bool share,
                          int sockets[SOCKETS_PER_ENDPOINT])
{
    struct endpoint endpoint = {.host = (char *)(uintptr_t)host, .port = port};

    return socket_listen(&endpoint, 7, 0700, share, sockets);
}

/* ---- listening ----------------------------------------------------------------------
 */

Test(socket, listens_on_one_numeric_address)
{
    static const char *const hosts[] = {"127.0.0.1", "::1"};

    for (size_t i = 0; i < COUNT_OF(hosts); i++) {
        int sockets[SOCKETS_PER_ENDPOINT], client, fd;
        struct address address, peer;

        cr_assert_eq(listen_at(hosts[i], 0, false, sockets), 1);
        cr_expect(fcntl(sockets[0], F_GETFL) & O_NONBLOCK);
        cr_expect(fcntl(sockets[0], F_GETFD) & FD_CLOEXEC);
        cr_expect_eq(socket_accept(sockets[0], &peer), -1);
        cr_expect_eq(errno, EAGAIN);

        address = name_of(sockets[0]);
        client = socket_connect(&address);
        cr_assert_geq(client, 0);
        fd = accepted(sockets[0], &peer);
        address = name_of(client);
        cr_expect(address_same_host(&peer, &address));
        cr_expect_eq(address_port(&peer), address_port(&address));
        cr_expect(fcntl(fd, F_GETFL) & O_NONBLOCK);
        cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        close(fd);
        close(client);
        close(sockets[0]);
    }
}

/* A port that is free on all addresses. */
static uint16_t free_port(void)
{
    struct address address = peers_nobody();

    return address_port(&address);
}

Test(socket, a_star_is_both_families)
{
    static const char *const hosts[] = {"127.0.0.1", "::1", "127.3.2.1"};
    int sockets[SOCKETS_PER_ENDPOINT], clients[3];
    uint16_t port = free_port();
    struct address address;

    cr_assert_eq(listen_at("*", port, false, sockets), 2, "%s", strerror(errno));
    for (size_t i = 0; i < COUNT_OF(hosts); i++) {
        cr_assert(address_parse(hosts[i], port, &address));
        clients[i] = socket(address.sa.sa_family, SOCK_STREAM, 0);
        cr_expect_eq(connect(clients[i], &address.sa, address_length(&address)), 0, "%s",
                     hosts[i]);
    }
    for (unsigned i = 0; i < 3; i++)
        close(clients[i]);
    close(sockets[0]);
    close(sockets[1]);
}

Test(socket, half_a_star_is_none)
{
    int v6[SOCKETS_PER_ENDPOINT], sockets[SOCKETS_PER_ENDPOINT];
    uint16_t port = free_port();

    cr_assert_eq(listen_at("::", port, false, v6), 1);
    cr_expect_eq(listen_at("*", port, false, sockets), 0);
    cr_expect_eq(errno, EADDRINUSE);
    close(v6[0]);
    cr_expect_eq(listen_at("0.0.0.0", port, false, sockets), 1, "nothing was left open");
    close(sockets[0]);
}

Test(socket, v6_leaves_v4_alone)
{
    int v6[SOCKETS_PER_ENDPOINT], v4[SOCKETS_PER_ENDPOINT];
    uint16_t port = free_port();

    cr_assert_eq(listen_at("::", port, false, v6), 1);
    cr_expect_eq(listen_at("0.0.0.0", port, false, v4), 1);
    close(v6[0]);
    close(v4[0]);
}

Test(socket, an_address_in_use_is_an_error)
{
    int first[SOCKETS_PER_ENDPOINT], second[SOCKETS_PER_ENDPOINT];

    cr_assert_eq(listen_at("127.0.0.1", 0, false, first), 1);
    struct address address = name_of(first[0]);
    cr_expect_eq(listen_at("127.0.0.1", address_port(&address), false, second), 0);
    cr_expect_eq(errno, EADDRINUSE);
    close(first[0]);
}

Test(socket, never_looks_up_a_name)
{
    int sockets[SOCKETS_PER_ENDPOINT];

    cr_expect_eq(listen_at("localhost", 0, false, sockets), 0);
    cr_expect_eq(errno, EADDRNOTAVAIL);
}

Test(socket, an_address_of_another_machine_is_an_error)
{
    int sockets[SOCKETS_PER_ENDPOINT];

    cr_expect_eq(listen_at("192.0.2.1", 0, false, sockets), 0);
    cr_expect_eq(errno, EADDRNOTAVAIL);
}

Test(socket, gives_the_backlog_to_the_kernel)
{
    int sockets[SOCKETS_PER_ENDPOINT];
    struct tcp_info info;
    socklen_t length = sizeof info;

    cr_assert_eq(listen_at("127.0.0.1", 0, false, sockets), 1);
    cr_assert_eq(getsockopt(sockets[0], IPPROTO_TCP, TCP_INFO, &info, &length), 0);
    cr_expect_eq(info.tcpi_sacked, 7, "of a listening socket: its backlog");
    close(sockets[0]);
}

Test(socket, a_port_can_be_had_again_at_once_when_its_connections_linger)
{
    int sockets[SOCKETS_PER_ENDPOINT], client, fd;
    struct address address, peer;

    cr_assert_eq(listen_at("127.0.0.1", 0, false, sockets), 1);
    address = name_of(sockets[0]);
    client = socket_connect(&address);
    fd = accepted(sockets[0], &peer);
    close(fd); /* we end first: TIME_WAIT is ours */
    close(client);
    close(sockets[0]);
    cr_expect_eq(listen_at("127.0.0.1", address_port(&address), false, sockets), 1);
    close(sockets[0]);
}

Test(socket, sharing_lets_a_second_one_in_and_ends)
{
    int star[SOCKETS_PER_ENDPOINT], one[SOCKETS_PER_ENDPOINT];
    int other[SOCKETS_PER_ENDPOINT];
    uint16_t port = free_port();

    cr_assert_eq(listen_at("0.0.0.0", port, false, star), 1);
    cr_expect_eq(listen_at("127.0.0.1", port, true, one), 0, "the first does not share");
    socket_share(star[0], true);
    cr_expect_eq(listen_at("127.0.0.1", port, true, one), 1, "%s", strerror(errno));
    socket_share(star[0], false);
    socket_share(one[0], false);
    cr_expect_eq(listen_at("127.0.0.1", port, false, other), 0);
    cr_expect_eq(errno, EADDRINUSE);
    close(star[0]);
    close(one[0]);
}

/* ---- unix sockets -------------------------------------------------------------------
 */

static char folder[] = "/tmp/unit-socket-XXXXXX";

static void make_folder(void)
{
    (void)!mkdtemp(folder);
}

static void remove_folder(void)
{
    char path[64];

    snprintf(path, sizeof path, "%s/s", folder);
    unlink(path);
    rmdir(folder);
}

TestSuite(unix_socket, .init = make_folder, .fini = remove_folder, .timeout = 20);

static int listen_unix(char path[64], mode_t mode)
{
    int sockets[SOCKETS_PER_ENDPOINT] = {-1, -1};
    struct endpoint endpoint = {.path = path};

    snprintf(path, 64, "%s/s", folder);
    return socket_listen(&endpoint, 7, mode, false, sockets) == 1 ? sockets[0] : -1;
}

static int connect_unix(const char *path)
{
    struct sockaddr_un {
        sa_family_t family;
        char path[108];
    } name = {.family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strcpy(name.path, path);
    cr_assert_eq(connect(fd, (struct sockaddr *)&name, sizeof name), 0);
    return fd;
}

Test(unix_socket, listens_with_the_mode_that_was_asked_for)
{
    char path[64];
    int listening = listen_unix(path, 0741), client, fd;
    struct stat file;
    struct address peer;
    char text[ADDRESS_TEXT_MAX];

    cr_assert_geq(listening, 0);
    cr_assert_eq(stat(path, &file), 0);
    cr_expect_eq(file.st_mode & 0777, 0741);
    client = connect_unix(path);
    fd = accepted(listening, &peer);
    cr_expect_str_eq(address_print(&peer, text), "unix");
    close(fd);
    close(client);
    close(listening);
}

Test(unix_socket, replaces_a_stale_file)
{
    char path[64];
    int listening = listen_unix(path, 0700);

    cr_assert_geq(listening, 0);
    close(listening);
    cr_assert_eq(access(path, F_OK), 0, "the file outlives its socket");
    listening = listen_unix(path, 0700);
    cr_expect_geq(listening, 0);
    close(connect_unix(path));
    close(listening);
}

Test(unix_socket, leaves_a_living_one_alone)
{
    char path[64];
    int first = listen_unix(path, 0700);

    cr_expect_eq(listen_unix(path, 0700), -1);
    cr_expect_eq(errno, EADDRINUSE);
    close(connect_unix(path));
    close(first);
}

Test(unix_socket, with_a_full_backlog_is_alive)
{
    char path[64];
    int listening = listen_unix(path, 0700), clients[8];

    for (unsigned i = 0; i < COUNT_OF(clients); i++)
        clients[i] = connect_unix(path);
    cr_expect_eq(listen_unix(path, 0700), -1);
    cr_expect_eq(errno, EADDRINUSE);
    for (unsigned i = 0; i < COUNT_OF(clients); i++)
        close(clients[i]);
    close(listening);
}

Test(unix_socket, never_removes_a_file_that_is_none)
{
    char path[64];
    FILE *file;

    snprintf(path, sizeof path, "%s/s", folder);
    file = fopen(path, "w");
    fputs("precious", file);
    fclose(file);
    cr_expect_eq(listen_unix(path, 0700), -1);
    cr_expect_eq(errno, EADDRINUSE);
    cr_expect_eq(access(path, F_OK), 0);
}

Test(unix_socket, with_a_path_that_is_too_long_is_an_error)
{
    char path[200];
    int sockets[SOCKETS_PER_ENDPOINT];
    struct endpoint endpoint = {.path = path};

    memset(path, 'x', sizeof path);
    path[0] = '/';
    path[108] = '\0';
    cr_expect_eq(socket_listen(&endpoint, 7, 0700, false, sockets), 0);
    cr_expect_eq(errno, ENAMETOOLONG);
}

/* ---- connected ones -----------------------------------------------------------------
 */

Test(socket, connecting_does_not_wait)
{
    struct address address, nowhere;
    int listening = peers_listen("127.0.0.1", 1, &address), fd;

    fd = socket_connect(&address);
    cr_assert_geq(fd, 0);
    cr_expect(fcntl(fd, F_GETFL) & O_NONBLOCK);
    cr_expect(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    close(fd);
    close(listening);
    cr_assert(address_parse("255.255.255.255", 1, &nowhere));
    cr_expect_eq(socket_connect(&nowhere), -1);
    cr_expect_eq(errno, ENETUNREACH, "%s", strerror(errno));
}

Test(socket, tuning_reaches_the_kernel)
{
    const struct tcp_settings settings = {
        .keepalive = true, .keepidle_s = 11, .keepintvl_s = 12, .keepcnt = 13};
    int fds[2];

    peers_tcp(fds, 0);
    socket_tune(fds[0], &settings);
    cr_expect_eq(option(fds[0], IPPROTO_TCP, TCP_NODELAY), 1);
    cr_expect_eq(option(fds[0], SOL_SOCKET, SO_KEEPALIVE), 1);
    cr_expect_eq(option(fds[0], IPPROTO_TCP, TCP_KEEPIDLE), 11);
    cr_expect_eq(option(fds[0], IPPROTO_TCP, TCP_KEEPINTVL), 12);
    cr_expect_eq(option(fds[0], IPPROTO_TCP, TCP_KEEPCNT), 13);
    cr_expect_eq(option(fds[0], IPPROTO_TCP, TCP_USER_TIMEOUT), 0,
                 "it cuts slow peers that answer");
    close(fds[0]);
    close(fds[1]);
}

Test(socket, tuning_with_zeros_leaves_the_systems_values)
{
    const struct tcp_settings none = {0};
    int tuned[2], plain[2];
    static const int options[] = {TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT,
                                  TCP_USER_TIMEOUT};

    peers_tcp(tuned, 0);
    peers_tcp(plain, 0);
    socket_tune(tuned[0], &none);
    for (size_t i = 0; i < COUNT_OF(options); i++)
        cr_expect_eq(option(tuned[0], IPPROTO_TCP, options[i]),
                     option(plain[0], IPPROTO_TCP, options[i]));
    cr_expect_eq(option(tuned[0], SOL_SOCKET, SO_KEEPALIVE), 0);
    for (unsigned i = 0; i < 2; i++) {
        close(tuned[i]);
        close(plain[i]);
    }
}

Test(socket, a_unix_socket_bears_tuning)
{
    const struct tcp_settings settings = {.keepalive = true};
    int fds[2];

    peers_unix(fds);
    socket_tune(fds[0], &settings);
    cr_expect_eq(peers_write(fds[0], "x", 1), 1);
    close(fds[0]);
    close(fds[1]);
}

Test(socket, closes_by_fin_unless_told_to_reset)
{
    int fds[2];

    peers_tcp(fds, 0);
    close(fds[0]);
    cr_expect_eq(peers_look(fds[1]), 0);
    close(fds[1]);
    peers_tcp(fds, 0);
    socket_reset_on_close(fds[0]);
    close(fds[0]);
    cr_expect_eq(peers_look(fds[1]), -ECONNRESET);
    close(fds[1]);
}

Test(socket, a_peer_that_is_there_has_not_vanished)
{
    static char filler[1 << 20];
    int fds[2], locals[2];

    peers_tcp(fds, 4096);
    peers_unix(locals);
    cr_expect_eq(socket_look(fds[0], 0), PEER_HAS_ALL);
    cr_expect_lt(peers_write(fds[0], filler, sizeof filler), sizeof filler);
    cr_expect_eq(socket_look(fds[0], 0), PEER_OWES, "it is merely slow");
    cr_expect_eq(socket_look(locals[0], 0), PEER_HAS_ALL);
    for (unsigned i = 0; i < 2; i++) {
        close(fds[i]);
        close(locals[i]);
    }
}

/* Of the process's table, as the kernel tells (proc(5), FDSize). */
static unsigned descriptors_in_table(void)
{
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    unsigned n = 0;

    cr_assert(status != NULL);
    while (n == 0 && fgets(line, sizeof line, status) != NULL)
        (void)sscanf(line, "FDSize: %u", &n);
    fclose(status);
    return n;
}

Test(socket, descriptors_that_are_expected_have_their_room_already)
{
    int lowest = dup(0);

    close(lowest);
    cr_assert_lt(descriptors_in_table(), 900);
    socket_expect(900);
    cr_expect_geq(descriptors_in_table(), 900);
    cr_expect_eq(dup(0), lowest, "none of them is in use");
}

Test(socket, more_descriptors_than_are_allowed_are_nobodys_fault)
{
    socket_expect(UINT32_MAX);
    socket_expect(0);
    cr_expect_lt(descriptors_in_table(), UINT32_MAX);
}
