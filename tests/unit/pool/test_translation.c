#include "pool/translation.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/fault.h"

/* A client talks to a model of PostgreSQL twice: face to face, and through a translation.
 * It must be told the same. */

/* ---- bytes --------------------------------------------------------------------------
 */

struct bytes {
    uint8_t *at;
    size_t n;
    size_t size;
};

static void add(struct bytes *bytes, const void *more, size_t n)
{
    if (bytes->n + n > bytes->size) {
        bytes->size = (bytes->n + n) * 2;
        bytes->at = realloc(bytes->at, bytes->size);
        cr_assert_not_null(bytes->at);
    }
    if (n > 0)
        memcpy(bytes->at + bytes->n, more, n);
    bytes->n += n;
}

static void drop(struct bytes *bytes, size_t n)
{
    bytes->n -= n;
    if (bytes->n > 0)
        memmove(bytes->at, bytes->at + n, bytes->n);
}

static void clear(struct bytes *bytes)
{
    free(bytes->at);
    *bytes = (struct bytes){0};
}

static void add_message(struct bytes *bytes, char type, const void *body, size_t n)
{
    uint8_t header[MESSAGE_HEADER_BYTES] = {(uint8_t)type};

    wire_write_u32(header + 1, (uint32_t)n + 4);
    add(bytes, header, sizeof header);
    add(bytes, body, n);
}

/* ---- what a client says -------------------------------------------------------------
 */

static void say_parse(struct bytes *bytes, const char *name, const char *text)
{
    struct message_parse parse = {
        .name = name, .text = text, .types = (const uint8_t *)""};
    uint8_t message[20000];

    REQUIRE(text != NULL);
    parse.n_text = strlen(text);
    add(bytes, message, message_write_parse(&parse, message, sizeof message));
}

static void say_bind(struct bytes *bytes, const char *name, size_t n_values)
{
    uint8_t message[1000], values[100] = {0};

    cr_assert(n_values <= sizeof values);
    add(bytes, message,
        message_write_bind("a portal", name, n_values, message, sizeof message));
    add(bytes, values, n_values);
}

static void say_target(struct bytes *bytes, char type, char kind, const char *name)
{
    struct message_target target = {.kind = kind, .name = name};
    uint8_t message[1000];

    add(bytes, message, message_write_target(type, &target, message, sizeof message));
}

/* In one line: "Pa:text" Parse, "Ba" Bind, "E" Execute, "Da" Describe, "Ca" Close, "da"
 * and "ca" the same of a portal, "S" Sync, "H" Flush, "Q:text" Query; "!" waits for
 * answers. */
static void say(struct bytes *bytes, const char *words)
{
    char copy[4000], *rest = copy, *word;

    snprintf(copy, sizeof copy, "%s", words);
    while ((word = strsep(&rest, " ")) != NULL) {
        char *text = strchr(word, ':');

        if (text != NULL)
            *text++ = '\0';
        switch (*word) {
        case 'P':
            say_parse(bytes, word + 1, text);
            break;
        case 'B':
            say_bind(bytes, word + 1, 6 + strlen(word) % 7);
            break;
        case 'D':
        case 'C':
            say_target(bytes, *word, 'S', word + 1);
            break;
        case 'd':
        case 'c':
            say_target(bytes, *word == 'd' ? 'D' : 'C', 'P', word + 1);
            break;
        case 'E':
            add_message(bytes, 'E', "a portal\0\0\0\0", 13);
            break;
        case 'Q':
            REQUIRE(text != NULL);
            add_message(bytes, 'Q', text, strlen(text) + 1);
            break;
        case '!':
            add(bytes, "!", 1);
            break;
        default:
            add_message(bytes, *word, "", 0);
        }
    }
}

/* ---- the model ----------------------------------------------------------------------
 */

#define MODEL_MAX 50

struct model {
    struct {
        char name[100];
        char text[100];
    } has[MODEL_MAX];
    unsigned n;
    char portal[100];
    bool skips;
    struct bytes held; /* not flushed */
    struct bytes said;
    uint32_t n_parsed;
};

static int find(const struct model *model, const char *name)
{
    for (unsigned i = 0; i < model->n; i++)
        if (strcmp(model->has[i].name, name) == 0)
            return (int)i;
    return -1;
}

static void forget(struct model *model, const char *name)
{
    int i = find(model, name);

    if (i >= 0)
        model->has[i] = model->has[--model->n];
}

static void flush(struct model *model)
{
    add(&model->said, model->held.at, model->held.n);
    model->held.n = 0;
}

static void fail(struct model *model, const char *code)
{
    add_message(&model->held, 'E', code, strlen(code) + 1);
    flush(model); /* as send_message_to_frontend() in elog.c */
    model->skips = true;
}

static void complete(struct model *model, const char *text)
{
    if (strcmp(text, "DEALLOCATE_ALL") == 0) {
        model->n = 0;
        add_message(&model->held, 'C', "DEALLOCATE ALL", 15);
    } else if (*text == '\0') {
        add_message(&model->held, 'I', "", 0);
    } else if (strncmp(text, "DEALLOCATE\t", 11) == 0) {
        if (find(model, text + 11) < 0) {
            add_message(&model->held, 'E', "26000", 6);
        } else {
            forget(model, text + 11);
            add_message(&model->held, 'C', "DEALLOCATE", 11);
        }
    } else {
        add_message(&model->held, 'D', text, strlen(text));
        add_message(&model->held, 'C', "SELECT 1", 9);
    }
}

