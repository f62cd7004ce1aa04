/* tests/fuzz/fuzz_sql.c - any bytes as SQL.
 *
 * A glance promises what reading all of it does, and more only where there is no
 * semicolon but at the end. What is one statement is not one any more when another one
 * follows, and is one still when a comment does.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "wire/sql.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static unsigned read_with(const uint8_t *bytes, size_t size, const char *more)
{
    size_t n = size + strlen(more);
    char *text = malloc(n + 1);
    unsigned flags;

    REQUIRE(text != NULL);
    memcpy(text, bytes, size);
    for (size_t i = 0; more[i] != '\0'; i++)
        text[size + i] = more[i];
    flags = sql_read(text, n);
    free(text);
    return flags;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    char *text = malloc(size + 1);
    unsigned all, seen;

    REQUIRE(text != NULL);
    memcpy(text, bytes, size);
    text[size] = '\'';
    all = sql_read(text, size);
    seen = sql_look(text, size);
    free(text);
    REQUIRE((all & ~seen & ~(unsigned)SQL_ROLLBACK) == 0);
    if (all & SQL_SINGLE && all & SQL_PLAIN) {
        REQUIRE((read_with(bytes, size, "\n;delete from t") & SQL_SINGLE) == 0);
        REQUIRE((read_with(bytes, size, "\n/* ; */") & SQL_SINGLE) != 0);
    }
    return 0;
}
