/* tests/lib/tls_pair.h - a stream of TLS of ours, and OpenSSL alone at the far end.
 *
 * With certificates of its own in a folder that goes with it: "ca", "server" (localhost,
 * 127.0.0.1), "client" (alice), and what a test writes there.
 */
#ifndef TESTS_LIB_TLS_PAIR_H
#define TESTS_LIB_TLS_PAIR_H

#include "core/stream_tls.h"
#include "tests/lib/identity.h"
#include "tests/lib/recorder.h"
#include "tests/lib/tls_peer.h"

/* What our end is, and what is spoken. */
struct tls_way {
    enum tls_role role;
    int version;
};
#define TLS_WAYS 4
extern const struct tls_way tls_ways[TLS_WAYS];
#define EACH_WAY(way) \
    for (const struct tls_way *way = tls_ways; way < tls_ways + TLS_WAYS; way++)
/* Good until the next call. */
const char *tls_way_name(struct tls_way way);

struct tls_pair {
    struct loop *loop;
    struct recorder near;
    struct tls_peer far;
    int fds[2]; /* [0] is the stream's, [1] the far end */
    struct tls_settings settings;
    struct tls_start start;   /* of which the context is made from `settings` */
    struct tls_memory memory; /* for start.memory */
    const char *why;          /* on_failed's text */
    struct identity ca, server, client;
    char folder[64];
    char paths[32][128];
    unsigned next_path;
};

void tls_pair_init(struct tls_pair *pair);
void tls_pair_clear(struct tls_pair *pair);
/* FOLDER/NAME; good for the next 31 calls. */
const char *tls_pair_path(struct tls_pair *pair, const char *name);

/* Settings and far end for one way: both verify, by name and by certificate. A test may
 * change both before tls_pair_open(). Closes what was open. */
void tls_pair_prepare(struct tls_pair *pair, struct tls_way way);
/* Connects the two and begins the handshake; the context is made if there is none yet. */
void tls_pair_open(struct tls_pair *pair);
void tls_pair_close(struct tls_pair *pair);
/* Has the context made anew next time. */
void tls_pair_renew(struct tls_pair *pair);

/* Iterations, in each of which both ends do what they can. */
void tls_pair_turn(struct tls_pair *pair, unsigned n);
/* Until both have greeted; false when one of them has failed instead. */
bool tls_pair_greet(struct tls_pair *pair);
/* All of it at once. */
void tls_pair_begin(struct tls_pair *pair, struct tls_way way);

#endif