static void on_parse(struct model *model, const struct message_view *message)
{
    struct message_parse parse;

    cr_assert(message_read_parse(message->body, message->length, &parse));
    if (*parse.name == '\0')
        forget(model, "");
    if (strncmp(parse.text, "bad", 3) == 0) {
        fail(model, "42601");
        return;
    }
    if (*parse.name != '\0' && find(model, parse.name) >= 0) {
        fail(model, "42P05");
        return;
    }
    forget(model, parse.name);
    cr_assert(model->n < MODEL_MAX);
    snprintf(model->has[model->n].name, 100, "%s", parse.name);
    snprintf(model->has[model->n++].text, 100, "%s", parse.text);
    model->n_parsed++;
    add_message(&model->held, '1', "", 0);
}

static void on_bind(struct model *model, const struct message_view *message)
{
    struct message_bind bind;
    int i;

    cr_assert(message_read_bind(message->body, message->length, &bind));
    cr_assert_str_eq(bind.portal, "a portal");
    i = find(model, bind.statement);
    if (i < 0) {
        fail(model, "26000");
        return;
    }
    snprintf(model->portal, sizeof model->portal, "%s", model->has[i].text);
    add_message(&model->held, '2', "", 0);
}

static void on_target(struct model *model, const struct message_view *message)
{
    struct message_target target;

    cr_assert(message_read_target(message->body, message->length, &target));
    if (message->type == 'C') {
        if (target.kind == 'S')
            forget(model, target.name);
        add_message(&model->held, '3', "", 0);
    } else if (target.kind == 'P') {
        add_message(&model->held, 'n', "", 0);
    } else if (find(model, target.name) < 0) {
        fail(model, "26000");
    } else {
        const char *text = model->has[find(model, target.name)].text;

        add_message(&model->held, 't', text, strlen(text));
        add_message(&model->held, 'n', "", 0);
    }
}

static void tell_model(struct model *model, const struct message_view *message)
{
    if (message->type == 'S') {
        model->skips = false;
        add_message(&model->held, 'Z', "I", 1);
        flush(model);
    } else if (message->type == 'H') {
        flush(model);
    } else if (model->skips) {
        return;
    } else if (message->type == 'P') {
        on_parse(model, message);
    } else if (message->type == 'B') {
        on_bind(model, message);
    } else if (message->type == 'D' || message->type == 'C') {
        on_target(model, message);
    } else {
        complete(model,
                 message->type == 'Q' ? (const char *)message->body : model->portal);
        if (message->type == 'Q') {
            forget(model, "");
            add_message(&model->held, 'Z', "I", 1);
            flush(model);
        }
    }
}

/* Takes the whole messages of what was sent. */
static void read_model(struct model *model, struct bytes *sent)
{
    struct message_rules rules;
    struct message_walk walk;
    struct message_view message = {0};
    uint32_t n_left = 0;

    message_rules_init(&rules, MESSAGE_OF_CLIENT, INT32_MAX - 4);
    message_walk_begin(&walk, &rules, sent->at, sent->n, &n_left);
    while (message_walk_next(&walk, &message) == MESSAGE_WHOLE)
        tell_model(model, &message);
    drop(sent, sent->n - message_walk_rest(&walk));
}

static void clear_model(struct model *model)
{
    clear(&model->held);
    clear(&model->said);
}

/* What a client is told face to face. */
static void ask_directly(const struct bytes *script, struct bytes *told)
{
    struct model model = {0};
    struct bytes sent = {0};

    for (size_t i = 0; i < script->n; i++) /* messages of these tests hold no '!' */
        if (script->at[i] != '!')
            add(&sent, script->at + i, 1);
    read_model(&model, &sent);
    cr_assert_eq(sent.n, 0);
    add(told, model.said.at, model.said.n);
    clear(&sent);
    clear_model(&model);
}

/* ---- in between ---------------------------------------------------------------------
 */

struct between {
    struct pond *pond;
    struct message_rules of_client, of_server;
    struct statement_store *store;
    struct statement_names names;
    struct translation translation;
    struct flow flow;
    struct model model;
    struct statement_texts *texts;
    struct bytes asked;  /* by the client, and not passed on yet */
    struct bytes sent;   /* to the model */
    struct bytes unseen; /* what the model has said, as far as it was not looked at */
    struct bytes told;
    uint32_t n_left, n_left_of_server;
    bool has_failed; /* memory was out */
};

/* Another client was there before. */
static void leave_unnamed(struct model *model)
{
    snprintf(model->has[0].text, sizeof model->has[0].text, "of another");
    model->n = 1;
}

static void open_between(struct between *between, unsigned max)
{
    *between = (struct between){.pond = pond_new(), .texts = statement_texts_new()};
    if (between->texts != NULL)
        between->store = statement_store_new(between->texts);
    message_rules_init(&between->of_client, MESSAGE_OF_CLIENT, INT32_MAX - 4);
    message_rules_init(&between->of_server, MESSAGE_OF_SERVER, INT32_MAX - 4);
    leave_unnamed(&between->model);
    if (between->pond != NULL && between->store != NULL)
        translation_begin(&between->translation, between->store, &between->names, NULL,
                          max);
    else
        between->has_failed = true;
}

static void close_between(struct between *between)
{
    translation_clear(&between->translation);
    if (between->store != NULL)
        statement_names_clear(between->store, &between->names);
    cr_expect_null(between->names.first);
    statement_store_free(between->store);
    statement_texts_free(between->texts);
    pond_free(between->pond); /* all buffers are there again */
    clear(&between->asked);
    clear(&between->sent);
    clear(&between->unseen);
    clear(&between->told);
    clear_model(&between->model);
}

/* What has become of the first `n` bytes of a piece. */
static void take(struct between *between, struct edit *edit, size_t n, struct bytes *to)
{
    struct buffer *next;

    if (!edit_end(edit, n)) {
        between->has_failed = true;
        return;
    }
    if (!edit->is_changed)
        add(to, edit->bytes, n);
    for (struct buffer *buffer = edit->first; buffer != NULL; buffer = next) {
        next = buffer->next;
        add(to, buffer->bytes + buffer->begin, buffer_unread(buffer));
        buffer_give(buffer);
    }
}

