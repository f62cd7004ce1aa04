/* tests/unit/config/loaded.h - for the tests of config/: load a text, look at the result.
 */
#ifndef TESTS_LOADED_H
#define TESTS_LOADED_H

#include <criterion/criterion.h>

#include "config/config.h"

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
