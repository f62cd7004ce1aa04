#include "pool/ledger.h"

#include <limits.h>

#include "pool/ledger_line.h"

/* ---- notices ------------------------------------------------------------------------
 */

struct ledger_notice *ledger_todo_next(struct ledger_todo *todo)
{
    struct ledger_notice *notice = todo->first;

    if (notice == NULL)
        return NULL;
    todo->first = notice->next;
    if (todo->first == NULL)
        todo->last = NULL;
    notice->next = NULL;
    return notice;
}

/* One that is under way already will do. */
static void notify(struct ledger_notice *notice, unsigned worker,
                   enum ledger_notice_kind kind, struct ledger_todo *todo)
{
    if (notice->is_under_way)
        return;
    notice->is_under_way = true;
    notice->kind = kind;
    notice->worker = (uint16_t)worker;
    notice->next = NULL;
    if (todo->last != NULL)
        todo->last->next = notice;
    else
        todo->first = notice;
    todo->last = notice;
}

struct ledger_waiter *ledger_notice_waiter(struct ledger_notice *notice)
{
    return CONTAINER_OF(notice, struct ledger_waiter, grant);
}

struct ledger_branch *ledger_notice_branch(struct ledger_notice *notice)
{
    struct ledger_seat *seat = CONTAINER_OF(notice, struct ledger_seat, ask);

    return CONTAINER_OF(seat - notice->worker, struct ledger_branch, seats);
}

/* No worker: as good as any. */
#define NOBODY UINT_MAX

/* ---- idle servers are asked for -----------------------------------------------------
 */

static void ask(struct ledger_branch *branch, unsigned worker, unsigned n_idle,
                struct ledger_todo *todo)
{
    branch->seats[worker].n_expected = n_idle;
    branch->pool->n_expected += n_idle;
    branch->references++;
    notify(&branch->seats[worker].ask, worker, LEDGER_ASK, todo);
}

/* `n` of those that the worker was asked for are accounted for. */
static void expect_less(struct ledger_branch *branch, unsigned worker, unsigned n)
{
    struct ledger_seat *seat = &branch->seats[worker];

    if (n > seat->n_expected)
        n = seat->n_expected;
    seat->n_expected -= n;
    branch->pool->n_expected -= n;
}

/* Not while there are idle servers on their way for all. */
static bool wants_slots(const struct ledger_pool *pool)
{
    return pool->n_uncovered > pool->n_expected + pool->n_coming;
}

/* A seat, and how many servers are idle there. */
struct find {
    struct ledger_branch *branch;
    unsigned worker;
    unsigned n_idle;
};

/* Betters `best` by a seat of the branch that is not asked yet; one of `worker` is better
 * than all others. Returns how many servers are idle at those that are asked. */
static unsigned look_at(const struct ledger *ledger, struct ledger_branch *branch,
                        unsigned worker, struct find *best)
{
    unsigned n_asked_for = 0;

    for (unsigned i = 0; i < ledger->n_workers; i++) {
        unsigned n_idle = ledger_read(&branch->seats[i].n_idle);

        if (branch->seats[i].ask.is_under_way)
            n_asked_for += n_idle;
        else if (n_idle > 0 && (n_idle > best->n_idle || i == worker) &&
                 (best->n_idle == 0 || best->worker != worker))
            *best = (struct find){branch, i, n_idle};
    }
    return n_asked_for;
}

/* For those who wait, one of `worker` among them. */
static void ask_for_idle(const struct ledger *ledger, struct ledger_pool *pool,
                         unsigned worker, struct ledger_todo *todo)
{
    while (ledger_line_n_waiting(pool) > pool->n_expected) {
        struct find best = {0};

        LIST_EACH(item, &pool->branches)
        {
            look_at(ledger, ledger_line_in_pool(item), worker, &best);
        }
        if (best.n_idle == 0)
            return;
        ask(best.branch, best.worker, best.n_idle, todo);
    }
}

/* ---- victims ------------------------------------------------------------------------
 *
 * A line may have servers closed that are idle in other pools and take from all limits
 * that hold it up. While it is counted in n_blocked of one of these, every server that
 * becomes idle under this limit is offered first, so a look that found none holds.
 */

