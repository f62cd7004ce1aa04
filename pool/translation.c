#include "pool/translation.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "pool/translation_notes.h"

/* Changes that one message may make: two Close and a Parse before it, and its own. */
#define NOTES_PER_MESSAGE 4u

/* A message of the client's. */
struct job {
    struct translation *translation;
    struct flow *flow;
    const struct message_view *message;
    struct edit *edit;
    size_t at;    /* in the edit's piece */
    uint8_t next; /* type of the message behind it; 0: not here */
};

/* ---- what the server is told --------------------------------------------------------
 */

static bool is_whole(const struct job *job)
{
    return job->message->n == job->message->length;
}

/* Of the piece's first byte behind it. */
static size_t end_of(const struct job *job)
{
    return job->at + MESSAGE_HEADER_BYTES + job->message->n;
}

/* The number of the message that is forwarded by this. */
static uint32_t forward(const struct job *job, uint8_t type)
{
    uint32_t at = job->flow->n_forwarded;

    /* It is neither in copy-in nor skipping, nor full: translation_ask() has looked. */
    REQUIRE(flow_forward(job->flow, type) == FLOW_GOES_ON);
    return at;
}

static void write_header(uint8_t header[MESSAGE_HEADER_BYTES], char type, size_t length)
{
    header[0] = (uint8_t)type;
    wire_write_u32(header + 1, (uint32_t)length + 4);
}

/* Before the message, which is all that the server will hear of it if it has none. */
static void insert(const struct job *job, const void *bytes, size_t n)
{
    edit_insert(job->edit, job->at, bytes, n);
}

static void insert_target(const struct job *job, char type, const char *name)
{
    struct message_target target = {.kind = 'S', .name = name};
    uint8_t bytes[MESSAGE_HEADER_BYTES + 1 + STATEMENT_NAME_MAX];

    insert(job, bytes, message_write_target(type, &target, bytes, sizeof bytes));
}

static void insert_parse(const struct job *job, const struct statement *statement)
{
    const char *name = statement_name(statement);
    size_t n_name = strlen(name) + 1, n;
    const uint8_t *rest = statement_rest(statement, &n);
    uint8_t header[MESSAGE_HEADER_BYTES];

    write_header(header, 'P', n_name + n);
    insert(job, header, sizeof header);
    insert(job, name, n_name);
    insert(job, rest, n);
}

/* The message with `by` in place of the `n_old` bytes at `old`, which is in its body. */
static void replace_in(const struct job *job, const char *old, size_t n_old,
                       const char *by)
{
    size_t n_new = strlen(by);
    size_t from = (size_t)((const uint8_t *)old - job->edit->bytes);
    uint8_t header[MESSAGE_HEADER_BYTES];

    write_header(header, (char)job->message->type, job->message->length - n_old + n_new);
    edit_cut(job->edit, job->at, job->at + MESSAGE_HEADER_BYTES);
    edit_insert(job->edit, job->at + MESSAGE_HEADER_BYTES, header, sizeof header);
    edit_cut(job->edit, from, from + n_old);
    edit_insert(job->edit, from + n_old, by, n_new);
}

/* The same for a name. */
static void rename_in(const struct job *job, const char *old, const char *name)
{
    replace_in(job, old, strlen(old), name);
}

/* ---- what the server has ------------------------------------------------------------
 */

static void close_on_server(const struct job *job, struct server_statement *statement)
{
    struct note *note = notes_add(job->translation, forward(job, 'C'));

    note->is_swallowed = true;
    note_statement(job->translation, note, statement, STATEMENT_ABSENT);
    insert_target(job, 'C', statement->name);
}

/* Room for the statement, which is not on the server or must be parsed anew: then
 * `*place` is absent. */
static enum translated make_place(const struct job *job,
                                  const struct statement *statement,
                                  struct server_statement **place)
{
    struct server_statements *set = &job->translation->set;
    struct server_statement *found =
        server_statements_get(set, statement_name(statement));
    struct server_statement *leaves = found;