/* False: it cannot pass now. */
static bool pass_message(struct between *between, struct edit *edit,
                         const struct message_view *message, uint8_t next)
{
    size_t at = (size_t)(message->body - edit->bytes) - MESSAGE_HEADER_BYTES;
    enum translated result = TRANSLATED_AS_IS;

    if (translation_concerns(&between->translation, message->type))
        result = translation_ask(&between->translation, &between->flow, message, next,
                                 edit, at);
    if (result == TRANSLATED_AS_IS) {
        enum flow_step step = flow_forward(&between->flow, message->type);

        if (step == FLOW_FULL)
            return false;
        cr_assert_eq(step, FLOW_GOES_ON);
        if (message->type == 'S')
            translation_sync(&between->translation, &between->flow);
        return true;
    }
    if (result == TRANSLATED_NO_MEMORY)
        between->has_failed = true;
    else
        cr_assert(result == TRANSLATED || result == TRANSLATED_LATER ||
                  result == TRANSLATED_MORE);
    return result == TRANSLATED;
}

static void flush_to_client(struct between *between)
{
    struct edit edit = edit_begin(between->pond, (const uint8_t *)"");

    if (between->n_left_of_server > 0 ||
        !translation_is_due(&between->translation, &between->flow))
        return;
    translation_catch_up(&between->translation, &between->flow, &edit, 0);
    take(between, &edit, 0, &between->told);
}

/* Passes on what can be passed on of what the client has asked. */
static void ask(struct between *between)
{
    struct edit edit = edit_begin(between->pond, between->asked.at);
    size_t n = between->asked.n, n_used;
    struct message_walk walk;
    struct message_view message = {0};

    if (n == 0 || between->has_failed)
        return;
    message_walk_begin(&walk, &between->of_client, edit.bytes, n, &between->n_left);
    for (;;) {
        enum message_step step;

        n_used = n - message_walk_rest(&walk);
        step = message_walk_next(&walk, &message);
        cr_assert(step <= MESSAGE_NONE);
        if (step == MESSAGE_CUT || step == MESSAGE_NONE)
            break;
        if (message.type == 'H')
            flush_to_client(between);
        if (!pass_message(between, &edit, &message,
                          message_walk_rest(&walk) > 0 ? *walk.at : 0))
            break;
        if (step == MESSAGE_BEGUN)
            between->n_left = message_walk_stream(&walk, &message);
    }
    take(between, &edit, n_used, &between->sent);
    drop(&between->asked, n_used);
}

static bool see(struct between *between, const struct message_view *message,
                struct edit *edit)
{
    uint32_t n_answered = between->flow.n_answered;
    size_t at = (size_t)(message->body - edit->bytes);
    enum flow_step step = message->type == 'Z' ? flow_see_ready(&between->flow, 'I')
                                               : flow_see(&between->flow, message->type);

    if (message->type == 'C')
        translation_see_tag(&between->translation, message->body, message->n);
    if (message->type == 'E')
        translation_see_error(&between->translation, message->body, message->n);
    switch (translation_see(&between->translation, &between->flow, n_answered,
                            message->type)) {
    case SIGHT_PASSES:
        return step != FLOW_CONFUSED;
    case SIGHT_IS_OURS:
        edit_cut(edit, at - MESSAGE_HEADER_BYTES, at + message->n);
        return step != FLOW_CONFUSED;
    case SIGHT_IS_DEALLOCATE:
        edit_cut(edit, at - MESSAGE_HEADER_BYTES, at + message->n);
        edit_insert(edit, at + message->n, translation_deallocated,
                    TRANSLATION_DEALLOCATED_BYTES);
        return step != FLOW_CONFUSED;
    case SIGHT_CONFUSED:
        return false;
    }
    return false;
}

/* Tells the client what has come from the model. */
static void tell(struct between *between)
{
    struct edit edit = edit_begin(between->pond, between->unseen.at);
    size_t n = between->unseen.n;
    struct message_walk walk;
    struct message_view message = {0};

    if (n == 0 || between->has_failed)
        return;
    message_walk_begin(&walk, &between->of_server, edit.bytes, n,
                       &between->n_left_of_server);
    for (;;) {
        enum message_step step;

        if (between->n_left_of_server == 0)
            translation_catch_up(&between->translation, &between->flow, &edit,
                                 n - message_walk_rest(&walk));
        step = message_walk_next(&walk, &message);
        if (step == MESSAGE_CUT || step == MESSAGE_NONE ||
            (step == MESSAGE_BEGUN && (message.type == 'Z' || message.type == 'C')))
            break;
        cr_assert(see(between, &message, &edit));
        if (step == MESSAGE_BEGUN)
            between->n_left_of_server = message_walk_stream(&walk, &message);
    }
    take(between, &edit, n - message_walk_rest(&walk), &between->told);
    drop(&between->unseen, n - message_walk_rest(&walk));
}

/* How a script is cut into pieces, and how fast the model is. */
struct pace {
    size_t (*next)(struct pace *pace, size_t n); /* 1 to n bytes */
    size_t at;
    unsigned random;
    bool is_late; /* nothing is seen of the answers before all was asked */
};

static size_t all_at_once(struct pace *pace, size_t n)
{
    (void)pace;
    return n;
}

static size_t one_byte(struct pace *pace, size_t n)
{
    (void)pace;
    (void)n;
    return 1;
}

/* In two pieces. */
static size_t up_to(struct pace *pace, size_t n)
{
    size_t first = pace->at;

    pace->at = n;
    return first < n ? first : n;
}

