#include "router/worker.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/log.h"
#include "core/memory.h"
#include "router/cancel.h"
#include "router/console/sums.h"
#include "router/lease.h"
#include "router/pool_setup.h"
#include "router/session.h"
#include "wire/auth.h"

/* How often those who wait are asked again; nodes that refused them get a new chance. */
#define RETRY_S 0.2
/* Clients that are judged by a new topology in one go. */
#define CLIENTS_PER_ITERATION 64
/* The same evidence about the same node is told so often and not oftener. */
#define EVIDENCE_EVERY_MS 50

/* A snapshot on its way to a worker. */
struct topology_message {
    struct message message;
    struct topology *topology; /* held */
};

/* Likewise. */
struct settings_message {
    struct message message;
    struct config *config;     /* held */
    struct security *security; /* held */
};

static void on_retry(struct ev_loop *ev, ev_timer *timer, int events);
static void on_reconsider(struct ev_loop *ev, ev_timer *timer, int events);

bool worker_pools_open(struct worker_pools *shared, unsigned n_workers)
{
    *shared = (struct worker_pools){.ledger = ledger_new(n_workers)};
    if (shared->ledger == NULL)
        return false;
    shared->accounts = accounts_new(shared->ledger);
    shared->texts = statement_texts_new();
    shared->all = memory_zeroed(n_workers * sizeof(struct pools *));
    return shared->accounts != NULL && shared->texts != NULL && shared->all != NULL;
}

void worker_pools_close(struct worker_pools *shared)
{
    memory_free(shared->all);
    accounts_free(shared->accounts);
    statement_texts_free(shared->texts);
    ledger_free(shared->ledger);
}

/* Its length counts itself; so does max_packet_size, and the type as well. */
static void set_longest_message(struct worker *worker)
{
    uint32_t body_max =
        (uint32_t)(worker->config->main.max_packet_size - MESSAGE_HEADER_BYTES);

    message_rules_init(&worker->client_rules, MESSAGE_OF_CLIENT, body_max);
    message_rules_init(&worker->pools.home.rules, MESSAGE_OF_SERVER, body_max);
}

struct worker *worker_new(unsigned number, unsigned n_workers, struct worker **workers,
                          const struct worker_pools *shared,
                          const struct control_door *control, struct config *config)
{
    struct worker *worker = memory_zeroed(sizeof *worker);

    if (worker == NULL)
        return NULL;
    worker->number = number;
    worker->n_workers = n_workers;
    worker->workers = workers;
    worker->shared = shared;
    message_rules_init(&worker->login_rules, MESSAGE_OF_CLIENT, AUTH_PASSWORD_MAX);
    worker->control = *control;
    worker->random = number * 2654435761u + 1;
    list_init(&worker->clients);
    list_init(&worker->cancel_runs);
    list_init(&worker->line);
    list_init(&worker->tallies);
    ev_timer_init(&worker->retry, on_retry, RETRY_S, RETRY_S);
    ev_timer_init(&worker->reconsider, on_reconsider, 0., 0.);

    worker->loop = loop_new(false);
    worker->client_slab = slab_new(sizeof(struct client));
    worker->server_slab = slab_new(sizeof(struct server));
    worker->cancel_keys = cancel_keys_new();
    if (number == 0)
        worker->cancel_rates = memory_zeroed(sizeof *worker->cancel_rates);
    if (worker->loop != NULL)
        worker->mailbox = mailbox_new(worker->loop, worker);
    if (worker->mailbox == NULL || worker->client_slab == NULL ||
        worker->server_slab == NULL || worker->cancel_keys == NULL ||
        (number == 0 && worker->cancel_rates == NULL) ||
        !pools_init(&worker->pools, worker->loop, number, n_workers, shared->all,
                    shared->accounts, shared->ledger, shared->texts, worker->server_slab,
                    &lease_pools_events, worker)) {
        worker_free(worker);
        return NULL;
    }
    worker->config = config_hold(config);
    set_longest_message(worker);
    shared->all[number] = &worker->pools;
    return worker;
}

