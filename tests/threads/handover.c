/* tests/threads/handover.c - one server for clients of four workers.
 *
 * Every client asks, in a thread of its own, and waits for its own answer. There is one
 * server and only one connection to it, ever: it goes from worker to worker, and no
 * answer goes to anybody else.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/map.h"
#include "tests/lib/packets.h"
#include "tests/threads/control.h"

#define CLIENTS 8
#define QUESTIONS 150
#define TEXT_MAX 64

static struct control control;
static atomic_uint n_connections;
static int far_ends[CLIENTS];

/* ---- a message at a time ------------------------------------------------------------
 */

static bool take(int fd, void *bytes, size_t n)
{
    uint8_t *at = bytes;

    while (n > 0) {
        ssize_t got = read(fd, at, n);

        if (got <= 0)
            return false;
        at += got;
        n -= (size_t)got;
    }
    return true;
}

static void put(int fd, const struct packet *packet)
{
    REQUIRE(send(fd, packet->bytes, packet->n, MSG_NOSIGNAL) == (ssize_t)packet->n);
}

/* Its type, 0 at the end; the body is a text. */
static char take_message(int fd, char body[TEXT_MAX])
{
    uint8_t header[5];
    uint32_t n;

    if (!take(fd, header, sizeof header))
        return 0;
    n = ((uint32_t)header[3] << 8 | header[4]) - 4;
    REQUIRE(n <= TEXT_MAX && take(fd, body, n));
    return (char)header[0];
}

/* ---- the server ---------------------------------------------------------------------
 */

static void log_in(int fd)
{
    struct packet welcome = {0};
    uint8_t length[4], rest[256];

    REQUIRE(take(fd, length, 4) && length[2] == 0 && take(fd, rest, length[3] - 4u));
    packet_add_welcome(&welcome, 4711, "key.", 4);
    put(fd, &welcome);
}

/* An answer has the question in its tag. */
static void *serve(void *arg)
{
    int fd = (int)(intptr_t)arg;
    char text[TEXT_MAX];

    log_in(fd);
    while (take_message(fd, text) == 'Q') {
        struct packet answer = {0};

        packet_add_message(&answer, 'C', text, strlen(text) + 1);
        packet_add_message(&answer, 'Z', "I", 1);
        put(fd, &answer);
    }
    close(fd);
    return NULL;
}

static void *listen_for_servers(void *arg)
{
    int listener = (int)(intptr_t)arg, fd;
    pthread_t thread;

    while ((fd = accept(listener, NULL, NULL)) >= 0) {
        atomic_fetch_add(&n_connections, 1);
        REQUIRE(pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd) == 0);
        pthread_join(thread, NULL);
    }
    return NULL;
}

/* ---- a client -----------------------------------------------------------------------
 */

static void wait_until_ready(int fd, char tag[TEXT_MAX])
{
    char body[TEXT_MAX], type;

    while ((type = take_message(fd, body)) != 'Z') {
        REQUIRE(type != 0 && type != 'E');
        if (type == 'C')
            memcpy(tag, body, TEXT_MAX);
    }
}

static void *ask(void *arg)
{
    unsigned client = (unsigned)(uintptr_t)arg;
    int fd = far_ends[client];
    struct packet login = {0};
    char question[TEXT_MAX], tag[TEXT_MAX] = "";

    packet_add_login(&login, PACKET_PROTOCOL_3_0);
    put(fd, &login);
    wait_until_ready(fd, tag);
    for (unsigned i = 0; i < QUESTIONS; i++) {
        struct packet query = {0};

        snprintf(question, sizeof question, "client %u, question %u", client, i);
        packet_add_message(&query, 'Q', question, strlen(question) + 1);
        put(fd, &query);
        wait_until_ready(fd, tag);
        REQUIRE(strcmp(tag, question) == 0);
    }
    close(fd);
    return NULL;
}

/* ---- all together -------------------------------------------------------------------
 */

static void end_if_all_are_gone(struct control *of)
{
    if (of->n_present == 0)
        loop_stop(of->loop);
}

static int open_server(struct topology *map)
{
    struct address *address = &map->clusters[0].nodes[0].addresses[0];
    socklen_t n = sizeof address->in;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address->in.sin_port = 0;
    REQUIRE(fd >= 0 && bind(fd, &address->sa, n) == 0 && listen(fd, 8) == 0);
    REQUIRE(getsockname(fd, &address->sa, &n) == 0);
    return fd;
}

int main(void)
{
    struct topology *map = map_new("main", 1);
    int listener = open_server(map);
    pthread_t server, clients[CLIENTS];

    REQUIRE(pthread_create(&server, NULL, listen_for_servers,
                           (void *)(intptr_t)listener) == 0);
    control_open(&control, "mode = pool\nauth_type = any\n"
                           "[pgrouter]\npool_mode = transaction\n"
                           "default_pool_size = 1\nserver_tls_sslmode = disable\n"
                           "[databases]\nshop = cluster=main\n");
    control.on_gone = end_if_all_are_gone;
    control_tell(&control, map);
    for (unsigned i = 0; i < CLIENTS; i++) {
        int fds[2];

        REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
        far_ends[i] = fds[1];
        control_give(&control, fds[0], i % WORKERS);
        REQUIRE(pthread_create(&clients[i], NULL, ask, (void *)(uintptr_t)i) == 0);
    }
    loop_run(control.loop);
    for (unsigned i = 0; i < CLIENTS; i++)
        pthread_join(clients[i], NULL);
    control_close(&control);
    shutdown(listener, SHUT_RDWR);
    pthread_join(server, NULL);
    close(listener);
    REQUIRE(n_connections == 1);
    printf("%d clients of %d workers, %d questions each, one server\n", CLIENTS, WORKERS,
           QUESTIONS);
    return 0;
}
