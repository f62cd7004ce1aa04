#include "wire/certificate.h"

#include <criterion/criterion.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>
#include <string.h>

TestSuite(certificate, .timeout = 60);

/* Made by the openssl program, ecdsa-with-SHA384; and the SHA-384 that it says its DER
 * has. */
static const char pem[] =
    "-----BEGIN CERTIFICATE-----\n"
    "MIIBezCCASGgAwIBAgIUYy/QrPLfpPqD0RWVowHFmjgoM9AwCgYIKoZIzj0EAwMw\n"
    "EjEQMA4GA1UEAwwHZXhhbXBsZTAgFw0yNjExMjIwMjQ1MzVaGA8yMTI2MTAyOTAy\n"
    "NDUzNVowEjEQMA4GA1UEAwwHZXhhbXBsZTBZMBMGByqGSM49AgEGCCqGSM49AwEH\n"
    "A0IABAyNaCNf+JK/LGP0kiP08Rahl+52I0VrOFPh03CTY5DYBsgELU/Y7TK+1n9+\n"
    "wxar97+nXO+t+tPKgT3UDG254lqjUzBRMB0GA1UdDgQWBBS6y/W54+4vGq30kIbs\n"
    "F9fHjZdOKDAfBgNVHSMEGDAWgBS6y/W54+4vGq30kIbsF9fHjZdOKDAPBgNVHRMB\n"
    "Af8EBTADAQH/MAoGCCqGSM49BAMDA0gAMEUCIQDPmdCqj0sL7RdmN/qmFsgg70O5\n"
    "eeiCyxtHeMiE3wPr9wIgPY+OgqDlLKWmRalNq9jjk0n8zJWO7293ompImK2sF38=\n"
    "-----END CERTIFICATE-----\n";
static const uint8_t sha384[48] = {
    0x89, 0x39, 0x78, 0xba, 0x32, 0x6b, 0x8b, 0x46, 0x41, 0xaf, 0x68, 0x27,
    0xde, 0xbb, 0xa5, 0x70, 0x5b, 0x84, 0xcc, 0x05, 0x9d, 0x08, 0xee, 0x80,
    0x76, 0x02, 0x68, 0x07, 0x9b, 0xc6, 0xa1, 0x6d, 0x71, 0x71, 0xf2, 0xaa,
    0xbf, 0x0f, 0x94, 0x92, 0x47, 0x91, 0x30, 0xdd, 0xce, 0xb6, 0xe9, 0x0e};

Test(certificate, binds_to_the_hash_that_openssl_says)
{
    BIO *file = BIO_new_mem_buf(pem, -1);
    X509 *certificate = PEM_read_bio_X509(file, NULL, NULL, NULL);
    struct channel_binding binding = {0};

    cr_assert_not_null(certificate);
    cr_assert(certificate_binding(certificate, &binding));
    cr_expect_eq(binding.n, sizeof sha384);
    cr_expect_eq(memcmp(binding.hash, sha384, sizeof sha384), 0);
    X509_free(certificate);
    BIO_free(file);
}

/* A certificate of `key`, signed with itself by `hash`. */
static X509 *certificate_of(EVP_PKEY *key, const EVP_MD *hash, bool is_pss)
{
    X509 *certificate = X509_new();
    X509_NAME *name = X509_get_subject_name(certificate);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *signing = NULL;

    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"x", -1, -1, 0);
    X509_set_issuer_name(certificate, name);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 4711);
    X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 86400);
    X509_set_pubkey(certificate, key);
    cr_assert_eq(EVP_DigestSignInit(context, &signing, hash, NULL, key), 1);
    if (is_pss)
        cr_assert_gt(EVP_PKEY_CTX_set_rsa_padding(signing, RSA_PKCS1_PSS_PADDING), 0);
    cr_assert_gt(X509_sign_ctx(certificate, context), 0);
    EVP_MD_CTX_free(context);
    return certificate;
}

/* `wanted` is the hash that the binding is made with; NULL: there is none. */
static void expect_binding(EVP_PKEY *key, const EVP_MD *hash, bool is_pss,
                           const EVP_MD *wanted)
{
    X509 *certificate = certificate_of(key, hash, is_pss);
    struct channel_binding binding;
    uint8_t *der = NULL, digest[EVP_MAX_MD_SIZE];
    int n = i2d_X509(certificate, &der);
    unsigned n_digest = 0;

    memset(&binding, 'x', sizeof binding);
    cr_assert(certificate_binding(certificate, &binding));
    if (wanted != NULL)
        cr_assert_eq(EVP_Digest(der, (size_t)n, digest, &n_digest, wanted, NULL), 1);
    cr_expect_eq(binding.n, n_digest);
    cr_expect_eq(memcmp(binding.hash, digest, n_digest), 0);
    OPENSSL_free(der);
    X509_free(certificate);
}

Test(certificate, the_hash_is_that_of_the_signature)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");

    expect_binding(key, EVP_sha224(), false, EVP_sha224());
    expect_binding(key, EVP_sha256(), false, EVP_sha256());
    expect_binding(key, EVP_sha384(), false, EVP_sha384());
    expect_binding(key, EVP_sha512(), false, EVP_sha512());
    EVP_PKEY_free(key);
}

Test(certificate, md5_and_sha1_are_replaced_by_sha256)
{
    EVP_PKEY *key = EVP_RSA_gen(1024);

    expect_binding(key, EVP_md5(), false, EVP_sha256());
    expect_binding(key, EVP_sha1(), false, EVP_sha256());
    expect_binding(key, EVP_sha512(), false, EVP_sha512());
    EVP_PKEY_free(key);
}

Test(certificate, of_rsa_pss_the_hash_stands_in_the_parameters)
{
    EVP_PKEY *key = EVP_RSA_gen(1024);

    expect_binding(key, EVP_sha256(), true, EVP_sha256());
    expect_binding(key, EVP_sha384(), true, EVP_sha384());
    expect_binding(key, EVP_sha1(), true, EVP_sha256());
    EVP_PKEY_free(key);
}

Test(certificate, a_signature_without_a_single_hash_has_no_binding)
{
    EVP_PKEY *ed25519 = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    EVP_PKEY *ed448 = EVP_PKEY_Q_keygen(NULL, NULL, "ED448");

    expect_binding(ed25519, NULL, false, NULL);
    expect_binding(ed448, NULL, false, NULL);
    EVP_PKEY_free(ed25519);
    EVP_PKEY_free(ed448);
}

Test(certificate, two_certificates_have_two_bindings)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *a = certificate_of(key, EVP_sha256(), false);
    X509 *b = certificate_of(key, EVP_sha256(), false);
    struct channel_binding of_a = {0}, of_b = {0};

    cr_assert(certificate_binding(a, &of_a));
    cr_assert(certificate_binding(b, &of_b));
    cr_expect_eq(of_a.n, 32);
    cr_expect_neq(memcmp(of_a.hash, of_b.hash, 32), 0, "ECDSA signs with a fresh number");
    X509_free(a);
    X509_free(b);
    EVP_PKEY_free(key);
}
