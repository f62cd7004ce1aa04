#include "tests/threads/control.h"

#include "core/memory.h"

static struct log_limit refusals_logged;

static void free_ticket(struct control *control, struct ticket *ticket)
{
    control->n_tickets--;
    memory_free(ticket);
}

static void admit_who_can_be(struct control *control)
{
    struct ticket *ticket;

    while ((ticket = admission_next(&control->admission)) != NULL) {
        REQUIRE(control->admission.n_admitted <= control->admission.max);
        worker_post_admission(control->workers[ticket->worker], ticket);
    }
}

static void on_client_gone(struct message *message, void *receiver)
{
    struct ticket *ticket = CONTAINER_OF(message, struct ticket, end);
    struct control *control = receiver;
    bool admission_is_under_way = ticket->is_admitted && !ticket->knows_admission;

    control->n_present--;
    admission_leave(&control->admission, ticket);
    if (!admission_is_under_way)
        free_ticket(control, ticket);
    admit_who_can_be(control);
    if (control->on_gone != NULL)
        control->on_gone(control);
}

static void on_admission_missed(struct message *message, void *receiver)
{
    struct control *control = receiver;

    control->n_missed++;
    free_ticket(control, CONTAINER_OF(message, struct ticket, admission));
}

static void on_evidence(struct message *message, void *receiver)
{
    (void)receiver;
    memory_free(CONTAINER_OF(message, struct evidence_message, message));
}

static void on_waiting(struct message *message, void *receiver)
{
    (void)receiver;
    memory_free(CONTAINER_OF(message, struct waiting_message, message));
}

static struct config *load(const char *listener_ini)
{
    struct text ini, errors;
    struct config *config;

    text_init(&ini, 4000);
    text_init(&errors, 4000);
    text_addf(&ini,
              "[cluster main]\nnodes = n1:5432:8008\n"
              "[listener rw]\nbind = *:5000\n%s\n",
              listener_ini);
    config = config_load_text("test", text_get(&ini), &errors);
    REQUIRE(config != NULL);
    text_clear(&ini);
    text_clear(&errors);
    return config;
}

void control_open(struct control *control, const char *listener_ini)
{
    struct control_door door = {
        .refusals_logged = &refusals_logged,
        .on_client_gone = on_client_gone,
        .on_admission_missed = on_admission_missed,
        .on_evidence = on_evidence,
        .on_waiting = on_waiting,
    };

    *control = (struct control){.config = load(listener_ini)};
    log_configure(LOG_LEVEL_ERROR, LOG_FORMAT_TEXT);
    admission_init(&control->admission);
    control->admission.max = 1000000;
    control->listener = listener_new(control->config, &control->config->listeners[0]);
    control->loop = loop_new(false);
    REQUIRE(control->listener != NULL && control->loop != NULL);
    control->mailbox = door.mailbox = mailbox_new(control->loop, control);
    REQUIRE(control->mailbox != NULL);
    REQUIRE(worker_pools_open(&control->shared, WORKERS));
    for (unsigned i = 0; i < WORKERS; i++) {
        control->workers[i] = worker_new(i, WORKERS, control->workers, &control->shared,
                                         &door, control->config);
        REQUIRE(control->workers[i] != NULL);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        REQUIRE(worker_start(control->workers[i]));
}

void control_give(struct control *control, int fd, unsigned worker)
{
    struct ticket *ticket = memory_zeroed(sizeof *ticket);

    REQUIRE(ticket != NULL);
    control->n_tickets++;
    control->n_present++;
    ticket->gate = &control->gate;
    ticket->listener = listener_hold(control->listener);
    ticket->fd = fd;
    ticket->peer.sa.sa_family = AF_UNIX;
    ticket->worker = worker;
    admission_enter(&control->admission, ticket);
    REQUIRE(!ticket->is_admitted ||
            control->admission.n_admitted <= control->admission.max);
    worker_post_arrival(control->workers[worker], ticket);
}

void control_tell(struct control *control, struct topology *topology)
{
    for (unsigned i = 0; i < WORKERS; i++)
        REQUIRE(worker_post_topology(control->workers[i], topology));
    topology_release(topology);
}

void control_close(struct control *control)
{
    bool delivered = true;

    for (unsigned i = 0; i < WORKERS; i++)
        worker_post_stop(control->workers[i]);
    for (unsigned i = 0; i < WORKERS; i++)
        worker_join(control->workers[i]);
    while (delivered) {
        delivered = mailbox_drain(control->mailbox);
        for (unsigned i = 0; i < WORKERS; i++)
            delivered = worker_drain(control->workers[i]) || delivered;
    }
    for (unsigned i = 0; i < WORKERS; i++)
        worker_free(control->workers[i]);
    worker_pools_close(&control->shared);
    mailbox_free(control->mailbox);
    loop_free(control->loop);
    listener_release(control->listener);
    REQUIRE(atomic_load(&control->config->references) == 1);
    config_release(control->config);
    REQUIRE(control->n_present == 0);
    REQUIRE(control->n_tickets == 0);
    REQUIRE(control->admission.n_admitted == 0 && control->admission.line.n == 0);
    REQUIRE(control->gate.n_admitted == 0 && control->gate.n_present == 0);
}
