#include "wire/scram.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/packets.h"
#include "wire/base64.h"
#include "wire/secret.h"

TestSuite(scram, .timeout = 120);

/* RFC 7677, 3: user "user" with the password "pencil". */
#define CLIENT_NONCE "rOprNGfwEbeRWgbNEkqO"
#define SERVER_NONCE "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
#define BARE "n=user,r=" CLIENT_NONCE
#define CHALLENGE "r=" CLIENT_NONCE SERVER_NONCE ",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
#define FINAL_BEGIN "c=biws,r=" CLIENT_NONCE SERVER_NONCE
#define PROOF "p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
#define FINAL FINAL_BEGIN "," PROOF
#define SIGNATURE "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
#define RFC_SECRET \
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLm" \
    "tbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="

static const struct channel_binding no_binding;

static struct scram_verifier rfc_verifier(void)
{
    struct secret secret;

    cr_assert_eq(secret_parse(RFC_SECRET, strlen(RFC_SECRET), &secret), SECRET_FINE);
    return secret.scram;
}

static struct scram_server rfc_server(void)
{
    struct scram_verifier verifier = rfc_verifier();
    struct scram_server server;

    scram_server_init(&server, &verifier, SCRAM_SHA_256, &no_binding, SERVER_NONCE);
    return server;
}

/* Hands over memory that ends where the text ends. */
static enum scram_result tell_n(struct scram_server *server, const char *text, size_t n,
                                struct scram_message *answer)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    enum scram_result result;

    memcpy(copy, text, n);
    result = scram_server_read(server, copy, n, answer);
    free(copy);
    return result;
}

static enum scram_result tell(struct scram_server *server, const char *text,
                              struct scram_message *answer)
{
    return tell_n(server, text, strlen(text), answer);
}

static void expect_text(const struct scram_message *message, const char *wanted)
{
    cr_expect_eq(message->n, strlen(wanted), "%.*s", (int)message->n, message->bytes);
    cr_expect_eq(memcmp(message->bytes, wanted, message->n), 0, "%.*s", (int)message->n,
                 message->bytes);
}

static void expect_first(const char *first, enum scram_result wanted)
{
    struct scram_server server = rfc_server();
    struct scram_message answer = {.n = 99};
    enum scram_result result = tell(&server, first, &answer);

    cr_expect_eq(result, wanted, "%s: %s", first, scram_result_text(result));
    if (result == SCRAM_GOES_ON)
        return;
    cr_expect_eq(answer.n, 99, "untouched");
    cr_expect_eq(tell(&server, "n,," BARE, &answer), SCRAM_OUT_OF_TURN);
}

/* The RFC's server, after the RFC's first message. */
static enum scram_result result_of_final(const char *final, size_t n)
{
    struct scram_server server = rfc_server();
    struct scram_message answer;
    enum scram_result result;

    cr_assert_eq(tell(&server, "n,," BARE, &answer), SCRAM_GOES_ON);
    result = tell_n(&server, final, n, &answer);
    if (result != SCRAM_DONE)
        cr_assert_eq(tell(&server, FINAL, &answer), SCRAM_OUT_OF_TURN, "one attempt");
    return result;
}

static void expect_final(const char *final, enum scram_result wanted)
{
    enum scram_result result = result_of_final(final, strlen(final));

    cr_expect_eq(result, wanted, "%s: %s", final, scram_result_text(result));
}

/* ---- the RFC's exchange -------------------------------------------------------------
 */

Test(scram, as_a_server_it_says_what_the_rfc_says)
{
    struct scram_server server = rfc_server();
    struct scram_message answer;
    struct scram_keys keys, wanted;

    cr_assert_eq(tell(&server, "n,," BARE, &answer), SCRAM_GOES_ON);
    expect_text(&answer, CHALLENGE);
    cr_assert_eq(tell(&server, FINAL, &answer), SCRAM_DONE);
    expect_text(&answer, SIGNATURE);

    scram_server_keys(&server, &keys);
    cr_assert(scram_keys_from_password("pencil", 6, &server.verifier.salt, &wanted));
    cr_expect(scram_salt_is_equal(&keys.salt, &wanted.salt));
    cr_expect_eq(memcmp(keys.client_key, wanted.client_key, SCRAM_KEY_BYTES), 0);
    cr_expect_eq(memcmp(keys.server_key, wanted.server_key, SCRAM_KEY_BYTES), 0);
    cr_expect_eq(tell(&server, FINAL, &answer), SCRAM_OUT_OF_TURN);
}