void worker_free(struct worker *worker)
{
    if (worker == NULL)
        return;
    tally_clear(&worker->tallies);
    topology_release(worker->topology);
    config_release(worker->config);
    pools_clear(&worker->pools);
    mailbox_free(worker->mailbox);
    slab_free(worker->client_slab);
    slab_free(worker->server_slab);
    cancel_keys_free(worker->cancel_keys);
    memory_free(worker->cancel_rates);
    loop_free(worker->loop);
    memory_free(worker);
}

static void *run(void *argument)
{
    struct worker *worker = argument;
    char name[16];

    snprintf(name, sizeof name, "worker-%u", worker->number);
    pthread_setname_np(pthread_self(), name);
    loop_run(worker->loop);
    LOG(INFO, "loop ended", TEXT("thread", name),
        DECIMAL("longest_ms", loop_longest_iteration_ms(worker->loop)),
        DECIMAL("longest_work_ms", loop_longest_work_ms(worker->loop)),
        NUMBER("clients", worker->n_clients_total));
    return NULL;
}

bool worker_start(struct worker *worker)
{
    return pthread_create(&worker->thread, NULL, run, worker) == 0;
}

void worker_join(struct worker *worker)
{
    pthread_join(worker->thread, NULL);
}

bool worker_drain(struct worker *worker)
{
    bool own = mailbox_drain(worker->mailbox),
         pools = mailbox_drain(worker->pools.mailbox);

    loop_finish(worker->loop);
    return own || pools;
}

/* ---- what control says --------------------------------------------------------------
 */

static void tell_that_it_is_gone(struct worker *worker, struct ticket *ticket)
{
    mailbox_post(worker->control.mailbox, &ticket->end, worker->control.on_client_gone);
}

static void on_arrival(struct message *message, void *receiver)
{
    struct ticket *ticket = CONTAINER_OF(message, struct ticket, arrival);
    struct worker *worker = receiver;

    if (!worker->is_stopping && client_new(worker, ticket))
        return;
    close(ticket->fd);
    listener_release(ticket->listener);
    tell_that_it_is_gone(worker, ticket);
}

void worker_post_arrival(struct worker *worker, struct ticket *ticket)
{
    mailbox_post(worker->mailbox, &ticket->arrival, on_arrival);
}

static void on_admission(struct message *message, void *receiver)
{
    struct ticket *ticket = CONTAINER_OF(message, struct ticket, admission);
    struct worker *worker = receiver;

    if (ticket->client == NULL) {
        mailbox_post(worker->control.mailbox, message,
                     worker->control.on_admission_missed);
        return;
    }
    ticket->knows_admission = true;
    if (ticket->client->state == CLIENT_WAITING)
        session_try_again(ticket->client);
}

void worker_post_admission(struct worker *worker, struct ticket *ticket)
{
    mailbox_post(worker->mailbox, &ticket->admission, on_admission);
}

static void on_topology(struct message *message, void *receiver)
{
    struct topology_message *news =
        CONTAINER_OF(message, struct topology_message, message);
    struct worker *worker = receiver;

    topology_release(worker->topology);
    worker->topology = news->topology;
    memory_free(news);
    pools_set_topology(&worker->pools, worker->topology);
    LIST_EACH_SAFE(item, &worker->line)
    {
        session_try_again(CONTAINER_OF(item, struct client, in_line));
    }
    ev_timer_set(&worker->reconsider, 0., 0.);
    ev_timer_start(worker->loop->ev, &worker->reconsider);
}

/* Judges some of the clients by the newest topology: the list goes round until its first
 * one has been judged by it. */
static void on_reconsider(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct worker *worker = CONTAINER_OF(timer, struct worker, reconsider);
    uint64_t generation = worker->topology->generation;

    (void)events;
    for (unsigned i = 0; i < CLIENTS_PER_ITERATION; i++) {
        struct link *first = list_first(&worker->clients);
        struct client *client;

        if (first == NULL)
            return;
        client = CONTAINER_OF(first, struct client, in_worker);
        if (client->reconsidered_in == generation)
            return;
        list_remove(&worker->clients, first);
        list_append(&worker->clients, first);
        client->reconsidered_in = generation;
        session_reconsider(client);
    }
    ev_timer_set(timer, 0., 0.);
    ev_timer_start(ev, timer);
}

