#include "core/tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <stdatomic.h>
#include <string.h>

#include "core/memory.h"
#include "core/tls_rules.h"

/* Tells our sessions from other programs'; tickets are bound to their context anyway. */
#define SESSION_ID_CONTEXT "pgrouter"

struct tls_context {
    atomic_uint n_holders;
    SSL_CTX *ssl;
    BIO_METHOD *method;
    struct tls_settings settings; /* with texts of its own */
    size_t n_alpn;
    uint8_t alpn[256]; /* as on the wire: the length before the name */
};

/* ---- settings ------------------------------------------------------------------------
 */

static const size_t texts[] = {
    offsetof(struct tls_settings, cert_file),
    offsetof(struct tls_settings, key_file),
    offsetof(struct tls_settings, ca_file),
    offsetof(struct tls_settings, crl_file),
    offsetof(struct tls_settings, protocols),
    offsetof(struct tls_settings, ciphers),
    offsetof(struct tls_settings, tls13_ciphers),
    offsetof(struct tls_settings, dheparams),
    offsetof(struct tls_settings, ecdhcurve),
    offsetof(struct tls_settings, alpn),
};

static const char **text_at(struct tls_settings *settings, size_t i)
{
    return (const char **)((char *)settings + texts[i]);
}

static const char *text_of(const struct tls_settings *settings, size_t i)
{
    const char *text = *(const char *const *)((const char *)settings + texts[i]);

    return text != NULL ? text : "";
}

static bool is_set(const char *text)
{
    return text != NULL && text[0] != '\0';
}

bool tls_settings_equal(const struct tls_settings *a, const struct tls_settings *b)
{
    if (a->role != b->role || a->verify != b->verify || a->ask != b->ask)
        return false;
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        if (strcmp(text_of(a, i), text_of(b, i)) != 0)
            return false;
    return true;
}

static void clear_settings(struct tls_settings *settings)
{
    for (size_t i = 0; i < COUNT_OF(texts); i++)
        memory_free((void *)*text_at(settings, i));
    *settings = (struct tls_settings){0};
}

static bool copy_settings(struct tls_settings *to, const struct tls_settings *from)
{
    *to = (struct tls_settings){
        .role = from->role, .verify = from->verify, .ask = from->ask};
    for (size_t i = 0; i < COUNT_OF(texts); i++) {
        const char **text = text_at(to, i);

        *text = memory_text(text_of(from, i));
        if (*text == NULL)
            return false;
    }
    return true;
}

/* ---- what OpenSSL asks during a handshake --------------------------------------------
 */

static struct tls_link *link_of(const SSL *ssl)
{
    return BIO_get_data(SSL_get_rbio(ssl));
}

/* A client that speaks first in TLS must name the protocol, so that no other kind of
 * server takes its words for its own (PostgreSQL's backend_startup.c does the same). */
static int on_client_hello(SSL *ssl, int *alert, void *unused)
{
    struct tls_link *link = link_of(ssl);
    const unsigned char *bytes;
    size_t n;

    (void)unused;
    if (!link->needs_alpn ||
        SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_application_layer_protocol_negotiation,
                                  &bytes, &n) == 1)
        return SSL_CLIENT_HELLO_SUCCESS;
    link->why = "a direct TLS connection without ALPN";
    *alert = SSL_AD_NO_APPLICATION_PROTOCOL;
    return SSL_CLIENT_HELLO_ERROR;
}

static int on_alpn(SSL *ssl, const unsigned char **chosen, unsigned char *n_chosen,
                   const unsigned char *offered, unsigned n_offered, void *of_context)
{
    const struct tls_context *context = of_context;
    unsigned char *found;

    if (SSL_select_next_proto(&found, n_chosen, context->alpn, (unsigned)context->n_alpn,
                              offered, n_offered) != OPENSSL_NPN_NEGOTIATED) {
        struct tls_link *link = link_of(ssl);

        link->why = "the client's ALPN offers only other protocols";
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    }
    *chosen = found;
    return SSL_TLSEXT_ERR_OK;
}

void tls_memory_clear(struct tls_memory *memory)
{
    SSL_SESSION_free(memory->session);
    tls_context_release(memory->context);
    memory_free(memory->host);
    *memory = (struct tls_memory){.n_changes = memory->n_changes + 1};
}

/* The session is ours when this returns 1. It may come late, when the memory has become
 * that of another host, which must not be taken for the one that this peer has proven to
 * be. */
