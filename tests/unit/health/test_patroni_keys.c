#include "health/patroni_keys.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "core/memory.h"

static struct store_keys keys;
static struct store_view view;

static void forget(void)
{
    store_view_clear(&view);
    store_keys_clear(&keys);
}

TestSuite(patroni_keys, .fini = forget, .timeout = 10);

static int64_t revision = 10;

static void put(const char *name, const char *value)
{
    const struct store_key key = {.name = (char *)name,
                                  .value = (char *)value,
                                  .name_length = strlen(name),
                                  .length = strlen(value),
                                  .created_at = 3,
                                  .changed_at = ++revision};

    cr_assert(store_keys_put(&keys, &key));
}

static void read(void)
{
    store_view_clear(&view);
    cr_assert(patroni_keys_read(&keys, &view));
}

/* What Patroni 3.0.2 had written for a cluster of three; the third was starting anew.
 * Most of its parameters are left out. */
static void put_real_cluster(void)
{
    put("initialize", "7711062157792796378");
    put("config",
        "{\"ttl\":20,\"loop_wait\":1,\"retry_timeout\":5,\"maximum_lag_on_failover\":"
        "16777216,\"postgresql\":{\"use_pg_rewind\":true,\"use_slots\":true,"
        "\"parameters\":"
        "{\"max_connections\":300}}}");
    put("leader", "pg1");
    put("status", "{\"optime\":88286808}");
    put("history", "[]");
    put("members/pg2",
        "{\"conn_url\":\"postgres://198.18.99.2:5432/postgres\",\"api_url\":"
        "\"http://198.18.99.2:8008/patroni\",\"state\":\"running\",\"role\":\"replica\","
        "\"version\":\"3.0.2\",\"xlog_location\":88286808,\"timeline\":1}");
    put("members/pg1",
        "{\"conn_url\":\"postgres://198.18.99.1:5432/postgres\",\"api_url\":"
        "\"http://198.18.99.1:8008/patroni\",\"state\":\"running\",\"role\":\"master\","
        "\"version\":\"3.0.2\",\"xlog_location\":88286808,\"timeline\":1}");
    put("members/pg3",
        "{\"conn_url\":\"postgres://198.18.99.3:5432/postgres\",\"api_url\":"
        "\"http://198.18.99.3:8008/patroni\",\"state\":\"starting\",\"role\":\"replica\","
        "\"version\":\"3.0.2\",\"tags\":{\"noloadbalance\":true}}");
}

Test(patroni_keys, where_they_are)
{
    static const struct {
        const char *namespace, *scope, *prefix;
    } paths[] = {{"service", "main", "/service/main/"},
                 {"/service/", "main", "/service/main/"},
                 {"//a//b/", "/c/", "/a/b/c/"},
                 {"", "main", "/main/"},
                 {"/", "main", "/main/"}};

    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        struct text prefix;

        text_init(&prefix, 100);
        patroni_keys_prefix(&prefix, paths[i].namespace, paths[i].scope);
        cr_expect_str_eq(text_get(&prefix), paths[i].prefix);
        text_clear(&prefix);
    }
}

