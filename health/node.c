#include "health/node.h"

#include <stdio.h>
#include <string.h>

#include "core/memory.h"
#include "health/patroni_keys.h"

/* ---- results ---- */

/* A check that we could not make says nothing of the node. */
static bool was_made(struct node *node, const struct sample *sample)
{
    uint32_t missed;

    if (sample->outcome != SAMPLE_NOT_MADE)
        return true;
    if (log_limit_allows(&node->log_limit, loop_now_ms(node->loop), &missed))
        LOG(WARNING, "check not made", TEXT("node", node->config->name),
            TEXT("why", sample->said), NUMBER("repeats_left_out", missed));
    return false;
}

/* An operator has said where it is. */
static bool is_told(const struct node *node)
{
    return node->told.sa.sa_family != AF_UNSPEC;
}

static const struct store_member *find_member(const struct node *node)
{
    const struct store_view *view = node->view;
    const struct store_member *member = store_view_member(view, node->config->name);

    for (size_t i = 0; member == NULL && i < view->n_members && !is_told(node); i++)
        if (strcmp(view->members[i].host, node->config->host) == 0 &&
            view->members[i].port == node->config->port)
            member = &view->members[i];
    return member;
}

/* Patroni has not answered. Where the server has, Patroni's keys say what it is; a server
 * that only accepts connections says nothing by itself. */
static void ask_keys(const struct node *node, struct sample *sample)
{
    bool is_live = node->view != NULL && node->view->is_live;
    const struct store_member *member = is_live ? find_member(node) : NULL;
    struct sample found;

    if (node->settings.check != CHECK_PATRONI || sample->outcome != SAMPLE_OK)
        return;
    if (sample->source == SOURCE_POSTGRES && member != NULL) {
        store_view_lock(node->view, member, sample);
    } else if (sample->source == SOURCE_TCP && member != NULL) {
        store_view_sample(node->view, member, &found);
        found.duration_ms = sample->duration_ms;
        *sample = found;
    } else if (sample->source == SOURCE_TCP) {
        sample->source = SOURCE_NOBODY;
        sample->outcome = SAMPLE_WRONG;
    }
}

static bool is_without_connection(const struct sample *sample)
{
    return sample->outcome == SAMPLE_REFUSED || sample->outcome == SAMPLE_TIMEOUT;
}

static void on_result(void *arg, const struct sample *result)
{
    struct node *node = arg;
    struct verdict before = node->verdict;
    struct sample sample = *result;

    if (was_made(node, &sample)) {
        ask_keys(node, &sample);
        sample.round = node->round;
        verdict_add(&node->verdict, &sample, &node->settings);
        node->checked_at_ms = loop_now_ms(node->loop);
        node->n_failed += !node->verdict.checks.last_ok;
        if (node->verdict.checks.last_ok || !node->verdict.checks.is_up)
            node->awaits_check = false;
        if (is_without_connection(&sample))
            resolver_refresh(node->watch);
        node->on_news(node->arg, node, &before);
    }
    if (node->asks_again && !inquiry_is_running(&node->inquiry))
        node_ask(node, node->round + 1, 0);
}

static void on_uri_result(void *arg, const struct sample *sample)
{
    struct node_uri *uri = arg;
    struct node *node = uri->node;
    uint32_t before = node_uris_ok(node);

    if (sample->outcome == SAMPLE_NOT_MADE)
        return;
    streak_add(&uri->answers, sample->source == SOURCE_PATRONI, node->settings.rise,
               node->settings.fall);
    if (sample->source == SOURCE_PATRONI)
        uri->says_ok = sample->outcome == SAMPLE_OK;
    if (node_uris_ok(node) != before)
        node->on_news(node->arg, node, NULL);
}

uint32_t node_uris_ok(const struct node *node)
{
    uint32_t bits = 0;

    for (size_t i = 0; i < node->n_uris; i++)
        if (node->uris[i].answers.is_up && node->uris[i].says_ok)
            bits |= 1u << i;
    return bits;
}

