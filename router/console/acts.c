#include "router/console/acts.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

#include "core/log.h"
#include "core/memory.h"
#include "router/console/form.h"
#include "router/console/halting.h"

/* So long a browser waits to hear how it ends. */
#define PATIENCE_S 3.
#define NODES_MAX 32u

/* A form, understood. */
struct wish {
    char action[16], token[ACTS_TOKEN_MAX];
    char backend[NODE_NAME_MAX], cluster[NODE_NAME_MAX], to[NODE_NAME_MAX];
    char database[NODE_NAME_MAX];
    char servers[NODES_MAX][NODE_NAME_MAX];
    unsigned n_servers;
    bool is_sure;
    char who[64]; /* "alice at 192.0.2.1" */
};

/* What the desk carries out. */
struct act {
    struct question question; /* first: the desk frees it when it is to drop it */
    struct link in_acts;
    struct acts *acts;
    struct web_request *request; /* NULL: it does not wait any more */
    ev_timer patience;
    char what[NODE_NAME_MAX + 32];
};

/* ---- answers ------------------------------------------------------------------------
 */

static void lead_back(struct web_request *request)
{
    web_add_header(request, "Location", "/;st=DONE");
    web_answer_line(request, 303, "done");
}

/* What came of it, for the log and for the page. `why` is NULL when all went well. */
static void note(struct acts *acts, const char *what, const char *who, const char *why)
{
    snprintf(acts->last, sizeof acts->last, "%s by %s: %s", what, who,
             why == NULL ? "done" : why);
    if (why == NULL)
        LOG(INFO, "done by the page", TEXT("what", what), TEXT("who", who));
    else
        LOG(WARNING, "not done by the page", TEXT("what", what), TEXT("who", who),
            TEXT("why", why));
}

/* ---- understanding ------------------------------------------------------------------
 */

static bool take_text(char *to, size_t size, const char *value)
{
    if (strlen(value) >= size)
        return false;
    strcpy(to, value);
    return true;
}

/* "main/pg2" */
static bool take_node(struct wish *wish, const char *value)
{
    const char *slash = strchr(value, '/');
    size_t n = slash == NULL ? 0 : (size_t)(slash - value);

    if (slash == NULL || n >= sizeof wish->cluster || strlen(slash + 1) >= NODE_NAME_MAX)
        return false;
    memcpy(wish->cluster, value, n);
    wish->cluster[n] = '\0';
    strcpy(wish->servers[0], slash + 1);
    wish->n_servers = 1;
    return true;
}

static bool take_field(struct wish *wish, const struct form_field *field)
{
    const char *name = field->name, *value = field->value;

    if (strcmp(name, "action") == 0)
        return take_text(wish->action, sizeof wish->action, value);
    if (strcmp(name, "csrf") == 0)
        return take_text(wish->token, sizeof wish->token, value);
    if (strcmp(name, "b") == 0)
        return take_text(wish->backend, sizeof wish->backend, value);
    if (strcmp(name, "s") == 0)
        return wish->n_servers < NODES_MAX &&
               take_text(wish->servers[wish->n_servers++], NODE_NAME_MAX, value);
    if (strcmp(name, "node") == 0)
        return take_node(wish, value);
    if (strcmp(name, "db") == 0)
        return take_text(wish->database, sizeof wish->database, value);
    if (strcmp(name, "cluster") == 0)
        return take_text(wish->cluster, sizeof wish->cluster, value);
    if (strcmp(name, "to") == 0)
        return take_text(wish->to, sizeof wish->to, value);
    if (strcmp(name, "sure") == 0)
        wish->is_sure = strcmp(value, "yes") == 0;
    return true; /* of programs that know more */
}

static bool read_wish(const char *body, struct wish *wish)
{
    struct form_field field;
    enum form_step step;

    while ((step = form_next(&body, &field)) == FORM_FIELD)
        if (!take_field(wish, &field))
            return false;
    return step == FORM_END;
}

/* ---- nodes --------------------------------------------------------------------------
 */

