#include "core/memory.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

unsigned memory_fail_at;

static bool is_to_fail(void)
{
    return memory_fail_at != 0 && --memory_fail_at == 0;
}

void *memory_zeroed(size_t size)
{
    return is_to_fail() ? NULL : calloc(1, size);
}

void *memory_resized(void *old, size_t size)
{
    return is_to_fail() ? NULL : realloc(old, size);
}

char *memory_text_n(const char *text, size_t length)
{
    char *copy = memory_zeroed(length + 1);

    if (copy != NULL)
        memcpy(copy, text, length);
    return copy;
}

char *memory_text(const char *text)
{
    return memory_text_n(text, strlen(text));
}

void memory_free(void *memory)
{
    free(memory);
}
