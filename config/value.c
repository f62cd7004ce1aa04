#include "config/value.h"

#include <sched.h>
#include <string.h>
#include <strings.h>

#include "config/config.h"
#include "config/lists.h"
#include "config/unit.h"
#include "core/memory.h"

/* What can be done with values of one type. */
struct type {
    const char *expected; /* NULL for choices: their words say it */
    enum value_result (*parse)(const struct value_rule *rule, const char *text,
                               void *field, struct text *why);
    void (*clear)(void *field);
    bool (*equal)(const void *a, const void *b);

    /* Numbers only. */
    bool (*parse_number)(const char *text, int64_t *number);
    const char *(*print_number)(int64_t number, char text[UNIT_TEXT_MAX]);

    /* Choices only. */
    const char *const *words; /* NULL behind the last */
    void (*set_choice)(void *field, int index);
    int (*get_choice)(const void *field);
};

static const struct type types[VALUE_TYPE_COUNT]; /* filled at the end of this file */

/* ---- numbers ---- */

/* The cores that we may run on. */
static int64_t count_cores(void)
{
    cpu_set_t cores;

    return sched_getaffinity(0, sizeof cores, &cores) == 0 ? CPU_COUNT(&cores) : 1;
}

static bool is_own(enum value_type type)
{
    return type == VALUE_OWN_COUNT || type == VALUE_OWN_DURATION;
}

static enum value_result parse_number(const struct value_rule *rule, const char *text,
                                      void *field, struct text *why)
{
    int64_t number;

    (void)why;
    if (is_own(rule->type) &&
        (strcasecmp(text, "default") == 0 || strcmp(text, "-1") == 0)) {
        *(int64_t *)field = CONFIG_DEFAULT;
        return VALUE_OK;
    }
    if (rule->type == VALUE_WORKERS && strcasecmp(text, "auto") == 0) {
        number = count_cores();
        if (number > rule->max)
            number = rule->max;
    } else if (!types[rule->type].parse_number(text, &number)) {
        return VALUE_BAD;
    }
    if (number < rule->min || number > rule->max)
        return VALUE_OUT_OF_RANGE;
    *(int64_t *)field = number;
    return VALUE_OK;
}

static void clear_number(void *field)
{
    *(int64_t *)field = 0;
}

static bool equal_number(const void *a, const void *b)
{
    return *(const int64_t *)a == *(const int64_t *)b;
}

/* ---- flags ---- */

static enum value_result parse_flag(const struct value_rule *rule, const char *text,
                                    void *field, struct text *why)
{
    (void)rule;
    (void)why;
    return unit_parse_bool(text, field) ? VALUE_OK : VALUE_BAD;
}

static void clear_flag(void *field)
{
    *(bool *)field = false;
}

static bool equal_flag(const void *a, const void *b)
{
    return *(const bool *)a == *(const bool *)b;
}

/* ---- strings ---- */

static void clear_string(void *field)
{
    memory_free(*(char **)field);
    *(char **)field = NULL;
}

static enum value_result parse_string(const struct value_rule *rule, const char *text,
                                      void *field, struct text *why)
{
    char *copy = memory_text(text);

    (void)rule;
    (void)why;
    if (copy == NULL)
        return VALUE_NO_MEMORY;
    clear_string(field);
    *(char **)field = copy;
    return VALUE_OK;
}

static bool equal_string(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b) == 0;
}

/* ---- lists ---- */

