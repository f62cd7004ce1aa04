/* pool/translation.h - clients' names of prepared statements become a server's, in
 * flight.
 *
 *   client says       Parse a     Bind a     Sync       Parse b     Bind b     Close b
 * Sync server is told    Parse p7    Bind p7    Sync                   Bind p7 Sync it
 * answers        1           2          Z                      2                   Z
 *   client is told    1           2          Z          1           2          3        Z
 *
 * A Parse of what the server has already is answered by us, and so is a Close: the server
 * keeps the statement for others. What it lacks when a client binds it is parsed before,
 * and the answer to that swallowed. Of what we owe the client, swallow, or expect to
 * succeed there are notes, in the order of the messages: after an error the server skips
 * what stands before the next Sync, and so do we. Names change when a message passes, not
 * when it is answered; what was skipped is taken back. A message whose meaning depends on
 * what a Sync has not yet brought to light waits for that.
 *
 * A statement without a name passes untouched when it is bound in the message behind its
 * Parse. Some drivers bind it in their next round trip, when another server may be
 * theirs: otherwise it is followed as if it had a name. What others have left on a server
 * under no name is not there for the client.
 *
 * Portals and names that the client has not prepared pass untouched.
 *
 * Some drivers drop a statement by SQL. "DEALLOCATE a" is a Close to us, and an empty
 * query to the server; between a SAVEPOINT and its RELEASE it is left out. DEALLOCATE ALL
 * and DISCARD ALL are known by what the server answers; what a client says before it has
 * that answer may meet a server that has lost all, so that behind a text which looks like
 * one of them everything is closed and parsed anew.
 *
 * Pure but for memory; belongs to a server, and to the thread that has it.
 */
#ifndef POOL_TRANSLATION_H
#define POOL_TRANSLATION_H

#include "core/edit.h"
#include "pool/parameters.h"
#include "pool/statements.h"
#include "wire/flow.h"
#include "wire/message.h"

/* A Parse with a name must be held in memory: its body may be as long as this. One
 * without passes untouched if it is longer. */
#define STATEMENT_BYTES_MAX (4u << 20)

/* Something that is due when the server has answered so much. */
struct note {
    uint32_t at; /* flow.n_forwarded when it was made */
    char say;    /* an answer of ours, behind those to messages before `at`; 0: the note
                    is on message `at` itself */
    bool is_swallowed; /* its answer is not for the client */
    bool must_fail;
    bool is_deallocate; /* an empty Query stands for it */
    bool takes_unnamed; /* `name` is the one without a name: gone also if this fails */
    bool gives_unnamed; /* the server has a statement without a name by this */
    enum presence was;  /* of `on_server`, before it */
    struct server_statement *on_server; /* that it changes; NULL: none */
    struct client_name *name;           /* the same */
    struct statement *before;           /* held: what the name meant; may be NULL */
};

struct translation {
    struct server_statements set;
    struct statement_store *store;        /* of the client's worker */
    struct statement_names *names;        /* of the client; NULL: nothing is translated */
    struct parameter_set *const *session; /* the server's, at any time; may be NULL */
    unsigned max;                         /* statements on the server */
    bool has_unnamed;   /* the server's statement without a name is this client's */
    bool binds_plain;   /* the last Bind was of a statement that is: SQL_PLAIN */
    uint32_t synced_at; /* flow.n_forwarded behind the last Sync */
    struct note *notes; /* a ring */
    uint32_t size;      /* of it, 0 or a power of 2 */
    uint32_t first;
    uint32_t n_notes;
    uint32_t n_parses; /* of statements with a name, that the server was told; ever */
};

/* The server is a client's now, which names its statements as it likes. */
void translation_begin(struct translation *translation, struct statement_store *store,
                       struct statement_names *names,
                       struct parameter_set *const *session, unsigned max);
/* The client has left; its names are its own. */
void translation_end(struct translation *translation);
/* The server is gone with what it has not answered: the client's names mean what they
 * meant before. translation_end() follows. */
void translation_undo(struct translation *translation);
/* The server is gone. */
void translation_clear(struct translation *translation);

/* ---- from the client ----------------------------------------------------------------
 */

enum translated {
    TRANSLATED,       /* and forwarded, as far as anything was; the edit has it */
    TRANSLATED_AS_IS, /* it passes untouched, and is to be forwarded */
    /* Nothing has changed: */
    TRANSLATED_LATER, /* try again when the server has answered something */
    TRANSLATED_MORE,  /* try again when more of it is here */
    TRANSLATED_ILLEGAL,
    TRANSLATED_TOO_LONG, /* above STATEMENT_BYTES_MAX, or STATEMENT_NAMES_BYTES_MAX */
    TRANSLATED_NO_MEMORY
};

static inline bool translation_is_active(const struct translation *translation)
{
    return translation->names != NULL;
}

/* Whether messages of this type may have to be translated. */
static inline bool translation_concerns(const struct translation *translation,
                                        uint8_t type)
{
    return translation->names != NULL &&
           (type == 'B' || type == 'P' || type == 'D' || type == 'C' ||
            (type == 'Q' &&
             (translation->set.by_use.n > 0 || translation->names->first != NULL)));
}

/* A message of those, or its begin, which stands at `at` in the edit's piece. `next` is
 * the type of the message behind it, 0: that is not here. */
enum translated translation_ask(struct translation *translation, struct flow *flow,
                                const struct message_view *message, uint8_t next,
                                struct edit *edit, size_t at) MUST_CHECK;

/* A Sync was forwarded. */
static inline void translation_sync(struct translation *translation,
                                    const struct flow *flow)
{
    translation->synced_at = flow->n_forwarded;
}

/* ---- from the server ----------------------------------------------------------------
 *
 * Between two messages translation_catch_up() is called, and translation_see() behind
 * flow_see() of each one; neither need be when there are no notes.
 */

/* Says what is due to the client, by the edit, at `at` in its piece. */
void translation_catch_up(struct translation *translation, const struct flow *flow,
                          struct edit *edit, size_t at);

enum translation_sight {
    SIGHT_PASSES,
    SIGHT_IS_OURS,       /* not for the client */
    SIGHT_IS_DEALLOCATE, /* in its place the client is told translation_deallocated */
    SIGHT_CONFUSED       /* nobody knows what the server has: it is to be closed */
};
/* The server has said a message of this type; `n_answered` is flow.n_answered before. */
enum translation_sight translation_see(struct translation *translation,
                                       const struct flow *flow, uint32_t n_answered,
                                       uint8_t type) MUST_CHECK;

#define TRANSLATION_DEALLOCATED_BYTES (MESSAGE_HEADER_BYTES + 11u)
extern const uint8_t translation_deallocated[TRANSLATION_DEALLOCATED_BYTES];

/* It has said CommandComplete: of DEALLOCATE ALL and DISCARD ALL? */
#define TRANSLATION_TAG_MAX 24u
void translation_see_tag(struct translation *translation, const uint8_t *body, size_t n);
/* It has said ErrorResponse, of which the first `n` bytes are here: plans do not fit the
 * tables any more, or statements are gone that should be there? */
void translation_see_error(struct translation *translation, const uint8_t *body,
                           size_t n);

/* Whether something is due now: a Flush is to bring it. */
bool translation_is_due(const struct translation *translation, const struct flow *flow);

#endif