static int on_new_session(SSL *ssl, SSL_SESSION *session)
{
    struct tls_link *link = link_of(ssl);

    if (link->memory == NULL || link->memory->n_changes != link->n_changes)
        return 0;
    SSL_SESSION_free(link->memory->session);
    link->memory->session = session;
    return 1;
}

static void set_sessions(SSL_CTX *ssl, enum tls_role role)
{
    if (role == TLS_CLIENT) {
        SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_CLIENT |
                                                SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(ssl, on_new_session);
        return;
    }
    /* Tickets hold all that a session needs: nothing is kept here, under no lock. */
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ssl, 1);
    (void)SSL_CTX_set_session_id_context(ssl, (const unsigned char *)SESSION_ID_CONTEXT,
                                         sizeof SESSION_ID_CONTEXT - 1);
}

static bool set_alpn(struct tls_context *context, struct text *why)
{
    const char *name = context->settings.alpn;
    size_t n = strlen(name);

    if (n == 0)
        return true;
    if (n >= sizeof context->alpn) {
        text_addf(why, "the ALPN protocol \"%s\" is too long", name);
        return false;
    }
    context->alpn[0] = (uint8_t)n;
    memcpy(context->alpn + 1, name, n);
    context->n_alpn = n + 1;
    if (context->settings.role == TLS_SERVER) {
        SSL_CTX_set_alpn_select_cb(context->ssl, on_alpn, context);
        SSL_CTX_set_client_hello_cb(context->ssl, on_client_hello, NULL);
    } else if (SSL_CTX_set_alpn_protos(context->ssl, context->alpn, (unsigned)n + 1) !=
               0) {
        text_addf(why, "OpenSSL: %s", tls_rules_reason());
        return false;
    }
    return true;
}

/* ---- between OpenSSL and a stream ----------------------------------------------------
 */

static int on_read(BIO *bio, char *bytes, size_t n, size_t *n_read)
{
    struct tls_link *link = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    *n_read = link->ops->read(link, (uint8_t *)bytes, n);
    if (*n_read > 0)
        return 1;
    BIO_set_retry_read(bio);
    return 0;
}

static int on_write(BIO *bio, const char *bytes, size_t n, size_t *n_written)
{
    struct tls_link *link = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    *n_written = n;
    return link->ops->write(link, (const uint8_t *)bytes, n) ? 1 : 0;
}

static long on_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static int on_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static BIO_METHOD *new_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "stream");

    if (method != NULL && BIO_meth_set_read_ex(method, on_read) == 1 &&
        BIO_meth_set_write_ex(method, on_write) == 1 &&
        BIO_meth_set_ctrl(method, on_control) == 1 &&
        BIO_meth_set_create(method, on_create) == 1)
        return method;
    BIO_meth_free(method);
    return NULL;
}

void tls_link_attach(SSL *ssl, struct tls_link *link)
{
    BIO_set_data(SSL_get_rbio(ssl), link);
}

/* ---- the context ---------------------------------------------------------------------
 */

static void free_context(struct tls_context *context)
{
    SSL_CTX_free(context->ssl);
    BIO_meth_free(context->method);
    clear_settings(&context->settings);
    memory_free(context);
}

static bool fill(struct tls_context *context, struct text *why)
{
    const struct tls_settings *settings = &context->settings;
    bool is_server = settings->role == TLS_SERVER;

    context->ssl = SSL_CTX_new(is_server ? TLS_server_method() : TLS_client_method());
    context->method = new_method();
    if (context->ssl == NULL || context->method == NULL ||
        SSL_CTX_set_app_data(context->ssl, context) != 1) {
        text_addf(why, "OpenSSL: %s", tls_rules_reason());
        return false;
    }
    set_sessions(context->ssl, settings->role);
    return tls_rules_apply(context->ssl, settings, why) && set_alpn(context, why);
}

struct tls_context *tls_context_new(const struct tls_settings *settings, struct text *why)
{
    struct tls_context *context = memory_zeroed(sizeof *context);
    bool is_made = false;

    ERR_clear_error();
    if (context != NULL && copy_settings(&context->settings, settings))
        is_made = fill(context, why);
    else
        text_add(why, "out of memory");
    ERR_clear_error(); /* also of what went well in a roundabout way */
    if (!is_made)
        goto fail;
    atomic_init(&context->n_holders, 1);
    return context;

fail:
    if (context != NULL)
        free_context(context);
    return NULL;
}

struct tls_context *tls_context_hold(struct tls_context *context)
{
    atomic_fetch_add_explicit(&context->n_holders, 1, memory_order_relaxed);
    return context;
}

