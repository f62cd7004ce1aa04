#include "router/tally.h"

#include <stdio.h>
#include <string.h>

#include "core/memory.h"

struct tally *tally_find(const struct list *tallies, const char *listener,
                         uint32_t node_id)
{
    LIST_EACH(item, tallies)
    {
        struct tally *tally = CONTAINER_OF(item, struct tally, in_list);

        if (tally->node_id == node_id && strcmp(tally->listener, listener) == 0)
            return tally;
    }
    return NULL;
}

struct tally *tally_get(struct list *tallies, const char *listener, uint32_t node_id)
{
    struct tally *tally = tally_find(tallies, listener, node_id);

    if (tally != NULL)
        return tally;
    tally = memory_zeroed(sizeof *tally);
    if (tally == NULL)
        return NULL;
    snprintf(tally->listener, sizeof tally->listener, "%s", listener);
    tally->node_id = node_id;
    list_append(tallies, &tally->in_list);
    return tally;
}

static uint64_t merge_SUM(uint64_t a, uint64_t b)
{
    return a + b;
}

static uint64_t merge_MAX(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

void tally_add(struct tally *to, const struct tally *one)
{
#define TALLY(name, how, text) to->name = merge_##how(to->name, one->name);
#include "router/tally.def"
}

bool tally_merge(struct list *to, const struct list *from)
{
    LIST_EACH(item, from)
    {
        const struct tally *one = CONTAINER_OF(item, struct tally, in_list);
        struct tally *sum = tally_get(to, one->listener, one->node_id);

        if (sum == NULL)
            return false;
        tally_add(sum, one);
    }
    return true;
}

static uint64_t reset_SUM(uint64_t value, bool all)
{
    return all ? 0 : value;
}

static uint64_t reset_MAX(uint64_t value, bool all)
{
    (void)value;
    (void)all;
    return 0;
}

void tally_reset(struct list *tallies, bool all)
{
    LIST_EACH(item, tallies)
    {
        struct tally *one = CONTAINER_OF(item, struct tally, in_list);
        uint64_t now = one->sessions_now, last_s = one->last_session_s;

#define TALLY(name, how, text) one->name = reset_##how(one->name, all);
#include "router/tally.def"
        one->sessions_now = one->sessions_max = now;
        one->last_session_s = last_s;
    }
}

void tally_clear(struct list *tallies)
{
    LIST_EACH_SAFE(item, tallies)
    {
        list_remove(tallies, item);
        memory_free(CONTAINER_OF(item, struct tally, in_list));
    }
}
