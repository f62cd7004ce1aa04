#include <criterion/criterion.h>
#include <sched.h>

#include "config/config.h"
#include "config/value.h"
#include "core/memory.h"

TestSuite(value, .timeout = 5);

static struct text why;

static enum value_result parse(const struct value_rule *rule, const char *text,
                               void *field)
{
    text_clear(&why);
    text_init(&why, 1024);
    return value_parse(rule, text, field, &why);
}

Test(value, holds_numbers_to_their_bounds)
{
    const struct value_rule rule = {VALUE_COUNT, 3, 5};
    int64_t field = 1;

    cr_expect_eq(parse(&rule, "2", &field), VALUE_OUT_OF_RANGE);
    cr_expect_eq(field, 1);
    cr_expect_eq(parse(&rule, "6", &field), VALUE_OUT_OF_RANGE);
    cr_expect_eq(parse(&rule, "x", &field), VALUE_BAD);
    cr_expect_eq(field, 1);
    cr_expect_eq(parse(&rule, "3", &field), VALUE_OK);
    cr_expect_eq(field, 3);
    cr_expect_eq(parse(&rule, "5", &field), VALUE_OK);
    cr_expect_eq(field, 5);
}

Test(value, reads_each_kind_of_number_in_its_own_units)
{
    int64_t field = 0;

    cr_expect_eq(parse(&(struct value_rule){VALUE_DURATION, 0, 99999}, "10", &field),
                 VALUE_OK);
    cr_expect_eq(field, 10000);
    cr_expect_eq(parse(&(struct value_rule){VALUE_MILLISECONDS, 0, 99999}, "10", &field),
                 VALUE_OK);
    cr_expect_eq(field, 10);
    cr_expect_eq(parse(&(struct value_rule){VALUE_BYTES, 0, 99999}, "8kB", &field),
                 VALUE_OK);
    cr_expect_eq(field, 8192);
    cr_expect_eq(parse(&(struct value_rule){VALUE_MODE_BITS, 0, 0777}, "0770", &field),
                 VALUE_OK);
    cr_expect_eq(field, 0770);
}

/* One core, then what the test may really use. */
Test(value, counts_the_cores_that_we_may_run_on)
{
    struct value_rule rule = {VALUE_WORKERS, 1, 64};
    int64_t field = 0;
    cpu_set_t mine, one;

    cr_assert_eq(sched_getaffinity(0, sizeof mine, &mine), 0);
    cr_expect_eq(parse(&rule, "auto", &field), VALUE_OK);
    cr_expect_eq(field, CPU_COUNT(&mine) < 64 ? CPU_COUNT(&mine) : 64);

    CPU_ZERO(&one);
    for (size_t i = 0; CPU_COUNT(&one) == 0; i++)
        if (CPU_ISSET(i, &mine))
            CPU_SET(i, &one);
    cr_assert_eq(sched_setaffinity(0, sizeof one, &one), 0);
    cr_expect_eq(parse(&rule, "AUTO", &field), VALUE_OK);
    cr_expect_eq(field, 1);

    cr_expect_eq(parse(&rule, "64", &field), VALUE_OK);
    cr_expect_eq(field, 64);
    cr_expect_eq(parse(&rule, "65", &field), VALUE_OUT_OF_RANGE);
    cr_expect_eq(parse(&rule, "automatic", &field), VALUE_BAD);
}

Test(value, has_no_more_workers_by_itself_than_allowed)
{
    const struct value_rule rule = {VALUE_WORKERS, 0, 0};
    int64_t field = 4711;

    cr_expect_eq(parse(&rule, "auto", &field), VALUE_OK);
    cr_expect_eq(field, 0);
}

Test(value, may_be_left_to_what_holds_for_all)
{
    struct value_rule count = {VALUE_OWN_COUNT, 3, 5};
    struct value_rule duration = {VALUE_OWN_DURATION, 1000, 5000};
    int64_t field = 1;

    cr_expect_eq(parse(&count, "default", &field), VALUE_OK);
    cr_expect_eq(field, CONFIG_DEFAULT);
    cr_expect_eq(parse(&count, "4", &field), VALUE_OK);
    cr_expect_eq(field, 4);
    cr_expect_eq(parse(&count, "-1", &field), VALUE_OK);
    cr_expect_eq(field, CONFIG_DEFAULT);
    cr_expect_eq(parse(&count, "0", &field), VALUE_OUT_OF_RANGE);
    cr_expect_eq(parse(&count, "-2", &field), VALUE_BAD);
    cr_expect_eq(parse(&count, "", &field), VALUE_BAD);
    cr_expect_eq(parse(&count, "auto", &field), VALUE_BAD);
    cr_expect_eq(field, CONFIG_DEFAULT);
    cr_expect_eq(parse(&duration, "1.5", &field), VALUE_OK);
    cr_expect_eq(field, 1500);
    cr_expect_eq(parse(&duration, "Default", &field), VALUE_OK);
    cr_expect_eq(field, CONFIG_DEFAULT);

    count.type = VALUE_COUNT;
    cr_expect_eq(parse(&count, "default", &field), VALUE_BAD);
    cr_expect_eq(parse(&count, "-1", &field), VALUE_BAD);
}

