#include "core/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"

void text_init(struct text *text, size_t max)
{
    *text = (struct text){.max = max};
}

void text_clear(struct text *text)
{
    memory_free(text->bytes);
    text_init(text, text->max);
}

/* Makes room for `more` bytes and the zero byte behind them. */
static bool make_room(struct text *text, size_t more)
{
    size_t size = text->size == 0 ? 128 : text->size;
    char *bytes;

    if (text->overflowed || more > text->max - text->length) {
        text->overflowed = true;
        return false;
    }
    while (size < text->length + more + 1)
        size *= 2;
    if (size == text->size)
        return true;
    bytes = memory_resized(text->bytes, size);
    if (bytes == NULL) {
        text->overflowed = true;
        return false;
    }
    text->bytes = bytes;
    text->size = size;
    return true;
}

void text_add_n(struct text *text, const char *bytes, size_t length)
{
    if (!make_room(text, length))
        return;
    memcpy(text->bytes + text->length, bytes, length);
    text->length += length;
    text->bytes[text->length] = '\0';
}

void text_add(struct text *text, const char *string)
{
    text_add_n(text, string, strlen(string));
}

void text_addf(struct text *text, const char *format, ...)
{
    va_list args;
    int length;

    va_start(args, format);
    length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0 || !make_room(text, (size_t)length))
        return;
    va_start(args, format);
    vsnprintf(text->bytes + text->length, (size_t)length + 1, format, args);
    va_end(args);
    text->length += (size_t)length;
}

const char *text_get(const struct text *text)
{
    return text->bytes == NULL ? "" : text->bytes;
}
