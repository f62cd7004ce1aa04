#include "router/console/runtime.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config/unit.h"
#include "core/log.h"
#include "core/memory.h"
#include "core/socket.h"
#include "router/console/runtime_act.h"

#define LINE_BYTES_MAX 16383u
#define ANSWER_BYTES_MAX (16u << 20)
/* How long a visitor may say and read nothing, unless he says otherwise. */
#define SILENCE_MS 10000u
/* Accepted in one iteration of the loop. */
#define VISITORS_PER_ITERATION 8u
/* Of one visitor in one iteration: commands, or pieces of an answer. */
#define STEPS_PER_ITERATION 10u

struct visitor {
    struct link in_runtime;
    struct runtime *runtime;
    int fd;
    ev_io readable, writable;
    struct deadline silence;
    uint64_t silence_ms;
    struct deferred end, again;
    enum socket_level level;
    bool is_interactive; /* `prompt` was said */
    bool is_waiting;     /* for what was sent round */
    bool is_last;        /* it is closed once it has its answer */
    bool has_ended;
    char line[LINE_BYTES_MAX + 1];
    size_t n_line;  /* bytes that have come */
    size_t n_taken; /* of those, the line that is being done */
    char *at;       /* commands that are left of the line; NULL: no line is being done */
    struct runtime_order order;
    struct text out;
    size_t n_sent;
    char who[64]; /* for the log */
};

struct runtime {
    struct loop *loop;
    struct doors *doors;
    struct monitor *monitor;
    const struct runtime_source *source;
    void *arg;
    uint64_t began_ms;
    char *path; /* NULL: it does not listen */
    int listening;
    ev_io acceptable;
    enum socket_level level;
    struct list visitors;
    unsigned n_away; /* messages that are not home */
};

/* What was sent round for a visitor, who may be gone when it is home. */
struct picture_errand {
    struct gather gather;
    struct runtime *runtime;
    struct visitor *visitor;
};
struct roll_errand {
    struct roll roll;
    struct runtime *runtime;
    struct visitor *visitor;
};

static void advance(struct visitor *visitor);

/* ---- the end of a visitor -----------------------------------------------------------
 */

static void free_visitor(struct deferred *end)
{
    struct visitor *visitor = CONTAINER_OF(end, struct visitor, end);

    text_clear(&visitor->out);
    memory_free(visitor);
}

/* Its memory goes once nothing that was sent round for it is away. */
static void forget_if_home(struct visitor *visitor)
{
    if (!visitor->has_ended || visitor->is_waiting)
        return;
    visitor->end.run = free_visitor;
    loop_defer(visitor->runtime->loop, &visitor->end);
}

static void close_visitor(struct visitor *visitor)
{
    struct runtime *runtime = visitor->runtime;

    if (visitor->has_ended)
        return;
    visitor->has_ended = true;
    ev_io_stop(runtime->loop->ev, &visitor->readable);
    ev_io_stop(runtime->loop->ev, &visitor->writable);
    deadline_cancel(&visitor->silence);
    loop_discontinue(runtime->loop, &visitor->again);
    loop_forget_descriptor(runtime->loop, visitor->fd);
    close(visitor->fd);
    list_remove(&runtime->visitors, &visitor->in_runtime);
    if (runtime->listening >= 0)
        ev_io_start(runtime->loop->ev, &runtime->acceptable);
    forget_if_home(visitor);
}

static void on_silence(struct deadline *deadline)
{
    close_visitor(CONTAINER_OF(deadline, struct visitor, silence));
}

static void note_life(struct visitor *visitor)
{
    (void)deadline_arm(visitor->runtime->loop, &visitor->silence, visitor->silence_ms,
                       on_silence);
}

/* ---- commands -----------------------------------------------------------------------
 */

/* An answer ends with an empty line, or with the prompt. */
static void end_answer(struct visitor *visitor)
{
    text_add(&visitor->out, visitor->is_interactive ? "\n> " : "\n");
    if (visitor->out.overflowed)
        visitor->is_last = true;
}

/* True when it was away for long enough to be freed. */
static bool come_home(struct runtime *runtime, struct visitor *visitor)
{
    runtime->n_away--;
    visitor->is_waiting = false;
    if (!visitor->has_ended)
        return false;
    forget_if_home(visitor);
    return true;
}