    if (found == NULL)
        return TRANSLATED_NO_MEMORY;
    if (found->presence == STATEMENT_ABSENT)
        leaves =
            set->by_use.n < job->translation->max ? NULL : server_statements_oldest(set);
    if (leaves != NULL && notes_are_behind(job->translation, &leaves->pending)) {
        server_statements_settle(set, found);
        return TRANSLATED_LATER;
    }
    if (leaves != NULL)
        close_on_server(job, leaves);
    /* The setting was lowered: one more at a time. */
    if (set->by_use.n >= job->translation->max && leaves != NULL) {
        leaves = server_statements_oldest(set);
        if (leaves->pending.n == 0)
            close_on_server(job, leaves);
    }
    *place = found;
    return TRANSLATED;
}

/* Whether the server has it as it is. TRANSLATED_LATER: nobody knows yet. */
static enum translated look_for(const struct job *job, const struct statement *statement,
                                bool *is_here)
{
    struct server_statements *set = &job->translation->set;
    struct server_statement *found =
        server_statements_find(set, statement_name(statement));

    if (found != NULL && notes_are_behind(job->translation, &found->pending))
        return TRANSLATED_LATER;
    *is_here = found != NULL && found->presence == STATEMENT_HERE;
    if (*is_here)
        server_statements_touch(set, found);
    return TRANSLATED;
}

/* Sees to it that the server has the statement when it reads the message. */
static enum translated provide(const struct job *job, const struct statement *statement)
{
    struct server_statement *place;
    bool is_here;
    enum translated result = look_for(job, statement, &is_here);
    struct note *note;

    if (result != TRANSLATED || is_here)
        return result;
    result = make_place(job, statement, &place);
    if (result != TRANSLATED)
        return result;
    note = notes_add(job->translation, forward(job, 'P'));
    note->is_swallowed = true;
    job->translation->n_parses++;
    note_statement(job->translation, note, place, STATEMENT_HERE);
    insert_parse(job, statement);
    return TRANSLATED;
}

static enum translated reserve(const struct job *job)
{
    switch (notes_reserve(job->translation, NOTES_PER_MESSAGE)) {
    case NOTES_ROOM:
        return TRANSLATED;
    case NOTES_TOO_MANY:
        return job->flow->n_groups > 0 ? TRANSLATED_LATER : TRANSLATED_ILLEGAL;
    case NOTES_NO_MEMORY:
        return TRANSLATED_NO_MEMORY;
    }
    UNREACHABLE();
}

/* What the client means by a name. TRANSLATED_AS_IS: nothing of its own. */
static enum translated mean(const struct job *job, const char *text,
                            struct client_name **name)
{
    struct translation *translation = job->translation;
    struct client_name *found =
        statement_names_find(translation->store, translation->names, text);

    if (found != NULL && notes_are_behind(translation, &found->pending))
        return TRANSLATED_LATER;
    if (found == NULL || found->statement == NULL)
        return TRANSLATED_AS_IS;
    *name = found;
    return reserve(job);
}

/* ---- statements without a name ------------------------------------------------------
 */

/* Something is under way behind the last Sync, whose failure has the message skipped. */
static bool may_be_skipped(const struct job *job)
{
    uint32_t n = job->flow->n_forwarded;

    return n != job->translation->synced_at && n != job->flow->n_answered;
}

/* What the client had prepared without a name is gone. */
static enum translated forget_unnamed(const struct job *job)
{
    struct translation *translation = job->translation;
    struct client_name *name =
        statement_names_find(translation->store, translation->names, "");

    if (name == NULL)
        return TRANSLATED;
    if (notes_are_behind(translation, &name->pending))
        return TRANSLATED_LATER;
    client_name_set(name, NULL);
    client_name_settle(translation->store, name);
    return TRANSLATED;
}

/* The client means a statement without a name that it does not have; what another has
 * left on the server is not to be taken for it. */
static enum translated pass_unknown(const struct job *job)
{
    enum translated result = reserve(job);

    if (result != TRANSLATED)
        return result;
    notes_add(job->translation, forward(job, 'C'))->is_swallowed = true;
    insert_target(job, 'C', "");
    (void)forward(job, job->message->type);
    return TRANSLATED;
}

/* ---- SQL that drops statements ------------------------------------------------------
 */

/* So much of a text is looked at to see whether it is such. */
#define TEXT_LOOKED_AT 32u
/* The longest name that SQL knows, with its zero: NAMEDATALEN. */
#define SQL_NAME_MAX 64u

