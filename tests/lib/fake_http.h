/* tests/lib/fake_http.h - an HTTP server of a few lines in the test's own loop.
 *
 * It does one thing with every request, until told otherwise. Patroni answers like
 * FAKE_ANSWERS: HTTP/1.0, no length, the end of the connection ends the body.
 */
#ifndef TESTS_LIB_FAKE_HTTP_H
#define TESTS_LIB_FAKE_HTTP_H

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/address.h"
#include "core/list.h"
#include "core/loop.h"

enum fake_behaviour {
    FAKE_ANSWERS, /* with status and body */
    FAKE_RAW,     /* sends the body as it is, then closes */
    FAKE_HANGS,   /* sends the body as it is, then nothing more */
    FAKE_FLOODS,  /* sends the body again and again */
    FAKE_RESETS   /* ends the connection with RST */
};

struct fake_http {
    struct loop *loop;
    int fd;
    ev_io watcher;
    struct address address;
    struct list clients;
    enum fake_behaviour behaviour;
    int status;
    const char *body;
    unsigned n_accepted, n_requests;
    char request[2048]; /* the last one */
};

struct fake_http_client {
    struct link in_server;
    struct fake_http *server;
    ev_io watcher;
    size_t n_read;
    char request[2048];
    bool was_answered;
};

static inline void fake_http_drop(struct fake_http_client *client, bool resets)
{
    struct linger linger = {.l_onoff = 1};

    if (resets)
        setsockopt(client->watcher.fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    ev_io_stop(client->server->loop->ev, &client->watcher);
    close(client->watcher.fd);
    list_remove(&client->server->clients, &client->in_server);
    free(client);
}

static inline void fake_http_answer(struct fake_http_client *client)
{
    struct fake_http *server = client->server;
    char head[128];
    int fd = client->watcher.fd;

    if (server->behaviour == FAKE_ANSWERS) {
        snprintf(head, sizeof head,
                 "HTTP/1.0 %d Any\r\nServer: Fake\r\nContent-Type: "
                 "application/json\r\n\r\n",
                 server->status);
        (void)!send(fd, head, strlen(head), MSG_NOSIGNAL);
    }
    if (server->behaviour != FAKE_RESETS && server->body != NULL)
        (void)!send(fd, server->body, strlen(server->body), MSG_NOSIGNAL);
    client->was_answered = true;
    if (server->behaviour == FAKE_FLOODS) {
        ev_io_stop(server->loop->ev, &client->watcher);
        ev_io_set(&client->watcher, fd, EV_WRITE);
        ev_io_start(server->loop->ev, &client->watcher);
    } else if (server->behaviour != FAKE_HANGS) {
        fake_http_drop(client, server->behaviour == FAKE_RESETS);
    }
}

static inline void fake_http_on_client(struct ev_loop *ev, ev_io *watcher, int events)
{
    struct fake_http_client *client =
        CONTAINER_OF(watcher, struct fake_http_client, watcher);
    struct fake_http *server = client->server;
    size_t room = sizeof client->request - 1 - client->n_read;
    ssize_t n;

    (void)ev;
    if (events & EV_WRITE) {
        n = send(watcher->fd, server->body, strlen(server->body),
                 MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n <= 0)
            fake_http_drop(client, false);
        return;
    }
    n = recv(watcher->fd, client->request + client->n_read, room, 0);
    if (n <= 0) {
        fake_http_drop(client, false);
        return;
    }
    client->n_read += (size_t)n;
    if (client->was_answered || strstr(client->request, "\r\n\r\n") == NULL)
        return;
    server->n_requests++;
    memcpy(server->request, client->request, sizeof server->request);
    fake_http_answer(client);
}

static inline void fake_http_on_accept(struct ev_loop *ev, ev_io *watcher, int events)
{
    struct fake_http *server = CONTAINER_OF(watcher, struct fake_http, watcher);
    struct fake_http_client *client = calloc(1, sizeof *client);
    int fd = accept(watcher->fd, NULL, NULL);

    (void)events;
    cr_assert(client != NULL && fd >= 0);
    server->n_accepted++;
    client->server = server;
    ev_io_init(&client->watcher, fake_http_on_client, fd, EV_READ);
    ev_io_start(ev, &client->watcher);
    list_append(&server->clients, &client->in_server);
}

/* On `host`, a number, and `port`, 0 = any that is free. */
static inline void fake_http_open(struct fake_http *server, struct loop *loop,
                                  const char *host, uint16_t port)
{
    int yes = 1;
    socklen_t length;

    *server = (struct fake_http){.loop = loop, .status = 200, .body = "", .fd = -1};
    list_init(&server->clients);
    cr_assert(address_parse(host, port, &server->address));
    length = address_length(&server->address);
    server->fd = socket(server->address.sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(server->fd, 0);
    setsockopt(server->fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    cr_assert_eq(bind(server->fd, &server->address.sa, length), 0, "%s", host);
    cr_assert_eq(listen(server->fd, 100), 0);
    cr_assert_eq(getsockname(server->fd, &server->address.sa, &length), 0);
    ev_io_init(&server->watcher, fake_http_on_accept, server->fd, EV_READ);
    ev_io_start(loop->ev, &server->watcher);
}

static inline void fake_http_close(struct fake_http *server)
{
    if (server->fd < 0)
        return;
    LIST_EACH_SAFE(item, &server->clients)
    fake_http_drop(CONTAINER_OF(item, struct fake_http_client, in_server), false);
    ev_io_stop(server->loop->ev, &server->watcher);
    close(server->fd);
    server->fd = -1;
}

#endif
