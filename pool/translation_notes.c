#include "pool/translation_notes.h"

#include <string.h>

#include "core/memory.h"
#include "wire/error.h"

#define NOTES_MIN 16u
/* A client may have so many messages of a kind under way. */
#define NOTES_MAX 65536u
/* What a server at rest keeps. */
#define NOTES_KEPT 64u

/* ---- the ring -----------------------------------------------------------------------
 */

static struct note *note_at(const struct translation *translation, uint32_t i)
{
    return &translation->notes[(translation->first + i) & (translation->size - 1)];
}

enum notes_room notes_reserve(struct translation *translation, uint32_t n)
{
    uint32_t size = translation->size == 0 ? NOTES_MIN : translation->size;
    struct note *notes;

    while (size - translation->n_notes < n)
        size *= 2;
    if (size == translation->size)
        return NOTES_ROOM;
    if (size > NOTES_MAX)
        return NOTES_TOO_MANY;
    notes = memory_zeroed(size * sizeof *notes);
    if (notes == NULL)
        return NOTES_NO_MEMORY;
    for (uint32_t i = 0; i < translation->n_notes; i++)
        notes[i] = *note_at(translation, i);
    memory_free(translation->notes);
    translation->notes = notes;
    translation->size = size;
    translation->first = 0;
    return NOTES_ROOM;
}

struct note *notes_add(struct translation *translation, uint32_t at)
{
    struct note *note = note_at(translation, translation->n_notes);

    REQUIRE(translation->n_notes < translation->size);
    translation->n_notes++;
    *note = (struct note){.at = at};
    return note;
}

void note_name(struct note *note, struct client_name *name, struct statement *statement)
{
    note->name = name;
    note->before = client_name_swap(name, statement);
    name->pending.n++;
    name->pending.at = note->at;
}

void note_statement(struct translation *translation, struct note *note,
                    struct server_statement *statement, enum presence presence)
{
    note->on_server = statement;
    note->was = statement->presence;
    server_statements_set(&translation->set, statement, presence);
    statement->pending.n++;
    statement->pending.at = note->at;
}

static void pop(struct translation *translation, uint32_t n)
{
    translation->first = (translation->first + n) & (translation->size - 1);
    translation->n_notes -= n;
}

/* ---- what becomes of them -----------------------------------------------------------
 */

/* What the note has changed holds. */
static void confirm(struct translation *translation, struct note *note)
{
    if (note->on_server != NULL) {
        note->on_server->pending.n--;
        server_statements_settle(&translation->set, note->on_server);
    }
    if (note->name != NULL) {
        note->name->pending.n--;
        statement_release(note->before);
        client_name_settle(translation->store, note->name);
    }
}

/* What the note has changed was skipped. */
static void take_back(struct translation *translation, struct note *note)
{
    if (note->on_server != NULL) {
        note->on_server->pending.n--;
        server_statements_set(&translation->set, note->on_server, note->was);
        server_statements_settle(&translation->set, note->on_server);
    }
    if (note->name != NULL) {
        note->name->pending.n--;
        client_name_set(note->name, note->before);
        client_name_settle(translation->store, note->name);
    }
}

/* Of a message before the `n`-th: what it says comes before the answer to that. */
static bool is_before(const struct note *note, uint32_t n)
{
    int32_t distance = (int32_t)(note->at - n);

    return note->say != 0 ? distance <= 0 : distance < 0;
}

void translation_catch_up(struct translation *translation, const struct flow *flow,
                          struct edit *edit, size_t at)
{
    while (translation->n_notes > 0) {
        struct note *note = note_at(translation, 0);
        uint8_t bytes[MESSAGE_HEADER_BYTES];

        if (!is_before(note, flow->n_answered))
            return;
        if (note->say != 0)
            edit_insert(edit, at, bytes,
                        message_write_empty(note->say, bytes, sizeof bytes));
        confirm(translation, note);
        pop(translation, 1);
    }
}

/* What has failed was not done, but for that. */
static void undo(struct translation *translation, struct note *note, bool has_failed)
{
    if (has_failed && note->takes_unnamed) {
        statement_release(note->before);
        note->before = NULL;
    }
    if (note->gives_unnamed || (has_failed && note->takes_unnamed))
        translation->has_unnamed = false;
    take_back(translation, note);
}

/* A Query has failed, and nothing behind it. What a later message has changed once more
 * stays. */
static void fail_query(struct translation *translation, uint32_t failed)
{
    while (translation->n_notes > 0 && note_at(translation, 0)->at == failed &&
           note_at(translation, 0)->say == 0) {
        struct note *note = note_at(translation, 0);

        if (note->takes_unnamed || (note->name != NULL && note->name->pending.n > 1))
            confirm(translation, note);
        else
            take_back(translation, note);
        pop(translation, 1);
    }
}

/* The message `failed` has failed, and those behind it up to `n_answered` are skipped.
 * The last one first: each puts back what it has found. */