static unsigned dice(unsigned *random, unsigned n)
{
    *random = *random * 1103515245u + 12345u;
    return (*random >> 16) % n;
}

static size_t at_random(struct pace *pace, size_t n)
{
    size_t most = dice(&pace->random, 3) == 0 ? n : 12;

    return 1 + dice(&pace->random, (unsigned)(most < n ? most : n));
}

static void hear(struct between *between, struct pace *pace)
{
    read_model(&between->model, &between->sent);
    while (between->model.said.n > 0) {
        size_t n = pace->next == up_to ? between->model.said.n
                                       : pace->next(pace, between->model.said.n);

        add(&between->unseen, between->model.said.at, n);
        drop(&between->model.said, n);
        tell(between);
        if (between->has_failed)
            return;
    }
}

/* The client asks so much. */
static void ask_piece(struct between *between, const uint8_t *bytes, size_t n,
                      struct pace *pace)
{
    size_t n_before;

    add(&between->asked, bytes, n);
    ask(between);
    if (pace->is_late)
        return;
    do {
        n_before = between->asked.n;
        hear(between, pace);
        ask(between);
    } while (between->asked.n < n_before && !between->has_failed);
}

static void run(struct between *between, const struct bytes *script, struct pace pace)
{
    size_t at = 0;

    while (at < script->n && !between->has_failed) {
        const uint8_t *stop = memchr(script->at + at, '!', script->n - at);
        size_t n = stop == NULL ? script->n - at : (size_t)(stop - script->at) - at;

        if (n > 0) {
            n = pace.next(&pace, n);
            ask_piece(between, script->at + at, n, &pace);
        }
        at += n;
        if (at < script->n && script->at[at] != '!')
            continue;
        for (size_t before = 0; between->asked.n != before || before == 0;) {
            before = between->asked.n; /* until it stands still */
            hear(between, &pace);
            ask(between);
            hear(between, &pace);
            if (between->asked.n == 0 || between->has_failed)
                break;
        }
        at++;
    }
}

/* The names of ours that the model has are those that the translation knows of. */
static void expect_same_set(const struct between *between, const char *script)
{
    unsigned n = 0;

    for (unsigned i = 0; i < between->model.n; i++) {
        const char *name = between->model.has[i].name;
        const struct server_statement *found;

        if (strncmp(name, "pgrouter_", 9) != 0)
            continue;
        n++;
        found = server_statements_find(&between->translation.set, name);
        cr_expect(found != NULL && found->presence == STATEMENT_HERE &&
                      found->pending.n == 0,
                  "%s: %s is not known", script, name);
    }
    cr_expect_eq(n, between->translation.set.by_use.n, "%s: %u of %zu", script, n,
                 between->translation.set.by_use.n);
    cr_expect_leq(n, between->translation.max, "%s", script);
}

static void print(const struct bytes *bytes, char *text, size_t size)
{
    size_t n = 0;

    for (size_t i = 0; i < bytes->n && n + 2 < size; i++)
        if (bytes->at[i] >= ' ' && bytes->at[i] < 127)
            text[n++] = (char)bytes->at[i];
    text[n] = '\0';
}

static void expect_same_answers(const char *words, unsigned max, struct pace pace)
{
    struct bytes script = {0}, expected = {0};
    char told[2000], wanted[2000];
    struct between between;

    say(&script, words);
    ask_directly(&script, &expected);
    open_between(&between, max);
    run(&between, &script, pace);
    print(&between.told, told, sizeof told);
    print(&expected, wanted, sizeof wanted);
    cr_expect(between.told.n == expected.n &&
                  memcmp(between.told.at, expected.at, expected.n) == 0,
              "max %u, late %d, cut %zu: %s\n  told   %s\n  wanted %s", max, pace.is_late,
              pace.at, words, told, wanted);
    cr_expect_eq(between.translation.n_notes, 0, "%s", words);
    cr_expect_eq(between.flow.n_groups, 0, "%s", words);
    expect_same_set(&between, words);
    close_between(&between);
    clear(&script);
    clear(&expected);
}

/* ---- scripts ------------------------------------------------------------------------
 */

