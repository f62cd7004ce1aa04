#include "wire/flow.h"

#include <criterion/criterion.h>
#include <string.h>

TestSuite(flow, .timeout = 30);

/* A conversation, as the types of its messages: what is forwarded stands behind '>', what
 * the server says behind '<', 'Z' with its status. "[Q" is the begin of a Query, "]" says
 * that the rest was forwarded:
 *
 *     ">Q <TDCZI"     a query and its answer
 */
struct talk {
    const char *at;
    bool is_forwarded;
    struct flow flow;
    enum flow_step step; /* of the last message */
};

static void take_message(struct talk *talk, char type)
{
    if (talk->is_forwarded)
        talk->step = flow_forward(&talk->flow, (uint8_t)type);
    else if (type == 'Z')
        talk->step = flow_see_ready(&talk->flow, *talk->at++);
    else
        talk->step = flow_see(&talk->flow, (uint8_t)type);
}

/* Up to behind the next message; false at the end of the conversation. */
static bool goes_on(struct talk *talk)
{
    while (*talk->at != '\0') {
        char sign = *talk->at++;

        if (sign == '>' || sign == '<') {
            talk->is_forwarded = sign == '>';
        } else if (sign == '[' || sign == ']') {
            flow_set_cut(&talk->flow, sign == '[');
        } else if (sign != ' ') {
            take_message(talk, sign);
            return true;
        }
    }
    return false;
}

static bool was_ready(const struct talk *talk)
{
    return !talk->is_forwarded && talk->at[-2] == 'Z';
}

/* What comes of a conversation in which nothing is wrong. */
static struct flow after(const char *script)
{
    struct talk talk = {.at = script};

    while (goes_on(&talk))
        cr_assert_eq(talk.step, was_ready(&talk) ? FLOW_READY : FLOW_GOES_ON,
                     "%s: %d before '%s'", script, (int)talk.step, talk.at);
    return talk.flow;
}

static void expect_need(const char *script, enum flow_need need)
{
    struct flow flow = after(script);

    cr_expect_eq(flow_need(&flow), need, "%s: needs %d", script, (int)flow_need(&flow));
    cr_expect_eq(flow_is_at_rest(&flow), need == FLOW_NEEDS_NOTHING, "%s", script);
}

/* It is at rest after the last message, with everything answered, and before after none.
 */
static void expect_rest_at_the_end(const char *script)
{
    struct talk talk = {.at = script};

    while (goes_on(&talk)) {
        bool is_last = *talk.at == '\0';

        cr_assert_eq(talk.step, was_ready(&talk) ? FLOW_READY : FLOW_GOES_ON,
                     "%s: %d before '%s'", script, (int)talk.step, talk.at);
        cr_assert_eq(flow_is_at_rest(&talk.flow), is_last, "%s: before '%s'", script,
                     talk.at);
        cr_assert_eq(flow_need(&talk.flow) == FLOW_NEEDS_NOTHING, is_last,
                     "%s: before '%s'", script, talk.at);
        cr_assert(is_last || talk.flow.n_answered <= talk.flow.n_forwarded);
    }
    cr_assert_eq(talk.flow.n_answered, talk.flow.n_forwarded, "%s: %u of %u", script,
                 talk.flow.n_answered, talk.flow.n_forwarded);
}

/* Nothing is wrong before the last message. */
static struct flow after_wrong(const char *script, enum flow_step step)
{
    struct talk talk = {.at = script};
    struct flow before = {0};

    while (goes_on(&talk)) {
        if (*talk.at == '\0')
            break;
        cr_assert_leq(talk.step, FLOW_READY, "%s: %d before '%s'", script, (int)talk.step,
                      talk.at);
        before = talk.flow;
    }
    cr_expect_eq(talk.step, step, "%s: %d", script, (int)talk.step);
    if (step == FLOW_ILLEGAL)
        cr_expect_eq(memcmp(&talk.flow, &before, sizeof before), 0, "%s", script);
    return talk.flow;
}

/* ---- what is answered by ReadyForQuery ------------------------------------------------
 */

Test(flow, begins_at_rest)
{
    expect_need("", FLOW_NEEDS_NOTHING);
}