/* A client that says what the RFC's says: PostgreSQL's clients leave out the name. */
static struct scram_client rfc_client(void)
{
    struct scram_message answer;
    struct scram_client client;

    cr_assert_eq(
        scram_client_start(&client, SCRAM_SHA_256, NULL, false, CLIENT_NONCE, &answer),
        SCRAM_GOES_ON);
    expect_text(&answer, "n,,n=,r=" CLIENT_NONCE);
    expect_text(&client.first, "n=,r=" CLIENT_NONCE);
    client.first.n = strlen(BARE);
    memcpy(client.first.bytes, BARE, strlen(BARE));
    return client;
}

static enum scram_result challenge_n(struct scram_client *client, const char *text,
                                     size_t n)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    enum scram_result result;

    memcpy(copy, text, n);
    result = scram_client_read_challenge(client, copy, n);
    free(copy);
    return result;
}

static enum scram_result end_n(struct scram_client *client, const char *text, size_t n)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    enum scram_result result;

    memcpy(copy, text, n);
    result = scram_client_read_end(client, copy, n);
    free(copy);
    return result;
}

static struct scram_keys rfc_keys(void)
{
    struct scram_verifier verifier = rfc_verifier();
    struct scram_keys keys;

    cr_assert(scram_keys_from_password("pencil", 6, &verifier.salt, &keys));
    return keys;
}

/* The RFC's client, that has proven itself and awaits the server's last word. */
static struct scram_client proven_client(const struct scram_keys *keys)
{
    struct scram_client client = rfc_client();
    struct scram_message answer;

    cr_assert_eq(challenge_n(&client, CHALLENGE, strlen(CHALLENGE)), SCRAM_GOES_ON);
    cr_assert_eq(scram_client_answer(&client, keys, &answer), SCRAM_GOES_ON);
    expect_text(&answer, FINAL);
    return client;
}

Test(scram, as_a_client_it_says_what_the_rfc_says)
{
    struct scram_client client = rfc_client();
    struct scram_message answer;
    struct scram_keys keys;

    cr_assert_eq(challenge_n(&client, CHALLENGE, strlen(CHALLENGE)), SCRAM_GOES_ON);
    cr_expect_eq(client.salt.iterations, 4096);
    cr_expect_eq(client.salt.n, 16);
    cr_assert(scram_keys_from_password("pencil", 6, &client.salt, &keys));
    cr_expect(scram_client_fits(&client, &keys));
    cr_assert_eq(scram_client_answer(&client, &keys, &answer), SCRAM_GOES_ON);
    expect_text(&answer, FINAL);
    cr_expect_not(scram_client_has_verified(&client));
    cr_expect_eq(end_n(&client, SIGNATURE, strlen(SIGNATURE)), SCRAM_DONE);
    cr_expect(scram_client_has_verified(&client));
    cr_expect_eq(end_n(&client, SIGNATURE, strlen(SIGNATURE)), SCRAM_OUT_OF_TURN);
    cr_expect_not(scram_client_has_verified(&client));
}

/* ---- what a client may begin with ---------------------------------------------------
 */

Test(scram, takes_the_first_words_of_postgresqls_clients)
{
    expect_first("n,,n=,r=abc", SCRAM_GOES_ON);
    expect_first("y,,n=,r=abc", SCRAM_GOES_ON);
    expect_first("n,,n=*,r=abc", SCRAM_GOES_ON);
    expect_first("n,,n=a=2Cb=3D\xc3\xa4,r=!+~=-", SCRAM_GOES_ON);
    expect_first("n,,n=,r=abc,x=extension,Y=", SCRAM_GOES_ON);
}

Test(scram, refuses_first_words_that_are_malformed)
{
    static const char *const wrong[] = {
        "",           "n",           "n,",          "n,,",          "n,,n=",
        "n,,n=,",     "n,,n=,r",     "n,,n=,r=",    "n,n=,r=abc",   ",,n=,r=abc",
        "N,,n=,r=a",  "x,,n=,r=abc", "nn,,n=,r=a",  "n ,,n=,r=abc", "n,b=x,n=,r=abc",
        "p,,n=,r=a",  "p=,,n=,r=a",  "n,,r=abc",    "n,,r=abc,n=",  "n,,n=,s=abc",
        "n,,n,r=ab",  "n,,n=,r=a b", "n,,n=,r=\t",  "n,,n=,r=\x7f", "n,,n=,r=\xc3\xa4",
        "n,,n=,r=a,", "n,,n=,r=a,,", "n,,n=,r=a,x", "n,,n=,r=a,1=", "n,,n=,r=a,=b",
        "n,,,n=,r=a", "n,, n=,r=a",
    };

    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        expect_first(wrong[i], SCRAM_MALFORMED);
}

