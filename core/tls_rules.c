/* core/tls_rules.c - the part of TLS settings that an SSL_CTX takes as they are. */
#include "core/tls_rules.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define EVERY_CIPHER "ALL:!aNULL:!eNULL:@SECLEVEL=0"
/* Groups of TLS 1.3 without an elliptic curve. */
#define GROUPS_WITHOUT_CURVES "ffdhe2048:ffdhe3072:ffdhe4096"

static bool is_set(const char *text)
{
    return text != NULL && text[0] != '\0';
}

/* ---- what is wrong, in words ---------------------------------------------------------
 */

/* Of OpenSSL's complaints the first, which lies the deepest. */
const char *tls_rules_reason(void)
{
    unsigned long error = ERR_peek_error();
    const char *text;

    if (error == 0)
        return "OpenSSL does not say why";
    if (ERR_SYSTEM_ERROR(error))
        return strerror(ERR_GET_REASON(error));
    text = ERR_reason_error_string(error);
    return text != NULL ? text : "OpenSSL does not say why";
}

static bool refuse_file(struct text *why, const char *what, const char *path,
                        const char *how)
{
    text_addf(why, "%s \"%s\": %s", what, path, how);
    return false;
}

static bool refuse_word(struct text *why, const char *what, const char *word,
                        const char *how)
{
    text_addf(why, "%s \"%s\": %s", what, word, how);
    return false;
}

/* OpenSSL would say less, and wait for ever at a pipe. */
static bool check_file(const char *what, const char *path, struct text *why)
{
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    struct stat facts;
    bool is_file;

    if (fd < 0)
        return refuse_file(why, what, path, strerror(errno));
    is_file = fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode);
    close(fd);
    return is_file || refuse_file(why, what, path, "is not a file");
}

/* ---- protocols and ciphers -----------------------------------------------------------
 */

enum { V1_0 = 1, V1_1 = 2, V1_2 = 4, V1_3 = 8, V_SECURE = V1_2 | V1_3, V_ALL = 15 };

static const struct {
    const char *word;
    unsigned bits;
} protocol_words[] = {
    {"secure", V_SECURE}, {"default", V_SECURE}, {"all", V_ALL},
    {"legacy", V_ALL},    {"tlsv1", V_ALL},      {"tlsv1.0", V1_0},
    {"tlsv1.1", V1_1},    {"tlsv1.2", V1_2},     {"tlsv1.3", V1_3},
};

static const struct {
    unsigned bit;
    int version;
    uint64_t option;
} protocols[] = {
    {V1_0, TLS1_VERSION, SSL_OP_NO_TLSv1},
    {V1_1, TLS1_1_VERSION, SSL_OP_NO_TLSv1_1},
    {V1_2, TLS1_2_VERSION, SSL_OP_NO_TLSv1_2},
    {V1_3, TLS1_3_VERSION, SSL_OP_NO_TLSv1_3},
};

/* 0 for a word that is none. */
static unsigned bits_of(const char *word, size_t n)
{
    for (size_t i = 0; i < COUNT_OF(protocol_words); i++)
        if (strlen(protocol_words[i].word) == n &&
            strncasecmp(protocol_words[i].word, word, n) == 0)
            return protocol_words[i].bits;
    return 0;
}

/* 0 when something in the list is no protocol, or none is left. */
static unsigned parse_protocols(const char *list)
{
    static const char between[] = ",: \t";
    unsigned all = 0;

    if (!is_set(list))
        return V_SECURE;
    for (const char *at = list + strspn(list, between); *at != '\0';) {
        bool without = *at == '!';
        size_t n = strcspn(at += without, between);
        unsigned bits = bits_of(at, n);

        if (bits == 0)
            return 0;
        if (without)
            all = (all == 0 ? (unsigned)V_ALL : all) & ~bits;
        else
            all |= bits;
        at += n;
        at += strspn(at, between);
    }
    return all;
}

static bool set_protocols(SSL_CTX *ssl, const struct tls_settings *settings,
                          struct text *why)
{
    const char *list = settings->protocols;
    unsigned bits = parse_protocols(list), run;
    int lowest = 0, highest = 0;

