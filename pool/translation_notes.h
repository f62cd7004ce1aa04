/* pool/translation_notes.h - what both halves of a translation do with its notes. */
#ifndef POOL_TRANSLATION_NOTES_H
#define POOL_TRANSLATION_NOTES_H

#include "pool/translation.h"

enum notes_room { NOTES_ROOM, NOTES_TOO_MANY, NOTES_NO_MEMORY };

/* Room for `n` more. */
enum notes_room notes_reserve(struct translation *translation, uint32_t n) MUST_CHECK;
/* A zeroed one at the end, for which there is room. */
struct note *notes_add(struct translation *translation, uint32_t at);
/* The note's message has the name mean `statement`, whose reference is taken over. */
void note_name(struct note *note, struct client_name *name, struct statement *statement);
/* The note's message puts a statement on the server, or takes it away. */
void note_statement(struct translation *translation, struct note *note,
                    struct server_statement *statement, enum presence presence);
/* Whether a Sync has been forwarded behind a change that is not answered yet. */
static inline bool notes_are_behind(const struct translation *translation,
                                    const struct statement_pending *pending)
{
    return pending->n > 0 && (int32_t)(pending->at - translation->synced_at) < 0;
}

#endif
