#include "router/slow.h"

#include <string.h>

#include "core/log.h"
#include "core/memory.h"
#include "router/worker.h"

/* The statement's text, as far as it is here; NULL: there is none. */
static const char *text_of(const struct client *client,
                           const struct message_view *message, size_t *n)
{
    const char *body = (const char *)message->body;
    const struct client_name *name;
    struct message_bind bind;
    const char *zero, *text;

    *n = message->n;
    switch (message->type) {
    case 'Q':
        return body;
    case 'P':
        zero = memchr(body, '\0', message->n);
        if (zero == NULL)
            return NULL;
        *n -= (size_t)(zero + 1 - body);
        return zero + 1;
    case 'B':
        if (!message_read_bind(message->body, message->n, &bind))
            return NULL;
        name = statement_names_find(client->worker->pools.home.statements, &client->names,
                                    bind.statement);
        if (name == NULL || name->statement == NULL)
            return NULL;
        text = (const char *)statement_rest(name->statement, n);
        return text;
    default:
        return NULL;
    }
}

void slow_note(struct client *client, const struct message_view *message)
{
    struct pooled *server = client->lease;
    unsigned size = client->pool->terms.log_bytes;
    const char *text;
    size_t n;

    if (server->said != NULL && server->said[0] != '\0')
        return; /* it is part of the same request */
    text = text_of(client, message, &n);
    if (text == NULL)
        return;
    if (server->said == NULL || server->n_said < size) {
        memory_free(server->said);
        server->said = memory_zeroed(size + 1);
        server->n_said = server->said == NULL ? 0 : size;
    }
    if (server->said == NULL)
        return;
    n = strnlen(text, n);
    if (n > size)
        n = size;
    memcpy(server->said, text, n);
    server->said[n] = '\0';
}

void slow_log(struct client *client, uint64_t took_ns)
{
    const struct pooled *server = client->lease;
    const struct topology_node *node =
        topology_node(client->worker->topology, server->node_id);
    const char *said = client->pool->terms.log_bytes == 0 ? NULL : server->said;
    char address[ADDRESS_TEXT_MAX];
    uint32_t missed;

    if (!log_limit_allows(client->worker->control.slow_logged,
                          loop_now_ms(client->worker->loop), &missed))
        return;
    LOG(INFO, "slow query", TEXT("database", client->pool->account->name),
        TEXT("user", client->pool->account->user),
        TEXT("client", address_print(&client->peer, address)),
        DECIMAL("seconds", (double)took_ns / 1e9),
        TEXT("node", node == NULL ? NULL : node->name),
        NUMBER("server_pid", server->key.process_id), TEXT("statement", said),
        NUMBER("left_out_before", missed), NUMBER("worker", client->worker->number));
}