Test(flow, each_query_call_and_sync_is_answered_by_one_ready)
{
    expect_rest_at_the_end(">Q <TDDCZI");
    expect_rest_at_the_end(">Q <IZI");
    expect_rest_at_the_end(">Q <CTDCCZI");
    expect_rest_at_the_end(">F <VZI");
    expect_rest_at_the_end(">S <ZI");
    expect_rest_at_the_end(">PBDES <12TDCZI");
    expect_rest_at_the_end(">QQQ <CZI CZI CZI");
    expect_rest_at_the_end(">QSF <CZI ZI VZI");
    expect_rest_at_the_end(">PBDES BES QS <12nCZI 2IZI CZI ZI");
    expect_rest_at_the_end(">PBES <12 >PBES <C >S <ZI 12 CZI ZI");
}

Test(flow, every_answer_to_an_extended_message_counts_once)
{
    expect_rest_at_the_end(">PDBDES <1 tT 2 T DDs ZI");
    expect_rest_at_the_end(">DDECCS <tn n I 33 ZI");
    expect_rest_at_the_end(">BEEES <2 Ds Ds DC ZI");
}

Test(flow, notes_may_come_at_any_time)
{
    expect_need("<NAS", FLOW_NEEDS_NOTHING);
    expect_rest_at_the_end(">Q <NATNDNCASZI");
    expect_rest_at_the_end(">PBE <N1A2S >S <CNZI");
    expect_rest_at_the_end(">Q <NGS >c <ANCNZI");
}

Test(flow, extended_messages_wait_for_their_sync)
{
    expect_need(">P", FLOW_NEEDS_SYNC);
    expect_need(">PBE", FLOW_NEEDS_SYNC);
    expect_need(">PBEH <12C", FLOW_NEEDS_SYNC);
    expect_need(">PBEH <12C >S", FLOW_NEEDS_ANSWERS);
    expect_rest_at_the_end(">PBEH <12C >S <ZI");
    expect_need(">PBES <12CZI >B", FLOW_NEEDS_SYNC);
    expect_need(">PBESC <12CZI", FLOW_NEEDS_SYNC);
    expect_need(">PBESC <12CZI3", FLOW_NEEDS_SYNC);
    expect_rest_at_the_end(">PBESC <12CZI3 >S <ZI");
}

Test(flow, a_query_or_call_closes_extended_messages_like_a_sync)
{
    expect_rest_at_the_end(">PQ <1CZI");
    expect_rest_at_the_end(">PH <1 >F <VZI");
    expect_rest_at_the_end(">PBEQS <12CCZIZI");
}

Test(flow, flush_has_no_answer)
{
    expect_need(">H", FLOW_NEEDS_NOTHING);
    expect_need(">HHQ <CZI >H", FLOW_NEEDS_NOTHING);
    expect_rest_at_the_end(">PHBHEHHS <12CZI");
}

Test(flow, a_transaction_keeps_the_server)
{
    static const char *const scripts[] = {">Q <CZT", ">Q <EZE", ">PBES <12CZT"};

    for (size_t i = 0; i < COUNT_OF(scripts); i++) {
        struct flow flow = after(scripts[i]);

        cr_expect(flow_is_in_transaction(&flow));
        expect_need(scripts[i], FLOW_NEEDS_ROLLBACK);
    }
    expect_rest_at_the_end(">Q <CZT >Q <EZE >Q <CZI");
    cr_expect_not(flow_is_in_transaction(&(struct flow){.status = 'I'}));
    cr_expect_not(flow_is_in_transaction(&(struct flow){0}));
}

Test(flow, the_last_of_a_pipelines_transactions_counts)
{
    expect_rest_at_the_end(">QQQ <CZT CZT CZI");
    expect_need(">QQ <CZI CZT", FLOW_NEEDS_ROLLBACK);
    cr_expect_eq(after(">QQQ <CZT EZE").status, 'E');
}

