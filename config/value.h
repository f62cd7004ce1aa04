/* config/value.h - one value of a setting: text into a field, and what can be done with
 * the field. The types stand in config/types.def. Pure; any thread.
 */
#ifndef CONFIG_VALUE_H
#define CONFIG_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "core/check.h"
#include "core/text.h"

enum value_type {
#define NUMBER_TYPE(name, ...) VALUE_##name,
#define PLAIN_TYPE(name, ...) VALUE_##name,
#define LIST_TYPE(name, ...) VALUE_##name,
#define CHOICE_TYPE(name, ...) VALUE_##name,
#include "config/types.def"
    VALUE_TYPE_COUNT
};

enum value_result {
    VALUE_OK,
    VALUE_BAD,
    VALUE_OUT_OF_RANGE, /* well formed, but outside of the bounds */
    VALUE_NO_MEMORY
};

/* What a value must keep to; the bounds hold for numbers only. */
struct value_rule {
    enum value_type type;
    int64_t min;
    int64_t max;
};

/* Sets `field`, of the C type that config.h names for the type; what it held is freed.
 * On anything but VALUE_OK it is untouched, and `why` may say more exactly what was
 * expected and where (VALUE_BAD; without a list's entry it stays empty). */
enum value_result value_parse(const struct value_rule *rule, const char *text,
                              void *field, struct text *why) MUST_CHECK;
/* Back to zero, memory freed. */
void value_clear(enum value_type type, void *field);
bool value_equal(enum value_type type, const void *a, const void *b);

/* Adds the value as PgBouncer shows it: seconds, bytes, words, lists with commas; nothing
 * for lists of nodes and endpoints. */
void value_add(enum value_type type, const void *field, struct text *out);

/* Adds what is expected, in words: "a whole number, 1 to 64", "patroni, postgres or tcp".
 */
void value_add_expected(const struct value_rule *rule, struct text *out);

#endif
