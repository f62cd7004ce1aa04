#include "health/etcd.h"

#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "core/memory.h"
#include "health/etcd_message.h"
#include "health/etcd_stream.h"

/* An answer with more than that is not of Patroni's keys. */
#define ANSWER_MAX_BYTES (4u << 20)
/* Between two attempts, when the one before was the first to fail, and at most. */
#define PAUSE_LEAST_MS 50
#define PAUSE_MOST_MS 5000
/* A watch that has lasted so long was a good one. */
#define GOOD_WATCH_MS 5000
/* What another endpoint knows must have come through the stream after that time. */
#define GRACE_MS 1000
/* Between two looks at another endpoint. */
#define INTERVAL_MOST_MS 60000
#define HOST_SHOWN_MAX 255

enum etcd_state {
    ETCD_RESTING,
    ETCD_LOGGING_IN,
    ETCD_READING,
    ETCD_OPENING,
    ETCD_WATCHING
};

/* Where the gateway is: since 3.4 (3.5: nowhere else), since 3.3, before. */
static const char *const gateways[] = {"/v3", "/v3beta", "/v3alpha"};

struct etcd_endpoint {
    struct etcd *etcd;
    const struct store_endpoint *config;
    char name[HOST_SHOWN_MAX + 9]; /* for the log */
    struct resolver_watch *watch;
    struct address addresses[RESOLVER_ADDRESSES_MAX];
    size_t n_addresses, at; /* the one to ask next */
    char look_up_error[64]; /* "" when it has found addresses, or is not asked yet */
    size_t gateway;         /* index into gateways[] that has answered last */
    char complaint[ETCD_WORDS_MAX]; /* as logged; "" = it was fine since */
};

/* One request at a time, to one endpoint: the way to the watch, or a look elsewhere. */
struct etcd_line {
    struct etcd *etcd;
    size_t endpoint;
    unsigned n_gateways_tried;    /* that have answered 404 */
    bool has_new_token;           /* was logged in for this attempt */
    struct http_request *request; /* NULL = none is under way */
};

struct etcd {
    struct loop *loop;
    struct http *http;
    const struct cluster_config *config;
    char *prefix;
    struct tls_context *tls; /* NULL: no endpoint needs it */
    bool is_useless;         /* its certificates cannot be read */
    struct etcd_endpoint *endpoints;
    size_t n_endpoints;
    void (*on_change)(void *arg);
    void *arg;

    enum etcd_state state;
    struct etcd_line main, look;
    size_t next_look;           /* endpoint */
    unsigned n_bad_looks;       /* in a row, at all endpoints */
    char token[ETCD_TOKEN_MAX]; /* "" = none */
    bool has_no_users;          /* it said so */
    struct etcd_stream stream;
    struct store_keys keys, theirs; /* theirs: what a look has seen, during the grace */
    int64_t revision, their_revision;
    char cluster_id[ETCD_ID_MAX];
    bool is_live, is_waiting_for_names;
    unsigned n_failures; /* in a row */
    uint64_t watching_since_ms;
    uint64_t interval_ms;
    ev_timer pause;    /* before the next attempt */
    ev_timer patience; /* until the watch is there */
    ev_timer next_look_timer, grace;
    struct log_limit log_limit;
    bool is_gateway_missing; /* was said */
};

static void begin(struct etcd *etcd);
static void ask_range(struct etcd_line *line);
static void start_look(struct etcd *etcd, size_t endpoint);

static struct etcd_endpoint *endpoint_of(const struct etcd_line *line)
{
    return &line->etcd->endpoints[line->endpoint];
}

static uint32_t timeout_ms(const struct etcd *etcd)
{
    return (uint32_t)etcd->config->check_timeout;
}

static void arm(struct etcd *etcd, ev_timer *timer, uint64_t after_ms)
{
    ev_timer_stop(etcd->loop->ev, timer);
    ev_timer_set(timer, (double)after_ms / 1e3, 0.);
    ev_timer_start(etcd->loop->ev, timer);
}

static void disarm(struct etcd *etcd, ev_timer *timer)
{
    ev_timer_stop(etcd->loop->ev, timer);
}

