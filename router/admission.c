#include "router/admission.h"

void admission_init(struct admission *admission)
{
    *admission = (struct admission){0};
    list_init(&admission->line);
}

/* The setting that has no place left, NULL when there is one. */
static const char *full(const struct admission *admission, const struct gate *gate)
{
    if (admission->n_admitted >= admission->max)
        return "max_client_conn";
    return gate->max > 0 && gate->n_admitted >= gate->max ? "maxconn" : NULL;
}

static void admit(struct admission *admission, struct ticket *ticket)
{
    ticket->is_admitted = true;
    ticket->gate->n_admitted++;
    admission->n_admitted++;
}

void admission_enter(struct admission *admission, struct ticket *ticket)
{
    struct gate *gate = ticket->gate;

    gate->n_total++;
    gate->n_present++;
    if (gate->n_present > gate->n_present_max)
        gate->n_present_max = gate->n_present;
    ticket->full = full(admission, gate);
    if (ticket->full == NULL) {
        admit(admission, ticket);
        ticket->knows_admission = true; /* it is told with the client itself */
    } else {
        list_append(&admission->line, &ticket->in_line);
    }
}

void admission_leave(struct admission *admission, struct ticket *ticket)
{
    ticket->gate->n_present--;
    if (ticket->is_admitted) {
        ticket->gate->n_admitted--;
        admission->n_admitted--;
    } else {
        list_remove(&admission->line, &ticket->in_line);
    }
}

struct ticket *admission_next(struct admission *admission)
{
    if (admission->n_admitted >= admission->max)
        return NULL;
    LIST_EACH(item, &admission->line)
    {
        struct ticket *ticket = CONTAINER_OF(item, struct ticket, in_line);

        if (full(admission, ticket->gate) != NULL)
            continue;
        list_remove(&admission->line, item);
        admit(admission, ticket);
        return ticket;
    }
    return NULL;
}
