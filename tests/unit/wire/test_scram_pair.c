/* Both sides of SCRAM with each other: channel binding, keys that are passed through, and
 * messages that change on their way. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/crypto_fault.h"
#include "wire/scram.h"
#include "wire/secret.h"

TestSuite(scram_pair, .timeout = 120);

#define CLIENT_NONCE "fyko+d2lbbFgONRv9qkxdawL"
#define SERVER_NONCE "3rfcNHYJY1ZVvWVs7j012345"
/* Made by PostgreSQL 15 for the password "pencil". */
#define SECRET \
    "SCRAM-SHA-256$4096:zJqqAY+t5DxZw/+iE0JsaA==$+Qp6rLddf49l5mR04egwL0h2umNuJY4en9C4" \
    "PS5Qtj8=:ZWc9xOjQ0poZ5EHEVBudDh83nMIz4uIo9BCHDds9J28="

static const struct channel_binding none;
static const struct channel_binding of_a = {.n = 32, .hash = "certificate a"};
static const struct channel_binding of_b = {.n = 32, .hash = "certificate b"};
static const struct channel_binding longest = {.n = CHANNEL_BINDING_MAX, .hash = "long"};

static struct scram_verifier verifier(void)
{
    struct secret secret;

    cr_assert_eq(secret_parse(SECRET, strlen(SECRET), &secret), SECRET_FINE);
    return secret.scram;
}

static struct scram_keys keys_of(const char *password)
{
    struct scram_verifier of = verifier();
    struct scram_keys keys;

    cr_assert(scram_keys_from_password(password, strlen(password), &of.salt, &keys));
    return keys;
}

/* A connection as each side sees it; they differ when somebody is in between. */
struct ends {
    const struct channel_binding *client; /* NULL: it does not want to bind */
    const struct channel_binding *server;
    bool must_bind;
    unsigned removed; /* of the server's offer, on its way */
};

/* What is said, in its order. */
enum part { FIRST, CHALLENGE, FINAL, SIGNATURE, PARTS };

/* A login, in which one message may become another on its way. */
struct login {
    struct ends ends;
    const struct scram_keys *keys;
    enum part changed;
    const struct scram_message *replacement; /* NULL: none is changed */
    struct scram_client client;
    struct scram_server server;
    struct scram_message said[PARTS];
    enum scram_result result; /* SCRAM_DONE, or the first that was wrong */
};

static void pass(struct login *login, enum part part)
{
    if (login->replacement != NULL && login->changed == part)
        login->said[part] = *login->replacement;
}

/* From memory that ends where the message ends. */
static uint8_t *copy_of(const struct scram_message *message)
{
    uint8_t *copy = malloc(message->n > 0 ? message->n : 1);

    memcpy(copy, message->bytes, message->n);
    return copy;
}

static bool hear_server(struct login *login, enum part heard, enum part said)
{
    uint8_t *copy = copy_of(&login->said[heard]);

    login->result =
        scram_server_read(&login->server, copy, login->said[heard].n, &login->said[said]);
    free(copy);
    return login->result == (said == SIGNATURE ? SCRAM_DONE : SCRAM_GOES_ON);
}

static bool hear_client(struct login *login, enum part heard)
{
    uint8_t *copy = copy_of(&login->said[heard]);
    size_t n = login->said[heard].n;

    login->result = heard == CHALLENGE
                        ? scram_client_read_challenge(&login->client, copy, n)
                        : scram_client_read_end(&login->client, copy, n);
    free(copy);
    return login->result == (heard == SIGNATURE ? SCRAM_DONE : SCRAM_GOES_ON);
}