static bool word_of(const char *action, enum node_word *word)
{
    static const struct {
        const char *action;
        enum node_word word;
    } words[] = {
        {"ready", WORD_READY}, {"enable", WORD_READY},  {"drain", WORD_DRAIN},
        {"maint", WORD_MAINT}, {"disable", WORD_MAINT},
    };

    for (size_t i = 0; i < COUNT_OF(words); i++)
        if (strcmp(action, words[i].action) == 0) {
            *word = words[i].word;
            return true;
        }
    return false;
}

/* HAProxy names a backend, or gives its number ("#2"): ours are listeners. */
static const char *cluster_of(const struct acts *acts, const char *backend)
{
    unsigned number = 0;
    char wanted[16];

    LIST_EACH(item, &acts->doors->open)
    {
        const struct listener_config *settings =
            CONTAINER_OF(item, struct door, in_doors)->listener->settings;

        snprintf(wanted, sizeof wanted, "#%u", ++number);
        if (settings->to != NULL &&
            (strcmp(backend, settings->name) == 0 || strcmp(backend, wanted) == 0))
            return settings->to->name;
    }
    return NULL;
}

static void set_words(struct acts *acts, struct web_request *request,
                      const struct wish *wish, enum node_word word)
{
    const char *cluster =
        *wish->cluster != '\0' ? wish->cluster : cluster_of(acts, wish->backend);
    char what[NODE_NAME_MAX + 32], name[NODE_NAME_MAX];
    bool is_known = true;

    if (cluster == NULL || wish->n_servers == 0) {
        web_answer_line(request, 400, "there is no such backend, or no server was named");
        return;
    }
    snprintf(name, sizeof name, "%s", cluster);
    for (unsigned i = 0; i < wish->n_servers; i++) {
        bool ok =
            monitor_set_word(acts->monitor, name, wish->servers[i], word, wish->who);

        snprintf(what, sizeof what, "%s %s", wish->action, wish->servers[i]);
        note(acts, what, wish->who, ok ? NULL : "there is no such node");
        is_known = is_known && ok;
    }
    if (is_known)
        lead_back(request);
    else
        web_answer_line(request, 404, "there is no such node");
}

/* ---- what the desk carries out ------------------------------------------------------
 */

static void end_act(struct act *act)
{
    struct acts *acts = act->acts;
    struct question *question = &act->question;

    acts->n--;
    list_remove(&acts->answers, &act->in_acts);
    ev_timer_stop(acts->loop->ev, &act->patience);
    if (question->snapshot != NULL) {
        question->client_is_gone = true;
        acts->source->ask(acts->arg, question);
        return;
    }
    text_clear(&question->rows);
    memory_free(act);
}

static void on_answer(struct message *message, void *control)
{
    struct act *act = CONTAINER_OF(message, struct act, question.message);
    const struct question *question = &act->question;
    const char *why = question->sqlstate == NULL ? NULL : question->why;

    (void)control;
    note(act->acts, act->what, question->user, why);
    if (act->request != NULL && why == NULL)
        lead_back(act->request);
    else if (act->request != NULL)
        web_answer_line(act->request, 409, why);
    end_act(act);
}

static void on_patience_ended(struct ev_loop *ev, ev_timer *timer, int events)
{
    struct act *act = CONTAINER_OF(timer, struct act, patience);

    (void)ev;
    (void)events;
    lead_back(act->request);
    act->request = NULL;
}

static void begin(struct acts *acts, struct web_request *request, const struct wish *wish,
                  enum command_name command)
{
    struct act *act = acts->n == ACTS_MAX ? NULL : memory_zeroed(sizeof *act);

