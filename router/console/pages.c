#include "router/console/pages.h"

#include <string.h>

#include "core/log.h"
#include "core/memory.h"
#include "core/turns.h"
#include "router/console/acts.h"
#include "router/console/api_runs.h"
#include "router/console/assets.h"
#include "router/console/holding.h"
#include "router/console/offer.h"
#include "router/console/page.h"
#include "router/console/scrapes.h"
#include "router/console/sums.h"
#include "router/console/views.h"
#include "router/console/web.h"

#define PAGE_BYTES_MAX (16u << 20)
/* Requests that share one picture; more are told to come again. */
#define WAITING_MAX 256u
/* How often those who look at the page are sent what has changed, and how many they are.
 */
#define LIVE_S 2.
#define VIEWERS_MAX 64u

/* What a target asks for. */
enum page {
    PAGE_NONE,
    PAGE_HTML,
    PAGE_FORMS, /* the same for those who may act */
    PAGE_ADMIN,
    PAGE_CSV,
    PAGE_JSON,
    PAGE_LIVE,
    PAGE_METRICS,
    PAGE_API,
    PAGE_ALIVE,
    PAGE_READY,
    PAGE_PRIMARY,
    PAGE_REPLICA
};

/* Somebody who looks at the page, as it changes. */
struct viewer {
    struct link in_pages;
    struct pages *pages;
    struct web_stream *stream;
    bool needs_all; /* sections, not only those that have changed */
};

struct pages {
    struct loop *loop;
    const struct doors *doors;
    struct monitor *monitor;
    const struct pages_source *source;
    void *arg;
    struct web *web;
    char *uri; /* [stats] uri */
    struct basic_auth auth;
    struct basic_auth admin; /* who may act; its text is NULL: nobody may */
    struct acts acts;
    char *token;        /* [stats] control_token; "" = nobody may */
    unsigned refresh_s; /* [stats] refresh */
    bool hides_version;
    bool is_configured, has_tls; /* has_tls: until the process ends */
    uint64_t began_ms;
    struct history history;
    struct events events;
    ev_timer history_timer, live_timer;
    bool is_live_due; /* the picture under way is for viewers, too */
    struct list viewers;
    struct text sections[PAGE_SECTIONS]; /* as viewers have them */
    struct gather *gather;               /* under way */
    struct turn turn;                    /* to begin the next */
    struct scrapes *scrapes;
    struct api_runs api_runs;
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
    if (is_path(target, "/admin"))
        return PAGE_ADMIN;
    if (is_path(target, "/live"))
        return PAGE_LIVE;
    if (is_path(target, "/healthz"))
        return PAGE_ALIVE;
    if (is_path(target, "/readyz"))
        return PAGE_READY;
    if (is_path(target, "/primary"))
        return PAGE_PRIMARY;
    if (is_path(target, "/replica"))
        return PAGE_REPLICA;
    if (is_path(target, "/metrics"))
        return PAGE_METRICS;
    if (api_is_meant(target))
        return PAGE_API;
    if (is_path(target, "/") || is_path(target, "/stats") ||
        is_path(target, "/haproxy?stats") || is_path(target, pages->uri))
        return has_option(target, "csv")    ? PAGE_CSV
               : has_option(target, "json") ? PAGE_JSON
                                            : PAGE_HTML;
    return PAGE_NONE;
}

/* Made once for all who wait for it. */
static void answer_all_of(struct pages *pages, enum page page,
                          void (*view)(const struct overview *overview, struct text *out),
                          const char *content_type, const struct overview *overview)
{
    struct web_page *made = NULL;
    bool was_made = false;
    struct text body;

    text_init(&body, PAGE_BYTES_MAX);
    for (unsigned i = 0; i < pages->n_waiting; i++) {
        if (pages->waiting[i].page != page)
            continue;
        if (!was_made) {
            view(overview, &body);
            made = web_page_new(content_type, &body);
            was_made = true;
        }
        web_answer_page(pages->waiting[i].request, made);
    }
    web_page_release(made);
    text_clear(&body);
}

static void free_gather(struct gather *gather)
{
    tally_clear(&gather->tallies);
    sums_free(gather->sums);
    memory_free(gather);
}

static void refuse_all(struct pages *pages)
{
    while (pages->n_waiting > 0)
        web_answer_line(pages->waiting[--pages->n_waiting].request, 503, "not now");
}

/* ---- those who look on ---------------------------------------------------------------
 */