static void run(struct login *login)
{
    struct scram_verifier of = verifier();
    unsigned offer = scram_server_offer(login->ends.server) & ~login->ends.removed;

    login->result =
        scram_client_start(&login->client, offer, login->ends.client,
                           login->ends.must_bind, CLIENT_NONCE, &login->said[FIRST]);
    if (login->result != SCRAM_GOES_ON)
        return;
    scram_server_init(&login->server, &of, login->client.mechanism, login->ends.server,
                      SERVER_NONCE);
    pass(login, FIRST);
    if (!hear_server(login, FIRST, CHALLENGE))
        return;
    pass(login, CHALLENGE);
    if (!hear_client(login, CHALLENGE))
        return;
    login->result = scram_client_answer(&login->client, login->keys, &login->said[FINAL]);
    if (login->result != SCRAM_GOES_ON)
        return;
    pass(login, FINAL);
    if (!hear_server(login, FINAL, SIGNATURE))
        return;
    pass(login, SIGNATURE);
    (void)!hear_client(login, SIGNATURE);
}

static enum scram_result result_of(struct ends ends, const char *password)
{
    struct scram_keys keys = keys_of(password);
    struct login login = {.ends = ends, .keys = &keys};

    run(&login);
    cr_expect_eq(scram_client_has_verified(&login.client), login.result == SCRAM_DONE);
    return login.result;
}

static char begin_of(struct ends ends)
{
    struct scram_keys keys = keys_of("pencil");
    struct login login = {.ends = ends, .keys = &keys};

    run(&login);
    cr_assert_eq(login.result, SCRAM_DONE, "%s", scram_result_text(login.result));
    return login.said[FIRST].bytes[0];
}

/* ---- passwords ----------------------------------------------------------------------
 */

Test(scram_pair, the_right_password_logs_in)
{
    struct ends ends = {NULL, &none, false, 0};

    cr_expect_eq(result_of(ends, "pencil"), SCRAM_DONE);
    cr_expect_eq(result_of(ends, "Pencil"), SCRAM_WRONG_PROOF);
    cr_expect_eq(result_of(ends, "pencil "), SCRAM_WRONG_PROOF);
}

/* What a client's login gives us is enough to log in to a server with the same secret,
 * over another connection. */
Test(scram_pair, the_keys_of_a_login_log_in_elsewhere)
{
    struct scram_keys keys = keys_of("pencil"), passed;
    struct login first = {.ends = {&of_a, &of_a, true, 0}, .keys = &keys};
    struct login second = {.ends = {&of_b, &of_b, true, 0}, .keys = &passed};

    run(&first);
    cr_assert_eq(first.result, SCRAM_DONE);
    scram_server_keys(&first.server, &passed);
    run(&second);
    cr_expect_eq(second.result, SCRAM_DONE);
    passed.client_key[0] ^= 1;
    run(&second);
    cr_expect_eq(second.result, SCRAM_WRONG_PROOF);
}

/* Who has read the server's secret alone cannot log in: StoredKey is no ClientKey. */
Test(scram_pair, a_secret_that_was_stolen_does_not_log_in)
{
    struct scram_verifier of = verifier();
    struct scram_keys keys = {.salt = of.salt};
    struct login login = {.ends = {NULL, &none, false, 0}, .keys = &keys};

    memcpy(keys.client_key, of.stored_key, SCRAM_KEY_BYTES);
    memcpy(keys.server_key, of.server_key, SCRAM_KEY_BYTES);
    run(&login);
    cr_expect_eq(login.result, SCRAM_WRONG_PROOF);
}

/* A server that accepts anything, and does not know the secret. */
Test(scram_pair, a_client_is_not_fooled_by_a_server_with_another_server_key)
{
    struct scram_keys keys = keys_of("pencil");
    struct login login = {.ends = {NULL, &none, false, 0}, .keys = &keys};

    keys.server_key[31] ^= 1;
    run(&login);
    cr_expect_eq(login.result, SCRAM_WRONG_SIGNATURE);
}

/* ---- channel binding ----------------------------------------------------------------
 */

