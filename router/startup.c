#include "router/startup.h"

#include "core/stream_tls.h"
#include "router/cancel.h"
#include "router/session.h"
#include "router/worker.h"
#include "wire/proxy_header.h"

static void count_bad_request(struct client *client)
{
    struct tally *front =
        tally_get(&client->worker->tallies, client->listener->settings->name, 0);

    if (front != NULL)
        front->bad_requests++;
}

/* A packet that wants a server: the one that has just declined to encrypt, or any. */
static void serve(struct client *client)
{
    if (client->server != NULL)
        session_send_first_packet(client);
    else
        session_begin(client);
}

/* ---- TLS that ends here, of clients of pools -----------------------------------------
 */

/* As PgBouncer: not on a unix socket. */
static bool has_tls(const struct client *client)
{
    const struct security *security = client->listener->security;

    return security != NULL && security->client_context != NULL &&
           client->peer.sa.sa_family != AF_UNIX;
}

/* A client that has not encrypted, and has to. */
static bool lacks_tls(const struct client *client)
{
    return has_tls(client) && !stream_is_tls(&client->stream) &&
           client->listener->security->to_clients >= SSLMODE_REQUIRE;
}

/* `first` is what has come of the handshake already, or NULL: then the client was told to
 * begin, and `needs_alpn` is false. */
static void secure(struct client *client, struct buffer *first, bool needs_alpn)
{
    const struct tls_start how = {.context = client->listener->security->client_context,
                                  .first = first,
                                  .needs_alpn = needs_alpn};

    client_enter(client, CLIENT_SECURING);
    if (!stream_tls_start(&client->stream, &how)) {
        buffer_give(first);
        client_close(client, CLOSE_NO_MEMORY);
    }
}

void startup_go_on(struct client *client)
{
    client->first = STARTUP_INCOMPLETE;
    client_enter(client, CLIENT_STARTUP);
    client_settle(client);
}

/* The answer is one byte. False: the client has gone over it. */
static bool answer(struct client *client, char byte)
{
    struct buffer *buffer = buffer_take(client->worker->loop->pond);

    if (buffer == NULL || !buffer_add(buffer, &byte, 1)) {
        buffer_give(buffer);
        client_close(client, CLOSE_NO_MEMORY);
        return false;
    }
    (void)stream_send(&client->stream, buffer);
    return true;
}

/* Each may be asked for once, and neither inside of TLS. */
static bool may_ask(struct client *client, enum startup_kind kind)
{
    bool has_asked = kind == STARTUP_SSL ? client->has_asked_tls : client->has_asked_gss;

    if (kind == STARTUP_SSL)
        client->has_asked_tls = true;
    else
        client->has_asked_gss = true;
    return !has_asked && !stream_is_tls(&client->stream);
}

/* SSLRequest or GSSENCRequest; the latter is always declined. */
static void on_request_to_encrypt(struct client *client,
                                  const struct startup_packet *packet)
{
    bool will_secure = packet->kind == STARTUP_SSL && has_tls(client);

    if (!may_ask(client, packet->kind)) {
        count_bad_request(client);
        client_close(client, CLOSE_NOT_POSTGRESQL);
        return;
    }
    /* Bytes behind it were not encrypted, and would pass for such (CVE-2021-23214). */
    if (buffer_unread(client->inbox) > packet->length || client->inbox->next != NULL) {
        count_bad_request(client);
        client_close(client, CLOSE_TLS_TOO_SOON);
        return;
    }
    buffer_give(client->inbox);
    client->inbox = NULL;
    client->first = STARTUP_INCOMPLETE;
    if (answer(client, will_secure ? 'S' : 'N') && will_secure)
        secure(client, NULL, false);
}

/* A ClientHello without a question before it, as since PostgreSQL 17. */
static void on_direct_tls(struct client *client)
{
    struct buffer *hello = client->inbox;

    if (stream_is_tls(&client->stream) || client->has_asked_tls ||
        client->has_asked_gss || hello->next != NULL) {
        count_bad_request(client);
        client_close(client, CLOSE_NOT_POSTGRESQL);
    } else if (has_tls(client)) {
        client->inbox = NULL;
        secure(client, hello, true);
    } else {
        client_refuse(client, CLOSE_TLS_MISSING, NULL);
    }
}

/* ---- what a proxy says of it --------------------------------------------------------
 */

/* The header has been read; what is behind it, if anything, is the client's own. */
static void skip_header(struct client *client, uint32_t n)
{
    buffer_skip(client->inbox, n);
    if (buffer_unread(client->inbox) == 0) {
        buffer_give(client->inbox);
        client->inbox = NULL;
    }
    client_enter(client, CLIENT_STARTUP);
    startup_advance(client);
}

void startup_read_proxy(struct client *client)
{
    struct proxy_header header = proxy_header_read(
        client->inbox->bytes + client->inbox->begin, buffer_unread(client->inbox));

    switch (header.kind) {
    case PROXY_HEADER_INCOMPLETE:
        break;
    case PROXY_HEADER_TELLS:
        client->peer = header.source;
        client->is_told_of = true;
        skip_header(client, header.length);
        break;
    case PROXY_HEADER_IS_MUTE:
        skip_header(client, header.length);
        break;
    case PROXY_HEADER_BAD:
        count_bad_request(client);
        client_close(client, CLOSE_PROXY_MISSING);
        break;
    }
}

/* ---- the packet ---------------------------------------------------------------------
 */

/* Of a client of a pool, which is served here; true when there is nothing more to do. */
static bool advance_of_pool(struct client *client, const struct startup_packet *packet)
{
    switch (packet->kind) {
    case STARTUP_SSL:
    case STARTUP_GSSENC:
        on_request_to_encrypt(client, packet);
        return true;
    case STARTUP_DIRECT_TLS:
        on_direct_tls(client);
        return true;
    case STARTUP_LOGIN:
        if (!lacks_tls(client))
            return false;
        client_refuse(client, CLOSE_TLS_REQUIRED, NULL);
        return true;
    case STARTUP_CANCEL: /* also in clear text: libpq's are, before version 17 */
    case STARTUP_INCOMPLETE:
    case STARTUP_UNSUPPORTED:
    case STARTUP_GARBAGE:
        return false;
    }
    UNREACHABLE();
}

void startup_advance(struct client *client)
{
    struct startup_packet packet;

    if (client->inbox == NULL)
        return;
    packet = startup_read(client->inbox->bytes + client->inbox->begin,
                          buffer_unread(client->inbox));
    client->first = packet.kind;
    if (client_is_pooled(client) && advance_of_pool(client, &packet))
        return;
    switch (packet.kind) {
    case STARTUP_INCOMPLETE:
        break;
    case STARTUP_SSL:
    case STARTUP_GSSENC:
    case STARTUP_LOGIN:
    case STARTUP_DIRECT_TLS:
        serve(client);
        break;
    case STARTUP_CANCEL:
        session_drop_server(client, false);
        cancel_begin(client, &packet);
        break;
    case STARTUP_UNSUPPORTED:
        count_bad_request(client);
        client_refuse(client, CLOSE_PROTOCOL_TOO_OLD, NULL);
        break;
    case STARTUP_GARBAGE:
        count_bad_request(client);
        client_close(client, CLOSE_NOT_POSTGRESQL);
        break;
    }
}
