#include "pool/parameters.h"

#include <string.h>
#include <strings.h>

#include "core/hash_table.h"

/* What all parameters of a set may take together. */
#define SET_BYTES_MAX 65536u

struct parameter_store {
    struct parameter_set *sets; /* hash table, by their bytes */
};

struct parameter_set {
    struct parameter_store *store;
    unsigned references;
    UT_hash_handle hh;
    size_t n_bytes;
    char bytes[]; /* name, value, name, value, ... each with a zero byte; names ascend */
};

/* ---- walking ------------------------------------------------------------------------
 */

struct walk {
    const char *at, *end;
};

static struct walk walk_of(const struct parameter_set *set)
{
    return (struct walk){set->bytes, set->bytes + set->n_bytes};
}

static bool next(struct walk *walk, const char **name, const char **value)
{
    if (walk->at == walk->end)
        return false;
    *name = walk->at;
    *value = *name + strlen(*name) + 1;
    walk->at = *value + strlen(*value) + 1;
    return true;
}

const char *parameters_find(const struct parameter_set *set, const char *name)
{
    struct walk walk = walk_of(set);
    const char *found, *value;

    while (next(&walk, &found, &value))
        if (strcasecmp(found, name) == 0)
            return value;
    return NULL;
}

void parameters_each(const struct parameter_set *set,
                     void (*use)(void *arg, const char *name, const char *value),
                     void *arg)
{
    struct walk walk = walk_of(set);
    const char *name, *value;

    while (next(&walk, &name, &value))
        use(arg, name, value);
}

/* ---- the store ----------------------------------------------------------------------
 */

struct parameter_store *parameter_store_new(void)
{
    return memory_zeroed(sizeof(struct parameter_store));
}

void parameter_store_free(struct parameter_store *store)
{
    if (store == NULL)
        return;
    REQUIRE(store->sets == NULL);
    memory_free(store);
}

struct parameter_set *parameters_hold(struct parameter_set *set)
{
    set->references++;
    return set;
}

void parameters_release(struct parameter_set *set)
{
    if (set == NULL || --set->references > 0)
        return;
    HASH_DEL(set->store->sets, set);
    memory_free(set);
}

/* The set of these bytes, held. */
static struct parameter_set *intern(struct parameter_store *store, const char *bytes,
                                    size_t n_bytes)
{
    struct parameter_set *set;

    HASH_FIND(hh, store->sets, bytes, n_bytes, set);
    if (set != NULL)
        return parameters_hold(set);
    set = memory_zeroed(sizeof *set + n_bytes + 1);
    if (set == NULL)
        return NULL;
    set->store = store;
    set->references = 1;
    set->n_bytes = n_bytes;
    if (n_bytes > 0)
        memcpy(set->bytes, bytes, n_bytes);
    HASH_ADD(hh, store->sets, bytes, n_bytes, set);
    if (set->hh.tbl == NULL) { /* out of memory */
        memory_free(set);
        return NULL;
    }
    return set;
}

struct parameter_set *parameters_none(struct parameter_store *store)
{
    return intern(store, "", 0);
}

/* ---- to other workers ---------------------------------------------------------------
 */

struct parameter_parcel {
    size_t n_bytes;
    char bytes[];
};

struct parameter_parcel *parameters_pack(const struct parameter_set *set)
{
    struct parameter_parcel *parcel = memory_zeroed(sizeof *parcel + set->n_bytes + 1);

    if (parcel == NULL)
        return NULL;
    parcel->n_bytes = set->n_bytes;
    memcpy(parcel->bytes, set->bytes, set->n_bytes);
    return parcel;
}

struct parameter_set *parameters_unpack(struct parameter_store *store,
                                        struct parameter_parcel *parcel)
{
    struct parameter_set *set = intern(store, parcel->bytes, parcel->n_bytes);

    parameter_parcel_free(parcel);
    return set;
}

void parameter_parcel_free(struct parameter_parcel *parcel)
{
    memory_free(parcel);
}

/* ---- making others ------------------------------------------------------------------
 */

static void add(struct text *bytes, const char *name, const char *value)
{
    text_add_n(bytes, name, strlen(name) + 1);
    text_add_n(bytes, value, strlen(value) + 1);
}

