/* config/environment.h - the nodes of a container's environment, beside a file. */
#ifndef CONFIG_ENVIRONMENT_H
#define CONFIG_ENVIRONMENT_H

#include <stdbool.h>
#include <stddef.h>

#include "core/check.h"
#include "core/text.h"

#define ENVIRONMENT_INI_MAX ((size_t)1 << 20)

enum environment_result { ENVIRONMENT_OK, ENVIRONMENT_BAD, ENVIRONMENT_NO_MEMORY };

/* Is POSTGRES_NODES set, to anything but blanks? */
bool environment_has_nodes(char *(*get)(const char *name));
/* Adds [cluster main] as config_load_environment() has it. ENVIRONMENT_BAD: `errors` has
 * a line for each mistake. */
enum environment_result environment_add_cluster(char *(*get)(const char *name),
                                                struct text *ini,
                                                struct text *errors) MUST_CHECK;

#endif