Test(patroni_keys, reads_a_real_cluster)
{
    const struct store_member *member;

    put_real_cluster();
    read();
    cr_expect(view.has_keys);
    cr_expect_str_eq(view.leader, "pg1");
    cr_expect_eq(view.leader_created_at, 3);
    cr_expect_eq(view.leader_changed_at, 13);
    cr_expect_str_eq(view.system_id, "7711062157792796378");
    cr_expect_eq(view.leader_location, 88286808);
    cr_expect_eq(view.loop_wait_ms, 1000);
    cr_expect_eq(view.ttl_ms, 20000);
    cr_expect_not(view.is_paused);
    cr_expect_not(view.request.is_there);
    cr_assert_eq(view.n_members, 3);
    cr_assert_not_null(view.members);
    member = &view.members[0];
    cr_expect_str_eq(member->name, "pg1");
    cr_expect_str_eq(member->host, "198.18.99.1");
    cr_expect_eq(member->port, 5432);
    cr_expect_eq(member->rest_port, 8008);
    cr_expect_eq(member->role, NODE_PRIMARY);
    cr_expect_str_eq(member->state, "running");
    cr_expect_eq(member->timeline, 1);
    cr_expect_eq(member->location, 88286808);
    cr_expect_not(member->is_noloadbalance);
    cr_expect_eq(view.members[1].role, NODE_REPLICA);
    member = store_view_member(&view, "pg3");
    cr_expect_eq(member, &view.members[2]);
    cr_expect_eq(member->role, NODE_UNKNOWN, "it does not run");
    cr_expect(member->is_noloadbalance);
    cr_expect_not(member->is_nofailover);
    cr_expect_null(store_view_member(&view, "pg4"));
}

Test(patroni_keys, reads_nothing_at_all)
{
    read();
    cr_expect_not(view.has_keys);
    cr_expect_str_eq(view.leader, "");
    cr_expect_eq(view.leader_changed_at, 0);
    cr_expect_eq(view.loop_wait_ms, 10000);
    cr_expect_eq(view.ttl_ms, 30000);
    cr_expect_eq(view.n_members, 0);
}

/* ---- requests ---- */

/* The value of the failover key, of a cluster led by pg1. */
static bool is_asked(const char *value)
{
    put("leader", "pg1");
    put("members/pg1", "{}");
    put("members/pg2", "{}");
    put("members/pg3", "{\"tags\":{\"nofailover\":true}}");
    put("failover", value);
    read();
    return view.request.is_there;
}

Test(patroni_keys, the_value_says_what_is_asked_for)
{
    static const struct {
        const char *value, *from, *to;
    } requests[] = {
        {"{\"leader\":\"pg1\",\"member\":\"pg2\"}", "pg1", "pg2"},
        {"{\"leader\":\"pg1\"}", "pg1", ""},
        {"{\"member\":\"pg2\"}", "", "pg2"},
        {"pg1:pg2", "pg1", "pg2"},
        {"pg1", "pg1", ""},
        {":pg2", "", "pg2"},
        {"pg1:", "pg1", ""},
    };

    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        cr_expect(is_asked(requests[i].value), "%s", requests[i].value);
        cr_expect_str_eq(view.request.from, requests[i].from);
        cr_expect_str_eq(view.request.to, requests[i].to);
        cr_expect_eq(view.request.due_ms, 0);
        cr_expect_eq(view.request.changed_at, revision);
    }
}

Test(patroni_keys, nothing_is_asked_for)
{
    static const char *const values[] = {
        "{}",
        "",
        "null",
        "[]",
        "[\"pg1\"]",
        "1",
        "\"pg1\"",
        ":",
        "{\"leader\":\"\",\"member\":\"\"}",
        "{\"leader\":null}",
        "{\"leader\":1}",
        /* Patroni refuses these */
        "{\"leader\":\"pg2\"}",
        "{\"leader\":\"pg2\",\"member\":\"pg3\"}",
        "{\"member\":\"pg1\"}",
        "{\"leader\":\"pg1\",\"member\":\"pg1\"}",
        "{\"leader\":\"pg1\",\"member\":\"pg3\"}",
        "{\"leader\":\"pg1\",\"member\":\"pg4\"}",
        "{\"scheduled_at\":\"2026-11-22T12:00:00+00:00\"}",
        "{\"leader\":\"pg1\",\"scheduled_at\":\"soon\"}",
        "{\"leader\":\"pg1\",\"scheduled_at\":\"2026-11-22T12:00:00\"}",
        "{\"leader\":\"pg1\",\"scheduled_at\":17}",
    };

    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        cr_expect_not(is_asked(values[i]), "%s", values[i]);
    cr_expect(is_asked("{\"leader\":\"pg1\",\"scheduled_at\":\"\"}"), "as if not there");
}