Test(flow, a_part_of_a_message_keeps_the_server)
{
    expect_need(">[Q", FLOW_NEEDS_CLOSE);
    expect_need(">[Q ]", FLOW_NEEDS_ANSWERS);
    expect_rest_at_the_end(">[Q ]<CZI");
    expect_need(">Q <CZI >[d", FLOW_NEEDS_CLOSE);
    expect_need(">Q <CZI >[d]", FLOW_NEEDS_NOTHING);
}

Test(flow, tells_who_waits_for_whom)
{
    static const char *const answering[] = {">Q",        ">Q <TD",    ">P",
                                            ">PBES <12", ">Q <G >dc", ">QQ <CZI"};
    static const char *const waiting[] = {"",          ">Q <CZT",   ">Q <G",   ">Q <G >d",
                                          ">PBH <12 ", ">P <E >BE", ">Q <W >d"};

    for (size_t i = 0; i < COUNT_OF(answering); i++)
        cr_expect(flow_is_answering(&(struct flow[]){after(answering[i])}[0]), "%s",
                  answering[i]);
    for (size_t i = 0; i < COUNT_OF(waiting); i++)
        cr_expect_not(flow_is_answering(&(struct flow[]){after(waiting[i])}[0]), "%s",
                      waiting[i]);
}

/* ---- errors --------------------------------------------------------------------------
 */

Test(flow, the_ready_of_what_has_failed_follows)
{
    expect_rest_at_the_end(">Q <EZI");
    expect_rest_at_the_end(">Q <TDCTDEZI");
    expect_rest_at_the_end(">F <EZI");
    expect_rest_at_the_end(">S <EZI");
    expect_rest_at_the_end(">PBES <12CEZI"); /* at commit */
    expect_rest_at_the_end(">QQ <EZI CZI");
}

Test(flow, after_an_error_in_an_extended_message_all_is_skipped_up_to_sync)
{
    expect_rest_at_the_end(">PBDES <EZI");
    expect_rest_at_the_end(">PBDES <12nEZI");
    expect_rest_at_the_end(">PBES PBES <12EZI 12CZI");
    expect_rest_at_the_end(">PBES PBES <EZI EZI");
    expect_rest_at_the_end(">PBEPBEPBES BES <12C1EZI 2CZI");
    expect_rest_at_the_end(">PBEQFcdfHPBS <EZI");
    expect_need(">P <E", FLOW_NEEDS_SYNC);
    expect_rest_at_the_end(">P <E >QFPBdcfHDEC <N >S <ZI");
    expect_rest_at_the_end(">P <E >QS <ZI");
}

Test(flow, a_query_fails_for_itself_when_what_was_before_it_is_answered)
{
    expect_rest_at_the_end(">PQS <1EZI ZI");
    expect_rest_at_the_end(">PBFS <12EZI ZI");
}

/* statement_timeout goes on between extended messages. */
Test(flow, an_error_may_come_between_extended_messages)
{
    expect_rest_at_the_end(">PH <1 >H <E >S <ZI");
    expect_rest_at_the_end(">PH <1 >BS <EZI");
}

/* ---- COPY ----------------------------------------------------------------------------
 */

Test(flow, copy_out_is_an_answer_as_any)
{
    expect_rest_at_the_end(">Q <HdddcCZI");
    expect_rest_at_the_end(">Q <HdEZI");
    expect_rest_at_the_end(">PBESS <12HdcCZIZI");
}

Test(flow, copy_in_is_ended_by_the_client)
{
    expect_need(">Q <G", FLOW_NEEDS_COPY_FAIL);
    expect_need(">Q <G >ddd", FLOW_NEEDS_COPY_FAIL);
    expect_need(">Q <G >ddc", FLOW_NEEDS_ANSWERS);
    expect_rest_at_the_end(">Q <G >ddc <CZI");
    expect_rest_at_the_end(">Q <G >df <EZI");
    expect_rest_at_the_end(">Q <CG >ddc <CCZI");
    expect_rest_at_the_end(">PBE <12G >dc <C >S <ZI");
    expect_rest_at_the_end(">PBE <12G >dcS <C ZI");
    expect_rest_at_the_end(">PBE <12G >dfS <E ZI");
    expect_need(">PBE <12G", FLOW_NEEDS_COPY_FAIL);
    expect_need(">PBE <12G >c", FLOW_NEEDS_SYNC);
    expect_need(">PBE <12G >f <E", FLOW_NEEDS_SYNC);
}