static struct parameter_set *intern_text(struct parameter_store *store,
                                         struct text *bytes)
{
    struct parameter_set *set =
        bytes->overflowed ? NULL : intern(store, text_get(bytes), bytes->length);

    text_clear(bytes);
    return set;
}

struct parameter_set *parameters_over(struct parameter_set *base,
                                      struct parameter_set *set)
{
    struct walk left = walk_of(base), right = walk_of(set);
    const char *name[2] = {NULL, NULL}, *value[2] = {NULL, NULL};
    bool has_left = next(&left, &name[0], &value[0]);
    bool has_right = next(&right, &name[1], &value[1]);
    struct text bytes;

    text_init(&bytes, SET_BYTES_MAX);
    while (has_left || has_right) {
        int order = !has_left ? 1 : !has_right ? -1 : strcasecmp(name[0], name[1]);

        if (order < 0)
            add(&bytes, name[0], value[0]);
        else
            add(&bytes, name[1], value[1]);
        if (order <= 0)
            has_left = next(&left, &name[0], &value[0]);
        if (order >= 0)
            has_right = next(&right, &name[1], &value[1]);
    }
    return intern_text(base->store, &bytes);
}

struct parameter_set *parameters_with(struct parameter_set *set, const char *name,
                                      const char *value)
{
    const char *present = parameters_find(set, name);
    struct parameter_set *one, *both;
    struct text bytes;

    if (present != NULL && strcmp(present, value) == 0)
        return parameters_hold(set);
    text_init(&bytes, SET_BYTES_MAX);
    add(&bytes, name, value);
    one = intern_text(set->store, &bytes);
    if (one == NULL)
        return NULL;
    both = parameters_over(set, one);
    parameters_release(one);
    return both;
}

struct parameter_set *parameters_like(struct parameter_set *set,
                                      const struct parameter_set *model)
{
    struct walk walk = walk_of(set);
    const char *name, *value;
    struct text bytes;

    text_init(&bytes, SET_BYTES_MAX);
    while (next(&walk, &name, &value))
        if (parameters_find(model, name) != NULL)
            add(&bytes, name, value);
    return intern_text(set->store, &bytes);
}

/* Reported by PostgreSQL, and not for a session to change: what the server is, who is
 * logged in, how strings are kept. */
bool parameters_follows(const char *name)
{
    static const char *const fixed[] = {
        "server_version",    "server_encoding",       "in_hot_standby",   "is_superuser",
        "integer_datetimes", "session_authorization", "scram_iterations",
    };

    for (size_t i = 0; i < COUNT_OF(fixed); i++)
        if (strcasecmp(fixed[i], name) == 0)
            return false;
    return true;
}

/* ---- from one to another ------------------------------------------------------------
 */

/* As a string constant that means the same whatever standard_conforming_strings is. */
static void add_quoted(struct text *query, const char *text)
{
    text_add(query, "E'");
    for (; *text != '\0'; text++) {
        if (*text == '\'' || *text == '\\')
            text_add_n(query, text, 1);
        text_add_n(query, text, 1);
    }
    text_add(query, "'");
}

static void add_identifier(struct text *query, const char *name)
{
    text_add(query, "\"");
    for (; *name != '\0'; name++) {
        if (*name == '"')
            text_add_n(query, name, 1);
        text_add_n(query, name, 1);
    }
    text_add(query, "\"");
}

void parameters_add_change(const struct parameter_set *is,
                           const struct parameter_set *wanted, struct text *query)
{
    struct walk walk;
    const char *name, *value;
    bool is_first = true;

    if (is == wanted)
        return;
    walk = walk_of(is);
    while (next(&walk, &name, &value)) {
        if (parameters_find(wanted, name) != NULL)
            continue;
        text_add(query, "RESET ");
        add_identifier(query, name);
        text_add(query, ";");
    }
    walk = walk_of(wanted);
    while (next(&walk, &name, &value)) {
        const char *present = parameters_find(is, name);

        if (present != NULL && strcmp(present, value) == 0)
            continue;
        text_add(query, is_first ? "SELECT set_config(" : ",set_config(");
        add_quoted(query, name);
        text_add(query, ",");
        add_quoted(query, value);
        text_add(query, ",false)");
        is_first = false;
    }
}
