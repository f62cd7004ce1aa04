/* How many servers log in to a node at a time, of all pools and workers.
 *
 * A login costs a node more than a query does, most of all when it has just begun to
 * serve and thousands wait. So there are at most login_concurrency of them at a time, and
 * one more for each that has succeeded while others had to wait: the allowance doubles
 * with each round. A failure takes it back to where it began, and so does a node that has
 * nothing more to do.
 */
#include "pool/ledger_line.h"

static struct ledger_limit *mustering(const struct link *item)
{
    return CONTAINER_OF(item, struct ledger_limit, gate.in_musters);
}

static bool is_full(const struct ledger *ledger, const struct ledger_gate *gate)
{
    unsigned max = ledger->login_concurrency;

    return max > 0 && gate->n_logins >= max && gate->n_logins - max >= gate->n_more;
}

bool ledger_gate_is_open(const struct ledger *ledger, const struct ledger_branch *branch)
{
    const struct ledger_gate *gate = &branch->limits[LEDGER_NODE]->gate;

    return !link_is_in_list(&gate->in_musters) && !is_full(ledger, gate);
}

void ledger_gate_leave(const struct ledger *ledger, struct ledger_limit *node,
                       enum ledger_login how)
{
    struct ledger_gate *gate = &node->gate;

    REQUIRE(gate->n_logins > 0);
    if (how == LEDGER_LOGIN_FAILED)
        gate->n_more = 0;
    else if (how == LEDGER_LOGIN_DONE &&
             gate->n_logins == ledger->login_concurrency + gate->n_more)
        gate->n_more++; /* not for one of those that were too many after a failure */
    gate->n_logins--;
}

void ledger_gate_rest(struct ledger_limit *node)
{
    if (node->gate.n_logins == 0)
        node->gate.n_more = 0;
}

/* ---- musters ------------------------------------------------------------------------
 */

static bool have_all_followed(const struct ledger *ledger, uint64_t generation)
{
    for (unsigned i = 0; i < ledger->n_workers; i++)
        if (ledger->followed[i] < generation)
            return false;
    return true;
}

void ledger_muster(struct ledger *ledger, struct ledger_limit *node, uint64_t generation,
                   uint64_t now_ns)
{
    struct ledger_gate *gate = &node->gate;

    ledger_lock(ledger);
    if (!link_is_in_list(&gate->in_musters) && !have_all_followed(ledger, generation)) {
        gate->since_ns = now_ns;
        gate->generation = generation;
        list_append(&ledger->musters, &gate->in_musters);
        atomic_fetch_add(&ledger->n_musters, 1);
    }
    ledger_unlock(ledger);
}

struct ledger_limit *ledger_gate_end_muster(struct ledger *ledger, uint64_t now_ns)
{
    LIST_EACH(item, &ledger->musters)
    {
        struct ledger_limit *node = mustering(item);
        struct ledger_gate *gate = &node->gate;

        if (!have_all_followed(ledger, gate->generation) &&
            now_ns < gate->since_ns + LEDGER_MUSTER_NS)
            continue;
        list_remove(&ledger->musters, item);
        atomic_fetch_sub(&ledger->n_musters, 1);
        return node;
    }
    return NULL;
}
