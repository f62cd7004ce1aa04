/* pool/statement_texts.h - the texts of prepared statements, of all workers, and the name
 * of ours by which each goes on servers.
 *
 * A text is one with its parameter types and what a session had to say of how it is read.
 * Whichever worker prepares the same gets the same name, so that a server which moves
 * between workers does not have it twice.
 *
 * Thread: any; under a mutex. A worker asks for a text once for as long as it keeps it
 * (pool/statements.h).
 */
#ifndef POOL_STATEMENT_TEXTS_H
#define POOL_STATEMENT_TEXTS_H

#include <stddef.h>
#include <stdint.h>

#include "core/check.h"

/* Names on servers are shorter. */
#define STATEMENT_NAME_MAX 32

struct statement_texts;

struct statement_text {
    char name[STATEMENT_NAME_MAX];
    size_t n_rest;
    size_t n_key;
    uint32_t hash;      /* of the key */
    const uint8_t *key; /* the rest of its Parse, `n_rest` bytes: text, zero byte, number
                           of types, types; then what it depends on of the session */
};

/* NULL when memory is out. */
struct statement_texts *statement_texts_new(void) MUST_CHECK;
/* Nothing may be held any more. NULL is fine. */
void statement_texts_free(struct statement_texts *texts);

/* Of a key, for tables of its texts. */
uint32_t statement_texts_hash(const struct statement_texts *texts, const uint8_t *key,
                              size_t n_key);
/* Held for the caller; does not change. NULL when memory is out. */
const struct statement_text *statement_texts_hold(struct statement_texts *texts,
                                                  const uint8_t *key, size_t n_key,
                                                  size_t n_rest,
                                                  uint32_t hash) MUST_CHECK;
void statement_texts_release(struct statement_texts *texts,
                             const struct statement_text *text);

#endif
