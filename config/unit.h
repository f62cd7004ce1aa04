/* config/unit.h - numbers with units, as people write them. Pure; any thread.
 *
 * Every parser takes the whole text or nothing: no blanks, no sign. On false (not a
 * number of this kind, or too large for int64_t) the out-parameter is untouched. What
 * is finer than the result's unit is rounded up, so that only a zero means zero.
 */
#ifndef CONFIG_UNIT_H
#define CONFIG_UNIT_H

#include <stdbool.h>
#include <stdint.h>

#include "core/check.h"

/* "250ms", "1s", "30m", "2h", "1d", "0.5h", "800us"; without a unit it counts seconds. */
bool unit_parse_duration(const char *text, int64_t *ms) MUST_CHECK;
/* The same; without a unit it counts milliseconds. */
bool unit_parse_milliseconds(const char *text, int64_t *ms) MUST_CHECK;
/* As HAProxy writes them: whole numbers of us, ms, s, m, h, d; without a unit it counts
 * milliseconds (HAProxy's configuration manual, "Time format"). */
bool unit_parse_haproxy_duration(const char *text, int64_t *ms) MUST_CHECK;
/* "8kB", "16MB", "1.5GB", "1TB", "512B" or plain bytes; units of 1024 as PostgreSQL's. */
bool unit_parse_bytes(const char *text, int64_t *bytes) MUST_CHECK;
/* Decimal digits. */
bool unit_parse_count(const char *text, int64_t *count) MUST_CHECK;
/* Octal digits: "0770" and "770" are the same. */
bool unit_parse_octal(const char *text, int64_t *bits) MUST_CHECK;
/* 0/1, on/off, yes/no, true/false, in small or capital letters. */
bool unit_parse_bool(const char *text, bool *value) MUST_CHECK;

/* Holds any int64_t with a unit. */
#define UNIT_TEXT_MAX 32

/* The shortest text that parses to the same value ("90s", "2h", "0"); return `text`. */
const char *unit_print_duration(int64_t ms, char text[UNIT_TEXT_MAX]);
const char *unit_print_bytes(int64_t bytes, char text[UNIT_TEXT_MAX]);
const char *unit_print_count(int64_t count, char text[UNIT_TEXT_MAX]);
const char *unit_print_octal(int64_t bits, char text[UNIT_TEXT_MAX]);

#endif
