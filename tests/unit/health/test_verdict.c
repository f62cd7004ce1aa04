#include "health/verdict.h"

#include <criterion/criterion.h>

#include "tests/unit/health/samples.h"

TestSuite(verdict, .timeout = 10);

static const struct verdict_settings by_patroni = {
    .check = CHECK_PATRONI, .rise = 1, .fall = 2};
static const struct verdict_settings by_postgres = {
    .check = CHECK_POSTGRES, .rise = 1, .fall = 2};
static const struct verdict_settings by_tcp = {.check = CHECK_TCP, .rise = 1, .fall = 2};

static struct verdict verdict_after(const struct verdict_settings *settings, size_t n,
                                    const struct sample *samples)
{
    struct verdict verdict = {.lag_bytes = -1};

    for (size_t i = 0; i < n; i++)
        verdict_add(&verdict, &samples[i], settings);
    return verdict;
}

/* A short way to write a row of samples. */
static struct sample sample_for(char letter)
{
    struct sample sample;

    switch (letter) {
    case 'P': /* primary with the lock */
        return sample_of_primary(5);
    case 'p': /* writable, without the lock */
        return sample_of_patroni(503, NODE_PRIMARY, 5);
    case 'z': /* the same, in pause, nobody holds the lock */
    case 'y': /* the same, in pause, somebody holds it */
    case '1': /* ... as far as was known to Patroni at 1 o'clock, or later */
    case '2':
    case '3':
    case '4':
    case 'f': /* in failsafe mode, nobody holds it */
    case 'u': /* nobody holds it, that is all */
        sample = sample_of_patroni(503, NODE_PRIMARY, 5);
        sample.is_paused = letter != 'f' && letter != 'u';
        sample.is_failsafe = letter == 'f';
        sample.is_unlocked = letter == 'z' || letter == 'f' || letter == 'u';
        sample.store_seen_s =
            letter >= '1' && letter <= '4' ? (uint64_t)(letter - '0') : 0;
        return sample;
    case 'R':
        return sample_of_replica(5);
    case 'r': /* the lock is taken, recovery goes on: about to be promoted */
        return sample_of_patroni(200, NODE_REPLICA, 5);
    case 'L':
        return sample_of_patroni(503, NODE_STANDBY_LEADER, 5);
    case 'S': /* 200 of a server that stops */
        return sample_of_state(200, "stopping");
    case 's':
        return sample_of_state(503, "stopped");
    case 'K': /* 200, Patroni could not ask the server */
        return sample_of_state(200, "unknown");
    case 'k':
        return sample_of_state(503, "unknown");
    case '-':
        return sample_of_silence(SAMPLE_REFUSED);
    case '.':
        return sample_of_silence(SAMPLE_TIMEOUT);
    case '?':
        return sample_of_silence(SAMPLE_WRONG);
    case 'W': /* PostgreSQL itself, writable */
        return sample_of_sql(NODE_PRIMARY, 5, false);
    case 'C': /* in recovery and streaming */
        return sample_of_sql(NODE_REPLICA, 5, true);
    case 'c': /* in recovery, not streaming */
        return sample_of_sql(NODE_REPLICA, 5, false);
    case 'H': /* Patroni's keys, in its place: holds the lock, and runs */
    case 'h': /* another one holds it */
    case 'n': /* nobody does */
    case 'N': /* nobody does, in pause */
    case 'a': /* PostgreSQL itself, writable, and the keys name it */
    case 'b': /* ... name another one */
        sample = letter == 'a' || letter == 'b' ? sample_of_sql(NODE_PRIMARY, 5, false)
                                                : sample_of_patroni(0, NODE_PRIMARY, 5);
        if (sample.source == SOURCE_PATRONI)
            sample.source = SOURCE_ETCD;
        sample.knows_lock = true;
        sample.holds_lock = letter == 'H' || letter == 'a';
        sample.is_unlocked = letter == 'n' || letter == 'N';
        sample.is_paused = letter == 'N';
        return sample;
    case 'E': /* a replica by its key, streaming */
    case 'e': /* ... not streaming */
        sample = sample_of_replica(5);
        sample.source = SOURCE_ETCD;
        sample.knows_lock = true;
        sample.is_streaming = letter == 'E';
        return sample;
    case 'T':
        return (struct sample){.source = SOURCE_TCP, .outcome = SAMPLE_OK};
    default:
        UNREACHABLE();
    }
}

