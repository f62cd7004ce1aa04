/* config/spelling.h - "did you mean ...?": the known word nearest to an unknown one.
 * Pure; any thread.
 *
 *   struct spelling spelling = {.word = "max_client_con"};
 *   for (...)
 *       spelling_try(&spelling, known_word);
 *   if (spelling.nearest != NULL) ...
 */
#ifndef CONFIG_SPELLING_H
#define CONFIG_SPELLING_H

#include <stddef.h>

struct spelling {
    const char *word;
    const char *nearest; /* of those that were tried; NULL when none is close */
    size_t distance;     /* of `nearest`: letters to add, take away or change */
};

void spelling_try(struct spelling *spelling, const char *known);

#endif
