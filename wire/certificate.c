#include "wire/certificate.h"

#include <openssl/evp.h>
#include <openssl/x509.h>

/* NULL when the signature is not over one hash. */
static const EVP_MD *hash_of_signature(X509 *certificate)
{
    int hash = NID_undef;

    if (X509_get_signature_info(certificate, &hash, NULL, NULL, NULL) != 1 ||
        hash == NID_undef)
        return NULL;
    /* RFC 5929, 4.1: these two are replaced. */
    if (hash == NID_md5 || hash == NID_sha1)
        hash = NID_sha256;
    return EVP_get_digestbynid(hash);
}

bool certificate_binding(X509 *certificate, struct channel_binding *binding)
{
    struct channel_binding found = {0};
    const EVP_MD *hash = hash_of_signature(certificate);
    unsigned n = 0;

    if (hash != NULL) {
        REQUIRE(EVP_MD_get_size(hash) <= (int)sizeof found.hash);
        if (X509_digest(certificate, hash, found.hash, &n) != 1)
            return false;
    }
    found.n = (uint8_t)n;
    *binding = found;
    return true;
}
