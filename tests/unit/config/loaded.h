/* tests/unit/config/loaded.h - for the tests of config/: load a text, look at the result.
 */
#ifndef TESTS_LOADED_H
#define TESTS_LOADED_H

#include <criterion/criterion.h>

#include "config/config.h"
#include "core/memory.h"

/* The least that makes a configuration: six lines. */
#define CLUSTER "[cluster main]\nnodes = pg1:5432:8008, pg2:5432:8008\n"
#define LISTENER "[listener rw]\nbind = *:5000\n"
#define STATS "[stats]\nbind = *:8404\n"

/* The same of pools: five lines, to which a sixth may add a database. */
#define POOL "[pgbouncer]\nlisten_addr = *\nauth_type = trust\n"
#define DATABASE "[databases]\n* = host=pg\n"

/* Must load without a word. The caller releases it. */
static inline struct config *loaded(const char *ini)
{
    struct text errors;
    struct config *config;

    text_init(&errors, 1 << 20);
    config = config_load_text("t.ini", ini, &errors);
    cr_assert_not_null(config, "%s", text_get(&errors));
    cr_assert_str_eq(text_get(&errors), "");
    text_clear(&errors);
    return config;
}

/* Must be refused with exactly these lines. */
static inline void expect_errors(const char *ini, const char *wanted)
{
    struct text errors;
    struct config *config;

    text_init(&errors, 1 << 20);
    config = config_load_text("t.ini", ini, &errors);
    cr_expect_null(config, "loads: %s", ini);
    cr_expect_str_eq(text_get(&errors), wanted);
    config_release(config);
    text_clear(&errors);
}

/* Each allocation fails in turn: then this is all that is said. `out_of_memory` NULL: it
 * is refused in any case, whatever is said. */
static inline void survive_each_failure(struct config *(*load)(struct text *errors),
                                        const char *out_of_memory)
{
    bool has_failed = true;

    for (unsigned nth = 1; has_failed; nth++) {
        struct config *config;
        struct text errors;

        text_init(&errors, 10000);
        memory_fail_at = nth;
        config = load(&errors);
        has_failed = memory_fail_at == 0;
        memory_fail_at = 0;
        if (out_of_memory == NULL)
            cr_expect_null(config, "allocation %u", nth);
        else
            cr_expect_eq(config == NULL, has_failed, "allocation %u", nth);
        if (out_of_memory != NULL && has_failed)
            cr_expect_str_eq(text_get(&errors), out_of_memory);
        config_release(config);
        text_clear(&errors);
    }
}

struct example {
    const char *ini;
    const char *errors; /* "" = it loads */
};

static inline void expect_each(const struct example *examples, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (*examples[i].errors == '\0')
            config_release(loaded(examples[i].ini));
        else
            expect_errors(examples[i].ini, examples[i].errors);
}

#endif
