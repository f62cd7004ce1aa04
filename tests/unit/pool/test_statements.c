#include "pool/statements.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "tests/lib/fault.h"

static struct statement_texts *texts;
static struct statement_store *store;

static void make_store(void)
{
    texts = statement_texts_new();
    cr_assert_not_null(texts);
    store = statement_store_new(texts);
    cr_assert_not_null(store);
}

static void free_store(void)
{
    statement_store_free(store);
    statement_texts_free(texts);
}

TestSuite(statements, .init = make_store, .fini = free_store, .timeout = 10);

/* As it stands in a message. */
static struct statement *hold_of(const char *text, uint16_t n_types, const char *types,
                                 const char *session)
{
    struct message_parse parse = {.name = "any",
                                  .text = text,
                                  .n_text = strlen(text),
                                  .types = (const uint8_t *)types,
                                  .n_types = n_types},
                         read;
    static uint8_t message[2000000];
    size_t n = message_write_parse(&parse, message, sizeof message);

    cr_assert(message_read_parse(message + MESSAGE_HEADER_BYTES, n - MESSAGE_HEADER_BYTES,
                                 &read));
    return statement_hold_parsed(store, &read, session);
}

static struct statement *hold(const char *text, uint16_t n_types, const char *types)
{
    return hold_of(text, n_types, types, "");
}

static const char *name_of(struct statement *statement)
{
    static char name[STATEMENT_NAME_MAX];

    snprintf(name, sizeof name, "%s", statement_name(statement));
    statement_release(statement);
    return name;
}

/* ---- statements ---------------------------------------------------------------------
 */

Test(statements, equal_ones_are_the_same_one)
{
    struct statement *a = hold("select $1", 1, "\0\0\0\27");
    struct statement *b = hold("select $1", 1, "\0\0\0\27");

    cr_expect_eq(a, b);
    cr_expect_str_eq(statement_name(a), "pgrouter_1");
    cr_expect_str_eq(name_of(hold("select $1", 0, "")), "pgrouter_2");
    cr_expect_str_eq(name_of(hold("select $1", 1, "\0\0\0\31")), "pgrouter_3");
    cr_expect_str_eq(name_of(hold("select $1 ", 1, "\0\0\0\27")), "pgrouter_4");
    cr_expect_str_eq(name_of(hold_of("select $1", 0, "", "LATIN1")), "pgrouter_5");
    cr_expect_str_eq(name_of(hold_of("select $1", 0, "", "")), "pgrouter_2");
    statement_release(a);
    statement_release(b);
}

Test(statements, the_rest_is_what_stands_behind_the_name)
{
    struct statement *a = hold("select $1", 1, "\0\0\0\27");
    size_t n;
    const uint8_t *rest = statement_rest(a, &n);

    cr_assert_eq(n, 10 + 2 + 4);
    cr_expect_eq(memcmp(rest, "select $1\0\0\1\0\0\0\27", n), 0);
    statement_release(a);
}

Test(statements, one_that_nobody_has_is_kept_for_a_while)
{
    char text[40];

    cr_expect_str_eq(name_of(hold("select 'kept'", 0, "")), "pgrouter_1");
    for (unsigned i = 0; i < 999; i++) {
        snprintf(text, sizeof text, "select %u", i);
        statement_release(hold(text, 0, ""));
    }
    cr_expect_str_eq(name_of(hold("select 'kept'", 0, "")), "pgrouter_1");
    for (unsigned i = 1000; i < 2000; i++) {
        snprintf(text, sizeof text, "select %u", i);
        statement_release(hold(text, 0, ""));
    }
    cr_expect_str_eq(name_of(hold("select 'kept'", 0, "")), "pgrouter_2001");
}

