#include "health/patroni_keys.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/memory.h"
#include "health/patroni_json.h"

static const char members_folder[] = "members/";

/* ---- where they are ---- */

static void add_path(struct text *prefix, const char *path)
{
    while (*(path += strspn(path, "/")) != '\0') {
        size_t length = strcspn(path, "/");

        text_add_n(prefix, path, length);
        text_add(prefix, "/");
        path += length;
    }
}

void patroni_keys_prefix(struct text *prefix, const char *namespace, const char *scope)
{
    text_add(prefix, "/");
    add_path(prefix, namespace);
    add_path(prefix, scope);
}

/* ---- times ---- */

/* `n` digits, no less; moves behind them. -1 = something else is there. */
static int take_digits(const char **at, int n)
{
    int number = 0;

    for (int i = 0; i < n; i++, (*at)++) {
        if (**at < '0' || **at > '9')
            return -1;
        number = number * 10 + (**at - '0');
    }
    return number;
}

/* Days since 1970, of the Gregorian calendar. */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = year - (month <= 2);
    int64_t era = y / 400, year_of_era = y % 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;

    return era * 146097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 +
           day_of_year - 719468;
}

static bool take_date(const char **at, int64_t *ms)
{
    int year = take_digits(at, 4), month, day;

    if (year < 0 || *(*at)++ != '-')
        return false;
    month = take_digits(at, 2);
    if (month < 1 || month > 12 || *(*at)++ != '-')
        return false;
    day = take_digits(at, 2);
    *ms = days_of(year, month, day) * 86400000;
    return day >= 1 && day <= 31;
}

/* The digits behind the point, of which three count. */
static int take_fraction(const char **at)
{
    int ms = 0, weight = 100;

    for ((*at)++; **at >= '0' && **at <= '9'; (*at)++, weight /= 10)
        ms += (**at - '0') * weight;
    return ms;
}

static bool take_clock(const char **at, int64_t *ms)
{
    int hour = take_digits(at, 2), minute, second = 0, fraction = 0;

    if (hour < 0 || hour > 23 || *(*at)++ != ':')
        return false;
    minute = take_digits(at, 2);
    if (minute < 0 || minute > 59)
        return false;
    if (**at == ':') {
        (*at)++;
        second = take_digits(at, 2);
        if (second < 0 || second > 60)
            return false;
        if (**at == '.')
            fraction = take_fraction(at);
    }
    *ms += ((int64_t)hour * 60 + minute) * 60000 + second * 1000 + fraction;
    return true;
}

/* "Z", "+02:00", "-0530", "+02". */
static bool take_zone(const char **at, int64_t *ms)
{
    int sign, hours, minutes = 0;

    if (**at == 'Z' || **at == 'z') {
        (*at)++;
        return true;
    }
    if (**at != '+' && **at != '-')
        return false;
    sign = *(*at)++ == '+' ? 1 : -1;
    hours = take_digits(at, 2);
    if (**at != '\0') {
        *at += **at == ':';
        minutes = take_digits(at, 2);
    }
    *ms -= (int64_t)sign * (hours * 60 + minutes) * 60000;
    return hours >= 0 && hours < 24 && minutes >= 0 && minutes < 60;
}

bool patroni_keys_time(const char *text, int64_t *ms)
{
    const char *at = text;
    int64_t found = 0;

    if (!take_date(&at, &found) || (*at != 'T' && *at != ' '))
        return false;
    at++;
    if (!take_clock(&at, &found))
        return false;
    at += strspn(at, " ");
    if (!take_zone(&at, &found) || *at != '\0' || found <= 0)
        return false;
    *ms = found;
    return true;
}

/* ---- values ---- */

/* The object that a key holds; NULL = no key, or no object. */
static json_t *load(const struct store_keys *keys, const char *name)
{
    const struct store_key *key = store_keys_find(keys, name);
    json_t *json = key == NULL ? NULL : json_loadb(key->value, key->length, 0, NULL);

    if (json_is_object(json))
        return json;
    json_decref(json);
    return NULL;
}

/* Seconds in whole, at least one and at most a day. */
static uint64_t read_seconds(const json_t *config, const char *name,
                             uint64_t otherwise_ms)
{
    uint64_t seconds = patroni_json_count(config, name);

    if (seconds == 0)
        return otherwise_ms;
    return (seconds < 86400 ? seconds : 86400) * 1000;
}

static void read_config(const struct store_keys *keys, struct store_view *view)
{
    json_t *config = load(keys, "config");

    view->is_paused = patroni_json_is_on(json_object_get(config, "pause"));
    view->loop_wait_ms = read_seconds(config, "loop_wait", 10000);
    view->ttl_ms = read_seconds(config, "ttl", 30000);
    json_decref(config);
}

