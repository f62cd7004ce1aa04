/* core/tls_registry.h - the contexts in use, one for each distinct settings.
 *
 * It notices that files have changed, and keeps what it has where the new ones are bad.
 * Thread: control's. The contexts go to all.
 */
#ifndef CORE_TLS_REGISTRY_H
#define CORE_TLS_REGISTRY_H

#include "core/tls.h"

struct tls_registry;

struct tls_registry *tls_registry_new(void) MUST_CHECK;
/* Contexts that others hold live on. NULL is fine. */
void tls_registry_free(struct tls_registry *registry);

/* The context for these settings as their files were at the last look, held for the
 * caller. NULL when there is none and none can be made, with a sentence in `why`. */
struct tls_context *tls_registry_hold(struct tls_registry *registry,
                                      const struct tls_settings *settings,
                                      struct text *why) MUST_CHECK;

/* Looks whether the files have changed (device, inode, size, times), and reads those that
 * have. True when any context was replaced: then hold() has new ones. For each whose new
 * files are bad a line is added to `why`, once for each state of the files. Forgets
 * settings that nobody uses any more. */
bool tls_registry_look(struct tls_registry *registry, struct text *why);

#endif