static struct verdict read_row(const struct verdict_settings *settings, const char *row)
{
    struct sample samples[32];
    size_t n = strlen(row);

    for (size_t i = 0; i < n; i++)
        samples[i] = sample_for(row[i]);
    return verdict_after(settings, n, samples);
}

struct row {
    const char *samples;
    bool is_up;
    enum node_role role;
    enum claim claim;
    bool is_unnamed;
};

static void check_rows(const struct verdict_settings *settings, const struct row *rows,
                       size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct verdict verdict = read_row(settings, rows[i].samples);

        cr_expect_eq(verdict.checks.is_up, rows[i].is_up, "%s", rows[i].samples);
        cr_expect_eq(verdict.role, rows[i].role, "%s", rows[i].samples);
        cr_expect_eq(verdict.claim, rows[i].claim, "%s", rows[i].samples);
        cr_expect_eq(verdict.is_unnamed, rows[i].is_unnamed, "%s", rows[i].samples);
    }
}

Test(verdict, rows_of_answers_of_patroni)
{
    static const struct row rows[] = {
        /* the first answer counts at once */
        {"", false, NODE_UNKNOWN, CLAIM_NONE, false},
        {"P", true, NODE_PRIMARY, CLAIM_FULL, false},
        {"R", true, NODE_REPLICA, CLAIM_NONE, false},
        {"L", true, NODE_STANDBY_LEADER, CLAIM_NONE, false},
        {"r", true, NODE_REPLICA, CLAIM_NONE, false},
        {"-", false, NODE_UNKNOWN, CLAIM_NONE, false},
        {"s", false, NODE_UNKNOWN, CLAIM_NONE, false},
        /* a change of the role counts at once */
        {"RP", true, NODE_PRIMARY, CLAIM_FULL, false},
        {"PR", true, NODE_REPLICA, CLAIM_NONE, false},
        {"RrP", true, NODE_PRIMARY, CLAIM_FULL, false},
        {"RL", true, NODE_STANDBY_LEADER, CLAIM_NONE, false},
        {"LP", true, NODE_PRIMARY, CLAIM_FULL, false},
        /* writable without the lock is nobody's target */
        {"p", true, NODE_UNKNOWN, CLAIM_NONE, true},
        {"Pp", true, NODE_UNKNOWN, CLAIM_NONE, true},
        {"Rp", true, NODE_UNKNOWN, CLAIM_NONE, true},
        {"pP", true, NODE_PRIMARY, CLAIM_FULL, false},
        {"Pu", true, NODE_UNKNOWN, CLAIM_NONE, true},
        {"Pp.", true, NODE_UNKNOWN, CLAIM_NONE, false},
        /* in pause and failsafe a lock that nobody has says nothing of the present
           primary */
        {"Pz", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"Pf", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"Pzzzzz", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"PzP", true, NODE_PRIMARY, CLAIM_FULL, false},
        {"z", true, NODE_UNKNOWN, CLAIM_NONE, true},
        {"Rz", true, NODE_UNKNOWN, CLAIM_NONE, true},
        {"Ppz", true, NODE_UNKNOWN, CLAIM_NONE, true},
        {"Py", true, NODE_UNKNOWN, CLAIM_NONE, true},
        /* nor does one that Patroni has not looked after since, or once in vain */
        {"P11111", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"P12222", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"P12P", true, NODE_PRIMARY, CLAIM_FULL, false},
        {"P12.2", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"P123", true, NODE_UNKNOWN, CLAIM_NONE, true},
        {"P1233", true, NODE_UNKNOWN, CLAIM_NONE, true},
        {"P12P34", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"1", true, NODE_UNKNOWN, CLAIM_NONE, true},
        {"R1", true, NODE_UNKNOWN, CLAIM_NONE, true},
        /* silence is borne until `fall` */
        {"P-", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"P.", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"P?", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"P--", false, NODE_UNKNOWN, CLAIM_NONE, false},
        {"P-.", false, NODE_UNKNOWN, CLAIM_NONE, false},
        {"P?.", false, NODE_UNKNOWN, CLAIM_NONE, false},
        {"P-P-", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"R-", true, NODE_REPLICA, CLAIM_NONE, false},
        {"R--", false, NODE_UNKNOWN, CLAIM_NONE, false},
        {"P--P", true, NODE_PRIMARY, CLAIM_FULL, false},
        {"-P", true, NODE_PRIMARY, CLAIM_FULL, false},
        /* a server that stops has no role any more, whatever the status */
        {"PS", true, NODE_UNKNOWN, CLAIM_NONE, false},
        {"Ps", true, NODE_UNKNOWN, CLAIM_NONE, false},
        {"Rs", true, NODE_UNKNOWN, CLAIM_NONE, false},
        {"PSs", false, NODE_UNKNOWN, CLAIM_NONE, false},
        {"PSP", true, NODE_PRIMARY, CLAIM_FULL, false},
        {"Ss", false, NODE_UNKNOWN, CLAIM_NONE, false},
        /* one that Patroni could not ask may be well */
        {"PK", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"PKK", false, NODE_UNKNOWN, CLAIM_NONE, false},
        {"Pk", true, NODE_UNKNOWN, CLAIM_NONE, false},
        {"Rk", true, NODE_REPLICA, CLAIM_NONE, false},
        {"Rkk", false, NODE_UNKNOWN, CLAIM_NONE, false},
        {"RK", true, NODE_REPLICA, CLAIM_NONE, false},
    };

    check_rows(&by_patroni, rows, COUNT_OF(rows));
}