bool worker_post_topology(struct worker *worker, struct topology *topology)
{
    struct topology_message *news = memory_zeroed(sizeof *news);

    if (news == NULL)
        return false;
    news->topology = topology_hold(topology);
    mailbox_post(worker->mailbox, &news->message, on_topology);
    return true;
}

static void on_settings(struct message *message, void *receiver)
{
    struct settings_message *news =
        CONTAINER_OF(message, struct settings_message, message);
    struct worker *worker = receiver;

    pools_set_security(&worker->pools, news->security);
    security_release(news->security);
    config_release(worker->config);
    worker->config = news->config;
    memory_free(news);
    set_longest_message(worker);
    if (!worker->is_stopping)
        pool_setup_all(worker);
}

bool worker_post_settings(struct worker *worker, struct config *config,
                          struct security *security)
{
    struct settings_message *news = memory_zeroed(sizeof *news);

    if (news == NULL)
        return false;
    news->config = config_hold(config);
    news->security = security_hold(security);
    mailbox_post(worker->mailbox, &news->message, on_settings);
    return true;
}

static void on_end_waiting(struct message *message, void *receiver)
{
    struct worker *worker = receiver;

    memory_free(message);
    worker->is_ending = true;
    LIST_EACH_SAFE(item, &worker->clients)
    {
        struct client *client = CONTAINER_OF(item, struct client, in_worker);

        if (client->server == NULL && client->lease == NULL &&
            client->state != CLIENT_CANCELLING && client->state != CLIENT_CONSOLE)
            client_refuse(client, CLOSE_SHUTDOWN, NULL);
    }
}

bool worker_post_end_waiting(struct worker *worker)
{
    struct message *message = memory_zeroed(sizeof *message);

    if (message == NULL)
        return false;
    mailbox_post(worker->mailbox, message, on_end_waiting);
    return true;
}

static void on_stop(struct message *message, void *receiver)
{
    struct worker *worker = receiver;

    (void)message;
    worker->is_stopping = true;
    LIST_EACH_SAFE(item, &worker->clients)
    {
        struct client *client = CONTAINER_OF(item, struct client, in_worker);

        client_refuse(client, CLOSE_SHUTDOWN, NULL);
        client_close(client, CLOSE_SHUTDOWN);
    }
    pools_close(&worker->pools);
    cancel_stop(worker);
    ev_timer_stop(worker->loop->ev, &worker->retry);
    ev_timer_stop(worker->loop->ev, &worker->reconsider);
    loop_stop(worker->loop);
}

void worker_post_stop(struct worker *worker)
{
    mailbox_post(worker->mailbox, &worker->stop, on_stop);
}

static void add_to_gather(struct message *message, void *receiver)
{
    struct gather *gather = CONTAINER_OF(message, struct gather, message);
    struct worker *worker = receiver;
    uint64_t began_ns = ration_clock_ns();

    LIST_EACH(item, &worker->clients)
    {
        client_count_bytes(CONTAINER_OF(item, struct client, in_worker));
    }
    if (gather->reset != RESET_NOTHING)
        tally_reset(&worker->tallies, gather->reset == RESET_ALL);
    if (!tally_merge(&gather->tallies, &worker->tallies))
        gather->is_incomplete = true;
    if (gather->sums != NULL && !sums_add_worker(gather->sums, worker))
        gather->is_incomplete = true;
    gather->workers[worker->number].n_clients = worker->clients.n;
    gather->workers[worker->number].n_clients_total = worker->n_clients_total;
    gather->workers[worker->number].longest_iteration_ms =
        loop_longest_iteration_ms(worker->loop);
    for (unsigned i = 0; i < CLOSE_REASON_COUNT; i++)
        gather->n_closed[i] += worker->n_closed[i];
    gather->n_workers = worker->number + 1;
    gather->used_ns += ration_clock_ns() - began_ns;
    if (gather->n_workers == worker->n_workers)
        mailbox_post(gather->home, message, gather->on_home);
    else
        mailbox_post(worker->workers[gather->n_workers]->mailbox, message, add_to_gather);
}