Test(patroni_keys, somebody_must_be_there_to_take_over)
{
    static const char any[] = "{\"leader\":\"pg1\"}";

    cr_expect(is_asked(any));
    put("config", "{\"synchronous_mode\":true}");
    cr_expect_not(is_asked(any), "no synchronous standby");
    put("sync", "{\"leader\":\"pg1\",\"sync_standby\":\"pg3, pg22\"}");
    cr_expect_not(is_asked(any));
    put("sync", "{\"leader\":\"pg1\",\"sync_standby\":\"pg22,pg2\"}");
    cr_expect(is_asked(any));
    put("config", "{}");
    store_keys_remove(&keys, "members/pg2", 11);
    put("failover", any);
    read();
    cr_expect_not(view.request.is_there, "only pg3, who may not");
    store_keys_remove(&keys, "leader", 6);
    read();
    cr_expect(view.request.is_there, "it is under way");
}

Test(patroni_keys, a_request_goes_on_while_nobody_holds_the_lock)
{
    cr_expect(is_asked("{\"leader\":\"pg1\",\"member\":\"pg2\"}"));
    store_keys_remove(&keys, "leader", 6);
    read();
    cr_expect(view.request.is_there);
    put("leader", "pg2");
    read();
    cr_expect_not(view.request.is_there, "it is done");
}

Test(patroni_keys, in_pause_a_candidate_is_needed)
{
    put("config", "{\"pause\":true}");
    cr_expect_not(is_asked("{\"leader\":\"pg1\"}"));
    cr_expect(view.is_paused);
    cr_expect(is_asked("{\"leader\":\"pg1\",\"member\":\"pg2\"}"));
    cr_expect_not(is_asked("{\"leader\":\"pg1\",\"member\":\"pg2\",\"scheduled_at\":"
                           "\"2026-11-22T12:00:00+00:00\"}"));
}

Test(patroni_keys, pause_is_what_patroni_takes_for_it)
{
    static const char *const on[] = {"true",     "1",       "\"on\"",
                                     "\"True\"", "\"yes\"", "\"1\""};
    static const char *const off[] = {"false", "0",  "null", "2",     "\"off\"",
                                      "\"\"",  "[]", "{}",   "\"x\"", "[1]"};
    char config[64];

    for (size_t i = 0; i < sizeof on / sizeof *on; i++) {
        snprintf(config, sizeof config, "{\"pause\":%s}", on[i]);
        put("config", config);
        read();
        cr_expect(view.is_paused, "%s", config);
    }
    for (size_t i = 0; i < sizeof off / sizeof *off; i++) {
        snprintf(config, sizeof config, "{\"pause\":%s}", off[i]);
        put("config", config);
        read();
        cr_expect_not(view.is_paused, "%s", config);
    }
}

Test(patroni_keys, times)
{
    static const struct {
        const char *text;
        int64_t ms;
    } times[] = {
        {"2026-11-22T12:00:00+00:00", INT64_C(1795348800000)},
        {"2026-11-22T12:00:00Z", INT64_C(1795348800000)},
        {"2026-11-22 13:30:00+01:30", INT64_C(1795348800000)},
        {"2026-11-22T12:00:00.123456+00:00", INT64_C(1795348800123)},
        {"2026-11-22T12:00:00.5Z", INT64_C(1795348800500)},
        {"2026-11-22T04:00-0800", INT64_C(1795348800000)},
        {"2016-01-14T10:09:57.1394Z", INT64_C(1452766197139)},
        {"2024-02-29T23:59:59Z", INT64_C(1709251199000)},
        {"2000-03-01T00:00:00+00", INT64_C(951868800000)},
    };
    static const char *const wrong[] = {
        "",
        "now",
        "2026-11-22",
        "2026-11-22T12:00:00",
        "2026-13-22T12:00:00Z",
        "2026-11-32T12:00:00Z",
        "2026-11-22T24:00:00Z",
        "2026-11-22T12:60:00Z",
        "2026-11-22T12:00:00Zebra",
        "2026-11-22T12:00:00+",
        "2026-11-22T12:00:00+1",
        "2026-11-22T12:00:00+01:",
        "26-11-22T12:00:00Z",
        "2026-11-22T12:00:00+01:99",
        "0001-01-01T00:00:00Z",
    };

    for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
        int64_t ms = 0;

        cr_expect(patroni_keys_time(times[i].text, &ms), "%s", times[i].text);
        cr_expect_eq(ms, times[i].ms, "%s: %lld", times[i].text, (long long)ms);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        int64_t ms = 7;

        cr_expect_not(patroni_keys_time(wrong[i], &ms), "%s", wrong[i]);
        cr_expect_eq(ms, 7);
    }
}