Test(value, replaces_and_clears_strings)
{
    const struct value_rule rule = {VALUE_STRING, 0, 0};
    char *field = NULL;

    cr_expect_eq(parse(&rule, "one", &field), VALUE_OK);
    cr_expect_eq(parse(&rule, "two", &field), VALUE_OK);
    cr_expect_str_eq(field, "two");
    memory_fail_at = 1;
    cr_expect_eq(value_parse(&rule, "three", &field, &why), VALUE_NO_MEMORY);
    cr_expect_str_eq(field, "two");
    value_clear(VALUE_STRING, &field);
    cr_expect_null(field);
    value_clear(VALUE_STRING, &field);
}

Test(value, replaces_and_clears_lists)
{
    const struct value_rule rule = {VALUE_NAMES, 0, 0};
    struct name_list field = {0};

    cr_expect_eq(parse(&rule, "a, b", &field), VALUE_OK);
    cr_expect_eq(parse(&rule, "c", &field), VALUE_OK);
    cr_assert_eq(field.n, 1);
    cr_expect_eq(parse(&rule, "d,,", &field), VALUE_BAD);
    cr_expect_str_eq(text_get(&why), "entry 2 '': expected a name");
    cr_assert_eq(field.n, 1);
    cr_expect_str_eq(field.items[0], "c");
    value_clear(VALUE_NAMES, &field);
    cr_expect_eq(field.n, 0);
    text_clear(&why);
}