/* For how many of the line a server is to be closed: no more than the pool has room for,
 * unless it is the pool's own limit, shared with others, that is full. */
static unsigned n_victims_wanted(const struct ledger_branch *branch)
{
    const struct ledger_limit *limit = branch->limits[LEDGER_POOL];
    unsigned n = branch->n_lined - branch->n_promised, n_taken, max, room;

    if (n == 0 || branch->blocked_at == NULL || !wants_slots(branch->pool))
        return 0;
    if (limit->max == 0 || ledger_line_is_full(branch, LEDGER_POOL))
        return n;
    n_taken = limit->n_used + branch->pool->n_promised;
    max = limit->max + (branch->n_overdue > 0 ? branch->pool->reserve : 0);
    room = n_taken < max ? max - n_taken : 0;
    return n < room ? n : room;
}

/* Does the end of such a server free all that the line is in want of? */
static bool would_help(const struct ledger_branch *victim,
                       const struct ledger_branch *branch)
{
    if (victim->pool == branch->pool)
        return false;
    for (enum ledger_scope scope = 0; scope < LEDGER_SCOPES; scope++)
        if (victim->limits[scope] != branch->limits[scope] &&
            ledger_line_is_full(branch, scope))
            return false;
    return true;
}

static void look_for_victims(const struct ledger *ledger, struct ledger_branch *branch,
                             struct ledger_todo *todo)
{
    unsigned n_wanted, n_coming;

    if (branch->is_dry || (n_wanted = n_victims_wanted(branch)) == 0)
        return;
    for (;;) {
        struct find best = {0};

        n_coming = 0;
        LIST_EACH(item, &branch->blocked_at->branches)
        {
            if (would_help(ledger_line_member(item), branch))
                n_coming += look_at(ledger, ledger_line_member(item), NOBODY, &best);
        }
        if (n_coming >= n_wanted || best.n_idle == 0)
            break;
        ask(best.branch, best.worker, best.n_idle, todo);
    }
    branch->is_dry = n_coming == 0;
}

/* The first of all waiters that would be helped by the end of such a server. */
static struct ledger_waiter *first_helped(const struct ledger *ledger,
                                          const struct ledger_branch *victim)
{
    struct ledger_waiter *first = NULL;

    for (int scope = 0; scope < LEDGER_SCOPES; scope++) {
        LIST_EACH(item, &victim->limits[scope]->lines)
        {
            struct ledger_branch *branch = ledger_line_member(item);

            if (branch->blocked_at == victim->limits[scope] &&
                would_help(victim, branch) && n_victims_wanted(branch) > 0)
                first = ledger_line_older(first,
                                          ledger_line_first_unpromised(ledger, branch));
        }
    }
    return first;
}

/* A server of the branch is idle now: lines that found none may look again. */
static void make_victim(const struct ledger_branch *victim)
{
    for (int scope = 0; scope < LEDGER_SCOPES; scope++) {
        LIST_EACH(item, &victim->limits[scope]->lines)
        {
            if (ledger_line_member(item)->blocked_at == victim->limits[scope])
                ledger_line_member(item)->is_dry = false;
        }
    }
}

/* Other lines that had counted on idle servers of the branch look on elsewhere. */
static void let_others_look(const struct ledger *ledger,
                            const struct ledger_branch *victim, struct ledger_todo *todo)
{
    for (int scope = 0; scope < LEDGER_SCOPES; scope++) {
        LIST_EACH(item, &victim->limits[scope]->lines)
        {
            if (ledger_line_member(item)->blocked_at == victim->limits[scope])
                look_for_victims(ledger, ledger_line_member(item), todo);
        }
    }
}

/* ---- slots --------------------------------------------------------------------------
 */

static void grant(const struct ledger *ledger, struct ledger_waiter *waiter,
                  struct ledger_todo *todo)
{
    ledger_line_take(waiter->branch);
    ledger_line_leave(ledger, waiter);
    waiter->state = LEDGER_GRANTED;
    notify(&waiter->grant, waiter->worker, LEDGER_GRANT, todo);
}

/* The first of the line, if it can have a slot now. */
static struct ledger_waiter *candidate(const struct ledger *ledger,
                                       const struct ledger_branch *branch)
{
    if (branch->n_lined == 0 || !wants_slots(branch->pool) ||
        !ledger_gate_is_open(ledger, branch) || ledger_line_blocking(branch) != NULL)
        return NULL;
    return ledger_line_first(ledger, branch);
}