Test(flow, knows_when_the_server_takes_data)
{
    static const char *const yes[] = {">Q <G",      ">Q <G >dS",    ">PBES <12G",
                                      ">Q <CCG",    ">Q <G >c <CG", ">Q <W",
                                      ">Q <W >d <d"};
    static const char *const no[] = {"",       ">Q",     ">Qd",   ">Q <G >c", ">Q <G >f",
                                     ">Qc <G", ">Q <GE", ">Q <H", ">Q <W >c", ">Q <WE"};

    for (size_t i = 0; i < COUNT_OF(yes); i++)
        cr_expect(flow_is_copying_in(&(struct flow[]){after(yes[i])}[0]), "%s", yes[i]);
    for (size_t i = 0; i < COUNT_OF(no); i++)
        cr_expect_not(flow_is_copying_in(&(struct flow[]){after(no[i])}[0]), "%s", no[i]);
}

Test(flow, syncs_into_copy_in_are_swallowed)
{
    expect_rest_at_the_end(">Q <G >SdSSc <CZI");
    expect_rest_at_the_end(">Q <G >SHdcS <CZIZI");
    expect_rest_at_the_end(">PBES <12G >dcS <CZI");
    expect_rest_at_the_end(">PBES <12G >SdScSS <CZIZI");
    expect_need(">PBES <12G >dc", FLOW_NEEDS_SYNC);
    expect_need(">PBES <12G >dc <C", FLOW_NEEDS_SYNC);
}

Test(flow, the_end_of_copy_in_may_be_forwarded_before_it_is_seen_to_begin)
{
    expect_rest_at_the_end(">Qddc <GCZI");
    expect_rest_at_the_end(">QdcS <GCZIZI");
    expect_rest_at_the_end(">QSdSc <GCZI");
    expect_rest_at_the_end(">QSdScS <GCZIZI");
    expect_rest_at_the_end(">PBESdcS <12GCZI");
    expect_rest_at_the_end(">PBEHdcS <12GCZI");
    expect_rest_at_the_end(">PBESSdcSS <12GCZIZI");
    expect_need(">PBESdc <12GC", FLOW_NEEDS_SYNC);
    expect_rest_at_the_end(">PBESdc <12GC >S <ZI");
    expect_rest_at_the_end(">PBE <12 >Sdc <G C >S <ZI");
    expect_rest_at_the_end(">PBES Qdc QS <12CZI GCZI CZI ZI");
    expect_rest_at_the_end(">PBES PBESdcS PBES <12CZI 12GCZI 12CZI");
    expect_rest_at_the_end(">PBEcPBES <12GC12CZI");
    expect_rest_at_the_end(">QfS <GEZIZI");
    expect_rest_at_the_end(">PBEfS <12GEZI");
}

Test(flow, one_query_may_copy_more_than_once)
{
    expect_rest_at_the_end(">Q <G >c <CG >c <CZI");
    expect_rest_at_the_end(">Qcc <GCGCZI");
    expect_rest_at_the_end(">QScSc <GCGCZI");
    expect_rest_at_the_end(">QccQcc <GCGCZIGCGCZI");
    expect_rest_at_the_end(">QcScS <GCGCZIZI");
    expect_rest_at_the_end(">Qcc <GCEZI");
}

Test(flow, what_belongs_to_no_copy_is_ignored)
{
    expect_need(">dcfdddc", FLOW_NEEDS_NOTHING);
    expect_rest_at_the_end(">Qc <CZI");
    expect_rest_at_the_end(">QcQc <CZI GCZI");
    expect_rest_at_the_end(">Qccc <GCZI");
    expect_rest_at_the_end(">QccQ <GCZICZI");
    expect_rest_at_the_end(">PcBfEcS <12CZI");
    expect_rest_at_the_end(">PBEScccS <12CZIZI");
    expect_rest_at_the_end(">PcPcPc <111 >S <ZI");
    expect_need(">Q <G >d <EZI >ddc", FLOW_NEEDS_NOTHING);
    expect_need(">Q <G >ddd <EZI", FLOW_NEEDS_NOTHING);
}

