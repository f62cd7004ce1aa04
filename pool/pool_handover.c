#include "pool/pool_inside.h"

static void on_handed(struct message *message, void *receiver);

/* Its heir's worker is told in any case, also of one that is closed. */
void member_send_to_heir(struct member *member)
{
    mailbox_post(member->to->mailbox, &member->message, on_handed);
}

void member_hand_over(struct member *member, struct ledger_waiter *heir)
{
    member->heir = heir;
    member->to = member->pool->pools->all[heir->worker];
    pooled_move(&member->pooled);
}

void member_on_packed(struct pooled *server)
{
    struct member *member = member_of(server);

    list_remove(&member->pool->busy, &server->in_owner);
    member->pool = NULL;
    member->branch = NULL;
    member_send_to_heir(member);
}

/* It becomes one of this worker's. False when it cannot. */
static bool take_in(struct pool *pool, struct member *member)
{
    struct pools *pools = pool->pools;
    struct pooled *server = &member->pooled;

    member->branch = pools->is_closed ? NULL : pool_get_branch(pool, server->node_id);
    return member->branch != NULL && pool_may_have(pool, server->node_id) &&
           pooled_settle(server, &pools->home, &pool->identity);
}

/* It has come in vain. */
static void discard_handed(struct pools *pools, struct member *member)
{
    struct ledger_todo todo = {0};

    if (member->pooled.state != POOLED_CLOSING) {
        pooled_close(&member->pooled);
        ledger_give(pools->ledger, &member->pooled.slot, &todo);
        pools_post(pools, &todo);
    }
    member_end(pools->loop, member);
}

static void on_handed(struct message *message, void *receiver)
{
    struct member *member = CONTAINER_OF(message, struct member, message);
    struct pools *pools = receiver;
    struct ledger_waiter *heir = member->heir;
    struct need *need = need_of(heir);
    struct pool *pool = need->pool;
    bool is_fine = member->pooled.state == POOLED_MOVING && take_in(pool, member);
    struct ledger_todo todo = {0};
    bool is_wanted =
        ledger_receive(pools->ledger, heir, is_fine ? pool->ledger_pool : NULL, &todo);

    pools_post(pools, &todo);
    member->heir = NULL;
    if (!is_fine) {
        discard_handed(pools, member);
        need_end_if_unexpected(need);
        return;
    }
    member->pool = pool;
    member->is_doomed = false;
    list_append(&pool->busy, &member->pooled.in_owner);
    if (is_wanted) {
        member_lend(member, heir);
    } else {
        need_end_if_unexpected(need);
        member_put_away(member);
    }
}
