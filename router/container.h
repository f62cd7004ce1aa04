/* router/container.h - which configuration a container was given. */
#ifndef ROUTER_CONTAINER_H
#define ROUTER_CONTAINER_H

#include <stdbool.h>

#include "core/check.h"

/* `*path` becomes the file that is mounted where images look for one; NULL: none is, and
 * the environment counts. False: there is a file that pgrouter does not read, of which a
 * line on standard error tells. */
bool container_find_file(const char **path) MUST_CHECK;

#endif
