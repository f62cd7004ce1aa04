#include "pool/statements.h"

#include <stdio.h>
#include <string.h>

#include "core/hash_table.h"
#include "core/table.h"
#include "wire/ending.h"

/* Statements that no client has a name for, and what their texts may take. */
#define UNUSED_MAX 1000
#define UNUSED_BYTES_MAX (4u << 20)

/* What a name costs beside its text, about. */
#define NAME_BYTES 256u
/* The key of most Parse messages fits in. */
#define KEY_BYTES 1024u

struct statement_store {
    struct statement_texts *texts;
    struct table statements; /* by the keys of their texts */
    struct table names;      /* by client and name */
    struct list unused;      /* statements, the one released last first */
    size_t n_unused_bytes;
};

struct statement {
    struct statement_store *store;
    const struct statement_text *text; /* held */
    unsigned references;
    bool is_plain;
    struct link in_unused;
    struct table_entry in_table;
};

/* Every client has some. */
struct name_entry {
    struct client_name name;
    struct statement_names *owner;
    struct table_entry in_table;
    char text[];
};

/* server_statement, and what is behind it. */
struct set_entry {
    struct server_statement statement;
    UT_hash_handle hh;
};

/* ---- the store ----------------------------------------------------------------------
 */

struct statement_store *statement_store_new(struct statement_texts *texts)
{
    struct statement_store *store = memory_zeroed(sizeof *store);

    if (store == NULL)
        return NULL;
    store->texts = texts;
    list_init(&store->unused);
    if (!table_init(&store->names) || !table_init(&store->statements)) {
        statement_store_free(store);
        return NULL;
    }
    return store;
}

static void use(struct statement *statement)
{
    list_remove(&statement->store->unused, &statement->in_unused);
    statement->store->n_unused_bytes -= statement->text->n_rest;
}

static void free_oldest_unused(struct statement_store *store)
{
    struct statement *oldest =
        CONTAINER_OF(store->unused.head.previous, struct statement, in_unused);

    use(oldest);
    table_remove(&store->statements, &oldest->in_table);
    statement_texts_release(store->texts, oldest->text);
    memory_free(oldest);
}

void statement_store_free(struct statement_store *store)
{
    if (store == NULL)
        return;
    while (store->unused.n > 0)
        free_oldest_unused(store);
    table_clear(&store->statements);
    table_clear(&store->names);
    memory_free(store);
}

static struct statement *find_statement(const struct statement_store *store,
                                        const uint8_t *key, size_t n_key, uint32_t hash)
{
    TABLE_EACH_LIKE(item, &store->statements, hash)
    {
        struct statement *statement = CONTAINER_OF(item, struct statement, in_table);

        if (statement->text->n_key == n_key &&
            memcmp(statement->text->key, key, n_key) == 0)
            return statement;
    }
    return NULL;
}

static struct statement *add_statement(struct statement_store *store, const uint8_t *key,
                                       size_t n_key, size_t n_rest, uint32_t hash)
{
    struct statement *made = memory_zeroed(sizeof *made);

    if (made == NULL)
        return NULL;
    made->store = store;
    made->text = statement_texts_hold(store->texts, key, n_key, n_rest, hash);
    if (made->text == NULL) {
        memory_free(made);
        return NULL;
    }
    made->is_plain =
        !(ending_asked(sql_look((const char *)key, strnlen((const char *)key, n_rest))) &
          ASKED_ODD);
    table_add(&store->statements, &made->in_table, hash);
    return made;
}

struct statement *statement_hold_parsed(struct statement_store *store,
                                        const struct message_parse *parse,
                                        const char *session)
{
    const uint8_t *rest = (const uint8_t *)parse->text;
    size_t n_rest = (size_t)(parse->types - rest) + (size_t)parse->n_types * 4;
    size_t n_key = n_rest + strlen(session);
    uint8_t small[KEY_BYTES], *key = n_key <= sizeof small ? small : memory_zeroed(n_key);
    struct statement *found;
    uint32_t hash;

    if (key == NULL)
        return NULL;
    memcpy(key, rest, n_rest);
    memcpy(key + n_rest, session, n_key - n_rest);
    hash = statement_texts_hash(store->texts, key, n_key);
    found = find_statement(store, key, n_key, hash);
    if (found == NULL)
        found = add_statement(store, key, n_key, n_rest, hash);
    if (key != small)
        memory_free(key);
    return found == NULL ? NULL : statement_hold(found);
}