Test(scram, refuses_what_it_does_not_do)
{
    expect_first("n,a=admin,n=,r=abc", SCRAM_UNSUPPORTED);
    expect_first("n,a=,n=,r=abc", SCRAM_UNSUPPORTED);
    expect_first("n,,m=x,n=,r=abc", SCRAM_UNSUPPORTED);
    expect_first("n,,n=,m=x,r=abc", SCRAM_UNSUPPORTED);
    expect_first("n,,n=,r=abc,m=x", SCRAM_UNSUPPORTED);
    expect_first("n,,n=,r=abc,x=y,m=", SCRAM_UNSUPPORTED);
}

Test(scram, a_zero_byte_is_malformed_wherever_it_stands)
{
    static const char first[] = "n,,n=user,r=abcdefgh,x=yz";

    for (size_t i = 0; i < sizeof first; i++) {
        struct scram_server server = rfc_server();
        struct scram_message answer;
        char bytes[sizeof first];

        memcpy(bytes, first, sizeof first);
        bytes[i] = '\0';
        cr_assert_eq(tell_n(&server, bytes, sizeof bytes, &answer), SCRAM_MALFORMED);
    }
}

static void add(struct packet *packet, const char *text)
{
    packet_add(packet, text, strlen(text));
}

static void add_many(struct packet *packet, char c, size_t n)
{
    while (n-- > 0)
        packet_add(packet, &c, 1);
}

static enum scram_result with_lengths(size_t n_name, size_t n_nonce)
{
    struct scram_server server = rfc_server();
    struct scram_message answer;
    struct packet first = {0};

    add(&first, "n,,n=");
    add_many(&first, 'u', n_name);
    add(&first, ",r=");
    add_many(&first, 'r', n_nonce);
    return tell_n(&server, (const char *)first.bytes, first.n, &answer);
}

Test(scram, first_words_have_limits)
{
    cr_expect_eq(with_lengths(0, SCRAM_NONCE_MAX), SCRAM_GOES_ON);
    cr_expect_eq(with_lengths(0, SCRAM_NONCE_MAX + 1), SCRAM_TOO_LONG);
    cr_expect_eq(with_lengths(0, 1500), SCRAM_TOO_LONG);
    cr_expect_eq(with_lengths(SCRAM_BARE_MAX - 5 - 20, 20), SCRAM_GOES_ON);
    cr_expect_eq(with_lengths(SCRAM_BARE_MAX - 5 - 20 + 1, 20), SCRAM_TOO_LONG);
    cr_expect_eq(with_lengths(SCRAM_BARE_MAX - 5 - 128, 128), SCRAM_GOES_ON);
    cr_expect_eq(with_lengths(1500, 20), SCRAM_TOO_LONG);
}

Test(scram, a_client_that_says_nothing_at_first_is_asked_once)
{
    struct scram_server server = rfc_server();
    struct scram_message answer = {.n = 99};

    cr_expect_eq(scram_server_read(&server, NULL, 0, &answer), SCRAM_GOES_ON);
    cr_expect_eq(answer.n, 0);
    cr_expect_eq(tell(&server, "n,," BARE, &answer), SCRAM_GOES_ON);
    cr_expect_eq(tell(&server, FINAL, &answer), SCRAM_DONE);

    server = rfc_server();
    cr_expect_eq(scram_server_read(&server, NULL, 0, &answer), SCRAM_GOES_ON);
    cr_expect_eq(scram_server_read(&server, NULL, 0, &answer), SCRAM_OUT_OF_TURN);

    server = rfc_server();
    cr_expect_eq(tell(&server, "n,," BARE, &answer), SCRAM_GOES_ON);
    cr_expect_eq(scram_server_read(&server, NULL, 0, &answer), SCRAM_OUT_OF_TURN);
}

/* ---- what a client may end with -----------------------------------------------------
 */

