/* health/node.h - one node under watch: its addresses, its checks, the verdict on it.
 *
 * A node is made anew with each configuration; node_inherit() hands over what is known.
 *
 * Thread: control only.
 */
#ifndef HEALTH_NODE_H
#define HEALTH_NODE_H

#include "core/http.h"
#include "core/resolver.h"
#include "health/inquiry.h"
#include "health/monitor.h"
#include "health/store_view.h"
#include "health/verdict.h"

/* One path of the cluster's check_uris, asked on this node. */
struct node_uri {
    struct node *node;
    struct inquiry inquiry;
    struct inquiry_plan plan;
    struct streak answers; /* whether anybody answers */
    bool says_ok;          /* the last answer was 200 */
};

enum denial { NOT_DENIED, DENIED_BY_FENCE, DENIED_BY_PATRONI };

struct node {
    uint32_t id;
    const struct node_config *config;
    struct node_load *load;
    struct verdict_settings settings;
    const struct store_view *view; /* of Patroni's keys; NULL: they are not watched */
    struct loop *loop;

    struct resolver_watch *watch;
    bool is_looked_up;                            /* the resolver has answered */
    char look_up_error[64];                       /* "" when it has found addresses */
    struct address addresses[NODE_ADDRESSES_MAX]; /* with PostgreSQL's port */
    size_t n_addresses;
    /* By an operator, with a port, in place of them; AF_UNSPEC: nobody has. */
    struct address told;

    struct inquiry inquiry;
    struct inquiry_plan plan;
    struct node_uri *uris;
    size_t n_uris;
    uint64_t round;  /* that is asked for */
    bool asks_again; /* once the present check has ended */
    ev_timer delayed;
    struct verdict verdict;
    void (*on_news)(void *arg, struct node *node, const struct verdict *before);
    void *arg;

    uint64_t checked_at_ms, n_failed;
    enum node_word word;
    bool awaits_check; /* it was in maintenance until now */
    unsigned weight;
    /* What the cluster keeps about the node as it is seen from outside. */
    bool is_served; /* up, in a role that is used */
    uint64_t changed_at_ms, n_downs, down_ms;
    uint64_t down_since_ms; /* 0 = it is not down */
    char described[48];     /* its state in words, as last logged */
    enum denial denial; /* of its wish to be written to, and the round that began it */
    uint64_t denied_in_round;
    bool is_warned_of;
    struct log_limit log_limit;
};

/* Borrowed for the lives of those that get them. */
struct node_tools {
    struct loop *loop;
    struct http *http;
    struct resolver *resolver;
    struct sql_turn *sql_turn;
    struct tls_registry *registry;
    struct tls_context *restapi_tls; /* how nodes' REST is asked; NULL: by http */
};

/* `config`, `cluster` and `uris` are borrowed for the node's life. `on_news` is called
 * from the loop after each check with the verdict before it, and with NULL when only
 * addresses or check_uris have changed. NULL when memory is out. */
struct node *
node_new(const struct node_tools *tools, const struct node_config *config,
         const struct cluster_config *cluster, char *const *uris, size_t n_uris,
         void (*on_news)(void *arg, struct node *node, const struct verdict *before),
         void *arg) MUST_CHECK;
void node_free(struct node *node); /* NULL is fine */

bool node_is_same(const struct node_config *a, const struct node_config *b);
/* Takes over id, load, verdict and counts of a node that is the same. */
void node_inherit(struct node *node, const struct node *old);

/* Asks all that is not under way yet, after `delay_ms`. */
void node_ask(struct node *node, uint64_t round, uint64_t delay_ms);
/* Asks now; a check that is under way may be out of date: it is made again after it. */
void node_ask_anew(struct node *node, uint64_t round);

/* Its REST is asked so from now on; borrowed, as that of the tools was. */
void node_set_restapi_tls(struct node *node, struct tls_context *tls);
/* In maintenance it is asked nothing, and what was known of it stays: but if it was the
 * primary, any other that claims to be is believed. */
void node_set_word(struct node *node, enum node_word word);

/* The node is there from now on, whatever its name leads to; its REST, too, at the port
 * of before. The address's port is PostgreSQL's, 0 = that of before. No new work goes
 * there before a check. False: it is there already, and nothing has changed. */
bool node_set_address(struct node *node, const struct address *address);
uint16_t node_port(const struct node *node); /* PostgreSQL's */

uint32_t node_uris_ok(const struct node *node); /* as topology_node's uris_ok */

#endif