#define LIST_TYPE(name, list, expected) \
    static enum value_result parse_##list( \
        const struct value_rule *rule, const char *text, void *field, struct text *why) \
    { \
        C_##name found = {0}; \
        enum value_result result = lists_parse_##list(text, &found, why); \
\
        (void)rule; \
        if (result == VALUE_OK) { \
            lists_clear_##list(field); \
            *(C_##name *)field = found; \
        } \
        return result; \
    } \
    static void clear_##list(void *field) \
    { \
        lists_clear_##list(field); \
    } \
    static bool equal_##list(const void *a, const void *b) \
    { \
        return lists_equal_##list(a, b); \
    }
#include "config/types.def"

/* ---- choices ---- */

static enum value_result parse_choice(const struct value_rule *rule, const char *text,
                                      void *field, struct text *why)
{
    const struct type *type = &types[rule->type];

    (void)why;
    for (int i = 0; type->words[i] != NULL; i++)
        if (strcasecmp(text, type->words[i]) == 0) {
            type->set_choice(field, i);
            return VALUE_OK;
        }
    return VALUE_BAD;
}

/* Each enum is read and written as itself, whatever its size. */
#define CHOICE_TYPE(name, ...) \
    static const char *const words_##name[] = {__VA_ARGS__, NULL}; \
    static void set_##name(void *field, int index) \
    { \
        *(C_##name *)field = (C_##name)index; \
    } \
    static int get_##name(const void *field) \
    { \
        return (int)*(const C_##name *)field; \
    } \
    static void clear_##name(void *field) \
    { \
        set_##name(field, 0); \
    } \
    static bool equal_##name(const void *a, const void *b) \
    { \
        return *(const C_##name *)a == *(const C_##name *)b; \
    }
#include "config/types.def"

/* ---- the table ---- */

/* clang-format off */
static const struct type types[VALUE_TYPE_COUNT] = {
#define NUMBER_TYPE(name, parser, printer, words) [VALUE_##name] = { \
    .expected = (words), .parse = parse_number, .clear = clear_number, \
    .equal = equal_number, .parse_number = (parser), .print_number = (printer)},
#define PLAIN_TYPE(name, store, words) [VALUE_##name] = { \
    .expected = (words), .parse = parse_##store, .clear = clear_##store, \
    .equal = equal_##store},
#define LIST_TYPE(name, list, words) [VALUE_##name] = { \
    .expected = (words), .parse = parse_##list, .clear = clear_##list, \
    .equal = equal_##list},
#define CHOICE_TYPE(name, ...) [VALUE_##name] = { \
    .parse = parse_choice, .clear = clear_##name, .equal = equal_##name, \
    .words = words_##name, .set_choice = set_##name, \
    .get_choice = get_##name},
#include "config/types.def"
};
/* clang-format on */

enum value_result value_parse(const struct value_rule *rule, const char *text,
                              void *field, struct text *why)
{
    return types[rule->type].parse(rule, text, field, why);
}

void value_clear(enum value_type type, void *field)
{
    types[type].clear(field);
}

bool value_equal(enum value_type type, const void *a, const void *b)
{
    return types[type].equal(a, b);
}

/* In seconds, with as many decimals as it takes. */
static void add_seconds(int64_t ms, struct text *out)
{
    int digits = ms % 1000 == 0 ? 0 : ms % 100 == 0 ? 1 : ms % 10 == 0 ? 2 : 3;

    text_addf(out, "%.*f", digits, (double)ms / 1000.);
}

static void add_number(enum value_type type, int64_t number, struct text *out)
{
    char text[UNIT_TEXT_MAX];

    if (is_own(type) && number == CONFIG_DEFAULT)
        text_add(out, "default");
    else if (type == VALUE_DURATION || type == VALUE_OWN_DURATION)
        add_seconds(number, out);
    else if (type == VALUE_MODE_BITS)
        text_add(out, unit_print_octal(number, text));
    else
        text_addf(out, "%lld", (long long)number);
}

static void add_names(const struct name_list *names, struct text *out)
{
    for (size_t i = 0; i < names->n; i++) {
        text_add(out, i == 0 ? "" : ",");
        text_add(out, names->items[i]);
    }
}

void value_add(enum value_type type, const void *field, struct text *out)
{
    if (types[type].print_number != NULL)
        add_number(type, *(const int64_t *)field, out);
    else if (types[type].words != NULL)
        text_add(out, types[type].words[types[type].get_choice(field)]);
    else if (type == VALUE_BOOL)
        text_add(out, *(const bool *)field ? "1" : "0");
    else if (type == VALUE_STRING)
        text_add(out, *(char *const *)field);
    else if (type == VALUE_NAMES)
        add_names(field, out);
}

static void add_bounds(const struct value_rule *rule, struct text *out)
{
    const struct type *type = &types[rule->type];
    char least[UNIT_TEXT_MAX], most[UNIT_TEXT_MAX];

    type->print_number(rule->min, least);
    type->print_number(rule->max, most);
    if (rule->max == INT64_MAX)
        text_addf(out, ", %s or more", least);
    else
        text_addf(out, ", %s to %s", least, most);
}

static void add_words(const char *const *words, struct text *out)
{
    for (size_t i = 0; words[i] != NULL; i++) {
        if (i > 0)
            text_add(out, words[i + 1] == NULL ? " or " : ", ");
        text_add(out, words[i]);
    }
}

void value_add_expected(const struct value_rule *rule, struct text *out)
{
    const struct type *type = &types[rule->type];

    if (type->words != NULL)
        add_words(type->words, out);
    else
        text_add(out, type->expected);
    if (type->print_number != NULL)
        add_bounds(rule, out);
}