/* clang-format off */
static const char *const scripts[] = {
    "Pa:one S Ba E S Da S Ca S Ba E S",
    "Pa:one Ba E Pb:two Bb E Da Db Ba E S",
    "Pa:same Pb:same Pc:same Ba E Bb E Bc E S Ca Cb S Pa:same Bc E Ba E S",
    "Pa:one S Pa:two Ba E S Ba E S",
    "Pa:one Pa:two Ba E S Ba E S",
    "Pa:one S Ca Pa:two Ba E S Ca Pa:one Ba E Ca Pa:two Ba E S Ba E S",
    "Ba E S Da S Ca S Pa:one S Bb E Ba E S Ba E S",
    "Pa:bad Ba E S Ba E S Pa:bad S Pa:one Ba E S",
    "Pa:bad S Pb:bad S Pa:bad Pa:one S Pa:one S Ba E S",
    "Pa:one S ! Ba E Pb:bad Pc:one Ca Cc Pd:new Bd E S Ba E S Bc E S Bd E S Pc:one Bc E S",
    "Pa:one S ! Pb:one S Pc:bad Pd:one Cb S Bb E S Bd E S",
    "Pa:one H Ba E H Pb:one H Cb H Ca S Ba E S",
    "Pa:bad H ! Pb:one Bb E Cb H ! S Bb E S",
    "P:unnamed B E D C S P:one P:two B E S B E S",
    "Pa:one ca da Ba E ca da S",
    "Pa:one S ! Q:DEALLOCATE_ALL ! Ba E S Pa:two Ba E S",
    "Pa:one Pb:two S ! P:DEALLOCATE_ALL B E S ! Da S Pa:three Ba E Pb:one Bb E S",
    "Pa:one S ! Q:DEALLOCATE_ALL Pb:one Bb E S Pa:two Ba E S",
    "Pa:one S ! P:DEALLOCATE_ALL B E Pb:one Bb E Pc:two Bc E S ! Ba E S Bc E S",
    "Pa:one S Pb:two S ! P:DEALLOCATE_ALL Pb:bad Pc:two S Ba E S Bb E S",
    "Pa:one Pb:two S Q:DEALLOCATE\ta Q:DEALLOCATE\ta Ba E S Bb E S Pa:two Q:select Ba E S",
    "Pa:one S Pb:bad Q:DEALLOCATE\ta S Ba E S Q:DEALLOCATE\tb ! Q:DEALLOCATE\ta S Ba E S",
    "Pa:one S Q:DEALLOCATE\ta Pa:two S Ba E S ! Q:DEALLOCATE\ta Pa:one Ba E S",
    "Pa:one Q:select Ba E Q:select S Pb:bad Q:select Ba E S Ba E S",
    "Pa:1 Pb:2 Pc:3 Pd:4 Ba E Bb E Bc E Bd E Da Db Dc Dd S Bd E Bc E Bb E Ba E S",
    "Pa:1 S Pb:2 S Pc:3 S Ba E S Bb E S Bc E S Pd:bad Bc E S Bb E Pe:bad Ba E S Ba E S Bb E S",
    "Pa:1 Pb:2 S ! P:bad Pc:3 Pd:4 S Ba E Bb E S Pc:3 Bc E S",
    "P:one S B E S B E S D S",
    "P:one D S ! P:two S ! B E S",
    "B E S D S P:one S B E D S C S B E S",
    "P:one B E S B E S P:two S B E S C S B E S",
    "P:one S P:bad S B E S",
    "P:one S P:bad B E S B E S",
    "P:one B E S P:bad S B E S",
    "P:one S Pa:bad P:two S B E S",
    "P:one S Pa:bad P:two B E S B E S",
    "P:one B E S Pa:bad P:two B E S B E S",
    "Pa:bad P:two B E S B E S",
    "P:one S Q:select B E S Pa:one S P:two S Ba E B E S",
    "P:same S Pa:same P:same Ba E B E S C S Ba E S",
    "Pa:1 Pb:2 P:3 S Ba E Bb E B E S ! Pc:4 Bc E S B E S",
    "Pa:one P:two B E Q:select B E S B E S",
    "P:one S Pa:two Q:select B E S ! Pa:bad P:two S Pb:bad Q:select S B E S",
    "P:one S Pa:bad Q:select S B E S Pa:one Q:DEALLOCATE\ta B E S Ba E S",
};
/* clang-format on */

#define N_SCRIPTS (sizeof scripts / sizeof *scripts)

TestSuite(translation, .timeout = 60);

Test(translation, a_client_is_told_what_the_server_would_tell_it)
{
    for (size_t i = 0; i < N_SCRIPTS; i++)
        for (unsigned max = 1; max <= 4; max++) {
            expect_same_answers(scripts[i], max, (struct pace){all_at_once, 0, 0, false});
            expect_same_answers(scripts[i], max, (struct pace){all_at_once, 0, 0, true});
            expect_same_answers(scripts[i], max, (struct pace){one_byte, 0, 0, false});
            expect_same_answers(scripts[i], max, (struct pace){one_byte, 0, 0, true});
        }
}

Test(translation, wherever_the_stream_is_cut)
{
    for (size_t i = 0; i < N_SCRIPTS; i++) {
        struct bytes script = {0};

        say(&script, scripts[i]);
        for (size_t at = 1; at < script.n; at++) {
            expect_same_answers(scripts[i], 2, (struct pace){up_to, at, 0, false});
            expect_same_answers(scripts[i], 2, (struct pace){up_to, at, 0, true});
        }
        clear(&script);
    }
}

/* A script of 5 to 45 words. A DEALLOCATE ALL is waited for. */
static void invent(unsigned seed, char *script, size_t size)
{
    static const char *const texts[] = {"one", "two", "three", "four", "bad"};
    unsigned random = seed * 2654435761u + 1, n = 5 + dice(&random, 40);
    size_t length = 0;

    while (n-- > 0) {
        char name = "abcd"[dice(&random, 4)];
        const char *text = texts[dice(&random, 5)];

        switch (dice(&random, 20)) {
        case 0:
        case 1:
        case 2:
        case 3:
            length +=
                (size_t)snprintf(script + length, size - length, "P%c:%s ", name, text);
            break;
        case 4:
        case 5:
        case 6:
        case 7:
            length += (size_t)snprintf(script + length, size - length, "B%c E ", name);
            break;
        case 8:
            length += (size_t)snprintf(script + length, size - length, "D%c ", name);
            break;
        case 9:
        case 10:
            length += (size_t)snprintf(script + length, size - length, "C%c ", name);
            break;
        case 11:
            length += (size_t)snprintf(script + length, size - length, "H ! ");
            break;
        case 12:
            length += (size_t)snprintf(script + length, size - length, "%s",
                                       dice(&random, 2) ? "B E " : "D ");
            break;
        case 13:
            length += (size_t)snprintf(script + length, size - length, "P:%s %s", text,
                                       dice(&random, 2) ? "B E " : "");
            break;
        case 14:
            length += (size_t)snprintf(script + length, size - length, "S ! ");
            break;
        case 15:
            length += (size_t)snprintf(script + length, size - length,
                                       dice(&random, 2) ? "S Q:DEALLOCATE_ALL ! "
                                                        : "Q:select ");
            break;
        case 16:
            length += (size_t)snprintf(script + length, size - length,
                                       "Q:DEALLOCATE\t%c ", name);
            break;
        default:
            length += (size_t)snprintf(script + length, size - length, "S ");
        }
    }
    snprintf(script + length, size - length, "S");
}

