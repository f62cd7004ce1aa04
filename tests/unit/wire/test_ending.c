/* A server's end, after a conversation that a real flow has followed. */
#include "wire/ending.h"

#include <criterion/criterion.h>
#include <string.h>

#include "core/check.h"

TestSuite(ending, .timeout = 10);

struct story {
    struct flow flow;
    struct ending ending;
};

static void forward(struct story *story, const char *types)
{
    for (; *types != '\0'; types++)
        cr_assert_eq(flow_forward(&story->flow, (uint8_t)*types), FLOW_GOES_ON);
}

/* Upper half of the conversation: types of messages; 'b' and 'k' are CommandComplete of
 * BEGIN and COMMIT, 'w' is a warning; i, t and e ReadyForQuery. */
static void hear(struct story *story, const char *types)
{
    for (; *types != '\0'; types++) {
        char type = *types;
        static const char ready[] = "ite";

        if (type == 'w') {
            story->ending.heard |= HEARD_WARNING;
        } else if (strchr(ready, type) != NULL) {
            cr_assert_eq(flow_see_ready(&story->flow, (char)(type & ~0x20)), FLOW_READY);
            story->ending.heard = 0;
        } else {
            const char *tag = type == 'b' ? "BEGIN" : type == 'k' ? "COMMIT" : "";

            if (*tag != '\0')
                type = 'C';
            story->ending.heard |= ending_heard[(uint8_t)type] |
                                   ending_read_tag((const uint8_t *)tag, strlen(tag));
            cr_assert_eq(flow_see(&story->flow, (uint8_t)type), FLOW_GOES_ON);
        }
    }
}

static enum ending_verdict judge(struct story *story)
{
    story->ending.flow = &story->flow;
    return ending_judge(&story->ending);
}

#define SHUTDOWN ENDING_SHUTDOWN
#define BARE ENDING_BARE
#define PLAIN (SQL_SINGLE | SQL_PLAIN)
#define ODD SQL_SINGLE

