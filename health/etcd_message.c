#include "health/etcd_message.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "health/sample.h"
#include "wire/base64.h"

/* google.golang.org/grpc/codes */
enum { GRPC_PERMISSION_DENIED = 7, GRPC_UNAUTHENTICATED = 16 };

/* ---- requests ---- */

static void add_json(struct text *body, json_t *object)
{
    char *dumped = object == NULL ? NULL : json_dumps(object, JSON_COMPACT);

    if (dumped == NULL)
        body->overflowed = true;
    else
        text_add(body, dumped);
    free(dumped);
    json_decref(object);
}

void etcd_ask_login(struct text *body, const char *user, const char *password)
{
    add_json(body, json_pack("{s:s, s:s}", "name", user, "password", password));
}

static void add_base64(struct text *body, const char *bytes, size_t n)
{
    char text[BASE64_LENGTH(3)];

    for (size_t at = 0; at < n; at += 3) {
        size_t n_here = n - at < 3 ? n - at : 3;

        text_add_n(body, text, base64_write((const uint8_t *)bytes + at, n_here, text));
    }
}

/* "key" and "range_end" as etcd understands a prefix: the end is the first key that does
 * not begin so. */
static void add_prefix(struct text *body, const char *prefix)
{
    size_t n = strlen(prefix);
    char *end = memory_text_n(prefix, n);

    if (end == NULL) {
        body->overflowed = true;
        return;
    }
    while (n > 1 && (uint8_t)end[n - 1] == 0xff)
        n--;
    end[n - 1] = (char)((uint8_t)end[n - 1] + 1);
    text_add(body, "\"key\":\"");
    add_base64(body, prefix, strlen(prefix));
    text_add(body, "\",\"range_end\":\"");
    add_base64(body, end, n);
    text_add(body, "\"");
    memory_free(end);
}

void etcd_ask_range(struct text *body, const char *prefix)
{
    text_add(body, "{");
    add_prefix(body, prefix);
    text_add(body, "}");
}

void etcd_ask_watch(struct text *body, const char *prefix, int64_t from_revision)
{
    text_add(body, "{\"create_request\":{");
    add_prefix(body, prefix);
    text_addf(body, ",\"start_revision\":\"%lld\"}}", (long long)from_revision);
}

/* ---- parts of answers ---- */

/* A 64-bit number: a string, or a number where somebody writes it so. -1 = neither. */
static int64_t read_number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    const char *text = json_string_value(value);
    long long number;
    char *end;

    if (json_is_integer(value))
        return json_integer_value(value) < 0 ? -1 : json_integer_value(value);
    if (text == NULL || text[0] < '0' || text[0] > '9')
        return -1;
    errno = 0;
    number = strtoll(text, &end, 10);
    return errno != 0 || *end != '\0' ? -1 : number;
}

static void read_header(const json_t *answer, struct etcd_said *said)
{
    const json_t *header = json_object_get(answer, "header");
    const char *id = json_string_value(json_object_get(header, "cluster_id"));
    int64_t revision = read_number(header, "revision");

    if (id != NULL && strlen(id) < sizeof said->cluster_id)
        sample_copy_text(said->cluster_id, sizeof said->cluster_id, id);
    if (revision > 0)
        said->revision = revision;
}

static void say(struct etcd_said *said, enum etcd_meaning meaning, const char *words)
{
    said->meaning = meaning;
    sample_copy_text(said->words, sizeof said->words, words);
}

static bool has(const char *words, const char *part)
{
    return strstr(words, part) != NULL;
}

/* The words are those of etcd's api/v3rpc/rpctypes/error.go; a watch has nothing but
 * words. */
static enum etcd_meaning meaning_of_error(int64_t code, const char *words)
{
    if (has(words, "authentication is not enabled"))
        return ETCD_NO_USERS;
    if (code == GRPC_UNAUTHENTICATED || code == GRPC_PERMISSION_DENIED ||
        has(words, "invalid auth token") || has(words, "permission denied") ||
        has(words, "user name is empty") || has(words, "auth revision"))
        return ETCD_TOKEN;
    return ETCD_REFUSED;
}