static const char *skip_blanks(const char *text)
{
    return text + strspn(text, " \t\n\r\f\v");
}

/* Goes behind a keyword and the blanks behind that, if it is there. */
static bool skip_word(const char **text, const char *word)
{
    size_t n = strlen(word);

    if (strncasecmp(*text, word, n) != 0 || skip_blanks(*text + n) == *text + n)
        return false;
    *text = skip_blanks(*text + n);
    return true;
}

static bool is_of_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           c == '_' || c == '$';
}

/* An identifier, as SQL means it; false when it is none that we know how to read. */
static bool read_name(const char **text, char name[SQL_NAME_MAX])
{
    bool is_quoted = **text == '"';
    const char *at = *text + is_quoted;
    size_t n = 0;

    while (n + 1 < SQL_NAME_MAX &&
           (is_quoted ? *at != '"' && *at != '\0' : is_of_name(*at))) {
        name[n++] = !is_quoted && *at >= 'A' && *at <= 'Z' ? (char)(*at | 0x20) : *at;
        at++;
    }
    name[n] = '\0';
    if (is_quoted && *at++ != '"')
        return false;
    *text = at;
    return n > 0 && *at != '"' && !is_of_name(*at);
}

enum text_looks {
    TEXT_PASSES,
    TEXT_DROPS, /* it begins as those do */
    TEXT_GUARDS /* it begins as one that has such a one in the middle */
};

/* Of the text `n` bytes are here. */
static enum text_looks look_at(const char *text, size_t n)
{
    char begin[TEXT_LOOKED_AT + 1];

    while (n > 0 && (*text == ' ' || (*text >= '\t' && *text <= '\r'))) {
        text++;
        n--;
    }
    if (n == 0 || ((*text | 0x20) != 'd' && (*text | 0x20) != 's'))
        return TEXT_PASSES;
    snprintf(begin, sizeof begin, "%.*s", (int)(n < TEXT_LOOKED_AT ? n : TEXT_LOOKED_AT),
             text);
    if (strncasecmp(begin, "savepoint", 9) == 0)
        return TEXT_GUARDS;
    return strncasecmp(begin, "deallocate", 10) == 0 ||
                   strncasecmp(begin, "discard", 7) == 0
               ? TEXT_DROPS
               : TEXT_PASSES;
}

static bool is_end(const char *text)
{
    return text[strspn(text, " \t\n\r\f\v;")] == '\0';
}

/* "DEALLOCATE name"; "" when it is ALL. */
static bool read_deallocate(const char **text, char name[SQL_NAME_MAX])
{
    bool is_quoted;

    *text = skip_blanks(*text);
    if (!skip_word(text, "deallocate"))
        return false;
    (void)skip_word(text, "prepare");
    is_quoted = **text == '"';
    if (!read_name(text, name))
        return false;
    if (!is_quoted && strcmp(name, "all") == 0)
        name[0] = '\0';
    return true;
}

/* A statement that is dropped in a transaction, as psqlODBC does it:
 * "SAVEPOINT a;DEALLOCATE name;RELEASE a". The middle is from `*from` up to `*to`. */
static bool read_guarded(const char *text, char name[SQL_NAME_MAX], const char **from,
                         const char **to)
{
    char savepoint[SQL_NAME_MAX];

    text = skip_blanks(text);
    if (!skip_word(&text, "savepoint") || !read_name(&text, savepoint))
        return false;
    *from = skip_blanks(text);
    if (*(*from)++ != ';')
        return false;
    text = *from;
    if (!read_deallocate(&text, name))
        return false;
    *to = skip_blanks(text);
    if (*(*to)++ != ';')
        return false;
    text = skip_blanks(*to);
    return skip_word(&text, "release") && read_name(&text, savepoint) && is_end(text);
}

/* The message by which a client's name is dropped is forwarded. */
static enum translated forward_drop(const struct job *job, struct client_name *name,
                                    struct note **note)
{
    uint32_t at = job->flow->n_forwarded;

    switch (flow_forward(job->flow, job->message->type)) {
    case FLOW_GOES_ON:
    case FLOW_READY:
        break;
    case FLOW_FULL:
        return TRANSLATED_LATER;
    case FLOW_ILLEGAL:
    case FLOW_CONFUSED:
        return TRANSLATED_ILLEGAL;
    }
    *note = notes_add(job->translation, at);
    note_name(*note, name, NULL);
    return TRANSLATED;
}

