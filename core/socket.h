/* core/socket.h - descriptors of sockets: made, tuned, named. Nothing here blocks. */
#ifndef CORE_SOCKET_H
#define CORE_SOCKET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include "core/address.h"

/* How the kernel is to find out that a peer has vanished; 0 = the system's value. */
struct tcp_settings {
    bool keepalive;
    int keepidle_s;
    int keepintvl_s;
    int keepcnt;
};

/* Most sockets that one endpoint can need: "*" is an IPv4 and an IPv6 one. */
#define SOCKETS_PER_ENDPOINT 2

/* Listening, non-blocking, close-on-exec sockets for a numeric host, "*" or a path.
 * Returns how many were made, 0 with errno when none: EADDRNOTAVAIL for a host that is
 * not a number. "*" means IPv4 and IPv6, and one of the two is enough where the machine
 * lacks the other. A unix socket gets `unix_mode`; a stale file is replaced, a living one
 * is EADDRINUSE. */
unsigned socket_listen(const struct endpoint *endpoint, int backlog, mode_t unix_mode,
                       bool share, int sockets[SOCKETS_PER_ENDPOINT]);
/* The same, where sockets of our own may be in the way: those give way once the new ones
 * are there ("*:5432" becomes "127.0.0.1:5432"). share_ours(arg, true) makes them share
 * their addresses, share_ours(arg, false) ends that; NULL when there are none. A second
 * program on the address, which shares with nobody, is in our way still. */
unsigned socket_listen_beside(const struct endpoint *endpoint, int backlog,
                              mode_t unix_mode, void (*share_ours)(void *arg, bool share),
                              void *arg, int sockets[SOCKETS_PER_ENDPOINT]);
/* May another socket of this user listen on an overlapping address? Never for long: a
 * second program started by mistake is to be told that the address is in use. */
void socket_share(int fd, bool share);
/* The next connection, non-blocking and close-on-exec; -1 with errno. */
int socket_accept(int listening, struct address *peer);
/* Begins to connect; -1 with errno when that failed at once. */
int socket_connect(const struct address *address);
/* The same to a unix socket, at once or not at all; -1 with errno. */
int socket_connect_path(const char *path);
/* send(2) without SIGPIPE, and recv(2). Straight to the kernel: in a program with threads
 * libc's own are points of cancellation, which costs every call some and is of no use to
 * us (pthreads(7)). */
static inline ssize_t socket_send(int fd, const void *bytes, size_t n)
{
    return syscall(SYS_sendto, fd, bytes, n, MSG_NOSIGNAL, NULL, 0);
}

static inline ssize_t socket_receive(int fd, void *bytes, size_t n)
{
    return syscall(SYS_recvfrom, fd, bytes, n, 0, NULL, NULL);
}

/* TCP_NODELAY and the settings; does nothing to a unix socket. */
void socket_tune(int fd, const struct tcp_settings *settings);
/* The next close sends RST instead of FIN. */
void socket_reset_on_close(int fd);
/* Has the kernel make room for n descriptors in the process's table now. It enlarges the
 * table by itself too, by doubling, but in a process with threads whoever needs the next
 * descriptor sleeps some 10 ms for that (expand_fdtable() in the kernel's fs/file.c waits
 * for a grace period). */
void socket_expect(unsigned n);

/* What a peer has made of the bytes that it was sent. */
enum socket_peer {
    PEER_HAS_ALL,  /* all of them are acknowledged */
    PEER_OWES,     /* some are not: it is slow, or they are on their way */
    PEER_VANISHED, /* it has left several of the kernel's questions about them unanswered
                    */
};
/* Vanished is who has given no sign of life for `for_ms`; one that takes nothing but
 * answers is slow, which is its right. The kernel's own TCP_USER_TIMEOUT does not tell
 * the two apart while the peer's window is closed: it counts from the first probe,
 * answered or not. */
enum socket_peer socket_look(int fd, int for_ms);

/* Both ends of a connected socket, for views. */
struct socket_ends {
    struct address local; /* AF_UNSPEC when it is not known */
    struct address peer;
    int pid; /* of a unix socket's peer; 0 = not known */
};
void socket_ends(int fd, struct socket_ends *ends);

#endif