Test(flow, a_copy_that_fails_before_it_begins_has_swallowed_nothing)
{
    expect_rest_at_the_end(">PBESdcS <12EZIZI");
    expect_rest_at_the_end(">PBESdcS <EZIZI");
    expect_rest_at_the_end(">QSdcS <EZIZIZI");
}

Test(flow, a_failed_copy_without_syncs_inside_leaves_no_doubt)
{
    expect_rest_at_the_end(">QcS <GEZIZI");
    expect_rest_at_the_end(">QcSQ <GEZIZICZI");
    expect_rest_at_the_end(">PBEcS <12GEZI");
    expect_rest_at_the_end(">PBEcQPBES <12GEZI");
    expect_rest_at_the_end(">PBE <12G >d <E >dcQS <ZI");
}

Test(flow, after_a_failed_copy_left_over_syncs_may_be_answered_or_not)
{
    /* in a Query */
    expect_need(">QS <GEZI", FLOW_NEEDS_ROLLBACK);
    expect_rest_at_the_end(">QS <GEZI ZI");
    expect_rest_at_the_end(">QS <GEZI >Q <CZI");
    expect_rest_at_the_end(">QS <GEZI >Q <ZICZI");
    expect_rest_at_the_end(">QScQ <GEZI CZI");
    expect_rest_at_the_end(">QScQ <GEZI ZICZI");
    expect_rest_at_the_end(">QScF <GEZI ZIVZI");
    expect_rest_at_the_end(">QSSScPS <GEZI ZIZI1ZI");
    expect_need(">QSScS <GEZIZI", FLOW_NEEDS_ROLLBACK);
    expect_need(">QSScS <GEZIZIZI", FLOW_NEEDS_ROLLBACK);
    expect_rest_at_the_end(">QSScS <GEZIZIZIZI");
    expect_rest_at_the_end(">Q <G >Sd <EZI >P <ZI1 >S <ZI");
    /* in an extended message */
    expect_need(">PBES <12G >d <E", FLOW_NEEDS_SYNC);
    expect_need(">PBES <12G >dc <E >S", FLOW_NEEDS_ANSWERS);
    expect_need(">PBES <12G >dcS <EZI", FLOW_NEEDS_ROLLBACK);
    expect_rest_at_the_end(">PBES <12G >dcS <EZI ZI");
    expect_rest_at_the_end(">PBES <12G >dcS <EZI >Q <CZI");
    expect_rest_at_the_end(">PBES <12G >dcS <EZI >Q <ZICZI");
    expect_rest_at_the_end(">PBES <12G >dcS <EZI >PS <E ZI");
    expect_rest_at_the_end(">PBES <12GE ZI"); /* no longer skipping */
    expect_need(">PBES <12GE ZI >Q", FLOW_NEEDS_ANSWERS);
    expect_rest_at_the_end(">PBES <12GE >S <ZI ZI");
    /* the next copy is an answer, too */
    expect_rest_at_the_end(">QS <GEZI >Q <G >c <CZI");
}

Test(flow, an_error_at_the_sync_after_a_failed_copy_leaves_the_doubt)
{
    expect_need(">PBES <12G >dcS <EEZI", FLOW_NEEDS_ROLLBACK);
    expect_need(">QS <GEDZI",
                FLOW_NEEDS_ROLLBACK); /* nor does what belongs to the Query */
}

Test(flow, what_may_be_skipped_or_not_cannot_be_followed)
{
    cr_expect_eq(
        flow_need(&(struct flow[]){after_wrong(">PBEScPS <12GE", FLOW_CONFUSED)}[0]),
        FLOW_NEEDS_CLOSE);
    after_wrong(">PBEScQS <12GE", FLOW_CONFUSED);
    after_wrong(">PBEScQ <12GE", FLOW_CONFUSED);
    after_wrong(">BESBES <2GE", FLOW_CONFUSED);
    after_wrong(">PBES <12G >d <E >P", FLOW_ILLEGAL);
    after_wrong(">PBES <12G >d <E >Q", FLOW_ILLEGAL);
    after_wrong(">PBES <12G >d <E >F", FLOW_ILLEGAL);
    expect_rest_at_the_end(">PBEScSPS <12GEZI1ZI");
}

