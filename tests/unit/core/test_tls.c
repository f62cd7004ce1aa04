/* Settings made into contexts, and the registry of these. What a handshake makes of them
 * is seen in test_stream_tls.c. */
#include "core/tls.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/tls_registry.h"
#include "tests/lib/fault.h"
#include "tests/lib/identity.h"

static char folder[64];
static struct identity ca, server, other;
static struct tls_settings settings;
static struct text why;

/* Of several, so that a test can use two at a time. */
static const char *path(const char *name)
{
    static char paths[8][128];
    static unsigned next;
    char *made = paths[next++ % 8];

    snprintf(made, sizeof paths[0], "%s/%s", folder, name);
    return made;
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(path(name), "w");

    fputs(text, file);
    fclose(file);
}

static void make_files(void)
{
    snprintf(folder, sizeof folder, "/tmp/test_tls.XXXXXX");
    if (mkdtemp(folder) == NULL)
        abort();
    ca = identity_make(&(struct identity_wish){.name = "CA", .is_ca = true});
    server = identity_make(&(struct identity_wish){.name = "localhost", .issuer = &ca});
    other = identity_make(&(struct identity_wish){.name = "other", .issuer = &ca});
    identity_write(&ca, NULL, folder, "ca", NULL);
    identity_write(&server, &ca, folder, "server", NULL);
    identity_write(&other, NULL, folder, "other", NULL);
    settings = (struct tls_settings){
        .role = TLS_SERVER,
        .cert_file = strdup(path("server.crt")),
        .key_file = strdup(path("server.key")),
    };
    text_init(&why, 1000);
}

static void remove_files(void)
{
    char command[128];

    free((void *)settings.cert_file);
    free((void *)settings.key_file);
    identity_clear(&ca);
    identity_clear(&server);
    identity_clear(&other);
    text_clear(&why);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    if (system(command) != 0) /* NOLINT(cert-env33-c): a folder of our own */
        abort();
}

TestSuite(tls, .init = make_files, .fini = remove_files, .timeout = 60);

static void expect_good(const struct tls_settings *these)
{
    struct tls_context *context = tls_context_new(these, &why);

    cr_expect_not_null(context, "%s", text_get(&why));
    cr_expect_str_eq(text_get(&why), "");
    tls_context_release(context);
    text_clear(&why);
}

/* Every word of the sentence that matters, in the order given, up to a NULL. */
static void expect_bad(const struct tls_settings *these, const char *const *words)
{
    const char *at;

    cr_expect_null(tls_context_new(these, &why), "%s", words[0]);
    at = text_get(&why);
    for (; *words != NULL && at != NULL; words++) {
        const char *found = strstr(at, *words);

        cr_expect_not_null(found, "\"%s\" in: %s", *words, text_get(&why));
        at = found;
    }
    cr_expect_null(strchr(text_get(&why), '\n'), "one sentence");
    text_clear(&why);
}

#define EXPECT_BAD(these, ...) \
    expect_bad(&(these), (const char *const[]){__VA_ARGS__, NULL})

/* ---- files ---------------------------------------------------------------------------
 */

Test(tls, a_server_needs_a_certificate_and_its_key)
{
    struct tls_settings these = settings;

    expect_good(&these);
    these.key_file = NULL;
    EXPECT_BAD(these, "a TLS server needs a certificate file and a key file");
    these = (struct tls_settings){.role = TLS_SERVER};
    EXPECT_BAD(these, "a TLS server needs a certificate file and a key file");
    these = (struct tls_settings){.role = TLS_SERVER, .key_file = "", .cert_file = ""};
    EXPECT_BAD(these, "a TLS server needs a certificate file and a key file");
}

Test(tls, a_client_has_both_or_none)
{
    struct tls_settings these = settings;

    these.role = TLS_CLIENT;
    expect_good(&these);
    these.cert_file = NULL;
    EXPECT_BAD(these, "a certificate file needs a key file");
    these = (struct tls_settings){.role = TLS_CLIENT};
    expect_good(&these);
}

