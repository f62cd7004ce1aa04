#include "tests/lib/identity.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#include "core/check.h"

#define DAY_S (24L * 3600)

static void extend(X509 *certificate, const X509 *issuer, int nid, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;

    X509V3_set_ctx(&context, (X509 *)issuer, certificate, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    REQUIRE(extension != NULL);
    REQUIRE(X509_add_ext(certificate, extension, -1) == 1);
    X509_EXTENSION_free(extension);
}

static void name_subject(X509 *certificate, const struct identity_wish *wish)
{
    X509_NAME *subject = X509_get_subject_name(certificate);
    size_t n = wish->n_name != 0 ? wish->n_name : strlen(wish->name);

    REQUIRE(n == 0 || X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8,
                                                 (const unsigned char *)wish->name,
                                                 (int)n, -1, 0) == 1);
}

struct identity identity_make(const struct identity_wish *wish)
{
    static long serial = 1000;
    struct identity made = {.certificate = X509_new()};
    const X509 *issuer =
        wish->issuer != NULL ? wish->issuer->certificate : made.certificate;
    long now = wish->is_expired ? -10 * DAY_S : 0;

    made.key = wish->rsa_bits != 0 ? EVP_RSA_gen(wish->rsa_bits) : EVP_EC_gen("P-256");
    REQUIRE(made.key != NULL && made.certificate != NULL);
    REQUIRE(X509_set_version(made.certificate, X509_VERSION_3) == 1);
    ASN1_INTEGER_set(X509_get_serialNumber(made.certificate), ++serial);
    X509_gmtime_adj(X509_getm_notBefore(made.certificate), now - DAY_S);
    X509_gmtime_adj(X509_getm_notAfter(made.certificate), now + DAY_S);
    name_subject(made.certificate, wish);
    REQUIRE(X509_set_issuer_name(made.certificate, X509_get_subject_name(issuer)) == 1);
    REQUIRE(X509_set_pubkey(made.certificate, made.key) == 1);
    if (wish->is_ca)
        extend(made.certificate, issuer, NID_basic_constraints, "critical,CA:TRUE");
    if (wish->alternative_names != NULL)
        extend(made.certificate, issuer, NID_subject_alt_name, wish->alternative_names);
    REQUIRE(X509_sign(made.certificate,
                      wish->issuer != NULL ? wish->issuer->key : made.key,
                      EVP_sha256()) > 0);
    return made;
}

void identity_clear(struct identity *identity)
{
    EVP_PKEY_free(identity->key);
    X509_free(identity->certificate);
    *identity = (struct identity){0};
}

static FILE *open_file(const char *folder, const char *name, const char *suffix)
{
    char path[256];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s.%s", folder, name, suffix);
    file = fopen(path, "w");
    REQUIRE(file != NULL);
    return file;
}

void identity_write(const struct identity *identity, const struct identity *issuer,
                    const char *folder, const char *name, const char *passphrase)
{
    FILE *file = open_file(folder, name, "crt");

    REQUIRE(PEM_write_X509(file, identity->certificate) == 1);
    REQUIRE(issuer == NULL || PEM_write_X509(file, issuer->certificate) == 1);
    fclose(file);
    file = open_file(folder, name, "key");
    REQUIRE(PEM_write_PKCS8PrivateKey(
                file, identity->key, passphrase != NULL ? EVP_aes_256_cbc() : NULL,
                passphrase, passphrase != NULL ? (int)strlen(passphrase) : 0, NULL,
                NULL) == 1);
    fclose(file);
}

void identity_write_crl(const struct identity *ca, const X509 *revoked, const char *path)
{
    X509_CRL *crl = X509_CRL_new();
    ASN1_TIME *time = ASN1_TIME_new();
    FILE *file = fopen(path, "w");

    REQUIRE(crl != NULL && time != NULL && file != NULL);
    REQUIRE(X509_CRL_set_version(crl, 1) == 1);
    REQUIRE(X509_CRL_set_issuer_name(crl, X509_get_subject_name(ca->certificate)) == 1);
    X509_gmtime_adj(time, -DAY_S);
    REQUIRE(X509_CRL_set1_lastUpdate(crl, time) == 1);
    if (revoked != NULL) {
        X509_REVOKED *entry = X509_REVOKED_new();

        REQUIRE(X509_REVOKED_set_serialNumber(
                    entry, (ASN1_INTEGER *)(size_t)X509_get0_serialNumber(revoked)) == 1);
        REQUIRE(X509_REVOKED_set_revocationDate(entry, time) == 1);
        REQUIRE(X509_CRL_add0_revoked(crl, entry) == 1);
    }
    X509_gmtime_adj(time, DAY_S);
    REQUIRE(X509_CRL_set1_nextUpdate(crl, time) == 1);
    REQUIRE(X509_CRL_sign(crl, ca->key, EVP_sha256()) > 0);
    REQUIRE(PEM_write_X509_CRL(file, crl) == 1);
    fclose(file);
    ASN1_TIME_free(time);
    X509_CRL_free(crl);
}
