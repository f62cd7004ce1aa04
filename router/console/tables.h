/* router/console/tables.h - rows that control writes, of one moment's snapshot. */
#ifndef ROUTER_CONSOLE_TABLES_H
#define ROUTER_CONSOLE_TABLES_H

#include "health/topology.h"
#include "pool/halts.h"
#include "router/console/averages.h"
#include "router/console/chronicle.h"
#include "router/console/cluster_tables.h"
#include "router/console/question.h"
#include "router/console/switching.h"
#include "router/gather.h"

/* What all pools of a database have together. */
struct database_sum {
    const char *name;
    struct pool_counts counts;
    unsigned n_clients;
    unsigned n_servers;
};

/* What the rows of an answer are made of, until its last. */
struct snapshot {
    struct gather gather;
    struct desk *desk;
    struct question *question;
    struct sums *sums;         /* NULL where they are not asked for */
    struct config *config;     /* held */
    struct topology *topology; /* held; may be NULL */
    struct cluster_tables cluster_tables;
    struct switching_answer switched; /* of SWITCHOVER */
    struct chronicle *chronicle;      /* NULL where it is not asked for */
    const struct averages *averages;
    const struct halts *halts; /* borrowed: of the moment when a row is written */
    uint64_t now_ns;
    unsigned n_names, n_names_asked; /* of DNS */
    size_t at;                       /* rows that are answered */
    /* Made by tables_prepare(), in the order of the rows. */
    const struct pool_sum **pools;
    size_t n_pools;
    struct database_sum *databases; /* that have pools */
    size_t n_databases;
    struct {
        const struct database_config *settings; /* NULL: the console */
        struct database_sum sum;
    } * database_rows;
    size_t n_database_rows;
    const char **users;
    size_t n_users;
};

/* Before the first row, when all else is set; false when memory is out. */
bool tables_prepare(struct snapshot *snapshot) MUST_CHECK;
/* What that has made; a zeroed one is fine. */
void tables_clear(struct snapshot *snapshot);

/* Adds rows to the answer from where the last piece has ended; the question is_last when
 * all are there. */
void tables_answer(struct snapshot *snapshot, struct question *question);

#endif
