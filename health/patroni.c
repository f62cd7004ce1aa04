#include "health/patroni.h"

#include <stdio.h>
#include <string.h>

#include "health/patroni_json.h"

/* Digits only, else it is no identifier. */
static void read_system_id(const json_t *body, char id[SYSTEM_ID_MAX])
{
    patroni_json_text(body, "database_system_identifier", id, SYSTEM_ID_MAX);
    if (id[strspn(id, "0123456789")] != '\0')
        id[0] = '\0';
}

static void read_locations(const json_t *body, struct sample *sample)
{
    const json_t *xlog = json_object_get(body, "xlog");

    sample->location = patroni_json_count(xlog, "location");
    sample->replayed = patroni_json_count(xlog, "replayed_location");
    sample->received = patroni_json_count(xlog, "received_location");
}

static void read_body(const json_t *body, struct sample *sample)
{
    const json_t *patroni = json_object_get(body, "patroni");
    char replication_state[SAMPLE_WORD_MAX] = "";
    uint64_t timeline = patroni_json_count(body, "timeline");

    patroni_json_text(body, "state", sample->state, sizeof sample->state);
    patroni_json_text(body, "role", sample->role_word, sizeof sample->role_word);
    sample->role = patroni_role(sample->role_word);
    sample->timeline = timeline <= UINT32_MAX ? (uint32_t)timeline : 0;
    read_locations(body, sample);
    read_system_id(body, sample->system_id);
    patroni_json_text(body, "replication_state", replication_state,
                      sizeof replication_state);
    sample->is_streaming = strcmp(replication_state, "streaming") == 0;
    sample->is_noloadbalance = patroni_json_is_set(
        json_object_get(json_object_get(body, "tags"), "noloadbalance"));
    sample->is_paused = json_is_true(json_object_get(body, "pause"));
    sample->is_unlocked = json_is_true(json_object_get(body, "cluster_unlocked"));
    sample->is_failsafe = json_is_true(json_object_get(body, "failsafe_mode_is_active"));
    sample->store_seen_s = patroni_json_count(body, "dcs_last_seen");
    patroni_json_text(patroni, "name", sample->name, sizeof sample->name);
    patroni_json_text(patroni, "scope", sample->scope, sizeof sample->scope);
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