/* The client's name is forgotten; the server is told nothing in as many messages. */
static enum translated drop_name(const struct job *job, const char *text)
{
    static const uint8_t query[] = {'Q', 0, 0, 0, 5, 0};
    static const uint8_t parse[] = {'P', 0, 0, 0, 8, 0, 0, 0, 0};
    bool is_query = job->message->type == 'Q';
    struct client_name *name;
    struct note *note;
    enum translated result;

    if (!is_query && forget_unnamed(job) != TRANSLATED)
        return TRANSLATED_LATER;
    result = mean(job, text, &name);
    if (result == TRANSLATED)
        result = forward_drop(job, name, &note);
    if (result != TRANSLATED)
        return result;
    note->is_deallocate = is_query;
    note->gives_unnamed = !is_query;
    job->translation->has_unnamed |= !is_query;
    edit_cut(job->edit, job->at, end_of(job));
    edit_insert(job->edit, end_of(job), is_query ? query : parse,
                is_query ? sizeof query : sizeof parse);
    return TRANSLATED;
}

/* The same; what drops it is left out of the text. */
static enum translated drop_guarded(const struct job *job, const char *text,
                                    const char *from, const char *to)
{
    struct client_name *name;
    struct note *note;
    enum translated result = mean(job, text, &name);

    if (result == TRANSLATED)
        result = forward_drop(job, name, &note);
    if (result == TRANSLATED)
        replace_in(job, from, (size_t)(to - from), "");
    return result;
}

/* A text passes that begins `n_before` bytes behind the begin of the body. */
static enum translated pass_text(const struct job *job, size_t n_before)
{
    const char *text = (const char *)job->message->body + n_before, *at = text, *to;
    size_t n = job->message->n - n_before;
    enum text_looks looks;
    char name[SQL_NAME_MAX];
    bool is_readable;

    if (!is_whole(job) && n < TEXT_LOOKED_AT)
        return TRANSLATED_MORE;
    looks = look_at(text, n);
    if (looks == TEXT_PASSES)
        return TRANSLATED_AS_IS;
    if (!is_whole(job) && job->message->length <= MESSAGE_SMALL_MAX)
        return TRANSLATED_MORE;
    is_readable = is_whole(job) && memchr(text, '\0', n) != NULL;
    if (looks == TEXT_GUARDS)
        return is_readable && job->message->type == 'Q' &&
                       read_guarded(text, name, &at, &to) && *name != '\0'
                   ? drop_guarded(job, name, at, to)
                   : TRANSLATED_AS_IS;
    if (is_readable && read_deallocate(&at, name) && is_end(at) && *name != '\0')
        return drop_name(job, name);
    server_statements_spoil(&job->translation->set);
    return TRANSLATED_AS_IS;
}

/* A Query that may be skipped passes; if it is not, the client's statement without a name
 * is gone. */
static enum translated pass_taking(const struct job *job, struct client_name *unnamed)
{
    uint32_t at = job->flow->n_forwarded;
    enum translated result = pass_text(job, 0);
    struct note *note;

    if (result == TRANSLATED) {
        note = notes_add(job->translation, at);
        note_name(note, unnamed, NULL);
    } else if (result == TRANSLATED_AS_IS) {
        result = forward_drop(job, unnamed, &note);
    }
    if (result == TRANSLATED)
        note->takes_unnamed = true;
    return result;
}

static enum translated on_query(const struct job *job)
{
    struct client_name *unnamed;
    enum translated result = mean(job, "", &unnamed);

    if (result == TRANSLATED && may_be_skipped(job))
        return pass_taking(job, unnamed);
    if (result == TRANSLATED)
        result = forget_unnamed(job);
    return result == TRANSLATED || result == TRANSLATED_AS_IS ? pass_text(job, 0)
                                                              : result;
}

/* ---- Parse --------------------------------------------------------------------------
 */

/* The server has it, and does not hear of it again. */
static void answer_parse(const struct job *job, struct client_name *name,
                         struct statement *statement)
{
    struct note *note = notes_add(job->translation, job->flow->n_forwarded);