struct statement *statement_hold(struct statement *statement)
{
    if (statement->references++ == 0 && link_is_in_list(&statement->in_unused))
        use(statement);
    return statement;
}

void statement_release(struct statement *statement)
{
    struct statement_store *store;

    if (statement == NULL || --statement->references > 0)
        return;
    store = statement->store;
    list_prepend(&store->unused, &statement->in_unused);
    store->n_unused_bytes += statement->text->n_rest;
    while (store->unused.n > UNUSED_MAX || store->n_unused_bytes > UNUSED_BYTES_MAX)
        free_oldest_unused(store);
}

const char *statement_name(const struct statement *statement)
{
    return statement->text->name;
}

bool statement_is_plain(const struct statement *statement)
{
    return statement->is_plain;
}

const uint8_t *statement_rest(const struct statement *statement, size_t *n)
{
    *n = statement->text->n_rest;
    return statement->text->key;
}

/* ---- a client's names ---------------------------------------------------------------
 */

static uint32_t hash_of(const struct statement_store *store,
                        const struct statement_names *names, const char *name)
{
    uint8_t key[sizeof(void *) + CLIENT_NAME_MAX];
    size_t n = strlen(name);

    memcpy(key, &names, sizeof names);
    /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): a key of known length */
    memcpy(key + sizeof names, name, n);
    return table_hash(&store->names, key, sizeof names + n);
}

static struct client_name *find(const struct statement_store *store,
                                const struct statement_names *names, const char *name,
                                uint32_t hash)
{
    TABLE_EACH_LIKE(found, &store->names, hash)
    {
        struct name_entry *entry = CONTAINER_OF(found, struct name_entry, in_table);

        if (entry->owner == names && strcmp(entry->text, name) == 0)
            return &entry->name;
    }
    return NULL;
}

size_t statement_names_count(const struct statement_names *names)
{
    size_t n = 0;

    for (const struct client_name *name = names->first; name != NULL; name = name->next)
        n += name->statement != NULL;
    return n;
}

struct client_name *statement_names_find(const struct statement_store *store,
                                         const struct statement_names *names,
                                         const char *name)
{
    if (names->first == NULL || strlen(name) > CLIENT_NAME_MAX)
        return NULL;
    return find(store, names, name, hash_of(store, names, name));
}

static struct name_entry *new_name(struct statement_names *names, const char *name)
{
    size_t n = strlen(name) + 1, size = offsetof(struct name_entry, text) + n;
    struct name_entry *made = memory_zeroed(size > sizeof *made ? size : sizeof *made);

    if (made == NULL)
        return NULL;
    made->owner = names;
    memcpy(made->text, name, n);
    return made;
}

struct client_name *statement_names_get(struct statement_store *store,
                                        struct statement_names *names, const char *name)
{
    struct client_name *found;
    struct name_entry *made;
    uint32_t hash;

    if (strlen(name) > CLIENT_NAME_MAX)
        return NULL;
    hash = hash_of(store, names, name);
    found = find(store, names, name, hash);
    if (found != NULL)
        return found;
    made = new_name(names, name);
    if (made == NULL)
        return NULL;
    table_add(&store->names, &made->in_table, hash);
    made->name.next = names->first;
    made->name.link = &names->first;
    if (names->first != NULL)
        names->first->link = &made->name.next;
    names->first = &made->name;
    return &made->name;
}

/* Of memory; a text that others have, too, counts for each. */
static size_t cost(const struct statement *statement)
{
    return statement == NULL ? 0 : statement->text->n_rest + NAME_BYTES;
}

struct statement *client_name_swap(struct client_name *name, struct statement *statement)
{
    struct statement *before = name->statement;
    struct statement_names *owner = CONTAINER_OF(name, struct name_entry, name)->owner;

    owner->n_bytes -= cost(before);
    owner->n_bytes += cost(statement);
    name->statement = statement;
    return before;
}