Test(translation, whatever_a_client_says)
{
    char script[2000];

    for (unsigned seed = 0; seed < 4000; seed++) {
        invent(seed, script, sizeof script);
        expect_same_answers(script, 1 + seed % 4,
                            (struct pace){at_random, 0, seed, seed % 3 == 0});
    }
}

/* ---- what the server is told --------------------------------------------------------
 */

static void expect_parses(const char *words, unsigned max, uint32_t n)
{
    struct bytes script = {0};
    struct between between;

    say(&script, words);
    open_between(&between, max);
    run(&between, &script, (struct pace){all_at_once, 0, 0, false});
    cr_expect_eq(between.model.n_parsed, n, "%s: %u", words, between.model.n_parsed);
    close_between(&between);
    clear(&script);
}

Test(translation, what_the_server_has_is_not_parsed_again)
{
    expect_parses("Pa:one S ! Pb:one Pc:one Bc E S ! Ca Cb Cc S ! Pa:one Ba E S", 5, 1);
    expect_parses("Pa:one Pb:two Pc:three Ba E Bb E Bc E S ! Bc E Bb E Ba E S", 3, 3);
    expect_parses("Pa:one Pb:two Pc:three Ba E S", 2, 4); /* the first one had to leave */
    expect_parses("Pa:one Pb:two Ba E Pc:three Ba E S", 2,
                  3); /* the one used last stays */
    expect_parses("Pa:one S ! Q:DEALLOCATE_ALL ! Pa:one Ba E S", 5, 2);
    expect_parses("Pa:one S ! Q:select S Ba E S P:describe B E Ba E S", 5, 2);
    expect_parses("Pa:one S ! Q:\n\tDiscard_all S ! Ba E S Ba E S", 5, 2);
}

static void expect_that_it_moves(const char *parse, const char *bind)
{
    struct bytes script = {0};
    struct between between;
    struct flow other_flow = {0};
    struct model other = {0};

    open_between(&between, 5);
    say(&script, parse);
    run(&between, &script, (struct pace){all_at_once, 0, 0, false});
    translation_end(&between.translation);
    translation_clear(&between.translation); /* that server has gone */
    clear_model(&between.model);
    leave_unnamed(&other);
    between.model = other;
    between.flow = other_flow;
    translation_begin(&between.translation, between.store, &between.names, NULL, 5);
    script.n = 0;
    between.told.n = 0;
    say(&script, bind);
    run(&between, &script, (struct pace){all_at_once, 0, 0, false});
    cr_expect_eq(between.model.n_parsed, 1);
    cr_assert_eq(between.told.n, 5 + 8 + 14 + 6);
    cr_expect_eq(memcmp(between.told.at + 10, "one", 3), 0);
    close_between(&between);
    clear(&script);
}

Test(translation, a_statement_moves_with_its_client)
{
    expect_that_it_moves("Pa:one S !", "Ba E S !");
    expect_that_it_moves("P:one S !", "B E S !");
    expect_that_it_moves("P:other S P:one D S !", "B E S !");
    expect_that_it_moves("P:one D S B E S !", "B E S !");
}

Test(translation, who_leaves_in_between_leaves_a_server_whose_set_is_known)
{
    static const char *const left[] = {
        "Pa:one Ba E Pb:two Ca S",          "Pa:one S Pa:two S Pb:bad Pc:three S",
        "Pa:1 Pb:2 Pc:3 Pd:4 Ba E S",       "Pa:bad Pb:1 Pc:2 Pd:3 S",
        "Pa:1 S Pb:1 Pc:1 Ca Cb Cc Pa:2 S",
    };

    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        struct bytes script = {0};
        struct between between;

        open_between(&between, 2);
        say(&script, left[i]);
        add(&between.asked, script.at, script.n);
        ask(&between);
        between.asked.n = 0;
        translation_end(&between.translation);
        statement_names_clear(between.store, &between.names);
        cr_expect_null(between.names.first);
        hear(&between, &(struct pace){all_at_once, 0, 0, false});
        cr_expect_eq(between.translation.n_notes, 0, "%s", left[i]);
        expect_same_set(&between, left[i]);
        close_between(&between);
        clear(&script);
    }
}

#define LONG_NAME \
    "DEALLOCATE a234567890123456789012345678901234567890123456789012345678901234567890"

static bool is_dropped_by(const char *text)
{
    struct bytes script = {0};
    struct between between;
    bool is_dropped;

    open_between(&between, 5);
    say(&script, "Pa:one PA:two S !");
    run(&between, &script, (struct pace){all_at_once, 0, 0, false});
    script.n = 0;
    add_message(&script, 'Q', text, strlen(text) + 1);
    add(&between.asked, script.at, script.n);
    ask(&between);
    is_dropped = between.sent.n == 6;
    if (!is_dropped)
        cr_expect(between.sent.n == script.n &&
                  memcmp(between.sent.at, script.at, script.n) == 0);
    close_between(&between);
    clear(&script);
    return is_dropped;
}

