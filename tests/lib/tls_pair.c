#include "tests/lib/tls_pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/lib/peers.h"
#include "tests/lib/turns.h"

#define TURNS_OF_HANDSHAKE 100000

const struct tls_way tls_ways[TLS_WAYS] = {
    {TLS_SERVER, TLS1_3_VERSION},
    {TLS_CLIENT, TLS1_3_VERSION},
    {TLS_SERVER, TLS1_2_VERSION},
    {TLS_CLIENT, TLS1_2_VERSION},
};

const char *tls_way_name(struct tls_way way)
{
    static char name[64];

    snprintf(name, sizeof name, "as a %s, TLS 1.%d",
             way.role == TLS_SERVER ? "server" : "client",
             way.version == TLS1_3_VERSION ? 3 : 2);
    return name;
}

const char *tls_pair_path(struct tls_pair *pair, const char *name)
{
    char *path = pair->paths[pair->next_path++ % COUNT_OF(pair->paths)];

    snprintf(path, sizeof pair->paths[0], "%s/%s", pair->folder, name);
    return path;
}

void tls_pair_init(struct tls_pair *pair)
{
    *pair = (struct tls_pair){.fds = {-1, -1}, .folder = "/tmp/test_tls.XXXXXX"};
    pair->far.fd = -1;
    pair->loop = loop_new(false);
    REQUIRE(pair->loop != NULL && mkdtemp(pair->folder) != NULL);
    pair->ca = identity_make(&(struct identity_wish){.name = "CA", .is_ca = true});
    pair->server = identity_make(
        &(struct identity_wish){.name = "localhost",
                                .alternative_names = "DNS:localhost,IP:127.0.0.1",
                                .issuer = &pair->ca});
    pair->client =
        identity_make(&(struct identity_wish){.name = "alice", .issuer = &pair->ca});
    identity_write(&pair->ca, NULL, pair->folder, "ca", NULL);
    identity_write(&pair->server, NULL, pair->folder, "server", NULL);
    identity_write(&pair->client, NULL, pair->folder, "client", NULL);
}

void tls_pair_clear(struct tls_pair *pair)
{
    char command[128];

    tls_pair_close(pair);
    tls_pair_renew(pair);
    tls_memory_clear(&pair->memory);
    tls_peer_clear(&pair->far);
    identity_clear(&pair->ca);
    identity_clear(&pair->server);
    identity_clear(&pair->client);
    loop_free(pair->loop);
    snprintf(command, sizeof command, "rm -rf %s", pair->folder);
    REQUIRE(system(command) == 0); /* NOLINT(cert-env33-c): a folder of our own */
}

void tls_pair_renew(struct tls_pair *pair)
{
    tls_context_release(pair->start.context);
    pair->start.context = NULL;
}

void tls_pair_prepare(struct tls_pair *pair, struct tls_way way)
{
    static const char *const names[][3] = {
        [TLS_CLIENT] = {"client", "client.crt", "client.key"},
        [TLS_SERVER] = {"server", "server.crt", "server.key"},
    };
    bool is_server = way.role == TLS_SERVER;

    tls_pair_close(pair);
    tls_pair_renew(pair);
    tls_peer_clear(&pair->far);
    pair->settings = (struct tls_settings){
        .role = way.role,
        .verify = is_server ? TLS_VERIFY_NONE : TLS_VERIFY_FULL,
        .ask = is_server ? TLS_ASK_ALWAYS : TLS_ASK_NEVER,
        .cert_file = tls_pair_path(pair, names[way.role][1]),
        .key_file = tls_pair_path(pair, names[way.role][2]),
        .ca_file = tls_pair_path(pair, "ca.crt"),
    };
    pair->start = (struct tls_start){.host = is_server ? NULL : "localhost"};
    tls_peer_init(&pair->far, !is_server, way.version,
                  tls_pair_path(pair, names[is_server ? TLS_CLIENT : TLS_SERVER][0]),
                  tls_pair_path(pair, "ca.crt"));
}

static void on_failed(struct stream *stream, enum stream_failure why)
{
    struct tls_pair *pair =
        CONTAINER_OF((struct recorder *)stream->owner, struct tls_pair, near);

    if (why == STREAM_TLS_FAILED)
        pair->why = stream_tls_why(stream);
    recorder_events.on_failed(stream, why);
}

void tls_pair_open(struct tls_pair *pair)
{
    static struct stream_events events;
    struct text why = {.max = 1000};

    events = recorder_events;
    events.on_failed = on_failed;
    tls_pair_close(pair);
    if (pair->start.context == NULL)
        pair->start.context = tls_context_new(&pair->settings, &why);
    REQUIRE(pair->start.context != NULL);
    pair->why = NULL;
    peers_unix(pair->fds);
    recorder_adopt(&pair->near, pair->loop, pair->fds[0]);
    pair->near.stream.events = &events;
    tls_peer_open(&pair->far, pair->fds[1]);
    pair->near.in_call++;
    REQUIRE(stream_tls_start(&pair->near.stream, &pair->start));
    pair->near.in_call--;
}

void tls_pair_close(struct tls_pair *pair)
{
    recorder_clear(&pair->near);
    tls_peer_close(&pair->far);
    if (pair->fds[1] >= 0)
        close(pair->fds[1]);
    pair->fds[0] = pair->fds[1] = -1;
    turn(pair->loop, 1); /* frees what is closed */
}

void tls_pair_turn(struct tls_pair *pair, unsigned n)
{
    while (n-- > 0) {
        turn(pair->loop, 1);
        tls_peer_turn(&pair->far);
    }
}

bool tls_pair_greet(struct tls_pair *pair)
{
    for (unsigned i = 0; i < TURNS_OF_HANDSHAKE; i++) {
        tls_pair_turn(pair, 1);
        if (pair->near.has_failed || pair->far.has_failed)
            break;
        if (pair->near.is_open && pair->far.is_greeted)
            return true;
    }
    return false;
}

void tls_pair_begin(struct tls_pair *pair, struct tls_way way)
{
    tls_pair_prepare(pair, way);
    tls_pair_open(pair);
    REQUIRE(tls_pair_greet(pair));
}
