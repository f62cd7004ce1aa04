#include "pool/ledger_line.h"

/* ---- limits -------------------------------------------------------------------------
 */

bool ledger_line_is_full(const struct ledger_branch *branch, enum ledger_scope scope)
{
    const struct ledger_limit *limit = branch->limits[scope];
    bool may_use_reserve = scope == LEDGER_POOL && branch->n_overdue > 0;

    return limit->max > 0 && limit->n_used >= limit->max &&
           limit->n_used - limit->max >= (may_use_reserve ? branch->pool->reserve : 0);
}

struct ledger_limit *ledger_line_blocking(const struct ledger_branch *branch)
{
    for (enum ledger_scope scope = 0; scope < LEDGER_SCOPES; scope++)
        if (ledger_line_is_full(branch, scope))
            return branch->limits[scope];
    return NULL;
}

void ledger_line_take(struct ledger_branch *branch)
{
    for (enum ledger_scope scope = 0; scope < LEDGER_SCOPES; scope++)
        branch->limits[scope]->n_used++;
    branch->pool->n_used++;
    branch->n_used++;
    branch->limits[LEDGER_NODE]->gate.n_logins++;
}

/* ---- order --------------------------------------------------------------------------
 */

static struct ledger_waiter *at_desk(const struct link *item)
{
    return CONTAINER_OF(item, struct ledger_waiter, in_desk);
}

static struct ledger_waiter *in_line(const struct link *item)
{
    return CONTAINER_OF(item, struct ledger_waiter, in_line);
}

/* Puts `item` behind `place`, which may be the list's head. */
static void insert_behind(struct list *list, struct link *place, struct link *item)
{
    REQUIRE(!link_is_in_list(item));
    item->previous = place;
    item->next = place->next;
    place->next->previous = item;
    place->next = item;
    list->n++;
}

/* Sorts the waiter in by time. One that returns belongs near the front, all others at the
 * end: so its place is looked for from both sides. */
static void insert(struct list *list, struct link *item,
                   struct ledger_waiter *(*waiter_of)(const struct link *))
{
    uint64_t since_ns = waiter_of(item)->since_ns;
    struct link *front = list->head.next, *back = list->head.previous;

    for (;;) {
        if (back == &list->head || waiter_of(back)->since_ns <= since_ns) {
            insert_behind(list, back, item);
            return;
        }
        if (waiter_of(front)->since_ns > since_ns) {
            insert_behind(list, front->previous, item);
            return;
        }
        back = back->previous;
        front = front->next;
    }
}

struct ledger_waiter *ledger_line_older(struct ledger_waiter *a, struct ledger_waiter *b)
{
    if (a == NULL || b == NULL)
        return a == NULL ? b : a;
    return b->since_ns < a->since_ns ? b : a;
}

/* ---- desks --------------------------------------------------------------------------
 */

void ledger_line_enter_desk(struct ledger_waiter *waiter)
{
    struct ledger_pool *pool = waiter->branch->pool;

    insert(&pool->desks[waiter->worker].waiters, &waiter->in_desk, at_desk);
    ledger_add(&pool->n_waiting, 1);
}

void ledger_line_leave_desk(struct ledger_waiter *waiter)
{
    struct ledger_pool *pool = waiter->branch->pool;

    list_remove(&pool->desks[waiter->worker].waiters, &waiter->in_desk);
    ledger_subtract(&pool->n_waiting, 1);
}

struct ledger_waiter *ledger_line_first_at_desk(const struct ledger_pool *pool,
                                                unsigned worker)
{
    struct link *first = list_first(&pool->desks[worker].waiters);

    return first == NULL ? NULL : at_desk(first);
}

/* Written under the mutex only. */
unsigned ledger_line_n_waiting(const struct ledger_pool *pool)
{
    return atomic_load_explicit(&pool->n_waiting, memory_order_relaxed);
}

/* ---- lines --------------------------------------------------------------------------
 */

void ledger_line_set_blocked_at(struct ledger_branch *branch, struct ledger_limit *limit)
{
    if (branch->blocked_at == limit)
        return;
    if (limit != NULL)
        ledger_add(&limit->n_blocked, 1);
    if (branch->blocked_at != NULL)
        ledger_subtract(&branch->blocked_at->n_blocked, 1);
    branch->blocked_at = limit;
    branch->is_dry = false;
}

void ledger_line_enter(struct ledger_waiter *waiter)
{
    struct ledger_branch *branch = waiter->branch;

    waiter->state = LEDGER_IN_LINE;
    insert(&branch->seats[waiter->worker].line, &waiter->in_line, in_line);
    branch->pool->n_uncovered++;
    branch->n_overdue += waiter->is_overdue;
    if (++branch->n_lined == 1)
        for (int scope = 0; scope < LEDGER_SCOPES; scope++)
            list_append(&branch->limits[scope]->lines, &branch->in_lines[scope].link);
}

void ledger_line_leave(const struct ledger *ledger, struct ledger_waiter *waiter)
{
    struct ledger_branch *branch = waiter->branch;
    struct ledger_slot *victim = waiter->slot;

    if (victim != NULL)
        ledger_line_unpromise(waiter);
    list_remove(&branch->seats[waiter->worker].line, &waiter->in_line);
    branch->pool->n_uncovered--;
    branch->n_overdue -= waiter->is_overdue;
    if (--branch->n_lined == 0) {
        for (int scope = 0; scope < LEDGER_SCOPES; scope++)
            list_remove(&branch->limits[scope]->lines, &branch->in_lines[scope].link);
        ledger_line_set_blocked_at(branch, NULL);
    }
    if (victim != NULL && branch->n_lined > branch->n_promised)
        ledger_line_promise(victim, ledger_line_first_unpromised(ledger, branch));
}

struct ledger_waiter *ledger_line_first(const struct ledger *ledger,
                                        const struct ledger_branch *branch)
{
    struct ledger_waiter *first = NULL;

    for (unsigned i = 0; i < ledger->n_workers; i++)
        if (branch->seats[i].line.n > 0)
            first = ledger_line_older(first, in_line(list_first(&branch->seats[i].line)));
    return first;
}

struct ledger_waiter *ledger_line_first_unpromised(const struct ledger *ledger,
                                                   const struct ledger_branch *branch)
{
    struct ledger_waiter *first = NULL;

    for (unsigned i = 0; i < ledger->n_workers; i++) {
        LIST_EACH(item, &branch->seats[i].line)
        {
            if (in_line(item)->slot == NULL) {
                first = ledger_line_older(first, in_line(item));
                break;
            }
        }
    }
    return first;
}

/* ---- slots that are for somebody ----------------------------------------------------
 */

void ledger_line_tie(struct ledger_slot *slot, struct ledger_waiter *waiter)
{
    REQUIRE(slot->waiter == NULL && waiter->slot == NULL);
    slot->waiter = waiter;
    waiter->slot = slot;
}

void ledger_line_untie(struct ledger_waiter *waiter)
{
    waiter->slot->waiter = NULL;
    waiter->slot = NULL;
}

void ledger_line_promise(struct ledger_slot *slot, struct ledger_waiter *waiter)
{
    ledger_line_tie(slot, waiter);
    waiter->branch->n_promised++;
    waiter->branch->pool->n_promised++;
}

void ledger_line_unpromise(struct ledger_waiter *waiter)
{
    waiter->branch->n_promised--;
    waiter->branch->pool->n_promised--;
    ledger_line_untie(waiter);
}