/* False when it is no error. */
static bool read_error(const json_t *answer, struct etcd_said *said)
{
    const json_t *error = json_object_get(answer, "error");
    const json_t *holder = json_is_object(error) ? error : answer;
    const char *words = json_string_value(error);
    int64_t code = read_number(holder, "code");

    if (code < 0)
        code = read_number(holder, "grpc_code");
    if (words == NULL)
        words = json_string_value(json_object_get(holder, "message"));
    if (error == NULL && (code < 0 || words == NULL))
        return false;
    if (words == NULL)
        words = "an error without words";
    say(said, meaning_of_error(code, words), words);
    return true;
}

/* The object in the text, whose header and error are read; NULL when it has none of use,
 * which is said. */
static json_t *read_answer(const char *text, size_t length, struct etcd_said *said)
{
    json_t *answer = json_loadb(text, length, JSON_ALLOW_NUL, NULL);

    *said = (struct etcd_said){.meaning = ETCD_DONE};
    if (!json_is_object(answer)) {
        say(said, ETCD_NONSENSE, "not an answer of etcd's");
    } else if (!read_error(answer, said)) {
        read_header(answer, said);
        return answer;
    }
    json_decref(answer);
    return NULL;
}

/* ---- keys ---- */

/* The bytes, of which `*n`, with a zero byte behind them. What is left out is empty. NULL
 * = no base64, too long, or out of memory. */
static char *read_bytes(const json_t *object, const char *key, size_t *n)
{
    const json_t *value = json_object_get(object, key);
    const char *text = json_string_value(value);
    size_t length = json_string_length(value);
    char *bytes;

    *n = 0;
    if (length / 4 * 3 > STORE_VALUE_MAX_BYTES || (text == NULL && value != NULL))
        return NULL;
    bytes = memory_zeroed(length / 4 * 3 + 1);
    if (bytes != NULL && text != NULL &&
        !base64_read(text, length, (uint8_t *)bytes, length / 4 * 3, n)) {
        memory_free(bytes);
        return NULL;
    }
    if (bytes != NULL)
        bytes[*n] = '\0';
    return bytes;
}

/* A key as etcd has it, with `name` and `value` to be freed; false when it is none, or
 * memory is out. */
static bool read_key(const json_t *kv, struct store_key *key)
{
    *key = (struct store_key){.created_at = read_number(kv, "create_revision"),
                              .changed_at = read_number(kv, "mod_revision")};
    key->name = read_bytes(kv, "key", &key->name_length);
    key->value = read_bytes(kv, "value", &key->length);
    return key->name != NULL && key->value != NULL && key->changed_at > 0;
}

static void free_key(struct store_key *key)
{
    memory_free(key->name);
    memory_free(key->value);
}

/* The name without the prefix; false when it does not begin so. */
static bool take_prefix(const struct store_key *key, const char *prefix,
                        struct store_key *rest)
{
    size_t n = strlen(prefix);

    if (key->name_length <= n || memcmp(key->name, prefix, n) != 0)
        return false;
    *rest = *key;
    rest->name += n;
    rest->name_length -= n;
    return true;
}

enum change { CHANGE_NONE, CHANGE_DONE, CHANGE_FAILED };

static enum change apply(struct store_keys *keys, const json_t *kv, bool is_removed,
                         const char *prefix, int64_t *revision)
{
    enum change change = CHANGE_FAILED;
    struct store_key key, rest;

    if (read_key(kv, &key)) {
        change = CHANGE_NONE;
        if (take_prefix(&key, prefix, &rest)) {
            change = CHANGE_DONE;
            if (is_removed)
                store_keys_remove(keys, rest.name, rest.name_length);
            else if (!store_keys_put(keys, &rest))
                change = CHANGE_FAILED;
        }
        if (change != CHANGE_FAILED && key.changed_at > *revision)
            *revision = key.changed_at;
    }
    free_key(&key);
    return change;
}

