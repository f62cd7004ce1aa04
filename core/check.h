/* core/check.h - assertions and the few macros that everybody uses.
 *
 * REQUIRE is for our own bugs, on in every build. What a peer, a file or the
 * kernel can cause is never REQUIREd: it is an error with a way out.
 */
#ifndef CORE_CHECK_H
#define CORE_CHECK_H

#include <stddef.h>

/* Prints where and what, then aborts. Any thread. */
_Noreturn void check_failed(const char *file, int line, const char *condition);

#define REQUIRE(condition) \
    ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition))
#define UNREACHABLE() check_failed(__FILE__, __LINE__, "unreachable")

/* The struct that embeds `pointer` as its member `member`. */
#define CONTAINER_OF(pointer, type, member) \
    ((type *)((char *)(pointer)-offsetof(type, member)))
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(text, first) __attribute__((__format__(__printf__, text, first)))

#endif
