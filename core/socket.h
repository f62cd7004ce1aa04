/* core/socket.h - descriptors of sockets: made, tuned, named. Nothing here blocks. */
#ifndef CORE_SOCKET_H
#define CORE_SOCKET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/address.h"

/* How the kernel is to find out that a peer has vanished; 0 = the system's value. */
struct tcp_settings {
    bool keepalive;
    int keepidle_s;
    int keepintvl_s;
    int keepcnt;
    int user_timeout_ms;
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
/* May another socket of this user listen on an overlapping address? Never for long: a
 * second program started by mistake is to be told that the address is in use. */
void socket_share(int fd, bool share);
/* The next connection, non-blocking and close-on-exec; -1 with errno. */
int socket_accept(int listening, struct address *peer);
/* Begins to connect; -1 with errno when that failed at once. */
int socket_connect(const struct address *address);
/* TCP_NODELAY and the settings; does nothing to a unix socket. */
void socket_tune(int fd, const struct tcp_settings *settings);
void socket_set_user_timeout(int fd, int user_timeout_ms);
/* The next close sends RST instead of FIN. */
void socket_reset_on_close(int fd);
/* True when the peer of a blocked connection has left several of the kernel's questions
 * unanswered for at least `for_ms`: it has vanished, it is not merely slow. */
bool socket_peer_vanished(int fd, int for_ms);

#endif
