#include "router/console/pages.h"

#include <string.h>

#include "core/memory.h"
#include "router/console/holding.h"
#include "router/console/views.h"
#include "router/console/web.h"

#define PAGE_BYTES_MAX (16u << 20)
/* Requests that share one picture; more are told to come again. */
#define WAITING_MAX 256u

/* What a target asks for. */
enum page { PAGE_NONE, PAGE_HTML, PAGE_CSV, PAGE_ALIVE, PAGE_READY };

struct pages {
    struct loop *loop;
    const struct doors *doors;
    struct monitor *monitor;
    const struct pages_source *source;
    void *arg;
    struct web *web;
    char *uri;   /* [stats] uri */
    char *auth;  /* [stats] auth; "" = nobody is asked */
    char *token; /* [stats] control_token; "" = nobody may */
    uint64_t began_ms;
    struct gather *gather; /* under way */
    struct {
        struct web_request *request;
        enum page page;
    } waiting[WAITING_MAX];
    unsigned n_waiting;
};

/* Whether `target` is `path`, with or without HAProxy's ";option" and "?query" behind. */
static bool is_path(const char *target, const char *path)
{
    size_t length = strlen(path);

    return strncmp(target, path, length) == 0 && strchr(";?", target[length]) != NULL;
}

/* "...;csv", whatever else is asked for beside it. */
static bool has_option(const char *target, const char *option)
{
    size_t length = strlen(option);

    while ((target = strchr(target, ';')) != NULL) {
        target++;
        if (strncmp(target, option, length) == 0 && strchr(";?&", target[length]) != NULL)
            return true;
    }
    return false;
}

static enum page page_of(const struct pages *pages, const char *target)
{
    if (is_path(target, "/healthz"))
        return PAGE_ALIVE;
    if (is_path(target, "/readyz"))
        return PAGE_READY;
    if (is_path(target, "/") || is_path(target, "/stats") ||
        is_path(target, "/haproxy?stats") || is_path(target, pages->uri))
        return has_option(target, "csv") ? PAGE_CSV : PAGE_HTML;
    return PAGE_NONE;
}

static void answer_line(struct web_request *request, unsigned status, const char *line)
{
    struct text body;

    text_init(&body, 256);
    text_addf(&body, "%s\n", line);
    web_answer(request, status, "text/plain; charset=utf-8", &body);
    text_clear(&body);
}

/* Made once for all who wait for it. */
static void answer_all_of(struct pages *pages, enum page page,
                          void (*view)(const struct overview *overview, struct text *out),
                          const char *content_type, const struct overview *overview)
{
    struct text body;

    text_init(&body, PAGE_BYTES_MAX);
    for (unsigned i = 0; i < pages->n_waiting; i++) {
        if (pages->waiting[i].page != page)
            continue;
        if (body.length == 0)
            view(overview, &body);
        if (body.overflowed)
            answer_line(pages->waiting[i].request, 500, "out of memory");
        else
            web_answer(pages->waiting[i].request, 200, content_type, &body);
    }
    text_clear(&body);
}

static void free_gather(struct gather *gather)
{
    tally_clear(&gather->tallies);
    memory_free(gather);
}

static void refuse_all(struct pages *pages)
{
    while (pages->n_waiting > 0)
        answer_line(pages->waiting[--pages->n_waiting].request, 503, "not now");
}

static void on_home(struct message *message, void *receiver)
{
    struct gather *gather = CONTAINER_OF(message, struct gather, message);
    struct pages *pages = gather->pages;
    struct overview overview = {
        .gather = gather,
        .now_ms = loop_now_ms(pages->loop),
        .uptime_ms = loop_now_ms(pages->loop) - pages->began_ms,
    };

    (void)receiver;
    pages->gather = NULL;
    pages->source->describe(pages->arg, &overview);
    if (!gather->is_incomplete &&
        overview_take(&overview, pages->doors, pages->monitor)) {
        answer_all_of(pages, PAGE_HTML, view_page, "text/html; charset=utf-8", &overview);
        answer_all_of(pages, PAGE_CSV, view_csv, "text/plain; charset=utf-8", &overview);
        pages->n_waiting = 0;
        overview_clear(&overview);
    }
    refuse_all(pages);
    free_gather(gather);
}