Test(verdict, rows_with_postgresql_in_place_of_a_silent_patroni)
{
    static const struct row rows[] = {
        /* it confirms a primary, again and again */
        {"PW", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"PWWWW", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"PW-", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"P-W", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"PW--", false, NODE_UNKNOWN, CLAIM_NONE, false},
        {"PWP", true, NODE_PRIMARY, CLAIM_FULL, false},
        /* and makes none */
        {"W", true, NODE_UNKNOWN, CLAIM_NONE, true},
        {"RW", true, NODE_UNKNOWN, CLAIM_NONE, true},
        {"PpW", true, NODE_UNKNOWN, CLAIM_NONE, true},
        {"PSW", true, NODE_UNKNOWN, CLAIM_NONE, true},
        {"P--W", true, NODE_UNKNOWN, CLAIM_NONE, true},
        {"PRW", true, NODE_UNKNOWN, CLAIM_NONE, true},
        /* a replica is one while it streams */
        {"RC", true, NODE_REPLICA, CLAIM_NONE, false},
        {"RCCCC", true, NODE_REPLICA, CLAIM_NONE, false},
        {"Rc", true, NODE_REPLICA, CLAIM_NONE, false},
        {"Rcc", false, NODE_UNKNOWN, CLAIM_NONE, false},
        {"R--C", true, NODE_REPLICA, CLAIM_NONE, false},
        {"C", true, NODE_REPLICA, CLAIM_NONE, false},
        {"c", false, NODE_UNKNOWN, CLAIM_NONE, false},
        {"PC", true, NODE_REPLICA, CLAIM_NONE, false},
    };

    check_rows(&by_patroni, rows, COUNT_OF(rows));
}

Test(verdict, rows_with_patronis_keys_in_its_place)
{
    static const struct row rows[] = {
        {"H", true, NODE_PRIMARY, CLAIM_FULL, false},
        {"PH", true, NODE_PRIMARY, CLAIM_FULL, false},
        {"HP", true, NODE_PRIMARY, CLAIM_FULL, false},
        {"H-", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"H--", false, NODE_UNKNOWN, CLAIM_NONE, false},
        {"Hh", true, NODE_UNKNOWN, CLAIM_NONE, true},
        {"Hn", true, NODE_UNKNOWN, CLAIM_NONE, true},
        {"n", true, NODE_UNKNOWN, CLAIM_NONE, true},
        /* in pause a missing lock says nothing */
        {"HN", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"N", true, NODE_UNKNOWN, CLAIM_NONE, true},
        /* PostgreSQL itself beside them */
        {"a", true, NODE_PRIMARY, CLAIM_FULL, false},
        {"Pb", true, NODE_UNKNOWN, CLAIM_NONE, true},
        {"E", true, NODE_REPLICA, CLAIM_NONE, false},
        {"e", false, NODE_UNKNOWN, CLAIM_NONE, false},
        {"Re", true, NODE_REPLICA, CLAIM_NONE, false},
        {"Ree", false, NODE_UNKNOWN, CLAIM_NONE, false},
    };

    check_rows(&by_patroni, rows, COUNT_OF(rows));
}