Test(tls, says_which_file_is_not_there_or_not_a_file)
{
    struct tls_settings these = settings;

    these.cert_file = path("nowhere.crt");
    EXPECT_BAD(these, "certificate file", "nowhere.crt", "No such file or directory");
    these.cert_file = folder;
    EXPECT_BAD(these, "certificate file", folder, "is not a file");
    these.cert_file = settings.cert_file;
    these.key_file = path("nowhere.key");
    EXPECT_BAD(these, "key file", "nowhere.key", "No such file or directory");
    these.key_file = settings.key_file;
    these.ask = TLS_ASK_ALWAYS;
    these.ca_file = path("nowhere.ca");
    EXPECT_BAD(these, "CA file", "nowhere.ca", "No such file or directory");
    these.ca_file = path("ca.crt");
    these.crl_file = path("nowhere.crl");
    EXPECT_BAD(these, "CRL file", "nowhere.crl", "No such file or directory");
}

Test(tls, does_not_wait_at_a_pipe)
{
    struct tls_settings these = settings;

    cr_assert_eq(mkfifo(path("pipe"), 0600), 0);
    these.key_file = path("pipe");
    EXPECT_BAD(these, "key file", "pipe", "is not a file");
}

Test(tls, says_which_file_holds_something_else)
{
    struct tls_settings these = settings;

    write_file("text", "not PEM at all\n");
    write_file("empty", "");
    write_file("cut", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
    these.cert_file = path("text");
    EXPECT_BAD(these, "certificate file", "text", "no start line");
    these.cert_file = path("empty");
    EXPECT_BAD(these, "certificate file", "empty", "no start line");
    these.cert_file = path("cut");
    EXPECT_BAD(these, "certificate file", "cut\": ");
    these.cert_file = settings.key_file;
    EXPECT_BAD(these, "certificate file", "server.key", "no start line");

    these.cert_file = settings.cert_file;
    these.key_file = path("empty");
    EXPECT_BAD(these, "key file", "empty\": ");
    these.key_file = settings.cert_file;
    EXPECT_BAD(these, "key file", "server.crt\": ");

    these.key_file = settings.key_file;
    these.ask = TLS_ASK_OPTIONAL;
    these.ca_file = path("empty");
    EXPECT_BAD(these, "CA file", "empty\": ");
    these.ca_file = path("ca.crt");
    these.crl_file = path("server.crt");
    EXPECT_BAD(these, "CRL file", "server.crt\": ");
}

Test(tls, says_that_a_key_does_not_fit)
{
    struct tls_settings these = settings;
    struct identity rsa =
        identity_make(&(struct identity_wish){.name = "rsa", .rsa_bits = 2048});

    these.key_file = path("other.key");
    EXPECT_BAD(these, "key file", "other.key", "does not fit the certificate in",
               "server.crt");
    identity_write(&rsa, NULL, folder, "rsa", NULL);
    these.key_file = path("rsa.key");
    EXPECT_BAD(these, "key file", "rsa.key", "does not fit the certificate in",
               "server.crt");
    identity_clear(&rsa);
}

Test(tls, never_asks_for_a_passphrase)
{
    struct tls_settings these = settings;

    identity_write(&other, NULL, folder, "locked", "secret");
    these.cert_file = path("locked.crt");
    these.key_file = path("locked.key");
    EXPECT_BAD(these, "key file", "locked.key", "it has a passphrase");
    write_file("locked.crt", "-----BEGIN CERTIFICATE-----\nProc-Type: 4,ENCRYPTED\n"
                             "DEK-Info: AES-256-CBC,00112233445566778899AABBCCDDEEFF\n\n"
                             "MIIB\n-----END CERTIFICATE-----\n");
    EXPECT_BAD(these, "certificate file", "locked.crt", "it has a passphrase");
}

Test(tls, refuses_a_certificate_that_is_too_weak)
{
    struct tls_settings these = settings;
    struct identity weak =
        identity_make(&(struct identity_wish){.name = "weak", .rsa_bits = 1024});

    identity_write(&weak, NULL, folder, "weak", NULL);
    these.cert_file = path("weak.crt");
    these.key_file = path("weak.key");
    EXPECT_BAD(these, "certificate file", "weak.crt", "key too small");
    these.ciphers = "legacy";
    expect_good(&these);
    identity_clear(&weak);
}

Test(tls, a_server_that_asks_needs_a_ca_and_a_client_has_the_systems)
{
    struct tls_settings these = settings;

    these.ask = TLS_ASK_OPTIONAL;
    EXPECT_BAD(these, "a CA file is needed to verify the certificates of clients");
    these.ca_file = path("ca.crt");
    expect_good(&these);
    these = (struct tls_settings){.role = TLS_CLIENT, .verify = TLS_VERIFY_FULL};
    expect_good(&these);
    these.ca_file = path("nowhere");
    EXPECT_BAD(these, "CA file", "nowhere");
    these.verify = TLS_VERIFY_NONE;
    expect_good(&these);
}

Test(tls, takes_a_crl)
{
    struct tls_settings these = {
        .role = TLS_CLIENT, .verify = TLS_VERIFY_CA, .ca_file = path("ca.crt")};

    identity_write_crl(&ca, other.certificate, path("ca.crl"));
    these.crl_file = path("ca.crl");
    expect_good(&these);
}

/* ---- words ---------------------------------------------------------------------------
 */

Test(tls, knows_pgbouncers_words_for_protocols)
{
    static const char *const good[] = {
        "",
        "secure",
        "all",
        "legacy",
        "default",
        "tlsv1.2,tlsv1.3",
        "TLSv1.3",
        "tlsv1.0:tlsv1.1",
        " tlsv1.1 , tlsv1.3 ",
        "!tlsv1.0",
        "all,!tlsv1.0,!tlsv1.1",
        "tlsv1",
        "tlsv1.2,",
    };
    static const char *const bad[] = {
        "tlsv1.4", "sslv3", "secure;all", "!all",  "tlsv1.2,!tlsv1.2",
        "!",       ",",     "tlsv1.",     "secur", "all,!tlsv1.9",
    };
    struct tls_settings these = settings;

    for (size_t i = 0; i < COUNT_OF(good); i++) {
        these.protocols = good[i];
        expect_good(&these);
    }
    for (size_t i = 0; i < COUNT_OF(bad); i++) {
        these.protocols = bad[i];
        EXPECT_BAD(these, "protocols", bad[i], "expected");
    }
}

/* OpenSSL's clients offer a range; of two they would take the older. */
Test(tls, a_client_leaves_out_no_protocol_between_two_others)
{
    struct tls_settings these = {.role = TLS_CLIENT, .protocols = "tlsv1.1,tlsv1.3"};

    EXPECT_BAD(these, "protocols", "tlsv1.1,tlsv1.3", "cannot leave out one between");
    these.protocols = "all,!tlsv1.2";
    EXPECT_BAD(these, "protocols", "all,!tlsv1.2", "cannot leave out one between");
    these.protocols = "tlsv1.0,tlsv1.2,tlsv1.1";
    expect_good(&these);
}

Test(tls, knows_pgbouncers_words_for_ciphers_and_openssls_lists)
{
    static const char *const good[] = {
        "",    "default", "secure", "fast",        "normal",
        "ALL", "LEGACY",  "compat", "HIGH:!aNULL", "ECDHE-RSA-AES128-GCM-SHA256"};
    struct tls_settings these = settings;

    for (size_t i = 0; i < COUNT_OF(good); i++) {
        these.ciphers = good[i];
        expect_good(&these);
    }
    these.ciphers = "NO-SUCH-CIPHER";
    EXPECT_BAD(these, "ciphers", "NO-SUCH-CIPHER", "no cipher match");
    these.ciphers = NULL;
    these.tls13_ciphers = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
    expect_good(&these);
    these.tls13_ciphers = "AES128-SHA";
    EXPECT_BAD(these, "TLS 1.3 ciphers", "AES128-SHA", "no cipher match");
}

Test(tls, knows_the_words_for_key_exchange)
{
    static const char *const curves[] = {"",           "auto",  "none",
                                         "prime256v1", "P-384", "X25519:prime256v1"};
    static const char *const dhe[] = {"", "auto", "legacy", "none", "Auto"};
    struct tls_settings these = settings;

    for (size_t i = 0; i < COUNT_OF(curves); i++) {
        these.ecdhcurve = curves[i];
        expect_good(&these);
    }
    these.ecdhcurve = "curve1";
    EXPECT_BAD(these, "ECDH curve", "curve1", "no such curve");
    these.ecdhcurve = NULL;
    for (size_t i = 0; i < COUNT_OF(dhe); i++) {
        these.dheparams = dhe[i];
        expect_good(&these);
    }
    these.dheparams = "2048";
    EXPECT_BAD(these, "DHE parameters", "2048", "expected auto, legacy or none");
}

Test(tls, takes_a_protocol_for_alpn_of_at_most_255_bytes)
{
    char name[300] = {0};
    struct tls_settings these = settings;

    these.alpn = "postgresql";
    expect_good(&these);
    memset(name, 'x', 255);
    these.alpn = name;
    expect_good(&these);
    name[255] = 'x';
    EXPECT_BAD(these, "the ALPN protocol", "is too long");
}

/* ---- holders -------------------------------------------------------------------------
 */

Test(tls, compares_settings_by_what_they_say)
{
    struct tls_settings a = settings, b = settings;

    b.cert_file = path("server.crt");
    b.ciphers = "";
    cr_expect(tls_settings_equal(&a, &b));
    b.ciphers = "HIGH";
    cr_expect_not(tls_settings_equal(&a, &b));
    b = settings;
    b.ask = TLS_ASK_OPTIONAL;
    cr_expect_not(tls_settings_equal(&a, &b));
    b = settings;
    b.alpn = "postgresql";
    cr_expect_not(tls_settings_equal(&a, &b));
    b = settings;
    b.role = TLS_CLIENT;
    cr_expect_not(tls_settings_equal(&a, &b));
    b = settings;
    b.verify = TLS_VERIFY_CA;
    cr_expect_not(tls_settings_equal(&a, &b));
}

Test(tls, a_context_keeps_a_copy_of_its_settings)
{
    char cert[128];
    struct tls_settings these = settings;
    struct tls_context *context;

    snprintf(cert, sizeof cert, "%s", settings.cert_file);
    these.cert_file = cert;
    context = tls_context_new(&these, &why);
    cr_assert_not_null(context);
    cert[0] = 'x';
    cr_expect_str_eq(tls_context_settings(context)->cert_file, settings.cert_file);
    cr_expect(tls_settings_equal(tls_context_settings(context), &settings));
    tls_context_release(context);
    tls_context_release(NULL);
}

static void *hold_and_release(void *context)
{
    for (unsigned i = 0; i < 20000; i++)
        tls_context_release(tls_context_hold(context));
    return NULL;
}

Test(tls, a_context_is_freed_by_the_last_of_several_threads)
{
    struct tls_context *context = tls_context_new(&settings, &why);
    pthread_t threads[4];

    cr_expect_not(tls_context_is_shared(context));
    for (unsigned i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, hold_and_release, context), 0);
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    cr_expect_not(tls_context_is_shared(context));
    tls_context_hold(context);
    cr_expect(tls_context_is_shared(context));
    tls_context_release(context);
    tls_context_release(context);
}