static const struct {
    const char *what;
    const char *before; /* forwarded and heard: "Q>bt" */
    const char *forwarded;
    const char *heard;
    unsigned sql;
    enum ending_how how;
    enum ending_verdict verdict;
    enum ending_debt debt;
    bool is_unsent;
} rows[] = {
    /* One statement, outside of a transaction: the rows of what was measured. */
    {"57P01, nothing before it", "", "Q", "", PLAIN, SHUTDOWN, ENDING_ABORTED,
     ENDING_OWES_READY, false},
    {"the same, extended", "", "PBES", "", PLAIN, SHUTDOWN, ENDING_ABORTED,
     ENDING_OWES_READY, false},
    {"the same, begun to be answered", "", "PBDES", "12T", PLAIN, SHUTDOWN,
     ENDING_ABORTED, ENDING_OWES_READY, false},
    {"the same, without Sync", "", "PBE", "12", PLAIN, SHUTDOWN, ENDING_ABORTED,
     ENDING_OWES_SYNC, false},
    {"57P01 of what commits by itself", "", "Q", "", ODD, SHUTDOWN, ENDING_UNKNOWN,
     ENDING_OWES_READY, false},
    {"57P01 of several statements", "", "Q", "C", 0, SHUTDOWN, ENDING_UNKNOWN,
     ENDING_OWES_READY, false},
    {"57P01 of the first of several", "", "Q", "T", SQL_PLAIN, SHUTDOWN, ENDING_ABORTED,
     ENDING_OWES_READY, false},
    {"the last byte never left", "", "Q", "", ODD, BARE, ENDING_NEVER_BEGUN,
     ENDING_OWES_READY, true},
    {"the same, extended", "", "PBES", "", PLAIN, BARE, ENDING_NEVER_BEGUN,
     ENDING_OWES_READY, true},
    {"the same of what commits at Execute", "", "PBES", "", ODD, BARE, ENDING_UNKNOWN,
     ENDING_OWES_READY, true},
    {"57P01 after rows", "", "Q", "TDD", PLAIN, SHUTDOWN, ENDING_ABORTED,
     ENDING_OWES_READY, false},
    {"simple: C, then 57P01", "", "Q", "C", PLAIN, SHUTDOWN, ENDING_COMMITTED,
     ENDING_OWES_READY, false},
    {"simple: C, then nothing", "", "Q", "C", PLAIN, BARE, ENDING_COMMITTED,
     ENDING_OWES_READY, false},
    {"simple: C of a procedure", "", "Q", "C", ODD, BARE, ENDING_COMMITTED,
     ENDING_OWES_READY, false},
    {"simple: C behind a warning", "", "Q", "Cw", PLAIN, BARE, ENDING_UNKNOWN,
     ENDING_OWES_READY, false},
    {"extended: C, then 57P01", "", "PBES", "12C", PLAIN, SHUTDOWN, ENDING_UNKNOWN,
     ENDING_OWES_READY, false},
    {"extended: s, then 57P01", "", "PBES", "12Ds", PLAIN, SHUTDOWN, ENDING_UNKNOWN,
     ENDING_OWES_READY, false},
    {"C and ReadyForQuery, then 57P01", "", "Q", "Ci", PLAIN, SHUTDOWN, ENDING_AT_REST,
     ENDING_OWES_NOTHING, false},
    {"WARNING, nothing before it", "", "Q", "w", PLAIN, BARE, ENDING_UNKNOWN,
     ENDING_OWES_READY, false},
    {"WARNING after rows", "", "Q", "TDw", PLAIN, BARE, ENDING_UNKNOWN, ENDING_OWES_READY,
     false},
    {"WARNING, extended", "", "PBES", "12Cw", PLAIN, BARE, ENDING_UNKNOWN,
     ENDING_OWES_READY, false},
    {"an error and ReadyForQuery", "", "Q", "Ei", PLAIN, BARE, ENDING_AT_REST,
     ENDING_OWES_NOTHING, false},
    {"an error, then nothing", "", "Q", "E", PLAIN, BARE, ENDING_FAILED,
     ENDING_OWES_READY, false},
    {"rows, then nothing", "", "Q", "TD", PLAIN, BARE, ENDING_UNKNOWN, ENDING_OWES_READY,
     false},
    {"nothing at all", "", "Q", "", PLAIN, BARE, ENDING_UNKNOWN, ENDING_OWES_READY,
     false},
    {"nothing at all, extended", "", "PBES", "", PLAIN, BARE, ENDING_UNKNOWN,
     ENDING_OWES_READY, false},
    {"nothing, and no Sync yet", "", "PBE", "", PLAIN, BARE, ENDING_ABORTED,
     ENDING_OWES_SYNC, false},
    {"a word for this client", "", "Q", "", PLAIN, ENDING_FATAL, ENDING_FORWARDED,
     ENDING_OWES_READY, false},
    {"two of a pipeline", "", "QQ", "", PLAIN, SHUTDOWN, ENDING_UNKNOWN, ENDING_OWES_MANY,
     false},
    {"the second of a pipeline", "", "QQ", "Ci", PLAIN, SHUTDOWN, ENDING_ABORTED,
     ENDING_OWES_READY, false},
    {"57P01 in copy-in", "", "Q", "G", ODD, SHUTDOWN, ENDING_ABORTED, ENDING_OWES_READY,
     false},
    {"nothing in copy-in", "", "Q", "G", ODD, BARE, ENDING_ABORTED, ENDING_OWES_READY,
     false},
    {"copy-in was ended", "", "Qdc", "G", ODD, BARE, ENDING_UNKNOWN, ENDING_OWES_READY,
     false},

    /* In a transaction block. */
    {"idle, 57P01", "Q>bt", "", "", ODD, SHUTDOWN, ENDING_LOST, ENDING_OWES_NOTHING,
     false},
    {"idle, nothing", "Q>bt", "", "", ODD, BARE, ENDING_LOST, ENDING_OWES_NOTHING, false},
    {"idle, a warning", "Q>bt", "", "w", ODD, BARE, ENDING_LOST, ENDING_OWES_NOTHING,
     false},
    {"idle, failed", "Q>Ee", "", "", ODD, BARE, ENDING_LOST, ENDING_OWES_NOTHING, false},
    {"a statement, 57P01", "Q>bt", "Q", "", PLAIN, SHUTDOWN, ENDING_LOST,
     ENDING_OWES_READY, false},
    {"a statement is done, 57P01", "Q>bt", "Q", "C", PLAIN, SHUTDOWN, ENDING_LOST,
     ENDING_OWES_READY, false},
    {"a statement, extended, 57P01", "Q>bt", "PBES", "12C", PLAIN, SHUTDOWN, ENDING_LOST,
     ENDING_OWES_READY, false},
    {"a statement, nothing", "Q>bt", "Q", "", PLAIN, BARE, ENDING_LOST, ENDING_OWES_READY,
     false},
    {"several statements, nothing", "Q>bt", "Q", "", SQL_PLAIN, BARE, ENDING_UNKNOWN,
     ENDING_OWES_READY, false},
    {"a statement, no Sync yet", "Q>bt", "PBE", "12", PLAIN, BARE, ENDING_LOST,
     ENDING_OWES_SYNC, false},
    {"COMMIT perhaps, nothing", "Q>bt", "Q", "", ODD, BARE, ENDING_UNKNOWN,
     ENDING_OWES_READY, false},
    {"COMMIT perhaps, it never left", "Q>bt", "Q", "", ODD, BARE, ENDING_LOST,
     ENDING_OWES_READY, true},
    {"COMMIT perhaps, and a warning", "Q>bt", "Q", "w", ODD, BARE, ENDING_UNKNOWN,
     ENDING_OWES_READY, false},
    {"COMMIT perhaps, 57P01", "Q>bt", "Q", "", ODD, SHUTDOWN, ENDING_LOST,
     ENDING_OWES_READY, false},
    {"COMMIT is done", "Q>bt", "Q", "k", SQL_SINGLE | SQL_COMMIT, BARE, ENDING_COMMITTED,
     ENDING_OWES_READY, false},
    {"COMMIT is done, 57P01", "Q>bt", "Q", "k", SQL_SINGLE | SQL_COMMIT, SHUTDOWN,
     ENDING_COMMITTED, ENDING_OWES_READY, false},
    {"COMMIT AND CHAIN is done", "Q>bt", "Q", "k", SQL_SINGLE, SHUTDOWN, ENDING_UNKNOWN,
     ENDING_OWES_READY, false},
    {"COMMIT is done, extended", "Q>bt", "PBES", "12k", ODD, SHUTDOWN, ENDING_UNKNOWN,
     ENDING_OWES_READY, false},
    {"an error, then nothing", "Q>bt", "Q", "E", PLAIN, BARE, ENDING_FAILED,
     ENDING_OWES_READY, false},
    {"BEGIN is done, 57P01", "", "Q", "b", ODD, SHUTDOWN, ENDING_LOST, ENDING_OWES_READY,
     false},
    {"BEGIN is done, nothing", "", "Q", "b", ODD, BARE, ENDING_UNKNOWN, ENDING_OWES_READY,
     false},
    {"a pipeline, 57P01", "Q>bt", "QQ", "", PLAIN, SHUTDOWN, ENDING_UNKNOWN,
     ENDING_OWES_MANY, false},
    {"a word for this client", "Q>bt", "", "", PLAIN, ENDING_FATAL, ENDING_FORWARDED,
     ENDING_OWES_NOTHING, false},
};

