/* router/console/desk.h - control's side of the console: commands are carried out, and
 * what all workers have is asked of them and written down in rows.
 *
 * Thread: control.
 */
#ifndef ROUTER_CONSOLE_DESK_H
#define ROUTER_CONSOLE_DESK_H

#include "router/console/tables.h"

struct desk;

/* What the desk needs of its owner. */
struct desk_source {
    /* Sends the message round; its on_home is the desk's own. False: not now. */
    bool (*begin_gathering)(void *arg, struct gather *gather);
    struct config *(*config)(void *arg);         /* borrowed */
    struct topology *(*topology)(void *arg);     /* borrowed, may be NULL */
    const struct monitor *(*monitor)(void *arg); /* borrowed */
    void (*count_names)(void *arg, unsigned *n, unsigned *n_asked); /* of DNS */
    /* Clients without a pool that wait for a node of the cluster. */
    unsigned (*count_waiting)(void *arg, const char *cluster);
    /* As switching_begin(); `on_end` is called in any case. */
    void (*switch_over)(void *arg, const struct switchover_order *order, const char *user,
                        void (*on_end)(void *arg, const struct switching_answer *answer),
                        void *on_end_arg);
    /* Forgets what fences primaries off, as monitor_reset(). False: `why` says it. */
    bool (*reset_cluster)(void *arg, const char *cluster, const char *user,
                          char why[MONITOR_WHY_MAX]);
    /* As halting_begin(). */
    void (*halt)(void *arg, enum command_name command, const char *operand,
                 const char *user,
                 void (*on_end)(void *arg, const char *sqlstate, const char *why),
                 void *on_end_arg);
    const struct halts *(*halts)(void *arg); /* borrowed */
    /* What was, for SHOW EVENTS and SHOW HISTORY. */
    void (*copy_chronicle)(void *arg, struct chronicle *chronicle);
    /* Of "node", or "cluster/node". False: there is none of that name, or several. */
    bool (*set_word)(void *arg, const char *node, enum node_word word, const char *user);
    /* False: the old configuration goes on, and `errors` says why. */
    bool (*reload)(void *arg, struct text *errors);
    /* COMMAND_SHUTDOWN and those like it. */
    void (*shut_down)(void *arg, enum command_name how);
};

/* NULL when memory is out. */
struct desk *desk_new(struct loop *loop, const struct desk_source *source,
                      void *arg) MUST_CHECK;
/* Every question must have been answered. NULL is fine. */
void desk_free(struct desk *desk);
/* There is a new configuration: stats_period. */
void desk_configure(struct desk *desk);
/* No question and no average is begun any more. */
void desk_stop(struct desk *desk);
/* A question has come. It goes home when there is an answer. */
void desk_ask(struct desk *desk, struct question *question);

#endif
