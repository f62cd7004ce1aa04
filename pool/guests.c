#include "pool/guests.h"

#include <string.h>

#include "core/memory.h"

struct guest *guests_enter(struct list *guests, const char *name)
{
    struct guest *guest;

    LIST_EACH(item, guests)
    {
        guest = CONTAINER_OF(item, struct guest, in_list);
        if (strcmp(guest->name, name) == 0) {
            guest->n_clients++;
            return guest;
        }
    }
    guest = memory_zeroed(sizeof *guest + strlen(name) + 1);
    if (guest == NULL)
        return NULL;
    strcpy(guest->name, name);
    guest->n_clients = 1;
    list_prepend(guests, &guest->in_list);
    return guest;
}

void guests_leave(struct list *guests, struct guest *guest)
{
    if (--guest->n_clients > 0)
        return;
    list_remove(guests, &guest->in_list);
    memory_free(guest);
}