Test(patroni_keys, a_scheduled_request_has_its_time)
{
    cr_expect(
        is_asked("{\"leader\":\"pg1\",\"scheduled_at\":\"2026-11-22T12:00:00+00:00\"}"));
    cr_expect_eq(view.request.due_ms, INT64_C(1795348800000));
}

/* ---- members ---- */

static const struct store_member *read_member(const char *value)
{
    put("members/pg1", value);
    read();
    cr_assert_eq(view.n_members, 1);
    return &view.members[0];
}

Test(patroni_keys, addresses_of_members)
{
    static const struct {
        const char *value, *host;
        uint16_t port;
    } members[] = {
        {"{\"conn_url\":\"postgres://h:1/postgres\"}", "h", 1},
        {"{\"conn_url\":\"postgresql://u:p@h.example:65535\"}", "h.example", 65535},
        {"{\"conn_url\":\"postgres://u:p@x@[fd00::1]:5433/db\"}", "fd00::1", 5433},
        {"{\"conn_url\":\"postgres://[::1]/db\"}", "::1", 5432},
        {"{\"conn_url\":\"postgres://h?x=@y:1\"}", "h", 5432},
        {"{\"conn_kwargs\":{\"host\":\"h\",\"port\":5434}}", "h", 5434},
        {"{\"conn_kwargs\":{\"host\":\"h\"}}", "h", 5432},
        {"{\"conn_url\":\"postgres://h:0/\"}", "", 0},
        {"{\"conn_url\":\"postgres://h:65536/\"}", "", 0},
        {"{\"conn_url\":\"postgres://h:5x/\"}", "", 0},
        {"{\"conn_url\":\"postgres://[::1/\"}", "", 0},
        {"{\"conn_url\":\"postgres:///postgres\"}", "", 0},
        {"{\"conn_url\":\"postgres://a,b:1/\"}", "", 0},
        {"{\"conn_url\":\"h:5432\"}", "", 0},
        {"{\"conn_url\":7}", "", 0},
        {"{", "", 0},
        {"", "", 0},
    };

    for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
        const struct store_member *member = read_member(members[i].value);

        cr_assert_not_null(member);
        cr_expect_str_eq(member->host, members[i].host, "%s", members[i].value);
        if (members[i].port != 0)
            cr_expect_eq(member->port, members[i].port, "%s", members[i].value);
    }
    cr_expect_eq(read_member("{\"api_url\":\"https://h:8443/patroni\"}")->rest_port,
                 8443);
    cr_expect_eq(read_member("{\"api_url\":\"nonsense\"}")->rest_port, 0);
}

Test(patroni_keys, only_members_are_members)
{
    put("members/", "{}");
    put("members/a/b", "{}");
    put("member/c", "{}");
    put("members", "{}");
    read();
    cr_expect_eq(view.n_members, 0);
}

