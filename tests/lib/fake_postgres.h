/* tests/lib/fake_postgres.h - the server's side of a login and of one query, in the
 * test's own loop: enough of protocol 3.0 to talk to libpq, and to misbehave.
 */
#ifndef TESTS_LIB_FAKE_POSTGRES_H
#define TESTS_LIB_FAKE_POSTGRES_H

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/address.h"
#include "core/list.h"
#include "core/loop.h"

#define FAKE_COLUMNS_MAX 16

enum fake_postgres_behaviour {
    FAKE_PG_ANSWERS,         /* the query with one row of `columns` */
    FAKE_PG_SILENT,          /* accepts, and says nothing */
    FAKE_PG_SILENT_IN_QUERY, /* logs in, then says nothing */
    FAKE_PG_REFUSES_LOGIN,   /* FATAL 57P03 */
    FAKE_PG_ERROR,           /* answers the query with an ERROR */
    FAKE_PG_NO_ROW,
    FAKE_PG_TWO_RESULTS,
    FAKE_PG_COPY,  /* answers the query with the begin of a COPY */
    FAKE_PG_EMPTY, /* with ReadyForQuery alone */
    FAKE_PG_GARBAGE,
    FAKE_PG_DROPS_QUERY /* closes when it gets a query */
};

struct fake_postgres {
    struct loop *loop;
    int fd;
    ev_io watcher;
    struct address address;
    struct list clients;
    enum fake_postgres_behaviour behaviour;
    const char *columns[FAKE_COLUMNS_MAX]; /* of the answer; NULL = NULL */
    unsigned n_columns;
    unsigned n_accepted, n_queries, n_terminated;
    char startup[512]; /* of the last login, its zero bytes replaced by spaces */
};

struct fake_postgres_client {
    struct link in_server;
    struct fake_postgres *server;
    ev_io watcher;
    unsigned char bytes[4096];
    size_t n;
    bool is_logged_in;
};

struct fake_message {
    unsigned char bytes[4096];
    size_t n, length_at;
};

static inline void fake_put(struct fake_message *message, const void *bytes, size_t n)
{
    cr_assert_leq(message->n + n, sizeof message->bytes);
    memcpy(message->bytes + message->n, bytes, n);
    message->n += n;
}

static inline void fake_put_number(struct fake_message *message, unsigned value,
                                   unsigned n_bytes)
{
    uint32_t number = htonl(value);

    fake_put(message, (unsigned char *)&number + 4 - n_bytes, n_bytes);
}

static inline void fake_put_text(struct fake_message *message, const char *text)
{
    fake_put(message, text, strlen(text) + 1);
}

static inline void fake_begin(struct fake_message *message, char type)
{
    fake_put(message, &type, 1);
    message->length_at = message->n;
    fake_put_number(message, 0, 4);
}

static inline void fake_end(struct fake_message *message)
{
    uint32_t length = htonl((uint32_t)(message->n - message->length_at));

    memcpy(message->bytes + message->length_at, &length, 4);
}

static inline void fake_put_ready(struct fake_message *message)
{
    fake_begin(message, 'Z');
    fake_put(message, "I", 1);
    fake_end(message);
}

static inline void fake_put_error(struct fake_message *message, const char *severity,
                                  const char *code, const char *text)
{
    fake_begin(message, 'E');
    fake_put(message, "S", 1);
    fake_put_text(message, severity);
    fake_put(message, "C", 1);
    fake_put_text(message, code);
    fake_put(message, "M", 1);
    fake_put_text(message, text);
    fake_put(message, "", 1);
    fake_end(message);
}

static inline void fake_put_result(struct fake_message *message,
                                   const struct fake_postgres *server, bool has_row)
{
    fake_begin(message, 'T');
    fake_put_number(message, server->n_columns, 2);
    for (unsigned i = 0; i < server->n_columns; i++) {
        fake_put_text(message, "c");
        fake_put_number(message, 0, 4);
        fake_put_number(message, 0, 2);
        fake_put_number(message, 25, 4);
        fake_put_number(message, 0xffff, 2);
        fake_put_number(message, 0xffffffff, 4);
        fake_put_number(message, 0, 2);
    }
    fake_end(message);
    if (has_row) {
        fake_begin(message, 'D');
        fake_put_number(message, server->n_columns, 2);
        for (unsigned i = 0; i < server->n_columns; i++) {
            const char *value = server->columns[i];

            fake_put_number(message, value == NULL ? UINT32_MAX : (unsigned)strlen(value),
                            4);
            if (value != NULL)
                fake_put(message, value, strlen(value));
        }
        fake_end(message);
    }
    fake_begin(message, 'C');
    fake_put_text(message, "SELECT 1");
    fake_end(message);
}

static inline void fake_postgres_drop(struct fake_postgres_client *client)
{
    ev_io_stop(client->server->loop->ev, &client->watcher);
    close(client->watcher.fd);
    list_remove(&client->server->clients, &client->in_server);
    free(client);
}

static inline void fake_send(struct fake_postgres_client *client,
                             const struct fake_message *message)
{
    (void)!send(client->watcher.fd, message->bytes, message->n, MSG_NOSIGNAL);
}

static inline void fake_log_in(struct fake_postgres_client *client)
{
    struct fake_message message = {.n = 0};

    client->is_logged_in = true;
    fake_begin(&message, 'R');
    fake_put_number(&message, 0, 4);
    fake_end(&message);
    fake_begin(&message, 'S');
    fake_put_text(&message, "server_version");
    fake_put_text(&message, "15.0");
    fake_end(&message);
    fake_begin(&message, 'K');
    fake_put_number(&message, 1, 4);
    fake_put_number(&message, 2, 4);
    fake_end(&message);
    fake_put_ready(&message);
    fake_send(client, &message);
}