Test(translation, a_name_may_be_dropped_by_sql)
{
    static const char *const dropping[] = {
        "DEALLOCATE a",     "deallocate prepare A ;; ", " \n\tDeallocate\ta;",
        "DEALLOCATE \"A\"", "DEALLOCATE PREPARE \"a\"", "deallocate  a ",
    };
    static const char *const others[] = {
        "DEALLOCATE b",
        "DEALLOCATE a; select 1",
        "DEALLOCATE \"a",
        "DEALLOCATEa",
        "DEALLOCATE \"a\"\"\"",
        "DEALLOCATE \"all\"",
        "DEALLOCATE",
        "DEALLOCATE a b",
        "DEALLOCATE ",
        "DEALLOCATE -- a",
        "select 1",
        "DEALLOCATE a-",
        LONG_NAME,
    };

    for (size_t i = 0; i < sizeof dropping / sizeof *dropping; i++)
        cr_expect(is_dropped_by(dropping[i]), "%s", dropping[i]);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        cr_expect_not(is_dropped_by(others[i]), "%s", others[i]);
}

/* What the server is told in its place, in the one message. */
static void expect_query(const char *text, const char *told)
{
    struct bytes script = {0}, expected = {0};
    struct between between;
    struct pace pace = {all_at_once, 0, 0, false};

    open_between(&between, 5);
    say(&script, "Pa:one S !");
    run(&between, &script, pace);
    script.n = between.sent.n = 0;
    add_message(&script, 'Q', text, strlen(text) + 1);
    add_message(&expected, 'Q', told, strlen(told) + 1);
    add(&between.asked, script.at, script.n);
    ask(&between);
    cr_expect(between.sent.n == expected.n &&
                  memcmp(between.sent.at, expected.at, expected.n) == 0,
              "%s: %.*s", text, (int)between.sent.n, (const char *)between.sent.at);
    cr_expect_eq(between.names.first->statement == NULL, strcmp(text, told) != 0);
    cr_expect_eq(between.translation.set.by_use.n, 1);
    cr_expect_eq(CONTAINER_OF(between.translation.set.by_use.head.next,
                              struct server_statement, in_use)
                     ->presence,
                 STATEMENT_HERE);
    close_between(&between);
    clear(&script);
    clear(&expected);
}

Test(translation, a_name_may_be_dropped_between_a_savepoint_and_its_release)
{
    static const char *const others[] = {
        "SAVEPOINT x",
        "SAVEPOINT x;RELEASE x",
        "SAVEPOINT x;DEALLOCATE b;RELEASE x",
        "SAVEPOINT x;DEALLOCATE ALL;RELEASE x",
        "SAVEPOINT x;DEALLOCATE a;RELEASE x;select 1",
        "SAVEPOINT x;DEALLOCATE a",
        "SAVEPOINT x;DEALLOCATE a;select 1",
        "SAVEPOINT x DEALLOCATE a;RELEASE x",
        "SAVEPOINT x;DEALLOCATE a RELEASE x",
        "SAVEPOINT",
        "SAVEPOINT \"x;DEALLOCATE a;RELEASE x",
    };

    expect_query("SAVEPOINT x;DEALLOCATE \"a\";RELEASE x", "SAVEPOINT x;RELEASE x");
    expect_query(" savepoint \"X\" ; deallocate prepare A ; release \"X\" ;",
                 " savepoint \"X\" ; release \"X\" ;");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        expect_query(others[i], others[i]);
}

Test(translation, a_name_may_be_dropped_by_an_unnamed_statement)
{
    struct bytes script = {0};
    struct between between;
    struct pace pace = {all_at_once, 0, 0, false};

    open_between(&between, 5);
    say(&script, "Pa:one S ! P:DEALLOCATE\ta B E Ba E S !");
    run(&between, &script, pace);
    cr_assert_eq(between.told.n, 5 + 6 + 5 + 5 + 5 + 11 + 6);
    cr_expect_eq(between.told.at[21], 'I');
    cr_expect_eq(memcmp(between.told.at + 31, "26000", 5), 0);
    cr_expect_eq(between.model.n_parsed, 2);
    expect_same_set(&between, "deallocate a");
    close_between(&between);
    clear(&script);
}

Test(translation, a_stale_statement_is_parsed_anew)
{
    static const char error[] = "SERROR\0C0A000\0Mcached plan\0RRevalidateCachedQuery\0";
    static const char gone[] =
        "SERROR\0C26000\0Mprepared statement \"pgrouter_2\" does not exist\0";
    static const char foreign[] =
        "SERROR\0C26000\0Mprepared statement \"s\" does not exist\0";
    static const char other[] = "SERROR\0C0A000\0Mnot supported\0RAnother\0";
    struct bytes script = {0};
    struct between between;
    struct pace pace = {all_at_once, 0, 0, false};

    open_between(&between, 5);
    say(&script, "Pa:one Pb:two S !");
    run(&between, &script, pace);
    translation_see_error(&between.translation, (const uint8_t *)other, sizeof other);
    script.n = 0;
    say(&script, "Ba E S !");
    run(&between, &script, pace);
    cr_expect_eq(between.model.n_parsed, 2);
    translation_see_error(&between.translation, (const uint8_t *)error, sizeof error);
    run(&between, &script, pace);
    run(&between, &script, pace);
    cr_expect_eq(between.model.n_parsed, 3);
    script.n = 0;
    say(&script, "Pc:two Bc E S !");
    run(&between, &script, pace);
    cr_expect_eq(between.model.n_parsed, 4);
    expect_same_set(&between, "the second of them");
    translation_see_error(&between.translation, (const uint8_t *)foreign, sizeof foreign);
    run(&between, &script, pace);
    cr_expect_eq(between.model.n_parsed, 4);
    script.n = 0;
    say(&script, "Bc E S !");
    between.model.n = 0; /* nobody has seen it */
    run(&between, &script, pace);
    translation_see_error(&between.translation, (const uint8_t *)gone, sizeof gone);
    run(&between, &script, pace);
    cr_expect_eq(between.model.n_parsed, 5);
    close_between(&between);
    clear(&script);
}