#define EXPECT_CHOICE(type, word, wanted) \
    do { \
        C_##type field = (C_##type)99; \
        cr_expect_eq(parse(&(struct value_rule){VALUE_##type, 0, 0}, word, &field), \
                     VALUE_OK); \
        cr_expect_eq(field, wanted, "%s", word); \
    } while (0)

Test(value, has_the_words_of_choices_in_the_order_of_their_enums)
{
    EXPECT_CHOICE(log_format, "text", LOG_FORMAT_TEXT);
    EXPECT_CHOICE(log_format, "json", LOG_FORMAT_JSON);
    EXPECT_CHOICE(check, "patroni", CHECK_PATRONI);
    EXPECT_CHOICE(check, "postgres", CHECK_POSTGRES);
    EXPECT_CHOICE(check, "tcp", CHECK_TCP);
    EXPECT_CHOICE(mode, "tcp", MODE_TCP);
    EXPECT_CHOICE(mode, "pool", MODE_POOL);
    EXPECT_CHOICE(role, "primary", ROLE_PRIMARY);
    EXPECT_CHOICE(role, "replica", ROLE_REPLICA);
    EXPECT_CHOICE(role, "Read-Only", ROLE_READ_ONLY);
    EXPECT_CHOICE(role, "any", ROLE_ANY);
    EXPECT_CHOICE(balance, "roundrobin", BALANCE_ROUNDROBIN);
    EXPECT_CHOICE(balance, "leastconn", BALANCE_LEASTCONN);
    EXPECT_CHOICE(balance, "first", BALANCE_FIRST);
    EXPECT_CHOICE(balance, "random", BALANCE_RANDOM);
    EXPECT_CHOICE(balance, "source", BALANCE_SOURCE);
    EXPECT_CHOICE(on_role_change, "close", ON_ROLE_CHANGE_CLOSE);
    EXPECT_CHOICE(on_role_change, "keep", ON_ROLE_CHANGE_KEEP);
    EXPECT_CHOICE(pool_mode, "session", POOL_MODE_SESSION);
    EXPECT_CHOICE(pool_mode, "transaction", POOL_MODE_TRANSACTION);
    EXPECT_CHOICE(pool_mode, "statement", POOL_MODE_STATEMENT);
    EXPECT_CHOICE(own_pool_mode, "session", POOL_MODE_SESSION);
    EXPECT_CHOICE(own_pool_mode, "transaction", POOL_MODE_TRANSACTION);
    EXPECT_CHOICE(own_pool_mode, "statement", POOL_MODE_STATEMENT);
    EXPECT_CHOICE(own_pool_mode, "default", POOL_MODE_DEFAULT);
    EXPECT_CHOICE(own_role, "primary", ROLE_PRIMARY);
    EXPECT_CHOICE(own_role, "default", ROLE_DEFAULT);
    EXPECT_CHOICE(auth_type, "trust", AUTH_TYPE_TRUST);
    EXPECT_CHOICE(auth_type, "any", AUTH_TYPE_ANY);
    EXPECT_CHOICE(auth_type, "plain", AUTH_TYPE_PLAIN);
    EXPECT_CHOICE(auth_type, "md5", AUTH_TYPE_MD5);
    EXPECT_CHOICE(auth_type, "scram-sha-256", AUTH_TYPE_SCRAM_SHA_256);
    EXPECT_CHOICE(auth_type, "cert", AUTH_TYPE_CERT);
    EXPECT_CHOICE(auth_type, "hba", AUTH_TYPE_HBA);
    EXPECT_CHOICE(auth_type, "pam", AUTH_TYPE_PAM);
    EXPECT_CHOICE(auth_type, "ldap", AUTH_TYPE_LDAP);
    EXPECT_CHOICE(own_auth_type, "trust", AUTH_TYPE_TRUST);
    EXPECT_CHOICE(own_auth_type, "ldap", AUTH_TYPE_LDAP);
    EXPECT_CHOICE(own_auth_type, "default", AUTH_TYPE_DEFAULT);
    EXPECT_CHOICE(sslmode, "disable", SSLMODE_DISABLE);
    EXPECT_CHOICE(sslmode, "allow", SSLMODE_ALLOW);
    EXPECT_CHOICE(sslmode, "prefer", SSLMODE_PREFER);
    EXPECT_CHOICE(sslmode, "require", SSLMODE_REQUIRE);
    EXPECT_CHOICE(sslmode, "verify-ca", SSLMODE_VERIFY_CA);
    EXPECT_CHOICE(sslmode, "verify-full", SSLMODE_VERIFY_FULL);
    EXPECT_CHOICE(load_balance_hosts, "round-robin", LOAD_BALANCE_HOSTS_ROUND_ROBIN);
    EXPECT_CHOICE(load_balance_hosts, "disable", LOAD_BALANCE_HOSTS_DISABLE);
}

Test(value, refuses_other_words_than_those_of_a_choice)
{
    const struct value_rule rule = {VALUE_role, 0, 0};
    enum listener_role field = ROLE_ANY;

    cr_expect_eq(parse(&rule, "leader", &field), VALUE_BAD);
    cr_expect_eq(parse(&rule, "", &field), VALUE_BAD);
    cr_expect_eq(field, ROLE_ANY);
}

Test(value, compares_and_clears_every_type)
{
    static const struct {
        enum value_type type;
        const char *a, *b;
    } examples[] = {
        {VALUE_WORKERS, "1", "2"},
        {VALUE_COUNT, "1", "2"},
        {VALUE_DURATION, "1s", "2s"},
        {VALUE_MILLISECONDS, "1", "2"},
        {VALUE_BYTES, "1kB", "1MB"},
        {VALUE_MODE_BITS, "1", "2"},
        {VALUE_BOOL, "off", "on"},
        {VALUE_STRING, "a", "b"},
        {VALUE_SECRET, "a", "b"},
        {VALUE_NODES, "a:1", "b:1"},
        {VALUE_STORES, "a:1", "https://a:1"},
        {VALUE_NAMES, "a", "b"},
        {VALUE_ENDPOINTS, "*:1", "*:2"},
        {VALUE_NETWORKS, "10.0.0.0/8", "10.0.0.0/9"},
        {VALUE_log_format, "text", "json"},
        {VALUE_socket_level, "user", "admin"},
        {VALUE_restapi_tls, "off", "verify-full"},
        {VALUE_ro_fallback, "wait", "error"},
        {VALUE_check, "patroni", "tcp"},
        {VALUE_role, "primary", "any"},
        {VALUE_balance, "roundrobin", "first"},
        {VALUE_on_role_change, "close", "keep"},
        {VALUE_mode, "tcp", "pool"},
        {VALUE_OWN_COUNT, "default", "1"},
        {VALUE_OWN_DURATION, "default", "1s"},
        {VALUE_pool_mode, "session", "statement"},
        {VALUE_own_pool_mode, "default", "session"},
        {VALUE_own_role, "default", "replica"},
        {VALUE_replay, "off", "aborted"},
        {VALUE_own_replay, "default", "off"},
        {VALUE_auth_type, "trust", "md5"},
        {VALUE_own_auth_type, "default", "trust"},
        {VALUE_sslmode, "disable", "require"},
        {VALUE_sslnegotiation, "postgres", "direct"},
        {VALUE_own_sslnegotiation, "default", "direct"},
        {VALUE_load_balance_hosts, "round-robin", "disable"},
    };

    cr_expect_eq(COUNT_OF(examples), VALUE_TYPE_COUNT);
    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        const struct value_rule rule = {examples[i].type, 0, INT64_MAX};
        _Alignas(16) char a[64] = {0}, same[64] = {0}, b[64] = {0};
        static const char zero[64];

        cr_expect_eq(parse(&rule, examples[i].a, a), VALUE_OK);
        cr_expect_eq(parse(&rule, examples[i].a, same), VALUE_OK);
        cr_expect_eq(parse(&rule, examples[i].b, b), VALUE_OK);
        cr_expect(value_equal(rule.type, a, same), "%s", examples[i].a);
        cr_expect_not(value_equal(rule.type, a, b), "%s", examples[i].a);
        value_clear(rule.type, a);
        value_clear(rule.type, b);
        value_clear(rule.type, same);
        cr_expect_arr_eq(b, zero, sizeof zero, "%s is not cleared", examples[i].b);
    }
}

static const char *expected(enum value_type type, int64_t min, int64_t max)
{
    text_clear(&why);
    text_init(&why, 1024);
    value_add_expected(&(struct value_rule){type, min, max}, &why);
    return text_get(&why);
}

Test(value, says_what_is_expected)
{
    cr_expect_str_eq(expected(VALUE_WORKERS, 1, 64), "auto or a whole number, 1 to 64");
    cr_expect_str_eq(expected(VALUE_DURATION, 50, 3600000),
                     "a duration (250ms, 1s, 30m, 2h, 1d; a number alone counts "
                     "seconds), 50ms to 1h");
    cr_expect_str_eq(expected(VALUE_BYTES, 0, INT64_MAX),
                     "a size (8kB, 16MB, 1GB; a number alone counts bytes), 0 or more");
    cr_expect_str_eq(expected(VALUE_MODE_BITS, 0, 0777),
                     "file mode bits in octal, 0 to 0777");
    cr_expect_str_eq(expected(VALUE_BOOL, 0, 0),
                     "1 or 0 (also on, off, yes, no, true, false)");
    cr_expect_str_eq(expected(VALUE_OWN_COUNT, 1, 9),
                     "default or a whole number, 1 to 9");
    cr_expect_str_eq(expected(VALUE_mode, 0, 0), "tcp or pool");
    cr_expect_str_eq(expected(VALUE_log_format, 0, 0), "text or json");
    cr_expect_str_eq(expected(VALUE_check, 0, 0), "patroni, postgres or tcp");
    text_clear(&why);
}

Test(value, is_shown_as_pgbouncer_shows_it)
{
    static const struct {
        enum value_type type;
        const char *given, *shown;
    } examples[] = {
        {VALUE_DURATION, "10m", "600"},
        {VALUE_DURATION, "250ms", "0.25"},
        {VALUE_DURATION, "1500ms", "1.5"},
        {VALUE_DURATION, "1ms", "0.001"},
        {VALUE_MILLISECONDS, "20s", "20000"},
        {VALUE_COUNT, "77", "77"},
        {VALUE_BYTES, "4kB", "4096"},
        {VALUE_MODE_BITS, "0777", "0777"},
        {VALUE_OWN_COUNT, "default", "default"},
        {VALUE_OWN_DURATION, "2h", "7200"},
        {VALUE_BOOL, "yes", "1"},
        {VALUE_BOOL, "off", "0"},
        {VALUE_STRING, "DISCARD ALL", "DISCARD ALL"},
        {VALUE_STRING, "", ""},
        {VALUE_NAMES, "a, b ,c", "a,b,c"},
        {VALUE_pool_mode, "statement", "statement"},
        {VALUE_auth_type, "SCRAM-SHA-256", "scram-sha-256"},
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        const struct value_rule rule = {examples[i].type, 0, INT64_MAX};
        max_align_t field[4] = {0};
        struct text shown;

        text_init(&shown, 100);
        cr_assert_eq(parse(&rule, examples[i].given, field), VALUE_OK);
        value_add(rule.type, field, &shown);
        cr_expect_str_eq(text_get(&shown), examples[i].shown, "%s", examples[i].given);
        text_clear(&shown);
        value_clear(rule.type, field);
    }
}