Test(statements, so_many_bytes_of_them_are_kept)
{
    static char text[1500001];

    memset(text, 'x', sizeof text - 1);
    for (unsigned i = 0; i < 3; i++) {
        text[0] = (char)('a' + i);
        statement_release(hold(text, 0, ""));
    }
    cr_expect_str_eq(name_of(hold(text, 0, "")), "pgrouter_3");
    text[0] = 'b';
    cr_expect_str_eq(name_of(hold(text, 0, "")), "pgrouter_2");
    text[0] = 'a';
    cr_expect_str_eq(name_of(hold(text, 0, "")), "pgrouter_4");
}

/* A server that moves does not have a text twice. */
Test(statements, stores_of_all_workers_give_a_text_the_same_name)
{
    struct statement_store *other = statement_store_new(texts), *first = store;
    struct statement *a = hold("select 1", 0, ""), *b, *c;

    store = other;
    b = hold("select 2", 0, "");
    c = hold("select 1", 0, "");
    cr_expect_neq(a, c);
    cr_expect_str_eq(statement_name(b), "pgrouter_2");
    cr_expect_str_eq(statement_name(c), "pgrouter_1");
    statement_release(b);
    statement_release(c);
    statement_store_free(other);
    store = first;
    cr_expect_str_eq(name_of(hold("select 1", 0, "")), "pgrouter_1");
    cr_expect_str_eq(name_of(hold("select 2", 0, "")),
                     "pgrouter_3"); /* it was forgotten */
    statement_release(a);
}

/* ---- clients' names -----------------------------------------------------------------
 */

static void set(struct statement_names *names, const char *name, const char *text)
{
    struct client_name *found = statement_names_get(store, names, name);

    cr_assert_not_null(found);
    client_name_set(found, hold(text, 0, ""));
}

static const char *meaning(const struct statement_names *names, const char *name)
{
    const struct client_name *found = statement_names_find(store, names, name);
    size_t n;

    return found == NULL ? NULL : (const char *)statement_rest(found->statement, &n);
}

Test(statements, each_client_has_its_own_names)
{
    struct statement_names a = {0}, b = {0};

    cr_expect_null(statement_names_find(store, &a, "s"));
    set(&a, "s", "one");
    set(&b, "s", "two");
    set(&a, "t", "two");
    cr_expect_str_eq(meaning(&a, "s"), "one");
    cr_expect_str_eq(meaning(&b, "s"), "two");
    cr_expect_str_eq(meaning(&a, "t"), "two");
    cr_expect_null(meaning(&b, "t"));
    cr_expect_null(meaning(&a, ""));
    set(&a, "s", "three");
    cr_expect_str_eq(meaning(&a, "s"), "three");
    statement_names_clear(store, &a);
    cr_expect_null(meaning(&a, "s"));
    cr_expect_str_eq(meaning(&b, "s"), "two");
    statement_names_clear(store, &b);
}

Test(statements, a_name_goes_when_it_means_nothing_and_nothing_is_pending)
{
    struct statement_names names = {0};
    struct client_name *s, *t;

    set(&names, "r", "zero");
    set(&names, "s", "one");
    set(&names, "t", "two");
    s = statement_names_find(store, &names, "s");
    t = statement_names_find(store, &names, "t");
    client_name_settle(store, s);
    cr_expect_str_eq(meaning(&names, "s"), "one");
    s->pending.n = t->pending.n = 1;
    client_name_set(s, NULL);
    client_name_settle(store, s);
    cr_expect_eq(statement_names_find(store, &names, "s"), s);
    statement_names_clear(store, &names);
    cr_expect_null(meaning(&names, "r"));
    cr_expect_str_eq(meaning(&names, "t"), "two");
    s->pending.n = t->pending.n = 0;
    client_name_settle(store, s);
    cr_expect_null(statement_names_find(store, &names, "s"));
    statement_names_clear(store, &names);
    cr_expect_null(names.first);
}

Test(statements, a_name_has_a_greatest_length)
{
    static char name[CLIENT_NAME_MAX + 2];
    struct statement_names names = {0};

    memset(name, 'x', CLIENT_NAME_MAX);
    set(&names, name, "one");
    cr_expect_str_eq(meaning(&names, name), "one");
    name[CLIENT_NAME_MAX] = 'x';
    cr_expect_null(meaning(&names, name));
    cr_expect_null(statement_names_get(store, &names, name));
    statement_names_clear(store, &names);
}

