#include "config/spelling.h"

#include <string.h>

#define LENGTH_MAX 40

static size_t least(size_t a, size_t b, size_t c)
{
    size_t smaller = a < b ? a : b;

    return smaller < c ? smaller : c;
}

/* Levenshtein's distance, one row of his table at a time. */
static size_t distance(const char *a, const char *b)
{
    size_t row[LENGTH_MAX + 1];
    size_t length = strlen(b);

    for (size_t j = 0; j <= length; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];

        row[0] = i;
        for (size_t j = 1; j <= length; j++) {
            size_t above = row[j];

            row[j] = least(above + 1, row[j - 1] + 1,
                           diagonal + (a[i - 1] == b[j - 1] ? 0 : 1));
            diagonal = above;
        }
    }
    return row[length];
}

void spelling_try(struct spelling *spelling, const char *known)
{
    size_t length = strlen(spelling->word);
    size_t far = 1 + length / 4; /* letters wrong that a typing error may have */
    size_t found;

    if (length > LENGTH_MAX || strlen(known) > LENGTH_MAX)
        return;
    found = distance(spelling->word, known);
    if (found > far || (spelling->nearest != NULL && found >= spelling->distance))
        return;
    spelling->nearest = known;
    spelling->distance = found;
}
