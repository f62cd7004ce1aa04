#include "router/console/averages.h"

#include <string.h>

#include "core/memory.h"

struct noted {
    struct link in_averages;
    struct pool_counts newer, older;
    char database[];
};

void averages_init(struct averages *averages, uint64_t now_ns)
{
    list_init(&averages->databases);
    averages->newer_at_ns = averages->older_at_ns = now_ns;
}

void averages_clear(struct averages *averages)
{
    if (averages->databases.head.next == NULL)
        return;
    LIST_EACH_SAFE(item, &averages->databases)
    {
        list_remove(&averages->databases, item);
        memory_free(CONTAINER_OF(item, struct noted, in_averages));
    }
}

static struct noted *find(const struct averages *averages, const char *database)
{
    LIST_EACH(item, &averages->databases)
    {
        struct noted *noted = CONTAINER_OF(item, struct noted, in_averages);

        if (strcmp(noted->database, database) == 0)
            return noted;
    }
    return NULL;
}

static struct noted *get(struct averages *averages, const char *database)
{
    struct noted *noted = find(averages, database);

    if (noted != NULL)
        return noted;
    noted = memory_zeroed(sizeof *noted + strlen(database) + 1);
    if (noted == NULL)
        return NULL;
    strcpy(noted->database, database);
    list_append(&averages->databases, &noted->in_averages);
    return noted;
}

void averages_note(struct averages *averages, const struct sums *sums, uint64_t now_ns)
{
    averages->older_at_ns = averages->newer_at_ns;
    averages->newer_at_ns = now_ns;
    LIST_EACH(item, &averages->databases)
    {
        struct noted *noted = CONTAINER_OF(item, struct noted, in_averages);

        noted->older = noted->newer;
        noted->newer = (struct pool_counts){0};
    }
    LIST_EACH(item, &sums->pools)
    {
        const struct pool_sum *sum = CONTAINER_OF(item, struct pool_sum, in_list);
        struct noted *noted = get(averages, sum->database);

        if (noted != NULL)
            pool_counts_add(&noted->newer, &sum->counts);
    }
}

/* Per second; of a time, its mean. */
static uint64_t mean_RATE(uint64_t n, const struct pool_counts *more, uint64_t ns)
{
    (void)more;
    return ns == 0 ? 0 : (uint64_t)((double)n * 1e9 / (double)ns);
}

static uint64_t mean_PER_QUERY(uint64_t n, const struct pool_counts *more, uint64_t ns)
{
    (void)ns;
    return more->queries == 0 ? 0 : n / more->queries;
}

static uint64_t mean_PER_TRANSACTION(uint64_t n, const struct pool_counts *more,
                                     uint64_t ns)
{
    (void)ns;
    return more->transactions == 0 ? 0 : n / more->transactions;
}

static uint64_t mean_PER_ASSIGNMENT(uint64_t n, const struct pool_counts *more,
                                    uint64_t ns)
{
    (void)ns;
    return more->server_assignments == 0 ? 0 : n / more->server_assignments;
}

/* Counts of a pool that was forgotten meanwhile are no less than none. */
static void compare(const struct pool_counts *now, const struct pool_counts *then,
                    uint64_t ns, struct pool_counts *average)
{
    struct pool_counts more;

#define COUNT(name, how) more.name = now->name > then->name ? now->name - then->name : 0;
#include "pool/counts.def"
#define COUNT(name, how) average->name = mean_##how(more.name, &more, ns);
#include "pool/counts.def"
}

void averages_of(const struct averages *averages, const char *database,
                 const struct pool_counts *counts, uint64_t now_ns,
                 struct pool_counts *average)
{
    static const struct pool_counts none;
    const struct noted *noted = find(averages, database);

    compare(counts, noted == NULL ? &none : &noted->older, now_ns - averages->older_at_ns,
            average);
}

void averages_of_all(const struct averages *averages, const struct pool_counts *counts,
                     uint64_t now_ns, struct pool_counts *average)
{
    struct pool_counts older = {0};

    LIST_EACH(item, &averages->databases)
    {
        pool_counts_add(&older, &CONTAINER_OF(item, struct noted, in_averages)->older);
    }
    compare(counts, &older, now_ns - averages->older_at_ns, average);
}
