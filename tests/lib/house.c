#include "tests/lib/house.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "core/memory.h"
#include "tests/lib/turns.h"
#include "wire/error.h"

static void on_client_gone(struct message *message, void *control)
{
    struct ticket *ticket = CONTAINER_OF(message, struct ticket, end);
    struct house *house = control;

    CONTAINER_OF(ticket, struct visitor, ticket)->is_gone = true;
    house->n_gone++;
}

static void on_admission_missed(struct message *message, void *control)
{
    struct house *house = control;

    (void)message;
    house->n_admissions_missed++;
}

static void on_evidence(struct message *message, void *control)
{
    struct evidence_message *news =
        CONTAINER_OF(message, struct evidence_message, message);
    struct house *house = control;

    house->n_evidence[news->evidence]++;
    house->evidence_node = news->node_id;
    memory_free(news);
}

static void on_waiting(struct message *message, void *control)
{
    struct waiting_message *news = CONTAINER_OF(message, struct waiting_message, message);
    struct house *house = control;

    house->n_waiting = news->n_waiting;
    memory_free(news);
}

static void on_hold(struct message *message, void *control)
{
    (void)control;
    memory_free(CONTAINER_OF(message, struct hold_message, message));
}

static struct config *load(const char *ini, const char *listener_ini)
{
    struct text text, errors;
    struct config *config;

    text_init(&text, 1 << 16);
    text_init(&errors, 1 << 16);
    text_addf(&text,
              "[pgrouter]\n%s\n"
              "[cluster main]\nnodes = n1=127.0.0.1:5001:8001, n2=127.0.0.1:5002:8002\n"
              "[listener rw]\nbind = 127.0.0.1:5000\n%s\n",
              ini, listener_ini);
    config = config_load_text("house", text_get(&text), &errors);
    if (config == NULL)
        fputs(text_get(&errors), stderr);
    REQUIRE(config != NULL);
    text_clear(&text);
    text_clear(&errors);
    return config;
}

void house_open(struct house *house, unsigned n_workers, const char *ini,
                const char *listener_ini)
{
    struct control_door door = {
        .refusals_logged = &house->refusals_logged,
        .on_client_gone = on_client_gone,
        .on_admission_missed = on_admission_missed,
        .on_evidence = on_evidence,
        .on_waiting = on_waiting,
        .on_hold = on_hold,
    };

    *house = (struct house){.n_workers = n_workers, .log = -1};
    log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    house->config = load(ini, listener_ini);
    house->listener = listener_new(house->config, &house->config->listeners[0]);
    house->loop = loop_new(false);
    REQUIRE(house->listener != NULL && house->loop != NULL);
    house->mailbox = door.mailbox = mailbox_new(house->loop, house);
    REQUIRE(house->mailbox != NULL);
    REQUIRE(worker_pools_open(&house->shared, n_workers));
    for (unsigned i = 0; i < n_workers; i++) {
        house->workers[i] = worker_new(i, n_workers, house->workers, &house->shared,
                                       &door, house->config);
        REQUIRE(house->workers[i] != NULL);
    }
}

void house_capture_log(struct house *house)
{
    log_configure(LOG_LEVEL_DEBUG, LOG_FORMAT_TEXT);
    house->log = memfd_create("log", MFD_CLOEXEC);
    house->stderr_before = dup(STDERR_FILENO);
    REQUIRE(house->log >= 0 && dup2(house->log, STDERR_FILENO) >= 0);
}

bool house_logged(const struct house *house, const char *words)
{
    static char lines[1 << 20];
    ssize_t n = pread(house->log, lines, sizeof lines - 1, 0);

    REQUIRE(n >= 0);
    lines[n] = '\0';
    return strstr(lines, words) != NULL;
}

static void drain(struct house *house)
{
    bool delivered = true;

    while (delivered) {
        delivered = mailbox_drain(house->mailbox);
        for (unsigned i = 0; i < house->n_workers; i++)
            delivered = worker_drain(house->workers[i]) || delivered;
    }
}

void house_close(struct house *house)
{
    for (unsigned i = 0; i < house->n_workers; i++)
        worker_post_stop(house->workers[i]);
    house_turn(house, 5);
    drain(house);
    house_turn(house, 1); /* for what was deferred */
    for (unsigned i = 0; i < house->n_workers; i++)
        worker_free(house->workers[i]);
    worker_pools_close(&house->shared);
    mailbox_free(house->mailbox);
    loop_free(house->loop);
    listener_release(house->listener);
    config_release(house->config);
    if (house->log >= 0) {
        dup2(house->stderr_before, STDERR_FILENO);
        close(house->stderr_before);
        close(house->log);
    }
}

void house_tell(struct house *house, struct topology *topology)
{
    for (unsigned i = 0; i < house->n_workers; i++)
        REQUIRE(worker_post_topology(house->workers[i], topology));
    topology_release(topology);
}

void house_visit(struct house *house, unsigned worker, struct visitor *visitor,
                 bool is_admitted)
{
    struct ticket *ticket = &visitor->ticket;

    visitor->house = house;
    visitor->is_gone = false;
    if (visitor->peer.window == 0)
        visitor->peer.window = SCRIPT_ALL;
    *ticket = (struct ticket){
        .gate = &house->gate,
        .listener = listener_hold(house->listener),
        .worker = worker,
        .fd = script_net_descriptor(&visitor->peer),
        .full = is_admitted ? NULL : "maxconn",
        .is_admitted = is_admitted,
        .knows_admission = is_admitted,
    };
    REQUIRE(
        address_parse("10.0.0.1", (uint16_t)(40000 + ticket->fd % 1000), &ticket->peer));
    worker_post_arrival(house->workers[worker], ticket);
}

void house_admit(struct visitor *visitor)
{
    visitor->ticket.is_admitted = true;
    worker_post_admission(visitor->house->workers[visitor->ticket.worker],
                          &visitor->ticket);
}

void house_turn(struct house *house, unsigned n)
{
    while (n-- > 0) {
        for (unsigned i = 0; i < house->n_workers; i++)
            turn(house->workers[i]->loop, 1);
        turn(house->loop, 1);
    }
}

bool house_turn_until(struct house *house, const bool *done, unsigned limit_ms)
{
    struct timespec now;
    uint64_t end_ms;

    clock_gettime(CLOCK_MONOTONIC, &now);
    end_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 + limit_ms;
    while (!*done) {
        house_turn(house, 1);
        clock_gettime(CLOCK_MONOTONIC, &now);
        if ((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000 >= end_ms)
            break;
    }
    return *done;
}

struct tally house_tally(const struct house *house, unsigned worker, uint32_t node_id)
{
    static const struct tally none;
    const struct tally *tally =
        tally_find(&house->workers[worker]->tallies, "rw", node_id);

    return tally == NULL ? none : *tally;
}

bool heard(const struct script_peer *peer, const void *bytes, size_t n)
{
    return peer->n_heard == n && (n == 0 || memcmp(peer->heard, bytes, n) == 0);
}

bool heard_packet(const struct script_peer *peer, const struct packet *packet)
{
    return heard(peer, packet->bytes, packet->n);
}

bool heard_error(const struct script_peer *peer, const char *sqlstate)
{
    struct error_fields fields;

    if (peer->n_heard < 6 || peer->heard[0] != 'E' ||
        (size_t)peer->heard[3] * 256 + peer->heard[4] + 1 != peer->n_heard)
        return false;
    error_read(peer->heard + 5, peer->n_heard - 5, &fields);
    return strcmp(fields.severity, "FATAL") == 0 &&
           strcmp(fields.sqlstate, sqlstate) == 0;
}