Test(flow, during_copy_in_nothing_else_is_forwarded)
{
    for (const char *type = "PBDECQF"; *type != '\0'; type++) {
        char script[32] = ">Q <G >d?";

        script[8] = *type;
        after_wrong(script, FLOW_ILLEGAL);
        strcpy(script, ">PBES <12G >?");
        script[12] = *type;
        after_wrong(script, FLOW_ILLEGAL);
        strcpy(script, ">Q <G >c?");
        script[8] = *type;
        (void)after(script);
    }
}

/* PostgreSQL closes the connection; unless the copy has failed for another reason. */
Test(flow, what_breaks_into_a_copy_before_it_is_seen_is_the_servers_affair)
{
    expect_rest_at_the_end(">PBEPBES <12GEZI");
    expect_rest_at_the_end(">PBEESPS <12GEZI1ZI");
    expect_rest_at_the_end(">QQ <GEZICZI");
    expect_rest_at_the_end(">QPS <GEZI1ZI");
    expect_rest_at_the_end(">QSPS <GEZI1ZI");
    expect_need(">PBEE <12G", FLOW_NEEDS_SYNC);
    expect_need(">PBEcE <12G", FLOW_NEEDS_SYNC);
    expect_need(">BESBES <2G", FLOW_NEEDS_ANSWERS);
    expect_need(">QQ <G", FLOW_NEEDS_ANSWERS);
    expect_need(">QPS <G", FLOW_NEEDS_ANSWERS);
    expect_need(">QSP <G", FLOW_NEEDS_SYNC);
}

Test(flow, copy_both_goes_on_until_both_have_ended_it)
{
    expect_need(">Q <W", FLOW_NEEDS_CLOSE);
    expect_rest_at_the_end(">Q <Wd >d <d >c <cCZI");
    expect_rest_at_the_end(">Q <Wdc >c <TDCCZI");
    expect_rest_at_the_end(">Q <W >dcQ <cCZI TDCZI");
    expect_rest_at_the_end(">Q <WdEZI");
    expect_need(">Q <WdEZI >PBES <12G >cS <CZI", FLOW_NEEDS_NOTHING);
    for (const char *type = "PBDECQFS"; *type != '\0'; type++) {
        char script[] = ">Q <W >?";

        script[7] = *type;
        after_wrong(script, FLOW_ILLEGAL);
    }
}

/* ---- what is wrong -------------------------------------------------------------------
 */

Test(flow, what_a_client_may_not_send_is_not_forwarded)
{
    for (unsigned type = 0; type < 256; type++) {
        struct flow flow = {0};
        bool is_legal = type != 0 && strchr("QFPBDECSHdcf", (int)type) != NULL;

        cr_expect_eq(flow_forward(&flow, (uint8_t)type),
                     is_legal ? FLOW_GOES_ON : FLOW_ILLEGAL, "%u", type);
    }
}