Test(scram_pair, binds_where_both_can)
{
    struct {
        struct ends ends;
        char begin;
    } examples[] = {
        {{NULL, &none, false, 0}, 'n'},       /* no TLS */
        {{&none, &none, false, 0}, 'n'},      /* TLS, but Ed25519 */
        {{&of_a, &of_a, false, 0}, 'p'},      /* TLS */
        {{&of_a, &of_a, true, 0}, 'p'},       /* and nothing else will do */
        {{&longest, &longest, true, 0}, 'p'}, /* SHA-512 */
        {{NULL, &of_a, false, 0}, 'n'},       /* the client does not want to */
        {{&none, &of_a, false, 0}, 'n'},      /* TLS ends before the client */
        {{&of_a, &none, false, 0}, 'y'},      /* TLS ends before the server */
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++)
        cr_expect_eq(begin_of(examples[i].ends), examples[i].begin, "example %zu", i);
}

Test(scram_pair, a_client_that_must_bind_does_not_go_on_without)
{
    struct ends of_neither = {NULL, &none, true, 0};
    struct ends of_server = {NULL, &of_a, true, 0};
    struct ends of_client = {&of_a, &none, true, 0};
    struct ends removed = {&of_a, &of_a, true, SCRAM_SHA_256_PLUS};
    struct ends all_removed = {&of_a, &of_a, false, SCRAM_SHA_256_PLUS | SCRAM_SHA_256};

    cr_expect_eq(result_of(of_neither, "pencil"), SCRAM_NOT_OFFERED);
    cr_expect_eq(result_of(of_server, "pencil"), SCRAM_NOT_OFFERED);
    cr_expect_eq(result_of(of_client, "pencil"), SCRAM_NOT_OFFERED);
    cr_expect_eq(result_of(removed, "pencil"), SCRAM_NOT_OFFERED);
    cr_expect_eq(result_of(all_removed, "pencil"), SCRAM_NOT_OFFERED);
}

/* Somebody in between takes the stronger mechanism out of the list. */
Test(scram_pair, a_downgrade_is_seen_by_the_server)
{
    struct ends removed = {&of_a, &of_a, false, SCRAM_SHA_256_PLUS};

    cr_expect_eq(result_of(removed, "pencil"), SCRAM_DOWNGRADED);
}

/* Somebody in between has a TLS connection with each side. */
Test(scram_pair, two_connections_are_not_one)
{
    struct channel_binding shorter = of_a;
    struct ends two = {&of_a, &of_b, false, 0};
    struct ends cut = {&shorter, &of_a, false, 0};

    shorter.n--;
    cr_expect_eq(result_of(two, "pencil"), SCRAM_BINDING_DIFFERS);
    cr_expect_eq(result_of(cut, "pencil"), SCRAM_BINDING_DIFFERS);
}

/* What a server says to a first message. */
static enum scram_result answer_to(enum scram_mechanism mechanism,
                                   const struct channel_binding *binding,
                                   const char *first)
{
    struct scram_verifier of = verifier();
    struct scram_message answer;
    struct scram_server server;

    scram_server_init(&server, &of, mechanism, binding, SERVER_NONCE);
    return scram_server_read(&server, (const uint8_t *)first, strlen(first), &answer);
}

#define REST ",,n=,r=" CLIENT_NONCE