Test(scram, refuses_last_words_that_are_malformed)
{
    static const char *const wrong[] = {
        "",
        "c=biws",
        "c=biws,",
        FINAL_BEGIN,
        FINAL_BEGIN ",",
        FINAL_BEGIN ",p",
        FINAL_BEGIN ",p=",
        FINAL_BEGIN ",p=AAAA",
        FINAL_BEGIN ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVR=", /* not canonical */
        FINAL_BEGIN ",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQAAAA=",
        FINAL ",",
        FINAL ",x=y",
        FINAL "," PROOF,
        FINAL_BEGIN "," PROOF "=",
        FINAL_BEGIN ",x," PROOF,
        FINAL_BEGIN ",," PROOF,
        "r=" CLIENT_NONCE SERVER_NONCE ",c=biws," PROOF,
        PROOF,
    };

    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        expect_final(wrong[i], SCRAM_MALFORMED);
    expect_final("c=biws," PROOF, SCRAM_MALFORMED);
    expect_final("m=x," FINAL, SCRAM_UNSUPPORTED);
    expect_final("c=biws,m=x,r=" CLIENT_NONCE SERVER_NONCE "," PROOF, SCRAM_UNSUPPORTED);
    expect_final(FINAL_BEGIN ",m=x," PROOF, SCRAM_UNSUPPORTED);
}

Test(scram, refuses_the_words_of_another_exchange)
{
    expect_final("c=,r=" CLIENT_NONCE SERVER_NONCE "," PROOF, SCRAM_BINDING_DIFFERS);
    expect_final("c=eSws,r=" CLIENT_NONCE SERVER_NONCE "," PROOF, SCRAM_BINDING_DIFFERS);
    expect_final("c=biwsAAAA,r=" CLIENT_NONCE SERVER_NONCE "," PROOF,
                 SCRAM_BINDING_DIFFERS);
    expect_final("c=biws,r=," PROOF, SCRAM_NONCE_DIFFERS);
    expect_final("c=biws,r=" CLIENT_NONCE "," PROOF, SCRAM_NONCE_DIFFERS);
    expect_final("c=biws,r=" SERVER_NONCE "," PROOF, SCRAM_NONCE_DIFFERS);
    expect_final("c=biws,r=" CLIENT_NONCE SERVER_NONCE "x," PROOF, SCRAM_NONCE_DIFFERS);
}