/* ---- asking ---- */

static void fail_unresolved(struct node *node)
{
    struct sample sample = {.outcome = SAMPLE_REFUSED};

    snprintf(sample.said, sizeof sample.said, "the name is not resolved: %s",
             node->look_up_error);
    on_result(node, &sample);
}

static void ask_now(struct node *node)
{
    node->asks_again = false;
    ev_timer_stop(node->loop->ev, &node->delayed);
    if (node->word == WORD_MAINT || !node->is_looked_up)
        return; /* who ends the maintenance, or on_addresses(), will ask */
    if (node->n_addresses == 0) {
        fail_unresolved(node);
        return;
    }
    if (!inquiry_is_running(&node->inquiry))
        inquiry_start(&node->inquiry, &node->plan);
    for (size_t i = 0; i < node->n_uris; i++)
        if (!inquiry_is_running(&node->uris[i].inquiry))
            inquiry_start(&node->uris[i].inquiry, &node->uris[i].plan);
}

static void on_delay_over(struct ev_loop *ev, ev_timer *timer, int events)
{
    (void)ev;
    (void)events;
    ask_now(CONTAINER_OF(timer, struct node, delayed));
}

void node_ask(struct node *node, uint64_t round, uint64_t delay_ms)
{
    if (!inquiry_is_running(&node->inquiry))
        node->round = round;
    if (delay_ms == 0) {
        ask_now(node);
    } else if (!ev_is_active(&node->delayed)) {
        ev_timer_set(&node->delayed, (double)delay_ms / 1e3, 0.);
        ev_timer_start(node->loop->ev, &node->delayed);
    }
}

void node_ask_anew(struct node *node, uint64_t round)
{
    bool is_running = inquiry_is_running(&node->inquiry);

    node_ask(node, round, 0);
    node->asks_again = is_running;
}

static void stop_asking(struct node *node)
{
    node->asks_again = false;
    ev_timer_stop(node->loop->ev, &node->delayed);
    inquiry_stop(&node->inquiry);
    for (size_t i = 0; i < node->n_uris; i++)
        inquiry_stop(&node->uris[i].inquiry);
}

void node_set_word(struct node *node, enum node_word word)
{
    bool was_in_maintenance = node->word == WORD_MAINT;

    node->word = word;
    node->awaits_check = word != WORD_MAINT && (was_in_maintenance || node->awaits_check);
    if (word != WORD_MAINT)
        return;
    stop_asking(node);
    if (node->verdict.claim == CLAIM_FULL)
        node->verdict.claim = CLAIM_STAYS;
}

/* ---- addresses ---- */

uint16_t node_port(const struct node *node)
{
    return is_told(node) ? address_port(&node->told) : node->config->port;
}

/* Whatever is asked elsewhere is of no use any more. */
static void use_addresses(struct node *node, const struct address *addresses, size_t n)
{
    stop_asking(node);
    node->n_addresses = n < NODE_ADDRESSES_MAX ? n : NODE_ADDRESSES_MAX;
    for (size_t i = 0; i < node->n_addresses; i++) {
        node->addresses[i] = addresses[i];
        address_set_port(&node->addresses[i], node_port(node));
    }
    node->plan.n_addresses = node->n_addresses;
    for (size_t i = 0; i < node->n_uris; i++)
        node->uris[i].plan.n_addresses = node->n_addresses;
    node->on_news(node->arg, node, NULL);
    ask_now(node);
}

static void plan_port(struct node *node)
{
    if (node->settings.check != CHECK_PATRONI)
        node->plan.port = node_port(node);
    node->plan.substitute_port = node_port(node);
}

/* What is known of it is known of another place. */
static void doubt(struct node *node)
{
    node->awaits_check = node->word != WORD_MAINT;
    if (node->verdict.claim == CLAIM_FULL)
        node->verdict.claim = CLAIM_STAYS;
}

