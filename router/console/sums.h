/* router/console/sums.h - what all workers have of each pool and user, added up while a
 * gather.h message goes round.
 *
 * Thread: whoever has the message.
 */
#ifndef ROUTER_CONSOLE_SUMS_H
#define ROUTER_CONSOLE_SUMS_H

#include "config/config.h"
#include "core/list.h"
#include "pool/pool.h"

struct worker;

/* Pools with the same database and user are one, unless a listener says their role. */
struct pool_sum {
    struct link in_list;
    char *key; /* database, zero byte, user, zero byte, the listener's role */
    const char *database;
    const char *user; /* as servers know it */
    enum pool_mode mode;
    enum listener_role role;
    unsigned n_clients; /* waiting ones too */
    unsigned n_waiting;
    struct pool_survey servers; /* but for its `why` */
    char why[160]; /* clients wait, in one of the workers; "" = nothing is known */
    struct pool_counts counts;
    struct pool_times_sum *times; /* NULL: they are not wanted, or it is the console */
    struct pool_errors *errors;   /* likewise */
};

struct user_sum {
    struct link in_list;
    char *name;
    unsigned n_clients; /* that came under this name */
    unsigned n_servers; /* that were logged in to under it */
};

struct sums {
    struct list pools; /* struct pool_sum, by database and user once they are sorted */
    struct list users; /* struct user_sum, by name likewise */
    void *pool_table, *user_table;                /* the same, to be found by name */
    unsigned n_clients, n_clients_idle, n_logins; /* of LISTS */
    unsigned n_servers, n_servers_idle;
    bool with_insight; /* set before the first worker: times and errors are wanted */
};

struct sums *sums_new(void) MUST_CHECK;
void sums_free(struct sums *sums); /* NULL is fine */
/* On the worker's thread; false when memory is out. */
bool sums_add_worker(struct sums *sums, const struct worker *worker) MUST_CHECK;
/* When all have added theirs. */
void sums_sort(struct sums *sums);
const struct user_sum *sums_user(const struct sums *sums, const char *name);

/* Servers of all states. */
unsigned pool_sum_servers(const struct pool_sum *sum);

#endif