static void on_picture(struct message *message, void *control)
{
    struct picture_errand *errand =
        CONTAINER_OF(message, struct picture_errand, gather.message);
    struct visitor *visitor = errand->visitor;
    struct runtime *runtime = errand->runtime;
    struct overview overview = {
        .gather = &errand->gather,
        .now_ms = loop_now_ms(runtime->loop),
        .uptime_ms = loop_now_ms(runtime->loop) - runtime->began_ms,
    };
    bool is_gone = come_home(runtime, visitor);

    (void)control;
    if (!is_gone) {
        runtime->source->describe(runtime->arg, &overview);
        if (!errand->gather.is_incomplete &&
            overview_take(&overview, runtime->doors, runtime->monitor)) {
            runtime_show(&visitor->order, &overview, &visitor->out);
            overview_clear(&overview);
        } else {
            text_add(&visitor->out, "Out of memory.\n");
        }
        end_answer(visitor);
    }
    tally_clear(&errand->gather.tallies);
    memory_free(errand);
    if (!is_gone)
        advance(visitor);
}

static void on_roll(struct message *message, void *control)
{
    struct roll_errand *errand = CONTAINER_OF(message, struct roll_errand, roll.message);
    struct visitor *visitor = errand->visitor;
    bool is_gone = come_home(errand->runtime, visitor);

    (void)control;
    if (!is_gone) {
        text_add(&visitor->out, text_get(&errand->roll.lines));
        end_answer(visitor);
    }
    text_clear(&errand->roll.lines);
    memory_free(errand);
    if (!is_gone)
        advance(visitor);
}

static void not_now(struct visitor *visitor, bool has_memory)
{
    text_add(&visitor->out, has_memory ? "Not now.\n" : "Out of memory.\n");
    end_answer(visitor);
}

/* Control's own part of "clear counters"; the workers do theirs as the message passes. */
static void reset_counters(struct runtime *runtime, bool all)
{
    LIST_EACH(item, &runtime->doors->open)
    {
        struct door *door = CONTAINER_OF(item, struct door, in_doors);

        door->gate.n_present_max = door->gate.n_present;
        door->n_most_in_a_second = 0;
        if (all)
            door->gate.n_total = 0;
    }
    if (all)
        monitor_reset_counts(runtime->monitor);
}

static void ask_for_picture(struct visitor *visitor)
{
    struct runtime *runtime = visitor->runtime;
    struct picture_errand *errand = memory_zeroed(sizeof *errand);
    bool clears = visitor->order.command == RUNTIME_CLEAR_COUNTERS;
    bool all = strcmp(runtime_operand(&visitor->order, 0), "all") == 0;

    if (errand == NULL) {
        not_now(visitor, false);
        return;
    }
    errand->runtime = runtime;
    errand->visitor = visitor;
    list_init(&errand->gather.tallies);
    errand->gather.on_home = on_picture;
    errand->gather.reset = !clears ? RESET_NOTHING : all ? RESET_ALL : RESET_MAXIMA;
    if (!runtime->source->begin_gathering(runtime->arg, &errand->gather)) {
        memory_free(errand);
        not_now(visitor, true);
        return;
    }
    runtime->n_away++;
    visitor->is_waiting = true;
    if (clears) {
        LOG(INFO, "counters cleared", TEXT("which", all ? "all" : "maxima"),
            TEXT("by", visitor->who));
        reset_counters(runtime, all);
    }
}

static void ask_for_roll(struct visitor *visitor)
{
    struct runtime *runtime = visitor->runtime;
    struct roll_errand *errand = memory_zeroed(sizeof *errand);

    if (errand == NULL) {
        not_now(visitor, false);
        return;
    }
    errand->runtime = runtime;
    errand->visitor = visitor;
    errand->roll.on_home = on_roll;
    text_init(&errand->roll.lines, ROLL_BYTES_MAX);
    if (!runtime->source->begin_roll(runtime->arg, &errand->roll)) {
        memory_free(errand);
        not_now(visitor, true);
        return;
    }
    runtime->n_away++;
    visitor->is_waiting = true;
}