static void tell(struct etcd *etcd)
{
    etcd->on_change(etcd->arg);
}

/* ---- log ---- */

static bool may_log(struct etcd *etcd)
{
    uint32_t missed;

    if (!log_limit_allows(&etcd->log_limit, loop_now_ms(etcd->loop), &missed))
        return false;
    if (missed > 0)
        LOG(INFO, "lines on etcd not logged", TEXT("cluster", etcd->config->name),
            NUMBER("lines", missed));
    return true;
}

static void log_watch(struct etcd *etcd)
{
    if (may_log(etcd))
        LOG(INFO, "etcd watched", TEXT("cluster", etcd->config->name),
            TEXT("endpoint", etcd_endpoint(etcd)), TEXT("prefix", etcd->prefix),
            NUMBER("keys", etcd->keys.n), NUMBER("revision", etcd->revision));
}

static void log_loss(struct etcd *etcd, const char *why)
{
    if (may_log(etcd))
        LOG(WARNING, "etcd lost", TEXT("cluster", etcd->config->name),
            TEXT("endpoint", etcd_endpoint(etcd)), TEXT("why", why));
}

/* Once for each new reason, until the endpoint is fine again. */
static void log_complaint(struct etcd *etcd, struct etcd_endpoint *endpoint,
                          const char *why)
{
    char complaint[ETCD_WORDS_MAX];

    snprintf(complaint, sizeof complaint, "%s", why);
    if (strcmp(endpoint->complaint, complaint) == 0)
        return;
    memcpy(endpoint->complaint, complaint, sizeof complaint);
    if (may_log(etcd))
        LOG(WARNING, "etcd not usable", TEXT("cluster", etcd->config->name),
            TEXT("endpoint", endpoint->name), TEXT("why", why));
}

static const char no_gateway[] = "no JSON gateway (404)";

static void log_missing_gateway(struct etcd *etcd, struct etcd_endpoint *endpoint)
{
    memcpy(endpoint->complaint, no_gateway, sizeof no_gateway);
    if (etcd->is_gateway_missing)
        return;
    etcd->is_gateway_missing = true;
    LOG(WARNING, "etcd has no JSON gateway", TEXT("cluster", etcd->config->name),
        TEXT("endpoint", endpoint->name),
        TEXT("hint", "etcd's setting enable-grpc-gateway turns it on; checks go on"));
}

/* ---- requests ---- */

static void stop_line(struct etcd_line *line)
{
    if (line->request != NULL)
        http_cancel(line->request);
    line->request = NULL;
}

static void set_line(struct etcd_line *line, size_t endpoint)
{
    stop_line(line);
    line->endpoint = endpoint;
    line->n_gateways_tried = 0;
    line->has_new_token = false;
}

static struct tls_context *tls_of(const struct etcd *etcd,
                                  const struct store_endpoint *endpoint)
{
    switch (endpoint->scheme) {
    case STORE_SCHEME_HTTP:
        return NULL;
    case STORE_SCHEME_HTTPS:
        return etcd->tls;
    case STORE_SCHEME_NONE:
        return etcd->config->etcd_ca_file[0] == '\0' ? NULL : etcd->tls;
    }
    UNREACHABLE();
}

/* Takes the body's memory. False when there is none, or no address. */
static bool post(struct etcd_line *line, const char *method, struct text *body,
                 void (*on_answer)(void *arg, const struct http_answer *answer),
                 void (*on_piece)(void *arg, const char *bytes, size_t n))
{
    struct etcd *etcd = line->etcd;
    struct etcd_endpoint *endpoint = endpoint_of(line);
    char path[64];
    struct http_call call = {
        .host = endpoint->config->host,
        .address = &endpoint->addresses[endpoint->n_addresses == 0
                                            ? 0
                                            : endpoint->at % endpoint->n_addresses],
        .path = path,
        .body = text_get(body),
        .authorization = etcd->token[0] == '\0' ? NULL : etcd->token,
        /* Without it a member that has lost the others keeps a watch open and silent,
         * and lets a range wait. */
        .header = "Grpc-Metadata-hasleader: true",
        .tls = tls_of(etcd, endpoint->config),
        .max_bytes = ANSWER_MAX_BYTES,
        .timeout_ms = timeout_ms(etcd),
        .on_piece = on_piece,
        .on_answer = on_answer,
        .arg = line};

    snprintf(path, sizeof path, "%s%s", gateways[endpoint->gateway], method);
    stop_line(line);
    if (!body->overflowed && endpoint->n_addresses > 0)
        line->request = http_send(etcd->http, &call);
    text_clear(body);
    return line->request != NULL;
}