/* A server-sent event (HTML's standard, 9.2): each line of it after "data: ". */
static void add_event(struct text *out, const char *id, const struct text *section)
{
    const char *line = text_get(section);

    text_addf(out, "event: section\ndata: %s\n", id);
    while (*line != '\0') {
        size_t n = strcspn(line, "\r\n");

        text_add(out, "data: ");
        text_add_n(out, line, n);
        text_add(out, "\n");
        line += n;
        line += *line != '\0';
    }
    text_add(out, "\n");
}

/* Writes all sections anew; those that are others than before are in `changed`. False
 * when memory is out. */
static bool take_sections(struct pages *pages, const struct overview *overview,
                          struct text *changed, struct text *all)
{
    for (unsigned i = 0; i < PAGE_SECTIONS; i++) {
        struct text section;

        text_init(&section, PAGE_BYTES_MAX);
        page_add_section(overview, i, &section);
        if (section.overflowed) {
            text_clear(&section);
            return false;
        }
        if (strcmp(text_get(&section), text_get(&pages->sections[i])) != 0)
            add_event(changed, page_section_id(i), &section);
        add_event(all, page_section_id(i), &section);
        text_clear(&pages->sections[i]);
        pages->sections[i] = section;
    }
    return !changed->overflowed && !all->overflowed;
}

/* Who has not taken the last picture yet gets all of a later one. */
static void show_all_viewers(struct pages *pages, const struct overview *overview)
{
    struct text changed, all;
    bool has_all;

    text_init(&changed, PAGE_BYTES_MAX);
    text_init(&all, PAGE_BYTES_MAX);
    has_all = take_sections(pages, overview, &changed, &all);
    if (changed.length == 0)
        text_add(&changed, ":\n\n"); /* a comment: who has gone is found out so */
    LIST_EACH(item, &pages->viewers)
    {
        struct viewer *viewer = CONTAINER_OF(item, struct viewer, in_pages);

        viewer->needs_all =
            !has_all ||
            !web_stream_send(viewer->stream, viewer->needs_all ? &all : &changed);
    }
    text_clear(&changed);
    text_clear(&all);
}

static void on_viewer_gone(void *arg, struct web_stream *stream)
{
    struct viewer *viewer = arg;
    struct pages *pages = viewer->pages;

    (void)stream;
    list_remove(&pages->viewers, &viewer->in_pages);
    memory_free(viewer);
    if (pages->viewers.n == 0)
        ev_timer_stop(pages->loop->ev, &pages->live_timer);
}

static void add_viewer(struct pages *pages, struct web_request *request)
{
    struct viewer *viewer;

    if (pages->viewers.n >= VIEWERS_MAX) {
        web_answer_line(request, 503, "too many look on");
        return;
    }
    viewer = memory_zeroed(sizeof *viewer);
    if (viewer == NULL) {
        web_answer_line(request, 503, "out of memory");
        return;
    }
    viewer->pages = pages;
    viewer->needs_all = true;
    viewer->stream =
        web_answer_stream(request, "text/event-stream", on_viewer_gone, viewer);
    if (viewer->stream == NULL) {
        memory_free(viewer);
        return;
    }
    list_append(&pages->viewers, &viewer->in_pages);
    ev_timer_again(pages->loop->ev, &pages->live_timer);
    ev_feed_event(pages->loop->ev, &pages->live_timer, EV_TIMER);
}

/* ---- history -------------------------------------------------------------------------
 */

static void add_pool(struct history_sample *sample, const struct pool_sum *pool)
{
    const struct pool_counts *counts = &pool->counts;
    uint64_t *values = sample->values;

    values[SERIES_transactions] += counts->transactions;
    values[SERIES_queries] += counts->queries;
    values[SERIES_query_time] += counts->query_time / 1000;
    sample->events[SERIES_query_time] += counts->queries;
    values[SERIES_wait_time] += counts->wait_time / 1000;
    sample->events[SERIES_wait_time] += counts->server_assignments;
    values[SERIES_waiting] += pool->n_waiting;
    values[SERIES_servers] += pool->servers.n_active;
    values[SERIES_bytes_in] += counts->bytes_received;
    values[SERIES_bytes_out] += counts->bytes_sent;
    if (pool->servers.longest_wait_ns / 1000 > values[SERIES_longest_wait])
        values[SERIES_longest_wait] = pool->servers.longest_wait_ns / 1000;
}

