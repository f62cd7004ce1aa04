/* tests/threads/tls.c - one context, handshakes in several threads at once, and streams
 * of TLS that go from thread to thread.
 *
 * Each connection's far end stays in the main thread and asks; its near end answers once
 * and moves on to the next worker, with the same SSL.
 */
#include "core/stream_tls.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/mailbox.h"
#include "tests/lib/identity.h"

#define WORKERS 3
#define CONNECTIONS 6
#define QUESTIONS 300

struct worker {
    struct loop *loop;
    struct mailbox *mailbox;
    pthread_t thread;
    unsigned n_served;
};

static struct worker workers[WORKERS];

/* The near end: one worker's at a time. */
struct answerer {
    struct message message;
    struct stream stream;
    struct worker *worker;
    SSL *ssl;
    int fd;
    bool is_over;
};

/* The far end. */
struct asker {
    struct stream stream;
    uint32_t n_asked;
    bool was_answered;
};

static struct answerer answerers[CONNECTIONS];
static struct asker askers[CONNECTIONS];
static struct tls_context *server, *client;
static struct loop *loop;
static unsigned n_over;
static const struct tcp_settings no_settings;

static void nothing(struct stream *stream)
{
    (void)stream;
}

static void on_failed(struct stream *stream, enum stream_failure why)
{
    (void)stream;
    fprintf(stderr, "%s\n", stream_failure_text(why));
    abort();
}

/* ---- near ----------------------------------------------------------------------------
 */

static void arrive(struct message *message, void *receiver);

static void on_left(struct stream *stream, int fd)
{
    struct answerer *answerer = stream->owner;
    size_t next = (size_t)(answerer->worker - workers + 1) % WORKERS;

    answerer->ssl = stream_tls_take(stream);
    answerer->fd = fd;
    mailbox_post(workers[next].mailbox, &answerer->message, arrive);
}

static void answer(struct stream *stream, struct buffer *question)
{
    struct answerer *answerer = stream->owner;

    answerer->worker->n_served++;
    REQUIRE(stream_send(stream, question));
    REQUIRE(stream_tls_can_detach(stream));
    stream_detach(stream, on_left);
}

static void on_near_end(struct stream *stream)
{
    struct answerer *answerer = stream->owner;

    answerer->is_over = true;
    stream_close(stream);
}

static const struct stream_events near_events = {
    .on_open = nothing,
    .on_bytes = answer,
    .on_sent = nothing,
    .on_end = on_near_end,
    .on_failed = on_failed,
};

static void arrive(struct message *message, void *receiver)
{
    struct answerer *answerer = CONTAINER_OF(message, struct answerer, message);

    answerer->worker = receiver;
    if (answerer->ssl == NULL) { /* at the beginning */
        stream_adopt(&answerer->stream, answerer->worker->loop, answerer->fd,
                     &no_settings, &near_events, answerer);
        REQUIRE(
            stream_tls_start(&answerer->stream, &(struct tls_start){.context = server}));
    } else {
        REQUIRE(stream_tls_adopt(&answerer->stream, answerer->worker->loop, answerer->fd,
                                 answerer->ssl, &no_settings, &near_events, answerer));
    }
    stream_want(&answerer->stream, true);
}

static void stop(struct message *message, void *receiver)
{
    struct worker *worker = receiver;

    (void)message;
    loop_stop(worker->loop);
}

static void *work(void *arg)
{
    struct worker *worker = arg;

    loop_run(worker->loop);
    return NULL;
}

/* ---- far -----------------------------------------------------------------------------
 */

static void ask(struct stream *stream)
{
    struct asker *asker = stream->owner;
    struct buffer *question = buffer_take(loop->pond);

    REQUIRE(question != NULL);
    asker->n_asked++;
    REQUIRE(buffer_add(question, &asker->n_asked, sizeof asker->n_asked));
    (void)stream_send(stream, question);
}

static void on_answer(struct stream *stream, struct buffer *bytes)
{
    struct asker *asker = stream->owner;

    REQUIRE(buffer_unread(bytes) == sizeof asker->n_asked);
    REQUIRE(memcmp(bytes->bytes + bytes->begin, &asker->n_asked, sizeof asker->n_asked) ==
            0);
    buffer_give(bytes);
    if (asker->n_asked < QUESTIONS)
        ask(stream);
    else
        stream_end(stream);
}

/* The near end has closed. */
static void on_far_end(struct stream *stream)
{
    stream_close(stream);
    if (++n_over == CONNECTIONS)
        loop_stop(loop);
}

static const struct stream_events far_events = {
    .on_open = ask,
    .on_bytes = on_answer,
    .on_sent = nothing,
    .on_end = on_far_end,
    .on_failed = on_failed,
};

static void connect_one(unsigned i)
{
    int fds[2];

    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    answerers[i].fd = fds[0];
    mailbox_post(workers[i % WORKERS].mailbox, &answerers[i].message, arrive);
    stream_adopt(&askers[i].stream, loop, fds[1], &no_settings, &far_events, &askers[i]);
    stream_want(&askers[i].stream, true);
    REQUIRE(stream_tls_start(&askers[i].stream, &(struct tls_start){.context = client}));
}

/* ---- all of it -----------------------------------------------------------------------
 */

static void make_contexts(void)
{
    char folder[] = "/tmp/threads_tls.XXXXXX", cert[64], key[64];
    struct identity identity =
        identity_make(&(struct identity_wish){.name = "localhost"});
    struct tls_settings settings = {.role = TLS_SERVER};
    struct text why = {.max = 1000};

    REQUIRE(mkdtemp(folder) != NULL);
    identity_write(&identity, NULL, folder, "server", NULL);
    snprintf(cert, sizeof cert, "%s/server.crt", folder);
    snprintf(key, sizeof key, "%s/server.key", folder);
    settings.cert_file = cert;
    settings.key_file = key;
    server = tls_context_new(&settings, &why);
    client = tls_context_new(&(struct tls_settings){.role = TLS_CLIENT}, &why);
    REQUIRE(server != NULL && client != NULL);
    identity_clear(&identity);
    unlink(cert);
    unlink(key);
    rmdir(folder);
}

int main(void)
{
    static struct message last[WORKERS];
    unsigned n_served = 0;

    make_contexts();
    loop = loop_new(false);
    REQUIRE(loop != NULL);
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i].loop = loop_new(false);
        REQUIRE(workers[i].loop != NULL);
        workers[i].mailbox = mailbox_new(workers[i].loop, &workers[i]);
        REQUIRE(workers[i].mailbox != NULL);
        REQUIRE(pthread_create(&workers[i].thread, NULL, work, &workers[i]) == 0);
    }
    for (unsigned i = 0; i < CONNECTIONS; i++)
        connect_one(i);
    loop_run(loop);
    for (unsigned i = 0; i < WORKERS; i++)
        mailbox_post(workers[i].mailbox, &last[i], stop);
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(workers[i].thread, NULL);
        REQUIRE(workers[i].n_served == CONNECTIONS * QUESTIONS / WORKERS);
        n_served += workers[i].n_served;
        mailbox_free(workers[i].mailbox);
        loop_free(workers[i].loop);
    }
    REQUIRE(n_served == CONNECTIONS * QUESTIONS);
    for (unsigned i = 0; i < CONNECTIONS; i++)
        REQUIRE(answerers[i].is_over);
    loop_free(loop);
    REQUIRE(!tls_context_is_shared(server) && !tls_context_is_shared(client));
    tls_context_release(server);
    tls_context_release(client);
    return 0;
}