void tls_context_release(struct tls_context *context)
{
    if (context != NULL &&
        atomic_fetch_sub_explicit(&context->n_holders, 1, memory_order_acq_rel) == 1)
        free_context(context);
}

bool tls_context_is_shared(const struct tls_context *context)
{
    return atomic_load_explicit(&context->n_holders, memory_order_acquire) > 1;
}

bool tls_context_lend(const struct tls_context *context, SSL_CTX *other)
{
    X509 *certificate = SSL_CTX_get0_certificate(context->ssl);
    STACK_OF(X509) *chain = NULL;
    bool done = true;

    ERR_clear_error();
    SSL_CTX_set1_cert_store(other, SSL_CTX_get_cert_store(context->ssl));
    if (certificate != NULL) {
        SSL_CTX_get0_chain_certs(context->ssl, &chain);
        done = SSL_CTX_use_cert_and_key(other, certificate,
                                        SSL_CTX_get0_privatekey(context->ssl), chain,
                                        1) == 1;
    }
    ERR_clear_error();
    return done;
}

const struct tls_settings *tls_context_settings(const struct tls_context *context)
{
    return &context->settings;
}

/* ---- a connection --------------------------------------------------------------------
 */

static bool is_number(const char *host)
{
    struct in6_addr number;

    return inet_pton(AF_INET, host, &number) == 1 ||
           inet_pton(AF_INET6, host, &number) == 1;
}

/* The name to ask for and, with TLS_VERIFY_FULL, to insist on. */
static bool name_host(const struct tls_context *context, SSL *ssl, const char *host)
{
    bool insists = context->settings.verify == TLS_VERIFY_FULL;

    REQUIRE(host != NULL || !insists);
    if (!is_set(host))
        return !insists;
    if (is_number(host)) /* no name to ask for: RFC 6066, 3 */
        return !insists || X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    return SSL_set_tlsext_host_name(ssl, host) == 1 &&
           (!insists || SSL_set1_host(ssl, host) == 1);
}

/* Uses what is kept of the last handshake, if that was with the same peer under the same
 * rules: a resumed handshake verifies nothing anew. */
static bool recall(struct tls_context *context, SSL *ssl, struct tls_link *link,
                   const char *host)
{
    struct tls_memory *memory = link->memory;

    if (memory->context == context && memory->host != NULL &&
        strcmp(memory->host, host) == 0) {
        if (memory->session != NULL)
            (void)SSL_set_session(ssl, memory->session); /* or it is a full handshake */
    } else {
        tls_memory_clear(memory);
        memory->host = memory_text(host);
        if (memory->host == NULL)
            return false;
        memory->context = tls_context_hold(context);
    }
    link->n_changes = memory->n_changes;
    return true;
}

static bool prepare_client(struct tls_context *context, SSL *ssl, struct tls_link *link,
                           const char *host)
{
    SSL_set_connect_state(ssl);
    return name_host(context, ssl, host) &&
           (link->memory == NULL || recall(context, ssl, link, host != NULL ? host : ""));
}

SSL *tls_context_open(struct tls_context *context, struct tls_link *link,
                      const char *host)
{
    SSL *ssl = SSL_new(context->ssl);
    BIO *bio = BIO_new(context->method);

    if (ssl == NULL || bio == NULL)
        goto fail;
    SSL_set_bio(ssl, bio, bio);
    bio = NULL;
    tls_link_attach(ssl, link);
    if (context->settings.role == TLS_SERVER)
        SSL_set_accept_state(ssl);
    else if (!prepare_client(context, ssl, link, host))
        goto fail;
    return ssl;

fail:
    BIO_free(bio);
    SSL_free(ssl);
    ERR_clear_error();
    return NULL;
}

struct tls_context *tls_context_of(const SSL *ssl)
{
    return SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
}

bool tls_common_name(const X509 *certificate, char *name, size_t size)
{
    const X509_NAME *subject = X509_get_subject_name(certificate);
    int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
    const ASN1_STRING *value;
    unsigned char *utf8 = NULL;
    int n;
    bool fits;

    if (at < 0)
        return false;
    value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at));
    n = ASN1_STRING_to_UTF8(&utf8, value);
    fits = n > 0 && (size_t)n < size && memchr(utf8, '\0', (size_t)n) == NULL;
    if (fits) {
        memcpy(name, utf8, (size_t)n);
        name[n] = '\0';
    }
    OPENSSL_free(utf8);
    ERR_clear_error();
    return fits;
}
