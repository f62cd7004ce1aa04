/* tests/lib/script_net.h - a network of scripts: stream_adopt() and stream_connect() over
 * tests/lib/script_stream.h.
 *
 * A test that is linked with script_net.c has these two in place of the ones over
 * sockets, so whole clients and servers run without a descriptor: tests/meson.build says
 * which tests. One test at a time, in one thread.
 */
#ifndef TESTS_LIB_SCRIPT_NET_H
#define TESTS_LIB_SCRIPT_NET_H

#include "tests/lib/script_stream.h"

/* For a test that begins anew, when every stream is closed. */
void script_net_forget(void);

/* No descriptor of the system: closing it does nothing. */
#define SCRIPT_FIRST_FD 1000000

/* The next stream_adopt() of the descriptor that this returns has `peer`. */
int script_net_descriptor(struct script_peer *peer);
/* The next stream_connect() to this port, whatever the host, has `peer`; several are met
 * in the order of these calls. Where nobody is left a connection is refused. */
void script_net_serve(uint16_t port, struct script_peer *peer);
/* How many connections to the port were begun. */
unsigned script_net_n_connects(uint16_t port);

#endif