void client_name_set(struct client_name *name, struct statement *statement)
{
    statement_release(client_name_swap(name, statement));
}

void client_name_settle(struct statement_store *store, struct client_name *name)
{
    struct name_entry *entry = CONTAINER_OF(name, struct name_entry, name);

    if (name->statement != NULL || name->pending.n > 0)
        return;
    *name->link = name->next;
    if (name->next != NULL)
        name->next->link = name->link;
    table_remove(&store->names, &entry->in_table);
    memory_free(entry);
}

void statement_names_clear(struct statement_store *store, struct statement_names *names)
{
    struct client_name *next;

    for (struct client_name *name = names->first; name != NULL; name = next) {
        next = name->next;
        if (name->pending.n > 0)
            continue;
        client_name_set(name, NULL);
        client_name_settle(store, name);
    }
}

/* ---- what a server has --------------------------------------------------------------
 */

/* The table's type is private: what the header calls a statement begins an entry. */
static struct set_entry *table_of(const struct server_statements *set)
{
    return set->table == NULL ? NULL
                              : CONTAINER_OF(set->table, struct set_entry, statement);
}

static void set_table(struct server_statements *set, struct set_entry *table)
{
    set->table = table == NULL ? NULL : &table->statement;
}

struct server_statement *server_statements_find(const struct server_statements *set,
                                                const char *name)
{
    struct set_entry *table = table_of(set), *found;

    HASH_FIND(hh, table, name, strlen(name), found);
    return found == NULL ? NULL : &found->statement;
}

struct server_statement *server_statements_get(struct server_statements *set,
                                               const char *name)
{
    struct server_statement *found = server_statements_find(set, name);
    struct set_entry *table = table_of(set), *made;

    if (found != NULL)
        return found;
    made = memory_zeroed(sizeof *made);
    if (made == NULL)
        return NULL;
    if (set->by_use.head.next == NULL)
        list_init(&set->by_use);
    snprintf(made->statement.name, sizeof made->statement.name, "%s", name);
    HASH_ADD(hh, table, statement.name, strlen(made->statement.name), made);
    if (made->hh.tbl == NULL) { /* out of memory */
        memory_free(made);
        return NULL;
    }
    set_table(set, table);
    return &made->statement;
}

void server_statements_touch(struct server_statements *set,
                             struct server_statement *statement)
{
    list_remove(&set->by_use, &statement->in_use);
    list_prepend(&set->by_use, &statement->in_use);
}

void server_statements_set(struct server_statements *set,
                           struct server_statement *statement, enum presence presence)
{
    bool is_listed = link_is_in_list(&statement->in_use);

    if (presence == STATEMENT_ABSENT && is_listed)
        list_remove(&set->by_use, &statement->in_use);
    if (presence != STATEMENT_ABSENT && !is_listed)
        list_prepend(&set->by_use, &statement->in_use);
    statement->presence = presence;
}

void server_statements_settle(struct server_statements *set,
                              struct server_statement *statement)
{
    struct set_entry *entry = CONTAINER_OF(statement, struct set_entry, statement);
    struct set_entry *table = table_of(set);

    if (statement->presence != STATEMENT_ABSENT || statement->pending.n > 0)
        return;
    HASH_DEL(table, entry);
    set_table(set, table);
    memory_free(entry);
}

struct server_statement *server_statements_oldest(const struct server_statements *set)
{
    return set->by_use.n == 0
               ? NULL
               : CONTAINER_OF(set->by_use.head.previous, struct server_statement, in_use);
}

void server_statements_spoil(struct server_statements *set)
{
    if (set->by_use.n == 0)
        return;
    LIST_EACH(item, &set->by_use)
    {
        CONTAINER_OF(item, struct server_statement, in_use)->presence = STATEMENT_STALE;
    }
}

void server_statements_clear(struct server_statements *set)
{
    if (set->by_use.n == 0)
        return;
    LIST_EACH_SAFE(item, &set->by_use)
    {
        struct server_statement *one =
            CONTAINER_OF(item, struct server_statement, in_use);

        if (one->pending.n > 0)
            continue;
        server_statements_set(set, one, STATEMENT_ABSENT);
        server_statements_settle(set, one);
    }
}
