#include "router/console/prepared.h"

#include <string.h>

#include "core/memory.h"

struct prepared *prepared_find(const struct list *list, char kind, const char *name)
{
    LIST_EACH(item, list)
    {
        struct prepared *prepared = CONTAINER_OF(item, struct prepared, in_list);

        if (prepared->kind == kind && strcmp(prepared->name, name) == 0)
            return prepared;
    }
    return NULL;
}

void prepared_forget(struct list *list, struct prepared *prepared)
{
    if (prepared == NULL)
        return;
    list_remove(list, &prepared->in_list);
    memory_free(prepared->name);
    memory_free(prepared->text);
    memory_free(prepared);
}

enum prepared_result prepared_keep(struct list *list, char kind, const char *name,
                                   const char *text, uint64_t binary)
{
    struct prepared *prepared;

    prepared_forget(list, prepared_find(list, kind, name));
    if (list->n == PREPARED_MAX)
        return PREPARED_TOO_MANY;
    prepared = memory_zeroed(sizeof *prepared);
    if (prepared == NULL)
        return PREPARED_NO_MEMORY;
    list_append(list, &prepared->in_list);
    prepared->kind = kind;
    prepared->binary = binary;
    prepared->name = memory_text(name);
    prepared->text = memory_text(text);
    if (prepared->name != NULL && prepared->text != NULL)
        return PREPARED_KEPT;
    prepared_forget(list, prepared);
    return PREPARED_NO_MEMORY;
}

void prepared_clear(struct list *list)
{
    while (list_first(list) != NULL)
        prepared_forget(list, CONTAINER_OF(list_first(list), struct prepared, in_list));
}