Test(scram_pair, mechanism_and_header_agree)
{
    static const struct {
        enum scram_mechanism mechanism;
        const struct channel_binding *binding;
        const char *first;
        enum scram_result result;
    } examples[] = {
        {SCRAM_SHA_256_PLUS, &of_a, "p=tls-server-end-point" REST, SCRAM_GOES_ON},
        {SCRAM_SHA_256_PLUS, &of_a, "n" REST, SCRAM_MALFORMED},
        {SCRAM_SHA_256_PLUS, &of_a, "y" REST, SCRAM_MALFORMED},
        {SCRAM_SHA_256_PLUS, &of_a, "p=tls-unique" REST, SCRAM_UNSUPPORTED},
        {SCRAM_SHA_256_PLUS, &of_a, "p=tls-exporter" REST, SCRAM_UNSUPPORTED},
        {SCRAM_SHA_256_PLUS, &of_a, "p=tls-server-end-poin" REST, SCRAM_UNSUPPORTED},
        {SCRAM_SHA_256_PLUS, &of_a, "p=tls-server-end-point2" REST, SCRAM_UNSUPPORTED},
        {SCRAM_SHA_256_PLUS, &of_a, "p=TLS-server-end-point" REST, SCRAM_UNSUPPORTED},
        {SCRAM_SHA_256_PLUS, &none, "p=tls-server-end-point" REST, SCRAM_NOT_OFFERED},
        {SCRAM_SHA_256, &of_a, "p=tls-server-end-point" REST, SCRAM_MALFORMED},
        {SCRAM_SHA_256, &of_a, "n" REST, SCRAM_GOES_ON},
        {SCRAM_SHA_256, &of_a, "y" REST, SCRAM_DOWNGRADED},
        {SCRAM_SHA_256, &none, "p=tls-server-end-point" REST, SCRAM_MALFORMED},
        {SCRAM_SHA_256, &none, "y" REST, SCRAM_GOES_ON},
        {SCRAM_NO_MECHANISM, &of_a, "n" REST, SCRAM_NOT_OFFERED},
        {SCRAM_NO_MECHANISM, &none, "n" REST, SCRAM_NOT_OFFERED},
    };

    for (size_t i = 0; i < COUNT_OF(examples); i++) {
        enum scram_result result =
            answer_to(examples[i].mechanism, examples[i].binding, examples[i].first);

        cr_expect_eq(result, examples[i].result, "%s: %s", examples[i].first,
                     scram_result_text(result));
    }
}

/* ---- messages that change on their way ----------------------------------------------
 */

static const struct ends bound = {&of_a, &of_a, true, 0};
static const struct ends unbound = {NULL, &none, false, 0};

/* The four messages of a login that succeeds. */
static struct login untouched(struct ends ends, const struct scram_keys *keys)
{
    struct login login = {.ends = ends, .keys = keys};

    run(&login);
    cr_assert_eq(login.result, SCRAM_DONE);
    return login;
}

static void expect_failure(const struct login *whole, enum part part,
                           const struct scram_message *replacement)
{
    struct login login = {.ends = whole->ends,
                          .keys = whole->keys,
                          .changed = part,
                          .replacement = replacement};

    run(&login);
    cr_assert_neq(login.result, SCRAM_DONE, "message %d as %.*s", part,
                  (int)replacement->n, replacement->bytes);
    cr_assert_neq(login.result, SCRAM_GOES_ON);
    cr_assert_not(scram_client_has_verified(&login.client));
    if (part != SIGNATURE)
        cr_assert_neq(login.server.step, SCRAM_SERVER_ACCEPTED);
}

static void expect_failure_of_each_change(struct ends ends, unsigned step)
{
    struct scram_keys keys = keys_of("pencil");
    struct login whole = untouched(ends, &keys);

    for (enum part part = FIRST; part < PARTS; part++) {
        const struct scram_message *said = &whole.said[part];

        for (size_t i = 0; i < said->n; i++) {
            for (unsigned byte = step % 7; byte < 256; byte += step) {
                struct scram_message other = *said;

                other.bytes[i] = (char)byte;
                if (other.bytes[i] != said->bytes[i])
                    expect_failure(&whole, part, &other);
            }
        }
    }
}

Test(scram_pair, no_byte_can_be_another)
{
    expect_failure_of_each_change(unbound, 1);
    expect_failure_of_each_change(bound, 3);
}

Test(scram_pair, no_message_can_be_cut_off)
{
    struct scram_keys keys = keys_of("pencil");
    struct login whole = untouched(bound, &keys);

    for (enum part part = FIRST; part < PARTS; part++) {
        struct scram_message cut = whole.said[part];

        while (cut.n-- > 0)
            expect_failure(&whole, part, &cut);
    }
}

