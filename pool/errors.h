/* pool/errors.h - the errors that clients of a pool were told: by class, of a fixed few,
 * and by SQLSTATE, in a table that is soon full.
 *
 * Thread: one counts; whoever reads does so on the same thread. No memory, no lock.
 */
#ifndef POOL_ERRORS_H
#define POOL_ERRORS_H

#include <stdint.h>

#include "core/check.h"

enum error_class {
#define ERROR_CLASS(name, code, text) ERROR_CLASS_##name,
#include "pool/error_classes.def"
    ERROR_CLASS_COUNT
};

struct error_class_fact {
    const char *code;
    const char *text;
};
extern const struct error_class_fact error_class_facts[ERROR_CLASS_COUNT];

/* Who has said it. */
enum error_source { ERROR_OF_SERVER, ERROR_OF_ROUTER, ERROR_SOURCE_COUNT };

/* The SQLSTATEs that came first; later ones are counted by class alone. */
#define POOL_ERROR_CODES_MAX 24u

struct pool_error_code {
    char sqlstate[6]; /* "" = free */
    uint8_t source;
    uint64_t n;
};

/* Zeroed is empty. */
struct pool_errors {
    uint64_t by_class[ERROR_SOURCE_COUNT][ERROR_CLASS_COUNT];
    struct pool_error_code codes[POOL_ERROR_CODES_MAX];
};

/* Of whatever a server has sent: characters that no SQLSTATE has are "other". */
enum error_class error_class_of(const char *sqlstate);

void pool_errors_count(struct pool_errors *errors, enum error_source source,
                       const char *sqlstate);
void pool_errors_add(struct pool_errors *to, const struct pool_errors *one);

#endif