static void read_leader(const struct store_keys *keys, struct store_view *view)
{
    const struct store_key *key = store_keys_find(keys, "leader");

    if (key == NULL || key->length == 0)
        return;
    sample_copy_text(view->leader, sizeof view->leader, key->value);
    view->leader_created_at = key->created_at;
    view->leader_changed_at = key->changed_at;
}

static void read_system_id(const struct store_keys *keys, struct store_view *view)
{
    const struct store_key *key = store_keys_find(keys, "initialize");

    if (key != NULL && key->length < sizeof view->system_id &&
        strspn(key->value, "0123456789") == key->length)
        sample_copy_text(view->system_id, sizeof view->system_id, key->value);
}

/* The location in status, or, up to Patroni 2.0, in a key of its own. */
static void read_leader_location(const struct store_keys *keys, struct store_view *view)
{
    const struct store_key *key = store_keys_find(keys, "optime/leader");
    json_t *status = load(keys, "status");

    if (status != NULL)
        view->leader_location = patroni_json_count(status, "optime");
    else if (key != NULL && key->length > 0 && key->length < 20 &&
             strspn(key->value, "0123456789") == key->length)
        view->leader_location = strtoull(key->value, NULL, 10);
    json_decref(status);
}

/* ---- a request ---- */

/* "leader:candidate", the form of old, which is no JSON. */
static void read_old_request(const struct store_key *key, struct store_request *request)
{
    char value[2 * NODE_NAME_MAX], *candidate;

    sample_copy_text(value, sizeof value, key->value);
    candidate = strchr(value, ':');
    if (candidate != NULL) {
        *candidate++ = '\0';
        candidate[strcspn(candidate, ":")] = '\0';
        sample_copy_text(request->to, sizeof request->to, candidate);
    }
    sample_copy_text(request->from, sizeof request->from, value);
}

