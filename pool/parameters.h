/* pool/parameters.h - the session parameters of clients and servers, as sets that are
 * shared.
 *
 * A client comes with some (its StartupMessage) and changes others (SET); a server that
 * it gets must have the same before the client's first word. Most clients have the same
 * few, so a set is immutable and exists once per worker: equal sets are the same pointer,
 * and to see that nothing is to be done costs one comparison.
 *
 * Which are followed: those that PostgreSQL reports (ParameterStatus) and that a client
 * may change, and those that a client has named in its StartupMessage.
 *
 * Thread: one store per worker, with all of its sets.
 */
#ifndef POOL_PARAMETERS_H
#define POOL_PARAMETERS_H

#include <stdbool.h>
#include <stddef.h>

#include "core/check.h"
#include "core/text.h"

struct parameter_store;
struct parameter_set;

struct parameter_store *parameter_store_new(void) MUST_CHECK;
/* Every set must have been released. NULL is fine. */
void parameter_store_free(struct parameter_store *store);

/* The set without any, held for the caller, as all below that return one. NULL when
 * memory is out. */
struct parameter_set *parameters_none(struct parameter_store *store) MUST_CHECK;
struct parameter_set *parameters_hold(struct parameter_set *set);
void parameters_release(struct parameter_set *set); /* NULL is fine */

/* Whether a parameter that the server reports is followed: it can be set by a session,
 * and is not a word about the server itself. */
bool parameters_follows(const char *name);

/* `set` with one more, or with another value of it. Names compare as PostgreSQL's do,
 * without case. */
struct parameter_set *parameters_with(struct parameter_set *set, const char *name,
                                      const char *value) MUST_CHECK;
/* `base` with all of `set` over it. */
struct parameter_set *parameters_over(struct parameter_set *base,
                                      struct parameter_set *set) MUST_CHECK;
/* Those of `set` that `model` has too. */
struct parameter_set *parameters_like(struct parameter_set *set,
                                      const struct parameter_set *model) MUST_CHECK;
/* A set on its way to another worker's store. */
struct parameter_parcel;
struct parameter_parcel *parameters_pack(const struct parameter_set *set) MUST_CHECK;
/* The same set in this store; the parcel is freed. NULL when memory is out. */
struct parameter_set *parameters_unpack(struct parameter_store *store,
                                        struct parameter_parcel *parcel) MUST_CHECK;
void parameter_parcel_free(struct parameter_parcel *parcel); /* NULL is fine */

/* The value; NULL when it is not in the set. */
const char *parameters_find(const struct parameter_set *set, const char *name);

/* Adds the statements that make a server with the parameters `is` one with `wanted`: what
 * differs is set, what is in `is` alone is reset. Nothing when they are the same. */
void parameters_add_change(const struct parameter_set *is,
                           const struct parameter_set *wanted, struct text *query);

/* Calls `use` for each parameter. */
void parameters_each(const struct parameter_set *set,
                     void (*use)(void *arg, const char *name, const char *value),
                     void *arg);

#endif