static void make_and_release(void *unused)
{
    struct tls_settings these = settings;

    (void)unused;
    these.alpn = "postgresql";
    text_clear(&why);
    tls_context_release(tls_context_new(&these, &why));
}

Test(tls, a_context_survives_each_allocation_failure)
{
    cr_expect_geq(fault_each_allocation(make_and_release, NULL), 11);
}

/* ---- certificates --------------------------------------------------------------------
 */

Test(tls, reads_the_common_name_as_a_whole_or_not_at_all)
{
    struct identity with_zero =
        identity_make(&(struct identity_wish){.name = "admin\0.evil", .n_name = 11});
    struct identity nobody = identity_make(&(struct identity_wish){.name = ""});
    char name[10] = "untouched", longer[64] = "untouched";

    cr_expect_not(tls_common_name(with_zero.certificate, longer, sizeof longer));
    cr_expect_str_eq(longer, "untouched");
    cr_expect_not(tls_common_name(nobody.certificate, name, sizeof name));
    cr_expect_not(tls_common_name(server.certificate, name, 9), "no room for the zero");
    cr_expect_str_eq(name, "untouched");
    cr_expect(tls_common_name(server.certificate, name, 10));
    cr_expect_str_eq(name, "localhost");
    identity_clear(&with_zero);
    identity_clear(&nobody);
}

