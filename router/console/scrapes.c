#include "router/console/scrapes.h"

#include <string.h>

#include "core/memory.h"
#include "core/turns.h"
#include "router/console/metrics.h"

#define BYTES_MAX (16u << 20)
/* Requests that wait; more are told to come again. */
#define WAITING_MAX 64u
#define FORMATS 2

/* One picture, on its way round the workers and then being written. */
struct scrape {
    struct gather gather;
    struct scrapes *scrapes;
    struct snapshot snapshot;
    struct cluster_tables clusters;
    struct metrics formats[FORMATS];
    bool is_wanted[FORMATS];
    struct deferred next;
};

struct scrapes {
    struct loop *loop;
    const struct doors *doors;
    struct monitor *monitor;
    const struct pages_source *source;
    void *arg;
    uint64_t began_ms;
    bool is_gathering;
    struct scrape *making; /* being written */
    struct turn turn;      /* to begin the next */
    struct {
        struct web_request *request;
        enum metrics_format format;
    } waiting[WAITING_MAX];
    unsigned n_waiting;
};

/* ---- those who wait -----------------------------------------------------------------
 */

static bool is_waited_for(const struct scrapes *scrapes, enum metrics_format format)
{
    for (unsigned i = 0; i < scrapes->n_waiting; i++)
        if (scrapes->waiting[i].format == format)
            return true;
    return false;
}

/* All who wait for the format. */
static void answer_all(struct scrapes *scrapes, enum metrics_format format,
                       const struct text *body)
{
    struct web_page *page = web_page_new(metrics_content_type(format), body);
    unsigned n = scrapes->n_waiting;

    scrapes->n_waiting = 0;
    for (unsigned i = 0; i < n; i++) {
        struct web_request *request = scrapes->waiting[i].request;

        if (scrapes->waiting[i].format != format)
            scrapes->waiting[scrapes->n_waiting++] = scrapes->waiting[i];
        else
            web_answer_page(request, page);
    }
    web_page_release(page);
}

static void refuse_all(struct scrapes *scrapes)
{
    while (scrapes->n_waiting > 0)
        web_answer_line(scrapes->waiting[--scrapes->n_waiting].request, 503, "not now");
}

/* ---- writing ------------------------------------------------------------------------
 */

static void free_scrape(struct scrape *scrape)
{
    if (scrape == NULL)
        return;
    loop_discontinue(scrape->scrapes->loop, &scrape->next);
    for (unsigned i = 0; i < FORMATS; i++)
        text_clear(&scrape->formats[i].out);
    tables_clear(&scrape->snapshot);
    cluster_tables_clear(&scrape->clusters);
    if (scrape->snapshot.config != NULL)
        config_release(scrape->snapshot.config);
    tally_clear(&scrape->gather.tallies);
    sums_free(scrape->gather.sums);
    memory_free(scrape);
}

/* One piece of one format; false: all are whole, and answered. */
static bool write_piece(struct scrape *scrape)
{
    for (unsigned i = 0; i < FORMATS; i++) {
        struct metrics *metrics = &scrape->formats[i];

        if (!scrape->is_wanted[i])
            continue;
        if (metrics_write(metrics)) {
            scrape->is_wanted[i] = false;
            answer_all(scrape->scrapes, metrics->format, &metrics->out);
        }
        return true;
    }
    return false;
}

static void on_next_piece(struct deferred *next)
{
    struct scrape *scrape = CONTAINER_OF(next, struct scrape, next);
    struct scrapes *scrapes = scrape->scrapes;
    bool has_more;

    if (!loop_begin_work(scrapes->loop)) {
        loop_continue(scrapes->loop, next);
        return;
    }
    ration_begin(&scrapes->loop->onlookers);
    has_more = write_piece(scrape);
    ration_end(&scrapes->loop->onlookers);
    loop_end_work(scrapes->loop);
    if (has_more) {
        loop_continue(scrapes->loop, next);
        return;
    }
    scrapes->making = NULL;
    free_scrape(scrape);
    if (scrapes->n_waiting > 0) /* they came meanwhile */
        turn_take(scrapes->loop, &scrapes->turn, false);
}

static unsigned count_nobody(void *arg, const char *cluster)
{
    (void)arg;
    (void)cluster;
    return 0;
}

/* False when memory is out. */
static bool take_snapshot(struct scrape *scrape, const struct overview *overview)
{
    static const enum view_name views[] = {VIEW_CLUSTERS, VIEW_NODES, VIEW_SWITCHOVERS};
    struct scrapes *scrapes = scrape->scrapes;
    struct snapshot *snapshot = &scrape->snapshot;

    snapshot->sums = scrape->gather.sums;
    snapshot->config = config_hold(scrapes->source->config(scrapes->arg));
    scrapes->source->count_names(scrapes->arg, &snapshot->n_names,
                                 &snapshot->n_names_asked);
    sums_sort(snapshot->sums);
    for (unsigned i = 0; i < COUNT_OF(views); i++)
        if (!cluster_tables_take(&scrape->clusters, views[i], scrapes->monitor,
                                 overview->now_ms, count_nobody, NULL))
            return false;
    return tables_prepare(snapshot);
}

