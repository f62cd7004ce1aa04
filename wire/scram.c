#include "wire/scram.h"

#include "wire/base64.h"

const char *scram_result_text(enum scram_result result)
{
    static const char *const texts[] = {
        [SCRAM_GOES_ON] = "goes on",
        [SCRAM_DONE] = "done",
        [SCRAM_MALFORMED] = "malformed message",
        [SCRAM_TOO_LONG] = "message, nonce or salt too long",
        [SCRAM_UNSUPPORTED] = "unsupported extension, identity or channel binding",
        [SCRAM_NOT_OFFERED] = "no mechanism in common",
        [SCRAM_DOWNGRADED] = "the offer of channel binding did not reach the client",
        [SCRAM_BINDING_DIFFERS] = "bound to another TLS connection",
        [SCRAM_NONCE_DIFFERS] = "nonce of another login",
        [SCRAM_ITERATIONS_ABSURD] = "absurd number of iterations",
        [SCRAM_OTHER_SECRET] = "the secret is not the one that PostgreSQL stores",
        [SCRAM_WRONG_PROOF] = "wrong password",
        [SCRAM_WRONG_SIGNATURE] = "the server does not know the secret",
        [SCRAM_SERVER_REFUSED] = "refused by the server",
        [SCRAM_OUT_OF_TURN] = "message out of turn",
        [SCRAM_FAILED] = "out of memory",
    };

    REQUIRE((unsigned)result < COUNT_OF(texts));
    return texts[result];
}

void scram_nonce_write(const uint8_t random[SCRAM_NONCE_RANDOM_BYTES],
                       char nonce[SCRAM_NONCE_BYTES])
{
    nonce[base64_write(random, SCRAM_NONCE_RANDOM_BYTES, nonce)] = '\0';
}
