/* core/list.h - an intrusive doubly linked list that knows its length.
 *
 *   struct client { ...; struct link in_list; };
 *   LIST_EACH(link, &clients) { struct client *c = CONTAINER_OF(link, struct client,
 * in_list); }
 *
 * A link is in at most one list at a time; a zeroed link is in none.
 */
#ifndef CORE_LIST_H
#define CORE_LIST_H

#include <stdbool.h>
#include <stddef.h>

#include "core/check.h"

struct link {
    struct link *next;
    struct link *previous;
};

struct list {
    struct link head; /* head.next is the first, head.previous the last */
    size_t n;
};

static inline void list_init(struct list *list)
{
    list->head.next = list->head.previous = &list->head;
    list->n = 0;
}

static inline bool link_is_in_list(const struct link *link)
{
    return link->next != NULL;
}

static inline void list_append(struct list *list, struct link *link)
{
    REQUIRE(!link_is_in_list(link));
    link->next = &list->head;
    link->previous = list->head.previous;
    list->head.previous->next = link;
    list->head.previous = link;
    list->n++;
}

static inline void list_prepend(struct list *list, struct link *link)
{
    REQUIRE(!link_is_in_list(link));
    link->next = list->head.next;
    link->previous = &list->head;
    list->head.next->previous = link;
    list->head.next = link;
    list->n++;
}

static inline void list_remove(struct list *list, struct link *link)
{
    REQUIRE(link_is_in_list(link) && list->n > 0);
    link->previous->next = link->next;
    link->next->previous = link->previous;
    link->next = link->previous = NULL;
    list->n--;
}

/* The first link, NULL when the list is empty. */
static inline struct link *list_first(const struct list *list)
{
    return list->n == 0 ? NULL : list->head.next;
}

/* Walks the list; the body must not remove `item`. */
#define LIST_EACH(item, list) \
    for (struct link *item = (list)->head.next; item != &(list)->head; item = item->next)
/* The same; the body may remove `item`, and nothing else. */
#define LIST_EACH_SAFE(item, list) \
    for (struct link *item = (list)->head.next, *item##_next = item->next; \
         item != &(list)->head; item = item##_next, item##_next = item->next)

#endif