/* ---- failures ---- */

/* A pause that grows once every endpoint has failed. */
static uint64_t pause_ms(const struct etcd *etcd)
{
    size_t rounds = etcd->n_failures / etcd->n_endpoints;
    uint64_t ms = PAUSE_LEAST_MS;

    while (rounds-- > 0 && ms < PAUSE_MOST_MS)
        ms *= 2;
    return ms < PAUSE_MOST_MS ? ms : PAUSE_MOST_MS;
}

static void drop_watch(struct etcd *etcd)
{
    stop_line(&etcd->main);
    stop_line(&etcd->look);
    disarm(etcd, &etcd->patience);
    disarm(etcd, &etcd->next_look_timer);
    disarm(etcd, &etcd->grace);
    etcd_stream_clear(&etcd->stream);
    store_keys_clear(&etcd->theirs);
    etcd->state = ETCD_RESTING;
}

/* Goes on at `next`. What was seen stays as it was seen, for nothing new is known. */
static void move_on(struct etcd *etcd, size_t next, const char *why)
{
    bool was_live = etcd->is_live;

    if (etcd->state == ETCD_WATCHING &&
        loop_now_ms(etcd->loop) - etcd->watching_since_ms >= GOOD_WATCH_MS)
        etcd->n_failures = 0;
    if (was_live)
        log_loss(etcd, why);
    else
        log_complaint(etcd, endpoint_of(&etcd->main), why);
    endpoint_of(&etcd->main)->at++;
    drop_watch(etcd);
    etcd->n_failures++;
    etcd->is_live = false;
    set_line(&etcd->main, next);
    arm(etcd, &etcd->pause, pause_ms(etcd));
    if (was_live)
        tell(etcd);
}

static void fail(struct etcd *etcd, const char *why)
{
    move_on(etcd, (etcd->main.endpoint + 1) % etcd->n_endpoints, why);
}

/* ---- logging in ---- */

static void after_failure(struct etcd_line *line, const char *why);

/* The next place where the gateway may be. False when it is nowhere there. */
static bool try_next_gateway(struct etcd_line *line)
{
    struct etcd_endpoint *endpoint = endpoint_of(line);

    endpoint->gateway = (endpoint->gateway + 1) % COUNT_OF(gateways);
    return ++line->n_gateways_tried < COUNT_OF(gateways);
}

/* True when the answer is one that can be read: etcd's own errors come with 4xx and 5xx.
 * Otherwise the line goes on by itself. */
static bool is_readable(struct etcd_line *line, const struct http_answer *answer,
                        void (*again)(struct etcd_line *line))
{
    char why[64];

    if (answer->outcome != HTTP_ANSWERED) {
        resolver_refresh(endpoint_of(line)->watch);
        after_failure(line, answer->error);
        return false;
    }
    if (answer->status == 404) {
        if (try_next_gateway(line)) {
            again(line);
        } else {
            log_missing_gateway(line->etcd, endpoint_of(line));
            after_failure(line, no_gateway);
        }
        return false;
    }
    if (answer->length == 0 && answer->status != 200) {
        snprintf(why, sizeof why, "HTTP status %d", answer->status);
        after_failure(line, why);
        return false;
    }
    return true;
}

static void ask_login(struct etcd_line *line);

static void on_login(void *arg, const struct http_answer *answer)
{
    struct etcd_line *line = arg;
    struct etcd *etcd = line->etcd;
    struct etcd_said said;

    line->request = NULL;
    if (!is_readable(line, answer, ask_login))
        return;
    etcd_read_login(answer->body, answer->length, &said, etcd->token);
    if (said.meaning == ETCD_NO_USERS) {
        etcd->has_no_users = true;
    } else if (said.meaning != ETCD_DONE) {
        after_failure(line, said.words);
        return;
    }
    line->has_new_token = true;
    ask_range(line);
}

