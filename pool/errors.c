#include "pool/errors.h"

#include <stdbool.h>
#include <string.h>

const struct error_class_fact error_class_facts[ERROR_CLASS_COUNT] = {
#define ERROR_CLASS(name, code, text) [ERROR_CLASS_##name] = {code, text},
#include "pool/error_classes.def"
};

/* Five capital letters or digits. */
static bool is_sqlstate(const char *text)
{
    return strlen(text) == 5 && strspn(text, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5;
}

enum error_class error_class_of(const char *sqlstate)
{
    if (is_sqlstate(sqlstate))
        for (unsigned i = 0; i < ERROR_CLASS_OTHER; i++)
            if (strncmp(error_class_facts[i].code, sqlstate, 2) == 0)
                return (enum error_class)i;
    return ERROR_CLASS_OTHER;
}

static void count_code(struct pool_errors *errors, enum error_source source,
                       const char *sqlstate, uint64_t n)
{
    for (unsigned i = 0; i < POOL_ERROR_CODES_MAX; i++) {
        struct pool_error_code *code = &errors->codes[i];

        if (code->sqlstate[0] == '\0') {
            memcpy(code->sqlstate, sqlstate, sizeof code->sqlstate);
            code->source = (uint8_t)source;
        } else if (code->source != source || strcmp(code->sqlstate, sqlstate) != 0) {
            continue;
        }
        code->n += n;
        return;
    }
}

void pool_errors_count(struct pool_errors *errors, enum error_source source,
                       const char *sqlstate)
{
    errors->by_class[source][error_class_of(sqlstate)]++;
    if (is_sqlstate(sqlstate))
        count_code(errors, source, sqlstate, 1);
}

void pool_errors_add(struct pool_errors *to, const struct pool_errors *one)
{
    for (unsigned source = 0; source < ERROR_SOURCE_COUNT; source++)
        for (unsigned i = 0; i < ERROR_CLASS_COUNT; i++)
            to->by_class[source][i] += one->by_class[source][i];
    for (unsigned i = 0; i < POOL_ERROR_CODES_MAX && one->codes[i].n > 0; i++)
        count_code(to, (enum error_source)one->codes[i].source, one->codes[i].sqlstate,
                   one->codes[i].n);
}
