#include "health/patroni.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* Of a wrong type counts as not there, for all of these. */
static void read_text(const json_t *object, const char *key, char *to, size_t size)
{
    const char *text = json_string_value(json_object_get(object, key));

    if (text != NULL)
        sample_copy_text(to, size, text);
}

static bool read_flag(const json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

static uint64_t read_count(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));

    return value > 0 ? (uint64_t)value : 0;
}

/* Python's bool() of a tag, as Patroni takes it: "false" in quotes is true. */
static bool is_set_tag(const json_t *tag)
{
    if (json_is_string(tag))
        return json_string_length(tag) > 0;
    if (json_is_number(tag))
        return json_number_value(tag) != 0;
    return json_is_true(tag) || json_array_size(tag) > 0 || json_object_size(tag) > 0;
}

static enum node_role role_of(const char *word)
{
    if (strcmp(word, "master") == 0 || strcmp(word, "primary") == 0)
        return NODE_PRIMARY;
    if (strcmp(word, "replica") == 0)
        return NODE_REPLICA;
    if (strcmp(word, "standby_leader") == 0)
        return NODE_STANDBY_LEADER;
    return NODE_UNKNOWN;
}

/* Digits only, else it is no identifier. */
static void read_system_id(const json_t *body, char id[SYSTEM_ID_MAX])
{
    read_text(body, "database_system_identifier", id, SYSTEM_ID_MAX);
    if (id[strspn(id, "0123456789")] != '\0')
        id[0] = '\0';
}

static void read_locations(const json_t *body, struct sample *sample)
{
    const json_t *xlog = json_object_get(body, "xlog");

    sample->location = read_count(xlog, "location");
    sample->replayed = read_count(xlog, "replayed_location");
    sample->received = read_count(xlog, "received_location");
}

static void read_body(const json_t *body, struct sample *sample)
{
    const json_t *patroni = json_object_get(body, "patroni");
    char replication_state[SAMPLE_WORD_MAX] = "";
    uint64_t timeline = read_count(body, "timeline");

    read_text(body, "state", sample->state, sizeof sample->state);
    read_text(body, "role", sample->role_word, sizeof sample->role_word);
    sample->role = role_of(sample->role_word);
    sample->timeline = timeline <= UINT32_MAX ? (uint32_t)timeline : 0;
    read_locations(body, sample);
    read_system_id(body, sample->system_id);
    read_text(body, "replication_state", replication_state, sizeof replication_state);
    sample->is_streaming = strcmp(replication_state, "streaming") == 0;
    sample->is_noloadbalance =
        is_set_tag(json_object_get(json_object_get(body, "tags"), "noloadbalance"));
    sample->is_paused = read_flag(body, "pause");
    sample->is_unlocked = read_flag(body, "cluster_unlocked");
    sample->is_failsafe = read_flag(body, "failsafe_mode_is_active");
    sample->store_seen_s = read_count(body, "dcs_last_seen");
    read_text(patroni, "name", sample->name, sizeof sample->name);
    read_text(patroni, "scope", sample->scope, sizeof sample->scope);
}

/* A running server in recovery holds the lock for a moment before it is promoted: it is
 * a replica until then. A primary must show its timeline, which the fence needs. */
static bool makes_sense(const struct sample *sample)
{
    if (sample->state[0] == '\0' || sample->role_word[0] == '\0')
        return false;
    return strcmp(sample->state, "running") != 0 || sample->role != NODE_PRIMARY ||
           sample->timeline != 0;
}

static void describe(struct sample *sample)
{
    int n = snprintf(sample->said, sizeof sample->said, "%d %s %s", sample->http_status,
                     sample->state, sample->role_word);

    if (sample->timeline != 0)
        n += snprintf(sample->said + n, sizeof sample->said - (size_t)n, " timeline %u",
                      sample->timeline);
    snprintf(sample->said + n, sizeof sample->said - (size_t)n, "%s%s%s%s",
             sample->is_noloadbalance ? ", noloadbalance" : "",
             sample->is_paused ? ", paused" : "",
             sample->is_unlocked ? ", nobody holds the lock" : "",
             sample->is_failsafe ? ", failsafe" : "");
}

void patroni_read(int http_status, const char *body, size_t length, struct sample *sample)
{
    json_t *json = NULL;

    *sample = (struct sample){.outcome = SAMPLE_WRONG, .http_status = http_status};
    if (http_status == 200 || http_status == 503)
        json = json_loadb(body, length, 0, NULL);
    if (json_is_object(json))
        read_body(json, sample);
    json_decref(json);

    if (!makes_sense(sample)) {
        *sample = (struct sample){.outcome = SAMPLE_WRONG, .http_status = http_status};
        snprintf(sample->said, sizeof sample->said,
                 "HTTP status %d, not an answer of Patroni's", http_status);
        return;
    }
    sample->source = SOURCE_PATRONI;
    sample->holds_lock = http_status == 200;
    if (strcmp(sample->state, "running") == 0 && sample->role != NODE_UNKNOWN)
        sample->outcome = SAMPLE_OK;
    describe(sample);
}