/* ---- a server's statements ----------------------------------------------------------
 */

static struct server_statement *put(struct server_statements *set, const char *name)
{
    struct server_statement *made = server_statements_get(set, name);

    cr_assert_not_null(made);
    server_statements_set(set, made, STATEMENT_HERE);
    return made;
}

Test(statements, a_server_knows_which_it_used_longest_ago)
{
    struct server_statements has = {0};
    struct server_statement *a, *b, *c;

    cr_expect_null(server_statements_oldest(&has));
    cr_expect_null(server_statements_find(&has, "a"));
    a = put(&has, "a");
    b = put(&has, "b");
    c = put(&has, "c");
    cr_expect_eq(server_statements_oldest(&has), a);
    server_statements_touch(&has, a);
    cr_expect_eq(server_statements_oldest(&has), b);
    server_statements_set(&has, b, STATEMENT_ABSENT);
    cr_expect_eq(server_statements_oldest(&has), c);
    cr_expect_eq(server_statements_find(&has, "b"), b);
    server_statements_settle(&has, b);
    cr_expect_null(server_statements_find(&has, "b"));
    server_statements_settle(&has, c);
    cr_expect_eq(server_statements_find(&has, "c"), c);
    cr_expect_eq(has.by_use.n, 2);
    server_statements_clear(&has);
    cr_expect_eq(has.by_use.n, 0);
    cr_expect_null(has.table);
}

Test(statements, what_is_pending_stays)
{
    struct server_statements has = {0};
    struct server_statement *a = put(&has, "a"), *b;

    (void)put(&has, "b");
    a->pending.n = 1;
    server_statements_clear(&has);
    cr_expect_eq(server_statements_find(&has, "a"), a);
    cr_expect_null(server_statements_find(&has, "b"));
    b = put(&has, "b");
    server_statements_spoil(&has);
    cr_expect_eq(a->presence, STATEMENT_STALE);
    cr_expect_eq(b->presence, STATEMENT_STALE);
    server_statements_set(&has, a, STATEMENT_ABSENT);
    server_statements_settle(&has, a);
    cr_expect_eq(server_statements_find(&has, "a"), a);
    a->pending.n = 0;
    server_statements_settle(&has, a);
    cr_expect_null(server_statements_find(&has, "a"));
    server_statements_clear(&has);
}

Test(statements, an_empty_set_can_be_cleared_and_spoiled)
{
    struct server_statements has = {0};

    server_statements_spoil(&has);
    server_statements_clear(&has);
    cr_expect_eq(has.by_use.n, 0);
}

/* ---- without memory -----------------------------------------------------------------
 */

static void make_all(void *arg)
{
    struct statement_names names = {0};
    struct server_statements has = {0};
    struct message_parse parse = {.text = "one\0\0", .n_text = 3, .n_types = 0};
    struct statement *statement = NULL;
    struct client_name *name;
    struct server_statement *on_server;
    bool had_store;

    (void)arg;
    free_store();
    texts = statement_texts_new();
    store = texts == NULL ? NULL : statement_store_new(texts);
    had_store = store != NULL;
    parse.types = (const uint8_t *)parse.text + 6;
    if (had_store)
        statement = statement_hold_parsed(store, &parse, "UTF8");
    name = statement == NULL ? NULL : statement_names_get(store, &names, "s");
    on_server = name == NULL ? NULL : server_statements_get(&has, "pgrouter_1");
    if (name != NULL)
        client_name_set(name, statement);
    else
        statement_release(statement);
    if (on_server != NULL)
        server_statements_settle(&has, on_server);
    cr_expect_null(has.table);
    if (had_store)
        statement_names_clear(store, &names);
}

Test(statements, survives_any_allocation_that_fails)
{
    cr_expect_geq(fault_each_allocation(make_all, NULL), 10);
}