static void ask_login(struct etcd_line *line)
{
    struct etcd *etcd = line->etcd;
    struct text body;

    if (line == &etcd->main) {
        etcd->state = ETCD_LOGGING_IN;
        disarm(etcd, &etcd->patience);
    }
    etcd->token[0] = '\0';
    text_init(&body, 1 << 16);
    etcd_ask_login(&body, etcd->config->etcd_user, etcd->config->etcd_password);
    if (!post(line, "/auth/authenticate", &body, on_login, NULL))
        after_failure(line, "memory is out");
}

/* The token is missing or too old: once for each attempt. */
static void renew_token(struct etcd_line *line, const char *words)
{
    struct etcd *etcd = line->etcd;

    if (etcd->config->etcd_user[0] == '\0' || line->has_new_token) {
        etcd->token[0] = '\0';
        after_failure(line, words);
    } else {
        LOG(DEBUG, "etcd wants a new token", TEXT("cluster", etcd->config->name),
            TEXT("why", words));
        etcd->has_no_users = false;
        ask_login(line);
    }
}

/* ---- the watch ---- */

static void become_live(struct etcd *etcd)
{
    etcd->state = ETCD_WATCHING;
    etcd->watching_since_ms = loop_now_ms(etcd->loop);
    etcd->is_live = true;
    etcd->is_gateway_missing = false;
    etcd->n_bad_looks = 0;
    endpoint_of(&etcd->main)->complaint[0] = '\0';
    disarm(etcd, &etcd->patience);
    arm(etcd, &etcd->next_look_timer, etcd->interval_ms);
    log_watch(etcd);
}

static void follow_message(struct etcd *etcd, const struct etcd_said *said)
{
    if (said->cluster_id[0] != '\0' && strcmp(said->cluster_id, etcd->cluster_id) != 0) {
        fail(etcd, "another etcd cluster answers");
        return;
    }
    switch (said->meaning) {
    case ETCD_CREATED:
        if (etcd->state == ETCD_OPENING)
            become_live(etcd);
        tell(etcd);
        return;
    case ETCD_DONE:
        if (said->has_changes)
            tell(etcd);
        return;
    case ETCD_COMPACTED: /* at the same place: it is as good as any */
        move_on(etcd, etcd->main.endpoint, said->words);
        return;
    case ETCD_TOKEN:
        if (etcd->state == ETCD_OPENING) {
            stop_line(&etcd->main);
            etcd_stream_clear(&etcd->stream);
            renew_token(&etcd->main, said->words);
            return;
        }
        etcd->token[0] = '\0';
        fail(etcd, said->words);
        return;
    case ETCD_NONSENSE:
    case ETCD_NO_USERS:
    case ETCD_REFUSED:
        fail(etcd, said->words);
        return;
    }
    UNREACHABLE();
}

static void on_piece(void *arg, const char *bytes, size_t n)
{
    struct etcd_line *line = arg;
    struct etcd *etcd = line->etcd;
    const char *message;
    size_t length;

    if (!etcd_stream_add(&etcd->stream, bytes, n)) {
        fail(etcd, "the watch makes no sense");
        return;
    }
    /* With the end of the watch its stream is empty. */
    while ((message = etcd_stream_next(&etcd->stream, &length)) != NULL) {
        struct etcd_said said;

        etcd_read_watch(message, length, etcd->prefix, &said, &etcd->keys,
                        &etcd->revision);
        follow_message(etcd, &said);
    }
    if (etcd->stream.is_broken)
        fail(etcd, "the watch makes no sense");
}

static void ask_watch(struct etcd_line *line);