Test(verdict, rows_of_postgresql_alone)
{
    static const struct row rows[] = {
        {"W", true, NODE_PRIMARY, CLAIM_FULL, false},
        {"c", true, NODE_REPLICA, CLAIM_NONE, false},
        {"C", true, NODE_REPLICA, CLAIM_NONE, false},
        {"CW", true, NODE_PRIMARY, CLAIM_FULL, false},
        {"WC", true, NODE_REPLICA, CLAIM_NONE, false},
        {"W-", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"W?", true, NODE_PRIMARY, CLAIM_STAYS, false},
        {"W--", false, NODE_UNKNOWN, CLAIM_NONE, false},
        {"W--W", true, NODE_PRIMARY, CLAIM_FULL, false},
    };

    check_rows(&by_postgres, rows, COUNT_OF(rows));
}

Test(verdict, rows_of_connecting)
{
    static const struct row rows[] = {
        {"T", true, NODE_UNKNOWN, CLAIM_NONE, false},
        {"-", false, NODE_UNKNOWN, CLAIM_NONE, false},
        {"T-", true, NODE_UNKNOWN, CLAIM_NONE, false},
        {"T-.", false, NODE_UNKNOWN, CLAIM_NONE, false},
        {"T--T", true, NODE_UNKNOWN, CLAIM_NONE, false},
    };

    check_rows(&by_tcp, rows, COUNT_OF(rows));
}

Test(verdict, rise_and_fall_are_counted)
{
    static const struct {
        const char *checks; /* o = ok, x = failed */
        unsigned rise, fall;
        bool is_up;
        unsigned in_a_row;
    } rows[] = {
        {"o", 3, 3, true, 1},       {"x", 3, 3, false, 1},     {"oxx", 3, 3, true, 2},
        {"oxxx", 3, 3, false, 3},   {"oxxoxx", 3, 3, true, 2}, {"oxxxoo", 3, 3, false, 2},
        {"oxxxooo", 3, 3, true, 3}, {"xoo", 3, 3, false, 2},   {"xooo", 3, 3, true, 3},
        {"ox", 1, 1, false, 1},     {"oxo", 1, 1, true, 1},    {"oooooo", 2, 2, true, 6},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct streak streak = {0};

        for (const char *check = rows[i].checks; *check != '\0'; check++)
            streak_add(&streak, *check == 'o', rows[i].rise, rows[i].fall);
        cr_expect_eq(streak.is_up, rows[i].is_up, "%s", rows[i].checks);
        cr_expect_eq(streak.in_a_row, rows[i].in_a_row, "%s", rows[i].checks);
    }
}

Test(verdict, a_node_that_rises_slowly_has_no_role_until_then)
{
    const struct verdict_settings slow = {.check = CHECK_PATRONI, .rise = 3, .fall = 1};
    struct verdict verdict = read_row(&slow, "P-PP");

    cr_expect_not(verdict.checks.is_up);
    cr_expect_eq(verdict.role, NODE_UNKNOWN);
    cr_expect_eq(verdict.claim, CLAIM_NONE);
    verdict = read_row(&slow, "P-PPP");
    cr_expect_eq(verdict.claim, CLAIM_FULL);
}

Test(verdict, facts_of_the_last_answer_outlive_silence)
{
    struct verdict verdict = {.lag_bytes = -1};
    struct sample sample = sample_of_replica(9);

    sample.is_noloadbalance = true;
    verdict_add(&verdict, &sample, &by_patroni);
    sample = sample_of_silence(SAMPLE_TIMEOUT);
    verdict_add(&verdict, &sample, &by_patroni);
    cr_expect(verdict.is_noloadbalance);
    cr_expect_eq(verdict.timeline, 9);
    cr_expect_str_eq(verdict.system_id, "77");

    /* PostgreSQL does not know Patroni's tags. */
    sample = sample_of_sql(NODE_REPLICA, 10, true);
    verdict_add(&verdict, &sample, &by_patroni);
    cr_expect(verdict.is_noloadbalance);
    cr_expect_eq(verdict.timeline, 10);

    sample = sample_of_replica(10);
    verdict_add(&verdict, &sample, &by_patroni);
    cr_expect_not(verdict.is_noloadbalance);
}

static struct verdict lag_of(uint64_t replayed, uint64_t leader, uint64_t max_lag)
{
    struct verdict_settings settings = by_patroni;
    struct verdict verdict = {.lag_bytes = -1};
    struct sample sample = sample_of_replica(5);