static void skip(struct translation *translation, uint32_t failed, uint32_t n_answered)
{
    uint32_t n = 0;

    while (n < translation->n_notes && is_before(note_at(translation, n), n_answered))
        n++;
    for (uint32_t i = n; i > 0; i--) {
        struct note *note = note_at(translation, i - 1);

        undo(translation, note, note->at == failed && note->say == 0);
    }
    pop(translation, n);
}

enum translation_sight translation_see(struct translation *translation,
                                       const struct flow *flow, uint32_t n_answered,
                                       uint8_t type)
{
    const struct note *note;

    if (translation->n_notes == 0)
        return SIGHT_PASSES;
    if (type == 'E') {
        if (flow->n_answered != n_answered)
            skip(translation, n_answered, flow->n_answered);
        else
            fail_query(translation, n_answered);
        return SIGHT_PASSES;
    }
    note = note_at(translation, 0);
    if (note->say != 0 || note->at != n_answered)
        return SIGHT_PASSES;
    if (type == 'I' && note->is_deallocate)
        return SIGHT_IS_DEALLOCATE;
    if (type != '1' && type != '3')
        return SIGHT_PASSES;
    if (note->must_fail)
        return SIGHT_CONFUSED;
    return note->is_swallowed ? SIGHT_IS_OURS : SIGHT_PASSES;
}

const uint8_t translation_deallocated[] = "C\0\0\0\017DEALLOCATE";

bool translation_is_due(const struct translation *translation, const struct flow *flow)
{
    return translation->n_notes > 0 &&
           is_before(note_at(translation, 0), flow->n_answered);
}

/* ---- all at once --------------------------------------------------------------------
 */

/* The server has no statement any more, but for what it is told later. */
static void forget_all(struct translation *translation)
{
    for (uint32_t i = 0; i < translation->n_notes; i++) {
        struct note *note = note_at(translation, i);

        note->was = STATEMENT_ABSENT;
        statement_release(note->before);
        note->before = NULL;
    }
    server_statements_clear(&translation->set);
    if (translation->names != NULL)
        statement_names_clear(translation->store, translation->names);
}

void translation_see_tag(struct translation *translation, const uint8_t *body, size_t n)
{
    static const char deallocate[] = "DEALLOCATE ALL", discard[] = "DISCARD ALL";

    if ((n == sizeof deallocate && memcmp(body, deallocate, n) == 0) ||
        (n == sizeof discard && memcmp(body, discard, n) == 0))
        forget_all(translation);
}

/* The routine in which PostgreSQL finds that a plan's result has another type than it
 * had; in English whatever lc_messages is. */
static bool names_routine(const uint8_t *body, size_t n)
{
    static const char routine[] = "\0RRevalidateCachedQuery";

    return memmem(body, n, routine, sizeof routine) != NULL;
}

void translation_see_error(struct translation *translation, const uint8_t *body, size_t n)
{
    struct error_fields error;

    if (translation->set.by_use.n == 0)
        return;
    error_read(body, n, &error);
    /* What is gone was deallocated where nobody could see it, say by a function. */
    if ((strcmp(error.sqlstate, "0A000") == 0 && names_routine(body, n)) ||
        (strcmp(error.sqlstate, "26000") == 0 && strstr(error.text, "pgrouter_") != NULL))
        server_statements_spoil(&translation->set);
}

/* ---- begin and end ------------------------------------------------------------------
 */

void translation_begin(struct translation *translation, struct statement_store *store,
                       struct statement_names *names,
                       struct parameter_set *const *session, unsigned max)
{
    REQUIRE(translation->names == NULL);
    translation->store = store;
    translation->names = names;
    translation->session = session;
    translation->max = max;
    translation->has_unnamed = false;
}

void translation_undo(struct translation *translation)
{
    for (uint32_t i = translation->n_notes; i > 0; i--)
        take_back(translation, note_at(translation, i - 1));
    translation->n_notes = 0;
}

/* What is left is about the server's statements. */
void translation_end(struct translation *translation)
{
    uint32_t n = translation->n_notes, n_left = 0;

    for (uint32_t i = 0; i < n; i++) {
        struct note note = *note_at(translation, i);

        if (note.name != NULL) {
            note.name->pending.n--;
            statement_release(note.before);
            client_name_settle(translation->store, note.name);
            note.name = NULL;
            note.before = NULL;
        }
        if (note.on_server != NULL || note.must_fail)
            *note_at(translation, n_left++) = note;
    }
    translation->n_notes = n_left;
    translation->names = NULL;
    translation->store = NULL;
    translation->session = NULL;
    if (n_left == 0 && translation->size > NOTES_KEPT) {
        memory_free(translation->notes);
        translation->notes = NULL;
        translation->size = translation->first = 0;
    }
}

void translation_clear(struct translation *translation)
{
    translation_end(translation);
    for (uint32_t i = 0; i < translation->n_notes; i++) {
        struct server_statement *statement = note_at(translation, i)->on_server;

        if (statement == NULL)
            continue;
        statement->pending.n--;
        server_statements_settle(&translation->set, statement);
    }
    server_statements_clear(&translation->set);
    memory_free(translation->notes);
    *translation = (struct translation){0};
}