/* ---- the registry --------------------------------------------------------------------
 */

Test(tls, there_is_one_context_for_equal_settings)
{
    struct tls_registry *registry = tls_registry_new();
    struct tls_settings these = settings, those = settings;
    struct tls_context *a, *b, *c;

    these.cert_file = path("server.crt");
    those.ciphers = "HIGH";
    a = tls_registry_hold(registry, &settings, &why);
    b = tls_registry_hold(registry, &these, &why);
    c = tls_registry_hold(registry, &those, &why);
    cr_assert_not_null(a);
    cr_expect_eq(a, b);
    cr_expect_neq(a, c);
    cr_expect_not(tls_registry_look(registry, &why), "nothing has changed");
    tls_registry_free(registry);
    cr_expect_str_eq(tls_context_settings(a)->key_file, settings.key_file, "it lives on");
    tls_context_release(a);
    tls_context_release(b);
    tls_context_release(c);
    tls_registry_free(NULL);
}

Test(tls, a_bad_file_at_first_leaves_nothing)
{
    struct tls_registry *registry = tls_registry_new();
    struct tls_settings these = settings;
    struct tls_context *context;

    these.cert_file = path("later.crt");
    these.key_file = path("later.key");
    cr_expect_null(tls_registry_hold(registry, &these, &why));
    cr_expect_not_null(strstr(text_get(&why), "later.crt"));
    text_clear(&why);
    identity_write(&server, NULL, folder, "later", NULL);
    context = tls_registry_hold(registry, &these, &why);
    cr_expect_not_null(context, "%s", text_get(&why));
    tls_context_release(context);
    tls_registry_free(registry);
}

