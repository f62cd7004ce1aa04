/* health/patroni_members.h - what Patroni's GET /cluster says of two nodes of ours, and
 * what POST /switchover is asked and answers. Pure.
 *
 * A node of ours may have another name than the member of Patroni's that it is: that is
 * found by its address, else by its name.
 *
 * Facts are from Patroni's api.py and utils.py (cluster_as_json()), 3.0 and 4.x. POST
 * /switchover: 200 = done; 202 = scheduled; 400, 412 and 503 with a sentence = not; 401
 * and 403 = may not. 503 is also what it says when it has waited long enough.
 */
#ifndef HEALTH_PATRONI_MEMBERS_H
#define HEALTH_PATRONI_MEMBERS_H

#include "core/text.h"
#include "health/topology.h"

#define PATRONI_NAME_MAX 256

struct patroni_members {
    char leader[PATRONI_NAME_MAX]; /* who leads; "" = nobody, as for the next two */
    char from[PATRONI_NAME_MAX];   /* who `from` is */
    char to[PATRONI_NAME_MAX];     /* who `to` is */
    bool is_paused;
};

/* `to` may be NULL. False when `body` is no such answer; it may be any bytes. */
bool patroni_read_members(const char *body, size_t length,
                          const struct topology_node *from,
                          const struct topology_node *to,
                          struct patroni_members *members) MUST_CHECK;
/* The body of POST /switchover; `candidate` may be "". False when memory is out. */
bool patroni_write_switchover(const char *leader, const char *candidate,
                              struct text *out) MUST_CHECK;
/* Patroni's own words in one printable line, cut to `size`. */
void patroni_read_words(const char *body, char *words, size_t size);
/* Whether that answer leaves it open what comes of the request. */
bool patroni_leaves_open(int http_status, const char *body);

#endif