    note->say = '1';
    note_name(note, name, statement);
    edit_cut(job->edit, job->at, end_of(job));
}

static enum translated pass_parse(const struct job *job, const char *old,
                                  struct client_name *name, struct statement *statement)
{
    struct server_statement *place;
    enum translated result = make_place(job, statement, &place);
    struct note *note;

    if (result != TRANSLATED)
        return result;
    note = notes_add(job->translation, forward(job, 'P'));
    job->translation->n_parses++;
    note_statement(job->translation, note, place, STATEMENT_HERE);
    note_name(note, name, statement);
    note->takes_unnamed = *old == '\0';
    rename_in(job, old, statement_name(statement));
    return TRANSLATED;
}

static enum translated parse_new(const struct job *job, const struct message_parse *parse,
                                 struct statement *statement)
{
    struct translation *translation = job->translation;
    struct client_name *name;
    bool is_here;
    enum translated result = look_for(job, statement, &is_here);

    if (result != TRANSLATED)
        return result;
    name = statement_names_get(translation->store, translation->names, parse->name);
    if (name == NULL)
        return TRANSLATED_NO_MEMORY;
    if (is_here) {
        answer_parse(job, name, statement);
        return TRANSLATED;
    }
    result = pass_parse(job, parse->name, name, statement);
    client_name_settle(translation->store, name); /* if it has come to nothing */
    return result;
}

/* The client has the name already, which is an error. The server is to tell it, by the
 * same error: what it has by a name of ours is parsed once more. */
static enum translated parse_again(const struct job *job, const char *name,
                                   const struct statement *statement)
{
    enum translated result;

    if (job->flow->n_groups > 0) /* what is under way may be a DEALLOCATE ALL */
        return TRANSLATED_LATER;
    result = provide(job, statement);
    if (result != TRANSLATED)
        return result;
    notes_add(job->translation, forward(job, 'P'))->must_fail = true;
    job->translation->n_parses++;
    rename_in(job, name, statement_name(statement));
    return TRANSLATED;
}

#define SESSION_MAX 1024u

/* What the meaning of a text depends on, of the session in which it is read: PostgreSQL
 * does so once. What names mean (search_path) it looks up again. */
static const char *read_session(const struct translation *translation,
                                char session[SESSION_MAX])
{
    static const char *const names[] = {"client_encoding", "standard_conforming_strings",
                                        "DateStyle", "IntervalStyle", "TimeZone"};
    size_t n = 0;

    session[0] = '\0';
    for (size_t i = 0; translation->session != NULL && *translation->session != NULL &&
                       i < sizeof names / sizeof *names && n < SESSION_MAX;
         i++) {
        const char *value = parameters_find(*translation->session, names[i]);

        n += (size_t)snprintf(session + n, SESSION_MAX - n, "%s\n",
                              value == NULL ? "" : value);
    }
    return session;
}

static enum translated follow_parse(const struct job *job,
                                    const struct message_parse *parse)
{
    struct translation *translation = job->translation;
    struct client_name *name =
        statement_names_find(translation->store, translation->names, parse->name);
    char session[SESSION_MAX];
    struct statement *statement;
    enum translated result = reserve(job);

    if (result != TRANSLATED)
        return result;
    if (name != NULL && notes_are_behind(translation, &name->pending))
        return TRANSLATED_LATER;
    if (name != NULL && name->statement != NULL && *parse->name != '\0')
        return parse_again(job, parse->name, name->statement);
    if (translation->names->n_bytes + job->message->length > STATEMENT_NAMES_BYTES_MAX)
        return TRANSLATED_TOO_LONG;
    statement = statement_hold_parsed(translation->store, parse,
                                      read_session(translation, session));
    if (statement == NULL)
        return TRANSLATED_NO_MEMORY;
    result = parse_new(job, parse, statement);
    if (result != TRANSLATED)
        statement_release(statement);
    return result;
}

static enum translated on_whole_parse(const struct job *job)
{
    const struct message_view *message = job->message;
    struct message_parse parse;

    if (!is_whole(job))
        return TRANSLATED_MORE;
    if (!message_read_parse(message->body, message->length, &parse))
        return TRANSLATED_AS_IS; /* the server says what is wrong with it */
    return strlen(parse.name) > CLIENT_NAME_MAX ? TRANSLATED_ILLEGAL
                                                : follow_parse(job, &parse);
}