static inline void fake_answer_query(struct fake_postgres_client *client)
{
    struct fake_postgres *server = client->server;
    struct fake_message message = {.n = 0};

    server->n_queries++;
    switch (server->behaviour) {
    case FAKE_PG_ANSWERS:
        fake_put_result(&message, server, true);
        break;
    case FAKE_PG_ERROR:
        fake_put_error(&message, "ERROR", "42501", "permission denied for function x");
        break;
    case FAKE_PG_NO_ROW:
        fake_put_result(&message, server, false);
        break;
    case FAKE_PG_TWO_RESULTS:
        fake_put_result(&message, server, true);
        fake_put_result(&message, server, true);
        break;
    case FAKE_PG_COPY:
        fake_begin(&message, 'H');
        fake_put(&message, "\0\0\0", 3);
        fake_end(&message);
        break;
    case FAKE_PG_GARBAGE:
        fake_put(&message, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
        break;
    case FAKE_PG_EMPTY:
        break;
    case FAKE_PG_DROPS_QUERY:
        fake_postgres_drop(client);
        return;
    case FAKE_PG_SILENT:
    case FAKE_PG_SILENT_IN_QUERY:
    case FAKE_PG_REFUSES_LOGIN:
        return;
    }
    fake_put_ready(&message);
    fake_send(client, &message);
}

/* A startup packet, or an SSLRequest, which is refused. */
static inline void fake_begin_session(struct fake_postgres_client *client)
{
    struct fake_postgres *server = client->server;
    struct fake_message message = {.n = 0};
    uint32_t code;

    memcpy(&code, client->bytes + 4, 4);
    if (server->behaviour == FAKE_PG_SILENT)
        return;
    if (ntohl(code) == 80877103 || ntohl(code) == 80877104) {
        (void)!send(client->watcher.fd, "N", 1, MSG_NOSIGNAL);
        return;
    }
    for (size_t i = 8; i < client->n && i - 8 < sizeof server->startup - 1; i++)
        server->startup[i - 8] = client->bytes[i] == 0 ? ' ' : (char)client->bytes[i];
    if (server->behaviour == FAKE_PG_REFUSES_LOGIN) {
        fake_put_error(&message, "FATAL", "57P03", "the database system is starting up");
        fake_send(client, &message);
        fake_postgres_drop(client);
        return;
    }
    fake_log_in(client);
}

/* libpq sends one message at a time here, so what is read is one whole message. */
static inline void fake_postgres_on_client(struct ev_loop *ev, ev_io *watcher, int events)
{
    struct fake_postgres_client *client =
        CONTAINER_OF(watcher, struct fake_postgres_client, watcher);
    ssize_t n = recv(watcher->fd, client->bytes, sizeof client->bytes, 0);

    (void)ev;
    (void)events;
    client->server->n_terminated += n > 0 && client->bytes[0] == 'X';
    if (n <= 0) {
        fake_postgres_drop(client);
        return;
    }
    client->n = (size_t)n;
    if (!client->is_logged_in)
        fake_begin_session(client);
    else if (client->bytes[0] == 'Q')
        fake_answer_query(client);
}

static inline void fake_postgres_on_accept(struct ev_loop *ev, ev_io *watcher, int events)
{
    struct fake_postgres *server = CONTAINER_OF(watcher, struct fake_postgres, watcher);
    struct fake_postgres_client *client = calloc(1, sizeof *client);
    int fd = accept(watcher->fd, NULL, NULL);

    (void)events;
    cr_assert(client != NULL && fd >= 0);
    server->n_accepted++;
    client->server = server;
    ev_io_init(&client->watcher, fake_postgres_on_client, fd, EV_READ);
    ev_io_start(ev, &client->watcher);
    list_append(&server->clients, &client->in_server);
}

static inline void fake_postgres_open(struct fake_postgres *server, struct loop *loop,
                                      const char *host, uint16_t port)
{
    int yes = 1;
    socklen_t length;

    *server = (struct fake_postgres){.loop = loop, .fd = -1};
    list_init(&server->clients);
    cr_assert(address_parse(host, port, &server->address));
    length = address_length(&server->address);
    server->fd = socket(server->address.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(server->fd, 0);
    setsockopt(server->fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    cr_assert_eq(bind(server->fd, &server->address.sa, length), 0);
    cr_assert_eq(listen(server->fd, 100), 0);
    cr_assert_eq(getsockname(server->fd, &server->address.sa, &length), 0);
    ev_io_init(&server->watcher, fake_postgres_on_accept, server->fd, EV_READ);
    ev_io_start(loop->ev, &server->watcher);
}

static inline void fake_postgres_set(struct fake_postgres *server, unsigned n,
                                     const char *const *columns)
{
    server->n_columns = n;
    memcpy(server->columns, columns, n * sizeof *columns);
}

/* What libpq has open stays with it, and ends. */
static inline void fake_postgres_drop_all(struct fake_postgres *server)
{
    LIST_EACH_SAFE(item, &server->clients)
    fake_postgres_drop(CONTAINER_OF(item, struct fake_postgres_client, in_server));
}

static inline void fake_postgres_close(struct fake_postgres *server)
{
    if (server->fd < 0)
        return;
    fake_postgres_drop_all(server);
    ev_io_stop(server->loop->ev, &server->watcher);
    close(server->fd);
    server->fd = -1;
}

#endif