/* ---- answers ---- */

void etcd_read_login(const char *body, size_t length, struct etcd_said *said,
                     char token[ETCD_TOKEN_MAX])
{
    json_t *answer = read_answer(body, length, said);
    const char *found;

    if (answer == NULL) {
        if (said->meaning == ETCD_TOKEN)
            said->meaning = ETCD_REFUSED;
        return;
    }
    found = json_string_value(json_object_get(answer, "token"));
    if (found == NULL || found[0] == '\0' || strlen(found) >= ETCD_TOKEN_MAX ||
        found[strcspn(found, "\r\n")] != '\0')
        say(said, ETCD_NONSENSE, "a login without a token");
    else
        snprintf(token, ETCD_TOKEN_MAX, "%s", found);
    json_decref(answer);
}

void etcd_read_range(const char *body, size_t length, const char *prefix,
                     struct etcd_said *said, struct store_keys *keys)
{
    json_t *answer = read_answer(body, length, said);
    const json_t *kvs;
    int64_t revision = 0;

    if (answer == NULL)
        return;
    kvs = json_object_get(answer, "kvs");
    if (said->revision == 0 || said->cluster_id[0] == '\0')
        say(said, ETCD_NONSENSE, "an answer without a revision");
    for (size_t i = 0; said->meaning == ETCD_DONE && i < json_array_size(kvs); i++)
        if (apply(keys, json_array_get(kvs, i), false, prefix, &revision) != CHANGE_DONE)
            say(said, ETCD_NONSENSE, "a key that makes no sense, or too many");
    if (said->meaning != ETCD_DONE)
        store_keys_clear(keys);
    json_decref(answer);
}

static void read_end_of_watch(const json_t *result, struct etcd_said *said)
{
    const char *words = json_string_value(json_object_get(result, "cancel_reason"));

    if (read_number(result, "compact_revision") > 0)
        say(said, ETCD_COMPACTED, "its revision was compacted");
    else if (words == NULL)
        say(said, ETCD_REFUSED, "the watch was cancelled");
    else
        say(said, meaning_of_error(-1, words), words);
}

static void apply_events(const json_t *events, const char *prefix, struct etcd_said *said,
                         struct store_keys *keys, int64_t *revision)
{
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *event = json_array_get(events, i);
        const char *type = json_string_value(json_object_get(event, "type"));
        bool is_removed = type != NULL && strcmp(type, "DELETE") == 0;

        switch (apply(keys, json_object_get(event, "kv"), is_removed, prefix, revision)) {
        case CHANGE_NONE:
            break;
        case CHANGE_DONE:
            said->has_changes = true;
            break;
        case CHANGE_FAILED:
            say(said, ETCD_NONSENSE, "a change that makes no sense, or too many keys");
            return;
        }
    }
}

void etcd_read_watch(const char *text, size_t length, const char *prefix,
                     struct etcd_said *said, struct store_keys *keys, int64_t *revision)
{
    json_t *answer = read_answer(text, length, said);
    const json_t *result;

    if (answer == NULL)
        return;
    result = json_object_get(answer, "result");
    read_header(result, said);
    if (!json_is_object(result))
        say(said, ETCD_NONSENSE, "not a message of a watch");
    else if (json_is_true(json_object_get(result, "canceled")))
        read_end_of_watch(result, said);
    else if (json_is_true(json_object_get(result, "created")))
        said->meaning = ETCD_CREATED;
    if (said->meaning == ETCD_DONE || said->meaning == ETCD_CREATED)
        apply_events(json_object_get(result, "events"), prefix, said, keys, revision);
    json_decref(answer);
}