static void add_doors(struct history_sample *sample, const struct list *doors)
{
    LIST_EACH(item, doors)
    {
        const struct door *door = CONTAINER_OF(item, struct door, in_doors);

        sample->values[SERIES_connections] += door->gate.n_total;
        sample->values[SERIES_waiting] += door->gate.n_waiting;
    }
}

/* What pools and sessions without a pool have done, and do. */
static void take_sample(const struct pages *pages, const struct gather *gather,
                        struct history_sample *sample)
{
    memset(sample, 0, sizeof *sample);
    LIST_EACH(item, &gather->sums->pools)
    {
        const struct pool_sum *pool = CONTAINER_OF(item, struct pool_sum, in_list);

        if (strcmp(pool->database, CONFIG_POOL_LISTENER) != 0)
            add_pool(sample, pool);
    }
    LIST_EACH(item, &gather->tallies)
    {
        const struct tally *tally = CONTAINER_OF(item, struct tally, in_list);

        if (tally->node_id == 0)
            continue;
        sample->values[SERIES_servers] += tally->sessions_now;
        sample->values[SERIES_bytes_in] += tally->bytes_in;
        sample->values[SERIES_bytes_out] += tally->bytes_out;
    }
    for (unsigned i = 0; i < gather->n_workers; i++)
        sample->values[SERIES_clients] += gather->workers[i].n_clients;
    add_doors(sample, &pages->doors->open);
    add_doors(sample, &pages->doors->shut);
}

/* ---- pictures ------------------------------------------------------------------------
 */

static void show_to_all(struct pages *pages, struct overview *overview, bool is_live_due)
{
    pages->source->describe(pages->arg, overview);
    if (!overview_take(overview, pages->doors, pages->monitor))
        return;
    answer_all_of(pages, PAGE_HTML, page_add, "text/html; charset=utf-8", overview);
    overview->token = pages->acts.token;
    answer_all_of(pages, PAGE_FORMS, page_add, "text/html; charset=utf-8", overview);
    overview->token = NULL;
    answer_all_of(pages, PAGE_CSV, view_csv, "text/plain; charset=utf-8", overview);
    answer_all_of(pages, PAGE_JSON, view_json, "application/json", overview);
    pages->n_waiting = 0;
    if (is_live_due)
        show_all_viewers(pages, overview);
    overview_clear(overview);
}

static void show(struct pages *pages, struct gather *gather)
{
    bool is_live_due = pages->is_live_due;
    struct history_sample sample;
    struct overview overview = {
        .gather = gather,
        .history = &pages->history,
        .events = &pages->events,
        .hides_version = pages->hides_version,
        .refresh_s = pages->refresh_s,
        .has_admin = pages->admin.text != NULL,
        .last_act = pages->acts.last,
        .now_ms = loop_now_ms(pages->loop),
        .uptime_ms = loop_now_ms(pages->loop) - pages->began_ms,
    };

    pages->is_live_due = false;
    sums_sort(gather->sums);
    take_sample(pages, gather, &sample);
    history_note(&pages->history, overview.now_ms, &sample);
    if (pages->n_waiting == 0 && !is_live_due)
        return;
    ration_spend(&pages->loop->onlookers, gather->used_ns);
    ration_begin(&pages->loop->onlookers);
    show_to_all(pages, &overview, is_live_due);
    ration_end(&pages->loop->onlookers);
}

static void on_home(struct message *message, void *receiver)
{
    struct gather *gather = CONTAINER_OF(message, struct gather, message);
    struct pages *pages = gather->pages;

    (void)receiver;
    pages->gather = NULL;
    if (!gather->is_incomplete)
        show(pages, gather);
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
    gather->sums = sums_new();
    gather->on_home = on_home;
    gather->pages = pages;
    if (gather->sums == NULL || !pages->source->begin_gathering(pages->arg, gather)) {
        free_gather(gather);
        refuse_all(pages);
        return;
    }
    pages->gather = gather;
}

/* Joins the picture that is under way. */
static void want_picture(struct pages *pages)
{
    if (pages->gather == NULL)
        begin_gathering(pages);
}

/* All may have been shown another one meanwhile. */
static void on_turn(struct turn *turn)
{
    struct pages *pages = CONTAINER_OF(turn, struct pages, turn);

    if (pages->n_waiting > 0 || pages->is_live_due)
        want_picture(pages);
}

/* For somebody who looks on: as soon as there is time. */
static void ask_for_picture(struct pages *pages)
{
    if (pages->gather == NULL)
        turn_take(pages->loop, &pages->turn, false);
}

