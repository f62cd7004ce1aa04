/* tests/fuzz/fuzz_proxy_header.c - any bytes as what a proxy says first.
 *
 * What is read depends on the bytes alone, not on how many have come, and what was bad
 * stays bad.
 */
#include <stdlib.h>
#include <string.h>

#include "wire/proxy_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* The first `n` bytes in memory that ends behind them: a sanitizer sees a look beyond. */
static struct proxy_header read_prefix(const uint8_t *bytes, size_t n)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    struct proxy_header header;

    REQUIRE(copy != NULL);
    memcpy(copy, bytes, n);
    header = proxy_header_read(copy, n);
    free(copy);
    return header;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct proxy_header whole = read_prefix(bytes, size);
    size_t step = size > 600 ? size / 300 : 1;

    REQUIRE(whole.length <= size && whole.length <= PROXY_HEADER_MAX);
    for (size_t n = 0; n < size; n += step) {
        struct proxy_header header = read_prefix(bytes, n);

        if (header.kind == PROXY_HEADER_INCOMPLETE)
            continue;
        REQUIRE(header.kind == whole.kind && header.length == whole.length &&
                address_same_host(&header.source, &whole.source));
    }
    return 0;
}