bool node_set_address(struct node *node, const struct address *address)
{
    uint16_t port = address_port(address) != 0 ? address_port(address) : node_port(node);

    if (node->n_addresses > 0 && address_same_host(&node->addresses[0], address) &&
        node_port(node) == port)
        return false;
    node->told = *address;
    address_set_port(&node->told, port);
    node->is_looked_up = true;
    plan_port(node);
    doubt(node);
    use_addresses(node, address, 1);
    return true;
}

static void on_addresses(void *arg, const struct address *addresses, size_t n,
                         const char *error)
{
    struct node *node = arg;

    if (is_told(node))
        return;
    node->is_looked_up = true;
    if (n == 0) {
        snprintf(node->look_up_error, sizeof node->look_up_error, "%s", error);
        ask_now(node); /* which fails, unless addresses were inherited */
        return;
    }
    node->look_up_error[0] = '\0';
    use_addresses(node, addresses, n);
}

/* ---- making ---- */

/* To be connected to, where that is all that is asked. */
#define SUBSTITUTE_MS 500

static void plan_check(struct node *node, const struct node_tools *tools,
                       const struct cluster_config *cluster)
{
    bool is_rest = cluster->check == CHECK_PATRONI;

    node->plan = (struct inquiry_plan){
        .addresses = node->addresses,
        .port = is_rest ? node->config->check_port : node->config->port,
        .substitute_port = node->config->port,
        .question = {.timeout_ms = (uint32_t)cluster->check_timeout,
                     .host = node->config->host,
                     .path = "/primary",
                     .tls = tools->restapi_tls,
                     .user = cluster->check_user[0] ? cluster->check_user : "postgres",
                     .password = cluster->check_password,
                     .dbname = cluster->check_dbname},
    };
    if (cluster->check_user[0] == '\0' && cluster->check_timeout > SUBSTITUTE_MS)
        node->plan.substitute_ms = SUBSTITUTE_MS;
}

static bool make_probes(struct node *node, const struct node_tools *tools,
                        const struct cluster_config *cluster)
{
    struct inquiry *inquiry = &node->inquiry;
    struct loop *loop = tools->loop;

    inquiry->loop = loop;
    inquiry->on_result = on_result;
    inquiry->arg = node;
    switch (cluster->check) {
    case CHECK_PATRONI:
        inquiry->first = probe_rest_new(loop, tools->http, inquiry_on_sample, inquiry);
        if (cluster->check_user[0] == '\0' && cluster->etcd.n == 0)
            break;
        inquiry->substitute =
            cluster->check_user[0] == '\0'
                ? probe_tcp_new(loop, inquiry_on_sample, inquiry)
                : probe_sql_new(loop, tools->sql_turn, inquiry_on_sample, inquiry);
        if (inquiry->substitute == NULL)
            return false;
        break;
    case CHECK_POSTGRES:
        inquiry->first = probe_sql_new(loop, tools->sql_turn, inquiry_on_sample, inquiry);
        break;
    case CHECK_TCP:
        inquiry->first = probe_tcp_new(loop, inquiry_on_sample, inquiry);
        break;
    }
    return inquiry->first != NULL;
}

static bool make_uris(struct node *node, const struct node_tools *tools,
                      char *const *paths, size_t n)
{
    node->uris = memory_zeroed(n * sizeof *node->uris + 1);
    if (node->uris == NULL)
        return false;
    for (size_t i = 0; i < n; i++) {
        struct node_uri *uri = &node->uris[i];

        uri->node = node;
        uri->plan = node->plan;
        uri->plan.port = node->config->check_port;
        uri->plan.question.path = paths[i];
        uri->inquiry.loop = tools->loop;
        uri->inquiry.on_result = on_uri_result;
        uri->inquiry.arg = uri;
        uri->inquiry.first =
            probe_uri_new(tools->loop, tools->http, inquiry_on_sample, &uri->inquiry);
        node->n_uris = i + 1;
        if (uri->inquiry.first == NULL)
            return false;
    }
    return true;
}

