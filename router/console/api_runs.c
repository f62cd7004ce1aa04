#include "router/console/api_runs.h"

#include <string.h>

#include "core/memory.h"
#include "core/turns.h"
#include "router/console/api.h"
#include "router/console/escape.h"

#define BYTES_MAX (16u << 20)
/* Each makes a picture of its own. */
#define API_RUNS_MAX 16u

/* A view of the API, whose rows come piece by piece. */
struct api_run {
    struct question question; /* first: the desk frees it when it is to drop it */
    struct api_runs *runs;
    struct web_request *request;
    struct link in_runs; /* while it is here: to read rows, or to wait for its turn */
    struct deferred next;
    struct turn turn;
    struct text out;
};

static void answer_out_of_memory(struct web_request *request)
{
    struct text body;

    text_init(&body, 64);
    text_add(&body, "{\"error\": \"out of memory\"}\n");
    web_answer(request, 500, "application/json", &body);
    text_clear(&body);
}

static void answer_json(struct web_request *request, unsigned status,
                        const struct text *body)
{
    if (body->overflowed)
        answer_out_of_memory(request);
    else
        web_answer(request, status, "application/json", body);
}

static void answer_error(struct web_request *request, unsigned status, const char *why)
{
    struct text body;

    text_init(&body, 4096);
    text_add(&body, "{\"error\": \"");
    escape_json(&body, why);
    text_add(&body, "\"}\n");
    answer_json(request, status, &body);
    text_clear(&body);
}

/* The desk may still have rows of it, which it is told to drop then: the run's memory is
 * the question's. */
static void end_api_run(struct api_run *run)
{
    struct api_runs *runs = run->runs;

    runs->n--;
    text_clear(&run->out);
    if (run->question.snapshot != NULL) {
        run->question.client_is_gone = true;
        runs->source->ask(runs->arg, &run->question);
        return;
    }
    text_clear(&run->question.rows);
    memory_free(run);
}

static void read_api_rows(struct api_run *run)
{
    struct question *question = &run->question;

    list_remove(&run->runs->here, &run->in_runs);
    ration_spend(&run->runs->loop->onlookers, question->used_ns);
    question->used_ns = 0;
    if (question->sqlstate != NULL) {
        answer_error(run->request, 503, question->why);
        end_api_run(run);
        return;
    }
    api_add_rows(question->command, &question->rows, &run->out);
    question->rows.length = 0;
    if (!question->is_last && !run->out.overflowed) {
        list_append(&run->runs->here, &run->in_runs);
        turn_take(run->runs->loop, &run->turn, true);
        return;
    }
    api_end(&run->out);
    answer_json(run->request, 200, &run->out);
    end_api_run(run);
}

static void on_turn(struct turn *turn)
{
    struct api_run *run = CONTAINER_OF(turn, struct api_run, turn);

    list_remove(&run->runs->here, &run->in_runs);
    run->runs->source->ask(run->runs->arg, &run->question);
}

/* Many may have one at a time, and each takes a while. */
static void on_next_rows(struct deferred *next)
{
    struct api_run *run = CONTAINER_OF(next, struct api_run, next);
    struct loop *loop = run->runs->loop;

    if (!loop_begin_work(loop)) {
        loop_continue(loop, next);
        return;
    }
    ration_begin(&loop->onlookers);
    read_api_rows(run);
    ration_end(&loop->onlookers);
    loop_end_work(loop);
}

static void on_api_rows(struct message *message, void *control)
{
    struct api_run *run = CONTAINER_OF(message, struct api_run, question.message);

    (void)control;
    list_append(&run->runs->here, &run->in_runs);
    loop_continue(run->runs->loop, &run->next);
}

/* At the end: nobody reads the rest. */
void api_runs_clear(struct api_runs *runs)
{
    LIST_EACH_SAFE(item, &runs->here)
    {
        struct api_run *run = CONTAINER_OF(item, struct api_run, in_runs);

        list_remove(&runs->here, item);
        loop_discontinue(runs->loop, &run->next);
        turn_leave(runs->loop, &run->turn);
        answer_error(run->request, 503, "not now");
        end_api_run(run);
    }
    REQUIRE(runs->n == 0);
}

static void begin_api_run(struct api_runs *runs, struct web_request *request,
                          enum command_name command)
{
    struct api_run *run = runs->n == API_RUNS_MAX ? NULL : memory_zeroed(sizeof *run);

    if (run == NULL) {
        answer_error(request, 503, "too many requests at a time");
        return;
    }
    runs->n++;
    run->runs = runs;
    run->request = request;
    run->question.command = command;
    run->question.on_answer = on_api_rows;
    run->next.run = on_next_rows;
    run->turn.run = on_turn;
    text_init(&run->question.rows, QUESTION_ROWS_MAX);
    text_init(&run->out, BYTES_MAX);
    api_begin(command, &run->out);
    list_append(&runs->here, &run->in_runs);
    turn_take(runs->loop, &run->turn, false);
}

static void answer_text(struct web_request *request, void (*add)(struct text *out))
{
    struct text body;

    text_init(&body, BYTES_MAX);
    add(&body);
    answer_json(request, 200, &body);
    text_clear(&body);
}

void api_take(struct api_runs *runs, struct web_request *request)
{
    const char *name = web_target(request) + sizeof API_PATH - 1;
    size_t n;
    enum command_name command;

    name += *name == '/';
    n = strcspn(name, "?;");
    command = api_command(name, n);
    if (n == 0)
        answer_text(request, api_add_index);
    else if (n == strlen("schema") && strncmp(name, "schema", n) == 0)
        answer_text(request, api_add_schema);
    else if (command == COMMAND_UNKNOWN)
        answer_error(request, 404, "no such view: " API_PATH " names them all");
    else
        begin_api_run(runs, request, command);
}

bool api_is_meant(const char *target)
{
    size_t n = sizeof API_PATH - 1;

    return strncmp(target, API_PATH, n) == 0 && strchr("/?;", target[n]) != NULL;
}

void api_runs_init(struct api_runs *runs, struct loop *loop,
                   const struct pages_source *source, void *arg)
{
    *runs = (struct api_runs){.loop = loop, .source = source, .arg = arg};
    list_init(&runs->here);
}
