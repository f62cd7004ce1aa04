/* tests/fuzz/fuzz_error.c - any bytes as the fields of an ErrorResponse, and as texts of
 * one that we write.
 */
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "wire/error.h"
#include "wire/startup.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void read_fields(const uint8_t *bytes, size_t size)
{
    struct error_fields fields;

    memset(&fields, 'x', sizeof fields);
    error_read(bytes, size, &fields);
    REQUIRE(memchr(fields.severity, 0, sizeof fields.severity) != NULL);
    REQUIRE(memchr(fields.sqlstate, 0, sizeof fields.sqlstate) != NULL);
}

/* Zero-terminated, up to the first zero byte that is there. */
static char *text_of(const uint8_t *bytes, size_t size)
{
    char *text = malloc(size + 1);

    REQUIRE(text != NULL);
    memcpy(text, bytes, size);
    text[size] = '\0';
    return text;
}

/* The first half is the message, the second the hint. */
static void write_and_read(const uint8_t *bytes, size_t size)
{
    char *message = text_of(bytes, size / 2);
    char *hint = text_of(bytes + size / 2, size - size / 2);
    uint8_t *written = malloc(ERROR_BYTES_MAX);
    struct error_fields fields;
    size_t n;

    REQUIRE(written != NULL);
    n = error_write("57P03", message, size % 3 == 0 ? NULL : hint, written);
    REQUIRE(n > 5 && n <= ERROR_BYTES_MAX);
    REQUIRE(written[0] == 'E' && wire_read_u32(written + 1) == n - 1);
    REQUIRE(written[n - 1] == 0 && written[n - 2] == 0);
    error_read(written + 5, n - 5, &fields);
    REQUIRE(strcmp(fields.severity, "FATAL") == 0);
    REQUIRE(strcmp(fields.sqlstate, "57P03") == 0);
    free(message);
    free(hint);
    free(written);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    read_fields(bytes, size);
    write_and_read(bytes, size);
    return 0;
}
