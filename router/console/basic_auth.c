#include "router/console/basic_auth.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>

#include "core/memory.h"
#include "core/text.h"

bool basic_auth_set(struct basic_auth *auth, const char *setting)
{
    struct basic_auth set = {.text = NULL};
    char *colon;

    if (*setting != '\0') {
        set.text = memory_text(setting);
        if (set.text == NULL)
            return false;
        colon = strchr(set.text, ':');
        *colon = '\0';
        if (secret_parse(colon + 1, strlen(colon + 1), &set.secret) != SECRET_FINE)
            set.secret.kind = SECRET_NONE; /* loading has refused it */
    }
    basic_auth_clear(auth);
    *auth = set;
    return true;
}

void basic_auth_clear(struct basic_auth *auth)
{
    secret_clear(&auth->secret);
    if (auth->text != NULL)
        OPENSSL_cleanse(auth->text, strlen(auth->text));
    memory_free(auth->text);
    *auth = (struct basic_auth){.text = NULL};
}

static bool is_same(const char *one, const char *other)
{
    uint8_t digests[2][SHA256_DIGEST_LENGTH];

    SHA256((const uint8_t *)one, strlen(one), digests[0]);
    SHA256((const uint8_t *)other, strlen(other), digests[1]);
    return CRYPTO_memcmp(digests[0], digests[1], SHA256_DIGEST_LENGTH) == 0;
}

static bool may_try(struct basic_auth *auth, uint64_t now_ms)
{
    if (auth->second != now_ms / 1000) {
        auth->second = now_ms / 1000;
        auth->n_tries = 0;
    }
    return auth->n_tries++ < BASIC_AUTH_TRIES_PER_S;
}

static enum basic_auth_answer check_scram(struct basic_auth *auth, const char *password,
                                          uint64_t now_ms)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    struct scram_keys keys;
    bool fits;

    SHA256((const uint8_t *)password, strlen(password), digest);
    if (auth->has_fitted && CRYPTO_memcmp(digest, auth->fitted, sizeof digest) == 0)
        return BASIC_AUTH_FITS;
    if (!may_try(auth, now_ms))
        return BASIC_AUTH_LATER;
    fits = scram_keys_from_password(password, strlen(password), &auth->secret.scram.salt,
                                    &keys) &&
           scram_verifier_accepts(&auth->secret.scram, &keys);
    scram_keys_clear(&keys);
    if (!fits)
        return BASIC_AUTH_WRONG;
    auth->has_fitted = true;
    memcpy(auth->fitted, digest, sizeof digest);
    return BASIC_AUTH_FITS;
}

enum basic_auth_answer basic_auth_check(struct basic_auth *auth, const char *name,
                                        const char *password, uint64_t now_ms)
{
    bool is_name, fits;

    if (auth->text == NULL)
        return BASIC_AUTH_FITS;
    if (name == NULL || password == NULL)
        return BASIC_AUTH_WRONG;
    is_name = is_same(name, auth->text);
    if (auth->secret.kind == SECRET_SCRAM)
        return is_name ? check_scram(auth, password, now_ms) : BASIC_AUTH_WRONG;
    fits = auth->secret.kind == SECRET_PLAIN
               ? is_same(password, auth->text + strlen(auth->text) + 1)
               : secret_accepts_plain(&auth->secret, auth->text, password);
    return is_name && fits ? BASIC_AUTH_FITS : BASIC_AUTH_WRONG;
}
