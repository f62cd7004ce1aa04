/* tests/lib/identity.h - keys and certificates for tests, made when they are needed. */
#ifndef TESTS_LIB_IDENTITY_H
#define TESTS_LIB_IDENTITY_H

#include <openssl/x509.h>
#include <stdbool.h>

struct identity {
    EVP_PKEY *key;
    X509 *certificate;
};

struct identity_wish {
    const char *name;              /* the subject's common name */
    size_t n_name;                 /* of it, with zero bytes in it; 0 = as strlen says */
    const char *alternative_names; /* "DNS:localhost,IP:127.0.0.1" */
    const struct identity *issuer; /* NULL: signed by itself */
    bool is_ca;
    bool is_expired;
    unsigned rsa_bits; /* 0: an elliptic curve's key */
};

/* Fails the program when it cannot be made. */
struct identity identity_make(const struct identity_wish *wish);
void identity_clear(struct identity *identity);

/* Writes FOLDER/NAME.crt and FOLDER/NAME.key; behind the certificate stands that of
 * `issuer`, unless that is NULL. With a passphrase the key is encrypted. */
void identity_write(const struct identity *identity, const struct identity *issuer,
                    const char *folder, const char *name, const char *passphrase);
/* Writes the CA's list, with one certificate on it, or with none. */
void identity_write_crl(const struct identity *ca, const X509 *revoked, const char *path);

#endif