    if (bits == 0)
        return refuse_word(why, "protocols", list,
                           "expected \"secure\", \"all\", or a list of tlsv1.0, "
                           "tlsv1.1, tlsv1.2 and tlsv1.3");
    run = bits / (bits & (~bits + 1)); /* shifted down to its lowest bit */
    if (settings->role == TLS_CLIENT && (run & (run + 1)) != 0)
        return refuse_word(why, "protocols", list,
                           "a client cannot leave out one between two others");
    for (size_t i = 0; i < COUNT_OF(protocols); i++) {
        if (!(bits & protocols[i].bit)) {
            SSL_CTX_set_options(ssl, protocols[i].option);
            continue;
        }
        if (lowest == 0)
            lowest = protocols[i].version;
        highest = protocols[i].version;
    }
    /* Also where the system's openssl.cnf has other bounds. */
    return (SSL_CTX_set_min_proto_version(ssl, lowest) == 1 &&
            SSL_CTX_set_max_proto_version(ssl, highest) == 1) ||
           refuse_word(why, "protocols", list, tls_rules_reason());
}

static bool is_one_of(const char *word, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(words[i], word) == 0)
            return true;
    return false;
}

static bool set_ciphers(SSL_CTX *ssl, const struct tls_settings *settings,
                        struct text *why)
{
    static const char *const usual[] = {"default", "secure", "normal", "fast"};
    static const char *const every[] = {"all", "legacy", "compat"};
    const char *list = settings->ciphers;

    if (is_set(list) && !is_one_of(list, usual, COUNT_OF(usual)) &&
        SSL_CTX_set_cipher_list(
            ssl, is_one_of(list, every, COUNT_OF(every)) ? EVERY_CIPHER : list) != 1)
        return refuse_word(why, "ciphers", list, tls_rules_reason());
    if (is_set(settings->tls13_ciphers) &&
        SSL_CTX_set_ciphersuites(ssl, settings->tls13_ciphers) != 1)
        return refuse_word(why, "TLS 1.3 ciphers", settings->tls13_ciphers,
                           tls_rules_reason());
    return true;
}

static bool set_key_exchange(SSL_CTX *ssl, const struct tls_settings *settings,
                             struct text *why)
{
    const char *dhe = is_set(settings->dheparams) ? settings->dheparams : "auto";
    const char *curves = settings->ecdhcurve;

    /* OpenSSL's second kind of automatic is the weakest that its security level allows.
     */
    if (strcasecmp(dhe, "auto") == 0)
        SSL_CTX_set_dh_auto(ssl, 1);
    else if (strcasecmp(dhe, "legacy") == 0)
        SSL_CTX_set_dh_auto(ssl, 2);
    else if (strcasecmp(dhe, "none") != 0)
        return refuse_word(why, "DHE parameters", dhe, "expected auto, legacy or none");

    if (!is_set(curves) || strcasecmp(curves, "auto") == 0)
        return true;
    if (strcasecmp(curves, "none") == 0)
        curves = GROUPS_WITHOUT_CURVES;
    return SSL_CTX_set1_groups_list(ssl, curves) == 1 ||
           refuse_word(why, "ECDH curve", curves, "OpenSSL knows no such curve");
}

/* ---- certificates --------------------------------------------------------------------
 */

/* Instead of OpenSSL's own, which asks at the terminal. The type is OpenSSL's.
 * NOLINTNEXTLINE(readability-non-const-parameter) */
static int on_passphrase(char *passphrase, int size, int is_writing, void *was_asked)
{
    (void)passphrase;
    (void)size;
    (void)is_writing;
    *(bool *)was_asked = true;
    return 0;
}

static bool load_key(SSL_CTX *ssl, const struct tls_settings *settings, struct text *why)
{
    bool is_loaded =
        SSL_CTX_use_PrivateKey_file(ssl, settings->key_file, SSL_FILETYPE_PEM) == 1;

    if (is_loaded && SSL_CTX_check_private_key(ssl) == 1)
        return true;
    if (!is_loaded && ERR_GET_LIB(ERR_peek_error()) != ERR_LIB_X509)
        return refuse_file(why, "key file", settings->key_file, tls_rules_reason());
    text_addf(why, "key file \"%s\" does not fit the certificate in \"%s\"",
              settings->key_file, settings->cert_file);
    return false;
}

