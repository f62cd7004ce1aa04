/* tests/lib/true_cluster.h - three nodes as they really are: PostgreSQL, Patroni, its
 * keys, and what befalls them, one thing after the other, at times that chance gives.
 *
 * It knows nothing of who watches it. Times are those of tests/lib/made_time.h.
 */
#ifndef TESTS_LIB_TRUE_CLUSTER_H
#define TESTS_LIB_TRUE_CLUSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TRUE_NODES 3
#define NOBODY (-1)

enum true_server {
    SERVER_DOWN,
    SERVER_STARTING,
    SERVER_STANDBY,
    SERVER_PRIMARY,
    SERVER_STOPPING
};

struct true_node {
    enum true_server server;
    uint32_t timeline;
    bool runs_patroni;
    bool believes;        /* its Patroni holds itself for the leader: REST says 200 */
    bool is_frozen;       /* the kernel accepts connections for it, nobody speaks */
    bool is_cut;          /* from everybody */
    uint64_t writable_ms; /* when it was last; that it is now says `server` */
};

/* Patroni's keys. */
struct true_keys {
    int64_t revision; /* of the last change */
    int leader;
    int64_t leader_changed_at;
    bool is_asked; /* for a switchover */
    int from, to;  /* NOBODY = any */
    bool is_to_stranger;
    int64_t due_ms; /* unix time, 0 = now */
    int64_t request_changed_at;
    bool is_paused;
    struct {
        bool is_there;
        enum true_server server;
        uint32_t timeline;
    } members[TRUE_NODES]; /* as they have told last */
};

/* What may befall it; may be or'ed. */
enum {
    BEFALLS_SWITCHOVER = 1,
    BEFALLS_SCHEDULED = 2,
    BEFALLS_CANCELLED = 4,
    BEFALLS_IMPOSSIBLE = 8, /* to a node that there is not */
    BEFALLS_REJECTED = 16,  /* for a reason that the keys do not show */
    BEFALLS_PAUSE = 32,     /* and the leader key may be missing in it */
    BEFALLS_PAUSED_SWITCHOVER = 64,
    BEFALLS_DEATH = 128,    /* machine or network; it comes back as a standby */
    BEFALLS_FREEZE = 256,   /* it comes back and believes in its old self for a while */
    BEFALLS_CRASH = 512,    /* of PostgreSQL, which starts in its place again */
    BEFALLS_SILENCE = 1024, /* of one node's Patroni */
    BEFALLS_CLAIM = 2048    /* a second primary on the same timeline */
};

struct true_cluster {
    struct true_node nodes[TRUE_NODES];
    struct true_keys keys;
    int primary;          /* who is, or was last; there is one history */
    uint64_t n_demotions; /* how often the primary has given up its role, or lost it */
    bool is_split;        /* two are writable on one timeline */

    unsigned befalls;
    bool is_over;  /* nothing new befalls it */
    bool is_quiet; /* nothing is under way */
    const struct true_step *step;
    int other;    /* whom the present step is about, beside the primary */
    bool is_kind; /* of several ways of what befalls it now, this one */

    void (*on_keys)(void *arg);           /* they have changed */
    void (*on_hook)(void *arg, int node); /* is going to be stopped; before_stop */
    void *arg;
};

/* All is well, and goes on so; after a while the first thing befalls it. The callbacks
 * are set afterwards. */
void true_cluster_begin(struct true_cluster *cluster, unsigned befalls);
/* What is under way ends well. */
void true_cluster_end(struct true_cluster *cluster);
bool true_cluster_is_writable(const struct true_cluster *cluster, int node);

#endif
