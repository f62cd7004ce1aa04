/* health/sample.h - what one check of one node has found out.
 *
 * A plain value: probes make it, verdict.h weighs it. Texts from outside are cut to fit
 * and hold printable ASCII only.
 */
#ifndef HEALTH_SAMPLE_H
#define HEALTH_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>

#include "health/topology.h"

#define SYSTEM_ID_MAX 24
#define SAMPLE_WORD_MAX 32

enum sample_source {
    SOURCE_NOBODY, /* nobody has answered, or nobody who makes sense */
    SOURCE_PATRONI,
    SOURCE_POSTGRES,
    SOURCE_TCP,
    SOURCE_ETCD /* Patroni's keys, of a node that accepts connections */
};

enum sample_outcome {
    SAMPLE_OK,      /* it runs, and says what it is */
    SAMPLE_WRONG,   /* it answers, but does not run, or makes no sense */
    SAMPLE_REFUSED, /* no connection */
    SAMPLE_TIMEOUT,
    SAMPLE_NOT_MADE /* memory or descriptors are out on our side: says nothing of it */
};

struct sample {
    enum sample_source source;
    enum sample_outcome outcome;
    uint64_t round; /* of the cluster's checks, in which it was asked for */
    uint32_t duration_ms;
    bool is_mute;    /* it has let us connect, and says nothing: frozen, perhaps */
    int http_status; /* Patroni's, 0 = none; 200 says that the node holds the lock */

    enum node_role role;             /* what it says of itself; NODE_PRIMARY = writable */
    char state[SAMPLE_WORD_MAX];     /* Patroni's words for the server: "running", ... */
    char role_word[SAMPLE_WORD_MAX]; /* ... and for its role: "master", "replica", ... */
    bool holds_lock;
    bool knows_lock;       /* holds_lock and is_unlocked are from Patroni's keys */
    bool is_streaming;     /* a replica that receives from its primary right now */
    bool is_noloadbalance; /* tagged so */
    bool is_paused;        /* Patroni's automatic failover is off */
    bool is_unlocked;      /* nobody holds the leader lock, as far as this node knows */
    bool is_failsafe;      /* Patroni goes on without its configuration store */
    uint64_t store_seen_s; /* when Patroni has reached that last, by its clock; 0 = not
                              known */
    uint32_t timeline;     /* 0 = not known */
    uint64_t location;     /* of a writable node: bytes of WAL written; 0 = not known */
    uint64_t received, replayed;   /* of a replica, likewise */
    char system_id[SYSTEM_ID_MAX]; /* of the PostgreSQL cluster, "" = not known */
    char name[NODE_NAME_MAX];      /* Patroni's name for the node (since 4.0), or "" */
    char scope[NODE_NAME_MAX];     /* Patroni's name for the cluster, or "" */

    char said[128]; /* all of it in words, for pages and logs */
};

/* Copies up to size - 1 bytes, with '?' for what is not printable ASCII. */
void sample_copy_text(char *to, size_t size, const char *from);

const char *sample_source_name(enum sample_source source); /* "patroni", ..., or "" */

#endif
