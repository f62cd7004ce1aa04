#include "config/unit.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* A number of `name` counts number * multiply / divide. */
struct unit {
    const char *name;
    int64_t multiply;
    int64_t divide;
};

/* Small units first, as the printers walk them backwards. */
static const struct unit times[] = {
    {"us", 1, 1000},
    {"ms", 1, 1},
    {"s", 1000, 1},
    {"m", INT64_C(60) * 1000, 1},
    {"h", INT64_C(3600) * 1000, 1},
    {"d", INT64_C(24) * 3600 * 1000, 1},
};
static const struct unit sizes[] = {
    {"B", 1, 1},
    {"kB", 1024, 1},
    {"MB", INT64_C(1) << 20, 1},
    {"GB", INT64_C(1) << 30, 1},
    {"TB", INT64_C(1) << 40, 1},
};

/* Returns what follows the digits, NULL when there is none or the number is too large. */
static const char *parse_digits(const char *text, int base, int64_t *value)
{
    int64_t found = 0;
    const char *at = text;

    for (; *at >= '0' && *at < '0' + base; at++)
        if (__builtin_mul_overflow(found, base, &found) ||
            __builtin_add_overflow(found, *at - '0', &found))
            return NULL;
    if (at == text)
        return NULL;
    *value = found;
    return at;
}

/* The part behind the point, as value / scale; what goes beyond six digits only says
 * that there is more. */
struct fraction {
    int64_t value;
    int64_t scale;
    bool has_more;
};

static const char *parse_fraction(const char *text, struct fraction *fraction)
{
    const char *at = text;

    *fraction = (struct fraction){.scale = 1};
    for (; *at >= '0' && *at <= '9'; at++) {
        if (fraction->scale < 1000000) {
            fraction->value = fraction->value * 10 + (*at - '0');
            fraction->scale *= 10;
        } else if (*at != '0') {
            fraction->has_more = true;
        }
    }
    return at == text ? NULL : at;
}

static const struct unit *find_unit(const char *name, const struct unit *units, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(units[i].name, name) == 0)
            return &units[i];
    return NULL;
}

/* What a number alone counts is `bare`. */
static bool parse_scaled(const char *text, const struct unit *units, size_t n,
                         const char *bare, int64_t *value)
{
    int64_t whole, part;
    struct fraction fraction = {.scale = 1};
    const struct unit *unit;
    const char *at = parse_digits(text, 10, &whole);

    if (at != NULL && *at == '.')
        at = parse_fraction(at + 1, &fraction);
    if (at == NULL)
        return false;
    unit = find_unit(*at == '\0' ? bare : at, units, n);
    if (unit == NULL || __builtin_mul_overflow(whole, unit->multiply, &whole))
        return false;
    if (unit->divide != 1 && fraction.scale != 1)
        return false; /* no fractions of a microsecond */

    whole = whole / unit->divide + (whole % unit->divide != 0);
    part = fraction.value * unit->multiply; /* at most 10^6 * 2^40: always fits */
    part = part / fraction.scale + (part % fraction.scale != 0 || fraction.has_more);
    if (__builtin_add_overflow(whole, part, &whole))
        return false;
    *value = whole;
    return true;
}

bool unit_parse_duration(const char *text, int64_t *ms)
{
    return parse_scaled(text, times, COUNT_OF(times), "s", ms);
}

bool unit_parse_milliseconds(const char *text, int64_t *ms)
{
    return parse_scaled(text, times, COUNT_OF(times), "ms", ms);
}

bool unit_parse_haproxy_duration(const char *text, int64_t *ms)
{
    return strchr(text, '.') == NULL && unit_parse_milliseconds(text, ms);
}

bool unit_parse_bytes(const char *text, int64_t *bytes)
{
    return parse_scaled(text, sizes, COUNT_OF(sizes), "B", bytes);
}

static bool parse_whole(const char *text, int base, int64_t *value)
{
    int64_t found;
    const char *end = parse_digits(text, base, &found);

    if (end == NULL || *end != '\0')
        return false;
    *value = found;
    return true;
}

bool unit_parse_count(const char *text, int64_t *count)
{
    return parse_whole(text, 10, count);
}

bool unit_parse_octal(const char *text, int64_t *bits)
{
    return parse_whole(text, 8, bits);
}

bool unit_parse_bool(const char *text, bool *value)
{
    static const char *const words[][2] = {
        {"0", "1"}, {"off", "on"}, {"no", "yes"}, {"false", "true"}};

    for (size_t i = 0; i < COUNT_OF(words); i++)
        for (int is_on = 0; is_on <= 1; is_on++)
            if (strcasecmp(text, words[i][is_on]) == 0) {
                *value = is_on == 1;
                return true;
            }
    return false;
}

/* In the largest unit that divides the value. */
static const char *print_scaled(int64_t value, const struct unit *units, size_t n,
                                char text[UNIT_TEXT_MAX])
{
    const struct unit *unit = &units[n - 1];

    while (unit > units && value % unit->multiply != 0)
        unit--;
    snprintf(text, UNIT_TEXT_MAX, "%" PRId64 "%s", value / unit->multiply,
             value == 0 ? "" : unit->name);
    return text;
}

const char *unit_print_duration(int64_t ms, char text[UNIT_TEXT_MAX])
{
    return print_scaled(ms, times + 1, COUNT_OF(times) - 1, text); /* not in us */
}

const char *unit_print_bytes(int64_t bytes, char text[UNIT_TEXT_MAX])
{
    return print_scaled(bytes, sizes, COUNT_OF(sizes), text);
}

const char *unit_print_count(int64_t count, char text[UNIT_TEXT_MAX])
{
    snprintf(text, UNIT_TEXT_MAX, "%" PRId64, count);
    return text;
}

const char *unit_print_octal(int64_t bits, char text[UNIT_TEXT_MAX])
{
    snprintf(text, UNIT_TEXT_MAX, "%#" PRIo64, (uint64_t)bits);
    return text;
}