/* False when it is for a time that makes no sense, which Patroni throws away. */
static bool read_request_values(const struct store_key *key,
                                struct store_request *request)
{
    json_t *json =
        json_loadb(key->value, key->length, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    const json_t *at = json_object_get(json, "scheduled_at");
    bool makes_sense = true;

    if (json == NULL)
        read_old_request(key, request);
    patroni_json_text(json, "leader", request->from, sizeof request->from);
    patroni_json_text(json, "member", request->to, sizeof request->to);
    if (patroni_json_is_set(at))
        makes_sense = json_is_string(at) &&
                      patroni_keys_time(json_string_value(at), &request->due_ms);
    json_decref(json);
    return makes_sense;
}

/* ---- members ---- */

/* The port behind a colon; `otherwise` when there is no colon, 0 = it is none. */
static uint16_t read_port(const char *text, size_t length, uint16_t otherwise)
{
    unsigned long port = 0;

    if (length == 0)
        return otherwise;
    if (text[0] != ':' || length < 2 || length > 6)
        return 0;
    for (size_t i = 1; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return 0;
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    return port <= UINT16_MAX ? (uint16_t)port : 0;
}

static bool is_host(const char *host, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (host[i] <= ' ' || host[i] > '~' || strchr("\"\\/?#@[]%,", host[i]) != NULL)
            return false;
    return length > 0 && length < NODE_HOST_MAX;
}

/* Host and port of "scheme://user@host:port/path". False when there is no host. */
static bool read_url(const char *url, uint16_t port_otherwise, char *host, uint16_t *port)
{
    const char *begin = url == NULL ? NULL : strstr(url, "://"), *at;
    size_t n_host, n_authority;

    if (begin == NULL)
        return false;
    begin += 3;
    n_authority = strcspn(begin, "/?#");
    for (at = begin; at < begin + n_authority; at++)
        if (*at == '@') {
            n_authority -= (size_t)(at + 1 - begin);
            begin = at + 1;
        }
    if (*begin == '[') {
        begin++;
        n_authority--;
        n_host = strcspn(begin, "]");
        if (n_host >= n_authority || !is_host(begin, n_host))
            return false;
        *port = read_port(begin + n_host + 1, n_authority - n_host - 1, port_otherwise);
    } else {
        n_host = strcspn(begin, ":");
        n_host = n_host < n_authority ? n_host : n_authority;
        if (!is_host(begin, n_host))
            return false;
        *port = read_port(begin + n_host, n_authority - n_host, port_otherwise);
    }
    if (host != NULL) {
        memcpy(host, begin, n_host);
        host[n_host] = '\0';
    }
    return *port != 0;
}

/* conn_url, or what it is made of where there is none: Member.conn_url(). */
static void read_address(const json_t *json, struct store_member *member)
{
    const json_t *parts = json_object_get(json, "conn_kwargs");
    const char *url = json_string_value(json_object_get(json, "conn_url"));
    const char *host = json_string_value(json_object_get(parts, "host"));
    uint64_t port = patroni_json_count(parts, "port");

    if (url != NULL) {
        if (!read_url(url, 5432, member->host, &member->port))
            member->host[0] = '\0';
    } else if (host != NULL && is_host(host, strlen(host)) && port <= UINT16_MAX) {
        sample_copy_text(member->host, sizeof member->host, host);
        member->port = port == 0 ? 5432 : (uint16_t)port;
    }
    if (!read_url(json_string_value(json_object_get(json, "api_url")), 8008, NULL,
                  &member->rest_port))
        member->rest_port = 0;
}

static void read_member_value(const json_t *json, struct store_member *member)
{
    const json_t *tags = json_object_get(json, "tags");
    uint64_t timeline = patroni_json_count(json, "timeline");
    char word[SAMPLE_WORD_MAX] = "";

    patroni_json_text(json, "state", member->state, sizeof member->state);
    patroni_json_text(json, "role", word, sizeof word);
    if (strcmp(member->state, "running") == 0 || strcmp(member->state, "streaming") == 0)
        member->role = patroni_role(word);
    word[0] = '\0';
    patroni_json_text(json, "replication_state", word, sizeof word);
    member->says_streaming = word[0] != '\0';
    member->is_streaming = strcmp(word, "streaming") == 0;
    member->timeline = timeline <= UINT32_MAX ? (uint32_t)timeline : 0;
    member->location = patroni_json_count(json, "xlog_location");
    member->is_noloadbalance =
        patroni_json_is_set(json_object_get(tags, "noloadbalance"));
    member->is_nofailover = patroni_json_is_set(json_object_get(tags, "nofailover"));
    read_address(json, member);
}

/* "members/NAME"; the name NULL for all other keys. */
static const char *member_name(const struct store_key *key)
{
    size_t n = strlen(members_folder);

    if (strncmp(key->name, members_folder, n) != 0 || key->name[n] == '\0' ||
        strchr(key->name + n, '/') != NULL || strlen(key->name) != key->name_length)
        return NULL;
    return key->name + n;
}

static int compare_members(const void *a, const void *b)
{
    return strcmp(((const struct store_member *)a)->name,
                  ((const struct store_member *)b)->name);
}

static bool read_members(const struct store_keys *keys, struct store_view *view)
{
    view->members = memory_zeroed(keys->n * sizeof *view->members + 1);
    if (view->members == NULL)
        return false;
    for (size_t i = 0; i < keys->n; i++) {
        const char *name = member_name(&keys->items[i]);
        struct store_member *member = &view->members[view->n_members];
        json_t *json;

        if (name == NULL)
            continue;
        json = json_loadb(keys->items[i].value, keys->items[i].length, 0, NULL);
        sample_copy_text(member->name, sizeof member->name, name);
        member->changed_at = keys->items[i].changed_at;
        read_member_value(json, member);
        json_decref(json);
        view->n_members++;
    }
    qsort(view->members, view->n_members, sizeof *view->members, compare_members);
    return true;
}

/* ---- what becomes of a request ---- */

/* Of "a,b, c" in sync_standby. */
static bool names(const char *list, const char *name)
{
    size_t length = strlen(name);

    for (; list != NULL && *list != '\0'; list += strspn(list, ", ")) {
        size_t n = strcspn(list, ", ");

        if (n == length && memcmp(list, name, n) == 0)
            return true;
        list += n;
    }
    return false;
}

/* The synchronous standbys, of which one is to follow; NULL where it may be any. */
static json_t *load_synchronous(const struct store_keys *keys)
{
    json_t *config = load(keys, "config");
    bool is_on = patroni_json_is_on(json_object_get(config, "synchronous_mode"));
    json_t *sync = is_on ? load(keys, "sync") : NULL;

    json_decref(config);
    if (is_on && sync == NULL)
        sync = json_object();
    return sync;
}

/* Is anybody there whom Patroni would give the lock to? Where it finds nobody it clears
 * the request. That it may refuse for other reasons, such as a lag, is not known here. */
static bool has_candidate(const struct store_keys *keys, const struct store_view *view,
                          const struct store_request *request)
{
    json_t *sync = load_synchronous(keys);
    const char *standbys = json_string_value(json_object_get(sync, "sync_standby"));
    bool found = false;

    for (size_t i = 0; i < view->n_members; i++) {
        const struct store_member *member = &view->members[i];

        if (strcmp(member->name, view->leader) == 0 || member->is_nofailover ||
            (request->to[0] != '\0' && strcmp(member->name, request->to) != 0))
            continue;
        found = found || sync == NULL || names(standbys, member->name);
    }
    json_decref(sync);
    return found;
}

/* The value says what is asked for, whatever the event was: `{}`, empty or deleted is
 * nothing, and Patroni clears it by writing `{}`. What Patroni is going to refuse is not
 * asked for: a leader that is not the leader (any more), a switchover to who is the
 * leader (already). In pause it needs a candidate, and never runs a scheduled one. While
 * nobody holds the lock, a request goes on. */
static void read_request(const struct store_keys *keys, struct store_view *view)
{
    const struct store_key *key = store_keys_find(keys, "failover");
    struct store_request request = {0};
    bool has_leader = view->leader[0] != '\0';

    if (key == NULL || key->length == 0 || !read_request_values(key, &request))
        return;
    if (request.from[0] == '\0' && request.to[0] == '\0')
        return;
    if (has_leader && request.from[0] != '\0' && strcmp(request.from, view->leader) != 0)
        return;
    if (has_leader && strcmp(request.to, view->leader) == 0)
        return;
    if (view->is_paused && (request.to[0] == '\0' || request.due_ms != 0))
        return;
    if (has_leader && !has_candidate(keys, view, &request))
        return;
    request.is_there = true;
    request.changed_at = key->changed_at;
    view->request = request;
}

/* ---- all of it ---- */

bool patroni_keys_read(const struct store_keys *keys, struct store_view *view)
{
    view->has_keys = keys->n > 0;
    read_config(keys, view);
    read_leader(keys, view);
    read_system_id(keys, view);
    read_leader_location(keys, view);
    if (!read_members(keys, view)) {
        store_view_clear(view);
        return false;
    }
    read_request(keys, view);
    return true;
}

bool store_view_copy(struct store_view *to, const struct store_view *from)
{
    struct store_member *members =
        memory_zeroed(from->n_members * sizeof *from->members + 1);

    if (members == NULL)
        return false;
    if (from->n_members > 0)
        memcpy(members, from->members, from->n_members * sizeof *from->members);
    *to = *from;
    to->members = members;
    return true;
}

void store_view_clear(struct store_view *view)
{
    memory_free(view->members);
    *view = (struct store_view){0};
}

const struct store_member *store_view_member(const struct store_view *view,
                                             const char *name)
{
    for (size_t i = 0; i < view->n_members; i++)
        if (strcmp(view->members[i].name, name) == 0)
            return &view->members[i];
    return NULL;
}

/* ---- a member as a sample ---- */

void store_view_lock(const struct store_view *view, const struct store_member *member,
                     struct sample *sample)
{
    sample->knows_lock = true;
    sample->holds_lock = strcmp(view->leader, member->name) == 0;
    sample->is_unlocked = view->leader[0] == '\0';
    sample->is_paused = view->is_paused;
    sample->is_noloadbalance = member->is_noloadbalance;
}

/* Up to 3.x a key does not say whether its member streams: one that does is on the
 * leader's timeline. */
static bool is_streaming(const struct store_view *view, const struct store_member *member)
{
    const struct store_member *leader = store_view_member(view, view->leader);

    if (member->says_streaming)
        return member->is_streaming;
    return member->timeline != 0 &&
           (leader == NULL || leader->timeline == member->timeline);
}

void store_view_sample(const struct store_view *view, const struct store_member *member,
                       struct sample *sample)
{
    bool is_known = member->role != NODE_UNKNOWN &&
                    (member->role != NODE_PRIMARY || member->timeline != 0);
    bool is_primary = member->role == NODE_PRIMARY;

    *sample = (struct sample){.source = SOURCE_ETCD,
                              .outcome = is_known ? SAMPLE_OK : SAMPLE_WRONG,
                              .role = member->role,
                              .timeline = member->timeline,
                              .location = is_primary ? member->location : 0,
                              .received = is_primary ? 0 : member->location,
                              .replayed = is_primary ? 0 : member->location,
                              .is_streaming = is_streaming(view, member)};
    store_view_lock(view, member, sample);
    memcpy(sample->state, member->state, sizeof sample->state);
    memcpy(sample->name, member->name, sizeof sample->name);
    memcpy(sample->system_id, view->system_id, sizeof sample->system_id);
    sample_copy_text(sample->role_word, sizeof sample->role_word,
                     node_role_name(member->role));
    snprintf(sample->said, sizeof sample->said, "etcd: %s %s timeline %u%s%s%s",
             member->state, sample->role_word, member->timeline,
             sample->holds_lock ? ", holds the lock" : "",
             sample->is_noloadbalance ? ", noloadbalance" : "",
             sample->is_paused ? ", paused" : "");
}