static void set_timeout(struct visitor *visitor)
{
    const char *text = runtime_operand(&visitor->order, 0);
    int64_t ms;

    if (!unit_parse_duration(text, &ms) || ms <= 0 || ms > 86400000) {
        text_add(&visitor->out, "Invalid timeout value.\n");
        return;
    }
    visitor->silence_ms = (uint64_t)ms;
    note_life(visitor);
}

static void lower_level(struct visitor *visitor, enum socket_level level)
{
    if (visitor->level > level)
        visitor->level = level;
}

static const char *const level_names[] = {
    [SOCKET_USER] = "user", [SOCKET_OPERATOR] = "operator", [SOCKET_ADMIN] = "admin"};

static void say_help(struct visitor *visitor)
{
    text_add(&visitor->out, "The following commands are valid at this level:\n");
    runtime_help(visitor->level, &visitor->out);
}

static void say_unknown(struct visitor *visitor)
{
    text_add(&visitor->out,
             "Unknown command. Please enter one of the following commands only:\n");
    runtime_help(visitor->level, &visitor->out);
}

static void switch_prompt(struct visitor *visitor)
{
    visitor->is_interactive = !visitor->is_interactive;
}

static void quit(struct visitor *visitor)
{
    visitor->is_last = true;
}

static void become_user(struct visitor *visitor)
{
    lower_level(visitor, SOCKET_USER);
}

static void become_operator(struct visitor *visitor)
{
    lower_level(visitor, SOCKET_OPERATOR);
}

static void say_level(struct visitor *visitor)
{
    text_addf(&visitor->out, "%s\n", level_names[visitor->level]);
}

/* Those that are about the connection itself. */
static void (*const own[RUNTIME_COUNT + 1])(struct visitor *visitor) = {
    [RUNTIME_HELP] = say_help,        [RUNTIME_UNKNOWN] = say_unknown,
    [RUNTIME_PROMPT] = switch_prompt, [RUNTIME_QUIT] = quit,
    [RUNTIME_USER] = become_user,     [RUNTIME_OPERATOR] = become_operator,
    [RUNTIME_SHOW_LEVEL] = say_level, [RUNTIME_SET_TIMEOUT] = set_timeout,
};

/* Everything but the maxima is the admin's to clear. */
static bool may(const struct visitor *visitor)
{
    const struct runtime_order *order = &visitor->order;

    if (order->command == RUNTIME_UNKNOWN)
        return true;
    if (order->command == RUNTIME_CLEAR_COUNTERS && order->n_operands > 0)
        return visitor->level == SOCKET_ADMIN;
    return visitor->level >= runtime_facts[order->command].level;
}

static void run_now(struct visitor *visitor)
{
    struct runtime *runtime = visitor->runtime;
    const struct runtime_scene scene = {.doors = runtime->doors,
                                        .monitor = runtime->monitor,
                                        .source = runtime->source,
                                        .arg = runtime->arg,
                                        .who = visitor->who};

    if (!may(visitor))
        text_add(&visitor->out, "Permission denied\n");
    else if (own[visitor->order.command] != NULL)
        own[visitor->order.command](visitor);
    else
        runtime_act(&scene, &visitor->order, &visitor->out);
    end_answer(visitor);
}

static void run(struct visitor *visitor)
{
    enum runtime_command command = visitor->order.command;

    if (!may(visitor) || command == RUNTIME_UNKNOWN ||
        runtime_facts[command].needs == NEEDS_NOTHING)
        run_now(visitor);
    else if (runtime_facts[command].needs == NEEDS_PICTURE)
        ask_for_picture(visitor);
    else
        ask_for_roll(visitor);
}

/* ---- lines --------------------------------------------------------------------------
 */

/* False: none is whole. */
static bool begin_line(struct visitor *visitor)
{
    char *end = memchr(visitor->line, '\n', visitor->n_line);

    if (end == NULL)
        return false;
    *end = '\0';
    visitor->n_taken = (size_t)(end - visitor->line) + 1;
    visitor->at = visitor->line;
    return true;
}

/* What has come behind it is for those only who have a prompt. */
static void end_line(struct visitor *visitor)
{
    visitor->n_line -= visitor->n_taken;
    memmove(visitor->line, visitor->line + visitor->n_taken, visitor->n_line);
    visitor->at = NULL;
    if (!visitor->is_interactive)
        visitor->is_last = true;
}