static void note_what_blocks(const struct ledger *ledger, struct ledger_branch *branch,
                             struct ledger_todo *todo)
{
    ledger_line_set_blocked_at(branch, ledger_line_blocking(branch));
    look_for_victims(ledger, branch, todo);
}

/* Looks for idle servers, those of `worker` first, and gives slots to those of the pool
 * who can have one. */
static void settle_pool(const struct ledger *ledger, struct ledger_pool *pool,
                        unsigned worker, struct ledger_todo *todo)
{
    struct ledger_waiter *first;

    ask_for_idle(ledger, pool, worker, todo);
    do {
        first = NULL;
        LIST_EACH(item, &pool->branches)
        {
            first =
                ledger_line_older(first, candidate(ledger, ledger_line_in_pool(item)));
        }
        if (first != NULL)
            grant(ledger, first, todo);
    } while (first != NULL);
    LIST_EACH(item, &pool->branches)
    {
        struct ledger_branch *branch = ledger_line_in_pool(item);

        if (branch->n_lined > 0)
            note_what_blocks(ledger, branch, todo);
    }
}

/* Gives slots to those of all pools who can have one now that these limits have room.
 * NULLs are left out. Costs a look at each line that takes from them. */
static void settle_limits(const struct ledger *ledger,
                          struct ledger_limit *const limits[LEDGER_SCOPES],
                          struct ledger_todo *todo)
{
    struct ledger_waiter *first;

    do {
        first = NULL;
        for (int scope = 0; scope < LEDGER_SCOPES; scope++) {
            if (limits[scope] == NULL)
                continue;
            LIST_EACH(item, &limits[scope]->lines)
            {
                first =
                    ledger_line_older(first, candidate(ledger, ledger_line_member(item)));
            }
        }
        if (first != NULL)
            grant(ledger, first, todo);
    } while (first != NULL);
    for (int scope = 0; scope < LEDGER_SCOPES; scope++) {
        if (limits[scope] == NULL)
            continue;
        LIST_EACH(item, &limits[scope]->lines)
        {
            ledger_line_member(item)->is_dry = false;
            note_what_blocks(ledger, ledger_line_member(item), todo);
        }
    }
}

/* A slot of the branch is free: to `heir` if it can take it, and what is left of it to
 * the first that can. */
static void put_back(const struct ledger *ledger, struct ledger_branch *branch,
                     struct ledger_waiter *heir, enum ledger_login login,
                     struct ledger_todo *todo)
{
    struct ledger_limit *freed[LEDGER_SCOPES] = {NULL};
    struct ledger_limit *node = branch->limits[LEDGER_NODE];

    if (login != LEDGER_LOGIN_NONE) {
        ledger_gate_leave(ledger, node, login);
        freed[LEDGER_NODE] = node;
    }
    branch->pool->n_used--;
    branch->n_used--;
    for (int scope = 0; scope < LEDGER_SCOPES; scope++) {
        struct ledger_limit *limit = branch->limits[scope];

        /* Nobody has waited for a limit that was not full. */
        if (limit->max > 0 && limit->n_used >= limit->max)
            freed[scope] = limit;
        limit->n_used--;
    }
    if (heir != NULL && ledger_gate_is_open(ledger, heir->branch) &&
        ledger_line_blocking(heir->branch) == NULL)
        grant(ledger, heir, todo);
    settle_limits(ledger, freed, todo);
    ledger_gate_rest(node);
}

void ledger_set_login_concurrency(struct ledger *ledger, unsigned max)
{
    ledger_lock(ledger);
    ledger->login_concurrency = max;
    ledger_unlock(ledger);
}

void ledger_followed(struct ledger *ledger, unsigned worker, uint64_t generation,
                     struct ledger_todo *todo)
{
    struct ledger_limit *node;

    ledger_lock(ledger);
    if (ledger->followed[worker] < generation)
        ledger->followed[worker] = generation;
    while ((node = ledger_gate_end_muster(ledger, 0)) != NULL)
        settle_limits(ledger, (struct ledger_limit *[LEDGER_SCOPES]){node}, todo);
    ledger_unlock(ledger);
}

