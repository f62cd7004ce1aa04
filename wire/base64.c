#include "wire/base64.h"

#include <string.h>

static const char digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_write(const uint8_t *bytes, size_t n, char *text)
{
    char *to = text;

    for (size_t at = 0; at < n; at += 3, to += 4) {
        size_t n_here = n - at < 3 ? n - at : 3;
        uint32_t bits = (uint32_t)bytes[at] << 16;

        if (n_here > 1)
            bits |= (uint32_t)bytes[at + 1] << 8;
        if (n_here > 2)
            bits |= bytes[at + 2];
        to[0] = digits[bits >> 18];
        to[1] = digits[bits >> 12 & 63];
        to[2] = n_here > 1 ? digits[bits >> 6 & 63] : '=';
        to[3] = n_here > 2 ? digits[bits & 63] : '=';
    }
    return (size_t)(to - text);
}

/* What a digit stands for, -1 when it is none. */
static int value_of(char digit)
{
    const char *found = digit == '\0' ? NULL : strchr(digits, digit);

    return found == NULL ? -1 : (int)(found - digits);
}

/* Whether there are digits alone, and no bits that stand for nothing. */
static bool is_canonical(const char *text, size_t n_digits)
{
    static const int unused_bits[4] = {0, 0 /* refused by its length */, 15, 3};

    for (size_t i = 0; i < n_digits; i++) {
        if (value_of(text[i]) < 0)
            return false;
    }
    return n_digits == 0 ||
           (value_of(text[n_digits - 1]) & unused_bits[n_digits % 4]) == 0;
}

bool base64_read(const char *text, size_t length, uint8_t *bytes, size_t max, size_t *n)
{
    size_t n_padding = 0, n_bytes;
    uint32_t bits = 0;

    if (length % 4 != 0)
        return false;
    while (n_padding < 2 && n_padding < length && text[length - 1 - n_padding] == '=')
        n_padding++;
    n_bytes = length / 4 * 3 - n_padding;
    if (n_bytes > max || !is_canonical(text, length - n_padding))
        return false;

    for (size_t i = 0, at = 0; i < length - n_padding; i++) {
        bits = bits << 6 | (uint32_t)value_of(text[i]);
        /* Of each four digits the second, third and fourth complete a byte. */
        if (i % 4 > 0)
            bytes[at++] = (uint8_t)(bits >> (6 - 2 * (i % 4)));
    }
    *n = n_bytes;
    return true;
}
