#include "health/patroni.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(patroni, .timeout = 10);

/* Bodies as Patroni 3.0.2 sends them. */
static const char primary_body[] =
    "{\"state\": \"running\", \"postmaster_start_time\": \"2026-11-21 23:50:41+00:00\", "
    "\"role\": \"master\", \"server_version\": 150020, \"xlog\": {\"location\": "
    "134490656}, \"timeline\": 2, \"replication\": [{\"usename\": \"repl\", "
    "\"application_name\": \"n2\", \"client_addr\": \"127.0.0.1\", \"state\": "
    "\"streaming\", \"sync_state\": \"async\", \"sync_priority\": 0}], "
    "\"dcs_last_seen\": 1795305074, \"database_system_identifier\": "
    "\"7710776161893729451\", \"patroni\": {\"version\": \"3.0.2\", \"scope\": "
    "\"demo\"}}";
static const char replica_body[] =
    "{\"state\": \"running\", \"postmaster_start_time\": \"2026-11-21 23:50:46+00:00\", "
    "\"role\": \"replica\", \"server_version\": 150020, \"xlog\": "
    "{\"received_location\": 134490656, \"replayed_location\": 134490600, "
    "\"replayed_timestamp\": null, \"paused\": false}, \"timeline\": 2, "
    "\"dcs_last_seen\": 1795305074, \"database_system_identifier\": "
    "\"7710776161893729451\", \"patroni\": {\"version\": \"3.0.2\", \"scope\": "
    "\"demo\"}}";
static const char stopping_body[] =
    "{\"state\": \"stopping\", \"role\": \"master\", \"dcs_last_seen\": 1795305013, "
    "\"database_system_identifier\": \"7710776161893729451\", \"patroni\": "
    "{\"version\": \"3.0.2\", \"scope\": \"demo\"}}";
static const char demoted_body[] =
    "{\"state\": \"stopped\", \"role\": \"demoted\", \"dcs_last_seen\": 1795305013, "
    "\"patroni\": {\"version\": \"3.0.2\", \"scope\": \"demo\"}}";
/* And as 4.0 does. */
static const char replica_4_body[] =
    "{\"state\": \"running\", \"role\": \"replica\", \"server_version\": 170002, "
    "\"xlog\": {\"received_location\": 100, \"replayed_location\": 90, "
    "\"replayed_timestamp\": null, \"paused\": false}, \"timeline\": 7, "
    "\"replication_state\": \"streaming\", \"pause\": true, \"cluster_unlocked\": true, "
    "\"failsafe_mode_is_active\": true, \"tags\": {\"noloadbalance\": true}, "
    "\"patroni\": {\"version\": \"4.0.4\", \"scope\": \"demo\", \"name\": \"pg-2\"}}";

static struct sample read_text(int status, const char *body)
{
    struct sample sample;

    patroni_read(status, body, strlen(body), &sample);
    return sample;
}

Test(patroni, reads_a_primary_with_the_lock)
{
    struct sample sample = read_text(200, primary_body);

    cr_expect_eq(sample.source, SOURCE_PATRONI);
    cr_expect_eq(sample.outcome, SAMPLE_OK);
    cr_expect_eq(sample.http_status, 200);
    cr_expect_eq(sample.role, NODE_PRIMARY);
    cr_expect_str_eq(sample.state, "running");
    cr_expect_str_eq(sample.role_word, "master");
    cr_expect(sample.holds_lock);
    cr_expect_eq(sample.timeline, 2);
    cr_expect_eq(sample.location, 134490656);
    cr_expect_str_eq(sample.system_id, "7710776161893729451");
    cr_expect_str_eq(sample.scope, "demo");
    cr_expect_str_eq(sample.name, "");
    cr_expect_str_eq(sample.said, "200 running master timeline 2");
    cr_expect_not(sample.is_paused || sample.is_unlocked || sample.is_failsafe);
    cr_expect_not(sample.is_noloadbalance);
}

Test(patroni, a_503_of_a_running_replica_is_a_good_answer)
{
    struct sample sample = read_text(503, replica_body);

    cr_expect_eq(sample.outcome, SAMPLE_OK);
    cr_expect_eq(sample.role, NODE_REPLICA);
    cr_expect_not(sample.holds_lock);
    cr_expect_eq(sample.received, 134490656);
    cr_expect_eq(sample.replayed, 134490600);
    cr_expect_eq(sample.location, 0);
    cr_expect_not(sample.is_streaming, "3.0 does not say so");
}

Test(patroni, reads_what_newer_versions_add)
{
    struct sample sample = read_text(503, replica_4_body);

    cr_expect(sample.is_streaming);
    cr_expect(sample.is_paused);
    cr_expect(sample.is_unlocked);
    cr_expect(sample.is_failsafe);
    cr_expect_eq(sample.store_seen_s, 0);
    cr_expect(sample.is_noloadbalance);
    cr_expect_str_eq(sample.name, "pg-2");
    cr_expect_str_eq(
        sample.said,
        "503 running replica timeline 7, noloadbalance, paused, nobody holds "
        "the lock, failsafe");
}