/* The next command of the line, of which there is one at least, be it empty. */
static void run_next(struct visitor *visitor)
{
    runtime_order_next(&visitor->at, &visitor->order);
    run(visitor);
    if (*visitor->at == '\0' && !visitor->is_waiting)
        end_line(visitor);
}

/* ---- bytes --------------------------------------------------------------------------
 */

enum progress { PROGRESS, BLOCKED, ENDED };

static enum progress send_some(struct visitor *visitor)
{
    ssize_t n = socket_send(visitor->fd, text_get(&visitor->out) + visitor->n_sent,
                            visitor->out.length - visitor->n_sent);

    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return BLOCKED;
    if (n < 0)
        return ENDED;
    note_life(visitor);
    visitor->n_sent += (size_t)n;
    if (visitor->n_sent < visitor->out.length)
        return PROGRESS;
    visitor->n_sent = 0;
    text_clear(&visitor->out);
    return PROGRESS;
}

static enum progress receive_some(struct visitor *visitor)
{
    size_t room = LINE_BYTES_MAX - visitor->n_line;
    ssize_t n;

    if (room == 0) {
        text_add(&visitor->out, "The line is too long.\n\n");
        visitor->is_last = true;
        return PROGRESS;
    }
    n = socket_receive(visitor->fd, visitor->line + visitor->n_line, room);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
        return BLOCKED;
    if (n <= 0)
        return ENDED; /* a line that has no end may not be whole */
    note_life(visitor);
    visitor->n_line += (size_t)n;
    return PROGRESS;
}

/* What is to be done next, and whether it could be. */
static enum progress step(struct visitor *visitor, int *wanted)
{
    if (visitor->out.length > visitor->n_sent) {
        *wanted = EV_WRITE;
        return send_some(visitor);
    }
    if (visitor->is_last)
        return ENDED;
    if (visitor->at != NULL && *visitor->at == '\0')
        end_line(visitor); /* its last answer came from elsewhere */
    else if (visitor->at != NULL || begin_line(visitor))
        run_next(visitor);
    else {
        *wanted = EV_READ;
        return receive_some(visitor);
    }
    return PROGRESS;
}

static void want(struct visitor *visitor, int wanted)
{
    struct ev_loop *ev = visitor->runtime->loop->ev;

    if (wanted == EV_READ)
        ev_io_start(ev, &visitor->readable);
    else
        ev_io_stop(ev, &visitor->readable);
    if (wanted == EV_WRITE)
        ev_io_start(ev, &visitor->writable);
    else
        ev_io_stop(ev, &visitor->writable);
}

static void on_again(struct deferred *again)
{
    advance(CONTAINER_OF(again, struct visitor, again));
}

/* Goes on as far as it can, or for some steps, so that a line of thousands of commands
 * holds nobody up. */
static void advance(struct visitor *visitor)
{
    enum progress progress = PROGRESS;
    int wanted = 0;

    for (unsigned n = 0; progress == PROGRESS && !visitor->is_waiting; n++) {
        if (n == STEPS_PER_ITERATION) {
            want(visitor, 0);
            visitor->again.run = on_again;
            loop_continue(visitor->runtime->loop, &visitor->again);
            return;
        }
        wanted = 0;
        progress = step(visitor, &wanted);
    }
    if (progress == ENDED)
        close_visitor(visitor);
    else
        want(visitor, visitor->is_waiting ? 0 : wanted);
}

static void on_readable(struct ev_loop *ev, ev_io *watcher, int events)
{
    (void)ev;
    (void)events;
    advance(CONTAINER_OF(watcher, struct visitor, readable));
}

static void on_writable(struct ev_loop *ev, ev_io *watcher, int events)
{
    (void)ev;
    (void)events;
    advance(CONTAINER_OF(watcher, struct visitor, writable));
}

/* ---- visitors come ------------------------------------------------------------------
 */