Test(ending, each_row_of_what_was_measured)
{
    for (size_t i = 0; i < COUNT_OF(rows); i++) {
        struct story story = {.ending = {.asked = ending_asked(rows[i].sql),
                                         .how = rows[i].how,
                                         .is_unsent = rows[i].is_unsent}};
        enum ending_verdict verdict;

        if (rows[i].before[0] != '\0') {
            forward(&story, "Q");
            hear(&story, rows[i].before + 2);
        }
        forward(&story, rows[i].forwarded);
        hear(&story, rows[i].heard);
        verdict = judge(&story);
        cr_expect_eq(verdict, rows[i].verdict, "%s: %u, not %u", rows[i].what, verdict,
                     rows[i].verdict);
        cr_expect_eq(ending_debt(&story.flow), rows[i].debt, "%s", rows[i].what);
    }
}

/* Of a message that is on its way the rest may never come. */
Test(ending, a_message_that_is_cut_has_not_left)
{
    struct story story = {.ending = {.asked = ending_asked(0), .how = ENDING_BARE}};

    forward(&story, "Q");
    flow_set_cut(&story.flow, true);
    cr_expect_eq(judge(&story), ENDING_NEVER_BEGUN);
}

static struct error_fields fields(const char *severity, const char *sqlstate)
{
    struct error_fields error = {0};

    strcpy(error.severity, severity);
    strcpy(error.sqlstate, sqlstate);
    return error;
}

Test(ending, a_last_word_is_known_by_its_severity)
{
    const struct {
        const char *severity, *sqlstate;
        bool is_last;
        enum ending_how how;
    } words[] = {
        {"FATAL", "57P01", true, ENDING_SHUTDOWN},
        {"FATAL", "57P02", true, ENDING_BARE},
        {"FATAL", "25P03", true, ENDING_FATAL},
        {"PANIC", "XX000", true, ENDING_BARE},
        {"FATAL", "", true, ENDING_FATAL},
        {"ERROR", "57P01", false, 0},
        {"", "57P01", false, 0},
        {"WARNING", "57P01", false, 0},
    };

    for (size_t i = 0; i < COUNT_OF(words); i++) {
        struct error_fields error = fields(words[i].severity, words[i].sqlstate);
        enum ending_how how = 0;

        cr_expect_eq(ending_is_last(&error, &how), words[i].is_last);
        cr_expect_eq(how, words[i].how, "%s %s", words[i].severity, words[i].sqlstate);
    }
}

Test(ending, warnings_of_an_end_are_known_by_their_code)
{
    struct error_fields error = fields("WARNING", "57P01");

    cr_expect(ending_is_warning(&error));
    error = fields("WARNING", "57P02");
    cr_expect(ending_is_warning(&error));
    error = fields("WARNING", "01000");
    cr_expect_not(ending_is_warning(&error));
}

static unsigned tag(const char *text)
{
    return ending_read_tag((const uint8_t *)text, strlen(text) + 1);
}

Test(ending, tags_that_begin_and_end_a_transaction)
{
    cr_expect_eq(tag("BEGIN"), HEARD_BEGIN);
    cr_expect_eq(tag("START TRANSACTION"), HEARD_BEGIN);
    cr_expect_eq(tag("COMMIT"), HEARD_COMMIT);
    cr_expect_eq(tag("PREPARE TRANSACTION"), HEARD_COMMIT);
    cr_expect_eq(tag("PREPARE"), 0);
    cr_expect_eq(tag("SELECT 1"), 0);
    cr_expect_eq(tag("SET"), 0);
    cr_expect_eq(tag("COPY 3"), 0);
    cr_expect_eq(tag("COMMENT"), 0);
    cr_expect_eq(tag("ROLLBACK"), 0);
    cr_expect_eq(ending_read_tag(NULL, 0), 0);
}