static void on_watch_end(void *arg, const struct http_answer *answer)
{
    struct etcd_line *line = arg;
    struct etcd *etcd = line->etcd;
    struct etcd_said said;

    line->request = NULL;
    if (answer->outcome == HTTP_ANSWERED && answer->status == 200) {
        fail(etcd, "etcd has ended the watch");
        return;
    }
    if (!is_readable(line, answer, ask_watch))
        return;
    etcd_read_watch(answer->body, answer->length, etcd->prefix, &said, &etcd->keys,
                    &etcd->revision);
    if (said.meaning == ETCD_TOKEN)
        renew_token(line, said.words);
    else
        fail(etcd, said.words[0] != '\0' ? said.words : "the watch was refused");
}

static void ask_watch(struct etcd_line *line)
{
    struct etcd *etcd = line->etcd;
    struct text body;

    etcd->state = ETCD_OPENING;
    etcd_stream_clear(&etcd->stream);
    arm(etcd, &etcd->patience, timeout_ms(etcd));
    text_init(&body, 1 << 16);
    etcd_ask_watch(&body, etcd->prefix, etcd->revision + 1);
    if (!post(line, "/watch", &body, on_watch_end, on_piece))
        fail(etcd, "memory is out");
}

static void on_impatience(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev;
    (void)events;
    fail(CONTAINER_OF(timer, struct etcd, patience), "the watch does not begin");
}

/* ---- reading all ---- */

/* The keys as they are now, whatever was known. */
static void take_keys(struct etcd *etcd, struct store_keys *keys,
                      const struct etcd_said *said)
{
    if (etcd->cluster_id[0] != '\0' && strcmp(etcd->cluster_id, said->cluster_id) != 0)
        LOG(WARNING, "etcd is another cluster now", TEXT("cluster", etcd->config->name),
            TEXT("endpoint", etcd_endpoint(etcd)), TEXT("was", etcd->cluster_id),
            TEXT("is", said->cluster_id));
    memcpy(etcd->cluster_id, said->cluster_id, sizeof etcd->cluster_id);
    store_keys_clear(&etcd->keys);
    etcd->keys = *keys;
    *keys = (struct store_keys){0};
    etcd->revision = said->revision;
}

/* ---- looks at another endpoint ---- */

static void on_grace_over(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct etcd *etcd = CONTAINER_OF(timer, struct etcd, grace);
    bool lacks =
        store_keys_lack(&etcd->keys, etcd->revision, &etcd->theirs, etcd->their_revision);

    (void)ev;
    (void)events;
    store_keys_clear(&etcd->theirs);
    if (lacks)
        fail(etcd, "the watch is silent, though keys have changed");
}

static void take_look(struct etcd_line *line, struct store_keys *keys,
                      const struct etcd_said *said)
{
    struct etcd *etcd = line->etcd;

    etcd->n_bad_looks = 0;
    endpoint_of(line)->complaint[0] = '\0';
    if (strcmp(etcd->cluster_id, said->cluster_id) != 0) {
        move_on(etcd, line->endpoint, "another endpoint is of another etcd cluster");
    } else if (store_keys_lack(&etcd->keys, etcd->revision, keys, said->revision)) {
        store_keys_clear(&etcd->theirs);
        etcd->theirs = *keys;
        etcd->their_revision = said->revision;
        *keys = (struct store_keys){0};
        arm(etcd, &etcd->grace, GRACE_MS);
    }
}

/* When another endpoint does not answer, ours is asked itself, whose silence counts. */
static void after_bad_look(struct etcd_line *line, const char *why)
{
    struct etcd *etcd = line->etcd;

    log_complaint(etcd, endpoint_of(line), why);
    endpoint_of(line)->at++;
    if (line->endpoint != etcd->main.endpoint)
        start_look(etcd, etcd->main.endpoint);
    else if (++etcd->n_bad_looks >= 2)
        fail(etcd, why);
}

static void after_failure(struct etcd_line *line, const char *why)
{
    if (line == &line->etcd->main)
        fail(line->etcd, why);
    else
        after_bad_look(line, why);
}