/* Takes the descriptor. */
static void welcome(struct runtime *runtime, int fd)
{
    struct visitor *visitor = memory_zeroed(sizeof *visitor);
    struct socket_ends ends;

    if (visitor == NULL) {
        close(fd);
        return;
    }
    visitor->runtime = runtime;
    visitor->fd = fd;
    visitor->level = runtime->level;
    visitor->silence_ms = SILENCE_MS;
    text_init(&visitor->out, ANSWER_BYTES_MAX);
    socket_ends(fd, &ends);
    snprintf(visitor->who, sizeof visitor->who, "runtime socket, pid %d", ends.pid);
    ev_io_init(&visitor->readable, on_readable, fd, EV_READ);
    ev_io_init(&visitor->writable, on_writable, fd, EV_WRITE);
    list_append(&runtime->visitors, &visitor->in_runtime);
    note_life(visitor);
    ev_io_start(runtime->loop->ev, &visitor->readable);
    if (runtime->visitors.n >= RUNTIME_VISITORS_MAX)
        ev_io_stop(runtime->loop->ev, &runtime->acceptable);
}

static void on_acceptable(struct ev_loop *ev, ev_io *watcher, int events)
{
    struct runtime *runtime = CONTAINER_OF(watcher, struct runtime, acceptable);
    struct address peer;

    (void)ev;
    (void)events;
    for (unsigned i = 0;
         i < VISITORS_PER_ITERATION && runtime->visitors.n < RUNTIME_VISITORS_MAX; i++) {
        int fd = socket_accept(runtime->listening, &peer);

        if (fd < 0)
            return;
        welcome(runtime, fd);
    }
}

/* ---- begin and end ------------------------------------------------------------------
 */

struct runtime *runtime_new(struct loop *loop, struct doors *doors,
                            struct monitor *monitor, const struct runtime_source *source,
                            void *arg)
{
    struct runtime *runtime = memory_zeroed(sizeof *runtime);

    if (runtime == NULL)
        return NULL;
    runtime->loop = loop;
    runtime->doors = doors;
    runtime->monitor = monitor;
    runtime->source = source;
    runtime->arg = arg;
    runtime->began_ms = loop_now_ms(loop);
    runtime->listening = -1;
    list_init(&runtime->visitors);
    ev_init(&runtime->acceptable, on_acceptable);
    return runtime;
}

static void stop_listening(struct runtime *runtime)
{
    if (runtime->listening < 0)
        return;
    ev_io_stop(runtime->loop->ev, &runtime->acceptable);
    loop_forget_descriptor(runtime->loop, runtime->listening);
    close(runtime->listening);
    unlink(runtime->path);
    memory_free(runtime->path);
    runtime->path = NULL;
    runtime->listening = -1;
}

void runtime_free(struct runtime *runtime)
{
    if (runtime == NULL)
        return;
    REQUIRE(runtime->n_away == 0);
    stop_listening(runtime);
    LIST_EACH_SAFE(item, &runtime->visitors)
    {
        close_visitor(CONTAINER_OF(item, struct visitor, in_runtime));
    }
    memory_free(runtime);
}

/* Takes over the path. */
static void listen_at(struct runtime *runtime, char *path, int fd)
{
    stop_listening(runtime);
    runtime->path = path;
    runtime->listening = fd;
    ev_io_set(&runtime->acceptable, fd, EV_READ);
    if (runtime->visitors.n < RUNTIME_VISITORS_MAX)
        ev_io_start(runtime->loop->ev, &runtime->acceptable);
}

bool runtime_configure(struct runtime *runtime, const struct stats_config *stats,
                       int backlog, struct text *errors)
{
    struct endpoint endpoint = {.path = memory_text(stats->socket)};
    int sockets[SOCKETS_PER_ENDPOINT];

    if (endpoint.path == NULL) {
        text_add(errors, "out of memory\n");
        return false;
    }
    runtime->level = stats->socket_level;
    if (*endpoint.path == '\0' ||
        (runtime->path != NULL && strcmp(runtime->path, endpoint.path) == 0)) {
        if (*endpoint.path == '\0')
            stop_listening(runtime);
        memory_free(endpoint.path);
        return true;
    }
    if (socket_listen(&endpoint, backlog, (mode_t)stats->socket_mode, false, sockets) ==
        0) {
        text_addf(errors, "[stats]: cannot listen on %s: %s\n", endpoint.path,
                  strerror(errno));
        memory_free(endpoint.path);
        return false;
    }
    listen_at(runtime, endpoint.path, sockets[0]);
    return true;
}
