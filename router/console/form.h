/* router/console/form.h - what HTML's forms send: application/x-www-form-urlencoded.
 * Pure.
 */
#ifndef ROUTER_CONSOLE_FORM_H
#define ROUTER_CONSOLE_FORM_H

#include <stdbool.h>

#include "core/check.h"
#include "health/topology.h"

struct form_field {
    char name[16]; /* "" = too long to be one that anybody knows */
    char value[NODE_NAME_MAX + NODE_NAME_MAX]; /* decoded */
};

enum form_step { FORM_FIELD, FORM_END, FORM_BAD };

/* The next field of "a=b&c=d", which ends with the line; `*at` goes behind it. BAD: a
 * value is too long, or is not encoded as it should be. */
enum form_step form_next(const char **at, struct form_field *field) MUST_CHECK;

#endif