static void on_range(void *arg, const struct http_answer *answer)
{
    struct etcd_line *line = arg;
    struct etcd *etcd = line->etcd;
    struct store_keys keys = {0};
    struct etcd_said said;

    line->request = NULL;
    if (!is_readable(line, answer, ask_range))
        return;
    etcd_read_range(answer->body, answer->length, etcd->prefix, &said, &keys);
    if (said.meaning == ETCD_TOKEN) {
        renew_token(line, said.words);
    } else if (said.meaning != ETCD_DONE) {
        after_failure(line, said.words);
    } else if (line == &etcd->look) {
        take_look(line, &keys, &said);
    } else {
        take_keys(etcd, &keys, &said);
        ask_watch(line);
    }
    store_keys_clear(&keys);
}

static void ask_range(struct etcd_line *line)
{
    struct etcd *etcd = line->etcd;
    struct text body;

    if (line == &etcd->main)
        etcd->state = ETCD_READING;
    text_init(&body, 1 << 16);
    etcd_ask_range(&body, etcd->prefix);
    if (!post(line, "/kv/range", &body, on_range, NULL))
        after_failure(line, "memory is out");
}

static void start_look(struct etcd *etcd, size_t endpoint)
{
    set_line(&etcd->look, endpoint);
    if (etcd->endpoints[endpoint].n_addresses == 0)
        after_bad_look(&etcd->look, "its name is not resolved");
    else
        ask_range(&etcd->look);
}

/* Each other endpoint in its turn, our own when there is no other. */
static void on_next_look(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct etcd *etcd = CONTAINER_OF(timer, struct etcd, next_look_timer);

    (void)ev;
    (void)events;
    arm(etcd, &etcd->next_look_timer, etcd->interval_ms);
    if (etcd->look.request != NULL || ev_is_active(&etcd->grace))
        return;
    etcd->next_look = (etcd->next_look + 1) % etcd->n_endpoints;
    if (etcd->next_look == etcd->main.endpoint)
        etcd->next_look = (etcd->next_look + 1) % etcd->n_endpoints;
    start_look(etcd, etcd->next_look);
}

/* ---- attempts ---- */

static void begin(struct etcd *etcd)
{
    struct etcd_endpoint *endpoint = endpoint_of(&etcd->main);

    if (endpoint->n_addresses == 0 && endpoint->look_up_error[0] == '\0') {
        etcd->is_waiting_for_names = true; /* on_addresses() begins */
        return;
    }
    etcd->is_waiting_for_names = false;
    if (endpoint->n_addresses == 0)
        fail(etcd, endpoint->look_up_error);
    else if (etcd->config->etcd_user[0] != '\0' && etcd->token[0] == '\0' &&
             !etcd->has_no_users)
        ask_login(&etcd->main);
    else
        ask_range(&etcd->main);
}

static void on_pause_over(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev;
    (void)events;
    begin(CONTAINER_OF(timer, struct etcd, pause));
}

/* Connections that stand stay where they are. */
static void on_addresses(void *arg, const struct address *addresses, size_t n,
                         const char *error)
{
    struct etcd_endpoint *endpoint = arg;
    struct etcd *etcd = endpoint->etcd;

    if (n == 0) {
        snprintf(endpoint->look_up_error, sizeof endpoint->look_up_error,
                 "the name is not resolved: %s", error);
    } else {
        endpoint->look_up_error[0] = '\0';
        endpoint->at = 0;
        endpoint->n_addresses = n < RESOLVER_ADDRESSES_MAX ? n : RESOLVER_ADDRESSES_MAX;
    }
    for (size_t i = 0; i < n && i < RESOLVER_ADDRESSES_MAX; i++) {
        endpoint->addresses[i] = addresses[i];
        address_set_port(&endpoint->addresses[i], endpoint->config->port);
    }
    if (etcd->is_waiting_for_names && endpoint == endpoint_of(&etcd->main))
        begin(etcd);
}

/* ---- making ---- */

static void make_tls(struct etcd *etcd, struct tls_registry *registry)
{
    const struct cluster_config *config = etcd->config;
    struct text why;

    if (!trust_needs_etcd(config))
        return;
    text_init(&why, 1024);
    etcd->tls = trust_hold_etcd(registry, config, &why);
    etcd->is_useless = etcd->tls == NULL;
    if (etcd->is_useless)
        LOG(ERROR, "etcd not watched", TEXT("cluster", config->name),
            TEXT("why", text_get(&why)));
    text_clear(&why);
}