static bool load_pair(SSL_CTX *ssl, const struct tls_settings *settings, struct text *why)
{
    bool was_asked = false, is_loaded;

    SSL_CTX_set_default_passwd_cb(ssl, on_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(ssl, &was_asked);
    is_loaded = SSL_CTX_use_certificate_chain_file(ssl, settings->cert_file) == 1
                    ? load_key(ssl, settings, why)
                    : refuse_file(why, "certificate file", settings->cert_file,
                                  tls_rules_reason());
    SSL_CTX_set_default_passwd_cb_userdata(ssl, NULL);
    if (was_asked)
        text_add(why, ": it has a passphrase, which nobody is here to type");
    return is_loaded;
}

static bool load_certificate(SSL_CTX *ssl, const struct tls_settings *settings,
                             struct text *why)
{
    bool has_certificate = is_set(settings->cert_file);

    if (has_certificate != is_set(settings->key_file) ||
        (settings->role == TLS_SERVER && !has_certificate)) {
        text_add(why, settings->role == TLS_SERVER
                          ? "a TLS server needs a certificate file and a key file"
                          : "a certificate file needs a key file, and the reverse");
        return false;
    }
    return !has_certificate ||
           (check_file("certificate file", settings->cert_file, why) &&
            check_file("key file", settings->key_file, why) &&
            load_pair(ssl, settings, why));
}

static bool load_crl(SSL_CTX *ssl, const char *path, struct text *why)
{
    X509_STORE *store = SSL_CTX_get_cert_store(ssl);
    X509_LOOKUP *lookup = X509_STORE_add_lookup(store, X509_LOOKUP_file());

    if (!check_file("CRL file", path, why))
        return false;
    if (lookup == NULL || X509_load_crl_file(lookup, path, X509_FILETYPE_PEM) < 1)
        return refuse_file(why, "CRL file", path, tls_rules_reason());
    X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    return true;
}

static bool load_ca(SSL_CTX *ssl, const struct tls_settings *settings, struct text *why)
{
    STACK_OF(X509_NAME) * names;

    if (!check_file("CA file", settings->ca_file, why))
        return false;
    if (SSL_CTX_load_verify_file(ssl, settings->ca_file) != 1)
        return refuse_file(why, "CA file", settings->ca_file, tls_rules_reason());
    if (settings->role == TLS_CLIENT)
        return true;
    /* Clients with several certificates choose by this list. */
    names = SSL_load_client_CA_file(settings->ca_file);
    if (names == NULL)
        return refuse_file(why, "CA file", settings->ca_file, tls_rules_reason());
    SSL_CTX_set_client_CA_list(ssl, names);
    return true;
}

static bool load_trust(SSL_CTX *ssl, const struct tls_settings *settings,
                       struct text *why)
{
    bool verifies = settings->role == TLS_CLIENT ? settings->verify != TLS_VERIFY_NONE
                                                 : settings->ask != TLS_ASK_NEVER;

    if (!verifies) {
        SSL_CTX_set_verify(ssl, SSL_VERIFY_NONE, NULL);
        return true;
    }
    SSL_CTX_set_verify(
        ssl,
        SSL_VERIFY_PEER |
            (settings->ask == TLS_ASK_ALWAYS ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
        NULL);
    if (is_set(settings->ca_file)) {
        if (!load_ca(ssl, settings, why))
            return false;
    } else if (settings->role == TLS_SERVER) {
        text_add(why, "a CA file is needed to verify the certificates of clients");
        return false;
    } else if (SSL_CTX_set_default_verify_paths(ssl) != 1) {
        text_addf(why, "the system's CA certificates: %s", tls_rules_reason());
        return false;
    }
    return !is_set(settings->crl_file) || load_crl(ssl, settings->crl_file, why);
}

/* ---- all of it -----------------------------------------------------------------------
 */

static void set_modes(SSL_CTX *ssl)
{
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    /* "*" stands for a whole label, as with libpq. */
    X509_VERIFY_PARAM_set_hostflags(SSL_CTX_get0_param(ssl),
                                    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
}

bool tls_rules_apply(SSL_CTX *ssl, const struct tls_settings *settings, struct text *why)
{
    set_modes(ssl);
    return set_protocols(ssl, settings, why) && set_ciphers(ssl, settings, why) &&
           set_key_exchange(ssl, settings, why) && load_certificate(ssl, settings, why) &&
           load_trust(ssl, settings, why);
}