Test(patroni_keys, texts_are_cut_and_printable)
{
    put("leader",
        "a name that is much longer than any name of a node could ever be in here\n");
    put("members/\x01\xff", "{\"state\":\"\\u0001\\u00e9\"}");
    read();
    cr_expect_eq(strlen(view.leader), NODE_NAME_MAX - 1);
    cr_expect_str_eq(view.members[0].name, "?"
                                           "?");
    cr_expect_str_eq(view.members[0].state, "?"
                                            "?"
                                            "?");
}

/* ---- samples ---- */

static struct sample sample_of(const char *name)
{
    struct sample sample;

    cr_assert_not_null(store_view_member(&view, name));
    store_view_sample(&view, store_view_member(&view, name), &sample);
    return sample;
}

Test(patroni_keys, a_member_as_a_sample)
{
    struct sample sample;

    put_real_cluster();
    read();
    sample = sample_of("pg1");
    cr_expect_eq(sample.source, SOURCE_ETCD);
    cr_expect_eq(sample.outcome, SAMPLE_OK);
    cr_expect_eq(sample.role, NODE_PRIMARY);
    cr_expect(sample.holds_lock && sample.knows_lock && !sample.is_unlocked);
    cr_expect_eq(sample.timeline, 1);
    cr_expect_eq(sample.location, 88286808);
    cr_expect_str_eq(sample.system_id, "7711062157792796378");
    cr_expect_str_eq(sample.said, "etcd: running primary timeline 1, holds the lock");
    sample = sample_of("pg2");
    cr_expect_eq(sample.outcome, SAMPLE_OK);
    cr_expect_eq(sample.role, NODE_REPLICA);
    cr_expect_not(sample.holds_lock);
    cr_expect(sample.is_streaming, "it is on the leader's timeline");
    cr_expect_eq(sample.replayed, 88286808);
    cr_expect_eq(sample.location, 0);
    sample = sample_of("pg3");
    cr_expect_eq(sample.outcome, SAMPLE_WRONG);
    cr_expect(sample.is_noloadbalance);
    cr_expect_str_eq(sample.state, "starting");
}

Test(patroni_keys, who_streams)
{
    static const struct {
        const char *value;
        bool is_streaming;
    } members[] = {
        {"{\"state\":\"running\",\"role\":\"replica\",\"timeline\":7}", true},
        {"{\"state\":\"running\",\"role\":\"replica\",\"timeline\":6}", false},
        {"{\"state\":\"running\",\"role\":\"replica\"}", false},
        {"{\"state\":\"running\",\"role\":\"replica\",\"timeline\":7,"
         "\"replication_state\":\"streaming\"}",
         true},
        {"{\"state\":\"running\",\"role\":\"replica\",\"timeline\":7,"
         "\"replication_state\":\"in archive recovery\"}",
         false},
    };

    put("leader", "pg1");
    put("members/pg1", "{\"state\":\"running\",\"role\":\"primary\",\"timeline\":7}");
    for (size_t i = 0; i < COUNT_OF(members); i++) {
        put("members/pg2", members[i].value);
        read();
        cr_expect_eq(sample_of("pg2").is_streaming, members[i].is_streaming, "%s",
                     members[i].value);
    }
}

Test(patroni_keys, a_primary_without_a_timeline_claims_nothing)
{
    put("leader", "pg1");
    put("members/pg1", "{\"state\":\"running\",\"role\":\"master\"}");
    read();
    cr_expect_eq(sample_of("pg1").outcome, SAMPLE_WRONG);
}

Test(patroni_keys, survives_each_allocation_failure)
{
    put_real_cluster();
    for (unsigned nth = 1; memory_fail_at == 0; nth++) {
        struct store_view copy = {0};

        store_view_clear(&view);
        memory_fail_at = nth;
        if (patroni_keys_read(&keys, &view) && store_view_copy(&copy, &view))
            cr_expect_str_eq(copy.members[2].name, "pg3");
        store_view_clear(&copy);
    }
    memory_fail_at = 0;
}