Test(scram_pair, no_byte_can_be_put_in_or_left_out)
{
    static const char more[] = ",=a\0 \xff";
    struct scram_keys keys = keys_of("pencil");
    struct login whole = untouched(bound, &keys);

    for (enum part part = FIRST; part < PARTS; part++) {
        const struct scram_message *said = &whole.said[part];

        for (size_t i = 0; i <= said->n; i++) {
            struct scram_message other = *said;

            memmove(other.bytes + i + 1, said->bytes + i, said->n - i);
            other.n++;
            for (size_t k = 0; k < sizeof more; k++) {
                other.bytes[i] = more[k];
                expect_failure(&whole, part, &other);
            }
            if (i == said->n)
                continue;
            other = *said;
            memmove(other.bytes + i, said->bytes + i + 1, said->n - i - 1);
            other.n--;
            expect_failure(&whole, part, &other);
        }
    }
}

Test(scram_pair, no_message_stands_for_another)
{
    struct scram_keys keys = keys_of("pencil");
    struct login whole = untouched(bound, &keys);

    for (enum part part = FIRST; part < PARTS; part++) {
        for (enum part other = FIRST; other < PARTS; other++) {
            if (other != part)
                expect_failure(&whole, part, &whole.said[other]);
        }
    }
}

/* ---- keys, nonces, memory -----------------------------------------------------------
 */

Test(scram_pair, a_nonce_is_what_was_random)
{
    static const uint8_t random[SCRAM_NONCE_RANDOM_BYTES] = {
        0xff, 0xff, 0xff, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14};
    char nonce[SCRAM_NONCE_BYTES + 1];

    nonce[SCRAM_NONCE_BYTES] = 'x';
    scram_nonce_write(random, nonce);
    cr_expect_str_eq(nonce, "////AAECAwQFBgcICQoLDA0O");
    cr_expect_eq(nonce[SCRAM_NONCE_BYTES], 'x');
}

static void expect_no_client(const char *nonce)
{
    struct scram_message answer;
    struct scram_client client;

    (void)!scram_client_start(&client, SCRAM_SHA_256, NULL, false, nonce, &answer);
}

Test(scram_pair, takes_no_short_nonce_of_its_own, .signal = SIGABRT)
{
    expect_no_client("123456789012345");
}

Test(scram_pair, takes_no_long_nonce_of_its_own, .signal = SIGABRT)
{
    expect_no_client("12345678901234567890123456789012345678901234567890123456789012345");
}

Test(scram_pair, takes_no_nonce_of_its_own_with_a_comma, .signal = SIGABRT)
{
    expect_no_client("12345678901234567890,1234");
}

static bool is_zero(const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (((const uint8_t *)bytes)[i] != 0)
            return false;
    }
    return true;
}

Test(scram_pair, nothing_is_left_of_what_is_cleared)
{
    struct scram_keys keys = keys_of("pencil");
    struct login login = untouched(bound, &keys);

    scram_client_clear(&login.client);
    scram_server_clear(&login.server);
    cr_expect(is_zero(&login.client, sizeof login.client));
    cr_expect(is_zero(&login.server, sizeof login.server));
    scram_client_clear(&login.client);
    scram_server_clear(&login.server);
}

Test(scram_pair, takes_no_more_memory_than_it_says)
{
    cr_expect_lt(sizeof(struct scram_server), 1500);
    cr_expect_lt(sizeof(struct scram_client), 1500);
}

struct attempt {
    const char *password;
    struct scram_keys keys;
    enum scram_result wanted; /* when nothing fails */
};

static void log_in_once(void *arg)
{
    struct attempt *attempt = arg;
    struct login login = {.ends = bound, .keys = &attempt->keys};

    if (attempt->keys.salt.n == 0)
        attempt->keys = keys_of(attempt->password);
    run(&login);
    cr_assert(login.result == attempt->wanted || login.result == SCRAM_FAILED, "%s",
              scram_result_text(login.result));
    cr_assert_eq(scram_client_has_verified(&login.client), login.result == SCRAM_DONE);
}

Test(scram_pair, an_allocation_that_fails_lets_nobody_in)
{
    struct attempt right = {.password = "pencil", .wanted = SCRAM_DONE};
    struct attempt wrong = {.password = "pen", .wanted = SCRAM_WRONG_PROOF};

    cr_expect_gt(crypto_fault_each(log_in_once, &right), 10);
    cr_expect_gt(crypto_fault_each(log_in_once, &wrong), 10);
}