Test(patroni, a_200_outlives_the_server)
{
    struct sample sample = read_text(200, stopping_body);

    cr_expect_eq(sample.source, SOURCE_PATRONI);
    cr_expect_eq(sample.outcome, SAMPLE_WRONG);
    cr_expect(sample.holds_lock);
    cr_expect_str_eq(sample.said, "200 stopping master");
}

Test(patroni, a_stopped_server_is_understood_and_not_ok)
{
    struct sample sample = read_text(503, demoted_body);

    cr_expect_eq(sample.source, SOURCE_PATRONI);
    cr_expect_eq(sample.outcome, SAMPLE_WRONG);
    cr_expect_eq(sample.role, NODE_UNKNOWN);
    cr_expect_str_eq(sample.role_word, "demoted");
    cr_expect_eq(sample.store_seen_s, 1795305013);
}

Test(patroni, knows_each_word_for_a_role)
{
    static const struct {
        const char *word;
        enum node_role role;
        enum sample_outcome outcome;
    } roles[] = {
        {"master", NODE_PRIMARY, SAMPLE_OK},
        {"primary", NODE_PRIMARY, SAMPLE_OK},
        {"replica", NODE_REPLICA, SAMPLE_OK},
        {"standby_leader", NODE_STANDBY_LEADER, SAMPLE_OK},
        {"demoted", NODE_UNKNOWN, SAMPLE_WRONG},
        {"uninitialized", NODE_UNKNOWN, SAMPLE_WRONG},
        {"promoted", NODE_UNKNOWN, SAMPLE_WRONG},
        {"Master", NODE_UNKNOWN, SAMPLE_WRONG},
    };

    for (size_t i = 0; i < COUNT_OF(roles); i++) {
        char body[128];
        struct sample sample;

        snprintf(body, sizeof body,
                 "{\"state\": \"running\", \"role\": \"%s\", \"timeline\": 1}",
                 roles[i].word);
        sample = read_text(503, body);
        cr_expect_eq(sample.role, roles[i].role, "%s", roles[i].word);
        cr_expect_eq(sample.outcome, roles[i].outcome, "%s", roles[i].word);
        cr_expect_eq(sample.source, SOURCE_PATRONI, "%s", roles[i].word);
    }
}

Test(patroni, takes_the_tag_noloadbalance_as_python_does)
{
    static const struct {
        const char *tags;
        bool is_set;
    } tags[] = {
        {"{\"noloadbalance\": true}", true},      {"{\"noloadbalance\": false}", false},
        {"{\"noloadbalance\": \"false\"}", true}, {"{\"noloadbalance\": \"\"}", false},
        {"{\"noloadbalance\": 1}", true},         {"{\"noloadbalance\": 0}", false},
        {"{\"noloadbalance\": 0.5}", true},       {"{\"noloadbalance\": null}", false},
        {"{\"noloadbalance\": []}", false},       {"{\"noloadbalance\": [0]}", true},
        {"{\"noloadbalance\": {}}", false},       {"{\"nofailover\": true}", false},
        {"[\"noloadbalance\"]", false},           {"\"noloadbalance\"", false},
    };

    for (size_t i = 0; i < COUNT_OF(tags); i++) {
        char body[160];
        struct sample sample;

        snprintf(body, sizeof body,
                 "{\"state\": \"running\", \"role\": \"replica\", \"tags\": %s}",
                 tags[i].tags);
        sample = read_text(503, body);
        cr_expect_eq(sample.outcome, SAMPLE_OK, "%s", tags[i].tags);
        cr_expect_eq(sample.is_noloadbalance, tags[i].is_set, "%s", tags[i].tags);
    }
}

