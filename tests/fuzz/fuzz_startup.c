/* tests/fuzz/fuzz_startup.c - any bytes as the first packet of a connection.
 *
 * What is read of them depends on them alone, not on how many have come; nothing that is
 * found lies outside of the packet; a cancel request is written as it was read.
 */
#include <stdlib.h>
#include <string.h>

#include "wire/startup.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void look_at_parameter(const struct startup_packet *packet, const char *name)
{
    const char *value = startup_parameter(packet, name);
    const char *body = (const char *)packet->body;

    if (value == NULL)
        return;
    REQUIRE(packet->kind == STARTUP_LOGIN);
    REQUIRE(value > body && value < body + packet->body_length);
    REQUIRE(value + strlen(value) < body + packet->body_length);
}

static void look_at(const uint8_t *bytes, const struct startup_packet *packet)
{
    struct cancel_key key;
    uint8_t written[CANCEL_BYTES_MAX];

    look_at_parameter(packet, "user");
    look_at_parameter(packet, "database");
    look_at_parameter(packet, "");
    REQUIRE(!startup_is_well_formed(packet) ||
            packet->body[packet->body_length - 1] == 0);
    if (packet->kind != STARTUP_CANCEL)
        return;
    startup_cancel_key(bytes, packet, &key);
    REQUIRE(key.length >= 4 && key.length <= CANCEL_KEY_MAX);
    REQUIRE(startup_write_cancel(&key, written) == packet->length);
    REQUIRE(memcmp(written, bytes, packet->length) == 0);
}

/* The first `n` bytes in memory that ends behind them: a sanitizer sees a look beyond. */
static struct startup_packet read_prefix(const uint8_t *bytes, size_t n)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);
    struct startup_packet packet;

    REQUIRE(copy != NULL);
    memcpy(copy, bytes, n);
    packet = startup_read(copy, n);
    if (packet.kind != STARTUP_INCOMPLETE)
        look_at(copy, &packet);
    free(copy);
    return packet;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct startup_packet whole = read_prefix(bytes, size);
    size_t step = size > 600 ? size / 300 : 1;

    REQUIRE(whole.length <= size || whole.kind == STARTUP_INCOMPLETE ||
            whole.kind == STARTUP_GARBAGE);
    for (size_t n = 0; n < size; n += step) {
        struct startup_packet packet = read_prefix(bytes, n);

        if (packet.kind == STARTUP_INCOMPLETE)
            continue;
        REQUIRE(packet.kind == whole.kind && packet.length == whole.length &&
                packet.protocol == whole.protocol);
    }
    return 0;
}