    settings.max_lag_bytes = max_lag;
    sample.replayed = replayed;
    sample.received = replayed + 1000; /* does not count */
    verdict_add(&verdict, &sample, &settings);
    verdict_set_lag(&verdict, leader, &settings);
    return verdict;
}

Test(verdict, lag_is_counted_as_patroni_does)
{
    static const struct {
        uint64_t replayed, leader, max_lag;
        int64_t lag;
        bool is_lagging;
    } rows[] = {
        {100, 100, 10, 0, false},
        {100, 110, 10, 10, false}, /* only more than max_lag lags */
        {100, 111, 10, 11, true},
        {100, 111, 0, 11, false}, /* no limit */
        {111, 100, 10, 0, false}, /* the leader's answer is older */
        {100, 0, 10, -1, false},  /* no leader is known */
        {0, 100, 10, 100, true},  /* nothing is replayed, as far as Patroni says */
        {0, INT64_MAX, 10, INT64_MAX, true},
    };

    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct verdict verdict =
            lag_of(rows[i].replayed, rows[i].leader, rows[i].max_lag);

        cr_expect_eq(verdict.lag_bytes, rows[i].lag, "row %zu", i);
        cr_expect_eq(verdict.is_lagging, rows[i].is_lagging, "row %zu", i);
    }
}

Test(verdict, lag_stays_while_a_replica_is_silent_and_goes_with_the_role)
{
    const struct verdict_settings settings = {
        .check = CHECK_PATRONI, .rise = 1, .fall = 2, .max_lag_bytes = 10};
    struct verdict verdict = lag_of(100, 200, 10);
    struct sample sample = sample_of_silence(SAMPLE_REFUSED);

    verdict_add(&verdict, &sample, &settings);
    verdict_set_lag(&verdict, 5000, &settings);
    cr_expect_eq(verdict.lag_bytes, 100);
    cr_expect(verdict.is_lagging);
    sample = sample_of_primary(6);
    verdict_add(&verdict, &sample, &settings);
    verdict_set_lag(&verdict, 5000, &settings);
    cr_expect_eq(verdict.lag_bytes, -1);
    cr_expect_not(verdict.is_lagging);
}

static bool second_is_suspect(const char *row)
{
    struct verdict before = read_row(&by_patroni, row), after;
    char all_but_last[32];

    snprintf(all_but_last, sizeof all_but_last, "%.*s", (int)strlen(row) - 1, row);
    after = before;
    before = read_row(&by_patroni, all_but_last);
    return verdict_is_suspect(&before, &after);
}

Test(verdict, what_changes_is_suspect_and_what_does_not_is_not)
{
    static const char *const suspect[] = {"P",  "R",  "RP", "Pp", "P-", "P--", "P-P",
                                          "PW", "PS", "PK", "-.", "Ru", "PWP", "R-?"};
    static const char *const quiet[] = {"PP",     "RR", "---", "P---", "PWW",
                                        "P--sss", "LL", "..",  "zz"};

    for (size_t i = 0; i < COUNT_OF(suspect); i++)
        cr_expect(second_is_suspect(suspect[i]), "%s", suspect[i]);
    for (size_t i = 0; i < COUNT_OF(quiet); i++)
        cr_expect_not(second_is_suspect(quiet[i]), "%s", quiet[i]);
}

Test(verdict, a_check_on_the_way_to_turn_the_state_is_suspect)
{
    const struct verdict_settings slow = {.check = CHECK_PATRONI, .rise = 3, .fall = 3};
    struct verdict before = read_row(&slow, "R-"), after = read_row(&slow, "R--");

    cr_expect(verdict_is_suspect(&before, &after));
    before = read_row(&slow, "R---");
    after = read_row(&slow, "R----");
    cr_expect_not(verdict_is_suspect(&before, &after));
    before = read_row(&slow, "R---R");
    after = read_row(&slow, "R---RR");
    cr_expect(verdict_is_suspect(&before, &after));
}

Test(verdict, lag_and_locations_are_not_suspect)
{
    struct verdict before = {.lag_bytes = -1}, after;
    struct sample sample = sample_of_replica(5);

    sample.replayed = 100;
    verdict_add(&before, &sample, &by_patroni);
    after = before;
    sample.replayed = 200;
    sample.round = 2;
    verdict_add(&after, &sample, &by_patroni);
    cr_expect_not(verdict_is_suspect(&before, &after));
}