static void on_history_timer(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev;
    (void)events;
    want_picture(CONTAINER_OF(timer, struct pages, history_timer));
}

static void on_live_timer(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct pages *pages = CONTAINER_OF(timer, struct pages, live_timer);

    (void)ev;
    (void)events;
    if (pages->viewers.n == 0)
        return;
    pages->is_live_due = true;
    ask_for_picture(pages);
}

static void wait_for_picture(struct pages *pages, struct web_request *request,
                             enum page page)
{
    if (pages->n_waiting == WAITING_MAX) {
        web_answer_line(request, 503, "too many requests at a time");
        return;
    }
    pages->waiting[pages->n_waiting].request = request;
    pages->waiting[pages->n_waiting++].page = page;
    ask_for_picture(pages);
}

static void take_holding(struct pages *pages, struct web_request *request)
{
    struct holding_request asked = {.target = web_target(request),
                                    .method = web_method(request),
                                    .authorization = web_authorization(request),
                                    .is_local = web_is_local(request)};
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

static bool answer_asset(struct web_request *request)
{
    for (unsigned i = 0; i < n_assets; i++) {
        if (!is_path(web_target(request), assets[i].path))
            continue;
        web_answer_constant(request, assets[i].content_type, assets[i].bytes,
                            assets[i].n);
        return true;
    }
    return false;
}

static bool may_act(struct pages *pages, const struct web_request *request)
{
    return pages->admin.text != NULL &&
           web_check_auth(request, &pages->admin) == BASIC_AUTH_FITS;
}

/* Who may act may look. False: it is answered. */
static bool may_look(struct pages *pages, struct web_request *request)
{
    switch (may_act(pages, request) ? BASIC_AUTH_FITS
                                    : web_check_auth(request, &pages->auth)) {
    case BASIC_AUTH_FITS:
        return true;
    case BASIC_AUTH_WRONG:
        web_ask_for_password(request);
        return false;
    case BASIC_AUTH_LATER:
        web_answer_line(request, 429, "too many passwords are tried; try later");
        return false;
    }
    UNREACHABLE();
}

static void answer_offer(struct pages *pages, struct web_request *request,
                         enum listener_role role)
{
    unsigned status =
        offer_status(monitor_topology(pages->monitor), web_target(request), role);

    if (!pages->source->is_ready(pages->arg))
        status = 503;
    web_answer_line(request, status, offer_text(status));
}

/* What only those may see who have the password, if there is one. */
static void show_page(struct pages *pages, struct web_request *request, enum page page)
{
    if (!may_look(pages, request))
        return;
    if (page == PAGE_HTML && may_act(pages, request))
        page = PAGE_FORMS;
    if (page == PAGE_LIVE)
        add_viewer(pages, request);
    else if (page == PAGE_METRICS)
        scrapes_take(pages->scrapes, request);
    else if (page == PAGE_API)
        api_take(&pages->api_runs, request);
    else
        wait_for_picture(pages, request, page);
}

static void log_in(struct pages *pages, struct web_request *request)
{
    if (pages->admin.text == NULL) {
        web_answer_line(request, 404, "nobody may act here: see [stats] admin");
    } else if (!may_act(pages, request)) {
        web_ask_for_password(request);
    } else {
        web_add_header(request, "Location", "/");
        web_answer_line(request, 303, "welcome");
    }
}

static void act(struct pages *pages, struct web_request *request)
{
    if (pages->admin.text == NULL)
        web_answer_line(request, 403, "nobody may act here: see [stats] admin");
    else if (!may_act(pages, request))
        web_ask_for_password(request);
    else
        acts_take(&pages->acts, request, pages->admin.text);
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
    if (page == PAGE_HTML && strcmp(web_method(request), "POST") == 0) {
        act(pages, request);
        return;
    }
    if (strcmp(web_method(request), "GET") != 0 &&
        strcmp(web_method(request), "HEAD") != 0) {
        web_answer_line(request, 405, "only GET and HEAD are answered here");
        return;
    }
    switch (page) {
    case PAGE_NONE:
        if (!answer_asset(request))
            web_answer_line(request, 404, "no such page: try /stats");
        break;
    case PAGE_ALIVE:
        web_answer_line(request, 200, "alive");
        break;
    case PAGE_READY:
        is_ready = pages->source->is_ready(pages->arg);
        web_answer_line(request, is_ready ? 200 : 503, is_ready ? "ready" : "not ready");
        break;
    case PAGE_ADMIN:
        log_in(pages, request);
        break;
    case PAGE_HTML:
    case PAGE_FORMS:
    case PAGE_CSV:
    case PAGE_JSON:
    case PAGE_LIVE:
    case PAGE_METRICS:
    case PAGE_API:
        show_page(pages, request, page);
        break;
    case PAGE_PRIMARY:
        answer_offer(pages, request, ROLE_PRIMARY);
        break;
    case PAGE_REPLICA:
        answer_offer(pages, request, ROLE_REPLICA);
        break;
    }
}

const struct events *pages_events(const struct pages *pages)
{
    return &pages->events;
}

const struct history *pages_history(const struct pages *pages)
{
    return &pages->history;
}

static void on_logged(void *arg, enum log_level level, const char *text)
{
    struct pages *pages = arg;

    events_note(&pages->events, level, text);
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
    list_init(&pages->viewers);
    pages->turn.run = on_turn;
    history_init(&pages->history, pages->began_ms, &(struct history_sample){{0}, {0}});
    ev_timer_init(&pages->history_timer, on_history_timer, HISTORY_STEP_MS / 1e3,
                  HISTORY_STEP_MS / 1e3);
    ev_timer_init(&pages->live_timer, on_live_timer, LIVE_S, LIVE_S);
    api_runs_init(&pages->api_runs, loop, source, arg);
    pages->scrapes = scrapes_new(loop, doors, monitor, source, arg);
    pages->web = web_new(loop, on_request, pages);
    if (pages->web == NULL || pages->scrapes == NULL ||
        !acts_init(&pages->acts, loop, doors, monitor, source, arg)) {
        web_free(pages->web);
        scrapes_free(pages->scrapes);
        memory_free(pages);
        return NULL;
    }
    log_listen(on_logged, pages);
    return pages;
}

void pages_free(struct pages *pages)
{
    if (pages == NULL)
        return;
    REQUIRE(pages->gather == NULL);
    log_listen(NULL, NULL);
    ev_timer_stop(pages->loop->ev, &pages->history_timer);
    ev_timer_stop(pages->loop->ev, &pages->live_timer);
    turn_leave(pages->loop, &pages->turn);
    refuse_all(pages);
    scrapes_free(pages->scrapes);
    api_runs_clear(&pages->api_runs);
    acts_clear(&pages->acts);
    web_free(pages->web);
    for (unsigned i = 0; i < PAGE_SECTIONS; i++)
        text_clear(&pages->sections[i]);
    memory_free(pages->uri);
    basic_auth_clear(&pages->auth);
    basic_auth_clear(&pages->admin);
    memory_free(pages->token);
    memory_free(pages);
}

void pages_secure(struct pages *pages, struct tls_context *context)
{
    if (pages->has_tls)
        web_secure(pages->web, context);
}

bool pages_configure(struct pages *pages, const struct stats_config *stats, int backlog,
                     struct tls_context *context, struct text *errors)
{
    char *uri = memory_text(stats->uri), *token = memory_text(stats->control_token);
    const struct web_places places = {.endpoints = &stats->bind,
                                      .unix_mode = (mode_t)stats->unix_socket_mode,
                                      .backlog = backlog};
    struct basic_auth auth = {.text = NULL}, admin = {.text = NULL};
    bool has_all = uri != NULL && token != NULL && basic_auth_set(&auth, stats->auth) &&
                   basic_auth_set(&admin, stats->admin);

    if (!has_all)
        text_add(errors, "out of memory\n");
    if (!pages->is_configured) {
        pages->has_tls = stats->tls;
        pages_secure(pages, context);
    }
    if (!has_all || !web_configure(pages->web, &places, errors)) {
        memory_free(uri);
        memory_free(token);
        basic_auth_clear(&auth);
        basic_auth_clear(&admin);
        return false;
    }
    memory_free(pages->uri);
    memory_free(pages->token);
    basic_auth_clear(&pages->auth);
    basic_auth_clear(&pages->admin);
    pages->uri = uri;
    pages->auth = auth;
    pages->admin = admin;
    pages->token = token;
    pages->refresh_s = (unsigned)(stats->refresh / 1000);
    pages->hides_version = stats->hide_version;
    pages->is_configured = true;
    if (stats->bind.n > 0)
        ev_timer_start(pages->loop->ev, &pages->history_timer);
    else
        ev_timer_stop(pages->loop->ev, &pages->history_timer);
    return true;
}