void ledger_end_late_musters(struct ledger *ledger, uint64_t now_ns,
                             struct ledger_todo *todo)
{
    struct ledger_limit *node;

    if (atomic_load(&ledger->n_musters) == 0)
        return;
    ledger_lock(ledger);
    while ((node = ledger_gate_end_muster(ledger, now_ns)) != NULL)
        settle_limits(ledger, (struct ledger_limit *[LEDGER_SCOPES]){node}, todo);
    ledger_unlock(ledger);
}

void ledger_limit_set(struct ledger *ledger, struct ledger_limit *limit, unsigned max,
                      struct ledger_todo *todo)
{
    ledger_lock(ledger);
    limit->max = max;
    settle_limits(ledger, (struct ledger_limit *[LEDGER_SCOPES]){limit}, todo);
    ledger_unlock(ledger);
}

void ledger_pool_set_reserve(struct ledger *ledger, struct ledger_pool *pool,
                             unsigned reserve, struct ledger_todo *todo)
{
    ledger_lock(ledger);
    pool->reserve = reserve;
    settle_pool(ledger, pool, NOBODY, todo);
    ledger_unlock(ledger);
}

bool ledger_try_up_to(struct ledger *ledger, struct ledger_branch *branch, unsigned max,
                      struct ledger_slot *slot)
{
    bool is_free;

    REQUIRE(slot->branch == NULL);
    ledger_lock(ledger);
    is_free = branch->n_lined == 0 && branch->n_used < max &&
              ledger_gate_is_open(ledger, branch) && ledger_line_blocking(branch) == NULL;
    if (is_free) {
        ledger_line_take(branch);
        slot->branch = branch;
        slot->is_login = true;
    }
    ledger_unlock(ledger);
    return is_free;
}

bool ledger_try(struct ledger *ledger, struct ledger_branch *branch,
                struct ledger_slot *slot)
{
    return ledger_try_up_to(ledger, branch, UINT_MAX, slot);
}

void ledger_expect(struct ledger *ledger, struct ledger_pool *pool)
{
    ledger_lock(ledger);
    pool->n_coming++;
    ledger_unlock(ledger);
}

void ledger_expect_no_more(struct ledger *ledger, struct ledger_pool *pool,
                           struct ledger_todo *todo)
{
    ledger_lock(ledger);
    REQUIRE(pool->n_coming > 0);
    pool->n_coming--;
    settle_pool(ledger, pool, NOBODY, todo);
    ledger_unlock(ledger);
}

/* ---- waiters ------------------------------------------------------------------------
 */

/* Out of every line; what it has goes to others. */
static void leave(const struct ledger *ledger, struct ledger_waiter *waiter,
                  enum ledger_state next, struct ledger_todo *todo)
{
    enum ledger_state state = waiter->state;

    waiter->state = next;
    if (state == LEDGER_OUT || state == LEDGER_HANDED)
        return;
    ledger_line_leave_desk(waiter);
    if (state == LEDGER_IN_LINE)
        ledger_line_leave(ledger, waiter);
    else if (state == LEDGER_OPENING)
        ledger_line_untie(waiter);
    else
        put_back(ledger, waiter->branch, NULL, LEDGER_LOGIN_NOT_BEGUN, todo);
}

void ledger_join(struct ledger *ledger, struct ledger_waiter *waiter,
                 struct ledger_todo *todo)
{
    REQUIRE(waiter->worker < ledger->n_workers);
    ledger_lock(ledger);
    REQUIRE(waiter->state == LEDGER_OUT);
    waiter->is_overdue = false;
    ledger_line_enter_desk(waiter);
    ledger_line_enter(waiter);
    settle_pool(ledger, waiter->branch->pool, waiter->worker, todo);
    ledger_unlock(ledger);
}

void ledger_withdraw(struct ledger *ledger, struct ledger_waiter *waiter,
                     struct ledger_todo *todo)
{
    ledger_lock(ledger);
    leave(ledger, waiter, LEDGER_OUT, todo);
    ledger_unlock(ledger);
}

