/* tests/fuzz/fuzz_patroni.c - any bytes as Patroni's answer.
 *
 * The first two bytes choose the HTTP status, the rest is the body. What comes out may be
 * nonsense, but never nonsense that the verdict would take for a primary.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "core/check.h"
#include "health/patroni.h"
#include "health/verdict.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_text(const char *text, size_t size)
{
    REQUIRE(memchr(text, '\0', size) != NULL);
    for (; *text != '\0'; text++)
        REQUIRE(*text >= ' ' && *text <= '~');
}

static void check_sample(const struct sample *sample, int status)
{
    check_text(sample->state, sizeof sample->state);
    check_text(sample->role_word, sizeof sample->role_word);
    check_text(sample->system_id, sizeof sample->system_id);
    check_text(sample->name, sizeof sample->name);
    check_text(sample->scope, sizeof sample->scope);
    check_text(sample->said, sizeof sample->said);
    REQUIRE(sample->said[0] != '\0');
    REQUIRE(sample->http_status == status);
    REQUIRE(!sample->holds_lock || status == 200);
    REQUIRE(sample->source == SOURCE_PATRONI || sample->outcome == SAMPLE_WRONG);
    REQUIRE(sample->outcome != SAMPLE_OK || sample->role != NODE_UNKNOWN);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct verdict_settings settings = {
        .check = CHECK_PATRONI, .rise = 1, .fall = 2};
    struct verdict verdict = {.lag_bytes = -1};
    struct sample sample;
    int status;

    if (size < 2)
        return 0;
    status = data[0] < 100 ? 200 : data[0] < 200 ? 503 : data[0] * 256 + data[1];
    patroni_read(status, (const char *)data + 2, size - 2, &sample);
    check_sample(&sample, status);
    verdict_add(&verdict, &sample, &settings);
    REQUIRE(verdict.claim != CLAIM_FULL || (status == 200 && verdict.timeline != 0));
    return 0;
}