static bool make_endpoints(struct etcd *etcd, struct resolver *resolver)
{
    const struct store_list *list = &etcd->config->etcd;

    etcd->endpoints = memory_zeroed(list->n * sizeof *etcd->endpoints + 1);
    if (etcd->endpoints == NULL)
        return false;
    for (; etcd->n_endpoints < list->n; etcd->n_endpoints++) {
        struct etcd_endpoint *endpoint = &etcd->endpoints[etcd->n_endpoints];
        const struct store_endpoint *config = &list->items[etcd->n_endpoints];

        endpoint->etcd = etcd;
        endpoint->config = config;
        snprintf(endpoint->name, sizeof endpoint->name,
                 strchr(config->host, ':') != NULL ? "[%.*s]:%u" : "%.*s:%u",
                 HOST_SHOWN_MAX, config->host, config->port);
        endpoint->watch = resolver_watch(resolver, config->host, on_addresses, endpoint);
        if (endpoint->watch == NULL)
            return false;
    }
    return true;
}

struct etcd *etcd_new(const struct etcd_tools *tools, const struct cluster_config *config,
                      const char *prefix, void (*on_change)(void *arg), void *arg)
{
    struct etcd *etcd = memory_zeroed(sizeof *etcd);

    if (etcd == NULL)
        return NULL;
    etcd->loop = tools->loop;
    etcd->http = tools->http;
    etcd->config = config;
    etcd->on_change = on_change;
    etcd->arg = arg;
    etcd->interval_ms = 10000;
    etcd->main.etcd = etcd->look.etcd = etcd;
    ev_timer_init(&etcd->pause, on_pause_over, 0., 0.);
    ev_timer_init(&etcd->patience, on_impatience, 0., 0.);
    ev_timer_init(&etcd->next_look_timer, on_next_look, 0., 0.);
    ev_timer_init(&etcd->grace, on_grace_over, 0., 0.);
    etcd->prefix = memory_text(prefix);
    if (etcd->prefix == NULL || !make_endpoints(etcd, tools->resolver)) {
        etcd_free(etcd);
        return NULL;
    }
    make_tls(etcd, tools->registry);
    return etcd;
}

void etcd_free(struct etcd *etcd)
{
    if (etcd == NULL)
        return;
    drop_watch(etcd);
    disarm(etcd, &etcd->pause);
    for (size_t i = 0; i < etcd->n_endpoints; i++)
        resolver_unwatch(etcd->endpoints[i].watch);
    memory_free(etcd->endpoints);
    memory_free(etcd->prefix);
    store_keys_clear(&etcd->keys);
    tls_context_release(etcd->tls);
    memory_free(etcd);
}

void etcd_renew_tls(struct etcd *etcd, struct tls_registry *registry)
{
    struct tls_context *tls = NULL;
    struct text why;

    text_init(&why, 1024);
    if (etcd->tls != NULL)
        tls = trust_hold_etcd(registry, etcd->config, &why);
    if (tls != NULL) {
        tls_context_release(etcd->tls);
        etcd->tls = tls;
    }
    text_clear(&why);
}

void etcd_start(struct etcd *etcd)
{
    if (!etcd->is_useless)
        arm(etcd, &etcd->pause, 0);
}

void etcd_set_interval(struct etcd *etcd, uint64_t interval_ms)
{
    interval_ms = interval_ms < INTERVAL_MOST_MS ? interval_ms : INTERVAL_MOST_MS;
    if (interval_ms == etcd->interval_ms)
        return;
    etcd->interval_ms = interval_ms;
    if (etcd->state == ETCD_WATCHING)
        arm(etcd, &etcd->next_look_timer, interval_ms);
}

const struct store_keys *etcd_keys(const struct etcd *etcd)
{
    return &etcd->keys;
}

int64_t etcd_revision(const struct etcd *etcd)
{
    return etcd->revision;
}

bool etcd_is_live(const struct etcd *etcd)
{
    return etcd->is_live;
}

const char *etcd_endpoint(const struct etcd *etcd)
{
    return endpoint_of(&etcd->main)->name;
}