void ledger_move(struct ledger *ledger, struct ledger_waiter *waiter,
                 struct ledger_branch *branch, struct ledger_todo *todo)
{
    struct ledger_branch *old = waiter->branch;
    enum ledger_state state;

    REQUIRE(branch->pool == old->pool);
    ledger_lock(ledger);
    state = waiter->state;
    if (state == LEDGER_IN_LINE)
        ledger_line_leave(ledger, waiter);
    else if (state == LEDGER_OPENING)
        ledger_line_untie(waiter);
    waiter->branch = branch;
    if (state == LEDGER_IN_LINE || state == LEDGER_OPENING || state == LEDGER_GRANTED)
        ledger_line_enter(waiter);
    if (state == LEDGER_GRANTED)
        put_back(ledger, old, NULL, LEDGER_LOGIN_NOT_BEGUN, todo);
    settle_pool(ledger, branch->pool, waiter->worker, todo);
    ledger_unlock(ledger);
}

void ledger_ask_reserve(struct ledger *ledger, struct ledger_waiter *waiter,
                        struct ledger_todo *todo)
{
    ledger_lock(ledger);
    if (waiter->state == LEDGER_IN_LINE && !waiter->is_overdue) {
        waiter->branch->n_overdue++;
        waiter->is_overdue = true;
        settle_pool(ledger, waiter->branch->pool, waiter->worker, todo);
    }
    waiter->is_overdue = true;
    ledger_unlock(ledger);
}

bool ledger_accept(struct ledger *ledger, struct ledger_notice *notice,
                   struct ledger_slot *slot)
{
    struct ledger_waiter *waiter = ledger_notice_waiter(notice);
    bool has_slot;

    REQUIRE(slot->branch == NULL);
    ledger_lock(ledger);
    REQUIRE(notice->is_under_way);
    notice->is_under_way = false;
    has_slot = waiter->state == LEDGER_GRANTED;
    if (has_slot) {
        waiter->state = LEDGER_OPENING;
        slot->branch = waiter->branch;
        slot->is_login = true;
        ledger_line_tie(slot, waiter);
    }
    ledger_unlock(ledger);
    return has_slot;
}

/* It has succeeded: who waits for that may have a slot now. */
static void end_login(const struct ledger *ledger, struct ledger_slot *slot,
                      struct ledger_todo *todo)
{
    struct ledger_limit *node = slot->branch->limits[LEDGER_NODE];

    if (!slot->is_login)
        return;
    slot->is_login = false;
    ledger_gate_leave(ledger, node, LEDGER_LOGIN_DONE);
    settle_limits(ledger, (struct ledger_limit *[LEDGER_SCOPES]){node}, todo);
    ledger_gate_rest(node);
}

struct ledger_waiter *ledger_opened(struct ledger *ledger, struct ledger_slot *slot,
                                    struct ledger_todo *todo)
{
    struct ledger_waiter *waiter;

    ledger_lock(ledger);
    waiter = slot->waiter;
    REQUIRE(waiter == NULL || waiter->state == LEDGER_OPENING);
    if (waiter != NULL)
        leave(ledger, waiter, LEDGER_OUT, todo);
    end_login(ledger, slot, todo);
    ledger_unlock(ledger);
    return waiter;
}

void ledger_give(struct ledger *ledger, struct ledger_slot *slot,
                 struct ledger_todo *todo)
{
    struct ledger_waiter *waiter, *heir = NULL;

    REQUIRE(slot->branch != NULL);
    ledger_lock(ledger);
    waiter = slot->waiter;
    if (waiter != NULL && waiter->state == LEDGER_IN_LINE) {
        ledger_line_unpromise(waiter);
        heir = waiter;
    } else if (waiter != NULL) { /* the server could not be opened */
        ledger_line_untie(waiter);
        ledger_line_enter(waiter);
    }
    put_back(ledger, slot->branch, heir,
             slot->is_login ? LEDGER_LOGIN_FAILED : LEDGER_LOGIN_NONE, todo);
    if (waiter != heir)
        settle_pool(ledger, waiter->branch->pool, waiter->worker, todo);
    slot->branch = NULL;
    slot->is_login = false;
    ledger_unlock(ledger);
}

