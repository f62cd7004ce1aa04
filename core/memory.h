/* core/memory.h - the only door to malloc.
 *
 * Every function may return NULL, and every caller has a way out. Tests make
 * the n-th allocation of the process fail by setting memory_fail_at.
 */
#ifndef CORE_MEMORY_H
#define CORE_MEMORY_H

#include <stddef.h>

#include "core/check.h"

/* Zero-filled; free with memory_free(). Any thread. */
void *memory_zeroed(size_t size) MUST_CHECK;
/* As realloc(3): on NULL the old block is still the caller's. */
void *memory_resized(void *old, size_t size) MUST_CHECK;
/* A copy of `text`, or of its first `length` bytes with a zero byte behind. */
char *memory_text(const char *text) MUST_CHECK;
char *memory_text_n(const char *text, size_t length) MUST_CHECK;
void memory_free(void *memory);

/* Test hook: when 1, the next allocation fails; counts down with each one; 0 = off. */
extern unsigned memory_fail_at;

#endif