void worker_post_gather(struct worker *worker, struct gather *gather)
{
    mailbox_post(worker->mailbox, &gather->message, add_to_gather);
}

/* ---- what control is told -----------------------------------------------------------
 */

void worker_evidence(struct worker *worker, uint32_t node_id, enum evidence evidence)
{
    uint64_t now_ms = loop_now_ms(worker->loop);
    struct evidence_message *news;

    if (node_id == worker->evidence_node &&
        now_ms - worker->evidence_at_ms < EVIDENCE_EVERY_MS)
        return;
    news = memory_zeroed(sizeof *news);
    if (news == NULL)
        return;
    worker->evidence_node = node_id;
    worker->evidence_at_ms = now_ms;
    news->node_id = node_id;
    news->evidence = evidence;
    mailbox_post(worker->control.mailbox, &news->message, worker->control.on_evidence);
}

static void tell_who_waits(struct worker *worker, const char *cluster)
{
    struct waiting_message *news = memory_zeroed(sizeof *news);

    if (news == NULL)
        return;
    snprintf(news->cluster, sizeof news->cluster, "%s", cluster);
    news->worker = worker->number;
    LIST_EACH(item, &worker->line)
    {
        const struct client *client = CONTAINER_OF(item, struct client, in_line);

        if (!client->waits_for_place && client->listener->settings->to != NULL &&
            strcmp(client->listener->settings->to->name, cluster) == 0)
            news->n_waiting++;
    }
    mailbox_post(worker->control.mailbox, &news->message, worker->control.on_waiting);
}

struct link *worker_next_client(const struct list *clients, uint64_t after_id)
{
    struct link *next = NULL;
    uint64_t next_id = UINT64_MAX;

    LIST_EACH(item, clients)
    {
        const struct client *client = CONTAINER_OF(item, struct client, in_worker);

        if (client->id > after_id && client->id < next_id) {
            next = item;
            next_id = client->id;
        }
    }
    return next;
}

void worker_tell_of_hold(struct worker *worker, const struct hold_news *told)
{
    struct hold_message *news = memory_zeroed(sizeof *news);

    if (news == NULL)
        return; /* the time line has a gap */
    news->worker = worker->number;
    news->news = *told;
    mailbox_post(worker->control.mailbox, &news->message, worker->control.on_hold);
}

static void tell_who_waits_where(struct worker *worker)
{
    for (size_t i = 0; worker->topology != NULL && i < worker->topology->n_clusters; i++)
        tell_who_waits(worker, worker->topology->clusters[i].name);
}

/* ---- the line -----------------------------------------------------------------------
 */

static void on_retry(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct worker *worker = CONTAINER_OF(timer, struct worker, retry);

    (void)events;
    LIST_EACH_SAFE(item, &worker->line)
    {
        struct client *client = CONTAINER_OF(item, struct client, in_line);

        client->tried = 0;
        session_try_again(client);
    }
    tell_who_waits_where(worker);
    if (worker->line.n == 0)
        ev_timer_stop(ev, timer);
}

void worker_wait(struct worker *worker, struct client *client)
{
    unsigned n = atomic_fetch_add_explicit(&client->ticket->gate->n_waiting, 1,
                                           memory_order_relaxed) +
                 1;
    struct tally *front =
        tally_get(&worker->tallies, client->listener->settings->name, 0);

    list_append(&worker->line, &client->in_line);
    if (front != NULL && n > front->waiting_max)
        front->waiting_max = n;
    if (!ev_is_active(&worker->retry)) {
        ev_timer_set(&worker->retry, RETRY_S, RETRY_S);
        ev_timer_start(worker->loop->ev, &worker->retry);
    }
}

void worker_stop_waiting(struct worker *worker, struct client *client)
{
    list_remove(&worker->line, &client->in_line);
    atomic_fetch_sub_explicit(&client->ticket->gate->n_waiting, 1, memory_order_relaxed);
}