Test(scram, refuses_a_proof_of_something_else)
{
    /* signed are the extensions, too */
    expect_final(FINAL_BEGIN ",x=y," PROOF, SCRAM_WRONG_PROOF);
    expect_final(FINAL_BEGIN ",p=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                 SCRAM_WRONG_PROOF);
    expect_final(FINAL_BEGIN ",p=WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=",
                 SCRAM_WRONG_PROOF);
}

static enum scram_result with_length(size_t n)
{
    struct packet final = {0};

    add(&final, FINAL_BEGIN ",x=");
    add_many(&final, 'x', n - final.n - strlen("," PROOF));
    add(&final, "," PROOF);
    return result_of_final((const char *) final.bytes, final.n);
}

Test(scram, last_words_have_limits)
{
    cr_expect_eq(with_length(SCRAM_INPUT_MAX), SCRAM_WRONG_PROOF);
    cr_expect_eq(with_length(SCRAM_INPUT_MAX + 1), SCRAM_TOO_LONG);
}

Test(scram, nobody_logs_in_with_a_mock)
{
    struct scram_verifier verifier = rfc_verifier();
    struct scram_server server;
    struct scram_message answer;

    verifier.is_mock = true;
    scram_server_init(&server, &verifier, SCRAM_SHA_256, &no_binding, SERVER_NONCE);
    cr_assert_eq(tell(&server, "n,," BARE, &answer), SCRAM_GOES_ON);
    expect_text(&answer, CHALLENGE);
    cr_expect_eq(tell(&server, FINAL, &answer), SCRAM_WRONG_PROOF, "as everybody else's");
}

Test(scram, the_keys_of_a_client_that_was_refused_are_not_handed_out, .signal = SIGABRT)
{
    struct scram_server server = rfc_server();
    struct scram_message answer;
    struct scram_keys keys;

    (void)!tell(&server, "n,," BARE, &answer);
    (void)!tell(&server, FINAL_BEGIN ",x=y," PROOF, &answer);
    scram_server_keys(&server, &keys);
}

/* ---- what a server may say ----------------------------------------------------------
 */

static void expect_challenge(const char *text, enum scram_result wanted)
{
    struct scram_client client = rfc_client();
    enum scram_result result = challenge_n(&client, text, strlen(text));

    cr_expect_eq(result, wanted, "%s: %s", text, scram_result_text(result));
    if (result != SCRAM_GOES_ON)
        cr_expect_eq(challenge_n(&client, CHALLENGE, strlen(CHALLENGE)),
                     SCRAM_OUT_OF_TURN);
}

#define NONCES "r=" CLIENT_NONCE SERVER_NONCE

Test(scram, refuses_challenges_that_are_malformed)
{
    static const char *const wrong[] = {
        "",
        "r",
        NONCES,
        NONCES ",",
        NONCES ",s=AAAA",
        NONCES ",s=AAAA,",
        NONCES ",s=AAAA,i=",
        NONCES ",s=AAAA,i=0",
        NONCES ",s=AAAA,i=00",
        NONCES ",s=AAAA,i=-1",
        NONCES ",s=AAAA,i=+1",
        NONCES ",s=AAAA,i= 1",
        NONCES ",s=AAAA,i=1 ",
        NONCES ",s=AAAA,i=1x",
        NONCES ",s=AAAA,i=1.5",
        NONCES ",s=AAAA,i=1,",
        NONCES ",s=AAAA,i=1,x=y",
        NONCES ",s=,i=1",
        NONCES ",s=AAA,i=1",
        NONCES ",s=AA\nA,i=1",
        NONCES ",i=1,s=AAAA",
        "s=AAAA,i=1," NONCES,
        "r=" CLIENT_NONCE "\xc3\xa4,s=AAAA,i=1",
        "v=AAAA",
        "e=other-error",
    };

    for (size_t i = 0; i < COUNT_OF(wrong); i++)
        expect_challenge(wrong[i], SCRAM_MALFORMED);
    expect_challenge(NONCES ",s=AAAA,i=1", SCRAM_GOES_ON);
    expect_challenge("m=x," CHALLENGE, SCRAM_UNSUPPORTED);
    expect_challenge(NONCES ",m=x,s=AAAA,i=1", SCRAM_UNSUPPORTED);
}

Test(scram, refuses_a_challenge_to_somebody_else)
{
    expect_challenge("r=,s=AAAA,i=1", SCRAM_NONCE_DIFFERS);
    expect_challenge("r=" SERVER_NONCE ",s=AAAA,i=1", SCRAM_NONCE_DIFFERS);
    expect_challenge("r=sOprNGfwEbeRWgbNEkqO" SERVER_NONCE ",s=AAAA,i=1",
                     SCRAM_NONCE_DIFFERS);
    expect_challenge("r=" CLIENT_NONCE ",s=AAAA,i=1", SCRAM_NONCE_DIFFERS);
}

Test(scram, a_server_that_asks_for_too_much_work_is_refused)
{
    expect_challenge(NONCES ",s=AAAA,i=10000000", SCRAM_GOES_ON);
    expect_challenge(NONCES ",s=AAAA,i=10000001", SCRAM_ITERATIONS_ABSURD);
    expect_challenge(NONCES ",s=AAAA,i=4294967297", SCRAM_ITERATIONS_ABSURD);
    expect_challenge(NONCES ",s=AAAA,i=18446744073709551617", SCRAM_ITERATIONS_ABSURD);
    expect_challenge(NONCES ",s=AAAA,i=99999999999999999999999999999999999999999999",
                     SCRAM_ITERATIONS_ABSURD);
}

static enum scram_result challenge_with_lengths(size_t n_nonce, size_t n_salt)
{
    static const uint8_t salt[1000];
    struct scram_client client = rfc_client();
    char text[BASE64_LENGTH(1000)];
    struct packet challenge = {0};

    add(&challenge, "r=" CLIENT_NONCE);
    add_many(&challenge, 'x', n_nonce);
    add(&challenge, ",s=");
    packet_add(&challenge, text, base64_write(salt, n_salt, text));
    add(&challenge, ",i=1");
    return challenge_n(&client, (const char *)challenge.bytes, challenge.n);
}

Test(scram, challenges_have_limits)
{
    cr_expect_eq(challenge_with_lengths(SCRAM_NONCE_MAX, 16), SCRAM_GOES_ON);
    cr_expect_eq(challenge_with_lengths(SCRAM_NONCE_MAX + 1, 16), SCRAM_TOO_LONG);
    cr_expect_eq(challenge_with_lengths(2000, 16), SCRAM_TOO_LONG);
    cr_expect_eq(challenge_with_lengths(SCRAM_NONCE_MAX, SCRAM_SALT_MAX), SCRAM_GOES_ON);
    cr_expect_eq(challenge_with_lengths(20, SCRAM_SALT_MAX + 2), SCRAM_TOO_LONG);
    cr_expect_eq(challenge_with_lengths(20, 600), SCRAM_TOO_LONG);
}

Test(scram, keys_of_another_secret_do_not_fit)
{
    struct scram_client client = rfc_client();
    struct scram_keys keys = rfc_keys(), other;
    struct scram_message answer = {.n = 99};

    cr_expect_not(scram_client_fits(&client, &keys), "nothing is known yet");
    cr_assert_eq(challenge_n(&client, CHALLENGE, strlen(CHALLENGE)), SCRAM_GOES_ON);
    cr_expect(scram_client_fits(&client, &keys));
    other = keys;
    other.salt.bytes[15] ^= 1;
    cr_expect_not(scram_client_fits(&client, &other));
    cr_expect_eq(scram_client_answer(&client, &other, &answer), SCRAM_OTHER_SECRET);
    other = keys;
    other.salt.iterations++;
    cr_expect_not(scram_client_fits(&client, &other));
    cr_expect_eq(scram_client_answer(&client, &other, &answer), SCRAM_OTHER_SECRET);
    cr_expect_eq(answer.n, 99, "untouched");
    cr_expect_eq(scram_client_answer(&client, &keys, &answer), SCRAM_GOES_ON,
                 "others may be tried");
    cr_expect_not(scram_client_fits(&client, &keys), "it is answered");
    cr_expect_eq(scram_client_answer(&client, &keys, &answer), SCRAM_OUT_OF_TURN);
}

static void expect_end(const struct scram_keys *keys, const char *text,
                       enum scram_result wanted)
{
    struct scram_client client = proven_client(keys);
    enum scram_result result = end_n(&client, text, strlen(text));

    cr_expect_eq(result, wanted, "%s: %s", text, scram_result_text(result));
    cr_expect_not(scram_client_has_verified(&client));
    cr_expect_eq(end_n(&client, SIGNATURE, strlen(SIGNATURE)), SCRAM_OUT_OF_TURN);
}

Test(scram, a_server_that_does_not_know_the_secret_is_refused)
{
    struct scram_keys keys = rfc_keys();

    expect_end(&keys,
               "v=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", SCRAM_WRONG_SIGNATURE);
    expect_end(&keys, "e=invalid-proof", SCRAM_SERVER_REFUSED);
    expect_end(&keys, "e=", SCRAM_SERVER_REFUSED);
    expect_end(&keys, "", SCRAM_MALFORMED);
    expect_end(&keys, "v", SCRAM_MALFORMED);
    expect_end(&keys, "v=", SCRAM_MALFORMED);
    expect_end(&keys, "v=AAAA", SCRAM_MALFORMED);
    expect_end(&keys, SIGNATURE ",", SCRAM_MALFORMED);
    expect_end(&keys, SIGNATURE ",x=y", SCRAM_MALFORMED);
    expect_end(&keys, " " SIGNATURE, SCRAM_MALFORMED);
    expect_end(&keys, CHALLENGE, SCRAM_MALFORMED);
}

Test(scram, nothing_is_taken_out_of_turn)
{
    struct scram_client client = {0};
    struct scram_server server = {0};
    struct scram_keys keys = rfc_keys();
    struct scram_message answer;

    cr_expect_eq(challenge_n(&client, CHALLENGE, strlen(CHALLENGE)), SCRAM_OUT_OF_TURN);
    cr_expect_eq(end_n(&client, SIGNATURE, strlen(SIGNATURE)), SCRAM_OUT_OF_TURN);
    cr_expect_eq(scram_client_answer(&client, &keys, &answer), SCRAM_OUT_OF_TURN);
    cr_expect_eq(tell(&server, "n,," BARE, &answer), SCRAM_OUT_OF_TURN);

    client = rfc_client();
    cr_expect_eq(end_n(&client, SIGNATURE, strlen(SIGNATURE)), SCRAM_OUT_OF_TURN);
    client = rfc_client();
    cr_expect_eq(scram_client_answer(&client, &keys, &answer), SCRAM_OUT_OF_TURN);
    client = rfc_client();
    cr_assert_eq(challenge_n(&client, CHALLENGE, strlen(CHALLENGE)), SCRAM_GOES_ON);
    cr_expect_eq(challenge_n(&client, CHALLENGE, strlen(CHALLENGE)), SCRAM_OUT_OF_TURN);
    client = rfc_client();
    cr_assert_eq(challenge_n(&client, CHALLENGE, strlen(CHALLENGE)), SCRAM_GOES_ON);
    cr_expect_eq(end_n(&client, SIGNATURE, strlen(SIGNATURE)), SCRAM_OUT_OF_TURN);
}