struct node *
node_new(const struct node_tools *tools, const struct node_config *config,
         const struct cluster_config *cluster, char *const *uris, size_t n_uris,
         void (*on_news)(void *arg, struct node *node, const struct verdict *before),
         void *arg)
{
    struct node *node = memory_zeroed(sizeof *node);

    if (node == NULL)
        return NULL;
    node->config = config;
    node->loop = tools->loop;
    node->on_news = on_news;
    node->arg = arg;
    node->settings =
        (struct verdict_settings){.check = cluster->check,
                                  .rise = (unsigned)cluster->rise,
                                  .fall = (unsigned)cluster->fall,
                                  .max_lag_bytes = (uint64_t)cluster->max_lag};
    node->verdict.lag_bytes = -1;
    node->round = 1;
    node->weight = 1;
    snprintf(node->described, sizeof node->described, "unknown");
    ev_timer_init(&node->delayed, on_delay_over, 0., 0.);
    plan_check(node, tools, cluster);
    if (!make_probes(node, tools, cluster) || !make_uris(node, tools, uris, n_uris))
        goto fail;
    node->load = node_load_new();
    if (node->load == NULL)
        goto fail;
    node->watch = resolver_watch(tools->resolver, config->host, on_addresses, node);
    if (node->watch == NULL)
        goto fail;
    return node;

fail:
    node_free(node);
    return NULL;
}

void node_set_restapi_tls(struct node *node, struct tls_context *tls)
{
    node->plan.question.tls = tls;
    for (size_t i = 0; i < node->n_uris; i++)
        node->uris[i].plan.question.tls = tls;
}

void node_free(struct node *node)
{
    if (node == NULL)
        return;
    resolver_unwatch(node->watch);
    ev_timer_stop(node->loop->ev, &node->delayed);
    inquiry_clear(&node->inquiry);
    for (size_t i = 0; i < node->n_uris; i++)
        inquiry_clear(&node->uris[i].inquiry);
    memory_free(node->uris);
    if (node->load != NULL)
        node_load_release(node->load);
    memory_free(node);
}

bool node_is_same(const struct node_config *a, const struct node_config *b)
{
    return strcmp(a->name, b->name) == 0 && strcmp(a->host, b->host) == 0 &&
           a->port == b->port && a->check_port == b->check_port;
}

static void inherit_uri(struct node_uri *uri, const struct node *old)
{
    for (size_t i = 0; i < old->n_uris; i++)
        if (strcmp(uri->plan.question.path, old->uris[i].plan.question.path) == 0) {
            uri->answers = old->uris[i].answers;
            uri->says_ok = old->uris[i].says_ok;
        }
}

void node_inherit(struct node *node, const struct node *old)
{
    node_load_release(node->load);
    node->load = node_load_hold(old->load);
    node->id = old->id;
    node->told = old->told;
    if (is_told(node)) {
        node->is_looked_up = true;
        plan_port(node);
    }
    memcpy(node->addresses, old->addresses, sizeof node->addresses);
    node->n_addresses = node->plan.n_addresses = old->n_addresses;
    for (size_t i = 0; i < node->n_uris; i++) {
        node->uris[i].plan.n_addresses = old->n_addresses;
        inherit_uri(&node->uris[i], old);
    }
    if (node->settings.check == old->settings.check)
        node->verdict = old->verdict;
    node->round = old->round;
    node->checked_at_ms = old->checked_at_ms;
    node->n_failed = old->n_failed;
    node->word = old->word;
    node->awaits_check = old->awaits_check;
    node->weight = old->weight;
    node->is_served = old->is_served;
    node->changed_at_ms = old->changed_at_ms;
    node->n_downs = old->n_downs;
    node->down_ms = old->down_ms;
    node->down_since_ms = old->down_since_ms;
    memcpy(node->described, old->described, sizeof node->described);
    node->denial = old->denial;
    node->denied_in_round = old->denied_in_round;
    node->is_warned_of = old->is_warned_of;
    node->log_limit = old->log_limit;
}