    if (act == NULL) {
        web_answer_line(request, 503, "too much is under way");
        return;
    }
    acts->n++;
    act->acts = acts;
    act->request = request;
    act->question.command = command;
    act->question.on_answer = on_answer;
    act->question.order.drain_ms = -1;
    strcpy(act->question.order.cluster, wish->cluster);
    strcpy(act->question.order.to, wish->to);
    strcpy(act->question.operand, wish->database);
    snprintf(act->question.user, sizeof act->question.user, "%s", wish->who);
    snprintf(act->what, sizeof act->what, "%s %s", wish->action,
             command == COMMAND_SWITCHOVER ? wish->cluster : wish->database);
    text_init(&act->question.rows, QUESTION_ROWS_MAX);
    ev_timer_init(&act->patience, on_patience_ended, PATIENCE_S, 0.);
    ev_timer_start(acts->loop->ev, &act->patience);
    list_append(&acts->answers, &act->in_acts);
    acts->source->ask(acts->arg, &act->question);
}

static enum command_name command_of(const char *action)
{
    static const struct {
        const char *action;
        enum command_name command;
    } commands[] = {
        {"pause", COMMAND_PAUSE},         {"resume", COMMAND_RESUME},
        {"reconnect", COMMAND_RECONNECT}, {"kill", COMMAND_KILL},
        {"disable", COMMAND_DISABLE},     {"enable", COMMAND_ENABLE},
    };

    for (size_t i = 0; i < COUNT_OF(commands); i++)
        if (strcmp(action, commands[i].action) == 0)
            return commands[i].command;
    return COMMAND_UNKNOWN;
}

static void carry_out(struct acts *acts, struct web_request *request,
                      const struct wish *wish)
{
    enum node_word word;

    if (strcmp(wish->action, "switchover") == 0) {
        if (wish->is_sure)
            begin(acts, request, wish, COMMAND_SWITCHOVER);
        else
            web_answer_line(request, 400,
                            "nothing is done: a switchover has to be confirmed");
    } else if (*wish->database != '\0' && command_of(wish->action) != COMMAND_UNKNOWN) {
        begin(acts, request, wish, command_of(wish->action));
    } else if (*wish->database == '\0' && word_of(wish->action, &word)) {
        set_words(acts, request, wish, word);
    } else {
        web_answer_line(request, 400, "there is no such action");
    }
}

/* ---- who ----------------------------------------------------------------------------
 */

static bool has_token(const struct acts *acts, const char *token)
{
    return strlen(token) == sizeof acts->token - 1 &&
           CRYPTO_memcmp(token, acts->token, sizeof acts->token) == 0;
}

void acts_take(struct acts *acts, struct web_request *request, const char *name)
{
    struct wish wish = {.action = ""};
    char address[ADDRESS_TEXT_MAX];
    struct address peer;
    bool is_too_long;
    const char *body = web_body(request, &is_too_long);

    snprintf(wish.who, sizeof wish.who, "%s at %s", name,
             web_peer(request, &peer) ? address_print_host(&peer, address) : "unix");
    if (is_too_long)
        web_answer_line(request, 413, "that is too long");
    else if (!read_wish(body, &wish))
        web_answer_line(request, 400, "expected a form, as the page has it");
    else if (web_is_from_browser(request) && !has_token(acts, wish.token))
        web_answer_line(request, 403,
                        "the form is out of date, or not ours: load the page again");
    else
        carry_out(acts, request, &wish);
}

/* ---- begin and end ------------------------------------------------------------------
 */

bool acts_init(struct acts *acts, struct loop *loop, const struct doors *doors,
               struct monitor *monitor, const struct pages_source *source, void *arg)
{
    uint8_t random[(ACTS_TOKEN_MAX - 1) / 2];

    *acts = (struct acts){
        .loop = loop, .doors = doors, .monitor = monitor, .source = source, .arg = arg};
    list_init(&acts->answers);
    if (RAND_bytes(random, sizeof random) != 1)
        return false;
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(acts->token + 2 * i, 3, "%02x", random[i]);
    return true;
}

void acts_clear(struct acts *acts)
{
    LIST_EACH_SAFE(item, &acts->answers)
    {
        struct act *act = CONTAINER_OF(item, struct act, in_acts);

        if (act->request != NULL)
            web_answer_line(act->request, 503, "not now");
        end_act(act);
    }
    REQUIRE(acts->n == 0);
}