/* Whether what it replaces must be known, should it be skipped. */
static bool may_come_back(const struct translation *translation)
{
    return !translation->has_unnamed ||
           statement_names_find(translation->store, translation->names, "") != NULL;
}

static enum translated on_unnamed_parse(const struct job *job)
{
    struct translation *translation = job->translation;
    enum translated result = pass_text(job, 1);

    if (result != TRANSLATED_AS_IS)
        return result;
    if (job->message->length <= STATEMENT_BYTES_MAX &&
        (job->next != 'B' || (may_be_skipped(job) && may_come_back(translation))))
        return on_whole_parse(job);
    if (forget_unnamed(job) != TRANSLATED)
        return TRANSLATED_LATER;
    translation->has_unnamed = true;
    return TRANSLATED_AS_IS;
}

static enum translated on_parse(const struct job *job)
{
    const struct message_view *message = job->message;

    if (message->n > 0 && message->body[0] == '\0')
        return on_unnamed_parse(job);
    if (message->n > 0 && message->length > STATEMENT_BYTES_MAX)
        return TRANSLATED_TOO_LONG;
    return on_whole_parse(job);
}

/* ---- Bind, Describe, Close ----------------------------------------------------------
 */

/* A message that names a statement passes under our name for it. */
static enum translated pass_renamed(const struct job *job, const char *text)
{
    struct client_name *name;
    enum translated result = mean(job, text, &name);

    if (result == TRANSLATED_AS_IS && *text == '\0' && !job->translation->has_unnamed)
        return pass_unknown(job);
    if (result == TRANSLATED)
        result = provide(job, name->statement);
    if (result != TRANSLATED)
        return result;
    job->translation->binds_plain = statement_is_plain(name->statement);
    (void)forward(job, job->message->type);
    rename_in(job, text, statement_name(name->statement));
    return TRANSLATED;
}

static enum translated on_bind(const struct job *job)
{
    const struct message_view *message = job->message;
    struct message_bind bind;

    if (message->length > INT32_MAX - 4 - STATEMENT_NAME_MAX)
        return TRANSLATED_ILLEGAL;
    if (message_read_bind(message->body, message->n, &bind))
        return pass_renamed(job, bind.statement);
    if (is_whole(job))
        return TRANSLATED_AS_IS;
    return message->n > MESSAGE_SMALL_MAX ? TRANSLATED_ILLEGAL : TRANSLATED_MORE;
}

/* The client's name is forgotten; the server keeps the statement. */
static enum translated close_name(const struct job *job, const char *text)
{
    struct client_name *name;
    enum translated result = mean(job, text, &name);
    struct note *note;

    if (result != TRANSLATED)
        return result;
    note = notes_add(job->translation, job->flow->n_forwarded);
    note->say = '3';
    note_name(note, name, NULL);
    if (*text == '\0')
        job->translation->has_unnamed = false;
    edit_cut(job->edit, job->at, end_of(job));
    return TRANSLATED;
}

static enum translated on_target(const struct job *job)
{
    const struct message_view *message = job->message;
    struct message_target target;

    if (!is_whole(job))
        return TRANSLATED_MORE;
    if (!message_read_target(message->body, message->length, &target) ||
        target.kind != 'S')
        return TRANSLATED_AS_IS;
    return message->type == 'C' ? close_name(job, target.name)
                                : pass_renamed(job, target.name);
}

enum translated translation_ask(struct translation *translation, struct flow *flow,
                                const struct message_view *message, uint8_t next,
                                struct edit *edit, size_t at)
{
    struct job job = {translation, flow, message, edit, at, next};

    translation->binds_plain = false;
    if (flow_is_copying_in(flow) || (flow->flags & FLOW_SKIPPING) != 0)
        return TRANSLATED_AS_IS; /* illegal, or skipped */
    if (flow->n_tail > UINT32_MAX - NOTES_PER_MESSAGE)
        return TRANSLATED_ILLEGAL;
    switch (message->type) {
    case 'P':
        return on_parse(&job);
    case 'B':
        return on_bind(&job);
    case 'Q':
        return on_query(&job);
    default:
        return on_target(&job);
    }
}