Test(tls, files_that_change_make_a_new_context)
{
    struct tls_registry *registry = tls_registry_new();
    struct tls_context *before = tls_registry_hold(registry, &settings, &why), *after;

    identity_write(&other, NULL, folder, "server", NULL); /* in place */
    cr_expect(tls_registry_look(registry, &why));
    cr_expect_not(tls_registry_look(registry, &why), "once");
    after = tls_registry_hold(registry, &settings, &why);
    cr_expect_neq(before, after);
    tls_context_release(before);
    before = after;

    identity_write(&server, NULL, folder, "new", NULL); /* by rename */
    cr_assert_eq(rename(path("new.key"), path("server.key")), 0);
    cr_assert_eq(rename(path("new.crt"), path("server.crt")), 0);
    cr_expect(tls_registry_look(registry, &why));
    after = tls_registry_hold(registry, &settings, &why);
    cr_expect_neq(before, after);
    cr_expect_str_eq(text_get(&why), "");
    tls_context_release(before);
    tls_context_release(after);
    tls_registry_free(registry);
}

Test(tls, a_bad_file_keeps_the_old_context_and_is_told_once)
{
    struct tls_registry *registry = tls_registry_new();
    struct tls_context *before = tls_registry_hold(registry, &settings, &why), *after;

    identity_write(&other, NULL, folder, "server", NULL);
    identity_write(&server, NULL, folder, "spare", NULL);
    cr_assert_eq(rename(path("spare.key"), path("server.key")), 0);
    cr_expect_not(tls_registry_look(registry, &why), "the key does not fit yet");
    cr_expect_not_null(strstr(text_get(&why), "does not fit"), "%s", text_get(&why));
    text_clear(&why);
    cr_expect_not(tls_registry_look(registry, &why));
    cr_expect_str_eq(text_get(&why), "", "told already");
    after = tls_registry_hold(registry, &settings, &why);
    cr_expect_eq(before, after, "the old one");
    tls_context_release(after);

    cr_assert_eq(unlink(path("server.crt")), 0);
    cr_expect_not(tls_registry_look(registry, &why));
    cr_expect_not_null(strstr(text_get(&why), "No such file"), "%s", text_get(&why));
    text_clear(&why);

    cr_assert_eq(rename(path("spare.crt"), path("server.crt")), 0);
    cr_expect(tls_registry_look(registry, &why));
    cr_expect_str_eq(text_get(&why), "");
    tls_context_release(before);
    tls_registry_free(registry);
}

Test(tls, the_registry_forgets_what_nobody_uses)
{
    struct tls_registry *registry = tls_registry_new();
    struct tls_context *context = tls_registry_hold(registry, &settings, &why);

    tls_context_release(context);
    identity_write(&other, NULL, folder, "server", NULL);
    cr_assert_eq(unlink(path("server.key")), 0);
    cr_expect_not(tls_registry_look(registry, &why));
    cr_expect_str_eq(text_get(&why), "", "nobody cares");
    cr_expect_null(tls_registry_hold(registry, &settings, &why));
    tls_registry_free(registry);
}

static void fill_registry(void *unused)
{
    struct tls_registry *registry = tls_registry_new();

    (void)unused;
    text_clear(&why);
    if (registry != NULL)
        tls_context_release(tls_registry_hold(registry, &settings, &why));
    tls_registry_free(registry);
}

Test(tls, the_registry_survives_each_allocation_failure)
{
    cr_expect_geq(fault_each_allocation(fill_registry, NULL), 13);
}
