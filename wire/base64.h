/* wire/base64.h - base64 (RFC 4648, 4) in its one canonical form.
 *
 * No line breaks, no spaces, padded, the unused bits zero: every text stands for other
 * bytes than every other. Pure.
 */
#ifndef WIRE_BASE64_H
#define WIRE_BASE64_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/check.h"

/* The length of the text for `n` bytes. */
#define BASE64_LENGTH(n) (((n) + 2) / 3 * 4)

/* Writes BASE64_LENGTH(n) characters, without a zero behind them; returns their number.
 */
size_t base64_write(const uint8_t *bytes, size_t n, char *text);

/* Reads a text that stands for at most `max` bytes; `*n` says for how many. */
bool base64_read(const char *text, size_t length, uint8_t *bytes, size_t max,
                 size_t *n) MUST_CHECK;

#endif
