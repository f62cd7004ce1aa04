#include "router/replay.h"

#include <string.h>

#include "core/memory.h"
#include "router/worker.h"
#include "wire/sql.h"

/* A request in one piece. */
struct piece {
    uint8_t *bytes;
    size_t n;
};

/* False when memory is out. */
static bool join(const struct buffer_keep *request, struct piece *piece)
{
    piece->n = 0;
    piece->bytes = memory_zeroed(request->n + 1u);
    if (piece->bytes == NULL)
        return false;
    for (const struct buffer *buffer = request->first; buffer != NULL;
         buffer = buffer->kept_next) {
        uint32_t n = buffer->kept_end - buffer->kept_begin;

        memcpy(piece->bytes + piece->n, buffer->bytes + buffer->kept_begin, n);
        piece->n += n;
    }
    return true;
}

static bool is_harmless(const char *text, size_t n)
{
    unsigned flags = sql_read(text, n);

    return flags & SQL_SINGLE && flags & SQL_PLAIN;
}

/* A request of the extended protocol, as far as it was read. */
struct script {
    const struct client *client;
    struct message_parse parse; /* name == NULL: there is none */
    bool is_bound;
    bool is_executed;
    bool is_over;
};

static bool means_harmless(const struct script *script, const char *name)
{
    const struct client *client = script->client;
    const struct client_name *found;
    const char *text;
    size_t n;

    if (script->parse.name != NULL && strcmp(script->parse.name, name) == 0)
        return true; /* was looked at */
    found =
        statement_names_find(client->worker->pools.home.statements, &client->names, name);
    if (found == NULL || found->statement == NULL)
        return false;
    text = (const char *)statement_rest(found->statement, &n);
    return is_harmless(text, strnlen(text, n));
}

static bool take_parse(struct script *script, const struct message_view *message)
{
    return script->parse.name == NULL && !script->is_bound &&
           message_read_parse(message->body, message->length, &script->parse) &&
           is_harmless(script->parse.text, script->parse.n_text);
}

static bool take_bind(struct script *script, const struct message_view *message)
{
    struct message_bind bind;

    if (script->is_bound || !message_read_bind(message->body, message->length, &bind))
        return false;
    script->is_bound = true;
    return means_harmless(script, bind.statement);
}

static bool take_execute(struct script *script, const struct message_view *message)
{
    struct message_execute execute;

    if (!script->is_bound || script->is_executed ||
        !message_read_execute(message->body, message->length, &execute))
        return false;
    script->is_executed = true;
    return execute.n_rows_max == 0;
}

/* False: it is not what may be sent again. */
static bool take(struct script *script, const struct message_view *message)
{
    if (script->is_over)
        return false;
    switch (message->type) {
    case 'P':
        return take_parse(script, message);
    case 'B':
        return take_bind(script, message);
    case 'D':
        return true;
    case 'E':
        return take_execute(script, message);
    case 'S':
        script->is_over = true;
        return true;
    default:
        return false;
    }
}

static bool allows(const struct client *client, const struct piece *piece)
{
    struct script script = {.client = client};
    struct message_walk walk;
    struct message_view message = {0};
    uint32_t n_left = 0;
    const char *text;

    message_walk_begin(&walk, &client->worker->client_rules, piece->bytes, piece->n,
                       &n_left);
    if (message_walk_next(&walk, &message) != MESSAGE_WHOLE)
        return false;
    if (message.type == 'Q')
        return message_walk_rest(&walk) == 0 &&
               message_read_string(message.body, message.length, &text) &&
               is_harmless(text, message.length - 1);
    do {
        if (!take(&script, &message))
            return false;
    } while (message_walk_next(&walk, &message) == MESSAGE_WHOLE);
    return script.is_over && message_walk_rest(&walk) == 0;
}

bool replay_is_allowed(const struct client *client, const struct buffer_keep *request)
{
    struct piece piece;
    bool is_allowed;

    if (request->first == NULL || !join(request, &piece))
        return false;
    is_allowed = allows(client, &piece);
    memory_free(piece.bytes);
    return is_allowed;
}

/* ---- names --------------------------------------------------------------------------
 */

static void forget(struct client *client, const struct message_view *message)
{
    struct statement_store *store = client->worker->pools.home.statements;
    struct message_parse parse;
    struct client_name *name;

    if (message->type != 'P' ||
        !message_read_parse(message->body, message->length, &parse))
        return;
    name = statement_names_find(store, &client->names, parse.name);
    if (name == NULL)
        return;
    client_name_set(name, NULL);
    client_name_settle(store, name);
}

void replay_forget(struct client *client, const struct buffer_keep *request)
{
    struct message_walk walk;
    struct message_view message = {0};
    struct piece piece;
    uint32_t n_left = 0;

    if (client->names.first == NULL || !join(request, &piece))
        return;
    message_walk_begin(&walk, &client->worker->client_rules, piece.bytes, piece.n,
                       &n_left);
    while (message_walk_next(&walk, &message) == MESSAGE_WHOLE)
        forget(client, &message);
    memory_free(piece.bytes);
}
