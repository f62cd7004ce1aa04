/* tests/lib/peers.h - real sockets for tests: pairs, listening ones, and their far ends.
 */
#ifndef TESTS_LIB_PEERS_H
#define TESTS_LIB_PEERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/address.h"

/* Two connected TCP sockets on loopback, [0] accepted, [1] connected, both non-blocking.
 * `buffer_bytes` bounds what the kernel holds between them; 0 = as it likes. */
void peers_tcp(int fds[2], int buffer_bytes);
/* The same as a socketpair. */
void peers_unix(int fds[2]);

/* Listens on 127.0.0.1 or [::1] at a port that is free; `backlog` as for listen(2). */
int peers_listen(const char *host, int backlog, struct address *address);
/* An address of 127.0.0.1 at which nobody listens. */
struct address peers_nobody(void);

/* As many bytes as the kernel takes; how many. */
size_t peers_write(int fd, const void *bytes, size_t n);
/* As many bytes as are there; `*has_ended` when the other side has, by FIN or RST. */
size_t peers_read(int fd, void *bytes, size_t n, bool *has_ended);
/* What recv(2) says now: bytes, 0 for FIN, or -errno. */
long peers_look(int fd);

/* Bytes of which each tells its place, so that a loss or a swap shows. */
void peers_fill(uint8_t *bytes, size_t n);
/* Where `bytes` differ from that, `n` when they do not. */
size_t peers_differ_at(const uint8_t *bytes, size_t n);

#endif