Test(flow, an_answer_to_nothing_is_confusion)
{
    static const char *const scripts[] = {
        /* at rest, and after that */
        "<ZI",
        "<C",
        "<D",
        "<T",
        "<1",
        "<V",
        "<d",
        "<G",
        "<H",
        "<W",
        "<E",
        "<s",
        ">Q <CZIZI",
        ">Q <CZTE",
        ">Q <CZTD",
        ">QQ <CZICZIZI",
        ">PBES <12CZI2",
        /* to a Sync or FunctionCall */
        ">S <C",
        ">S <D",
        ">S <1",
        ">S <G",
        ">S <V",
        ">F <C",
        ">F <T",
        ">F <G",
        ">F <W",
        /* before extended messages are answered, or after */
        ">PS <ZI",
        ">PBES <12ZI",
        ">P <ZI",
        ">P <1C",
        ">PH <1ZI",
        ">PS <W",
        /* while everything is skipped */
        ">P <E1",
        ">P <EE",
        ">P <EZI",
        ">P <E >BE <2",
        /* in copy-in, and its end without ours */
        ">Q <GZI",
        ">Q <GC",
        ">Q <GT",
        ">Q <GD",
        ">Q <Gd",
        ">Q <GG",
        ">Q <GW",
        ">Q <WG",
        ">Q <WW",
        ">Q <G >d <C",
        ">Q <G >S <C",
        ">PBE <12GC",
        ">Qc <GT",
        ">Qc <GI",
        ">Qc <GCC ZIZI",
        /* more than were left over */
        ">QS <GEZIZIZI",
        ">PBES <12G >dcS <EZIZIZI",
        /* of a login, or of nobody */
        ">Q <R",
        ">Q <K",
        ">Q <v",
        ">Q <Q",
        ">Q <x",
        ">Q <Z?",
    };

    for (size_t i = 0; i < COUNT_OF(scripts); i++) {
        struct flow flow = after_wrong(scripts[i], FLOW_CONFUSED);

        cr_expect_eq(flow_need(&flow), FLOW_NEEDS_CLOSE, "%s", scripts[i]);
        cr_expect_not(flow_is_at_rest(&flow), "%s", scripts[i]);
        cr_expect_eq(flow_see(&flow, 'N'), FLOW_CONFUSED, "%s", scripts[i]);
        cr_expect_eq(flow_see(&flow, 'C'), FLOW_CONFUSED, "%s", scripts[i]);
        cr_expect_eq(flow_see_ready(&flow, 'I'), FLOW_CONFUSED, "%s", scripts[i]);
        cr_expect_not(flow_is_at_rest(&flow), "%s", scripts[i]);
    }
}

/* ---- the short ways -------------------------------------------------------------------
 */

/* But for what is left in groups that are not in use. */
static void expect_same(const struct flow *a, const struct flow *b, const char *script,
                        unsigned type)
{
    cr_assert(a->flags == b->flags && a->status == b->status &&
                  a->n_groups == b->n_groups && a->n_left == b->n_left &&
                  a->n_tail == b->n_tail && a->n_unsure == b->n_unsure &&
                  a->n_forwarded == b->n_forwarded && a->n_answered == b->n_answered,
              "%s, then %u", script, type);
    for (unsigned i = 0; i < a->n_groups; i++)
        cr_assert_eq(memcmp(&a->groups[(a->first + i) % FLOW_GROUPS],
                            &b->groups[(b->first + i) % FLOW_GROUPS],
                            sizeof a->groups[0]),
                     0, "%s, then %u", script, type);
}

Test(flow, the_short_ways_lead_where_the_long_ones_do)
{
    static const char *const scripts[] = {
        "",           ">Q",           ">Q <TD",
        ">QQ",        ">QS",          ">PBDES",
        ">PBDES <12", ">PBDE",        ">F",
        ">S",         ">Q <CZT",      ">P <E",
        ">Q <G",      ">Q <G >c",     ">QS <GE",
        ">QS <GEZI",  ">QS <GEZI >Q", ">Q <W",
        ">[Q",        ">PS <1",       ">PBES <12G >dcS <E",
        ">PcQ",       ">PQ <1"};

    for (size_t i = 0; i < COUNT_OF(scripts); i++)
        for (unsigned type = 0; type < 256; type++) {
            struct flow a = after(scripts[i]), b = a;

            cr_assert_eq(flow_forward(&a, (uint8_t)type),
                         flow_forward_any(&b, (uint8_t)type));
            expect_same(&a, &b, scripts[i], type);
            a = b = after(scripts[i]);
            cr_assert_eq(flow_see(&a, (uint8_t)type), flow_see_any(&b, (uint8_t)type));
            expect_same(&a, &b, scripts[i], type);
            a = b = after(scripts[i]);
            cr_assert_eq(flow_see_ready(&a, (char)type),
                         flow_see_ready_any(&b, (char)type));
            expect_same(&a, &b, scripts[i], type);
        }
}

Test(flow, a_server_at_rest_ignores_only_what_is_late)
{
    for (unsigned type = 0; type < 256; type++)
        cr_expect_eq(flow_is_ignored_at_rest((uint8_t)type),
                     type != 0 && strchr("dcfH", (int)type) != NULL, "%u", type);
}
