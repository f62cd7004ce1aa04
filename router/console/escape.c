#include "router/console/escape.h"

#include <stdint.h>

/* How many bytes the character at `at` has; 0: that is no UTF-8 (RFC 3629). */
static unsigned length_of(const uint8_t *at)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned n = at[0] < 0x80   ? 1
                 : at[0] < 0xC0 ? 0
                 : at[0] < 0xE0 ? 2
                 : at[0] < 0xF0 ? 3
                 : at[0] < 0xF8 ? 4
                                : 0;
    uint32_t code = n < 2 ? at[0] : at[0] & (0x7Fu >> n);

    for (unsigned i = 1; i < n; i++) {
        if ((at[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (at[i] & 0x3F);
    }
    if (code < least[n] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000))
        return 0;
    return n;
}

static bool must_escape(char c, bool is_json)
{
    return c == '"' || c == '\\' || c == '\n' || (is_json && (uint8_t)c < 0x20);
}

static void escape_one(struct text *out, char c)
{
    if (c == '"' || c == '\\')
        text_addf(out, "\\%c", c);
    else if (c == '\n')
        text_add(out, "\\n");
    else
        text_addf(out, "\\u%04x", (unsigned)c);
}

static void escape(struct text *out, const char *value, bool is_json)
{
    while (*value != '\0') {
        const char *begin = value;
        unsigned n = 1;

        while (*value != '\0' && !must_escape(*value, is_json) &&
               (n = length_of((const uint8_t *)value)) > 0)
            value += n;
        text_add_n(out, begin, (size_t)(value - begin));
        if (*value == '\0')
            return;
        if (n == 0)
            text_addf(out, "\\\\x%02X", (unsigned)(uint8_t)*value);
        else
            escape_one(out, *value);
        value++;
    }
}

void escape_label(struct text *out, const char *value)
{
    escape(out, value, false);
}

void escape_json(struct text *out, const char *value)
{
    escape(out, value, true);
}