Test(translation, a_name_that_is_taken_though_the_server_has_lost_it_is_the_servers_end)
{
    struct bytes script = {0};
    struct between between;
    struct message_view parsed = {.type = '1'};
    struct edit edit;

    open_between(&between, 5);
    say(&script, "Pa:one S !");
    run(&between, &script, (struct pace){all_at_once, 0, 0, false});
    script.n = 0;
    say(&script, "Pa:two");
    add(&between.asked, script.at, script.n);
    ask(&between);
    edit = edit_begin(between.pond, (const uint8_t *)"");
    parsed.body = edit.bytes;
    cr_expect_not(see(&between, &parsed, &edit));
    close_between(&between);
    clear(&script);
}

/* ---- what is refused, and what waits ------------------------------------------------
 */

static enum translated ask_one(struct between *between, const struct bytes *bytes,
                               size_t n_here)
{
    struct edit edit = edit_begin(between->pond, bytes->at);
    struct message_walk walk;
    struct message_view message = {0};
    uint32_t n_left = 0;
    enum translated result;

    message_walk_begin(&walk, &between->of_client, bytes->at, n_here, &n_left);
    cr_assert(message_walk_next(&walk, &message) <= MESSAGE_BEGUN);
    result =
        translation_ask(&between->translation, &between->flow, &message, 0, &edit, 0);
    edit_drop(&edit);
    return result;
}

Test(translation, a_parse_is_held_up_to_a_length)
{
    uint8_t header[] = {'P', 0, 0x40, 0, 4, 's'}; /* 4 MB */
    struct bytes message = {0};
    struct between between;

    open_between(&between, 5);
    add(&message, header, sizeof header);
    cr_expect_eq(ask_one(&between, &message, 5), TRANSLATED_MORE); /* what is its name? */
    cr_expect_eq(ask_one(&between, &message, 6), TRANSLATED_MORE);
    message.at[4]++;
    cr_expect_eq(ask_one(&between, &message, 5), TRANSLATED_MORE);
    cr_expect_eq(ask_one(&between, &message, 6), TRANSLATED_TOO_LONG);
    message.at[5] = '\0';
    cr_expect_eq(ask_one(&between, &message, 6), TRANSLATED_MORE); /* what is its text? */
    add(&message, "select 1 and some more than this", 32);
    cr_expect_eq(ask_one(&between, &message, message.n), TRANSLATED_AS_IS);
    message.at[4]--;
    cr_expect_eq(ask_one(&between, &message, message.n), TRANSLATED_MORE);
    close_between(&between);
    clear(&message);
}

Test(translation, names_that_are_too_long_are_illegal)
{
    static char name[12000];
    struct bytes message = {0};
    struct between between;

    open_between(&between, 5);
    memset(name, 'x', CLIENT_NAME_MAX);
    say_parse(&message, name, "one");
    cr_expect_eq(ask_one(&between, &message, message.n), TRANSLATED);
    name[CLIENT_NAME_MAX] = 'x';
    message.n = 0;
    say_parse(&message, name, "one");
    cr_expect_eq(ask_one(&between, &message, message.n), TRANSLATED_ILLEGAL);
    message.n = 0;
    memset(name, 'x', sizeof name - 1);
    add_message(&message, 'B', name, sizeof name);
    cr_expect_eq(ask_one(&between, &message, 9000), TRANSLATED_MORE);
    cr_expect_eq(ask_one(&between, &message, 11000), TRANSLATED_ILLEGAL);
    close_between(&between);
    clear(&message);
}

Test(translation, what_is_malformed_is_the_servers_to_refuse)
{
    static const struct {
        char type;
        const char *body;
        size_t n;
    } wrong[] = {
        {'P', "s", 1},
        {'P', "s\0text", 6},
        {'P', "s\0text\0\0", 8},
        {'P', "s\0text\0\0\1", 9},
        {'B', "no end", 6},
        {'B', "portal\0no end", 13},
        {'D', "", 0},
        {'D', "Sno end", 7},
        {'C', "Xs\0", 3},
        {'C', "Ss\0more", 7},
    };
    struct between between;

    open_between(&between, 5);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct bytes message = {0};

        add_message(&message, wrong[i].type, wrong[i].body, wrong[i].n);
        cr_expect_eq(ask_one(&between, &message, message.n), TRANSLATED_AS_IS, "%zu", i);
        clear(&message);
    }
    cr_expect_eq(between.translation.n_notes, 0);
    close_between(&between);
}

Test(translation, so_many_answers_of_ours_may_be_due)
{
    struct bytes script = {0}, message = {0};
    struct between between;
    enum translated result = TRANSLATED;
    unsigned n = 0;

    open_between(&between, 5);
    say(&script, "Pa:one S !");
    run(&between, &script, (struct pace){all_at_once, 0, 0, false});
    while (n < 100000) {
        message.n = 0;
        say(&message, n % 2 == 0 ? "Pb:one" : "Cb");
        result = ask_one(&between, &message, message.n);
        if (result != TRANSLATED)
            break;
        n++;
    }
    cr_expect_eq(result, TRANSLATED_ILLEGAL);
    cr_expect(n > 60000 && n < 70000, "%u", n);
    close_between(&between);
    clear(&script);
    clear(&message);
}

/* ---- without memory -----------------------------------------------------------------
 */

static void run_all(void *arg)
{
    struct bytes *script = arg;
    struct between between;

    open_between(&between, 2);
    if (!between.has_failed)
        run(&between, script, (struct pace){all_at_once, 0, 0, false});
    close_between(&between);
}

Test(translation, survives_any_allocation_that_fails)
{
    for (size_t i = 0; i < N_SCRIPTS; i++) {
        struct bytes script = {0};

        say(&script, scripts[i]);
        cr_expect_geq(fault_each_allocation(run_all, &script), 2);
        clear(&script);
    }
}
