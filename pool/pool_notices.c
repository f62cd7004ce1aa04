#include "pool/pool_inside.h"

static struct pool_branch *find_branch(const struct pools *pools,
                                       const struct ledger_branch *ledger_branch)
{
    TABLE_EACH_LIKE(item, &pools->by_branch,
                    table_hash(&pools->by_branch, &ledger_branch, sizeof ledger_branch))
    {
        struct pool_branch *branch = CONTAINER_OF(item, struct pool_branch, in_table);

        if (branch->ledger_branch == ledger_branch)
            return branch;
    }
    return NULL;
}

/* The idle ones are offered, until one of them is kept. */
static void offer_idle(struct pool *pool, const struct pool_branch *branch)
{
    LIST_EACH_SAFE(item, &pool->idle)
    {
        struct member *member = member_in(item);

        if (member->branch != branch)
            continue;
        ledger_hide(branch->ledger_branch, pool->pools->worker);
        member_pick(member);
        member_offer(member);
        if (member->pooled.state == POOLED_IDLE)
            return;
    }
}

static void on_ask(struct pools *pools, struct ledger_notice *notice)
{
    struct ledger_todo todo = {0};
    struct pool_branch *branch = find_branch(pools, ledger_notice_branch(notice));

    if (branch != NULL)
        offer_idle(branch->pool, branch);
    ledger_answered(pools->ledger, notice, &todo);
    pools_post(pools, &todo);
}

static void on_notice(struct message *message, void *receiver)
{
    struct ledger_notice *notice = CONTAINER_OF(message, struct ledger_notice, message);
    struct pools *pools = receiver;

    switch (notice->kind) {
    case LEDGER_GRANT:
        pools_on_grant(pools, notice);
        break;
    case LEDGER_ASK:
        on_ask(pools, notice);
        break;
    }
}

void pools_post(struct pools *pools, struct ledger_todo *todo)
{
    struct ledger_notice *notice;

    while ((notice = ledger_todo_next(todo)) != NULL)
        mailbox_post(pools->all[notice->worker]->mailbox, &notice->message, on_notice);
}
