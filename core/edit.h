/* core/edit.h - a piece of a stream that is changed on its way.
 *
 *   piece    aaaa BBBB cccc dddd        cut B, insert x before d
 *   becomes  aaaa      cccc x dddd      in buffers of its own, as many as it takes
 *
 * As long as nothing is changed nothing is copied: then the piece may pass as it is.
 *
 * Thread: that of the pond.
 */
#ifndef CORE_EDIT_H
#define CORE_EDIT_H

#include <stddef.h>

#include "core/buffer.h"

struct edit {
    struct pond *pond;
    const uint8_t *bytes; /* the piece */
    size_t n_done;        /* of it, what was copied or cut */
    struct buffer *first; /* what it becomes, a chain; NULL: nothing */
    struct buffer *last;
    size_t n_out; /* bytes in the chain */
    bool is_changed;
    bool has_failed; /* memory was out */
};

static inline struct edit edit_begin(struct pond *pond, const uint8_t *bytes)
{
    return (struct edit){.pond = pond, .bytes = bytes};
}

/* Leaves out the bytes of the piece from `from` up to `to`. All changes are made in the
 * order of the piece. */
void edit_cut(struct edit *edit, size_t from, size_t to);
/* Puts bytes before the one at `at`; behind what was put there before. */
void edit_insert(struct edit *edit, size_t at, const void *bytes, size_t n);
/* The piece ends at `n`. False when memory was out, and then there is no chain. Otherwise
 * the chain is the caller's, if the piece was changed. */
bool edit_end(struct edit *edit, size_t n) MUST_CHECK;
/* Gives back what there is of a chain. */
void edit_drop(struct edit *edit);

#endif