bool ledger_receive(struct ledger *ledger, struct ledger_waiter *waiter,
                    const struct ledger_pool *pool, struct ledger_todo *todo)
{
    bool takes;

    ledger_lock(ledger);
    REQUIRE(waiter->n_handed > 0);
    waiter->n_handed--;
    takes = waiter->state != LEDGER_OUT && waiter->branch->pool == pool;
    if (takes) {
        leave(ledger, waiter, LEDGER_OUT, todo);
    } else if (waiter->state == LEDGER_HANDED && waiter->n_handed == 0) {
        ledger_line_enter_desk(waiter);
        ledger_line_enter(waiter);
        settle_pool(ledger, waiter->branch->pool, waiter->worker, todo);
    }
    ledger_unlock(ledger);
    return takes;
}

const char *ledger_blocking(struct ledger *ledger, const struct ledger_waiter *waiter)
{
    const struct ledger_limit *limit = NULL;
    bool is_gate = false;

    ledger_lock(ledger);
    if (waiter->state == LEDGER_IN_LINE) {
        limit = ledger_line_blocking(waiter->branch);
        is_gate = limit == NULL && !ledger_gate_is_open(ledger, waiter->branch);
    }
    ledger_unlock(ledger);
    if (is_gate)
        return "login_concurrency";
    return limit == NULL ? NULL : limit->name;
}

/* ---- servers in hand ----------------------------------------------------------------
 */

/* Who gets it; NULL when nobody can. */
static struct ledger_waiter *pick(const struct ledger *ledger,
                                  const struct ledger_offer *offer)
{
    const struct ledger_pool *pool = offer->slot->branch->pool;
    struct ledger_waiter *own = ledger_line_first_at_desk(pool, offer->worker),
                         *other = NULL;

    if (!offer->may_leave)
        return own;
    for (unsigned i = 0; i < ledger->n_workers; i++)
        if (i != offer->worker)
            other = ledger_line_older(other, ledger_line_first_at_desk(pool, i));
    if (own == NULL || other == NULL)
        return own == NULL ? other : own;
    return own->since_ns > other->since_ns &&
                   own->since_ns - other->since_ns > offer->window_ns
               ? other
               : own;
}

static enum ledger_use serve(const struct ledger *ledger,
                             const struct ledger_offer *offer, struct ledger_waiter **to,
                             struct ledger_todo *todo)
{
    struct ledger_branch *branch = offer->slot->branch;
    struct ledger_waiter *waiter;

    if (ledger_line_n_waiting(branch->pool) > 0) {
        waiter = pick(ledger, offer);
        if (waiter == NULL) /* who waits elsewhere cannot have it: let it have its slot */
            return LEDGER_CLOSE;
        *to = waiter;
        expect_less(branch, offer->worker, 1);
        if (waiter->worker == offer->worker) {
            leave(ledger, waiter, LEDGER_OUT, todo);
            return LEDGER_LEND;
        }
        waiter->n_handed++;
        leave(ledger, waiter, LEDGER_HANDED, todo);
        return LEDGER_HAND;
    }
    waiter = first_helped(ledger, branch);
    if (waiter != NULL) {
        expect_less(branch, offer->worker, 1);
        ledger_line_promise(offer->slot, waiter);
        return LEDGER_CLOSE;
    }
    ledger_show(branch, offer->worker);
    make_victim(branch);
    return LEDGER_KEEP;
}

enum ledger_use ledger_serve(struct ledger *ledger, const struct ledger_offer *offer,
                             struct ledger_waiter **waiter, struct ledger_todo *todo)
{
    enum ledger_use use;

    ledger_lock(ledger);
    REQUIRE(offer->slot->branch != NULL && offer->slot->waiter == NULL);
    use = serve(ledger, offer, waiter, todo);
    ledger_unlock(ledger);
    return use;
}

void ledger_answered(struct ledger *ledger, struct ledger_notice *notice,
                     struct ledger_todo *todo)
{
    struct ledger_branch *branch = ledger_notice_branch(notice);

    ledger_lock(ledger);
    REQUIRE(notice->is_under_way);
    notice->is_under_way = false;
    expect_less(branch, notice->worker, UINT_MAX);
    settle_pool(ledger, branch->pool, NOBODY, todo);
    let_others_look(ledger, branch, todo);
    ledger_line_release(branch);
    ledger_unlock(ledger);
}