Test(patroni, what_makes_no_sense_says_nothing)
{
    static const struct {
        int status;
        const char *body;
    } answers[] = {
        {200, ""},
        {503, ""},
        {200, "OK"},
        {200, "{}"},
        {200, "[]"},
        {200, "null"},
        {200, "\"running\""},
        {200, "{\"state\": \"running\"}"},
        {200, "{\"role\": \"master\"}"},
        {200, "{\"state\": 1, \"role\": \"master\", \"timeline\": 1}"},
        {200, "{\"state\": \"running\", \"role\": [\"master\"], \"timeline\": 1}"},
        {200, "{\"state\": \"\", \"role\": \"master\", \"timeline\": 1}"},
        {200, "{\"state\": \"running\", \"role\": \"master\", \"timeline\": 1"},
        {200, "{\"state\": \"running\", \"role\": \"master\"}"},
        {200, "{\"state\": \"running\", \"role\": \"master\", \"timeline\": 0}"},
        {200, "{\"state\": \"running\", \"role\": \"master\", \"timeline\": -3}"},
        {200, "{\"state\": \"running\", \"role\": \"master\", \"timeline\": \"7\"}"},
        {200, "{\"state\": \"running\", \"role\": \"master\", \"timeline\": 7.0}"},
        {200, "{\"state\": \"running\", \"role\": \"master\", \"timeline\": 4294967297}"},
        {200, "{\"state\": \"running\", \"role\": \"master\", \"timeline\": "
              "99999999999999999999999}"},
        {200, "{\"state\": \"running\", \"role\": \"master\", \"timeline\": 1e400}"},
        {200, "{\"state\": \"run\\u0000ning\", \"role\": \"master\", \"timeline\": 1}"},
        {200, "{\"state\": \"\xff\xfe\", \"role\": \"master\", \"timeline\": 1}"},
        {404, "{\"state\": \"running\", \"role\": \"replica\", \"timeline\": 1}"},
        {500, "{\"state\": \"running\", \"role\": \"replica\", \"timeline\": 1}"},
        {301, "{\"state\": \"running\", \"role\": \"replica\", \"timeline\": 1}"},
        {0, "{\"state\": \"running\", \"role\": \"replica\", \"timeline\": 1}"},
        {-1, "{\"state\": \"running\", \"role\": \"replica\", \"timeline\": 1}"},
    };

    for (size_t i = 0; i < COUNT_OF(answers); i++) {
        struct sample sample = read_text(answers[i].status, answers[i].body);

        cr_expect_eq(sample.source, SOURCE_NOBODY, "%d %s", answers[i].status,
                     answers[i].body);
        cr_expect_eq(sample.outcome, SAMPLE_WRONG);
        cr_expect_not(sample.holds_lock);
        cr_expect_eq(sample.role, NODE_UNKNOWN);
        cr_expect_neq(sample.said[0], '\0');
    }
}

Test(patroni, wrong_types_count_as_not_there)
{
    struct sample sample = read_text(
        503, "{\"state\": \"running\", \"role\": \"replica\", \"xlog\": 5, \"timeline\": "
             "[], \"tags\": 7, \"pause\": \"yes\", \"cluster_unlocked\": 1, "
             "\"failsafe_mode_is_active\": {}, \"database_system_identifier\": 12, "
             "\"patroni\": \"x\", \"replication_state\": 3}");

    cr_expect_eq(sample.outcome, SAMPLE_OK);
    cr_expect_eq(sample.replayed, 0);
    cr_expect_eq(sample.timeline, 0);
    cr_expect_not(sample.is_paused || sample.is_unlocked || sample.is_failsafe);
    cr_expect_not(sample.is_streaming);
    cr_expect_str_eq(sample.system_id, "");
    cr_expect_str_eq(sample.scope, "");
}

Test(patroni, an_identifier_of_other_than_digits_is_none)
{
    struct sample sample =
        read_text(503, "{\"state\": \"running\", \"role\": \"replica\", "
                       "\"database_system_identifier\": \"77 OR 1\"}");

    cr_expect_str_eq(sample.system_id, "");
}

Test(patroni, a_location_below_zero_is_none)
{
    struct sample sample = read_text(
        503, "{\"state\": \"running\", \"role\": \"replica\", \"xlog\": "
             "{\"replayed_location\": -5, \"received_location\": 9223372036854775807}}");

    cr_expect_eq(sample.replayed, 0);
    cr_expect_eq(sample.received, INT64_MAX);
}

Test(patroni, long_and_strange_words_are_cut_and_cleaned)
{
    char body[600], word[300];
    struct sample sample;

    memset(word, 'x', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    snprintf(body, sizeof body, "{\"state\": \"a\\n\\u001b\xc3\xa9%s\", \"role\": \"b\"}",
             word);
    sample = read_text(503, body);

    cr_expect_eq(strlen(sample.state), SAMPLE_WORD_MAX - 1);
    cr_expect_eq(strncmp(sample.state, "a????xxx", 8), 0);
    cr_expect_eq(sample.outcome, SAMPLE_WRONG);
}

Test(patroni, deep_nesting_is_refused_and_not_followed)
{
    char *body = malloc(65536);
    struct sample sample;

    cr_assert_not_null(body);
    memset(body, '[', 65536);
    patroni_read(200, body, 65536, &sample);
    cr_expect_eq(sample.source, SOURCE_NOBODY);
    for (size_t i = 0; i < 65536; i++)
        body[i] = "{\"a\":"[i % 5];
    patroni_read(200, body, 65536, &sample);
    cr_expect_eq(sample.source, SOURCE_NOBODY);
    free(body);
}

/* Each beginning of a real body, and each with one byte changed. */
Test(patroni, survives_cut_and_damaged_bodies)
{
    size_t length = strlen(primary_body);
    char body[sizeof primary_body];
    struct sample sample;

    for (size_t n = 0; n < length; n++) {
        patroni_read(200, primary_body, n, &sample);
        cr_expect_eq(sample.source, SOURCE_NOBODY);
    }
    for (size_t i = 0; i < length; i++)
        for (unsigned byte = 0; byte < 256; byte += 5) {
            memcpy(body, primary_body, sizeof body);
            body[i] = (char)byte;
            patroni_read(200, body, length, &sample);
            cr_expect(sample.outcome != SAMPLE_OK || sample.role != NODE_PRIMARY ||
                      sample.timeline != 0);
        }
}