static void begin_gathering(struct pages *pages)
{
    struct gather *gather = memory_zeroed(sizeof *gather);

    if (gather == NULL) {
        refuse_all(pages);
        return;
    }
    list_init(&gather->tallies);
    gather->on_home = on_home;
    gather->pages = pages;
    if (!pages->source->begin_gathering(pages->arg, gather)) {
        free_gather(gather);
        refuse_all(pages);
        return;
    }
    pages->gather = gather;
}

static void wait_for_picture(struct pages *pages, struct web_request *request,
                             enum page page)
{
    if (pages->n_waiting == WAITING_MAX) {
        answer_line(request, 503, "too many requests at a time");
        return;
    }
    pages->waiting[pages->n_waiting].request = request;
    pages->waiting[pages->n_waiting++].page = page;
    if (pages->gather == NULL)
        begin_gathering(pages);
}

static void take_holding(struct pages *pages, struct web_request *request)
{
    struct holding_request asked = {.target = web_target(request),
                                    .method = web_method(request),
                                    .authorization = web_authorization(request)};
    struct holding_answer answer;
    struct address peer;
    struct text body;

    text_init(&body, 4096);
    asked.body = web_body(request, &asked.is_too_long);
    if (web_peer(request, &peer))
        asked.peer = &peer;
    answer = holding_take(pages->monitor, pages->token, &asked, &body);
    if (answer.header != NULL)
        web_add_header(request, answer.header, answer.value);
    web_answer(request, answer.status, "application/json", &body);
    text_clear(&body);
}

static void on_request(void *arg, struct web_request *request)
{
    struct pages *pages = arg;
    enum page page = page_of(pages, web_target(request));
    bool is_ready;

    if (holding_is_meant(web_target(request))) {
        take_holding(pages, request);
        return;
    }
    if (strcmp(web_method(request), "GET") != 0 &&
        strcmp(web_method(request), "HEAD") != 0) {
        answer_line(request, 405, "only GET and HEAD are answered here");
        return;
    }
    switch (page) {
    case PAGE_NONE:
        answer_line(request, 404, "no such page: try /stats");
        break;
    case PAGE_ALIVE:
        answer_line(request, 200, "alive");
        break;
    case PAGE_READY:
        is_ready = pages->source->is_ready(pages->arg);
        answer_line(request, is_ready ? 200 : 503, is_ready ? "ready" : "not ready");
        break;
    case PAGE_HTML:
    case PAGE_CSV:
        if (*pages->auth != '\0' && !web_is_of(request, pages->auth))
            web_ask_for_password(request);
        else
            wait_for_picture(pages, request, page);
        break;
    }
}

struct pages *pages_new(struct loop *loop, const struct doors *doors,
                        struct monitor *monitor, const struct pages_source *source,
                        void *arg)
{
    struct pages *pages = memory_zeroed(sizeof *pages);

    if (pages == NULL)
        return NULL;
    pages->loop = loop;
    pages->doors = doors;
    pages->monitor = monitor;
    pages->source = source;
    pages->arg = arg;
    pages->began_ms = loop_now_ms(loop);
    pages->web = web_new(loop, on_request, pages);
    if (pages->web == NULL) {
        memory_free(pages);
        return NULL;
    }
    return pages;
}

void pages_free(struct pages *pages)
{
    if (pages == NULL)
        return;
    REQUIRE(pages->gather == NULL);
    refuse_all(pages);
    web_free(pages->web);
    memory_free(pages->uri);
    memory_free(pages->auth);
    memory_free(pages->token);
    memory_free(pages);
}

bool pages_configure(struct pages *pages, const struct stats_config *stats, int backlog,
                     struct text *errors)
{
    char *uri = memory_text(stats->uri), *auth = memory_text(stats->auth);
    char *token = memory_text(stats->control_token);
    bool has_all = uri != NULL && auth != NULL && token != NULL;

    if (!has_all)
        text_add(errors, "out of memory\n");
    if (!has_all || !web_configure(pages->web, &stats->bind, backlog, errors)) {
        memory_free(uri);
        memory_free(auth);
        memory_free(token);
        return false;
    }
    memory_free(pages->uri);
    memory_free(pages->auth);
    memory_free(pages->token);
    pages->uri = uri;
    pages->auth = auth;
    pages->token = token;
    return true;
}
