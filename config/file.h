/* config/file.h - a whole file as text. Any thread; blocks on the file. */
#ifndef CONFIG_FILE_H
#define CONFIG_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/check.h"
#include "core/text.h"

#define FILE_MAX_BYTES ((size_t)16 << 20)

/* Adds what `fd` still holds to `text`, whose maximum is FILE_MAX_BYTES; `text->bytes` is
 * there also when that is nothing. False: `*why` says what is wrong with it (a constant,
 * or as strerror(3)). When memory is out `text` has overflowed. */
bool file_read(int fd, struct text *text, const char **why) MUST_CHECK;
/* The same of the file at `path`, which must be a regular one: a pipe would hold us up.
 */
bool file_load(const char *path, struct text *text, const char **why) MUST_CHECK;

#endif