/* The first pieces, which the overview is needed for, at once. */
static void write_first_pieces(struct scrape *scrape, const struct overview *overview)
{
    struct scrapes *scrapes = scrape->scrapes;
    struct metrics_process process;

    metrics_look_at_process(&process, overview->uptime_ms);
    process.is_ready = scrapes->source->is_ready(scrapes->arg);
    for (unsigned i = 0; i < FORMATS; i++) {
        struct metrics *metrics = &scrape->formats[i];

        scrape->is_wanted[i] = is_waited_for(scrapes, (enum metrics_format)i);
        if (!scrape->is_wanted[i])
            continue;
        *metrics = (struct metrics){.format = (enum metrics_format)i,
                                    .overview = overview,
                                    .snapshot = &scrape->snapshot,
                                    .clusters = &scrape->clusters,
                                    .process = process};
        text_init(&metrics->out, BYTES_MAX);
        metrics_write_first(metrics);
        metrics->overview = NULL;
    }
}

/* False when memory is out. */
static bool begin_writing(struct scrape *scrape)
{
    struct scrapes *scrapes = scrape->scrapes;
    struct overview overview = {
        .gather = &scrape->gather,
        .now_ms = loop_now_ms(scrapes->loop),
        .uptime_ms = loop_now_ms(scrapes->loop) - scrapes->began_ms,
    };
    bool ok;

    scrapes->source->describe(scrapes->arg, &overview);
    if (scrape->gather.is_incomplete ||
        !overview_take(&overview, scrapes->doors, scrapes->monitor))
        return false;
    ok = take_snapshot(scrape, &overview);
    if (ok)
        write_first_pieces(scrape, &overview);
    overview_clear(&overview);
    return ok;
}

static void on_home(struct message *message, void *receiver)
{
    struct scrape *scrape = CONTAINER_OF(message, struct scrape, gather.message);
    struct scrapes *scrapes = scrape->scrapes;
    bool is_begun;

    (void)receiver;
    scrapes->is_gathering = false;
    ration_spend(&scrapes->loop->onlookers, scrape->gather.used_ns);
    ration_begin(&scrapes->loop->onlookers);
    is_begun = begin_writing(scrape);
    ration_end(&scrapes->loop->onlookers);
    if (!is_begun) {
        free_scrape(scrape);
        refuse_all(scrapes);
        return;
    }
    scrapes->making = scrape;
    loop_continue(scrapes->loop, &scrape->next);
}

/* ---- asking -------------------------------------------------------------------------
 */

static void begin_gathering(struct scrapes *scrapes)
{
    struct scrape *scrape = memory_zeroed(sizeof *scrape);

    if (scrape == NULL) {
        refuse_all(scrapes);
        return;
    }
    scrape->scrapes = scrapes;
    scrape->next.run = on_next_piece;
    list_init(&scrape->gather.tallies);
    scrape->gather.on_home = on_home;
    scrape->gather.sums = sums_new();
    if (scrape->gather.sums != NULL)
        scrape->gather.sums->with_insight = true;
    scrapes->is_gathering =
        scrape->gather.sums != NULL &&
        scrapes->source->begin_gathering(scrapes->arg, &scrape->gather);
    if (!scrapes->is_gathering) {
        free_scrape(scrape);
        refuse_all(scrapes);
    }
}

static void on_turn(struct turn *turn)
{
    struct scrapes *scrapes = CONTAINER_OF(turn, struct scrapes, turn);

    if (scrapes->n_waiting > 0 && !scrapes->is_gathering && scrapes->making == NULL)
        begin_gathering(scrapes);
}

void scrapes_take(struct scrapes *scrapes, struct web_request *request)
{
    bool is_open = strstr(web_accept(request), "application/openmetrics-text") != NULL;

    if (scrapes->n_waiting == WAITING_MAX) {
        web_answer_line(request, 503, "too many requests at a time");
        return;
    }
    scrapes->waiting[scrapes->n_waiting].request = request;
    scrapes->waiting[scrapes->n_waiting++].format = is_open ? METRICS_OPEN : METRICS_TEXT;
    if (!scrapes->is_gathering && scrapes->making == NULL)
        turn_take(scrapes->loop, &scrapes->turn, false);
}

struct scrapes *scrapes_new(struct loop *loop, const struct doors *doors,
                            struct monitor *monitor, const struct pages_source *source,
                            void *arg)
{
    struct scrapes *scrapes = memory_zeroed(sizeof *scrapes);

    if (scrapes == NULL)
        return NULL;
    scrapes->loop = loop;
    scrapes->turn.run = on_turn;
    scrapes->doors = doors;
    scrapes->monitor = monitor;
    scrapes->source = source;
    scrapes->arg = arg;
    scrapes->began_ms = loop_now_ms(loop);
    return scrapes;
}

void scrapes_free(struct scrapes *scrapes)
{
    if (scrapes == NULL)
        return;
    REQUIRE(!scrapes->is_gathering);
    turn_leave(scrapes->loop, &scrapes->turn);
    refuse_all(scrapes);
    free_scrape(scrapes->making);
    memory_free(scrapes);
}
