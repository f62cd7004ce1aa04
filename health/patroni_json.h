/* health/patroni_json.h - members of JSON objects as Patroni writes and takes them. Pure.
 *
 * One of a wrong type counts as not there.
 */
#ifndef HEALTH_PATRONI_JSON_H
#define HEALTH_PATRONI_JSON_H

#include <jansson.h>
#include <stddef.h>

#include "health/sample.h"

/* As sample_copy_text(); untouched when there is none. */
void patroni_json_text(const json_t *object, const char *key, char *to, size_t size);
/* 0 when there is none, or it is negative. */
uint64_t patroni_json_count(const json_t *object, const char *key);
/* Python's bool() of a value, as Patroni takes tags: "false" in quotes is true. */
bool patroni_json_is_set(const json_t *value);
/* parse_bool() of Patroni's utils.py: on, true, yes and 1, as words or not. */
bool patroni_json_is_on(const json_t *value);

/* "master" up to 3.x and "primary" since 4.0, "replica", "standby_leader". */
enum node_role patroni_role(const char *word);

#endif
